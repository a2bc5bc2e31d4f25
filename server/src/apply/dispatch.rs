//! From an entry of the log to its effect.
//!
//! The order of the layers is etcd's: corruption alarm, space alarm, quota, effect (raft-log 3.3).

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::etcdserverpb::alarm_request::AlarmAction;
use retcd_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, InternalRaftRequest, RequestHeader,
};
use retcd_proto::raftpb::ConfChange;
use retcd_raft_node::ConfChangeError;
use retcd_storage::backend::Bucket;
use retcd_storage::mvcc;
use slog::{info, warn};

use super::{Applier, Fatal};
use crate::api::major_minor;
use crate::conf_state::{self, CONF_STATE};
use crate::error::Error;
use crate::member::STORAGE_VERSION;
use crate::metrics::Op;
use crate::quota;
use crate::txn::{self, Env, Failure, Leases, Tally};
use crate::wait::Reply;

type Done = (u64, Result<Reply, Error>);

/// No lease can be granted yet, so none exists.
struct NoLeases;

impl Leases for NoLeases {
    fn exists(&self, _id: i64) -> bool {
        false
    }
}

impl Applier {
    /// Applies a request; `op` is told what kind it was.
    pub(super) fn apply_normal(
        &mut self,
        index: u64,
        data: Bytes,
        op: &mut Option<Op>,
    ) -> Result<Option<Done>, Fatal> {
        let request = InternalRaftRequest::decode(data).map_err(|error| Fatal::Entry {
            index,
            reason: format!("it is not a request of etcd 3.6 or newer ({error})"),
        })?;
        let id = request
            .header
            .as_ref()
            .map_or(request.id, |header| header.id);

        *op = Op::of(&request);
        let result = match self.dispatch(index, request) {
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
        let env = Env {
            leases: &NoLeases,
            tally: Tally::default(),
        };
        let mut txn = self.store.begin();
        let reply = if let Some(r) = r.put {
            txn::put(&mut txn, &env, r).map(Reply::Put)
        } else if let Some(r) = r.txn {
            txn::execute(&mut txn, &env, r).map(Reply::Txn)
        } else if let Some(r) = r.delete_range {
            txn::delete_range(&mut txn, &env, &r).map(Reply::DeleteRange)
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
        if let Some(r) = r.alarm {
            return Ok(Reply::Alarm(self.apply_alarm(&r)));
        }
        if let Some(r) = r.cluster_member_attr_set {
            let attributes = r.member_attributes.unwrap_or_default();
            let known =
                self.cluster
                    .set_attributes(r.member_id, &attributes.name, &attributes.client_urls);
            if known {
                self.cluster.store_member(r.member_id, self.store.backend());
                self.publish_cluster();
            } else {
                warn!(self.member.logger, "skipped attributes update of a member that is not there";
                    "member-id" => format!("{:x}", r.member_id));
            }
            return Ok(Reply::Done);
        }
        if let Some(r) = r.cluster_version_set {
            self.set_cluster_version(&r.ver);
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

    fn set_cluster_version(&mut self, version: &str) {
        let old = self.cluster.version().map(major_minor);
        self.cluster.set_version(version);
        self.cluster.store_version(self.store.backend());
        self.publish_cluster();
        // The backend's layout is that of every release since 3.6; only its label moves along.
        self.store.backend().put(
            Bucket::Meta,
            STORAGE_VERSION,
            version.to_owned().into_bytes(),
        );
        self.member
            .metrics
            .server
            .set_cluster_version(old.as_deref(), &major_minor(version));
        info!(self.member.logger, "set initial cluster version";
            "cluster-id" => format!("{:x}", self.member.cluster_id),
            "local-member-id" => format!("{:x}", self.member.id),
            "cluster-version" => major_minor(version));
    }

    pub(super) fn apply_conf_change(&mut self, index: u64, data: Bytes) -> Result<Done, Fatal> {
        let change = ConfChange::decode(data).map_err(|error| Fatal::Entry {
            index,
            reason: format!("it is not a membership change ({error})"),
        })?;
        let id = change.id();
        let valid = self.cluster.validate(&change);
        let accepted = valid.is_ok().then(|| change.clone());
        let state =
            self.member
                .node()
                .apply_conf_change(accepted)
                .map_err(|error| match error {
                    ConfChangeError::Stopped => Fatal::NodeStopped,
                    ConfChangeError::Refused(error) => Fatal::Entry {
                        index,
                        reason: error.to_string(),
                    },
                })?;
        self.snapshots.conf_changed(index, &state);
        if let Err(error) = valid {
            warn!(self.member.logger, "Validation on configuration change failed"; "error" => %error);
            return Ok((id, Err(Error::Membership(error.to_string()))));
        }
        let applied = self.cluster.apply(&change).map_err(|error| Fatal::Entry {
            index,
            reason: error.to_string(),
        })?;
        let backend = self.store.backend();
        self.cluster.store(&applied, backend);
        backend.put(Bucket::Meta, CONF_STATE, conf_state::to_json(&state));
        self.publish_cluster();
        Ok((id, Ok(Reply::Done)))
    }

    /// Lets everybody else see the members.
    fn publish_cluster(&self) {
        self.member
            .cluster
            .store(std::sync::Arc::new(self.cluster.clone()));
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

impl From<mvcc::Error> for Stop {
    fn from(error: mvcc::Error) -> Self {
        Failure::from(error).into()
    }
}
