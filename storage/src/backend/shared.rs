//! What writer, readers and flusher share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};

use super::layers::{LayeredView, Layers};
use super::overlay::{Entry, Overlay};
use super::{Backend, Error};
use crate::clock::{Clock, SystemClock};

/// Called by the flusher after a commit with the consistent index that is now durable. Must not wait for a commit.
pub type OnDurable = Arc<dyn Fn(u64) + Send + Sync>;

/// Called by the flusher after each successful commit. Must not wait for a commit.
pub type Observer = Arc<dyn Fn(Committed) + Send + Sync>;

/// A commit, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// How long the engine took.
    pub took: Duration,
    /// Number of keys put or deleted.
    pub keys: usize,
}

/// How batches are cut.
#[derive(Clone)]
pub struct WriterOptions {
    /// Longest wait of a published change for its commit. Default 100 ms. `Duration::MAX`: only the limits and
    /// explicit commits flush, for simulations that own time.
    pub batch_interval: Duration,
    /// No thread: commits happen in the calls that ask for them, in the caller's thread, so that a simulation
    /// repeats exactly. Default false.
    pub inline: bool,
    /// Touched keys after which a commit begins at once. Default 10,000.
    pub batch_limit: usize,
    /// Told what is durable; the raft log may be trimmed only below it.
    pub on_durable: Option<OnDurable>,
    /// Told of each commit.
    pub observe: Option<Observer>,
    /// Measures for `observe`, nothing else.
    pub clock: Arc<dyn Clock>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions {
            batch_interval: Duration::from_millis(100),
            inline: false,
            batch_limit: 10_000,
            on_durable: None,
            observe: None,
            clock: Arc::new(SystemClock),
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
const MAX_UNFLUSHED_BATCHES: usize = 4;

/// Guarded by `Shared::state`; held for a publish, a hand-over or a request, never during a commit.
#[derive(Default)]
pub(super) struct State {
    /// Same as the published `Layers::pending`.
    pub(super) front: Arc<Overlay>,
    /// Last version but one of `front`: lacks `lag`. Invariant: `back` + `lag` == `front`.
    pub(super) back: Arc<Overlay>,
    pub(super) lag: Vec<Entry>,
    pub(super) in_flight: Option<Arc<Overlay>>,
    pub(super) taken: u64,
    /// Units published so far, and how many of them are durable.
    pub(super) published: u64,
    pub(super) durable: u64,
    /// Somebody waits for everything published.
    pub(super) requested: bool,
    pub(super) stop: Option<Stop>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// After a last commit.
    Flush,
    /// At once.
    Abandon,
}

impl State {
    /// What is to be published.
    pub(super) fn layers(&self) -> Arc<Layers> {
        Arc::new(Layers {
            pending: self.front.clone(),
            in_flight: self.in_flight.clone(),
            taken: self.taken,
        })
    }

    /// Publishes `log` into `front`, and leaves an empty vector to be used again.
    pub(super) fn merge(&mut self, log: &mut Vec<Entry>) {
        match Arc::get_mut(&mut self.back) {
            Some(back) => {
                let new = log.iter().cloned();
                self.lag.drain(..).chain(new).for_each(|e| back.insert(e));
            }
            None => {
                let mut copy = Overlay::clone(&self.front);
                log.iter().cloned().for_each(|e| copy.insert(e));
                self.back = Arc::new(copy);
                self.lag.clear();
            }
        }
        std::mem::swap(&mut self.front, &mut self.back);
        std::mem::swap(&mut self.lag, log);
    }

    /// Puts all that is pending in flight.
    pub(super) fn take(&mut self) -> Arc<Overlay> {
        let taken = std::mem::take(&mut self.front);
        self.in_flight = Some(taken.clone());
        self.back = Arc::default();
        self.lag.clear();
        self.taken += 1;
        taken
    }

    fn unflushed(&self, measure: impl Fn(&Overlay) -> usize) -> usize {
        measure(&self.front) + self.in_flight.as_deref().map_or(0, measure)
    }
}

pub(super) struct Shared {
    pub(super) engine: Arc<dyn Backend>,
    pub(super) options: WriterOptions,
    pub(super) layers: ArcSwap<Layers>,
    pub(super) state: Mutex<State>,
    /// The flusher waits here for work.
    pub(super) work: Condvar,
    /// Committers and a blocked publish wait here for the flusher.
    pub(super) progress: Condvar,
    /// Set once, before waiters are woken.
    pub(super) failed: OnceLock<Error>,
}

impl Shared {
    pub(super) fn new(engine: Arc<dyn Backend>, options: WriterOptions) -> Self {
        Shared {
            engine,
            options,
            layers: ArcSwap::default(),
            state: Mutex::default(),
            work: Condvar::new(),
            progress: Condvar::new(),
            failed: OnceLock::new(),
        }
    }

    /// The failure, if there was one.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.failed.get().map_or(Ok(()), |e| Err(e.clone()))
    }

    /// Remembers `error` for ever and wakes everybody.
    pub(super) fn fail(&self, error: Error) {
        // The first failure is the cause; later ones follow from it.
        let _ = self.failed.set(error);
        // Passing through the lock orders this after a waiter's check of `failed`, so none sleeps through it.
        drop(self.state.lock());
        self.progress.notify_all();
        self.work.notify_all();
    }

    /// Whether the flusher should not wait any longer.
    pub(super) fn due(&self, state: &State) -> bool {
        state.requested
            || state.stop.is_some()
            || state.front.len() >= self.options.batch_limit
            || state.front.bytes() >= BATCH_BYTES
    }

    /// Whether a publish has to wait.
    pub(super) fn crowded(&self, state: &State) -> bool {
        state.unflushed(Overlay::bytes) > MAX_UNFLUSHED_BYTES
            || state.unflushed(Overlay::len) / MAX_UNFLUSHED_BATCHES > self.options.batch_limit
    }

    /// Waits until all that is published now is durable.
    pub(super) fn commit(&self) -> Result<(), Error> {
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
    pub(super) fn view(&self) -> Result<LayeredView, Error> {
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
