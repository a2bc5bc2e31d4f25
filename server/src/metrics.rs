//! Metrics of one server, under etcd's names.
//!
//! Each server has a registry of its own. Only what is measured is registered: names that etcd has and that are missing
//! here are in `tests/testdata/metrics/missing.txt`, with reasons. Whoever is on a hot path keeps the handle it needs (they are cheap to clone) or a
//! local copy of a histogram ([`prometheus::Histogram::local`]).

mod build;
mod clients;
mod grpc;
mod lease;
mod marked;
mod network;
mod op;
pub(crate) mod process;
mod snap;
mod traffic;
mod watch;

use std::sync::Arc;

use crate::config::Feature;
use crate::txn::Tally;
use prometheus::{
    Encoder, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, Registry, TextEncoder,
};

use clients::ClientRequests;
pub(crate) use grpc::Grpc;
pub(crate) use lease::Lease as LeaseMetrics;
use marked::Marked;
pub(crate) use network::Network;
pub(crate) use op::{ByOp, ByOutcome, Op};
pub(crate) use traffic::Traffic;
pub(crate) use watch::Watch as WatchMetrics;

/// All metrics of one server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// `etcd_server_*` and the cluster version.
    pub(crate) server: Server,
    /// `etcd_mvcc_*` and `etcd_debugging_mvcc_*`.
    pub(crate) mvcc: Mvcc,
    /// `etcd_disk_*` and `etcd_snap_*`: time spent on the disk.
    pub(crate) disk: Disk,
    /// Snapshot files and received databases.
    pub(crate) snap: snap::Snap,
    /// `etcd_network_client_grpc_*` and `grpc_server_*`.
    pub(crate) grpc: Grpc,
    /// `etcd_debugging_mvcc_*` of watchers.
    pub(crate) watch: WatchMetrics,
    /// `etcd_debugging_lease_*`.
    pub(crate) lease: LeaseMetrics,
    /// No metrics: what `/v2/stats` tells of other members.
    pub(crate) traffic: Arc<Traffic>,
    process: process::Process,
    scrapes: Scrapes,
}

/// State and work of the member.
#[derive(Debug)]
pub(crate) struct Server {
    /// 1 while there is a leader.
    pub(crate) has_leader: IntGauge,
    /// 1 while this member leads.
    pub(crate) is_leader: IntGauge,
    /// 1 while this member is a learner.
    pub(crate) is_learner: IntGauge,
    /// Leader changes seen.
    pub(crate) leader_changes: IntCounter,
    /// Index of the last committed entry.
    pub(crate) proposals_committed: IntGauge,
    /// Index of the last applied entry.
    pub(crate) proposals_applied: IntGauge,
    /// Proposals that wait for their commit.
    pub(crate) proposals_pending: IntGauge,
    /// Proposals that failed.
    pub(crate) proposals_failed: IntCounter,
    /// Requests that took longer to apply than the warning threshold.
    pub(crate) slow_apply: IntCounter,
    /// Read indexes that timed out or came late.
    pub(crate) slow_read_indexes: IntCounter,
    /// Read indexes that failed.
    pub(crate) read_indexes_failed: IntCounter,
    /// Health checks answered with success.
    pub(crate) health_success: IntCounter,
    /// Health checks answered with failure.
    pub(crate) health_failures: IntCounter,
    /// Applying a request.
    pub(crate) apply_duration: ByOp,
    /// A request from its begin to its answer.
    pub(crate) request_duration: ByOp,
    /// Of ranges, the reading alone.
    pub(crate) range_duration: ByOutcome,
    /// Learners that became voters at this member's word.
    pub(crate) learner_promote_successes: IntCounter,
    /// Learners that did not, by reason.
    pub(crate) learner_promote_failures: IntCounterVec,
    /// The quota in bytes, 0 when there is none.
    pub(crate) quota_backend_bytes: IntGauge,
    /// Heartbeats of this leader that went out late.
    pub(crate) heartbeat_send_failures: IntCounter,
    /// The revision of users and roles.
    pub(crate) auth_revision: IntGauge,
    /// Raised alarms, by member and kind.
    pub(crate) alarms: Marked,
    /// Members, this one among them.
    pub(crate) known_peers: Marked,
    healthcheck: GaugeVec,
    healthchecks_total: IntCounterVec,
    client_requests: ClientRequests,
    client_streams: ClientRequests,
    cluster_version: GaugeVec,
    id: GaugeVec,
}

/// Keys and revisions.
#[derive(Debug)]
pub(crate) struct Mvcc {
    /// Puts, those inside transactions included.
    pub(crate) puts: IntCounter,
    /// Deletions, those inside transactions included.
    pub(crate) deletes: IntCounter,
    /// Ranges, those inside transactions included.
    pub(crate) ranges: IntCounter,
    /// Transactions of more than one operation.
    pub(crate) txns: IntCounter,
    /// Bytes the database takes on disk.
    pub(crate) db_size: IntGauge,
    /// The same by a name of etcd's from before 3.4, which old dashboards ask for.
    pub(crate) db_size_old_name: IntGauge,
    /// Bytes of these that hold data.
    pub(crate) db_size_in_use: IntGauge,
    /// Live keys.
    pub(crate) keys: IntGauge,
    /// Bytes of keys and values put, less those compacted away.
    pub(crate) put_size: IntGauge,
    /// The current revision.
    pub(crate) current_revision: IntGauge,
    /// The revision compacted to, -1 before the first compaction.
    pub(crate) compact_revision: IntGauge,
    /// Unix time of the last finished compaction, 0 before the first.
    pub(crate) compaction_last: IntGauge,
    /// Revisions of keys that compactions removed.
    pub(crate) compaction_keys: IntCounter,
    /// Milliseconds one step of a compaction kept the store busy.
    pub(crate) compaction_pause: Histogram,
    /// Milliseconds from the begin of a compaction to its end.
    pub(crate) compaction_total: Histogram,
    /// Seconds of a `Hash`.
    pub(crate) hash: Histogram,
    /// Seconds of a `HashKV`.
    pub(crate) hash_rev: Histogram,
}

/// Time and bytes on the disk, in seconds unless said otherwise.
#[derive(Debug)]
pub(crate) struct Disk {
    /// Each sync of the log.
    pub(crate) wal_fsync: Histogram,
    /// Each write of the log.
    pub(crate) wal_write: Histogram,
    /// Bytes written to the log.
    pub(crate) wal_write_bytes: IntGauge,
    /// Each durable commit of the backend.
    pub(crate) backend_commit: Histogram,
    /// Each defragmentation.
    pub(crate) backend_defrag: Histogram,
    /// 1 while a defragmentation runs.
    pub(crate) defrag_inflight: IntGauge,
    /// Each copy of the backend for a client, from its first byte to its end.
    pub(crate) backend_snapshot: Histogram,
}

#[derive(Debug)]
struct Scrapes {
    in_flight: IntGauge,
    by_code: IntCounterVec,
}

impl Scrapes {
    /// Codes that a scrape can have in etcd.
    const CODES: [&str; 3] = ["200", "500", "503"];
}

/// What is known of a server once its member id is: facts that do not change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    /// The member id.
    pub(crate) member_id: u64,
    /// `None`: no limit.
    pub(crate) quota_backend_bytes: Option<u64>,
}

impl Metrics {
    /// [`Metrics::with`] what `--metrics=basic` asks for.
    #[cfg(test)]
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        Self::with(false, &[])
    }

    /// A registry with everything at zero. `extensive`: with the time that calls take (`--metrics=extensive`).
    /// `features`: the feature gates as they are.
    ///
    /// # Errors
    /// Only if two metrics had the same name, which the tests exclude.
    pub(crate) fn with(extensive: bool, features: &[Feature]) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let new = build::Builder {
            registry: &registry,
        };
        new.constant(
            "etcd_server_version",
            "Version of the running server.",
            "server_version",
            crate::config::ETCD_VERSION,
        )?;
        new.constant(
            "etcd_server_go_version",
            "Where etcd has the release of Go: there is none in this server.",
            "server_go_version",
            "none (Rust)",
        )?;
        let enabled = new.gauges(
            "etcd_server_feature_enabled",
            "1 for a feature gate that is on.",
            &["name", "stage"],
        )?;
        for feature in features {
            enabled
                .with_label_values(&[feature.name, feature.stage])
                .set(f64::from(u8::from(feature.open)));
        }
        Ok(Self {
            server: new.server()?,
            mvcc: new.mvcc()?,
            disk: new.disk()?,
            snap: new.snap()?,
            watch: new.watch()?,
            lease: new.lease()?,
            traffic: Arc::default(),
            grpc: Grpc::new(&registry, extensive)?,
            process: process::Process::new(&registry)?,
            scrapes: new.scrapes()?,
            registry,
        })
    }

    /// The metrics of the traffic between members. To be made once; its labels have this member's id.
    ///
    /// # Errors
    /// When they were made before.
    pub(crate) fn network(&self, local: u64) -> Result<Network, prometheus::Error> {
        let new = build::Builder {
            registry: &self.registry,
        };
        new.network(local, self.traffic.clone())
    }

    /// Sets what never changes while the server runs.
    pub(crate) fn identify(&self, identity: Identity) {
        self.server
            .id
            .with_label_values(&[&format!("{:x}", identity.member_id)])
            .set(1.0);
        self.server
            .quota_backend_bytes
            .set(saturating(identity.quota_backend_bytes.unwrap_or(0)));
    }

    /// All metrics in Prometheus' text format. Gauges that somebody else knows must be set just before.
    pub(crate) fn render(&self) -> String {
        self.scrapes.in_flight.inc();
        self.process.update();
        let mut text = Vec::with_capacity(128 << 10);
        // Fails only for a family without metrics, which `gather` leaves out, or a failing writer.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        self.scrapes.in_flight.dec();
        self.scrapes.by_code.with_label_values(&["200"]).inc();
        String::from_utf8(text).unwrap_or_default()
    }

    /// Counts what one request through the log did.
    pub(crate) fn count(&self, tally: &Tally) {
        let (ranges, puts, deletes) = (tally.ranges.get(), tally.puts.get(), tally.deletes.get());
        self.mvcc.ranges.inc_by(ranges);
        self.mvcc.puts.inc_by(puts);
        self.mvcc.deletes.inc_by(deletes);
        if ranges + puts + deletes > 1 {
            self.mvcc.txns.inc();
        }
        self.mvcc.put_size.add(saturating(tally.put_bytes.get()));
    }
}

impl Server {
    /// Counts a call by the client's API version.
    pub(crate) fn count_request(&self, api_version: Option<&str>) {
        self.client_requests.count(api_version.unwrap_or("unknown"));
    }

    /// Counts a call with a stream by the client's API version.
    pub(crate) fn count_stream(&self, api_version: Option<&str>) {
        self.client_streams.count(api_version.unwrap_or("unknown"));
    }

    /// The cluster's version in force, e.g. `3.7`; the one before becomes 0.
    pub(crate) fn set_cluster_version(&self, old: Option<&str>, new: &str) {
        if let Some(old) = old {
            self.cluster_version.with_label_values(&[old]).set(0.0);
        }
        self.cluster_version.with_label_values(&[new]).set(1.0);
    }

    /// The outcome of one check of `/livez` or `/readyz`.
    pub(crate) fn checked(&self, endpoint: &str, check: &str, success: bool) {
        self.healthcheck
            .with_label_values(&[endpoint, check])
            .set(f64::from(u8::from(success)));
        let status = if success { "success" } else { "error" };
        self.healthchecks_total
            .with_label_values(&[endpoint, check, status])
            .inc();
    }
}

/// A gauge's value of something counted without sign.
pub(crate) fn saturating(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
