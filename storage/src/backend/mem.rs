//! The engine of simulations and tests: the whole state in memory, rewritten to one file at each commit.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;

use super::overlay::Key;
use super::{Backend, Batch, Bucket, Error, Op, View, codec};
use crate::cow_tree::{CowTree, Weight};
use crate::fs::{Fs, OpenMode, durable_rename, read_all};

/// First bytes of the file; then the changes that make the state, then their CRC-32C.
const MAGIC: &[u8; 8] = b"retcdm01";

const FILE: &str = "memory.db";
const TEMPORARY: &str = "memory.db.tmp";

#[derive(Debug, Clone)]
struct Value(Bytes);

impl Weight for Value {
    fn weight(&self) -> usize {
        1
    }
}

/// The state as of one commit; a clone shares everything.
#[derive(Debug, Clone, Default)]
struct State {
    buckets: [CowTree<Key, Value>; Bucket::ALL.len()],
    bytes: u64,
}

impl State {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Put { bucket, key, value } => {
                self.bytes += (key.len() + value.len()) as u64;
                let old = self.buckets[bucket.index()].insert(Key::new(key), Value(value.clone()));
                self.forget(key, old);
            }
            Op::Delete { bucket, key } => {
                let old = self.buckets[bucket.index()].remove(&key[..]);
                self.forget(key, old);
            }
        }
    }

    fn forget(&mut self, key: &[u8], old: Option<Value>) {
        self.bytes -= old.map_or(0, |old| key.len() + old.0.len()) as u64;
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for bucket in Bucket::ALL {
            for (key, value) in self.buckets[bucket.index()].iter() {
                codec::encode(&mut out, bucket, key.as_slice(), Some(&value.0));
            }
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    fn decode(file: &[u8]) -> Option<Self> {
        let (content, crc) = file.split_last_chunk()?;
        if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
            return None;
        }
        let changes = codec::decode(Bytes::copy_from_slice(content.strip_prefix(MAGIC)?))?;
        let mut state = State::default();
        changes.ops().iter().for_each(|op| state.apply(op));
        Some(state)
    }
}

impl View for State {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.buckets[bucket.index()]
            .get(key)
            .map(|value| value.0.clone()))
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.buckets[bucket.index()].range(Bound::Included(from), to);
        let found =
            found.map(|(key, value)| (Bytes::copy_from_slice(key.as_slice()), value.0.clone()));
        Ok(found
            .take(if limit == 0 { usize::MAX } else { limit })
            .collect())
    }
}

/// Where the state is kept.
#[derive(Debug)]
struct Disk {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
}

impl Disk {
    fn load(&self) -> Result<State, Error> {
        self.fs
            .create_dir_all(&self.dir)
            .map_err(Error::io("create", &self.dir))?;
        let path = self.dir.join(FILE);
        if !self
            .fs
            .exists(&path)
            .map_err(Error::io("look for", &path))?
        {
            return Ok(State::default());
        }
        let file = read_all(&*self.fs, &path).map_err(Error::io("read", &path))?;
        State::decode(&file).ok_or_else(|| Error::Corrupt {
            path,
            detail: "the checksum does not match".into(),
        })
    }

    /// Writes the state aside and puts it in place: a crash leaves the old state or the new one.
    fn store(&self, state: &State) -> Result<(), Error> {
        let path = self.dir.join(TEMPORARY);
        let file = self
            .fs
            .open(&path, OpenMode::CreateOrTruncate)
            .map_err(Error::io("create", &path))?;
        file.write_all_at(&state.encode(), 0)
            .map_err(Error::io("write", &path))?;
        file.sync_all().map_err(Error::io("sync", &path))?;
        durable_rename(&*self.fs, &path, &self.dir.join(FILE)).map_err(Error::io("rename", &path))
    }
}

/// An engine that keeps everything in memory, and, opened on a directory, rewrites one file there at each commit.
///
/// For simulation and tests: a commit costs as much as there is data.
#[derive(Debug, Default)]
pub struct MemBackend {
    state: ArcSwap<State>,
    disk: Option<Disk>,
    /// Serialises commits; holds the failure of one.
    commits: Mutex<Option<Error>>,
}

impl MemBackend {
    /// An empty database that is gone when dropped.
    pub fn new() -> Self {
        Self::default()
    }

    /// The database in `dir`, created if it is not there.
    pub fn open(fs: Arc<dyn Fs>, dir: &Path) -> Result<Self, Error> {
        let disk = Disk {
            fs,
            dir: dir.to_owned(),
        };
        let state = ArcSwap::from_pointee(disk.load()?);
        Ok(MemBackend {
            state,
            disk: Some(disk),
            commits: Mutex::default(),
        })
    }
}

impl Backend for MemBackend {
    fn commit(&self, batch: &Batch) -> Result<(), Error> {
        let mut failed = self.commits.lock();
        if let Some(error) = &*failed {
            return Err(error.clone());
        }
        let mut next = State::clone(&self.state.load());
        batch.ops().iter().for_each(|op| next.apply(op));
        if let Some(disk) = &self.disk {
            disk.store(&next)
                .inspect_err(|error| *failed = Some(error.clone()))?;
        }
        self.state.store(Arc::new(next));
        Ok(())
    }

    fn view(&self) -> Result<Arc<dyn View>, Error> {
        Ok(self.state.load_full())
    }

    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.state.load().get(bucket, key)
    }

    fn size(&self) -> u64 {
        self.size_in_use()
    }

    fn size_in_use(&self) -> u64 {
        self.state.load().bytes
    }

    fn defragment(&self) -> Result<(), Error> {
        self.commit(&Batch::default())
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::backend::conformance::{Fixture, conformance};
    use crate::fs::SimFs;
    use crate::fs::sim::Plan;

    impl Fixture for SimFs {
        fn engine(&self) -> Result<Arc<dyn Backend>, Error> {
            Ok(Arc::new(MemBackend::open(
                Arc::new(self.clone()),
                Path::new("/member/snap"),
            )?))
        }

        fn break_disk(&self) {
            self.fail_at(1, io::ErrorKind::StorageFull, true);
        }

        fn mend_disk(&self) {
            self.heal();
        }
    }

    conformance!(SimFs::new());

    fn number(fs: &dyn Fixture) -> u64 {
        let stored = fs.engine().unwrap().get(Bucket::Meta, b"n").unwrap();
        stored.map_or(0, |n| u64::from_be_bytes(n[..].try_into().unwrap()))
    }

    #[test]
    fn a_power_failure_leaves_a_whole_commit() {
        let fs = SimFs::new();
        let engine = fs.engine().unwrap();
        fs.record();
        for n in 1..4u64 {
            let mut batch = Batch::default();
            batch.put(Bucket::Meta, "n", n.to_be_bytes().to_vec());
            batch.put(Bucket::Key, n.to_be_bytes().to_vec(), vec![n as u8; 700]);
            engine.commit(&batch).unwrap();
            fs.mark(n);
        }
        fs.take_trace().images(&Plan::default(), |image| {
            let n = number(&image.fs);
            assert!(
                n >= image.mark && n <= image.mark + 1,
                "{n} after {}: {}",
                image.mark,
                image.describe()
            );
            let keys = image
                .fs
                .engine()
                .unwrap()
                .view()
                .unwrap()
                .scan(Bucket::Key, b"", None, 0)
                .unwrap();
            assert_eq!(keys.len() as u64, n);
        });
    }

    #[test]
    fn damage_is_found_and_the_file_named() {
        let fs = SimFs::new();
        let mut batch = Batch::default();
        batch.put(Bucket::Meta, "n", "value");
        fs.engine().unwrap().commit(&batch).unwrap();
        let path = Path::new("/member/snap/memory.db");
        let file = fs.open(path, OpenMode::Write).unwrap();
        for at in 0..file.len().unwrap() {
            let mut byte = [0];
            file.read_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 4], at).unwrap();
            let error = fs.engine().err().unwrap();
            assert!(
                error.to_string().contains("/member/snap/memory.db"),
                "{error}"
            );
            file.write_all_at(&byte, at).unwrap();
        }
        fs.engine().unwrap();
    }
}
