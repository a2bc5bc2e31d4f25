//! A leader's snapshot takes the place of everything that this member has.
//!
//! Its database was received and is durable under a name of its own, and the log begins behind it already: a start would
//! put it in place. Here the same happens while the member runs. All that can be refused comes first, on the
//! received file; then it takes the name of the member's own database; then readers go over to it.
//!
//! Source: raft-log 9; etcd `server/etcdserver/server.go`, `applySnapshot`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use prometheus::IntGauge;
use retcd_proto::etcdserverpb::AlarmType;
use retcd_proto::raftpb;
use retcd_raft_node::membership::Cluster;
use retcd_storage::failpoint::failpoint;
use retcd_storage::snapshot;
use slog::{info, warn};

use super::{Applier, Fatal};
use crate::alarm::Alarms;
use crate::api::major_minor;
use crate::auth::Auth;
use crate::config::{Engine, GoDuration};
use crate::disk::ReceivedDatabase;
use crate::recovery;
use crate::schema::{self, Version};
use crate::server::StartError;

/// Why a leader's snapshot cannot be installed. The log begins behind it, so the member cannot go on without it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error(
        "failed to open snapshot backend: failed to find database snapshot file (snap: snapshot file doesn't exist): the leader's snapshot at index {index} is in the log, and {} is not there; remove this member from the cluster and add it again with an empty data directory", path.display()
    )]
    Missing { index: u64, path: PathBuf },
    #[error(
        "the database of the leader's snapshot stands at index {found}, not at the snapshot's {index}; remove this member from the cluster and add it again with an empty data directory"
    )]
    OtherIndex { index: u64, found: u64 },
    #[error(
        "a leader's snapshot cannot be installed into a database of the engine {0}; start this member with --experimental-backend-engine=bolt and an empty data directory"
    )]
    Engine(Engine),
    #[error("the database of the leader's snapshot cannot be used: {0}")]
    Unusable(#[source] Box<StartError>),
    #[error("the database of the leader's snapshot cannot take the place of this member's: {0}")]
    Place(#[from] snapshot::Error),
}

impl<E: Into<StartError>> From<E> for Box<InstallError> {
    fn from(error: E) -> Self {
        Box::new(InstallError::Unusable(Box::new(error.into())))
    }
}

/// A received database, found good, and what it says.
struct Incoming {
    database: ReceivedDatabase,
    cluster: Cluster,
    alarms: Alarms,
    auth: Auth,
    /// Keys, each with the lease that it names.
    leased: Vec<(Bytes, i64)>,
}

/// Says that a snapshot is being installed, until it is dropped.
struct InProgress(IntGauge);

impl InProgress {
    fn begin(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Applier {
    /// Installs a snapshot; true if a compaction goes on in the new database. One that this member is not behind
    /// changes nothing.
    ///
    /// Those who wait for an entry that the snapshot stands for hear nothing, as in etcd: whether it was refused
    /// nobody here knows. Those who wait for an index can read.
    pub(super) fn install(&mut self, snapshot: &raftpb::Snapshot) -> Result<bool, Fatal> {
        let metadata = snapshot.metadata.clone().unwrap_or_default();
        let (index, term) = (metadata.index(), metadata.term());
        let member = self.member.clone();
        let about = || {
            slog::o!("current-snapshot-index" => self.snapshots.last(),
                "current-applied-index" => self.applied.0,
                "incoming-leader-snapshot-index" => index,
                "incoming-leader-snapshot-term" => term)
        };
        if index <= self.applied.0 {
            warn!(member.logger, "ignored a leader's snapshot from an outdated index"; about());
            return Ok(false);
        }
        let _progress = InProgress::begin(&member.metrics.snap.applying);
        let began = Instant::now();
        info!(member.logger, "applying snapshot"; about());
        let incoming = self
            .inspect(index)
            .map_err(|error| Fatal::Install(*error))?;
        info!(member.logger, "applySnapshot: opened snapshot backend");
        failpoint("snapshot-install:inspected");
        self.databases
            .place(&incoming.database)
            .map_err(InstallError::from)?;
        failpoint("snapshot-install:placed");
        self.switch(incoming, (index, term), metadata.conf_state)?;
        failpoint("snapshot-install:switched");
        member.installed.notify_waiters();
        self.member.incoming.release(index, &member.logger);
        info!(member.logger, "applied snapshot";
            "incoming-leader-snapshot-index" => index,
            "incoming-leader-snapshot-term" => term,
            "current-rev" => self.store.rev(),
            "took" => %GoDuration(began.elapsed()));
        Ok(self.store.is_compacting())
    }

    /// Opens the received database and reads all of it that this member keeps in memory. Readers, raft and the log go
    /// on meanwhile; nothing is changed.
    fn inspect(&self, index: u64) -> Result<Incoming, Box<InstallError>> {
        let databases = &self.databases;
        if databases.engine() != Engine::Bolt {
            return Err(Box::new(InstallError::Engine(databases.engine())));
        }
        if !databases.has_received(index)? {
            let path = snapshot::received_path(databases.snap_dir(), index);
            return Err(Box::new(InstallError::Missing { index, path }));
        }
        let logger = &self.member.logger;
        let mut database = databases.open_received(index)?;
        let disk = &mut database.disk;
        let found = disk.applied.0;
        if found != index {
            return Err(Box::new(InstallError::OtherIndex { index, found }));
        }
        recovery::check(disk, logger)?;
        let learners = self.cluster.max_learners();
        let cluster = Cluster::load(&disk.backend, self.member.cluster_id, learners)?;
        if let Some(version) = cluster.version().and_then(Version::parse) {
            schema::check_cluster(version)?;
        }
        Ok(Incoming {
            cluster,
            alarms: Alarms::load(&disk.backend)?,
            auth: Auth::load(&disk.backend)?,
            leased: disk.store.take_restored_leases(),
            database,
        })
    }

    /// Goes over to the new database, which has the name of the old one by now.
    fn switch(
        &mut self,
        incoming: Incoming,
        at: (u64, u64),
        conf_state: Option<raftpb::ConfState>,
    ) -> Result<(), Fatal> {
        let Incoming {
            database,
            cluster,
            alarms,
            auth,
            leased,
        } = incoming;
        let member = self.member.clone();
        if database.disk.store.rev() < self.store.rev() {
            warn!(member.logger, "the leader's snapshot is at a lower revision than this member was: it had other data than the leader";
                "current-rev" => self.store.rev(), "incoming-rev" => database.disk.store.rev());
        }
        self.store.replace(database.disk.store)?;
        let conf_state = conf_state.unwrap_or_else(|| cluster.conf_state());
        self.snapshots.installed(at.0, conf_state);
        let old_version = self.cluster.version().map(major_minor);
        let old = std::mem::replace(&mut self.cluster, cluster);
        self.publish_cluster();
        member.reconnect(&old);
        if let Some(version) = self.cluster.version().map(major_minor)
            && old_version.as_ref() != Some(&version)
        {
            let server = &member.metrics.server;
            server.set_cluster_version(old_version.as_deref(), &version);
        }
        self.alarms = alarms;
        let raised = self.alarms.list(AlarmType::None);
        member.alarms.store(Arc::new(raised));
        self.auth = auth;
        self.lessor.reload(&member.backend())?;
        let orphans = self.lessor.attach_restored(leased);
        if orphans > 0 {
            warn!(member.logger, "failed to attach a lease: keys name leases that are not there"; "keys" => orphans);
        }
        self.applied = at;
        self.lowering = None;
        self.compaction_started = None;
        // As after a start.
        self.auth.begin(self.store.backend());
        self.align_storage(at.0)?;
        // Watchers see that they missed something, and read it from history; those who wait for the index can read.
        self.publish()?;
        if !self.store.is_compacting() {
            member.compacted.send_replace(self.store.compact_rev());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
