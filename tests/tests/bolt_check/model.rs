//! What a database should hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use retcd_storage::backend::{Backend, Batch, BoltFile, Bucket, Op};
use retcd_tests::random::Random;
use retcd_tests::state::{digest, hex};

/// Buckets of sorted pairs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pairs: BTreeMap<&'static str, BTreeMap<Bytes, Bytes>>,
}

impl Model {
    /// Does what a commit of the batch does.
    pub(crate) fn apply(&mut self, batch: &Batch) {
        for op in batch.ops() {
            let pairs = self.pairs.entry(op.bucket().name()).or_default();
            match op {
                Op::Put { key, value, .. } => drop(pairs.insert(key.clone(), value.clone())),
                Op::Delete { key, .. } => drop(pairs.remove(key)),
            }
        }
    }

    /// How many keys a bucket has.
    pub(crate) fn len(&self, bucket: Bucket) -> usize {
        self.pairs.get(bucket.name()).map_or(0, BTreeMap::len)
    }

    /// Keys of a bucket in order.
    pub(crate) fn keys(&self, bucket: Bucket) -> impl Iterator<Item = &Bytes> {
        self.pairs.get(bucket.name()).into_iter().flat_map(BTreeMap::keys)
    }

    /// A key of a bucket that is there.
    pub(crate) fn some_key(&self, bucket: Bucket, random: &mut Random) -> Option<Bytes> {
        let len = self.len(bucket) as u64;
        (len > 0).then(|| self.keys(bucket).nth(random.within(0, len) as usize).cloned()).flatten()
    }

    /// Makes it differ by one byte.
    pub(crate) fn touch(&mut self) {
        let last = self.pairs.values_mut().rev().find_map(|pairs| pairs.iter_mut().next_back());
        let (_, value) = last.expect("not empty");
        let mut bytes = value.to_vec();
        match bytes.last_mut() {
            Some(byte) => *byte ^= 1,
            None => bytes.push(0),
        }
        *value = bytes.into();
    }

    /// As `state bolt` prints it, without the line of the file.
    pub(crate) fn lines(&self) -> String {
        let mut out = String::new();
        for bucket in Bucket::ALL {
            let _ = writeln!(out, "bucket {}", hex(bucket.name().as_bytes()));
            for (key, value) in self.pairs.get(bucket.name()).into_iter().flatten() {
                let _ = writeln!(out, "{} {} {}", hex(key), value.len(), digest(value));
            }
        }
        out
    }

    /// Whether a file holds the same.
    pub(crate) fn compare(&self, file: &BoltFile) -> Result<(), String> {
        let names = file.buckets().map_err(|e| e.to_string())?;
        if !names.iter().map(|n| &n[..]).eq(Bucket::ALL.iter().map(|b| b.name().as_bytes())) {
            return Err(format!("its buckets are {names:?}"));
        }
        for bucket in Bucket::ALL {
            let found = file.scan(bucket.name().as_bytes(), b"", 0).map_err(|e| e.to_string())?;
            self.compare_pairs(bucket, &found)?;
        }
        Ok(())
    }

    /// Whether an open database holds the same.
    pub(crate) fn compare_open(&self, backend: &dyn Backend) -> Result<(), String> {
        let view = backend.view().map_err(|e| e.to_string())?;
        for bucket in Bucket::ALL {
            let found = view.scan(bucket, b"", None, 0).map_err(|e| e.to_string())?;
            self.compare_pairs(bucket, &found)?;
        }
        Ok(())
    }

    fn compare_pairs(&self, bucket: Bucket, found: &[(Bytes, Bytes)]) -> Result<(), String> {
        let expected = || self.pairs.get(bucket.name()).into_iter().flatten();
        if found.iter().map(|(k, v)| (k, v)).eq(expected()) {
            return Ok(());
        }
        let place = found.iter().zip(expected()).position(|(found, (key, value))| (&found.0, &found.1) != (key, value));
        Err(format!(
            "bucket {} has {} pairs of {}, the first wrong one at {place:?}",
            bucket.name(),
            found.len(),
            self.len(bucket)
        ))
    }
}
