//! Building the index of a store that is opened.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::{iter, vec};

use super::{Index, Key, KeyIndex, Known, Revision};
use crate::cow_tree::CowTree;

// Small under test, so that short histories take several batches of several runs.
/// Records that are sorted together.
const RUN: usize = if cfg!(test) { 50 } else { 1 << 15 };
/// Most runs held back; about 90 MB.
const BATCH: usize = if cfg!(test) { 10 } else { 32 };

/// Takes a store's records in ascending revisions and makes an index of them.
///
/// Random insertion waits for memory at every level of the tree. So the records are held back in sorted runs, which are
/// merged and put in batch by batch; the first batch is built into a tree as it is.
#[derive(Default)]
pub struct Restore {
    index: Index,
    runs: Vec<Vec<Record>>,
    run: Vec<Record>,
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
        self.end_run();
        self.flush();
        self.index
    }

    fn push(&mut self, key: &[u8], revision: Revision, value: Option<Numbers>) {
        self.index.newest = self.index.newest.max(revision.main);
        if self.run.capacity() == 0 {
            self.run.reserve_exact(RUN);
        }
        let key = key.into();
        self.run.push(Record {
            key,
            revision,
            value,
        });
        if self.run.len() == RUN {
            self.end_run();
            if self.runs.len() == BATCH {
                self.flush();
            }
        }
    }

    fn end_run(&mut self) {
        let mut run = std::mem::take(&mut self.run);
        // Stable: the revisions of a key stay in order.
        run.sort_by(|a, b| a.key.cmp(&b.key));
        self.runs.push(run);
    }

    fn flush(&mut self) {
        let mut merge = Merge::new(std::mem::take(&mut self.runs));
        let mut records = Vec::new();
        let tree = &mut self.index.tree;
        if tree.is_empty() {
            *tree = CowTree::from_sorted(iter::from_fn(|| {
                let more = merge.next_key(&mut records);
                more.then(|| (records[0].key.clone(), Known::new(begin(&records))))
            }));
            return;
        }
        while merge.next_key(&mut records) {
            let key = &records[0].key;
            let add = || (key.clone(), Known::new(begin(&records)), ());
            tree.upsert(key, add, |known| extend(known.get_mut(), &records));
        }
    }
}

/// Sorted runs, the earlier revisions in the earlier ones, as one.
struct Merge(BinaryHeap<Run>);

/// What is left of a run; never empty.
struct Run {
    number: usize,
    records: vec::IntoIter<Record>,
}

impl Merge {
    fn new(runs: Vec<Vec<Record>>) -> Merge {
        let runs = runs.into_iter().enumerate();
        let runs = runs.filter(|(_, records)| !records.is_empty());
        Merge(
            runs.map(|(number, records)| Run {
                number,
                records: records.into_iter(),
            })
            .collect(),
        )
    }

    /// Puts all records of the next key in place of `records`; false at the end.
    fn next_key(&mut self, records: &mut Vec<Record>) -> bool {
        records.clear();
        records.extend(self.next());
        while let Some(first) = records.first()
            && self.0.peek().and_then(Run::key) == Some(&first.key)
        {
            records.extend(self.next());
        }
        !records.is_empty()
    }

    fn next(&mut self) -> Option<Record> {
        let mut run = self.0.peek_mut()?;
        let record = run.records.next();
        if run.records.as_slice().is_empty() {
            PeekMut::pop(run);
        }
        record
    }
}

impl Run {
    fn key(&self) -> Option<&Key> {
        Some(&self.records.as_slice().first()?.key)
    }
}

/// The run that comes next is the greatest, as a [`BinaryHeap`] has it.
impl Ord for Run {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.key(), other.number).cmp(&(self.key(), self.number))
    }
}

impl PartialOrd for Run {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Run {}

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
