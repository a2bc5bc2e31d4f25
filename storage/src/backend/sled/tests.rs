#![expect(
    clippy::disallowed_methods,
    reason = "plays the part of a crash, which goes past the door"
)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::backend::conformance::{Fixture, conformance};
use crate::backend::faulty_fs::{Faults, FaultyFs};
use crate::backend::{CONSISTENT_INDEX, Writer, WriterOptions};
use crate::fs::RealFs;
use crate::testing::Random;

struct Place {
    dir: tempfile::TempDir,
    faults: Arc<Faults>,
}

impl Place {
    fn new() -> Self {
        Place {
            dir: tempfile::tempdir().unwrap(),
            faults: Arc::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("sled")
    }

    fn try_open(&self) -> Result<SledBackend, Error> {
        let fs = FaultyFs {
            inner: RealFs,
            faults: self.faults.clone(),
        };
        SledBackend::open(Arc::new(fs), &self.path())
    }

    /// A copy of the files as they are now, as the death of the process would leave them.
    fn snapshot(&self) -> Place {
        let copy = Place::new();
        copy_dir(&self.path(), &copy.path());
        copy
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

impl Fixture for Place {
    fn engine(&self) -> Result<Arc<dyn Backend>, Error> {
        Ok(Arc::new(self.try_open()?))
    }

    fn break_disk(&self) {
        self.faults.allow(0);
    }

    fn mend_disk(&self) {
        self.faults.allow(i64::MAX);
    }
}

conformance!(Place::new());

fn numbered(n: u64) -> Batch {
    let mut batch = Batch::default();
    batch.put(Bucket::Meta, CONSISTENT_INDEX, n.to_be_bytes().to_vec());
    for key in 0..20u64 {
        batch.put(
            Bucket::Key,
            key.to_be_bytes().to_vec(),
            n.to_be_bytes().to_vec(),
        );
    }
    batch
}

fn number(engine: &dyn Backend) -> u64 {
    let index = engine.get(Bucket::Meta, CONSISTENT_INDEX).unwrap();
    let n = index.map_or(0, |n| u64::from_be_bytes(n[..].try_into().unwrap()));
    let found = engine
        .view()
        .unwrap()
        .scan(Bucket::Key, b"", None, 0)
        .unwrap();
    assert_eq!(found.len(), if n == 0 { 0 } else { 20 });
    assert!(
        found.iter().all(|(_, v)| v[..] == n.to_be_bytes()),
        "parts of two batches"
    );
    n
}

#[test]
fn a_second_opener_is_told_that_it_is_locked() {
    let place = Place::new();
    let _engine = place.try_open().unwrap();
    let error = place.try_open().err().unwrap();
    assert!(
        matches!(&error, Error::Locked { path } if *path == place.path()),
        "{error}"
    );
}

/// sled flushes only in the background here, so the journal is what brings the batches back.
#[test]
fn a_process_that_dies_loses_no_commit() {
    let place = Place::new();
    let engine = place.try_open().unwrap();
    for n in 1..30 {
        engine.commit(&numbered(n)).unwrap();
        if n % 7 == 0 {
            let copy = place.snapshot();
            assert_eq!(number(&copy.try_open().unwrap()), n);
            // And once more, now without a journal to redo.
            let again = copy.try_open().unwrap();
            assert_eq!(number(&again), n);
            assert_eq!(again.size_in_use(), engine.size_in_use());
        }
    }
}

/// Whatever of sled's file is lost since its last sync, the journal has it.
#[test]
fn the_journal_replaces_what_sled_lost() {
    let place = Place::new();
    let mut engine = place.try_open().unwrap();
    engine.commit(&numbered(1)).unwrap();
    drop(engine);
    let proven = place.snapshot();
    engine = place.try_open().unwrap();
    for n in 2..20 {
        engine.commit(&numbered(n)).unwrap();
    }
    fs::copy(place.path().join("journal"), proven.path().join("journal")).unwrap();
    assert_eq!(number(&proven.try_open().unwrap()), 19);
}

#[test]
fn an_engine_behind_its_journal_is_refused() {
    let place = Place::new();
    drop(place.try_open().unwrap());
    let old = place.snapshot();
    let engine = place.try_open().unwrap();
    engine.commit(&numbered(1)).unwrap();
    engine.checkpoint(&mut engine.commits.lock()).unwrap();
    engine.commit(&numbered(2)).unwrap();
    fs::copy(place.path().join("journal"), old.path().join("journal")).unwrap();
    let error = old.try_open().err().unwrap();
    assert!(
        matches!(&error, Error::Corrupt { path, .. } if path.ends_with("journal")),
        "{error}"
    );
}

/// Refuses each writing or syncing call in turn, in commits and checkpoints.
#[test]
fn nothing_is_reported_durable_before_its_sync() {
    let place = Place::new();
    let mut last = 0;
    for allowed in 0..12 {
        let engine = Arc::new(place.try_open().unwrap());
        assert!(
            number(&*engine) >= last,
            "lost {last}, has {}",
            number(&*engine)
        );
        let reported = Arc::new(AtomicU64::new(last));
        let options = WriterOptions {
            batch_interval: Duration::MAX,
            on_durable: Some(Arc::new({
                let (faults, reported) = (place.faults.clone(), reported.clone());
                let syncs = AtomicU64::new(faults.syncs());
                move |index| {
                    assert!(!faults.hit(), "reported {index} after a failure");
                    assert!(
                        syncs.swap(faults.syncs(), Ordering::SeqCst) < faults.syncs(),
                        "no sync before {index}"
                    );
                    reported.store(index, Ordering::SeqCst);
                }
            })),
            ..WriterOptions::default()
        };
        let (mut writer, _) = Writer::start(engine.clone(), options);
        place.faults.allow(allowed);
        for n in last + 1.. {
            for op in numbered(n).ops() {
                if let Op::Put { bucket, key, value } = op {
                    writer.put(*bucket, key, value.clone());
                }
            }
            if writer.commit().is_err() {
                break;
            }
            assert_eq!(reported.load(Ordering::SeqCst), n);
            if n % 2 == 0 && engine.checkpoint(&mut engine.commits.lock()).is_err() {
                break;
            }
        }
        drop(writer);
        drop(engine);
        place.mend_disk();
        last = reported.load(Ordering::SeqCst);
    }
    assert!(last > 10);
}

/// Refuses each call of a defragmentation in turn: the old database stays usable, and nothing is left over.
#[test]
fn defragmentation_survives_any_failure() {
    let place = Place::new();
    let mut n = 0;
    let mut failures = 0;
    for allowed in 0.. {
        let engine = place.try_open().unwrap();
        assert_eq!(number(&engine), n);
        n += 1;
        engine.commit(&numbered(n)).unwrap();
        place.faults.allow(allowed);
        let result = engine.defragment();
        let hit = place.faults.hit();
        place.mend_disk();
        assert_eq!(number(&engine), n);
        if result.is_err() {
            failures += 1;
            // Only the rename at the end may leave open which database is in use; then no commit is taken.
            if engine.commit(&numbered(n + 1)).is_ok() {
                n += 1;
                engine.defragment().unwrap();
                assert_eq!(number(&engine), n);
            }
        }
        drop(engine);
        let mut names: Vec<_> = RealFs.read_dir(&place.path()).unwrap();
        names.retain(|name| name.starts_with("db-"));
        let engine = place.try_open().unwrap();
        assert_eq!(number(&engine), n);
        assert_eq!(
            RealFs
                .read_dir(&place.path())
                .unwrap()
                .iter()
                .filter(|name| name.starts_with("db-"))
                .count(),
            1
        );
        if result.is_ok() && !hit {
            break;
        }
    }
    assert!(failures > 8, "{failures}");
}

/// The files at every change of the directory during a defragmentation, as a crash would leave them.
#[test]
fn defragmentation_survives_a_crash() {
    let place = Place::new();
    let engine = place.try_open().unwrap();
    for n in 1..5 {
        engine.commit(&numbered(n)).unwrap();
    }
    let before = place.snapshot();
    let next = engine.commits.lock().directory.create_next().unwrap().1;
    let half = place.snapshot();
    next.remove();
    engine.defragment().unwrap();
    let after = place.snapshot();
    fs::create_dir(after.path().join("db-1")).unwrap();
    fs::write(after.path().join("CURRENT.tmp"), "db").unwrap();
    for place in [before, half, after] {
        assert_eq!(number(&place.try_open().unwrap()), 4);
        let names = RealFs.read_dir(&place.path()).unwrap();
        assert_eq!(names.len(), 4, "{names:?}");
    }
}

#[test]
fn commits_and_reads_go_on_during_defragmentation() {
    let place = Place::new();
    let engine = place.try_open().unwrap();
    let mut random = Random::new(Random::seed(
        "commits_and_reads_go_on_during_defragmentation",
    ));
    for n in 0..50u64 {
        let mut batch = Batch::default();
        (0..200u64).for_each(|k| {
            batch.put(
                Bucket::Key,
                (n * 200 + k).to_be_bytes().to_vec(),
                vec![1; 50],
            )
        });
        engine.commit(&batch).unwrap();
    }
    let mut model: std::collections::BTreeMap<_, _> = engine
        .view()
        .unwrap()
        .scan(Bucket::Key, b"", None, 0)
        .unwrap()
        .into_iter()
        .collect();
    let rounds = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3 {
                engine.defragment().unwrap();
                rounds.fetch_add(1, Ordering::SeqCst);
            }
        });
        while rounds.load(Ordering::SeqCst) < 3 {
            let mut batch = Batch::default();
            for _ in 0..50 {
                let key = Bytes::from(u64::from(random.below(12_000)).to_be_bytes().to_vec());
                if random.below(2) == 0 {
                    model.remove(&key);
                    batch.delete(Bucket::Key, key);
                } else {
                    let value = Bytes::from(random.next().to_be_bytes().to_vec());
                    model.insert(key.clone(), value.clone());
                    batch.put(Bucket::Key, key, value);
                }
            }
            engine.commit(&batch).unwrap();
        }
    });
    let expected: Vec<_> = model.into_iter().collect();
    assert_eq!(
        engine
            .view()
            .unwrap()
            .scan(Bucket::Key, b"", None, 0)
            .unwrap(),
        expected
    );
    let live: usize = expected.iter().map(|(k, v)| k.len() + v.len()).sum();
    assert_eq!(engine.size_in_use(), live as u64);
    drop(engine);
    let engine = place.try_open().unwrap();
    assert_eq!(
        engine
            .view()
            .unwrap()
            .scan(Bucket::Key, b"", None, 0)
            .unwrap(),
        expected
    );
}

#[test]
fn foreign_and_damaged_files_are_named() {
    let cases: [(&str, &[u8]); 4] = [
        ("CURRENT", b"db-x\n"),
        ("db-1/conf", b"segment_size: 512"),
        ("db-1/db", b""),
        ("bolt.db", b"something"),
    ];
    for (name, content) in cases {
        let place = Place::new();
        let engine = place.try_open().unwrap();
        engine.commit(&numbered(1)).unwrap();
        drop(engine);
        fs::write(place.path().join(name), content).unwrap();
        let error = place.try_open().err().unwrap();
        assert!(
            matches!(&error, Error::Corrupt { path, .. } if path.ends_with(name)),
            "{name}: {error}"
        );
    }
    let place = Place::new();
    drop(place.try_open().unwrap());
    fs::remove_file(place.path().join("db-1/db")).unwrap();
    assert!(
        place
            .try_open()
            .err()
            .unwrap()
            .to_string()
            .contains("db-1/db")
    );
    let place = Place::new();
    fs::write(place.path(), "a file in the way").unwrap();
    assert!(
        place
            .try_open()
            .err()
            .unwrap()
            .to_string()
            .contains(&*place.path().to_string_lossy())
    );
}
