//! The lessor: grant, revoke, checkpoint, and which key belongs to which lease.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use retcd_storage::backend::{Bucket, Reader, Writer};
use retcd_storage::mvcc::{self, Store};

use super::shared::{Lease, Leases as Shared};
use super::{MAX_TTL, record};
use crate::error::Error;
use crate::txn::{Failure, Leases};

/// What the log does to leases. Owned by the apply thread, and the only one who changes what leases there are and
/// which keys they have.
///
/// Every key of a lease is in `owners` with that lease's id, and the other way round.
#[derive(Debug)]
pub(crate) struct Lessor {
    pub(crate) shared: Arc<Shared>,
    owners: HashMap<Bytes, i64>,
    /// Shorter leases are made this long, in seconds. A local setting: members that disagree about it store
    /// different records, as in etcd.
    min_ttl: i64,
}

impl Lessor {
    /// Reads the leases, still without their keys.
    ///
    /// # Errors
    /// `Corrupt` for a record that no member writes; `Backend`.
    pub(crate) fn load(
        reader: &Reader,
        min_ttl: i64,
        shared: Arc<Shared>,
    ) -> Result<Self, mvcc::Error> {
        let mut lessor = Self {
            shared,
            owners: HashMap::new(),
            min_ttl,
        };
        lessor.reload(reader)?;
        Ok(lessor)
    }

    /// Forgets everything and reads the leases of another database, still without their keys: it came with a
    /// snapshot.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn reload(&mut self, reader: &Reader) -> Result<(), mvcc::Error> {
        let mut leases = BTreeMap::new();
        for (key, value) in reader.scan(Bucket::Lease, &[], None, 0)? {
            let record = record::decode(&key, value)?;
            let lease = Lease {
                id: record.id,
                ttl: match planted!(ShortAfterRestart) {
                    false => record.ttl.max(self.min_ttl),
                    true => self.min_ttl,
                },
                remaining_ttl: record.remaining_ttl,
                keys: BTreeSet::new(),
            };
            leases.insert(lease.id, lease);
        }
        self.owners.clear();
        self.shared.replace(leases);
        Ok(())
    }

    /// Takes the keys that the store found attached, and returns how many of them name a lease that is not
    /// there; those belong to none, as in etcd.
    pub(crate) fn attach_restored(&mut self, keys: Vec<(Bytes, i64)>) -> usize {
        let mut orphans = 0;
        for (key, id) in keys {
            orphans += usize::from(!self.shared.contains(id));
            self.attach(&key, id);
        }
        orphans
    }

    /// Grants a lease of at least `ttl` seconds; returns how many they are.
    ///
    /// # Errors
    /// `LeaseNotFound` for id 0 (whoever proposes chooses the id), `LeaseTtlTooLarge`, `LeaseExists`.
    pub(crate) fn grant(&mut self, writer: &mut Writer, id: i64, ttl: i64) -> Result<i64, Error> {
        if id == 0 {
            return Err(Error::LeaseNotFound);
        }
        if ttl > MAX_TTL {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.shared.contains(id) {
            return Err(Error::LeaseExists);
        }
        let lease = Lease {
            id,
            ttl: ttl.max(self.min_ttl),
            remaining_ttl: 0,
            keys: BTreeSet::new(),
        };
        let ttl = lease.ttl;
        writer.put(Bucket::Lease, record::key(id), record::encode(&lease));
        self.shared.insert(lease);
        Ok(ttl)
    }

    /// Ends a lease and deletes its keys, all in one revision; without keys the revision stays. Returns how many
    /// keys there were.
    ///
    /// # Errors
    /// `LeaseNotFound`; what the store may give.
    pub(crate) fn revoke(&mut self, store: &mut Store, id: i64) -> Result<usize, Failure> {
        let lease = self.shared.remove(id).ok_or(Error::LeaseNotFound)?;
        let mut txn = store.begin();
        for key in &lease.keys {
            txn.delete_range(key, &[], false)?;
            self.owners.remove(key);
            if planted!(RevokedOneByOne) {
                txn.end();
                txn = store.begin();
            }
        }
        txn.end();
        store.backend().delete(Bucket::Lease, record::key(id));
        Ok(lease.keys.len())
    }

    /// Notes how many seconds a lease has left; `persist` if the cluster is at least 3.6, where the note outlives
    /// a restart. A lease that is not there is skipped.
    pub(crate) fn checkpoint(
        &mut self,
        writer: &mut Writer,
        id: i64,
        remaining_ttl: i64,
        persist: bool,
    ) {
        let Some(lease) = self.shared.checkpoint(id, remaining_ttl) else {
            return;
        };
        if persist && !planted!(CheckpointNotPersisted) {
            writer.put(Bucket::Lease, record::key(id), record::encode(&lease));
        }
    }

    fn detach(&mut self, key: &[u8]) {
        if let Some(id) = self.owners.remove(key) {
            self.shared.detach(key, id);
        }
    }
}

impl Leases for Lessor {
    fn exists(&self, id: i64) -> bool {
        self.shared.contains(id)
    }

    fn attach(&mut self, key: &Bytes, id: i64) {
        // Most stores have no leases: their puts should not pay for them.
        if !self.owners.is_empty() {
            if id != 0 && self.owners.get(key) == Some(&id) {
                return;
            }
            if id != 0 || !planted!(KeyNotDetached) {
                self.detach(key);
            }
        }
        if id == 0 {
            return;
        }
        // A copy: the key is a slice of its entry, which would stay in memory with it.
        let key = Bytes::copy_from_slice(key);
        if self.shared.attach(&key, id) {
            self.owners.insert(key, id);
        }
    }
}
