//! One sled database: keys with their bucket in front, our own marks, and the syncs that sled leaves out.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::backend::{Bucket, Error, codec};
use crate::fs::{File, Fs, OpenMode};

/// Measured with batches of 10,000 values of 300 bytes: 5.6 µs of CPU per put with 2 MiB, 6.2 with sled's 512 KiB,
/// 5.0 with 8 MiB, whose buffers however cost more memory and large values more CPU. Fixed for the life of a database.
const SEGMENT_BYTES: usize = 2 << 20;

/// Larger ones did not lower the cost of appends, and recent values have a cache of their own above.
const CACHE_BYTES: u64 = 32 << 20;

/// What sled writes into its `conf` file for our settings, before a checksum.
const CONF: &[u8] = b"segment_size: 2097152\nuse_compression: false\nversion: 0.34\n";

/// First byte of the keys of our marks; buckets come before it.
const MARK: u8 = 0xff;

/// A value of our own beside the buckets.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mark {
    /// Says that this is a database of ours, and in which layout.
    Format,
    /// Number of the last journal record that is provably stored.
    Journal,
    /// Bytes of all live keys and values.
    Live,
}

/// The layout described here.
const FORMAT: u64 = 1;

impl Mark {
    fn key(self) -> [u8; 2] {
        match self {
            Mark::Format => [MARK, b'f'],
            Mark::Journal => [MARK, b'j'],
            Mark::Live => [MARK, b'l'],
        }
    }
}

/// A key as sled has it.
pub(super) fn stored_key(bucket: Bucket, key: &[u8]) -> sled::IVec {
    let mut stored = Vec::with_capacity(key.len() + 1);
    stored.push(codec::bucket_code(bucket));
    stored.extend_from_slice(key);
    stored.into()
}

/// An open sled database.
pub(super) struct Store {
    db: sled::Db,
    dir: PathBuf,
    fs: Arc<dyn Fs>,
    /// sled's log through a descriptor of ours.
    log: Box<dyn File>,
    /// Values too large for the log are files; those that are synced already, and the bytes of all.
    blobs: Mutex<(HashSet<String>, u64)>,
}

impl Store {
    /// A new database in `dir`, which must not exist. Durable after a [`Store::sync`] and a sync of the parent directory.
    pub(super) fn create(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Self, Error> {
        fs.create_dir_all(dir).map_err(Error::io("create", dir))?;
        let store = Self::start(fs, dir)?;
        store.set_mark(Mark::Format, FORMAT)?;
        store.set_mark(Mark::Journal, 0)?;
        store.set_mark(Mark::Live, 0)?;
        let conf = dir.join("conf");
        let file = fs
            .open(&conf, OpenMode::Write)
            .map_err(Error::io("open", &conf))?;
        file.sync_all().map_err(Error::io("sync", &conf))?;
        Ok(store)
    }

    /// An existing database.
    pub(super) fn open(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Self, Error> {
        // sled takes a foreign or empty file for a new database, and would begin one in its place.
        let conf = dir.join("conf");
        let content = crate::fs::read_all(&**fs, &conf).map_err(Error::io("read", &conf))?;
        if !content.starts_with(CONF) {
            return Err(Error::Corrupt {
                path: conf,
                detail: "it does not hold this engine's settings".into(),
            });
        }
        let log = dir.join("db");
        if !fs.exists(&log).map_err(Error::io("look for", &log))? {
            return Err(Error::Corrupt {
                path: log,
                detail: "the file is missing".into(),
            });
        }
        let store = Self::start(fs, dir)?;
        match store.mark(Mark::Format)? {
            FORMAT => Ok(store),
            0 => Err(Error::Corrupt {
                path: log,
                detail: "the mark of this engine is missing".into(),
            }),
            other => Err(Error::Corrupt {
                path: log,
                detail: format!("layout {other} is unknown, only {FORMAT} is"),
            }),
        }
    }

    fn start(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Self, Error> {
        let config = sled::Config::new()
            .path(dir)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            // We flush. The thread that this would start also moves pages together, but gave nothing back when measured.
            .flush_every_ms(None);
        let path = dir.join("db");
        let db = open_patiently(&config, &path)?;
        let log = fs
            .open(&path, OpenMode::Write)
            .map_err(Error::io("open", &path))?;
        Ok(Store {
            db,
            dir: dir.to_owned(),
            fs: fs.clone(),
            log,
            blobs: Mutex::default(),
        })
    }

    fn error(&self, error: sled::Error) -> Error {
        from_sled(error, &self.dir.join("db"))
    }

    /// Closes and deletes a database that is not in use. What cannot be deleted now is at the next open.
    pub(super) fn remove(self) {
        let Store { db, dir, fs, .. } = self;
        drop(db);
        let _ = fs.remove_dir_all(&dir);
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, Error> {
        self.db.get(key).map_err(|e| self.error(e))
    }

    /// Sets or removes a key and returns the value it had.
    pub(super) fn set(
        &self,
        key: sled::IVec,
        value: Option<&[u8]>,
    ) -> Result<Option<sled::IVec>, Error> {
        let old = match value {
            Some(value) => self.db.insert(key, value),
            None => self.db.remove(key),
        };
        old.map_err(|e| self.error(e))
    }

    /// Zero if it was never set.
    pub(super) fn mark(&self, mark: Mark) -> Result<u64, Error> {
        let value = self.get(&mark.key())?;
        Ok(value
            .and_then(|v| v.as_ref().try_into().ok())
            .map_or(0, u64::from_be_bytes))
    }

    pub(super) fn set_mark(&self, mark: Mark, value: u64) -> Result<(), Error> {
        self.set(mark.key().as_slice().into(), Some(&value.to_be_bytes()))
            .map(drop)
    }

    /// Keys (without their bucket) and values of `[from, to)` as they are at this moment, each by itself: no two of
    /// them need to be from the same state.
    pub(super) fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let from = stored_key(bucket, from);
        let to = match to {
            Some(to) => stored_key(bucket, to),
            None => (&[codec::bucket_code(bucket) + 1]).into(),
        };
        if from >= to {
            return Ok(Vec::new());
        }
        let found = self.db.range(from..to).take(limit);
        let owned = |(key, value): (sled::IVec, sled::IVec)| {
            (
                Bytes::copy_from_slice(&key[1..]),
                Bytes::copy_from_slice(&value),
            )
        };
        found
            .map(|pair| pair.map(owned).map_err(|e| self.error(e)))
            .collect()
    }

    /// All keys as sled has them, with the bytes of their values, marks left out.
    pub(super) fn iter(&self) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec), Error>> {
        self.db
            .range(..&[MARK][..])
            .map(|pair| pair.map_err(|e| self.error(e)))
    }

    /// Makes everything durable. sled's own flush only starts the writing on Linux (`sync_file_range`), and syncs
    /// neither blobs nor directories; so each file is synced here through a second descriptor.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.db.flush().map_err(|e| self.error(e))?;
        self.log
            .sync_all()
            .map_err(Error::io("sync", &self.dir.join("db")))?;
        self.sync_blobs()?;
        self.fs
            .sync_dir(&self.dir)
            .map_err(Error::io("sync", &self.dir))
    }

    fn sync_blobs(&self) -> Result<(), Error> {
        let dir = self.dir.join("blobs");
        let names = self.fs.read_dir(&dir).map_err(Error::io("read", &dir))?;
        let mut blobs = self.blobs.lock();
        let (mut synced, mut bytes) = (HashSet::with_capacity(names.len()), 0);
        let mut new = false;
        for name in names {
            let path = dir.join(&name);
            let file = match self.fs.open(&path, OpenMode::Write) {
                Ok(file) => file,
                // sled removes blobs in the background.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::io("open", &path)(e)),
            };
            bytes += file.len().map_err(Error::io("measure", &path))?;
            if !blobs.0.contains(&name) {
                file.sync_all().map_err(Error::io("sync", &path))?;
                new = true;
            }
            synced.insert(name);
        }
        *blobs = (synced, bytes);
        if new {
            self.fs.sync_dir(&dir).map_err(Error::io("sync", &dir))?;
        }
        Ok(())
    }

    /// Bytes of the log now and of the blobs at the last sync.
    pub(super) fn size(&self) -> Result<u64, Error> {
        let log = self
            .log
            .len()
            .map_err(Error::io("measure", &self.dir.join("db")))?;
        Ok(log + self.blobs.lock().1)
    }
}

/// Threads of sled keep the file, and so its lock, for a moment after a database was closed. Our own lock file says
/// that nobody else should have it, so waiting is right; not for ever, because somebody might run sled by hand.
fn open_patiently(config: &sled::Config, path: &Path) -> Result<sled::Db, Error> {
    const ATTEMPTS: u32 = 300;
    let mut attempt = 0;
    loop {
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        match opened.map(|db| db.map_err(|e| from_sled(e, path))) {
            Ok(Err(Error::Locked { .. })) if attempt < ATTEMPTS => {
                thread::sleep(Duration::from_millis(10))
            }
            Ok(result) => return result,
            Err(_) => {
                return Err(Error::Corrupt {
                    path: path.to_owned(),
                    detail: "sled panicked over it".into(),
                });
            }
        }
        attempt += 1;
    }
}

fn from_sled(error: sled::Error, path: &Path) -> Error {
    match error {
        sled::Error::Io(e) if e.to_string().contains("could not acquire lock") => Error::Locked {
            path: path.to_owned(),
        },
        sled::Error::Io(e) => Error::io("use", path)(e),
        other => Error::Corrupt {
            path: path.to_owned(),
            detail: other.to_string(),
        },
    }
}
