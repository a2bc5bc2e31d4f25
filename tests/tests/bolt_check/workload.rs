//! One random life of a database, all of it from a seed.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};
use retcd_storage::backend::{Backend, Batch, BoltBackend, BoltOptions, Bucket, Error, Op};
use retcd_storage::fs::RealFs;
use retcd_tests::member::PATIENCE;
use retcd_tests::random::Random;
use retcd_tests::state::{State, hex};

use crate::model::Model;
use crate::structure;

/// What is likely in this life.
#[derive(Clone, Copy, Debug)]
struct Habits {
    batches: u64,
    /// Most changes in a batch.
    changes: u64,
    /// Most bytes in a value; small ones are more frequent.
    value: u64,
    /// Most bytes in a key that is no revision.
    key: u64,
    /// Deletions in 16 changes.
    deletions: u64,
    /// Changes in 16 that append a revision, as etcd's do.
    revisions: u64,
}

/// What a life left behind.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Files to look at, with what they should hold.
    pub(crate) files: Vec<(PathBuf, Model)>,
    pub(crate) commits: u64,
}

/// A database and its model.
pub(crate) struct Workload {
    seed: u64,
    dir: PathBuf,
    random: Random,
    habits: Habits,
    model: Model,
    revision: u64,
    done: Done,
}

impl Workload {
    pub(crate) fn new(seed: u64, dir: &Path) -> Self {
        let mut random = Random::new(seed);
        let habits = Habits {
            batches: random.within(1, 14),
            changes: [3, 40, 400, 400, 3000][random.within(0, 5) as usize],
            value: [0, 20, 300, 300, 5000, 70_000, 200_000][random.within(0, 7) as usize],
            key: [4, 40, 40, 700, 3000, 6000][random.within(0, 6) as usize],
            deletions: random.within(0, 10),
            revisions: random.within(0, 17),
        };
        // Some hundred megabytes in all, not in each.
        let habits = Habits { changes: habits.changes.min(1 + (2 << 20) / (habits.value + habits.key)), ..habits };
        Self { seed, dir: dir.to_owned(), random, habits, model: Model::default(), revision: 1, done: Done::default() }
    }

    fn path(&self, what: &str) -> PathBuf {
        self.dir.join(format!("{:06}-{what}", self.seed))
    }

    fn open(&mut self) -> Result<BoltBackend, String> {
        let options = BoltOptions { store_freelist: self.random.one_in(3) };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match BoltBackend::open(Arc::new(RealFs), &self.path("db"), options) {
                // A process that another thread starts at this moment has our lock until it runs its program.
                Err(Error::Locked { .. }) if Instant::now() < deadline => thread::yield_now(),
                opened => return opened.map_err(|e| e.to_string()),
            }
        }
    }

    /// Lives it. What is wrong with a state while the database is open is an error; the files are for others to judge.
    pub(crate) fn run(&mut self, state: &State) -> Result<Done, String> {
        let mut backend = self.open()?;
        let mut held = None;
        for _ in 0..self.habits.batches {
            let batch = self.batch();
            self.commit(&backend, &batch)?;
            match self.random.within(0, 24) {
                0..4 => {
                    held = None;
                    drop(backend);
                    backend = self.open()?;
                    self.model.compare_open(&backend)?;
                }
                4..7 => backend.defragment().map_err(|e| e.to_string())?,
                7..9 => self.copy(&backend)?,
                9..12 => {
                    let batch = self.sweep();
                    self.commit(&backend, &batch)?;
                }
                12..14 => {
                    // A reader of this moment, while the next commits happen.
                    let view = backend.view().map_err(|e| e.to_string())?;
                    held = Some((view, self.model.clone()));
                }
                14..17 => {
                    held = None;
                    drop(backend);
                    structure::no_lone_children(&self.path("db"))?;
                    self.change_by_go(state)?;
                    backend = self.open()?;
                    self.model.compare_open(&backend)?;
                }
                _ => {}
            }
            if let Some((view, model)) = &held {
                for bucket in Bucket::ALL {
                    let found = view.scan(bucket, b"", None, 0).map_err(|e| e.to_string())?;
                    if !found.iter().map(|(key, _)| key).eq(model.keys(bucket)) {
                        return Err(format!("a reader's view of {} changed", bucket.name()));
                    }
                }
            }
        }
        backend.check().map_err(|e| e.to_string())?;
        self.model.compare_open(&backend)?;
        drop(backend);
        let mut done = std::mem::take(&mut self.done);
        done.files.push((self.path("db"), self.model.clone()));
        Ok(done)
    }

    fn commit(&mut self, backend: &BoltBackend, batch: &Batch) -> Result<(), String> {
        self.model.apply(batch);
        self.done.commits += 1;
        backend.commit(batch).map_err(|e| e.to_string())
    }

    /// A copy as a client saves it.
    fn copy(&mut self, backend: &BoltBackend) -> Result<(), String> {
        let mut copy = backend.copy().map_err(|e| e.to_string())?;
        let path = self.path(&format!("copy-{}", self.done.commits));
        let written =
            io::copy(&mut copy.bytes, &mut File::create(&path).expect("writable")).map_err(|e| e.to_string())?;
        if written != copy.len {
            return Err(format!("a copy of {} bytes has {written}", copy.len));
        }
        self.done.files.push((path, self.model.clone()));
        Ok(())
    }

    /// bbolt takes a turn: a few commits of its own.
    fn change_by_go(&mut self, state: &State) -> Result<(), String> {
        let mut script = String::new();
        for _ in 0..self.random.within(1, 4) {
            let batch = self.batch();
            for op in batch.ops() {
                let bucket = op.bucket().name();
                let _ = match op {
                    Op::Put { key, value, .. } => writeln!(script, "put {bucket} {} {}", hex(key), hex(value)),
                    Op::Delete { key, .. } => writeln!(script, "delete {bucket} {}", hex(key)),
                };
            }
            script += "commit\n";
            self.model.apply(&batch);
        }
        let input = self.path("script");
        fs::write(&input, script).expect("writable");
        let outcome = state.bolt_apply(&self.path("db"), self.random.one_in(2), &input);
        fs::remove_file(input).expect("removable");
        outcome
    }

    fn batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..self.random.within(1, self.habits.changes + 1) {
            let dice = self.random.within(0, 16);
            if dice < self.habits.revisions {
                let key = self.next_revision();
                let value = self.value();
                batch.put(Bucket::Key, key, value);
                continue;
            }
            let bucket = Bucket::ALL[self.random.within(0, Bucket::ALL.len() as u64) as usize];
            if self.random.within(0, 16) < self.habits.deletions {
                // One that is there, as a rule.
                let there = self.random.one_in(2).then(|| self.model.some_key(bucket, &mut self.random)).flatten();
                let key = there.unwrap_or_else(|| self.key());
                batch.delete(bucket, key);
            } else {
                let there = self.random.one_in(4).then(|| self.model.some_key(bucket, &mut self.random)).flatten();
                let key = there.unwrap_or_else(|| self.key());
                let value = self.value();
                batch.put(bucket, key, value);
            }
        }
        batch
    }

    /// Deletes most of a stretch of keys: of the oldest revisions as a compaction does, or anywhere.
    fn sweep(&mut self) -> Batch {
        let mut batch = Batch::default();
        let bucket = match self.random.one_in(2) {
            true => Bucket::Key,
            false => Bucket::ALL[self.random.within(0, Bucket::ALL.len() as u64) as usize],
        };
        let len = self.model.len(bucket) as u64;
        let from = if bucket == Bucket::Key { 0 } else { self.random.within(0, len + 1) };
        let count = (len - from) * self.random.within(1, 17) / 16;
        let survivors = [2, 10, 50, u64::MAX][self.random.within(0, 4) as usize];
        for key in self.model.keys(bucket).skip(from as usize).take(count as usize) {
            if !self.random.one_in(survivors) {
                batch.delete(bucket, key.clone());
            }
        }
        batch
    }

    fn next_revision(&mut self) -> Bytes {
        self.revision += u64::from(!self.random.one_in(4));
        let mut key = BytesMut::new();
        key.put_u64(self.revision);
        key.put_u8(b'_');
        key.put_u64(self.random.within(0, 1 << 20));
        if self.random.one_in(8) {
            key.put_u8(b't');
        }
        key.freeze()
    }

    fn key(&mut self) -> Bytes {
        let len = 1 + self.size(self.habits.key) as usize;
        self.bytes(len)
    }

    fn value(&mut self) -> Bytes {
        let len = self.size(self.habits.value) as usize;
        self.bytes(len)
    }

    /// Up to `most`: often small, now and then the most.
    fn size(&mut self, most: u64) -> u64 {
        match self.random.within(0, 40) {
            0 => most,
            1..4 => 0,
            4..14 => self.random.within(0, most + 1),
            _ => self.random.within(0, most / 8 + 1),
        }
    }

    fn bytes(&mut self, len: usize) -> Bytes {
        let mut out = BytesMut::with_capacity(len + 8);
        while out.len() < len {
            out.put_u64(self.random.next());
        }
        out.truncate(len);
        out.freeze()
    }
}
