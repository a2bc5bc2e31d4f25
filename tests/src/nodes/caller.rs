//! A client of one member after the other, which knows what a missing answer means.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use rustls::ClientConfig;

use crate::grpc::Connection;

/// How long a connection may take.
const DIAL: Duration = Duration::from_secs(1);

/// Codes after which a request has certainly had no effect: the request was looked at, and refused.
const REFUSALS: [i32; 8] = [3, 5, 6, 7, 8, 9, 11, 12];

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was never sent.
    Unreachable(String),
    /// The server refused it.
    Refused {
        /// The gRPC code.
        code: i32,
        /// etcd's text.
        text: String,
    },
    /// It may or may not have happened.
    Unknown(String),
}

impl Failure {
    /// Whether the request has certainly had no effect.
    #[must_use]
    pub const fn without_effect(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }

    /// Whether the server does not have the method.
    #[must_use]
    pub const fn unimplemented(&self) -> bool {
        matches!(self, Self::Refused { code: 12, .. })
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "not sent: {why}"),
            Self::Refused { code, text } => write!(f, "refused with code {code}: {text}"),
            Self::Unknown(why) => write!(f, "no answer: {why}"),
        }
    }
}

/// Keeps a connection to each member it has talked to.
#[derive(Debug, Default)]
pub struct Caller {
    connections: HashMap<SocketAddr, Connection>,
    tls: Option<Arc<ClientConfig>>,
}

impl Caller {
    /// One that speaks TLS, if it has something to show.
    #[must_use]
    pub fn over(tls: Option<Arc<ClientConfig>>) -> Self {
        Self { connections: HashMap::new(), tls }
    }

    /// Calls a method, for example `KV/Put`.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn call<R: Message + Default>(
        &mut self,
        address: SocketAddr,
        method: &str,
        request: &impl Message,
        patience: Duration,
    ) -> Result<R, Failure> {
        let connection = self.connection(address).await?;
        let path = format!("/etcdserverpb.{method}");
        let Ok(outcome) = tokio::time::timeout(patience, connection.call(&path, request)).await else {
            // Whatever hangs there shall not hold up the next one.
            self.connections.remove(&address);
            return Err(Failure::Unknown(format!("silent for {patience:?}")));
        };
        match outcome.code {
            Some(0) if outcome.broken.is_none() => outcome.reply().map_err(Failure::Unknown),
            Some(code) if REFUSALS.contains(&code) => Err(Failure::Refused { code, text: outcome.text }),
            _ => {
                if outcome.broken.is_some() {
                    self.connections.remove(&address);
                }
                Err(Failure::Unknown(format!("{:?} {}{:?}", outcome.code, outcome.text, outcome.broken)))
            }
        }
    }

    async fn connection(&mut self, address: SocketAddr) -> Result<Connection, Failure> {
        if let Some(connection) = self.connections.get(&address).filter(|c| c.usable()) {
            return Ok(connection.clone());
        }
        let connect = async {
            match &self.tls {
                None => Connection::to(address, 16 << 20).await,
                Some(tls) => Connection::secure(address, 16 << 20, Arc::clone(tls)).await,
            }
        };
        let connection = tokio::time::timeout(DIAL, connect)
            .await
            .map_err(|_| Failure::Unreachable(format!("{address} does not answer")))?
            .map_err(|e| Failure::Unreachable(format!("{address}: {e}")))?;
        self.connections.insert(address, connection.clone());
        Ok(connection)
    }
}
