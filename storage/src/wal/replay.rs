//! Folds the records of a log into what raft needs.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use retcd_proto::{raftpb, walpb};

use super::Error;
use super::reader::{End, Reader, Step};
use super::record::{Kind, decode_entry, decode_snapshot, decode_state};
use super::segment::Segment;
use crate::fs::Fs;

/// Entries' data is copied into pieces of this size. The allocator gives such a piece back to the system when all
/// entries in it are forgotten, which most are soon after a start; single entries would leave their memory behind.
const PIECE: usize = 4 << 20;

/// What a log says, read from a snapshot on.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) metadata: Option<Bytes>,
    pub(super) hard_state: raftpb::HardState,
    pub(super) entries: Vec<raftpb::Entry>,
    /// All snapshot records.
    pub(super) snapshots: Vec<walpb::Snapshot>,
    /// Whether one of them is the one asked for.
    pub(super) matched: bool,
    piece: BytesMut,
}

/// Reads `segments` from `start` on. Without a start, entries are not kept.
pub(super) fn read(
    fs: &dyn Fs,
    dir: &Path,
    segments: &[Segment],
    start: Option<&walpb::Snapshot>,
    check_tail: bool,
) -> Result<(State, End), Error> {
    let mut reader = Reader::new(fs, dir, segments, check_tail);
    let mut state = State::default();
    let end = loop {
        let result = match reader.next()? {
            Step::End(end) => break end,
            Step::Record { kind, data } => state.apply(kind, data, start),
        };
        result.map_err(|problem| match problem {
            Problem::Record(what) => reader.corrupt(what),
            Problem::Log(error) => error,
        })?;
    };
    if let Some(entry) = state.entries.last()
        && entry.r#type() == raftpb::EntryType::EntryConfChangeV2
        && entry.data.is_none()
        && entry.term() > state.hard_state.term()
    {
        return Err(reader.corrupt("a hard state is marked as an entry"));
    }
    Ok((state, end))
}

enum Problem {
    Record(&'static str),
    Log(Error),
}

impl From<&'static str> for Problem {
    fn from(what: &'static str) -> Self {
        Self::Record(what)
    }
}

impl State {
    fn apply(
        &mut self,
        kind: Kind,
        data: &[u8],
        start: Option<&walpb::Snapshot>,
    ) -> Result<(), Problem> {
        match kind {
            Kind::Crc => {}
            Kind::Metadata => match &self.metadata {
                Some(metadata) if metadata != data => {
                    return Err("conflicting metadata found".into());
                }
                Some(_) => {}
                None => self.metadata = Some(Bytes::copy_from_slice(data)),
            },
            Kind::State => {
                let hard_state = decode_state(data)?;
                // Entries are written before the state of the same term or a later one.
                if self
                    .entries
                    .last()
                    .is_some_and(|entry| entry.term() > hard_state.term())
                {
                    return Err("a hard state is older than the entries before it".into());
                }
                self.hard_state = hard_state;
            }
            Kind::Entry => {
                let (mut entry, payload) = decode_entry(data)?;
                if let Some(start) = start
                    && entry.index() > start.index()
                {
                    entry.data = payload.map(|payload| self.keep(payload));
                    self.place(entry, start)?;
                }
            }
            Kind::Snapshot => {
                let snapshot = decode_snapshot(data)?;
                if let Some(start) = start
                    && snapshot.index() == start.index()
                {
                    if snapshot.term() != start.term() {
                        return Err(Problem::Log(Error::SnapshotMismatch {
                            index: start.index(),
                            found: snapshot.term(),
                            wanted: start.term(),
                        }));
                    }
                    self.matched = true;
                }
                self.snapshots.push(snapshot);
            }
        }
        Ok(())
    }

    fn keep(&mut self, payload: &[u8]) -> Bytes {
        if self.piece.capacity() < payload.len() {
            self.piece = BytesMut::with_capacity(payload.len().max(PIECE));
        }
        self.piece.extend_from_slice(payload);
        self.piece.split().freeze()
    }

    /// A later record of an index behind `start` replaces the earlier one and all entries behind it.
    ///
    /// Terms do not go down in a log. So an entry behind the snapshot with a lower term than its is
    /// left over from before a leader's snapshot replaced the log, and is no part of it any more. A
    /// member that took it for its last one could help to elect a leader that lacks the snapshot.
    fn place(&mut self, entry: raftpb::Entry, start: &walpb::Snapshot) -> Result<(), Problem> {
        if entry.term() < start.term() {
            return Ok(());
        }
        let len = self.entries.len();
        match usize::try_from(entry.index() - start.index() - 1) {
            Ok(at) if at <= len => {
                self.entries.truncate(at);
                self.entries.push(entry);
                Ok(())
            }
            _ => Err(Problem::Log(Error::SliceOutOfRange {
                snapshot_index: start.index(),
                snapshot_term: start.term(),
                index: entry.index(),
                term: entry.term(),
                len,
            })),
        }
    }
}
