//! The reading side.

use std::sync::Arc;

use bytes::Bytes;

use super::flusher::Flusher;
use super::shared::Shared;
use super::{Backend, Bucket, Error, View};

/// Reads everything published, without ever waiting for the writer or the flusher.
#[derive(Clone)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
}

impl Reader {
    /// The newest published value.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        // A key in no layer is read from the engine, which has at least what the layers lack.
        let known = self.shared.layers.load().get(bucket, key);
        match known {
            Some(change) => Ok(change),
            None => self.shared.engine.get(bucket, key),
        }
    }

    /// As [`View::scan`], over one consistent state.
    pub fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        self.shared.view()?.scan(bucket, from, to, limit)
    }

    /// The published state at this moment, which does not change.
    pub fn view(&self) -> Result<Arc<dyn View>, Error> {
        Ok(Arc::new(self.shared.view()?))
    }

    /// The engine, for sizes, defragmentation and copies.
    pub fn engine(&self) -> &Arc<dyn Backend> {
        &self.shared.engine
    }

    /// Returns once everything published so far is durable.
    pub fn commit(&self) -> Result<(), Error> {
        if self.is_inline() {
            return Flusher::new(self.shared.clone()).drain();
        }
        self.shared.commit()
    }

    /// Whether all work is done in the calls that ask for it.
    pub(crate) fn is_inline(&self) -> bool {
        self.shared.options.inline
    }

    /// Commits what is published, then rewrites the database without its holes. Writes and reads go on meanwhile.
    pub fn defragment(&self) -> Result<(), Error> {
        self.commit()?;
        self.shared.engine.defragment()
    }

    /// The failure that stopped the flusher.
    pub fn failed(&self) -> Option<Error> {
        self.shared.failed.get().cloned()
    }
}
