//! Repairing the membership of a database by other records of it.
//!
//! Old releases kept the members in several places and had faults that let them drift apart: members that came back
//! with a restored database, promotions and demotions that reached only one of the places
//! (etcd #19557, #20967, and an update of a learner before 3.6.12).

use retcd_proto::raftpb;

use super::{Change, Cluster};

impl Cluster {
    /// Follows the records that etcd 3.5 went by, as of the same entry: who is not among their members is removed,
    /// and who votes there is no learner. Source: etcd 3.5.35 and 3.6.16 `server/etcdserver/api/membership/cluster.go`.
    pub fn follow_v2(&mut self, v2: &Cluster) -> Vec<Change> {
        let mut changes = Vec::new();
        for member in self.members.values_mut() {
            match v2.members.get(&member.id) {
                None => changes.push(Change::Removed(member.id)),
                Some(old) if member.is_learner && !old.is_learner => {
                    member.is_learner = false;
                    changes.push(Change::Promoted(member.clone()));
                }
                Some(_) => {}
            }
        }
        for change in &changes {
            if let Change::Removed(id) = change {
                self.members.remove(id);
                self.removed.insert(*id);
            }
        }
        changes
    }

    /// Follows raft about who votes, if it knows the same members: raft counted the votes. Where it knows others,
    /// its configuration is left over from another cluster, as after a restore, and the members are right.
    pub fn follow_raft(&mut self, state: &raftpb::ConfState) -> Vec<Change> {
        let mut ids: Vec<u64> = [&state.voters, &state.learners]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        ids.sort_unstable();
        if !ids.iter().eq(self.members.keys()) {
            return Vec::new();
        }
        let mut changes = Vec::new();
        for member in self.members.values_mut() {
            let is_learner = state.learners.contains(&member.id);
            if member.is_learner != is_learner {
                member.is_learner = is_learner;
                changes.push(if is_learner {
                    Change::Updated(member.clone())
                } else {
                    Change::Promoted(member.clone())
                });
            }
        }
        changes
    }
}
