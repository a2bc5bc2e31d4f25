//! The lines of watchers.

use std::time::{Duration, Instant};

use super::{CONNECTIONS, LIMIT, Target, Turn, VALUE, mib, p99_us, plan, rest};
use crate::Error;
use crate::busy;
use crate::load::Usage;
use crate::process;
use crate::report::{Figure, Goal};
use crate::server::Server;
use crate::watch::{Layout, NARROW, WIDE, Watchers};
use crate::workload::{Kind, Plan};

const UNDISTURBED: &str = "watch: put, 2000 a second, nobody watches";
const MANY_STREAMS: &str = "watch: put, 2000 a second, 1000 watchers of a key each on 1000 streams";
const ONE_STREAM: &str = "watch: put, 2000 a second, 10,000 watchers of a key each on one stream";
const STALLED: &str =
    "watch: put, 2000 a second, while 100 watchers of all keys read nothing for 30 s";
const RESUMED: &str = "watch: the 100 read again, until they have all";
const BEHIND: &str =
    "watch: put, 2000 a second, while watchers 500,000 revisions behind catch up, one by one";
const FAN_OUT_10: &str = "watch: put of a key, 200 a second, 10 streams of 100 watchers";
const FAN_OUT_100: &str = "watch: put of a key, 200 a second, 100 streams of 10 watchers";

const TITLES: [&str; 8] = [
    UNDISTURBED,
    MANY_STREAMS,
    ONE_STREAM,
    STALLED,
    RESUMED,
    BEHIND,
    FAN_OUT_10,
    FAN_OUT_100,
];

/// Puts a second.
const RATE: u32 = 2000;
/// So few that Go's server, too, delivers a thousand times as many events.
const FAN_OUT_RATE: u32 = 200;
/// Keys of the lines at [`RATE`].
const KEYS: u64 = 10_000;
/// Watchers that do not read, each on a connection of its own.
const SLOW: usize = 100;
const STALL: Duration = Duration::from_secs(30);
/// How far some are behind.
const HISTORY: u64 = 500_000;

/// How much worse the 99th percentile of puts may be.
const CALM: (Figure, Goal) = (Figure::Slowdown, Goal::OursAtMost(1.3));
/// Server CPU of an event beside Go's.
const LIGHT: (Figure, Goal) = (Figure::EventCpu, Goal::AtMost(0.25));

/// A live line.
struct Live {
    title: &'static str,
    rate: u32,
    keys: u64,
    streams: usize,
    watchers: usize,
    goals: &'static [(Figure, Goal)],
}

const AT_RATE: [Live; 2] = [
    Live {
        title: MANY_STREAMS,
        rate: RATE,
        keys: 1000,
        streams: 1000,
        watchers: 1,
        goals: &[CALM],
    },
    Live {
        title: ONE_STREAM,
        rate: RATE,
        keys: 10_000,
        streams: 1,
        watchers: 10_000,
        goals: &[CALM],
    },
];

const FAN_OUT: [Live; 2] = [
    Live {
        title: FAN_OUT_10,
        rate: FAN_OUT_RATE,
        keys: 1,
        streams: 10,
        watchers: 100,
        goals: &[LIGHT],
    },
    Live {
        title: FAN_OUT_100,
        rate: FAN_OUT_RATE,
        keys: 1,
        streams: 100,
        watchers: 10,
        goals: &[LIGHT],
    },
];

impl Turn<'_> {
    pub(super) fn watch(&mut self) -> Result<(), Error> {
        if !self.wanted(&TITLES) {
            return Ok(());
        }
        let (server, _) = Server::start(self.program(), &self.dir.join("watch"))?;
        for live in &FAN_OUT {
            self.live(&server, live, None)?;
        }
        if self.wanted(&[UNDISTURBED, MANY_STREAMS, ONE_STREAM, STALLED, RESUMED]) {
            self.drive(&Target::of(&server), &plan(Kind::Load, KEYS, false), 16)?;
            let undisturbed = self.undisturbed(&server)?;
            self.add(UNDISTURBED, Figure::P99, undisturbed, None);
            for live in &AT_RATE {
                self.live(&server, live, Some(undisturbed))?;
            }
            self.stalled(&server, undisturbed)?;
        }
        drop(server);
        self.behind()
    }

    /// The 99th percentile of puts alone, after a rest.
    fn undisturbed(&self, server: &Server) -> Result<f64, Error> {
        rest();
        let puts = plan(Kind::Put, KEYS, false);
        let duration = self.options.duration;
        let (_, (), latency) =
            busy::beside_puts(server.endpoint, &puts, RATE, duration, || Ok(()))?;
        Ok(p99_us(&latency))
    }

    /// Watchers that read as they are sent; each event has to come once.
    fn live(
        &mut self,
        server: &Server,
        live: &Live,
        undisturbed: Option<f64>,
    ) -> Result<(), Error> {
        if !self.wanted(&[live.title]) {
            return Ok(());
        }
        self.expect(live.title, live.goals);
        let (endpoint, pids) = (server.endpoint, [server.pid()]);
        let puts = plan(Kind::Put, live.keys, false);
        let layout = Layout {
            connections: CONNECTIONS.min(live.streams),
            streams: live.streams,
            watchers: live.watchers,
            window: WIDE,
            whole: false,
            from: 0,
        };
        let readers = Watchers::create(endpoint, &puts, &layout)?.read()?;
        rest();
        let duration = self.options.duration;
        let mut best: Option<(f64, f64, Option<f64>)> = None;
        for _ in 0..=self.options.retries {
            let (seen, before) = (readers.events(), Usage::now(&pids)?);
            let (_, (), latency) =
                busy::beside_puts(endpoint, &puts, live.rate, duration, || Ok(()))?;
            let events = (latency.len() as f64 * layout.events_per_put(&puts)).round();
            readers.wait(seen + events as u64)?;
            let after = Usage::now(&pids)?;
            let others = after.others_since(&before);
            let cpu = after.server_since(&before).unwrap_or_default();
            let cpu = cpu.as_secs_f64() * 1e6 / events;
            if best.is_none_or(|(_, _, least)| others < least) {
                best = Some((cpu, p99_us(&latency), others));
            }
            if others <= Some(crate::report::DISTURBED) {
                break;
            }
        }
        readers.stop()?;
        let Some((cpu, p99, others)) = best else {
            return Ok(());
        };
        self.add(live.title, Figure::EventCpu, cpu, others);
        self.add(live.title, Figure::P99, p99, others);
        if let Some(undisturbed) = undisturbed {
            self.add(live.title, Figure::Slowdown, p99 / undisturbed, others);
        }
        self.add_memory(live.title, server)
    }

    /// Watchers that do not read for a while, and then do.
    fn stalled(&mut self, server: &Server, undisturbed: f64) -> Result<(), Error> {
        if !self.wanted(&[STALLED, RESUMED]) {
            return Ok(());
        }
        // Their inboxes hold half a MiB each at most, and there is the history itself.
        let bounded = (Figure::Growth, Goal::OursAtMost(250.0));
        self.expect(STALLED, &[CALM, bounded]);
        let quick = (Figure::EventRate, Goal::OursAtLeast(200_000.0));
        self.expect(RESUMED, &[quick]);
        let puts = plan(Kind::Put, KEYS, false);
        let layout = Layout {
            connections: SLOW,
            streams: SLOW,
            watchers: 1,
            window: NARROW,
            whole: true,
            from: 0,
        };
        let watchers = Watchers::create(server.endpoint, &puts, &layout)?;
        rest();
        let before = process::memory(server.pid())?;
        let (_, (), latency) = busy::beside_puts(server.endpoint, &puts, RATE, STALL, || Ok(()))?;
        let after = process::memory(server.pid())?;
        let grown = after.resident.saturating_sub(before.resident);
        self.add(STALLED, Figure::P99, p99_us(&latency), None);
        self.add(
            STALLED,
            Figure::Slowdown,
            p99_us(&latency) / undisturbed,
            None,
        );
        self.add(STALLED, Figure::Growth, mib(grown), None);

        let begin = Instant::now();
        let events = latency.len() * SLOW as u64;
        let readers = watchers.read()?;
        readers.wait(events)?;
        let rate = events as f64 / begin.elapsed().as_secs_f64();
        self.add(RESUMED, Figure::EventRate, rate, None);
        readers.stop()
    }

    /// Watchers that begin far back, one after the other for as long as a line takes, while puts come.
    fn behind(&mut self) -> Result<(), Error> {
        if !self.wanted(&[BEHIND]) {
            return Ok(());
        }
        self.expect(BEHIND, &[CALM]);
        let (server, _) = Server::start(self.program(), &self.dir.join("behind"))?;
        let history = Plan {
            kind: Kind::PutOnce,
            prefix: "history/".into(),
            keys: HISTORY,
            value_size: VALUE,
            serializable: false,
            limit: LIMIT,
            seed: 7,
        };
        self.drive(&Target::of(&server), &history, 1000)?;
        self.drive(&Target::of(&server), &plan(Kind::Load, KEYS, false), 16)?;
        let undisturbed = self.undisturbed(&server)?;
        let layout = Layout {
            connections: 1,
            streams: 1,
            watchers: 1,
            window: WIDE,
            whole: true,
            from: 1,
        };
        let endpoint = server.endpoint;
        let duration = self.options.duration;
        let puts = plan(Kind::Put, KEYS, false);
        let (_, times, latency) = busy::beside_puts(endpoint, &puts, RATE, Duration::ZERO, || {
            let mut times = Vec::new();
            let begin = Instant::now();
            while times.is_empty() || begin.elapsed() < duration {
                let begin = Instant::now();
                let readers = Watchers::create(endpoint, &history, &layout)?.read()?;
                readers.wait(HISTORY)?;
                times.push(begin.elapsed());
                readers.stop()?;
            }
            Ok(times)
        })?;
        let time = times.iter().sum::<Duration>() / times.len() as u32;
        let rate = HISTORY as f64 / time.as_secs_f64();
        self.add(BEHIND, Figure::EventRate, rate, None);
        self.add(BEHIND, Figure::P99, p99_us(&latency), None);
        self.add(
            BEHIND,
            Figure::Slowdown,
            p99_us(&latency) / undisturbed,
            None,
        );
        Ok(())
    }
}
