//! The engine on sled 0.34.
//!
//! sled is used for what it does well, an ordered map in a log-structured file. What a backend needs beyond that is
//! added around it, because (measured and read in its source):
//! - its batches cost twice the CPU and ten times the memory of single inserts in key order, and hold a
//!   process-wide lock against all reads meanwhile. So changes are single inserts, and a [`Journal`] makes a batch atomic;
//! - its flush does not reach the disk on Linux. So a commit is durable by the synced journal, which is kept
//!   until sled's files have been synced through descriptors of our own ([`Store::sync`]);
//! - it has no consistent views. They are made of records of earlier values ([`views`]).
//!
//! What remains: sled reuses space of its file while newer data is not yet on the disk, so a power failure (not a
//! crash of the process) can damage it beyond what the journal holds. sled notices by its checksums, or the journal by a gap.
//!
//! Buckets share one tree, their number in front of the key.

mod defragment;
mod directory;
mod store;
mod views;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use self::directory::Directory;
use self::store::{Mark, Store, stored_key};
use self::views::Core;
use super::journal::Journal;
use super::{Backend, Batch, Bucket, Error, Op, View};
use crate::fs::Fs;

/// Journal bytes after which sled's files are synced and the journal starts again.
const JOURNAL_BYTES: u64 = 32 << 20;

/// See the [module](self).
pub struct SledBackend {
    core: Arc<Core>,
    commits: Mutex<Commits>,
    /// One defragmentation at a time.
    defragment: Mutex<()>,
    size: AtomicU64,
    live: AtomicU64,
}

/// What a commit owns while it runs.
struct Commits {
    journal: Journal,
    directory: Directory,
    failed: Option<Error>,
    /// Keys changed since a running defragmentation began.
    dirty: Option<HashSet<sled::IVec>>,
}

impl Commits {
    fn check(&self) -> Result<(), Error> {
        self.failed
            .as_ref()
            .map_or(Ok(()), |error| Err(error.clone()))
    }
}

impl SledBackend {
    /// The database in `dir`, usually `<member>/snap/sled`, created if it is not there. `fs` must be a real file
    /// system, because sled knows no other.
    ///
    /// # Errors
    /// `Locked` if it is open elsewhere; `Corrupt`, with the file, for what is not or no longer a database. sled
    /// panics over some kinds of damage, which ends the process where panics abort.
    pub fn open(fs: Arc<dyn Fs>, dir: &Path) -> Result<Self, Error> {
        let (directory, store) = Directory::open(fs, dir)?;
        let stored = store.mark(Mark::Journal)?;
        let missing = directory.read_journal(stored)?;
        // The mark is as old as the journal. What was deleted since and is gone from sled already has
        // no size any more, so after a crash the figure may be too high until a defragmentation.
        let mut live = store.mark(Mark::Live)?;
        for op in missing.iter().flat_map(Batch::ops) {
            let applied_before = match op {
                Op::Put { value, .. } => {
                    let stored = store.get(&stored_key(op.bucket(), op.key()))?;
                    stored.as_deref() == Some(&value[..])
                }
                Op::Delete { .. } => false,
            };
            let (new, old) = apply(&store, op)?;
            live = (live + new).saturating_sub(if applied_before { 0 } else { old });
        }
        let number = stored + missing.len() as u64;
        store.set_mark(Mark::Live, live)?;
        store.set_mark(Mark::Journal, number)?;
        store.sync()?;
        let journal = directory.create_journal(number)?;
        let size = store.size()?;
        Ok(SledBackend {
            core: Core::new(store),
            commits: Mutex::new(Commits {
                journal,
                directory,
                failed: None,
                dirty: None,
            }),
            defragment: Mutex::default(),
            size: size.into(),
            live: live.into(),
        })
    }

    fn try_commit(&self, commits: &mut Commits, batch: &Batch) -> Result<(), Error> {
        commits.journal.append(batch)?;
        if let Some(dirty) = &mut commits.dirty {
            dirty.extend(
                batch
                    .ops()
                    .iter()
                    .map(|op| stored_key(op.bucket(), op.key())),
            );
        }
        self.core.begin(batch)?;
        let store = self.core.store();
        let mut live = self.live.load(Ordering::Relaxed);
        for op in batch.ops() {
            let (new, old) = apply(&store, op)?;
            live = (live + new).saturating_sub(old);
        }
        self.core.end();
        self.live.store(live, Ordering::Relaxed);
        if commits.journal.len() > JOURNAL_BYTES {
            self.checkpoint(commits)?;
        }
        self.size.store(store.size()?, Ordering::Relaxed);
        Ok(())
    }

    /// Makes sled's own files durable, after which the journal is not needed any more.
    fn checkpoint(&self, commits: &mut Commits) -> Result<(), Error> {
        let store = self.core.store();
        store.set_mark(Mark::Live, self.live.load(Ordering::Relaxed))?;
        store.set_mark(Mark::Journal, commits.journal.number())?;
        store.sync()?;
        commits.journal.restart()
    }
}

/// Applies a change; returns the live bytes that came and went.
fn apply(store: &Store, op: &Op) -> Result<(u64, u64), Error> {
    let key = stored_key(op.bucket(), op.key());
    let weight = |value: &[u8]| (op.key().len() + value.len()) as u64;
    let (new, old) = match op {
        Op::Put { value, .. } => (weight(value), store.set(key, Some(value))?),
        Op::Delete { .. } => (0, store.set(key, None)?),
    };
    Ok((new, old.map_or(0, |old| weight(&old))))
}

impl Backend for SledBackend {
    /// While it runs, [`Backend::get`] may show single changes of it; views show all or none.
    fn commit(&self, batch: &Batch) -> Result<(), Error> {
        let commits = &mut *self.commits.lock();
        commits.check()?;
        if batch.is_empty() {
            return Ok(());
        }
        self.try_commit(commits, batch)
            .inspect_err(|error| commits.failed = Some(error.clone()))
    }

    fn view(&self) -> Result<Arc<dyn View>, Error> {
        Ok(Arc::new(self.core.view()))
    }

    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self.core.store().get(&stored_key(bucket, key))?;
        Ok(value.as_deref().map(Bytes::copy_from_slice))
    }

    /// Without the journal, which is written over and over. About twice [`Backend::size_in_use`] for revisions
    /// in order, defragmented or not: sled's way of storing.
    fn size(&self) -> u64 {
        // sled writes the newest data a little later.
        self.size.load(Ordering::Relaxed).max(self.size_in_use())
    }

    /// Bytes of the live keys and values.
    fn size_in_use(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    /// Copies into a new database beside the old one while commits go on, and holds them up only to catch up and swap.
    fn defragment(&self) -> Result<(), Error> {
        let _one = self.defragment.lock();
        self.rewrite()
    }

    fn name(&self) -> &'static str {
        "sled"
    }
}

impl Drop for SledBackend {
    /// Leaves nothing for the journal to redo. Should it fail, the journal has it all.
    fn drop(&mut self) {
        let commits = &mut *self.commits.lock();
        if commits.failed.is_none() && commits.journal.len() > 0 {
            let _ = self.checkpoint(commits);
        }
    }
}
