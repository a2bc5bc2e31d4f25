//! Puts a received database in the place of the member's own.

use std::path::Path;

use super::receive::received_path;
use super::verify::{Depth, verify};
use super::{DB_SUFFIX, Error, list};
use crate::fs::{Fs, durable_rename};

/// The member's database.
const DATABASE: &str = "db";

/// Makes the database that came with the snapshot at `index` the member's: `<index>.snap.db` takes
/// the name `db` durably. For a start, before the engine opens.
///
/// A power failure leaves the old database and the received one, or the received one in its place.
///
/// # Errors
/// [`Error::NoDatabase`] if none was received; [`Error::Database`] or [`Error::Older`] if it is not
/// what it should be. Then the old one stays.
pub fn install(fs: &dyn Fs, dir: &Path, index: u64) -> Result<(), Error> {
    let received = received_path(dir, index);
    if !fs
        .exists(&received)
        .map_err(Error::io("look for", &received))?
    {
        return Err(Error::NoDatabase { path: received });
    }
    // Go etcd writes such files too, and checks nothing when it does. The pages are for the engine
    // to check when it reads them: a start should not take as long as reading all of them.
    verify(fs, &received, index, Depth::Head)?;
    place(fs, dir, index)
}

/// The last step of [`install`], for a running member that has the received database open, checked and locked.
///
/// # Errors
/// Those of the file system.
pub fn place(fs: &dyn Fs, dir: &Path, index: u64) -> Result<(), Error> {
    let received = received_path(dir, index);
    durable_rename(fs, &received, &dir.join(DATABASE))
        .map_err(Error::io("rename into place", &received))
}

/// Removes received databases of snapshots before `index`, which nothing needs any more. Returns the
/// removed names.
///
/// # Errors
/// Those of the file system.
pub fn release(fs: &dyn Fs, dir: &Path, index: u64) -> Result<Vec<String>, Error> {
    let mut names = list(fs, dir, DB_SUFFIX)?;
    names.retain(|name| {
        let stem = name.strip_suffix(DB_SUFFIX).unwrap_or(name);
        u64::from_str_radix(stem, 16).is_ok_and(|of| of < index)
    });
    super::remove(fs, dir, &names)?;
    Ok(names)
}

/// Removes what an interrupted receive, save or defragmentation left: files named `tmp*` and
/// `db.tmp*`, Go's and ours. For a start. Returns the removed names.
///
/// # Errors
/// Those of the file system.
pub fn remove_leftovers(fs: &dyn Fs, dir: &Path) -> Result<Vec<String>, Error> {
    let mut names = fs.read_dir(dir).map_err(Error::io("list", dir))?;
    names.retain(|name| name.starts_with(super::TEMPORARY) || name.starts_with("db.tmp"));
    super::remove(fs, dir, &names)?;
    Ok(names)
}
