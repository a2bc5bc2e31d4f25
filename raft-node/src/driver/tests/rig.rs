//! A member without a server: it applies entries by remembering them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;
use prost::Message as _;
use retcd_proto::raftpb;
use retcd_storage::clock::{Clock as _, SystemClock};
use retcd_storage::fs::Fs;

use crate::membership::Member;
use crate::{
    Apply, Config, DEFAULT_WAL_SEGMENT_SIZE, Error, Handle, NoPeers, Node, Observer, Opened, Start,
    open,
};

/// How long anything may take before a test gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Events {
    reads: Sender<(u64, u64)>,
    fatal: Sender<Error>,
    pub(super) dropped: Mutex<Vec<Bytes>>,
}

impl Observer for Events {
    fn read_state(&self, request: u64, index: u64) {
        self.reads.send((request, index)).unwrap();
    }

    fn proposal_dropped(&self, data: Bytes) {
        self.dropped.lock().push(data);
    }

    fn fatal(&self, error: Error) {
        self.fatal.send(error).unwrap();
    }
}

pub(super) fn member() -> Member {
    let peer_urls = vec!["http://127.0.0.1:2380".to_owned()];
    Member {
        id: crate::ids::member_id(&peer_urls, "etcd-cluster", None),
        peer_urls,
        name: "n1".to_owned(),
        ..Member::default()
    }
}

pub(super) fn new_member() -> Start {
    Start::New {
        cluster_id: crate::ids::cluster_id(&[member().id]),
        member_id: member().id,
        members: vec![member()],
    }
}

pub(super) fn restart(consistent_index: u64) -> Start {
    Start::Restart {
        consistent_index,
        conf_state: None,
    }
}

/// What a rig hears from its node.
pub(super) struct Ears {
    pub(super) events: Arc<Events>,
    pub(super) reads: Receiver<(u64, u64)>,
    pub(super) fatal: Receiver<Error>,
}

pub(super) fn config(fs: Arc<dyn Fs>, dir: &Path) -> (Config, Ears) {
    let (reads, reads_rx) = crossbeam_channel::unbounded();
    let (fatal, fatal_rx) = crossbeam_channel::unbounded();
    let events = Arc::new(Events {
        reads,
        fatal,
        dropped: Mutex::default(),
    });
    fs.create_dir_all(&dir.join("snap")).unwrap();
    let config = Config {
        fs,
        clock: Arc::new(SystemClock),
        wal_dir: dir.join("wal"),
        snap_dir: dir.join("snap"),
        tick: Duration::from_millis(100),
        election_ticks: 10,
        pre_vote: true,
        initial_election_tick_advance: true,
        snapshot_catchup_entries: 10,
        max_wals: 5,
        max_snapshots: 5,
        no_fsync: false,
        wal_segment_size: DEFAULT_WAL_SEGMENT_SIZE,
        wal_prepare: Default::default(),
        logger: slog::Logger::root(slog::Discard, slog::o!()),
        observer: events.clone(),
    };
    let ears = Ears {
        events,
        reads: reads_rx,
        fatal: fatal_rx,
    };
    (config, ears)
}

pub(super) struct Rig {
    pub(super) node: Option<Node>,
    pub(super) handle: Handle,
    pub(super) ears: Ears,
    apply: crate::queue::Receiver<Apply>,
    /// Payload of all applied normal entries that have any, in order.
    pub(super) applied: Vec<Bytes>,
    pub(super) index: u64,
    pub(super) conf_state: raftpb::ConfState,
}

impl Rig {
    pub(super) fn start(fs: Arc<dyn Fs>, dir: &Path, start: Start) -> Result<Rig, Error> {
        Rig::start_with(fs, dir, start, |_| {})
    }

    pub(super) fn start_with(
        fs: Arc<dyn Fs>,
        dir: &Path,
        start: Start,
        change: impl FnOnce(&mut Config),
    ) -> Result<Rig, Error> {
        let (mut config, ears) = config(fs, dir);
        change(&mut config);
        let applied = match &start {
            Start::New { .. } | Start::Join { .. } => 0,
            Start::Restart {
                consistent_index, ..
            } => *consistent_index,
        };
        let opened = open(&config, start)?;
        Rig::run(opened, config, ears, applied, 64)
    }

    pub(super) fn run(
        opened: Opened,
        config: Config,
        ears: Ears,
        applied: u64,
        room: usize,
    ) -> Result<Rig, Error> {
        let (apply, apply_rx) = crate::queue::bounded(room);
        let conf_state = opened.conf_state.clone();
        let node = opened.run(config, Arc::new(NoPeers), apply, applied)?;
        Ok(Rig {
            handle: node.handle().clone(),
            node: Some(node),
            ears,
            apply: apply_rx,
            applied: Vec::new(),
            index: applied,
            conf_state,
        })
    }

    /// Applies one batch; false when none came in time or none will come any more.
    pub(super) fn apply_some(&mut self, patience: Duration) -> bool {
        let Ok(batch) = self.apply.recv_timeout(patience) else {
            return false;
        };
        let Apply::Entries(entries) = batch else {
            panic!("nobody sent a snapshot");
        };
        for entry in entries {
            assert_eq!(entry.index(), self.index + 1, "entries follow each other");
            self.index = entry.index();
            if entry.r#type() == raftpb::EntryType::EntryConfChange {
                let cc = raftpb::ConfChange::decode(entry.data.unwrap()).unwrap();
                self.conf_state = self.handle.apply_conf_change(Some(cc)).unwrap();
            } else if let Some(data) = entry.data {
                self.applied.push(data);
            }
        }
        self.handle.set_applied(self.index);
        true
    }

    /// Applies until `done`.
    pub(super) fn apply_until(&mut self, mut done: impl FnMut(&Rig) -> bool) {
        let deadline = SystemClock.now() + PATIENCE;
        while !done(self) {
            let left = deadline.saturating_sub(SystemClock.now());
            assert!(
                self.apply_some(left),
                "gave up at index {}: {:?}",
                self.index,
                self.handle
            );
        }
    }

    pub(super) fn propose(&self, data: impl Into<Bytes>) {
        self.handle.propose(data.into()).unwrap();
    }

    /// Proposes and waits until it is applied.
    pub(super) fn put(&mut self, data: &str) {
        self.propose(data.to_owned());
        self.apply_until(|rig| rig.applied.last().is_some_and(|last| last == data));
    }

    pub(super) fn texts(&self) -> Vec<String> {
        self.applied
            .iter()
            .map(|b| String::from_utf8(b.to_vec()).unwrap())
            .collect()
    }

    pub(super) fn stop(mut self) {
        self.node.take().unwrap().stop();
    }
}

/// Waits for a condition that other threads bring about.
pub(super) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = SystemClock.now() + PATIENCE;
    while !condition() {
        assert!(SystemClock.now() < deadline, "{what} did not come true");
        std::thread::yield_now();
    }
}
