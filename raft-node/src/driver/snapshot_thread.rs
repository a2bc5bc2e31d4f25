//! Snapshot files and purging, away from the appends.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use retcd_proto::raftpb;
use retcd_storage::{snapshot, wal};
use slog::{info, warn};

use super::Config;
use super::log_writer::{Report, record};
use super::status::Shared;
use super::wal_thread::Locked;
use crate::Error;
use crate::queue::Sender;

/// How often old segments and snapshots are looked for; etcd's value.
const PURGE_INTERVAL: Duration = Duration::from_secs(30);

pub(super) struct SnapshotThread {
    config: Arc<Config>,
    shared: Arc<Shared>,
    jobs: Receiver<raftpb::Snapshot>,
    reports: Sender<Result<Report, Error>>,
    /// A purge goes by the locks on the segments, so they must outlive this thread.
    _locked: Locked,
}

impl SnapshotThread {
    pub(super) fn new(
        config: Arc<Config>,
        shared: Arc<Shared>,
        jobs: Receiver<raftpb::Snapshot>,
        reports: Sender<Result<Report, Error>>,
        locked: Locked,
    ) -> SnapshotThread {
        SnapshotThread {
            config,
            shared,
            jobs,
            reports,
            _locked: locked,
        }
    }

    /// Ends when the raft thread closes its end, or with the first error.
    pub(super) fn run(self) {
        let mut next_purge = self.config.clock.now() + PURGE_INTERVAL;
        loop {
            let now = self.config.clock.now();
            match self.jobs.recv_timeout(next_purge.saturating_sub(now)) {
                Ok(snapshot) => {
                    if let Err(e) = self.save(&snapshot) {
                        let _ = self.reports.send(Err(e));
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.purge();
                    next_purge = self.config.clock.now() + PURGE_INTERVAL;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn save(&self, snapshot: &raftpb::Snapshot) -> Result<(), Error> {
        let Config {
            fs,
            clock,
            snap_dir,
            observer,
            ..
        } = &*self.config;
        let saved = snapshot::save_measured(&**fs, &**clock, snap_dir, snapshot)?;
        observer.snapshot_saved(&saved);
        info!(self.config.logger, "saved snapshot to disk"; "path" => %saved.path.display());
        let _ = self
            .reports
            .send(Ok(Report::SnapshotSaved(record(snapshot))));
        Ok(())
    }

    /// What cannot be removed now is tried again next time.
    pub(super) fn purge(&self) {
        let config = &self.config;
        let fs = &*config.fs;
        let (wals, snapshots) = (config.max_wals, config.max_snapshots);
        let recorded = self.shared.status().snapshot;
        let removed = [
            (wals > 0).then(|| wal::purge(fs, &config.wal_dir, wals).map_err(Error::from)),
            (snapshots > 0).then(|| {
                snapshot::purge(fs, &config.snap_dir, snapshots, recorded).map_err(Error::from)
            }),
        ];
        for result in removed.into_iter().flatten() {
            match result {
                Ok(names) => {
                    for name in names {
                        info!(config.logger, "purged"; "path" => name);
                    }
                }
                Err(e) => warn!(config.logger, "failed to purge"; "error" => %e),
            }
        }
    }
}
