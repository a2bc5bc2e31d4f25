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
    conf_state: ConfState,
    /// Index of the newest membership change. A snapshot below it would carry the wrong members.
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
            conf_state,
            conf_index: 0,
        }
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
        if durable.saturating_sub(self.snapshots.last) < self.snapshots.every
            || durable < self.snapshots.conf_index
        {
            return Ok(());
        }
        info!(self.member.logger, "triggering snapshot";
            "local-member-id" => format!("{:x}", self.member.id),
            "local-member-applied-index" => self.applied.0,
            "local-member-snapshot-index" => self.snapshots.last,
            "local-member-snapshot-count" => self.snapshots.every);
        self.snapshots.last = durable;
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
