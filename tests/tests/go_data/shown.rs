//! What a server shows of itself.

use retcd_proto::etcdserverpb as pb;
use retcd_proto::mvccpb::KeyValue;

use crate::client::Client;

/// Everything that must not change when another server takes over.
#[derive(Debug, PartialEq)]
pub(crate) struct Shown {
    revision: i64,
    compacted: i64,
    /// All keys at each revision that is left.
    history: Vec<(i64, Vec<KeyValue>)>,
    /// Hash of each revision that is left.
    hashes: Vec<(i64, u32)>,
    members: Vec<pb::Member>,
    alarms: Vec<pb::AlarmMember>,
}

impl Shown {
    pub(crate) fn of(server: &Client) -> Self {
        let newest = server.call(pb::HashKvRequest::default());
        let revision = newest.header.expect("a header").revision;
        let compacted = newest.compact_revision;
        let revisions = compacted.max(1)..=revision;
        let keys = |revision| {
            let all = pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), revision, ..Default::default() };
            server.call(all).kvs
        };
        let hash = |revision| server.call(pb::HashKvRequest { revision }).hash;
        let mut members = server.call(pb::MemberListRequest { linearizable: true }).members;
        members.sort_by_key(|member| member.id);
        Self {
            revision,
            compacted,
            history: revisions.clone().map(|at| (at, keys(at))).collect(),
            // The hash of the compacted revision itself is kept until a restart, and then another one.
            hashes: revisions.skip(1).map(|at| (at, hash(at))).collect(),
            members,
            alarms: server.call(pb::AlarmRequest::default()).alarms,
        }
    }

    pub(crate) const fn compacted(&self) -> i64 {
        self.compacted
    }

    pub(crate) fn keys(&self) -> usize {
        self.history.last().map_or(0, |(_, keys)| keys.len())
    }

    pub(crate) const fn revisions(&self) -> usize {
        self.hashes.len()
    }
}

/// What only a genuine server shows yet.
#[derive(Debug, PartialEq)]
pub(crate) struct Shared {
    /// With granted seconds and keys.
    leases: Vec<(i64, i64, Vec<bytes::Bytes>)>,
    users: Vec<(String, Vec<String>)>,
    roles: Vec<(String, Vec<retcd_proto::authpb::Permission>)>,
    auth_revision: u64,
}

impl Shared {
    pub(crate) fn of(go: &Client) -> Self {
        let mut leases: Vec<_> = go.call(pb::LeaseLeasesRequest {}).leases.iter().map(|lease| lease.id).collect();
        leases.sort_unstable();
        let lease = |id| {
            let mut lease = go.call(pb::LeaseTimeToLiveRequest { id, keys: true });
            lease.keys.sort();
            (id, lease.granted_ttl, lease.keys)
        };
        let users = go.call(pb::AuthUserListRequest {}).users.into_iter();
        let roles = go.call(pb::AuthRoleListRequest {}).roles.into_iter();
        Self {
            leases: leases.into_iter().map(lease).collect(),
            users: users
                .map(|name| {
                    let user = go.call(pb::AuthUserGetRequest { name: name.clone() });
                    (name, user.roles)
                })
                .collect(),
            roles: roles
                .map(|role| {
                    let perm = go.call(pb::AuthRoleGetRequest { role: role.clone() }).perm;
                    (role, perm)
                })
                .collect(),
            auth_revision: go.call(pb::AuthStatusRequest {}).auth_revision,
        }
    }

    /// Without the keys of leases.
    pub(crate) fn without_keys(&self) -> impl PartialEq + std::fmt::Debug + '_ {
        let leases: Vec<_> = self.leases.iter().map(|(id, ttl, _)| (id, ttl)).collect();
        (leases, &self.users, &self.roles, self.auth_revision)
    }

    pub(crate) const fn counts(&self) -> (usize, usize, usize) {
        (self.leases.len(), self.users.len(), self.roles.len())
    }
}
