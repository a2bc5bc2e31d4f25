//! Writing: one transaction, one revision.

use bytes::Bytes;

use super::kv::{Fields, Kv, Layout};
use super::read::{self, RangeQuery, RangeResult};
use super::{Change, ChangeKind, Error, Revision, Store};
use crate::backend::Bucket;

/// A transaction. Its first change creates the next main revision, which all its changes share; their sub
/// revisions count from 0. Without a change the revision stays.
///
/// There is no way back: check everything that may be refused before the first change. A transaction that is
/// dropped ends like one that is [ended](WriteTxn::end), so that no revision is given out twice.
pub struct WriteTxn<'a> {
    store: &'a mut Store,
    changes: usize,
}

impl<'a> WriteTxn<'a> {
    pub(super) fn new(store: &'a mut Store) -> WriteTxn<'a> {
        WriteTxn { store, changes: 0 }
    }

    /// The revision before the transaction.
    pub fn rev(&self) -> i64 {
        self.store.rev
    }

    /// The compacted revision; -1 when there was no compaction.
    pub fn compact_rev(&self) -> i64 {
        self.store.compact_rev
    }

    /// The changes so far: puts, and deleted keys.
    pub fn changes(&self) -> usize {
        self.changes
    }

    /// The revision a reader of the transaction sees: one more as soon as it changed something.
    fn current(&self) -> i64 {
        self.store.rev + i64::from(self.changes > 0)
    }

    /// The revision of the next change.
    fn next(&self) -> Result<Revision, Error> {
        let main = self.store.rev.checked_add(1).ok_or(Error::Exhausted)?;
        Ok(Revision::new(main, self.changes as i64))
    }

    /// As [`ReadView::range`](super::ReadView::range), but with this transaction's changes; they are at its
    /// own revision.
    ///
    /// # Errors
    /// As there, without `Stale`.
    pub fn range(&self, query: &RangeQuery) -> Result<RangeResult, Error> {
        let rev = self.current();
        let at = read::resolve(query.rev, rev, self.store.compact_rev)?;
        let (kvs, count) = read::select(&self.store.index, at, query, |key, found| {
            self.fetch(key, found.modified)
        })?;
        Ok(RangeResult { kvs, count, rev })
    }

    fn fetch(&self, key: &[u8], revision: Revision) -> Result<Bytes, Error> {
        let load = |key: &[u8]| self.store.writer.get(Bucket::Key, key);
        self.store
            .base
            .fetch(key, revision, load)?
            .ok_or_else(|| read::missing(revision))
    }

    /// Sets `key`, attached to `lease` (0: none), and returns the transaction's revision.
    ///
    /// # Errors
    /// `Exhausted`.
    pub fn put(&mut self, key: Bytes, value: Bytes, lease: i64) -> Result<i64, Error> {
        let revision = self.next()?;
        let found = self.store.index.put(&key, revision);
        let encoded = Fields {
            key: &key,
            create_revision: found.created,
            mod_revision: revision.main,
            version: found.version,
            value: &value,
            lease,
        }
        .encode();
        let store = &mut *self.store;
        store.base.values.insert(revision, encoded.clone());
        if let Some(changes) = &mut store.changes {
            changes.push(Change {
                revision,
                key: encoded.slice(Layout::of(&encoded).unwrap_or_default().key),
                kind: ChangeKind::Put {
                    created: found.created == revision.main,
                    encoded: encoded.clone(),
                },
            });
        }
        store.writer.put(Bucket::Key, revision.key(), encoded);
        self.changes += 1;
        Ok(revision.main)
    }

    /// Deletes the live keys of `[key, end)` (`end` as in [`RangeQuery`]) and returns them in key order as they
    /// were; with [`Kv::encoded`] only if `want_prev`.
    ///
    /// # Errors
    /// `Exhausted`; with `want_prev` what fetching values may give. Nothing is deleted then.
    pub fn delete_range(
        &mut self,
        key: &[u8],
        end: &[u8],
        want_prev: bool,
    ) -> Result<Vec<Kv>, Error> {
        let first = self.next()?;
        let live = self.store.index.range(key, end, first.main);
        let deleted = live.map(|(key, found)| {
            let encoded = if want_prev {
                self.fetch(key, found.modified)?
            } else {
                Bytes::new()
            };
            Ok(Kv {
                key: Bytes::copy_from_slice(key),
                modified: found.modified,
                created: found.created,
                version: found.version,
                encoded,
            })
        });
        let deleted = deleted.collect::<Result<Vec<_>, Error>>()?;
        let store = &mut *self.store;
        for kv in &deleted {
            let revision = Revision::new(first.main, self.changes as i64);
            let was_live = store.index.tombstone(&kv.key, revision);
            debug_assert!(was_live, "the index listed it");
            let tombstone = Fields {
                key: &kv.key,
                ..Fields::default()
            }
            .encode();
            store
                .writer
                .put(Bucket::Key, revision.tombstone_key(), tombstone);
            if let Some(changes) = &mut store.changes {
                changes.push(Change {
                    revision,
                    key: kv.key.clone(),
                    kind: ChangeKind::Delete,
                });
            }
            self.changes += 1;
        }
        Ok(deleted)
    }

    /// Ends the transaction and returns the revision after it. Readers see it with the next
    /// [`Store::publish`].
    pub fn end(self) -> i64 {
        self.current()
    }
}

impl Drop for WriteTxn<'_> {
    fn drop(&mut self) {
        if self.changes > 0 {
            self.store.rev += 1;
            self.store.dirty = true;
        }
    }
}
