//! What the apply thread leaves for the hub. The only thing of the watch service that a writer touches.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};
use retcd_storage::mvcc::Change;

/// Changes that may wait for the hub, and their bytes. When it is full, all of it is thrown away: the hub sees the
/// gap, and every watcher reads on from history.
const MAX_CHANGES: usize = if cfg!(test) { 20 } else { 100_000 };
const MAX_BYTES: usize = 64 << 20;

/// What was published at once.
#[derive(Debug)]
pub(super) struct Batch {
    /// The store's revision before and after.
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) changes: Vec<Change>,
}

#[derive(Debug, Default)]
struct State {
    /// The newest published revision.
    head: i64,
    /// Somebody watches; otherwise nothing is kept.
    listening: bool,
    closed: bool,
    /// The hub sleeps.
    idle: bool,
    batches: VecDeque<Batch>,
    changes: usize,
    bytes: usize,
}

impl State {
    fn clear(&mut self) {
        drop(self.take());
    }

    fn take(&mut self) -> VecDeque<Batch> {
        (self.changes, self.bytes) = (0, 0);
        std::mem::take(&mut self.batches)
    }
}

/// A bounded queue. Its lock is held for some instructions only.
#[derive(Debug)]
pub(super) struct Ring {
    state: Mutex<State>,
    filled: Condvar,
}

impl Ring {
    /// A ring for a store at revision `head`.
    pub(super) fn new(head: i64) -> Self {
        let state = State {
            head,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            filled: Condvar::new(),
        }
    }

    /// Told by the apply thread after it published revision `head`.
    pub(super) fn publish(&self, changes: Vec<Change>, head: i64) {
        let mut state = self.state.lock();
        let from = std::mem::replace(&mut state.head, head);
        if from == head || !state.listening {
            return;
        }
        if state.changes >= MAX_CHANGES || state.bytes >= MAX_BYTES {
            state.clear();
        }
        state.changes += changes.len();
        state.bytes += changes.iter().map(Change::weight).sum::<usize>();
        state.batches.push_back(Batch {
            from,
            to: head,
            changes,
        });
        if std::mem::take(&mut state.idle) {
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Waits for batches; `None` when the ring is closed.
    pub(super) fn wait(&self) -> Option<VecDeque<Batch>> {
        let mut state = self.state.lock();
        while state.batches.is_empty() && !state.closed {
            state.idle = true;
            self.filled.wait(&mut state);
        }
        (!state.closed).then(|| state.take())
    }

    /// The batches that are there.
    #[cfg(test)]
    pub(super) fn take(&self) -> VecDeque<Batch> {
        self.state.lock().take()
    }

    /// From now on batches are kept; returns the revision after which the first one comes.
    pub(super) fn listen(&self) -> i64 {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.listening, true) {
            state.clear();
        }
        state.head
    }

    /// Nobody watches any more.
    pub(super) fn ignore(&self) {
        let mut state = self.state.lock();
        state.listening = false;
        state.clear();
    }

    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.clear();
        drop(state);
        self.filled.notify_all();
    }
}
