//! The sending end of a stream: messages wait here until the connection takes them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use parking_lot::Mutex;
use prost::Message as _;
use retcd_proto::raftpb;
use slog::{info, warn};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::codec::{AppendEncoder, Encoder, Out};
use super::context::Context;
use super::hex;
use super::status::Status;

/// Messages that wait for one stream, as in etcd; the next one is dropped.
const MAX_MESSAGES: usize = 4096;
/// And their bytes. One message always fits.
const MAX_BYTES: usize = 128 * 1024 * 1024;
/// Encoded before the connection is asked to take it.
const MAX_ENCODED: usize = 256 * 1024;
/// Messages taken out of the queue at a time.
const MAX_TAKEN: usize = 256;

/// The two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Append,
    Message,
}

impl Kind {
    /// As etcd names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Append => "stream MsgApp v2",
            Kind::Message => "stream Message",
        }
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Kind::Append => "/raft/stream/msgapp",
            Kind::Message => "/raft/stream/message",
        }
    }
}

/// What became of a message.
#[derive(Debug)]
pub(super) enum Pushed {
    Queued,
    /// There is no stream; here it is again.
    NoStream(raftpb::Message),
    /// There is no room.
    Full(raftpb::Message),
}

pub(super) struct Outbox {
    context: Arc<Context>,
    peer: u64,
    kind: Kind,
    status: Arc<Status>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<raftpb::Message>,
    bytes: usize,
    /// Counts the streams there were.
    generation: u64,
    /// The newest one is there.
    attached: bool,
    /// No stream comes any more.
    closed: bool,
    waker: Option<Waker>,
    /// When the connection last took something, or found nothing to take.
    taken: Option<Instant>,
}

impl State {
    /// Ends the stream; says whether there was one, and whether messages are lost with it.
    fn detach(&mut self) -> Option<bool> {
        let attached = std::mem::take(&mut self.attached);
        let lost = !self.queue.is_empty();
        self.queue = VecDeque::new();
        self.bytes = 0;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        attached.then_some(lost)
    }
}

impl Outbox {
    pub(super) fn new(context: Arc<Context>, peer: u64, kind: Kind, status: Arc<Status>) -> Outbox {
        info!(context.options.logger, "started stream writer with remote peer";
            "local-member-id" => &context.local, "remote-peer-id" => hex(peer));
        Outbox {
            context,
            peer,
            kind,
            status,
            state: Mutex::default(),
        }
    }

    /// Never blocks. What was pushed leaves after [`wake`](Outbox::wake).
    pub(super) fn push(&self, message: raftpb::Message) -> Pushed {
        let mut state = self.state.lock();
        if !state.attached {
            return Pushed::NoStream(message);
        }
        let bytes = weight(&message);
        let full = state.queue.len() >= MAX_MESSAGES
            || (!state.queue.is_empty() && state.bytes + bytes > MAX_BYTES);
        if full {
            return Pushed::Full(message);
        }
        state.bytes += bytes;
        state.queue.push_back(message);
        Pushed::Queued
    }

    pub(super) fn wake(&self) {
        let waker = self.state.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A stream for a connection; takes the place of the one before. `None` when the peer is no
    /// more.
    pub(super) fn attach(self: &Arc<Outbox>) -> Option<StreamBody> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        let before = state.detach();
        state.generation += 1;
        state.attached = true;
        state.taken = Some(Instant::now());
        let generation = state.generation;
        drop(state);
        if before == Some(true) {
            self.context.member.report_unreachable(self.peer);
        }
        let (logger, remote) = (&self.context.options.logger, hex(self.peer));
        info!(logger, "set message encoder"; "from" => &self.context.local, "to" => &remote,
            "stream-type" => self.kind.name());
        self.status.activate();
        if before.is_some() {
            warn!(logger, "closed TCP streaming connection with remote peer";
                "stream-writer-type" => self.kind.name(),
                "local-member-id" => &self.context.local, "remote-peer-id" => &remote);
        }
        info!(logger, "established TCP streaming connection with remote peer";
            "stream-writer-type" => self.kind.name(),
            "local-member-id" => &self.context.local, "remote-peer-id" => &remote);
        let encoder = match self.kind {
            Kind::Append => Encoder::Append(AppendEncoder::default()),
            Kind::Message => Encoder::Message,
        };
        Some(StreamBody {
            outbox: self.clone(),
            generation,
            encoder,
            heartbeat: None,
            period: self.context.options.read_timeout / 3,
            taken: VecDeque::new(),
            out: Out::default(),
        })
    }

    /// The peer is no more.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let before = state.detach();
        drop(state);
        let (logger, remote) = (&self.context.options.logger, hex(self.peer));
        if before.is_some() {
            warn!(logger, "closed TCP streaming connection with remote peer";
                "stream-writer-type" => self.kind.name(), "remote-peer-id" => &remote);
        }
        info!(logger, "stopped TCP streaming connection with remote peer";
            "stream-writer-type" => self.kind.name(), "remote-peer-id" => &remote);
    }

    /// Gives a stream up whose connection takes nothing while messages wait.
    pub(super) fn give_up_stalled(&self) {
        let within = self.context.options.write_timeout;
        let state = self.state.lock();
        let stalled = state.attached
            && !state.queue.is_empty()
            && state.taken.is_some_and(|taken| taken.elapsed() > within);
        let generation = state.generation;
        drop(state);
        if stalled {
            self.lose(
                generation,
                false,
                &format_args!("i/o timeout after {within:?}"),
            );
        }
    }

    /// The stream of this generation ended by itself.
    fn lose(&self, generation: u64, unsent: bool, reason: &dyn std::fmt::Display) {
        let mut state = self.state.lock();
        if state.generation != generation {
            return;
        }
        let Some(lost) = state.detach() else {
            return;
        };
        drop(state);
        let context = &self.context;
        self.status.deactivate(self.kind.name(), "write", reason);
        warn!(context.options.logger, "lost TCP streaming connection with remote peer";
            "stream-writer-type" => self.kind.name(), "local-member-id" => &context.local,
            "remote-peer-id" => hex(self.peer));
        context.options.observer.send_failed(self.peer);
        if lost || unsent {
            context.member.report_unreachable(self.peer);
        }
    }
}

/// What a message holds in memory, nearly.
fn weight(m: &raftpb::Message) -> usize {
    let entries: usize = m
        .entries
        .iter()
        .map(|e| 64 + e.data.as_ref().map_or(0, Bytes::len))
        .sum();
    128 + entries + m.snapshot.as_ref().map_or(0, raftpb::Snapshot::encoded_len)
}

/// The body of the answer to a stream's GET: lasts until either side is gone. Whenever the
/// connection has room it gets what waits, in pieces of some size; when nothing waits, hyper
/// writes out what it has.
pub(super) struct StreamBody {
    outbox: Arc<Outbox>,
    generation: u64,
    encoder: Encoder,
    heartbeat: Option<Interval>,
    period: Duration,
    taken: VecDeque<raftpb::Message>,
    out: Out,
}

impl StreamBody {
    /// Takes messages out of the queue. `false` when the stream is to end.
    fn take(&mut self, context: &mut std::task::Context<'_>) -> bool {
        let mut state = self.outbox.state.lock();
        if !state.attached || state.generation != self.generation {
            return false;
        }
        state.taken = Some(Instant::now());
        while self.taken.len() < MAX_TAKEN
            && let Some(message) = state.queue.pop_front()
        {
            state.bytes -= weight(&message);
            self.taken.push_back(message);
        }
        if self.taken.is_empty() {
            state.waker = Some(context.waker().clone());
        }
        true
    }

    /// The connection took a piece. What was taken out of the queue at once may be much, and take
    /// long; as long as it moves, the stream is no stalled one.
    fn moves(&self) {
        let mut state = self.outbox.state.lock();
        if state.generation == self.generation {
            state.taken = Some(Instant::now());
        }
    }

    fn encode(&mut self) {
        let before = self.out.len();
        while self.out.len() < MAX_ENCODED
            && let Some(message) = self.taken.pop_front()
        {
            self.encoder.encode(&message, &mut self.out);
        }
        let bytes = (self.out.len() - before) as u64;
        let outbox = &self.outbox;
        outbox.context.options.observer.sent(outbox.peer, bytes);
    }

    fn beat(&mut self, context: &mut std::task::Context<'_>) -> bool {
        let period = self.period;
        let heartbeat = self.heartbeat.get_or_insert_with(|| {
            let mut heartbeat = interval(period);
            heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            heartbeat
        });
        if heartbeat.poll_tick(context).is_pending() {
            return false;
        }
        self.encoder.heartbeat(&mut self.out);
        let outbox = &self.outbox;
        let bytes = self.out.len() as u64;
        outbox.context.options.observer.sent(outbox.peer, bytes);
        true
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        loop {
            if let Some(piece) = this.out.pop() {
                this.moves();
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.taken.is_empty() && !this.take(context) {
                return Poll::Ready(None);
            }
            if !this.taken.is_empty() {
                this.encode();
            } else if !this.beat(context) {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        let unsent = !self.taken.is_empty() || self.out.len() > 0;
        self.outbox
            .lose(self.generation, unsent, &"connection closed");
    }
}
