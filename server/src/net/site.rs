//! What the connections of one listener share, and what they ask of the member.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;

use super::Settings;
use super::body::Body;
use super::grpc::{Call, Method, Pending, Serving};

/// A future of a dynamic call.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A health check's name, and why it failed.
pub(crate) type Check = (&'static str, Option<String>);

/// The two sets of health checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// `/livez`
    Live,
    /// `/readyz`
    Ready,
}

impl Probe {
    /// The names of its checks.
    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Live => &["serializable_read"],
            Self::Ready => &[
                "data_corruption",
                "serializable_read",
                "linearizable_read",
                "non_learner",
            ],
        }
    }
}

/// The member behind the listeners.
pub(crate) trait Services: Send + Sync + 'static {
    /// Answers a gRPC call; `grpc.health.v1` is answered before it gets here.
    fn call(&self, method: Method, call: Call) -> Pending;

    /// Bytes that one request message may have.
    fn max_receive_bytes(&self) -> usize;

    /// `/health`: `Err(reason)` when unhealthy. `exclude`: alarm names not to look at.
    fn health<'a>(
        &'a self,
        exclude: &'a [String],
        serializable: bool,
    ) -> Boxed<'a, Result<(), String>>;

    /// Runs all checks of a probe but the excluded ones.
    fn probe<'a>(&'a self, probe: Probe, exclude: &'a [String]) -> Boxed<'a, Vec<Check>>;

    /// `/version`: (server, cluster, storage).
    fn version(&self) -> (String, String, String);

    /// `/metrics`: Prometheus text.
    fn metrics(&self) -> String;

    /// `/debug/vars`: names and JSON values.
    fn variables(&self) -> Vec<(&'static str, serde_json::Value)>;

    /// Answers what only other members ask, on a peer URL; gives back what is nothing of that.
    fn peer(
        &self,
        request: Request<Incoming>,
    ) -> Boxed<'static, Result<Response<Body>, Request<Incoming>>>;
}

/// The API of etcd 2, on client URLs.
pub(crate) trait Legacy: Send + Sync + 'static {
    /// Answers a request for a path that begins with `/v2/`.
    fn answer<'a>(&'a self, request: &'a Parts, body: super::Incoming)
    -> Boxed<'a, Response<Body>>;
}

/// Which paths a listener answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surface {
    /// A client URL: gRPC, and all of [`Surface::Http`].
    Client,
    /// A client URL beside URLs for HTTP: nothing but gRPC.
    Grpc,
    /// A client URL for HTTP: the gateway, health, version, metrics.
    Http,
    /// A peer URL: version, and what [`Services::peer`] answers.
    Peer,
    /// A metrics URL: health, metrics.
    Metrics,
}

/// What a listener speaks; both on one port if need be.
#[derive(Clone)]
pub(crate) struct Transport {
    /// Plain HTTP.
    pub(crate) plain: bool,
    /// HTTP over TLS.
    pub(crate) tls: Option<retcd_tls::Acceptor>,
}

impl Transport {
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self {
            plain: true,
            tls: None,
        }
    }
}

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender(pub(super) SocketAddr);

impl Sender {
    pub(super) fn of(head: &Parts) -> SocketAddr {
        let sender = head.extensions.get::<Self>();
        // Every request that comes over a connection has one.
        sender.map_or(SocketAddr::from(([0; 4], 0)), |sender| sender.0)
    }
}

/// Marks a request that came over TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Secure;

/// One listener's part of the server.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) transport: Transport,
    pub(super) surface: Surface,
    pub(super) services: Arc<dyn Services>,
    pub(super) settings: Arc<Settings>,
    pub(super) max_receive_bytes: usize,
    pub(super) serving: Serving,
}

impl Site {
    pub(super) fn serving(&self) -> Serving {
        self.serving.clone()
    }
}
