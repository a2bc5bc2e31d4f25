//! Defragmentation: copy aside, catch up, swap.
//!
//! The copy reads keys as they are while commits change them; that is made good because every key that a commit
//! touches meanwhile is remembered and copied once more, the last ones while no commit runs.
//!
//! Until [`Directory::set_current`](super::directory::Directory::set_current) nothing has happened: whatever fails
//! or crashes before leaves the old database in use, and its half-made copy is removed here or at the next open.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::store::{Mark, Store};
use super::{Commits, SledBackend};
use crate::backend::Error;

/// So few keys are caught up while commits wait.
const FEW: usize = 1000;

/// Rounds after which commits wait in any case: they come faster than they can be copied.
const ROUNDS: usize = 5;

impl SledBackend {
    /// The caller sees to it that this runs once at a time.
    pub(super) fn rewrite(&self) -> Result<(), Error> {
        let (number, new) = {
            let mut commits = self.commits.lock();
            commits.check()?;
            let next = commits.directory.create_next()?;
            commits.dirty = Some(HashSet::new());
            next
        };
        let copied = self.copy_into(&new);

        let mut commits = self.commits.lock();
        let dirty = commits.dirty.take().unwrap_or_default();
        let ready = copied.and_then(|()| self.catch_up(&mut commits, &new, dirty, number));
        let size = match ready {
            Ok(size) => size,
            Err(error) => {
                drop(commits);
                new.remove();
                return Err(error);
            }
        };
        if let Err(error) = commits.directory.replace_current(number) {
            // Either may be the one that the next open finds, so no commit may go to one of them alone.
            commits.failed = Some(error.clone());
            return Err(error);
        }
        self.size.store(size, Ordering::Relaxed);
        let old = self.core.store.swap(Arc::new(new));
        // The new database is synced. An error here is one of the next commits, not of the defragmentation.
        if let Err(error) = commits.journal.restart() {
            commits.failed = Some(error);
        }
        drop(commits);
        remove_when_unused(old);
        Ok(())
    }

    /// Copies while commits go on.
    fn copy_into(&self, new: &Store) -> Result<(), Error> {
        let old = self.core.store();
        for pair in old.iter() {
            let (key, value) = pair?;
            new.set(key, Some(&value))?;
        }
        for _ in 0..ROUNDS {
            let dirty = match &mut self.commits.lock().dirty {
                Some(dirty) if dirty.len() > FEW => std::mem::take(dirty),
                _ => break,
            };
            copy_keys(&old, new, dirty)?;
        }
        // Most of the syncing is done here, so that commits do not wait for it.
        new.sync()
    }

    /// Copies the rest while commits wait; then the new database is durable and has all that the old one has. Returns
    /// its size.
    fn catch_up(
        &self,
        commits: &mut Commits,
        new: &Store,
        dirty: HashSet<sled::IVec>,
        number: u64,
    ) -> Result<u64, Error> {
        commits.check()?;
        copy_keys(&self.core.store(), new, dirty)?;
        new.set_mark(Mark::Live, self.live.load(Ordering::Relaxed))?;
        new.set_mark(Mark::Journal, commits.journal.number())?;
        new.sync()?;
        commits.directory.prepare_current(number)?;
        new.size()
    }
}

fn copy_keys(old: &Store, new: &Store, keys: HashSet<sled::IVec>) -> Result<(), Error> {
    for key in keys {
        let value = old.get(&key)?;
        new.set(key, value.as_deref())?;
    }
    Ok(())
}

/// Reads that began before the swap hold the old database for a moment; sled opens files of it by name.
fn remove_when_unused(mut old: Arc<Store>) {
    loop {
        match Arc::try_unwrap(old) {
            Ok(old) => return old.remove(),
            Err(shared) => old = shared,
        }
        thread::sleep(Duration::from_millis(1));
    }
}
