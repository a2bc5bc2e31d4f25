//! One test per rule.

use bytes::Bytes;

use super::*;
use crate::backend::Bucket;

/// api-semantics 6.7: a new store is at revision 1, the first change makes 2; nothing changed, nothing used up.
#[test]
fn each_transaction_with_a_change_takes_one_revision() {
    let mut store = open(&memory());
    assert_eq!((store.rev(), store.compact_rev()), (1, -1));
    assert_eq!(put(&mut store, "a", "1"), 2);
    assert_eq!(delete(&mut store, "none", ""), 2);
    assert_eq!(store.begin().end(), 2);

    let mut txn = store.begin();
    txn.put("a".into(), "2".into(), 0).unwrap();
    txn.put("b".into(), "1".into(), 7).unwrap();
    assert_eq!(txn.delete_range(b"a", b"\0", false).unwrap().len(), 2);
    assert_eq!(txn.put("a".into(), "3".into(), 0).unwrap(), 3);
    assert_eq!((txn.rev(), txn.changes()), (2, 5));
    assert_eq!(txn.end(), 3);
    store.publish().unwrap();

    let result = store.reader().range(&query("a", "", 0)).unwrap();
    let kv = &result.kvs[0];
    assert_eq!(
        (kv.modified, kv.created, kv.version),
        (Revision::new(3, 4), 3, 1)
    );
    let subs: Vec<_> = store
        .backend()
        .scan(Bucket::Key, &Revision::new(3, 0).key(), None, 0)
        .unwrap();
    let subs: Vec<_> = subs
        .iter()
        .map(|(key, _)| Revision::from_key(key).unwrap())
        .collect();
    let expected = [(0, false), (1, false), (2, true), (3, true), (4, false)];
    assert_eq!(
        subs,
        expected.map(|(sub, tombstone)| (Revision::new(3, sub), tombstone))
    );
}

/// Lesson W14: what was changed cannot be half a revision, even if the transaction is forgotten.
#[test]
fn a_dropped_transaction_ends() {
    let mut store = open(&memory());
    _ = store.begin().put("a".into(), "1".into(), 0).unwrap();
    assert_eq!(store.rev(), 2);
    assert_eq!(put(&mut store, "b", "1"), 3);
    assert_eq!(
        text(&store.reader().range(&query("a", "\0", 0)).unwrap()),
        "a=1 b=1"
    );
}

#[test]
fn versions_count_from_creation() {
    let mut store = open(&memory());
    put(&mut store, "a", "1");
    put(&mut store, "a", "2");
    delete(&mut store, "a", "");
    put(&mut store, "a", "3");
    let reader = store.reader();
    let at = |rev| {
        let kv = reader.range(&query("a", "", rev)).unwrap().kvs.pop();
        kv.map(|kv| (kv.modified.main, kv.created, kv.version))
    };
    assert_eq!(
        [2, 3, 4, 5].map(at),
        [Some((2, 2, 1)), Some((3, 2, 2)), None, Some((5, 5, 1))]
    );
}

/// api-semantics 6.1.
#[test]
fn ranges_limits_and_revisions() {
    let mut store = open(&memory());
    for key in ["a", "b", "ba", "c"] {
        put(&mut store, key, "x");
    }
    let reader = store.reader();
    let range = |key, end| text(&reader.range(&query(key, end, 0)).unwrap());
    assert_eq!(range("b", ""), "b=x");
    assert_eq!(range("b", "c"), "b=x ba=x");
    assert_eq!(range("b", "\0"), "b=x ba=x c=x");
    assert_eq!(range("\0", "\0"), "a=x b=x ba=x c=x");
    assert_eq!(
        (range("b", "b"), range("c", "a"), range("d", "\0")),
        Default::default()
    );

    let limited = RangeQuery {
        limit: 2,
        ..query("\0", "\0", 0)
    };
    let result = reader.range(&limited).unwrap();
    assert_eq!(
        (text(&result).as_str(), result.count, result.rev),
        ("a=x b=x", 4, 5)
    );
    let old = reader.range(&RangeQuery { rev: 4, ..limited }).unwrap();
    assert_eq!((old.kvs.len(), old.count, old.rev), (2, 3, 5));
    let count = reader
        .range(&RangeQuery {
            count_only: true,
            ..limited
        })
        .unwrap();
    assert_eq!((count.kvs.len(), count.count), (0, 4));

    assert!(matches!(
        reader.range(&query("a", "", 6)),
        Err(Error::FutureRev)
    ));
    assert_eq!(text(&reader.range(&query("a", "", -7)).unwrap()), "a=x");
    assert_eq!(text(&reader.range(&query("a", "\0", 1)).unwrap()), "");
}

/// 3.7's keys-only answers have neither value nor lease.
#[test]
fn keys_only_is_answered_from_the_index() {
    let mut store = open(&memory());
    store.begin().put("a".into(), "value".into(), 5).unwrap();
    store.publish().unwrap();
    // If the backend were asked, it would say that the record is missing.
    store
        .backend()
        .delete(Bucket::Key, Revision::new(2, 0).key());
    store.publish().unwrap();
    let keys = RangeQuery {
        keys_only: true,
        ..query("a", "", 0)
    };
    let kv = store.reader().range(&keys).unwrap().kvs.remove(0);
    assert_eq!(
        (&kv.key[..], kv.value_len(), kv.lease(), kv.version),
        (&b"a"[..], 0, 0, 1)
    );
    assert_eq!(&kv.encoded[..], b"\x0a\x01a\x10\x02\x18\x02\x20\x01");
}

#[test]
fn values_and_leases_are_read_without_decoding() {
    let mut store = open(&memory());
    store.begin().put("a".into(), "value".into(), 5).unwrap();
    store.publish().unwrap();
    let kv = store
        .reader()
        .range(&query("a", "", 0))
        .unwrap()
        .kvs
        .remove(0);
    assert_eq!(
        (&kv.value()[..], kv.value_len(), kv.lease()),
        (&b"value"[..], 5, 5)
    );
}

/// api-semantics 6.5: a range within a transaction sees what was written before it.
#[test]
fn a_transaction_reads_its_own_writes() {
    let mut store = open(&memory());
    put(&mut store, "a", "1");
    let mut txn = store.begin();
    assert_eq!(txn.range(&query("a", "", 0)).unwrap().rev, 2);
    assert!(matches!(
        txn.range(&query("a", "", 3)),
        Err(Error::FutureRev)
    ));
    txn.put("b".into(), "1".into(), 0).unwrap();
    txn.delete_range(b"a", b"", false).unwrap();
    for rev in [0, 3] {
        let result = txn.range(&query("a", "\0", rev)).unwrap();
        assert_eq!((text(&result).as_str(), result.rev), ("b=1", 3));
    }
    assert_eq!(text(&txn.range(&query("a", "\0", 2)).unwrap()), "a=1");
    assert!(matches!(
        txn.range(&query("a", "", 4)),
        Err(Error::FutureRev)
    ));
}

#[test]
fn deleted_keys_come_in_order_with_what_they_had() {
    let mut store = open(&memory());
    for key in ["b", "a", "c"] {
        put(&mut store, key, key);
    }
    let mut txn = store.begin();
    let deleted = txn.delete_range(b"a", b"c", true).unwrap();
    assert_eq!(
        text(&RangeResult {
            kvs: deleted,
            ..RangeResult::default()
        }),
        "a=a b=b"
    );
    let deleted = txn.delete_range(b"a", b"\0", false).unwrap();
    assert_eq!(
        (&deleted[0].key[..], deleted[0].encoded.len()),
        (&b"c"[..], 0)
    );
    assert_eq!(txn.end(), 5);
}

/// Readers see nothing of a unit before its end, and a view does not move.
#[test]
fn readers_see_published_units_and_views_stay() {
    let mut store = open(&memory());
    put(&mut store, "a", "1");
    let reader = store.reader();
    let old = reader.view();
    store.begin().put("a".into(), "2".into(), 0).unwrap();
    assert_eq!((store.rev(), reader.rev()), (3, 2));
    assert_eq!(text(&reader.range(&query("a", "", 0)).unwrap()), "a=1");
    store.publish().unwrap();
    assert_eq!(reader.rev(), 3);
    assert_eq!(text(&reader.range(&query("a", "", 0)).unwrap()), "a=2");
    assert_eq!(text(&old.range(&query("a", "", 0)).unwrap()), "a=1");
    assert_eq!((old.rev(), old.compact_rev(), old.live_keys()), (2, -1, 1));
    assert!(matches!(
        old.range(&query("a", "", 3)),
        Err(Error::FutureRev)
    ));
}

/// api-semantics 6.6.
#[test]
fn compaction_is_refused_outside_of_what_is_there() {
    let mut store = open(&memory());
    put(&mut store, "a", "1");
    put(&mut store, "a", "2");
    assert!(matches!(store.begin_compaction(-1), Err(Error::Compacted)));
    assert!(matches!(store.begin_compaction(4), Err(Error::FutureRev)));
    assert_eq!(store.compaction_step(10).unwrap(), Compaction::Idle);
    // Allowed on a store that was never compacted.
    store.begin_compaction(0).unwrap();
    assert_eq!(
        (store.compact_rev(), finish_compaction(&mut store, 1)),
        (0, 0)
    );
    assert!(matches!(store.begin_compaction(0), Err(Error::Compacted)));

    store.begin_compaction(3).unwrap();
    store.publish().unwrap();
    let reader = store.reader();
    assert!(matches!(
        reader.range(&query("a", "", 2)),
        Err(Error::Compacted)
    ));
    assert_eq!(text(&reader.range(&query("a", "", 3)).unwrap()), "a=2");
    assert!(matches!(
        store.begin().range(&query("a", "", 2)),
        Err(Error::Compacted)
    ));
}

/// disk-format 6.3, 6.5: the marks.
#[test]
fn compactions_are_marked() {
    let mut store = open(&memory());
    put(&mut store, "a", "1");
    let rev = put(&mut store, "a", "2");
    let mark = Some(Bytes::copy_from_slice(&Revision::new(rev, 0).key()));
    let read =
        |store: &mut Store, key: &str| store.backend().get(Bucket::Meta, key.as_bytes()).unwrap();
    store.begin_compaction(rev).unwrap();
    assert_eq!(read(&mut store, "scheduledCompactRev"), mark);
    assert_eq!(read(&mut store, "finishedCompactRev"), None);
    finish_compaction(&mut store, 1);
    assert_eq!(read(&mut store, "finishedCompactRev"), mark);
    assert_eq!(
        store
            .backend()
            .scan(Bucket::Key, b"", None, 0)
            .unwrap()
            .len(),
        1
    );
}

/// A hot key has many more records than a step may delete.
#[test]
fn steps_are_bounded_in_keys_and_records() {
    let mut store = open(&memory());
    for n in 0..100 {
        put(&mut store, if n % 2 == 0 { "hot" } else { "other" }, "x");
    }
    let rev = store.rev();
    store.begin_compaction(rev).unwrap();
    let mut left = 100;
    loop {
        let done = matches!(step(&mut store, 7), Compaction::Finished(_));
        let now = store
            .backend()
            .scan(Bucket::Key, b"", None, 0)
            .unwrap()
            .len();
        assert!(left - now <= 7, "{left} {now}");
        left = now;
        if done {
            break;
        }
    }
    assert_eq!(left, 2);
}

/// A view that a compaction overtook says so; it never gives a wrong answer, and nobody takes it for damage.
#[test]
fn overtaken_views_are_stale_or_compacted() {
    let engine = memory();
    let mut store = open_with(&engine, 0, WriterOptions::default());
    put(&mut store, "a", "1");
    put(&mut store, "b", "1");
    let reader = store.reader();
    let view = reader.view();
    put(&mut store, "a", "2");
    store.begin_compaction(4).unwrap();
    finish_compaction(&mut store, 100);
    assert!(matches!(view.range(&query("a", "", 0)), Err(Error::Stale)));
    assert!(matches!(
        view.range(&query("a", "", 3)),
        Err(Error::Compacted)
    ));
    assert_eq!(text(&view.range(&query("b", "", 0)).unwrap()), "b=1");
    assert_eq!(text(&reader.range(&query("a", "", 0)).unwrap()), "a=2");
}

/// Lessons D12 and W15: the revision outlives all records that had it.
#[test]
fn the_revision_never_goes_backwards() {
    let engine = memory();
    let mut store = open(&engine);
    put(&mut store, "a", "1");
    let rev = delete(&mut store, "a", "");
    store.begin_compaction(rev).unwrap();
    finish_compaction(&mut store, 10);
    store.close().unwrap();

    let mut store = open(&engine);
    assert_eq!((store.rev(), store.compact_rev()), (rev, rev));
    // Not even if the tombstone were lost, as it was in older versions.
    store
        .backend()
        .delete(Bucket::Key, Revision::new(rev, 0).tombstone_key());
    store.close().unwrap();
    let mut store = open(&engine);
    assert_eq!(
        (store.rev(), store.compact_rev(), store.is_compacting()),
        (rev, rev, false)
    );
    assert_eq!(put(&mut store, "b", "1"), rev + 1);
}

/// Lesson W5: the tombstone at the compacted revision stays, also in the index after a restart, so that the
/// next compaction finds it.
#[test]
fn a_tombstone_at_the_compacted_revision_stays_until_the_next_compaction() {
    let engine = memory();
    let mut store = open(&engine);
    put(&mut store, "a", "1");
    let rev = delete(&mut store, "a", "");
    store.begin_compaction(rev).unwrap();
    finish_compaction(&mut store, 10);
    let records = |store: &mut Store| {
        let records = store.backend().scan(Bucket::Key, b"", None, 0).unwrap();
        records
            .iter()
            .map(|(key, _)| Revision::from_key(key).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(records(&mut store), [(Revision::new(rev, 0), true)]);
    store.close().unwrap();

    let mut store = open(&engine);
    assert_eq!(records(&mut store), [(Revision::new(rev, 0), true)]);
    let next = put(&mut store, "b", "1");
    store.begin_compaction(next).unwrap();
    finish_compaction(&mut store, 10);
    assert_eq!(records(&mut store), [(Revision::new(next, 0), false)]);
}

/// Go deletes in order of revision: after a crash, tombstones may be left whose puts are gone.
#[test]
fn interrupted_compactions_are_taken_up_with_their_orphans() {
    let engine = memory();
    let mut store = open(&engine);
    put(&mut store, "a", "1");
    put(&mut store, "b", "1");
    delete(&mut store, "a", "");
    put(&mut store, "b", "2");
    let rev = put(&mut store, "c", "1");
    store.begin_compaction(rev).unwrap();
    store
        .backend()
        .delete(Bucket::Key, Revision::new(2, 0).key());
    store.publish().unwrap();
    store.close().unwrap();

    let mut store = open(&engine);
    assert!(store.is_compacting());
    assert_eq!((store.rev(), store.compact_rev()), (rev, rev));
    assert_eq!(finish_compaction(&mut store, 1), rev);
    let left = store.backend().scan(Bucket::Key, b"", None, 0).unwrap();
    let left: Vec<_> = left
        .iter()
        .map(|(key, _)| Revision::from_key(key).unwrap().0.main)
        .collect();
    assert_eq!(left, [5, 6]);
    assert_eq!(
        text(&store.reader().range(&query("a", "\0", 0)).unwrap()),
        "b=2 c=1"
    );
    // A compaction that was interrupted has no hash that others could be compared with.
    assert_eq!(store.reader().hash_kv(rev).unwrap().compact_rev, rev);
    store.close().unwrap();
    assert!(!open(&engine).is_compacting());
}

#[test]
fn leases_are_found_while_restoring() {
    let engine = memory();
    let mut store = open(&engine);
    let mut txn = store.begin();
    for (key, lease) in [
        ("d", 4),
        ("a", 1),
        ("b", 2),
        ("c", 3),
        ("e", 0),
        ("f", 6),
        ("b", 0),
        ("e", 5),
    ] {
        txn.put(key.into(), "x".into(), lease).unwrap();
    }
    txn.delete_range(b"c", b"", false).unwrap();
    txn.put("f".into(), "x".into(), -6).unwrap();
    drop(txn);
    assert_eq!(store.take_restored_leases(), []);
    store.close().unwrap();
    let mut store = open(&engine);
    let leases = [("a", 1), ("d", 4), ("e", 5), ("f", -6)];
    assert_eq!(
        store.take_restored_leases(),
        leases.map(|(key, lease)| (Bytes::from(key), lease))
    );
    assert_eq!(store.take_restored_leases(), []);
}

/// disk-format 9.2: `etcdutl snapshot restore --bump-revision 100 --mark-compacted`.
#[test]
fn a_bumped_revision_is_taken_up() {
    let engine = memory();
    let mut store = open(&engine);
    put(&mut store, "a", "1");
    put(&mut store, "a", "2");
    store
        .backend()
        .put(Bucket::Key, Revision::new(103, 0).key(), "");
    store.backend().put(
        Bucket::Meta,
        "scheduledCompactRev",
        Bytes::copy_from_slice(&Revision::new(103, 0).key()),
    );
    store.close().unwrap();

    let mut store = open(&engine);
    assert_eq!((store.rev(), store.compact_rev()), (103, 103));
    assert_eq!(finish_compaction(&mut store, 10), 103);
    let result = store.reader().range(&query("\0", "\0", 0)).unwrap();
    assert_eq!((text(&result).as_str(), result.count), ("a=2", 1));
    assert_eq!(put(&mut store, "b", "1"), 104);
    store.close().unwrap();
    let store = open(&engine);
    assert_eq!(store.rev(), 104);
    assert_eq!(
        text(&store.reader().range(&query("\0", "\0", 0)).unwrap()),
        "a=2 b=1"
    );
}

/// Else a reader would take what it misses for damage.
#[test]
fn readers_know_the_compacted_revision_before_its_first_deletion() {
    let mut store = open(&memory());
    put(&mut store, "a", "1");
    put(&mut store, "a", "2");
    store.begin_compaction(3).unwrap();
    let reader = store.reader();
    assert_eq!((store.compact_rev(), reader.compact_rev()), (3, -1));
    assert_eq!(step(&mut store, 10), Compaction::More);
    assert_eq!(reader.compact_rev(), 3);
    let records = reader.backend().scan(Bucket::Key, b"", None, 0).unwrap();
    assert_eq!(records.len(), 2);
}

/// Two compactions asked for in a row are done one after the other.
#[test]
fn compactions_are_first_in_first_out() {
    let mut store = open(&memory());
    for n in 0..6 {
        put(&mut store, "a", &n.to_string());
    }
    store.begin_compaction(3).unwrap();
    store.begin_compaction(5).unwrap();
    assert_eq!(store.compact_rev(), 5);
    assert_eq!(finish_compaction(&mut store, 1), 3);
    assert!(store.is_compacting());
    assert_eq!(finish_compaction(&mut store, 1), 5);
    assert_eq!(store.compaction_step(1).unwrap(), Compaction::Idle);
    let reader = store.reader();
    assert_eq!(reader.hash_kv(3).unwrap().compact_rev, -1);
    // The one before had not finished when it was scheduled.
    assert_eq!(reader.hash_kv(5).unwrap().compact_rev, 5);
}

/// The store moves to the apply thread, its readers go everywhere.
#[test]
fn stores_move_and_readers_are_shared() {
    fn moves<T: Send>() {}
    fn shared<T: Send + Sync + 'static>() {}
    moves::<Store>();
    shared::<StoreReader>();
    shared::<ReadView>();
    shared::<Error>();
}
