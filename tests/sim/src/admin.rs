//! An operator who changes the membership, as carefully as the API would let one.

use retcd_proto::raftpb::{ConfChange, ConfChangeType as T};
use retcd_raft_node::membership::ConfChangeContext;

use crate::world::{Event, World, record};

/// Members at most.
const MAX_MEMBERS: usize = 6;

impl World {
    /// The next change.
    pub(crate) fn change(&mut self) {
        if self.healed {
            return;
        }
        let wait = self.around(self.plan.change_every);
        self.after(wait, Event::Change);
        let Some(leader) = self.leader() else {
            return;
        };
        let Some(running) = self.members[&leader].running.as_ref() else {
            return;
        };
        let members = running.state.cluster().conf_state();
        let progress = running.machine.core().progress();
        let is_up = |id: &u64| self.members.get(id).is_some_and(|m| m.running.is_some());
        let up = members.voters.iter().filter(|id| is_up(id)).count();
        let all = members.voters.len() + members.learners.len();
        let quorum = |voters: usize| voters / 2 + 1;
        let learner = members.learners.first().copied();
        let matched = |id: u64| progress.iter().find(|p| p.id == id).map_or(0, |p| p.matched);
        let choice = self.random.below(100);
        let victim = self.random.pick(&members.voters).copied().unwrap_or(0);
        let rest_up = up - usize::from(self.members.get(&victim).is_some_and(|m| m.running.is_some()));
        let change = match (learner, choice) {
            (Some(id), 0..50) => {
                let ready = matched(id) * 10 >= matched(leader) * 9;
                (ready && up >= quorum(members.voters.len() + 1)).then(|| promote(id))
            }
            (Some(id), 50..60) => Some(bare(T::ConfChangeRemoveNode, id)),
            (None, 0..40) if all < MAX_MEMBERS => Some(self.add(T::ConfChangeAddLearnerNode)),
            (_, 60..70) if all < MAX_MEMBERS && up >= quorum(members.voters.len() + 1) => {
                Some(self.add(T::ConfChangeAddNode))
            }
            // Of two, one that is removed and crashes may take with it what the other one needs to know, for ever:
            // raft has no answer to that, nor has etcd.
            (_, 70..88)
                if (members.voters.len() > 2 || (members.voters.len() > 1 && self.plan.fault_every == 0))
                    && rest_up >= quorum(members.voters.len() - 1) =>
            {
                Some(bare(T::ConfChangeRemoveNode, victim))
            }
            (_, 88..92) => {
                let version = 1 + self.random.below(9);
                Some(with_record(T::ConfChangeUpdateNode, victim, version))
            }
            (_, 92..) => {
                self.with_core(leader, |core| core.transfer_leader(victim));
                None
            }
            _ => None,
        };
        let Some(mut change) = change else {
            return;
        };
        change.id = Some(self.next_request());
        // Any member passes it on.
        let via = if self.random.chance(300) { *self.random.pick(&members.voters).unwrap_or(&leader) } else { leader };
        self.with_core(via, |core| core.propose_conf_change(&change).is_ok());
        // Another one at its heels, which the leader is to hold until this one is applied.
        if all + 1 < MAX_MEMBERS && up >= quorum(members.voters.len() + 2) && self.random.chance(200) {
            let kind = if self.random.chance(500) { T::ConfChangeAddNode } else { T::ConfChangeAddLearnerNode };
            let mut second = self.add(kind);
            second.id = Some(self.next_request());
            self.with_core(via, |core| core.propose_conf_change(&second).is_ok());
        }
    }

    fn add(&mut self, kind: T) -> ConfChange {
        let id = self.next_member;
        self.next_member += 1;
        with_record(kind, id, 0)
    }
}

fn bare(kind: T, id: u64) -> ConfChange {
    ConfChange { id: None, r#type: Some(kind as i32), node_id: Some(id), context: None }
}

fn with_record(kind: T, id: u64, version: u64) -> ConfChange {
    let mut member = record(id, version);
    member.is_learner = kind == T::ConfChangeAddLearnerNode;
    ConfChange { context: Some(member.to_json().into()), ..bare(kind, id) }
}

fn promote(id: u64) -> ConfChange {
    let context = ConfChangeContext {
        member: retcd_raft_node::membership::Member { id, ..Default::default() },
        is_promote: true,
    };
    ConfChange { context: Some(context.to_json().into()), ..bare(T::ConfChangeAddNode, id) }
}
