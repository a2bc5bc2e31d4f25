//! Changes of the membership, and of the leader: what is checked before they are proposed, and how they are waited for.
//!
//! Source: raft-log 4.1, 4.4; etcd `server/etcdserver/server.go` (`AddMember` and the others), `util.go`.

use std::time::Duration;

use retcd_proto::raftpb::{ConfChange, ConfChangeType};
use retcd_raft_node::ProposeError;
use retcd_raft_node::membership::{self, Cluster, ConfChangeContext};
use retcd_storage::failpoint::failpoint;
use slog::{error, info, warn};
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::Error;
use crate::member::Member;
use crate::peers::{PromoteError, shown_member};
use crate::wait::{Outcome, Reply};

/// A peer counts as connected when it has been reachable for so long; etcd's value.
const HEALTHY: Duration = Duration::from_secs(5);
/// The part of the leader's log that a learner must have to be promoted, in percent; etcd's value.
const READY_PERCENT: u64 = 90;
/// Rest between two looks for a leader that would promote a learner.
const LEADER_LOOK: Duration = Duration::from_millis(50);

type Members = Vec<membership::Member>;

impl Member {
    /// Adds a member; returns all.
    pub(crate) async fn add_member(&self, member: &membership::Member) -> Result<Members, Error> {
        self.may_add(member)?;
        let kind = match member.is_learner {
            true => ConfChangeType::ConfChangeAddLearnerNode,
            false => ConfChangeType::ConfChangeAddNode,
        };
        let added = self.configure(kind, member.id, Some(member.to_json()));
        added
            .await
            .inspect_err(|error| self.tell_owner(error, member))
    }

    /// Removes a member for ever; returns the rest.
    pub(crate) async fn remove_member(&self, id: u64) -> Result<Members, Error> {
        self.may_remove(id)?;
        let kind = ConfChangeType::ConfChangeRemoveNode;
        self.configure(kind, id, None).await
    }

    /// Gives a member other peer URLs; returns all.
    pub(crate) async fn update_member(
        &self,
        id: u64,
        peer_urls: Vec<String>,
    ) -> Result<Members, Error> {
        let member = membership::Member {
            id,
            peer_urls,
            ..membership::Member::default()
        };
        let kind = ConfChangeType::ConfChangeUpdateNode;
        let updated = self.configure(kind, id, Some(member.to_json()));
        updated
            .await
            .inspect_err(|error| self.tell_owner(error, &member))
    }

    /// A URL was refused because a member has it: says which one, and what to do.
    fn tell_owner(&self, error: &Error, refused: &membership::Member) {
        if !matches!(error, Error::PeerUrlExist) {
            return;
        }
        let cluster = self.cluster.load();
        for owner in cluster.members().filter(|owner| owner.id != refused.id) {
            if let Some(url) = owner
                .peer_urls
                .iter()
                .find(|url| refused.peer_urls.contains(url))
            {
                let id = format!("{:x}", owner.id);
                let name = if owner.name.is_empty() {
                    "not started yet"
                } else {
                    &owner.name
                };
                warn!(self.logger, "rejecting member request; peer URL {} belongs to member {} ({}): give this member \
                        another one, or correct that one first with `etcdctl member update {} --peer-urls=...`, or \
                        remove it with `etcdctl member remove {}`", url, id, name, id, id;
                    "requested-member-id" => format!("{:x}", refused.id));
            }
        }
    }

    /// Makes a voter of a learner; returns all members. Only the leader knows whether it may, so others ask it.
    pub(crate) async fn promote(&self, id: u64, token: Option<&str>) -> Result<Members, Error> {
        let server = &self.metrics.server;
        match self.promote_here(id).await {
            Ok(members) => {
                server.learner_promote_successes.inc();
                return Ok(members);
            }
            Err(Error::NotLeader) => {}
            Err(error) => {
                let reason = error.to_string();
                server
                    .learner_promote_failures
                    .with_label_values(&[&reason])
                    .inc();
                return Err(error);
            }
        }
        let deadline = Instant::now() + self.limits.request_timeout;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            for url in self.leader_urls(deadline).await? {
                match self.remote.promote(&url, id, token, left).await {
                    Ok(members) => return Ok(members),
                    Err(PromoteError::Refused(error)) => return Err(error),
                    Err(PromoteError::Unclear(reason)) => {
                        warn!(self.logger, "the leader did not promote a learner; trying again";
                            "url" => url, "error" => reason);
                    }
                }
            }
            sleep(LEADER_LOOK).await;
        }
        Err(Error::Timeout)
    }

    /// The peer URLs of the leader, once there is one.
    async fn leader_urls(&self, deadline: Instant) -> Result<Vec<String>, Error> {
        let mut leader = self.leader.subscribe();
        let id = match timeout_at(deadline, leader.wait_for(|leader| leader.id != 0)).await {
            Ok(Ok(leader)) => leader.id,
            Ok(Err(_)) => return Err(Error::Stopped),
            Err(_) => return Err(Error::NoLeader),
        };
        let cluster = self.cluster.load();
        Ok(cluster
            .member(id)
            .map_or_else(Vec::new, |m| m.peer_urls.clone()))
    }

    async fn promote_here(&self, id: u64) -> Result<Members, Error> {
        self.may_promote(id).await?;
        let context = ConfChangeContext {
            member: membership::Member {
                id,
                ..membership::Member::default()
            },
            is_promote: true,
        };
        let kind = ConfChangeType::ConfChangeAddNode;
        self.configure(kind, id, Some(context.to_json())).await
    }

    /// Proposes a change and waits until it is applied here.
    async fn configure(
        &self,
        kind: ConfChangeType,
        node_id: u64,
        context: Option<Vec<u8>>,
    ) -> Result<Members, Error> {
        let started = Instant::now();
        let deadline = started + self.limits.request_timeout;
        let id = self.request_ids.next();
        let change = ConfChange {
            id: Some(id),
            r#type: Some(kind as i32),
            node_id: Some(node_id),
            context: context.map(Into::into),
        };
        let mut leader = self.leader.subscribe();
        loop {
            leader.mark_unchanged();
            let mut waiter = self.waiters.register(id);
            failpoint("conf-change:proposing");
            match self.node().propose_conf_change(change.clone()) {
                Ok(()) => {}
                Err(ProposeError::Stopped) => return Err(Error::Stopped),
                Err(ProposeError::Full | ProposeError::TooLarge(_)) => {
                    return Err(Error::TooManyRequests);
                }
            }
            let outcome = timeout_at(deadline, waiter.outcome())
                .await
                .map_err(|_| self.timeout_error(started))??;
            match outcome {
                Outcome::Applied(result) => {
                    let result = result?;
                    info!(self.logger, "applied a configuration change through raft";
                        "local-member-id" => format!("{:x}", self.id),
                        "raft-conf-change" => name(kind),
                        "raft-conf-change-node-id" => format!("{node_id:x}"));
                    return match result {
                        Reply::Members(members) => Ok(members),
                        other => Err(Error::Internal(format!(
                            "a membership change got another request's reply: {other:?}"
                        ))),
                    };
                }
                // It is in no log: propose it again as soon as there is a leader.
                Outcome::Dropped => {
                    timeout_at(deadline, leader.wait_for(|l| l.id != 0))
                        .await
                        .map_err(|_| self.timeout_error(started))?
                        .map_err(|_| Error::Stopped)?;
                    sleep(LEADER_LOOK).await;
                }
            }
        }
    }

    fn may_add(&self, member: &membership::Member) -> Result<(), Error> {
        if !self.limits.strict_reconfig_check {
            return Ok(());
        }
        let cluster = self.cluster.load();
        let voters = Voters::of(&cluster, None);
        if !member.is_learner && !voters.may_grow() {
            warn!(self.logger, "rejecting member add request; not enough healthy members";
                "local-member-id" => format!("{:x}", self.id),
                "requested-member-add" => shown_member(member),
                "number-of-started-member" => voters.started,
                "error" => %Error::MemberNotEnoughStarted);
            return Err(Error::MemberNotEnoughStarted);
        }
        if voters.all > 1 && self.connected(&cluster) < quorum(voters.all + 1) {
            warn!(self.logger, "rejecting member add request; local member has not been connected to majority \
                    peers, reconfigure breaks active quorum";
                "local-member-id" => format!("{:x}", self.id),
                "requested-member-add" => shown_member(member),
                "error" => %Error::Unhealthy);
            return Err(Error::Unhealthy);
        }
        Ok(())
    }

    fn may_remove(&self, id: u64) -> Result<(), Error> {
        if !self.limits.strict_reconfig_check {
            return Ok(());
        }
        let cluster = self.cluster.load();
        if cluster.member(id).is_some_and(|member| member.is_learner) {
            return Ok(());
        }
        let rest = Voters::of(&cluster, Some(id));
        if rest.started < quorum(rest.all) {
            warn!(self.logger, "rejecting member remove request; not enough healthy members";
                "local-member-id" => format!("{:x}", self.id),
                "requested-member-remove-id" => format!("{id:x}"),
                "number-of-started-member" => rest.started,
                "error" => %Error::MemberNotEnoughStarted);
            return Err(Error::MemberNotEnoughStarted);
        }
        // Whoever is down is no part of the quorum that works.
        if id != self.id && self.active_for(id).is_none() {
            return Ok(());
        }
        let voters = Voters::of(&cluster, None).all;
        let connected = self.connected(&cluster);
        if connected.saturating_sub(1) < 1 + voters.saturating_sub(1) / 2 {
            warn!(self.logger, "rejecting member remove request; local member has not been connected to all \
                    peers, reconfigure breaks active quorum";
                "local-member-id" => format!("{:x}", self.id),
                "requested-member-remove" => format!("{id:x}"),
                "active-peers" => connected,
                "error" => %Error::Unhealthy);
            return Err(Error::Unhealthy);
        }
        Ok(())
    }

    async fn may_promote(&self, id: u64) -> Result<(), Error> {
        self.wait_applied(self.node().status().committed).await?;
        let progress = self.node().progress();
        let Some(own) = progress.member(self.id) else {
            return Err(Error::NotLeader);
        };
        let matched = match progress.member(id) {
            Some(learner) => learner.matched,
            // What is known of the others' logs is as of the last tick: it was added since.
            None if self.cluster.load().member(id).is_some() => 0,
            None => return Err(Error::MemberNotFound),
        };
        if matched.saturating_mul(100) < own.matched.saturating_mul(READY_PERCENT) {
            error!(self.logger, "rejecting promote learner: learner is not ready";
                "learner-ready-percent" => matched.saturating_mul(100) / own.matched.max(1),
                "ready-percent-threshold" => READY_PERCENT);
            return Err(Error::LearnerNotReady);
        }
        if !self.limits.strict_reconfig_check {
            return Ok(());
        }
        // The learner counts, and as started: it has received the log.
        let voters = Voters::of(&self.cluster.load(), None);
        if voters.started + 1 < quorum(voters.all + 1) {
            warn!(self.logger, "rejecting member promote request; not enough healthy members";
                "local-member-id" => format!("{:x}", self.id),
                "requested-member-remove-id" => format!("{id:x}"),
                "error" => %Error::MemberNotEnoughStarted);
            return Err(Error::MemberNotEnoughStarted);
        }
        Ok(())
    }

    /// How many voters, this member among them, have been reachable for a while.
    fn connected(&self, cluster: &Cluster) -> usize {
        let voters = cluster.members().filter(|member| !member.is_learner);
        voters
            .filter(|member| self.connected_for(member.id, HEALTHY))
            .count()
    }

    /// Hands leadership over and waits until it is.
    ///
    /// # Errors
    /// `NotLeader`; `BadLeaderTransferee` for nobody or a learner; `TimeoutLeaderTransfer`.
    pub(crate) async fn move_leader(&self, target: u64) -> Result<(), Error> {
        self.transfer(target, |leader| leader == target).await
    }

    /// Until `done` says so of the leader, or of 0 for nobody: then until somebody leads.
    async fn transfer(&self, target: u64, done: impl Fn(u64) -> bool) -> Result<(), Error> {
        if self.node().status().leader != self.id {
            return Err(Error::NotLeader);
        }
        let votes = |member: &membership::Member| !member.is_learner;
        if !self.cluster.load().member(target).is_some_and(votes) {
            return Err(Error::BadLeaderTransferee);
        }
        let started = Instant::now();
        info!(self.logger, "leadership transfer starting";
            "local-member-id" => format!("{:x}", self.id),
            "current-leader-member-id" => format!("{:x}", self.id),
            "transferee-member-id" => format!("{target:x}"));
        let mut leader = self.leader.subscribe();
        self.node()
            .transfer_leader(target)
            .map_err(|_| Error::Stopped)?;
        let deadline = started + self.limits.request_timeout;
        let mut new = match timeout_at(deadline, leader.wait_for(|leader| done(leader.id))).await {
            Ok(Ok(new)) => new.id,
            Ok(Err(_)) => return Err(Error::Stopped),
            Err(_) => return Err(Error::TimeoutLeaderTransfer),
        };
        if new == 0 {
            // The old leader hears of the new one's election first, and of the new one a moment later, if it wins.
            let deadline = Instant::now() + self.limits.election_timeout;
            new = match timeout_at(deadline, leader.wait_for(|leader| leader.id != 0)).await {
                Ok(Ok(new)) => new.id,
                Ok(Err(_)) => return Err(Error::Stopped),
                Err(_) => return Err(Error::NoLeader),
            };
        }
        // To itself is done at once.
        if new == self.id && target != self.id {
            return Err(Error::TimeoutLeaderTransfer);
        }
        info!(self.logger, "leadership transfer finished";
            "local-member-id" => format!("{:x}", self.id),
            "old-leader-member-id" => format!("{:x}", self.id),
            "new-leader-member-id" => format!("{new:x}"),
            "took" => ?started.elapsed());
        Ok(())
    }

    /// Before a stop: hands leadership to the voter that has been reachable for longest, so that the others need
    /// no election.
    pub(crate) async fn hand_over(&self) {
        let leader = self.node().status().leader;
        let id = |id: u64| format!("{id:x}");
        if leader != self.id {
            info!(self.logger, "skipped leadership transfer; local server is not leader";
                "local-member-id" => id(self.id), "current-leader-member-id" => id(leader));
            return;
        }
        let (voters, longest) = self.successors();
        if voters == 0 {
            info!(self.logger, "skipped leadership transfer for single voting member cluster";
                "local-member-id" => id(self.id), "current-leader-member-id" => id(leader));
            return;
        }
        let moved = match longest {
            // Once somebody else leads, or nobody, there is nothing to hand over any more: in the end it is said who
            // leads then.
            Some(longest) => self.transfer(longest, |leader| leader != self.id).await,
            None => Err(Error::Unhealthy),
        };
        if let Err(error) = moved {
            warn!(self.logger, "leadership transfer failed";
                "local-member-id" => id(self.id), "error" => %error);
        }
    }

    /// How many other voters there are, and which of them has been reachable for longest.
    fn successors(&self) -> (usize, Option<u64>) {
        let cluster = self.cluster.load();
        let (mut voters, mut longest) = (0, None);
        for member in cluster.members() {
            if member.is_learner || member.id == self.id {
                continue;
            }
            voters += 1;
            let active = self.active_for(member.id).map(|active| (active, member.id));
            longest = longest.max(active);
        }
        (voters, longest.map(|(_, id)| id))
    }
}

/// The members that vote.
struct Voters {
    all: usize,
    started: usize,
}

impl Voters {
    fn of(cluster: &Cluster, without: Option<u64>) -> Self {
        let voters = cluster
            .members()
            .filter(|member| !member.is_learner && Some(member.id) != without);
        let (mut all, mut started) = (0, 0);
        for voter in voters {
            all += 1;
            started += usize::from(!voter.name.is_empty());
        }
        Self { all, started }
    }

    /// Whether one more, that has not started, leaves a quorum of those that have.
    fn may_grow(&self) -> bool {
        // One member alone may be joined by another: how else would there be two.
        (self.started == 1 && self.all == 1) || self.started >= quorum(self.all + 1)
    }
}

fn quorum(members: usize) -> usize {
    members / 2 + 1
}

fn name(kind: ConfChangeType) -> &'static str {
    match kind {
        ConfChangeType::ConfChangeAddNode => "ConfChangeAddNode",
        ConfChangeType::ConfChangeRemoveNode => "ConfChangeRemoveNode",
        ConfChangeType::ConfChangeUpdateNode => "ConfChangeUpdateNode",
        ConfChangeType::ConfChangeAddLearnerNode => "ConfChangeAddLearnerNode",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(names: &[&str]) -> Cluster {
        let members = names.iter().zip(1..).map(|(name, id)| membership::Member {
            id,
            name: (*name).to_owned(),
            peer_urls: vec![format!("http://h:{id}")],
            ..membership::Member::default()
        });
        Cluster::from_initial(members.collect(), 1)
    }

    #[test]
    fn a_voter_is_added_only_where_those_that_run_stay_a_quorum() {
        // The names of the voters, empty for one that has not started; and etcd's verdict.
        for (names, may) in [
            (&["a"][..], true),
            (&["a", ""], false),
            (&["a", "b"], true),
            (&["a", "b", ""], false),
            (&["a", "b", "c"], true),
            (&["a", "b", "c", ""], true),
            (&["a", "b", "", ""], false),
        ] {
            let voters = Voters::of(&cluster(names), None);
            assert_eq!(voters.may_grow(), may, "{names:?}");
        }
    }

    #[test]
    fn a_voter_is_removed_only_where_those_that_run_stay_a_quorum() {
        for (names, without, may) in [
            (&["a", "b", "c"][..], 1, true),
            (&["a", "b", ""], 1, false),
            (&["a", "b", ""], 3, true),
            (&["a", ""], 2, true),
            (&["a", ""], 1, false),
        ] {
            let rest = Voters::of(&cluster(names), Some(without));
            assert_eq!(rest.started >= quorum(rest.all), may, "{names:?}");
        }
    }
}
