//! The bolt engine on simulated disks.

mod bad_input;
mod crash;
mod dump;
mod faults;
mod flips;
mod foreign;
mod forge;
mod model;
mod one_file;
mod workload;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use self::forge::{Entry, Forge, Tree};
use super::*;
use crate::backend::Op;
use crate::backend::conformance::{Fixture, conformance};
use crate::fs::{SimFs, read_all};

const DB: &str = "/member/snap/db";

fn db() -> &'static Path {
    Path::new(DB)
}

impl Fixture for Sim {
    fn engine(&self) -> Result<Arc<dyn Backend>, Error> {
        Ok(Arc::new(self.open()?))
    }

    fn break_disk(&self) {
        self.0.fail_at(1, io::ErrorKind::StorageFull, true);
    }

    fn mend_disk(&self) {
        self.0.heal();
    }
}

/// A simulated disk with a database.
struct Sim(SimFs);

impl Sim {
    fn new() -> Sim {
        let fs = SimFs::new();
        fs.create_dir_all(Path::new("/member/snap")).unwrap();
        Sim(fs)
    }

    /// A disk with this database file on it.
    fn with(bytes: &[u8]) -> Sim {
        let sim = Sim::new();
        let file = sim.0.open(db(), OpenMode::CreateNew).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.sync_all().unwrap();
        sim.0.sync_dir(Path::new("/member/snap")).unwrap();
        sim
    }

    fn open(&self) -> Result<BoltBackend, Error> {
        open(&self.0, BoltOptions::default())
    }

    fn bytes(&self) -> Vec<u8> {
        read_all(&self.0, db()).unwrap()
    }
}

fn open(fs: &(impl Fs + Clone + 'static), options: BoltOptions) -> Result<BoltBackend, Error> {
    BoltBackend::open(Arc::new(fs.clone()), db(), options)
}

/// What the ten buckets hold. Clones share what they have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model([Arc<BTreeMap<Bytes, Bytes>>; Bucket::ALL.len()]);

impl Model {
    fn bucket(&self, bucket: Bucket) -> &BTreeMap<Bytes, Bytes> {
        &self.0[bucket.index()]
    }

    fn apply(&mut self, batch: &Batch) {
        for op in batch.ops() {
            let bucket = Arc::make_mut(&mut self.0[op.bucket().index()]);
            match op {
                Op::Put { key, value, .. } => bucket.insert(key.clone(), value.clone()),
                Op::Delete { key, .. } => bucket.remove(key),
            };
        }
    }

    /// Everything in the view.
    fn of(view: &dyn View) -> Result<Model, Error> {
        let mut model = Model::default();
        for bucket in Bucket::ALL {
            let found = view.scan(bucket, b"", None, 0)?;
            model.0[bucket.index()] = Arc::new(found.into_iter().collect());
        }
        Ok(model)
    }

    /// As the buckets of a file.
    fn tree(&self) -> Tree {
        let mut root = Tree::default();
        for bucket in Bucket::ALL {
            let mut tree = Tree::default();
            for (key, value) in self.bucket(bucket) {
                tree = tree.value(&key[..], &value[..]);
            }
            root = root.bucket(bucket.name(), tree);
        }
        root
    }
}

/// Fails unless a view shows exactly this.
fn assert_shows(view: &dyn View, model: &Model) {
    for bucket in Bucket::ALL {
        let found = view.scan(bucket, b"", None, 0).unwrap();
        let expected = model.bucket(bucket);
        let equal = found.len() == expected.len()
            && found
                .iter()
                .zip(expected)
                .all(|((k, v), (key, value))| k == key && v == value);
        if !equal {
            let differs = found
                .iter()
                .zip(expected)
                .find(|((k, v), (key, value))| k != *key || v != *value);
            panic!(
                "bucket {}: {} entries instead of {}, the first that differs: {differs:?}",
                bucket.name(),
                found.len(),
                expected.len()
            );
        }
    }
}

conformance!(Sim::new());
