//! What the raft node tells the member.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use retcd_proto::etcdserverpb::InternalRaftRequest;
use retcd_raft_node::Observer;
use slog::info;
use tokio::time::Instant;

use crate::error::Error;
use crate::member::Member;
use crate::metrics::saturating;
use crate::wait::Outcome;

/// Passes the node's events on to the member.
#[derive(Debug)]
pub(crate) struct Events(pub(crate) Arc<Member>);

impl Observer for Events {
    fn read_state(&self, context: u64, index: u64) {
        let member = &self.0;
        let next = member.reads.confirmed(
            context,
            index,
            || member.applied(),
            || member.request_ids.next(),
        );
        member.begin_read_round(next);
    }

    fn leader_changed(&self, leader: u64, term: u64, is_leader: bool) {
        let member = &self.0;
        info!(member.logger, "raft.node: leader changed";
            "local-member-id" => format!("{:x}", member.id),
            "leader-id" => format!("{leader:x}"), "term" => term, "is-leader" => is_leader);
        let lost = member.leader.borrow().id != 0;
        member.leader.send_modify(|current| {
            current.id = leader;
            if lost {
                current.since = Some(Instant::now());
            }
        });
        if leader != 0 {
            member.metrics.server.leader_changes.inc();
        }
        if lost {
            member.reads.give_up(&Error::LeaderChanged);
        }
        member.begin_read_round(member.reads.restart(|| member.request_ids.next()));
    }

    fn proposal_dropped(&self, data: bytes::Bytes) {
        // Our own proposals decode; a foreign one has nobody waiting here.
        if let Ok(InternalRaftRequest {
            header: Some(header),
            ..
        }) = InternalRaftRequest::decode(data)
        {
            self.0.waiters.fire(header.id, Outcome::Dropped);
        }
    }

    fn fatal(&self, error: retcd_raft_node::Error) {
        self.0.fail(error.to_string());
    }

    fn wal_write(&self, took: Duration, bytes: u64) {
        let disk = &self.0.metrics.disk;
        disk.wal_write.observe(took.as_secs_f64());
        disk.wal_write_bytes.add(saturating(bytes));
    }

    fn wal_fsync(&self, took: Duration) {
        self.0.metrics.disk.wal_fsync.observe(took.as_secs_f64());
    }
}
