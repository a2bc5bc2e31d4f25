//! A file system with one file, in memory, that watches what is read from it: nobody may ask for more bytes than the file
//! has, nor read on for ever.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fs::{File, Fs, OpenMode};

/// Largest buffer that is always allowed: looking for the meta pages.
const FREE: usize = 4096;

#[derive(Debug, Clone)]
pub(super) struct OneFile(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    bytes: Vec<u8>,
    locked: bool,
    reads: usize,
    most_reads: usize,
}

impl OneFile {
    pub(super) fn new(bytes: Vec<u8>) -> OneFile {
        OneFile(Arc::new(Mutex::new(Shared {
            bytes,
            locked: false,
            reads: 0,
            most_reads: usize::MAX,
        })))
    }

    /// From now on more calls of read than this are a failure.
    pub(super) fn allow_reads(&self, reads: usize) {
        let mut shared = self.0.lock();
        shared.reads = 0;
        shared.most_reads = reads;
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.lock().bytes.clone()
    }

    pub(super) fn holds(&self, bytes: &[u8]) -> bool {
        self.0.lock().bytes == bytes
    }
}

impl Fs for OneFile {
    fn open(&self, _: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        match mode {
            OpenMode::Read | OpenMode::Write => Ok(Box::new(Handle {
                shared: self.0.clone(),
                locked: Mutex::new(false),
            })),
            OpenMode::CreateNew | OpenMode::CreateOrTruncate => {
                Err(io::ErrorKind::Unsupported.into())
            }
        }
    }

    fn read_dir(&self, _: &Path) -> io::Result<Vec<String>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn exists(&self, _: &Path) -> io::Result<bool> {
        Ok(true)
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove_file(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn available(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Mutex<Shared>>,
    locked: Mutex<bool>,
}

impl File for Handle {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut shared = self.shared.lock();
        shared.reads += 1;
        assert!(shared.reads <= shared.most_reads, "it reads for ever");
        let len = shared.bytes.len();
        assert!(
            buf.len() <= len.max(FREE),
            "{} bytes are to be read of a file of {len}",
            buf.len()
        );
        let start = usize::try_from(offset).unwrap_or(len).min(len);
        let n = buf.len().min(len - start);
        buf[..n].copy_from_slice(&shared.bytes[start..start + n]);
        Ok(n)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let bytes = &mut self.shared.lock().bytes;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        if bytes.len() < start + buf.len() {
            bytes.resize(start + buf.len(), 0);
        }
        bytes[start..start + buf.len()].copy_from_slice(buf);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.shared.lock().bytes.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.shared.lock().bytes.resize(len, 0);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.len()? < len {
            self.set_len(len)?;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut mine = self.locked.lock();
        if !*mine {
            let mut shared = self.shared.lock();
            *mine = !std::mem::replace(&mut shared.locked, true);
        }
        Ok(*mine)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if *self.locked.get_mut() {
            self.shared.lock().locked = false;
        }
    }
}
