//! Members of a cluster whose leader is the test: real raft node, log and database on a simulated disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use retcd_proto::etcdserverpb::AlarmType;
use retcd_proto::raftpb::{self, MessageType};
use retcd_raft_node::ids::{self, RequestIds};
use retcd_raft_node::membership::{self, Cluster, DEFAULT_MAX_LEARNERS};
use retcd_raft_node::queue::{self, Receiver};
use retcd_raft_node::{self as raft_node, Apply, Node, Start, Transport};
use retcd_storage::clock::SystemClock;
use retcd_storage::fs::{Fs as _, SimFs};
use retcd_storage::wal;
use tokio::sync::watch;

use super::super::super::{Applier, CompactionPace, Snapshots};
use crate::alarm::Alarms;
use crate::auth::Auth;
use crate::config::{Config, Resolved};
use crate::disk::Databases;
use crate::lease::{Alone, Leases, Lessor};
use crate::log::Log;
use crate::member::{Leader, Limits, Member};
use crate::metrics::Metrics;
use crate::observer::Events;
use crate::peers::{Remote, Strangers};
use crate::read::Reads;
use crate::recovery;
use crate::server::{StartError, open_files};
use crate::transfer::{Incoming, Outgoing};
use crate::wait::Waiters;
use crate::watch::Hub;

/// How long anything may take before a test gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The leader's term.
pub(super) const TERM: u64 = 2;

pub(super) const SNAP: &str = "/data/member/snap";
const TOKEN: &str = "etcd-cluster";

pub(super) fn peer_urls(n: u16) -> Vec<String> {
    vec![format!("http://10.0.0.{n}:2380")]
}

pub(super) fn id(n: u16) -> u64 {
    ids::member_id(&peer_urls(n), TOKEN, None)
}

/// The one that never runs: the test speaks for it.
pub(super) fn leader() -> u64 {
    id(3)
}

fn founders() -> Vec<membership::Member> {
    let member = |n: u16| membership::Member {
        id: id(n),
        name: format!("m{n}"),
        peer_urls: peer_urls(n),
        ..Default::default()
    };
    let mut all: Vec<_> = (1..=3).map(member).collect();
    all.sort_by_key(|member| member.id);
    all
}

fn cluster_id() -> u64 {
    let ids: Vec<u64> = founders().iter().map(|member| member.id).collect();
    ids::cluster_id(&ids)
}

/// Keeps what the node wants to send.
#[derive(Default)]
pub(super) struct Sent(Mutex<Vec<raftpb::Message>>);

impl Transport for Sent {
    fn send(&self, messages: Vec<raftpb::Message>) {
        self.0.lock().extend(messages);
    }
}

/// Work that never comes.
pub(super) fn nothing() -> Receiver<Apply> {
    queue::bounded(1).1
}

/// A running member. It applies entries when it is told to, or by itself once it is set free.
pub(super) struct Rig {
    pub(super) fs: SimFs,
    pub(super) id: u64,
    pub(super) member: Arc<Member>,
    pub(super) sent: Arc<Sent>,
    pub(super) applier: Option<Applier>,
    entries: Receiver<Apply>,
    node: Option<Node>,
    apply: Option<JoinHandle<()>>,
    watching: Option<JoinHandle<()>>,
    unused: crossbeam_channel::Receiver<()>,
}

/// A disk with nothing but the directory.
pub(super) fn disk() -> SimFs {
    let fs = SimFs::new();
    fs.create_dir_all(Path::new(SNAP)).unwrap();
    for dir in ["/", "/data", "/data/member", SNAP] {
        fs.sync_dir(Path::new(dir)).unwrap();
    }
    fs
}

fn resolved() -> Resolved {
    let mut resolved = Config::new("/data").resolve().unwrap();
    // Only the test decides when something is committed.
    resolved.backend_batch_interval = Duration::MAX;
    resolved
}

impl Rig {
    /// Founds member `n`, or starts it on what is there, as [`crate::Server`] does.
    pub(super) fn start(fs: &SimFs, n: u16) -> Result<Rig, StartError> {
        let resolved = resolved();
        let logger = Log::discard().logger().clone();
        let metrics = Arc::new(Metrics::new().unwrap());
        let events = Arc::new(Events::default());
        let shared: Arc<dyn retcd_storage::fs::Fs> = Arc::new(fs.clone());
        let clock = Arc::new(SystemClock);
        let config = raft_node::Config {
            fs: shared.clone(),
            clock: clock.clone(),
            wal_dir: resolved.wal_dir.clone(),
            snap_dir: resolved.snap_dir.clone(),
            // Nobody is elected but by the test.
            tick: Duration::from_secs(3600),
            election_ticks: 10,
            pre_vote: true,
            initial_election_tick_advance: false,
            snapshot_catchup_entries: 10,
            max_wals: 5,
            max_snapshots: 1,
            no_fsync: false,
            wal_segment_size: 16 << 10,
            wal_prepare: wal::Prepare::default(),
            logger: logger.clone(),
            observer: events.clone(),
        };
        retcd_storage::snapshot::remove_leftovers(fs, &resolved.snap_dir)?;
        let initialized = wal::exists(fs, &resolved.wal_dir)?;
        let databases = Databases::new(&resolved, shared.clone(), &metrics, &logger);
        let (log, mut disk) = open_files(&config, &resolved, initialized, || databases.open())?;
        recovery::check(&disk, &logger)?;
        retcd_storage::snapshot::release(fs, &resolved.snap_dir, u64::MAX)?;
        let (opened, cluster) = match log {
            Some(log) => {
                let recovered =
                    recovery::recover(&log, &mut disk, &config, DEFAULT_MAX_LEARNERS, &logger)?;
                let index = disk.applied.0;
                let opened = log.with_database(&config, index, recovered.conf_state)?;
                (opened, recovered.cluster)
            }
            None => {
                let start = Start::New {
                    cluster_id: cluster_id(),
                    member_id: id(n),
                    members: founders(),
                };
                let opened = raft_node::open(&config, start)?;
                let cluster =
                    Cluster::load(&disk.backend, opened.cluster_id, DEFAULT_MAX_LEARNERS)?;
                (opened, cluster)
            }
        };
        let alarms = Alarms::load(&disk.backend)?;
        let auth = Auth::load(&disk.backend)?;
        let leases = Arc::new(Leases::new(
            clock.clone(),
            Duration::from_secs(1),
            metrics.lease.clone(),
        ));
        let mut lessor = Lessor::load(&disk.backend, 1, leases.clone())?;
        lessor.attach_restored(disk.store.take_restored_leases());
        let (hub, watching) = Hub::start(disk.store.reader(), metrics.watch.clone())?;
        let (in_use, unused) = crossbeam_channel::bounded(0);
        let member = Arc::new(Member {
            id: opened.member_id,
            cluster_id: opened.cluster_id,
            limits: Limits {
                max_request_bytes: 1 << 20,
                max_txn_ops: 128,
                quota_bytes: None,
                quota_reported: 0,
                election_timeout: Duration::from_secs(1),
                watch_progress_interval: Duration::from_secs(600),
                strict_reconfig_check: true,
                active_within: PATIENCE,
                request_timeout: PATIENCE,
                warning_apply: PATIENCE,
            },
            clock: clock.clone(),
            store: disk.store.reader(),
            outgoing: Outgoing::new(
                clock.clone(),
                logger.clone(),
                metrics.disk.backend_snapshot.clone(),
            ),
            incoming: Incoming {
                fs: shared,
                clock,
                snap_dir: resolved.snap_dir.clone(),
                engine: resolved.backend_engine,
                busy: Mutex::default(),
            },
            waiters: Waiters::default(),
            reads: Reads::default(),
            request_ids: RequestIds::new(opened.member_id, 1),
            leader: watch::Sender::new(Leader::default()),
            alarms: ArcSwap::from_pointee(alarms.list(AlarmType::None)),
            cluster: ArcSwap::from_pointee(cluster.clone()),
            compacted: watch::Sender::new(disk.store.compact_rev()),
            watch: hub,
            metrics,
            remote: Remote::new(None, logger.clone()),
            logger,
            ending: watch::Sender::new(None),
            leases,
            leader_leases: Mutex::new(Arc::new(Alone)),
            peers: OnceLock::new(),
            term_began: tokio::sync::Notify::new(),
            installed: tokio::sync::Notify::new(),
            strangers: Strangers::default(),
            removal: Mutex::default(),
            stopping: watch::Sender::new(false),
            node: OnceLock::new(),
            applied: AtomicU64::new(disk.applied.0),
            _in_use: in_use,
        });
        let (apply, entries) = queue::bounded(64);
        let snapshots = Snapshots::new(
            u64::MAX,
            databases.durable().clone(),
            opened.snapshot.0,
            opened.conf_state.clone(),
        );
        events.attach(member.clone());
        let sent = Arc::new(Sent::default());
        let node = opened.run(config, sent.clone(), apply, disk.applied.0)?;
        assert!(member.node.set(node.handle().clone()).is_ok());
        let mut applier = Applier {
            member: member.clone(),
            store: disk.store,
            cluster,
            alarms,
            lessor,
            auth,
            pace: CompactionPace {
                batch: 1000,
                pause: Duration::from_millis(1),
            },
            snapshots,
            databases,
            applied: disk.applied,
            compaction_started: None,
            lowering: None,
        };
        // As the apply thread does when it begins.
        applier.store.record_changes();
        applier.auth.begin(applier.store.backend());
        Ok(Rig {
            fs: fs.clone(),
            id: member.id,
            member,
            sent,
            applier: Some(applier),
            entries,
            node: Some(node),
            apply: None,
            watching: Some(watching),
            unused,
        })
    }

    /// From now on the apply thread does what [`Rig::apply`] did.
    pub(super) fn set_free(&mut self) {
        let applier = self.applier.take().expect("it was not free");
        let entries = std::mem::replace(&mut self.entries, nothing());
        self.apply = Some(applier.spawn(entries).unwrap());
    }

    fn step(&self, message: raftpb::Message) {
        let message = raftpb::Message {
            to: Some(self.id),
            from: Some(leader()),
            term: Some(TERM),
            ..message
        };
        self.member.node().step(message).unwrap();
    }

    /// The leader sends entries that follow each other, all of them committed.
    pub(super) fn tell(&self, before: (u64, u64), entries: &[raftpb::Entry]) {
        self.step(raftpb::Message {
            r#type: Some(MessageType::MsgApp as i32),
            index: Some(before.0),
            log_term: Some(before.1),
            commit: Some(before.0 + entries.len() as u64),
            entries: entries.to_vec(),
            ..Default::default()
        });
    }

    /// The leader sends a snapshot, whose database is here already.
    pub(super) fn tell_snapshot(&self, message: &raftpb::Message) {
        self.step(message.clone());
    }

    /// Whether the member wants to send such a message.
    pub(super) fn has_sent(&self, kind: MessageType) -> bool {
        let sent = self.sent.0.lock();
        sent.iter().any(|message| message.r#type() == kind)
    }

    /// The leader answers the read index round that the member asked for.
    pub(super) fn answer_read(&self, index: u64) {
        let context = wait_for("a read index round", || {
            let sent = self.sent.0.lock();
            let asked = sent
                .iter()
                .find(|m| m.r#type() == MessageType::MsgReadIndex)?;
            Some(asked.entries.clone())
        });
        self.step(raftpb::Message {
            r#type: Some(MessageType::MsgReadIndexResp as i32),
            index: Some(index),
            entries: context,
            ..Default::default()
        });
    }

    /// Applies what raft hands over, up to and with `index`, and the compactions in it.
    pub(super) fn apply(&mut self, index: u64) {
        let applier = self.applier.as_mut().expect("it is not free");
        let none = nothing();
        while applier.applied.0 < index {
            let work = self.entries.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                let failure = self.member.ending.borrow().clone();
                panic!("stuck at {:?}, not {index}: {failure:?}", applier.applied)
            });
            applier.apply_batch(work, &none).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        while applier.store.is_compacting() {
            applier.compaction_step().unwrap();
            assert!(Instant::now() < deadline, "the compaction does not end");
        }
    }

    /// The next thing that raft hands over.
    pub(super) fn next_work(&self) -> Apply {
        self.entries.recv_timeout(PATIENCE).expect("raft goes on")
    }

    /// The same, if it is there.
    pub(super) fn try_work(&self) -> Option<Apply> {
        self.entries.try_recv().ok()
    }

    /// Waits until everything up to `index` can be read.
    pub(super) fn wait_applied(&self, index: u64) {
        wait_for("applied", || {
            assert_eq!(*self.member.ending.borrow(), None);
            (self.member.applied() >= index).then_some(())
        });
    }

    /// What a client sees, and everything in the database that is not the member's own.
    pub(super) fn state(&self) -> State {
        let member = &self.member;
        let hash = member.store.hash_kv(0).unwrap();
        State {
            applied: member.applied(),
            rev: hash.rev,
            compact_rev: hash.compact_rev,
            hash_kv: hash.hash,
            hash: member.store.hash().unwrap(),
            alarms: format!("{:?}", member.alarms.load()),
            cluster: (**member.cluster.load()).clone(),
        }
    }

    pub(super) fn stop(mut self) {
        self.halt();
    }

    /// A stop whose apply thread is behind: the node is gone when it gets to entries that were handed over. Returns
    /// why the member ended, if it ended otherwise than by being told.
    pub(super) fn stop_behind(mut self, last: u64) -> Option<String> {
        let (sender, receiver) = queue::bounded(64);
        let mut handed = 0;
        while handed < last {
            let work = self.next_work();
            if let Apply::Entries(entries) = &work {
                handed = entries.last().map_or(handed, raftpb::Entry::index);
            }
            sender.send(work).unwrap();
        }
        drop(sender);
        self.member.watch.close();
        self.member.end_calls();
        if let Some(node) = self.node.take() {
            node.stop();
        }
        self.entries = receiver;
        self.set_free();
        if let Some(apply) = self.apply.take() {
            apply.join().unwrap();
        }
        self.watching.take().map(JoinHandle::join);
        let ending = self.member.ending.borrow().clone();
        ending.map(|ending| ending.to_string())
    }

    fn halt(&mut self) {
        let Some(node) = self.node.take() else {
            return;
        };
        self.member.watch.close();
        self.member.end_calls();
        node.stop();
        if let Some(apply) = self.apply.take() {
            apply.join().unwrap();
        }
        // As a kill: what is not committed is in the log.
        if let Some(applier) = self.applier.take() {
            applier.store.abandon();
        }
        self.watching.take().map(JoinHandle::join);
        let _ = self.unused.try_recv();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.halt();
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) applied: u64,
    pub(super) rev: i64,
    pub(super) compact_rev: i64,
    pub(super) hash_kv: u32,
    pub(super) hash: u32,
    pub(super) alarms: String,
    pub(super) cluster: Cluster,
}

/// Waits for something that other threads bring about.
pub(super) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::yield_now();
    }
}
