//! Clients that watch, each with a stream that has one to three watches.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::watch_request::RequestUnion;
use retcd_tests::member;
use retcd_tests::random::Random;
use retcd_tests::stream::{Part, Stream, Streams};

use crate::Shared;
use crate::writers::{KEYS, key};

const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// How long a client waits for a reply before it does something else.
const WAIT: Duration = Duration::from_millis(100);

/// A watch from its creation to the loss of its stream, its cancel, or the end of the round.
pub(crate) struct Segment {
    pub(crate) request: pb::WatchCreateRequest,
    /// With the highest revision that was to be compacted when they came.
    pub(crate) replies: Vec<(i64, pb::WatchResponse)>,
    /// The client has asked for its end.
    pub(crate) cancel: bool,
    /// It went on to the end of the round.
    pub(crate) whole: bool,
}

impl Segment {
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("{:?}, cancel asked for: {}", self.request, self.cancel);
        for (compacting, reply) in self.replies.iter().rev().take(12).rev() {
            let events: Vec<_> = reply
                .events
                .iter()
                .map(|e| {
                    let kv = e.kv.clone().unwrap_or_default();
                    format!("{}{:?}@{}", ["+", "-"][usize::from(e.r#type != 0)], kv.key, kv.mod_revision)
                })
                .collect();
            let revision = reply.header.as_ref().map_or(0, |h| h.revision);
            let _ = write!(
                text,
                "\n  at {revision}: created {} canceled {} ({:?}) compacted {} fragment {} {events:?} (compacting {compacting})",
                reply.created, reply.canceled, reply.cancel_reason, reply.compact_revision, reply.fragment,
            );
        }
        text
    }
}

/// One watch over all its segments.
struct Watch {
    request: pb::WatchCreateRequest,
    /// The first revision that it has not been told of yet; 0 if it has heard of nothing.
    next: i64,
}

struct Client {
    shared: Arc<Shared>,
    random: Random,
    watches: Vec<Watch>,
    segments: Vec<Segment>,
    /// Ids that the client chooses.
    id: i64,
    deadline: Option<Instant>,
}

/// What a stream has.
#[derive(Default)]
struct Open {
    /// Watch and segment of each creation that is not answered.
    asked: VecDeque<(usize, usize)>,
    ids: BTreeMap<i64, (usize, usize)>,
    /// Those that the server has ended for a compaction: it answers a cancel that was on its way once more, as etcd does.
    ended: BTreeSet<i64>,
}

/// Watches to the end of the round.
pub(crate) async fn follow(shared: Arc<Shared>, mut random: Random) -> Result<Vec<Segment>, String> {
    let watches = (0..random.within(1, 4)).map(|_| Watch { request: request(&mut random), next: 0 }).collect();
    let mut client = Client { shared, random, watches, segments: Vec::new(), id: 1000, deadline: None };
    // Some begin somewhere in the past, or in the future.
    let now = crate::revision(&client.shared).await.unwrap_or(1);
    for watch in &mut client.watches {
        let away = i64::try_from(client.random.within(1, 60)).expect("small");
        match client.random.within(0, 4) {
            0 => watch.next = (now - away).max(1),
            1 => watch.next = now + away,
            _ => {}
        }
    }
    while !client.stream().await? {}
    Ok(client.segments)
}

fn request(random: &mut Random) -> pb::WatchCreateRequest {
    let (key, range_end): (Bytes, Bytes) = match random.within(0, 5) {
        0 => (key(random.within(0, KEYS)), Bytes::new()),
        1 => ("b/".into(), "b0".into()),
        2 => ("a/05".into(), "b/12".into()),
        3 => ("b/".into(), vec![0].into()),
        _ => (vec![0].into(), vec![0].into()),
    };
    pb::WatchCreateRequest {
        key,
        range_end,
        progress_notify: random.one_in(2),
        prev_kv: random.one_in(2),
        fragment: random.one_in(2),
        filters: match random.within(0, 6) {
            0 => vec![0],
            1 => vec![1],
            _ => Vec::new(),
        },
        ..Default::default()
    }
}

impl Client {
    /// Watches on one stream, to its end; whether that is the end of the round.
    async fn stream(&mut self) -> Result<bool, String> {
        let window = if self.random.one_in(2) { 64 << 10 } else { 1 << 20 };
        let slow = self.random.one_in(3);
        let connected = Streams::try_open(self.shared.address.port(), window).await;
        let called = match &connected {
            Ok(streams) => streams.try_call(WATCH, &[]).await,
            Err(why) => Err(why.clone()),
        };
        let mut stream = match called {
            Ok(stream) => stream,
            Err(why) => {
                self.patient(&why)?;
                tokio::time::sleep(Duration::from_millis(10)).await;
                return Ok(false);
            }
        };
        let mut open = Open::default();
        for watch in 0..self.watches.len() {
            self.create(&stream, &mut open, watch);
        }
        loop {
            let over = self.shared.goal();
            if over.is_some_and(|goal| self.watches.iter().all(|watch| watch.next > goal)) {
                for (_, segment) in open.ids.values() {
                    self.segments[*segment].whole = true;
                }
                return Ok(true);
            }
            if over.is_none() && slow {
                tokio::time::sleep(Duration::from_millis(self.random.within(10, 150))).await;
            }
            match tokio::time::timeout(WAIT, stream.next()).await {
                Ok(Part::Message(message)) => {
                    let reply = pb::WatchResponse::decode(message).map_err(|e| e.to_string())?;
                    self.take(&stream, &mut open, reply)?;
                }
                Ok(end) => {
                    self.patient(&format!("{end:?}"))?;
                    return Ok(false);
                }
                // With nothing more to come, only a report of progress says so.
                Err(_) => ask(&stream, RequestUnion::ProgressRequest(pb::WatchProgressRequest {})),
            }
            if over.is_some() {
                let behind: Vec<_> = self.watches.iter().map(|w| w.next).collect();
                self.patient(&format!("the round is over at {over:?}, the watches are at {behind:?}"))?;
            } else {
                match self.random.within(0, 60) {
                    // The connection is lost.
                    0 => return Ok(false),
                    1 => self.cancel(&stream, &open),
                    2 => ask(&stream, RequestUnion::ProgressRequest(pb::WatchProgressRequest {})),
                    _ => {}
                }
            }
        }
    }

    /// At the end of the round everything has its time.
    fn patient(&mut self, why: &str) -> Result<(), String> {
        if self.shared.goal().is_none() {
            return Ok(());
        }
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + member::PATIENCE);
        if Instant::now() < deadline {
            return Ok(());
        }
        let open: Vec<_> = self.segments.iter().rev().take(3).map(Segment::describe).collect();
        Err(format!("not within {:?}: {why}\n{}", member::PATIENCE, open.join("\n")))
    }

    fn create(&mut self, stream: &Stream, open: &mut Open, watch: usize) {
        let mut request = self.watches[watch].request.clone();
        request.start_revision = self.watches[watch].next;
        if self.random.one_in(3) {
            self.id += 1;
            request.watch_id = self.id;
        }
        open.asked.push_back((watch, self.segments.len()));
        self.segments.push(Segment { request: request.clone(), replies: Vec::new(), cancel: false, whole: false });
        ask(stream, RequestUnion::CreateRequest(request));
    }

    fn cancel(&mut self, stream: &Stream, open: &Open) {
        let not_yet = open.ids.iter().find(|(_, (_, segment))| !self.segments[*segment].cancel);
        if let Some((id, (_, segment))) = not_yet {
            self.segments[*segment].cancel = true;
            ask(stream, RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: *id }));
        }
    }

    fn take(&mut self, stream: &Stream, open: &mut Open, reply: pb::WatchResponse) -> Result<(), String> {
        let revision = reply.header.as_ref().ok_or("a reply without a header")?.revision;
        let compacting = self.shared.compacting();
        if reply.created {
            let (watch, segment) = open.asked.pop_front().ok_or_else(|| format!("nobody asked: {reply:?}"))?;
            let chosen = self.segments[segment].request.watch_id;
            if chosen != 0 && chosen != reply.watch_id || open.ids.contains_key(&reply.watch_id) {
                return Err(format!("the id {} is wrong; asked for was {chosen}", reply.watch_id));
            }
            open.ids.insert(reply.watch_id, (watch, segment));
            let next = &mut self.watches[watch].next;
            if *next == 0 {
                *next = revision + 1;
            }
            self.segments[segment].replies.push((compacting, reply));
            return Ok(());
        }
        if reply.canceled && reply.compact_revision == 0 && open.ended.remove(&reply.watch_id) {
            return Ok(());
        }
        let told: Vec<_> = if reply.watch_id == -1 {
            // A report for all watches of the stream.
            open.ids.values().copied().collect()
        } else {
            let one = open.ids.get(&reply.watch_id);
            vec![*one.ok_or_else(|| format!("of a watch that is not there, or no more: {reply:?}"))?]
        };
        for (watch, segment) in told {
            let next = &mut self.watches[watch].next;
            self.segments[segment].replies.push((compacting, reply.clone()));
            if reply.canceled {
                if reply.compact_revision > 0 {
                    *next = reply.compact_revision;
                    if self.segments[segment].cancel {
                        open.ended.insert(reply.watch_id);
                    }
                }
                open.ids.remove(&reply.watch_id);
                self.create(stream, open, watch);
            } else if reply.events.is_empty() {
                *next = (*next).max(revision + 1);
            } else if !reply.fragment {
                let last = reply.events.last().and_then(|e| e.kv.as_ref()).map_or(0, |kv| kv.mod_revision);
                *next = (*next).max(last + 1);
            }
        }
        Ok(())
    }
}

fn ask(stream: &Stream, request: RequestUnion) {
    stream.send(&pb::WatchRequest { request_union: Some(request) });
}
