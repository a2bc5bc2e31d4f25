//! The engine of simulations and tests: the whole state in memory.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Backend, Batch, Bucket, Error, Op, View};

/// The state as of one commit.
#[derive(Debug, Clone, Default)]
struct State {
    buckets: [BTreeMap<Bytes, Bytes>; Bucket::ALL.len()],
    bytes: u64,
}

impl State {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Put { bucket, key, value } => {
                self.bytes += (key.len() + value.len()) as u64;
                if let Some(old) = self.buckets[bucket.index()].insert(key.clone(), value.clone()) {
                    self.bytes -= (key.len() + old.len()) as u64;
                }
            }
            Op::Delete { bucket, key } => {
                if let Some(old) = self.buckets[bucket.index()].remove(key) {
                    self.bytes -= (key.len() + old.len()) as u64;
                }
            }
        }
    }
}

impl View for State {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.buckets[bucket.index()].get(key).cloned())
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        if to.is_some_and(|to| to <= from) {
            return Ok(Vec::new());
        }
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.buckets[bucket.index()].range::<[u8], _>((Bound::Included(from), to));
        let limit = if limit == 0 { usize::MAX } else { limit };
        Ok(found
            .take(limit)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect())
    }
}

/// An engine that keeps everything in memory.
#[derive(Debug, Default)]
pub struct MemBackend {
    state: Mutex<Arc<State>>,
}

impl MemBackend {
    /// An empty database that is gone when dropped.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Backend for MemBackend {
    fn commit(&self, batch: &Batch) -> Result<(), Error> {
        let mut state = self.state.lock();
        let next = Arc::make_mut(&mut state);
        batch.ops().iter().for_each(|op| next.apply(op));
        Ok(())
    }

    fn view(&self) -> Result<Arc<dyn View>, Error> {
        Ok(self.state.lock().clone())
    }

    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.state.lock().get(bucket, key)
    }

    fn size(&self) -> u64 {
        self.size_in_use()
    }

    fn size_in_use(&self) -> u64 {
        self.state.lock().bytes
    }

    fn defragment(&self) -> Result<(), Error> {
        Ok(())
    }

    fn copy(&self) -> Result<Box<dyn io::Read + Send>, Error> {
        Err(Error::CopyUnsupported {
            engine: self.name(),
        })
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::conformance::{Fixture, conformance};

    struct Kept(Arc<MemBackend>);

    impl Fixture for Kept {
        fn open(&self) -> Result<Arc<dyn Backend>, Error> {
            Ok(self.0.clone())
        }
        fn break_disk(&self) {}
        fn mend_disk(&self) {}
    }

    conformance!(Kept(Arc::default()));
}
