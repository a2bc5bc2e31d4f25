//! The apply thread: the only writer of MVCC, alarm, membership and meta state.
//!
//! It takes committed entries in order, in batches; writes their effects together with the
//! consistent index; lets readers see them; and only then answers those who wait.

mod cluster;
mod dispatch;
pub(crate) mod entry;
mod install;
pub(crate) mod proposal;
mod snapshot;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use crossbeam_channel::RecvTimeoutError;
use retcd_proto::raftpb;
use retcd_raft_node::Apply;
use retcd_raft_node::membership::Cluster;
use retcd_raft_node::queue::Receiver;
use retcd_storage::backend::{self, Bucket};
use retcd_storage::mvcc::{self, Compaction, Store};
use slog::info;

use crate::alarm::Alarms;
use crate::auth::{self, Auth};
use crate::disk::{Databases, TERM};
use crate::error::Error;
use crate::lease::Lessor;
use crate::loggable;
use crate::member::Member;
use crate::metrics::saturating;
use crate::schema::VersionError;
use crate::slow::Slow;
use crate::wait::{Outcome, Reply};

pub(crate) use snapshot::Snapshots;

use entry::Payload;
use install::InstallError;

/// Entries applied before readers see them and waiters are answered. More amortise the work of a
/// publication; fewer keep the first of them from waiting for the last.
const MAX_BATCH: usize = 1000;

/// How often a snapshot that is wanted at once looks whether the database is on disk by now.
const SNAPSHOT_LOOK: Duration = Duration::from_millis(20);

/// Why the apply thread cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fatal {
    #[error("{0}")]
    Store(#[from] mvcc::Error),
    #[error("{0}")]
    Backend(#[from] backend::Error),
    #[error(
        "entry {index} of the raft log cannot be applied: {reason}; restore this member from a snapshot or from its peers"
    )]
    Entry { index: u64, reason: String },
    #[error("{0}")]
    Auth(#[from] auth::Enabled),
    #[error("{0}")]
    Install(#[from] InstallError),
    #[error("{0}")]
    Version(#[from] VersionError),
    #[error("the raft node stopped")]
    NodeStopped,
}

/// How fast old revisions are removed after a compaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompactionPace {
    /// Keys looked at in one step.
    pub(crate) batch: usize,
    /// Rest between two steps.
    pub(crate) pause: Duration,
}

/// All state that only the apply thread may change.
pub(crate) struct Applier {
    pub(crate) member: Arc<Member>,
    pub(crate) store: Store,
    pub(crate) cluster: Cluster,
    pub(crate) alarms: Alarms,
    pub(crate) lessor: Lessor,
    pub(crate) auth: Auth,
    pub(crate) pace: CompactionPace,
    pub(crate) snapshots: Snapshots,
    /// Opens what the leader sends.
    pub(crate) databases: Databases,
    /// Index and term of the last applied entry.
    pub(crate) applied: (u64, u64),
    /// When the compaction under way began.
    pub(crate) compaction_started: Option<Instant>,
    /// The database's label is to be lowered once there is a snapshot at this index.
    pub(crate) lowering: Option<u64>,
}

impl Applier {
    /// Starts the thread; it ends when the raft node drops its end of the channel.
    pub(crate) fn spawn(
        mut self,
        entries: Receiver<Apply>,
    ) -> std::io::Result<thread::JoinHandle<()>> {
        let thread = thread::Builder::new()
            .name("apply".into())
            .stack_size(entry::STACK);
        thread.spawn(move || {
            let ended = match self.run(&entries) {
                // An ordinary stop, with work left that needs the node: a start finds it in the log. What was
                // applied before it counts.
                Err(Fatal::NodeStopped) => self.publish(),
                ended => ended,
            };
            if let Err(fatal) = ended {
                self.member.fail(fatal.to_string());
                return;
            }
            self.member.abandon();
            if let Err(error) = self.store.close() {
                self.member.fail(error.to_string());
            }
        })
    }

    fn run(&mut self, entries: &Receiver<Apply>) -> Result<(), Fatal> {
        self.store.record_changes();
        let mut compacting = true; // one may have been interrupted by the last stop
        let mut next_step = Instant::now();
        self.auth.begin(self.store.backend());
        if self.applied.0 > 0 {
            self.align_storage(self.applied.0)?;
            self.publish()?;
        }
        loop {
            let received = if compacting {
                entries.recv_deadline(next_step)
            } else if self.snapshots.is_forced() || self.lowering.is_some() {
                entries.recv_timeout(SNAPSHOT_LOOK)
            } else {
                entries.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match received {
                Ok(first) => {
                    if self.apply_batch(first, entries)? {
                        compacting = true;
                        self.compaction_started.get_or_insert_with(Instant::now);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if compacting && Instant::now() >= next_step {
                compacting = self.compaction_step()?;
                next_step = Instant::now() + self.pace.pause;
            }
            self.snapshot_if_due()?;
            if self.lowering.is_some() && self.align_storage(self.applied.0)? {
                self.publish()?;
            }
        }
    }

    /// Applies what is there, up to a batch; true if a compaction began.
    fn apply_batch(&mut self, first: Apply, more: &Receiver<Apply>) -> Result<bool, Fatal> {
        let mut replies = Vec::new();
        let mut compacting = false;
        let mut count = 0;
        let mut next = Some(first);
        let mut snapshot = None;
        while let Some(work) = next.take() {
            match work {
                Apply::Entries(batch) => {
                    count += batch.len();
                    for entry in batch {
                        compacting |= self.apply_entry(entry, &mut replies)?;
                    }
                    if count < MAX_BATCH {
                        next = more.try_recv().ok();
                    }
                }
                Apply::Snapshot(received) => snapshot = Some(received),
            }
        }
        if count > 0 {
            self.publish()?;
        }
        for (id, outcome) in replies {
            self.member.waiters.fire(id, outcome);
        }
        match snapshot {
            Some(snapshot) => self.install(&snapshot),
            None => Ok(compacting),
        }
    }

    /// Makes everything applied so far one atomic unit with its index, and visible.
    fn publish(&mut self) -> Result<(), Fatal> {
        let (index, term) = self.applied;
        let backend = self.store.backend();
        backend.put(
            Bucket::Meta,
            backend::CONSISTENT_INDEX,
            index.to_be_bytes().to_vec(),
        );
        backend.put(Bucket::Meta, TERM, term.to_be_bytes().to_vec());
        self.store.publish()?;
        let server = &self.member.metrics.server;
        server.auth_revision.set(saturating(self.auth.revision()));
        let changes = self.store.take_changes();
        self.member.watch.publish(changes, self.store.rev());
        self.member.set_applied(index);
        self.member.node().set_applied(index);
        Ok(())
    }

    fn apply_entry(
        &mut self,
        entry: raftpb::Entry,
        replies: &mut Vec<(u64, Outcome)>,
    ) -> Result<bool, Fatal> {
        let (index, term) = (entry.index(), entry.term());
        if index <= self.applied.0 {
            return Ok(false); // in the backend already
        }
        let started = Instant::now();
        let kind = entry.r#type();
        let data = entry.data.unwrap_or_default();
        let stored = data.clone();
        let mut op = None;
        let done = match kind {
            // A new leader confirms its term.
            raftpb::EntryType::EntryNormal if data.is_empty() => {
                self.member.leases.term_begun(term);
                self.member.term_began.notify_one();
                None
            }
            raftpb::EntryType::EntryNormal => self.apply_normal(index, data, &mut op)?,
            raftpb::EntryType::EntryConfChange => Some(self.apply_conf_change(index, data)?),
            raftpb::EntryType::EntryConfChangeV2 => {
                return Err(Fatal::Entry {
                    index,
                    reason: "it is a joint configuration change, which etcd never writes".into(),
                });
            }
        };
        self.applied = (index, term);
        let took = started.elapsed();
        if let Some((_, result)) = &done {
            let durations = &self.member.metrics.server.apply_duration;
            // As in etcd, to compact what is compacted is no failure.
            let success = matches!(result, Ok(_) | Err(Error::Compacted));
            durations.observe(op, success, took.as_secs_f64());
        }
        if took > self.member.limits.warning_apply {
            let outcome = done.as_ref().map(|(_, result)| result.as_ref());
            self.warn_of_slow(index, kind, stored, took, outcome);
        }
        let Some((id, result)) = done else {
            return Ok(false);
        };
        let compacting = matches!(result, Ok(Reply::Compacted(_)));
        replies.push((id, Outcome::Applied(result)));
        Ok(compacting)
    }

    /// Says which request kept all others waiting.
    fn warn_of_slow(
        &self,
        index: u64,
        kind: raftpb::EntryType,
        data: Bytes,
        took: Duration,
        outcome: Option<Result<&Reply, &Error>>,
    ) {
        let request = match (kind, entry::decode(data)) {
            (raftpb::EntryType::EntryNormal, Ok(Payload::Request(request))) => {
                loggable::logged(&request)
            }
            _ => format!("entry:<index:{index} type:{}>", kind.as_str_name()),
        };
        let error = match outcome {
            Some(Err(error)) => error.to_string(),
            _ => String::new(),
        };
        let response = match outcome {
            Some(Ok(reply)) => loggable::reply(reply),
            _ => String::new(),
        };
        self.member.warn_of_slow(&Slow {
            took,
            prefix: "",
            request,
            response,
            error,
        });
    }

    /// One bounded step of removing old revisions; true while there is more to do.
    fn compaction_step(&mut self) -> Result<bool, Fatal> {
        let started = Instant::now();
        let step = self.store.compaction_step(self.pace.batch)?;
        if matches!(step, Compaction::Idle | Compaction::Waiting) {
            return Ok(step == Compaction::Waiting);
        }
        self.store.publish()?;
        let mvcc = &self.member.metrics.mvcc;
        mvcc.compaction_keys.inc_by(self.store.take_compacted());
        mvcc.compaction_pause.observe(millis(started.elapsed()));
        if let Compaction::Finished(revision) = step {
            let took = self.compaction_started.take().unwrap_or(started).elapsed();
            mvcc.compaction_total.observe(millis(took));
            let unix = SystemTime::now().duration_since(UNIX_EPOCH);
            mvcc.compaction_last
                .set(saturating(unix.map_or(0, |unix| unix.as_secs())));
            self.member.compacted.send_replace(revision);
            info!(self.member.logger, "finished scheduled compaction";
                "compact-revision" => revision, "took" => ?took);
        }
        Ok(true) // after the last step another compaction may be queued
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
