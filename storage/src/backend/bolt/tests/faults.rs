//! Calls that fail: nothing acknowledged is lost, the engine does nothing more, the next start finds a sound database.

use super::dump::dump;
use super::workload::Workload;
use super::*;
use crate::testing;

/// How far a member got.
struct Member {
    engine: Option<BoltBackend>,
    work: Workload,
    /// What is acknowledged.
    model: Model,
    /// With the changes of the commit under way.
    next: Model,
}

impl Member {
    fn new() -> Member {
        let mut work = Workload::new(5);
        work.largest_value = 9000;
        work.largest_key = 1500;
        work.keys = 60;
        work.revisions = 200;
        work.most = 30;
        Member {
            engine: None,
            work,
            model: Model::default(),
            next: Model::default(),
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), Error> {
        self.next.apply(batch);
        self.engine.as_ref().unwrap().commit(batch)?;
        self.model = self.next.clone();
        Ok(())
    }

    /// A life with growth, shrinking, tidying and defragmentation, up to the first error.
    fn run(&mut self, fs: &SimFs, options: BoltOptions) -> Result<(), Error> {
        self.engine = Some(open(fs, options)?);
        for round in 0..12_u8 {
            let batch = self.work.batch(&self.next);
            self.commit(&batch)?;
            match round {
                3 | 7 => {
                    let mut batch = Batch::default();
                    (0..4).for_each(|n| batch.put(Bucket::Lease, vec![n; 8], vec![n; 80_000]));
                    self.commit(&batch)?;
                }
                4 => {
                    let mut batch = Batch::default();
                    (0..4).for_each(|n| batch.delete(Bucket::Lease, vec![n; 8]));
                    self.commit(&batch)?;
                }
                5 => self.engine.as_ref().unwrap().defragment()?,
                8 => {
                    self.engine = None;
                    self.engine = Some(open(fs, options)?);
                }
                9 => self.engine.as_ref().unwrap().tidy().map(drop)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// After an error nothing goes on, but what was committed can be read.
    fn assert_final(&self, error: &Error) {
        let Some(engine) = &self.engine else {
            return;
        };
        for again in [
            engine.commit(&self.work_batch()).unwrap_err(),
            engine.commit(&Batch::default()).unwrap_err(),
            engine.defragment().unwrap_err(),
            engine.step(true).unwrap_err(),
        ] {
            assert_eq!(again.to_string(), error.to_string());
        }
        let now = Model::of(&*engine.view().unwrap()).unwrap();
        assert!(now == self.model || now == self.next, "what views show");
        // The free pages are not what they were: no copy, or a right one.
        if let Ok(mut copy) = engine.copy() {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut copy.bytes, &mut bytes).unwrap();
            assert!(dump(&bytes).root == now.tree(), "a copy after an error");
        }
    }

    fn work_batch(&self) -> Batch {
        let mut batch = Batch::default();
        batch.put(Bucket::Auth, "more", vec![1; 2000]);
        batch
    }

    /// The disk has what was acknowledged, or what was under way, and takes another commit.
    fn assert_good(&self, fs: &SimFs, options: BoltOptions, what: &str) {
        let engine = open(fs, options).unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut found = Model::of(&*engine.view().unwrap()).unwrap();
        assert!(found == self.model || found == self.next, "{what}: content");
        engine
            .check()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let batch = self.work_batch();
        found.apply(&batch);
        engine.commit(&batch).unwrap();
        engine.check().unwrap();
        drop(engine);
        assert!(dump(&read_all(fs, db()).unwrap()).root == found.tree());
    }
}

#[test]
fn every_failing_call() {
    let (mut failures, mut disks) = (0, 0);
    for store_freelist in [false, true] {
        let options = BoltOptions { store_freelist };
        for sticky in [false, true] {
            for n in 1.. {
                let fs = Sim::new().0;
                fs.fail_at(n, io::ErrorKind::Other, sticky);
                let mut member = Member::new();
                let before = fs.calls();
                let Err(error) = member.run(&fs, options) else {
                    if fs.calls() - before < n {
                        break;
                    }
                    // Room for more than is needed was refused; that is no error.
                    continue;
                };
                failures += 1;
                let what = format!("call {n}, again and again: {sticky}: {error}");
                assert!(
                    error.to_string().contains(DB) || error.to_string().contains("/db.tmp"),
                    "{what}"
                );
                member.assert_final(&error);
                member.engine = None;
                fs.heal();
                member.assert_good(&fs.crash(), options, &what);
                for seed in 0..4 * testing::scale() as u64 {
                    member.assert_good(&fs.crash_random(seed), options, &what);
                    disks += 1;
                }
                member.assert_good(&fs, options, &what);
                disks += 2;
            }
        }
    }
    println!("failing calls: {failures}, {disks} disks after them");
    assert!(failures > 100, "{failures}");
}

#[test]
fn a_full_disk() {
    let (mut full, mut fit) = (0, false);
    for kib in (0..).step_by(12) {
        let fs = Sim::new().0;
        fs.set_capacity(kib << 10);
        let mut member = Member::new();
        let Err(error) = member.run(&fs, BoltOptions::default()) else {
            fit = true;
            break;
        };
        full += 1;
        let what = format!("{kib} KiB: {error}");
        let Error::Io { source, path, .. } = &error else {
            panic!("{what}");
        };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull, "{what}");
        assert_eq!(path.parent(), db().parent(), "{what}");
        member.assert_final(&error);
        let created = member.engine.take().is_some();
        if created {
            // As long as it is full, all can be read.
            let engine = open(&fs, BoltOptions::default()).unwrap();
            let found = Model::of(&*engine.view().unwrap()).unwrap();
            assert!(found == member.model || found == member.next, "{what}");
            engine.check().unwrap();
        }
        fs.set_capacity(u64::MAX);
        member.assert_good(&fs.crash(), BoltOptions::default(), &what);
        member.assert_good(&fs, BoltOptions::default(), &what);
    }
    println!("full disks: {full}");
    assert!(fit && full > 20, "{full}");
}
