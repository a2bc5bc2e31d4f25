//! Readers beside the writer: no lock, no mixture, nothing missing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::testing::{Random, scale};

const TXNS: i64 = 30_000;
const READERS: u64 = 3;
const KEYS: [&str; 3] = ["a", "b", "c"];

/// Each transaction writes its revision to all keys, and the keys are deleted now and then. So whatever version a
/// reader gets, all keys agree, and the value tells the revision (lesson W8: buffered or not, the view is the same).
#[test]
fn readers_see_whole_revisions_while_the_writer_writes_and_compacts() {
    let seed = Random::seed("mvcc readers");
    let txns = TXNS * scale() as i64;
    let options = WriterOptions {
        batch_interval: Duration::from_millis(1),
        batch_limit: 50,
        ..WriterOptions::default()
    };
    let mut store = open_with(&memory(), 500, options);
    let reader = store.reader();
    let done = AtomicBool::new(false);
    let mut hashes: HashMap<(i64, i64), u32> = HashMap::new();
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|n| {
                let (reader, done) = (reader.clone(), &done);
                scope.spawn(move || read(&reader, Random::new(seed + n), done))
            })
            .collect();
        let mut random = Random::new(seed);
        while store.rev() < txns && !readers.iter().any(|reader| reader.is_finished()) {
            write(&mut store, &mut random);
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            for (key, hash) in reader.join().unwrap() {
                assert_eq!(
                    *hashes.entry(key).or_insert(hash),
                    hash,
                    "seed {seed}: hash at {key:?}"
                );
            }
        }
    });
    assert_eq!(store.rev(), txns);
    println!("{} hashes", hashes.len());
}

fn write(store: &mut Store, random: &mut Random) {
    let mut txn = store.begin();
    if random.below(10) == 0 {
        txn.delete_range(b"a", b"\0", false).unwrap();
    }
    if txn.changes() == 0 {
        for key in KEYS {
            let value = (txn.rev() + 1).to_string();
            txn.put(key.into(), value.into(), 0).unwrap();
        }
    }
    let rev = txn.end();
    if random.below(4) > 0 {
        store.publish().unwrap();
    }
    if random.below(50) == 0 && rev - store.compact_rev() > 30 {
        store
            .begin_compaction(rev - i64::from(random.below(20)))
            .unwrap();
    }
    // Waiting for the hash is no reason to wait here.
    store.compaction_step(10).unwrap();
}

/// Reads until `done`; returns the hashes seen by (revision, compacted revision).
fn read(reader: &StoreReader, mut random: Random, done: &AtomicBool) -> Vec<((i64, i64), u32)> {
    let mut hashes = Vec::new();
    let mut last = 0;
    while !done.load(Ordering::Relaxed) {
        let view = reader.view();
        assert!(view.rev() >= last, "the revision went backwards");
        last = view.rev();
        let oldest = view.compact_rev().max(1);
        for rev in [
            0,
            oldest + i64::from(random.below((last - oldest + 1) as u32)),
        ] {
            match view.range(&query("a", "\0", rev)) {
                Ok(result) => whole(&result, if rev == 0 { last } else { rev }),
                Err(Error::Stale) => assert!(rev == 0 && reader.compact_rev() > view.compact_rev()),
                Err(Error::Compacted) => assert!(rev > 0 && reader.compact_rev() > rev),
                Err(error) => panic!("{error}"),
            }
        }
        if random.below(10) == 0 {
            let hash = reader.hash_kv(0).unwrap();
            hashes.push(((hash.rev, hash.compact_rev), hash.hash));
        }
    }
    hashes
}

fn whole(result: &RangeResult, rev: i64) {
    let values: Vec<_> = result.kvs.iter().map(|kv| kv.value()).collect();
    match &values[..] {
        [] => {}
        [a, b, c] => {
            assert!(a == b && b == c, "a mixture: {values:?}");
            assert_eq!(a[..], *rev.to_string().as_bytes());
        }
        _ => panic!("a part of a revision: {values:?}"),
    }
}
