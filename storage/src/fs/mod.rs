//! The only door to files: the real file system and a simulated one that can crash.

mod real;
pub mod sim;

use std::fmt::Debug;
use std::io;
use std::path::Path;

pub use real::RealFs;
pub use sim::SimFs;

/// A file system.
///
/// Nothing is durable before a sync: file contents and lengths need [`File::sync_data`], names need
/// [`Fs::sync_dir`] of their directory. [`Fs::create_dir_all`] is the exception.
pub trait Fs: Send + Sync + Debug {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>>;

    /// The names in a directory, sorted.
    fn read_dir(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Whether a file or directory of that name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Creates what is missing of a directory and its ancestors with mode 0700. The names it
    /// created are durable when it returns.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Renames a file, over an existing file, or a directory, over an empty one. Not durable: see
    /// [`durable_rename`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and what is in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Free bytes for an unprivileged user of the file system that holds `dir`.
    fn available(&self, dir: &Path) -> io::Result<u64>;
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file with mode 0600, for reading and writing; fails if the name exists.
    CreateNew,
    /// As `CreateNew`, but an existing file is emptied.
    CreateOrTruncate,
}

/// An open file. Closing it releases its lock.
pub trait File: Send + Sync + Debug {
    /// Reads at an offset; fewer bytes than asked for, or none, at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at an offset; grows the file, with zeros in a gap.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Where the first byte at or behind `offset` is that may differ from zero; the end of the file
    /// if there is none. What lies before it was never written, so it reads as zeros for as long as
    /// nobody writes there. Files that do not tell say `offset`.
    fn data_from(&self, offset: u64) -> io::Result<u64> {
        Ok(offset)
    }

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file, or grows it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves disk space for the first `len` bytes and grows the file to `len` with zeros if it
    /// is shorter. A file system that cannot reserve only grows the file.
    ///
    /// # Errors
    /// `StorageFull` when the space is not there.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// `fdatasync`: contents and length are durable when it returns.
    fn sync_data(&self) -> io::Result<()>;

    /// `fsync`.
    fn sync_all(&self) -> io::Result<()>;

    /// Takes the exclusive `flock`; false when somebody else, also in this process, holds it.
    fn try_lock(&self) -> io::Result<bool>;
}

/// Renames, then makes the new name durable. The caller has synced the file's contents.
///
/// A bare [`Fs::rename`] is lost in a power failure (etcd #6368, #22340).
pub fn durable_rename(fs: &dyn Fs, from: &Path, to: &Path) -> io::Result<()> {
    fs.rename(from, to)?;
    fs.sync_dir(parent(to))
}

/// Reads a whole file.
pub fn read_all(fs: &dyn Fs, path: &Path) -> io::Result<Vec<u8>> {
    let file = fs.open(path, OpenMode::Read)?;
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let read = read_full(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Reads until `buf` is full or the file ends; returns the bytes read.
pub fn read_full(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The directory that holds `path`; the current one for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
