//! Power failures: every disk that one can leave, at every write and every sync.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::one_file::OneFile;
use super::workload::Workload;
use super::*;
use crate::fs::sim::{Image, Plan, Trace};
use crate::testing::{self, Random};

/// What was done to a database, and every state that it may be found in.
struct History {
    trace: Trace,
    options: BoltOptions,
    /// The content after each commit, by its number. The newest number whose commit had returned is the mark of an
    /// image.
    states: BTreeMap<u64, u64>,
    grown: usize,
    shrunk: usize,
}

#[derive(Debug, Default)]
struct Counts {
    images: usize,
    /// Of them, how many showed the commit under way.
    ahead: usize,
    /// Images of failures during the first commits after a failure.
    nested: usize,
}

fn fingerprint(view: &dyn View) -> Result<u64, Error> {
    let mut hasher = DefaultHasher::new();
    for bucket in Bucket::ALL {
        for (key, value) in view.scan(bucket, b"", None, 0)? {
            (bucket, key, value).hash(&mut hasher);
        }
    }
    Ok(hasher.finish())
}

fn txid(engine: &BoltBackend) -> u64 {
    engine.shared.current.load().meta.txid
}

/// A database under work that is recorded.
struct Recorder {
    fs: SimFs,
    options: BoltOptions,
    engine: Option<BoltBackend>,
    work: Workload,
    model: Model,
    states: BTreeMap<u64, u64>,
    view: Option<Arc<dyn View>>,
    len: u64,
    grown: usize,
    shrunk: usize,
}

impl Recorder {
    fn new(seed: u64, page_size: Option<usize>, options: BoltOptions) -> Recorder {
        let sim = match page_size {
            Some(size) => Sim::with(&Forge::new(size).build(&Model::default().tree())),
            None => Sim::new(),
        };
        sim.0.record();
        if let Some(size) = page_size {
            sim.0.mark(Forge::new(size).txid);
        }
        let mut work = Workload::new(seed);
        work.largest_value = 6000;
        work.largest_key = 1500;
        work.keys = 60;
        work.revisions = 120;
        work.most = 12;
        let mut recorder = Recorder {
            fs: sim.0,
            options,
            engine: None,
            work,
            model: Model::default(),
            states: BTreeMap::new(),
            view: None,
            len: 0,
            grown: 0,
            shrunk: 0,
        };
        recorder.reopen();
        recorder
    }

    fn engine(&self) -> &BoltBackend {
        self.engine.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        self.view = None;
        self.engine = None;
        self.engine = Some(open(&self.fs, self.options).unwrap());
        self.done();
    }

    /// What was done so far has been acknowledged.
    fn done(&mut self) {
        let engine = self.engine.as_ref().unwrap();
        let view = engine.view().unwrap();
        assert_shows(&*view, &self.model);
        let txid = txid(engine);
        self.states.insert(txid, fingerprint(&*view).unwrap());
        self.fs.mark(txid);
        let len = engine.writer.lock().file_len;
        self.grown += usize::from(len > self.len);
        self.shrunk += usize::from(len < self.len);
        self.len = len;
    }

    fn commit(&mut self, batch: &Batch) {
        self.model.apply(batch);
        self.engine().commit(batch).unwrap();
        self.done();
    }

    fn random(&mut self) {
        let batch = self.work.batch(&self.model);
        self.commit(&batch);
    }

    /// Steps that give space back; each is a commit of its own.
    fn sweep(&mut self) {
        while self.engine().step(true).unwrap() {
            self.done();
        }
    }

    fn finish(mut self) -> History {
        self.view = None;
        self.engine = None;
        History {
            trace: self.fs.take_trace(),
            options: self.options,
            states: self.states,
            grown: self.grown,
            shrunk: self.shrunk,
        }
    }
}

/// Appends, overwrites, deletes, growth and shrinking, steps of tidying, a defragmentation, a view that holds pages
/// back, and starts in between.
fn record(seed: u64, page_size: Option<usize>, options: BoltOptions, rounds: usize) -> History {
    let mut recorder = Recorder::new(seed, page_size, options);
    for round in 0..rounds {
        work(&mut recorder, round);
    }
    recorder.finish()
}

/// One round of it.
fn work(recorder: &mut Recorder, round: usize) {
    match round % 10 {
        2 => recorder.view = Some(recorder.engine().view().unwrap()),
        4 => {
            // The file grows by what the next round makes free again.
            let mut batch = Batch::default();
            for n in 0..3_u8 {
                batch.put(Bucket::Lease, vec![n; 8], vec![n; 90_000]);
            }
            recorder.commit(&batch);
        }
        5 => {
            let mut batch = Batch::default();
            (0..3_u8).for_each(|n| batch.delete(Bucket::Lease, vec![n; 8]));
            recorder.commit(&batch);
        }
        6 => recorder.view = None,
        7 => recorder.reopen(),
        8 => {
            recorder.engine().step(true).unwrap();
            recorder.done();
        }
        9 => recorder.sweep(),
        _ => {}
    }
    recorder.random();
}

impl History {
    /// Opens an image: it has exactly the state that was acknowledged last, or the one under way, and is sound. Returns
    /// the number of the state and the open database.
    fn check(&self, fs: &SimFs, mark: u64, what: &dyn Fn() -> String) -> (u64, BoltBackend) {
        let engine = open(fs, self.options).unwrap_or_else(|error| panic!("{error}: {}", what()));
        let found = txid(&engine);
        assert!(
            found == mark || found == mark + 1,
            "commit {found} instead of {mark}: {}",
            what()
        );
        let state = fingerprint(&*engine.view().unwrap());
        let state = state.unwrap_or_else(|error| panic!("{error}: {}", what()));
        assert_eq!(
            self.states.get(&found),
            Some(&state),
            "commit {found}: {}",
            what()
        );
        engine
            .check()
            .unwrap_or_else(|error| panic!("{error}: {}", what()));
        (found, engine)
    }

    fn image(&self, image: &Image, plan: &Plan, counts: &mut Counts) {
        let what = || image.describe();
        counts.images += 1;
        let nested = counts.images.is_multiple_of(499);
        if nested {
            image.fs.record();
            image.fs.mark(image.mark);
        }
        let (found, engine) = self.check(&image.fs, image.mark, &what);
        counts.ahead += usize::from(found > image.mark);
        if nested {
            image.fs.mark(found);
        }
        let mut states = BTreeMap::from([(found, self.states[&found])]);
        for n in 1..=if nested { 2 } else { 1 } {
            engine.commit(&more(n)).unwrap();
            let state = fingerprint(&*engine.view().unwrap()).unwrap();
            states.insert(found + u64::from(n), state);
            image.fs.mark(found + u64::from(n));
        }
        engine
            .check()
            .unwrap_or_else(|error| panic!("{error}: {}", what()));
        drop(engine);
        if nested {
            self.again(image, states, plan, counts);
        } else if counts.images.is_multiple_of(8) {
            let fs = image.fs.crash();
            BoltFile::open(&fs, db()).unwrap().check().unwrap();
            let engine = open(&fs, self.options).unwrap();
            let state = fingerprint(&*engine.view().unwrap()).unwrap();
            assert_eq!(state, states[&(found + 1)], "{}", what());
        }
    }

    /// Failures during the start and the first commits after a failure.
    fn again(
        &self,
        first: &Image,
        mut states: BTreeMap<u64, u64>,
        plan: &Plan,
        counts: &mut Counts,
    ) {
        // The state before the one that was found may be what the start has been recorded with.
        states.extend(self.states.get(&first.mark).map(|s| (first.mark, *s)));
        let recovery = History {
            trace: first.fs.take_trace(),
            options: self.options,
            states,
            grown: 0,
            shrunk: 0,
        };
        let plan = Plan {
            bytes: false,
            sectors: 8,
            random: 4,
            ..plan.clone()
        };
        recovery.trace.images(&plan, |image| {
            counts.nested += 1;
            let what = || format!("{} then {}", first.describe(), image.describe());
            let (found, engine) = recovery.check(&image.fs, image.mark, &what);
            engine.commit(&more(3)).unwrap();
            assert_eq!(txid(&engine), found + 1);
            engine.check().unwrap();
        });
    }

    fn enumerate(&self, plan: &Plan) -> Counts {
        let mut counts = Counts::default();
        let images = self.trace.images(plan, |image| {
            self.image(&image, plan, &mut counts);
        });
        assert_eq!(images, counts.images);
        counts
    }
}

/// A commit after a failure.
fn more(n: u8) -> Batch {
    let mut batch = Batch::default();
    batch.put(Bucket::Members, vec![n; 9], vec![n; 700]);
    batch.put(Bucket::Key, vec![n; 17], vec![n; 3000]);
    batch
}

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        bytes: false,
        subsets: 6,
        sectors: 40,
        random: 24,
    }
}

#[test]
fn every_image_of_a_power_failure() {
    let seed = Random::seed("every_image_of_a_power_failure");
    let mut total = Counts::default();
    let (mut grown, mut shrunk) = (0, 0);
    for round in 0..testing::scale() as u64 {
        for (n, page_size) in [None, Some(1024), Some(4096), Some(1024)]
            .into_iter()
            .enumerate()
        {
            let options = BoltOptions {
                store_freelist: n >= 2,
            };
            let seed = seed + 10 * round + n as u64;
            let history = record(seed, page_size, options, 130);
            let counts = history.enumerate(&plan(seed));
            println!("seed {seed}, pages of {page_size:?}, {options:?}: {counts:?}");
            assert!(counts.ahead > 50, "{counts:?}");
            total.images += counts.images;
            total.nested += counts.nested;
            grown += history.grown;
            shrunk += history.shrunk;
        }
    }
    println!(
        "power failures: {} images, and {} of interrupted recoveries; the file grew {grown} times and shrank {shrunk} times",
        total.images, total.nested
    );
    assert!(shrunk > 3 && grown > 3, "{shrunk} {grown}");
    assert!(total.images + total.nested >= 100_000 * testing::scale());
}

/// The last write torn at every byte, that of the meta page among them.
#[test]
fn torn_at_every_byte() {
    let seed = Random::seed("torn_at_every_byte");
    let history = record(seed, Some(1024), BoltOptions::default(), 4);
    let plan = Plan {
        bytes: true,
        sectors: 0,
        random: 0,
        ..plan(seed)
    };
    let counts = history.enumerate(&plan);
    println!("torn at every byte: {counts:?}");
    assert!(counts.images > 10_000);
}

/// If the newest meta page is damaged, the commit before it counts: all of it is still there, also when the file has just
/// become shorter.
#[test]
fn the_commit_before_stays() {
    let mut recorder = Recorder::new(41, Some(1024), BoltOptions::default());
    let mut checks = 0;
    let mut check = |recorder: &Recorder| {
        let mut bytes = read_all(&recorder.fs, db()).unwrap();
        let newest = txid(recorder.engine());
        bytes[(newest % 2) as usize * 1024 + 40] ^= 1;
        let engine = open(&OneFile::new(bytes), recorder.options).unwrap();
        assert_eq!(txid(&engine), newest - 1);
        if let Some(state) = recorder.states.get(&(newest - 1)) {
            let found = fingerprint(&*engine.view().unwrap()).unwrap();
            assert_eq!(found, *state, "commit {}", newest - 1);
            checks += 1;
        }
        engine.check().unwrap();
    };
    for round in 0..40 {
        work(&mut recorder, round);
        check(&recorder);
        while round % 10 == 9 && recorder.engine().step(true).unwrap() {
            recorder.done();
            check(&recorder);
        }
    }
    assert!(
        recorder.shrunk > 3 && checks > 50,
        "{} {checks}",
        recorder.shrunk
    );
}

/// A process killed at any call, then a power failure after the next start: the start may have found a commit that had not
/// reached the disk. Nobody may be told of it, nor may pages be written over that the state before it needs.
#[test]
fn what_a_start_found_is_durable() {
    let mut checks = 0;
    for (seed, store_freelist) in [(31, false), (32, true)] {
        let history = record(seed, Some(1024), BoltOptions { store_freelist }, 12);
        for calls in 0..history.trace.points() {
            let fs = history.trace.killed(calls);
            let what = || format!("seed {seed}, killed after call {calls}");
            let engine = open(&fs, history.options).unwrap();
            let found = txid(&engine);
            let state = fingerprint(&*engine.view().unwrap()).unwrap();
            assert_eq!(history.states.get(&found), Some(&state), "{}", what());
            for image in [fs.crash(), fs.crash_random(calls as u64)] {
                history.check(&image, found, &what);
                checks += 1;
            }
            fs.record();
            fs.mark(found);
            engine.commit(&more(1)).unwrap();
            let after = fingerprint(&*engine.view().unwrap()).unwrap();
            let next = History {
                trace: fs.take_trace(),
                options: history.options,
                states: BTreeMap::from([(found, state), (found + 1, after)]),
                grown: 0,
                shrunk: 0,
            };
            let few = Plan {
                sectors: 2,
                random: 2,
                ..plan(seed)
            };
            next.trace.images(&few, |image| {
                let what = || format!("{}, then {}", what(), image.describe());
                next.check(&image.fs, image.mark, &what);
                checks += 1;
            });
        }
    }
    println!("killed first: {checks} images");
    assert!(checks > 3000, "{checks}");
}
