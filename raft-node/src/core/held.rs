//! Conf changes that are held until the one before them is applied.
//!
//! Raft has one change under way at a time, and the crate appends an empty entry in the place of another one: who asked
//! for that waits in vain, as with etcd. It happens to careful callers, too. A follower has applied the first change and
//! says so, its caller asks it for the next one, and the leader, which has not applied the first one yet, drops it. So a
//! leader holds a change that comes too early, for a while.
//!
//! Whether a change leaves enough members that work was judged when it was asked for, perhaps not knowing of the one
//! before it. Dropping it used to make up for that. Therefore one that was held is let go only where the voters that
//! this leader hears of are a quorum also after it.

use std::collections::VecDeque;

use prost::Message as _;
use raft::StateRole;
use raft::eraftpb::{ConfChange, ConfChangeType, Entry, EntryType};
use retcd_proto::raftpb;

use super::{Core, convert};
use crate::core::StepError;

/// Changes that are held at most. They are rare, and each is to be applied before the next one.
const MAX_HELD: usize = 16;
/// What one of them may take. A member's name and addresses take less.
const MAX_BYTES: usize = 64 * 1024;

/// Conf changes in the order in which they came.
#[derive(Debug)]
pub(super) struct Held {
    /// With the ticks left to each of them.
    changes: VecDeque<(Entry, u32)>,
    /// Ticks until one that could not be let go is dropped.
    patience: u32,
}

impl Held {
    pub(super) fn new(patience: u32) -> Held {
        Held {
            changes: VecDeque::new(),
            patience,
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Holds all of them, or none.
    ///
    /// # Errors
    /// `ProposalDropped` when too many are held already.
    pub(super) fn push(&mut self, entries: Vec<Entry>) -> Result<(), StepError> {
        if self.changes.len() + entries.len() > MAX_HELD {
            return Err(StepError::ProposalDropped);
        }
        let patience = self.patience;
        self.changes
            .extend(entries.into_iter().map(|entry| (entry, patience)));
        Ok(())
    }
}

impl Core {
    /// Whether these proposals are conf changes that come too early.
    pub(super) fn is_early(&self, entries: &[Entry]) -> bool {
        let raft = &self.raw.raft;
        raft.state == StateRole::Leader
            && (raft.has_pending_conf() || !self.held.changes.is_empty())
            && entries.iter().all(|entry| {
                entry.get_entry_type() == EntryType::EntryConfChange
                    && entry.context.len() <= MAX_BYTES
            })
    }

    /// One unit of time passed.
    pub(super) fn tick_held(&mut self) {
        for (_, ticks) in &mut self.held.changes {
            *ticks -= 1;
        }
        self.release_held();
        self.held.changes.retain(|(_, ticks)| *ticks > 0);
    }

    /// Proposes what need not be held any longer. Who leads no more drops all: another leader would make a change that
    /// was judged before its time without judging it again.
    pub(super) fn release_held(&mut self) {
        if self.raw.raft.state != StateRole::Leader {
            self.held.changes.clear();
        }
        while let Some((entry, _)) = self.held.changes.front() {
            let raft = &self.raw.raft;
            if raft.has_pending_conf()
                || raft.lead_transferee.is_some()
                || !self.keeps_quorum(entry)
            {
                return;
            }
            if let Some((entry, _)) = self.held.changes.pop_front() {
                // As if it came only now: nobody hears of what is dropped then.
                let _ = self.propose_entries(vec![entry]);
            }
        }
    }

    /// Whether the voters that are heard of are a quorum after this change, and not one left of two.
    fn keeps_quorum(&self, entry: &Entry) -> bool {
        let change = raftpb::ConfChange::decode(&entry.context[..]);
        let Some(change) = change.ok().and_then(|c| convert::conf_change(&c).ok()?) else {
            return true;
        };
        let raft = &self.raw.raft;
        let mut voters: Vec<u64> = raft.prs().conf().voters().ids().iter().collect();
        if !edit(&mut voters, &change) {
            return true;
        }
        // Of two, one that is removed may end with the only word that it is, and the other one waits for ever. Who asked
        // while there were three did not ask for that.
        if change.change_type == ConfChangeType::RemoveNode && voters.len() == 1 {
            return false;
        }
        let heard_of = |id: &u64| {
            let progress = raft.prs().get(*id);
            // Who was added a moment ago passes for active, but has nothing of the log.
            let answers = progress.is_some_and(|p| p.matched > 0) && self.retention.is_active(*id);
            *id == raft.id || answers
        };
        let active = voters.iter().filter(|id| heard_of(id)).count();
        active > voters.len() / 2
    }
}

/// Makes a change to the voters. False if they stay as they are.
fn edit(voters: &mut Vec<u64>, change: &ConfChange) -> bool {
    let votes = voters.contains(&change.node_id);
    match change.change_type {
        ConfChangeType::AddNode if !votes => voters.push(change.node_id),
        ConfChangeType::RemoveNode if votes => voters.retain(|id| *id != change.node_id),
        _ => return false,
    }
    true
}
