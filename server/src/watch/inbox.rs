//! What the hub has for one stream, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::event::{Event, Unit};

/// Items that may wait for a stream, or [`ROUNDS`] for each of its watchers if that is more, and the bytes of
/// their units (which streams share). When it is full, the watchers that more is for fall behind: they read on
/// from history when their client reads again.
// Small under test, so that it is full often.
const MAX_ITEMS: usize = if cfg!(test) { 5 } else { 1024 };
const MAX_BYTES: usize = 512 << 10;
const ROUNDS: usize = 2;

/// One step of a watcher, known by its serial number.
#[derive(Debug)]
pub(super) enum Item {
    /// Events of one revision.
    Events {
        serial: u64,
        unit: Arc<Unit>,
        which: Which,
        /// The store's revision for the header; not below that of the events.
        at: i64,
    },
    /// The watcher gets no more from the hub: it must read on from history at `next`.
    Fell { serial: u64, next: i64 },
    /// Everything up to `at` was sent before: of one watcher, or of all.
    Progress { serial: Option<u64>, at: i64 },
}

/// Events of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Which {
    One(u32),
    Some(Box<[u32]>),
}

impl Which {
    /// `events` ascend, and there is at least one.
    pub(super) fn of(events: &[u32]) -> Self {
        match events {
            [one] => Self::One(*one),
            some => Self::Some(some.into()),
        }
    }

    pub(super) fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Some(some) => some,
        }
    }
}

impl Item {
    pub(super) fn events(&self) -> usize {
        match self {
            Self::Events { which, .. } => which.as_slice().len(),
            _ => 0,
        }
    }

    /// The revision for the header of a reply with these events.
    pub(super) fn at(&self) -> i64 {
        match self {
            Self::Events { at, .. } => *at,
            _ => 0,
        }
    }

    /// Its events.
    pub(super) fn each(&self) -> impl Iterator<Item = &Event> {
        let (unit, which) = match self {
            Self::Events { unit, which, .. } => (Some(unit), which.as_slice()),
            _ => (None, &[][..]),
        };
        let events = unit.map_or(&[][..], |unit| &unit.events);
        which.iter().filter_map(|at| events.get(*at as usize))
    }

    /// Whether both are events of the same unit.
    fn shares(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Events { unit: one, .. }, Self::Events { unit: other, .. }) => {
                Arc::ptr_eq(one, other)
            }
            _ => false,
        }
    }

    pub(super) fn weight(&self) -> usize {
        self.each().map(|event| event.change.weight()).sum()
    }
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    watchers: usize,
    closed: bool,
}

impl State {
    fn is_full(&self) -> bool {
        self.items.len() >= MAX_ITEMS.max(self.watchers * ROUNDS) || self.bytes >= MAX_BYTES
    }

    fn push(&mut self, item: Item) {
        // Many watchers of a stream may get the same unit.
        if !self.items.back().is_some_and(|last| last.shares(&item)) {
            self.bytes += item.weight();
        }
        self.items.push_back(item);
    }
}

/// The queue between hub and stream.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    filled: Notify,
}

impl Inbox {
    /// Moves items in as long as there is room, whatever their size if it is empty. The rest stays in `items`.
    /// `watchers`: how many the stream has. True: the stream has to be woken.
    #[must_use]
    pub(super) fn fill(&self, items: &mut VecDeque<Item>, watchers: usize) -> bool {
        let mut state = self.state.lock();
        state.watchers = watchers;
        let was_empty = state.items.is_empty();
        while !state.is_full()
            && let Some(item) = items.pop_front()
        {
            state.push(item);
        }
        was_empty && !state.items.is_empty()
    }

    /// Wakes the stream.
    pub(super) fn wake(&self) {
        self.filled.notify_one();
    }

    /// Adds an item that must not be lost; there is at most one for each watcher.
    pub(super) fn force(&self, item: Item) {
        let mut state = self.state.lock();
        let was_empty = state.items.is_empty();
        state.items.push_back(item);
        drop(state);
        if was_empty {
            self.wake();
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.state.lock().is_full()
    }

    /// Takes everything; `false` when the service has stopped.
    pub(super) fn take(&self, into: &mut VecDeque<Item>) -> bool {
        let mut state = self.state.lock();
        if into.is_empty() {
            std::mem::swap(&mut state.items, into);
        } else {
            into.append(&mut state.items);
        }
        state.bytes = 0;
        !state.closed
    }

    /// Waits until there may be something to take.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wake();
    }
}
