//! Leases as the log says they are: the replicated state, without time.
//!
//! [`Lessor`] is owned by the apply thread. It reads no clock: when a lease ends is the leader's business,
//! which proposes a revoke. Whatever keeps deadlines goes by the [`Lease`]s that this module gives out.
//!
//! Source: api-semantics 8, raft-log 11; etcd `server/lease/lessor.go`.

use std::time::Duration;

mod lessor;
mod record;

pub(crate) use lessor::{Lease, Lessor};

/// Seconds; a longer lease is refused. Source: etcd `server/lease/lessor.go`.
pub(crate) const MAX_TTL: i64 = 9_000_000_000;

/// The shortest lease in seconds: long enough to outlive an election, so that it is not lost with a leader.
pub(crate) fn min_ttl(election_ticks: usize, heartbeat: Duration) -> i64 {
    let ticks = u32::try_from(election_ticks.saturating_mul(3) / 2).unwrap_or(u32::MAX);
    let millis = heartbeat.saturating_mul(ticks).as_millis();
    i64::try_from(millis.div_ceil(1000)).unwrap_or(MAX_TTL)
}

#[cfg(test)]
mod tests;
