//! What is counted: one member of ours and one of Go's get the same calls, one after the other.

use std::collections::BTreeMap;

use prost::Message;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::request_op::Request;
use retcd_tests::grpc::Connection;
use retcd_tests::http1;
use retcd_tests::member::{Member, Setup};

use super::families::Export;

/// Families of which each sample is the same after the same work; of histograms, how much was counted.
const SAME: [&str; 29] = [
    "etcd_cluster_version",
    "etcd_debugging_lease_granted_total",
    "etcd_debugging_lease_renewed_total",
    "etcd_debugging_lease_revoked_total",
    "etcd_debugging_lease_ttl_total",
    "etcd_debugging_mvcc_compact_revision",
    "etcd_debugging_mvcc_current_revision",
    "etcd_debugging_mvcc_db_compaction_keys_total",
    "etcd_debugging_mvcc_keys_total",
    "etcd_debugging_mvcc_total_put_size_in_bytes",
    "etcd_disk_backend_defrag_duration_seconds",
    "etcd_mvcc_delete_total",
    "etcd_mvcc_hash_rev_duration_seconds",
    "etcd_mvcc_put_total",
    "etcd_mvcc_txn_total",
    "etcd_server_apply_duration_seconds",
    "etcd_server_client_requests_total",
    "etcd_server_feature_enabled",
    "etcd_server_health_failures",
    "etcd_server_health_success",
    "etcd_server_healthcheck",
    "etcd_server_healthchecks_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_range_duration_seconds",
    "etcd_server_request_duration_seconds",
    "grpc_server_handled_total",
    "grpc_server_handling_seconds",
    "grpc_server_started_total",
];

/// Those that count who looked whether the member serves already: of them, what the calls added.
const ASKED: [&str; 4] = [
    "etcd_server_health_failures",
    "etcd_server_health_success",
    "etcd_server_range_duration_seconds",
    "etcd_server_request_duration_seconds",
];

/// What a member exports before the calls, and after them.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    before: Export,
    after: Export,
}

impl Counted {
    /// The samples of a family, without buckets.
    fn all(&self, name: &str) -> BTreeMap<String, f64> {
        let mut all = numbers(&self.after, name);
        if ASKED.contains(&name) {
            let before = numbers(&self.before, name);
            all.iter_mut().for_each(|(labels, number)| *number -= before.get(labels).unwrap_or(&0.0));
        }
        all
    }

    /// How many ranges there were.
    fn ranges(&self) -> f64 {
        let total = |export: &Export| numbers(export, "etcd_mvcc_range_total").values().sum::<f64>();
        total(&self.after) - total(&self.before)
    }
}

fn numbers(export: &Export, name: &str) -> BTreeMap<String, f64> {
    let samples = export.families.get(name).map(|family| &family.samples);
    let samples = samples.into_iter().flatten().filter(|(labels, _)| !labels.contains("le=\""));
    samples.map(|(labels, value)| (labels.clone(), value.parse().expect("a number"))).collect()
}

/// What one counted and the other did not.
fn differences(ours: &Counted, theirs: &Counted) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in SAME {
        let (own, go) = (ours.all(name), theirs.all(name));
        for labels in own.keys().chain(go.keys().filter(|labels| !own.contains_key(*labels))) {
            let (a, b) = (own.get(labels), go.get(labels));
            if a != b {
                wrong.push(format!("{name}{{{labels}}}: {a:?} for {b:?}"));
            }
        }
    }
    wrong
}

/// Starts a server, gives it the calls, and reads what it counted.
pub(crate) fn counted(setup: Setup) -> Counted {
    let member = Member::start(setup);
    let port = member.port();
    let scrape = || Export::parse(&http1::get(port, "/metrics").expect("an answer").text());
    let before = scrape();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { work(&Connection::open(port).await).await });
    for (path, status) in
        [("/health", 200), ("/livez", 200), ("/readyz?verbose", 200), ("/readyz/data_corruption", 200)]
    {
        assert_eq!(http1::get(port, path).expect("an answer").status, status, "{path}");
    }
    Counted { before, after: scrape() }
}

/// Calls that succeed and calls that do not. None makes etcd read what it was not asked for: comparisons, and values from
/// before, it counts as ranges.
async fn work(connection: &Connection) {
    let put = |key: &'static str, lease| pb::PutRequest {
        key: key.into(),
        value: "value".into(),
        lease,
        ..Default::default()
    };
    let range = |key: &'static str, revision| pb::RangeRequest { key: key.into(), revision, ..Default::default() };
    let delete = |key: &'static str, end: &'static str| pb::DeleteRangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..Default::default()
    };
    let txn = |ops: Vec<Request>| pb::TxnRequest {
        success: ops.into_iter().map(|op| pb::RequestOp { request: Some(op) }).collect(),
        ..Default::default()
    };
    for (key, lease) in [("a", 0), ("b", 0), ("c", 0), ("c", 0)] {
        call(connection, "KV/Put", &put(key, lease), true).await;
    }
    call(connection, "KV/Put", &put("d", 404), false).await;
    call(connection, "KV/Put", &put("", 0), false).await;
    call(connection, "KV/Range", &range("a", 0), true).await;
    call(connection, "KV/Range", &pb::RangeRequest { serializable: true, ..range("b", 2) }, true).await;
    call(connection, "KV/Range", &range("a", 1_000), false).await;
    call(connection, "KV/RangeStream", &range("a", 0), true).await;
    let writes = vec![
        Request::RequestPut(put("e", 0)),
        Request::RequestDeleteRange(delete("a", "")),
        Request::RequestRange(range("b", 0)),
    ];
    call(connection, "KV/Txn", &txn(writes), true).await;
    call(connection, "KV/Txn", &txn(vec![Request::RequestPut(put("f", 0))]), true).await;
    let reads = vec![Request::RequestRange(range("b", 0)), Request::RequestRange(range("c", 0))];
    call(connection, "KV/Txn", &txn(reads), true).await;
    call(connection, "KV/Txn", &txn(vec![Request::RequestRange(range("b", 1_000))]), false).await;
    call(connection, "KV/DeleteRange", &delete("nothing", ""), true).await;
    call(connection, "KV/DeleteRange", &delete("e", "g"), true).await;
    call(connection, "Lease/LeaseGrant", &pb::LeaseGrantRequest { ttl: 300, id: 7 }, true).await;
    call(connection, "Lease/LeaseGrant", &pb::LeaseGrantRequest { ttl: 300, id: 7 }, false).await;
    call(connection, "KV/Put", &put("g", 7), true).await;
    call(connection, "Lease/LeaseTimeToLive", &pb::LeaseTimeToLiveRequest { id: 7, keys: true }, true).await;
    call(connection, "Lease/LeaseLeases", &pb::LeaseLeasesRequest {}, true).await;
    call(connection, "Lease/LeaseRevoke", &pb::LeaseRevokeRequest { id: 7 }, true).await;
    call(connection, "Lease/LeaseRevoke", &pb::LeaseRevokeRequest { id: 8 }, false).await;
    call(connection, "KV/Compact", &pb::CompactionRequest { revision: 5, physical: true }, true).await;
    call(connection, "KV/Compact", &pb::CompactionRequest { revision: 5, physical: true }, false).await;
    call(connection, "KV/Range", &range("a", 2), false).await;
    call(connection, "Cluster/MemberList", &pb::MemberListRequest { linearizable: true }, true).await;
    call(connection, "Maintenance/Status", &pb::StatusRequest {}, true).await;
    call(connection, "Maintenance/HashKV", &pb::HashKvRequest { revision: 0 }, true).await;
    call(connection, "Maintenance/Alarm", &pb::AlarmRequest::default(), true).await;
    call(connection, "Maintenance/Defragment", &pb::DefragmentRequest {}, true).await;
}

async fn call(connection: &Connection, path: &str, message: &impl Message, works: bool) {
    let outcome = connection.call(&format!("/etcdserverpb.{path}"), message).await;
    assert_eq!(outcome.ok(), works, "{path}: {outcome:?}");
}

/// Fails with what differs.
pub(crate) fn compare(ours: &Counted, theirs: &Counted) {
    // To compact, etcd reads a key: it wants to know the revision.
    assert_eq!(ours.ranges() + 1.0, theirs.ranges(), "etcd_mvcc_range_total");
    let wrong = differences(ours, theirs);
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_difference_is_one() {
    let export = |name: &str, value: &str| Export::parse(&format!("# TYPE {name} counter\n{name} {value}\n"));
    let put = |value: &str| Counted { before: Export::default(), after: export("etcd_mvcc_put_total", value) };
    assert!(differences(&put("3"), &put("3e+00")).is_empty());
    assert_eq!(differences(&put("3"), &put("4")), ["etcd_mvcc_put_total{}: Some(3.0) for Some(4.0)"]);
    assert_eq!(differences(&put("3"), &Counted::default()).len(), 1);
    let name = "etcd_server_health_success";
    let health = |before: &str, after: &str| Counted { before: export(name, before), after: export(name, after) };
    assert!(differences(&health("3", "5"), &health("7", "9")).is_empty());
    assert_eq!(differences(&health("3", "5"), &health("3", "6")).len(), 1);
}
