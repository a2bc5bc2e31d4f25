//! Leases: what the log says of them, and when they end.
//!
//! ```text
//! apply thread ── Lessor ──▶ Leases ◀── renewals, questions: connection threads
//!                              │ ▲ └──── leads, in which term: raft thread
//!     what has ended in a term ▼ │ revoked
//!                            keeper, a thread of its own ──▶ the log
//! ```
//!
//! [`Lessor`] is the replicated part. It reads no clock: what it does depends on the log alone, so that all members
//! have the same leases and keys. [`Leases`] is what it shares with everybody else. While this member leads, and
//! has applied all that came before its term, it also knows when each lease ends; the time comes from a monotonic
//! clock, so that an operator who sets the wall clock ends no lease and prolongs none (L1). A lease that has ended
//! is revoked by a proposal that holds in the leader's own term only (L2): nothing is ever revoked by a member that
//! does not lead. A new leader gives every lease what is left by the last checkpoint in the log (L3), or all of it,
//! and one election timeout on top, for renewals that the leader before answered in its last moments.
//!
//! Source: api-semantics 8, raft-log 11; etcd `server/lease/lessor.go`.

use std::time::Duration;

mod deadlines;
mod keeper;
mod lessor;
pub(crate) mod peer;
mod record;
mod serve;
mod shared;

pub(crate) use keeper::Keeper;
pub(crate) use lessor::Lessor;
pub(crate) use peer::{Alone, LeaderLeases};
pub(crate) use shared::{Leases, NotPrimary, Part};

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
