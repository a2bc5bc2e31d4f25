//! `etcd_network_*` of peers: what passes between members.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{GaugeVec, HistogramVec, IntCounterVec, IntGaugeVec};
use retcd_raft_node::transport::TransportObserver;

use super::build::Builder;
use super::traffic::Traffic;

/// Traffic with other members, by their ids.
#[derive(Debug)]
pub(crate) struct Network {
    /// This member, as a label.
    local: String,
    sent_bytes: IntCounterVec,
    received_bytes: IntCounterVec,
    sent_failures: IntCounterVec,
    received_failures: IntCounterVec,
    active: GaugeVec,
    disconnected: IntCounterVec,
    round_trip: HistogramVec,
    snapshot_send_inflights: IntGaugeVec,
    snapshot_send_success: IntCounterVec,
    snapshot_send_failures: IntCounterVec,
    snapshot_send_duration: HistogramVec,
    snapshot_receive_inflights: IntGaugeVec,
    snapshot_receive_success: IntCounterVec,
    snapshot_receive_failures: IntCounterVec,
    snapshot_receive_duration: HistogramVec,
    traffic: Arc<Traffic>,
}

impl Builder<'_> {
    /// `local`: the id of this member.
    pub(super) fn network(
        &self,
        local: u64,
        traffic: Arc<Traffic>,
    ) -> Result<Network, prometheus::Error> {
        const LINK: &[&str] = &["Local", "Remote"];
        const SNAPSHOT: (f64, f64, usize) = (0.1, 2.0, 10);
        Ok(Network {
            local: format!("{local:x}"),
            sent_bytes: self.counters(
                "etcd_network_peer_sent_bytes_total",
                "Bytes sent to a peer.",
                &["To"],
            )?,
            received_bytes: self.counters(
                "etcd_network_peer_received_bytes_total",
                "Bytes received from a peer.",
                &["From"],
            )?,
            sent_failures: self.counters(
                "etcd_network_peer_sent_failures_total",
                "Messages that could not be sent to a peer.",
                &["To"],
            )?,
            received_failures: self.counters(
                "etcd_network_peer_received_failures_total",
                "Messages of a peer that could not be received.",
                &["From"],
            )?,
            active: self.gauges(
                "etcd_network_active_peers",
                "1 while a peer is reachable.",
                LINK,
            )?,
            disconnected: self.counters(
                "etcd_network_disconnected_peers_total",
                "Times that a peer became unreachable.",
                LINK,
            )?,
            round_trip: self.histograms(
                "etcd_network_peer_round_trip_time_seconds",
                "Time of a probe to a peer and back.",
                &["To"],
                (0.0001, 2.0, 16),
            )?,
            snapshot_send_inflights: self.int_gauges(
                "etcd_network_snapshot_send_inflights_total",
                "Snapshots on their way to a peer.",
                &["To"],
            )?,
            snapshot_send_success: self.counters(
                "etcd_network_snapshot_send_success",
                "Snapshots that a peer received.",
                &["To"],
            )?,
            snapshot_send_failures: self.counters(
                "etcd_network_snapshot_send_failures",
                "Snapshots that a peer did not receive.",
                &["To"],
            )?,
            snapshot_send_duration: self.histograms(
                "etcd_network_snapshot_send_total_duration_seconds",
                "Time to send a snapshot.",
                &["To"],
                SNAPSHOT,
            )?,
            snapshot_receive_inflights: self.int_gauges(
                "etcd_network_snapshot_receive_inflights_total",
                "Snapshots being received from a peer.",
                &["From"],
            )?,
            snapshot_receive_success: self.counters(
                "etcd_network_snapshot_receive_success",
                "Snapshots received from a peer.",
                &["From"],
            )?,
            snapshot_receive_failures: self.counters(
                "etcd_network_snapshot_receive_failures",
                "Snapshots of a peer that could not be received.",
                &["From"],
            )?,
            snapshot_receive_duration: self.histograms(
                "etcd_network_snapshot_receive_total_duration_seconds",
                "Time to receive a snapshot.",
                &["From"],
                SNAPSHOT,
            )?,
            traffic,
        })
    }
}

fn hex(id: u64) -> String {
    format!("{id:x}")
}

impl TransportObserver for Network {
    fn sent(&self, to: u64, bytes: u64) {
        self.sent_bytes.with_label_values(&[&hex(to)]).inc_by(bytes);
    }

    fn received(&self, from: u64, bytes: u64) {
        self.received_bytes
            .with_label_values(&[&hex(from)])
            .inc_by(bytes);
    }

    fn append_sent(&self, _: u64) {
        self.traffic.appends_sent.add_one();
    }

    fn send_failed(&self, to: u64) {
        self.traffic.failed(to);
        self.sent_failures.with_label_values(&[&hex(to)]).inc();
    }

    fn receive_failed(&self, from: u64) {
        self.received_failures
            .with_label_values(&[&hex(from)])
            .inc();
    }

    fn active(&self, peer: u64, active: bool) {
        let link = [&self.local, &hex(peer)];
        let value = f64::from(u8::from(active));
        self.active.with_label_values(&link).set(value);
        if !active {
            self.disconnected.with_label_values(&link).inc();
        }
    }

    fn round_trip(&self, to: u64, took: Duration) {
        self.traffic.probed(to, took);
        self.round_trip
            .with_label_values(&[&hex(to)])
            .observe(took.as_secs_f64());
    }

    fn snapshot_send_begins(&self, to: u64) {
        self.snapshot_send_inflights
            .with_label_values(&[&hex(to)])
            .inc();
    }

    fn snapshot_send_ends(&self, to: u64, took: Option<Duration>) {
        let to = [&hex(to)];
        self.snapshot_send_inflights.with_label_values(&to).dec();
        match took {
            Some(took) => {
                self.snapshot_send_success.with_label_values(&to).inc();
                self.snapshot_send_duration
                    .with_label_values(&to)
                    .observe(took.as_secs_f64());
            }
            None => self.snapshot_send_failures.with_label_values(&to).inc(),
        }
    }

    fn snapshot_receive_begins(&self, from: u64) {
        self.snapshot_receive_inflights
            .with_label_values(&[&hex(from)])
            .inc();
    }

    fn snapshot_receive_ends(&self, from: u64) {
        self.snapshot_receive_inflights
            .with_label_values(&[&hex(from)])
            .dec();
    }

    fn snapshot_received(&self, from: u64, took: Duration) {
        let from = [&hex(from)];
        self.snapshot_receive_success.with_label_values(&from).inc();
        self.snapshot_receive_duration
            .with_label_values(&from)
            .observe(took.as_secs_f64());
    }

    fn snapshot_receive_failed(&self, from: u64) {
        self.snapshot_receive_failures
            .with_label_values(&[&hex(from)])
            .inc();
    }
}
