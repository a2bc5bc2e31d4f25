//! The tail of the raft log in memory: what the consensus core reads.
//!
//! Entries are here as soon as the core has handed them out for writing, that is before they are
//! durable; the core keeps the two apart by itself and only needs them to be readable.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

/// What an entry costs on the wire beside its data; only used to bound messages.
const ENTRY_OVERHEAD: u64 = 16;

/// What an entry costs in memory beside its data; only used to bound the tail.
const ENTRY_MEMORY: usize = 128;

/// Entries `offset + 1 ..= last`, and the place of a snapshot that can be sent in their stead.
///
/// The state up to the applied index can always be sent, whatever is on disk: the member replaces
/// the offered snapshot by one of its applied state in the moment of sending. `offer index >=
/// offset`, so a peer which needs a trimmed entry is served by the snapshot and the entries after
/// it, also by a member that has just restarted.
#[derive(Debug)]
pub(super) struct LogView {
    /// Index and term of the entry before the first one held.
    offset: u64,
    offset_term: u64,
    entries: VecDeque<Entry>,
    /// Sum of the entries' data, in bytes.
    bytes: usize,
    /// First index of each run of entries of one term, back to `floor`: the term of an entry is
    /// still known after the entry was trimmed, as naming a snapshot needs it.
    runs: VecDeque<(u64, u64)>,
    /// Index of the newest snapshot on disk.
    floor: u64,
    /// What is offered to a peer that is too far behind for entries; index 0: nothing.
    offer: Snapshot,
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
            floor: 0,
            offer: Snapshot::default(),
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

    /// Memory held, in bytes, about.
    pub(super) fn memory(&self) -> usize {
        self.bytes + self.entries.len() * ENTRY_MEMORY
    }

    pub(super) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.offset {
            return Some(self.offset_term);
        }
        self.get(index).map(|e| e.term)
    }

    /// The term of an entry that may be trimmed already, back to the newest snapshot.
    pub(super) fn past_term(&self, index: u64) -> Option<u64> {
        if index > self.last() || index < self.floor {
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
        self.floor = self.offset;
        self.offer = Snapshot::default();
        self.offer.set_metadata(snapshot.get_metadata().clone());
    }

    /// A snapshot of the state at `index` is on disk. False for one that is older than another.
    pub(super) fn set_floor(&mut self, index: u64) -> bool {
        if index <= self.floor || self.past_term(index).is_none() {
            return false;
        }
        while self.runs.get(1).is_some_and(|run| run.0 <= index) {
            self.runs.pop_front();
        }
        self.floor = index;
        true
    }

    /// From now on the state at `index` is offered. Its entry, or that before the first, is held.
    pub(super) fn offer(&mut self, index: u64) {
        if let Some(term) = self.term_of(index) {
            let meta = self.offer.mut_metadata();
            meta.index = index;
            meta.term = term;
        }
    }

    /// The configuration of what is offered from now on.
    pub(super) fn offer_conf_state(&mut self, conf_state: ConfState) {
        self.offer.mut_metadata().set_conf_state(conf_state);
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
        let meta = self.offer.get_metadata();
        let known = meta.index != 0 && !meta.get_conf_state().voters.is_empty();
        // Without the entries between snapshot and offset the peer could not go on.
        if !known || meta.index < request_index || meta.index < self.offset {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(self.offer.clone())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

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
        assert_eq!(log.memory(), 4 * (10 + ENTRY_MEMORY));
    }

    #[test]
    fn trimming_keeps_the_term_before_the_first_entry() {
        let mut log = log(1..=5);
        log.trim_to(3);
        assert_eq!((log.first(), log.last()), (4, 5));
        assert_eq!(log.term(3), Ok(1));
        assert_eq!(log.memory(), 2 * (10 + ENTRY_MEMORY));
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
        log.offer(3);
        assert!(log.snapshot(0, 2).is_err(), "the configuration is unknown");
        log.offer_conf_state(ConfState {
            voters: vec![1],
            ..ConfState::default()
        });
        assert_eq!(log.snapshot(3, 2).unwrap().get_metadata().index, 3);
        assert!(log.snapshot(4, 2).is_err());
        log.trim_to(4);
        assert!(log.snapshot(0, 2).is_err(), "entry 4 is gone");
        log.offer(4);
        assert!(log.snapshot(0, 2).is_ok());
    }

    #[test]
    fn terms_are_known_back_to_the_newest_snapshot_on_disk() {
        let mut log = log(1..=5);
        log.trim_to(4);
        assert!(log.set_floor(3));
        assert_eq!((log.past_term(2), log.past_term(3)), (None, Some(1)));
        assert!(!log.set_floor(3));
        assert!(!log.set_floor(6));
    }
}
