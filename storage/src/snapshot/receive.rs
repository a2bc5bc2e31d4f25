//! A database that comes with a leader's snapshot: written aside, checked, put in place.
//!
//! Nothing that a peer sends says how long its database is or what its checksum would be (rafthttp
//! streams it in chunks of unknown number). So the length comes from the database's own meta page,
//! and what is checked is that the database opens, whole, at the snapshot's index or above it.
//!
//! Source: peer-protocol 6; etcd `server/etcdserver/api/snap/db.go`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::verify::{Depth, verify};
use super::{DB_SUFFIX, Error, TEMPORARY};
use crate::clock::Clock;
use crate::failpoint::failpoint;
use crate::fs::{File, Fs, OpenMode, durable_rename};

/// Bytes in memory at a time.
const BUFFER: usize = 256 * 1024;

/// Bytes written between two syncs, so that the last one does not hold up the log, which is on the
/// same disk, until a whole database has reached it.
const SYNC_EVERY: u64 = if cfg!(test) { 16 << 10 } else { 8 << 20 };

/// A database that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Where it is: `<index>.snap.db`.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// How long all of it took.
    pub took: Duration,
    /// How long the last sync of the file took.
    pub sync: Duration,
}

/// Writes a database to `<index>.snap.db` in `dir`, durably and whole, or leaves nothing.
///
/// `len` is its length where the sender tells it. `spare` bytes of the file system stay free. An
/// earlier file of this name stays, for it holds the same and may be open already.
///
/// # Errors
/// A body that breaks off or has another length, a database that is damaged or does not stand at
/// `index`, and those of the file system. What was written is removed; should that fail too, or the process
/// end before, [`remove_leftovers`](super::remove_leftovers) does it at the next start.
pub fn receive(
    fs: &dyn Fs,
    clock: &dyn Clock,
    dir: &Path,
    index: u64,
    len: Option<u64>,
    spare: u64,
    body: &mut dyn Read,
) -> Result<Received, Error> {
    let begin = clock.now();
    let path = received_path(dir, index);
    let room = |received| check_room(fs, dir, index, received, spare);
    room(0)?;
    let (building, file) = create(fs, dir, index)?;
    failpoint("snapshot-receive:begun");
    let done = fill(&*file, &building, len, body, room).and_then(|bytes| {
        // Of what comes over the network each page is looked at, while it is in the page cache.
        verify(fs, &building, index, Depth::Pages)?;
        failpoint("snapshot-receive:written");
        let begin = clock.now();
        file.sync_all().map_err(Error::io("sync", &building))?;
        let sync = clock.now().saturating_sub(begin);
        failpoint("snapshot-receive:synced");
        if fs.exists(&path).map_err(Error::io("look for", &path))? {
            fs.remove_file(&building)
                .map_err(Error::io("remove", &building))?;
            fs.sync_dir(dir).map_err(Error::io("sync", dir))?;
        } else {
            durable_rename(fs, &building, &path)
                .map_err(Error::io("rename into place", &building))?;
        }
        failpoint("snapshot-receive:renamed");
        Ok((bytes, sync))
    });
    drop(file);
    match done {
        Ok((bytes, sync)) => Ok(Received {
            path,
            bytes,
            took: clock.now().saturating_sub(begin),
            sync,
        }),
        Err(error) => {
            // The reason is worth more than a second error; a start removes what stays.
            let _ = fs.remove_file(&building);
            Err(error)
        }
    }
}

/// Where the database of the snapshot at `index` is: `<index>.snap.db`, 16 hex digits.
pub fn received_path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{index:016x}{DB_SUFFIX}"))
}

/// The log is on the same disk: it must not end because a database came.
fn check_room(fs: &dyn Fs, dir: &Path, index: u64, received: u64, spare: u64) -> Result<(), Error> {
    if spare == 0 {
        return Ok(());
    }
    let available = fs
        .available(dir)
        .map_err(Error::io("ask for the free space of", dir))?;
    if available < spare {
        return Err(Error::TooLarge {
            index,
            received,
            available,
            dir: dir.to_owned(),
        });
    }
    Ok(())
}

/// A file that is nobody else's: two senders may be at it at once.
fn create(fs: &dyn Fs, dir: &Path, index: u64) -> Result<(PathBuf, Box<dyn File>), Error> {
    let mut number = 0_u32;
    loop {
        let path = dir.join(format!("{TEMPORARY}-{index:016x}-{number}"));
        match fs.open(&path, OpenMode::CreateNew) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < u32::MAX => {
                number += 1;
            }
            Err(error) => return Err(Error::io("create", &path)(error)),
        }
    }
}

/// Writes the body; returns its length.
fn fill(
    file: &dyn File,
    path: &Path,
    len: Option<u64>,
    body: &mut dyn Read,
    room: impl Fn(u64) -> Result<(), Error>,
) -> Result<u64, Error> {
    if let Some(len) = len {
        // If there is no room for it, this is the time to know.
        file.allocate(len)
            .map_err(Error::io("reserve space for", path))?;
    }
    let mut buffer = vec![0; BUFFER];
    let mut received = 0;
    let mut synced = 0;
    loop {
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(Error::Body { received, source }),
        };
        if len.is_some_and(|len| received + read as u64 > len) {
            return Err(Error::Length {
                announced: len.unwrap_or_default(),
                received: received + read as u64,
            });
        }
        file.write_all_at(&buffer[..read], received)
            .map_err(Error::io("write", path))?;
        received += read as u64;
        if received - synced >= SYNC_EVERY {
            file.sync_data().map_err(Error::io("sync", path))?;
            synced = received;
            room(received)?;
        }
    }
    match len {
        Some(announced) if announced != received => Err(Error::Length {
            announced,
            received,
        }),
        _ => Ok(received),
    }
}

#[cfg(test)]
mod tests;
