//! What a server is made to hold: something of every kind that the log knows.

use retcd_proto::authpb::{Permission, UserAddOptions};
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::alarm_request::AlarmAction;
use retcd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use retcd_proto::etcdserverpb::request_op::Request;

use crate::client::Client;

/// Leases that stay, long enough for any test, and one that is revoked.
pub(crate) const LEASES: [i64; 3] = [1001, 1002, -7];
const REVOKED: i64 = 1003;

/// Fills a genuine server.
pub(crate) fn everything(go: &Client) {
    // First: a genuine server commits each of these at once, and what comes then it keeps in memory for a while.
    users_and_roles(go);
    leases_and_keys(go);
    members(go);
    for n in 0..20 {
        go.put(format!("last/{:02}", n % 15), format!("{n}"), LEASES[n % LEASES.len()]);
    }
    go.delete("last/00", "last/05");
    // Raised last: nothing can be put any more.
    let member_id = go.call(pb::StatusRequest::default()).header.expect("a header").member_id;
    go.call(pb::AlarmRequest { action: AlarmAction::Activate as i32, member_id, alarm: pb::AlarmType::Nospace as i32 });
    go.refused(pb::PutRequest { key: "k".into(), ..pb::PutRequest::default() });
}

fn leases_and_keys(go: &Client) {
    for (id, ttl) in LEASES.into_iter().chain([REVOKED]).zip([3600, 7200, 9_000_000_000, 600]) {
        go.call(pb::LeaseGrantRequest { id, ttl });
    }
    // Refused when they are applied, and in the log all the same.
    go.refused(pb::LeaseGrantRequest { id: LEASES[0], ttl: 60 });
    go.refused(pb::PutRequest { key: "k".into(), lease: 5, ..pb::PutRequest::default() });
    go.refused(pb::LeaseRevokeRequest { id: 5 });

    for n in 0..40 {
        let lease = if n % 4 == 0 { LEASES[n % LEASES.len()] } else { 0 };
        go.put(format!("key/{:02}", n % 25), format!("value {n}"), lease);
    }
    for key in ["revoke/b", "revoke/a", "revoke/c", "moved"] {
        go.put(key, "of a lease", REVOKED);
    }
    go.put("moved", "to another lease", LEASES[1]);
    let keep = pb::PutRequest { key: "moved".into(), value: "kept".into(), ..pb::PutRequest::default() };
    go.call(pb::PutRequest { ignore_lease: true, ..keep.clone() });
    go.call(pb::PutRequest { ignore_value: true, value: "".into(), lease: LEASES[2], ..keep });
    go.delete("key/03", "key/07");
    go.delete("nothing", "");
    go.call(pb::LeaseRevokeRequest { id: REVOKED });

    go.call(nested_txn());
    go.refused(pb::TxnRequest { success: vec![put("x", "y", 5)], ..pb::TxnRequest::default() });
    go.put("key/03", "again", 0);
    let revision = go.put("binary\0\u{7f}", "", 0);
    go.compact(revision / 2);
    go.compact(revision);
    for n in 0..10 {
        go.put(format!("key/{n:02}"), format!("later {n}"), 0);
    }
    go.delete("key/20", "key/22");
}

fn put(key: &str, value: &str, lease: i64) -> pb::RequestOp {
    let put =
        pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), lease, ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestPut(put)) }
}

fn nested_txn() -> pb::TxnRequest {
    let compare = |key: &str, version| pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Version as i32,
        key: key.to_owned().into(),
        target_union: Some(TargetUnion::Version(version)),
        ..pb::Compare::default()
    };
    let delete = pb::DeleteRangeRequest { key: "key/1".into(), range_end: "key/15".into(), ..Default::default() };
    let range = pb::RangeRequest { key: "txn/a".into(), ..pb::RangeRequest::default() };
    let inner = pb::TxnRequest {
        compare: vec![compare("txn/a", 0)],
        success: vec![put("txn/b", "inner", LEASES[0])],
        failure: vec![put("txn/wrong", "", 0)],
    };
    pb::TxnRequest {
        compare: vec![compare("key/00", 2)],
        success: vec![
            put("txn/a", "outer", 0),
            pb::RequestOp { request: Some(Request::RequestRange(range)) },
            pb::RequestOp { request: Some(Request::RequestTxn(inner)) },
            pb::RequestOp { request: Some(Request::RequestDeleteRange(delete)) },
        ],
        failure: vec![put("txn/wrong", "", 0)],
    }
}

fn users_and_roles(go: &Client) {
    let user = |name: &str, no_password| pb::AuthUserAddRequest {
        name: name.into(),
        password: if no_password { String::new() } else { "secret".into() },
        options: Some(UserAddOptions { no_password }),
        ..pb::AuthUserAddRequest::default()
    };
    for (name, no_password) in [("root", false), ("alice", false), ("bob", true), ("gone", false)] {
        go.call(user(name, no_password));
    }
    go.refused(user("alice", false));
    for name in ["reader", "writer", "gone"] {
        go.call(pb::AuthRoleAddRequest { name: name.into() });
    }
    go.refused(pb::AuthRoleAddRequest { name: "reader".into() });
    for (name, perm_type, key, range_end) in [
        ("reader", 0, "key/", "key0"),
        ("reader", 0, "a", ""),
        ("reader", 2, "a", ""),
        ("writer", 1, "z", "\0"),
        ("writer", 2, "m", "n"),
        ("writer", 2, "m", "o"),
    ] {
        let perm = Permission { perm_type, key: key.into(), range_end: range_end.into() };
        go.call(pb::AuthRoleGrantPermissionRequest { name: name.into(), perm: Some(perm) });
    }
    let revoke = |key: &str, range_end: &str| pb::AuthRoleRevokePermissionRequest {
        role: "writer".into(),
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
    };
    go.call(revoke("m", "n"));
    go.refused(revoke("m", "n"));
    for (user, role) in
        [("alice", "writer"), ("alice", "reader"), ("alice", "gone"), ("bob", "reader"), ("root", "root")]
    {
        go.call(pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() });
        go.call(pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() });
    }
    go.call(pb::AuthUserRevokeRoleRequest { name: "bob".into(), role: "reader".into() });
    go.refused(pb::AuthUserRevokeRoleRequest { name: "bob".into(), role: "reader".into() });
    go.call(pb::AuthUserChangePasswordRequest {
        name: "alice".into(),
        password: "changed".into(),
        ..pb::AuthUserChangePasswordRequest::default()
    });
    go.call(pb::AuthUserDeleteRequest { name: "gone".into() });
    go.call(pb::AuthRoleDeleteRequest { role: "gone".into() });
}

/// Learners that nobody starts: the only voter needs nobody's consent.
fn members(go: &Client) {
    let add = |port: u16| {
        let added =
            go.call(pb::MemberAddRequest { peer_ur_ls: vec![format!("http://127.0.0.1:{port}")], is_learner: true });
        added.member.expect("the new member").id
    };
    // Of ports that nothing listens on.
    let first = add(1);
    go.call(pb::MemberUpdateRequest { id: first, peer_ur_ls: vec!["http://127.0.0.1:2".into()] });
    go.call(pb::MemberRemoveRequest { id: first });
    add(3);
}

/// Writes more through a server, ours or a genuine one.
pub(crate) fn more(server: &Client, round: &str) {
    for n in 0..12 {
        let lease = if n % 3 == 0 { LEASES[n % LEASES.len()] } else { 0 };
        server.put(format!("more/{n:02}"), format!("{round} {n}"), lease);
    }
    server.put("moved", round, LEASES[0]);
    server.delete("more/04", "more/06");
    let unknown = pb::PutRequest { key: "k".into(), lease: 1003, ..pb::PutRequest::default() };
    assert_eq!(server.refused(unknown), "etcdserver: requested lease not found");
    let revision = server.put("compacted", round, 0);
    server.compact(revision - 6);
}

/// Disarms what [`everything`] raised.
pub(crate) fn disarm(server: &Client) {
    for alarm in server.call(pb::AlarmRequest::default()).alarms {
        server.call(pb::AlarmRequest {
            action: AlarmAction::Deactivate as i32,
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        });
    }
}
