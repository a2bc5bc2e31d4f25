//! Snapshot files: raft's idea of a snapshot, one file each, in etcd's format.
//!
//! With a leader's snapshot comes a whole database, `<index>.snap.db`: [`receive`] stores it, a start
//! makes it the member's with [`install`].
//!
//! Source: etcd `server/etcdserver/api/snap/`.

mod receive;
mod swap;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use prost::Message as _;
use retcd_proto::{raftpb, snappb, walpb};

pub use self::receive::{Received, receive, received_path};
pub use self::swap::{install, place, release, remove_leftovers};
use crate::backend;
use crate::clock::{Clock, SystemClock};
use crate::fs::{Fs, OpenMode, durable_rename, read_all};

const SUFFIX: &str = ".snap";
/// A backend that came with a leader's snapshot.
const DB_SUFFIX: &str = ".snap.db";
/// How names of files begin that are being written. A start removes them, as etcd's does.
const TEMPORARY: &str = "tmp";

/// An error of a snapshot file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call to the file system failed.
    #[error("snap: cannot {action} {}: {source}", path.display())]
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
        "snap: cannot {action} {}: no space left on device; free space on the file system that holds it",
        path.display()
    )]
    NoSpace {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
    },

    /// The file holds nothing.
    #[error("snap: empty snapshot: {}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },

    /// The file's contents are not what was written.
    #[error("snap: crc mismatch: {} has {found:08x}, recorded is {recorded:08x}", path.display())]
    Crc {
        /// The file.
        path: PathBuf,
        /// Checksum of the contents.
        found: u32,
        /// Checksum in the file.
        recorded: u32,
    },

    /// The file is no snapshot.
    #[error("snap: {} is no snapshot file: {source}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        source: prost::DecodeError,
    },

    /// A database that came with a snapshot broke off.
    #[error(
        "snap: the database broke off after {received} bytes: {source}; nothing was kept, its sender will try again"
    )]
    Body {
        /// Bytes that came.
        received: u64,
        /// What the connection says.
        source: io::Error,
    },

    /// A database that came with a snapshot has not the announced length.
    #[error(
        "snap: a database of {announced} bytes was announced, and {received} bytes came; nothing was kept, its sender will try again"
    )]
    Length {
        /// Bytes announced.
        announced: u64,
        /// Bytes that came, at least.
        received: u64,
    },

    /// A database that came with a snapshot is cut short or damaged.
    #[error("snap: the database that came with the snapshot cannot be used: {0}")]
    Database(#[from] backend::Error),

    /// A database that came with a snapshot lacks entries that the snapshot stands for.
    #[error(
        "snap: {} stands at index {found}, below the snapshot's {index}: entries would be lost; remove this member from the cluster and add it anew",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// The consistent index in it.
        found: u64,
        /// The index of the snapshot.
        index: u64,
    },

    /// A database that came with a snapshot has entries that the snapshot does not stand for.
    #[error(
        "snap: the database that came with the snapshot at index {index} stands at index {found}: entries between them would be applied twice; nothing was kept, its sender will try again"
    )]
    Newer {
        /// The consistent index in it.
        found: u64,
        /// The index of the snapshot.
        index: u64,
    },

    /// A database that is being received would fill the disk.
    #[error(
        "snap: the database of the snapshot at index {index} was refused after {received} bytes: only {available} bytes are left on the file system of {}, which the log needs; free space there",
        dir.display()
    )]
    TooLarge {
        /// The index of the snapshot.
        index: u64,
        /// Bytes that came.
        received: u64,
        /// Bytes that are free.
        available: u64,
        /// Where it would be.
        dir: PathBuf,
    },

    /// The database that came with a snapshot is not there.
    #[error(
        "snap: snapshot file doesn't exist: {} is needed, because the database is older than the newest snapshot; restore the file, or remove this member from the cluster and add it anew",
        path.display()
    )]
    NoDatabase {
        /// The file.
        path: PathBuf,
    },
}

impl Error {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
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
}

/// A snapshot file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Where it is.
    pub path: PathBuf,
    /// How long all of it took.
    pub took: Duration,
    /// How long encoding it took.
    pub encoding: Duration,
    /// How long the sync of the file took.
    pub sync: Duration,
}

/// Writes `<term>-<index>.snap` and makes it durable. Returns its path.
///
/// The log's record of the snapshot is to be written after this, never before (etcd #10219).
pub fn save(fs: &dyn Fs, dir: &Path, snapshot: &raftpb::Snapshot) -> Result<PathBuf, Error> {
    Ok(save_measured(fs, &SystemClock, dir, snapshot)?.path)
}

/// As [`save`], and says how long it took.
///
/// # Errors
/// As there.
pub fn save_measured(
    fs: &dyn Fs,
    clock: &dyn Clock,
    dir: &Path,
    snapshot: &raftpb::Snapshot,
) -> Result<Saved, Error> {
    let begin = clock.now();
    let since = |begin: Duration| clock.now().saturating_sub(begin);
    let metadata = snapshot.metadata.clone().unwrap_or_default();
    let name = file_name(metadata.term(), metadata.index());
    let path = dir.join(&name);
    let building = dir.join(format!("{TEMPORARY}-{name}"));
    let data = snapshot.encode_to_vec();
    let crc = crc32c::crc32c(&data);
    let bytes = snappb::Snapshot {
        crc: Some(crc),
        data: Some(data.into()),
    }
    .encode_to_vec();
    let encoding = since(begin);
    let file = fs
        .open(&building, OpenMode::CreateOrTruncate)
        .map_err(Error::io("create", &building))?;
    file.write_all_at(&bytes, 0)
        .map_err(Error::io("write", &building))?;
    let sync_begin = clock.now();
    file.sync_all().map_err(Error::io("sync", &building))?;
    let sync = since(sync_begin);
    durable_rename(fs, &building, &path).map_err(Error::io("rename into place", &path))?;
    Ok(Saved {
        path,
        took: since(begin),
        encoding,
        sync,
    })
}

/// Reads one snapshot file.
pub fn read(fs: &dyn Fs, path: &Path) -> Result<raftpb::Snapshot, Error> {
    let bytes = Bytes::from(read_all(fs, path).map_err(Error::io("read", path))?);
    let decode_error = |source| Error::Decode {
        path: path.to_owned(),
        source,
    };
    let empty = || Error::Empty {
        path: path.to_owned(),
    };
    if !bytes.has_remaining() {
        return Err(empty());
    }
    let envelope = snappb::Snapshot::decode(bytes).map_err(decode_error)?;
    let recorded = envelope.crc();
    let data = envelope
        .data
        .filter(|data| !data.is_empty())
        .ok_or_else(empty)?;
    if recorded == 0 {
        return Err(empty());
    }
    let found = crc32c::crc32c(&data);
    if found != recorded {
        return Err(Error::Crc {
            path: path.to_owned(),
            found,
            recorded,
        });
    }
    raftpb::Snapshot::decode(data).map_err(decode_error)
}

/// The newest snapshot whose term and index are among `matching` (see
/// [`crate::wal::valid_snapshots`]), if there is one. Unreadable files on the way are renamed to
/// `<name>.broken`.
///
/// # Errors
/// Only those of the file system.
pub fn load_newest(
    fs: &dyn Fs,
    dir: &Path,
    matching: &[walpb::Snapshot],
) -> Result<Option<raftpb::Snapshot>, Error> {
    for name in list(fs, dir, SUFFIX)?.iter().rev() {
        let path = dir.join(name);
        let snapshot = match read(fs, &path) {
            Ok(snapshot) => snapshot,
            Err(error @ (Error::Io { .. } | Error::NoSpace { .. })) => return Err(error),
            Err(_) => {
                let broken = dir.join(format!("{name}.broken"));
                durable_rename(fs, &path, &broken).map_err(Error::io("rename", &path))?;
                continue;
            }
        };
        let metadata = snapshot.metadata.clone().unwrap_or_default();
        if matching
            .iter()
            .any(|m| m.index() == metadata.index() && m.term() == metadata.term())
        {
            return Ok(Some(snapshot));
        }
    }
    Ok(None)
}

/// Removes the oldest `.snap` files beyond the newest `keep`; 0 keeps all. Returns the removed names.
///
/// Databases that came with snapshots are not counted: what is not installed yet may not go, however many are newer,
/// and what is not needed any more goes at once ([`release`]).
///
/// `recorded` is the index of the newest one that the log has a durable record of. It and those after it stay: the
/// log before it may be gone, and a file without a record is none to start from.
///
/// # Errors
/// Those of the file system.
pub fn purge(fs: &dyn Fs, dir: &Path, keep: usize, recorded: u64) -> Result<Vec<String>, Error> {
    if keep == 0 {
        return Ok(Vec::new());
    }
    let mut removed = list(fs, dir, SUFFIX)?;
    removed.truncate(removed.len().saturating_sub(keep));
    removed.retain(|name| index_of(name).is_some_and(|index| index < recorded));
    remove(fs, dir, &removed)?;
    Ok(removed)
}

/// Removes files, durably.
fn remove(fs: &dyn Fs, dir: &Path, names: &[String]) -> Result<(), Error> {
    for name in names {
        let path = dir.join(name);
        fs.remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    if !names.is_empty() {
        fs.sync_dir(dir).map_err(Error::io("sync", dir))?;
    }
    Ok(())
}

/// `<term>-<index>.snap`, 16 hex digits each, so that names sort by age.
fn file_name(term: u64, index: u64) -> String {
    format!("{term:016x}-{index:016x}{SUFFIX}")
}

/// The index in such a name.
fn index_of(name: &str) -> Option<u64> {
    let (_, index) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    u64::from_str_radix(index, 16).ok()
}

/// Names of a kind, oldest first.
fn list(fs: &dyn Fs, dir: &Path, suffix: &str) -> Result<Vec<String>, Error> {
    let mut names = fs.read_dir(dir).map_err(Error::io("list", dir))?;
    names.retain(|name| {
        name.strip_suffix(suffix)
            .is_some_and(|stem| stem.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'))
    });
    Ok(names)
}

#[cfg(test)]
mod tests;
