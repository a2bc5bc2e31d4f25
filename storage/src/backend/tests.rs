//! Writer, readers and flusher together.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::*;
use crate::clock::{Clock, ManualClock, SystemClock};
use crate::testing::{self, Random};

/// A memory engine that can hold up, fail, forget or panic in a commit.
#[derive(Default)]
struct Engine {
    inner: MemBackend,
    mode: Mutex<Mode>,
    changed: Condvar,
    /// Batches that reached the engine.
    commits: AtomicU64,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Mode {
    #[default]
    Work,
    Block,
    Fail,
    Panic,
}

impl Engine {
    fn set(&self, mode: Mode) {
        *self.mode.lock() = mode;
        self.changed.notify_all();
    }

    /// Waits until `n` batches have come.
    fn wait_for_commits(&self, n: u64) {
        let mut mode = self.mode.lock();
        while self.commits.load(Ordering::SeqCst) < n {
            let late = self.changed.wait_for(&mut mode, Duration::from_secs(20));
            assert!(!late.timed_out(), "no commit came");
        }
    }
}

impl Backend for Engine {
    fn commit(&self, batch: &Batch) -> Result<(), Error> {
        let mut mode = self.mode.lock();
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_all();
        self.changed
            .wait_while(&mut mode, |mode| *mode == Mode::Block);
        match *mode {
            Mode::Fail => Err(Error::Io {
                action: "write",
                path: "engine".into(),
                source: Arc::new(io::ErrorKind::StorageFull.into()),
            }),
            Mode::Panic => panic!("a test wants this"),
            Mode::Work | Mode::Block => self.inner.commit(batch),
        }
    }

    fn view(&self) -> Result<Arc<dyn View>, Error> {
        self.inner.view()
    }

    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.inner.get(bucket, key)
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn size_in_use(&self) -> u64 {
        self.inner.size_in_use()
    }

    fn defragment(&self) -> Result<(), Error> {
        self.inner.defragment()
    }

    fn view_and_copy(&self) -> Result<(Arc<dyn View>, DatabaseCopy), Error> {
        self.inner.view_and_copy()
    }

    fn name(&self) -> &'static str {
        "test"
    }
}

/// Commits only when told to.
fn manual() -> WriterOptions {
    WriterOptions {
        batch_interval: Duration::MAX,
        ..WriterOptions::default()
    }
}

fn start(options: WriterOptions) -> (Arc<Engine>, Writer, Reader) {
    let engine = Arc::new(Engine::default());
    let (writer, reader) = Writer::start(engine.clone(), options);
    (engine, writer, reader)
}

fn keys(found: Result<Vec<(Bytes, Bytes)>, Error>) -> Vec<(String, String)> {
    let text = |b: Bytes| String::from_utf8_lossy(&b).into_owned();
    found
        .unwrap()
        .into_iter()
        .map(|(k, v)| (text(k), text(v)))
        .collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect()
}

#[test]
fn changes_show_first_to_the_writer_then_to_readers_then_to_the_engine() {
    let (engine, mut writer, reader) = start(manual());
    writer.put(Bucket::Auth, "a", "1");
    assert_eq!(
        writer.get(Bucket::Auth, b"a").unwrap().as_deref(),
        Some(&b"1"[..])
    );
    assert_eq!(
        keys(writer.scan(Bucket::Auth, b"", None, 0)),
        pairs(&[("a", "1")])
    );
    assert_eq!(reader.get(Bucket::Auth, b"a").unwrap(), None);
    writer.publish().unwrap();
    assert_eq!(
        reader.get(Bucket::Auth, b"a").unwrap().as_deref(),
        Some(&b"1"[..])
    );
    assert_eq!(engine.get(Bucket::Auth, b"a").unwrap(), None);
    reader.commit().unwrap();
    assert_eq!(
        engine.get(Bucket::Auth, b"a").unwrap().as_deref(),
        Some(&b"1"[..])
    );
    writer.delete(Bucket::Auth, "a");
    assert_eq!(writer.get(Bucket::Auth, b"a").unwrap(), None);
    assert!(reader.get(Bucket::Auth, b"a").unwrap().is_some());
    writer.publish().unwrap();
    assert_eq!(reader.get(Bucket::Auth, b"a").unwrap(), None);
    assert_eq!(keys(reader.scan(Bucket::Auth, b"", None, 0)), []);
    writer.close().unwrap();
    assert_eq!(engine.get(Bucket::Auth, b"a").unwrap(), None);
}

#[test]
fn layers_mask_each_other() {
    let (engine, mut writer, reader) = start(manual());
    for key in ["a", "b", "c", "d", "e"] {
        writer.put(Bucket::Key, key, "engine");
    }
    writer.commit().unwrap();
    engine.set(Mode::Block);
    writer.put(Bucket::Key, "b", "flight");
    writer.put(Bucket::Key, "bb", "flight");
    writer.delete(Bucket::Key, "c");
    writer.delete(Bucket::Key, "d");
    writer.publish().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| reader.commit().unwrap());
        engine.wait_for_commits(2);
        let in_flight = reader.view().unwrap();
        writer.put(Bucket::Key, "c", "pending");
        writer.delete(Bucket::Key, "bb");
        writer.publish().unwrap();
        writer.put(Bucket::Key, "a", "unit");
        let expected = pairs(&[
            ("a", "engine"),
            ("b", "flight"),
            ("c", "pending"),
            ("e", "engine"),
        ]);
        assert_eq!(keys(reader.scan(Bucket::Key, b"", None, 0)), expected);
        assert_eq!(
            keys(reader.scan(Bucket::Key, b"b", Some(b"e"), 2)),
            expected[1..3]
        );
        assert_eq!(keys(reader.scan(Bucket::Key, b"c", None, 2)), expected[2..]);
        assert_eq!(
            keys(writer.scan(Bucket::Key, b"", None, 2)),
            pairs(&[("a", "unit"), ("b", "flight")])
        );
        engine.set(Mode::Work);
        reader.commit().unwrap();
        let expected = pairs(&[
            ("a", "engine"),
            ("b", "flight"),
            ("bb", "flight"),
            ("e", "engine"),
        ]);
        assert_eq!(keys(in_flight.scan(Bucket::Key, b"", None, 0)), expected);
    });
}

#[test]
fn an_open_unit_is_never_committed() {
    let (engine, mut writer, reader) = start(manual());
    writer.put(Bucket::Key, "whole", "1");
    writer.publish().unwrap();
    writer.put(Bucket::Key, "half", "1");
    reader.commit().unwrap();
    assert_eq!(engine.get(Bucket::Key, b"half").unwrap(), None);
    drop(writer);
    assert!(engine.get(Bucket::Key, b"whole").unwrap().is_some());
    assert_eq!(engine.get(Bucket::Key, b"half").unwrap(), None);
}

#[test]
fn the_interval_and_the_limit_flush() {
    let options = WriterOptions {
        batch_interval: Duration::from_millis(1),
        ..WriterOptions::default()
    };
    let (engine, mut writer, _reader) = start(options);
    for n in 1..5 {
        writer.put(Bucket::Key, "k", n.to_string());
        writer.publish().unwrap();
        engine.wait_for_commits(n);
    }
    let (engine, mut writer, _reader) = start(WriterOptions {
        batch_limit: 10,
        ..manual()
    });
    for n in 0..9 {
        assert_eq!(engine.commits.load(Ordering::SeqCst), 0);
        // Overwriting does not count: only touched keys do, "m" and nine more.
        writer.put(Bucket::Meta, "m", "");
        writer.put(Bucket::Key, n.to_string(), "");
        writer.publish().unwrap();
    }
    engine.wait_for_commits(1);
}

#[test]
fn commits_are_observed_by_the_clock_handed_in() {
    let clock = Arc::new(ManualClock::default());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let options = WriterOptions {
        clock: clock.clone(),
        observe: Some(Arc::new({
            let seen = seen.clone();
            move |committed| seen.lock().push(committed)
        })),
        ..manual()
    };
    let (engine, mut writer, reader) = start(options);
    engine.set(Mode::Block);
    writer.put(Bucket::Key, "a", "");
    writer.put(Bucket::Key, "b", "");
    writer.publish().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| reader.commit().unwrap());
        engine.wait_for_commits(1);
        clock.advance(Duration::from_millis(7));
        engine.set(Mode::Work);
    });
    reader.defragment().unwrap();
    let expected = Committed {
        took: Duration::from_millis(7),
        keys: 2,
    };
    assert_eq!(*seen.lock(), [expected]);
}

#[test]
fn publish_waits_when_far_too_much_is_unflushed() {
    let (engine, mut writer, reader) = start(WriterOptions {
        batch_limit: 10,
        ..manual()
    });
    engine.set(Mode::Block);
    let published = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..1000 {
                writer.put(Bucket::Key, n.to_string(), "");
                writer.publish().unwrap();
                published.store(n, Ordering::SeqCst);
            }
            writer.commit().unwrap();
        });
        engine.wait_for_commits(1);
        // The bound is four batches; blocked or not, it has surely been reached with the 40th key.
        let deadline = SystemClock.now() + Duration::from_secs(20);
        while reader.get(Bucket::Key, b"39").unwrap().is_none() {
            assert!(SystemClock.now() < deadline, "publish waits too early");
            thread::yield_now();
        }
        assert!(published.load(Ordering::SeqCst) < 60);
        engine.set(Mode::Work);
    });
    assert_eq!(
        keys(engine.view().unwrap().scan(Bucket::Key, b"", None, 0)).len(),
        1000
    );
}

#[test]
fn a_failure_is_final_and_wakes_everybody() {
    for mode in [Mode::Fail, Mode::Panic] {
        let durable = Arc::new(AtomicU64::new(0));
        let options = WriterOptions {
            batch_limit: 2,
            on_durable: Some(Arc::new({
                let durable = durable.clone();
                move |index| durable.store(index, Ordering::SeqCst)
            })),
            ..manual()
        };
        let (engine, mut writer, reader) = start(options);
        writer.put(Bucket::Meta, CONSISTENT_INDEX, 6u64.to_be_bytes().to_vec());
        writer.commit().unwrap();
        engine.set(Mode::Block);
        writer.put(Bucket::Meta, CONSISTENT_INDEX, 7u64.to_be_bytes().to_vec());
        writer.publish().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| reader.commit().unwrap_err());
            engine.wait_for_commits(2);
            let blocked = scope.spawn(|| {
                let mut n = 0u64;
                loop {
                    writer.put(Bucket::Key, n.to_be_bytes(), "");
                    match writer.publish() {
                        Ok(()) => n += 1,
                        Err(error) => return error,
                    }
                }
            });
            engine.set(mode);
            blocked.join().unwrap();
        });
        let first = reader.failed().unwrap().to_string();
        engine.set(Mode::Work);
        assert_eq!(reader.commit().unwrap_err().to_string(), first);
        assert_eq!(writer.publish().unwrap_err().to_string(), first);
        assert_eq!(writer.commit().unwrap_err().to_string(), first);
        assert_eq!(writer.close().unwrap_err().to_string(), first);
        assert_eq!(durable.load(Ordering::SeqCst), 6);
        assert!(matches!(reader.failed(), Some(Error::Panicked)) == (mode == Mode::Panic));
    }
}

#[test]
fn what_is_reported_durable_is_in_the_engine() {
    let engine = Arc::new(Engine::default());
    let reported = Arc::new(AtomicU64::new(0));
    let mut batch = Batch::default();
    batch.put(Bucket::Meta, CONSISTENT_INDEX, 5u64.to_be_bytes().to_vec());
    engine.commit(&batch).unwrap();
    let options = WriterOptions {
        batch_interval: Duration::from_millis(1),
        on_durable: Some(Arc::new({
            let (engine, reported) = (engine.clone(), reported.clone());
            move |index| {
                let stored = engine.get(Bucket::Meta, CONSISTENT_INDEX).unwrap().unwrap();
                assert_eq!(stored[..], index.to_be_bytes());
                assert!(reported.swap(index, Ordering::SeqCst) <= index);
            }
        })),
        ..WriterOptions::default()
    };
    let (mut writer, reader) = Writer::start(engine.clone(), options);
    // A batch without an index does not change what is durable.
    writer.put(Bucket::Cluster, "clusterVersion", "3.6.0");
    writer.commit().unwrap();
    assert_eq!(reported.load(Ordering::SeqCst), 5);
    for index in 6..300u64 {
        writer.put(Bucket::Key, index.to_be_bytes(), "value");
        writer.put(Bucket::Meta, CONSISTENT_INDEX, index.to_be_bytes().to_vec());
        writer.publish().unwrap();
        if index % 50 == 0 {
            reader.commit().unwrap();
            assert!(reported.load(Ordering::SeqCst) >= index);
        }
    }
    writer.close().unwrap();
    assert_eq!(reported.load(Ordering::SeqCst), 299);
}

#[test]
fn abandoning_loses_what_was_not_committed_and_nothing_else() {
    let (engine, mut writer, reader) = start(manual());
    writer.put(Bucket::Key, "kept", "");
    writer.commit().unwrap();
    writer.put(Bucket::Key, "lost", "");
    writer.publish().unwrap();
    writer.abandon();
    assert!(matches!(reader.commit(), Err(Error::Closed)));
    assert_eq!(
        keys(engine.view().unwrap().scan(Bucket::Key, b"", None, 0)),
        pairs(&[("kept", "")])
    );
}

#[test]
fn a_large_unit_is_found_by_key() {
    let (_engine, mut writer, reader) = start(manual());
    for round in 0..3 {
        for n in 0..500u32 {
            writer.put(Bucket::Key, n.to_be_bytes(), format!("{round}"));
            writer.delete(Bucket::Lease, n.to_be_bytes());
        }
        let expected = format!("{round}");
        assert!(
            (0..500u32)
                .all(|n| writer.get(Bucket::Key, &n.to_be_bytes()).unwrap().unwrap() == expected)
        );
        assert_eq!(writer.scan(Bucket::Key, b"", None, 0).unwrap().len(), 500);
        writer.publish().unwrap();
        assert!(
            (0..500u32)
                .all(|n| reader.get(Bucket::Key, &n.to_be_bytes()).unwrap().unwrap() == expected)
        );
    }
}

/// Each unit writes its number under several keys; nobody may ever see parts of two units.
#[test]
fn readers_see_whole_units_while_batches_go_by() {
    let engine = Arc::new(MemBackend::new());
    let options = WriterOptions {
        batch_interval: Duration::from_micros(100),
        batch_limit: 50,
        ..WriterOptions::default()
    };
    let (mut writer, reader) = Writer::start(engine.clone(), options);
    let mut random = Random::new(Random::seed("readers_see_whole_units_while_batches_go_by"));
    let unit = |writer: &mut Writer, n: u64| {
        for key in [b"a", b"b", b"c"] {
            writer.put(Bucket::Meta, key, n.to_be_bytes().to_vec());
        }
        writer.put(Bucket::Key, n.to_be_bytes(), n.to_be_bytes().to_vec());
        if n > 100 {
            writer.delete(Bucket::Key, (n - 100).to_be_bytes());
        }
    };
    let check = |view: &dyn View| {
        let meta = view.scan(Bucket::Meta, b"", None, 0).unwrap();
        assert_eq!(meta.len(), 3);
        assert!(
            meta.iter().all(|(_, v)| *v == meta[0].1),
            "parts of two units: {meta:?}"
        );
        let n = u64::from_be_bytes(meta[0].1[..].try_into().unwrap());
        let found = view.scan(Bucket::Key, b"", None, 0).unwrap();
        let expected = (n.saturating_sub(99)).max(1)..=n;
        assert!(
            found
                .iter()
                .map(|(k, _)| k[..].to_vec())
                .eq(expected.map(|n| n.to_be_bytes().to_vec()))
        );
        n
    };
    unit(&mut writer, 1);
    writer.publish().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let view = reader.view().unwrap();
                    let n = check(&*view);
                    assert!(n >= last);
                    last = n;
                    let got = reader.get(Bucket::Meta, b"a").unwrap().unwrap();
                    assert!(u64::from_be_bytes(got[..].try_into().unwrap()) >= n);
                    assert_eq!(check(&*view), n);
                }
            });
        }
        for n in 2..20_000 * testing::scale() as u64 {
            unit(&mut writer, n);
            writer.publish().unwrap();
            if random.below(1000) == 0 {
                reader.commit().unwrap();
                check(&*engine.view().unwrap());
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    writer.close().unwrap();
    check(&*engine.view().unwrap());
}
