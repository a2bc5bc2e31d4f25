use std::sync::Arc;

use super::*;
use crate::backend::{Backend, Bucket, MemBackend};
use crate::fs::SimFs;
use crate::fs::sim::Plan;
use crate::testing::Random;

const PATH: &str = "/journal";

fn batch(n: u64) -> Batch {
    let mut batch = Batch::default();
    batch.put(Bucket::Meta, "n", n.to_be_bytes().to_vec());
    batch.put(
        Bucket::Key,
        vec![n as u8 % 3],
        vec![n as u8; 300 * (n as usize % 4)],
    );
    batch.delete(Bucket::Key, vec![(n + 1) as u8 % 3]);
    batch
}

#[test]
fn gives_back_what_was_appended() {
    let fs = SimFs::new();
    let mut journal = Journal::create(&fs, Path::new(PATH), 7).unwrap();
    (0..5).for_each(|n| journal.append(&batch(n)).unwrap());
    assert_eq!(journal.number(), 12);
    let read = |stored| Journal::read(&fs, Path::new(PATH), stored);
    assert_eq!(read(7).unwrap(), (0..5).map(batch).collect::<Vec<_>>());
    assert_eq!(read(10).unwrap(), [batch(3), batch(4)]);
    assert_eq!(read(12).unwrap(), []);
    assert_eq!(read(99).unwrap(), []);
    assert!(
        matches!(read(6), Err(Error::Corrupt { .. })),
        "record 7 is missing"
    );
    journal.restart().unwrap();
    journal.append(&batch(9)).unwrap();
    assert_eq!(read(12).unwrap(), [batch(9)]);
    assert_eq!(read(13).unwrap(), []);
}

#[test]
fn damage_ends_the_row_of_records() {
    let fs = SimFs::new();
    let mut journal = Journal::create(&fs, Path::new(PATH), 0).unwrap();
    (0..3).for_each(|n| journal.append(&batch(n)).unwrap());
    let file = fs.open(Path::new(PATH), OpenMode::Write).unwrap();
    for at in 0..file.len().unwrap() {
        let mut byte = [0];
        file.read_at(&mut byte, at).unwrap();
        file.write_all_at(&[!byte[0]], at).unwrap();
        let found = Journal::read(&fs, Path::new(PATH), 0).unwrap();
        assert!(
            found.len() < 3 && found.iter().enumerate().all(|(n, b)| *b == batch(n as u64)),
            "byte {at}"
        );
        file.write_all_at(&byte, at).unwrap();
    }
}

/// An engine that keeps some changes of a batch and not others, in a file that a crash cannot hurt.
fn apply(engine: &MemBackend, op: &Op) {
    let mut single = Batch::default();
    single.push(op.clone());
    engine.commit(&single).unwrap();
}

fn set_stored(engine: &MemBackend, number: u64) {
    let mut mark = Batch::default();
    mark.put(Bucket::Alarm, "stored", number.to_be_bytes().to_vec());
    engine.commit(&mark).unwrap();
}

fn open_engine(fs: &SimFs) -> (MemBackend, u64) {
    let engine = MemBackend::open(Arc::new(fs.clone()), Path::new("/engine")).unwrap();
    let stored = engine.get(Bucket::Alarm, b"stored").unwrap();
    (
        engine,
        stored.map_or(0, |n| u64::from_be_bytes(n[..].try_into().unwrap())),
    )
}

/// With a power failure at every point, over several rounds, whatever the engine had already kept.
#[test]
fn a_power_failure_loses_nothing_and_cuts_nothing() {
    let mut random = Random::new(Random::seed(
        "a_power_failure_loses_nothing_and_cuts_nothing",
    ));
    let fs = SimFs::new();
    let (engine, _) = open_engine(&fs);
    let mut journal = Journal::create(&fs, Path::new(PATH), 0).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    fs.record();
    let mut unkept: Vec<Op> = Vec::new();
    for n in 1..9u64 {
        journal.append(&batch(n)).unwrap();
        fs.mark(n);
        for op in batch(n).ops() {
            // Later changes of a key must not be overtaken by earlier ones that were kept late.
            unkept.retain(|u| u.key() != op.key());
            match random.below(2) {
                0 => apply(&engine, op),
                _ => unkept.push(op.clone()),
            }
        }
        if n % 3 == 0 {
            unkept.drain(..).for_each(|op| apply(&engine, &op));
            set_stored(&engine, journal.number());
            journal.restart().unwrap();
        }
    }
    let states: Vec<_> = (0..9)
        .map(|n| {
            let engine = MemBackend::new();
            (1..=n).for_each(|n| engine.commit(&batch(n)).unwrap());
            engine
                .view()
                .unwrap()
                .scan(Bucket::Key, b"", None, 0)
                .unwrap()
        })
        .collect();
    let images = fs.take_trace().images(&Plan::default(), |image| {
        let (engine, stored) = open_engine(&image.fs);
        for batch in Journal::read(&image.fs, Path::new(PATH), stored).unwrap() {
            engine.commit(&batch).unwrap();
        }
        let n = engine
            .get(Bucket::Meta, b"n")
            .unwrap()
            .map_or(0, |n| u64::from_be_bytes(n[..].try_into().unwrap()));
        assert!(
            n >= image.mark && n <= image.mark + 1,
            "{n} after {}: {}",
            image.mark,
            image.describe()
        );
        let keys = engine
            .view()
            .unwrap()
            .scan(Bucket::Key, b"", None, 0)
            .unwrap();
        assert_eq!(keys, states[n as usize], "{n}: {}", image.describe());
    });
    assert!(images > 100);
}
