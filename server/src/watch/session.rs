//! One watch stream: requests in, replies out.
//!
//! It lives on the thread of its connection and is only asked for a reply when its client has room for one. So a
//! client that does not read costs what its inbox holds.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{FutureExt as _, Stream, StreamExt as _, future};
use prost::Message as _;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::watch_request::RequestUnion;
use retcd_proto::reply::WatchReply;
use retcd_storage::mvcc;
use slog::{error, info};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::Host;
use super::batch::{Batch, event_len};
use super::catch_up::{self, Read, Reader};
use super::hub::{Hub, Joined, StreamId};
use super::inbox::{Inbox, Item};
use super::reply::{NO_WATCHER, fragments};
use super::spec::{Filter, Keys, Spec};
use crate::error::Error;
use crate::metrics::WatchMetrics;

/// Replies to requests that may wait; with so many of them no more requests are read.
const MAX_CONTROL: usize = 16;

/// Replies that are there are sent together as long as they have fewer bytes.
const FULL_BATCH: usize = if cfg!(test) { 200 } else { 32 << 10 };

/// Replies that a busy stream sends before it looks for requests and the like again.
const ATTENTION: usize = if cfg!(test) { 2 } else { 16 };

/// Revisions of one watcher that are sent as one reply, as many as etcd sends, and the bytes beyond which no
/// further one is added.
const MAX_REVISIONS: usize = if cfg!(test) { 3 } else { 1000 };
const MAX_BYTES: usize = 256 << 10;

/// What a reply has besides its events, at most.
const HEAD_BYTES: usize = 64;

/// Completes when there was no leader for too long.
pub(crate) type Lost = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A stream of requests.
pub(crate) type Requests<E> = Pin<Box<dyn Stream<Item = Result<pb::WatchRequest, E>> + Send>>;

/// A watcher of the stream.
struct Watch {
    serial: u64,
    spec: Arc<Spec>,
    fragment: bool,
    /// `progress_notify`: whether the next tick is due, since no events were sent after the last one.
    progress: Option<bool>,
    state: State,
}

impl Watch {
    /// Whether everything up to `rev` was sent, given that it was to the others.
    fn has_all(&self, rev: i64) -> bool {
        match self.state {
            State::Live => self.spec.start <= rev,
            State::Behind(_) => false,
            State::Compacted => true,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    /// Reads history at this revision.
    Behind(i64),
    /// Cancelled by the server. As in etcd its id stays in use until the client cancels it too.
    Compacted,
}

/// See the module.
pub(crate) struct Session<H: Host, E> {
    /// Not to keep the member, and its files, open while a stream is idle.
    member: Weak<H>,
    id: StreamId,
    inbox: Arc<Inbox>,
    /// `None` when the client has closed its side. Its watchers live on, as in etcd.
    requests: Option<Requests<E>>,
    watches: BTreeMap<i64, Watch>,
    ids: HashMap<u64, i64>,
    /// Where to look for an id that nobody has.
    next_id: i64,
    /// Replies to requests; they come first.
    control: VecDeque<WatchReply>,
    /// Fragments of the reply that is being sent.
    fragments: VecDeque<WatchReply>,
    /// Events from history; they come before those of the inbox.
    history: VecDeque<Item>,
    /// Taken from the inbox.
    taken: VecDeque<Item>,
    /// Watchers that are behind, in the order of their turns.
    behind: VecDeque<i64>,
    reading: Option<(Reading, Vec<Reader>)>,
    ticks: Interval,
    /// Replies since it last looked around.
    unattended: usize,
    /// Completes when there was no leader for too long.
    lost: Lost,
    /// Replies that go out next.
    out: Batch,
    /// Of the reply that is being made; empty otherwise.
    items: Vec<Item>,
    head: Head,
    burst: Burst,
    failure: Option<E>,
    ended: bool,
}

/// The encoded header of replies of one revision.
#[derive(Default)]
struct Head {
    revision: Option<i64>,
    bytes: Vec<u8>,
}

impl Head {
    fn at(&mut self, member: &impl Host, revision: i64) -> &[u8] {
        if self.revision != Some(revision) {
            self.revision = Some(revision);
            self.bytes.clear();
            let header = member.header_at(revision);
            header
                .encode(&mut self.bytes)
                .expect("the buffer grows as needed");
        }
        &self.bytes
    }
}

/// What the metrics are to hear of the replies of a batch. Looking at the clock for each would cost as much as they do.
#[derive(Default)]
struct Burst {
    replies: usize,
    events: usize,
    /// Events out of the inbox, sent or not.
    live: usize,
}

impl Burst {
    fn tell(&mut self, metrics: &WatchMetrics, took: Duration) {
        let Self {
            replies,
            events,
            live,
        } = std::mem::take(self);
        if live > 0 {
            metrics.pending.sub(live as i64);
        }
        if replies == 0 {
            return;
        }
        metrics.events.inc_by(events as u64);
        let took = took.as_secs_f64();
        let (reply, by_event) = (metrics.reply.local(), metrics.reply_by_event.local());
        for _ in 0..replies {
            reply.observe(took / replies as f64);
            by_event.observe(took / events.max(1) as f64);
        }
        reply.flush();
        by_event.flush();
    }
}

impl<H: Host, E: From<Error> + Send + 'static> Session<H, E> {
    /// A stream without watchers.
    pub(crate) fn open(
        member: &Arc<H>,
        requests: Requests<E>,
        require_leader: bool,
    ) -> impl Stream<Item = Result<Batch, E>> + Send + use<H, E> {
        let inbox = Arc::new(Inbox::default());
        let period = with_jitter(member.progress_interval());
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let session = Self {
            member: Arc::downgrade(member),
            id: member.hub().open(inbox.clone()),
            inbox,
            requests: Some(requests),
            watches: BTreeMap::new(),
            ids: HashMap::new(),
            next_id: 0,
            control: VecDeque::new(),
            fragments: VecDeque::new(),
            history: VecDeque::new(),
            taken: VecDeque::new(),
            behind: VecDeque::new(),
            reading: None,
            ticks,
            unattended: ATTENTION,
            lost: match require_leader {
                true => member.without_leader(),
                false => Box::pin(future::pending()),
            },
            out: Batch::default(),
            items: Vec::new(),
            head: Head::default(),
            burst: Burst::default(),
            failure: None,
            ended: false,
        };
        futures_util::stream::unfold(Box::new(session), |mut session| async {
            let batch = session.next().await?;
            Some((batch, session))
        })
    }

    /// The next replies; none after an error.
    async fn next(&mut self) -> Option<Result<Batch, E>> {
        loop {
            if !self.ended {
                let filled = self.fill();
                self.note(filled);
            }
            if !self.out.is_empty() {
                return Some(Ok(self.out.take()));
            }
            if self.ended {
                return self.failure.take().map(Err);
            }
            let waited = self.wait().await;
            self.note(waited);
        }
    }

    fn note(&mut self, outcome: Result<(), E>) {
        if let Err(failure) = outcome {
            self.failure = Some(failure);
            self.ended = true;
        }
    }

    /// Makes the replies that can be made.
    fn fill(&mut self) -> Result<(), E> {
        let started = Instant::now();
        let member = self.member()?;
        // The term may be another one by now.
        self.head.revision = None;
        let made = self.make(&member);
        self.burst.tell(&member.hub().metrics, started.elapsed());
        made
    }

    fn make(&mut self, member: &Arc<H>) -> Result<(), E> {
        while self.out.len() < FULL_BATCH {
            // Clients put fragments together as they come: nothing may get between them.
            if let Some(fragment) = self.fragments.pop_front() {
                self.out.push(&fragment);
                continue;
            }
            if self.unattended >= ATTENTION {
                self.look_around()?;
            }
            self.unattended += 1;
            if let Some(reply) = self.control.pop_front() {
                self.out.push(&reply);
                continue;
            }
            if self.next_events(member)? {
                continue;
            }
            // Nothing to send: before it waits, it looks once more.
            if self.unattended <= 1 {
                return Ok(());
            }
            self.unattended = ATTENTION;
        }
        Ok(())
    }

    /// Waits until something happens.
    async fn wait(&mut self) -> Result<(), E> {
        let room = self.control.len() < MAX_CONTROL;
        tokio::select! {
            biased;
            request = next_request(&mut self.requests), if room => self.requested(request)?,
            () = self.inbox.filled() => {}
            read = reading(&mut self.reading) => self.read(read?)?,
            _ = self.ticks.tick() => self.tick()?,
            () = &mut self.lost => return Err(Error::NoLeader.into()),
        }
        Ok(())
    }

    /// Takes note of all that has happened, without waiting.
    fn look_around(&mut self) -> Result<(), E> {
        self.unattended = 0;
        while self.control.len() < MAX_CONTROL && self.requests.is_some() {
            let Some(request) = next_request(&mut self.requests).now_or_never() else {
                break;
            };
            self.requested(request)?;
        }
        if let Some(read) = reading(&mut self.reading).now_or_never() {
            self.read(read?)?;
        }
        if self.ticks.tick().now_or_never().is_some() {
            self.tick()?;
        }
        self.begin_reading()
    }

    fn member(&self) -> Result<Arc<H>, E> {
        self.member.upgrade().ok_or_else(|| Error::Stopped.into())
    }

    fn requested(&mut self, request: Option<Result<pb::WatchRequest, E>>) -> Result<(), E> {
        let Some(request) = request else {
            self.requests = None;
            return Ok(());
        };
        let member = self.member()?;
        let timer = &member.hub().metrics.control;
        match request?.request_union {
            Some(RequestUnion::CreateRequest(r)) => {
                timer.observe_closure_duration(|| self.create(&member, &r));
            }
            Some(RequestUnion::CancelRequest(r)) => {
                timer.observe_closure_duration(|| self.cancel(&member, r.watch_id));
            }
            Some(RequestUnion::ProgressRequest(_)) => member.hub().progress_of_all(self.id),
            None => {
                info!(
                    member.logger(),
                    "invalid watch request type <nil> received in gRPC stream"
                );
            }
        }
        Ok(())
    }

    fn create(&mut self, member: &H, r: &pb::WatchCreateRequest) {
        let refuse = |reason: &str| WatchReply {
            header: Some(member.header_at(member.hub().store.rev())),
            watch_id: NO_WATCHER,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..WatchReply::default()
        };
        if r.start_revision < 0 {
            // W10
            let reason = Error::Compacted;
            return self.control.push_back(refuse(reason.code_and_text().1));
        }
        let Some(keys) = Keys::of(&r.key, &r.range_end) else {
            let reply = refuse("mvcc: watcher range is empty");
            return self.control.push_back(reply);
        };
        let id = match r.watch_id {
            // W9: in a request 0 asks for an id, but it is one.
            0 => self.unused_id(),
            id if self.watches.contains_key(&id) => {
                let reply = refuse("mvcc: duplicate watch ID provided on the WatchStream");
                return self.control.push_back(reply);
            }
            id => id,
        };
        let spec = Arc::new(Spec {
            keys,
            start: r.start_revision,
            filter: Filter::of(r),
            prev_kv: r.prev_kv,
        });
        let serial = member.hub().serial();
        let added = member.hub().add(self.id, serial, &spec);
        let state = match added.is_live {
            true => State::Live,
            false => State::Behind(spec.start),
        };
        if !added.is_live {
            self.behind.push_back(id);
        }
        self.ids.insert(serial, id);
        self.watches.insert(
            id,
            Watch {
                serial,
                spec,
                fragment: r.fragment,
                progress: r.progress_notify.then_some(true),
                state,
            },
        );
        self.control.push_back(WatchReply {
            header: Some(member.header_at(added.rev)),
            watch_id: id,
            created: true,
            ..WatchReply::default()
        });
    }

    fn unused_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        id
    }

    /// An id that nobody has gets no answer.
    fn cancel(&mut self, member: &H, id: i64) {
        let Some(watch) = self.watches.remove(&id) else {
            return;
        };
        if planted!(EventsAfterCancel) {
            self.watches.insert(id, watch);
            return self.control.push_back(WatchReply {
                header: Some(member.header_at(member.hub().store.rev())),
                watch_id: id,
                canceled: true,
                ..WatchReply::default()
            });
        }
        self.ids.remove(&watch.serial);
        if let State::Behind(_) = watch.state {
            self.behind.retain(|behind| *behind != id);
        }
        if watch.state != State::Compacted {
            member.hub().remove(self.id, watch.serial);
        }
        self.control.push_back(WatchReply {
            header: Some(member.header_at(member.hub().store.rev())),
            watch_id: id,
            canceled: true,
            ..WatchReply::default()
        });
    }

    /// Sends progress to the watchers that want it and had no events since the last tick.
    fn tick(&mut self) -> Result<(), E> {
        let member = self.member()?;
        let _timer = member.hub().metrics.progress.start_timer();
        let mut due = Vec::new();
        for watch in self.watches.values_mut() {
            let Some(progress) = &mut watch.progress else {
                continue;
            };
            if std::mem::replace(progress, true) {
                due.push(watch.serial);
            }
        }
        member.hub().progress_of(self.id, due.into_iter());
        Ok(())
    }

    /// Makes the next reply with events or progress, if there is one.
    fn next_events(&mut self, member: &Arc<H>) -> Result<bool, E> {
        while let Some(item) = self.history.pop_front() {
            // Nothing is made if its watcher was cancelled meanwhile.
            if self.deliver(member, item, false)? {
                return Ok(true);
            }
        }
        self.begin_reading()?;
        loop {
            if self.taken.is_empty() && !self.inbox.take(&mut self.taken) {
                return Err(Error::Stopped.into());
            }
            let Some(item) = self.taken.pop_front() else {
                return Ok(false);
            };
            if self.deliver(member, item, true)? {
                return Ok(true);
            }
        }
    }

    fn deliver(&mut self, member: &Arc<H>, item: Item, is_live: bool) -> Result<bool, E> {
        match item {
            Item::Events { serial, .. } => {
                let queue = match is_live {
                    true => &mut self.taken,
                    false => &mut self.history,
                };
                gather(&mut self.items, item, queue, serial);
                let made = self.events(&**member, serial, is_live);
                self.items.clear();
                made
            }
            Item::Fell { serial, next } => {
                if let Some(id) = self.ids.get(&serial)
                    && let Some(watch) = self.watches.get_mut(id)
                {
                    watch.state = State::Behind(next);
                    self.behind.push_back(*id);
                }
                self.begin_reading()?;
                Ok(false)
            }
            Item::Progress { serial, at } => {
                let watch_id = match serial {
                    // It was for the watchers there were when it was asked for. For one that came since it would
                    // be wrong, and clients take it for all of them (W6).
                    None if self.watches.values().any(|watch| !watch.has_all(at)) => {
                        return Ok(false);
                    }
                    None => NO_WATCHER,
                    Some(serial) => match self.ids.get(&serial) {
                        Some(id) => *id,
                        None => return Ok(false),
                    },
                };
                self.out.push(&WatchReply {
                    header: Some(member.header_at(at)),
                    watch_id,
                    ..WatchReply::default()
                });
                Ok(true)
            }
        }
    }

    /// One reply for the revisions of one watcher that were gathered.
    fn events(&mut self, member: &H, serial: u64, is_live: bool) -> Result<bool, E> {
        let count: usize = self.items.iter().map(Item::events).sum();
        if is_live {
            self.burst.live += count;
        }
        let Some(id) = self.ids.get(&serial) else {
            return Ok(false); // cancelled meanwhile
        };
        let watch = self.watches.get_mut(id);
        let Some(watch) = watch.filter(|watch| watch.serial == serial) else {
            return Ok(false);
        };
        let (prev, store) = (watch.spec.prev_kv, &member.hub().store);
        let (mut revision, mut length) = (0, 0);
        for item in &self.items {
            revision = revision.max(item.at());
            for event in item.each() {
                let event = event.encoded(prev, store);
                length += event_len(event.map_err(|error| damaged(member, &error))?);
            }
        }
        // They are encoded by now.
        let events = self.items.iter().flat_map(Item::each);
        let events = events.filter_map(|event| event.encoded(prev, store).ok());
        if let Some(progress) = &mut watch.progress {
            *progress = false;
        }
        self.burst.replies += 1;
        self.burst.events += count;
        if !watch.fragment || length + HEAD_BYTES < member.max_reply_bytes() {
            let header = self.head.at(member, revision);
            self.out.push_events(header, *id, length, events);
            return Ok(true);
        }
        let reply = WatchReply {
            header: Some(member.header_at(revision + i64::from(planted!(HeaderTooNew)))),
            watch_id: *id,
            events: events.cloned().collect(),
            ..WatchReply::default()
        };
        fragments(reply, member.max_reply_bytes(), &mut self.fragments);
        if let Some(first) = self.fragments.pop_front() {
            self.out.push(&first);
        }
        Ok(true)
    }

    /// Begins to read a stretch of history for whoever's turn it is.
    fn begin_reading(&mut self) -> Result<(), E> {
        if self.reading.is_some() || !self.history.is_empty() || self.behind.is_empty() {
            return Ok(());
        }
        let reader = |id: &i64| {
            let watch = self.watches.get(id)?;
            let State::Behind(next) = watch.state else {
                return None;
            };
            Some(Reader {
                serial: watch.serial,
                spec: watch.spec.clone(),
                next,
            })
        };
        let mut readers: Vec<_> = self.behind.iter().filter_map(reader).collect();
        let Some(from) = readers.first().map(|first| first.next) else {
            return Ok(());
        };
        readers.retain(|reader| reader.next >= from);
        let hub = self.member()?.hub().clone();
        let mine = readers.clone();
        let reading = tokio::spawn(read_beside::<H>(hub, mine));
        self.reading = Some((Reading(reading), readers));
        Ok(())
    }

    fn read(&mut self, (read, readers): (Result<Read, mvcc::Error>, Vec<Reader>)) -> Result<(), E> {
        let member = self.member()?;
        let read = read.map_err(|error| damaged(&*member, &error))?;
        let (items, next, current) = match read {
            Read::Compacted => {
                self.compacted(&member);
                return Ok(());
            }
            Read::Items {
                items,
                next,
                current,
            } => (items, next, current),
        };
        self.history.extend(items);
        let mut done = HashSet::new();
        let mut still = Vec::new();
        for reader in readers {
            // It may have been cancelled while its history was read.
            let Some(id) = self.ids.get(&reader.serial).copied() else {
                continue;
            };
            let Some(watch) = self.watches.get_mut(&id) else {
                continue;
            };
            if reader.next >= next {
                continue;
            }
            done.insert(id);
            let joined = match next > current {
                true => member
                    .hub()
                    .join(self.id, reader.serial, &reader.spec, next),
                false => Joined::Behind(next),
            };
            watch.state = match joined {
                Joined::Live => State::Live,
                Joined::Behind(next) => {
                    still.push(id);
                    State::Behind(next)
                }
            };
        }
        self.behind.retain(|id| !done.contains(id));
        self.behind.extend(still);
        Ok(())
    }

    /// Cancels the watchers whose history is gone (W4), each once (W12).
    fn compacted(&mut self, member: &H) {
        let revision = member.hub().store.compact_rev();
        let mut gone = Vec::new();
        self.behind.retain(|id| {
            let watch = self.watches.get_mut(id);
            let Some(watch) = watch.filter(|watch| watch.state != State::Compacted) else {
                return false;
            };
            let State::Behind(next) = watch.state else {
                return false;
            };
            if next >= revision {
                return true;
            }
            watch.state = State::Compacted;
            gone.push((*id, watch.serial));
            false
        });
        for (id, serial) in gone {
            member.hub().remove(self.id, serial);
            self.control.push_back(WatchReply {
                header: Some(member.header_at(0)),
                watch_id: id,
                canceled: true,
                compact_revision: if planted!(CompactedUntold) {
                    0
                } else {
                    revision
                },
                ..WatchReply::default()
            });
        }
    }
}

impl<H: Host, E> Drop for Session<H, E> {
    fn drop(&mut self) {
        if let Some(member) = self.member.upgrade() {
            let unsent = self.taken.iter().map(Item::events).sum();
            member.hub().end(self.id, unsent);
        }
    }
}

/// Gathers an item and those behind it that belong into the same reply.
fn gather(items: &mut Vec<Item>, first: Item, queue: &mut VecDeque<Item>, serial: u64) {
    let mut bytes = first.weight();
    items.push(first);
    while items.len() < MAX_REVISIONS && bytes < MAX_BYTES {
        let next = queue.pop_front_if(
            |item| matches!(item, Item::Events { serial: next, .. } if *next == serial),
        );
        let Some(next) = next else {
            return;
        };
        bytes += next.weight();
        items.push(next);
    }
}

/// The next request; never when there will be no more.
async fn next_request<E>(
    requests: &mut Option<Requests<E>>,
) -> Option<Result<pb::WatchRequest, E>> {
    match requests {
        Some(requests) => requests.next().await,
        None => future::pending().await,
    }
}

/// Waits for what is being read; forever if nothing is.
async fn reading(
    reading: &mut Option<(Reading, Vec<Reader>)>,
) -> Result<(Result<Read, mvcc::Error>, Vec<Reader>), Error> {
    let Some((read, _)) = reading else {
        return future::pending().await;
    };
    let read = (&mut read.0).await;
    let readers = reading.take().map(|(_, readers)| readers);
    let read = read.map_err(|error| Error::Internal(error.to_string()))?;
    Ok((read?, readers.unwrap_or_default()))
}

/// Reads a stretch where that delays nobody, when it is this stream's turn.
///
/// A task of its own: the stream is not polled while its client does not read, and must not keep its turn then.
async fn read_beside<H: Host>(
    hub: Arc<Hub>,
    readers: Vec<Reader>,
) -> Result<Result<Read, mvcc::Error>, Error> {
    let _turn = hub.readers.acquire().await;
    let store = hub.store.clone();
    H::beside(move || catch_up::read(&store, &readers)).await
}

/// A stretch being read. Nobody waits for it any more when it is dropped.
struct Reading(JoinHandle<Result<Result<Read, mvcc::Error>, Error>>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ends the stream of a damaged store, and tells the operator.
fn damaged(member: &impl Host, error: &mvcc::Error) -> Error {
    error!(member.logger(), "failed to read the history of watched keys"; "error" => %error);
    Error::Internal(error.to_string())
}

/// Up to a tenth more, so that streams that began together do not all tick together.
fn with_jitter(period: Duration) -> Duration {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let chance = RandomState::new().build_hasher().finish() % 1000;
    period + period / 10_000 * chance as u32
}
