//! How much of the log is kept in memory for members that lag.
//!
//! Behind the applied entry there are always `--snapshot-catchup-entries`. More is kept for a
//! member that is heard of but slower than the rest, and for one that is being sent a snapshot,
//! which needs everything after it; otherwise each of them could need snapshot after snapshot. What
//! they may hold up is bounded in bytes, and by their silence.

use std::collections::BTreeMap;

use raft::{ProgressState, Raft, StateRole};

use super::log::LogView;

/// Memory for applied entries while there are no peers: only a restart of theirs could need them.
const ALONE_BYTES: usize = 64 * 1024 * 1024;
/// Memory for applied entries in a cluster. Beyond it a member that lags gets a snapshot.
const CLUSTER_BYTES: usize = 256 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Retention {
    catch_up: u64,
    /// Ticks of silence after which a member holds up nothing.
    patience: u32,
    /// Ticks since each member was heard of. Only while leading.
    silent: BTreeMap<u64, u32>,
}

impl Retention {
    pub(super) fn new(catch_up: u64, patience: u32) -> Retention {
        Retention {
            catch_up,
            patience,
            silent: BTreeMap::new(),
        }
    }

    pub(super) fn tick(&mut self, raft: &Raft<LogView>) {
        if raft.state != StateRole::Leader {
            self.silent.clear();
            return;
        }
        self.silent.retain(|id, _| raft.prs().get(*id).is_some());
        for (id, progress) in raft.prs().iter() {
            let silent = self.silent.entry(*id).or_insert(0);
            // The crate forgets who is active once in an election timeout.
            *silent = if progress.recent_active {
                0
            } else {
                silent.saturating_add(1)
            };
        }
    }

    /// Heard of lately, or too new to tell.
    pub(super) fn is_active(&self, id: u64) -> bool {
        self.silent.get(&id).is_none_or(|s| *s < self.patience)
    }

    /// Entries up to this one are not needed, apart from the bound in bytes.
    pub(super) fn keep_from(&self, applied: u64, raft: &Raft<LogView>) -> u64 {
        let own = applied.saturating_sub(self.catch_up);
        if raft.state != StateRole::Leader {
            return own;
        }
        raft.prs()
            .iter()
            .filter(|(id, _)| **id != raft.id && self.is_active(**id))
            .map(|(_, progress)| match progress.state {
                ProgressState::Snapshot => progress.pending_snapshot,
                _ => progress.matched,
            })
            .fold(own, u64::min)
    }
}

/// Bytes that applied entries may take.
pub(super) fn limit(raft: &Raft<LogView>) -> usize {
    if raft.prs().iter().len() > 1 {
        CLUSTER_BYTES
    } else {
        ALONE_BYTES
    }
}
