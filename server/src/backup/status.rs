//! What a saved snapshot, or any database file, holds.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use retcd_storage::backend::{self, Bucket};
use retcd_storage::fs::{File, Fs, OpenMode, RealFs};

use super::FileError;
use super::database::{Bolt, Engine, Tables};
use super::hash::{Totals, totals};
use super::head::{self, NotADatabase};
use crate::schema::STORAGE_VERSION;

/// How often a lock that another process holds is tried.
const RETRY: Duration = Duration::from_millis(50);

/// What [`status`] finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// CRC-32C over the names of all buckets, their keys and values.
    pub hash: u32,
    /// The newest revision.
    pub revision: i64,
    /// Keys that are not deleted.
    pub total_keys: usize,
    /// Bytes of the database.
    pub total_size: u64,
    /// The version of its layout, such as `3.7.0`; empty before 3.6.
    pub version: String,
}

/// Why a file has no [`Status`].
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process has it open for writing.
    #[error(
        "timeout: {path} is open in another process, probably a running member; save a snapshot of it with etcdctl and look at that"
    )]
    Locked {
        /// The file.
        path: String,
    },
    /// It is something else.
    #[error(
        "{reason}: {path} is not a database of etcd, or its first two pages are damaged; give a file that `etcdctl snapshot save` wrote, or a member's member/snap/db"
    )]
    NotADatabase {
        /// The file.
        path: String,
        /// In Go's words.
        reason: NotADatabase,
    },
    /// A page of it is damaged.
    #[error("snapshot file integrity check failed. 1 errors found.\n{0}")]
    Integrity(backend::Error),
    /// It cannot be read to its end.
    #[error(transparent)]
    Database(#[from] backend::Error),
    /// A key of the bucket `key` that no member has written.
    #[error(
        "error during bucket key iteration, name: \"key\" err: cannot parse revision key: \"{key}\"", key = .0.escape_ascii()
    )]
    RevisionKey(Bytes),
    /// A value of the bucket `key` that no member has written.
    #[error(
        "error during bucket key iteration, name: \"key\" err: cannot unmarshal the value of revision {revision}: {source}"
    )]
    Value {
        /// Its revision.
        revision: String,
        /// What the decoder says.
        source: prost::DecodeError,
    },
}

/// Whether there is a file, or anything else, of that name.
///
/// # Errors
/// Why not.
pub fn exists(path: &Path) -> Result<(), FileError> {
    std::fs::metadata(path)
        .map(drop)
        .map_err(FileError::on("stat", path))
}

/// Reads a whole database: a snapshot as it was saved, or a file that no member has open. Nothing is
/// changed. `patience` is how long it waits for a file that another process has locked; zero: for ever.
///
/// # Errors
/// See [`StatusError`].
pub fn status(path: &Path, patience: Duration) -> Result<Status, StatusError> {
    status_with(&RealFs, &Bolt, path, patience)
}

fn status_with(
    fs: &dyn Fs,
    engine: &dyn Engine,
    path: &Path,
    patience: Duration,
) -> Result<Status, StatusError> {
    let file = fs
        .open(path, OpenMode::Read)
        .map_err(FileError::on("open", path))?;
    wait_for_lock(&*file, path, patience)?;
    let found = match head::used(&*file) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => Err(NotADatabase::Magic),
        found => found.map_err(FileError::on("read", path))?,
    };
    let total_size = found.map_err(|reason| StatusError::NotADatabase {
        path: path.display().to_string(),
        reason,
    })?;
    let tables = engine.tables(fs, path)?;
    tables.check().map_err(StatusError::Integrity)?;
    let Totals {
        hash,
        revision,
        keys,
    } = totals(&*tables)?;
    Ok(Status {
        hash,
        revision,
        total_keys: keys,
        total_size,
        version: version(&*tables)?,
    })
}

/// A member writes its file under an exclusive lock; what is read meanwhile would not belong together.
/// A file system without locks has no member that holds one.
fn wait_for_lock(file: &dyn File, path: &Path, patience: Duration) -> Result<(), StatusError> {
    let begin = Instant::now();
    while matches!(file.try_lock(), Ok(false)) {
        if !patience.is_zero() && begin.elapsed() >= patience {
            return Err(StatusError::Locked {
                path: path.display().to_string(),
            });
        }
        // Nothing tells when a lock is released.
        std::thread::sleep(RETRY);
    }
    Ok(())
}

/// The stored version if it is one: three numbers, and perhaps something behind them.
fn version(tables: &dyn Tables) -> Result<String, StatusError> {
    let stored = tables.get(Bucket::Meta.name().as_bytes(), STORAGE_VERSION)?;
    let text = stored.and_then(|bytes| String::from_utf8(bytes.into()).ok());
    Ok(text.filter(|text| is_version(text)).unwrap_or_default())
}

fn is_version(text: &str) -> bool {
    let numbers = text.split(['-', '+']).next().unwrap_or_default();
    let mut parts = numbers.split('.');
    let mut number = || {
        parts
            .next()
            .is_some_and(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    number() && number() && number() && parts.next().is_none()
}
