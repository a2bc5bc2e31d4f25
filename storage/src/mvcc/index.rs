//! From keys to their revisions, in memory.

use std::collections::HashSet;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Bound;

use bytes::Bytes;

use super::Revision;
use super::key::Key;
use super::key_index::KeyIndex;
use crate::cow_tree::{self, CowTree};

mod known;
mod restore;
#[cfg(test)]
mod tests;

use known::Known;
pub use restore::Restore;

/// What the index knows of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The revision that wrote the value, and its key in the backend.
    pub modified: Revision,
    /// The main revision that created the key.
    pub created: i64,
    /// How often the key was put since it was created, from 1.
    pub version: i64,
}

/// All keys with their revisions since the last compaction.
///
/// One writer changes it. A clone is O(1), and stays what it was for whoever asks it about revisions up to the newest
/// one that it had when it was cloned. Revisions must come in ascending order.
#[derive(Clone, Default)]
pub struct Index {
    tree: CowTree<Key, Known>,
    /// The newest main revision.
    newest: i64,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("keys", &self.len())
            .field("live", &self.live_len())
            .field("newest", &self.newest)
            .finish()
    }
}

impl Index {
    /// An index without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of keys, deleted ones that still have records included.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// The number of keys that are not deleted.
    pub fn live_len(&self) -> usize {
        self.tree.weight()
    }

    /// The newest main revision that the index has seen; 0 if none.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// Records a put, and returns what the new value has to carry.
    pub fn put(&mut self, key: &[u8], revision: Revision) -> Found {
        self.newest = self.newest.max(revision.main);
        let known = self.tree.get(key);
        if let Some(found) = known.and_then(|known| known.put_in_place(revision)) {
            return found;
        }
        let created = Found {
            modified: revision,
            created: revision.main,
            version: 1,
        };
        self.tree.upsert(
            key,
            || {
                let value = KeyIndex::new(revision, created.created, created.version);
                (key.into(), Known::new(value), created)
            },
            |known| known.get_mut().put(revision),
        )
    }

    /// Records a deletion; `false`, and nothing recorded, if the key is not live.
    pub fn tombstone(&mut self, key: &[u8], revision: Revision) -> bool {
        let deleted = self.tree.update(key, |known| {
            let known = known.get_mut();
            let live = known.is_live();
            if live {
                known.tombstone(revision);
            }
            live
        });
        let deleted = deleted == Some(true);
        if deleted {
            self.newest = self.newest.max(revision.main);
        }
        deleted
    }

    /// Records a put that was read back, with the numbers stored in its value; see
    /// [`Restore::put`], which is for many.
    pub fn restore_put(&mut self, key: &[u8], revision: Revision, created: i64, version: i64) {
        self.newest = self.newest.max(revision.main);
        self.tree.upsert(
            key,
            || {
                let value = KeyIndex::new(revision, created, version);
                (key.into(), Known::new(value), ())
            },
            |known| known.get_mut().restore_put(revision, created, version),
        );
    }

    /// Records a tombstone that was read back; `false` if the key was not live, but recorded all
    /// the same; see [`Restore::tombstone`], which is for many.
    pub fn restore_tombstone(&mut self, key: &[u8], revision: Revision) -> bool {
        self.newest = self.newest.max(revision.main);
        self.tree.upsert(
            key,
            || (key.into(), Known::new(KeyIndex::deleted(revision)), false),
            |known| {
                let known = known.get_mut();
                let live = known.is_live();
                known.tombstone(revision);
                live
            },
        )
    }

    /// The value of `key` as of main revision `at`, if it had one.
    pub fn get(&self, key: &[u8], at: i64) -> Option<Found> {
        self.tree.get(key)?.get(at)
    }

    /// The keys of a range that had a value as of main revision `at`, in key order.
    ///
    /// The range is `[key, end)`; with an empty `end` just `key`; with `end` = `"\0"` all keys
    /// from `key` on.
    pub fn range<'a>(&'a self, key: &[u8], end: &[u8], at: i64) -> Range<'a> {
        let (from, to) = bounds(key, end);
        let keys = if at >= self.newest {
            self.tree.range_weighted(from, to)
        } else {
            self.tree.range(from, to)
        };
        Range { keys, at }
    }

    /// The number of keys that [`range`](Self::range) yields. O(log n) if nothing is newer than
    /// `at`.
    pub fn count(&self, key: &[u8], end: &[u8], at: i64) -> usize {
        if at < self.newest {
            return self.range(key, end, at).count();
        }
        let (from, to) = bounds(key, end);
        self.tree.weight_in(from, to)
    }

    /// A part of the compaction at `at`: visits at most `max_keys` keys (at least one) from the
    /// cursor `from` on, forgets what their compaction drops, and appends that to `dropped`
    /// (`true`: a tombstone), each key's newest first. Returns the next cursor; `None` when the
    /// compaction is done.
    ///
    /// Of each key stay the records after `at` and the last one not after it, but no tombstone
    /// before `at`. Keys with nothing left are removed; keys with nothing to drop are not touched.
    pub fn compact_step(
        &mut self,
        from: Option<&Bytes>,
        at: i64,
        max_keys: usize,
        dropped: &mut Vec<(Revision, bool)>,
    ) -> Option<Bytes> {
        let from = from.map_or(Bound::Unbounded, |key| Bound::Included(&key[..]));
        let mut keys = self.tree.range(from, Bound::Unbounded);
        let changed: Vec<Key> = keys
            .by_ref()
            .take(max_keys.max(1))
            .filter(|(_, known)| known.compacts(at))
            .map(|(key, _)| key.clone())
            .collect();
        let next = keys
            .next()
            .map(|(key, _)| Bytes::copy_from_slice(key.as_slice()));
        for key in &changed {
            let left = self
                .tree
                .update(key, |known| known.get_mut().compact(at, dropped));
            if left == Some(false) {
                self.tree.remove(key);
            }
        }
        next
    }

    /// The revisions not after `at` that a compaction at `at` would leave, without tombstones:
    /// of each key the one that is visible at `at`.
    ///
    /// Source: etcd `server/storage/mvcc/key_index.go`, `keep`; for `HashKV`.
    pub fn keep(&self, at: i64) -> HashSet<Revision> {
        self.tree
            .iter()
            .filter_map(|(_, known)| known.keep(at))
            .collect()
    }
}

fn bounds<'q>(key: &'q [u8], end: &'q [u8]) -> (Bound<&'q [u8]>, Bound<&'q [u8]>) {
    let to = match end {
        [] => Bound::Included(key),
        [0] => Bound::Unbounded,
        _ => Bound::Excluded(end),
    };
    (Bound::Included(key), to)
}

/// Keys with the values they had; see [`Index::range`].
pub struct Range<'a> {
    keys: cow_tree::Iter<'a, Key, Known>,
    at: i64,
}

impl<'a> Iterator for Range<'a> {
    type Item = (&'a [u8], Found);

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        self.keys
            .find_map(|(key, known)| Some((key.as_slice(), known.get(at)?)))
    }
}

impl FusedIterator for Range<'_> {}

impl fmt::Debug for Range<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Range")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
