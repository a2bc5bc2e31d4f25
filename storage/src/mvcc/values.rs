//! Recently used values, by revision.
//!
//! A value never changes, so the cache is never stale: whoever asks for a revision gets what was written
//! under it, or has to read it from the backend.

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::Revision;

/// Weight of an entry beside its bytes: the revision, the handle, the cache's own links.
const OVERHEAD_BYTES: u64 = 96;

/// What an average entry is taken to weigh when the cache sizes its tables; they grow if it was wrong.
const TYPICAL_BYTES: u64 = 512;

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Revision, Bytes> for Weight {
    fn weight(&self, _: &Revision, encoded: &Bytes) -> u64 {
        encoded.len() as u64 + OVERHEAD_BYTES
    }
}

/// A cache bounded in bytes.
#[derive(Debug)]
pub(crate) struct Values {
    /// `None` when no memory was given.
    cache: Option<Cache<Revision, Bytes, Weight>>,
}

impl Values {
    /// A cache of at most `bytes`; 0 turns it off.
    pub(crate) fn new(bytes: u64) -> Values {
        let items = usize::try_from(bytes / TYPICAL_BYTES).unwrap_or(usize::MAX);
        Values {
            cache: (bytes > 0).then(|| Cache::with_weighter(items, bytes, Weight)),
        }
    }

    pub(crate) fn get(&self, revision: Revision) -> Option<Bytes> {
        self.cache.as_ref()?.get(&revision)
    }

    pub(crate) fn insert(&self, revision: Revision, encoded: Bytes) {
        if let Some(cache) = &self.cache {
            cache.insert(revision, encoded);
        }
    }

    /// Forgets a compacted value. A reader that fetched it a moment ago may put it back: that wastes
    /// its memory until it is evicted, no more.
    pub(crate) fn remove(&self, revision: Revision) {
        if let Some(cache) = &self.cache {
            cache.remove(&revision);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_keeps_to_its_bytes() {
        let values = Values::new(100_000);
        let value = Bytes::from(vec![7; 1000]);
        for main in 1..=1000 {
            values.insert(Revision::new(main, 0), value.clone());
        }
        let kept = (1..=1000)
            .filter(|&main| values.get(Revision::new(main, 0)).is_some())
            .count();
        assert!((1..=100).contains(&kept), "{kept}");
    }

    #[test]
    fn removed_values_are_gone_and_no_memory_means_no_cache() {
        let revision = Revision::new(1, 2);
        let values = Values::new(10_000);
        values.insert(revision, Bytes::from_static(b"x"));
        assert_eq!(values.get(revision).unwrap(), "x");
        values.remove(revision);
        assert_eq!(values.get(revision), None);

        let none = Values::new(0);
        none.insert(revision, Bytes::from_static(b"x"));
        none.remove(revision);
        assert_eq!(none.get(revision), None);
    }
}
