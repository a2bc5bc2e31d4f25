//! The calls of the etcd API that this release does not serve yet.

use retcd_tests::binary;
use retcd_tests::grpc::{Connection, frame};
use retcd_tests::member::{Member, Setup};

/// Each answers `UNIMPLEMENTED` (12). Whoever builds one takes it from this list and adds a script.
const LATER: &[&str] = &[
    "etcdserverpb.Auth/AuthDisable",
    "etcdserverpb.Auth/AuthEnable",
    "etcdserverpb.Auth/AuthStatus",
    "etcdserverpb.Auth/Authenticate",
    "etcdserverpb.Auth/RoleAdd",
    "etcdserverpb.Auth/RoleDelete",
    "etcdserverpb.Auth/RoleGet",
    "etcdserverpb.Auth/RoleGrantPermission",
    "etcdserverpb.Auth/RoleList",
    "etcdserverpb.Auth/RoleRevokePermission",
    "etcdserverpb.Auth/UserAdd",
    "etcdserverpb.Auth/UserChangePassword",
    "etcdserverpb.Auth/UserDelete",
    "etcdserverpb.Auth/UserGet",
    "etcdserverpb.Auth/UserGrantRole",
    "etcdserverpb.Auth/UserList",
    "etcdserverpb.Auth/UserRevokeRole",
    "etcdserverpb.Maintenance/Downgrade",
];

#[tokio::test]
async fn calls_to_come_say_so() {
    let member = Member::start(Setup::new(binary::ours()));
    let connection = Connection::open(member.port()).await;
    let mut wrong = Vec::new();
    for method in LATER {
        let outcome = connection.send(&format!("/{method}"), &[], frame(b"")).await;
        if outcome.code != Some(12) || outcome.text.is_empty() || !outcome.messages.is_empty() {
            wrong.push(format!("{method}: {:?} {:?} {:?}", outcome.code, outcome.text, outcome.broken));
        }
    }
    assert!(wrong.is_empty(), "not unimplemented:\n{}", wrong.join("\n"));
}
