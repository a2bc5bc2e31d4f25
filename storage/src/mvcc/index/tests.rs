//! The index against generations of revisions in plain lists, kept after the words of the format
//! description; and against an index rebuilt from what a backend would hold.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::testing::{Random, scale};

const ALL: (&[u8], &[u8]) = (b"", b"\0");

#[derive(Clone, Copy, Debug, PartialEq)]
struct Record {
    revision: Revision,
    tombstone: bool,
    created: i64,
    version: i64,
}

/// Ascending records; a tombstone can only be the last one.
type Generation = Vec<Record>;

fn is_closed(generation: &[Record]) -> bool {
    generation.last().is_some_and(|r| r.tombstone)
}

/// The tombstone's revision, or "never" for an open generation.
fn end(generation: &[Record]) -> i64 {
    match generation.last() {
        Some(last) if last.tombstone => last.revision.main,
        _ => i64::MAX,
    }
}

#[derive(Clone, Default)]
struct Model {
    keys: BTreeMap<Vec<u8>, Vec<Generation>>,
    main: i64,
    compacted: i64,
}

impl Model {
    fn is_live(&self, key: &[u8]) -> bool {
        let generations = self.keys.get(key);
        generations.is_some_and(|g| !is_closed(g.last().unwrap()))
    }

    fn put(&mut self, key: &[u8], revision: Revision) -> Found {
        let live = self.is_live(key);
        let generations = self.keys.entry(key.to_vec()).or_default();
        if !live {
            generations.push(Vec::new());
        }
        let generation = generations.last_mut().unwrap();
        let last = generation.last();
        let record = Record {
            revision,
            tombstone: false,
            created: last.map_or(revision.main, |r| r.created),
            version: last.map_or(1, |r| r.version + 1),
        };
        generation.push(record);
        Found {
            modified: revision,
            created: record.created,
            version: record.version,
        }
    }

    fn tombstone(&mut self, key: &[u8], revision: Revision) -> bool {
        if !self.is_live(key) {
            return false;
        }
        let generation = self.keys.get_mut(key).unwrap().last_mut().unwrap();
        generation.push(Record {
            revision,
            tombstone: true,
            ..*generation.last().unwrap()
        });
        true
    }

    fn get(&self, key: &[u8], at: i64) -> Option<Found> {
        let records = self.keys.get(key)?.iter().flatten();
        let last = records.take_while(|r| r.revision.main <= at).last()?;
        (!last.tombstone).then_some(Found {
            modified: last.revision,
            created: last.created,
            version: last.version,
        })
    }

    fn range<'a>(
        &'a self,
        key: &[u8],
        end: &[u8],
        at: i64,
    ) -> impl Iterator<Item = (&'a [u8], Found)> {
        self.keys
            .keys()
            .filter(move |k| match end {
                b"" => *k == key,
                b"\0" => k.as_slice() >= key,
                _ => k.as_slice() >= key && k.as_slice() < end,
            })
            .filter_map(move |k| Some((k.as_slice(), self.get(k, at)?)))
    }

    /// Disk format 6.5; returns the dropped records.
    fn compact(&mut self, at: i64) -> BTreeSet<(Revision, bool)> {
        let all: BTreeSet<_> = self.records().collect();
        for generations in self.keys.values_mut() {
            generations.retain(|g| end(g) >= at);
            if let Some(first) = generations.first_mut() {
                let kept = first.iter().rposition(|r| r.revision.main <= at);
                first.drain(..kept.unwrap_or(0));
            }
        }
        self.keys.retain(|_, generations| !generations.is_empty());
        self.compacted = at;
        let left: BTreeSet<_> = self.records().collect();
        all.difference(&left).copied().collect()
    }

    /// Disk format 8.2.
    fn keep(&self, at: i64) -> HashSet<Revision> {
        let mut keep = HashSet::new();
        for generations in self.keys.values() {
            let Some(first) = generations.iter().find(|g| end(g) >= at) else {
                continue;
            };
            match first.iter().rfind(|r| r.revision.main <= at) {
                Some(last) if !last.tombstone => keep.insert(last.revision),
                _ => false,
            };
        }
        keep
    }

    fn records(&self) -> impl Iterator<Item = (Revision, bool)> {
        let records = self.keys.values().flatten().flatten();
        records.map(|r| (r.revision, r.tombstone))
    }
}

/// What a backend holds: by revision, key and the stored numbers (none for a tombstone).
type Backend = BTreeMap<Revision, (Vec<u8>, Option<(i64, i64)>)>;

fn rebuild(backend: &Backend) -> Index {
    let mut restore = Restore::default();
    for (revision, (key, value)) in backend {
        match value {
            Some((created, version)) => restore.put(key, *revision, *created, *version),
            None => restore.tombstone(key, *revision),
        }
    }
    restore.finish()
}

fn remove_dropped(backend: &mut Backend, dropped: &[(Revision, bool)]) {
    for (revision, tombstone) in dropped {
        let (_, value) = backend.remove(revision).expect("dropped once");
        assert_eq!(value.is_none(), *tombstone);
    }
}

#[track_caller]
fn assert_same_range(index: &Index, model: &Model, key: &[u8], end: &[u8], at: i64) {
    let found: Vec<_> = index.range(key, end, at).collect();
    let expected: Vec<_> = model.range(key, end, at).collect();
    assert_eq!(found, expected, "[{key:?}, {end:?}) at {at}");
    assert_eq!(index.count(key, end, at), expected.len(), "count at {at}");
}

/// At every revision since the compaction, and at one that is still to come.
#[track_caller]
fn assert_same(index: &Index, model: &Model) {
    assert_same_until(index, model, model.main + 1);
}

#[track_caller]
fn assert_same_until(index: &Index, model: &Model, last: i64) {
    index.tree.check();
    assert_eq!(index.len(), model.keys.len());
    assert_eq!(
        index.live_len(),
        model.range(ALL.0, ALL.1, i64::MAX).count()
    );
    for at in model.compacted..=last {
        assert_same_range(index, model, ALL.0, ALL.1, at);
        assert_eq!(index.keep(at), model.keep(at), "keep at {at}");
    }
}

struct Run {
    random: Random,
    keys: u32,
    index: Index,
    model: Model,
    backend: Backend,
}

impl Run {
    fn new(random: Random, keys: u32) -> Self {
        let model = Model {
            main: 1,
            ..Model::default()
        };
        Self {
            random,
            keys,
            index: Index::new(),
            model,
            backend: Backend::new(),
        }
    }

    /// Some short keys and some too long to be held in place.
    fn key(&mut self) -> Vec<u8> {
        let n = self.random.below(self.keys);
        format!(
            "{n:0width$}",
            width = if n.is_multiple_of(3) { 50 } else { 3 }
        )
        .into_bytes()
    }

    /// One transaction; returns the number of changes tried.
    fn transaction(&mut self) -> usize {
        let changes = 1 + self.random.below(4);
        let main = self.model.main + 1;
        let mut sub = 0;
        for _ in 0..changes {
            let key = self.key();
            let revision = Revision::new(main, sub);
            if self.random.below(3) == 0 {
                let changed = self.model.tombstone(&key, revision);
                assert_eq!(self.index.tombstone(&key, revision), changed);
                if changed {
                    self.backend.insert(revision, (key, None));
                    sub += 1;
                }
            } else {
                let found = self.model.put(&key, revision);
                assert_eq!(self.index.put(&key, revision), found);
                let numbers = (found.created, found.version);
                self.backend.insert(revision, (key, Some(numbers)));
                sub += 1;
            }
        }
        if sub > 0 {
            self.model.main = main;
        }
        changes as usize
    }

    fn revision(&mut self) -> i64 {
        let (low, high) = (self.model.compacted, self.model.main + 2);
        low + i64::from(self.random.below((high - low) as u32))
    }

    fn read(&mut self) {
        let (key, at) = (self.key(), self.revision());
        assert_eq!(self.index.get(&key, at), self.model.get(&key, at));
        let end = match self.random.below(4) {
            0 => Vec::new(),
            1 => vec![0],
            _ => self.key(),
        };
        let at = if self.random.below(2) == 0 {
            i64::MAX
        } else {
            at
        };
        assert_same_range(&self.index, &self.model, &key, &end, at);
    }

    /// Compacts in steps with transactions in between; half the time a restart cuts it short and
    /// it starts over.
    fn compact(&mut self) {
        let at = self.revision().min(self.model.main);
        let expected = self.model.compact(at);
        let mut dropped = BTreeSet::new();
        let mut restarts = self.random.below(2);
        let mut cursor = None;
        loop {
            let mut step = Vec::new();
            let max_keys = self.random.below(20) as usize;
            let next = self
                .index
                .compact_step(cursor.as_ref(), at, max_keys, &mut step);
            remove_dropped(&mut self.backend, &step);
            dropped.extend(step);
            let Some(next) = next else { break };
            assert!(Some(&next) > cursor.as_ref(), "progress");
            cursor = Some(next);
            self.transaction();
            self.read();
            if restarts > 0 && self.random.below(3) == 0 {
                restarts -= 1;
                self.index = rebuild(&self.backend);
                cursor = None;
            }
        }
        assert_eq!(dropped, expected, "dropped at {at}");
        let records: BTreeSet<_> = self.model.records().map(|(r, _)| r).collect();
        assert!(self.backend.keys().eq(&records), "what the backend holds");
    }
}

#[test]
fn random_histories_equal_the_model() {
    let seed = Random::seed("mvcc::index::random_histories");
    for round in 0..12 * scale() {
        let random = Random::new(seed.wrapping_add(round as u64));
        let mut run = Run::new(random, [4, 40, 400][round % 3]);
        let mut published: Vec<(Index, Model)> = Vec::new();
        let mut operations = 0;
        while operations < 20_000 {
            operations += run.transaction();
            if run.random.below(4) == 0 {
                run.read();
            }
            if run.random.below(400) == 0 {
                published.push((run.index.clone(), run.model.clone()));
            }
            if run.random.below(100) == 0 {
                run.compact();
            }
            if published.len() > 5 {
                for (index, model) in published.drain(..) {
                    // The future has begun for the leaves that it shares.
                    assert_same_until(&index, &model, model.main);
                }
                assert_same(&run.index, &run.model);
                assert_same(&rebuild(&run.backend), &run.model);
            }
        }
        assert_same(&run.index, &run.model);
        assert_same(&rebuild(&run.backend), &run.model);
    }
}

fn rev(main: i64) -> Revision {
    Revision::new(main, 0)
}

/// Keys `a` to `e`, put at 2 to 6; `b` deleted at 7.
fn five() -> Index {
    let mut index = Index::new();
    for (key, main) in [b"a", b"b", b"c", b"d", b"e"].into_iter().zip(2..) {
        index.put(key, rev(main));
    }
    assert!(index.tombstone(b"b", rev(7)));
    index
}

fn keys(index: &Index, key: &[u8], end: &[u8], at: i64) -> String {
    let keys: Vec<u8> = index
        .range(key, end, at)
        .flat_map(|(k, _)| k.to_vec())
        .collect();
    assert_eq!(index.count(key, end, at), keys.len());
    String::from_utf8(keys).unwrap()
}

#[test]
fn ranges_follow_the_rules_of_range_end() {
    let index = five();
    assert_eq!(keys(&index, b"c", b"", 9), "c");
    assert_eq!(keys(&index, b"b", b"", 9), "");
    assert_eq!(keys(&index, b"b", b"", 6), "b");
    assert_eq!(keys(&index, b"bb", b"", 9), "");
    assert_eq!(keys(&index, b"b", b"\0", 9), "cde");
    assert_eq!(keys(&index, b"\0", b"\0", 9), "acde");
    assert_eq!(keys(&index, b"a", b"d", 9), "ac");
    assert_eq!(keys(&index, b"a", b"d", 3), "ab");
    assert_eq!(keys(&index, b"d", b"a", 9), "");
    assert_eq!(keys(&index, b"c", b"c", 9), "");
    assert_eq!(keys(&index, b"c", b"c\0", 9), "c");
    assert_eq!(
        keys(&index, b"a", b"\0\0", 9),
        "",
        "two zero bytes are a key"
    );
}

#[test]
fn lengths_tell_keys_from_live_keys() {
    let index = five();
    assert_eq!((index.len(), index.live_len(), index.newest()), (5, 4, 7));
    assert!(!index.is_empty() && Index::new().is_empty());
}

#[test]
fn only_live_keys_can_be_deleted() {
    let mut index = five();
    assert!(!index.tombstone(b"b", rev(8)), "deleted before");
    assert!(!index.tombstone(b"x", rev(8)), "unknown");
    assert_eq!(index.newest(), 7);
}

/// Reliability W5: a key of which only the tombstone at the compacted revision is left must come
/// back after a restart, and go with the next compaction.
#[test]
fn a_lone_tombstone_is_rebuilt() {
    let mut index = Index::new();
    assert!(!index.restore_tombstone(b"a", rev(7)));
    index.restore_put(b"b", rev(8), 3, 4);
    assert!(index.restore_tombstone(b"b", rev(9)));
    assert_eq!((index.len(), index.live_len(), index.newest()), (2, 0, 9));
    assert_eq!(index.get(b"a", 9), None);
    assert_eq!(index.get(b"b", 8).unwrap().version, 4);
    assert_eq!(index.keep(7), HashSet::new());
    let mut dropped = Vec::new();
    assert_eq!(index.compact_step(None, 8, 100, &mut dropped), None);
    assert_eq!(dropped, [(rev(7), true)]);
    assert_eq!(index.len(), 1);
    assert_eq!(index.put(b"a", rev(10)).version, 1);
}

/// Disk format 9.2: `--bump-revision` leaves a revision with an empty value.
#[test]
fn an_empty_value_is_rebuilt() {
    let mut index = Index::new();
    index.restore_put(b"a", rev(5), 2, 3);
    index.restore_put(b"", rev(1_000), 0, 0);
    assert_eq!(index.newest(), 1_000);
    let mut dropped = Vec::new();
    assert_eq!(index.compact_step(None, 1_000, 100, &mut dropped), None);
    assert_eq!(dropped, []);
    assert_eq!(keys(&index, b"\0", b"\0", 1_000), "a");
}

#[test]
fn a_step_visits_no_more_keys_than_it_may() {
    let mut index = Index::new();
    for main in 2..12 {
        index.put(&[b'a' + (main % 5) as u8], rev(main));
    }
    let mut dropped = Vec::new();
    let next = index.compact_step(None, 11, 2, &mut dropped).unwrap();
    assert_eq!((&next[..], dropped.len()), (&b"c"[..], 2));
    let next = index
        .compact_step(Some(&next), 11, 0, &mut dropped)
        .unwrap();
    assert_eq!((&next[..], dropped.len()), (&b"d"[..], 3), "at least one");
    assert_eq!(index.compact_step(Some(&next), 11, 2, &mut dropped), None);
    assert_eq!(dropped.len(), 5);
}

#[test]
fn a_step_does_not_touch_what_stays() {
    let mut index = Index::new();
    for main in 2..1_000_i64 {
        index.put(&main.to_be_bytes(), rev(main));
    }
    let published = index.clone();
    let mut dropped = Vec::new();
    assert_eq!(
        index.compact_step(None, 500, usize::MAX, &mut dropped),
        None
    );
    let place = |index: &Index| {
        index
            .tree
            .get(&9_i64.to_be_bytes()[..])
            .map(|k| k as *const _)
    };
    assert_eq!(place(&index), place(&published));
}

#[test]
fn a_put_to_a_live_key_copies_nothing_and_takes_nothing_from_readers() {
    let mut index = Index::new();
    for main in 2..1_000_i64 {
        index.put(&main.to_be_bytes(), rev(main));
    }
    index.tombstone(&9_i64.to_be_bytes(), rev(1_000));
    let published = index.clone();
    let read = |at| {
        let found: Vec<_> = published.range(ALL.0, ALL.1, at).collect();
        assert_eq!(published.count(ALL.0, ALL.1, at), found.len());
        (
            format!("{found:?}"),
            published.keep(at),
            published.live_len(),
        )
    };
    let expected = [read(999), read(1_000)];
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // Beside the writer, and once when it has ended.
            for _ in 0..50 {
                assert_eq!([read(999), read(1_000)], expected);
            }
        });
        for main in 1_001..20_000_i64 {
            index.put(&(2 + main % 998).to_be_bytes(), rev(main));
        }
        reader.join().unwrap();
    });
    assert_eq!([read(999), read(1_000)], expected);
    let place = |index: &Index, key: i64| {
        let known = index.tree.get(&key.to_be_bytes()[..]);
        known.map(|known| known as *const _)
    };
    assert_eq!(place(&index, 900), place(&published, 900));
    // It came back to life, which changes a weight.
    assert_ne!(place(&index, 9), place(&published, 9));
    assert_eq!((index.live_len(), published.live_len()), (998, 997));
}
