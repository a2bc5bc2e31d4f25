//! When the log may forget what the backend has durably stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use retcd_proto::raftpb::ConfState;
use slog::info;

use super::{Applier, Fatal};

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

    fn is_due(&self, durable: u64) -> bool {
        // One below the newest membership change would carry the wrong members.
        let possible = durable >= self.conf_index;
        let enough = durable.saturating_sub(self.last) >= self.every;
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
        if !self.snapshots.is_due(durable) {
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
    fn an_installed_snapshot_counts_as_one() {
        let durable = Arc::new(AtomicU64::new(7));
        let mut snapshots = Snapshots::new(100, durable.clone(), 50, ConfState::default());
        snapshots.force(60);
        snapshots.installed(500, ConfState::default());
        assert_eq!(durable.load(Ordering::Acquire), 500);
        assert!(!snapshots.is_forced() && !snapshots.is_due(599));
        assert!(snapshots.is_due(600));
    }
}
