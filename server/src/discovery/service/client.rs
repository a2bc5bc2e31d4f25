//! The client of the etcd that keeps the registry.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderValue;
use prost::Message;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::watch_request::RequestUnion;
use retcd_proto::mvccpb::KeyValue;
use retcd_raft_node::transport::Stream;
use retcd_tls::Connector;
use slog::Logger;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::DiscoveryError;
use super::registry::{Changes, Pair, Store};
use super::wire::{Answers, CallError, Wire};
use crate::config::{Endpoint, EndpointAddress, ServiceDiscovery};

/// After all endpoints have failed, before they are tried again.
const REST: Duration = Duration::from_millis(100);

const FAILED_PRECONDITION: i32 = 9;
const UNIMPLEMENTED: i32 = 12;
const UNAVAILABLE: i32 = 14;
const UNAUTHENTICATED: i32 = 16;

/// Why the registry does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ClientError {
    /// It refuses the request.
    #[error("{0}")]
    Refused(String),
    /// It refuses the user.
    #[error("{0}")]
    Login(String),
    /// It is not reached, or says nothing.
    #[error("{endpoint}: {reason}")]
    Unreachable { endpoint: String, reason: String },
}

/// See the module.
pub(super) struct Client<'a> {
    config: &'a ServiceDiscovery,
    /// For endpoints with TLS.
    connector: Option<Connector>,
    /// The endpoint that is tried next.
    next: usize,
    open: Option<Session>,
}

/// A connection, and who is on it.
#[derive(Clone)]
struct Session {
    wire: Wire,
    token: Option<HeaderValue>,
    endpoint: String,
}

impl<'a> Client<'a> {
    /// # Errors
    /// Files of certificates that cannot be used.
    pub(super) fn new(
        config: &'a ServiceDiscovery,
        logger: &Logger,
    ) -> Result<Self, DiscoveryError> {
        let connector = match config.endpoints.iter().any(|endpoint| endpoint.tls) {
            true => Some(Connector::new(&config.tls, logger)?.speaking(&[b"h2"])),
            false => None,
        };
        Ok(Self {
            config,
            connector,
            next: 0,
            open: None,
        })
    }

    /// A call that does no harm when it is made twice, by one endpoint after the other until the time is over.
    async fn call<A: Message + Default>(
        &mut self,
        method: &str,
        request: &impl Message,
    ) -> Result<A, ClientError> {
        let deadline = Instant::now() + self.config.request_timeout;
        let mut tried = 0;
        loop {
            let failure = match self.session(deadline).await {
                Ok(session) => {
                    let call = session.wire.unary(method, session.token.as_ref(), request);
                    let answer = match timeout_at(deadline, call).await {
                        Ok(answer) => answer,
                        Err(_) => Err(CallError::Broken("context deadline exceeded".into())),
                    };
                    match answer {
                        Ok(answer) => return Ok(answer),
                        Err(error) => self.failed(&session.endpoint, error)?,
                    }
                }
                Err(error @ ClientError::Unreachable { .. }) => error,
                Err(error) => return Err(error),
            };
            tried += 1;
            let rest = if tried % self.config.endpoints.len() == 0 {
                REST
            } else {
                Duration::ZERO
            };
            if Instant::now() + rest >= deadline {
                return Err(failure);
            }
            sleep(rest).await;
        }
    }

    /// What a failed call means: an error of the registry, or (`Ok`) why another endpoint is to be asked.
    fn failed(&mut self, endpoint: &str, error: CallError) -> Result<ClientError, ClientError> {
        match error {
            CallError::Status { code, message }
                if !matches!(code, UNAVAILABLE | UNAUTHENTICATED) =>
            {
                Err(ClientError::Refused(message))
            }
            // Whoever is not let in any more comes in anew.
            error => {
                self.open = None;
                Ok(ClientError::Unreachable {
                    endpoint: endpoint.to_owned(),
                    reason: error.to_string(),
                })
            }
        }
    }

    /// The open connection, or one to the next endpoint.
    async fn session(&mut self, deadline: Instant) -> Result<Session, ClientError> {
        if let Some(open) = &self.open {
            return Ok(open.clone());
        }
        let config = self.config;
        let endpoint = &config.endpoints[self.next % config.endpoints.len()];
        self.next += 1;
        let unreachable = |reason: String| ClientError::Unreachable {
            endpoint: endpoint.text.clone(),
            reason,
        };
        let late = |_| unreachable("context deadline exceeded".to_owned());
        let dial = timeout(config.dial_timeout, self.dial(endpoint));
        let wire = timeout_at(deadline, dial)
            .await
            .map_err(late)?
            .map_err(late)?;
        let wire = wire.map_err(unreachable)?;
        let token = timeout_at(deadline, self.log_in(&wire))
            .await
            .map_err(late)?;
        let token = token.map_err(|error| match error {
            CallError::Status { code, message } if code != UNAVAILABLE => {
                ClientError::Login(message)
            }
            error => unreachable(error.to_string()),
        })?;
        let session = Session {
            wire,
            token,
            endpoint: endpoint.text.clone(),
        };
        Ok(self.open.insert(session).clone())
    }

    async fn dial(&self, endpoint: &Endpoint) -> Result<Wire, String> {
        let shown = |error: std::io::Error| crate::log::reason(&error);
        let (stream, authority): (Box<dyn Stream>, String) = match &endpoint.address {
            EndpointAddress::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(shown)?;
                (Box::new(stream), "localhost".to_owned())
            }
            EndpointAddress::Tcp(host, port) => {
                let tcp = TcpStream::connect((host.as_str(), *port))
                    .await
                    .map_err(shown)?;
                tcp.set_nodelay(true).map_err(shown)?;
                let stream: Box<dyn Stream> = match &self.connector {
                    Some(connector) if endpoint.tls => {
                        let secure = connector.connect(tcp, host).await;
                        Box::new(secure.map_err(|failure| failure.to_string())?)
                    }
                    _ => Box::new(tcp),
                };
                let authority = match host.parse() {
                    Ok(IpAddr::V6(_)) => format!("[{host}]:{port}"),
                    _ => format!("{host}:{port}"),
                };
                (stream, authority)
            }
        };
        let scheme = if endpoint.tls { "https" } else { "http" };
        let wire = Wire::open(
            stream,
            format!("{scheme}://{authority}"),
            self.config.keepalive,
        );
        wire.await.map_err(|error| error.to_string())
    }

    /// A token for the user, if there is one and it needs it.
    async fn log_in(&self, wire: &Wire) -> Result<Option<HeaderValue>, CallError> {
        let Some((name, password)) = &self.config.credentials else {
            return Ok(None);
        };
        let request = pb::AuthenticateRequest {
            name: name.clone(),
            password: password.0.clone(),
        };
        let method = "/etcdserverpb.Auth/Authenticate";
        match wire
            .unary::<pb::AuthenticateResponse>(method, None, &request)
            .await
        {
            Ok(answer) => {
                let token = HeaderValue::try_from(answer.token);
                token
                    .map(Some)
                    .map_err(|error| CallError::Broken(error.to_string()))
            }
            // Whoever knows no users lets everybody in.
            Err(CallError::Status { code, message })
                if code == UNIMPLEMENTED
                    || code == FAILED_PRECONDITION
                        && message.contains("authentication is not enabled") =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Store for Client<'_> {
    type Watch = Watch;

    async fn read(&mut self, key: &str, prefix: bool) -> Result<(Vec<Pair>, i64), ClientError> {
        let end = if prefix { end_of(key) } else { Vec::new() };
        let request = pb::RangeRequest {
            key: key.to_owned().into(),
            range_end: end.into(),
            ..Default::default()
        };
        let answer: pb::RangeResponse = self.call("/etcdserverpb.KV/Range", &request).await?;
        let revision = answer.header.map_or(0, |header| header.revision);
        Ok((answer.kvs.into_iter().map(Pair::from).collect(), revision))
    }

    async fn write(&mut self, key: &str, value: &str) -> Result<(), ClientError> {
        let request = pb::PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..Default::default()
        };
        let answer: Result<pb::PutResponse, _> = self.call("/etcdserverpb.KV/Put", &request).await;
        answer.map(drop)
    }

    async fn watch(&mut self, key: &str, from: i64) -> Result<Watch, ClientError> {
        let request = pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(pb::WatchCreateRequest {
                key: key.to_owned().into(),
                range_end: end_of(key).into(),
                start_revision: from,
                ..Default::default()
            })),
        };
        let deadline = Instant::now() + self.config.request_timeout;
        let session = self.session(deadline).await?;
        let call = session.wire.stream(
            "/etcdserverpb.Watch/Watch",
            session.token.as_ref(),
            &request,
        );
        let answers = match timeout_at(deadline, call).await {
            Ok(answers) => answers,
            Err(_) => Err(CallError::Broken("context deadline exceeded".into())),
        };
        // Whatever comes of it: the next call takes a connection of which nothing is held against it.
        self.open = None;
        let Session { endpoint, .. } = session;
        match answers {
            Ok(answers) => Ok(Watch { answers, endpoint }),
            Err(CallError::Status { message, .. }) => Err(ClientError::Refused(message)),
            Err(CallError::Broken(reason)) => Err(ClientError::Unreachable { endpoint, reason }),
        }
    }
}

/// What a registry tells of its changes.
pub(super) struct Watch {
    answers: Answers<pb::WatchResponse>,
    endpoint: String,
}

impl Changes for Watch {
    async fn next(&mut self) -> Result<Vec<Pair>, ClientError> {
        let unreachable = |reason: &str| ClientError::Unreachable {
            endpoint: self.endpoint.clone(),
            reason: reason.to_owned(),
        };
        let answer = self.answers.next().await;
        let Some(answer) = answer.map_err(|error| unreachable(&error.to_string()))? else {
            return Err(unreachable("the watch ended"));
        };
        if answer.canceled {
            return Err(ClientError::Refused(match answer.compact_revision {
                0 => answer.cancel_reason,
                _ => "etcdserver: mvcc: required revision has been compacted".to_owned(),
            }));
        }
        let pairs = answer.events.into_iter().filter_map(|event| event.kv);
        Ok(pairs.map(Pair::from).collect())
    }
}

impl From<KeyValue> for Pair {
    fn from(pair: KeyValue) -> Self {
        Self {
            key: String::from_utf8_lossy(&pair.key).into_owned(),
            value: String::from_utf8_lossy(&pair.value).into_owned(),
            created: pair.create_revision,
        }
    }
}

/// The end of the range of all keys that begin with this one, whose last byte is no 255.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests;
