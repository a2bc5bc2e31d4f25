//! Removes segments that nobody needs.

use std::path::Path;

use super::segment;
use super::{Error, pipeline};
use crate::fs::{Fs, OpenMode};

/// Removes the oldest segments beyond the newest `keep` as long as their locks can be taken, and
/// stops at the first that is held; 0 keeps all. Returns the removed names.
///
/// Every removal is made durable before the next, so a crash leaves no gap in the sequence.
pub fn purge(fs: &dyn Fs, dir: &Path, keep: usize) -> Result<Vec<String>, Error> {
    let segments = segment::list(fs, dir)?;
    let mut removed = Vec::new();
    if keep == 0 {
        return Ok(removed);
    }
    for segment in &segments[..segments.len().saturating_sub(keep)] {
        let path = segment.path(dir);
        let file = fs
            .open(&path, OpenMode::Write)
            .map_err(Error::io("open", &path))?;
        match pipeline::lock(&*file, &path) {
            Ok(()) => {}
            Err(Error::Locked { .. }) => break,
            Err(error) => return Err(error),
        }
        fs.remove_file(&path).map_err(Error::io("remove", &path))?;
        fs.sync_dir(dir).map_err(Error::io("sync", dir))?;
        removed.push(segment.to_string());
    }
    Ok(removed)
}
