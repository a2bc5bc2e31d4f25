//! When puts were acknowledged, by a member whose leader comes and goes.
//!
//! Puts come at a fixed rate and their failures are not counted: what matters is how long none succeeds.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Error;
use crate::h2::Connection;
use crate::workload::{Plan, Source};

/// How often replies are looked for. This much a time may be overstated.
const LOOK: Duration = Duration::from_micros(100);

/// A put that succeeded.
#[derive(Debug, Clone, Copy)]
pub struct Ack {
    /// When it was sent.
    pub sent: Instant,
    /// When its reply came.
    pub came: Instant,
}

/// Runs `work` while puts come to each of the members. Returns the puts that succeeded, in the order of their replies.
///
/// # Errors
/// If a member cannot be reached, or the work fails.
pub fn beside<T>(
    endpoints: &[SocketAddr],
    plan: &Plan,
    rate: u32,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<(T, Vec<Ack>), Error> {
    let done = AtomicBool::new(false);
    let lanes = endpoints.len() as u64;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..lanes)
            .zip(endpoints)
            .map(|(lane, endpoint)| {
                let (done, source) = (&done, Source::new(plan, lane, lanes));
                let path = plan.path();
                scope.spawn(move || {
                    write(*endpoint, path, source, rate, done)
                        .map_err(Error::io(endpoint.to_string()))
                })
            })
            .collect();
        let result = work();
        done.store(true, Ordering::Relaxed);
        let mut acks = Vec::new();
        for writer in writers {
            let writer = writer
                .join()
                .map_err(|_| Error::Server("a client thread panicked".into()))?;
            acks.extend(writer?);
        }
        acks.sort_by_key(|ack| ack.came);
        Ok((result?, acks))
    })
}

fn write(
    endpoint: SocketAddr,
    path: &str,
    mut source: Source,
    rate: u32,
    done: &AtomicBool,
) -> io::Result<Vec<Ack>> {
    let mut connection: Connection<()> = Connection::open(endpoint, path, false)?;
    let mut acks = Vec::new();
    let mut due = Instant::now();
    // Puts that still wait when the work is done are not waited for: nobody may answer them for seconds.
    while !done.load(Ordering::Relaxed) {
        while due <= Instant::now() {
            if connection.ready(source.size()) {
                source
                    .next(|_, message| connection.send((), message))
                    .unwrap_or(Ok(()))?;
            }
            due += Duration::from_secs(1) / rate;
        }
        let received = connection.poll(|answer| {
            if answer.reply.is_ok() {
                acks.push(Ack {
                    sent: answer.sent,
                    came: Instant::now(),
                });
            }
        });
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOOK),
            received => received?,
        }
    }
    Ok(acks)
}

/// From `begin` to the reply of the first put that was sent after it.
pub fn first_after(acks: &[Ack], begin: Instant) -> Option<Duration> {
    acks.iter()
        .find(|ack| ack.sent >= begin)
        .map(|ack| ack.came - begin)
}

/// The longest time without a reply that touches `begin..end`.
pub fn longest_pause(acks: &[Ack], begin: Instant, end: Instant) -> Option<Duration> {
    acks.windows(2)
        .filter(|pair| pair[1].came >= begin && pair[0].came <= end)
        .map(|pair| pair[1].came - pair[0].came)
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h2::stub;
    use crate::workload::Kind;

    fn acks(base: Instant, times: &[(u64, u64)]) -> Vec<Ack> {
        let at = |ms| base + Duration::from_millis(ms);
        let ack = |(sent, came)| Ack {
            sent: at(sent),
            came: at(came),
        };
        times.iter().copied().map(ack).collect()
    }

    #[test]
    fn pauses_and_first_acknowledgements_are_found() {
        let base = Instant::now();
        let at = |ms| base + Duration::from_millis(ms);
        let acks = acks(base, &[(0, 1), (2, 3), (4, 30), (20, 31), (32, 90)]);
        let ms = Duration::from_millis;
        assert_eq!(first_after(&acks, at(3)), Some(ms(27)));
        assert_eq!(first_after(&acks, at(10)), Some(ms(21)));
        assert_eq!(first_after(&acks, at(40)), None);
        assert_eq!(longest_pause(&acks, at(5), at(6)), Some(ms(27)));
        assert_eq!(longest_pause(&acks, at(0), at(2)), Some(ms(2)));
        assert_eq!(longest_pause(&acks, at(0), at(40)), Some(ms(59)));
        assert_eq!(longest_pause(&acks, at(100), at(120)), None);
    }

    #[test]
    fn puts_are_acknowledged_while_the_work_runs() {
        let endpoints = [stub::serve(usize::MAX), stub::serve(usize::MAX)];
        let plan = Plan {
            kind: Kind::Put,
            prefix: "a/".into(),
            keys: 100,
            value_size: 64,
            serializable: false,
            limit: 0,
            seed: 1,
        };
        // A busy machine may do nothing else during short work.
        let mut work = Duration::from_millis(200);
        loop {
            let begin = Instant::now();
            let ((), acks) = beside(&endpoints, &plan, 1_000, || {
                std::thread::sleep(work);
                Ok(())
            })
            .expect("beside");
            assert!(acks.iter().all(|ack| ack.sent >= begin));
            assert!(acks.is_sorted_by_key(|ack| ack.came));
            if !acks.is_empty() {
                break;
            }
            work *= 4;
            assert!(work < Duration::from_secs(60), "nothing is acknowledged");
        }
    }
}
