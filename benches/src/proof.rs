//! Proof that a server keeps what it acknowledged: writes from many clients, SIGKILL in their midst, restart, and every
//! acknowledged key read back.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use prost::Message;
use retcd_proto::etcdserverpb::{RangeRequest, RangeResponse};

use crate::Error;
use crate::h2::{self, Connection};
use crate::server::Server;
use crate::workload::{Kind, Plan, Source};

/// Keys read in one range.
const PAGE: i64 = 5_000;

/// The outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proof {
    /// Puts acknowledged before the kill.
    pub acknowledged: u64,
    /// Of these, keys that are there again with their value.
    pub present: u64,
}

impl Proof {
    /// Nothing was lost, and there was something to lose.
    pub fn holds(&self) -> bool {
        self.acknowledged > 0 && self.present == self.acknowledged
    }
}

/// Writes to `server` for `duration`, kills it, starts it again and reads.
///
/// # Errors
/// If the server cannot be reached or does not come back.
pub fn run(
    server: &mut Server,
    connections: usize,
    clients: usize,
    duration: Duration,
) -> Result<Proof, Error> {
    let plan = Plan {
        kind: Kind::PutOnce,
        prefix: "proof/".into(),
        // More than can be written; the kill ends it.
        keys: 1_000_000_000,
        value_size: 256,
        serializable: true,
        limit: 0,
        seed: 11,
    };
    let endpoint = server.endpoint;
    let acknowledged = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..connections)
            .map(|lane| {
                let source = Source::new(&plan, lane as u64, connections as u64);
                let clients = (clients / connections).max(1);
                let path = plan.path();
                scope.spawn(move || write_until_killed(endpoint, path, source, clients))
            })
            .collect();
        std::thread::sleep(duration);
        let killed = server.kill();
        let mut acknowledged = Vec::new();
        for lane in lanes {
            let lane = lane
                .join()
                .map_err(|_| Error::Server("a client thread panicked".into()))?;
            acknowledged.extend(lane.map_err(Error::io(endpoint.to_string()))?);
        }
        killed.map(|()| acknowledged)
    })?;
    server.restart()?;
    let stored = read_numbers(endpoint, &plan).map_err(Error::io(endpoint.to_string()))?;
    let present = acknowledged
        .iter()
        .filter(|number| stored.binary_search(number).is_ok())
        .count();
    Ok(Proof {
        acknowledged: acknowledged.len() as u64,
        present: present as u64,
    })
}

/// The numbers of all puts that were answered.
fn write_until_killed(
    endpoint: SocketAddr,
    path: &str,
    mut source: Source,
    clients: usize,
) -> io::Result<Vec<u64>> {
    let mut connection = Connection::open(endpoint, path, false)?;
    let mut acknowledged = Vec::new();
    loop {
        while connection.in_flight() < clients && connection.ready(source.size()) {
            if let Some(sent) = source.next(|number, message| connection.send(number, message)) {
                sent?;
            }
        }
        let received = connection.receive(|done| {
            if done.reply.is_ok() {
                acknowledged.push(done.tag);
            }
        });
        if received.is_err() {
            return Ok(acknowledged);
        }
    }
}

/// Numbers of all keys of the plan that hold the right value, ascending.
fn read_numbers(endpoint: SocketAddr, plan: &Plan) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    read_all(endpoint, plan, |key, value| {
        let number = key
            .strip_prefix(plan.prefix.as_bytes())
            .and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(number) = number.and_then(|digits| digits.parse().ok())
            && value == plan.value(number)
        {
            numbers.push(number);
        }
    })?;
    Ok(numbers)
}

/// Reads every key of the plan, page by page, in order. Returns how many there were.
///
/// # Errors
/// If the server does not answer.
pub fn read_all(
    endpoint: SocketAddr,
    plan: &Plan,
    mut see: impl FnMut(&[u8], &[u8]),
) -> io::Result<u64> {
    let mut request = RangeRequest {
        key: plan.prefix.clone().into(),
        range_end: plan.end().into(),
        limit: PAGE,
        ..RangeRequest::default()
    };
    let mut count = 0;
    loop {
        let reply = h2::call(
            endpoint,
            "/etcdserverpb.KV/Range",
            &request.encode_to_vec(),
            Duration::from_secs(60),
        )?;
        let reply = RangeResponse::decode(&reply[..]).map_err(io::Error::other)?;
        for kv in &reply.kvs {
            see(&kv.key, &kv.value);
        }
        count += reply.kvs.len() as u64;
        let Some(last) = reply.kvs.last().filter(|_| reply.more) else {
            return Ok(count);
        };
        // The key right behind the last.
        request.key = [&last.key[..], &[0]].concat().into();
    }
}
