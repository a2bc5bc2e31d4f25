//! Automatic compaction: the leader throws away history that is old, or that is more than so many revisions.
//!
//! Every member watches the revision go on all the time, so that one that comes to lead knows at once how far to compact.
//!
//! Source: config-and-ops 7; etcd `server/etcdserver/api/v3compactor`.

use std::collections::VecDeque;
use std::time::Duration;

use retcd_proto::etcdserverpb::{CompactionRequest, InternalRaftRequest};
use retcd_storage::clock::Clock;
use slog::{Logger, info, warn};
use tokio::time::sleep;

use crate::config::{AutoCompaction, GoDuration};
use crate::error::Error;
use crate::member::Member;

/// Once the first period is over, there is a compaction every period, but at least so often; etcd's value.
const LONGEST: Duration = Duration::from_secs(3600);
/// How often a period, of [`LONGEST`] at most, is looked at; etcd's value.
const LOOKS: u32 = 10;
/// Periods of a few nanoseconds are no reason to look without end.
const SHORTEST_LOOK: Duration = Duration::from_millis(1);
/// How often revisions are counted; etcd's value.
const COUNTS: Duration = Duration::from_secs(300);

/// What is compacted.
pub(crate) trait Compactable {
    /// Whether it is this member that has to.
    fn leads(&self) -> bool;

    /// The newest revision.
    fn revision(&self) -> i64;

    /// Throws away what is older than a revision.
    async fn compact(&self, revision: i64) -> Result<(), Error>;
}

impl Compactable for Member {
    fn leads(&self) -> bool {
        self.node().status().leader == self.id
    }

    fn revision(&self) -> i64 {
        self.store.rev()
    }

    async fn compact(&self, revision: i64) -> Result<(), Error> {
        let request = InternalRaftRequest {
            compaction: Some(CompactionRequest {
                revision,
                physical: false,
            }),
            ..Default::default()
        };
        self.propose(request).await.map(drop)
    }
}

/// Compacts again and again, until it is dropped.
pub(crate) async fn run(
    what: AutoCompaction,
    target: &impl Compactable,
    clock: &dyn Clock,
    logger: &Logger,
) {
    let mut schedule = Schedule::new(what, clock.now());
    let interval = schedule.interval();
    let mode = schedule.mode();
    let (field, kept) = schedule.field();
    loop {
        schedule.saw(target.revision());
        sleep(interval).await;
        if !target.leads() {
            continue;
        }
        let begun = clock.now();
        let Some(revision) = schedule.due(begun, target.revision()) else {
            continue;
        };
        info!(logger, "starting auto {} compaction", mode; "revision" => revision, field => &kept);
        match target.compact(revision).await {
            // Somebody else was faster.
            Ok(()) | Err(Error::Compacted) => {
                let now = clock.now();
                schedule.done(now, revision);
                info!(logger, "completed auto {} compaction", mode;
                    "revision" => revision, field => &kept,
                    "took" => %GoDuration(now.saturating_sub(begun)));
            }
            Err(error) => {
                warn!(logger, "failed auto {} compaction", mode;
                    "revision" => revision, field => &kept,
                    "retry-interval" => %GoDuration(interval), "error" => %error);
            }
        }
    }
}

/// When to compact, and to which revision.
#[derive(Debug)]
enum Schedule {
    Periodic {
        period: Duration,
        /// The revisions at the last looks, the oldest one, of a period ago, first.
        seen: VecDeque<i64>,
        /// How long to wait after the last compaction: the whole period, until there was an attempt.
        rest: Duration,
        since: Duration,
        last: i64,
    },
    Revision {
        retention: i64,
        last: i64,
    },
}

impl Schedule {
    fn new(what: AutoCompaction, now: Duration) -> Self {
        match what {
            AutoCompaction::Periodic(period) => Self::Periodic {
                period,
                seen: VecDeque::new(),
                rest: period,
                since: now,
                last: 0,
            },
            AutoCompaction::Revision(retention) => Self::Revision { retention, last: 0 },
        }
    }

    /// Between two looks; also between two attempts when one fails.
    fn interval(&self) -> Duration {
        match self {
            Self::Periodic { period, .. } => look(*period),
            Self::Revision { .. } => COUNTS,
        }
    }

    fn mode(&self) -> &'static str {
        match self {
            Self::Periodic { .. } => "periodic",
            Self::Revision { .. } => "revision",
        }
    }

    /// What log lines say is kept.
    fn field(&self) -> (&'static str, Kept) {
        match self {
            Self::Periodic { period, .. } => (
                "compact-period",
                Kept::Time(GoDuration(*period).to_string()),
            ),
            Self::Revision { retention, .. } => {
                ("revision-compaction-retention", Kept::Revisions(*retention))
            }
        }
    }

    /// The revision as an interval begins.
    fn saw(&mut self, revision: i64) {
        let Self::Periodic { period, seen, .. } = self else {
            return;
        };
        seen.push_back(revision);
        let looks = period.as_nanos() / look(*period).as_nanos() + 1;
        if seen.len() as u128 > looks {
            seen.pop_front();
        }
    }

    /// The revision to compact to now, by the one whose turn it is.
    fn due(&mut self, now: Duration, newest: i64) -> Option<i64> {
        match self {
            Self::Periodic {
                period,
                seen,
                rest,
                since,
                last,
            } => {
                let revision = *seen.front()?;
                if now.saturating_sub(*since) < *rest || revision == *last {
                    return None;
                }
                *rest = (*period).min(LONGEST);
                Some(revision)
            }
            Self::Revision { retention, last } => {
                let revision = newest.saturating_sub(*retention);
                (revision > 0 && revision != *last).then_some(revision)
            }
        }
    }

    /// It was compacted.
    fn done(&mut self, now: Duration, revision: i64) {
        match self {
            Self::Periodic { since, last, .. } => (*since, *last) = (now, revision),
            Self::Revision { last, .. } => *last = revision,
        }
    }
}

fn look(period: Duration) -> Duration {
    (period.min(LONGEST) / LOOKS).max(SHORTEST_LOOK)
}

/// The value of a log field.
#[derive(Debug)]
enum Kept {
    Time(String),
    Revisions(i64),
}

impl slog::Value for Kept {
    fn serialize(
        &self,
        _: &slog::Record<'_>,
        key: slog::Key,
        serializer: &mut dyn slog::Serializer,
    ) -> slog::Result {
        match self {
            Self::Time(text) => serializer.emit_str(key, text),
            Self::Revisions(number) => serializer.emit_i64(key, *number),
        }
    }
}

#[cfg(test)]
mod tests;
