//! Members of a cluster in one process: real connections over loopback, no raft.

use std::collections::HashSet;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use retcd_proto::raftpb::{Entry, Message, MessageType};
use retcd_storage::backend::DatabaseCopy;
use retcd_storage::clock::SystemClock;
use tokio::runtime::Runtime;

use super::super::{Member, Options, Peers, ProcessError, TransportObserver, WriteDeadline};

pub(super) const CLUSTER: u64 = 0xc1;
/// Deadlines where somebody is slow on purpose.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);
/// Deadlines where nobody is: no machine is so busy that they pass.
pub(super) const PATIENT: Duration = Duration::from_secs(20);

/// Until it holds; a test that waits in vain fails.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a deadline of a test")]
pub(super) fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "not in time: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Index and database of a snapshot.
type Received = (u64, Result<Vec<u8>, String>);

/// What a member was told and asked.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) local: u64,
    pub(super) messages: Mutex<Vec<Message>>,
    pub(super) unreachable: AtomicU64,
    pub(super) snapshots: Mutex<Vec<(u64, bool)>>,
    pub(super) removed_by: Mutex<Vec<u64>>,
    /// Who was removed, as this member knows.
    pub(super) removed: Mutex<HashSet<u64>>,
    /// Refuse all messages with this.
    pub(super) refusal: Mutex<Option<String>>,
    /// What a snapshot is made of: the length that is told, the bytes, and an error at their end.
    pub(super) database: Mutex<(u64, Vec<u8>, Option<String>)>,
    pub(super) received: Mutex<Vec<Received>>,
    pub(super) disk_full: Mutex<Option<String>>,
    pub(super) log: Mutex<Vec<String>>,
    pub(super) sent_bytes: AtomicU64,
    pub(super) received_bytes: AtomicU64,
}

struct Broken(io::Cursor<Vec<u8>>, Option<String>);

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.0.read(buffer)?, self.1.take()) {
            (0, Some(error)) => Err(io::Error::other(error)),
            (read, error) => {
                self.1 = error;
                Ok(read)
            }
        }
    }
}

impl Member for Seen {
    fn process(&self, message: Message) -> Result<(), ProcessError> {
        if self.removed.lock().contains(&message.from()) {
            return Err(ProcessError::Removed);
        }
        if message.to() != self.local {
            return Err(ProcessError::Mismatch);
        }
        if let Some(refusal) = &*self.refusal.lock() {
            return Err(ProcessError::Refused(refusal.clone()));
        }
        self.messages.lock().push(message);
        Ok(())
    }

    fn is_removed(&self, id: u64) -> bool {
        self.removed.lock().contains(&id)
    }

    fn report_unreachable(&self, _id: u64) {
        self.unreachable.fetch_add(1, Ordering::SeqCst);
    }

    fn report_snapshot(&self, id: u64, sent: bool) {
        self.snapshots.lock().push((id, sent));
    }

    fn removed(&self, by: u64) {
        self.removed_by.lock().push(by);
    }

    fn database_to_send(&self, message: Message) -> Result<(Message, DatabaseCopy), String> {
        let (len, bytes, error) = self.database.lock().clone();
        let bytes = Box::new(Broken(io::Cursor::new(bytes), error));
        Ok((message, DatabaseCopy { len, bytes }))
    }

    fn database_received(&self, index: u64, body: &mut dyn Read) -> Result<u64, String> {
        if let Some(error) = &*self.disk_full.lock() {
            return Err(error.clone());
        }
        let mut bytes = Vec::new();
        let read = body.read_to_end(&mut bytes);
        let result = read.map(|_| bytes).map_err(|e| e.to_string());
        self.received.lock().push((index, result.clone()));
        result.map(|bytes| bytes.len() as u64)
    }
}

/// Keeps what is logged, at info and above: the message, then what is said with it.
struct Lines(AssertUnwindSafe<Arc<Seen>>);

impl slog::Drain for Lines {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        use slog::KV as _;

        struct Text(String);
        impl slog::Serializer for Text {
            fn emit_arguments(
                &mut self,
                key: slog::Key,
                value: &std::fmt::Arguments<'_>,
            ) -> slog::Result {
                self.0 = format!(" {key}={value}{}", self.0);
                Ok(())
            }
        }
        if record.level().is_at_least(slog::Level::Info) {
            let mut text = Text(String::new());
            let _ = record.kv().serialize(record, &mut text);
            let level = record.level().as_short_str();
            let line = format!("{level} {}{}", record.msg(), text.0);
            self.0.log.lock().push(line);
        }
        Ok(())
    }
}

impl TransportObserver for Seen {
    fn sent(&self, _to: u64, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    fn received(&self, _from: u64, bytes: u64) {
        self.received_bytes.fetch_add(bytes, Ordering::SeqCst);
    }
}

impl Seen {
    pub(super) fn unreachable(&self) -> u64 {
        self.unreachable.load(Ordering::SeqCst)
    }

    pub(super) fn count(&self) -> usize {
        self.messages.lock().len()
    }
}

pub(super) struct Site {
    pub(super) id: u64,
    pub(super) address: SocketAddr,
    pub(super) seen: Arc<Seen>,
    pub(super) peers: Arc<Peers>,
    server: Option<Runtime>,
}

impl Site {
    pub(super) fn start(id: u64) -> Site {
        Site::with_deadline(id, PATIENT)
    }

    pub(super) fn with_deadline(id: u64, deadline: Duration) -> Site {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Site::start_with(id, listener, deadline, |_| {})
    }

    pub(super) fn start_with(
        id: u64,
        listener: TcpListener,
        deadline: Duration,
        change: impl FnOnce(&mut Options),
    ) -> Site {
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen {
            local: id,
            ..Seen::default()
        });
        let mut options = Options {
            local_id: id,
            cluster_id: CLUSTER,
            peer_urls: vec![format!("http://{address}")],
            server_version: "3.7.1".to_owned(),
            dial_timeout: deadline,
            read_timeout: deadline,
            write_timeout: deadline,
            connector: None,
            clock: Arc::new(SystemClock),
            logger: slog::Logger::root(Lines(AssertUnwindSafe(seen.clone())), slog::o!()),
            observer: seen.clone(),
        };
        change(&mut options);
        let peers = Peers::start(options, seen.clone()).unwrap();
        let server = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        listener.set_nonblocking(true).unwrap();
        let serving = Arc::downgrade(&peers);
        server.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let serving = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let peers = serving.upgrade();
                        async move {
                            let peers = peers.ok_or_else(|| io::Error::other("stopped"))?;
                            Ok::<_, io::Error>(peers.serve(request).await)
                        }
                    });
                    let tcp = TokioIo::new(WriteDeadline::new(tcp, deadline));
                    // The other end may do what it likes.
                    let _ = http1::Builder::new().serve_connection(tcp, service).await;
                });
            }
        });
        Site {
            id,
            address,
            seen,
            peers,
            server: Some(server),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn knows(&self, other: &Site) {
        self.peers.add_peer(other.id, &[other.url()]);
    }

    pub(super) fn active(&self, id: u64) -> bool {
        self.peers.active_since(id).is_some()
    }

    /// Whether both streams to another one have been there: what it is sent does not go by POST.
    pub(super) fn streams_to(&self, id: u64) -> bool {
        let log = self.seen.log.lock();
        ["MsgApp v2", "Message"].iter().all(|kind| {
            let line = format!(
                "INFO established TCP streaming connection with remote peer \
                 stream-writer-type=stream {kind} local-member-id={:x} remote-peer-id={id:x}",
                self.id
            );
            log.iter().any(|l| l.starts_with(&line))
        })
    }

    /// All connections end, and the port is free.
    pub(super) fn stop(mut self) -> SocketAddr {
        self.end();
        self.address
    }

    fn end(&mut self) {
        self.peers.stop();
        if let Some(server) = self.server.take() {
            server.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.end();
    }
}

/// On the port of one that has stopped.
#[track_caller]
pub(super) fn bind_again(address: SocketAddr) -> TcpListener {
    let mut listener = None;
    wait("the port is free", || {
        listener = TcpListener::bind(address).ok();
        listener.is_some()
    });
    listener.unwrap()
}

pub(super) fn message(from: u64, to: u64, kind: MessageType, index: u64) -> Message {
    Message {
        r#type: Some(kind as i32),
        from: Some(from),
        to: Some(to),
        term: Some(2),
        index: Some(index),
        ..Message::default()
    }
}

/// With `entries` entries after `index`, of the same term.
pub(super) fn append(from: u64, to: u64, index: u64, entries: u64, size: usize) -> Message {
    Message {
        log_term: Some(2),
        commit: Some(index),
        entries: (index + 1..=index + entries)
            .map(|index| Entry {
                r#type: None,
                term: Some(2),
                index: Some(index),
                data: Some(Bytes::from(vec![index as u8; size])),
            })
            .collect(),
        ..message(from, to, MessageType::MsgApp, index)
    }
}
