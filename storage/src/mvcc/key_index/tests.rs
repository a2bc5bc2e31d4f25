use super::*;

const fn rev(main: i64) -> Revision {
    Revision::new(main, 0)
}

fn found(modified: i64, created: i64, version: i64) -> Option<Found> {
    Some(Found {
        modified: rev(modified),
        created,
        version,
    })
}

/// Puts at the positive revisions, tombstones at the negated ones.
fn history(changes: &[i64]) -> KeyIndex {
    let mut changes = changes.iter();
    let first = *changes.next().unwrap();
    let mut key = KeyIndex::new(rev(first), first, 1);
    for &change in changes {
        if change > 0 {
            key.put(rev(change));
        } else {
            key.tombstone(rev(-change));
        }
    }
    key
}

/// The records in the notation of [`history`].
fn records(key: &KeyIndex) -> Vec<i64> {
    let signed = |r: Record| if r.is_tombstone() { -r.main } else { r.main };
    let mut records: Vec<_> = key.records().map(signed).collect();
    records.reverse();
    records
}

#[track_caller]
fn assert_compacts(changes: &[i64], at: i64, expected: &[i64]) {
    let original = history(changes);
    let mut key = original.clone();
    let mut dropped = Vec::new();
    let left = key.compact(at, &mut dropped);
    let left = if left { records(&key) } else { Vec::new() };
    assert_eq!(left, expected, "what is left of {changes:?} at {at}");
    let gone = changes.len() - expected.len();
    assert_eq!(original.compacts(at), gone > 0);
    let mut dropped: Vec<_> = dropped
        .iter()
        .map(|(r, t)| if *t { -r.main } else { r.main })
        .collect();
    dropped.reverse();
    assert_eq!(
        dropped,
        changes[..gone],
        "what is dropped of {changes:?} at {at}"
    );
    assert_eq!(records(&original), changes, "a clone is not touched");
}

#[test]
fn versions_count_within_a_generation() {
    let key = history(&[2, 3, 5, -7, 9, 10]);
    let expected = [
        (1, None),
        (2, found(2, 2, 1)),
        (3, found(3, 2, 2)),
        (4, found(3, 2, 2)),
        (5, found(5, 2, 3)),
        (6, found(5, 2, 3)),
        (7, None),
        (8, None),
        (9, found(9, 9, 1)),
        (10, found(10, 9, 2)),
        (i64::MAX, found(10, 9, 2)),
    ];
    for (at, value) in expected {
        assert_eq!(key.get(at), value, "at {at}");
    }
}

#[test]
fn the_last_change_of_a_transaction_is_visible() {
    let mut key = KeyIndex::new(rev(2), 2, 1);
    key.put(Revision::new(3, 0));
    key.put(Revision::new(3, 4));
    assert_eq!(key.get(3).unwrap().modified, Revision::new(3, 4));
    key.tombstone(Revision::new(4, 1));
    key.put(Revision::new(4, 2));
    assert_eq!(key.get(4).unwrap().version, 1);
}

#[test]
fn a_compaction_keeps_the_last_put_not_after_it() {
    assert_compacts(&[2, 4, 6, 8], 1, &[2, 4, 6, 8]);
    assert_compacts(&[2, 4, 6, 8], 2, &[2, 4, 6, 8]);
    assert_compacts(&[2, 4, 6, 8], 3, &[2, 4, 6, 8]);
    assert_compacts(&[2, 4, 6, 8], 4, &[4, 6, 8]);
    assert_compacts(&[2, 4, 6, 8], 5, &[4, 6, 8]);
    assert_compacts(&[2, 4, 6, 8], 7, &[6, 8]);
    assert_compacts(&[2, 4, 6, 8], 100, &[8]);
}

#[test]
fn a_compaction_drops_generations_that_ended_before_it() {
    assert_compacts(&[2, 4, -6], 7, &[]);
    assert_compacts(&[2, 4, -6, 8], 7, &[8]);
    assert_compacts(&[2, 4, -6, 8, -9, 10], 100, &[10]);
    assert_compacts(&[2, 4, -6, 8, -9, 12], 11, &[12]);
    assert_compacts(&[2, 4, -6, 8, -9], 8, &[8, -9]);
}

/// Reliability W5: the tombstone at the compacted revision is kept, else replicas that compact at
/// different times differ.
#[test]
fn a_compaction_at_a_tombstone_keeps_it_alone() {
    assert_compacts(&[2, 4, -6], 6, &[-6]);
    assert_compacts(&[2, 4, -6, 8], 6, &[-6, 8]);
    assert_compacts(&[2, -3, 4, -6, 8], 6, &[-6, 8]);
    assert_compacts(&[2, 4, -6, 8], 5, &[4, -6, 8]);
}

#[test]
fn a_tombstone_left_alone_goes_with_the_next_compaction() {
    let mut key = history(&[2, -6]);
    let mut dropped = Vec::new();
    assert!(key.compact(6, &mut dropped));
    assert_eq!(dropped, [(rev(2), false)]);
    assert!(!key.compacts(6));
    assert_eq!(key.get(6), None);
    assert!(!key.compact(7, &mut dropped));
    assert_eq!(dropped, [(rev(2), false), (rev(6), true)]);
}

#[test]
fn a_generation_that_ends_in_the_compacted_revision_keeps_its_end() {
    let mut key = KeyIndex::new(rev(2), 2, 1);
    key.tombstone(Revision::new(4, 0));
    key.put(Revision::new(4, 1));
    key.put(Revision::new(4, 2));
    let mut dropped = Vec::new();
    key.compact(4, &mut dropped);
    assert_eq!(dropped, [(rev(2), false)]);
    key.compact(5, &mut dropped);
    assert_eq!(records(&key), [4]);
}

#[test]
fn keep_names_the_visible_put() {
    let key = history(&[2, 4, -6, 8, 9, -10]);
    let expected = [
        (1, None),
        (2, Some(2)),
        (3, Some(2)),
        (5, Some(4)),
        (6, None), // the tombstone at that very revision
        (7, None),
        (8, Some(8)),
        (9, Some(9)),
        (10, None),
        (11, None),
    ];
    for (at, kept) in expected {
        assert_eq!(key.keep(at), kept.map(rev), "at {at}");
    }
}

#[test]
fn stored_numbers_win_over_counting() {
    let mut key = KeyIndex::new(rev(20), 3, 17);
    assert_eq!(key.put(rev(21)), found(21, 3, 18).unwrap());
    key.restore_put(rev(25), 3, 22);
    key.restore_put(rev(26), 3, 23);
    key.put(rev(27));
    key.restore_put(rev(28), 20, 25);
    key.put(rev(29));
    let expected = [(19, None), (20, found(20, 3, 17)), (24, found(21, 3, 18))];
    for (at, value) in expected {
        assert_eq!(key.get(at), value);
    }
    assert_eq!(key.get(25), found(25, 3, 22));
    assert_eq!(key.get(26), found(26, 3, 23));
    assert_eq!(key.get(27), found(27, 3, 24));
    assert_eq!(key.get(28), found(28, 20, 25));
}

#[test]
fn versions_survive_compactions() {
    let changes: Vec<i64> = (2..40).collect();
    for at in 1..45 {
        let mut key = history(&changes);
        let published = key.clone();
        key.compact(at, &mut Vec::new());
        for rev in at.max(2)..45 {
            assert_eq!(key.get(rev), found(rev.min(39), 2, rev.min(39) - 1));
            assert_eq!(key.get(rev), published.get(rev));
        }
        assert_eq!(key.put(rev(50)), found(50, 2, 39).unwrap());
        assert_eq!(published.get(2), found(2, 2, 1));
    }
}

#[test]
fn a_change_shares_old_chunks_with_clones() {
    let mut key = history(&(2..100).collect::<Vec<_>>());
    let published = key.clone();
    key.put(rev(100));
    key.put(rev(101));
    let old: Vec<_> = published.chunks().map(ptr).collect();
    let new: Vec<_> = key.chunks().map(ptr).collect();
    assert_eq!(old.len(), 97_usize.div_ceil(CHUNK), "chunks are filled");
    assert_eq!(old[1..], new[new.len() - old.len() + 1..]);
    assert_eq!(published.get(1_000), found(99, 2, 98));

    fn ptr(chunk: &Chunk) -> *const Chunk {
        chunk
    }
}

#[test]
fn a_long_history_is_freed_without_deep_recursion() {
    let mut key = KeyIndex::new(rev(1), 1, 1);
    for main in 2..600_000 {
        key.put(rev(main));
    }
    let mut dropped = Vec::new();
    let published = key.clone();
    key.compact(300_000, &mut dropped);
    assert_eq!(dropped.len(), 299_999);
    assert_eq!(key.get(300_000), found(300_000, 1, 300_000));
    assert_eq!(published.get(5), found(5, 1, 5));
    drop(key);
    drop(published);
}

#[test]
fn one_revision_takes_forty_bytes() {
    assert_eq!(size_of::<KeyIndex>(), 40);
}
