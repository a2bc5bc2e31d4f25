//! Snapshots: the files of raft's own, and databases that came from a leader.

use prometheus::{Histogram, IntGauge};

use super::build::Builder;

/// `etcd_snap_*`, `etcd_debugging_snap_*`, and what is being installed. Seconds.
#[derive(Debug)]
pub(crate) struct Snap {
    /// The last sync of each database that was received.
    pub(crate) db_fsync: Histogram,
    /// Receiving each of them.
    pub(crate) db_save: Histogram,
    /// The sync of each snapshot file.
    pub(crate) fsync: Histogram,
    /// Saving each of them.
    pub(crate) save: Histogram,
    /// Of that, encoding it.
    pub(crate) encoding: Histogram,
    /// 1 while a leader's snapshot is being installed.
    pub(crate) applying: IntGauge,
}

impl Builder<'_> {
    pub(super) fn snap(&self) -> Result<Snap, prometheus::Error> {
        const MILLIS: (f64, f64, usize) = (0.001, 2.0, 14);
        Ok(Snap {
            db_fsync: self.histogram(
                "etcd_snap_db_fsync_duration_seconds",
                "Syncs of databases received from a leader.",
                MILLIS,
            )?,
            db_save: self.histogram(
                "etcd_snap_db_save_total_duration_seconds",
                "Receiving and storing databases from a leader.",
                (0.1, 2.0, 10),
            )?,
            fsync: self.histogram(
                "etcd_snap_fsync_duration_seconds",
                "Syncs of snapshot files.",
                MILLIS,
            )?,
            save: self.histogram(
                "etcd_debugging_snap_save_total_duration_seconds",
                "Saving snapshot files.",
                MILLIS,
            )?,
            encoding: self.histogram(
                "etcd_debugging_snap_save_marshalling_duration_seconds",
                "Encoding snapshot files.",
                MILLIS,
            )?,
            applying: self.gauge(
                "etcd_server_snapshot_apply_in_progress_total",
                "1 while a leader's snapshot is being installed.",
            )?,
        })
    }
}
