//! All leases as the threads of a member share them: what the log says, and, while this member leads, when each
//! of them ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use retcd_storage::clock::Clock;
use tokio::sync::{oneshot, watch};

use super::deadlines::{Deadlines, Renewed};
use crate::metrics::LeaseMetrics;

/// Revokes that are proposed and not applied. With as many, further ones wait: puts want their turn, and would wait or be
/// refused if they came to the limit of `propose.rs`.
pub(super) const MAX_REVOKING: usize = if cfg!(test) { 8 } else { 2000 };

/// Revokes proposed at once, and checkpoints in one proposal, as in etcd.
const MAX_BATCH: usize = 1000;

/// How long to wait where raft takes no proposals.
const PAUSE: Duration = Duration::from_millis(100);

/// A lease, as the log says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) id: i64,
    /// Seconds granted.
    pub(crate) ttl: i64,
    /// Seconds that were left at the last checkpoint; 0 when there was none since the last renewal.
    pub(crate) remaining_ttl: i64,
    /// Its keys, in the order in which a revoke deletes them.
    pub(crate) keys: BTreeSet<Bytes>,
}

impl Lease {
    /// Seconds that are left of it for a new leader.
    fn left(&self) -> i64 {
        match self.remaining_ttl {
            1.. if !planted!(CheckpointIgnored) => self.remaining_ttl,
            _ => self.ttl,
        }
    }
}

/// What this member is to the leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Somebody else keeps the time, or nobody.
    Follower,
    /// This member keeps the time: it leads, and has applied all that was in the log before.
    Primary,
    /// The member stops.
    Stopped,
}

/// This member does not keep the time. The text is etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a primary lessor")]
pub(crate) struct NotPrimary;

/// What a renewal by the leader finds.
#[derive(Debug)]
pub(crate) enum Renewal {
    /// It has this many seconds again.
    Renewed(i64),
    /// The same, but a checkpoint in the log says that less is left, which is to be taken back first.
    Checkpointed(i64),
    /// Its time is over. Completes when it is revoked; fails if this member loses the lead before.
    Expired(oneshot::Receiver<()>),
    Unknown,
}

/// What is left of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimeToLive {
    /// Whole seconds left.
    pub(crate) left: i64,
    /// Seconds granted.
    pub(crate) granted: i64,
    /// Its keys in order, if they were asked for.
    pub(crate) keys: Vec<Bytes>,
}

/// What the keeper has to propose.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// The term in which it is true.
    pub(super) term: u64,
    /// Leases that have ended.
    pub(super) expired: Vec<i64>,
    /// Leases with the seconds that are left.
    pub(super) checkpoints: Vec<(i64, i64)>,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.expired.is_empty() && self.checkpoints.is_empty()
    }
}

#[derive(Debug, Default)]
struct State {
    leases: BTreeMap<i64, Lease>,
    /// The term in which raft says that this member leads; 0: it does not.
    elected: u64,
    /// The newest term whose first entry is applied here.
    begun: u64,
    /// While this member is the primary.
    deadlines: Option<Deadlines>,
    /// Until when the keeper sleeps; `None`: until it is woken.
    wakes_at: Option<Duration>,
    stopped: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Leases {
    state: Mutex<State>,
    /// The keeper has to look.
    woken: Condvar,
    part: watch::Sender<Part>,
    clock: Arc<dyn Clock>,
    /// What a new leader gives every lease on top: renewals that the one before it answered in its last moments
    /// are unknown to it.
    grace: Duration,
    metrics: LeaseMetrics,
}

impl Leases {
    /// No leases. `grace`: one election timeout.
    pub(crate) fn new(clock: Arc<dyn Clock>, grace: Duration, metrics: LeaseMetrics) -> Self {
        Self {
            state: Mutex::default(),
            woken: Condvar::new(),
            part: watch::Sender::new(Part::Follower),
            clock,
            grace,
            metrics,
        }
    }

    /// What this member is to the leases, now and later.
    pub(crate) fn part(&self) -> watch::Receiver<Part> {
        self.part.subscribe()
    }

    pub(crate) fn metrics(&self) -> &LeaseMetrics {
        &self.metrics
    }

    /// Raft says that this member leads in `term`, or, with `None`, that it does not. Takes effect at once: a
    /// member that is deposed must not answer renewals any more (L2).
    pub(crate) fn elected(&self, term: Option<u64>) {
        let mut state = self.state.lock();
        state.elected = term.unwrap_or(0);
        if !planted!(DeposedKeepsTime) && state.deadlines.take().is_some() {
            self.part
                .send_if_modified(|part| replace(part, Part::Follower));
        }
        self.promote(&mut state);
    }

    /// The first entry of `term` is applied: so is all that came before it.
    pub(crate) fn term_begun(&self, term: u64) {
        let mut state = self.state.lock();
        state.begun = state.begun.max(term);
        self.promote(&mut state);
    }

    fn promote(&self, state: &mut State) {
        let has_begun = state.begun == state.elected || planted!(LeadsBeforeApplied);
        let is_leader = state.elected != 0 && has_begun;
        if !is_leader || state.deadlines.is_some() || state.stopped {
            return;
        }
        let now = self.clock.now();
        let mut deadlines = Deadlines::default();
        for lease in state.leases.values() {
            let grace = if planted!(NoGrace) {
                Duration::ZERO
            } else {
                self.grace
            };
            deadlines.insert(lease.id, lease.ttl, lease.left(), grace, now);
        }
        state.deadlines = Some(deadlines);
        self.part
            .send_if_modified(|part| replace(part, Part::Primary));
        self.woken.notify_all();
    }

    /// Lets go of everybody; nothing ends any more.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        state.deadlines = None;
        self.part
            .send_if_modified(|part| replace(part, Part::Stopped));
        self.woken.notify_all();
    }

    /// Renews a lease for its full time.
    pub(crate) fn renew(&self, id: i64) -> Result<Renewal, NotPrimary> {
        let mut state = self.state.lock();
        let now = self.clock.now();
        if planted!(FollowerRenews)
            && state.deadlines.is_none()
            && let Some(lease) = state.leases.get(&id)
        {
            return Ok(Renewal::Renewed(lease.ttl));
        }
        let deadlines = state.deadlines.as_mut().ok_or(NotPrimary)?;
        Ok(match deadlines.renew(id, now) {
            Renewed::Yes(ttl, false) => Renewal::Renewed(ttl),
            Renewed::Yes(ttl, true) => Renewal::Checkpointed(ttl),
            Renewed::Expired(revoked) => {
                // Perhaps nobody has seen yet that it has ended.
                self.wake_for(&mut state, now);
                Renewal::Expired(revoked)
            }
            Renewed::Unknown => Renewal::Unknown,
        })
    }

    /// The leading term, for who keeps the time.
    pub(crate) fn term(&self) -> Result<u64, NotPrimary> {
        let state = self.state.lock();
        state.deadlines.as_ref().ok_or(NotPrimary)?;
        Ok(state.elected)
    }

    /// Whether there is such a lease. Also right for who does not keep the time.
    pub(crate) fn contains(&self, id: i64) -> bool {
        self.state.lock().leases.contains_key(&id)
    }

    /// What is left of a lease; `None` if there is none.
    pub(crate) fn time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<Option<TimeToLive>, NotPrimary> {
        let state = self.state.lock();
        let deadlines = state.deadlines.as_ref().ok_or(NotPrimary)?;
        let lease = state.leases.get(&id);
        let left = deadlines.left(id, self.clock.now());
        let Some((lease, left)) = lease.zip(left) else {
            return Ok(None);
        };
        let keys = match keys {
            true => lease.keys.iter().cloned().collect(),
            false => Vec::new(),
        };
        Ok(Some(TimeToLive {
            left,
            granted: lease.ttl,
            keys,
        }))
    }

    /// The ids of all leases, those that end first in front where that is known.
    pub(crate) fn ids(&self) -> Vec<i64> {
        let state = self.state.lock();
        let mut ids: Vec<i64> = state.leases.keys().copied().collect();
        if let Some(deadlines) = &state.deadlines {
            ids.sort_by_cached_key(|id| (deadlines.deadline(*id), *id));
        }
        ids
    }

    /// How many leases there are.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().leases.len()
    }

    /// Waits until there is something to propose; `None` when the member stops.
    pub(super) fn wait_for_work(&self) -> Option<Work> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            let now = self.clock.now();
            let work = take_work(&mut state, now);
            if !work.0.is_empty() {
                return Some(work.0);
            }
            if work.1 {
                // A step without result: others may have the lock in between.
                MutexGuard::bump(&mut state);
                continue;
            }
            state.wakes_at = next(&state);
            match state.wakes_at {
                None => self.woken.wait(&mut state),
                Some(at) => {
                    self.woken.wait_for(&mut state, at.saturating_sub(now));
                }
            }
        }
    }

    /// What there is to propose at this moment.
    #[cfg(test)]
    pub(super) fn work(&self) -> Work {
        let mut state = self.state.lock();
        loop {
            let (work, more) = take_work(&mut state, self.clock.now());
            if !work.is_empty() || !more {
                return work;
            }
        }
    }

    /// Raft did not take the revokes of these.
    pub(super) fn put_back(&self, ids: &[i64]) {
        let now = self.clock.now();
        if let Some(deadlines) = &mut self.state.lock().deadlines {
            deadlines.put_back(ids, now, PAUSE);
        }
    }

    /// Wakes the keeper if it sleeps for longer than until `at`.
    fn wake_for(&self, state: &mut State, at: Duration) {
        if state.wakes_at.is_none_or(|wakes_at| at < wakes_at) {
            state.wakes_at = Some(at);
            self.woken.notify_all();
        }
    }

    // What follows is for the apply thread.

    /// All leases anew, from the database.
    pub(super) fn replace(&self, leases: BTreeMap<i64, Lease>) {
        let mut state = self.state.lock();
        state.leases = leases;
        // Only a follower gets the state of another member. If it leads by now, all begin anew.
        if state.deadlines.take().is_some() {
            self.promote(&mut state);
        }
    }

    pub(super) fn insert(&self, lease: Lease) {
        let mut state = self.state.lock();
        let now = self.clock.now();
        self.metrics.granted.inc();
        self.metrics.ttl.observe(lease.ttl as f64);
        if let Some(deadlines) = &mut state.deadlines {
            deadlines.insert(lease.id, lease.ttl, lease.ttl, Duration::ZERO, now);
            if let Some(at) = deadlines.next() {
                self.wake_for(&mut state, at);
            }
        }
        state.leases.insert(lease.id, lease);
    }

    pub(super) fn remove(&self, id: i64) -> Option<Lease> {
        let mut state = self.state.lock();
        let lease = state.leases.remove(&id)?;
        self.metrics.revoked.inc();
        if let Some(deadlines) = &mut state.deadlines {
            let was_revoking = deadlines.remove(id);
            self.metrics.expired.inc_by(u64::from(was_revoking));
            // Not for each: a batch is worth more.
            if was_revoking && deadlines.revoking() == MAX_REVOKING / 2 {
                self.woken.notify_all();
            }
        }
        Some(lease)
    }

    /// Returns the lease as it is then, without its keys.
    pub(super) fn checkpoint(&self, id: i64, remaining_ttl: i64) -> Option<Lease> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let lease = state.leases.get_mut(&id)?;
        lease.remaining_ttl = remaining_ttl;
        if let Some(deadlines) = &mut state.deadlines {
            deadlines.checkpointed(id, remaining_ttl);
        }
        Some(Lease {
            keys: BTreeSet::new(),
            ..*lease
        })
    }

    /// `false` if there is no such lease.
    pub(super) fn attach(&self, key: &Bytes, id: i64) -> bool {
        let mut state = self.state.lock();
        let lease = state.leases.get_mut(&id);
        lease.map(|lease| lease.keys.insert(key.clone())).is_some()
    }

    pub(super) fn detach(&self, key: &[u8], id: i64) {
        if let Some(lease) = self.state.lock().leases.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    #[cfg(test)]
    pub(crate) fn lookup(&self, id: i64) -> Option<Lease> {
        self.state.lock().leases.get(&id).cloned()
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let state = self.state.lock();
        if let Some(deadlines) = &state.deadlines {
            deadlines.check();
            let ids = state.leases.keys();
            assert!(ids.into_iter().all(|id| deadlines.deadline(*id).is_some()));
        }
    }
}

/// What is to be proposed, and whether there may be more if that is nothing.
fn take_work(state: &mut State, now: Duration) -> (Work, bool) {
    let term = state.elected;
    let Some(deadlines) = &mut state.deadlines else {
        return (Work::default(), false);
    };
    let room = MAX_REVOKING.saturating_sub(deadlines.revoking());
    let (expired, more) = deadlines.take_expired(now, room, MAX_BATCH);
    let work = Work {
        term,
        expired,
        checkpoints: deadlines.take_checkpoints(now, MAX_BATCH),
    };
    (work, more)
}

/// Until when the keeper may sleep.
fn next(state: &State) -> Option<Duration> {
    let deadlines = state.deadlines.as_ref()?;
    // Without room, whoever makes room wakes it; and a revoke that got lost is proposed again.
    match deadlines.revoking() >= MAX_REVOKING {
        true => deadlines.next_retry(),
        false => deadlines.next(),
    }
}

fn replace(part: &mut Part, new: Part) -> bool {
    let old = std::mem::replace(part, if *part == Part::Stopped { *part } else { new });
    old != *part
}
