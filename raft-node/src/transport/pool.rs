//! Connections that wait for the next request.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Connector;
use super::client::Connection;
use super::names::Names;
use super::request::{RequestError, request_over};
use super::url::PeerUrl;

/// More are not kept, over all URLs. As many requests at a time find one open.
const MAX_IDLE: usize = 64;

/// Asks other members, and keeps what it asked over for the next request to the same URL: a
/// connection costs both sides a port for a minute, and a handshake.
pub struct Pool {
    /// The one that was used last comes last.
    idle: Mutex<Vec<Idle>>,
    keep: Duration,
    pub(super) names: Names,
}

struct Idle {
    url: PeerUrl,
    connection: Connection,
    since: Instant,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// Connections are not used again after `keep` without a request. Has to be well below the
    /// time after which the other side closes them: a request that crosses that is lost.
    pub fn new(keep: Duration) -> Pool {
        Pool {
            idle: Mutex::default(),
            keep,
            names: Names::default(),
        }
    }

    /// As [`request`](super::request()), over a connection that is open already if there is one.
    /// Goes out a second time only where nothing of it was written the first time.
    ///
    /// # Errors
    /// See [`RequestError`]; an answer is none, whatever its status.
    pub async fn request(
        &self,
        connector: Option<&dyn Connector>,
        url: &str,
        request: Request<Bytes>,
        deadline: Duration,
        limit: usize,
    ) -> Result<Response<Bytes>, RequestError> {
        request_over(connector, self, url, request, deadline, limit).await
    }

    /// The open connection that was used last.
    pub(super) async fn take(&self, url: &PeerUrl) -> Option<Connection> {
        loop {
            let mut connection = {
                let mut idle = self.idle.lock();
                self.drop_old(&mut idle);
                let at = idle.iter().rposition(|one| one.url == *url)?;
                idle.remove(at).connection
            };
            if connection.usable().await {
                return Some(connection);
            }
        }
    }

    /// A request over it was answered.
    pub(super) fn put(&self, url: &PeerUrl, connection: Connection) {
        let mut idle = self.idle.lock();
        self.drop_old(&mut idle);
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push(Idle {
            url: url.clone(),
            connection,
            since: Instant::now(),
        });
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.idle.lock().len()
    }

    fn drop_old(&self, idle: &mut Vec<Idle>) {
        idle.retain(|one| one.since.elapsed() < self.keep);
    }
}
