//! What can go wrong in the store.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use crate::backend::{self, Bucket};

/// An error of the store. Of these only the first three are answers to a request; the others mean that
/// the member has to stop.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The revision asked for is older than the compacted one, or a compaction was asked for at or below it.
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    /// The revision asked for is newer than the current one.
    #[error("mvcc: required revision is a future revision")]
    FutureRev,
    /// A compaction passed the view; a fresh view answers.
    #[error("mvcc: a compaction has passed this view; take a fresh one")]
    Stale,
    /// The backend holds something that no member wrote.
    #[error(
        "mvcc: bucket {}, key {key}: {problem}; the database is damaged: restore this member from a snapshot, or remove it from the cluster and add it anew with an empty data directory",
        bucket.name()
    )]
    Corrupt {
        /// Where.
        bucket: Bucket,
        /// The record's key as text, escaped where it is not printable; of a revision `main.sub`.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is no revision left to give out.
    #[error(
        "mvcc: revision {} is the last one there is; nothing more can be written",
        i64::MAX
    )]
    Exhausted,
    /// The thread that computes a compaction's hash could not be started.
    #[error("mvcc: cannot start the hash thread: {0}")]
    Thread(Arc<io::Error>),
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] backend::Error),
}

impl Error {
    /// A corrupt record under a raw key.
    pub(crate) fn corrupt(bucket: Bucket, key: &[u8], problem: &'static str) -> Error {
        let key = match super::Revision::from_key(key) {
            Some((revision, _)) => revision.to_string(),
            None if key.iter().all(u8::is_ascii_graphic) && !key.is_empty() => {
                key.escape_ascii().to_string()
            }
            None => key.iter().fold(String::from("0x"), |mut hex, byte| {
                // Writing to a string does not fail.
                _ = write!(hex, "{byte:02x}");
                hex
            }),
        };
        Error::Corrupt {
            bucket,
            key,
            problem,
        }
    }
}
