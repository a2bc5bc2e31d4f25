//! What can go wrong in a backend.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A backend error. Cheap to clone, because a failed commit is remembered and returned ever after.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("backend: cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as in "cannot …".
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// Another process has the database open.
    #[error("backend: {} is in use by another process; stop it, or choose another data directory", path.display())]
    Locked {
        /// The directory or file.
        path: PathBuf,
    },
    /// The database cannot be read.
    #[error("backend: {} is damaged or not a database of this engine: {detail}; restore the member from a snapshot, or remove it from the cluster and add it anew", path.display())]
    Corrupt {
        /// The directory or file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A key or value outside of what the format can hold.
    #[error(
        "backend: bucket {bucket} cannot store a key of {key_len} bytes with a value of {value_len} bytes; keys have 1 to 32768 bytes, values less than 2 GiB"
    )]
    Unstorable {
        /// Name of the bucket.
        bucket: &'static str,
        /// Bytes of the key.
        key_len: usize,
        /// Bytes of the value.
        value_len: usize,
    },
    /// The engine has another format than etcd's `db` file.
    #[error(
        "backend: the {engine} engine cannot write a copy in etcd's database format; choose the default engine if snapshots are needed"
    )]
    CopyUnsupported {
        /// Its name.
        engine: &'static str,
    },
    /// The flusher thread could not be started.
    #[error("backend: cannot start the flusher thread: {0}")]
    Thread(Arc<io::Error>),
    /// The engine panicked during a commit; what reached the disk is unknown.
    #[error(
        "backend: the engine panicked during a commit; restart the member, its log holds what is missing"
    )]
    Panicked,
    /// The writer is gone, nothing can be made durable any more.
    #[error("backend: closed")]
    Closed,
}

impl Error {
    /// For `map_err`: an I/O error with the file it came from.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = path.to_owned();
        move |e| Error::Io {
            action,
            path,
            source: Arc::new(e),
        }
    }
}
