//! Two servers side by side: the same lines on fresh directories of the same disk, in the order A B B A, several rounds.

mod lease;
mod three;
mod watch;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use prost::Message;
use retcd_proto::etcdserverpb::RangeResponse;

use crate::Error;
use crate::busy;
use crate::h2;
use crate::load::{self, Drive, Measured};
use crate::process;
use crate::proof::{self, Proof};
use crate::report::{DISTURBED, Figure, Goal, Report, Sample, Side};
use crate::server::{Program, Server};
use crate::workload::{Kind, Plan, Source};

/// What to compare, and how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server to compare with.
    pub theirs: Program,
    /// Ours.
    pub ours: Program,
    /// Both put their data below it.
    pub dir: PathBuf,
    /// Each round takes every server twice.
    pub rounds: usize,
    /// Measured time of a line.
    pub duration: Duration,
    /// Keys of the lines on many keys.
    pub keys: u64,
    /// Leaders killed, and leaders moved, per turn.
    pub trials: usize,
    /// How often a line is taken again, at most, because other processes disturbed it.
    pub retries: usize,
    /// Only lines whose title contains this.
    pub only: String,
}

/// Connections of lines with many calls in flight.
const CONNECTIONS: usize = 8;
const VALUE: usize = 256;
const LIMIT: i64 = 500;
const SMALL_KEYS: u64 = 100_000;

/// A line that drives one plan.
struct Line {
    title: &'static str,
    kind: Kind,
    serializable: bool,
    clients: usize,
    goals: &'static [(Figure, Goal)],
}

const fn line(
    title: &'static str,
    kind: Kind,
    clients: usize,
    goals: &'static [(Figure, Goal)],
) -> Line {
    Line {
        title,
        kind,
        serializable: false,
        clients,
        goals,
    }
}

/// On a store of a hundred thousand keys.
const SMALL: &[Line] = &[
    line(
        "put, 1 client",
        Kind::Put,
        1,
        &[(Figure::Median, Goal::AtMost(0.75))],
    ),
    line("put, 64 in flight", Kind::Put, 64, &[]),
    line(
        "put, 1000 in flight",
        Kind::Put,
        1000,
        &[
            (Figure::Throughput, Goal::AtLeast(1.5)),
            (Figure::Cpu, Goal::AtMost(0.5)),
        ],
    ),
    line("update transaction, 256 in flight", Kind::Txn, 256, &[]),
    Line {
        serializable: true,
        ..line("serializable read, 1 client", Kind::Range, 1, &[])
    },
    Line {
        serializable: true,
        ..line(
            "serializable read, 1000 in flight",
            Kind::Range,
            1000,
            READ_GOALS,
        )
    },
    line("linearizable read, 1 client", Kind::Range, 1, &[]),
    line(
        "linearizable read, 1000 in flight",
        Kind::Range,
        1000,
        READ_GOALS,
    ),
];

const READ_GOALS: &[(Figure, Goal)] = &[
    (Figure::Throughput, Goal::AtLeast(1.4)),
    (Figure::Cpu, Goal::AtMost(0.6)),
];

/// On a store of [`Options::keys`] keys.
const LARGE: &[Line] = &[
    line(
        "count of all keys, 1 client",
        Kind::Count,
        1,
        &[(Figure::Cpu, Goal::AtMost(0.001))],
    ),
    line(
        "limit=500 of all keys, 1 client",
        Kind::Limit,
        1,
        &[(Figure::Cpu, Goal::AtMost(0.01))],
    ),
];

const LOAD: &str = "load of all keys, 100 puts a transaction, 16 in flight";
const RSS_LOADED: &str = "memory with all keys, after the load";
const RSS_WARM: &str = "memory with all keys, restarted, every key read once";
const UNDISTURBED: &str = "put, 1000 a second, on all keys";
const SNAPSHOT: &str = "put, 1000 a second, while a snapshot is read";
const DEFRAGMENT: &str =
    "put, 1000 a second, while half the keys' old values are defragmented away";
const CHURN: &str = "a million updates of 10,000 keys, compacted every 50,000";
/// A million updates of the line above in so many parts.
const CHURN_ROUNDS: u64 = 20;
const CHURN_KEYS: u64 = 10_000;
/// Without calls, before something is looked at.
const REST: Duration = Duration::from_secs(2);
/// How long space may take to be given back.
const SETTLE: Duration = Duration::from_secs(10);
const RESTART: &str = "restart with all keys after SIGKILL, until /health";

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Figures.
    pub report: Report,
    /// Proofs of durability, in the order taken.
    pub proofs: Vec<(Side, Proof)>,
}

impl Outcome {
    /// The proofs of one side as one sentence part.
    pub fn proof_text(&self, side: Side) -> String {
        let proofs = self
            .proofs
            .iter()
            .filter(|(s, _)| *s == side)
            .map(|(_, proof)| proof);
        let sum = proofs.clone().fold(Proof::default(), |sum, proof| Proof {
            acknowledged: sum.acknowledged + proof.acknowledged,
            present: sum.present + proof.present,
        });
        let verdict = if proofs.clone().all(Proof::holds) {
            "none lost"
        } else {
            "LOST WRITES"
        };
        format!(
            "{} kills, {} puts acknowledged, {} of them present after the restart ({verdict})",
            proofs.count(),
            sum.acknowledged,
            sum.present
        )
    }
}

/// Runs all lines. `progress` gets a line of text for each figure.
///
/// # Errors
/// If a server cannot be run or fails a call.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    for round in 0..options.rounds {
        for (turn, side) in [Side::Theirs, Side::Ours, Side::Ours, Side::Theirs]
            .into_iter()
            .enumerate()
        {
            let dir = options.dir.join(format!("round{round}-{turn}"));
            let mut turn = Turn {
                options,
                side,
                round,
                is_first: turn < 2,
                dir,
                outcome: &mut outcome,
                progress,
            };
            let result = turn
                .small()
                .and_then(|()| turn.large())
                .and_then(|()| turn.churn())
                .and_then(|()| turn.three())
                .and_then(|()| turn.watch())
                .and_then(|()| turn.lease());
            let _ = fs::remove_dir_all(&turn.dir);
            rustix::fs::sync();
            result?;
        }
    }
    Ok(outcome)
}

/// Who is driven, and whose CPU time and memory count.
struct Target {
    endpoints: Vec<SocketAddr>,
    pids: Vec<u32>,
}

impl Target {
    fn of(server: &Server) -> Self {
        Self {
            endpoints: vec![server.endpoint],
            pids: vec![server.pid()],
        }
    }
}

/// One server taken through all lines.
struct Turn<'a> {
    options: &'a Options,
    side: Side,
    round: usize,
    /// The first of this side in its round.
    is_first: bool,
    dir: PathBuf,
    outcome: &'a mut Outcome,
    progress: &'a mut dyn FnMut(&str),
}

impl Turn<'_> {
    fn program(&self) -> &Program {
        match self.side {
            Side::Theirs => &self.options.theirs,
            Side::Ours => &self.options.ours,
        }
    }

    fn wanted(&self, titles: &[&str]) -> bool {
        titles
            .iter()
            .any(|title| title.contains(&self.options.only))
    }

    fn small(&mut self) -> Result<(), Error> {
        let titles: Vec<&str> = SMALL.iter().map(|line| line.title).collect();
        if !self.wanted(&titles) {
            return Ok(());
        }
        let (mut server, _) = Server::start(self.program(), &self.dir.join("small"))?;
        self.drive(
            &Target::of(&server),
            &plan(Kind::Load, SMALL_KEYS, false),
            16,
        )?;
        for line in SMALL {
            self.line(&Target::of(&server), line, SMALL_KEYS)?;
        }
        let writes = SMALL
            .iter()
            .any(|line| line.kind == Kind::Put && self.wanted(&[line.title]));
        if writes {
            let proof = proof::run(&mut server, CONNECTIONS, 1000, Duration::from_secs(2))?;
            (self.progress)(&format!("{:?}: {proof:?}", self.side));
            self.outcome.proofs.push((self.side, proof));
        }
        Ok(())
    }

    fn large(&mut self) -> Result<(), Error> {
        let mut titles: Vec<&str> = LARGE.iter().map(|line| line.title).collect();
        titles.extend([LOAD, RSS_LOADED, RSS_WARM, RESTART]);
        titles.extend([UNDISTURBED, SNAPSHOT, DEFRAGMENT]);
        if !self.wanted(&titles) {
            return Ok(());
        }
        let all = plan(Kind::Load, self.options.keys, false);
        let (mut server, _) = Server::start(self.program(), &self.dir.join("large"))?;
        let loaded = self.drive(&Target::of(&server), &all, 16)?;
        self.add_measured(LOAD, &loaded, &[Figure::Throughput, Figure::Cpu]);
        self.add_memory(RSS_LOADED, &server)?;
        self.check_answers(&server)?;
        for line in LARGE {
            self.line(&Target::of(&server), line, self.options.keys)?;
        }
        if self.wanted(&[RESTART, RSS_WARM]) {
            server.kill()?;
            let took = server.restart()?;
            self.expect(RESTART, &[(Figure::Time, Goal::AtMost(0.25))]);
            self.add(RESTART, Figure::Time, took.as_secs_f64(), None);
            let endpoint = server.endpoint;
            let count = proof::read_all(endpoint, &all, |_, _| {})
                .map_err(Error::io(endpoint.to_string()))?;
            if count != self.options.keys {
                let (path, keys) = (self.program().path.display(), self.options.keys);
                return Err(Error::Server(format!(
                    "{path} has {count} keys after a restart, not {keys}"
                )));
            }
            self.expect(RSS_WARM, &[(Figure::Memory, Goal::AtMost(0.6))]);
            self.add_memory(RSS_WARM, &server)?;
        }
        if self.wanted(&[UNDISTURBED, SNAPSHOT, DEFRAGMENT]) {
            self.busy(&server)?;
        }
        Ok(())
    }

    /// What puts see while the database is worked on.
    fn busy(&mut self, server: &Server) -> Result<(), Error> {
        let endpoint = server.endpoint;
        let puts = plan(Kind::Put, self.options.keys, false);
        let duration = self.options.duration;
        rest();
        let (_, (), undisturbed) =
            busy::beside_puts(endpoint, &puts, busy::RATE, duration, || Ok(()))?;
        let undisturbed = p99_us(&undisturbed);
        self.add(UNDISTURBED, Figure::P99, undisturbed, None);

        self.expect(
            SNAPSHOT,
            &[
                (Figure::Time, Goal::AtMost(1.0)),
                (Figure::Slowdown, Goal::OursAtMost(1.3)),
            ],
        );
        let (took, (), latency) =
            busy::beside_puts(endpoint, &puts, busy::RATE, Duration::ZERO, || {
                busy::snapshot(endpoint)
            })?;
        self.add(SNAPSHOT, Figure::Time, took.as_secs_f64(), None);
        self.add(SNAPSHOT, Figure::P99, p99_us(&latency), None);
        self.add(
            SNAPSHOT,
            Figure::Slowdown,
            p99_us(&latency) / undisturbed,
            None,
        );

        self.expect(DEFRAGMENT, &[(Figure::P99, Goal::OursAtMost(10_000.0))]);
        self.drive(
            &Target::of(server),
            &plan(Kind::Load, self.options.keys / 2, false),
            16,
        )?;
        busy::compact(endpoint)?;
        rest();
        let (took, (), latency) =
            busy::beside_puts(endpoint, &puts, busy::RATE, Duration::ZERO, || {
                busy::defragment(endpoint)
            })?;
        self.add(DEFRAGMENT, Figure::Time, took.as_secs_f64(), None);
        self.add(DEFRAGMENT, Figure::P99, p99_us(&latency), None);
        Ok(())
    }

    /// How much room updates and compactions leave a database with.
    fn churn(&mut self) -> Result<(), Error> {
        if !self.wanted(&[CHURN]) {
            return Ok(());
        }
        self.expect(CHURN, &[(Figure::Space, Goal::OursAtMost(1.5))]);
        let (server, _) = Server::start(self.program(), &self.dir.join("churn"))?;
        let keys = plan(Kind::PutOnce, CHURN_KEYS, false);
        for _ in 0..CHURN_ROUNDS {
            for _ in 0..1_000_000 / CHURN_ROUNDS / CHURN_KEYS {
                self.drive(&Target::of(&server), &keys, 1000)?;
            }
            busy::compact(server.endpoint)?;
        }
        let live = CHURN_KEYS * (keys.key(0).len() + keys.value_size) as u64;
        let begin = Instant::now();
        let mut len = server.database_len()?;
        while len > live && begin.elapsed() < SETTLE {
            std::thread::sleep(Duration::from_millis(100));
            len = server.database_len()?;
        }
        self.add(CHURN, Figure::Space, len as f64 / live as f64, None);
        Ok(())
    }

    /// What is fast must also be right: the count, and the number of keys a limit leaves.
    fn check_answers(&self, server: &Server) -> Result<(), Error> {
        let keys = self.options.keys;
        for (kind, expected) in [(Kind::Count, 0), (Kind::Limit, keys.min(LIMIT as u64))] {
            let plan = plan(kind, keys, false);
            let mut source = Source::new(&plan, 0, 1);
            let timeout = Duration::from_secs(60);
            let reply =
                source.next(|_, message| h2::call(server.endpoint, plan.path(), message, timeout));
            let reply = reply
                .unwrap_or_else(|| Ok(Vec::new()))
                .map_err(Error::io(server.endpoint.to_string()))?;
            let reply = RangeResponse::decode(&reply[..])
                .map_err(|error| Error::Server(error.to_string()))?;
            if (reply.count, reply.kvs.len() as u64) != (keys as i64, expected) {
                let path = self.program().path.display();
                let (count, kvs) = (reply.count, reply.kvs.len());
                return Err(Error::Server(format!(
                    "{path}: {kind:?} of {keys} keys says {count} and returns {kvs}"
                )));
            }
        }
        Ok(())
    }

    fn line(&mut self, target: &Target, line: &Line, keys: u64) -> Result<(), Error> {
        if !self.wanted(&[line.title]) {
            return Ok(());
        }
        self.expect(line.title, line.goals);
        let plan = plan(line.kind, keys, line.serializable);
        let mut measured = self.drive(target, &plan, line.clients)?;
        for _ in 0..self.options.retries {
            if measured.other_cpu <= Some(DISTURBED) {
                break;
            }
            let again = self.drive(target, &plan, line.clients)?;
            if again.other_cpu < measured.other_cpu {
                measured = again;
            }
        }
        let figures = [
            Figure::Throughput,
            Figure::Median,
            Figure::P99,
            Figure::Cpu,
            Figure::Memory,
        ];
        self.add_measured(line.title, &measured, &figures);
        Ok(())
    }

    fn drive(&self, target: &Target, plan: &Plan, clients: usize) -> Result<Measured, Error> {
        let drive = Drive {
            endpoints: target.endpoints.clone(),
            // As many to each member.
            connections: CONNECTIONS
                .next_multiple_of(target.endpoints.len())
                .min(clients),
            clients,
            warm_up: Duration::from_secs(1).min(self.options.duration),
            duration: self.options.duration,
            pids: target.pids.clone(),
        };
        let measured = load::run(plan, &drive)?;
        match &measured.failure {
            Some(failure) => {
                let (path, calls) = (self.program().path.display(), measured.failures);
                Err(Error::Server(format!(
                    "{path}: {calls} calls failed, the first: {failure}"
                )))
            }
            None => Ok(measured),
        }
    }

    fn expect(&mut self, line: &'static str, goals: &[(Figure, Goal)]) {
        for (figure, goal) in goals {
            self.outcome.report.expect(line, *figure, *goal);
        }
    }

    fn add(&mut self, line: &'static str, figure: Figure, value: f64, other_cpu: Option<f64>) {
        (self.progress)(&format!(
            "round {} {:?} {line}: {figure:?} {value:.3}",
            self.round, self.side
        ));
        self.outcome.report.add(Sample {
            line,
            figure,
            side: self.side,
            round: self.round,
            value,
            other_cpu,
        });
    }

    fn add_measured(&mut self, line: &'static str, measured: &Measured, figures: &[Figure]) {
        for figure in figures {
            let value = match figure {
                Figure::Throughput => Some(measured.throughput()),
                Figure::Median => Some(measured.latency_us(0.5)),
                Figure::P99 => Some(measured.latency_us(0.99)),
                Figure::Cpu => measured.cpu_per_op(),
                Figure::Memory => measured.memory.map(|memory| mib(memory.peak)),
                Figure::Time => Some(measured.elapsed.as_secs_f64()),
                Figure::TimeP95
                | Figure::Slowdown
                | Figure::Space
                | Figure::EventRate
                | Figure::EventCpu
                | Figure::Growth => None,
            };
            if let Some(value) = value {
                self.add(line, *figure, value, measured.other_cpu);
            }
        }
    }

    fn add_memory(&mut self, line: &'static str, server: &Server) -> Result<(), Error> {
        let memory = process::memory(server.pid())?;
        self.add(line, Figure::Memory, mib(memory.resident), None);
        Ok(())
    }
}

fn plan(kind: Kind, keys: u64, serializable: bool) -> Plan {
    Plan {
        kind,
        prefix: "bench/".into(),
        keys,
        value_size: VALUE,
        serializable,
        limit: LIMIT,
        seed: 42,
    }
}

fn p99_us(latency: &Histogram<u64>) -> f64 {
    latency.value_at_quantile(0.99) as f64 / 1e3
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The disk has nothing left to do of a load, or of what was removed; syncs of puts would wait for it.
fn rest() {
    rustix::fs::sync();
    std::thread::sleep(REST);
}

/// Median time of a 4 KiB append and its `fdatasync` on the disk of `dir`: no acknowledged write can be faster.
///
/// # Errors
/// If the directory cannot be written to.
pub fn disk_flush(dir: &std::path::Path) -> Result<Duration, Error> {
    use std::io::Write;
    fs::create_dir_all(dir).map_err(Error::io(dir.display().to_string()))?;
    let path = dir.join("flush.tmp");
    let context = || Error::io(path.display().to_string());
    let mut times = Vec::new();
    let mut file = fs::File::create(&path).map_err(context())?;
    for _ in 0..500 {
        let start = Instant::now();
        file.write_all(&[7; 4096])
            .and_then(|()| file.sync_data())
            .map_err(context())?;
        times.push(start.elapsed());
    }
    let _ = fs::remove_file(&path);
    times.sort();
    Ok(times[times.len() / 2])
}
