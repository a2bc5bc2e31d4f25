//! What is known of a key, in a leaf that the writer shares with published versions.
//!
//! A put to a live key changes neither the shape of the tree nor any weight, so it is recorded in place, also where
//! published versions hold the leaf: their readers ask for what was at their revision, and find it behind what is newer.
//! Copying a leaf and the way to it for each put cost a quarter of a busy member's CPU. Everything else, which would
//! take something from such a reader, copies.

use parking_lot::Mutex;

use super::super::Revision;
use super::super::key_index::KeyIndex;
use super::Found;
use crate::cow_tree::Weight;

/// A key's history. The lock is held for one record or one look: a walk, at most, through what is newer than the reader.
pub(super) struct Known(Mutex<KeyIndex>);

impl Known {
    pub(super) fn new(history: KeyIndex) -> Known {
        Known(Mutex::new(history))
    }

    /// The history, where no published version has it.
    pub(super) fn get_mut(&mut self) -> &mut KeyIndex {
        self.0.get_mut()
    }

    /// Records a put in place; `None`, and nothing recorded, if the key is not live.
    pub(super) fn put_in_place(&self, revision: Revision) -> Option<Found> {
        let mut history = self.0.lock();
        history.is_live().then(|| history.put(revision))
    }

    /// See [`KeyIndex::get`].
    pub(super) fn get(&self, at: i64) -> Option<Found> {
        self.0.lock().get(at)
    }

    /// See [`KeyIndex::compacts`].
    pub(super) fn compacts(&self, at: i64) -> bool {
        self.0.lock().compacts(at)
    }

    /// See [`KeyIndex::keep`].
    pub(super) fn keep(&self, at: i64) -> Option<Revision> {
        self.0.lock().keep(at)
    }
}

impl Clone for Known {
    fn clone(&self) -> Self {
        Known::new(self.0.lock().clone())
    }
}

impl Weight for Known {
    fn weight(&self) -> usize {
        self.0.lock().weight()
    }
}
