//! Hashes by which members and tools compare states. Source: etcd `server/storage/mvcc/hash.go`, `kvstore.go`.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::chunks::Chunks;
use super::index::Index;
use super::read::{Shared, StoreReader, resolve};
use super::{Error, Revision};
use crate::backend::{Bucket, CONSISTENT_INDEX, View};

/// Keys of the `meta` bucket that differ between equal members.
const OWN_META: [&[u8]; 3] = [CONSISTENT_INDEX, b"term", b"storageVersion"];

/// The hash of the key-values at a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C over the records.
    pub hash: u32,
    /// The revision that was hashed.
    pub rev: i64,
    /// The compacted revision the hash holds for, -1 for none. Only hashes with equal ones can be compared
    /// (lesson W17 of etcd's history).
    pub compact_rev: i64,
    /// The store's current revision.
    pub current_rev: i64,
}

/// The hashes of the last compactions.
#[derive(Debug, Default)]
pub(crate) struct CompactionHashes {
    last: VecDeque<CompactionHash>,
}

/// The hash of what a compaction found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CompactionHash {
    pub(crate) hash: u32,
    pub(crate) rev: i64,
    pub(crate) compact_rev: i64,
}

impl CompactionHashes {
    const KEPT: usize = 10;

    pub(crate) fn push(&mut self, hash: CompactionHash) {
        if self.last.len() == Self::KEPT {
            self.last.pop_front();
        }
        self.last.push_back(hash);
    }

    fn get(&self, rev: i64) -> Option<CompactionHash> {
        self.last.iter().find(|hash| hash.rev == rev).copied()
    }
}

impl StoreReader {
    /// The hash of the whole backend; commits first. Buckets in name order, each with its name, without what
    /// is the member's own (consistent index, term, storage version).
    ///
    /// # Errors
    /// `Backend`.
    pub fn hash(&self) -> Result<u32, Error> {
        let backend = self.backend();
        backend.commit()?;
        let view = backend.view()?;
        let mut hash = 0;
        for bucket in Bucket::ALL {
            hash = crc32c::crc32c_append(hash, bucket.name().as_bytes());
            for chunk in Chunks::all(&*view, bucket) {
                for (key, value) in chunk? {
                    if bucket != Bucket::Meta || !OWN_META.contains(&&key[..]) {
                        hash = crc32c::crc32c_append(hash, &key);
                        hash = crc32c::crc32c_append(hash, &value);
                    }
                }
            }
        }
        Ok(hash)
    }

    /// The hash of the key-values at `rev` (0 or below: the current revision), also while a compaction is
    /// half done. For a revision that was compacted lately it is the hash of that compaction.
    ///
    /// # Errors
    /// `FutureRev`, `Compacted` (below the compacted revision, which itself is allowed), `Corrupt`, `Backend`.
    pub fn hash_kv(&self, rev: i64) -> Result<HashKv, Error> {
        let stored = self.shared.base().hashes.lock().get(rev);
        if let Some(CompactionHash {
            hash,
            rev,
            compact_rev,
        }) = stored
            && rev > 0
        {
            return Ok(HashKv {
                hash,
                rev,
                compact_rev,
                current_rev: self.rev(),
            });
        }
        loop {
            let version = self.shared.published.load_full();
            let rev = resolve(rev, version.rev, version.compact_rev)?;
            let view = version.base.backend.view()?;
            // A compaction that began in between may have deleted what this version still needs.
            if self.compact_rev() == version.compact_rev {
                let records = Records::new(&version.index, rev, version.compact_rev);
                let hash = records.hash(&*view, || false)?;
                return Ok(HashKv {
                    hash: hash.expect("not cancelled"),
                    rev,
                    compact_rev: version.compact_rev,
                    current_rev: version.rev,
                });
            }
        }
    }
}

/// The hash a compaction at `rev` leaves behind, the one before having been at `compact_rev`. Has to end
/// before the compaction's first deletion. `None` when cancelled.
pub(crate) fn of_compaction(
    shared: &Shared,
    rev: i64,
    compact_rev: i64,
    cancelled: &AtomicBool,
) -> Result<Option<CompactionHash>, Error> {
    // etcd makes the mark of the scheduled compaction durable before it deletes anything.
    // Another database can only take this one's place when this has ended.
    let base = shared.base();
    base.backend.commit()?;
    let version = shared.published.load_full();
    let view = base.backend.view()?;
    let mut records = Records::new(&version.index, rev, compact_rev);
    if records.fallback && has_tombstone_at(&*view, rev)? {
        // Tombstones at the compacted revision are kept by the compaction though not by `Index::keep`.
        records.keep.clear();
    }
    let hash = records.hash(&*view, || cancelled.load(Ordering::Relaxed))?;
    Ok(hash.map(|hash| CompactionHash {
        hash,
        rev,
        compact_rev,
    }))
}

fn has_tombstone_at(view: &dyn View, rev: i64) -> Result<bool, Error> {
    let (from, to) = (Revision::new(rev, 0).key(), Revision::new(rev + 1, 0).key());
    for chunk in Chunks::new(view, Bucket::Key, &from, Some(&to)) {
        let is_tombstone = |(key, _): &(Bytes, Bytes)| key.len() == Revision::TOMBSTONE_KEY_LEN;
        if chunk?.iter().any(is_tombstone) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Which records count for the hash at `rev` when `compact_rev` is compacted.
struct Records {
    rev: i64,
    compact_rev: i64,
    /// Of the records up to `compact_rev`, these count.
    keep: HashSet<Revision>,
    /// `keep` is not that of `rev`.
    fallback: bool,
}

impl Records {
    fn new(index: &Index, rev: i64, compact_rev: i64) -> Records {
        // The first revision is 1: up to 0 there is nothing to choose from.
        let mut keep = if compact_rev > 0 {
            index.keep(rev)
        } else {
            HashSet::new()
        };
        let fallback = compact_rev > 0 && keep.is_empty();
        if fallback {
            // With nothing to keep at `rev`, etcd hashes all that is there. That is what a finished compaction
            // leaves, and must not depend on how far the running one is.
            keep = index.keep(compact_rev);
        }
        Records {
            rev,
            compact_rev,
            keep,
            fallback,
        }
    }

    /// etcd also leaves out the tombstones at the compacted revision; `keep` has no tombstones at all.
    fn counts(&self, revision: Revision) -> bool {
        revision.main > self.compact_rev || self.keep.contains(&revision)
    }

    fn hash(&self, view: &dyn View, cancelled: impl Fn() -> bool) -> Result<Option<u32>, Error> {
        let mut hash = crc32c::crc32c(Bucket::Key.name().as_bytes());
        let end = Revision::new(self.rev.saturating_add(1), 0).key();
        for chunk in Chunks::new(view, Bucket::Key, b"", Some(&end)) {
            if cancelled() {
                return Ok(None);
            }
            for (key, value) in chunk? {
                let (revision, _) = Revision::from_key(&key).ok_or_else(|| {
                    Error::corrupt(Bucket::Key, &key, "the key is not a revision")
                })?;
                if self.counts(revision) {
                    hash = crc32c::crc32c_append(hash, &key);
                    hash = crc32c::crc32c_append(hash, &value);
                }
            }
        }
        Ok(Some(hash))
    }
}
