//! Compaction: forgetting history, in small steps on the apply thread.
//!
//! A compaction is three durable facts in this order: its mark in `scheduledCompactRev`, the deletions, its mark
//! in `finishedCompactRev`. The backend keeps the order of units, so a crash leaves a prefix; a mark without its
//! counterpart makes [`Store::open`] run it again. Records of a key are deleted oldest first: what a crash leaves
//! of a deleted generation still ends with its tombstone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use super::hash::{self, CompactionHash};
use super::read::Shared;
use super::{Error, Revision, Store};
use crate::backend::Bucket;

/// Key in `meta` of the newest compaction asked for. Source: etcd `server/storage/schema/schema.go`.
pub(crate) const SCHEDULED: &[u8] = b"scheduledCompactRev";
/// Key in `meta` of the newest compaction whose deletions are done.
pub(crate) const FINISHED: &[u8] = b"finishedCompactRev";

/// What a [`Store::compaction_step`] left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compaction {
    /// Nothing: no compaction is under way.
    Idle,
    /// A background thread still computes the hash; try again in some milliseconds.
    Waiting,
    /// More steps.
    More,
    /// The compaction at this revision is done; others may be queued.
    Finished(i64),
}

/// The compactions under way, oldest first.
#[derive(Default)]
pub(super) struct Compactions {
    jobs: VecDeque<Job>,
    /// Revisions removed since somebody last asked.
    removed: u64,
}

struct Job {
    rev: i64,
    stage: Stage,
}

enum Stage {
    /// Not begun. With the compacted revision before this one if its hash is wanted.
    Queued {
        hash_from: Option<i64>,
    },
    Hashing(HashThread),
    Deleting(Deleting),
}

#[derive(Default)]
struct Deleting {
    hash: Option<CompactionHash>,
    /// Where the walk through the index goes on, `None` at its beginning.
    cursor: Option<Bytes>,
    /// The walk is over.
    walked: bool,
    /// Dropped by the index, still in the backend; newest first, so that the oldest is at hand.
    dropped: Vec<(Revision, bool)>,
}

impl Compactions {
    /// Queues a compaction that a crash interrupted.
    pub(super) fn resume(&mut self, rev: i64) {
        self.jobs.push_back(Job {
            rev,
            stage: Stage::Queued { hash_from: None },
        });
    }
}

impl Store {
    /// Schedules the compaction at `rev`: from now on older revisions cannot be read any more, while
    /// [`compaction_step`](Store::compaction_step) forgets them. Part of the current unit.
    ///
    /// # Errors
    /// `Compacted` if `rev` is not above the last compaction, `FutureRev` if above the current revision.
    /// Source: etcd `server/storage/mvcc/kvstore.go`.
    pub fn begin_compaction(&mut self, rev: i64) -> Result<(), Error> {
        if rev <= self.compact_rev {
            return Err(Error::Compacted);
        }
        if rev > self.rev {
            return Err(Error::FutureRev);
        }
        // While another one is under way the records up to it are in flux, and no hash could be compared.
        let hash_from = self.compactions.jobs.is_empty().then_some(self.compact_rev);
        self.compactions.jobs.push_back(Job {
            rev,
            stage: Stage::Queued { hash_from },
        });
        self.compact_rev = rev;
        self.dirty = true;
        self.writer.put(Bucket::Meta, SCHEDULED, mark(rev));
        Ok(())
    }

    /// Whether a compaction is under way.
    pub fn is_compacting(&self) -> bool {
        !self.compactions.jobs.is_empty()
    }

    /// How many revisions of keys were removed since this was last asked.
    pub fn take_compacted(&mut self) -> u64 {
        std::mem::take(&mut self.compactions.removed)
    }

    /// Does a bounded part of the oldest compaction under way: looks at most at `max_keys` keys and deletes at
    /// most as many records. Publishes what is pending, so it must be called between entries, not within one.
    ///
    /// # Errors
    /// `Corrupt`, `Backend`, `Thread`: the member has to stop.
    pub fn compaction_step(&mut self, max_keys: usize) -> Result<Compaction, Error> {
        let Some(mut job) = self.compactions.jobs.pop_front() else {
            return Ok(Compaction::Idle);
        };
        let step = self.step(&mut job, max_keys.max(1));
        if !matches!(step, Ok(Compaction::Finished(_))) {
            self.compactions.jobs.push_front(job);
        }
        step
    }

    fn step(&mut self, job: &mut Job, max_keys: usize) -> Result<Compaction, Error> {
        match &mut job.stage {
            Stage::Queued { hash_from } => {
                // Readers have to know the compacted revision before its first deletion.
                let hash_from = hash_from.take();
                self.publish()?;
                job.stage = match hash_from {
                    Some(from) if self.shared.base().backend.is_inline() => {
                        let go_on = AtomicBool::new(false);
                        let hash = hash::of_compaction(&self.shared, job.rev, from, &go_on)?;
                        Stage::Deleting(Deleting {
                            hash,
                            ..Deleting::default()
                        })
                    }
                    Some(from) => Stage::Hashing(HashThread::start(&self.shared, job.rev, from)?),
                    None => Stage::Deleting(Deleting::default()),
                };
                Ok(Compaction::More)
            }
            Stage::Hashing(thread) => {
                let Some(hash) = thread.result() else {
                    return Ok(Compaction::Waiting);
                };
                let hash = hash?;
                job.stage = Stage::Deleting(Deleting {
                    hash,
                    ..Deleting::default()
                });
                Ok(Compaction::More)
            }
            Stage::Deleting(deleting) => self.delete(job.rev, deleting, max_keys),
        }
    }

    fn delete(&mut self, rev: i64, job: &mut Deleting, max: usize) -> Result<Compaction, Error> {
        if job.dropped.is_empty() && !job.walked {
            let from = job.cursor.take();
            job.cursor = self
                .index
                .compact_step(from.as_ref(), rev, max, &mut job.dropped);
            job.walked = job.cursor.is_none();
            // In order of revision, like etcd; above all a tombstone after the puts it hides.
            job.dropped.sort_unstable_by(|a, b| b.cmp(a));
            self.dirty = true;
        }
        let rest = job.dropped.len().saturating_sub(max);
        self.compactions.removed += (job.dropped.len() - rest) as u64;
        for (revision, tombstone) in job.dropped.drain(rest..).rev() {
            if tombstone {
                self.writer.delete(Bucket::Key, revision.tombstone_key());
            } else {
                self.writer.delete(Bucket::Key, revision.key());
                self.base.values.remove(revision);
            }
        }
        let finished = job.walked && job.dropped.is_empty();
        if finished {
            self.writer.put(Bucket::Meta, FINISHED, mark(rev));
        }
        self.publish()?;
        if !finished {
            return Ok(Compaction::More);
        }
        if let Some(hash) = job.hash.take() {
            self.base.hashes.lock().push(hash);
        }
        Ok(Compaction::Finished(rev))
    }
}

/// The value of a mark.
fn mark(rev: i64) -> Bytes {
    Bytes::copy_from_slice(&Revision::new(rev, 0).key())
}

/// Computes the hash of a compaction beside the apply thread. Dropped, it stops soon and is waited for.
struct HashThread {
    handle: Option<JoinHandle<Result<Option<CompactionHash>, Error>>>,
    cancelled: Arc<AtomicBool>,
}

impl HashThread {
    fn start(shared: &Arc<Shared>, rev: i64, compact_rev: i64) -> Result<HashThread, Error> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let handle = thread::Builder::new()
            .name("compaction-hash".into())
            .spawn({
                let (shared, cancelled) = (shared.clone(), cancelled.clone());
                move || hash::of_compaction(&shared, rev, compact_rev, &cancelled)
            })
            .map_err(|e| Error::Thread(Arc::new(e)))?;
        Ok(HashThread {
            handle: Some(handle),
            cancelled,
        })
    }

    /// The result once it is there. A panic goes on in the caller.
    fn result(&mut self) -> Option<Result<Option<CompactionHash>, Error>> {
        let handle = self.handle.take_if(|handle| handle.is_finished())?;
        Some(
            handle
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        )
    }
}

impl Drop for HashThread {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        if let Some(handle) = self.handle.take() {
            // Nobody is interested in the result any more.
            _ = handle.join();
        }
    }
}
