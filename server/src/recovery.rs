//! What a member that was there before makes of its log and its database together, before it changes either.
//!
//! Source: disk-format 4, raft-log 8; etcd `server/etcdserver/bootstrap.go`.

use prost::Message as _;
use retcd_proto::raftpb::{self, ConfChange, ConfChangeType, EntryType};
use retcd_raft_node::membership::{Cluster, ConfChangeContext, Member};
use retcd_raft_node::{self as raft_node, Log};
use retcd_storage::backend::Bucket;
use retcd_storage::{snapshot, wal};
use slog::{Logger, info, warn};

use crate::apply::entry;
use crate::auth::{self, Auth};
use crate::disk::{Disk, TERM};
use crate::schema::{self, STORAGE_VERSION, Version};
use crate::server::StartError;

/// The cluster as the database says, repaired where other records know better.
pub(crate) struct Recovered {
    pub(crate) cluster: Cluster,
    /// The raft configuration as of the last applied entry; `None` when only the log can tell.
    pub(crate) conf_state: Option<raftpb::ConfState>,
    /// Index of the last entry that etcd 3.7 could not read, 0 for none. A snapshot there makes it unread.
    pub(crate) old_entries: u64,
}

/// Puts the database in place that goes with a log, if another one is needed. None is open.
///
/// # Errors
/// When there is none. Nothing is changed then.
pub(crate) fn place_database(
    config: &raft_node::Config,
    log: Option<&Log>,
) -> Result<(), StartError> {
    let begin = log.map_or(0, |log| log.snapshot().index());
    if schema::place_database(&*config.fs, &config.snap_dir, begin)? {
        info!(config.logger, "Recovering from snapshot backend"; "snapshot-index" => begin);
    }
    Ok(())
}

/// Checks that this release can go on from what is there.
///
/// # Errors
/// A database or a cluster of a newer release; authentication enabled. Nothing is changed.
pub(crate) fn check(disk: &Disk, logger: &Logger) -> Result<(), StartError> {
    let label = disk.backend.get(Bucket::Meta, STORAGE_VERSION)?;
    let has_term = disk.backend.get(Bucket::Meta, TERM)?.is_some();
    let layout = schema::detect(label.as_deref(), has_term);
    schema::check_storage(layout)?;
    if layout.is_none() && disk.applied.0 > 0 {
        warn!(
            logger,
            "Failed to detect storage schema version. Please wait till wal snapshot before upgrading cluster."
        );
    }
    if Auth::load(&disk.backend)?.enabled() {
        return Err(auth::Enabled.into());
    }
    Ok(())
}

/// Recovers the membership. Repairs are written with the first unit.
///
/// # Errors
/// What is damaged; a cluster of a newer release.
pub(crate) fn recover(
    log: &Log,
    disk: &mut Disk,
    config: &raft_node::Config,
    learners: usize,
    logger: &Logger,
) -> Result<Recovered, StartError> {
    let (_, cluster_id) = log.ids();
    let mut cluster = Cluster::load(&disk.backend, cluster_id, learners)?;
    if let Some(version) = cluster.version().and_then(Version::parse) {
        schema::check_cluster(version)?;
    }
    let mut changes = Vec::new();
    let unlabelled = disk.backend.get(Bucket::Meta, STORAGE_VERSION)?.is_none();
    if unlabelled
        && disk.applied.0 > 0
        && let Some(v2) = v2_membership(log, disk.applied.0, learners, config, logger)?
    {
        changes.extend(cluster.follow_v2(&v2));
    }
    if let Some(state) = &disk.conf_state {
        changes.extend(cluster.follow_raft(state));
    }
    for change in &changes {
        warn!(logger, "repaired the membership in the database"; "change" => ?change);
        cluster.store(change, disk.store.backend());
    }
    // After a restore the stored configuration is still that of the old cluster: the members come first.
    let conf_state = if cluster.members().len() > 0 {
        Some(cluster.conf_state())
    } else {
        disk.conf_state.clone()
    };
    let old_entries = log.entries().iter().rev().find(|entry| {
        entry.r#type() == EntryType::EntryNormal && entry.data.as_ref().is_some_and(entry::is_old)
    });
    Ok(Recovered {
        cluster,
        conf_state,
        old_entries: old_entries.map_or(0, raftpb::Entry::index),
    })
}

/// The changes that leave this member alone in its cluster, as a voter, once everything known to be committed is
/// applied.
///
/// # Errors
/// `Removed` when it is none of its members.
pub(crate) fn forced(
    log: &Log,
    cluster: &Cluster,
    applied: u64,
) -> Result<Vec<ConfChange>, StartError> {
    let (own, _) = log.ids();
    let mut cluster = cluster.clone();
    for entry in log.entries() {
        let due = entry.index() > applied && entry.index() <= log.committed(applied);
        if due && entry.r#type() == EntryType::EntryConfChange {
            // One that cannot be read, or is refused, is told of when it is applied.
            let change = ConfChange::decode(entry.data.clone().unwrap_or_default());
            let _ = change.map(|change| cluster.apply(&change));
        }
    }
    let change = |kind: ConfChangeType, id, context: Option<Vec<u8>>| ConfChange {
        id: None,
        r#type: Some(kind as i32),
        node_id: Some(id),
        context: context.map(Into::into),
    };
    let member = cluster.member(own).ok_or(StartError::ForcedStranger(own))?;
    let mut changes = Vec::new();
    // First it votes, or there would be nobody who does.
    if member.is_learner {
        let promote = ConfChangeContext {
            member: Member {
                id: own,
                ..Member::default()
            },
            is_promote: true,
        };
        let kind = ConfChangeType::ConfChangeAddNode;
        changes.push(change(kind, own, Some(promote.to_json())));
    }
    for other in cluster.members().filter(|member| member.id != own) {
        changes.push(change(ConfChangeType::ConfChangeRemoveNode, other.id, None));
    }
    Ok(changes)
}

/// The membership that etcd 3.5 went by, as of the entry `applied`: the document of the snapshot that the log starts
/// from, and the changes behind it. `None` when that snapshot's file is gone.
fn v2_membership(
    log: &Log,
    applied: u64,
    learners: usize,
    config: &raft_node::Config,
    logger: &Logger,
) -> Result<Option<Cluster>, StartError> {
    let (_, cluster_id) = log.ids();
    let start = log.snapshot();
    let mut cluster = if start.index() == 0 {
        Cluster::empty(cluster_id, learners)
    } else {
        let fs = &*config.fs;
        let recorded = wal::valid_snapshots(fs, &config.wal_dir).map_err(raft_node::Error::from)?;
        let newest = snapshot::load_newest(fs, &config.snap_dir, &recorded)
            .map_err(raft_node::Error::from)?
            .filter(|file| {
                let metadata = file.metadata.as_ref();
                metadata.is_some_and(|m| m.index() == start.index())
            });
        let Some(newest) = newest else {
            warn!(logger, "the snapshot file that the log starts from cannot be read; \
                the members are those of the database"; "index" => start.index());
            return Ok(None);
        };
        Cluster::from_v2_document(&newest.data.unwrap_or_default(), cluster_id, learners)?
    };
    for entry in log.entries() {
        if entry.index() > applied {
            break;
        }
        if entry.r#type() == EntryType::EntryConfChange {
            let data = entry.data.clone().unwrap_or_default();
            // One that was refused when it was applied is refused again.
            let applied = ConfChange::decode(data).map(|change| cluster.apply(&change));
            if let Ok(Ok(change)) = applied {
                info!(logger, "replayed a membership change"; "change" => ?change);
            }
        }
    }
    Ok(Some(cluster))
}
