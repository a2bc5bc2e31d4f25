//! The lines of three members on this machine.

use std::time::{Duration, Instant};

use super::{Line, READ_GOALS, REST, SMALL_KEYS, Target, Turn, line, p99_us, plan, rest};
use crate::Error;
use crate::acks;
use crate::busy;
use crate::cluster::Cluster;
use crate::report::{Figure, Goal};
use crate::workload::Kind;

const MEMBERS: usize = 3;

/// Clients talk to all members alike.
const LINES: &[Line] = &[
    line("3 members: put, 1 client", Kind::Put, 1, &[]),
    line(
        "3 members: put, 1000 in flight",
        Kind::Put,
        1000,
        &[
            (Figure::Throughput, Goal::AtLeast(1.5)),
            (Figure::Cpu, Goal::AtMost(0.5)),
        ],
    ),
    line(
        "3 members: linearizable read, 1 client",
        Kind::Range,
        1,
        &[],
    ),
    line(
        "3 members: linearizable read, 1000 in flight",
        Kind::Range,
        1000,
        READ_GOALS,
    ),
    Line {
        serializable: true,
        ..line(
            "3 members: serializable read, 1000 in flight",
            Kind::Range,
            1000,
            READ_GOALS,
        )
    },
];

/// Only the leader's clients.
const AT_LEADER: Line = line(
    "3 members: put, 1000 in flight, all at the leader",
    Kind::Put,
    1000,
    &[],
);

const UNDISTURBED: &str = "3 members: put, 2000 a second, on all keys";
const JOIN: &str = "3 members: put, 2000 a second, while a fourth joins with all keys";
const KILL: &str = "3 members: leader killed, until a put is acknowledged";
const MOVE: &str = "3 members: leader moved, longest pause between acknowledged puts";

const RESTART: &str = "3 members: all killed and started again, until a put is acknowledged";

/// Puts a second beside a member that joins.
const JOIN_RATE: u32 = 2000;
/// Entries that a member in sync may lag behind: what 50 ms bring.
const LAG: u64 = JOIN_RATE as u64 / 20;
/// Entries behind all keys, so that the log in memory does not reach back to the first one.
const TAIL: u64 = 20_000;
const JOIN_PATIENCE: Duration = Duration::from_secs(600);
/// Puts a second, to each member, where pauses are measured.
const PAUSE_RATE: u32 = 500;
/// How long to look for a pause after a move, and how long a cluster has rest before it.
const MOVE_WINDOW: Duration = Duration::from_secs(1);

impl Turn<'_> {
    pub(super) fn three(&mut self) -> Result<(), Error> {
        let mut titles: Vec<&str> = LINES.iter().map(|line| line.title).collect();
        titles.extend([AT_LEADER.title, KILL, MOVE, RESTART]);
        if self.wanted(&titles) {
            let dir = self.dir.join("three");
            let mut cluster = Cluster::start(self.program(), &dir, MEMBERS)?;
            let all = target(&cluster);
            self.drive(&all, &plan(Kind::Load, SMALL_KEYS, false), 16)?;
            for line in LINES {
                self.line(&all, line, SMALL_KEYS)?;
            }
            let leader = cluster.leader()?;
            let at_leader = Target {
                endpoints: vec![cluster.members[leader].endpoint],
                ..all
            };
            self.line(&at_leader, &AT_LEADER, SMALL_KEYS)?;
            self.moves(&cluster)?;
            self.kills(&mut cluster)?;
            self.restarts(&mut cluster)?;
        }
        self.join()
    }

    /// A member joins while puts come.
    fn join(&mut self) -> Result<(), Error> {
        if !self.wanted(&[UNDISTURBED, JOIN]) {
            return Ok(());
        }
        let keys = self.options.keys;
        let mut cluster = Cluster::start(self.program(), &self.dir.join("join"), MEMBERS)?;
        let all = target(&cluster);
        self.drive(&all, &plan(Kind::Load, keys, false), 16)?;
        self.drive(&all, &plan(Kind::PutOnce, TAIL.min(keys), false), 1000)?;
        rest();
        let puts = plan(Kind::Put, keys, false);
        let leader = cluster.leader()?;
        let endpoint = cluster.members[leader].endpoint;
        let duration = self.options.duration;
        let (_, (), latency) = busy::beside_puts(endpoint, &puts, JOIN_RATE, duration, || Ok(()))?;
        let undisturbed = p99_us(&latency);
        self.add(UNDISTURBED, Figure::P99, undisturbed, None);

        self.expect(
            JOIN,
            &[
                (Figure::Time, Goal::AtMost(0.5)),
                (Figure::Slowdown, Goal::OursAtMost(1.5)),
            ],
        );
        let (took, id, latency) =
            busy::beside_puts(endpoint, &puts, JOIN_RATE, Duration::ZERO, || {
                let id = cluster.join()?;
                cluster.wait_in_sync(leader, LAG, JOIN_PATIENCE)?;
                Ok(id)
            })?;
        // Who is not in sync is refused.
        cluster.promote(leader, id)?;
        self.add(JOIN, Figure::Time, took.as_secs_f64(), None);
        self.add(JOIN, Figure::P99, p99_us(&latency), None);
        let slowdown = p99_us(&latency) / undisturbed;
        self.add(JOIN, Figure::Slowdown, slowdown, None);
        Ok(())
    }

    /// Leadership goes round; clients are at the member that neither gives nor takes it.
    fn moves(&mut self, cluster: &Cluster) -> Result<(), Error> {
        if !self.wanted(&[MOVE]) {
            return Ok(());
        }
        self.expect(MOVE, &[(Figure::Time, Goal::OursAtMost(0.020))]);
        let puts = plan(Kind::Put, SMALL_KEYS, false);
        let mut pauses = Vec::new();
        rest();
        for _ in 0..self.options.trials {
            let from = cluster.leader()?;
            let to = (from + 1) % cluster.members.len();
            let other = cluster.members[(from + 2) % cluster.members.len()].endpoint;
            let ((begin, end), acks) = acks::beside(&[other], &puts, PAUSE_RATE, || {
                std::thread::sleep(MOVE_WINDOW);
                let begin = Instant::now();
                cluster.move_leader(from, to)?;
                std::thread::sleep(MOVE_WINDOW);
                Ok((begin, Instant::now()))
            })?;
            pauses.push(acks::longest_pause(&acks, begin, end).unwrap_or(end - begin));
        }
        self.add_times(MOVE, pauses);
        Ok(())
    }

    /// Clients are at the members that survive.
    fn kills(&mut self, cluster: &mut Cluster) -> Result<(), Error> {
        if !self.wanted(&[KILL]) {
            return Ok(());
        }
        self.expect(
            KILL,
            &[
                (Figure::Time, Goal::AtMost(1.0)),
                (Figure::TimeP95, Goal::AtMost(1.0)),
            ],
        );
        let puts = plan(Kind::Put, SMALL_KEYS, false);
        let mut times = Vec::new();
        rest();
        for _ in 0..self.options.trials {
            let leader = cluster.leader()?;
            let survivors: Vec<_> = (0..cluster.members.len())
                .filter(|at| *at != leader)
                .map(|at| cluster.members[at].endpoint)
                .collect();
            let (begin, acks) = acks::beside(&survivors, &puts, PAUSE_RATE, || {
                std::thread::sleep(REST);
                let begin = Instant::now();
                cluster.members[leader].kill()?;
                cluster.leader()?;
                // Puts are taken soon after it.
                std::thread::sleep(REST);
                Ok(begin)
            })?;
            times.push(acks::first_after(&acks, begin).ok_or_else(|| {
                Error::Server("no put was acknowledged under a new leader".into())
            })?);
            cluster.members[leader].restart()?;
        }
        self.add_times(KILL, times);
        Ok(())
    }

    fn restarts(&mut self, cluster: &mut Cluster) -> Result<(), Error> {
        if !self.wanted(&[RESTART]) {
            return Ok(());
        }
        self.expect(RESTART, &[(Figure::Time, Goal::AtMost(1.0))]);
        let mut times = Vec::new();
        for _ in 0..self.options.trials {
            std::thread::sleep(REST);
            times.push(cluster.restart_all()?);
        }
        self.add_times(RESTART, times);
        Ok(())
    }

    /// Median and 95th percentile.
    fn add_times(&mut self, title: &'static str, mut times: Vec<Duration>) {
        times.sort();
        let Some(last) = times.len().checked_sub(1) else {
            return;
        };
        let at = |percent: usize| times[(last * percent).div_ceil(100)].as_secs_f64();
        self.add(title, Figure::Time, at(50), None);
        self.add(title, Figure::TimeP95, at(95), None);
    }
}

fn target(cluster: &Cluster) -> Target {
    Target {
        endpoints: cluster.endpoints(),
        pids: cluster.pids(),
    }
}
