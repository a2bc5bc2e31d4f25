//! Reading: queries over a pinned version. No reader waits for the writer longer than it takes to note one revision.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;

use super::hash::CompactionHashes;
use super::index::{Found, Index};
use super::kv::{Fields, Kv, Layout};
use super::values::Values;
use super::{Error, Revision};
use crate::backend::{self, Bucket};

/// What to read.
#[derive(Debug, Clone, Copy, Default)]
pub struct RangeQuery<'a> {
    /// The key, or the first key of the range.
    pub key: &'a [u8],
    /// The end of the range, excluded. Empty: `key` alone. One zero byte: everything from `key` on.
    pub end: &'a [u8],
    /// As of which main revision; 0 or below: the newest.
    pub rev: i64,
    /// The most key-values to fetch; 0: all.
    pub limit: usize,
    /// Only count.
    pub count_only: bool,
    /// Only keys and revisions: values and leases are left out, and the backend is not asked.
    pub keys_only: bool,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeResult {
    /// In key order.
    pub kvs: Vec<Kv>,
    /// Keys in the range at that revision, whatever the limit.
    pub count: usize,
    /// The store's current revision, not the one asked for.
    pub rev: i64,
}

/// One version of the store, as of `rev`. Readers share it.
pub(crate) struct Published {
    pub(crate) index: Index,
    /// The current revision; at least that of every change in `index`.
    pub(crate) rev: i64,
    /// -1 when never compacted.
    pub(crate) compact_rev: i64,
    /// Where its values are.
    pub(crate) base: Arc<Base>,
}

/// What the store and its readers share.
pub(crate) struct Shared {
    /// Replaced after the backend published the same changes: whoever sees a revision here finds its
    /// values there. And a compaction's revision is here before the backend sees its first deletion.
    pub(crate) published: ArcSwap<Published>,
}

/// A database and what is known of it. Another one takes its place when a leader's snapshot is installed; it is
/// closed when the last version that is read from it is gone.
pub(crate) struct Base {
    pub(crate) backend: backend::Reader,
    pub(crate) values: Values,
    /// Guards ten small numbers per compaction; held for a copy of them.
    pub(crate) hashes: Mutex<CompactionHashes>,
}

/// Where revision `asked` is read, given the current and the compacted one.
pub(crate) fn resolve(asked: i64, current: i64, compacted: i64) -> Result<i64, Error> {
    match asked {
        ..=0 => Ok(current),
        _ if asked > current => Err(Error::FutureRev),
        _ if asked < compacted => Err(Error::Compacted),
        _ => Ok(asked),
    }
}

/// The answer of `index` at `at`, the values by `fetch`.
pub(crate) fn select(
    index: &Index,
    at: i64,
    query: &RangeQuery,
    mut fetch: impl FnMut(&[u8], &Found) -> Result<Bytes, Error>,
) -> Result<(Vec<Kv>, usize), Error> {
    let RangeQuery {
        key, end, limit, ..
    } = *query;
    if query.count_only {
        return Ok((Vec::new(), index.count(key, end, at)));
    }
    let limit = if limit == 0 { usize::MAX } else { limit };
    let mut kvs = Vec::new();
    for (key, found) in index.range(key, end, at) {
        if kvs.len() == limit {
            return Ok((kvs, index.count(query.key, end, at)));
        }
        let encoded = if query.keys_only {
            without_value(key, &found)
        } else {
            fetch(key, &found)?
        };
        kvs.push(Kv {
            key: encoded.slice(Layout::of(&encoded).unwrap_or_default().key),
            modified: found.modified,
            created: found.created,
            version: found.version,
            encoded,
        });
    }
    let count = kvs.len();
    Ok((kvs, count))
}

/// What stands for a key-value when only keys are asked for.
fn without_value(key: &[u8], found: &Found) -> Bytes {
    Fields {
        key,
        create_revision: found.created,
        mod_revision: found.modified.main,
        version: found.version,
        ..Fields::default()
    }
    .encode()
}

impl Shared {
    /// The database of the newest version.
    pub(crate) fn base(&self) -> Arc<Base> {
        self.published.load().base.clone()
    }
}

impl Base {
    /// The stored key-value of a revision: from the cache, else by `load`, which is given its backend key.
    /// `None` if the backend does not have it.
    pub(crate) fn fetch(
        &self,
        key: &[u8],
        revision: Revision,
        load: impl FnOnce(&[u8]) -> Result<Option<Bytes>, backend::Error>,
    ) -> Result<Option<Bytes>, Error> {
        if let Some(encoded) = self.values.get(revision) {
            return Ok(Some(encoded));
        }
        let backend_key = revision.key();
        let Some(encoded) = load(&backend_key)? else {
            return Ok(None);
        };
        let corrupt = |problem| Error::corrupt(Bucket::Key, &backend_key, problem);
        // `etcdutl snapshot restore --bump-revision` stores an empty key-value.
        if !encoded.is_empty() {
            let layout =
                Layout::of(&encoded).ok_or_else(|| corrupt("the value is not a key-value"))?;
            if layout.mod_revision != revision.main {
                return Err(corrupt("the value has another mod_revision"));
            }
            if &encoded[layout.key] != key {
                return Err(corrupt("the value has another key"));
            }
        }
        self.values.insert(revision, encoded.clone());
        Ok(Some(encoded))
    }
}

/// An error for an indexed revision that the backend lacks though no compaction explains it.
pub(crate) fn missing(revision: Revision) -> Error {
    Error::corrupt(Bucket::Key, &revision.key(), "the record is missing")
}

/// Reads what the store published; clone it freely, use it from any thread.
#[derive(Clone)]
pub struct StoreReader {
    pub(crate) shared: Arc<Shared>,
}

impl StoreReader {
    /// The newest published version, pinned.
    pub fn view(&self) -> ReadView {
        ReadView {
            published: self.shared.published.load_full(),
            shared: self.shared.clone(),
        }
    }

    /// The current revision.
    pub fn rev(&self) -> i64 {
        self.shared.published.load().rev
    }

    /// The compacted revision, -1 when there was no compaction.
    pub fn compact_rev(&self) -> i64 {
        self.shared.published.load().compact_rev
    }

    /// [`ReadView::range`] over a fresh view, as many as it takes.
    ///
    /// # Errors
    /// As there, without `Stale`.
    pub fn range(&self, query: &RangeQuery) -> Result<RangeResult, Error> {
        loop {
            // Each round needs a compaction that began after the one before.
            match self.view().range(query) {
                Err(Error::Stale) => {}
                answer => return answer,
            }
        }
    }

    /// The backend's published state, for the other buckets. Installing a leader's snapshot gives the store another
    /// backend: ask again for each request.
    pub fn backend(&self) -> backend::Reader {
        self.shared.published.load().base.backend.clone()
    }
}

/// A pinned version of the store. Nothing changes in it and nobody waits for it, but it keeps memory:
/// use it for a request, not for longer.
pub struct ReadView {
    published: Arc<Published>,
    shared: Arc<Shared>,
}

impl ReadView {
    /// The current revision of this version.
    pub fn rev(&self) -> i64 {
        self.published.rev
    }

    /// The compacted revision of this version, -1 when there was no compaction.
    pub fn compact_rev(&self) -> i64 {
        self.published.compact_rev
    }

    /// The number of live keys.
    pub fn live_keys(&self) -> usize {
        self.published.index.live_len()
    }

    /// Reads the keys of `query` that are live at its revision.
    ///
    /// # Errors
    /// `FutureRev` if the revision is above the current one, `Compacted` if below the compacted one. If a
    /// compaction that began after this view was taken removed a value: `Compacted` if a revision was
    /// asked for, `Stale` if the newest. `Corrupt` and `Backend` otherwise.
    /// Source: etcd `server/storage/mvcc/kvstore_txn.go`.
    pub fn range(&self, query: &RangeQuery) -> Result<RangeResult, Error> {
        let Published {
            index,
            rev,
            compact_rev,
            base,
        } = &*self.published;
        let at = resolve(query.rev, *rev, *compact_rev)?;
        let (kvs, count) = select(index, at, query, |key, found| {
            let revision = found.modified;
            let load = |key: &[u8]| base.backend.get(Bucket::Key, key);
            match base.fetch(key, revision, load)? {
                Some(encoded) => Ok(encoded),
                None => Err(self.vanished(revision, query.rev)),
            }
        })?;
        Ok(RangeResult {
            kvs,
            count,
            rev: *rev,
        })
    }

    /// Why the backend lacks a revision that this version has. Should the newest version be of another database, that
    /// one is later in the same history, and at least as much of it is compacted.
    fn vanished(&self, revision: Revision, asked: i64) -> Error {
        let compacted = self.shared.published.load().compact_rev;
        if compacted <= self.published.compact_rev || revision.main > compacted {
            missing(revision)
        } else if asked <= 0 {
            Error::Stale
        } else {
            Error::Compacted
        }
    }
}
