//! When leases end, as the leader keeps it. Pure: the time is handed in.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::sync::oneshot;

/// A revoke that was proposed and is not applied after so long is proposed again, as in etcd.
pub(super) const RETRY: Duration = Duration::from_secs(3);

/// What is left of a longer lease goes into the log this often, as in etcd.
pub(super) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Timers looked at in one step, under the lock.
const STEP: usize = 1000;

#[derive(Debug)]
struct Timer {
    /// What was granted.
    ttl: Duration,
    deadline: Duration,
    /// Where it is in `queue`, or in `revoking`. In `queue` that may be before its deadline: a renewal does not
    /// move it. Who comes to it early moves it on.
    place: Duration,
    is_revoking: bool,
    /// Where it is in `checkpoints`.
    checkpoint: Option<Duration>,
    /// The log holds what was left of it once. A renewal has to take that back.
    is_checkpointed: bool,
}

/// What a renewal finds.
#[derive(Debug)]
pub(super) enum Renewed {
    /// It has this many seconds again. `true`: and a checkpoint in the log, which is to be taken back.
    Yes(i64, bool),
    /// It has ended, and its revoke is on the way. The sender goes with the lease or with the leadership; before
    /// the former it says so.
    Expired(oneshot::Receiver<()>),
    Unknown,
}

/// The timers of all leases, while this member leads.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    timers: HashMap<i64, Timer>,
    /// Those that run, by when to look at them.
    queue: BTreeSet<(Duration, i64)>,
    /// Those whose revoke is proposed, by when to propose it again.
    revoking: BTreeSet<(Duration, i64)>,
    /// By when to write down what is left.
    checkpoints: BTreeSet<(Duration, i64)>,
    /// Renewals that came too late.
    late: HashMap<i64, Vec<oneshot::Sender<()>>>,
}

fn seconds(n: i64) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(0))
}

impl Deadlines {
    /// A lease begins, or goes on under a new leader: `ttl` seconds were granted, `left` of them are left, and
    /// `grace` comes on top.
    pub(super) fn insert(&mut self, id: i64, ttl: i64, left: i64, grace: Duration, now: Duration) {
        let deadline = now + seconds(left) + grace;
        self.remove(id);
        let checkpoint = (deadline > now + CHECKPOINT_INTERVAL).then(|| now + CHECKPOINT_INTERVAL);
        self.checkpoints.extend(checkpoint.map(|at| (at, id)));
        self.queue.insert((deadline, id));
        let timer = Timer {
            ttl: seconds(ttl),
            deadline,
            place: deadline,
            is_revoking: false,
            checkpoint,
            is_checkpointed: left < ttl,
        };
        self.timers.insert(id, timer);
    }

    /// A lease is revoked; true if that was proposed because its time was over.
    pub(super) fn remove(&mut self, id: i64) -> bool {
        let Some(timer) = self.timers.remove(&id) else {
            return false;
        };
        if let Some(at) = timer.checkpoint {
            self.checkpoints.remove(&(at, id));
        }
        for late in self.late.remove(&id).into_iter().flatten() {
            // Who waited may have gone.
            let _ = late.send(());
        }
        self.places(timer.is_revoking).remove(&(timer.place, id));
        timer.is_revoking
    }

    fn places(&mut self, is_revoking: bool) -> &mut BTreeSet<(Duration, i64)> {
        match is_revoking {
            true => &mut self.revoking,
            false => &mut self.queue,
        }
    }

    /// What the log says is left of a lease: 0 if it was renewed since.
    pub(super) fn checkpointed(&mut self, id: i64, left: i64) {
        if let Some(timer) = self.timers.get_mut(&id) {
            timer.is_checkpointed = left > 0;
        }
    }

    pub(super) fn renew(&mut self, id: i64, now: Duration) -> Renewed {
        let Some(timer) = self.timers.get_mut(&id) else {
            return Renewed::Unknown;
        };
        if timer.is_revoking || timer.deadline <= now {
            let (sender, receiver) = oneshot::channel();
            let late = self.late.entry(id).or_default();
            late.retain(|sender| !sender.is_closed());
            late.push(sender);
            return Renewed::Expired(receiver);
        }
        // A new leader's grace is not taken back.
        if !planted!(RenewalForgotten) {
            timer.deadline = timer.deadline.max(now + timer.ttl);
        }
        let at = now + CHECKPOINT_INTERVAL;
        if timer.checkpoint.is_none() && timer.deadline > at {
            timer.checkpoint = Some(at);
            self.checkpoints.insert((at, id));
        }
        let ttl = i64::try_from(timer.ttl.as_secs()).unwrap_or(i64::MAX);
        let is_checkpointed = timer.is_checkpointed && !planted!(CheckpointNotTakenBack);
        Renewed::Yes(ttl, is_checkpointed)
    }

    /// Whole seconds left, negative when its time was over before that many.
    pub(super) fn left(&self, id: i64, now: Duration) -> Option<i64> {
        let deadline = self.timers.get(&id)?.deadline;
        let whole = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
        Some(match deadline.checked_sub(now) {
            Some(left) => whole(left),
            None => -whole(now - deadline),
        })
    }

    /// For sorting leases by when they end.
    pub(super) fn deadline(&self, id: i64) -> Option<Duration> {
        Some(self.timers.get(&id)?.deadline)
    }

    /// How many revokes are proposed and not applied.
    pub(super) fn revoking(&self) -> usize {
        self.revoking.len()
    }

    /// Leases to revoke now, `max` of them at most, and of those that were not proposed yet `room`. They count as
    /// proposed; [`Self::put_back`] is for those that could not be. `true`: there may be more.
    pub(super) fn take_expired(
        &mut self,
        now: Duration,
        room: usize,
        max: usize,
    ) -> (Vec<i64>, bool) {
        let mut expired = Vec::new();
        let mut fresh = 0;
        for _ in 0..STEP {
            if expired.len() >= max {
                return (expired, true);
            }
            let again = first_due(&self.revoking, now);
            let queued = || first_due(&self.queue, now).filter(|_| fresh < room);
            let Some((place, id)) = again.or_else(queued) else {
                return (expired, false);
            };
            let Some(timer) = self.timers.get_mut(&id) else {
                debug_assert!(false, "a place without a timer");
                self.places(again.is_some()).remove(&(place, id));
                continue;
            };
            timer.is_revoking = timer.deadline <= now;
            timer.place = match timer.is_revoking {
                true => now + RETRY,
                false => timer.deadline,
            };
            let (next, is_revoking) = (timer.place, timer.is_revoking);
            self.places(again.is_some()).remove(&(place, id));
            self.places(is_revoking).insert((next, id));
            if is_revoking {
                expired.push(id);
                fresh += usize::from(again.is_none());
            }
        }
        (expired, true)
    }

    /// The revokes of these could not be proposed; they are due again after `pause`.
    pub(super) fn put_back(&mut self, ids: &[i64], now: Duration, pause: Duration) {
        for id in ids {
            let Some(timer) = self.timers.get_mut(id).filter(|timer| timer.is_revoking) else {
                continue;
            };
            let old = std::mem::replace(&mut timer.place, now + pause);
            self.revoking.remove(&(old, *id));
            self.revoking.insert((now + pause, *id));
        }
    }

    /// Leases with what is left of them, to be written down now, `max` of them at most.
    pub(super) fn take_checkpoints(&mut self, now: Duration, max: usize) -> Vec<(i64, i64)> {
        let mut due = Vec::new();
        for _ in 0..STEP {
            let Some((at, id)) = first_due(&self.checkpoints, now).filter(|_| due.len() < max)
            else {
                return due;
            };
            self.checkpoints.remove(&(at, id));
            let Some(timer) = self.timers.get_mut(&id) else {
                debug_assert!(false, "a checkpoint without a timer");
                continue;
            };
            // Of a lease that was renewed meanwhile the interval counts from there.
            let fresh = (timer.deadline + CHECKPOINT_INTERVAL).saturating_sub(timer.ttl);
            let mut next = Some(fresh);
            if fresh <= now {
                let left = timer.deadline.saturating_sub(now);
                let ceiling = left.as_secs() + u64::from(left.subsec_nanos() > 0);
                if !left.is_zero() && Duration::from_secs(ceiling) < timer.ttl {
                    // From the proposal on: it may be committed without this member learning of it.
                    timer.is_checkpointed = true;
                    due.push((id, i64::try_from(ceiling).unwrap_or(i64::MAX)));
                }
                let at = now + CHECKPOINT_INTERVAL;
                next = (timer.deadline > at).then_some(at);
            }
            timer.checkpoint = next;
            self.checkpoints.extend(next.map(|at| (at, id)));
        }
        due
    }

    /// When there is something to do next.
    pub(super) fn next(&self) -> Option<Duration> {
        let sets = [&self.queue, &self.revoking, &self.checkpoints];
        let first = |set: &&BTreeSet<(Duration, i64)>| set.first().map(|(at, _)| *at);
        sets.iter().filter_map(first).min()
    }

    /// When a revoke that is not applied has to be proposed again.
    pub(super) fn next_retry(&self) -> Option<Duration> {
        self.revoking.first().map(|(at, _)| *at)
    }

    /// Every timer has its place and every place its timer.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(
            self.queue.len() + self.revoking.len(),
            self.timers.len(),
            "a timer has one place"
        );
        for (id, timer) in &self.timers {
            let places = match timer.is_revoking {
                true => &self.revoking,
                false => &self.queue,
            };
            assert!(places.contains(&(timer.place, *id)), "{id}: {timer:?}");
            assert!(timer.is_revoking || timer.place <= timer.deadline);
            if let Some(at) = timer.checkpoint {
                assert!(self.checkpoints.contains(&(at, *id)), "{id}: {timer:?}");
            }
        }
        let planned = self.timers.values().filter(|t| t.checkpoint.is_some());
        assert_eq!(planned.count(), self.checkpoints.len());
        assert!(self.late.keys().all(|id| self.timers.contains_key(id)));
    }
}

fn first_due(set: &BTreeSet<(Duration, i64)>, now: Duration) -> Option<(Duration, i64)> {
    set.first().copied().filter(|(at, _)| *at <= now)
}
