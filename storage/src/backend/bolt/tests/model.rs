//! The engine against ordered maps: millions of random changes, with views that live long, reopening, tidying,
//! defragmentation and copies in between.

use super::dump::dump;
use super::one_file::OneFile;
use super::workload::Workload;
use super::*;
use crate::testing::{self, Random};

struct Run {
    work: Workload,
    fs: SimFs,
    options: BoltOptions,
    engine: Option<BoltBackend>,
    model: Model,
    views: Vec<(Arc<dyn View>, Model)>,
    ops: usize,
    batches: usize,
    reopened: usize,
    copies: usize,
    tidied: usize,
}

impl Run {
    /// Begins with an empty file of this page size.
    fn new(seed: u64, page_size: usize, options: BoltOptions) -> Run {
        let empty = Forge::new(page_size).build(&Model::default().tree());
        let fs = Sim::with(&empty).0;
        Run {
            work: Workload::new(seed),
            engine: Some(open(&fs, options).unwrap()),
            fs,
            options,
            model: Model::default(),
            views: Vec::new(),
            ops: 0,
            batches: 0,
            reopened: 0,
            copies: 0,
            tidied: 0,
        }
    }

    fn engine(&self) -> &BoltBackend {
        self.engine.as_ref().unwrap()
    }

    fn step(&mut self) {
        match self.work.rng.below(100) {
            0..3 => self.reopen(),
            3..13 => self.tidied += usize::from(self.engine().tidy().unwrap()),
            13 => self.engine().defragment().unwrap(),
            14..16 => self.copy(),
            16..22 => {
                let view = self.engine().view().unwrap();
                self.views.push((view, self.model.clone()));
            }
            22..28 if !self.views.is_empty() => {
                let at = self.work.rng.below(self.views.len() as u32) as usize;
                let (view, model) = self.views.swap_remove(at);
                assert_shows(&*view, &model);
            }
            _ => {
                self.batches += 1;
                let batch = self.work.batch(&self.model);
                self.ops += batch.ops().len();
                self.model.apply(&batch);
                self.engine().commit(&batch).unwrap();
                self.probe();
            }
        }
    }

    /// Single keys and short scans; everything only now and then.
    fn probe(&mut self) {
        let rng = &mut self.work.rng;
        let engine = self.engine.as_ref().unwrap();
        let view = engine.view().unwrap();
        for _ in 0..10 {
            let bucket = Bucket::ALL[rng.below(Bucket::ALL.len() as u32) as usize];
            let keys = self.model.bucket(bucket);
            let from: Bytes = match keys.iter().nth(rng.below(1 + keys.len() as u32) as usize) {
                Some((key, value)) => {
                    assert_eq!(engine.get(bucket, key).unwrap().as_ref(), Some(value));
                    key.clone()
                }
                None => format!("{:03}", rng.below(1000)).into(),
            };
            assert_eq!(view.get(bucket, &from).unwrap(), keys.get(&from).cloned());
            let limit = 1 + rng.below(50) as usize;
            let found = view.scan(bucket, &from, None, limit).unwrap();
            let expected = keys.range(from..).take(limit);
            assert!(
                found.iter().map(|(k, v)| (k, v)).eq(expected),
                "a scan of {}",
                bucket.name()
            );
        }
        let small = engine.size() < 1 << 20;
        if small || rng.below(8) == 0 {
            engine.check().unwrap();
        }
        if small && rng.below(4) == 0 || rng.below(32) == 0 {
            assert_shows(&*view, &self.model);
        }
    }

    /// Opens the file anew, with and without a stored list of free pages in turns.
    fn reopen(&mut self) {
        self.views.clear();
        self.engine = None;
        if self.work.rng.below(4) == 0 {
            self.options.store_freelist = !self.options.store_freelist;
        }
        self.engine = Some(open(&self.fs, self.options).unwrap());
        self.engine().check().unwrap();
        assert_shows(&*self.engine().view().unwrap(), &self.model);
        let dump = dump(&read_all(&self.fs, db()).unwrap());
        assert!(dump.root == self.model.tree(), "read by somebody else");
        self.reopened += 1;
    }

    /// A copy is the database at the moment when it was asked for, whatever happens while it is read.
    fn copy(&mut self) {
        let mut copy = self.engine().copy().unwrap();
        let model = self.model.clone();
        let mut bytes = vec![0; self.work.rng.below(1 << 16) as usize];
        let read = io::Read::read(&mut copy.bytes, &mut bytes).unwrap();
        bytes.truncate(read);
        for _ in 0..self.work.rng.below(3) {
            let batch = self.work.batch(&self.model);
            self.ops += batch.ops().len();
            self.model.apply(&batch);
            self.engine().commit(&batch).unwrap();
        }
        io::Read::read_to_end(&mut copy.bytes, &mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, copy.len);
        assert!(dump(&bytes).root == model.tree(), "read by somebody else");
        if self.work.rng.below(2) == 0 {
            // A saved snapshot ends with a checksum.
            bytes.extend_from_slice(&[0xAB; 32]);
        }
        let copy = OneFile::new(bytes);
        let file = BoltFile::open(&copy, db()).unwrap();
        file.check().unwrap();
        for bucket in Bucket::ALL {
            let found = file.scan(bucket.name().as_bytes(), b"", 0).unwrap();
            assert!(
                found.iter().map(|(k, v)| (k, v)).eq(model.bucket(bucket)),
                "bucket {} of a copy",
                bucket.name()
            );
        }
        let engine = open(&copy, self.options).unwrap();
        engine.commit(&self.work.batch(&model)).unwrap();
        engine.check().unwrap();
        self.copies += 1;
    }
}

/// At least 500,000 changes, 5,000,000 with `RETCD_TEST_SCALE=10`.
#[test]
fn equals_ordered_maps() {
    let seed = Random::seed("equals_ordered_maps");
    let goal = 500_000 * testing::scale();
    // Large batches fill many pages at once, small ones touch few of many.
    let runs: Vec<(usize, bool, u32)> = [1024, 4096, 16384, 65536]
        .into_iter()
        .flat_map(|size| [(size, false, 500), (size, true, 60)])
        .chain([(1024, true, 15), (4096, false, 15), (4096, true, 500)])
        .collect();
    let goal_of_one = goal.div_ceil(runs.len());
    let next = std::sync::atomic::AtomicUsize::new(0);
    let total = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&(page_size, store_freelist, most)) = runs.get(n) else {
                        break;
                    };
                    let options = BoltOptions { store_freelist };
                    let mut run = Run::new(seed + n as u64, page_size, options);
                    run.work.most = most;
                    while run.ops < goal_of_one {
                        run.step();
                    }
                    run.reopen();
                    let Run {
                        ops,
                        batches,
                        reopened,
                        copies,
                        tidied,
                        ..
                    } = run;
                    println!(
                        "pages of {page_size}, batches of {most}: {ops} changes in {batches} batches, reopened {reopened} times, {copies} copies, \
                         {tidied} steps of tidying"
                    );
                    total.fetch_add(ops, Ordering::Relaxed);
                }
            });
        }
    });
    let total = total.into_inner();
    println!("equals_ordered_maps: {total} changes");
    assert!(total >= goal);
}
