//! The published changes above an engine.

use std::sync::Arc;

use bytes::Bytes;

use super::overlay::{self, Overlay};
use super::{Bucket, Error, View};

/// What readers see above the engine.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) pending: Arc<Overlay>,
    pub(super) in_flight: Option<Arc<Overlay>>,
    /// Number of batches taken by the flusher so far; `in_flight` is the last of them, or `None` once committed.
    pub(super) taken: u64,
}

impl Layers {
    /// Newest first.
    fn list(&self) -> impl Iterator<Item = &Overlay> {
        [Some(&*self.pending), self.in_flight.as_deref()]
            .into_iter()
            .flatten()
    }

    /// `Some(None)`: deleted in a layer. `None`: look below.
    pub(super) fn get(&self, bucket: Bucket, key: &[u8]) -> Option<Option<Bytes>> {
        self.list()
            .find_map(|layer| layer.get(bucket, key))
            .map(|change| change.0.clone())
    }
}

/// Layers over an engine view.
pub(super) struct LayeredView {
    pub(super) layers: Arc<Layers>,
    pub(super) base: Arc<dyn View>,
}

impl View for LayeredView {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        match self.layers.get(bucket, key) {
            Some(change) => Ok(change),
            None => self.base.get(bucket, key),
        }
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let layers: Vec<_> = self.layers.list().collect();
        let base = |from: &[u8], to: Option<&[u8]>, limit| self.base.scan(bucket, from, to, limit);
        overlay::scan(&base, &layers, bucket, from, to, limit)
    }
}
