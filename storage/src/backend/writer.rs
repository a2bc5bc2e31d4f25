//! The one writer, its readers, and the flusher thread between them and the engine.
//!
//! A change goes through four places: the writer's open *unit* (seen by the writer alone), *pending* (published),
//! *in flight* (being committed by the flusher), the engine. Readers look in pending, in flight, engine, in this
//! order. Only [`Writer::publish`] moves changes out of the unit, whole, and the flusher always takes all that is
//! pending: no commit can cut a unit.
//!
//! Pending is kept twice, like a double buffer: readers see the front one, the next publish brings the back one
//! up to date in place and swaps them. Nothing is copied unless a reader still holds the back one.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use super::flusher::Flusher;
use super::overlay::{self, Change, Entry, Key, Overlay};
use super::reader::Reader;
use super::shared::{Shared, Stop, WriterOptions};
use super::{Backend, Bucket, Error, View};

/// Units of at most this many changes are searched from the end; larger ones get an index.
const UNINDEXED: usize = 16;

/// Changes since the last publish.
#[derive(Default)]
struct Unit {
    log: Vec<Entry>,
    /// The same changes by key, once there are more than [`UNINDEXED`].
    index: Overlay,
}

impl Unit {
    fn push(&mut self, entry: Entry) {
        if self.log.len() >= UNINDEXED {
            if self.index.len() == 0 {
                self.log.iter().cloned().for_each(|e| self.index.insert(e));
            }
            self.index.insert(entry.clone());
        }
        self.log.push(entry);
    }

    fn get(&self, bucket: Bucket, key: &[u8]) -> Option<Option<Bytes>> {
        if self.index.len() != 0 {
            return self.index.get(bucket, key).map(|change| change.0.clone());
        }
        let newest = self
            .log
            .iter()
            .rev()
            .find(|e| e.bucket == bucket && e.key.as_slice() == key);
        newest.map(|e| e.change.0.clone())
    }
}

/// The one batch writer, owned by the apply thread.
pub struct Writer {
    shared: Arc<Shared>,
    unit: Unit,
    flusher: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the flusher thread. Should that fail, every publish and commit says so.
    pub fn start(engine: Arc<dyn Backend>, options: WriterOptions) -> (Writer, Reader) {
        let inline = options.inline;
        let shared = Arc::new(Shared::new(engine, options));
        let reader = Reader {
            shared: shared.clone(),
        };
        if inline {
            let writer = Writer {
                shared,
                unit: Unit::default(),
                flusher: None,
            };
            return (writer, reader);
        }
        let flusher = thread::Builder::new()
            .name("backend-flusher".into())
            .spawn({
                let shared = shared.clone();
                move || Flusher::new(shared).run()
            });
        let flusher = flusher
            .map_err(|e| shared.fail(Error::Thread(Arc::new(e))))
            .ok();
        (
            Writer {
                shared,
                unit: Unit::default(),
                flusher,
            },
            reader,
        )
    }

    /// Sets a key. `value` stays referenced until it is in the engine, so it should not be a small slice of a large buffer.
    pub fn put(&mut self, bucket: Bucket, key: impl AsRef<[u8]>, value: impl Into<Bytes>) {
        self.unit.push(Entry {
            bucket,
            key: Key::new(key.as_ref()),
            change: Change(Some(value.into())),
        });
    }

    /// Removes a key.
    pub fn delete(&mut self, bucket: Bucket, key: impl AsRef<[u8]>) {
        self.unit.push(Entry {
            bucket,
            key: Key::new(key.as_ref()),
            change: Change(None),
        });
    }

    /// The newest value, published or not.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        match self.unit.get(bucket, key) {
            Some(change) => Ok(change),
            None => self.reader().get(bucket, key),
        }
    }

    /// As [`View::scan`], over the newest state, published or not.
    pub fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let view = self.shared.view()?;
        let base = |from: &[u8], to: Option<&[u8]>, limit| view.scan(bucket, from, to, limit);
        if self.unit.index.len() != 0 {
            return overlay::scan(&base, &[&self.unit.index], bucket, from, to, limit);
        }
        let mut unit = Overlay::default();
        self.unit
            .log
            .iter()
            .filter(|e| e.bucket == bucket)
            .cloned()
            .for_each(|e| unit.insert(e));
        overlay::scan(&base, &[&unit], bucket, from, to, limit)
    }

    /// A reader of what is published.
    pub fn reader(&self) -> Reader {
        Reader {
            shared: self.shared.clone(),
        }
    }

    /// Makes all changes since the last call visible to readers, as one atomic unit.
    ///
    /// Waits for the flusher while far too much is unflushed (128 MiB, or 4 batches).
    ///
    /// # Errors
    /// A failed commit, for ever; the changes are then neither visible nor kept.
    pub fn publish(&mut self) -> Result<(), Error> {
        if self.unit.log.is_empty() {
            return self.shared.check();
        }
        let mut log = std::mem::take(&mut self.unit.log);
        if self.unit.index.len() != 0 {
            self.unit.index = Overlay::default();
        }
        let shared = &*self.shared;
        let mut state = shared.state.lock();
        while shared.failed.get().is_none() && shared.crowded(&state) {
            if shared.options.inline {
                drop(state);
                self.drain()?;
                state = shared.state.lock();
            } else {
                shared.progress.wait(&mut state);
            }
        }
        shared.check()?;

        let state = &mut *state;
        let idle = state.front.len() == 0;
        state.merge(&mut log);
        self.unit.log = log;
        state.published += 1;
        shared.layers.store(state.layers());
        // The flusher's clock starts with the first pending change; then only a full batch is news to it.
        if idle || shared.due(state) {
            shared.work.notify_one();
        }
        Ok(())
    }

    /// Commits all that is published in this thread, where there is no other.
    fn drain(&self) -> Result<(), Error> {
        Flusher::new(self.shared.clone())
            .drain()
            .inspect_err(|error| self.shared.fail(error.clone()))
    }

    /// Publishes, and returns once everything is durable.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.publish()?;
        if self.shared.options.inline {
            return self.drain();
        }
        self.shared.commit()
    }

    /// Commits everything and stops the flusher.
    pub fn close(mut self) -> Result<(), Error> {
        let published = self.publish();
        if self.shared.options.inline {
            return published.and_then(|()| self.drain());
        }
        self.stop(Stop::Flush);
        published.and_then(|()| self.shared.commit())
    }

    /// Stops without a last commit, as a crash would: what is published but not yet committed is lost.
    pub fn abandon(mut self) {
        self.stop(Stop::Abandon);
    }

    fn stop(&mut self, how: Stop) {
        let Some(flusher) = self.flusher.take() else {
            return;
        };
        self.shared.state.lock().stop = Some(how);
        self.shared.work.notify_one();
        // A panic of the flusher is already recorded as the failure.
        let _ = flusher.join();
    }
}

impl Drop for Writer {
    /// Commits what is published; an open unit is dropped, never cut.
    fn drop(&mut self) {
        self.stop(Stop::Flush);
    }
}
