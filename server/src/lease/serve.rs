//! Answering renewals and questions: here if this member keeps the time, else by asking who does.

use std::time::Duration;

use retcd_proto::etcdserverpb as pb;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::keeper::checkpoint;
use super::peer::Unanswered;
use super::shared::{Part, Renewal, TimeToLive};
use crate::error::Error;
use crate::member::Member;

/// How long an answer waits until what was committed is applied, as in etcd.
const APPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait before the leader is asked again, as in etcd.
const PAUSE: Duration = Duration::from_millis(50);

impl Member {
    /// Renews a lease, through the leader if that is another member; returns its seconds.
    ///
    /// # Errors
    /// `LeaseNotFound`; `Timeout` when no leader answered.
    pub(crate) async fn renew(&self, id: i64) -> Result<i64, Error> {
        let deadline = Instant::now() + self.limits.request_timeout;
        // What is rare is on the heap: renewals are many, and their futures are moved about.
        match self.renew_as_leader(id).await {
            Err(Error::NotPrimary) => Box::pin(self.renew_elsewhere(id, deadline)).await,
            answer => answer,
        }
    }

    /// The same for who was not the leader a moment ago.
    async fn renew_elsewhere(&self, id: i64, deadline: Instant) -> Result<i64, Error> {
        loop {
            if self.leads_elsewhere(deadline).await? {
                let leases = self.leader_leases();
                let asked = leases.keep_alive(id);
                match timeout_at(deadline, asked).await {
                    Ok(Ok(ttl)) => return Ok(ttl),
                    Ok(Err(Unanswered::NotFound)) => return Err(Error::LeaseNotFound),
                    Ok(Err(Unanswered::Retry(_))) => sleep(PAUSE).await,
                    Err(_) => return Err(Error::Timeout),
                }
            }
            match self.renew_as_leader(id).await {
                Err(Error::NotPrimary) => {}
                answer => return answer,
            }
        }
    }

    /// What is left of a lease, from the leader if that is another member.
    ///
    /// # Errors
    /// As [`Self::renew`].
    pub(crate) async fn time_to_live(&self, id: i64, keys: bool) -> Result<TimeToLive, Error> {
        let deadline = Instant::now() + self.limits.request_timeout;
        loop {
            match self.time_to_live_as_leader(id, keys).await {
                Err(Error::NotPrimary) => {}
                answer => return answer,
            }
            if self.leads_elsewhere(deadline).await? {
                let leases = self.leader_leases();
                let asked = leases.time_to_live(id, keys);
                match timeout_at(deadline, asked).await {
                    Ok(Ok(found)) => return Ok(found),
                    Ok(Err(Unanswered::NotFound)) => return Err(Error::LeaseNotFound),
                    Ok(Err(Unanswered::Retry(_))) => sleep(PAUSE).await,
                    Err(_) => return Err(Error::Timeout),
                }
            }
        }
    }

    /// Waits until somebody may know more; `true` if that is another member.
    async fn leads_elsewhere(&self, deadline: Instant) -> Result<bool, Error> {
        let mut part = self.leases.part();
        let mut leader = self.leader.subscribe();
        loop {
            let now = *part.borrow_and_update();
            match now {
                Part::Stopped => return Err(Error::Stopped),
                // It may have been deposed without knowing it, or be so soon.
                Part::Primary if Instant::now() >= deadline => return Err(Error::Timeout),
                Part::Primary => {
                    sleep(PAUSE).await;
                    return Ok(false);
                }
                Part::Follower => {}
            }
            let leads = leader.borrow_and_update().id;
            if leads != 0 && leads != self.id {
                return Ok(true);
            }
            tokio::select! {
                _ = part.changed() => {}
                _ = leader.changed() => {}
                () = sleep_until(deadline) => return Err(match leads {
                    0 => Error::NoLeader,
                    _ => Error::Timeout,
                }),
            }
        }
    }

    /// Renews a lease if this member keeps the time.
    ///
    /// # Errors
    /// `NotPrimary`, `LeaseNotFound`; what proposing may give.
    pub(crate) async fn renew_as_leader(&self, id: i64) -> Result<i64, Error> {
        self.confirm_lead().await?;
        // Everything that anybody was told is committed here.
        let index = self.node().status().committed;
        let mut renewal = self.leases.renew(id)?;
        if let Renewal::Unknown = renewal {
            // It may have been granted a moment ago, by way of another member (L4).
            self.wait_applied(index).await?;
            renewal = self.leases.renew(id)?;
        }
        let ttl = match renewal {
            Renewal::Renewed(ttl) => {
                // Renewed already, so that it does not end while this waits. Who cannot wait so long trusts that.
                let _ = self.wait_applied(index).await;
                ttl
            }
            Renewal::Checkpointed(ttl) => {
                Box::pin(self.take_back_checkpoint(id)).await?;
                ttl
            }
            Renewal::Expired(revoked) => return Err(Box::pin(self.expired(revoked)).await),
            Renewal::Unknown => return Err(Error::LeaseNotFound),
        };
        // It may have been revoked in the meantime (L5).
        match self.leases.contains(id) {
            true => {
                self.leases.metrics().renewed.inc();
                Ok(ttl)
            }
            false => Err(Error::LeaseNotFound),
        }
    }

    /// What is left of a lease if this member keeps the time.
    ///
    /// # Errors
    /// As [`Self::renew_as_leader`].
    pub(crate) async fn time_to_live_as_leader(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<TimeToLive, Error> {
        self.leases.term()?;
        self.wait_applied(self.node().status().committed).await?;
        let found = self.leases.time_to_live(id, keys)?;
        found.ok_or(Error::LeaseNotFound)
    }

    /// The time of a lease is over: waits until that is settled, by its revoke or by another leader.
    async fn expired(&self, revoked: oneshot::Receiver<()>) -> Error {
        match timeout(self.limits.request_timeout, revoked).await {
            Ok(Ok(())) => Error::LeaseNotFound,
            Ok(Err(_)) => Error::NotPrimary,
            Err(_) => Error::Timeout,
        }
    }

    /// The log says that less is left of a lease. Another leader would go by that.
    async fn take_back_checkpoint(&self, id: i64) -> Result<(), Error> {
        self.propose(checkpoint(&[(id, 0)])).await.map(drop)
    }

    /// That this member keeps the time is no proof that it still leads: its raft thread may hang in a disk that
    /// does not answer (L2).
    async fn confirm_lead(&self) -> Result<(), Error> {
        let term = self.leases.term()?;
        let node = self.node();
        let is_heard = || {
            let silence = self.clock.now().saturating_sub(node.ticked());
            silence <= self.limits.active_within
        };
        if node.lone_read_index().is_some() || is_heard() {
            return Ok(());
        }
        let confirmed = Box::pin(self.linearizable()).await;
        confirmed.map_err(|_| Error::NotPrimary)?;
        match self.leases.term() {
            Ok(now) if now == term => Ok(()),
            _ => Err(Error::NotPrimary),
        }
    }

    /// Waits until everything up to `index` is applied, as long as that is bearable.
    pub(crate) async fn wait_applied(&self, index: u64) -> Result<(), Error> {
        if self.applied() >= index {
            return Ok(());
        }
        match Box::pin(timeout(APPLY_TIMEOUT, self.applied_up_to(index))).await {
            Ok(applied) => applied,
            Err(_) => Err(Error::TimeoutWaitAppliedIndex),
        }
    }

    /// Grants a lease. Id 0: any that is free.
    pub(crate) fn choose_lease_id(&self, r: &mut pb::LeaseGrantRequest) {
        while r.id == 0 {
            r.id = (self.request_ids.next() & (u64::MAX >> 1)) as i64;
        }
    }
}
