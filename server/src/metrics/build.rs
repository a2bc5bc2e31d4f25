//! Names, help texts and buckets of all metrics.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, exponential_buckets,
};

use super::{ByOp, ByOutcome, ClientRequests, Disk, Marked, Mvcc, Scrapes, Server};

/// Makes and registers.
pub(super) struct Builder<'a> {
    pub(super) registry: &'a Registry,
}

impl Builder<'_> {
    fn add<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::new(name, help)?)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::new(name, help)?)
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, prometheus::Error> {
        self.add(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn int_gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// A gauge that is always 1 and says something by its label.
    pub(super) fn constant(
        &self,
        name: &str,
        help: &str,
        label: &str,
        value: &str,
    ) -> Result<(), prometheus::Error> {
        let gauge = self.add(Gauge::with_opts(
            Opts::new(name, help).const_label(label, value),
        )?)?;
        gauge.set(1.0);
        Ok(())
    }

    /// `exp` as (first bucket, factor, number of buckets).
    pub(super) fn histogram(
        &self,
        name: &str,
        help: &str,
        exp: (f64, f64, usize),
    ) -> Result<Histogram, prometheus::Error> {
        self.add(Histogram::with_opts(options(name, help, exp)?)?)
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        exp: (f64, f64, usize),
    ) -> Result<HistogramVec, prometheus::Error> {
        self.add(HistogramVec::new(options(name, help, exp)?, labels)?)
    }

    pub(super) fn server(&self) -> Result<Server, prometheus::Error> {
        let client_requests = self.counters(
            "etcd_server_client_requests_total",
            "Requests of clients, by kind and API version.",
            &["type", "client_api_version"],
        )?;
        let ranges = self.histograms(
            "etcd_server_range_duration_seconds",
            "Time to read a range.",
            &["success"],
            (0.0001, 2.0, 20),
        )?;
        let applies = self.histograms(
            "etcd_server_apply_duration_seconds",
            "Time to apply a request.",
            &["version", "op", "success"],
            (0.0001, 2.0, 20),
        )?;
        let requests = self.histograms(
            "etcd_server_request_duration_seconds",
            "Time from the begin of a request to its answer.",
            &["type", "success"],
            (0.001, 2.0, 14),
        )?;
        Ok(Server {
            heartbeat_send_failures: self.counter(
                "etcd_server_heartbeat_send_failures_total",
                "Heartbeats of this leader that went out late.",
            )?,
            auth_revision: self.gauge(
                "etcd_debugging_auth_revision",
                "Revision of users and roles.",
            )?,
            alarms: Marked::new(self.gauges(
                "etcd_debugging_server_alarms",
                "1 for a raised alarm.",
                &["server_id", "alarm_type"],
            )?),
            known_peers: Marked::new(self.gauges(
                "etcd_network_known_peers",
                "1 for a member, 0 for one that was removed.",
                &["Local", "Remote"],
            )?),
            has_leader: self.gauge("etcd_server_has_leader", "1 while there is a leader.")?,
            is_leader: self.gauge("etcd_server_is_leader", "1 while this member leads.")?,
            is_learner: self.gauge(
                "etcd_server_is_learner",
                "1 while this member is a learner.",
            )?,
            leader_changes: self.counter(
                "etcd_server_leader_changes_seen_total",
                "Leader changes seen.",
            )?,
            proposals_committed: self.gauge(
                "etcd_server_proposals_committed_total",
                "Index of the last committed entry.",
            )?,
            proposals_applied: self.gauge(
                "etcd_server_proposals_applied_total",
                "Index of the last applied entry.",
            )?,
            proposals_pending: self.gauge(
                "etcd_server_proposals_pending",
                "Proposals that wait for their commit.",
            )?,
            proposals_failed: self.counter(
                "etcd_server_proposals_failed_total",
                "Proposals that failed.",
            )?,
            slow_apply: self.counter("etcd_server_slow_apply_total", "Requests slow to apply.")?,
            slow_read_indexes: self.counter(
                "etcd_server_slow_read_indexes_total",
                "Read indexes late or timed out.",
            )?,
            read_indexes_failed: self.counter(
                "etcd_server_read_indexes_failed_total",
                "Read indexes that failed.",
            )?,
            health_success: self.counter("etcd_server_health_success", "Health checks passed.")?,
            health_failures: self
                .counter("etcd_server_health_failures", "Health checks failed.")?,
            learner_promote_successes: self.counter(
                "etcd_server_learner_promote_successes",
                "Learners promoted while this member led.",
            )?,
            learner_promote_failures: self.counters(
                "etcd_server_learner_promote_failures",
                "Learners not promoted while this member led, by reason.",
                &["Reason"],
            )?,
            quota_backend_bytes: self.gauge(
                "etcd_server_quota_backend_bytes",
                "Quota of the store in bytes.",
            )?,
            healthcheck: self.gauges(
                "etcd_server_healthcheck",
                "Last outcome of a check.",
                &["type", "name"],
            )?,
            healthchecks_total: self.counters(
                "etcd_server_healthchecks_total",
                "Checks by outcome.",
                &["type", "name", "status"],
            )?,
            apply_duration: ByOp::new(applies, |op, success| vec!["v3", op, success]),
            range_duration: ByOutcome::new(ranges),
            request_duration: ByOp::new(requests, |op, success| vec![op, success]),
            client_streams: ClientRequests::new(client_requests.clone(), "stream"),
            client_requests: ClientRequests::new(client_requests, "unary"),
            cluster_version: self.gauges(
                "etcd_cluster_version",
                "1 for the cluster version in force.",
                &["cluster_version"],
            )?,
            id: self.gauges(
                "etcd_server_id",
                "1 for this member's id in hexadecimal.",
                &["server_id"],
            )?,
        })
    }

    pub(super) fn mvcc(&self) -> Result<Mvcc, prometheus::Error> {
        let compact_revision = self.gauge(
            "etcd_debugging_mvcc_compact_revision",
            "Revision compacted to.",
        )?;
        compact_revision.set(-1);
        Ok(Mvcc {
            puts: self.counter("etcd_mvcc_put_total", "Puts.")?,
            deletes: self.counter("etcd_mvcc_delete_total", "Deletions.")?,
            ranges: self.counter("etcd_mvcc_range_total", "Ranges.")?,
            txns: self.counter("etcd_mvcc_txn_total", "Transactions.")?,
            db_size: self.gauge(
                "etcd_mvcc_db_total_size_in_bytes",
                "Bytes the database takes on disk.",
            )?,
            db_size_old_name: self.gauge(
                "etcd_debugging_mvcc_db_total_size_in_bytes",
                "etcd_mvcc_db_total_size_in_bytes by its name before etcd 3.4.",
            )?,
            db_size_in_use: self.gauge(
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes of the database that hold data.",
            )?,
            keys: self.gauge("etcd_debugging_mvcc_keys_total", "Live keys.")?,
            put_size: self.gauge(
                "etcd_debugging_mvcc_total_put_size_in_bytes",
                "Bytes of keys and values put, less those compacted away.",
            )?,
            current_revision: self
                .gauge("etcd_debugging_mvcc_current_revision", "Current revision.")?,
            compact_revision,
            compaction_last: self.gauge(
                "etcd_debugging_mvcc_db_compaction_last",
                "Unix time of the last compaction, 0 for none.",
            )?,
            compaction_keys: self.counter(
                "etcd_debugging_mvcc_db_compaction_keys_total",
                "Revisions of keys that compactions removed.",
            )?,
            compaction_pause: self.histogram(
                "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                "Time a step of a compaction kept the store busy.",
                (1.0, 2.0, 13),
            )?,
            compaction_total: self.histogram(
                "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                "Time from the begin of a compaction to its end.",
                (100.0, 2.0, 14),
            )?,
            hash: self.histogram(
                "etcd_mvcc_hash_duration_seconds",
                "Time to hash the store.",
                (0.01, 2.0, 15),
            )?,
            hash_rev: self.histogram(
                "etcd_mvcc_hash_rev_duration_seconds",
                "Time to hash the store up to a revision.",
                (0.01, 2.0, 15),
            )?,
        })
    }

    pub(super) fn scrapes(&self) -> Result<Scrapes, prometheus::Error> {
        let by_code = self.counters(
            "promhttp_metric_handler_requests_total",
            "Scrapes answered, by status.",
            &["code"],
        )?;
        for code in Scrapes::CODES {
            by_code.with_label_values(&[code]);
        }
        Ok(Scrapes {
            in_flight: self.gauge(
                "promhttp_metric_handler_requests_in_flight",
                "Scrapes being answered.",
            )?,
            by_code,
        })
    }

    pub(super) fn disk(&self) -> Result<Disk, prometheus::Error> {
        const MILLIS: (f64, f64, usize) = (0.001, 2.0, 14);
        Ok(Disk {
            wal_fsync: self.histogram(
                "etcd_disk_wal_fsync_duration_seconds",
                "Syncs of the log.",
                MILLIS,
            )?,
            wal_write: self.histogram(
                "etcd_disk_wal_write_duration_seconds",
                "Writes of the log.",
                MILLIS,
            )?,
            wal_write_bytes: self.gauge(
                "etcd_disk_wal_write_bytes_total",
                "Bytes written to the log.",
            )?,
            backend_commit: self.histogram(
                "etcd_disk_backend_commit_duration_seconds",
                "Durable commits of the backend.",
                MILLIS,
            )?,
            backend_defrag: self.histogram(
                "etcd_disk_backend_defrag_duration_seconds",
                "Defragmentations of the backend.",
                (0.1, 2.0, 13),
            )?,
            defrag_inflight: self.gauge(
                "etcd_disk_defrag_inflight",
                "1 while a defragmentation runs.",
            )?,
            backend_snapshot: self.histogram(
                "etcd_disk_backend_snapshot_duration_seconds",
                "Copies of the backend for clients.",
                (0.01, 2.0, 17),
            )?,
        })
    }
}

fn options(
    name: &str,
    help: &str,
    exp: (f64, f64, usize),
) -> Result<HistogramOpts, prometheus::Error> {
    let (start, factor, count) = exp;
    Ok(HistogramOpts::new(name, help).buckets(exponential_buckets(start, factor, count)?))
}
