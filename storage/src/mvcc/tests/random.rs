//! The store against the model: a million random operations.

use bytes::Bytes;

use super::model::Model;
use super::*;
use crate::backend::Bucket;
use crate::testing::{Random, scale};

/// Seeds, and operations of each; together a million.
const RUNS: u64 = 10;
const OPERATIONS: u64 = 100_000;

#[test]
fn a_million_random_operations_agree_with_the_model() {
    let seed = Random::seed("mvcc model");
    let begin = SystemClock.now();
    let mut counts = Counts::default();
    for run in 0..RUNS * scale() as u64 {
        Run::new(seed.wrapping_add(run), memory()).run(OPERATIONS, &mut counts);
    }
    println!("{counts:?} in {:?}", SystemClock.now() - begin);
}

#[cfg(feature = "sled")]
#[test]
fn random_operations_over_sled_agree_with_the_model() {
    let seed = Random::seed("mvcc model over sled");
    let dir = tempfile::tempdir().unwrap();
    let fs = Arc::new(crate::fs::RealFs);
    let engine = crate::backend::SledBackend::open(fs, dir.path()).unwrap();
    let mut counts = Counts::default();
    Run::new(seed, Arc::new(engine)).run(20_000 * scale() as u64, &mut counts);
    println!("{counts:?}");
}

#[derive(Debug, Default)]
struct Counts {
    operations: u64,
    puts: u64,
    deletes: u64,
    ranges: u64,
    kvs: u64,
    reads_in_txns: u64,
    reads_of_old_views: u64,
    overtaken: u64,
    compactions: u64,
    steps: u64,
    reopened: u64,
}

/// A pinned version and what was the newest and the compacted revision in it.
struct Pinned {
    view: ReadView,
    rev: i64,
    compact_rev: i64,
}

struct Run {
    seed: u64,
    random: Random,
    engine: Arc<dyn Backend>,
    store: Option<Store>,
    reader: StoreReader,
    model: Model,
    /// What readers see.
    published: (i64, i64),
    pinned: Vec<Pinned>,
    keys: Vec<Bytes>,
    compacting: usize,
}

impl Run {
    fn new(seed: u64, engine: Arc<dyn Backend>) -> Run {
        let mut random = Random::new(seed);
        let store = open_any(&engine, &mut random);
        Run {
            seed,
            engine,
            reader: store.reader(),
            store: Some(store),
            model: Model::new(),
            published: (1, -1),
            pinned: Vec::new(),
            keys: keys(&mut random),
            compacting: 0,
            random,
        }
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.random.below(limit)
    }

    fn run(&mut self, operations: u64, counts: &mut Counts) {
        let end = counts.operations + operations;
        while counts.operations < end {
            match self.below(1000) {
                0..450 => self.txn(counts),
                450..900 => self.read(counts),
                900..940 => self.publish(),
                940..960 => self.pin(),
                960..996 => self.compact(counts),
                996..999 => self.finish(counts),
                _ => self.reopen(counts),
            }
        }
        self.publish();
        self.finish(counts);
        self.reopen(counts);
    }

    fn txn(&mut self, counts: &mut Counts) {
        let changes = [1, 1, 1, 2, 3, 8][self.below(6) as usize];
        let mut store = self.store.take().unwrap();
        let mut txn = store.begin();
        let before = self.model.rev;
        assert_eq!(txn.rev(), before, "seed {}", self.seed);
        for _ in 0..changes {
            counts.operations += 1;
            match self.below(20) {
                0..11 => {
                    counts.puts += 1;
                    let (key, value) = (self.key(), self.value());
                    let lease = i64::from(self.below(3)) * i64::from(self.below(4));
                    let rev = txn.put(key.clone(), value.clone(), lease).unwrap();
                    self.model.put(&key, &value, lease);
                    assert_eq!(
                        rev,
                        before + 1,
                        "seed {}, operation {}",
                        self.seed,
                        counts.operations
                    );
                }
                11..14 => {
                    counts.deletes += 1;
                    let (key, end) = self.range(true);
                    let want_prev = self.below(2) == 0;
                    let deleted = txn.delete_range(&key, &end, want_prev).unwrap();
                    let expected = self.model.delete(&key, &end, want_prev);
                    assert_eq!(
                        deleted, expected,
                        "seed {}, operation {}: delete {key:?} {end:?}",
                        self.seed, counts.operations
                    );
                }
                _ => {
                    counts.reads_in_txns += 1;
                    let (key, end) = self.range(false);
                    let query = self.query(&key, &end, self.model.rev + 1, self.model.compact_rev);
                    let expected = self.model.read_own(&query);
                    self.same(&query, txn.range(&query), expected, "read in txn", counts);
                }
            }
        }
        let rev = txn.end();
        self.model.end();
        assert_eq!(rev, self.model.rev, "seed {}", self.seed);
        assert_eq!(rev, store.rev());
        self.store = Some(store);
        if self.below(3) > 0 {
            self.publish();
        }
    }

    fn read(&mut self, counts: &mut Counts) {
        counts.operations += 1;
        let (key, end) = self.range(false);
        let pinned = self.below(8) as usize;
        if pinned < self.pinned.len() {
            let pinned = self.pinned.swap_remove(pinned);
            let query = self.query(&key, &end, pinned.rev, pinned.compact_rev);
            let expected = self.model.read(&query, pinned.rev, pinned.compact_rev);
            let answer = pinned.view.range(&query);
            counts.reads_of_old_views += 1;
            let asked = if query.rev <= 0 {
                pinned.rev
            } else {
                query.rev
            };
            let overtaken = match answer {
                Err(Error::Stale) => query.rev <= 0,
                Err(Error::Compacted) => query.rev > 0 && asked >= pinned.compact_rev,
                _ => false,
            };
            if overtaken && asked < self.published.1 {
                counts.overtaken += 1;
            } else {
                self.same(&query, answer, expected, "read an old view", counts);
                self.pinned.push(pinned);
            }
        } else {
            let (rev, compact_rev) = self.published;
            let query = self.query(&key, &end, rev, compact_rev);
            let expected = self.model.read(&query, rev, compact_rev);
            self.same(&query, self.reader.range(&query), expected, "read", counts);
        }
        counts.ranges += 1;
    }

    fn same(
        &self,
        query: &RangeQuery,
        answer: Result<RangeResult, Error>,
        expected: Result<RangeResult, Error>,
        what: &str,
        counts: &mut Counts,
    ) {
        let at = || {
            format!(
                "seed {}, operation {}: {what} {query:?}",
                self.seed, counts.operations
            )
        };
        match (&answer, &expected) {
            (Ok(answer), Ok(expected)) => assert_eq!(answer, expected, "{}", at()),
            (Err(Error::Compacted), Err(Error::Compacted)) => {}
            (Err(Error::FutureRev), Err(Error::FutureRev)) => {}
            _ => panic!("{}: {answer:?} instead of {expected:?}", at()),
        }
        counts.kvs += answer.map_or(0, |answer| answer.kvs.len() as u64);
    }

    fn publish(&mut self) {
        self.store().publish().unwrap();
        self.note_published();
    }

    fn note_published(&mut self) {
        self.published = (self.model.rev, self.model.compact_rev);
        assert_eq!(
            (self.reader.rev(), self.reader.compact_rev()),
            self.published,
            "seed {}",
            self.seed
        );
        let pinned = self.pinned.iter().map(|pinned| pinned.compact_rev);
        let oldest = pinned.chain([self.published.1]).min().unwrap();
        self.model.forget_below(oldest);
    }

    fn pin(&mut self) {
        let (rev, compact_rev) = self.published;
        if self.pinned.len() == 2 {
            self.pinned.remove(0);
        }
        let view = self.reader.view();
        assert_eq!(
            (view.rev(), view.compact_rev()),
            self.published,
            "seed {}",
            self.seed
        );
        self.pinned.push(Pinned {
            view,
            rev,
            compact_rev,
        });
    }

    fn compact(&mut self, counts: &mut Counts) {
        if self.compacting < 2 && self.below(4) == 0 {
            counts.operations += 1;
            let rev = match self.below(8) {
                0 => self.model.rev + 1,
                1 => self.model.compact_rev,
                2 => self.model.rev,
                _ => {
                    let span = (self.model.rev - self.model.compact_rev.max(0)) as u32;
                    self.model.compact_rev.max(0) + i64::from(self.random.below(span + 1))
                }
            };
            let answer = self.store().begin_compaction(rev);
            match (&answer, self.model.compact(rev)) {
                (Ok(()), Ok(_)) => self.compacting += 1,
                (Err(Error::Compacted), Err(Error::Compacted)) => {}
                (Err(Error::FutureRev), Err(Error::FutureRev)) => {}
                (_, expected) => panic!(
                    "seed {}: compaction at {rev}: {answer:?} instead of {expected:?}",
                    self.seed
                ),
            }
        }
        let max_keys = self.below(20) as usize;
        self.step(max_keys, counts);
    }

    fn step(&mut self, max_keys: usize, counts: &mut Counts) {
        counts.steps += 1;
        match step(self.store(), max_keys) {
            Compaction::Finished(rev) => {
                assert!(rev <= self.model.compact_rev);
                counts.compactions += 1;
                self.compacting -= 1;
            }
            Compaction::Idle => return assert_eq!(self.compacting, 0, "seed {}", self.seed),
            _ => {}
        }
        // Most steps publish, whatever is pending.
        if (self.reader.rev(), self.reader.compact_rev()) != self.published {
            self.note_published();
        }
    }

    fn finish(&mut self, counts: &mut Counts) {
        while self.compacting > 0 {
            let max_keys = self.below(100) as usize;
            self.step(max_keys, counts);
        }
        let records = self
            .store()
            .backend()
            .scan(Bucket::Key, b"", None, 0)
            .unwrap();
        let records = records
            .iter()
            .map(|(key, _)| Revision::from_key(key).unwrap().0);
        let expected = self.model.records.iter().map(|record| record.revision);
        assert!(
            records.eq(expected),
            "seed {}: compactions left something else",
            self.seed
        );
    }

    fn reopen(&mut self, counts: &mut Counts) {
        counts.operations += 1;
        counts.reopened += 1;
        self.pinned.clear();
        self.store.take().unwrap().close().unwrap();
        let mut store = open_any(&self.engine, &mut self.random);
        assert_eq!(
            (store.rev(), store.compact_rev()),
            (self.model.rev, self.model.compact_rev),
            "seed {}, operation {}",
            self.seed,
            counts.operations
        );
        let leases = self.model.newest().iter();
        let leases: Vec<_> = leases
            .filter(|(_, item)| item.lease != 0)
            .map(|(key, item)| (key.clone(), item.lease))
            .collect();
        assert_eq!(store.take_restored_leases(), leases, "seed {}", self.seed);
        // Of several compactions under way only the last one has to be repeated.
        self.compacting = usize::from(self.compacting > 0);
        assert_eq!(store.is_compacting(), self.compacting > 0);
        self.reader = store.reader();
        self.store = Some(store);
        self.note_published();
    }

    fn key(&mut self) -> Bytes {
        let n = self.random.below(self.keys.len() as u32);
        self.keys[n as usize].clone()
    }

    fn value(&mut self) -> Bytes {
        let len = [0, 3, 30, 300][self.below(4) as usize];
        Bytes::from(vec![self.below(256) as u8; len])
    }

    /// A key and an end; a narrow one where much would be lost otherwise.
    fn range(&mut self, narrow: bool) -> (Bytes, Bytes) {
        let key = self.key();
        let end = match self.below(if narrow { 40 } else { 8 }) {
            0 => self.key(),
            1 => Bytes::from_static(b"\0"),
            2 | 3 => prefix_end(&key),
            _ => Bytes::new(),
        };
        if !narrow && self.below(16) == 0 {
            return (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
        }
        (key, end)
    }

    fn query<'a>(
        &mut self,
        key: &'a [u8],
        end: &'a [u8],
        rev: i64,
        compact_rev: i64,
    ) -> RangeQuery<'a> {
        let oldest = compact_rev.max(1);
        RangeQuery {
            key,
            end,
            rev: match self.below(8) {
                0 => rev,
                1 => rev + 1,
                2 => oldest,
                3 => oldest - 1,
                4 | 5 => oldest + i64::from(self.below((rev - oldest + 1) as u32)),
                6 => -1,
                _ => 0,
            },
            limit: [0, 0, 1, 2, 10, 1000][self.below(6) as usize],
            count_only: self.below(8) == 0,
            keys_only: self.below(6) == 0,
        }
    }
}

/// A store with random sizes of cache and batches.
fn open_any(engine: &Arc<dyn Backend>, random: &mut Random) -> Store {
    let cache = [0, 1000, 20_000, 10 << 20][random.below(4) as usize];
    let options = WriterOptions {
        batch_interval: Duration::from_millis(1 + u64::from(random.below(50))),
        batch_limit: 1 + random.below(500) as usize,
        ..WriterOptions::default()
    };
    open_with(engine, cache, options)
}

/// A few dozen keys, with prefixes of each other and at the edges.
fn keys(random: &mut Random) -> Vec<Bytes> {
    let edges: [&[u8]; 8] = [
        b"\0",
        b"\0\0",
        b"a",
        b"a\0",
        b"ab",
        b"\xff",
        b"\xff\xff",
        b"\xff\xff\0",
    ];
    let mut keys: Vec<Bytes> = edges.into_iter().map(Bytes::from_static).collect();
    for _ in 0..random.below(60) {
        let len = 1 + random.below(4);
        keys.push(
            (0..len)
                .map(|_| b"ab/\xff"[random.below(4) as usize])
                .collect(),
        );
    }
    keys
}

/// The first key that does not begin with `prefix`; from-key if there is none.
fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}
