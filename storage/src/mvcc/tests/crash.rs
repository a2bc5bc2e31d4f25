//! Power failures and failing disks at every call: what is found afterwards is the state of one moment, not
//! older than what was durable, and a compaction goes on where it was.

use std::path::Path;

use bytes::Bytes;

use super::model::Model;
use super::*;
use crate::backend::{self, Bucket, CONSISTENT_INDEX};
use crate::fs::SimFs;
use crate::fs::sim::Plan;
use crate::testing::{Random, scale};

const ENTRIES: u64 = 150;

/// A member's apply thread in small: entry after entry, each with its consistent index.
struct Member {
    store: Store,
    random: Random,
    /// The state after each entry; the first before all.
    states: Vec<Model>,
    /// Entries that were told to be durable.
    durable: u64,
}

impl Member {
    fn start(fs: &SimFs, seed: u64) -> Result<Member, backend::Error> {
        Ok(Member {
            store: open_on(fs)?,
            random: Random::new(seed),
            states: vec![Model::new()],
            durable: 0,
        })
    }

    /// Applies one entry; then a part of a compaction, or a commit, perhaps.
    fn apply(&mut self) -> Result<(), Error> {
        let mut model = self.states.last().unwrap().clone();
        if self.random.below(8) == 0 {
            let rev = model.compact_rev.max(0) + i64::from(self.random.below(20));
            let expected = model.compact(rev).map(|_| ());
            let answer = self.store.begin_compaction(rev);
            assert_eq!(answer.is_ok(), expected.is_ok());
        } else {
            self.txn(&mut model);
        }
        let entry = self.states.len() as u64;
        let index = Bytes::copy_from_slice(&entry.to_be_bytes());
        self.store
            .backend()
            .put(Bucket::Meta, CONSISTENT_INDEX, index);
        self.states.push(model);
        self.store.publish()?;
        if self.random.below(2) == 0 {
            self.steps()?;
        }
        if self.random.below(3) == 0 {
            self.store.commit()?;
            self.durable = entry;
        }
        Ok(())
    }

    fn txn(&mut self, model: &mut Model) {
        let mut txn = self.store.begin();
        // The API refuses a transaction that puts what it deletes.
        let puts = self.random.below(3) > 0;
        for _ in 0..1 + self.random.below(3) {
            let key = Bytes::from(vec![b'a' + self.random.below(8) as u8]);
            if puts {
                let value = Bytes::from(vec![b'x'; self.random.below(20) as usize]);
                model.put(&key, &value, 0);
                txn.put(key, value, 0).unwrap();
            } else {
                let end = [&b""[..], b"\0"][usize::from(self.random.below(6) == 0)];
                model.delete(&key, end, false);
                txn.delete_range(&key, end, false).unwrap();
            }
        }
        model.end();
    }

    /// Two steps: one that started the hash thread is followed by one that waits for it, so that its commit
    /// always comes at the same place. A failing disk shows here too.
    fn steps(&mut self) -> Result<(), Error> {
        for _ in 0..2 {
            while self.store.compaction_step(2)? == Compaction::Waiting {
                std::thread::yield_now();
            }
        }
        Ok(())
    }
}

fn open_on(fs: &SimFs) -> Result<Store, backend::Error> {
    let engine = MemBackend::open(Arc::new(fs.clone()), Path::new("/db"))?;
    // Only commits flush, so that equal seeds make equal calls.
    let options = WriterOptions {
        batch_interval: Duration::MAX,
        ..WriterOptions::default()
    };
    Ok(open_with(
        &(Arc::new(engine) as Arc<dyn Backend>),
        1000,
        options,
    ))
}

/// Opens what a failure left and compares it with the state at its consistent index.
fn check(fs: &SimFs, states: &[Model], durable: u64, what: &dyn Fn() -> String) -> Store {
    let mut store = open_on(fs).unwrap_or_else(|e| panic!("{}: {e}", what()));
    let index = store.backend().get(Bucket::Meta, CONSISTENT_INDEX).unwrap();
    let entry = index.map_or(0, |bytes| u64::from_be_bytes(bytes[..].try_into().unwrap()));
    assert!(
        entry >= durable,
        "{}: entry {entry}, but {durable} was durable",
        what()
    );
    let model = &states[entry as usize];
    assert!(
        store.rev() >= states[durable as usize].rev,
        "{}: the revision went backwards",
        what()
    );
    compare(&store, model, what);
    while step(&mut store, 3) != Compaction::Idle {}
    compare(&store, model, what);
    let records = store.backend().scan(Bucket::Key, b"", None, 0).unwrap();
    let records: Vec<_> = records
        .iter()
        .map(|(key, _)| Revision::from_key(key).unwrap().0)
        .collect();
    let expected: Vec<_> = model.records.iter().map(|record| record.revision).collect();
    assert_eq!(
        records,
        expected,
        "{}: a compaction left something else",
        what()
    );
    store
}

fn compare(store: &Store, model: &Model, what: &dyn Fn() -> String) {
    assert_eq!(
        (store.rev(), store.compact_rev()),
        (model.rev, model.compact_rev),
        "{}",
        what()
    );
    let reader = store.reader();
    for rev in model.compact_rev.max(1)..=model.rev {
        let all = query("\0", "\0", rev);
        let expected = model.read(&all, model.rev, model.compact_rev).unwrap();
        assert_eq!(
            reader.range(&all).unwrap(),
            expected,
            "{}, revision {rev}",
            what()
        );
        assert_eq!(
            reader.hash_kv(rev).unwrap().hash,
            model.hash_kv(rev),
            "{}, revision {rev}",
            what()
        );
    }
}

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        bytes: false,
        subsets: 0,
        sectors: 3,
        random: 2,
    }
}

/// Lessons D1, D12, W15: after a power failure at any call.
#[test]
fn a_power_failure_leaves_the_state_of_one_entry() {
    let seed = Random::seed("mvcc power failure");
    let mut images = 0;
    for run in 0..2 * scale() as u64 {
        let seed = seed.wrapping_add(run);
        let fs = SimFs::new();
        let mut member = Member::start(&fs, seed).unwrap();
        fs.record();
        for _ in 0..ENTRIES {
            member.apply().unwrap();
            fs.mark(member.durable);
        }
        member.store.abandon();
        images += fs.take_trace().images(&plan(seed), |image| {
            let what = || format!("seed {seed}: {}", image.describe());
            check(&image.fs, &member.states, image.mark, &what).abandon();
        });
    }
    println!("{images} images");
}

/// A power failure while an interrupted compaction is taken up, and another one after that.
#[test]
fn an_interrupted_compaction_may_be_interrupted_again() {
    let seed = Random::seed("mvcc compaction");
    let mut images = 0;
    let fs = SimFs::new();
    let mut member = Member::start(&fs, seed).unwrap();
    let mut model = member.states[0].clone();
    for _ in 0..60 {
        member.txn(&mut model);
    }
    let rev = model.rev - 5;
    model.compact(rev).unwrap();
    member.store.begin_compaction(rev).unwrap();
    member.store.close().unwrap();
    let mut disks = vec![fs];
    for depth in 0..3 {
        let mut next = Vec::new();
        for fs in disks {
            fs.record();
            let mut store = open_on(&fs).unwrap();
            while step(&mut store, 4) != Compaction::Idle {
                store.commit().unwrap();
            }
            store.abandon();
            images += fs.take_trace().images(&plan(seed), |image| {
                let what = || format!("seed {seed}, depth {depth}: {}", image.describe());
                let states = std::slice::from_ref(&model);
                if image.at % 23 == depth {
                    next.push(image.fs.fork());
                }
                check(&image.fs, states, 0, &what).abandon();
            });
        }
        next.truncate(5);
        disks = next;
    }
    println!("{images} images");
}

/// A disk that begins to fail at any call: the store says so at the latest when asked to be durable, and what
/// was durable is still there.
#[test]
fn a_failing_disk_stops_the_store_and_loses_nothing_durable() {
    let seed = Random::seed("mvcc failing disk");
    let whole = SimFs::new();
    let mut member = Member::start(&whole, seed).unwrap();
    let first = whole.calls();
    for _ in 0..ENTRIES / 2 {
        member.apply().unwrap();
    }
    member.store.close().unwrap();
    let calls = whole.calls() - first;
    for n in 1..=calls {
        let fs = SimFs::new();
        let mut member = Member::start(&fs, seed).unwrap();
        fs.fail_at(n, std::io::ErrorKind::Other, true);
        let applied = (0..ENTRIES / 2).try_for_each(|_| member.apply());
        let Member {
            store,
            states,
            durable,
            ..
        } = member;
        let error = applied.and_then(|()| store.close()).unwrap_err();
        assert!(matches!(error, Error::Backend(_)), "call {n}: {error}");
        let what = || format!("seed {seed}, call {n}");
        fs.heal();
        check(&fs.crash(), &states, durable, &what).abandon();
        check(&fs.crash_random(n), &states, durable, &what).abandon();
    }
    println!("{calls} calls");
}
