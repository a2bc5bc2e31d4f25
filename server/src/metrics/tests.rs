use tonic::Code;

use super::*;
use crate::net::{CallObserver as _, Method};

fn metrics() -> Metrics {
    Metrics::new().expect("names are unique")
}

#[test]
fn facts_appear_under_etcds_names() {
    let metrics = metrics();
    metrics.identify(Identity {
        member_id: 0x5c76_a90a_e78b_cee7,
        quota_backend_bytes: Some(2 << 30),
    });
    metrics.server.has_leader.set(1);
    metrics.server.set_cluster_version(Some("3.6"), "3.7");
    metrics
        .server
        .apply_duration
        .observe(Some(Op::Put), true, 0.0003);
    metrics.server.checked("readyz", "serializable_read", true);
    metrics.started(Method::Put);
    metrics.finished(Method::Put, Code::Ok);
    metrics.finished(Method::Put, Code::Unknown);
    let text = metrics.render();
    for line in [
        "# TYPE etcd_disk_wal_write_bytes_total gauge",
        "etcd_server_version{server_version=\"3.7.1\"} 1",
        "etcd_server_id{server_id=\"5c76a90ae78bcee7\"} 1",
        "etcd_server_quota_backend_bytes 2147483648",
        "etcd_server_has_leader 1",
        "etcd_cluster_version{cluster_version=\"3.6\"} 0",
        "etcd_cluster_version{cluster_version=\"3.7\"} 1",
        "etcd_debugging_mvcc_compact_revision -1",
        "etcd_server_apply_duration_seconds_count{op=\"Put\",success=\"true\",version=\"v3\"} 1",
        "etcd_server_healthcheck{name=\"serializable_read\",type=\"readyz\"} 1",
        "etcd_server_healthchecks_total{name=\"serializable_read\",status=\"success\",type=\"readyz\"} 1",
        "grpc_server_started_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1",
        "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1",
        "grpc_server_handled_total{grpc_code=\"Unknown\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1",
        "grpc_server_handled_total{grpc_code=\"Aborted\",grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "missing: {line}");
    }
}

/// The upper bounds of a family's buckets, as rendered.
fn bounds(text: &str, name: &str) -> Vec<f64> {
    let prefix = format!("{name}_bucket{{");
    text.lines()
        .filter(|line| line.starts_with(&prefix))
        .filter_map(|line| line.split("le=\"").nth(1)?.split('"').next()?.parse().ok())
        // The first series ends with +Inf; all have the same buckets.
        .take_while(|bound: &f64| bound.is_finite())
        .collect()
}

#[test]
fn buckets_are_etcds() {
    let metrics = metrics();
    // Not shown before there was one.
    metrics
        .server
        .apply_duration
        .observe(Some(Op::Put), true, 0.0);
    metrics
        .server
        .request_duration
        .observe(Some(Op::Range), true, 0.0);
    metrics.server.range_duration.observe(true, 0.0);
    let text = metrics.render();
    for (name, start, count) in [
        ("etcd_disk_wal_fsync_duration_seconds", 0.001, 14),
        ("etcd_disk_wal_write_duration_seconds", 0.001, 14),
        ("etcd_disk_backend_commit_duration_seconds", 0.001, 14),
        ("etcd_disk_backend_defrag_duration_seconds", 0.1, 13),
        ("etcd_mvcc_hash_duration_seconds", 0.01, 15),
        ("etcd_mvcc_hash_rev_duration_seconds", 0.01, 15),
        (
            "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
            1.0,
            13,
        ),
        (
            "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
            100.0,
            14,
        ),
        ("etcd_server_apply_duration_seconds", 0.0001, 20),
        ("etcd_server_range_duration_seconds", 0.0001, 20),
        ("etcd_server_request_duration_seconds", 0.001, 14),
    ] {
        let bounds = bounds(&text, name);
        assert_eq!(bounds.len(), count, "{name}");
        for (power, bound) in bounds.iter().enumerate() {
            let expected = start * f64::powi(2.0, power as i32);
            assert!(
                (bound / expected - 1.0).abs() < 1e-9,
                "{name}: {bound} for {expected}"
            );
        }
    }
}

#[test]
fn calls_are_timed_if_metrics_are_extensive() {
    let (basic, extensive) = (
        metrics(),
        Metrics::with(true, &[]).expect("names are unique"),
    );
    assert_eq!((basic.wants_time(), extensive.wants_time()), (false, true));
    for metrics in [&basic, &extensive] {
        metrics.took(Method::Put, std::time::Duration::from_millis(7));
    }
    assert!(!basic.render().contains("grpc_server_handling_seconds"));
    let text = extensive.render();
    let put = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"";
    for line in [
        format!("grpc_server_handling_seconds_bucket{{{put},le=\"0.005\"}} 0"),
        format!("grpc_server_handling_seconds_bucket{{{put},le=\"0.01\"}} 1"),
        format!("grpc_server_handling_seconds_count{{{put}}} 1"),
    ] {
        assert!(text.lines().any(|l| l == line), "missing: {line}");
    }
    assert_eq!(
        bounds(&text, "grpc_server_handling_seconds"),
        [
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0
        ]
    );
}

#[test]
fn what_never_happened_has_no_series() {
    let metrics = metrics();
    let text = metrics.render();
    for name in [
        "etcd_server_apply_duration_seconds",
        "etcd_server_range_duration_seconds",
        "etcd_server_client_requests_total",
        "v3lockpb.Lock",
    ] {
        assert!(!text.contains(name), "{name}");
    }
    metrics
        .server
        .request_duration
        .observe(Some(Op::ReadonlyTxn), false, 0.0);
    metrics.started(Method::Lock);
    let text = metrics.render();
    let seen =
        "etcd_server_request_duration_seconds_count{success=\"false\",type=\"ReadonlyTxn\"} 1";
    assert!(text.contains(seen));
    assert!(!text.contains("success=\"true\""));
    assert!(text.contains("grpc_method=\"Lock\""));
}

#[test]
fn gates_are_shown_as_they_are() {
    let features = [true, false].map(|open| Feature {
        name: if open { "One" } else { "Two" },
        stage: "ALPHA",
        open,
    });
    let text = Metrics::with(false, &features)
        .expect("names are unique")
        .render();
    for line in [
        "etcd_server_feature_enabled{name=\"One\",stage=\"ALPHA\"} 1",
        "etcd_server_feature_enabled{name=\"Two\",stage=\"ALPHA\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}");
    }
}

#[test]
fn instances_do_not_share() {
    let (one, two) = (metrics(), metrics());
    one.mvcc.puts.inc_by(5);
    assert!(one.render().contains("\netcd_mvcc_put_total 5\n"));
    assert!(two.render().contains("\netcd_mvcc_put_total 0\n"));
}

#[test]
fn the_process_is_measured() {
    let text = metrics().render();
    let value = |name: &str| -> f64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .expect(name);
        line.parse().expect(name)
    };
    assert!(value("process_resident_memory_bytes") > 100_000.0);
    assert!(value("os_fd_used") >= 3.0);
    assert!(value("os_fd_limit") >= value("os_fd_used"));
    assert!(value("process_start_time_seconds") > 1.5e9);
}
