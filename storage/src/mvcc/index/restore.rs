//! Building the index of a store that is opened.

use super::{Index, Key, KeyIndex, Revision};
use crate::cow_tree::CowTree;

// Small under test, so that short histories take several batches.
/// Most records held back; about 120 MB while they are sorted.
const BATCH: usize = if cfg!(test) { 500 } else { 1 << 20 };

/// Records that are sorted as soon as they are there, in the processor's cache.
const STRETCH: usize = if cfg!(test) { 50 } else { 1 << 14 };

/// Takes a store's records in ascending revisions and makes an index of them.
///
/// Random insertion waits for memory at every level of the tree. So the records are held back,
/// sorted by key, and put in batch by batch; the first batch is built into a tree as it is.
#[derive(Default)]
pub struct Restore {
    index: Index,
    batch: Vec<Record>,
}

struct Record {
    key: Key,
    revision: Revision,
    value: Option<Numbers>,
}

/// What a put's stored value says.
struct Numbers {
    created: i64,
    version: i64,
}

impl Restore {
    /// Takes a put, with the numbers stored in its value: after a compaction a key's first record
    /// may have a version above 1.
    pub fn put(&mut self, key: &[u8], revision: Revision, created: i64, version: i64) {
        self.push(key, revision, Some(Numbers { created, version }));
    }

    /// Takes a tombstone. It is remembered even if nothing else is known of its key: it is the one
    /// record that a compaction exactly at a deletion leaves behind, and the next compaction has
    /// to remove it from the backend.
    pub fn tombstone(&mut self, key: &[u8], revision: Revision) {
        self.push(key, revision, None);
    }

    /// The index of all records taken.
    pub fn finish(mut self) -> Index {
        self.flush();
        self.index
    }

    fn push(&mut self, key: &[u8], revision: Revision, value: Option<Numbers>) {
        if self.batch.len() == BATCH {
            self.flush();
        }
        self.index.newest = self.index.newest.max(revision.main);
        let key = key.into();
        self.batch.push(Record {
            key,
            revision,
            value,
        });
        // Sorted stretches are only merged in the end, when nothing more is read beside it.
        if self.batch.len().is_multiple_of(STRETCH) {
            let begin = self.batch.len() - STRETCH;
            sort(&mut self.batch[begin..]);
        }
    }

    fn flush(&mut self) {
        sort(&mut self.batch);
        let keys = self.batch.chunk_by(|a, b| a.key == b.key);
        let tree = &mut self.index.tree;
        if tree.is_empty() {
            *tree = CowTree::from_sorted(keys.map(|key| (key[0].key.clone(), begin(key))));
        } else {
            for records in keys {
                let key = &records[0].key;
                let add = || (key.clone(), begin(records), ());
                tree.upsert(key, add, |known| extend(known, records));
            }
        }
        self.batch.clear();
    }
}

/// Stable: the revisions of a key stay in order.
fn sort(records: &mut [Record]) {
    records.sort_by(|a, b| a.key.cmp(&b.key));
}

/// The index of a key of which these are the first records.
fn begin(records: &[Record]) -> KeyIndex {
    let Record {
        revision, value, ..
    } = &records[0];
    let mut known = match value {
        Some(Numbers { created, version }) => KeyIndex::new(*revision, *created, *version),
        None => KeyIndex::deleted(*revision),
    };
    extend(&mut known, &records[1..]);
    known
}

fn extend(known: &mut KeyIndex, records: &[Record]) {
    for record in records {
        match record.value {
            Some(Numbers { created, version }) => {
                known.restore_put(record.revision, created, version);
            }
            None => known.tombstone(record.revision),
        }
    }
}
