//! The one writer, its readers, and the flusher thread between them and the engine.
//!
//! A change goes through four places: the writer's open *unit* (seen by the writer alone), *pending* (published),
//! *in flight* (being committed by the flusher), the engine. Readers look in pending, in flight, engine, in this
//! order. Only [`Writer::publish`] moves changes out of the unit, whole, and the flusher always takes all that is
//! pending: no commit can cut a unit.
//!
//! Pending is kept twice, like a double buffer: readers see the front one, the next publish brings the back one
//! up to date in place and swaps them. Nothing is copied unless a reader still holds the back one.

use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::overlay::{self, Change, Entry, Key, Overlay};
use super::{Backend, Bucket, CONSISTENT_INDEX, Error, View};

/// Called by the flusher after a commit with the consistent index that is now durable. Must not wait for a commit.
pub type OnDurable = Arc<dyn Fn(u64) + Send + Sync>;

/// How batches are cut.
#[derive(Clone)]
pub struct WriterOptions {
    /// Longest wait of a published change for its commit. Default 100 ms. `Duration::MAX`: only the limits and
    /// explicit commits flush, for simulations that own time.
    pub batch_interval: Duration,
    /// Touched keys after which a commit begins at once. Default 10,000.
    pub batch_limit: usize,
    /// Told what is durable; the raft log may be trimmed only below it.
    pub on_durable: Option<OnDurable>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions {
            batch_interval: Duration::from_millis(100),
            batch_limit: 10_000,
            on_durable: None,
        }
    }
}

impl std::fmt::Debug for WriterOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriterOptions")
            .field("batch_interval", &self.batch_interval)
            .field("batch_limit", &self.batch_limit)
            .finish_non_exhaustive()
    }
}

/// Pending bytes after which a commit begins at once, so that large values do not wait for the key limit.
const BATCH_BYTES: usize = 32 << 20;

/// Bytes pending and in flight above which `publish` waits for the flusher. One unit may exceed it.
const MAX_UNFLUSHED_BYTES: usize = 128 << 20;

/// The same in touched keys, as a multiple of the batch limit.
const MAX_UNFLUSHED_BATCHES: usize = 16;

/// Units of at most this many changes are searched from the end; larger ones get an index.
const UNINDEXED: usize = 16;

/// What readers see above the engine.
#[derive(Default)]
struct Layers {
    pending: Arc<Overlay>,
    in_flight: Option<Arc<Overlay>>,
    /// Number of batches taken by the flusher so far; `in_flight` is the last of them, or `None` once committed.
    taken: u64,
}

impl Layers {
    /// Newest first.
    fn list(&self) -> impl Iterator<Item = &Overlay> {
        [Some(&*self.pending), self.in_flight.as_deref()]
            .into_iter()
            .flatten()
    }

    fn get(&self, bucket: Bucket, key: &[u8]) -> Option<Option<Bytes>> {
        self.list()
            .find_map(|layer| layer.get(bucket, key))
            .map(|change| change.0.clone())
    }
}

/// Guarded by `Shared::state`; held for a publish, a hand-over or a request, never during a commit.
#[derive(Default)]
struct State {
    /// Same as the published `Layers::pending`.
    front: Arc<Overlay>,
    /// Last version but one of `front`: lacks `lag`. Invariant: `back` + `lag` == `front`.
    back: Arc<Overlay>,
    lag: Vec<Entry>,
    in_flight: Option<Arc<Overlay>>,
    taken: u64,
    /// Units published so far, and how many of them are durable.
    published: u64,
    durable: u64,
    /// Somebody waits for everything published.
    requested: bool,
    stop: Option<Stop>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// After a last commit.
    Flush,
    /// At once.
    Abandon,
}

impl State {
    fn layers(&self) -> Arc<Layers> {
        Arc::new(Layers {
            pending: self.front.clone(),
            in_flight: self.in_flight.clone(),
            taken: self.taken,
        })
    }

    fn unflushed(&self, measure: impl Fn(&Overlay) -> usize) -> usize {
        measure(&self.front) + self.in_flight.as_deref().map_or(0, measure)
    }
}

struct Shared {
    engine: Arc<dyn Backend>,
    options: WriterOptions,
    layers: ArcSwap<Layers>,
    state: Mutex<State>,
    /// The flusher waits here for work.
    work: Condvar,
    /// Committers and a blocked publish wait here for the flusher.
    progress: Condvar,
    /// Set once, before waiters are woken.
    failed: OnceLock<Error>,
}

impl Shared {
    fn check(&self) -> Result<(), Error> {
        self.failed.get().map_or(Ok(()), |e| Err(e.clone()))
    }

    fn fail(&self, error: Error) {
        // The first failure is the cause; later ones follow from it.
        let _ = self.failed.set(error);
        // Passing through the lock orders this after a waiter's check of `failed`, so none sleeps through it.
        drop(self.state.lock());
        self.progress.notify_all();
        self.work.notify_all();
    }

    fn due(&self, state: &State) -> bool {
        state.requested
            || state.stop.is_some()
            || state.front.len() >= self.options.batch_limit
            || state.front.bytes() >= BATCH_BYTES
    }

    fn crowded(&self, state: &State) -> bool {
        state.unflushed(Overlay::bytes) > MAX_UNFLUSHED_BYTES
            || state.unflushed(Overlay::len)
                > self
                    .options
                    .batch_limit
                    .saturating_mul(MAX_UNFLUSHED_BATCHES)
    }

    /// Waits until all that is published now is durable.
    fn commit(&self) -> Result<(), Error> {
        let mut state = self.state.lock();
        let target = state.published;
        loop {
            self.check()?;
            if state.durable >= target {
                return Ok(());
            }
            if state.stop == Some(Stop::Abandon) {
                return Err(Error::Closed);
            }
            state.requested = true;
            self.work.notify_one();
            self.progress.wait(&mut state);
        }
    }

    /// A consistent state of engine and layers.
    fn view(&self) -> Result<LayeredView, Error> {
        loop {
            let layers = self.layers.load_full();
            let base = self.engine.view()?;
            // A batch is announced in `taken` before the engine gets it. So with the same number before and after,
            // `base` holds at most the batch that `layers` has in flight, and no change is masked by an older one.
            if self.layers.load().taken == layers.taken {
                return Ok(LayeredView { layers, base });
            }
        }
    }
}

struct LayeredView {
    layers: Arc<Layers>,
    base: Arc<dyn View>,
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
        let shared = Arc::new(Shared {
            engine,
            options,
            layers: ArcSwap::default(),
            state: Mutex::default(),
            work: Condvar::new(),
            progress: Condvar::new(),
            failed: OnceLock::new(),
        });
        let flusher = thread::Builder::new()
            .name("backend-flusher".into())
            .spawn({
                let shared = shared.clone();
                move || Flusher { shared }.run()
            });
        let flusher = flusher
            .map_err(|e| shared.fail(Error::Thread(Arc::new(e))))
            .ok();
        let reader = Reader {
            shared: shared.clone(),
        };
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
    /// Waits for the flusher while far too much is unflushed (128 MiB, or 16 batches).
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
            shared.progress.wait(&mut state);
        }
        shared.check()?;

        let state = &mut *state;
        let idle = state.front.len() == 0;
        match Arc::get_mut(&mut state.back) {
            Some(back) => state
                .lag
                .drain(..)
                .chain(log.iter().cloned())
                .for_each(|e| back.insert(e)),
            None => {
                let mut copy = Overlay::clone(&state.front);
                log.iter().cloned().for_each(|e| copy.insert(e));
                state.back = Arc::new(copy);
                state.lag.clear();
            }
        }
        std::mem::swap(&mut state.front, &mut state.back);
        std::mem::swap(&mut state.lag, &mut log);
        self.unit.log = log; // empty, its allocation used again
        state.published += 1;
        shared.layers.store(state.layers());
        // The flusher's clock starts with the first pending change; then only a full batch is news to it.
        if idle || shared.due(state) {
            shared.work.notify_one();
        }
        Ok(())
    }

    /// Publishes, and returns once everything is durable.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.publish()?;
        self.shared.commit()
    }

    /// Commits everything and stops the flusher.
    pub fn close(mut self) -> Result<(), Error> {
        let published = self.publish();
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

/// Reads everything published, without ever waiting for the writer or the flusher.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
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
        self.shared.commit()
    }

    /// The failure that stopped the flusher.
    pub fn failed(&self) -> Option<Error> {
        self.shared.failed.get().cloned()
    }
}

/// The thread that commits.
struct Flusher {
    shared: Arc<Shared>,
}

impl Flusher {
    fn run(self) {
        let mut durable_index = self.stored_index();
        while let Some(batch) = self.next() {
            let committed = self.shared.engine.commit(&batch.overlay.to_batch());
            if let Err(error) = committed {
                return self.shared.fail(error);
            }
            durable_index = batch.consistent_index().or(durable_index);
            self.done(batch.published, durable_index);
        }
    }

    fn stored_index(&self) -> Option<u64> {
        // An engine that cannot be read will fail the first commit or the recovery; here it only means "unknown".
        let stored = self
            .shared
            .engine
            .get(Bucket::Meta, CONSISTENT_INDEX)
            .unwrap_or_default();
        consistent_index(stored.as_deref())
    }

    /// Waits for a batch and puts it in flight; `None` to stop.
    fn next(&self) -> Option<Taken> {
        let mut state = self.shared.state.lock();
        while state.front.len() == 0 {
            state.requested = false;
            if state.stop.is_some() {
                return None;
            }
            self.shared.work.wait(&mut state);
        }
        if !self.shared.due(&state) {
            self.wait_until_due(&mut state);
        }
        if state.stop == Some(Stop::Abandon) {
            return None;
        }
        state.requested = false;
        state.in_flight = Some(std::mem::take(&mut state.front));
        state.back = Arc::default();
        state.lag.clear();
        state.taken += 1;
        let published = state.published;
        self.shared.layers.store(state.layers());
        state
            .in_flight
            .clone()
            .map(|overlay| Taken { overlay, published })
    }

    fn wait_until_due(&self, state: &mut MutexGuard<'_, State>) {
        let interval = self.shared.options.batch_interval;
        if interval == Duration::MAX {
            while !self.shared.due(state) {
                self.shared.work.wait(state);
            }
        } else {
            // Woken early only when due: an idle publish cannot happen while something is pending.
            self.shared.work.wait_for(state, interval);
        }
    }

    fn done(&self, published: u64, durable_index: Option<u64>) {
        let mut state = self.shared.state.lock();
        state.in_flight = None;
        self.shared.layers.store(state.layers());
        drop(state);
        if let (Some(index), Some(on_durable)) = (durable_index, &self.shared.options.on_durable) {
            on_durable(index);
        }
        self.shared.state.lock().durable = published;
        self.shared.progress.notify_all();
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        if thread::panicking() {
            self.shared.fail(Error::Panicked);
        }
    }
}

/// A batch in flight, and the number of units published when it was taken.
struct Taken {
    overlay: Arc<Overlay>,
    published: u64,
}

impl Taken {
    fn consistent_index(&self) -> Option<u64> {
        let change = self.overlay.get(Bucket::Meta, CONSISTENT_INDEX)?;
        consistent_index(change.0.as_deref())
    }
}

fn consistent_index(stored: Option<&[u8]>) -> Option<u64> {
    let bytes = stored?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}
