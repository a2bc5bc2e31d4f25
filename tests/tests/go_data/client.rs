//! Calls, one after another.

use prost::Message;
use retcd_proto::etcdserverpb as pb;
use retcd_tests::grpc::{Connection, Outcome};
use retcd_tests::member::Member;
use tokio::runtime::Runtime;

/// A request, its method, and its reply.
pub(crate) trait Call: Message + std::fmt::Debug {
    const PATH: &'static str;
    type Reply: Message + Default;
}

macro_rules! calls {
    ($($request:ident => $path:literal, $reply:ident;)*) => {$(
        impl Call for pb::$request {
            const PATH: &'static str = concat!("/etcdserverpb.", $path);
            type Reply = pb::$reply;
        }
    )*};
}

calls! {
    RangeRequest => "KV/Range", RangeResponse;
    PutRequest => "KV/Put", PutResponse;
    DeleteRangeRequest => "KV/DeleteRange", DeleteRangeResponse;
    TxnRequest => "KV/Txn", TxnResponse;
    CompactionRequest => "KV/Compact", CompactionResponse;
    LeaseGrantRequest => "Lease/LeaseGrant", LeaseGrantResponse;
    LeaseRevokeRequest => "Lease/LeaseRevoke", LeaseRevokeResponse;
    LeaseTimeToLiveRequest => "Lease/LeaseTimeToLive", LeaseTimeToLiveResponse;
    LeaseLeasesRequest => "Lease/LeaseLeases", LeaseLeasesResponse;
    MemberListRequest => "Cluster/MemberList", MemberListResponse;
    MemberAddRequest => "Cluster/MemberAdd", MemberAddResponse;
    MemberUpdateRequest => "Cluster/MemberUpdate", MemberUpdateResponse;
    MemberRemoveRequest => "Cluster/MemberRemove", MemberRemoveResponse;
    AlarmRequest => "Maintenance/Alarm", AlarmResponse;
    HashKvRequest => "Maintenance/HashKV", HashKvResponse;
    HashRequest => "Maintenance/Hash", HashResponse;
    StatusRequest => "Maintenance/Status", StatusResponse;
    DowngradeRequest => "Maintenance/Downgrade", DowngradeResponse;
    AuthEnableRequest => "Auth/AuthEnable", AuthEnableResponse;
    AuthStatusRequest => "Auth/AuthStatus", AuthStatusResponse;
    AuthUserAddRequest => "Auth/UserAdd", AuthUserAddResponse;
    AuthUserGetRequest => "Auth/UserGet", AuthUserGetResponse;
    AuthUserListRequest => "Auth/UserList", AuthUserListResponse;
    AuthUserDeleteRequest => "Auth/UserDelete", AuthUserDeleteResponse;
    AuthUserChangePasswordRequest => "Auth/UserChangePassword", AuthUserChangePasswordResponse;
    AuthUserGrantRoleRequest => "Auth/UserGrantRole", AuthUserGrantRoleResponse;
    AuthUserRevokeRoleRequest => "Auth/UserRevokeRole", AuthUserRevokeRoleResponse;
    AuthRoleAddRequest => "Auth/RoleAdd", AuthRoleAddResponse;
    AuthRoleGetRequest => "Auth/RoleGet", AuthRoleGetResponse;
    AuthRoleListRequest => "Auth/RoleList", AuthRoleListResponse;
    AuthRoleDeleteRequest => "Auth/RoleDelete", AuthRoleDeleteResponse;
    AuthRoleGrantPermissionRequest => "Auth/RoleGrantPermission", AuthRoleGrantPermissionResponse;
    AuthRoleRevokePermissionRequest => "Auth/RoleRevokePermission", AuthRoleRevokePermissionResponse;
}

/// A connection to a server, with the runtime that serves it.
pub(crate) struct Client {
    runtime: Runtime,
    connection: Connection,
    about: String,
}

impl Client {
    pub(crate) fn new(member: &Member) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let connection = runtime.block_on(Connection::open(member.port()));
        Self { runtime, connection, about: member.describe() }
    }

    fn outcome<C: Call>(&self, request: &C) -> Outcome {
        self.runtime.block_on(self.connection.call(C::PATH, request))
    }

    /// A call that succeeds.
    pub(crate) fn call<C: Call>(&self, request: C) -> C::Reply {
        let outcome = self.outcome(&request);
        outcome.reply().unwrap_or_else(|e| panic!("{} {request:?}: {e}\n{}", C::PATH, self.about))
    }

    /// A call that fails; its text.
    pub(crate) fn refused<C: Call>(&self, request: C) -> String {
        let outcome = self.outcome(&request);
        assert!(!outcome.ok() && outcome.broken.is_none(), "{} {request:?}: {outcome:?}", C::PATH);
        outcome.text
    }

    pub(crate) fn put(&self, key: impl Into<String>, value: impl Into<String>, lease: i64) -> i64 {
        let request =
            pb::PutRequest { key: key.into().into(), value: value.into().into(), lease, ..pb::PutRequest::default() };
        self.call(request).header.expect("a header").revision
    }

    pub(crate) fn delete(&self, key: &str, end: &str) -> i64 {
        let request = pb::DeleteRangeRequest {
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
            ..pb::DeleteRangeRequest::default()
        };
        self.call(request).header.expect("a header").revision
    }

    /// Compacts, and waits until all is removed.
    pub(crate) fn compact(&self, revision: i64) {
        self.call(pb::CompactionRequest { revision, physical: true });
    }
}
