//! From an entry of the log to its effect.
//!
//! The order of the layers is etcd's: corruption alarm, space alarm, quota, effect (raft-log 3.3).

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::etcdserverpb::alarm_request::AlarmAction;
use retcd_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, InternalRaftRequest, RequestHeader,
};
use retcd_storage::mvcc;
use slog::warn;

use super::entry::{self, Payload};
use super::{Applier, Fatal};
use crate::auth;
use crate::error::Error;
use crate::metrics::Op;
use crate::quota;
use crate::txn::{self, Env, Failure, Tally};
use crate::wait::Reply;

pub(super) type Done = (u64, Result<Reply, Error>);

impl Applier {
    /// Applies a request; `op` is told what kind it was.
    pub(super) fn apply_normal(
        &mut self,
        index: u64,
        data: Bytes,
        op: &mut Option<Op>,
    ) -> Result<Option<Done>, Fatal> {
        let payload = entry::decode(data).map_err(|error| Fatal::Entry {
            index,
            reason: error.to_string(),
        })?;
        let Payload::Request(request) = payload else {
            return Ok(None);
        };
        let id = request
            .header
            .as_ref()
            .map_or(request.id, |header| header.id);

        *op = Op::of(&request);
        let result = match self.dispatch(index, *request) {
            Ok(reply) => Ok(reply),
            Err(Stop::Refused(error)) => Err(error),
            Err(Stop::Fatal(fatal)) => return Err(fatal),
        };
        Ok(Some((id, result)))
    }

    fn dispatch(&mut self, index: u64, r: InternalRaftRequest) -> Result<Reply, Stop> {
        self.check_alarms(&r)?;
        // Judged before the effect, but the effect comes first: every member must apply the same,
        // whatever its own disk says.
        let fits = self.member.has_room(quota::cost(&r));
        let reply = self.execute(index, r)?;
        if fits {
            return Ok(reply);
        }
        if !self.alarms.is_raised(AlarmType::Nospace) {
            self.raise_no_space();
        }
        Err(Error::NoSpace.into())
    }

    fn check_alarms(&self, r: &InternalRaftRequest) -> Result<(), Error> {
        let touches_data = r.put.is_some()
            || r.range.is_some()
            || r.delete_range.is_some()
            || r.txn.is_some()
            || r.compaction.is_some()
            || r.lease_grant.is_some()
            || r.lease_revoke.is_some();
        if touches_data && self.alarms.is_raised(AlarmType::Corrupt) {
            return Err(Error::Corrupt);
        }
        if quota::cost(r) > 0 && self.alarms.is_raised(AlarmType::Nospace) {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    fn execute(&mut self, index: u64, r: InternalRaftRequest) -> Result<Reply, Stop> {
        let mut env = Env {
            leases: &mut self.lessor,
            tally: Tally::default(),
        };
        let mut txn = self.store.begin();
        let reply = if let Some(r) = r.put {
            txn::put(&mut txn, &mut env, r).map(Reply::Put)
        } else if let Some(r) = r.txn {
            txn::execute(&mut txn, &mut env, r).map(Reply::Txn)
        } else if let Some(r) = r.delete_range {
            txn::delete_range(&mut txn, &mut env, &r).map(Reply::DeleteRange)
        } else if r.range.is_some() {
            Ok(Reply::Done) // no member proposes reads any more; its own waiter has timed out
        } else {
            txn.end();
            return self.execute_other(index, r);
        };
        txn.end();
        self.member.metrics.count(&env.tally);
        Ok(reply?)
    }

    fn execute_other(&mut self, index: u64, r: InternalRaftRequest) -> Result<Reply, Stop> {
        if let Some(r) = r.compaction {
            self.store
                .begin_compaction(r.revision)
                .map_err(Failure::from)?;
            return Ok(Reply::Compacted(r.revision));
        }
        if let Some(r) = r.lease_grant {
            let ttl = self.lessor.grant(self.store.backend(), r.id, r.ttl)?;
            let revision = self.store.rev();
            return Ok(Reply::LeaseGranted { ttl, revision });
        }
        if let Some(r) = r.lease_revoke {
            let deleted = self.lessor.revoke(&mut self.store, r.id)?;
            self.member.metrics.mvcc.deletes.inc_by(deleted as u64);
            let revision = self.store.rev();
            return Ok(Reply::LeaseRevoked { revision });
        }
        if let Some(r) = r.lease_checkpoint {
            let persist = self.keeps_checkpoints();
            for c in r.checkpoints {
                let backend = self.store.backend();
                self.lessor
                    .checkpoint(backend, c.id, c.remaining_ttl, persist);
            }
            return Ok(Reply::Done);
        }
        if let Some(r) = r.alarm {
            return Ok(Reply::Alarm(self.apply_alarm(&r)));
        }
        if let Some(r) = r.cluster_member_attr_set {
            self.set_attributes(r);
            return Ok(Reply::Done);
        }
        if let Some(r) = r.cluster_version_set {
            self.set_cluster_version(index, &r.ver)?;
            return Ok(Reply::Done);
        }
        if let Some(r) = r.downgrade_info_set {
            self.set_downgrade(r);
            return Ok(Reply::Done);
        }
        if r.downgrade_version_test.is_some() {
            return Ok(Reply::Done); // etcd's own tests put it into logs; it has no effect there either
        }
        if let Some(result) = self.auth.apply(self.store.backend(), &r) {
            result.map_err(|failure| match failure {
                auth::Failure::Refused(error) => Stop::Refused(error),
                auth::Failure::Store(error) => Stop::Fatal(error.into()),
                auth::Failure::Unsupported(reason) => Stop::Fatal(Fatal::Entry {
                    index,
                    reason: reason.into(),
                }),
            })?;
            if self.auth.enabled() {
                return Err(Stop::Fatal(auth::Enabled.into()));
            }
            return Ok(Reply::Done);
        }
        Err(Stop::Fatal(Fatal::Entry {
            index,
            reason: "it holds a request that this release does not know".into(),
        }))
    }

    fn apply_alarm(&mut self, r: &AlarmRequest) -> AlarmResponse {
        let alarms = self.alarms.apply(self.store.backend(), r);
        match r.action() {
            AlarmAction::Activate => warn!(self.member.logger, "alarm raised";
                "alarm" => r.alarm().as_str_name(), "raised-member-id" => format!("{:x}", r.member_id)),
            AlarmAction::Deactivate => warn!(self.member.logger, "alarm disarmed";
                "alarm" => r.alarm().as_str_name(), "disarmed-member-id" => format!("{:x}", r.member_id)),
            AlarmAction::Get => {}
        }
        self.member
            .alarms
            .store(std::sync::Arc::new(self.alarms.list(AlarmType::None)));
        AlarmResponse {
            header: None,
            alarms,
        }
    }

    /// Asks the cluster to stop growing, because this member ran out of its quota.
    fn raise_no_space(&self) {
        let request = InternalRaftRequest {
            header: Some(RequestHeader {
                id: self.member.request_ids.next(),
                ..RequestHeader::default()
            }),
            alarm: Some(AlarmRequest {
                action: AlarmAction::Activate as i32,
                member_id: self.member.id,
                alarm: AlarmType::Nospace as i32,
            }),
            ..InternalRaftRequest::default()
        };
        // If it does not get through now, the next write that does not fit proposes it again.
        if let Err(error) = self.member.node().propose(request.encode_to_vec().into()) {
            warn!(self.member.logger, "failed to raise alarm"; "alarm" => "NOSPACE", "error" => %error);
        }
    }
}

/// Why a request gets no reply.
enum Stop {
    Refused(Error),
    Fatal(Fatal),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => Self::Refused(error),
            Failure::Store(error) => Self::Fatal(error.into()),
        }
    }
}

impl From<Fatal> for Stop {
    fn from(fatal: Fatal) -> Self {
        Self::Fatal(fatal)
    }
}

impl From<mvcc::Error> for Stop {
    fn from(error: mvcc::Error) -> Self {
        Failure::from(error).into()
    }
}
