//! The Maintenance service.

use std::time::Duration;

use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::alarm_request::AlarmAction;
use retcd_storage::{backend, mvcc};
use slog::{info, warn};

use super::{Api, Caller, blocking};
use crate::config::ETCD_VERSION;
use crate::error::Error;
use crate::wait::Reply;

impl Api {
    pub(crate) async fn alarm(
        &self,
        caller: &Caller,
        r: pb::AlarmRequest,
    ) -> Result<pb::AlarmResponse, Error> {
        self.admit(caller)?;
        let request = pb::InternalRaftRequest {
            alarm: Some(r),
            ..Default::default()
        };
        match self.member.propose(request).await? {
            Reply::Alarm(reply) => Ok(pb::AlarmResponse {
                header: Some(self.member.header()),
                ..reply
            }),
            other => Err(Error::Internal(format!(
                "an alarm request got another one's reply: {other:?}"
            ))),
        }
    }

    /// Raises NOSPACE for this member, unless it is raised already.
    pub(super) async fn raise_no_space(&self) {
        let raised = self
            .member
            .alarms
            .load()
            .iter()
            .any(|a| a.alarm() == pb::AlarmType::Nospace && a.member_id == self.member.id);
        if raised {
            return;
        }
        let request = pb::InternalRaftRequest {
            alarm: Some(pb::AlarmRequest {
                action: AlarmAction::Activate as i32,
                member_id: self.member.id,
                alarm: pb::AlarmType::Nospace as i32,
            }),
            ..Default::default()
        };
        if let Err(error) = self.member.propose(request).await {
            warn!(self.member.logger, "failed to raise alarm"; "alarm" => "NOSPACE", "error" => %error);
        }
    }

    pub(crate) async fn status(
        &self,
        caller: &Caller,
        _: pb::StatusRequest,
    ) -> Result<pb::StatusResponse, Error> {
        self.admit_anywhere(caller)?;
        let member = &self.member;
        let raft = member.node().status();
        let mut errors = Vec::new();
        if raft.leader == 0 {
            errors.push(Error::NoLeader.to_string());
        }
        for alarm in member.alarms.load().iter() {
            errors.push(format!(
                "memberID:{} alarm:{}",
                alarm.member_id,
                alarm.alarm().as_str_name()
            ));
        }
        let backend = member.backend();
        let engine = backend.engine();
        // Another member may have begun one.
        let downgrade = member
            .cluster
            .load()
            .downgrade()
            .cloned()
            .unwrap_or_default();
        let downgrade = pb::DowngradeInfo {
            enabled: downgrade.enabled,
            target_version: downgrade.target_version,
        };
        Ok(pb::StatusResponse {
            header: Some(member.header()),
            version: ETCD_VERSION.to_owned(),
            db_size: signed(engine.size()),
            leader: raft.leader,
            raft_index: raft.committed,
            raft_term: raft.term,
            raft_applied_index: member.applied(),
            errors,
            db_size_in_use: signed(engine.size_in_use()),
            is_learner: member.is_learner(),
            storage_version: member.storage_version(),
            db_size_quota: member.limits.quota_reported,
            downgrade_info: Some(downgrade),
        })
    }

    pub(crate) async fn hash(
        &self,
        caller: &Caller,
        _: pb::HashRequest,
    ) -> Result<pb::HashResponse, Error> {
        self.admit(caller)?;
        let member = self.member.clone();
        let hash = blocking(move || {
            let _timer = member.metrics.mvcc.hash.start_timer();
            member.store.hash()
        });
        let hash = hash.await?.map_err(refuse)?;
        Ok(pb::HashResponse {
            header: Some(self.member.header()),
            hash,
        })
    }

    pub(crate) async fn hash_kv(
        &self,
        caller: &Caller,
        r: pb::HashKvRequest,
    ) -> Result<pb::HashKvResponse, Error> {
        self.admit(caller)?;
        let member = self.member.clone();
        let found = blocking(move || {
            let _timer = member.metrics.mvcc.hash_rev.start_timer();
            member.store.hash_kv(r.revision)
        });
        let found = found.await?.map_err(refuse)?;
        Ok(pb::HashKvResponse {
            header: Some(self.member.header_at(found.current_rev)),
            hash: found.hash,
            compact_revision: found.compact_rev,
            hash_revision: found.rev,
        })
    }

    pub(crate) async fn defragment(
        &self,
        caller: &Caller,
        _: pb::DefragmentRequest,
    ) -> Result<pb::DefragmentResponse, Error> {
        self.admit(caller)?;
        let member = self.member.clone();
        blocking(move || {
            let (logger, disk) = (&member.logger, &member.metrics.disk);
            let backend = member.backend();
            let engine = backend.engine();
            let before = engine.size();
            info!(logger, "starting defragment"; "current-db-size-bytes" => before);
            let timer = disk.backend_defrag.start_timer();
            disk.defrag_inflight.set(1);
            let done = backend.defragment();
            disk.defrag_inflight.set(0);
            let took = timer.stop_and_record();
            info!(logger, "finished defragment";
                "current-db-size-bytes-before" => before,
                "current-db-size-bytes" => engine.size(),
                "took" => ?Duration::from_secs_f64(took));
            done
        })
        .await?
        .map_err(|error: backend::Error| Error::Internal(error.to_string()))?;
        Ok(pb::DefragmentResponse { header: None })
    }

    pub(crate) async fn move_leader(
        &self,
        caller: &Caller,
        r: pb::MoveLeaderRequest,
    ) -> Result<pb::MoveLeaderResponse, Error> {
        self.admit(caller)?;
        self.member.move_leader(r.target_id).await?;
        Ok(pb::MoveLeaderResponse { header: None })
    }

    /// Makes everything applied so far durable in the backend.
    pub(super) async fn flush(&self) -> Result<(), Error> {
        let backend = self.member.backend();
        blocking(move || backend.commit())
            .await?
            .map_err(|error| Error::Internal(error.to_string()))
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn refuse(error: mvcc::Error) -> Error {
    match error {
        mvcc::Error::Compacted => Error::Compacted,
        mvcc::Error::FutureRev => Error::FutureRev,
        other => Error::Internal(other.to_string()),
    }
}
