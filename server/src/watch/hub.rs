//! The hub: takes what the apply thread published and hands it to the streams that watch for it.
//!
//! Whoever holds its lock does a bounded amount of work in memory, and no writer ever waits for it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use retcd_storage::mvcc::{Change, StoreReader};
use tokio::sync::Semaphore;

use super::desk::{Desk, Desks};
use super::event::Unit;
use super::inbox::{Inbox, Item, Which};
use super::ring::{Batch, Ring};
use super::spec::{Index, Spec};
use crate::metrics::WatchMetrics;

/// Units handed out before the lock is given to others.
const UNITS_AT_ONCE: usize = if cfg!(test) { 3 } else { 64 };

/// Units kept for watchers that come from history, and their bytes. A watcher that is farther behind reads more
/// of history first.
const RECENT_UNITS: usize = if cfg!(test) { 6 } else { 1024 };
const RECENT_BYTES: usize = 8 << 20;

/// Stretches of history that are read at the same time, so that those who catch up leave the machine to others.
const READERS: usize = 2;

/// See the module.
pub(crate) struct Hub {
    ring: Ring,
    live: Mutex<Live>,
    serials: AtomicU64,
    desks: Desks,
    pub(super) store: StoreReader,
    /// Taken while a stretch of history is read.
    pub(super) readers: Arc<Semaphore>,
    pub(super) metrics: WatchMetrics,
}

/// A stream, as the hub knows it.
pub(super) type StreamId = usize;

/// What became of a watcher that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Added {
    /// The store's revision at that moment.
    pub(super) rev: i64,
    /// It gets events from the hub. Otherwise it has to read history first.
    pub(super) is_live: bool,
}

/// What became of a watcher that has read history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joined {
    /// It gets events from the hub, or hears from it that it fell behind again.
    Live,
    /// It goes on in history at this revision.
    Behind(i64),
}

/// A live watcher in the index.
struct Entry {
    stream: StreamId,
    serial: u64,
    /// Older events are not for it.
    from: i64,
    spec: Arc<Spec>,
}

struct Stream {
    inbox: Arc<Inbox>,
    desk: Arc<Desk>,
    /// Its live watchers.
    watchers: HashMap<u64, (Arc<Spec>, i64)>,
    /// How many others it has, which read history.
    behind: usize,
    /// Not in the inbox yet.
    outgoing: VecDeque<Item>,
    /// Progress was asked for when the store, but not the hub, had this revision.
    progress: Option<i64>,
}

#[derive(Default)]
struct Live {
    closed: bool,
    /// Everything up to here was handed out.
    at: i64,
    index: Index<Entry>,
    streams: Vec<Option<Stream>>,
    free: Vec<StreamId>,
    /// Watchers, live or not.
    watchers: usize,
    /// The last units, without a gap up to `at`.
    recent: VecDeque<Arc<Unit>>,
    recent_bytes: usize,
    /// Streams with something in `outgoing` or `progress`.
    dirty: Vec<StreamId>,
    /// For [`Live::hand_out`].
    matches: Vec<(StreamId, u64, u32)>,
}

impl Hub {
    /// A hub over a store, and its thread.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub(crate) fn start(
        store: StoreReader,
        metrics: WatchMetrics,
    ) -> io::Result<(Arc<Self>, JoinHandle<()>)> {
        let hub = Arc::new(Self::new(store, metrics));
        let thread = thread::Builder::new().name("watch".into()).spawn({
            let hub = hub.clone();
            move || while hub.work() {}
        })?;
        Ok((hub, thread))
    }

    pub(super) fn new(store: StoreReader, metrics: WatchMetrics) -> Self {
        Self {
            ring: Ring::new(store.rev()),
            live: Mutex::default(),
            serials: AtomicU64::new(0),
            desks: Desks::default(),
            store,
            readers: Arc::new(Semaphore::new(READERS)),
            metrics,
        }
    }

    /// Told by the apply thread after every publication: what changed since the last one, and the revision now.
    /// Changes that do not lead up to that revision are taken for lost; watchers then find them in history.
    pub(crate) fn publish(&self, changes: Vec<Change>, rev: i64) {
        self.ring.publish(changes, rev);
    }

    /// Ends all streams and the thread.
    pub(crate) fn close(&self) {
        self.ring.close();
        let mut live = self.live.lock();
        live.closed = true;
        for stream in live.streams.iter().flatten() {
            stream.inbox.close();
        }
    }

    /// Waits for what was published and hands it out; `false` when closed.
    fn work(&self) -> bool {
        let Some(batches) = self.ring.wait() else {
            return false;
        };
        for batch in batches {
            self.take_in(batch);
        }
        true
    }

    /// Hands out what was published.
    #[cfg(test)]
    pub(super) fn work_now(&self) {
        for batch in self.ring.take() {
            self.take_in(batch);
        }
    }

    fn take_in(&self, batch: Batch) {
        let Batch { from, to, changes } = batch;
        let complete = changes.last().is_some_and(|last| last.revision.main == to);
        let mut units = Unit::split(changes).into_iter();
        let mut live = self.live.lock();
        if from > live.at {
            self.skip(&mut live, from);
        }
        if !complete && !planted!(LossUnnoticed) {
            self.skip(&mut live, to);
        }
        loop {
            for unit in units.by_ref().take(UNITS_AT_ONCE) {
                live.hand_out(unit);
            }
            self.flush(&mut live);
            if units.len() == 0 {
                return;
            }
            parking_lot::MutexGuard::bump(&mut live);
        }
    }

    /// Events up to `rev` are lost: whoever watches for them has to read history. Whoever waits for later ones is
    /// not concerned (W1, W2: next revisions only rise).
    fn skip(&self, live: &mut Live, rev: i64) {
        self.flush(live);
        let next = live.at + 1;
        if rev < next {
            return;
        }
        live.at = rev;
        live.recent.clear();
        live.recent_bytes = 0;
        for id in 0..live.streams.len() {
            let Some(stream) = &live.streams[id] else {
                continue;
            };
            let watchers = stream.watchers.iter();
            let lost: Vec<_> = watchers
                .filter(|(_, (_, from))| *from <= rev)
                .map(|(serial, (_, from))| (*serial, next.max(*from)))
                .collect();
            for (serial, next) in lost {
                self.fall(live, id, serial, next);
            }
        }
    }

    /// A live watcher falls behind.
    fn fall(&self, live: &mut Live, id: StreamId, serial: u64, next: i64) {
        live.remove(id, serial);
        if let Some(stream) = live.streams.get_mut(id).and_then(Option::as_mut) {
            stream.behind += 1;
            stream.inbox.force(Item::Fell { serial, next });
            self.metrics.slow.inc();
            self.metrics.fell.inc();
        }
    }

    /// Moves what is outgoing into the inboxes.
    fn flush(&self, live: &mut Live) {
        let mut desks: Vec<Arc<Desk>> = Vec::new();
        for id in std::mem::take(&mut live.dirty) {
            let at = live.at;
            let Some(stream) = live.streams.get_mut(id).and_then(Option::as_mut) else {
                continue;
            };
            let events: usize = stream.outgoing.iter().map(Item::events).sum();
            let watchers = stream.watchers.len();
            if stream.inbox.fill(&mut stream.outgoing, watchers) {
                stream.desk.leave(&stream.inbox);
                if !desks.iter().any(|desk| Arc::ptr_eq(desk, &stream.desk)) {
                    desks.push(stream.desk.clone());
                }
            }
            let left = std::mem::take(&mut stream.outgoing);
            let lost: usize = left.iter().map(Item::events).sum();
            self.metrics.pending.add((events - lost) as i64);
            let mut fallen = HashMap::new();
            for item in left {
                if let Item::Events { serial, unit, .. } = item {
                    let next = fallen.entry(serial).or_insert(unit.rev);
                    if planted!(FallsTooFar) {
                        *next = unit.rev;
                    }
                }
            }
            if let Some(asked) = stream.progress.take_if(|asked| *asked <= at) {
                debug_assert!(asked <= at);
                if fallen.is_empty() && stream.behind == 0 && !stream.inbox.is_full() {
                    stream.inbox.force(Item::Progress { serial: None, at });
                }
            } else if stream.progress.is_some() {
                live.dirty.push(id);
            }
            for (serial, next) in fallen {
                self.fall(live, id, serial, next);
            }
        }
        desks.iter().for_each(|desk| desk.ring());
    }

    /// A new stream, of the runtime that this is called in.
    pub(super) fn open(&self, inbox: Arc<Inbox>) -> StreamId {
        let mut live = self.live.lock();
        if live.closed {
            inbox.close();
        }
        let stream = Some(Stream {
            inbox,
            desk: self.desks.here(),
            watchers: HashMap::new(),
            behind: 0,
            outgoing: VecDeque::new(),
            progress: None,
        });
        self.metrics.streams.inc();
        if let Some(id) = live.free.pop() {
            live.streams[id] = stream;
            return id;
        }
        live.streams.push(stream);
        live.streams.len() - 1
    }

    /// The end of a stream and all its watchers. Of its inbox `unsent` events were taken and not sent.
    pub(super) fn end(&self, id: StreamId, unsent: usize) {
        let mut live = self.live.lock();
        let Some(stream) = live.streams.get_mut(id).and_then(Option::take) else {
            return;
        };
        for (serial, (spec, _)) in &stream.watchers {
            live.index.remove(&spec.keys, |e| e.serial == *serial);
        }
        live.free.push(id);
        let mut left = VecDeque::new();
        stream.inbox.take(&mut left);
        let unsent = unsent + left.iter().map(Item::events).sum::<usize>();
        self.metrics.pending.sub(unsent as i64);
        self.metrics.streams.dec();
        self.metrics.slow.sub(stream.behind as i64);
        self.forget(&mut live, stream.watchers.len() + stream.behind);
    }

    fn forget(&self, live: &mut Live, watchers: usize) {
        live.watchers -= watchers;
        self.metrics.watchers.sub(watchers as i64);
        if live.watchers == 0 {
            self.ring.ignore();
            live.recent.clear();
            live.recent_bytes = 0;
        }
    }

    /// A number for a watcher that no other has.
    pub(super) fn serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::Relaxed)
    }

    /// A new watcher.
    pub(super) fn add(&self, id: StreamId, serial: u64, spec: &Arc<Spec>) -> Added {
        let mut live = self.live.lock();
        if live.watchers == 0 {
            // Older events are not for anybody who comes from now on.
            live.at = self.ring.listen();
        }
        // Under the lock: the hub cannot go beyond it meanwhile.
        let rev = self.store.rev();
        let is_live = spec.start == 0 || spec.start > rev;
        live.watchers += 1;
        self.metrics.watchers.inc();
        if is_live {
            live.insert(id, serial, spec, spec.start.max(rev + 1));
        } else if let Some(stream) = live.streams.get_mut(id).and_then(Option::as_mut) {
            stream.behind += 1;
            self.metrics.slow.inc();
        }
        Added { rev, is_live }
    }

    /// A watcher has read history up to and without `next`. It gets the rest from the hub if there is no gap.
    pub(super) fn join(&self, id: StreamId, serial: u64, spec: &Arc<Spec>, next: i64) -> Joined {
        let mut live = self.live.lock();
        let mut missed = VecDeque::new();
        let skipped = match (next <= live.at, live.recent.front()) {
            (false, _) => live.recent.len(),
            (true, Some(first)) if first.rev <= next => (next - first.rev) as usize,
            (true, _) => return Joined::Behind(next),
        };
        let skipped = skipped + usize::from(planted!(HandOverDrops));
        let skipped = skipped.saturating_sub(usize::from(planted!(HandOverRepeats)));
        for unit in live.recent.iter().skip(skipped) {
            missed.extend(spec.pick(serial, unit));
        }
        let Some(stream) = live.streams.get_mut(id).and_then(Option::as_mut) else {
            return Joined::Behind(next);
        };
        let events: usize = missed.iter().map(Item::events).sum();
        if stream.inbox.fill(&mut missed, stream.watchers.len()) {
            stream.inbox.wake();
        }
        let left: usize = missed.iter().map(Item::events).sum();
        self.metrics.pending.add((events - left) as i64);
        if let Some(Item::Events { unit, .. }) = missed.front() {
            // Behind what did fit: what is read from history is sent before what is in the inbox.
            let next = unit.rev;
            stream.inbox.force(Item::Fell { serial, next });
            self.metrics.fell.inc();
            return Joined::Live;
        }
        stream.behind -= 1;
        self.metrics.slow.dec();
        self.metrics.joined.inc();
        let from = next.max(live.at + 1);
        live.insert(id, serial, spec, from);
        Joined::Live
    }

    /// The end of a watcher.
    pub(super) fn remove(&self, id: StreamId, serial: u64) {
        let mut live = self.live.lock();
        if !live.remove(id, serial)
            && let Some(stream) = live.streams.get_mut(id).and_then(Option::as_mut)
        {
            stream.behind -= 1;
            self.metrics.slow.dec();
        }
        self.forget(&mut live, 1);
    }

    /// Sends progress on behalf of all watchers of a stream, if all are up to date.
    pub(super) fn progress_of_all(&self, id: StreamId) {
        let mut guard = self.live.lock();
        let live = &mut *guard;
        let (at, rev) = (live.at, self.store.rev());
        let Some(stream) = live.streams.get_mut(id).and_then(Option::as_mut) else {
            return;
        };
        let early = stream.watchers.values().any(|(spec, _)| spec.start > rev);
        if stream.watchers.is_empty() || stream.behind > 0 || early || stream.inbox.is_full() {
            return;
        }
        if at >= rev || planted!(ProgressTooEarly) {
            let at = at.max(rev);
            stream.inbox.force(Item::Progress { serial: None, at });
        } else {
            // The hub is about to take in what the store has already.
            stream.progress = Some(rev);
            live.dirty.push(id);
        }
    }

    /// Sends progress to those of some watchers that are up to date.
    pub(super) fn progress_of(&self, id: StreamId, serials: impl Iterator<Item = u64>) {
        let live = self.live.lock();
        let at = live.at;
        let Some(stream) = live.streams.get(id).and_then(Option::as_ref) else {
            return;
        };
        for serial in serials {
            let Some((spec, _)) = stream.watchers.get(&serial) else {
                continue;
            };
            if spec.start <= at && !stream.inbox.is_full() {
                let serial = Some(serial);
                stream.inbox.force(Item::Progress { serial, at });
            }
        }
    }
}

impl Live {
    fn insert(&mut self, stream: StreamId, serial: u64, spec: &Arc<Spec>, from: i64) {
        if let Some(Some(known)) = self.streams.get_mut(stream) {
            known.watchers.insert(serial, (spec.clone(), from));
            let entry = Entry {
                stream,
                serial,
                from,
                spec: spec.clone(),
            };
            self.index.insert(&spec.keys, entry);
        }
    }

    /// Removes a live watcher; `false` if there is none.
    fn remove(&mut self, stream: StreamId, serial: u64) -> bool {
        let stream = self.streams.get_mut(stream).and_then(Option::as_mut);
        let removed = stream.and_then(|stream| stream.watchers.remove(&serial));
        let Some((spec, _)) = removed else {
            return false;
        };
        self.index.remove(&spec.keys, |e| e.serial == serial);
        true
    }

    /// Puts a unit into the `outgoing` of everybody it is for.
    fn hand_out(&mut self, unit: Unit) {
        if unit.rev <= self.at {
            return;
        }
        self.at = unit.rev;
        let unit = Arc::new(unit);
        let mut matches = std::mem::take(&mut self.matches);
        for (n, event) in unit.events.iter().enumerate() {
            let is_delete = event.change.is_delete();
            self.index.find(&event.change.key, |entry| {
                if entry.from <= unit.rev && entry.spec.filter.admits(is_delete) {
                    matches.push((entry.stream, entry.serial, n as u32));
                }
            });
        }
        if unit.events.len() > 1 {
            matches.sort_unstable();
        }
        let mut numbers = Vec::new();
        let together = !planted!(RevisionSplit);
        for group in matches.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1) && together) {
            let (id, serial, _) = group[0];
            numbers.clear();
            numbers.extend(group.iter().map(|(_, _, n)| *n));
            let Some(Some(stream)) = self.streams.get_mut(id) else {
                continue;
            };
            if stream.outgoing.is_empty() {
                self.dirty.push(id);
            }
            stream.outgoing.push_back(Item::Events {
                serial,
                unit: unit.clone(),
                which: Which::of(&numbers),
                at: unit.rev,
            });
        }
        matches.clear();
        self.matches = matches;
        self.remember(unit);
    }

    fn remember(&mut self, unit: Arc<Unit>) {
        self.recent_bytes += unit.weight();
        self.recent.push_back(unit);
        while self.recent.len() > RECENT_UNITS || self.recent_bytes > RECENT_BYTES {
            let Some(oldest) = self.recent.pop_front() else {
                return;
            };
            self.recent_bytes -= oldest.weight();
        }
    }
}

impl Spec {
    /// The events of a unit that are for this watcher.
    pub(super) fn pick(&self, serial: u64, unit: &Arc<Unit>) -> Option<Item> {
        let events = unit.events.iter().zip(0u32..);
        let mine = events.filter(|(event, _)| {
            self.keys.contain(&event.change.key) && self.filter.admits(event.change.is_delete())
        });
        let mine: Vec<u32> = mine.map(|(_, n)| n).collect();
        (!mine.is_empty()).then(|| Item::Events {
            serial,
            which: Which::of(&mine),
            at: unit.rev,
            unit: unit.clone(),
        })
    }
}
