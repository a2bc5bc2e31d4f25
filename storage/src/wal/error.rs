//! What can go wrong with the log, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

const RESTORE: &str = "nothing was changed on disk; restore the member from a snapshot, or remove it from the cluster and add it again with an empty data directory";

/// An error of the write-ahead log. Parts of the texts are etcd's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call to the file system failed.
    #[error("wal: cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },

    /// The disk is full.
    #[error(
        "wal: cannot {action} {}: no space left on device; free space on the file system that holds it, then start the member again",
        path.display()
    )]
    NoSpace {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
    },

    /// An earlier write or sync failed, so it is unknown what is on disk.
    #[error("wal: the log was closed by an earlier failure ({first}); the member must restart")]
    Poisoned {
        /// The text of the first error.
        first: String,
    },

    /// Another log or a foreign file is where a new log should be.
    #[error("wal: {} exists already; refusing to create a new log there", path.display())]
    Exists {
        /// What is in the way.
        path: PathBuf,
    },

    /// Somebody else holds a segment.
    #[error(
        "wal: {} is locked by another process; stop the other member that uses this data directory",
        path.display()
    )]
    Locked {
        /// The locked segment.
        path: PathBuf,
    },

    /// A segment is damaged and it is not the unfinished end of the log.
    #[error("wal: {} is damaged at offset {offset}: {what}; {RESTORE}", path.display())]
    Corrupt {
        /// The damaged segment.
        path: PathBuf,
        /// Where the damaged record begins, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
    },

    /// No segment begins at or below the snapshot.
    #[error("wal: file not found which matches the snapshot index '{index}' in {}; {RESTORE}", dir.display())]
    FileNotFound {
        /// The log's directory.
        dir: PathBuf,
        /// Index of the snapshot to start from.
        index: u64,
    },

    /// A segment between others is missing.
    #[error(
        "wal: file sequence numbers (starting from {start}) do not increase continuously: {} is followed by {after}; put the missing segment back into {}; nothing was changed on disk",
        before, dir.display()
    )]
    Sequence {
        /// The log's directory.
        dir: PathBuf,
        /// Sequence number of the first segment looked at.
        start: u64,
        /// The name before the gap.
        before: String,
        /// The name behind the gap.
        after: String,
    },

    /// Entries between the snapshot and the first entry of the log are missing.
    #[error(
        "wal: slice bounds out of range, snapshot[Index: {snapshot_index}, Term: {snapshot_term}], current entry[Index: {index}, Term: {term}], len(ents): {len}; {RESTORE}"
    )]
    SliceOutOfRange {
        /// Index of the snapshot the log was read from.
        snapshot_index: u64,
        /// Its term.
        snapshot_term: u64,
        /// Index of the entry that does not fit.
        index: u64,
        /// Its term.
        term: u64,
        /// Number of entries before it.
        len: usize,
    },

    /// The log has the snapshot's index with another term.
    #[error(
        "wal: snapshot mismatch: the log has index {index} with term {found}, asked for was term {wanted}; {RESTORE}"
    )]
    SnapshotMismatch {
        /// Index of the snapshot.
        index: u64,
        /// Term in the log.
        found: u64,
        /// Term asked for.
        wanted: u64,
    },

    /// The log has no record of the snapshot.
    #[error("wal: snapshot not found: no record of index {index}, term {term} in {}", dir.display())]
    SnapshotNotFound {
        /// The log's directory.
        dir: PathBuf,
        /// Index asked for.
        index: u64,
        /// Term asked for.
        term: u64,
    },

    /// An entry is longer than any reader accepts. The log is unchanged and stays usable.
    #[error("wal: entry {index} has {len} bytes, more than {max}; send smaller requests")]
    TooLarge {
        /// Index of the entry.
        index: u64,
        /// Its size in bytes.
        len: u64,
        /// The limit.
        max: u64,
    },

    /// An entry does not follow the last one. The log is unchanged and stays usable.
    #[error("wal: entry {index} cannot follow entry {last}")]
    Gap {
        /// Index of the refused entry.
        index: u64,
        /// Highest index that may precede it.
        last: u64,
    },
}

impl Error {
    /// For `map_err`: names the action and the path.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { action, path }
            }
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }

    pub(super) fn corrupt(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            offset,
            what: what.into(),
        }
    }
}
