//! What the index knows of one key.

use std::iter;
use std::sync::Arc;

use super::Revision;
use super::index::Found;
use crate::cow_tree::Weight;

#[cfg(test)]
mod tests;

// Small under test, so that short histories have many chunks.
/// Most records in a chunk: what a change may have to copy when a published version holds it.
const CHUNK: usize = if cfg!(test) { 3 } else { 64 };

/// A revision and whether it deleted the key. Ordered like backend keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    main: i64,
    /// Sub shifted left by one; the lowest bit marks a tombstone.
    sub_mark: u64,
}

impl Record {
    fn new(revision: Revision, tombstone: bool) -> Self {
        let sub = revision.sub.cast_unsigned();
        Self {
            main: revision.main,
            sub_mark: sub << 1 | u64::from(tombstone),
        }
    }

    fn revision(self) -> Revision {
        Revision::new(self.main, (self.sub_mark >> 1).cast_signed())
    }

    fn is_tombstone(self) -> bool {
        self.sub_mark & 1 == 1
    }
}

/// The history of a key: puts and tombstones in ascending revisions, the newest one in place.
///
/// A tombstone ends a generation. Within one, versions go up by one with each put; a tombstone
/// counts as one more.
#[derive(Clone, Debug)]
pub(super) struct KeyIndex {
    newest: Record,
    /// The revision that created the newest record's generation.
    created: i64,
    /// Of the newest record.
    version: i64,
    /// All other records.
    older: Option<Arc<Chunk>>,
}

/// Some records, ascending, that share `created`; `records[i]` has version `version + i`. Chunks
/// hang together newest first.
#[derive(Debug)]
struct Chunk {
    created: i64,
    version: i64,
    /// Never empty.
    records: Vec<Record>,
    older: Option<Arc<Chunk>>,
}

/// A chunk is only cloned to be changed: the copy has room for one more.
impl Clone for Chunk {
    fn clone(&self) -> Self {
        let mut records = Vec::with_capacity((self.records.len() + 1).next_multiple_of(4));
        records.extend_from_slice(&self.records);
        Self {
            records,
            older: self.older.clone(),
            ..*self
        }
    }
}

/// Frees a long history without deep recursion.
impl Drop for Chunk {
    fn drop(&mut self) {
        let mut next = self.older.take();
        while let Some(mut chunk) = next.and_then(Arc::into_inner) {
            next = chunk.older.take();
        }
    }
}

impl Weight for KeyIndex {
    /// 1 for a live key.
    fn weight(&self) -> usize {
        usize::from(self.is_live())
    }
}

impl KeyIndex {
    /// The index of a key whose first known record is a put.
    pub(super) fn new(revision: Revision, created: i64, version: i64) -> Self {
        Self {
            newest: Record::new(revision, false),
            created,
            version,
            older: None,
        }
    }

    /// The index of a key of which only a tombstone is known.
    pub(super) fn deleted(revision: Revision) -> Self {
        Self {
            newest: Record::new(revision, true),
            created: 0,
            version: 0,
            older: None,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        !self.newest.is_tombstone()
    }

    /// Adds a put with the created revision and version that follow from the history.
    pub(super) fn put(&mut self, revision: Revision) -> Found {
        let (created, version) = if self.is_live() {
            (self.created, self.version.wrapping_add(1))
        } else {
            (revision.main, 1)
        };
        self.push(Record::new(revision, false), created, version);
        Found {
            modified: revision,
            created,
            version,
        }
    }

    /// Adds a put as it is stored.
    pub(super) fn restore_put(&mut self, revision: Revision, created: i64, version: i64) {
        self.push(Record::new(revision, false), created, version);
    }

    /// Adds a tombstone.
    pub(super) fn tombstone(&mut self, revision: Revision) {
        let version = self.version.wrapping_add(1);
        self.push(Record::new(revision, true), self.created, version);
    }

    fn push(&mut self, record: Record, created: i64, version: i64) {
        debug_assert!(self.newest < record, "revisions ascend");
        match &mut self.older {
            Some(chunk) if chunk.continues(self.created, self.version) => {
                Arc::make_mut(chunk).records.push(self.newest);
            }
            older => {
                *older = Some(Arc::new(Chunk {
                    created: self.created,
                    version: self.version,
                    records: vec![self.newest],
                    older: older.take(),
                }));
            }
        }
        self.newest = record;
        self.created = created;
        self.version = version;
    }

    /// The value as of main revision `at`, if there was one.
    pub(super) fn get(&self, at: i64) -> Option<Found> {
        let (record, created, version) = if self.newest.main <= at {
            (self.newest, self.created, self.version)
        } else {
            let chunk = self.chunks().find(|chunk| chunk.records[0].main <= at)?;
            let i = chunk.records.partition_point(|r| r.main <= at) - 1;
            let version = chunk.version.wrapping_add(i as i64);
            (chunk.records[i], chunk.created, version)
        };
        (!record.is_tombstone()).then(|| Found {
            modified: record.revision(),
            created,
            version,
        })
    }

    /// Whether a compaction at `at` would drop anything.
    pub(super) fn compacts(&self, at: i64) -> bool {
        self.kept(at) < self.len()
    }

    /// Drops what a compaction at `at` drops, and appends it to `dropped`, newest first. Returns
    /// whether anything is left of the key.
    pub(super) fn compact(&mut self, at: i64, dropped: &mut Vec<(Revision, bool)>) -> bool {
        let kept = self.kept(at);
        let surplus = self.records().skip(kept);
        dropped.extend(surplus.map(|r| (r.revision(), r.is_tombstone())));
        if kept > 0 {
            self.truncate(kept - 1);
        }
        kept > 0
    }

    /// The revision that stays visible after a compaction at `at` and is not newer.
    pub(super) fn keep(&self, at: i64) -> Option<Revision> {
        let oldest = self.records().nth(self.kept(at).checked_sub(1)?)?;
        (oldest.main <= at && !oldest.is_tombstone()).then(|| oldest.revision())
    }

    /// How many records, counted from the newest, a compaction at `at` keeps: those after `at`
    /// and the last one not after `at`, unless it is a tombstone before `at`. A generation that
    /// ends at `at` itself keeps its tombstone, even if the key was put again in that revision.
    ///
    /// Source: etcd `server/storage/mvcc/key_index.go`, `compact`.
    fn kept(&self, at: i64) -> usize {
        let newer = self.newer(at);
        let mut rest = self.records().skip(newer);
        match rest.next() {
            None => newer,
            Some(last) if last.is_tombstone() && last.main < at => newer,
            Some(_) => {
                let same = rest.take_while(|r| r.main == at);
                let ends = same.enumerate().filter(|(_, r)| r.is_tombstone());
                newer + 1 + ends.last().map_or(0, |(i, _)| i + 1)
            }
        }
    }

    /// The number of records after `at`.
    fn newer(&self, at: i64) -> usize {
        if self.newest.main <= at {
            return 0;
        }
        let mut count = 1;
        for chunk in self.chunks() {
            let older = chunk.records.partition_point(|r| r.main <= at);
            count += chunk.records.len() - older;
            if older > 0 {
                break;
            }
        }
        count
    }

    /// Keeps the newest record and `keep` older ones. Chunks that a published version holds are
    /// copied.
    fn truncate(&mut self, mut keep: usize) {
        let mut chunks = Vec::new();
        let mut next = self.older.take();
        while keep > 0
            && let Some(mut chunk) = next
        {
            next = match Arc::get_mut(&mut chunk) {
                Some(owned) => owned.older.take(),
                None => chunk.older.clone(),
            };
            let surplus = chunk.records.len().saturating_sub(keep);
            if surplus > 0 {
                let chunk = Arc::make_mut(&mut chunk);
                chunk.records.drain(..surplus);
                chunk.version = chunk.version.wrapping_add(surplus as i64);
            }
            keep -= chunk.records.len();
            chunks.push(chunk);
        }
        for mut chunk in chunks.into_iter().rev() {
            Arc::make_mut(&mut chunk).older = self.older.take();
            self.older = Some(chunk);
        }
    }

    /// The number of records.
    fn len(&self) -> usize {
        1 + self
            .chunks()
            .map(|chunk| chunk.records.len())
            .sum::<usize>()
    }

    /// Newest first.
    fn records(&self) -> impl Iterator<Item = Record> {
        let older = self.chunks().flat_map(|chunk| chunk.records.iter().rev());
        iter::once(self.newest).chain(older.copied())
    }

    /// Newest first.
    fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        iter::successors(self.older.as_deref(), |chunk| chunk.older.as_deref())
    }
}

impl Chunk {
    /// Whether a record with these numbers can be appended.
    fn continues(&self, created: i64, version: i64) -> bool {
        let len = self.records.len();
        len < CHUNK && self.created == created && self.version.wrapping_add(len as i64) == version
    }
}
