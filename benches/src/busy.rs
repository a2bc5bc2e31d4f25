//! What puts see while the server is busy with its database, and how much room the database takes.
//!
//! Puts come at a fixed rate, whatever the server does: a stall then counts for every put that was due meanwhile,
//! while a client that waits for its answer would see it once.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use prost::Message;
use retcd_proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, RangeRequest, RangeResponse,
};

use crate::Error;
use crate::h2::{self, Connection};
use crate::workload::{Plan, Source};

/// Puts a second beside work on the database.
pub const RATE: u32 = 1000;

/// How often replies are looked for. This much a latency may be overstated.
const LOOK: Duration = Duration::from_micros(100);

/// No call here takes longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `work` while puts come, and for as long as `at_least`. Returns how long `work` took, and the latency of the puts
/// in nanoseconds from the moment they were due.
///
/// # Errors
/// If a call fails.
pub fn beside_puts<T>(
    endpoint: SocketAddr,
    plan: &Plan,
    rate: u32,
    at_least: Duration,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<(Duration, T, Histogram<u64>), Error>
where
    T: Send,
{
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let puts = scope.spawn(|| puts(endpoint, plan, rate, &done));
        let begin = Instant::now();
        let result = work();
        let took = begin.elapsed();
        std::thread::sleep(at_least.saturating_sub(took));
        done.store(true, Ordering::Relaxed);
        let latency = puts
            .join()
            .map_err(|_| Error::Server("a client thread panicked".into()))?
            .map_err(Error::io(endpoint.to_string()))?;
        Ok((took, result?, latency))
    })
}

fn puts(
    endpoint: SocketAddr,
    plan: &Plan,
    rate: u32,
    done: &AtomicBool,
) -> io::Result<Histogram<u64>> {
    let mut connection: Connection<Instant> = Connection::open(endpoint, plan.path(), false)?;
    let mut source = Source::new(plan, 0, 1);
    let mut latency =
        Histogram::new_with_bounds(1, 120_000_000_000, 3).map_err(io::Error::other)?;
    let mut due = Instant::now();
    let mut failure = None;
    loop {
        let stop = done.load(Ordering::Relaxed);
        while !stop && due <= Instant::now() && connection.ready(source.size()) {
            source
                .next(|_, message| connection.send(due, message))
                .unwrap_or(Ok(()))?;
            due += Duration::from_secs(1) / rate;
        }
        if stop && connection.in_flight() == 0 {
            break;
        }
        let received = connection.poll(|answer| match answer.reply {
            Ok(_) => latency.saturating_record(answer.tag.elapsed().as_nanos() as u64),
            Err(error) => failure = Some(error),
        });
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOOK),
            received => received?,
        }
    }
    match failure {
        Some(error) => Err(io::Error::other(format!("a put failed: {error}"))),
        None => Ok(latency),
    }
}

/// Reads a whole snapshot of the database.
///
/// # Errors
/// If the call fails.
pub fn snapshot(endpoint: SocketAddr) -> Result<(), Error> {
    const PATH: &str = "/etcdserverpb.Maintenance/Snapshot";
    let read = || -> io::Result<()> {
        let mut connection = Connection::open(endpoint, PATH, false)?;
        connection.set_timeout(PATIENCE)?;
        connection.send((), &[])?;
        let mut ended = None;
        while ended.is_none() {
            connection.receive(|done| ended = Some(done.reply.map(drop)))?;
        }
        ended
            .unwrap_or(Ok(()))
            .map_err(|failure| io::Error::other(format!("{PATH}: {failure}")))
    };
    read().map_err(Error::io(endpoint.to_string()))
}

/// Defragments the database.
///
/// # Errors
/// If the call fails.
pub fn defragment(endpoint: SocketAddr) -> Result<(), Error> {
    let request = DefragmentRequest {}.encode_to_vec();
    call(endpoint, "/etcdserverpb.Maintenance/Defragment", &request).map(drop)
}

/// Compacts everything but what is live, and waits until it is gone.
///
/// # Errors
/// If a call fails.
pub fn compact(endpoint: SocketAddr) -> Result<(), Error> {
    let any = RangeRequest {
        key: vec![0].into(),
        ..RangeRequest::default()
    };
    let reply = call(endpoint, "/etcdserverpb.KV/Range", &any.encode_to_vec())?;
    let reply =
        RangeResponse::decode(&reply[..]).map_err(|error| Error::Server(error.to_string()))?;
    let request = CompactionRequest {
        revision: reply.header.map_or(0, |header| header.revision),
        physical: true,
    };
    call(
        endpoint,
        "/etcdserverpb.KV/Compact",
        &request.encode_to_vec(),
    )
    .map(drop)
}

pub(crate) fn call(endpoint: SocketAddr, path: &str, request: &[u8]) -> Result<Vec<u8>, Error> {
    h2::call(endpoint, path, request, PATIENCE).map_err(Error::io(endpoint.to_string()))
}
