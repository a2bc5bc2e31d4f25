//! What the raft node tells the member.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prost::Message as _;
use retcd_proto::etcdserverpb::InternalRaftRequest;
use retcd_raft_node::Observer;
use retcd_storage::snapshot;
use slog::info;
use tokio::time::Instant;

use crate::error::Error;
use crate::member::Member;
use crate::metrics::saturating;
use crate::slow;
use crate::wait::Outcome;

/// Passes the node's events on to the member, once there is one: the log is opened before.
#[derive(Debug, Default)]
pub(crate) struct Events(OnceLock<Arc<Member>>);

impl Events {
    /// From now on `member` is told.
    pub(crate) fn attach(&self, member: Arc<Member>) {
        self.0.get_or_init(|| member);
    }
}

impl Observer for Events {
    fn read_state(&self, context: u64, index: u64) {
        let Some(member) = self.0.get() else {
            return;
        };
        let next = member.reads.confirmed(
            context,
            index,
            || member.applied(),
            || member.request_ids.next(),
        );
        member.begin_read_round(next);
    }

    fn leader_changed(&self, leader: u64, term: u64, is_leader: bool) {
        let Some(member) = self.0.get() else {
            return;
        };
        // At once, before anything else: who is deposed renews no lease any more (L2).
        member.leases.elected(is_leader.then_some(term));
        let before = member.leader.borrow().id;
        let id = member.id;
        match (before, leader) {
            (0, 0) => {}
            (0, new) => info!(
                member.logger,
                "raft.node: {:x} elected leader {:x} at term {}", id, new, term
            ),
            (old, 0) => info!(
                member.logger,
                "raft.node: {:x} lost leader {:x} at term {}", id, old, term
            ),
            // The same one in another term.
            (old, new) if old == new => {}
            (old, new) => info!(
                member.logger,
                "raft.node: {:x} changed leader from {:x} to {:x} at term {}", id, old, new, term
            ),
        }
        let lost = before != 0;
        let new = leader != 0 && leader != before;
        member.leader.send_modify(|current| {
            current.id = leader;
            if new {
                current.elected = Some(Instant::now());
            }
        });
        if new {
            member.metrics.server.leader_changes.inc();
        }
        if lost {
            member.reads.give_up(&Error::LeaderChanged);
        }
        member.begin_read_round(member.reads.restart(|| member.request_ids.next()));
    }

    fn proposal_dropped(&self, data: bytes::Bytes) {
        let Some(member) = self.0.get() else {
            return;
        };
        // Our own proposals decode; a foreign one has nobody waiting here.
        if let Ok(InternalRaftRequest {
            header: Some(header),
            ..
        }) = InternalRaftRequest::decode(data)
        {
            member.waiters.fire(header.id, Outcome::Dropped);
        }
    }

    fn conf_change_dropped(&self, change: retcd_proto::raftpb::ConfChange) {
        if let Some(member) = self.0.get() {
            member.waiters.fire(change.id(), Outcome::Dropped);
        }
    }

    fn fatal(&self, error: retcd_raft_node::Error) {
        if let Some(member) = self.0.get() {
            member.fail(error.to_string());
        }
    }

    fn wal_write(&self, took: Duration, bytes: u64) {
        let Some(member) = self.0.get() else {
            return;
        };
        let disk = &member.metrics.disk;
        disk.wal_write.observe(took.as_secs_f64());
        disk.wal_write_bytes.add(saturating(bytes));
    }

    fn snapshot_saved(&self, saved: &snapshot::Saved) {
        let Some(member) = self.0.get() else {
            return;
        };
        let snap = &member.metrics.snap;
        snap.save.observe(saved.took.as_secs_f64());
        snap.encoding.observe(saved.encoding.as_secs_f64());
        snap.fsync.observe(saved.sync.as_secs_f64());
    }

    fn wal_fsync(&self, took: Duration) {
        if let Some(member) = self.0.get() {
            member.metrics.disk.wal_fsync.observe(took.as_secs_f64());
            slow::synced(&member.logger, took);
        }
    }

    fn no_space(&self, text: String) {
        if let Some(member) = self.0.get() {
            slow::no_room(&member.logger, &text);
        }
    }

    fn heartbeat_late(&self, to: u64, interval: Duration, exceeded: Duration) {
        if let Some(member) = self.0.get() {
            member.metrics.server.heartbeat_send_failures.inc();
            slow::heartbeat(&member.logger, to, interval, exceeded);
        }
    }
}
