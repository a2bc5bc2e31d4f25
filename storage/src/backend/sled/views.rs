//! Consistent views over an engine that has none.
//!
//! Commits are numbered. While views are alive, a commit first records the value that each key it is going to change
//! has now. A view reads sled first and the records second: the first record of a key that is newer than the view
//! holds what the view has to see; without one, no commit since has touched the key.
//!
//! A commit that finds no view records nothing. A view that is made while such a commit runs takes the
//! state after it, by laying the commit's batch over what sled has.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::RwLock;

use super::store::{Store, stored_key};
use crate::backend::overlay::{self, Change, Overlay, successor};
use crate::backend::{Batch, Bucket, Error, View, codec};

/// What views and commits share.
pub(super) struct Core {
    /// Replaced by a defragmentation between two commits. The contents are the same, and what changes afterwards is
    /// recorded; so a view need not notice, whichever of the two it reads.
    pub(super) store: ArcSwap<Store>,
    history: RwLock<History>,
}

#[derive(Default)]
struct History {
    /// Number of the last finished commit.
    committed: u64,
    in_progress: Option<Arc<Batch>>,
    /// Living views by the commit they show.
    views: BTreeMap<u64, usize>,
    /// Per key, oldest first: the value before a commit. Invariant: nothing here is older than the oldest view.
    before: BTreeMap<sled::IVec, Vec<(u64, Option<sled::IVec>)>>,
}

impl Core {
    pub(super) fn new(store: Store) -> Arc<Self> {
        Arc::new(Core {
            store: ArcSwap::from_pointee(store),
            history: RwLock::default(),
        })
    }

    pub(super) fn store(&self) -> Arc<Store> {
        self.store.load_full()
    }

    /// Announces a commit; returns when the values that it will change are safe for all views.
    pub(super) fn begin(&self, batch: &Batch) -> Result<(), Error> {
        let number = {
            let mut history = self.history.write();
            history.in_progress = Some(Arc::new(batch.clone()));
            if history.views.is_empty() {
                return Ok(());
            }
            history.committed + 1
        };
        let store = self.store();
        let before = batch.ops().iter().map(|op| {
            let key = stored_key(op.bucket(), op.key());
            let value = store.get(&key)?;
            Ok((key, value))
        });
        let before: Vec<_> = before.collect::<Result<_, Error>>()?;
        let mut history = self.history.write();
        for (key, value) in before {
            let values = history.before.entry(key).or_default();
            if values.last().is_none_or(|(n, _)| *n != number) {
                values.push((number, value));
            }
        }
        // The last view may have gone meanwhile.
        if history.views.is_empty() {
            history.before.clear();
        }
        Ok(())
    }

    /// Says that the announced commit is applied.
    pub(super) fn end(&self) {
        let mut history = self.history.write();
        history.committed += 1;
        history.in_progress = None;
    }

    pub(super) fn view(self: &Arc<Self>) -> SledView {
        let mut history = self.history.write();
        let in_progress = history.in_progress.clone();
        let number = history.committed + u64::from(in_progress.is_some());
        *history.views.entry(number).or_default() += 1;
        drop(history);
        let mut batch = Overlay::default();
        in_progress
            .iter()
            .flat_map(|b| b.ops())
            .for_each(|op| batch.insert(op.into()));
        SledView {
            core: self.clone(),
            number,
            batch,
        }
    }
}

impl History {
    /// Drops what no view needs.
    fn forget(&mut self) {
        match self.views.first_key_value() {
            None => self.before.clear(),
            Some((&oldest, _)) => self.before.retain(|_, values| {
                values.retain(|(number, _)| *number > oldest);
                !values.is_empty()
            }),
        }
    }

    /// The value of a key that a later commit changed, as it was at `number`.
    fn at(number: u64, values: &[(u64, Option<sled::IVec>)]) -> Option<&Option<sled::IVec>> {
        values
            .iter()
            .find(|(n, _)| *n > number)
            .map(|(_, value)| value)
    }
}

/// The state after one commit.
pub(super) struct SledView {
    core: Arc<Core>,
    number: u64,
    /// The commit that ran when the view was made.
    batch: Overlay,
}

impl Drop for SledView {
    fn drop(&mut self) {
        let mut history = self.core.history.write();
        if let Some(count) = history.views.get_mut(&self.number) {
            *count -= 1;
            if *count == 0 {
                let oldest = history
                    .views
                    .first_key_value()
                    .is_some_and(|(n, _)| *n == self.number);
                history.views.remove(&self.number);
                if oldest {
                    history.forget();
                }
            }
        }
    }
}

/// Keys read from sled at a time: at most, and at least even if fewer are wanted, because some may be gone.
const CHUNK: usize = 512;
const MIN_CHUNK: usize = 16;

impl SledView {
    /// What commits since the view have changed in `[from, to)`, as it was.
    fn undone(&self, bucket: Bucket, from: &[u8], to: Option<&[u8]>) -> Overlay {
        let mut undone = Overlay::default();
        let history = self.core.history.read();
        if history.before.is_empty() {
            return undone;
        }
        let from = stored_key(bucket, from);
        let to = to.map(|to| stored_key(bucket, to));
        for (key, values) in history.before.range(from..) {
            if key[0] != codec::bucket_code(bucket) || to.as_ref().is_some_and(|to| key >= to) {
                break;
            }
            if let Some(value) = History::at(self.number, values) {
                let value = value.as_deref().map(Bytes::copy_from_slice);
                undone.insert(overlay::Entry {
                    bucket,
                    key: overlay::Key::new(&key[1..]),
                    change: Change(value),
                });
            }
        }
        undone
    }
}

impl View for SledView {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        if let Some(change) = self.batch.get(bucket, key) {
            return Ok(change.0.clone());
        }
        let key = stored_key(bucket, key);
        // In this order: a record is made before sled changes.
        let now = self.core.store().get(&key)?;
        let history = self.core.history.read();
        let before = history
            .before
            .get(&key)
            .and_then(|values| History::at(self.number, values));
        Ok(before
            .unwrap_or(&now)
            .as_deref()
            .map(Bytes::copy_from_slice))
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let mut out = Vec::new();
        let mut from = Bytes::copy_from_slice(from);
        while to.is_none_or(|to| &from[..] < to) {
            let want = if limit == 0 {
                CHUNK
            } else {
                (limit - out.len()).clamp(MIN_CHUNK, CHUNK)
            };
            // In this order: a record is made before sled changes.
            let now = self.core.store().scan(bucket, &from, to, want)?;
            let next = if now.len() < want {
                None
            } else {
                now.last().map(|(key, _)| successor(key))
            };
            let end = next.as_deref().or(to);
            let undone = self.undone(bucket, &from, end);
            overlay::merge(
                now,
                &[&self.batch, &undone],
                bucket,
                &from,
                end,
                limit,
                &mut out,
            );
            match next {
                Some(next) if limit == 0 || out.len() < limit => from = next,
                _ => break,
            }
        }
        Ok(out)
    }
}
