//! The directory of a log: cleared for a new one, made durable under an old one.

use std::path::Path;

use super::Error;
use crate::fs::{File, Fs, parent};

/// Name in an empty log directory that is not in the way: etcd's write check.
const TOUCH: &str = ".touch";

/// Makes durable what a process may have left unsynced that was killed while it wrote, created a
/// segment or the log: once read, it counts as persisted.
pub(super) fn settle(fs: &dyn Fs, dir: &Path, path: &Path, tail: &dyn File) -> Result<(), Error> {
    tail.sync_all().map_err(Error::io("sync", path))?;
    fs.sync_dir(dir).map_err(Error::io("sync", dir))?;
    fs.sync_dir(parent(dir))
        .map_err(Error::io("sync", parent(dir)))
}

/// Makes sure that `dir` is missing or empty, so that a new log can be renamed onto it.
pub(super) fn clear(fs: &dyn Fs, dir: &Path) -> Result<(), Error> {
    fs.create_dir_all(parent(dir))
        .map_err(Error::io("create", parent(dir)))?;
    if !fs.exists(dir).map_err(Error::io("look for", dir))? {
        return Ok(());
    }
    let names = fs.read_dir(dir).map_err(Error::io("list", dir))?;
    let harmless = |name: &String| name == TOUCH || name.ends_with(".tmp");
    if let Some(name) = names.iter().find(|name| !harmless(name)) {
        return Err(Error::Exists {
            path: dir.join(name),
        });
    }
    for name in names {
        let path = dir.join(name);
        fs.remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}
