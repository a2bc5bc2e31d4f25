//! Drives a [`Plan`] over several connections and measures.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Error;
use crate::h2::Connection;
use crate::process::{self, Memory};
use crate::workload::{Plan, Source};

/// How to drive.
#[derive(Debug, Clone)]
pub struct Drive {
    /// The server, or all members that clients talk to: the connections are spread over them.
    pub endpoints: Vec<SocketAddr>,
    /// Connections, each with a thread.
    pub connections: usize,
    /// Calls under way at any time, over all connections.
    pub clients: usize,
    /// Not measured.
    pub warm_up: Duration,
    /// Measured; not looked at for plans that end by themselves.
    pub duration: Duration,
    /// The processes of all members, to see what they spend together.
    pub pids: Vec<u32>,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Calls answered well.
    pub calls: u64,
    /// Operations they stand for.
    pub ops: u64,
    /// Calls that failed.
    pub failures: u64,
    /// The first failure.
    pub failure: Option<String>,
    /// The time it took.
    pub elapsed: Duration,
    /// Nanoseconds from sending to the end of the reply, per call.
    pub latency: Histogram<u64>,
    /// CPU time of the server.
    pub server_cpu: Option<Duration>,
    /// CPU time of this client.
    pub client_cpu: Duration,
    /// The server's memory at the end.
    pub memory: Option<Memory>,
    /// CPU time of neither server nor client, as a part of all there is.
    pub other_cpu: Option<f64>,
}

impl Measured {
    /// Operations per second.
    pub fn throughput(&self) -> f64 {
        self.ops as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Server CPU per operation in microseconds.
    pub fn cpu_per_op(&self) -> Option<f64> {
        Some(self.server_cpu?.as_secs_f64() * 1e6 / self.ops.max(1) as f64)
    }

    /// Latency at a quantile, in microseconds.
    pub fn latency_us(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// Stages of a run, shared with the connections' threads.
const WARM_UP: u8 = 0;
const MEASURE: u8 = 1;
const STOP: u8 = 2;
/// A read that brings nothing for this long lets the thread look at the stage.
const PATIENCE: Duration = Duration::from_millis(50);
/// A server that sends nothing for this long while calls wait has failed.
const SILENCE: Duration = Duration::from_secs(30);

/// Runs a plan.
///
/// # Errors
/// If the server cannot be reached, or a connection breaks.
pub fn run(plan: &Plan, drive: &Drive) -> Result<Measured, Error> {
    let finite = plan.calls().is_some();
    let stage = AtomicU8::new(if finite { MEASURE } else { WARM_UP });
    let lanes = drive.connections.clamp(1, drive.clients.max(1));
    let endpoint = |lane: usize| drive.endpoints[lane % drive.endpoints.len()];
    if drive.endpoints.is_empty() {
        return Err(Error::Usage("no server was given".into()));
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..lanes)
            .map(|lane| {
                let clients = drive.clients / lanes + usize::from(lane < drive.clients % lanes);
                let stage = &stage;
                let endpoint = endpoint(lane);
                scope.spawn(move || Lane::open(plan, endpoint, lane, lanes, clients)?.run(stage))
            })
            .collect();
        if !finite {
            std::thread::sleep(drive.warm_up);
        }
        let before = Usage::now(&drive.pids)?;
        let start = Instant::now();
        stage.store(MEASURE, Ordering::Relaxed);
        if !finite {
            // A thread that ends early has lost its connection.
            while start.elapsed() < drive.duration
                && !threads.iter().any(|thread| thread.is_finished())
            {
                std::thread::sleep(Duration::from_millis(10).min(drive.duration));
            }
        }
        let (mut elapsed, mut after) = (start.elapsed(), Usage::now(&drive.pids)?);
        stage.store(if finite { MEASURE } else { STOP }, Ordering::Relaxed);
        let mut total = Tally::new();
        for (lane, thread) in threads.into_iter().enumerate() {
            let tally = thread
                .join()
                .map_err(|_| Error::Server("a client thread panicked".into()))?;
            total.add(tally.map_err(Error::io(endpoint(lane).to_string()))?);
        }
        if finite {
            (elapsed, after) = (start.elapsed(), Usage::now(&drive.pids)?);
        }
        Ok(total.measured(plan, elapsed, &before, &after))
    })
}

/// Makes some calls, so many at a time, over one connection.
///
/// # Errors
/// If one fails.
pub(crate) fn each(
    endpoint: SocketAddr,
    path: &str,
    at_once: usize,
    messages: impl Iterator<Item = Vec<u8>>,
) -> Result<(), Error> {
    let make = || -> io::Result<()> {
        let mut connection = Connection::open(endpoint, path, false)?;
        connection.set_timeout(SILENCE)?;
        let mut messages = messages.peekable();
        let mut failure = None;
        while failure.is_none() && (messages.peek().is_some() || connection.in_flight() > 0) {
            while connection.in_flight() < at_once
                && let Some(message) = messages.next_if(|next| connection.ready(next.len()))
            {
                connection.send((), &message)?;
            }
            connection.receive(|done| failure = done.reply.err().or(failure.take()))?;
        }
        match failure {
            Some(failure) => Err(io::Error::other(format!("{path}: {failure}"))),
            None => Ok(()),
        }
    };
    make().map_err(Error::io(endpoint.to_string()))
}

/// CPU time of all concerned at one moment.
pub(crate) struct Usage {
    taken: Instant,
    server: Option<Duration>,
    client: Duration,
    machine: Duration,
    memory: Option<Memory>,
}

impl Usage {
    pub(crate) fn now(pids: &[u32]) -> Result<Self, Error> {
        let (mut server, mut memory) = (None, None);
        for pid in pids {
            *server.get_or_insert(Duration::ZERO) += process::cpu(*pid)?;
            *memory.get_or_insert_default() += process::memory(*pid)?;
        }
        Ok(Self {
            taken: Instant::now(),
            server,
            client: process::cpu(std::process::id())?,
            machine: process::machine_cpu()?,
            memory,
        })
    }

    /// What the servers have spent since `before`.
    pub(crate) fn server_since(&self, before: &Self) -> Option<Duration> {
        let both = before.server.zip(self.server);
        both.map(|(before, after)| after.saturating_sub(before))
    }

    fn client_since(&self, before: &Self) -> Duration {
        self.client.saturating_sub(before.client)
    }

    /// What neither servers nor client have spent since `before`, as a part of all there was.
    pub(crate) fn others_since(&self, before: &Self) -> Option<f64> {
        let ours = self.server_since(before)? + self.client_since(before);
        let machine = self.machine.saturating_sub(before.machine);
        let elapsed = self.taken - before.taken;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let all = (elapsed.as_secs_f64() * cores as f64).max(1e-9);
        Some(machine.saturating_sub(ours).as_secs_f64() / all)
    }
}

/// What one connection counts.
struct Tally {
    calls: u64,
    failures: u64,
    failure: Option<String>,
    latency: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        // One nanosecond to two minutes, three digits.
        let latency = Histogram::new_with_bounds(1, 120_000_000_000, 3).expect("bounds in order");
        Self {
            calls: 0,
            failures: 0,
            failure: None,
            latency,
        }
    }

    fn fail(&mut self, failure: impl Into<String>) {
        self.failures += 1;
        self.failure.get_or_insert_with(|| failure.into());
    }

    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.failures += other.failures;
        self.failure = self.failure.take().or(other.failure);
        // Both have the same bounds, so adding cannot fail.
        let _ = self.latency.add(other.latency);
    }

    fn measured(self, plan: &Plan, elapsed: Duration, before: &Usage, after: &Usage) -> Measured {
        let ops = match plan.calls() {
            Some(_) if self.failures == 0 => plan.keys,
            _ => self.calls * plan.ops_per_call(),
        };
        Measured {
            calls: self.calls,
            ops,
            failures: self.failures,
            failure: self.failure,
            elapsed,
            latency: self.latency,
            server_cpu: after.server_since(before),
            client_cpu: after.client_since(before),
            memory: after.memory,
            other_cpu: after.others_since(before),
        }
    }
}

/// One connection and its work.
struct Lane {
    connection: Connection<u64>,
    source: Source,
    clients: usize,
}

impl Lane {
    fn open(
        plan: &Plan,
        endpoint: SocketAddr,
        lane: usize,
        lanes: usize,
        clients: usize,
    ) -> io::Result<Self> {
        let connection = Connection::open(endpoint, plan.path(), plan.keeps_replies())?;
        connection.set_timeout(PATIENCE)?;
        Ok(Self {
            connection,
            source: Source::new(plan, lane as u64, lanes as u64),
            clients,
        })
    }

    fn run(mut self, stage: &AtomicU8) -> io::Result<Tally> {
        let mut tally = Tally::new();
        let mut heard = Instant::now();
        let mut exhausted = false;
        loop {
            let now = stage.load(Ordering::Relaxed);
            if now != STOP && !exhausted {
                exhausted = self.fill()?;
            }
            if self.connection.in_flight() == 0 && (exhausted || now == STOP) {
                return Ok(tally);
            }
            let source = &mut self.source;
            let received = self.connection.receive(|done| {
                let outcome = done
                    .reply
                    .and_then(|reply| Ok(source.finished(done.tag, &reply)?));
                match outcome {
                    Err(failure) => tally.fail(failure),
                    Ok(()) if now == MEASURE => {
                        tally.calls += 1;
                        tally
                            .latency
                            .saturating_record(done.sent.elapsed().as_nanos() as u64);
                    }
                    Ok(()) => {}
                }
            });
            match received {
                Ok(()) => heard = Instant::now(),
                Err(error)
                    if !matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    return Err(error);
                }
                Err(_) if heard.elapsed() > SILENCE => {
                    let waiting = self.connection.in_flight();
                    let text = format!(
                        "{waiting} calls without an answer for {} s",
                        SILENCE.as_secs()
                    );
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Err(_) => {}
            }
        }
    }

    /// Puts as many calls under way as wanted and allowed. True: the source has no more.
    fn fill(&mut self) -> io::Result<bool> {
        while self.connection.in_flight() < self.clients
            && self.connection.ready(self.source.size())
        {
            let connection = &mut self.connection;
            match self
                .source
                .next(|number, message| connection.send(number, message))
            {
                Some(sent) => sent?,
                // Keys that are all busy come back with their replies.
                None => return Ok(self.connection.in_flight() == 0),
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h2::stub;
    use crate::workload::Kind;

    fn plan(kind: Kind) -> Plan {
        let (prefix, serializable) = ("bench/".into(), false);
        Plan {
            kind,
            prefix,
            keys: 1_000,
            value_size: 256,
            serializable,
            limit: 0,
            seed: 1,
        }
    }

    fn drive(endpoint: SocketAddr) -> Drive {
        let (warm_up, duration) = (Duration::from_millis(1), Duration::from_millis(50));
        Drive {
            endpoints: vec![endpoint],
            connections: 3,
            clients: 700,
            warm_up,
            duration,
            pids: vec![std::process::id()],
        }
    }

    #[test]
    fn a_plan_that_ends_is_done_exactly_once() {
        for (kind, calls) in [(Kind::PutOnce, 1_000), (Kind::Load, 10)] {
            let measured = run(&plan(kind), &drive(stub::serve(usize::MAX))).expect("run");
            assert_eq!(
                (measured.calls, measured.ops, measured.failures),
                (calls, 1_000, 0)
            );
            assert_eq!(measured.latency.len(), calls);
            assert!(measured.latency_us(0.5) > 0.0 && measured.server_cpu.is_some());
        }
    }

    #[test]
    fn an_endless_plan_stops_in_time() {
        let endless = |duration| {
            let start = Instant::now();
            let drive = Drive {
                duration,
                ..drive(stub::serve(usize::MAX))
            };
            let measured = run(&plan(Kind::Put), &drive).expect("run");
            assert_eq!(measured.failures, 0, "{measured:?}");
            assert!(
                measured.elapsed >= duration
                    && start.elapsed() < duration + Duration::from_secs(60)
            );
            measured.calls
        };
        // On a busy machine no call may end in a moment.
        let mut durations = [50, 500, 5_000, 50_000]
            .map(Duration::from_millis)
            .into_iter();
        assert!(durations.any(|duration| endless(duration) > 0));
    }

    #[test]
    fn a_connection_that_breaks_is_an_error() {
        let long = Drive {
            duration: Duration::from_secs(60),
            ..drive(stub::serve(5))
        };
        assert!(run(&plan(Kind::Put), &long).is_err());
    }
}
