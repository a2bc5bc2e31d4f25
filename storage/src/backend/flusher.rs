//! The thread that commits.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::MutexGuard;

use super::overlay::Overlay;
use super::shared::{Committed, Shared, State, Stop};
use super::{Bucket, CONSISTENT_INDEX, Error};

/// Between two steps of giving space back while nothing else happens: at most 10 MiB a second are moved.
const TIDY_PAUSE: Duration = Duration::from_millis(100);

/// Runs on its own thread until the writer is gone or a commit fails.
pub(super) struct Flusher {
    shared: Arc<Shared>,
    /// The engine has space to give back.
    untidy: bool,
}

impl Flusher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Flusher {
            shared,
            // A database is not changed before something is committed to it.
            untidy: false,
        }
    }

    pub(super) fn run(mut self) {
        if let Err(error) = self.work() {
            self.shared.fail(error);
        }
    }

    fn work(&mut self) -> Result<(), Error> {
        let mut durable_index = self.stored_index();
        while let Some(batch) = self.next()? {
            self.commit(&batch.overlay)?;
            durable_index = batch.consistent_index().or(durable_index);
            self.done(batch.published, durable_index);
            self.untidy = self.shared.engine.tidy()?;
        }
        Ok(())
    }

    /// Commits all that is pending, in this thread.
    pub(super) fn drain(&mut self) -> Result<(), Error> {
        self.shared.check()?;
        let shared = self.shared.clone();
        loop {
            let mut state = shared.state.lock();
            if state.front.len() == 0 {
                return Ok(());
            }
            let overlay = state.take();
            shared.layers.store(state.layers());
            let published = state.published;
            drop(state);
            self.commit(&overlay)?;
            let batch = Taken { overlay, published };
            self.done(published, batch.consistent_index());
            self.shared.engine.tidy()?;
        }
    }

    fn commit(&self, overlay: &Overlay) -> Result<(), Error> {
        let options = &self.shared.options;
        let begin = options.clock.now();
        self.shared.engine.commit(&overlay.to_batch())?;
        if let Some(observe) = &options.observe {
            let took = options.clock.now().saturating_sub(begin);
            observe(Committed {
                took,
                keys: overlay.len(),
            });
        }
        Ok(())
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

    /// Waits for a batch and puts it in flight; `None` to stop. Tidies up meanwhile.
    fn next(&mut self) -> Result<Option<Taken>, Error> {
        let shared = self.shared.clone();
        let mut state = shared.state.lock();
        while state.front.len() == 0 {
            state.requested = false;
            if state.stop.is_some() {
                return Ok(None);
            }
            // Whoever owns time wants no work that it did not ask for.
            if !self.untidy || shared.options.batch_interval == Duration::MAX {
                shared.work.wait(&mut state);
            } else if shared.work.wait_for(&mut state, TIDY_PAUSE).timed_out() {
                self.untidy = MutexGuard::unlocked(&mut state, || shared.engine.tidy())?;
            }
        }
        if !self.shared.due(&state) {
            self.wait_until_due(&mut state);
        }
        if state.stop == Some(Stop::Abandon) {
            return Ok(None);
        }
        state.requested = false;
        let overlay = state.take();
        shared.layers.store(state.layers());
        Ok(Some(Taken {
            overlay,
            published: state.published,
        }))
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
        // Nobody else would wake those who wait for a commit that will not come.
        self.shared.progress.notify_all();
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
