//! Metrics of one server, under etcd's names.
//!
//! Each server has a registry of its own. Only what is measured is registered: a name that etcd has and that is missing
//! here has nothing to feed it yet. Whoever is on a hot path keeps the handle it needs (they are cheap to clone) or a
//! local copy of a histogram ([`prometheus::Histogram::local`]).

mod build;
mod grpc;
mod process;

use std::time::Instant;

use crate::txn::Tally;
use prometheus::core::Collector;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, Registry,
    TextEncoder,
};

pub use grpc::Grpc;

/// All metrics of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// `etcd_server_*` and the cluster version.
    pub server: Server,
    /// `etcd_mvcc_*` and `etcd_debugging_mvcc_*`.
    pub mvcc: Mvcc,
    /// `etcd_disk_*` and `etcd_snap_*`: time spent on the disk.
    pub disk: Disk,
    /// `etcd_network_client_grpc_*` and `grpc_server_*`.
    pub grpc: Grpc,
    process: process::Process,
    scrapes: Scrapes,
}

/// State and work of the member.
#[derive(Debug)]
pub struct Server {
    /// 1 while there is a leader.
    pub has_leader: IntGauge,
    /// 1 while this member leads.
    pub is_leader: IntGauge,
    /// 1 while this member is a learner.
    pub is_learner: IntGauge,
    /// Leader changes seen.
    pub leader_changes: IntCounter,
    /// Index of the last committed entry.
    pub proposals_committed: IntGauge,
    /// Index of the last applied entry.
    pub proposals_applied: IntGauge,
    /// Proposals that wait for their commit.
    pub proposals_pending: IntGauge,
    /// Proposals that failed.
    pub proposals_failed: IntCounter,
    /// Requests that took longer to apply than the warning threshold.
    pub slow_apply: IntCounter,
    /// Read indexes that timed out or came late.
    pub slow_read_indexes: IntCounter,
    /// Read indexes that failed.
    pub read_indexes_failed: IntCounter,
    /// Health checks answered with success.
    pub health_success: IntCounter,
    /// Health checks answered with failure.
    pub health_failures: IntCounter,
    /// The quota in bytes, 0 when there is none.
    pub quota_backend_bytes: IntGauge,
    healthcheck: GaugeVec,
    healthchecks_total: IntCounterVec,
    apply_duration: HistogramVec,
    range_duration: [Histogram; 2],
    request_duration: HistogramVec,
    client_requests: IntCounterVec,
    unary_requests: IntCounter,
    cluster_version: GaugeVec,
    id: GaugeVec,
}

/// Keys and revisions.
#[derive(Debug)]
pub struct Mvcc {
    /// Puts, those inside transactions included.
    pub puts: IntCounter,
    /// Deletions, those inside transactions included.
    pub deletes: IntCounter,
    /// Ranges, those inside transactions included.
    pub ranges: IntCounter,
    /// Transactions of more than one operation.
    pub txns: IntCounter,
    /// Bytes the database takes on disk.
    pub db_size: IntGauge,
    /// Bytes of these that hold data.
    pub db_size_in_use: IntGauge,
    /// Read views open on the database.
    pub open_reads: IntGauge,
    /// Live keys.
    pub keys: IntGauge,
    /// Bytes of keys and values put, less those compacted away.
    pub put_size: IntGauge,
    /// The current revision.
    pub current_revision: IntGauge,
    /// The revision compacted to, -1 before the first compaction.
    pub compact_revision: IntGauge,
    /// Unix time of the last finished compaction, 0 before the first.
    pub compaction_last: IntGauge,
    /// Revisions removed by compaction.
    pub compaction_keys: IntCounter,
    /// Milliseconds one step of a compaction kept the store busy.
    pub compaction_pause: Histogram,
    /// Milliseconds from the begin of a compaction to its end.
    pub compaction_total: Histogram,
    /// Milliseconds the index was busy with a compaction.
    pub index_compaction_pause: Histogram,
    /// Seconds of a `Hash`.
    pub hash: Histogram,
    /// Seconds of a `HashKV`.
    pub hash_rev: Histogram,
}

/// Time and bytes on the disk, in seconds unless said otherwise.
#[derive(Debug)]
pub struct Disk {
    /// Each sync of the log.
    pub wal_fsync: Histogram,
    /// Each write of the log.
    pub wal_write: Histogram,
    /// Bytes written to the log.
    pub wal_write_bytes: IntGauge,
    /// Each durable commit of the backend.
    pub backend_commit: Histogram,
    /// Each defragmentation.
    pub backend_defrag: Histogram,
    /// 1 while a defragmentation runs.
    pub defrag_inflight: IntGauge,
    /// Each copy of the database sent to a client.
    pub backend_snapshot: Histogram,
    /// Each sync of a raft snapshot file.
    pub snap_fsync: Histogram,
    /// Encoding a raft snapshot.
    pub snap_marshalling: Histogram,
    /// Saving a raft snapshot, everything included.
    pub snap_save: Histogram,
}

#[derive(Debug)]
struct Scrapes {
    in_flight: IntGauge,
    ok: IntCounter,
}

/// What is known of a server once its member id is: facts that do not change.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// The member id.
    pub member_id: u64,
    /// `None`: no limit.
    pub quota_backend_bytes: Option<u64>,
}

impl Metrics {
    /// A registry with everything at zero.
    ///
    /// # Errors
    /// Only if two metrics had the same name, which the tests exclude.
    pub fn new() -> Result<Self, prometheus::Error> {
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
        Ok(Self {
            server: new.server()?,
            mvcc: new.mvcc()?,
            disk: new.disk()?,
            grpc: Grpc::new(&registry)?,
            process: process::Process::new(&registry)?,
            scrapes: Scrapes {
                in_flight: new.gauge(
                    "promhttp_metric_handler_requests_in_flight",
                    "Scrapes being answered.",
                )?,
                ok: new
                    .counters(
                        "promhttp_metric_handler_requests_total",
                        "Scrapes answered, by status.",
                        &["code"],
                    )?
                    .with_label_values(&["200"]),
            },
            registry,
        })
    }

    /// Sets what never changes while the server runs.
    pub fn identify(&self, identity: Identity) {
        self.server
            .id
            .with_label_values(&[&format!("{:x}", identity.member_id)])
            .set(1.0);
        self.server
            .quota_backend_bytes
            .set(saturating(identity.quota_backend_bytes.unwrap_or(0)));
    }

    /// All metrics in Prometheus' text format. Gauges that somebody else knows must be set just before.
    pub fn render(&self) -> String {
        self.scrapes.in_flight.inc();
        self.process.update();
        let mut text = Vec::with_capacity(128 << 10);
        // Fails only for a family without metrics, which `gather` leaves out, or a failing writer.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        self.scrapes.in_flight.dec();
        self.scrapes.ok.inc();
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

    /// Registers something more, e.g. of an embedding program.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn register(&self, collector: Box<dyn Collector>) -> Result<(), prometheus::Error> {
        self.registry.register(collector)
    }
}

impl Server {
    /// Seconds to apply one request; `op` is etcd's name of it (`Put`, `Txn`, `ClusterVersionSet`, ...).
    /// Resolve once per `op`, not per request.
    pub fn apply_duration(&self, op: &str, success: bool) -> Histogram {
        self.apply_duration
            .with_label_values(&["v3", op, bool_label(success)])
    }

    /// Seconds to answer one range.
    pub fn range_duration(&self, success: bool) -> &Histogram {
        &self.range_duration[usize::from(success)]
    }

    /// Seconds from a proposal to its answer; `op` as in [`Server::apply_duration`]. Resolve once per `op`.
    pub fn request_duration(&self, op: &str, success: bool) -> Histogram {
        self.request_duration
            .with_label_values(&[op, bool_label(success)])
    }

    /// Unary requests of clients that do not name their API version.
    pub fn unary_requests(&self) -> &IntCounter {
        &self.unary_requests
    }

    /// Requests by `type` (`unary` or `stream`) and the client's API version.
    pub fn client_requests(&self, kind: &str, api_version: &str) -> IntCounter {
        self.client_requests.with_label_values(&[kind, api_version])
    }

    /// The cluster's version in force, e.g. `3.7`; the one before becomes 0.
    pub fn set_cluster_version(&self, old: Option<&str>, new: &str) {
        if let Some(old) = old {
            self.cluster_version.with_label_values(&[old]).set(0.0);
        }
        self.cluster_version.with_label_values(&[new]).set(1.0);
    }

    /// The outcome of one check of `/livez` or `/readyz`.
    pub fn checked(&self, endpoint: &str, check: &str, success: bool) {
        self.healthcheck
            .with_label_values(&[endpoint, check])
            .set(f64::from(u8::from(success)));
        let status = if success { "success" } else { "error" };
        self.healthchecks_total
            .with_label_values(&[endpoint, check, status])
            .inc();
    }
}

fn bool_label(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// A gauge's value of something counted without sign.
pub(crate) fn saturating(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Seconds since `start`, for a histogram.
pub fn seconds_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests;
