//! Entries about the cluster itself: its members, its version, a downgrade.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::membershippb::{ClusterMemberAttrSetRequest, DowngradeInfoSetRequest};
use retcd_proto::raftpb::ConfChange;
use retcd_raft_node::ConfChangeError;
use retcd_raft_node::membership::{Change, DowngradeInfo, Member, MembershipError};
use retcd_storage::backend::Bucket;
use retcd_storage::failpoint::failpoint;
use slog::{error, info, warn};

use super::dispatch::Done;
use super::{Applier, Fatal};
use crate::api::major_minor;
use crate::conf_state::{self, CONF_STATE};
use crate::error::Error;
use crate::member::{Ending, LEAVING, Member as Running};
use crate::schema::{self, Relabel, STORAGE_VERSION, V3_6, Version};
use crate::wait::Reply;

/// How often a removed member looks whether another one has told it so.
const LOOK: Duration = Duration::from_millis(50);

/// What a client is told of a change that every member rejects.
fn refused(error: &MembershipError) -> Error {
    match error {
        MembershipError::IdRemoved | MembershipError::IdNotFound => Error::MemberNotFound,
        MembershipError::IdExists => Error::MemberExist,
        MembershipError::PeerUrlExists => Error::PeerUrlExist,
        MembershipError::NotLearner => Error::MemberNotLearner,
        MembershipError::TooManyLearners => Error::TooManyLearners,
        other => Error::Membership(other.to_string()),
    }
}

/// Returns when the only voter there is knows that this member was removed, or when this member stops.
fn wait_until_it_knows(member: &Weak<Running>, last: &Member) {
    let mut said = false;
    while let Some(member) = member.upgrade() {
        if member.knows_of_removal(last.id) || member.is_ending() {
            return;
        }
        if !said {
            said = true;
            warn!(member.logger, "this member was removed from the cluster; it goes on until member {:x} ({}) knows \
                that, which has no quorum without it: start or connect that member; if it is lost for ever, stop this one \
                and restore its data with `etcdutl snapshot restore <data-dir>/member/snap/db --skip-hash-check`",
                last.id, last.peer_urls.join(",");
                "local-member-id" => format!("{:x}", member.id));
        }
        drop(member);
        thread::sleep(LOOK);
    }
}

impl Applier {
    /// A member said its name and where its clients reach it.
    pub(super) fn set_attributes(&mut self, r: ClusterMemberAttrSetRequest) {
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
    }

    pub(super) fn set_downgrade(&mut self, r: DowngradeInfoSetRequest) {
        self.cluster.set_downgrade(DowngradeInfo {
            enabled: r.enabled,
            target_version: if r.enabled { r.ver } else { String::new() },
        });
        self.cluster.store_downgrade(self.store.backend());
        self.publish_cluster();
    }

    pub(super) fn set_cluster_version(&mut self, index: u64, text: &str) -> Result<(), Fatal> {
        let version = Version::parse(text).ok_or_else(|| Fatal::Entry {
            index,
            reason: format!("it sets the cluster's version to {text:?}, which is no version"),
        })?;
        schema::check_cluster(version)?;
        let old = self.cluster.version().map(major_minor);
        let lower = self.cluster.set_version(text);
        self.cluster.store_version(self.store.backend());
        self.publish_cluster();
        let member = &self.member;
        let new = major_minor(text);
        member
            .metrics
            .server
            .set_cluster_version(old.as_deref(), &new);
        let ids = slog::o!(
            "cluster-id" => format!("{:x}", member.cluster_id),
            "local-member-id" => format!("{:x}", member.id));
        match &old {
            None => {
                info!(member.logger, "set initial cluster version"; ids, "cluster-version" => &new);
            }
            Some(old) => {
                info!(member.logger, "updated cluster version"; ids, "from" => old, "to" => &new);
            }
        }
        info!(member.logger, "enabled capabilities for version"; "cluster-version" => &new);
        if lower {
            info!(member.logger, "Cluster version downgrade detected, forcing snapshot";
                "prev-cluster-version" => old, "new-cluster-version" => new);
            self.snapshots.force(index);
        }
        self.align_storage(index)?;
        Ok(())
    }

    /// Makes the database's label say what the cluster's version is, as of the entry `index`. Before it is lowered,
    /// there has to be a snapshot at that entry: until then this is called again and again. True if it changed.
    pub(super) fn align_storage(&mut self, index: u64) -> Result<bool, Fatal> {
        let Some(cluster) = self.cluster.version().and_then(Version::parse) else {
            return Ok(false);
        };
        let label = self.store.backend().get(Bucket::Meta, STORAGE_VERSION)?;
        let wanted = schema::relabel(schema::detect(label.as_deref(), true), cluster);
        if let Relabel::Lower(_) | Relabel::Remove = wanted {
            let behind = *self.lowering.get_or_insert(index);
            self.snapshots.force(behind);
            if self.member.node().status().snapshot < behind {
                return Ok(false);
            }
        }
        self.lowering = None;
        let backend = self.store.backend();
        match wanted {
            Relabel::Keep => return Ok(false),
            Relabel::Remove => backend.delete(Bucket::Meta, STORAGE_VERSION),
            Relabel::Raise(version) | Relabel::Lower(version) => {
                backend.put(Bucket::Meta, STORAGE_VERSION, version.to_string());
            }
        }
        info!(self.member.logger, "updated storage version";
            "new-storage-version" => cluster.to_string());
        Ok(true)
    }

    /// Whether the remaining time of leases outlives a restart.
    pub(super) fn keeps_checkpoints(&self) -> bool {
        let version = self.cluster.version().and_then(Version::parse);
        version.is_some_and(|version| version >= V3_6)
    }

    pub(super) fn apply_conf_change(&mut self, index: u64, data: Bytes) -> Result<Done, Fatal> {
        let change = ConfChange::decode(data).map_err(|error| Fatal::Entry {
            index,
            reason: format!("it is not a membership change ({error})"),
        })?;
        let id = change.id();
        let valid = self.cluster.validate(&change);
        let accepted = valid.is_ok().then(|| change.clone());
        failpoint("conf-change:decided");
        let state = match self.member.node().apply_conf_change(accepted) {
            Ok(state) => state,
            Err(ConfChangeError::Stopped) => return Err(Fatal::NodeStopped),
            // Such as the removal of the last voter. Raft comes to the same verdict on every member and leaves
            // everything as it is, so the members stay what they are as well.
            Err(ConfChangeError::Refused(error)) => {
                error!(self.member.logger, "refused a configuration change that raft cannot make";
                    "index" => index, "member-id" => format!("{:x}", change.node_id()), "error" => %error);
                return Ok((id, Err(Error::Membership(error.to_string()))));
            }
        };
        failpoint("conf-change:in-raft");
        self.snapshots.conf_changed(index, &state);
        if let Err(error) = valid {
            error!(self.member.logger, "Validation on configuration change failed";
                "shouldApplyV3" => true, "error" => %error);
            return Ok((id, Err(refused(&error))));
        }
        let before = self.cluster.member(change.node_id()).cloned();
        let applied = self.cluster.apply(&change).map_err(|error| Fatal::Entry {
            index,
            reason: error.to_string(),
        })?;
        let backend = self.store.backend();
        self.cluster.store(&applied, backend);
        backend.put(Bucket::Meta, CONF_STATE, conf_state::to_json(&state));
        failpoint("conf-change:stored");
        self.publish_cluster();
        self.say(&applied, before.as_ref());
        self.member.follow(&applied);
        if applied == Change::Removed(self.member.id) {
            self.leave();
        }
        let members = self.cluster.members().cloned().collect();
        Ok((id, Ok(Reply::Members(members))))
    }

    fn say(&self, change: &Change, before: Option<&Member>) {
        let logger = &self.member.logger;
        let ids = slog::o!(
            "cluster-id" => format!("{:x}", self.member.cluster_id),
            "local-member-id" => format!("{:x}", self.member.id));
        let id = |id: u64| format!("{id:x}");
        let urls = |member: &Member| slog::Serde(member.peer_urls.clone());
        match change {
            Change::Added(member) => info!(logger, "added member"; ids,
                "added-peer-id" => id(member.id),
                "added-peer-peer-urls" => urls(member),
                "added-peer-is-learner" => member.is_learner),
            Change::Promoted(member) => info!(logger, "promote member"; ids,
                "promoted-member-id" => id(member.id)),
            Change::Updated(member) => info!(logger, "updated member"; ids,
                "updated-remote-peer-id" => id(member.id),
                "updated-remote-peer-urls" => urls(member),
                "updated-remote-peer-is-learner" => member.is_learner),
            Change::Removed(gone) => {
                let unknown = Member::default();
                let member = before.unwrap_or(&unknown);
                info!(logger, "removed member"; ids,
                    "removed-remote-peer-id" => id(*gone),
                    "removed-remote-peer-urls" => urls(member),
                    "removed-remote-peer-is-learner" => member.is_learner);
            }
        }
    }

    /// This member is none any more. It goes on for a moment, as etcd does, so that others learn of the change from
    /// it and the client gets its answer.
    ///
    /// A single voter that remains cannot find out without this member's vote that the change is committed: then it
    /// goes on until the other one says that it knows.
    fn leave(&self) {
        failpoint("leave:begun");
        self.member.removal.lock().get_or_insert_default();
        let mut voters = self.cluster.members().filter(|member| !member.is_learner);
        let last = match (voters.next(), voters.next()) {
            (Some(last), None) => Some(last.clone()),
            _ => None,
        };
        let member = Arc::downgrade(&self.member);
        let leaving = thread::Builder::new().name("leave".into()).spawn(move || {
            thread::sleep(LEAVING);
            if let Some(last) = last {
                wait_until_it_knows(&member, &last);
            }
            if let Some(member) = member.upgrade() {
                member.end(Ending::Removed);
            }
        });
        if leaving.is_err() {
            self.member.end(Ending::Removed);
        }
    }

    /// Lets everybody else see the members.
    pub(super) fn publish_cluster(&self) {
        self.member.cluster.store(Arc::new(self.cluster.clone()));
    }
}
