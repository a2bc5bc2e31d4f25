//! The owner of the log file: many writes, one sync.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;
use retcd_proto::{raftpb, walpb};
use retcd_storage::snapshot;
use retcd_storage::wal::Wal;

use super::Config;
use super::raft_thread::Report;
use crate::Error;

/// Payload that one sync carries at most, beyond its first write: others wait for that sync.
const MAX_GROUP_BYTES: usize = 16 * 1024 * 1024;

/// Work for the WAL, in the order in which it must reach the disk.
pub(super) enum Write {
    Append {
        /// To be reported when durable; `None` when nothing waits for it.
        number: Option<u64>,
        hard_state: Option<raftpb::HardState>,
        entries: Vec<raftpb::Entry>,
        /// A snapshot received from the leader, before the entries.
        snapshot: Option<Box<raftpb::Snapshot>>,
    },
    /// The file of a snapshot of this member's own state is durable. The hard state goes first:
    /// readers only believe in snapshots up to the commit index.
    SnapshotRecord {
        record: walpb::Snapshot,
        hard_state: raftpb::HardState,
    },
}

/// Writes under one sync.
#[derive(Default)]
struct Group {
    /// Highest number to be reported.
    persisted: Option<u64>,
    /// Indexes of snapshots whose record is among them.
    recorded: Vec<u64>,
    bytes: usize,
}

/// The log file, and whom to tell what is durable.
struct Log {
    wal: Wal,
    config: Arc<Config>,
    reports: Sender<Report>,
}

/// The way to the log file: through a queue to its thread, or directly while that has nothing to do.
#[derive(Clone)]
pub(super) struct Writes {
    log: Arc<Mutex<Log>>,
    queue: Sender<Write>,
    /// Queued and not reported yet.
    queued: Arc<AtomicUsize>,
}

impl Writes {
    /// Leaves a write to the thread.
    pub(super) fn queue(&self, write: Write) {
        self.queued.fetch_add(1, Ordering::AcqRel);
        // Fails only when the WAL thread ended, and its reason is among the reports.
        let _ = self.queue.send(write);
    }

    /// Makes a write durable before it returns, on the caller's thread, which saves two changes of
    /// threads; but not if it had to overtake others: then it is queued behind them.
    pub(super) fn now(&self, write: Write) {
        if self.queued.load(Ordering::Acquire) == 0 {
            let mut log = self.log.lock();
            if let Err(error) = log.group(write, || None) {
                log.failed(error);
            }
        } else {
            self.queue(write);
        }
    }
}

pub(super) struct WalThread {
    log: Arc<Mutex<Log>>,
    queue: Receiver<Write>,
    queued: Arc<AtomicUsize>,
}

impl WalThread {
    /// The thread's part, and the way to it with room for so many writes.
    pub(super) fn new(
        wal: Wal,
        config: Arc<Config>,
        room: usize,
        reports: Sender<Report>,
    ) -> (WalThread, Writes) {
        let (sender, queue) = crossbeam_channel::bounded(room);
        let log = Arc::new(Mutex::new(Log {
            wal,
            config,
            reports,
        }));
        let queued = Arc::new(AtomicUsize::new(0));
        let writes = Writes {
            log: log.clone(),
            queue: sender,
            queued: queued.clone(),
        };
        (WalThread { log, queue, queued }, writes)
    }

    /// Ends when the raft thread closes its end, or with the first error.
    pub(super) fn run(self) {
        while let Ok(first) = self.queue.recv() {
            let mut taken = 1;
            let mut log = self.log.lock();
            let done = log.group(first, || {
                let next = self.queue.try_recv().ok();
                taken += usize::from(next.is_some());
                next
            });
            if let Err(error) = done {
                log.failed(error);
                return;
            }
            self.queued.fetch_sub(taken, Ordering::AcqRel);
        }
    }
}

impl Log {
    /// The raft thread may be gone; then it does not need to know.
    fn failed(&self, error: Error) {
        let _ = self.reports.send(Report::Failed(error));
    }

    /// Appends `first` and all that `more` has, syncs once, and reports.
    fn group(
        &mut self,
        first: Write,
        mut more: impl FnMut() -> Option<Write>,
    ) -> Result<(), Error> {
        let mut group = Group::default();
        self.append(first, &mut group)?;
        while group.bytes < MAX_GROUP_BYTES
            && let Some(write) = more()
        {
            self.append(write, &mut group)?;
        }
        self.wal.flush()?;
        if let Some(number) = group.persisted {
            let _ = self.reports.send(Report::Persisted(number));
        }
        for index in group.recorded {
            self.wal.release_to(index)?;
            let _ = self.reports.send(Report::SnapshotRecorded(index));
        }
        Ok(())
    }

    fn append(&mut self, write: Write, group: &mut Group) -> Result<(), Error> {
        match write {
            Write::Append {
                number,
                hard_state,
                entries,
                snapshot,
            } => {
                if let Some(snapshot) = snapshot {
                    self.received(&snapshot)?;
                }
                self.wal.append(hard_state.as_ref(), &entries)?;
                group.persisted = number.or(group.persisted);
                group.bytes += entries
                    .iter()
                    .map(|e| e.data.as_ref().map_or(0, Bytes::len))
                    .sum::<usize>();
            }
            Write::SnapshotRecord { record, hard_state } => {
                self.wal.append(Some(&hard_state), &[])?;
                self.wal.append_snapshot(&record)?;
                group.recorded.push(record.index());
            }
        }
        Ok(())
    }

    /// First the file, then the record that refers to it, then what follows it (D5).
    fn received(&mut self, snapshot: &raftpb::Snapshot) -> Result<(), Error> {
        let Config {
            fs,
            clock,
            snap_dir,
            observer,
            ..
        } = &*self.config;
        let saved = snapshot::save_measured(&**fs, &**clock, snap_dir, snapshot)?;
        observer.snapshot_saved(&saved);
        let meta = snapshot.metadata.clone().unwrap_or_default();
        self.wal.append_snapshot(&walpb::Snapshot {
            index: Some(meta.index()),
            term: Some(meta.term()),
            conf_state: meta.conf_state,
        })?;
        Ok(())
    }
}
