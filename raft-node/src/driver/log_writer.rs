//! What is written to the log, in which order, and what is durable after its sync.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use retcd_proto::{raftpb, walpb};
use retcd_storage::clock::Clock;
use retcd_storage::failpoint::failpoint;
use retcd_storage::fs::Fs;
use retcd_storage::snapshot;
use retcd_storage::wal::Wal;

use super::{Config, Observer};
use crate::Error;

/// Work for the WAL, in the order in which it must reach the disk.
#[derive(Debug, Clone)]
pub enum Write {
    /// Entries and a hard state.
    Append {
        /// To be reported when durable; `None` when nothing waits for it.
        number: Option<u64>,
        /// Behind the entries.
        hard_state: Option<raftpb::HardState>,
        /// May replace earlier ones.
        entries: Vec<raftpb::Entry>,
        /// A snapshot received from the leader, before the entries. Its database is durable.
        snapshot: Option<Box<raftpb::Snapshot>>,
    },
    /// The file of a snapshot of this member's own state is durable. The hard state goes first:
    /// readers only believe in snapshots up to the commit index.
    SnapshotRecord {
        /// Its record.
        record: walpb::Snapshot,
        /// Covers it.
        hard_state: raftpb::HardState,
    },
}

/// What became durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Writes up to this number.
    Persisted(u64),
    /// The file of this snapshot.
    SnapshotSaved(walpb::Snapshot),
    /// A snapshot's record.
    SnapshotRecorded(u64),
}

/// Writes under one sync.
#[derive(Debug, Default)]
pub struct Group {
    /// Highest number to be reported.
    persisted: Option<u64>,
    /// Indexes of snapshots whose record is among them.
    recorded: Vec<u64>,
    bytes: usize,
}

impl Group {
    /// Payload.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The log file and the snapshot files that its records name.
pub struct LogWriter {
    wal: Wal,
    fs: Arc<dyn Fs>,
    snap_dir: PathBuf,
    clock: Arc<dyn Clock>,
    /// Told how long the files of snapshots took.
    observer: Arc<dyn Observer>,
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter")
            .field("wal", &self.wal)
            .field("snap_dir", &self.snap_dir)
            .finish_non_exhaustive()
    }
}

impl LogWriter {
    /// For a log that is open.
    pub(super) fn new(wal: Wal, config: &Config) -> LogWriter {
        LogWriter {
            wal,
            fs: config.fs.clone(),
            snap_dir: config.snap_dir.clone(),
            clock: config.clock.clone(),
            observer: config.observer.clone(),
        }
    }

    /// Adds a write to a group, all of which [`LogWriter::flush`] makes durable.
    ///
    /// # Errors
    /// Final: the member must stop.
    pub fn append(&mut self, write: Write, group: &mut Group) -> Result<(), Error> {
        match write {
            Write::Append {
                number,
                hard_state,
                entries,
                snapshot,
            } => {
                if let Some(snapshot) = snapshot {
                    let hard_state = hard_state.unwrap_or_default();
                    group.recorded.push(self.received(&snapshot, hard_state)?);
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

    /// First the file, then the record that refers to it, then a hard state that covers the record
    /// and nothing else, then what follows (D5). So a write that is torn anywhere in between leaves
    /// either the log as it was, whose records of this snapshot nobody believes, or one that begins
    /// at the snapshot: never a commit index or an entry behind a gap.
    fn received(
        &mut self,
        snapshot: &raftpb::Snapshot,
        hard_state: raftpb::HardState,
    ) -> Result<u64, Error> {
        let (fs, clock) = (&*self.fs, &*self.clock);
        let saved = snapshot::save_measured(fs, clock, &self.snap_dir, snapshot)?;
        self.observer.snapshot_saved(&saved);
        failpoint("snapshot-install:file-saved");
        let meta = snapshot.metadata.clone().unwrap_or_default();
        let index = meta.index();
        self.wal.append_snapshot(&walpb::Snapshot {
            index: Some(index),
            term: Some(meta.term()),
            conf_state: meta.conf_state,
        })?;
        let covers = raftpb::HardState {
            commit: Some(index),
            ..hard_state
        };
        self.wal.append(Some(&covers), &[])?;
        Ok(index)
    }

    /// Makes a group durable and returns what to report, in order.
    ///
    /// # Errors
    /// Final: the member must stop.
    pub fn flush(&mut self, group: Group) -> Result<Vec<Report>, Error> {
        self.wal.flush()?;
        let mut reports: Vec<Report> = group.persisted.map(Report::Persisted).into_iter().collect();
        if !group.recorded.is_empty() {
            failpoint("snapshot-install:recorded");
        }
        for index in group.recorded {
            self.wal.release_to(index)?;
            reports.push(Report::SnapshotRecorded(index));
        }
        Ok(reports)
    }
}

/// Writes the file of a snapshot of the member's own state; its record is the next step.
///
/// # Errors
/// Final: the member must stop.
pub fn save_file(
    fs: &dyn Fs,
    snap_dir: &std::path::Path,
    snapshot: &raftpb::Snapshot,
) -> Result<(PathBuf, Report), Error> {
    let path = snapshot::save(fs, snap_dir, snapshot)?;
    Ok((path, Report::SnapshotSaved(record(snapshot))))
}

/// The record in the log of a snapshot's file.
pub(super) fn record(snapshot: &raftpb::Snapshot) -> walpb::Snapshot {
    let meta = snapshot.metadata.clone().unwrap_or_default();
    walpb::Snapshot {
        index: Some(meta.index()),
        term: Some(meta.term()),
        conf_state: meta.conf_state,
    }
}
