//! The write-ahead log, in etcd's format byte for byte.
//!
//! A log is a directory of segments that continue each other: sequence numbers without gaps, one
//! checksum chain through all of them. Only the newest segment is written, always behind its last
//! record, and what is behind that is zeros.
//!
//! Source: etcd `server/storage/wal/`.

mod error;
mod options;
mod pipeline;
mod place;
mod purge;
mod reader;
mod record;
mod repair;
mod replay;
mod segment;
mod torn;
mod writer;

use std::path::Path;

use bytes::Bytes;
use retcd_proto::{raftpb, walpb};

use crate::fs::Fs;
use reader::{Reader, Step};
use record::Kind;

pub use error::Error;
pub use options::{Observed, Observer, Options, Prepare, SEGMENT_SIZE};
pub use purge::purge;
pub use record::MAX_RECORD_BYTES;
pub use segment::{exists, strays};
pub use writer::{Replay, Wal};

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// The metadata that all segments carry.
    pub metadata: Bytes,
    /// The newest hard state.
    pub hard_state: raftpb::HardState,
    /// Number of entries behind the start.
    pub entries: usize,
    /// Whether an unfinished write ends the log; opening it repairs that.
    pub torn: bool,
}

/// Checks the whole chain from the segment that holds `start` on, without changing anything.
///
/// # Errors
/// [`Error::SnapshotNotFound`] when the log has no record of `start`, and what is damaged.
pub fn verify(fs: &dyn Fs, dir: &Path, start: &walpb::Snapshot) -> Result<Verified, Error> {
    let segments = segment::from_index(segment::list(fs, dir)?, dir, start.index())?;
    let (state, end) = replay::read(fs, dir, &segments, Some(start), true)?;
    if !state.matched {
        return Err(Error::SnapshotNotFound {
            dir: dir.to_owned(),
            index: start.index(),
            term: start.term(),
        });
    }
    Ok(Verified {
        metadata: state.metadata.unwrap_or_default(),
        hard_state: state.hard_state,
        entries: state.entries.len(),
        torn: end.torn,
    })
}

/// The metadata with which the newest segment begins: whose log it is. Reads no further, and changes nothing.
///
/// # Errors
/// [`Error::FileNotFound`] when there is no log, and what is damaged.
pub fn metadata(fs: &dyn Fs, dir: &Path) -> Result<Bytes, Error> {
    let segments = segment::list(fs, dir)?;
    let Some(newest) = segments.last() else {
        return Err(Error::FileNotFound {
            dir: dir.to_owned(),
            index: 0,
        });
    };
    let mut reader = Reader::new(fs, dir, std::slice::from_ref(newest), false);
    loop {
        match reader.next()? {
            Step::Record {
                kind: Kind::Metadata,
                data,
            } => return Ok(Bytes::copy_from_slice(data)),
            Step::Record { .. } => {}
            Step::End(_) => return Err(reader.corrupt("the segment has no metadata")),
        }
    }
}

/// The snapshots that the log has a record of and whose index is committed by its newest hard
/// state, oldest first. Changes nothing.
pub fn valid_snapshots(fs: &dyn Fs, dir: &Path) -> Result<Vec<walpb::Snapshot>, Error> {
    let segments = segment::list(fs, dir)?;
    if segments.is_empty() {
        return Err(Error::FileNotFound {
            dir: dir.to_owned(),
            index: 0,
        });
    }
    segment::check_order(&segments, dir)?;
    let (state, _) = replay::read(fs, dir, &segments, None, false)?;
    let commit = state.hard_state.commit();
    let mut snapshots = state.snapshots;
    snapshots.retain(|snapshot| snapshot.index() <= commit);
    Ok(snapshots)
}

#[cfg(test)]
mod tests;
