//! The doors to a database file: read as it is, or changed by an engine.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use retcd_storage::backend::{Backend, BoltBackend, BoltFile, BoltOptions, Error};
use retcd_storage::fs::Fs;

/// A database that is only read: all of its buckets, known or not.
pub(super) trait Tables {
    /// Whether every page is sound.
    fn check(&self) -> Result<(), Error>;

    /// The names of all buckets, in order.
    fn buckets(&self) -> Result<Vec<Bytes>, Error>;

    /// The value of a key.
    fn get(&self, bucket: &[u8], key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// At most `limit` (0: all) pairs whose key is not below `from`, in order.
    fn scan(&self, bucket: &[u8], from: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, Error>;
}

/// How database files are opened. Handed in, so that tests can do without real files.
pub(super) trait Engine {
    /// For reading, without a lock.
    fn tables(&self, fs: &dyn Fs, path: &Path) -> Result<Box<dyn Tables>, Error>;

    /// For changes, with the lock.
    fn open(&self, fs: Arc<dyn Fs>, path: &Path) -> Result<Box<dyn Backend>, Error>;
}

/// The engine on etcd's own database files.
pub(super) struct Bolt;

impl Engine for Bolt {
    fn tables(&self, fs: &dyn Fs, path: &Path) -> Result<Box<dyn Tables>, Error> {
        Ok(Box::new(BoltFile::open(fs, path)?))
    }

    fn open(&self, fs: Arc<dyn Fs>, path: &Path) -> Result<Box<dyn Backend>, Error> {
        Ok(Box::new(BoltBackend::open(
            fs,
            path,
            BoltOptions::default(),
        )?))
    }
}

impl Tables for BoltFile {
    fn check(&self) -> Result<(), Error> {
        BoltFile::check(self)
    }

    fn buckets(&self) -> Result<Vec<Bytes>, Error> {
        BoltFile::buckets(self)
    }

    fn get(&self, bucket: &[u8], key: &[u8]) -> Result<Option<Bytes>, Error> {
        BoltFile::get(self, bucket, key)
    }

    fn scan(&self, bucket: &[u8], from: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, Error> {
        BoltFile::scan(self, bucket, from, limit)
    }
}

#[cfg(test)]
pub(super) mod fake {
    use std::collections::BTreeMap;

    use super::*;

    /// Buckets in memory.
    #[derive(Debug, Default)]
    pub(crate) struct FakeTables(BTreeMap<Bytes, BTreeMap<Bytes, Bytes>>);

    impl FakeTables {
        pub(crate) fn bucket(&mut self, name: &str) -> &mut BTreeMap<Bytes, Bytes> {
            self.0
                .entry(Bytes::copy_from_slice(name.as_bytes()))
                .or_default()
        }

        pub(crate) fn put(&mut self, bucket: &str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
            self.bucket(bucket).insert(
                Bytes::copy_from_slice(key.as_ref()),
                Bytes::copy_from_slice(value.as_ref()),
            );
        }
    }

    impl Tables for FakeTables {
        fn check(&self) -> Result<(), Error> {
            Ok(())
        }

        fn buckets(&self) -> Result<Vec<Bytes>, Error> {
            Ok(self.0.keys().cloned().collect())
        }

        fn get(&self, bucket: &[u8], key: &[u8]) -> Result<Option<Bytes>, Error> {
            Ok(self.0.get(bucket).and_then(|b| b.get(key)).cloned())
        }

        fn scan(
            &self,
            bucket: &[u8],
            from: &[u8],
            limit: usize,
        ) -> Result<Vec<(Bytes, Bytes)>, Error> {
            let limit = if limit == 0 { usize::MAX } else { limit };
            let found = self.0.get(bucket).into_iter().flat_map(|pairs| {
                pairs
                    .range(Bytes::copy_from_slice(from)..)
                    .map(|(key, value)| (key.clone(), value.clone()))
            });
            Ok(found.take(limit).collect())
        }
    }
}
