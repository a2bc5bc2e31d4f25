//! Another database takes the place of the store's own.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Twice the same beginning; the second store goes on.
fn two() -> (Store, Arc<dyn Backend>, Store) {
    let mut stores = [memory(), memory()].map(|engine| {
        let mut store = open(&engine);
        for n in 0..20 {
            put(&mut store, &format!("k{}", n % 5), &format!("v{n}"));
        }
        (engine, store)
    });
    let (engine, later) = &mut stores[1];
    for n in 20..50 {
        put(later, &format!("k{}", n % 7), &format!("v{n}"));
    }
    delete(later, "k1", "");
    later.begin_compaction(30).unwrap();
    finish_compaction(later, 100);
    let engine = engine.clone();
    let [(_, old), (_, later)] = stores;
    (old, engine, later)
}

fn all(view: &ReadView) -> (i64, String) {
    let found = view.range(&query("k", "l", 0)).unwrap();
    (found.rev, text(&found))
}

#[test]
fn readers_see_the_old_database_or_the_new_one() {
    let (mut store, engine, later) = two();
    let reader = store.reader();
    let old = all(&reader.view());
    let new = all(&later.reader().view());
    let expected = later.reader().hash_kv(0).unwrap();
    later.close().unwrap();
    let pinned = reader.view();
    let old_backend = reader.backend();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut seen = Vec::new();
            loop {
                let last = done.load(Ordering::Acquire);
                let found = all(&reader.view());
                assert!(found == old || found == new, "{found:?}");
                let history = Stretch {
                    records: 1000,
                    bytes: 1 << 20,
                };
                let history = reader.history(21, history, |_, _| true);
                match history {
                    Ok(history) => assert_eq!(history.current, old.0),
                    Err(error) => assert!(matches!(error, Error::Compacted), "{error}"),
                }
                seen.push(found.0);
                if last {
                    return seen;
                }
            }
        });
        store.record_changes();
        store.replace(open(&engine)).unwrap();
        done.store(true, Ordering::Release);
        let seen = looks.join().unwrap();
        assert!(seen.is_sorted() && seen.last() == Some(&new.0), "{seen:?}");
    });
    assert_eq!(store.rev(), new.0);
    assert_eq!(store.compact_rev(), 30);
    assert_eq!(store.take_changes(), []);
    assert_eq!(reader.hash_kv(0).unwrap(), expected);
    assert!(matches!(
        reader.range(&query("k0", "", 25)),
        Err(Error::Compacted)
    ));
    // Who has the old version keeps it.
    assert_eq!(all(&pinned), old);
    old_backend.commit().unwrap();
    assert!(old_backend.failed().is_none());
    // What is written now is in the new database.
    put(&mut store, "k9", "after");
    assert!(reader.range(&query("k9", "", 0)).unwrap().count == 1);
    store.close().unwrap();
    let again = open(&engine);
    assert_eq!(again.rev(), new.0 + 1);
    assert_eq!(again.reader().range(&query("k9", "", 0)).unwrap().count, 1);
}

#[test]
fn the_old_database_is_let_go_with_its_last_reader() {
    let (mut store, engine, later) = two();
    later.close().unwrap();
    let base = Arc::downgrade(&store.base);
    let view = store.reader().view();
    store.replace(open(&engine)).unwrap();
    assert!(base.upgrade().is_some());
    drop(view);
    assert!(base.upgrade().is_none());
}

#[test]
fn compactions_are_those_of_the_new_database() {
    let (mut store, engine, mut later) = two();
    // Begun and not finished in both.
    store.begin_compaction(15).unwrap();
    store.publish().unwrap();
    step(&mut store, 1);
    later.begin_compaction(40).unwrap();
    later.publish().unwrap();
    later.close().unwrap();
    store.replace(open(&engine)).unwrap();
    assert!(store.is_compacting());
    assert_eq!(finish_compaction(&mut store, 10), 40);
    assert_eq!(step(&mut store, 10), Compaction::Idle);
    assert_eq!(store.compact_rev(), 40);
    // Hashes of compactions that the old database saw are not those of the new one.
    assert!(matches!(store.reader().hash_kv(15), Err(Error::Compacted)));
}

/// The new database is not taken while the old one cannot be closed in order.
#[test]
fn a_failed_disk_is_told_and_readers_stay() {
    use crate::backend::{BoltBackend, BoltOptions};
    use crate::fs::{Fs, SimFs};
    let fs = SimFs::new();
    fs.create_dir_all(std::path::Path::new("/d")).unwrap();
    let path = std::path::Path::new("/d/db");
    let engine: Arc<dyn Backend> =
        Arc::new(BoltBackend::open(Arc::new(fs.clone()), path, BoltOptions::default()).unwrap());
    let options = WriterOptions {
        batch_interval: Duration::MAX,
        ..WriterOptions::default()
    };
    let mut store = open_with(&engine, 0, options);
    put(&mut store, "k", "old");
    fs.fail_at(1, std::io::ErrorKind::Other, true);
    let (_, new, later) = two();
    later.close().unwrap();
    let error = store.replace(open(&new)).unwrap_err();
    assert!(matches!(error, Error::Backend(_)), "{error}");
    assert_eq!(all(&store.reader().view()), (2, "k=old".into()));
}
