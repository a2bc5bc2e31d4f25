//! The thread that proposes what time does to leases.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::etcdserverpb::{
    InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest, RequestHeader,
};
use slog::warn;

use super::shared::{Leases, Work};
use crate::member::Member;

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    leases: Arc<Leases>,
    member: Arc<Member>,
}

impl Keeper {
    /// Starts the thread. It ends when the leases are closed.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn start(member: Arc<Member>) -> io::Result<JoinHandle<()>> {
        let keeper = Self {
            leases: member.leases.clone(),
            member,
        };
        let keep = move || {
            while let Some(work) = keeper.leases.wait_for_work() {
                keeper.propose(&work);
            }
        };
        thread::Builder::new().name("leases".into()).spawn(keep)
    }

    fn propose(&self, work: &Work) {
        let revokes = work.expired.iter().map(|id| InternalRaftRequest {
            lease_revoke: Some(LeaseRevokeRequest { id: *id }),
            ..Default::default()
        });
        let mut entries: Vec<Bytes> = revokes.map(|revoke| self.entry(revoke)).collect();
        if !work.checkpoints.is_empty() {
            entries.push(self.entry(checkpoint(&work.checkpoints)));
        }
        // What is lost on the way is due again later: revokes after some seconds, checkpoints after some minutes.
        if let Err(error) = self.member.node().propose_in_term(work.term, entries) {
            warn!(self.member.logger, "failed to revoke lease";
                "leases" => work.expired.len(), "error" => %error);
            self.leases.put_back(&work.expired);
        }
    }

    fn entry(&self, mut request: InternalRaftRequest) -> Bytes {
        request.header = Some(RequestHeader {
            id: self.member.request_ids.next(),
            ..Default::default()
        });
        request.encode_to_vec().into()
    }
}

/// A request that writes down what is left of some leases, in seconds; 0 takes it back.
pub(super) fn checkpoint(left: &[(i64, i64)]) -> InternalRaftRequest {
    let checkpoints = left.iter().map(|(id, remaining_ttl)| LeaseCheckpoint {
        id: *id,
        remaining_ttl: *remaining_ttl,
    });
    InternalRaftRequest {
        lease_checkpoint: Some(LeaseCheckpointRequest {
            checkpoints: checkpoints.collect(),
        }),
        ..Default::default()
    }
}
