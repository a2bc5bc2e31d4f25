//! The owner of the log file: many writes, one sync.

use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
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

pub(super) struct WalThread {
    wal: Wal,
    config: Arc<Config>,
    writes: Receiver<Write>,
    reports: Sender<Report>,
}

impl WalThread {
    pub(super) fn new(
        wal: Wal,
        config: Arc<Config>,
        writes: Receiver<Write>,
        reports: Sender<Report>,
    ) -> WalThread {
        WalThread {
            wal,
            config,
            writes,
            reports,
        }
    }

    /// Ends when the raft thread closes its end, or with the first error.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.writes.recv() {
            if let Err(e) = self.group(first) {
                // The raft thread may be gone; then it does not need to know.
                let _ = self.reports.send(Report::Failed(e));
                return;
            }
        }
    }

    /// Appends `first` and all that is queued, syncs once, and reports.
    fn group(&mut self, first: Write) -> Result<(), Error> {
        let mut group = Group::default();
        self.append(first, &mut group)?;
        while group.bytes < MAX_GROUP_BYTES
            && let Ok(write) = self.writes.try_recv()
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
        snapshot::save(&*self.config.fs, &self.config.snap_dir, snapshot)?;
        let meta = snapshot.metadata.clone().unwrap_or_default();
        self.wal.append_snapshot(&walpb::Snapshot {
            index: Some(meta.index()),
            term: Some(meta.term()),
            conf_state: meta.conf_state,
        })?;
        Ok(())
    }
}
