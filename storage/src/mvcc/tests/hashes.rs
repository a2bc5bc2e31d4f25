//! Hashes against the text of their definition.

use bytes::Bytes;

use super::model::Model;
use super::*;
use crate::backend::Bucket;
use crate::testing::{Random, scale};

const RUNS: u64 = 60;
const TXNS: u32 = 80;

/// HashKV at every revision, in every state of a compaction; compaction hashes (lesson W17: comparable only
/// with what belongs to them).
#[test]
fn hashes_agree_with_their_definition() {
    let seed = Random::seed("mvcc hashes");
    let mut compared = 0;
    for run in 0..RUNS * scale() as u64 {
        compared += compare(seed.wrapping_add(run));
    }
    println!("{compared} hashes compared");
}

fn compare(seed: u64) -> usize {
    let mut random = Random::new(seed);
    let engine = memory();
    let mut store = open(&engine);
    let mut model = Model::new();
    // (revision, compacted one before, hash) of the compactions under way and of those that are over.
    let mut under_way = Vec::new();
    let mut stored = Vec::new();
    let mut compared = 0;
    for _ in 0..TXNS {
        txn(&mut store, &mut model, &mut random);
        if random.below(6) == 0 {
            let before = model.compact_rev;
            let rev =
                before.max(0) + i64::from(random.below((model.rev - before.max(0) + 1) as u32));
            if let Ok(hash) = model.compact(rev) {
                store.begin_compaction(rev).unwrap();
                under_way.push((rev, before, hash, under_way.is_empty()));
            }
        }
        store.publish().unwrap();
        for _ in 0..random.below(4) {
            let max_keys = 1 + random.below(4) as usize;
            if let Compaction::Finished(rev) = step(&mut store, max_keys) {
                let done = under_way.remove(0);
                assert_eq!(done.0, rev, "first in, first out");
                stored.extend(done.3.then_some(done));
                stored.drain(..stored.len().saturating_sub(10));
            }
        }
        if random.below(30) == 0 {
            store.close().unwrap();
            store = open(&engine);
            stored.clear();
            under_way.drain(..under_way.len().saturating_sub(1));
            under_way
                .iter_mut()
                .for_each(|interrupted| interrupted.3 = false);
        }
        let reader = store.reader();
        for &(rev, compact_rev, hash, _) in stored.iter().filter(|stored| stored.0 > 0) {
            let expected = HashKv {
                hash,
                rev,
                compact_rev,
                current_rev: model.rev,
            };
            assert_eq!(
                reader.hash_kv(rev).unwrap(),
                expected,
                "seed {seed}, compaction"
            );
        }
        for rev in model.compact_rev.max(1)..=model.rev {
            if stored.iter().any(|stored| stored.0 == rev) {
                continue;
            }
            let expected = HashKv {
                hash: model.hash_kv(rev),
                rev,
                compact_rev: model.compact_rev,
                current_rev: model.rev,
            };
            assert_eq!(reader.hash_kv(rev).unwrap(), expected, "seed {seed}");
            compared += 1;
        }
        for rev in 1..model.compact_rev {
            let known = stored.iter().any(|stored| stored.0 == rev);
            assert!(
                known || matches!(reader.hash_kv(rev), Err(Error::Compacted)),
                "seed {seed}, {rev}"
            );
        }
        assert!(matches!(
            reader.hash_kv(model.rev + 1),
            Err(Error::FutureRev)
        ));
        for current in [0, -1] {
            assert_eq!(reader.hash_kv(current).unwrap().rev, model.rev);
        }
    }
    compared
}

fn txn(store: &mut Store, model: &mut Model, random: &mut Random) {
    let key = |random: &mut Random| Bytes::from(vec![b'a' + random.below(6) as u8]);
    let mut txn = store.begin();
    // The API refuses a transaction that puts what it deletes, and etcd's definition has no sense for it.
    let puts = random.below(2) == 0;
    for _ in 0..1 + random.below(3) {
        match random.below(8) {
            _ if puts => {
                let (key, value) = (
                    key(random),
                    Bytes::from(vec![b'x'; random.below(9) as usize]),
                );
                model.put(&key, &value, 0);
                txn.put(key, value, 0).unwrap();
            }
            0..6 => {
                let key = key(random);
                model.delete(&key, b"", false);
                txn.delete_range(&key, b"", false).unwrap();
            }
            // With nothing alive other rules hold.
            _ => {
                model.delete(b"a", b"\0", false);
                txn.delete_range(b"a", b"\0", false).unwrap();
            }
        }
    }
    assert_eq!(txn.end(), {
        model.end();
        model.rev
    });
}

/// Only the last ten compactions' hashes are kept.
#[test]
fn ten_compaction_hashes_are_kept() {
    let mut store = open(&memory());
    for _ in 0..12 {
        let rev = put(&mut store, "a", "x");
        store.begin_compaction(rev).unwrap();
        finish_compaction(&mut store, 10);
    }
    let reader = store.reader();
    let known: Vec<i64> = (1..13).filter(|&rev| reader.hash_kv(rev).is_ok()).collect();
    assert_eq!(
        known,
        (4..13).collect::<Vec<_>>(),
        "13 is current, 4 to 13 are kept"
    );
    assert_eq!(reader.hash_kv(5).unwrap().compact_rev, 4);
    assert_eq!(reader.hash_kv(13).unwrap().compact_rev, 12);
}

/// Without a compaction HashKV is the CRC-32C of all records after the word `key`.
#[test]
fn a_hash_is_a_crc32c_of_the_records() {
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    let mut store = open(&memory());
    assert_eq!(
        store.reader().hash_kv(0).unwrap().hash,
        crc32c::crc32c(b"key")
    );
    put(&mut store, "a", "1");
    delete(&mut store, "a", "");
    let bytes = [
        &b"key"[..],
        b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0",
        b"\x0a\x01a\x10\x02\x18\x02\x20\x01\x2a\x011",
        b"\0\0\0\0\0\0\0\x03_\0\0\0\0\0\0\0\0t",
        b"\x0a\x01a",
    ];
    assert_eq!(
        store.reader().hash_kv(0).unwrap(),
        HashKv {
            hash: crc32c::crc32c(&bytes.concat()),
            rev: 3,
            compact_rev: -1,
            current_rev: 3
        }
    );
}

/// The whole backend is hashed, except what every member has for itself.
#[test]
fn the_backend_hash_leaves_out_what_is_the_members_own() {
    let mut store = open(&memory());
    let names = Bucket::ALL.map(Bucket::name).concat();
    assert_eq!(
        store.reader().hash().unwrap(),
        crc32c::crc32c(names.as_bytes())
    );

    for own in ["consistent_index", "term", "storageVersion"] {
        store.backend().put(Bucket::Meta, own, own);
    }
    store.publish().unwrap();
    assert_eq!(
        store.reader().hash().unwrap(),
        crc32c::crc32c(names.as_bytes())
    );

    store.backend().put(Bucket::Meta, "confState", "{}");
    store.backend().put(Bucket::Alarm, "x", "");
    store.backend().put(Bucket::Lease, "l", "ease");
    store.publish().unwrap();
    let bytes = "alarmxauthauthRolesauthUsersclusterkeyleaselease\
                 membersmembers_removedmetaconfState{}";
    assert_eq!(
        store.reader().hash().unwrap(),
        crc32c::crc32c(bytes.as_bytes())
    );
}
