//! Backup and recovery: what a saved snapshot holds, and a data directory made from one.
//!
//! Source: etcd's `etcdutl snapshot`; disk-format 9.

mod cluster;
mod copy;
mod database;
mod hash;
mod head;
mod place;
mod restore;
mod rewrite;
mod status;
#[cfg(test)]
mod tests;

pub use head::NotADatabase;
pub use restore::{Bump, RestoreError, RestoreOptions, Restored, restore};
pub use status::{Status, StatusError, exists, status};

use std::io;
use std::path::{Path, PathBuf};

use crate::log::reason;

/// A call on a file that failed, in Go's words: `open snap.db: no such file or directory`.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {reason}", path = path.display(), reason = reason(source))]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self {
            action,
            path,
            source,
        }
    }

    /// What the system said.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}
