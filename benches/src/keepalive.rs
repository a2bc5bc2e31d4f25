//! Streams of renewals, each with one request under way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Error;
use crate::streams;
use crate::watch::{WIDE, varint};

const PATH: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
/// A server that answers nothing for so long has failed.
const SILENCE: Duration = Duration::from_secs(30);

/// Streams at work.
pub struct Streams {
    endpoint: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

struct Shared {
    renewed: AtomicU64,
    stop: AtomicBool,
    requests: Vec<Vec<u8>>,
}

impl Streams {
    /// Streams, spread over connections, that send `requests` over and over.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn start(
        endpoint: SocketAddr,
        connections: usize,
        streams: usize,
        requests: Vec<Vec<u8>>,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            renewed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            requests,
        });
        let mut threads = Vec::new();
        for lane in 0..connections {
            let mine = streams / connections + usize::from(lane < streams % connections);
            let connection = streams::Streams::open(endpoint, PATH, WIDE)
                .and_then(|connection| connection.set_timeout(SILENCE).map(|()| connection))
                .map_err(Error::io(endpoint.to_string()))?;
            let shared = shared.clone();
            let run = move || run(connection, mine, lane, connections, &shared);
            threads.push(std::thread::spawn(run));
        }
        Ok(Self {
            endpoint,
            shared,
            threads,
        })
    }

    /// Renewals so far.
    pub fn renewed(&self) -> u64 {
        self.shared.renewed.load(Ordering::Relaxed)
    }

    /// Ends them.
    ///
    /// # Errors
    /// What ended one before.
    pub fn stop(mut self) -> Result<(), Error> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            let ran = thread.join();
            let ran = ran.map_err(|_| Error::Server("a client thread panicked".into()))?;
            ran.map_err(Error::io(self.endpoint.to_string()))?;
        }
        Ok(())
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn run(
    mut connection: streams::Streams,
    streams: usize,
    lane: usize,
    step: usize,
    shared: &Shared,
) -> io::Result<()> {
    // Streams whose request was answered.
    let mut idle: Vec<usize> = (0..streams).map(|_| connection.call()).collect();
    let mut next = lane;
    let mut failed = false;
    while !failed && !shared.stop.load(Ordering::Relaxed) {
        while let Some(call) = idle.pop() {
            let request = &shared.requests[next % shared.requests.len()];
            if !connection.ready(call, request.len()) {
                idle.push(call);
                break;
            }
            connection.send(call, request);
            next += step;
        }
        let mut renewed = 0;
        connection.receive(|call, message| {
            idle.push(call);
            renewed += 1;
            failed |= ttl(message).is_none_or(|ttl| ttl == 0);
        })?;
        shared.renewed.fetch_add(renewed, Ordering::Relaxed);
    }
    match failed {
        true => Err(io::Error::other("a lease was not renewed")),
        false => Ok(()),
    }
}

/// The seconds that a `LeaseKeepAliveResponse` tells; 0: the lease is gone.
fn ttl(mut bytes: &[u8]) -> Option<u64> {
    let mut ttl = 0;
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match (tag >> 3, tag & 7) {
            (3, 0) => ttl = varint(&mut bytes)?,
            (_, 0) => drop(varint(&mut bytes)?),
            (_, 2) => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                bytes = bytes.get(length..)?;
            }
            _ => return None,
        }
    }
    Some(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use retcd_proto::etcdserverpb::{LeaseKeepAliveResponse, ResponseHeader};

    #[test]
    fn what_is_left_of_a_lease_is_read() {
        let mut response = LeaseKeepAliveResponse {
            header: Some(ResponseHeader::default()),
            id: 7,
            ttl: 300,
        };
        assert_eq!(ttl(&response.encode_to_vec()), Some(300));
        response.ttl = 0;
        assert_eq!(ttl(&response.encode_to_vec()), Some(0));
        assert_eq!(ttl(&[0xff]), None);
    }
}
