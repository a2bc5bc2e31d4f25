//! Which path is which call.

use crate::net::grpc::Method;

/// The paths behind `/v3/`. Three have a second name from before they were moved.
const ROUTES: &[(&str, Method)] = &[
    ("auth/authenticate", Method::Authenticate),
    ("auth/disable", Method::AuthDisable),
    ("auth/enable", Method::AuthEnable),
    ("auth/role/add", Method::RoleAdd),
    ("auth/role/delete", Method::RoleDelete),
    ("auth/role/get", Method::RoleGet),
    ("auth/role/grant", Method::RoleGrantPermission),
    ("auth/role/list", Method::RoleList),
    ("auth/role/revoke", Method::RoleRevokePermission),
    ("auth/status", Method::AuthStatus),
    ("auth/user/add", Method::UserAdd),
    ("auth/user/changepw", Method::UserChangePassword),
    ("auth/user/delete", Method::UserDelete),
    ("auth/user/get", Method::UserGet),
    ("auth/user/grant", Method::UserGrantRole),
    ("auth/user/list", Method::UserList),
    ("auth/user/revoke", Method::UserRevokeRole),
    ("cluster/member/add", Method::MemberAdd),
    ("cluster/member/list", Method::MemberList),
    ("cluster/member/promote", Method::MemberPromote),
    ("cluster/member/remove", Method::MemberRemove),
    ("cluster/member/update", Method::MemberUpdate),
    ("election/campaign", Method::Campaign),
    ("election/leader", Method::Leader),
    ("election/observe", Method::Observe),
    ("election/proclaim", Method::Proclaim),
    ("election/resign", Method::Resign),
    ("kv/compaction", Method::Compact),
    ("kv/deleterange", Method::DeleteRange),
    ("kv/lease/leases", Method::LeaseLeases),
    ("kv/lease/revoke", Method::LeaseRevoke),
    ("kv/lease/timetolive", Method::LeaseTimeToLive),
    ("kv/put", Method::Put),
    ("kv/range", Method::Range),
    ("kv/txn", Method::Txn),
    ("lease/grant", Method::LeaseGrant),
    ("lease/keepalive", Method::LeaseKeepAlive),
    ("lease/leases", Method::LeaseLeases),
    ("lease/revoke", Method::LeaseRevoke),
    ("lease/timetolive", Method::LeaseTimeToLive),
    ("lock/lock", Method::Lock),
    ("lock/unlock", Method::Unlock),
    ("maintenance/alarm", Method::Alarm),
    ("maintenance/defragment", Method::Defragment),
    ("maintenance/downgrade", Method::Downgrade),
    ("maintenance/hash", Method::Hash),
    ("maintenance/hashkv", Method::HashKv),
    ("maintenance/snapshot", Method::Snapshot),
    ("maintenance/status", Method::Status),
    ("maintenance/transfer-leadership", Method::MoveLeader),
    ("watch", Method::Watch),
];

/// The call of a path.
pub(super) fn find(path: &str) -> Option<Method> {
    let name = path.strip_prefix("/v3/")?;
    let at = ROUTES.binary_search_by(|(route, _)| (*route).cmp(name));
    at.ok()
        .and_then(|at| ROUTES.get(at))
        .map(|(_, method)| *method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_but_one_has_a_path() {
        assert!(ROUTES.is_sorted_by(|a, b| a.0 < b.0));
        for method in Method::ALL {
            let reachable = ROUTES.iter().any(|(_, routed)| routed == method);
            // etcd gives this one none.
            let wanted =
                *method != Method::RangeStream && method.service() != "grpc.health.v1.Health";
            assert_eq!(reachable, wanted, "{}", method.name());
        }
        for (route, method) in ROUTES {
            assert_eq!(find(&format!("/v3/{route}")), Some(*method));
            assert!(method.schema().is_some(), "{}", method.name());
        }
        for path in [
            "/v3/",
            "/v3/kv",
            "/v3/kv/range/",
            "/v3/watch/",
            "/v3/Kv/range",
            "/v2/watch",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
    }
}
