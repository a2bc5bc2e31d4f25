//! When the log may forget what the backend has durably stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use retcd_proto::raftpb::ConfState;
use slog::info;

use super::{Applier, Fatal};

/// A follower that is being sent a database continues with the log from there on, so the log keeps it meanwhile, as
/// etcd's does. Beyond so many entries it does not: a follower that is so slow needs another database.
const MAX_HELD: u64 = 200_000;

/// The state of snapshotting.
pub(crate) struct Snapshots {
    /// Entries between two snapshots (`--snapshot-count`).
    every: u64,
    /// The consistent index that the backend's flusher last saw on disk.
    durable: Arc<AtomicU64>,
    /// Index of the newest snapshot.
    last: u64,
    /// A snapshot at or behind this index is wanted as soon as possible.
    forced: u64,
    conf_state: ConfState,
    /// Index of the newest membership change.
    conf_index: u64,
}

impl Snapshots {
    /// `conf_state` is that of the last applied entry, and no newer change is known.
    pub(crate) fn new(
        every: u64,
        durable: Arc<AtomicU64>,
        last: u64,
        conf_state: ConfState,
    ) -> Self {
        Self {
            every,
            durable,
            last,
            forced: 0,
            conf_state,
            conf_index: 0,
        }
    }

    /// Asks for a snapshot at or behind `index` without waiting for `--snapshot-count` entries.
    pub(crate) fn force(&mut self, index: u64) {
        self.forced = self.forced.max(index);
    }

    /// Index of the newest snapshot.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Whether one is wanted as soon as possible.
    pub(super) fn is_forced(&self) -> bool {
        self.last < self.forced
    }

    /// `held`: a follower needs what the log would forget.
    fn is_due(&self, durable: u64, held: bool) -> bool {
        // One below the newest membership change would carry the wrong members.
        let possible = durable >= self.conf_index;
        let behind = durable.saturating_sub(self.last);
        let enough = behind >= self.every && (!held || behind >= MAX_HELD);
        possible && (enough || (self.is_forced() && durable >= self.forced))
    }

    /// A leader's snapshot took the place of everything: the log begins behind it.
    pub(super) fn installed(&mut self, index: u64, state: ConfState) {
        self.durable.store(index, Ordering::Release);
        self.last = index;
        self.conf_index = index;
        self.conf_state = state;
    }

    pub(super) fn conf_changed(&mut self, index: u64, state: &ConfState) {
        self.conf_index = index;
        self.conf_state = state.clone();
    }
}

impl Applier {
    /// Hands a snapshot to the raft node when enough entries have become durable in the backend.
    ///
    /// The snapshot stands at the durable index, not at the applied one: so nothing has to wait for
    /// the disk here, and the log keeps all that the backend could still lose.
    pub(super) fn snapshot_if_due(&mut self) -> Result<(), Fatal> {
        let durable = self.snapshots.durable.load(Ordering::Acquire);
        if !self
            .snapshots
            .is_due(durable, self.member.outgoing.needs_log())
        {
            return Ok(());
        }
        info!(self.member.logger, "triggering snapshot";
            "local-member-id" => format!("{:x}", self.member.id),
            "local-member-applied-index" => self.applied.0,
            "local-member-snapshot-index" => self.snapshots.last,
            "local-member-snapshot-count" => self.snapshots.every,
            "snapshot-forced" => self.snapshots.is_forced());
        self.snapshots.last = durable;
        self.member.incoming.release(durable, &self.member.logger);
        self.member
            .node()
            .save_snapshot(
                durable,
                self.snapshots.conf_state.clone(),
                self.cluster.v2_document(),
            )
            .map_err(|_| Fatal::NodeStopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_kept_for_a_follower_that_is_being_sent_a_database_but_not_for_ever() {
        let durable = Arc::new(AtomicU64::new(0));
        let mut snapshots = Snapshots::new(100, durable, 50, ConfState::default());
        assert!(!snapshots.is_due(149, false));
        assert!(snapshots.is_due(150, false));
        assert!(!snapshots.is_due(150, true));
        assert!(!snapshots.is_due(50 + MAX_HELD - 1, true));
        assert!(snapshots.is_due(50 + MAX_HELD, true));
        // A downgrade waits for its snapshot.
        snapshots.force(160);
        assert!(snapshots.is_due(160, true));
    }

    #[test]
    fn an_installed_snapshot_counts_as_one() {
        let durable = Arc::new(AtomicU64::new(7));
        let mut snapshots = Snapshots::new(100, durable.clone(), 50, ConfState::default());
        snapshots.force(60);
        snapshots.installed(500, ConfState::default());
        assert_eq!(durable.load(Ordering::Acquire), 500);
        assert!(!snapshots.is_forced() && !snapshots.is_due(599, false));
        assert!(snapshots.is_due(600, false));
    }
}
