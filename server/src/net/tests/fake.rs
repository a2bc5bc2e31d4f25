//! A member that answers from its head, and a server around it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::reply::{RangeReply, RangeStreamReply};
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Code;

use crate::error::Error;
use crate::net::grpc::{Call, Method, Pending};
use crate::net::site::{Boxed, Check, Probe, Services};
use crate::net::{CallObserver, Listener, Net, Settings, Surface, table};

/// What one request message may have, as etcd's default.
pub(super) const MAX_RECEIVE: usize = 2_097_152;

/// Answers `Range` with the key asked for, and `RangeStream` with it three times. The key `wait`
/// waits for [`Fake::release`]; `fail` fails.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) released: Notify,
    /// Calls that wait now.
    pub(super) waiting: AtomicUsize,
    /// Why the member is unhealthy.
    pub(super) sick: Mutex<Option<&'static str>>,
    pub(super) cluster_version: Mutex<String>,
}

/// Counts a waiting call, also one that is dropped.
struct Waiting(Arc<Fake>);

impl Waiting {
    fn new(fake: &Arc<Fake>) -> Self {
        fake.waiting.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(fake))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The services, which hand out the fake they are.
pub(super) struct Member(pub(super) Arc<Fake>);

impl Services for Member {
    fn call(&self, method: Method, call: Call) -> Pending {
        let fake = Arc::clone(&self.0);
        match method {
            Method::Range => Box::pin(call.unary(
                |metadata, request: pb::RangeRequest| async move {
                    match &request.key[..] {
                        b"" => Err(Error::EmptyKey),
                        b"fail" => Err(Error::Internal("100% broken\n".to_owned())),
                        b"wait" => {
                            let _waiting = Waiting::new(&fake);
                            fake.released.notified().await;
                            Ok(found(request.key))
                        }
                        b"leader" => Ok(found(metadata.require_leader.to_string().into())),
                        b"version" => Ok(found(metadata.api_version.unwrap_or_default().into())),
                        _ => Ok(found(request.key)),
                    }
                },
            )),
            Method::RangeStream => Box::pin(call.server_stream(
                |_, request: pb::RangeRequest| async move {
                    if request.key.is_empty() {
                        return Err(Error::EmptyKey);
                    }
                    let end = match &request.key[..] {
                        b"wait" => stream::pending().boxed(),
                        b"fail" => stream::iter([Err(Error::Compacted)]).boxed(),
                        _ => stream::empty().boxed(),
                    };
                    let reply = RangeStreamReply {
                        range_response: Some(found(request.key)),
                    };
                    Ok(stream::iter(vec![Ok(reply); 3]).chain(end))
                },
            )),
            _ => Box::pin(std::future::ready(call.refuse(&table::not_served(method)))),
        }
    }

    fn max_receive_bytes(&self) -> usize {
        MAX_RECEIVE
    }

    fn health<'a>(
        &'a self,
        exclude: &'a [String],
        serializable: bool,
    ) -> Boxed<'a, Result<(), String>> {
        Box::pin(async move {
            match *self.0.sick.lock() {
                Some("RAFT NO LEADER") if serializable => Ok(()),
                Some(reason) if exclude.iter().all(|name| !reason.ends_with(name.as_str())) => {
                    Err(reason.to_owned())
                }
                _ => Ok(()),
            }
        })
    }

    fn probe<'a>(&'a self, probe: Probe, exclude: &'a [String]) -> Boxed<'a, Vec<Check>> {
        Box::pin(async move {
            let names = probe.names().iter().copied();
            let asked = names.filter(|name| exclude.iter().all(|excluded| excluded != name));
            let sick = *self.0.sick.lock();
            asked
                .map(|name| {
                    let sick = sick.filter(|_| name == "data_corruption");
                    (name, sick.map(|_| "alarm activated: CORRUPT".to_owned()))
                })
                .collect()
        })
    }

    fn version(&self) -> (String, String, String) {
        let cluster = self.0.cluster_version.lock().clone();
        ("3.7.1".to_owned(), cluster, "3.6.0".to_owned())
    }

    fn peer(
        &self,
        request: http::Request<hyper::body::Incoming>,
    ) -> Boxed<
        'static,
        Result<http::Response<crate::net::Body>, http::Request<hyper::body::Incoming>>,
    > {
        Box::pin(std::future::ready(Err(request)))
    }

    fn metrics(&self) -> String {
        "up 1\n".to_owned()
    }

    fn variables(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![
            ("cmdline", ["etcd"].into()),
            ("file_descriptor_limit", 1024.into()),
        ]
    }
}

fn found(key: Bytes) -> RangeReply {
    let mut kv = vec![0x0a, key.len() as u8];
    kv.extend_from_slice(&key);
    RangeReply {
        kvs: vec![kv.into()],
        count: 1,
        ..RangeReply::default()
    }
}

/// Remembers what it is told.
#[derive(Default)]
pub(super) struct Log(pub(super) Mutex<Vec<String>>);

impl CallObserver for Log {
    fn started(&self, method: Method) {
        self.0.lock().push(format!("{} started", method.name()));
    }
    fn received(&self, method: Method, bytes: usize) {
        let line = format!("{} received {bytes}", method.name());
        self.0.lock().push(line);
    }
    fn sent(&self, method: Method, messages: usize, bytes: usize) {
        assert_eq!(messages, 1);
        let line = format!("{} sent {bytes}", method.name());
        self.0.lock().push(line);
    }
    fn finished(&self, method: Method, code: Code) {
        let line = format!("{} finished {code:?}", method.name());
        self.0.lock().push(line);
    }
}

/// A server with one listener.
pub(super) struct Server {
    pub(super) net: Arc<Net>,
    pub(super) addr: SocketAddr,
    pub(super) fake: Arc<Fake>,
    pub(super) log: Arc<Log>,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::with(Surface::Client, |_| ())
    }

    pub(super) fn with(surface: Surface, adjust: impl FnOnce(&mut Settings)) -> Self {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let addr = listener.addr();
        let log = Arc::new(Log::default());
        let mut settings = Settings::new(slog::Logger::root(slog::Discard, slog::o!())).unwrap();
        settings.threads = 2;
        settings.observer = log.clone();
        adjust(&mut settings);
        let fake = Arc::new(Fake::default());
        *fake.cluster_version.lock() = "3.7.0".to_owned();
        let net = Arc::new(Net::start(settings).unwrap());
        net.serve(listener, surface, Arc::new(Member(fake.clone())))
            .unwrap();
        Self {
            net,
            addr,
            fake,
            log,
        }
    }

    /// Stops without blocking the test's own connections.
    pub(super) async fn stop(&self, grace: Duration) {
        let net = self.net.clone();
        let stopping = tokio::task::spawn_blocking(move || net.stop(grace));
        stopping.await.unwrap();
    }

    pub(super) async fn wait_for_waiting(&self, count: usize) {
        until("calls wait", || {
            self.fake.waiting.load(Ordering::SeqCst) == count
        })
        .await;
    }
}

/// Waits for a condition, a minute at most.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
