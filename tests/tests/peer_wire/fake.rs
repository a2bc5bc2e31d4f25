//! A member of which only the transport is real: it votes for everybody and takes every entry.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use retcd_proto::raftpb::{Entry, Message, MessageType};
use retcd_raft_node::Transport as _;
use retcd_raft_node::transport::{AnswerBody, Member, NoObserver, Options, Peers, ProcessError, WriteDeadline};
use retcd_storage::backend::DatabaseCopy;
use retcd_storage::clock::SystemClock;
use tokio::runtime::Runtime;

const VERSION: Bytes = Bytes::from_static(br#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#);

/// A mutex that outlives a failed test.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What it knows.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) term: u64,
    pub(crate) entries: BTreeMap<u64, Entry>,
    pub(crate) got: Vec<Message>,
    /// Path of every request that came.
    pub(crate) paths: Vec<String>,
    /// The last snapshot: its message, its database.
    pub(crate) snapshot: Option<(Option<Message>, Vec<u8>)>,
    pub(crate) snapshots_sent: Vec<bool>,
}

impl State {
    /// Index and term of the last entry.
    pub(crate) fn last(&self) -> (u64, u64) {
        self.entries.last_key_value().map_or((0, 0), |(index, entry)| (*index, entry.term()))
    }

    pub(crate) fn count(&self, path: &str) -> usize {
        self.paths.iter().filter(|p| p.starts_with(path)).count()
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        let text = text.as_bytes();
        self.entries.values().any(|e| e.data().windows(text.len()).any(|w| w == text))
    }
}

/// The member as its transport sees it.
struct Door {
    state: Arc<Mutex<State>>,
    messages: Mutex<Sender<Message>>,
}

impl Member for Door {
    fn process(&self, message: Message) -> Result<(), ProcessError> {
        lock(&self.messages).send(message).map_err(|_| ProcessError::Stopped)
    }

    fn is_removed(&self, _id: u64) -> bool {
        false
    }

    fn report_unreachable(&self, _id: u64) {}

    fn report_snapshot(&self, _id: u64, sent: bool) {
        lock(&self.state).snapshots_sent.push(sent);
    }

    fn removed(&self, by: u64) {
        panic!("{by:x} says that this member was removed");
    }

    /// The database that came is the one that goes.
    fn database_to_send(&self, message: Message) -> Result<(Message, DatabaseCopy), String> {
        let state = lock(&self.state);
        let (_, database) = state.snapshot.as_ref().ok_or("there is none")?;
        let len = database.len() as u64;
        Ok((message, DatabaseCopy { len, bytes: Box::new(std::io::Cursor::new(database.clone())) }))
    }

    fn database_received(&self, _index: u64, body: &mut dyn Read) -> Result<u64, String> {
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        let len = bytes.len() as u64;
        lock(&self.state).snapshot = Some((None, bytes));
        Ok(len)
    }
}

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<Mutex<State>>,
    /// It has lost its log: appends are refused until a snapshot comes.
    pub(crate) empty: Arc<AtomicBool>,
    listener: Option<TcpListener>,
    running: Option<(Arc<Peers>, Runtime)>,
}

impl Fake {
    /// Its address is known, nothing runs.
    pub(crate) fn prepare() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        Self {
            address: listener.local_addr().expect("bound"),
            state: Arc::default(),
            empty: Arc::default(),
            listener: Some(listener),
            running: None,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn peers(&self) -> &Arc<Peers> {
        &self.running.as_ref().expect("it runs").0
    }

    pub(crate) fn start(&mut self, id: u64, cluster_id: u64) {
        let options = Options {
            local_id: id,
            cluster_id,
            peer_urls: vec![self.url()],
            server_version: "3.7.1".to_owned(),
            dial_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(5),
            connector: None,
            clock: Arc::new(SystemClock),
            logger: slog::Logger::root(slog::Discard, slog::o!()),
            observer: Arc::new(NoObserver),
        };
        let (sender, messages) = mpsc::channel();
        let door = Door { state: self.state.clone(), messages: Mutex::new(sender) };
        let peers = Peers::start(options, Arc::new(door)).expect("a thread");
        let server =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let listener = self.listener.take().expect("started once");
        listener.set_nonblocking(true).expect("a socket");
        server.spawn(listen(listener, peers.clone(), self.state.clone()));
        let (answering, state, empty) = (peers.clone(), self.state.clone(), self.empty.clone());
        // Ends with the transport, which holds the sending end.
        std::thread::spawn(move || answer(&answering, &messages, &state, &empty));
        self.running = Some((peers, server));
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some((peers, server)) = self.running.take() {
            peers.stop();
            server.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

async fn listen(listener: TcpListener, peers: Arc<Peers>, state: Arc<Mutex<State>>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    loop {
        let Ok((tcp, _)) = listener.accept().await else { return };
        let (peers, state) = (peers.clone(), state.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                lock(&state).paths.push(request.uri().path().to_owned());
                let peers = peers.clone();
                async move {
                    let answer = match request.uri().path() {
                        // The leader wants to know it before the cluster has a version.
                        "/version" => http::Response::new(Box::pin(Full::new(VERSION)) as AnswerBody),
                        _ => peers.serve(request).await,
                    };
                    Ok::<_, std::convert::Infallible>(answer)
                }
            });
            let tcp = TokioIo::new(WriteDeadline::new(tcp, Duration::from_secs(5)));
            let _ = http1::Builder::new().serve_connection(tcp, service).await;
        });
    }
}

/// Its raft.
fn answer(peers: &Peers, messages: &Receiver<Message>, state: &Mutex<State>, empty: &AtomicBool) {
    while let Ok(message) = messages.recv() {
        let mut state = lock(state);
        if message.term() > state.term && message.r#type() != MessageType::MsgPreVote {
            state.term = message.term();
        }
        let reply = |kind, term| Message {
            r#type: Some(kind as i32),
            from: message.to,
            to: message.from,
            term: Some(term),
            ..Message::default()
        };
        let reply = match message.r#type() {
            MessageType::MsgPreVote => Some(reply(MessageType::MsgPreVoteResp, message.term())),
            MessageType::MsgVote => Some(reply(MessageType::MsgVoteResp, message.term())),
            MessageType::MsgHeartbeat => {
                Some(Message { context: message.context.clone(), ..reply(MessageType::MsgHeartbeatResp, state.term) })
            }
            MessageType::MsgApp if empty.load(Ordering::SeqCst) => Some(Message {
                index: message.index,
                reject: Some(true),
                reject_hint: Some(0),
                ..reply(MessageType::MsgAppResp, state.term)
            }),
            MessageType::MsgApp => {
                for entry in &message.entries {
                    state.entries.insert(entry.index(), entry.clone());
                }
                let index = message.entries.last().map_or(message.index(), Entry::index);
                Some(Message { index: Some(index), ..reply(MessageType::MsgAppResp, state.term) })
            }
            MessageType::MsgSnap => {
                empty.store(false, Ordering::SeqCst);
                let metadata = message.snapshot.as_ref().and_then(|s| s.metadata.clone());
                let (index, term) = metadata.map_or((0, 0), |m| (m.index(), m.term()));
                state.entries =
                    BTreeMap::from([(index, Entry { index: Some(index), term: Some(term), ..Entry::default() })]);
                if let Some(snapshot) = &mut state.snapshot {
                    snapshot.0 = Some(message.clone());
                }
                Some(Message { index: Some(index), ..reply(MessageType::MsgAppResp, state.term) })
            }
            _ => None,
        };
        state.got.push(message);
        drop(state);
        if let Some(reply) = reply {
            peers.send(vec![reply]);
        }
    }
}
