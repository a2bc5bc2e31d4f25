//! Conf changes between being handed out and being applied.

use std::collections::VecDeque;

use raft::eraftpb::{ConfChange, ConfChangeType, ConfState};

use super::convert;
use retcd_proto::raftpb;

/// Conf changes that the application has not applied yet, in order.
///
/// A snapshot from the leader replaces the configuration in the moment it arrives, while changes
/// from before it may still be on their way to the application. Those must not touch the new
/// configuration: a learner that was promoted since would be one again. They are applied to a copy
/// of the old one, which is what the database may store with their entries.
#[derive(Debug, Default)]
pub(super) struct Handed {
    /// Number of changes of each configuration that is gone, with that configuration.
    old: VecDeque<(usize, ConfState)>,
    /// Their entries' indexes.
    current: VecDeque<u64>,
}

/// What a change is applied to.
pub(super) enum Next {
    /// To a configuration that is gone, which it has become this.
    Old(ConfState),
    /// To the one in force. The index of its entry, if it was handed out.
    Current(Option<u64>),
}

impl Handed {
    pub(super) fn push(&mut self, index: u64) {
        self.current.push_back(index);
    }

    /// A snapshot took the place of this configuration.
    pub(super) fn restored(&mut self, old: raftpb::ConfState) {
        if !self.current.is_empty() {
            self.old
                .push_back((self.current.len(), convert::from_conf_state(&old)));
            self.current.clear();
        }
    }

    /// The oldest change is applied; `None` if the application rejected it.
    pub(super) fn next(&mut self, change: Option<&ConfChange>) -> Next {
        let Some((left, conf_state)) = self.old.front_mut() else {
            return Next::Current(self.current.pop_front());
        };
        if let Some(change) = change {
            edit(conf_state, change.change_type, change.node_id);
        }
        *left -= 1;
        let result = conf_state.clone();
        if *left == 0 {
            self.old.pop_front();
        }
        Next::Old(result)
    }
}

fn edit(conf_state: &mut ConfState, kind: ConfChangeType, id: u64) {
    conf_state.voters.retain(|v| *v != id);
    conf_state.learners.retain(|l| *l != id);
    match kind {
        ConfChangeType::AddNode => conf_state.voters.push(id),
        ConfChangeType::AddLearnerNode => conf_state.learners.push(id),
        ConfChangeType::RemoveNode => {}
    }
}
