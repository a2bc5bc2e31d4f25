//! What every engine must do, run against each of them by the [`conformance`] macro.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;

use super::{Backend, Batch, Bucket, Error, Op, View};
use crate::testing::{self, Random};

/// An engine's place on a disk (or what stands for one), which outlives the engine.
pub(super) trait Fixture {
    fn engine(&self) -> Result<Arc<dyn Backend>, Error>;

    /// From now on nothing can be written or synced.
    fn break_disk(&self);

    fn mend_disk(&self);
}

/// Makes one test of each case below, for the fixture that `$new` returns.
macro_rules! conformance {
    ($new:expr) => {
        crate::backend::conformance::conformance!($new;
            batches_apply_in_order, buckets_are_apart, scans_keep_bounds, views_do_not_change, views_during_commits,
            commits_are_whole_in_views, survives_reopening, matches_a_model, sizes_follow_the_data, defragment_keeps_all,
            defragment_keeps_views, copy_is_refused_or_given, a_failed_commit_is_final);
    };
    ($new:expr; $($case:ident),*) => {
        $(#[test] fn $case() { crate::backend::conformance::$case(&$new); })*
    };
}
pub(super) use conformance;

fn put(engine: &dyn Backend, bucket: Bucket, pairs: &[(&str, &str)]) {
    let mut batch = Batch::default();
    for (key, value) in pairs {
        batch.put(bucket, key.as_bytes().to_vec(), value.as_bytes().to_vec());
    }
    engine.commit(&batch).unwrap();
}

fn text(found: Vec<(Bytes, Bytes)>) -> String {
    let text = |b: &Bytes| String::from_utf8_lossy(b).into_owned();
    found
        .iter()
        .map(|(k, v)| format!("{}={}", text(k), text(v)))
        .collect::<Vec<_>>()
        .join(" ")
}

fn all(view: &dyn View, bucket: Bucket) -> String {
    text(view.scan(bucket, b"", None, 0).unwrap())
}

fn value(found: Result<Option<Bytes>, Error>) -> Option<String> {
    found
        .unwrap()
        .map(|v| String::from_utf8_lossy(&v).into_owned())
}

pub(super) fn batches_apply_in_order(fixture: &dyn Fixture) {
    let engine = fixture.engine().unwrap();
    let mut batch = Batch::default();
    batch.put(Bucket::Lease, "a", "1");
    batch.delete(Bucket::Lease, "a");
    batch.put(Bucket::Lease, "b", "1");
    batch.put(Bucket::Lease, "b", "2");
    batch.delete(Bucket::Lease, "c");
    batch.put(Bucket::Lease, "c", "");
    batch.delete(Bucket::Lease, "never there");
    engine.commit(&batch).unwrap();
    assert_eq!(all(&*engine.view().unwrap(), Bucket::Lease), "b=2 c=");
    assert_eq!(value(engine.get(Bucket::Lease, b"a")), None);
    assert_eq!(value(engine.get(Bucket::Lease, b"b")).as_deref(), Some("2"));
    assert_eq!(value(engine.get(Bucket::Lease, b"c")).as_deref(), Some(""));
    engine.commit(&Batch::default()).unwrap();
}

pub(super) fn buckets_are_apart(fixture: &dyn Fixture) {
    let engine = fixture.engine().unwrap();
    for bucket in Bucket::ALL {
        put(
            &*engine,
            bucket,
            &[("\0", bucket.name()), ("\u{7f}~", "last")],
        );
    }
    let view = engine.view().unwrap();
    for bucket in Bucket::ALL {
        assert_eq!(
            all(&*view, bucket),
            format!("\0={} \u{7f}~=last", bucket.name())
        );
        assert_eq!(
            value(engine.get(bucket, b"\0")).as_deref(),
            Some(bucket.name())
        );
    }
}

pub(super) fn scans_keep_bounds(fixture: &dyn Fixture) {
    let engine = fixture.engine().unwrap();
    put(
        &*engine,
        Bucket::Key,
        &[("a", "1"), ("b", "2"), ("ba", "3"), ("c", "4"), ("d", "5")],
    );
    let view = engine.view().unwrap();
    let scan = |from: &str, to: Option<&str>, limit| {
        text(
            view.scan(Bucket::Key, from.as_bytes(), to.map(str::as_bytes), limit)
                .unwrap(),
        )
    };
    assert_eq!(scan("", None, 0), "a=1 b=2 ba=3 c=4 d=5");
    assert_eq!(scan("b", Some("c"), 0), "b=2 ba=3");
    assert_eq!(scan("b", Some("c"), 1), "b=2");
    assert_eq!(scan("b\0", Some("c\0"), 2), "ba=3 c=4");
    assert_eq!(scan("c", None, 10), "c=4 d=5");
    assert_eq!(scan("c", Some("c"), 0), "");
    assert_eq!(scan("c", Some("a"), 0), "");
    assert_eq!(scan("e", None, 0), "");
    assert_eq!(scan("", Some(""), 0), "");
}

pub(super) fn views_do_not_change(fixture: &dyn Fixture) {
    let engine = fixture.engine().unwrap();
    put(&*engine, Bucket::Key, &[("a", "1"), ("b", "1")]);
    let old = engine.view().unwrap();
    let mut batch = Batch::default();
    batch.put(Bucket::Key, "a", "2");
    batch.delete(Bucket::Key, "b");
    batch.put(Bucket::Key, "c", "2");
    engine.commit(&batch).unwrap();
    let newer = engine.view().unwrap();
    put(
        &*engine,
        Bucket::Key,
        &[("a", "3"), ("b", "3"), ("c", "3"), ("d", "3")],
    );

    assert_eq!(all(&*old, Bucket::Key), "a=1 b=1");
    assert_eq!(value(old.get(Bucket::Key, b"b")).as_deref(), Some("1"));
    assert_eq!(value(old.get(Bucket::Key, b"c")), None);
    assert_eq!(all(&*newer, Bucket::Key), "a=2 c=2");
    assert_eq!(text(newer.scan(Bucket::Key, b"b", None, 1).unwrap()), "c=2");
    drop(old);
    put(&*engine, Bucket::Key, &[("a", "4")]);
    assert_eq!(all(&*newer, Bucket::Key), "a=2 c=2");
    drop(newer);
    assert_eq!(
        all(&*engine.view().unwrap(), Bucket::Key),
        "a=4 b=3 c=3 d=3"
    );
}

/// The value of every key is the number of the batch that wrote it.
fn round(n: u64) -> Batch {
    let mut batch = Batch::default();
    for key in 0..200u64 {
        if (key + n).is_multiple_of(3) {
            batch.delete(Bucket::Key, key.to_be_bytes().to_vec());
        } else {
            batch.put(
                Bucket::Key,
                key.to_be_bytes().to_vec(),
                n.to_be_bytes().to_vec(),
            );
        }
    }
    batch
}

/// The number of the batch that a view shows; fails if it shows parts of two.
fn shown(view: &dyn View) -> u64 {
    let found = view.scan(Bucket::Key, b"", None, 0).unwrap();
    let n = u64::from_be_bytes(found[0].1[..].try_into().unwrap());
    let expected: Vec<_> = (0..200u64)
        .filter(|key| !(key + n).is_multiple_of(3))
        .collect();
    let keys: Vec<_> = found
        .iter()
        .map(|(k, _)| u64::from_be_bytes(k[..].try_into().unwrap()))
        .collect();
    assert_eq!(keys, expected, "batch {n}");
    assert!(
        found.iter().all(|(_, v)| v[..] == n.to_be_bytes()),
        "parts of another batch in {n}"
    );
    n
}

pub(super) fn views_during_commits(fixture: &dyn Fixture) {
    let engine = fixture.engine().unwrap();
    engine.commit(&round(0)).unwrap();
    let views: Vec<_> = (1..20)
        .map(|n| {
            let view = engine.view().unwrap();
            engine.commit(&round(n)).unwrap();
            view
        })
        .collect();
    // In an order that drops neither oldest nor newest first.
    let mut views: Vec<_> = views.into_iter().enumerate().collect();
    views.sort_by_key(|(n, _)| (n * 7) % 19);
    while let Some((n, view)) = views.pop() {
        assert_eq!(shown(&*view), n as u64);
        assert!(views.iter().all(|(n, view)| shown(&**view) == *n as u64));
    }
}

pub(super) fn commits_are_whole_in_views(fixture: &dyn Fixture) {
    let engine = fixture.engine().unwrap();
    engine.commit(&round(0)).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let view = engine.view().unwrap();
                    let n = shown(&*view);
                    assert!(n >= last, "went back from {last} to {n}");
                    assert_eq!(shown(&*view), n, "changed");
                    last = n;
                }
            });
        }
        for n in 1..60 {
            engine.commit(&round(n)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(shown(&*engine.view().unwrap()), 59);
}

pub(super) fn survives_reopening(fixture: &dyn Fixture) {
    for n in 0..4 {
        let engine = fixture.engine().unwrap();
        if n > 0 {
            assert_eq!(shown(&*engine.view().unwrap()), n - 1);
        }
        engine.commit(&round(n)).unwrap();
    }
    let engine = fixture.engine().unwrap();
    let mut batch = Batch::default();
    let big = vec![7; 3 << 20];
    batch.put(Bucket::Meta, vec![1; 40], big.clone());
    batch.put(Bucket::Meta, vec![255; 4000], "long key");
    engine.commit(&batch).unwrap();
    drop(engine);
    let engine = fixture.engine().unwrap();
    assert_eq!(shown(&*engine.view().unwrap()), 3);
    assert_eq!(
        engine.get(Bucket::Meta, &[1; 40]).unwrap().as_deref(),
        Some(&big[..])
    );
    assert_eq!(
        value(engine.get(Bucket::Meta, &[255; 4000])).as_deref(),
        Some("long key")
    );
}

type Model = BTreeMap<(Bucket, Bytes), Bytes>;

fn compare(view: &dyn View, model: &Model, rng: &mut Random) {
    for bucket in Bucket::ALL {
        let expected: Vec<_> = model
            .iter()
            .filter(|((b, _), _)| *b == bucket)
            .map(|((_, k), v)| (k.clone(), v.clone()))
            .collect();
        assert_eq!(view.scan(bucket, b"", None, 0).unwrap(), expected);
        let [from, to] = [rng.below(60), rng.below(60)].map(|n| format!("{n:03}"));
        let limit = rng.below(6) as usize;
        let inside = expected
            .iter()
            .filter(|(k, _)| k[..] >= *from.as_bytes() && k[..] < *to.as_bytes());
        let inside: Vec<_> = inside
            .take(if limit == 0 { usize::MAX } else { limit })
            .cloned()
            .collect();
        assert_eq!(
            view.scan(bucket, from.as_bytes(), Some(to.as_bytes()), limit)
                .unwrap(),
            inside
        );
        assert_eq!(
            view.get(bucket, from.as_bytes()).unwrap(),
            model.get(&(bucket, from.into())).cloned()
        );
    }
}

pub(super) fn matches_a_model(fixture: &dyn Fixture) {
    let mut rng = Random::new(Random::seed("matches_a_model"));
    let mut engine = fixture.engine().unwrap();
    let mut model = Model::new();
    let mut views: Vec<(Arc<dyn View>, Model)> = Vec::new();
    for _ in 0..150 * testing::scale() {
        match rng.below(20) {
            0 => {
                views.clear();
                drop(engine);
                engine = fixture.engine().unwrap();
            }
            1 => engine.defragment().unwrap(),
            2..5 => views.push((engine.view().unwrap(), model.clone())),
            5..8 if !views.is_empty() => {
                let at = rng.below(views.len() as u32) as usize;
                let (view, model) = views.swap_remove(at);
                compare(&*view, &model, &mut rng);
            }
            _ => {
                let mut batch = Batch::default();
                for _ in 0..rng.below(40) {
                    let bucket = Bucket::ALL[rng.below(3) as usize + 4];
                    let key = Bytes::from(format!("{:03}", rng.below(60)));
                    if rng.below(3) == 0 {
                        model.remove(&(bucket, key.clone()));
                        batch.push(Op::Delete { bucket, key });
                    } else {
                        let value = Bytes::from(vec![rng.below(256) as u8; rng.below(50) as usize]);
                        model.insert((bucket, key.clone()), value.clone());
                        batch.push(Op::Put { bucket, key, value });
                    }
                }
                engine.commit(&batch).unwrap();
            }
        }
    }
    compare(&*engine.view().unwrap(), &model, &mut rng);
    views
        .iter()
        .for_each(|(view, model)| compare(&**view, model, &mut rng));
}

fn many(keys: std::ops::Range<u64>) -> Batch {
    let mut batch = Batch::default();
    for key in keys {
        batch.put(
            Bucket::Key,
            key.to_be_bytes().to_vec(),
            vec![key as u8; 300],
        );
    }
    batch
}

pub(super) fn sizes_follow_the_data(fixture: &dyn Fixture) {
    let engine = fixture.engine().unwrap();
    let empty = engine.size_in_use();
    engine.commit(&many(0..2000)).unwrap();
    let full = engine.size_in_use();
    assert!(full - empty >= 2000 * 308, "{empty} {full}");
    assert!(engine.size() >= full, "{} {full}", engine.size());
    let mut batch = Batch::default();
    (0..1500u64).for_each(|key| batch.delete(Bucket::Key, key.to_be_bytes().to_vec()));
    engine.commit(&batch).unwrap();
    let less = engine.size_in_use();
    assert!(less <= full - 1500 * 308, "{full} {less}");
    drop(engine);
    let engine = fixture.engine().unwrap();
    assert_eq!(engine.size_in_use(), less);
    engine.defragment().unwrap();
    assert_eq!(engine.size_in_use(), less);
}

pub(super) fn defragment_keeps_all(fixture: &dyn Fixture) {
    let engine = fixture.engine().unwrap();
    for n in 0..20 {
        engine.commit(&many(n * 200..(n + 1) * 200)).unwrap();
    }
    let mut batch = round(7);
    (200..3900u64).for_each(|key| batch.delete(Bucket::Key, key.to_be_bytes().to_vec()));
    (3900..4000u64).for_each(|key| batch.delete(Bucket::Key, key.to_be_bytes().to_vec()));
    put(&*engine, Bucket::Meta, &[("x", "1")]);
    engine.commit(&batch).unwrap();
    let before = engine.size();
    engine.defragment().unwrap();
    assert!(engine.size() <= before, "{before} {}", engine.size());
    assert_eq!(shown(&*engine.view().unwrap()), 7);
    engine.commit(&round(8)).unwrap();
    engine.defragment().unwrap();
    drop(engine);
    let engine = fixture.engine().unwrap();
    assert_eq!(shown(&*engine.view().unwrap()), 8);
    assert_eq!(value(engine.get(Bucket::Meta, b"x")).as_deref(), Some("1"));
}

pub(super) fn defragment_keeps_views(fixture: &dyn Fixture) {
    let engine = fixture.engine().unwrap();
    engine.commit(&round(0)).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let view = engine.view().unwrap();
                let n = shown(&*view);
                (0..5).for_each(|_| assert_eq!(shown(&*view), n));
            }
        });
        let old = engine.view().unwrap();
        for n in 1..15 {
            engine.commit(&round(n)).unwrap();
            if n % 3 == 0 {
                engine.defragment().unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(shown(&*old), 0);
    });
}

pub(super) fn copy_is_refused_or_given(fixture: &dyn Fixture) {
    let engine = fixture.engine().unwrap();
    match engine.copy() {
        Ok(mut copy) => {
            let read = std::io::copy(&mut copy.bytes, &mut std::io::sink()).unwrap();
            assert_eq!(read, copy.len);
        }
        Err(error) => {
            assert!(matches!(error, Error::CopyUnsupported { .. }));
            assert!(error.to_string().contains(engine.name()), "{error}");
        }
    }
}

pub(super) fn a_failed_commit_is_final(fixture: &dyn Fixture) {
    let engine = fixture.engine().unwrap();
    engine.commit(&round(1)).unwrap();
    fixture.break_disk();
    engine.commit(&round(2)).unwrap_err();
    fixture.mend_disk();
    engine.commit(&round(3)).unwrap_err();
    drop(engine);
    let engine = fixture.engine().unwrap();
    let n = shown(&*engine.view().unwrap());
    assert!(n == 1 || n == 2, "{n}");
    engine.commit(&round(4)).unwrap();
}
