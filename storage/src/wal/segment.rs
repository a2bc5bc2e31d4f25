//! Names of segments and their order.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::Error;
use crate::fs::Fs;

const SUFFIX: &str = ".wal";

/// One file of the log: `<sequence>-<index>.wal`, both with 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    /// First entry index that the file may hold.
    pub(super) index: u64,
}

impl Segment {
    pub(super) const FIRST: Self = Self {
        sequence: 0,
        index: 0,
    };

    pub(super) fn parse(name: &str) -> Option<Self> {
        let (sequence, index) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        Some(Self {
            sequence: hex(sequence)?,
            index: hex(index)?,
        })
    }

    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(self.to_string())
    }
}

/// 16 lower-case hex digits, as etcd prints them.
fn hex(text: &str) -> Option<u64> {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() != 16 || !text.bytes().all(digit) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}{SUFFIX}", self.sequence, self.index)
    }
}

/// All segments of a directory, in order. Other names are ignored.
pub(super) fn list(fs: &dyn Fs, dir: &Path) -> Result<Vec<Segment>, Error> {
    let names = fs.read_dir(dir).map_err(Error::io("list", dir))?;
    Ok(names
        .iter()
        .filter_map(|name| Segment::parse(name))
        .collect())
}

/// Names in a directory that belong to no log: neither segments nor what this module leaves there.
///
/// # Errors
/// The directory cannot be listed.
pub fn strays(fs: &dyn Fs, dir: &Path) -> Result<Vec<String>, Error> {
    let mut names = fs.read_dir(dir).map_err(Error::io("list", dir))?;
    names.retain(|name| {
        let ours = name.ends_with(".tmp") || name.ends_with(".broken");
        !ours && Segment::parse(name).is_none()
    });
    Ok(names)
}

/// The segments to read from a snapshot on: the last that begins at or below its index, and all
/// behind it.
pub(super) fn from_index(
    mut segments: Vec<Segment>,
    dir: &Path,
    index: u64,
) -> Result<Vec<Segment>, Error> {
    let Some(first) = segments.iter().rposition(|segment| segment.index <= index) else {
        return Err(Error::FileNotFound {
            dir: dir.to_owned(),
            index,
        });
    };
    segments.drain(..first);
    check_order(&segments, dir)?;
    Ok(segments)
}

/// Checks that no segment is missing in between. Indexes may go back: a new leader's entries can
/// replace some of the segment before.
pub(super) fn check_order(segments: &[Segment], dir: &Path) -> Result<(), Error> {
    for pair in segments.windows(2) {
        if pair[0].sequence.checked_add(1) != Some(pair[1].sequence) {
            return Err(Error::Sequence {
                dir: dir.to_owned(),
                start: segments[0].sequence,
                before: pair[0].to_string(),
                after: pair[1].to_string(),
            });
        }
    }
    Ok(())
}

/// Whether a directory holds a log: at least one name that ends in `.wal`.
pub fn exists(fs: &dyn Fs, dir: &Path) -> io::Result<bool> {
    match fs.read_dir(dir) {
        Ok(names) => Ok(names.iter().any(|name| name.ends_with(SUFFIX))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
