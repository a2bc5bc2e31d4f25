//! Whether a received database may take the place of the member's own.

use std::path::Path;

use super::Error;
use crate::backend::{BoltFile, Bucket, CONSISTENT_INDEX};
use crate::fs::Fs;

/// How much of a database is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Whether it opens and is not cut off.
    Head,
    /// Every page.
    Pages,
}

/// Checks that a file is a database with the effects of all entries up to `index`, and with [`Depth::Pages`] of no
/// others.
///
/// # Errors
/// [`Error::Database`], [`Error::Older`], [`Error::Newer`].
pub(super) fn verify(fs: &dyn Fs, path: &Path, index: u64, depth: Depth) -> Result<(), Error> {
    let database = BoltFile::open(fs, path)?;
    if depth == Depth::Pages {
        database.check()?;
    }
    let stored = database.get(Bucket::Meta.name().as_bytes(), CONSISTENT_INDEX)?;
    let stored = stored.and_then(|value| value[..].try_into().ok());
    let found = stored.map_or(0, u64::from_be_bytes);
    if found < index {
        return Err(Error::Older {
            path: path.to_owned(),
            found,
            index,
        });
    }
    if found > index && depth == Depth::Pages {
        return Err(Error::Newer { found, index });
    }
    Ok(())
}
