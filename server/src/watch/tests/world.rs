//! A store, its hub and its clients, driven step by step.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _, future};
use parking_lot::Mutex;
use prost::Message as _;
use retcd_proto::etcdserverpb::watch_request::RequestUnion;
use retcd_proto::etcdserverpb::{self as pb, ResponseHeader};
use retcd_storage::backend::{Backend, MemBackend, Writer, WriterOptions};
use retcd_storage::mvcc::{Compaction, Store, StoreOptions};
use slog::Logger;

use super::model::{Model, Random, tells};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::watch::{Batch, Host, Hub, Lost, Session};

/// A member without anything but a hub.
pub(super) struct Fake {
    hub: Arc<Hub>,
    logger: Logger,
    leaderless: bool,
}

impl Host for Fake {
    fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    fn header_at(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: 1,
            member_id: 2,
            revision,
            raft_term: 3,
        }
    }

    fn logger(&self) -> &Logger {
        &self.logger
    }

    fn max_reply_bytes(&self) -> usize {
        60
    }

    fn progress_interval(&self) -> Duration {
        Duration::from_secs(100)
    }

    fn without_leader(&self) -> Lost {
        match self.leaderless {
            true => Box::pin(future::ready(())),
            false => Box::pin(future::pending()),
        }
    }

    async fn beside<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        // Not at once: much may happen before it is read, and between reading and taking.
        tokio::task::yield_now().await;
        let done = work();
        tokio::task::yield_now().await;
        Ok(done)
    }
}

/// A watcher as its client sees it.
struct Watcher {
    request: pb::WatchCreateRequest,
    /// The first revision it may get.
    from: i64,
    /// Everything below was received.
    next: i64,
    fragments: Vec<pb::WatchResponse>,
}

type Replies = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Error>> + Send>>;

/// The replies of a stream, one by one.
fn one_by_one(batches: impl Stream<Item = Result<Batch, Error>> + Send + 'static) -> Replies {
    let replies = batches.flat_map(|batch| {
        let replies: Vec<_> = match batch {
            Ok(batch) => {
                let messages = batch.messages();
                let decode = |bytes| Ok(pb::WatchResponse::decode(bytes).expect("a reply"));
                messages.map(decode).collect()
            }
            Err(error) => vec![Err(error)],
        };
        futures_util::stream::iter(replies)
    });
    Box::pin(replies)
}

struct Client {
    requests: Arc<Mutex<VecDeque<pb::WatchRequest>>>,
    replies: Replies,
    watchers: BTreeMap<i64, Watcher>,
    /// Sent and not answered: creates with the id asked for, and cancels.
    asked: VecDeque<Asked>,
    /// Ids that the server cancelled, which stay in use.
    gone: Vec<i64>,
    next_id: i64,
}

enum Asked {
    Create(pb::WatchCreateRequest),
    Cancel(i64),
}

pub(super) struct World {
    random: Random,
    store: Store,
    model: Model,
    hub: Arc<Hub>,
    fake: Arc<Fake>,
    clients: Vec<Client>,
    runtime: tokio::runtime::Runtime,
    pub(super) log: Vec<String>,
    pub(super) counts: BTreeMap<&'static str, u64>,
}

const KEYS: [&str; 6] = ["a", "ab", "b", "ba", "c", "d"];

impl World {
    pub(super) fn new(random: Random) -> Self {
        let engine: Arc<dyn Backend> = Arc::new(MemBackend::new());
        let (writer, reader) = Writer::start(engine, WriterOptions::default());
        let options = StoreOptions {
            value_cache_bytes: 0,
        };
        let mut store = Store::open(writer, reader, options).expect("an empty store");
        store.record_changes();
        let metrics = Metrics::new().expect("sound metrics").watch.clone();
        let hub = Arc::new(Hub::new(store.reader(), metrics));
        let logger = Logger::root(slog::Discard, slog::o!());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        Self {
            random,
            store,
            model: Model::default(),
            fake: Arc::new(Fake {
                hub: hub.clone(),
                logger,
                leaderless: false,
            }),
            hub,
            clients: Vec::new(),
            runtime,
            log: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    /// A stream, without requests, of a client that wants a leader where there is none for too long.
    pub(super) fn without_leader(&self) -> Vec<Result<pb::WatchResponse, Error>> {
        let fake = Arc::new(Fake {
            hub: self.hub.clone(),
            logger: self.fake.logger.clone(),
            leaderless: true,
        });
        self.runtime.block_on(async {
            let requests = Box::pin(futures_util::stream::pending::<Result<_, Error>>());
            let replies = Session::<Fake, Error>::open(&fake, requests, true);
            one_by_one(replies).collect().await
        })
    }

    /// Streams that begin when the service has stopped, and one that was there before.
    pub(super) fn stopped(&mut self) -> Vec<Vec<Result<pb::WatchResponse, Error>>> {
        let open = || {
            let requests = Box::pin(futures_util::stream::pending::<Result<_, Error>>());
            one_by_one(Session::<Fake, Error>::open(&self.fake, requests, false))
        };
        self.runtime.block_on(async {
            let before = open();
            self.hub.close();
            let after = open();
            vec![before.collect().await, after.collect().await]
        })
    }

    fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    fn note(&mut self, text: String) {
        self.log.push(text);
    }

    pub(super) fn step(&mut self) {
        match self.random.below(100) {
            0..25 => self.write(),
            25..40 => self.hub.work_now(),
            40..42 => self.compact(),
            42..47 => self.open(),
            47..49 => self.drop_client(),
            49..60 => self.create(),
            60..63 => self.cancel(),
            63..67 => self.progress(),
            67..69 => self.pass_time(),
            _ => self.read(),
        }
    }

    /// Some transactions, published at once.
    fn write(&mut self) {
        let txns = 1 + self.random.below(3) * self.random.below(3);
        for _ in 0..txns {
            let rev = self.store.rev() + 1;
            let mut txn = self.store.begin();
            let deletes = self.random.percent(25);
            if deletes {
                let (key, end) = match self.random.below(3) {
                    0 => ("a", "\0"),
                    1 => ("a", "b"),
                    _ => (KEYS[self.random.below(6) as usize], ""),
                };
                txn.delete_range(key.as_bytes(), end.as_bytes(), false)
                    .expect("sound");
                self.model.delete(rev, key.as_bytes(), end.as_bytes());
            } else {
                let first = self.random.below(6) as usize;
                let several = 1 + self.random.below(3) as usize;
                for key in KEYS.iter().cycle().skip(first).take(several) {
                    let key = Bytes::from_static(key.as_bytes());
                    let value = Bytes::from("v".repeat(self.random.below(30) as usize));
                    txn.put(key.clone(), value.clone(), 0).expect("sound");
                    self.model.put(rev, &key, &value);
                }
            }
            txn.end();
        }
        self.publish();
    }

    fn publish(&mut self) {
        self.store.publish().expect("memory");
        let mut changes = self.store.take_changes();
        // As if a snapshot had been installed instead (W1, W2, W3).
        if !changes.is_empty() && self.random.percent(5) {
            changes.clear();
            self.count("lost batches");
        }
        self.hub.publish(changes, self.store.rev());
        self.note(format!("published {}", self.store.rev()));
    }

    fn compact(&mut self) {
        let (low, high) = (self.store.compact_rev().max(1), self.store.rev());
        let rev = low + self.random.below((high - low + 1) as u64) as i64;
        if self.store.begin_compaction(rev).is_err() {
            return;
        }
        self.note(format!("compacted {rev}"));
        self.publish();
        // The deletions may come later.
        if self.random.percent(70) {
            self.finish_compactions();
        }
    }

    fn finish_compactions(&mut self) {
        while self.store.is_compacting() {
            if self.store.compaction_step(3).expect("sound") == Compaction::Waiting {
                std::thread::yield_now();
            }
        }
    }

    fn open(&mut self) {
        if self.clients.len() >= 4 {
            return;
        }
        let requests: Arc<Mutex<VecDeque<pb::WatchRequest>>> = Arc::default();
        let queue = requests.clone();
        let stream = futures_util::stream::poll_fn(move |_| match queue.lock().pop_front() {
            Some(request) => std::task::Poll::Ready(Some(Ok::<_, Error>(request))),
            None => std::task::Poll::Pending,
        });
        let _guard = self.runtime.enter();
        let replies = Session::<Fake, Error>::open(&self.fake, Box::pin(stream), false);
        self.clients.push(Client {
            requests,
            replies: one_by_one(replies),
            watchers: BTreeMap::new(),
            asked: VecDeque::new(),
            gone: Vec::new(),
            next_id: 0,
        });
    }

    fn drop_client(&mut self) {
        if let Some(at) = self.any_client() {
            self.clients.swap_remove(at);
            self.note(format!("dropped client {at}"));
        }
    }

    fn any_client(&mut self) -> Option<usize> {
        let count = self.clients.len() as u64;
        (count > 0).then(|| self.random.below(count.max(1)) as usize)
    }

    fn ask(&mut self, client: usize, request: RequestUnion) {
        self.note(format!("client {client} asks {request:?}"));
        let request = pb::WatchRequest {
            request_union: Some(request),
        };
        self.clients[client].requests.lock().push_back(request);
    }

    fn create(&mut self) {
        let Some(client) = self.any_client() else {
            return;
        };
        let (key, end) = match self.random.below(6) {
            0 => ("a", "\0"),
            1 => ("a", "b"),
            2 => ("b", "d"),
            _ => (KEYS[self.random.below(6) as usize], ""),
        };
        let rev = self.store.rev();
        let start = match self.random.below(6) {
            0 | 1 => 0,
            2 => rev + 1 + self.random.below(8) as i64,
            3 => 1,
            _ => (rev - self.random.below(12) as i64).max(1),
        };
        let filters = match self.random.below(6) {
            0 => vec![0],
            1 => vec![1],
            _ => vec![],
        };
        let request = pb::WatchCreateRequest {
            key: Bytes::from_static(key.as_bytes()),
            range_end: Bytes::from_static(end.as_bytes()),
            start_revision: start,
            progress_notify: self.random.percent(40),
            filters,
            prev_kv: self.random.percent(40),
            watch_id: if self.random.percent(30) {
                self.random.below(5) as i64
            } else {
                0
            },
            fragment: self.random.percent(40),
        };
        self.clients[client]
            .asked
            .push_back(Asked::Create(request.clone()));
        self.ask(client, RequestUnion::CreateRequest(request));
    }

    fn cancel(&mut self) {
        let Some(client) = self.any_client() else {
            return;
        };
        let watch_id = self.random.below(7) as i64;
        self.clients[client]
            .asked
            .push_back(Asked::Cancel(watch_id));
        self.ask(
            client,
            RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }),
        );
    }

    fn progress(&mut self) {
        let Some(client) = self.any_client() else {
            return;
        };
        self.ask(
            client,
            RequestUnion::ProgressRequest(pb::WatchProgressRequest {}),
        );
    }

    fn pass_time(&mut self) {
        self.runtime
            .block_on(tokio::time::advance(Duration::from_secs(60)));
    }

    fn read(&mut self) {
        let Some(client) = self.any_client() else {
            return;
        };
        let replies = 1 + self.random.below(6);
        for _ in 0..replies {
            if !self.read_one(client, 4) {
                return;
            }
        }
    }

    /// Reads what there is; false if there is nothing.
    fn read_one(&mut self, at: usize, patience: usize) -> bool {
        let client = &mut self.clients[at];
        // A task that is woken is polled again.
        let reply = self.runtime.block_on(async {
            for _ in 0..patience {
                if let Some(reply) = client.replies.next().now_or_never() {
                    return Some(reply);
                }
                tokio::task::yield_now().await;
            }
            None
        });
        let Some(reply) = reply else { return false };
        let reply = reply.expect("a stream without end").expect("no error");
        self.note(format!("client {at} got {reply:?}"));
        self.got(at, reply);
        true
    }

    fn got(&mut self, at: usize, reply: pb::WatchResponse) {
        let header = reply.header.as_ref().expect("a header").revision;
        let current = self.store.rev();
        assert!(header <= current, "header of the future");
        let client = &mut self.clients[at];
        if reply.created {
            return created(client, &reply, header);
        }
        if reply.canceled {
            return self.canceled(at, &reply);
        }
        if reply.events.is_empty() {
            return self.progressed(at, &reply, header);
        }
        let watcher = client
            .watchers
            .get_mut(&reply.watch_id)
            .expect("events of a living watcher");
        assert!(watcher.request.fragment || !reply.fragment);
        watcher.fragments.push(reply);
        if watcher.fragments.last().is_some_and(|last| last.fragment) {
            return;
        }
        let fragments = std::mem::take(&mut watcher.fragments);
        let whole = fragments.len() == 1;
        let events: Vec<_> = fragments.into_iter().flat_map(|f| f.events).collect();
        let newest = events
            .last()
            .and_then(|e| e.kv.as_ref())
            .expect("a key")
            .mod_revision;
        assert!(newest <= header, "events above the header");
        assert!(newest >= watcher.next, "events again");
        // Ordered, unique, complete, filtered; and all of each revision.
        let owed: Vec<_> = self
            .model
            .owed(&watcher.request, watcher.next, newest)
            .collect();
        assert_eq!(
            events.len(),
            owed.len(),
            "events of {}..={newest}: {events:?}",
            watcher.next
        );
        let compacted = self.store.compact_rev();
        let (mut prevs, mut without) = (0, 0);
        for (event, change) in events.iter().zip(&owed) {
            assert!(tells(event, change), "{event:?} is not {change:?}");
            match &event.prev_kv {
                Some(prev) => {
                    assert!(watcher.request.prev_kv);
                    assert_eq!(Some(prev), change.before.as_ref());
                    prevs += 1;
                }
                None if watcher.request.prev_kv && change.before.is_some() => {
                    assert!(
                        change.rev - 1 < compacted,
                        "what was before {change:?} is missing"
                    );
                    without += 1;
                }
                None => {}
            }
        }
        let several = owed.first().is_some_and(|first| first.rev != newest);
        let mut unfiltered = watcher.request.clone();
        unfiltered.filters.clear();
        let all = self.model.owed(&unfiltered, watcher.next, newest);
        let filtered = all.count() > owed.len();
        watcher.next = newest + 1;
        for (name, n) in [
            ("events", events.len() as u64),
            ("prev_kv", prevs),
            ("prev_kv compacted", without),
            ("fragments", u64::from(!whole)),
            ("several revisions", u64::from(several)),
            ("filtered", u64::from(filtered)),
            (
                "future",
                u64::from(watcher.request.start_revision > 0 && watcher.from < newest),
            ),
        ] {
            *self.counts.entry(name).or_default() += n;
        }
    }

    fn progressed(&mut self, at: usize, reply: &pb::WatchResponse, header: i64) {
        let client = &self.clients[at];
        let of_all = reply.watch_id == -1;
        let concerned = client
            .watchers
            .iter()
            .filter(|(id, _)| of_all || **id == reply.watch_id);
        let concerned: Vec<_> = concerned.collect();
        assert!(
            of_all || concerned.len() == 1,
            "progress of a watcher that is gone"
        );
        for (id, watcher) in concerned {
            assert!(of_all || watcher.request.progress_notify);
            let missing = self
                .model
                .owed(&watcher.request, watcher.next, header)
                .next();
            assert!(missing.is_none(), "{id}: progress overtook {missing:?}");
            assert!(
                watcher.request.start_revision <= header,
                "{id}: progress before its begin"
            );
        }
        let client = &mut self.clients[at];
        for (id, watcher) in &mut client.watchers {
            // Nothing up to there may come any more.
            if of_all || *id == reply.watch_id {
                watcher.next = watcher.next.max(header + 1);
            }
        }
        self.count(if of_all { "progress" } else { "notified" });
    }

    fn canceled(&mut self, at: usize, reply: &pb::WatchResponse) {
        let client = &mut self.clients[at];
        let id = reply.watch_id;
        if reply.compact_revision != 0 {
            let watcher = client.watchers.remove(&id).expect("cancelled once (W12)");
            assert!(reply.compact_revision <= self.store.compact_rev());
            // Something that it may want is gone (W4): never just because it was filtered or slow.
            assert!(
                watcher.next < reply.compact_revision,
                "cancelled without need"
            );
            client.gone.push(id);
            return self.count("compacted");
        }
        // Cancels of ids that nobody has get no answer.
        let mut asked_for = false;
        while let Some(asked) = client.asked.pop_front() {
            match asked {
                Asked::Cancel(asked) if asked == id => {
                    asked_for = true;
                    break;
                }
                Asked::Cancel(asked) => {
                    assert!(
                        !client.watchers.contains_key(&asked),
                        "no answer to a cancel of {asked}"
                    );
                    assert!(!client.gone.contains(&asked));
                }
                Asked::Create(_) => panic!("a create without an answer"),
            }
        }
        assert!(asked_for, "cancelled unasked, and not for a compaction");
        let known = client.watchers.remove(&id).is_some();
        let before = client.gone.len();
        client.gone.retain(|gone| *gone != id);
        assert!(
            known || client.gone.len() < before,
            "cancelled, but not there"
        );
        self.count("canceled");
    }

    /// When nothing more happens, everybody has got everything.
    pub(super) fn settle(&mut self) {
        self.finish_compactions();
        for round in 0.. {
            assert!(round < 10_000, "no end");
            self.hub.work_now();
            let read = (0..self.clients.len()).filter(|at| self.read_one(*at, 1000));
            if read.count() == 0 {
                break;
            }
        }
        let rev = self.store.rev();
        for (at, client) in self.clients.iter().enumerate() {
            for (id, watcher) in &client.watchers {
                let missing = self.model.owed(&watcher.request, watcher.next, rev).next();
                assert!(
                    missing.is_none(),
                    "client {at}: watcher {id} at {} never got {missing:?}",
                    watcher.next
                );
                assert!(watcher.fragments.is_empty());
            }
        }
        for (name, n) in [
            ("fell", &self.hub.metrics.fell),
            ("joined", &self.hub.metrics.joined),
        ] {
            *self.counts.entry(name).or_default() += n.get();
        }
        let watchers: usize = self.clients.iter().map(|c| c.watchers.len()).sum();
        assert_eq!(self.hub.metrics.watchers.get(), watchers as i64);
        assert_eq!(self.hub.metrics.slow.get(), 0);
        assert_eq!(self.hub.metrics.pending.get(), 0);
        self.clients.clear();
        // W11
        assert_eq!(self.hub.metrics.streams.get(), 0);
        assert_eq!(self.hub.metrics.watchers.get(), 0);
    }
}

fn created(client: &mut Client, reply: &pb::WatchResponse, header: i64) {
    let request = loop {
        match client.asked.pop_front().expect("an answer to a request") {
            Asked::Create(request) => break request,
            Asked::Cancel(id) => {
                assert!(
                    !client.watchers.contains_key(&id),
                    "no answer to a cancel of {id}"
                );
                assert!(!client.gone.contains(&id));
            }
        }
    };
    let in_use = |id: i64| client.watchers.contains_key(&id) || client.gone.contains(&id);
    if reply.canceled {
        assert!(in_use(request.watch_id), "refused an id that is free");
        assert_eq!(reply.watch_id, -1);
        return;
    }
    let id = match request.watch_id {
        0 => {
            while in_use(client.next_id) {
                client.next_id += 1;
            }
            client.next_id += 1;
            client.next_id - 1
        }
        id => id,
    };
    assert_eq!(reply.watch_id, id);
    assert!(!in_use(id));
    let from = match request.start_revision {
        0 => header + 1,
        start => start,
    };
    let watcher = Watcher {
        request,
        from,
        next: from,
        fragments: Vec::new(),
    };
    client.watchers.insert(id, watcher);
}
