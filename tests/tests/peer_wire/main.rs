//! Our transport as the other member of a cluster with genuine Go etcd.

mod fake;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::etcdserverpb::{InternalRaftRequest, PutRequest, RequestHeader};
use retcd_proto::raftpb::{ConfState, Entry, Message, MessageType, Snapshot, SnapshotMetadata};
use retcd_raft_node::Transport as _;
use retcd_raft_node::ids::{cluster_id, member_id};
use retcd_raft_node::transport::request;
use retcd_tests::member::{Member, PATIENCE, Setup};
use retcd_tests::{peers, run};

use self::fake::{Fake, State, lock};

const TOKEN: &str = "wire";

#[track_caller]
fn wait(what: &str, go: &Member, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}\n{}", go.describe());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A Go member and ours, two of two.
struct Rig {
    go: Member,
    go_id: u64,
    ours: Fake,
    id: u64,
    etcdctl: std::path::PathBuf,
}

impl Rig {
    /// Ours reaches Go as somebody whom it does not know: no streams in either direction.
    fn start(program: &Path, release: &str, etcdctl: &Path) -> Self {
        let mut ours = Fake::prepare();
        let mut go = Member::prepare(Setup::new(program));
        let urls = [go.peer_url(), ours.url()];
        go.set_flags([
            format!("--initial-cluster=m={},ours={}", urls[0], urls[1]),
            format!("--initial-cluster-token={TOKEN}"),
            "--snapshot-count=10".to_owned(),
            match release {
                "3.5" => "--experimental-snapshot-catchup-entries=2".to_owned(),
                _ => "--snapshot-catchup-entries=2".to_owned(),
            },
        ]);
        let [go_id, id] = urls.clone().map(|url| member_id(&[url], TOKEN, None));
        ours.start(id, cluster_id(&[go_id, id]));
        ours.peers().add_remote(go_id, &urls[..1]);
        go.restart();
        Self { go, go_id, ours, id, etcdctl: etcdctl.to_owned() }
    }

    fn ctl(&self, args: &[&str]) -> String {
        let endpoint = format!("--endpoints={}", self.go.url());
        run::stdout(Command::new(&self.etcdctl).arg(endpoint).args(args))
            .unwrap_or_else(|e| panic!("{e}\n{}", self.go.describe()))
    }

    fn put(&self, key: &str) {
        assert_eq!(self.ctl(&["put", key, "value"]), "OK\n");
        wait("the entry comes", &self.go, || lock(&self.ours.state).has(key));
    }

    fn wait(&self, what: &str, mut holds: impl FnMut(&State) -> bool) {
        wait(what, &self.go, || holds(&lock(&self.ours.state)));
    }

    fn message(&self, kind: MessageType) -> Message {
        Message { r#type: Some(kind as i32), from: Some(self.id), to: Some(self.go_id), ..Message::default() }
    }
}

/// Ours leads, and says so until this is dropped: however long something takes, Go does not look for another leader.
struct Leads {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Leads {
    fn start(rig: &Rig, term: u64) -> Self {
        let heartbeat = Message { term: Some(term), ..rig.message(MessageType::MsgHeartbeat) };
        let peers = Arc::clone(rig.ours.peers());
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_millis(50)) == Err(RecvTimeoutError::Timeout) {
                peers.send(vec![heartbeat.clone()]);
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Leads {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn a_go_member_takes_our_transport_for_its_own() {
    if let (Some(program), Some(etcdctl)) = (peers::go_etcd(), peers::go_etcdctl()) {
        exchange(&program, "3.7", &etcdctl);
    }
}

#[test]
fn members_of_older_releases_do_too() {
    for release in ["3.5", "3.6"] {
        if let (Some(program), Some(etcdctl)) = (peers::go_etcd_of(release), peers::go_etcdctl()) {
            exchange(&program, release, &etcdctl);
        }
    }
}

fn exchange(program: &Path, release: &str, etcdctl: &Path) {
    let mut rig = Rig::start(program, release, etcdctl);
    by_posts(&rig);
    by_streams(&rig);
    other_endpoints(&rig, release);
    a_forwarded_proposal(&rig);
    a_snapshot_from_go(&mut rig);
    a_snapshot_to_go(&rig);
}

/// A vote, entries, their acknowledgements: without any stream.
fn by_posts(rig: &Rig) {
    rig.put("by-post");
    let state = lock(&rig.ours.state);
    let kinds = [MessageType::MsgPreVote, MessageType::MsgVote, MessageType::MsgApp];
    for kind in kinds {
        assert!(state.got.iter().any(|m| m.r#type() == kind), "no {kind:?}");
    }
    let posts = state.paths.iter().filter(|path| *path == "/raft").count();
    assert!(posts >= state.got.len(), "{posts} posts, {} messages", state.got.len());
}

fn by_streams(rig: &Rig) {
    rig.ours.peers().add_peer(rig.go_id, &[rig.go.peer_url()]);
    for kind in ["stream MsgApp v2", "stream Message"] {
        for end in ["writer", "reader"] {
            let line = format!("\"stream-{end}-type\":\"{kind}\"");
            let up = |log: &str| {
                log.lines().any(|l| l.contains("established TCP streaming connection") && l.contains(&line))
            };
            wait(&line, &rig.go, || up(&rig.go.log().text()));
        }
    }
    wait("it is active", &rig.go, || rig.ours.peers().active_since(rig.go_id).is_some());
    // The last messages by POST may be on their way still, more of them on a busy machine.
    let posts = || lock(&rig.ours.state).paths.iter().filter(|path| *path == "/raft").count();
    wait("no more messages by POST", &rig.go, || {
        let before = posts();
        rig.put("by-stream");
        posts() == before
    });
    let before = posts();
    for n in 0..30 {
        rig.put(&format!("by-stream-{n}"));
    }
    assert!(posts() <= before + 4, "{} messages went by POST", posts() - before);
    let state = lock(&rig.ours.state);
    assert!(state.count("/raft/stream/") >= 2);
    // Appends that continue each other say nothing of themselves on the wire: they are made whole.
    let appends = state.got.iter().filter(|m| m.r#type() == MessageType::MsgApp);
    for m in appends {
        assert_eq!((m.from(), m.to()), (rig.go_id, rig.id));
        for (entry, index) in m.entries.iter().zip(m.index() + 1..) {
            assert_eq!(entry.index(), index);
        }
    }
}

fn other_endpoints(rig: &Rig, release: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ask = |path: &str| {
        let asked = http::Request::builder().uri(path).body(Bytes::new()).expect("a request");
        let url = rig.go.peer_url();
        let answer = request(None, &url, asked, PATIENCE, 1 << 20);
        let answer = runtime.block_on(answer).expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        String::from_utf8_lossy(answer.body()).into_owned()
    };
    assert!(ask("/version").contains(&format!("\"etcdserver\":\"{release}.")));
    assert!(ask("/members").contains(&rig.ours.url()));
    assert!(ask("/raft/probing").starts_with("{\"OK\":true,\"Now\":\""));
}

fn a_forwarded_proposal(rig: &Rig) {
    let proposal = InternalRaftRequest {
        header: Some(RequestHeader { id: 0xf0f0, ..RequestHeader::default() }),
        put: Some(PutRequest {
            key: Bytes::from_static(b"forwarded"),
            value: Bytes::from_static(b"by ours"),
            ..PutRequest::default()
        }),
        ..InternalRaftRequest::default()
    };
    rig.ours.peers().send(vec![Message {
        entries: vec![Entry { data: Some(proposal.encode_to_vec().into()), ..Entry::default() }],
        ..rig.message(MessageType::MsgProp)
    }]);
    rig.wait("it comes back", |state| state.has("forwarded"));
    wait("it is applied", &rig.go, || rig.ctl(&["get", "forwarded"]) == "forwarded\nby ours\n");
}

fn a_snapshot_from_go(rig: &mut Rig) {
    // A leader that has just come knows nothing of how far its followers are.
    rig.go.kill();
    rig.ours.empty.store(true, Ordering::SeqCst);
    rig.go.restart();
    rig.wait("a snapshot comes", |state| matches!(&state.snapshot, Some((Some(_), _))));
    let state = lock(&rig.ours.state);
    let (message, database) = state.snapshot.as_ref().expect("it came");
    let snapshot = message.as_ref().and_then(|m| m.snapshot.as_ref()).expect("it came");
    assert!(snapshot.metadata.as_ref().expect("a place").index() > 30);
    assert!(snapshot.data().starts_with(b"{\"Root\":"));
    assert!(database.len() >= 16 * 1024 && database.len().is_multiple_of(4096));
    assert_eq!(database[16..20], 0xED0C_DAED_u32.to_le_bytes(), "the magic of the first page");
    drop(state);
    rig.put("after-snapshot");
    rig.go.wait_for_log("sent database snapshot");
}

fn a_snapshot_to_go(rig: &Rig) {
    let (index, log_term, term) = {
        let state = lock(&rig.ours.state);
        let (index, log_term) = state.last();
        (index, log_term, state.term + 1)
    };
    let vote = Message {
        term: Some(term),
        index: Some(index),
        log_term: Some(log_term),
        // The leader asked for it, so Go does not wait for its own leadership to end.
        context: Some(Bytes::from_static(b"CampaignTransfer")),
        ..rig.message(MessageType::MsgVote)
    };
    rig.ours.peers().send(vec![vote]);
    rig.wait("its vote", |state| {
        state.got.iter().any(|m| m.r#type() == MessageType::MsgVoteResp && m.term() == term && !m.reject())
    });
    let _leads = Leads::start(rig, term);
    let ack = |state: &State, index| {
        let acks = state.got.iter().filter(|m| m.r#type() == MessageType::MsgAppResp && m.term() == term);
        acks.into_iter().any(|m| m.index() == index && !m.reject())
    };
    let append = |index: u64, log_term, count: u64, commit| Message {
        term: Some(term),
        index: Some(index),
        log_term: Some(log_term),
        commit: Some(commit),
        entries: (index + 1..=index + count)
            .map(|n| Entry { index: Some(n), term: Some(term), ..Entry::default() })
            .collect(),
        ..rig.message(MessageType::MsgApp)
    };
    // The first one whole, the others as what continues it, of several entries and of none.
    rig.ours.peers().send(vec![append(index, log_term, 1, index)]);
    rig.wait("Go follows", |state| ack(state, index + 1));
    rig.ours.peers().send(vec![append(index + 1, term, 3, index + 1), append(index + 4, term, 0, index + 4)]);
    rig.wait("Go goes on", |state| ack(state, index + 4));
    // As if it had missed the next ones.
    let data = {
        let state = lock(&rig.ours.state);
        let message = state.snapshot.as_ref().and_then(|(message, _)| message.clone());
        message.and_then(|m| m.snapshot).expect("it came").data
    };
    let conf_state = ConfState { voters: vec![rig.go_id, rig.id], ..ConfState::default() };
    let snapshot = Message {
        term: Some(term),
        snapshot: Some(Snapshot {
            data,
            metadata: Some(SnapshotMetadata {
                conf_state: Some(conf_state),
                index: Some(index + 20),
                term: Some(term),
            }),
        }),
        ..rig.message(MessageType::MsgSnap)
    };
    rig.ours.peers().send(vec![snapshot]);
    rig.wait("it is sent", |state| state.snapshots_sent == [true]);
    rig.go.wait_for_log("received and saved database snapshot");
    rig.go.wait_for_log("applied snapshot");
    // It takes its connections down and up again, and its word may be lost meanwhile: a leader asks for it.
    let mut looks = 0;
    wait("Go is there", &rig.go, || {
        looks += 1;
        if looks % 20 == 0 {
            rig.ours.peers().send(vec![append(index + 20, term, 0, index + 20)]);
        }
        ack(&lock(&rig.ours.state), index + 20)
    });
    assert_eq!(rig.ctl(&["get", "by-post", "--consistency=s"]), "by-post\nvalue\n");
    let state = lock(&rig.ours.state);
    assert!(state.got.iter().all(|m| m.to() == rig.id));
}
