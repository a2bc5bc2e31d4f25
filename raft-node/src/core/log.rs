//! The tail of the raft log in memory: what the consensus core reads.
//!
//! Entries are here as soon as the core has handed them out for writing, that is before they are
//! durable; the core keeps the two apart by itself and only needs them to be readable.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

/// What an entry costs on the wire beside its data; only used to bound messages.
const ENTRY_OVERHEAD: u64 = 16;

/// Entries `offset + 1 ..= last`, and the newest snapshot that could be sent in their stead.
///
/// In a cluster `snapshot index >= offset`, so that a peer which needs a trimmed entry can be
/// served by the snapshot and the entries after it.
#[derive(Debug)]
pub(super) struct LogView {
    /// Index and term of the entry before the first one held.
    offset: u64,
    offset_term: u64,
    entries: VecDeque<Entry>,
    /// Sum of the entries' data, in bytes.
    bytes: usize,
    /// First index of each run of entries of one term, back to the snapshot: the term of an entry
    /// is still known after the entry was trimmed, as naming a snapshot needs it.
    runs: VecDeque<(u64, u64)>,
    snapshot: Snapshot,
    /// Only read once, when the core starts.
    initial: RaftState,
}

impl LogView {
    /// A log after `snapshot` (empty: from the beginning). The entries must follow it.
    pub(super) fn new(
        snapshot: Snapshot,
        hard_state: HardState,
        conf_state: ConfState,
        entries: Vec<Entry>,
    ) -> LogView {
        let mut log = LogView {
            offset: 0,
            offset_term: 0,
            entries: VecDeque::new(),
            bytes: 0,
            runs: VecDeque::new(),
            initial: RaftState::new(hard_state, conf_state),
            snapshot: Snapshot::default(),
        };
        log.restore(snapshot);
        log.append(entries);
        log
    }

    pub(super) fn first(&self) -> u64 {
        self.offset + 1
    }

    pub(super) fn last(&self) -> u64 {
        self.offset + self.entries.len() as u64
    }

    /// Payload held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.offset {
            return Some(self.offset_term);
        }
        self.get(index).map(|e| e.term)
    }

    /// The term of an entry that may be trimmed already, back to the newest snapshot.
    pub(super) fn past_term(&self, index: u64) -> Option<u64> {
        if index > self.last() || index < self.snapshot_index() {
            return None;
        }
        let run = self.runs.iter().rev().find(|(first, _)| *first <= index)?;
        Some(run.1)
    }

    fn get(&self, index: u64) -> Option<&Entry> {
        let at = index.checked_sub(self.first())?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// Appends entries in order; one that conflicts with what is held replaces it and all after it.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else {
            return;
        };
        debug_assert!(
            first.index > self.offset && first.index <= self.last() + 1,
            "append at {} to {}..={}",
            first.index,
            self.first(),
            self.last()
        );
        while self.last() >= first.index {
            let Some(dropped) = self.entries.pop_back() else {
                break;
            };
            self.bytes -= dropped.data.len();
        }
        while self.runs.back().is_some_and(|run| run.0 >= first.index) {
            self.runs.pop_back();
        }
        for entry in entries {
            self.bytes += entry.data.len();
            if self.runs.back().is_none_or(|run| run.1 != entry.term) {
                self.runs.push_back((entry.index, entry.term));
            }
            self.entries.push_back(entry);
        }
    }

    /// Starts again after a snapshot received from the leader.
    pub(super) fn restore(&mut self, snapshot: Snapshot) {
        let meta = snapshot.get_metadata();
        self.offset = meta.index;
        self.offset_term = meta.term;
        self.entries.clear();
        self.bytes = 0;
        self.runs = VecDeque::from([(self.offset, self.offset_term)]);
        self.snapshot = snapshot;
    }

    /// A snapshot of the state at `index` exists: from now on it serves peers that are far behind.
    pub(super) fn set_snapshot(&mut self, index: u64, conf_state: ConfState, data: Bytes) -> bool {
        let Some(term) = self.past_term(index) else {
            return false;
        };
        if index <= self.snapshot.get_metadata().index {
            return false;
        }
        while self.runs.get(1).is_some_and(|run| run.0 <= index) {
            self.runs.pop_front();
        }
        let mut snapshot = Snapshot {
            data,
            ..Snapshot::default()
        };
        let meta = snapshot.mut_metadata();
        meta.index = index;
        meta.term = term;
        meta.set_conf_state(conf_state);
        self.snapshot = snapshot;
        true
    }

    /// Index of the newest snapshot that can be sent.
    pub(super) fn snapshot_index(&self) -> u64 {
        self.snapshot.get_metadata().index
    }

    /// Forgets entries up to and including `index`.
    pub(super) fn trim_to(&mut self, index: u64) {
        while self.offset < index {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= entry.data.len();
            self.offset = entry.index;
            self.offset_term = entry.term;
        }
        // A burst of large batches must not pin its peak.
        if self.entries.capacity() > 4096 && self.entries.capacity() / 4 > self.entries.len() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    /// Size of the payload of the oldest entry, for trimming by bytes.
    pub(super) fn oldest_len(&self) -> usize {
        self.entries.front().map_or(0, |e| e.data.len())
    }
}

impl Storage for LogView {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low < self.first() {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 || low > high {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let from = (low - self.first()) as usize;
        let to = (high - self.first()) as usize;
        let mut room = max_size.into().unwrap_or(u64::MAX);
        let mut out = Vec::with_capacity((to - from).min(1024));
        for entry in self.entries.range(from..to) {
            let size = entry.data.len() as u64 + ENTRY_OVERHEAD;
            if size > room && !out.is_empty() {
                break;
            }
            room = room.saturating_sub(size);
            out.push(entry.clone());
        }
        Ok(out)
    }

    fn term(&self, index: u64) -> Result<u64> {
        self.term_of(index)
            .ok_or(Error::Store(if index < self.offset {
                StorageError::Compacted
            } else {
                StorageError::Unavailable
            }))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> Result<Snapshot> {
        let index = self.snapshot_index();
        let known = !self
            .snapshot
            .get_metadata()
            .get_conf_state()
            .voters
            .is_empty();
        // Without the entries between snapshot and offset the peer could not go on; and of the
        // snapshot that a log was opened at, nothing but its place is known.
        if !known || index < request_index || index < self.offset {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(self.snapshot.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry {
            index,
            term,
            data: Bytes::from(vec![0; 10]),
            ..Entry::default()
        }
    }

    fn log(entries: std::ops::RangeInclusive<u64>) -> LogView {
        let mut snapshot = Snapshot::default();
        snapshot.mut_metadata().index = entries.start() - 1;
        snapshot.mut_metadata().term = 1;
        LogView::new(
            snapshot,
            HardState::default(),
            ConfState::default(),
            entries.map(|i| entry(i, 1)).collect(),
        )
    }

    fn range(log: &LogView, low: u64, high: u64, max: Option<u64>) -> Vec<u64> {
        log.entries(low, high, max, GetEntriesContext::empty(false))
            .unwrap()
            .iter()
            .map(|e| e.index)
            .collect()
    }

    #[test]
    fn reads_are_bounded_but_never_empty() {
        let log = log(5..=9);
        assert_eq!(range(&log, 5, 10, None), [5, 6, 7, 8, 9]);
        assert_eq!(range(&log, 6, 9, Some(0)), [6]);
        assert_eq!(range(&log, 6, 9, Some(2 * 26)), [6, 7]);
        assert_eq!(
            log.entries(4, 6, None, GetEntriesContext::empty(false)),
            Err(Error::Store(StorageError::Compacted))
        );
        assert_eq!(
            log.entries(9, 11, None, GetEntriesContext::empty(false)),
            Err(Error::Store(StorageError::Unavailable))
        );
        assert_eq!(log.term(4), Ok(1));
        assert_eq!(log.term(3), Err(Error::Store(StorageError::Compacted)));
        assert_eq!(log.term(10), Err(Error::Store(StorageError::Unavailable)));
    }

    #[test]
    fn a_conflicting_tail_is_replaced() {
        let mut log = log(1..=5);
        log.append(vec![entry(3, 2), entry(4, 2)]);
        assert_eq!(log.last(), 4);
        assert_eq!(log.term(2), Ok(1));
        assert_eq!(log.term(3), Ok(2));
        assert_eq!(log.bytes(), 40);
    }

    #[test]
    fn trimming_keeps_the_term_before_the_first_entry() {
        let mut log = log(1..=5);
        log.trim_to(3);
        assert_eq!((log.first(), log.last()), (4, 5));
        assert_eq!(log.term(3), Ok(1));
        assert_eq!(log.bytes(), 20);
        log.trim_to(100);
        assert_eq!((log.first(), log.last()), (6, 5));
        assert_eq!(log.term(5), Ok(1));
        log.append(vec![entry(6, 2)]);
        assert_eq!(range(&log, 6, 7, None), [6]);
        assert_eq!(log.past_term(4), Some(1));
        assert_eq!(log.past_term(6), Some(2));
        assert_eq!(log.past_term(7), None);
    }

    #[test]
    fn a_snapshot_is_offered_only_when_entries_follow_it() {
        let mut log = log(1..=5);
        assert!(log.snapshot(0, 2).is_err());
        assert_eq!(log.past_term(3), Some(1));
        let conf_state = || ConfState {
            voters: vec![1],
            ..ConfState::default()
        };
        assert!(log.set_snapshot(3, conf_state(), Bytes::from_static(b"x")));
        assert_eq!(log.snapshot(3, 2).unwrap().get_metadata().index, 3);
        assert!(log.snapshot(4, 2).is_err());
        log.trim_to(4);
        assert!(log.snapshot(0, 2).is_err(), "entry 4 is gone");
        assert!(!log.set_snapshot(3, conf_state(), Bytes::new()));
        assert!(log.set_snapshot(4, conf_state(), Bytes::new()));
        assert!(log.snapshot(0, 2).is_ok());
    }
}
