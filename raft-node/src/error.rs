//! What can go wrong with a member's log.

use std::path::PathBuf;

use retcd_storage::{snapshot, wal};

use crate::core::StepError;

/// Why a member's log cannot be created, opened or written. Each of them ends the member: what is
/// on disk is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The write-ahead log.
    #[error(transparent)]
    Wal(#[from] wal::Error),
    /// A snapshot file.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// A directory or file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A log exists where a new member was to be created.
    #[error(
        "{} holds the log of member {member_id:x} of cluster {cluster_id:x} already; \
         start it as an existing member or choose another data directory",
        dir.display()
    )]
    Exists {
        /// The WAL directory.
        dir: PathBuf,
        /// Whose log it is.
        member_id: u64,
        /// Its cluster.
        cluster_id: u64,
    },
    /// The first start was interrupted before the member's first entries were durable. Nothing
    /// was ever acknowledged; creating the member again completes it.
    #[error(
        "{} was created but never got its first entries: the first start was interrupted; \
         start the member as a new one again",
        dir.display()
    )]
    Unfinished {
        /// The WAL directory.
        dir: PathBuf,
    },
    /// The metadata record does not name a member and a cluster.
    #[error("{}: the log's metadata does not name a member and a cluster", dir.display())]
    Metadata {
        /// The WAL directory.
        dir: PathBuf,
    },
    /// The database is older than the snapshot it claims to follow (D16).
    #[error(
        "database file ({} index {consistent_index}) does not match with snapshot \
         (index {snapshot_index}); restore the database or the whole member from a backup",
        path.display()
    )]
    DatabaseBehindSnapshot {
        /// The database.
        path: PathBuf,
        /// Last index applied to the database.
        consistent_index: u64,
        /// Index of the snapshot that the log starts from.
        snapshot_index: u64,
    },
    /// The database has applied entries that the log does not have.
    #[error(
        "{}: the log ends at index {last_index}, before index {consistent_index} which the \
         database has applied; log and database are not of one member, or unsynced writes were \
         lost; restore the member from a backup or add it to the cluster again",
        dir.display()
    )]
    LogBehindDatabase {
        /// The WAL directory.
        dir: PathBuf,
        /// Last entry of the log.
        last_index: u64,
        /// Last index applied to the database.
        consistent_index: u64,
    },
    /// The members of a new cluster make no sense.
    #[error("cannot create the cluster: {0}")]
    Members(String),
    /// The log contradicts itself.
    #[error("{}: the log cannot be used: {source}", dir.display())]
    Log {
        /// The WAL directory.
        dir: PathBuf,
        /// What is wrong.
        source: StepError,
    },
    /// A thread could not be started.
    #[error("cannot start thread {name}: {source}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread of the driver ended by a panic: a bug, or a log that contradicts itself.
    #[error("thread {name} ended by a panic; the member cannot go on")]
    Panicked {
        /// Its name.
        name: &'static str,
    },
}
