//! Runs a [`Core`](crate::core::Core): a raft thread that owns it, a WAL thread that makes its
//! writes durable in groups, and a thread for snapshot files and purging.
//!
//! ```text
//!  Handle ── proposals ──▶ ┌──────┐ ── writes ──▶ ┌─────┐
//!         ── control ────▶ │ raft │               │ WAL │
//!         (reports) ─────▶ └──────┘ ◀─ persisted ─└─────┘
//!                            │  └── jobs ──▶ snapshot files, purge
//!                            └───── Apply ──▶ the server's apply thread
//! ```
//!
//! Nobody waits in a circle: the raft thread blocks on nothing but its inputs. When the apply
//! channel is full it keeps what is committed and goes on ticking; while too much is under way it
//! leaves proposals in their queue, whose end callers see as [`ProposeError::Full`].

mod handle;
mod heartbeats;
mod log_writer;
mod machine;
mod raft_thread;
mod snapshot_thread;
mod status;
#[cfg(test)]
mod tests;
mod wal_thread;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use retcd_proto::raftpb;
use retcd_storage::clock::Clock;
use retcd_storage::fs::Fs;
use retcd_storage::{snapshot, wal};

use crate::Error;
use crate::bootstrap::Opened;
use crate::core::Core;
use crate::queue::{self, Bell};

pub use handle::{ConfChangeError, Handle, ProposeError, Stopped};
pub use log_writer::{Group, LogWriter, Report, Write, save_file};
pub use machine::{Machine, Ports};
pub use status::{Progress, Status};

/// How a member's log is kept and how its raft node behaves.
#[derive(Clone)]
pub struct Config {
    /// The door to files.
    pub fs: Arc<dyn Fs>,
    /// The door to time.
    pub clock: Arc<dyn Clock>,
    /// Directory of the write-ahead log.
    pub wal_dir: PathBuf,
    /// Directory of the snapshot files.
    pub snap_dir: PathBuf,
    /// Heartbeat interval.
    pub tick: Duration,
    /// Election timeout in ticks, at least 2.
    pub election_ticks: usize,
    /// Ask for votes before raising the term.
    pub pre_vote: bool,
    /// Shorten the wait for the first election once peers are seen. A lone voter elects itself at
    /// once in any case, so this has no effect on it.
    pub initial_election_tick_advance: bool,
    /// Entries kept in memory behind a snapshot, for peers that lag.
    pub snapshot_catchup_entries: u64,
    /// WAL segments kept, 0: all.
    pub max_wals: usize,
    /// Snapshot files kept, 0: all.
    pub max_snapshots: usize,
    /// Skip every sync. Acknowledged writes are lost with the machine.
    pub no_fsync: bool,
    /// Size of a WAL segment in bytes, [`DEFAULT_WAL_SEGMENT_SIZE`].
    pub wal_segment_size: u64,
    /// Where the next WAL segment is prepared; in the background unless a run must repeat exactly.
    pub wal_prepare: wal::Prepare,
    /// For what the node has to say.
    pub logger: slog::Logger,
    /// Is told what happens.
    pub observer: Arc<dyn Observer>,
}

/// etcd's size of a WAL segment.
pub const DEFAULT_WAL_SEGMENT_SIZE: u64 = 64 * 1000 * 1000;

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("wal_dir", &self.wal_dir)
            .field("snap_dir", &self.snap_dir)
            .field("tick", &self.tick)
            .field("election_ticks", &self.election_ticks)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Options for the WAL; durations go to the observer.
    pub(crate) fn wal_options(&self) -> wal::Options {
        let observer = self.observer.clone();
        wal::Options {
            segment_size: self.wal_segment_size,
            no_fsync: self.no_fsync,
            prepare: self.wal_prepare,
            observe: Some(Arc::new(move |seen| match seen {
                wal::Observed::Fsync(took) => observer.wal_fsync(took),
                wal::Observed::Write(took, bytes) => observer.wal_write(took, bytes as u64),
                wal::Observed::NoSpace(text) => observer.no_space(text),
                _ => {}
            })),
            clock: self.clock.clone(),
        }
    }
}

/// Committed work, in the order of the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Apply {
    /// Contiguous entries. For each `EntryConfChange` among them
    /// [`Handle::apply_conf_change`] must be called once, in order.
    Entries(Vec<raftpb::Entry>),
    /// The state as of a snapshot replaces everything; entries after it follow.
    Snapshot(raftpb::Snapshot),
}

/// Takes messages to other members. Must not block: what cannot be sent is dropped.
pub trait Transport: Send + Sync {
    /// `to` of each message says for whom it is.
    fn send(&self, messages: Vec<raftpb::Message>);
}

/// The transport of a member without peers.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPeers;

impl Transport for NoPeers {
    fn send(&self, _messages: Vec<raftpb::Message>) {}
}

/// Is told what happens, on the node's own threads: must not block.
pub trait Observer: Send + Sync {
    /// Reads that were asked for with `request` may run once `index` is applied.
    fn read_state(&self, request: u64, index: u64) {
        let _ = (request, index);
    }

    /// Leader (0: nobody), term or own part changed.
    fn leader_changed(&self, leader: u64, term: u64, is_leader: bool) {
        let _ = (leader, term, is_leader);
    }

    /// A proposal will not be appended: nobody leads, or the leader takes nothing now.
    fn proposal_dropped(&self, data: Bytes) {
        let _ = data;
    }

    /// The node has stopped and cannot go on. Nothing that was not durable was acknowledged.
    fn fatal(&self, error: Error);

    /// A sync of the WAL took this long.
    fn wal_fsync(&self, took: Duration) {
        let _ = took;
    }

    /// A conf change will not be appended: nobody leads, or the leader takes nothing now.
    fn conf_change_dropped(&self, cc: raftpb::ConfChange) {
        let _ = cc;
    }

    /// The disk has no room for the next WAL segment. The current one grows on, so writes go on
    /// for a while; it is time to raise an alarm.
    fn no_space(&self, text: String) {
        let _ = text;
    }

    /// A snapshot file was written; says how long its parts took.
    fn snapshot_saved(&self, saved: &snapshot::Saved) {
        let _ = saved;
    }

    /// This leader sent a heartbeat later than it should: more than two intervals after the one before, by so much.
    fn heartbeat_late(&self, to: u64, interval: Duration, exceeded: Duration) {
        let _ = (to, interval, exceeded);
    }

    /// A write to the WAL took this long, before its sync.
    fn wal_write(&self, took: Duration, bytes: u64) {
        let _ = (took, bytes);
    }
}

/// Writes under way to the WAL thread. With as many, proposals wait in their queue.
const MAX_WRITES: usize = 64;
/// The WAL thread's queue: writes, and a few records for snapshots.
const WRITE_QUEUE: usize = MAX_WRITES + 1024;
/// Proposals waiting for the raft thread; beyond it, callers get `Full`.
const PROPOSAL_QUEUE: usize = 16 * 1024;
/// Their bytes; beyond it, callers get `Full`. One proposal always fits.
const PROPOSAL_QUEUE_BYTES: usize = 128 * 1024 * 1024;
/// One of them; far above any request limit, and below what the WAL takes.
const MAX_PROPOSAL_BYTES: usize = 256 * 1024 * 1024;
/// Everything else for the raft thread. When it is full, messages from peers are dropped, as a
/// network would, and the member's own requests wait.
const CONTROL_QUEUE: usize = 4096;
/// Snapshots waiting to be saved. One more is skipped: a later one takes its place.
const SNAPSHOT_QUEUE: usize = 2;

/// A running node. Dropping it stops it.
#[derive(Debug)]
pub struct Node {
    handle: Handle,
    threads: Vec<JoinHandle<()>>,
}

impl Node {
    /// To talk to the node; cheap to clone.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Stops taking input, makes durable what was appended, and waits until all threads ended.
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.handle.stop();
        for thread in self.threads.drain(..) {
            // An observer may drop the node from one of its threads.
            if thread.thread().id() != std::thread::current().id() {
                // A panic was reported by the thread's own guard.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.join();
    }
}

impl Opened {
    /// Starts the node's threads. Entries after `applied` come through `apply` as they are
    /// committed; `applied` is what the database has, as given to [`open`](crate::open).
    ///
    /// A lone voter elects itself at once instead of waiting for an election timeout, which etcd
    /// shortens to one tick.
    ///
    /// # Errors
    /// A log that contradicts itself or `applied`; a thread that cannot be started.
    pub fn run(
        self,
        config: Config,
        transport: Arc<dyn Transport>,
        apply: queue::Sender<Apply>,
        applied: u64,
    ) -> Result<Node, Error> {
        let snapshot = self.snapshot.0;
        let member_id = self.member_id;
        let (machine, writer) = self.into_machine(&config, applied)?;

        let bell: Arc<Bell> = Arc::default();
        apply.ring_when_taken(bell.clone());
        let (proposals, proposals_rx) =
            queue::with_bell(crossbeam_channel::bounded(PROPOSAL_QUEUE), bell.clone());
        let (control, control_rx) =
            queue::with_bell(crossbeam_channel::bounded(CONTROL_QUEUE), bell.clone());
        // At most one report for each write and each snapshot, and those are bounded: a sender
        // that could block here might wait for a raft thread that waits for it.
        let (reports, reports_rx) = queue::with_bell(crossbeam_channel::unbounded(), bell.clone());
        let (jobs, jobs_rx) = crossbeam_channel::bounded(SNAPSHOT_QUEUE);

        let handle = Handle::new(proposals, control, member_id, applied);
        let shared = handle.shared().clone();
        shared.set_snapshot(snapshot);
        let config = Arc::new(config);
        let mut node = Node {
            handle,
            threads: Vec::new(),
        };
        let (wal_thread, writes) = wal_thread::WalThread::new(writer, WRITE_QUEUE, reports.clone());
        let snapshot_thread = snapshot_thread::SnapshotThread::new(
            config.clone(),
            shared.clone(),
            jobs_rx,
            reports,
            writes.locked(),
        );
        let outlets = raft_thread::Outlets {
            config: config.clone(),
            shared: shared.clone(),
            writes,
            jobs,
            apply,
            abandoned: false,
            transport,
            heartbeats: heartbeats::Heartbeats::new(config.tick),
        };
        let raft_thread = raft_thread::RaftThread::new(
            machine,
            config.clone(),
            shared,
            raft_thread::Channels {
                proposals: proposals_rx,
                control: control_rx,
                reports: reports_rx,
                bell,
                outlets,
            },
        );
        node.spawn(&config, "wal", move || wal_thread.run())?;
        node.spawn(&config, "snapshots", move || snapshot_thread.run())?;
        node.spawn(&config, "raft", move || raft_thread.run())?;
        Ok(node)
    }
}

impl Opened {
    /// The core and its log, ready to be driven: by the threads of [`Opened::run`], or by a
    /// simulation.
    ///
    /// # Errors
    /// A log that contradicts itself or `applied`.
    pub fn into_machine(
        self,
        config: &Config,
        applied: u64,
    ) -> Result<(Machine, LogWriter), Error> {
        let hard_state = self.hard_state;
        let (core_config, initial, wal) = self.into_core(config, applied);
        let core =
            Core::new(&core_config, initial, &config.logger).map_err(|source| Error::Log {
                dir: config.wal_dir.clone(),
                source,
            })?;
        let machine = Machine::new(core, hard_state, config.logger.clone());
        let writer = LogWriter::new(wal, config);
        Ok((machine, writer))
    }
}

impl Node {
    fn spawn(
        &mut self,
        config: &Arc<Config>,
        name: &'static str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), Error> {
        let observer = config.observer.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _guard = PanicGuard { name, observer };
                run();
            })
            .map_err(|source| Error::Thread { name, source })?;
        self.threads.push(thread);
        Ok(())
    }
}

/// A member whose raft or WAL thread is gone must not look alive.
struct PanicGuard {
    name: &'static str,
    observer: Arc<dyn Observer>,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.observer.fatal(Error::Panicked { name: self.name });
        }
    }
}
