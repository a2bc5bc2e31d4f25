//! The same small work for each member, so that what is counted only when it happens is there.

use retcd_proto::etcdserverpb as pb;
use retcd_tests::cluster::Cluster;
use retcd_tests::grpc::Connection;
use retcd_tests::http1;

/// Gives a member some of everything.
///
/// # Panics
/// If it refuses any of it.
pub(crate) fn run(cluster: &Cluster, number: usize) {
    let at = |args: &[&str]| cluster.at(number, args);
    cluster.put(number, "a", "1");
    for args in [
        &["get", "a"][..],
        &["get", "", "--prefix", "--limit=5"],
        &["del", "a"],
        &["put", "b", "2"],
        &["member", "list"],
        &["endpoint", "status"],
        &["endpoint", "hashkv"],
        &["endpoint", "health"],
        &["alarm", "list"],
        &["defrag"],
    ] {
        let _ = at(args);
    }
    let granted = at(&["lease", "grant", "300"]);
    let lease = granted.split_whitespace().nth(1).expect("an id").to_owned();
    let _ = at(&["put", "c", "3", "--lease", &lease]);
    let _ = at(&["lease", "keep-alive", "--once", &lease]);
    let _ = at(&["lease", "revoke", &lease]);
    let revision = revision(cluster, number).to_string();
    let _ = at(&["compact", &revision, "--physical"]);
    let port = cluster.members[number].port();
    for path in ["/health", "/livez", "/readyz", "/version", "/metrics"] {
        assert_eq!(http1::get(port, path).expect("an answer").status, 200, "{path}");
    }
    call(port, &[("/etcdserverpb.KV/Txn", &txn())]);
}

fn revision(cluster: &Cluster, number: usize) -> i64 {
    let status = cluster.status(number).expect("a status");
    status["header"]["revision"].as_i64().expect("a revision")
}

/// Two operations in one.
fn txn() -> pb::TxnRequest {
    let put = |key: &'static str| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
            key: key.into(),
            value: "v".into(),
            ..Default::default()
        })),
    };
    pb::TxnRequest { success: vec![put("d"), put("e")], ..Default::default() }
}

/// Raises an alarm for a member, or disarms it.
pub(crate) fn alarm(port: u16, member_id: u64, action: pb::alarm_request::AlarmAction) {
    let request = pb::AlarmRequest { action: action as i32, member_id, alarm: pb::AlarmType::Nospace as i32 };
    call(port, &[("/etcdserverpb.Maintenance/Alarm", &request)]);
}

fn call<M: prost::Message>(port: u16, calls: &[(&str, &M)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let connection = Connection::open(port).await;
        for (path, message) in calls {
            let outcome = connection.call(path, *message).await;
            assert!(outcome.ok(), "{path}: {outcome:?}");
        }
    });
}
