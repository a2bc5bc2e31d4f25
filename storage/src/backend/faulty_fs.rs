//! A file system for tests that can refuse writes and syncs from a chosen call on.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::fs::{File, Fs, OpenMode};

/// Calls that change or sync something.
#[derive(Debug)]
pub(super) struct Faults {
    /// How many may still succeed.
    left: AtomicI64,
    syncs: AtomicU64,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            left: i64::MAX.into(),
            syncs: AtomicU64::default(),
        }
    }
}

impl Faults {
    /// Lets `calls` more succeed.
    pub(super) fn allow(&self, calls: i64) {
        self.left.store(calls, Ordering::SeqCst);
    }

    /// Whether a call was refused.
    pub(super) fn hit(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    /// Number of syncs so far that succeeded.
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::SeqCst)
    }

    fn check(&self) -> io::Result<()> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            1.. => Ok(()),
            _ => Err(io::Error::other("a test refuses this")),
        }
    }

    fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.check()?;
        sync()?;
        self.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct FaultyFs<F> {
    pub(super) inner: F,
    pub(super) faults: Arc<Faults>,
}

#[derive(Debug)]
struct FaultyFile {
    inner: Box<dyn File>,
    faults: Arc<Faults>,
}

impl<F: Fs> Fs for FaultyFs<F> {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        if matches!(mode, OpenMode::CreateNew | OpenMode::CreateOrTruncate) {
            self.faults.check()?;
        }
        let inner = self.inner.open(path, mode)?;
        Ok(Box::new(FaultyFile {
            inner,
            faults: self.faults.clone(),
        }))
    }

    fn read_dir(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.read_dir(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.faults.check()?;
        self.inner.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.check()?;
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.faults.check()?;
        self.inner.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.faults.check()?;
        self.inner.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.faults.sync(|| self.inner.sync_dir(dir))
    }

    fn available(&self, dir: &Path) -> io::Result<u64> {
        self.inner.available(dir)
    }
}

impl File for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.faults.check()?;
        self.inner.write_all_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.check()?;
        self.inner.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.faults.check()?;
        self.inner.allocate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.sync(|| self.inner.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.faults.sync(|| self.inner.sync_all())
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.inner.try_lock()
    }
}
