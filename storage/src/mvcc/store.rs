//! The store: the writer's side of the key-values.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::compaction::Compactions;
use super::index::Index;
use super::read::{Base, Published, Shared, StoreReader};
use super::restore::{self, Restored};
use super::values::Values;
use super::write::WriteTxn;
use super::{Change, Error};
use crate::backend;

/// How a store uses memory.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Bytes of recently used values to keep; 0 for none. Default 128 MiB.
    pub value_cache_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            value_cache_bytes: 128 << 20,
        }
    }
}

/// The key-values with their history, owned by the apply thread: nothing else writes.
///
/// Changes are made in units. Everything since the last [`publish`](Store::publish), also through
/// [`backend`](Store::backend), becomes visible together and durable together.
///
/// The revision never goes backwards, not even over a crash in a compaction (lessons D12 and W15 of etcd's
/// history): no compaction drops a record above its revision, and that revision is marked first.
pub struct Store {
    // Dropped before the writer, whose flusher a running hash may wait for.
    pub(super) compactions: Compactions,
    pub(super) shared: Arc<Shared>,
    /// The database that is written to.
    pub(super) base: Arc<Base>,
    pub(super) index: Index,
    pub(super) rev: i64,
    pub(super) compact_rev: i64,
    /// The index or the revisions differ from the published ones.
    pub(super) dirty: bool,
    pub(super) writer: backend::Writer,
    leases: Vec<(Bytes, i64)>,
    /// What changed since it was last taken, if anybody wants to know.
    pub(super) changes: Option<Vec<Change>>,
}

impl Store {
    /// Rebuilds the index from the backend in one pass and takes up an interrupted compaction.
    ///
    /// # Errors
    /// `Corrupt` names the record that cannot be read; `Backend`.
    pub fn open(
        writer: backend::Writer,
        reader: backend::Reader,
        options: StoreOptions,
    ) -> Result<Store, Error> {
        let Restored {
            index,
            rev,
            compact_rev,
            interrupted,
            leases,
        } = restore::restore(&*reader.view()?)?;
        let mut compactions = Compactions::default();
        if interrupted {
            compactions.resume(compact_rev);
        }
        let base = Arc::new(Base {
            backend: reader,
            values: Values::new(options.value_cache_bytes),
            hashes: Default::default(),
        });
        let published = Published {
            index: index.clone(),
            rev,
            compact_rev,
            base: base.clone(),
        };
        let shared = Arc::new(Shared {
            published: ArcSwap::from_pointee(published),
        });
        Ok(Store {
            compactions,
            shared,
            base,
            index,
            rev,
            compact_rev,
            dirty: false,
            writer,
            leases,
            changes: None,
        })
    }

    /// A reader of what is published.
    pub fn reader(&self) -> StoreReader {
        StoreReader {
            shared: self.shared.clone(),
        }
    }

    /// The current revision, published or not. 1 in a new store.
    pub fn rev(&self) -> i64 {
        self.rev
    }

    /// The compacted revision, published or not; -1 when there was no compaction.
    pub fn compact_rev(&self) -> i64 {
        self.compact_rev
    }

    /// The keys that were attached to a lease when the store was opened, in key order, each with its lease.
    /// Given once.
    pub fn take_restored_leases(&mut self) -> Vec<(Bytes, i64)> {
        std::mem::take(&mut self.leases)
    }

    /// From now on changes are kept for [`take_changes`](Store::take_changes), which has to be called then.
    pub fn record_changes(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// The changes since the last call, in order of revision.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.changes
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Begins a transaction.
    pub fn begin(&mut self) -> WriteTxn<'_> {
        WriteTxn::new(self)
    }

    /// The backend's writer, for the other buckets. Its `publish` and `commit` are not to be called: they
    /// would show values without their revision, or cut a unit.
    pub fn backend(&mut self) -> &mut backend::Writer {
        &mut self.writer
    }

    /// Ends a unit: one or more applied entries with their consistent index. The backend's readers see it
    /// first, then the revision appears.
    ///
    /// # Errors
    /// `Backend`: a commit failed, the member has to stop.
    pub fn publish(&mut self) -> Result<(), Error> {
        self.writer.publish()?;
        if std::mem::take(&mut self.dirty) {
            self.show();
        }
        Ok(())
    }

    fn show(&self) {
        self.shared.published.store(Arc::new(Published {
            index: self.index.clone(),
            rev: self.rev,
            compact_rev: self.compact_rev,
            base: self.base.clone(),
        }));
    }

    /// Becomes the store `new`, which was opened on another database: one that came from the leader, later in the same
    /// history. Readers go over to it in one step; who reads a version of the old database goes on to do so, and
    /// when the last of them is gone the old database is closed. Changes that were not taken are dropped: what
    /// happened between the two databases is in the history of the new one. A compaction under way ends; the new
    /// database knows of it, or of its successor.
    ///
    /// # Errors
    /// As [`commit`](Store::commit), about the old database; readers still have that one then.
    pub fn replace(&mut self, new: Store) -> Result<(), Error> {
        // A hash under way reads the newest version and takes it for one of its own database.
        self.compactions = Compactions::default();
        self.publish()?;
        let Store {
            compactions,
            shared: _,
            base,
            index,
            rev,
            compact_rev,
            dirty: _,
            writer,
            leases,
            changes: _,
        } = new;
        // Whoever waits for a commit of it gets an answer.
        std::mem::replace(&mut self.writer, writer).close()?;
        self.compactions = compactions;
        self.base = base;
        self.index = index;
        (self.rev, self.compact_rev) = (rev, compact_rev);
        self.leases = leases;
        if let Some(changes) = &mut self.changes {
            changes.clear();
        }
        self.dirty = false;
        self.show();
        Ok(())
    }

    /// [Publishes](Store::publish), and returns when all is durable.
    ///
    /// # Errors
    /// As there.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.publish()?;
        Ok(self.writer.commit()?)
    }

    /// Publishes, commits, and stops the backend's flusher. A compaction under way goes on when the store is
    /// opened again.
    ///
    /// # Errors
    /// As [`publish`](Store::publish).
    pub fn close(mut self) -> Result<(), Error> {
        self.publish()?;
        drop(self.compactions);
        Ok(self.writer.close()?)
    }

    /// Stops without a last commit, as a crash would.
    pub fn abandon(self) {
        drop(self.compactions);
        self.writer.abandon();
    }
}
