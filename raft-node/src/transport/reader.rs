//! The receiving end of a stream: asks for it, reads it, asks again.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use retcd_proto::raftpb;
use slog::{debug, info, warn};
use tokio::time::{Instant, sleep_until, timeout};

use super::client::{self, ClientError, Connection};
use super::codec::{AppendDecoder, DecodeError, Decoder, Frame, MessageDecoder, Way, check};
use super::context::Context;
use super::outbox::Kind;
use super::status::Status;
use super::url::{PeerUrl, Picker};
use super::version::{self, Incompatible, MajorMinor, text};
use super::{ProcessError, hex};

/// Streams are asked for once in this time, as in etcd. One that lasted longer is asked for again
/// at once.
const DIAL_INTERVAL: Duration = Duration::from_millis(100);
/// The version that brought the streams.
const FIRST_STREAMS: MajorMinor = (2, 1);
/// A refusal is a sentence.
const MAX_REFUSAL: usize = 64 * 1024;

pub(super) struct Reader {
    pub(super) context: Arc<Context>,
    pub(super) peer: u64,
    pub(super) kind: Kind,
    pub(super) status: Arc<Status>,
    pub(super) urls: Arc<Picker>,
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    #[error("peer {peer} failed to find local node {local}")]
    NotFound { peer: String, local: String },
    #[error("unhandled error {0:?} when precondition failed")]
    Precondition(String),
    #[error("unhandled http status {0}")]
    Status(u16),
    #[error("unsupported stream type")]
    Unsupported,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("EOF")]
    Eof,
    #[error("{0}")]
    Connection(ClientError),
    #[error("i/o timeout: nothing came within {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Reader {
    /// Until it is dropped.
    pub(super) async fn run(self) {
        let context = &self.context;
        let logger = &context.options.logger;
        let remote = hex(self.peer);
        info!(logger, "started stream reader with remote peer";
            "stream-reader-type" => self.kind.name(), "local-member-id" => &context.local,
            "remote-peer-id" => &remote);
        let mut next_dial = Instant::now();
        loop {
            next_dial = next_dial.max(Instant::now()) + DIAL_INTERVAL;
            match self.dial().await {
                // Says nothing about whether it can be reached.
                Err(DialError::Unsupported) => {}
                Err(error) => self.status.deactivate(self.kind.name(), "dial", &error),
                Ok((_connection, body)) => {
                    self.status.activate();
                    info!(logger, "established TCP streaming connection with remote peer";
                        "stream-reader-type" => self.kind.name(),
                        "local-member-id" => &context.local, "remote-peer-id" => &remote);
                    let error = self.read(body).await;
                    warn!(logger, "lost TCP streaming connection with remote peer";
                        "stream-reader-type" => self.kind.name(),
                        "local-member-id" => &context.local, "remote-peer-id" => &remote,
                        "error" => %error);
                    // A peer that ends a stream is alive.
                    if !matches!(error, ReadError::Eof) {
                        self.status.deactivate(self.kind.name(), "read", &error);
                    }
                }
            }
            sleep_until(next_dial).await;
        }
    }

    async fn dial(&self) -> Result<(Connection, Incoming), DialError> {
        let url = self.urls.pick();
        let result = self.ask(&url).await;
        if let Err(error) = &result {
            self.urls.unreachable(&url);
            if matches!(error, DialError::Removed) {
                self.context.member.removed(self.peer);
            }
        }
        result
    }

    async fn ask(&self, url: &PeerUrl) -> Result<(Connection, Incoming), DialError> {
        let options = &self.context.options;
        let path = format!("{}/{}", self.kind.path(), self.context.local);
        debug!(options.logger, "dial stream reader"; "from" => &self.context.local,
            "to" => hex(self.peer), "address" => format!("{url}{path}"));
        let mut connection = self.context.connect(url).await?;
        let mut headers = self.context.headers.clone();
        if let Ok(to) = HeaderValue::from_str(&hex(self.peer)) {
            headers.insert("x-raft-to", to);
        }
        let request = client::build(Method::GET, url, &path, headers, client::empty())?;
        let within = options.read_timeout;
        let response = timeout(within, connection.send(request))
            .await
            .map_err(|_| ClientError::Timeout(within))??;
        if version::parse(version::server_version(response.headers())) < Some(FIRST_STREAMS) {
            return Err(DialError::Unsupported);
        }
        match response.status() {
            StatusCode::OK => Ok((connection, response.into_body())),
            StatusCode::GONE => Err(DialError::Removed),
            StatusCode::NOT_FOUND => Err(DialError::NotFound {
                peer: hex(self.peer),
                local: self.context.local.clone(),
            }),
            StatusCode::PRECONDITION_FAILED => {
                let cluster = text(response.headers(), "x-etcd-cluster-id").to_owned();
                let answer = timeout(within, client::read_answer(response, MAX_REFUSAL))
                    .await
                    .map_err(|_| ClientError::Timeout(within))??;
                let said = String::from_utf8_lossy(answer.body());
                Err(self.precondition(&said, &cluster))
            }
            other => Err(DialError::Status(other.as_u16())),
        }
    }

    fn precondition(&self, body: &str, cluster: &str) -> DialError {
        let logger = &self.context.options.logger;
        let said = body.strip_suffix('\n').unwrap_or(body);
        if said == Incompatible::Version.to_string() {
            warn!(logger,
                "request sent was ignored by remote peer due to server version incompatibility";
                "local-member-id" => &self.context.local, "remote-peer-id" => hex(self.peer),
                "error" => %Incompatible::Version);
            return Incompatible::Version.into();
        }
        if said == Incompatible::Cluster.to_string() {
            warn!(logger, "request sent was ignored by remote peer due to cluster ID mismatch";
                "remote-peer-id" => hex(self.peer), "remote-peer-cluster-id" => cluster,
                "local-member-id" => &self.context.local,
                "local-member-cluster-id" => &self.context.cluster,
                "error" => %Incompatible::Cluster);
            return Incompatible::Cluster.into();
        }
        DialError::Precondition(body.to_owned())
    }

    async fn read(&self, mut body: Incoming) -> ReadError {
        let mut decoder = match self.kind {
            Kind::Append => {
                Decoder::Append(AppendDecoder::new(self.context.options.local_id, self.peer))
            }
            Kind::Message => Decoder::Message(MessageDecoder::new()),
        };
        let within = self.context.options.read_timeout;
        let mut complaints = Complaints::default();
        loop {
            let piece = match timeout(within, body.frame()).await {
                Err(_) => return ReadError::Timeout(within),
                Ok(None) => return ReadError::Eof,
                Ok(Some(Err(error))) => return ReadError::Connection(error.into()),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(piece) => piece,
                    // Trailers.
                    Err(_) => continue,
                },
            };
            self.context
                .options
                .observer
                .received(self.peer, piece.len() as u64);
            let mut input = &*piece;
            loop {
                match decoder.next(&mut input) {
                    Ok(Some(Frame::Message(message))) => self.hand_on(message, &mut complaints),
                    Ok(Some(Frame::Heartbeat)) => {}
                    Ok(None) => break,
                    Err(error) => return error.into(),
                }
            }
        }
    }

    fn hand_on(&self, message: raftpb::Message, complaints: &mut Complaints) {
        let options = &self.context.options;
        let kind = message.r#type().as_str_name();
        let from = message.from();
        let (what, error) = match check(&message, Way::Alone) {
            Err(unknown) => ("refused a Raft message", unknown.to_string()),
            Ok(()) => match self.context.member.process(message) {
                Ok(()) | Err(ProcessError::Stopped) => return,
                Err(error) => ("failed to process Raft message", error.to_string()),
            },
        };
        options.observer.receive_failed(self.peer);
        if complaints.may() {
            warn!(options.logger, "{what}";
                "message-type" => kind, "local-member-id" => &self.context.local,
                "from" => hex(from), "remote-peer-id" => hex(self.peer),
                "remote-peer-active" => self.status.since().is_some(), "error" => error,
                "not-logged-before" => complaints.skipped());
        }
    }
}

/// A peer that sends nonsense does not fill the log with it.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
    skipped: u64,
}

impl Complaints {
    const INTERVAL: Duration = Duration::from_secs(1);

    fn may(&mut self) -> bool {
        let may = self
            .last
            .is_none_or(|last| last.elapsed() >= Self::INTERVAL);
        if may {
            self.last = Some(Instant::now());
        } else {
            self.skipped += 1;
        }
        may
    }

    fn skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}
