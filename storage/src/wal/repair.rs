//! Cuts an unfinished write off the end of the log.

use std::path::{Path, PathBuf};

use super::Error;
use crate::fs::{File, Fs, OpenMode, read_full};

/// Keeps a copy as `<name>.broken`, then cuts the segment at `offset`. Returns the copy's path.
///
/// Only called for the last segment. A crash on the way leaves the segment as it was or cut.
pub(super) fn repair(
    fs: &dyn Fs,
    dir: &Path,
    path: &Path,
    file: &dyn File,
    offset: u64,
) -> Result<PathBuf, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".broken");
    let broken = PathBuf::from(name);
    copy(fs, path, file, &broken)?;
    fs.sync_dir(dir).map_err(Error::io("sync", dir))?;
    file.set_len(offset).map_err(Error::io("cut", path))?;
    file.sync_all().map_err(Error::io("sync", path))?;
    Ok(broken)
}

/// Copies a file without its zeros: a nearly empty segment needs no more space than it holds.
fn copy(fs: &dyn Fs, path: &Path, from: &dyn File, to: &Path) -> Result<(), Error> {
    let target = fs
        .open(to, OpenMode::CreateOrTruncate)
        .map_err(Error::io("create", to))?;
    let size = from.len().map_err(Error::io("read", path))?;
    target.set_len(size).map_err(Error::io("write", to))?;
    let mut buf = vec![0; size.min(64 << 10) as usize];
    let mut at = 0;
    while at < size {
        let read = read_full(from, &mut buf, at).map_err(Error::io("read", path))?;
        if read == 0 {
            break;
        }
        if buf[..read].iter().any(|byte| *byte != 0) {
            target
                .write_all_at(&buf[..read], at)
                .map_err(Error::io("write", to))?;
        }
        at += read as u64;
    }
    target.sync_all().map_err(Error::io("sync", to))
}
