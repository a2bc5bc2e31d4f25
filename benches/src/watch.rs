//! Watchers that count what they are sent.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prost::Message;
use retcd_proto::etcdserverpb::watch_request::RequestUnion;
use retcd_proto::etcdserverpb::{WatchCreateRequest, WatchRequest};

use crate::Error;
use crate::streams::Streams;
use crate::workload::Plan;

const PATH: &str = "/etcdserverpb.Watch/Watch";

/// A server that sends nothing for so long to somebody who waits has failed.
const SILENCE: Duration = Duration::from_secs(120);
/// How often a reader looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(20);
/// A window that never holds a server up.
pub const WIDE: u32 = 1 << 30;
/// The window that clients begin with.
pub const NARROW: u32 = 65_535;

/// Who watches what.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Streams are spread over them.
    pub connections: usize,
    /// Streams.
    pub streams: usize,
    /// Watchers of each stream.
    pub watchers: usize,
    /// Of each connection and stream.
    pub window: u32,
    /// Each watches all keys of the plan, or one: the first watcher the first key, and so on, and over again.
    pub whole: bool,
    /// Where they begin; 0: now.
    pub from: i64,
}

impl Layout {
    /// Events for each put of a random key, on average.
    pub fn events_per_put(&self, plan: &Plan) -> f64 {
        let watchers = (self.streams * self.watchers) as f64;
        match self.whole {
            true => watchers,
            false => watchers / plan.keys as f64,
        }
    }

    fn create(&self, plan: &Plan, number: usize) -> Vec<u8> {
        let (key, range_end) = match self.whole {
            true => (plan.prefix.clone().into_bytes(), plan.end()),
            false => (plan.key(number as u64 % plan.keys), Vec::new()),
        };
        let create = WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision: self.from,
            ..WatchCreateRequest::default()
        };
        let request_union = Some(RequestUnion::CreateRequest(create));
        WatchRequest { request_union }.encode_to_vec()
    }
}

/// Watchers that are there, and do not read yet.
#[derive(Debug)]
pub struct Watchers {
    endpoint: SocketAddr,
    connections: Vec<Streams>,
    /// What came along with the answers to their creation.
    events: u64,
}

impl Watchers {
    /// Creates watchers, and waits until the server has confirmed them all.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses one.
    pub fn create(endpoint: SocketAddr, plan: &Plan, layout: &Layout) -> Result<Self, Error> {
        let mut watchers = Self {
            endpoint,
            connections: Vec::new(),
            events: 0,
        };
        let mut number = 0;
        for lane in 0..layout.connections {
            let connections = layout.connections;
            let streams =
                layout.streams / connections + usize::from(lane < layout.streams % connections);
            let mut open = || -> io::Result<Streams> {
                let mut connection = Streams::open(endpoint, PATH, layout.window)?;
                connection.set_timeout(SILENCE)?;
                for _ in 0..streams {
                    let call = connection.call();
                    let mut unconfirmed = 0;
                    for _ in 0..layout.watchers {
                        let request = layout.create(plan, number);
                        number += 1;
                        while !connection.ready(call, request.len()) {
                            receive(&mut connection, &mut unconfirmed, &mut watchers.events)?;
                        }
                        connection.send(call, &request);
                        unconfirmed += 1;
                    }
                    while unconfirmed > 0 {
                        receive(&mut connection, &mut unconfirmed, &mut watchers.events)?;
                    }
                }
                Ok(connection)
            };
            let connection = open().map_err(Error::io(endpoint.to_string()))?;
            watchers.connections.push(connection);
        }
        Ok(watchers)
    }

    /// They begin to read, each connection on a thread of its own.
    ///
    /// # Errors
    /// The system refuses.
    pub fn read(self) -> Result<Readers, Error> {
        let context = || Error::io(self.endpoint.to_string());
        let shared = Arc::new(Shared {
            events: AtomicU64::new(self.events),
            stop: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        for connection in self.connections {
            connection.set_timeout(LOOK).map_err(context())?;
            let shared = shared.clone();
            threads.push(std::thread::spawn(move || count(connection, &shared)));
        }
        Ok(Readers {
            endpoint: self.endpoint,
            shared,
            threads,
        })
    }
}

struct Shared {
    events: AtomicU64,
    stop: AtomicBool,
}

/// Watchers that read, until dropped.
pub struct Readers {
    endpoint: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Readers {
    /// Events so far.
    pub fn events(&self) -> u64 {
        self.shared.events.load(Ordering::Relaxed)
    }

    /// Waits until there were exactly so many events.
    ///
    /// # Errors
    /// If a stream ends, there are more, or none come for a long time.
    pub fn wait(&self, expected: u64) -> Result<(), Error> {
        let (mut seen, mut heard) = (self.events(), Instant::now());
        while seen < expected {
            std::thread::sleep(Duration::from_millis(1));
            let now = self.events();
            if now != seen {
                (seen, heard) = (now, Instant::now());
            }
            if heard.elapsed() > SILENCE || self.threads.iter().any(JoinHandle::is_finished) {
                break;
            }
        }
        if seen == expected {
            return Ok(());
        }
        let endpoint = self.endpoint;
        Err(Error::Server(format!(
            "{endpoint} sent {seen} events to its watchers, not {expected}"
        )))
    }

    /// Ends them.
    ///
    /// # Errors
    /// What ended one before.
    pub fn stop(mut self) -> Result<(), Error> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            let read = thread.join();
            let read = read.map_err(|_| Error::Server("a client thread panicked".into()))?;
            read.map_err(Error::io(self.endpoint.to_string()))?;
        }
        Ok(())
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn count(mut connection: Streams, shared: &Shared) -> io::Result<()> {
    while !shared.stop.load(Ordering::Relaxed) {
        let (mut events, mut unasked) = (0, 0);
        match receive(&mut connection, &mut unasked, &mut events) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) => {}
            received => received?,
        }
        shared.events.fetch_add(events, Ordering::Relaxed);
    }
    Ok(())
}

/// Receives once: counts down what is confirmed, and up what happened.
fn receive(connection: &mut Streams, unconfirmed: &mut usize, events: &mut u64) -> io::Result<()> {
    let mut failure = None;
    connection.receive(|_, message| match Reply::of(message) {
        Some(reply) if !reply.cancelled => {
            *unconfirmed = unconfirmed.saturating_sub(usize::from(reply.created));
            *events += reply.events;
        }
        Some(_) => failure = Some("the server cancelled a watch"),
        None => failure = Some("the server sent what is no WatchResponse"),
    })?;
    failure.map_or(Ok(()), |text| Err(io::Error::other(text)))
}

/// What matters here of a `WatchResponse`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reply {
    created: bool,
    cancelled: bool,
    events: u64,
}

impl Reply {
    /// Walks over the fields without looking into them: decoding would cost more than the server spends.
    fn of(mut bytes: &[u8]) -> Option<Self> {
        let mut reply = Self::default();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            match (tag >> 3, tag & 7) {
                (3, 0) => reply.created = varint(&mut bytes)? != 0,
                (4, 0) => reply.cancelled = varint(&mut bytes)? != 0,
                (_, 0) => drop(varint(&mut bytes)?),
                (field, 2) => {
                    let length = usize::try_from(varint(&mut bytes)?).ok()?;
                    bytes = bytes.get(length..)?;
                    reply.events += u64::from(field == 11);
                }
                _ => return None,
            }
        }
        Some(reply)
    }
}

/// Takes a base-128 number off the front.
pub(crate) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use retcd_proto::etcdserverpb::{ResponseHeader, WatchResponse};
    use retcd_proto::mvccpb::{Event, KeyValue};

    #[test]
    fn replies_are_counted_without_being_decoded() {
        let event = Event {
            kv: Some(KeyValue {
                key: "k".into(),
                value: vec![3; 300].into(),
                ..KeyValue::default()
            }),
            ..Event::default()
        };
        let response = WatchResponse {
            header: Some(ResponseHeader {
                revision: 1 << 40,
                ..ResponseHeader::default()
            }),
            watch_id: -1,
            created: true,
            cancel_reason: "none".into(),
            events: vec![event; 3],
            ..WatchResponse::default()
        };
        let mut bytes = response.encode_to_vec();
        let expected = Reply {
            created: true,
            cancelled: false,
            events: 3,
        };
        assert_eq!(Reply::of(&bytes), Some(expected));
        bytes.pop();
        assert_eq!(Reply::of(&bytes), None);
    }
}
