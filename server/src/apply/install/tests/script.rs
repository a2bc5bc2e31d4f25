//! A log: everything that a snapshot carries changes in it.

use prost::Message as _;
use retcd_proto::etcdserverpb::alarm_request::AlarmAction;
use retcd_proto::etcdserverpb::{
    AlarmRequest, AlarmType, AuthRoleAddRequest, CompactionRequest, DeleteRangeRequest,
    InternalRaftRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
};
use retcd_proto::membershippb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest,
};
use retcd_proto::raftpb::{self, ConfChange, ConfChangeType};
use retcd_raft_node::membership::Member;

use super::rig::{TERM, id, peer_urls};

/// The entries that found the cluster.
pub(super) const FOUNDED: u64 = 3;

/// Entries of the leader, each behind the one before.
#[derive(Default)]
pub(super) struct Script {
    pub(super) entries: Vec<raftpb::Entry>,
}

impl Script {
    /// Index of the last entry.
    pub(super) fn last(&self) -> u64 {
        FOUNDED + self.entries.len() as u64
    }

    /// Those behind `index`, and what stands before them.
    pub(super) fn behind(&self, index: u64) -> ((u64, u64), &[raftpb::Entry]) {
        let term = if index > FOUNDED { TERM } else { 1 };
        let from = (index - FOUNDED) as usize;
        ((index, term), &self.entries[from..])
    }

    fn push(&mut self, kind: raftpb::EntryType, data: Vec<u8>) {
        self.entries.push(raftpb::Entry {
            r#type: Some(kind as i32),
            term: Some(TERM),
            index: Some(self.last() + 1),
            data: Some(data.into()),
        });
    }

    pub(super) fn request(&mut self, request: InternalRaftRequest) {
        let request = InternalRaftRequest {
            id: 1000 + self.last(),
            ..request
        };
        self.push(raftpb::EntryType::EntryNormal, request.encode_to_vec());
    }

    pub(super) fn put(&mut self, key: &str, value: &str, lease: i64) {
        self.request(InternalRaftRequest {
            put: Some(PutRequest {
                key: key.to_owned().into(),
                value: value.to_owned().into(),
                lease,
                ..Default::default()
            }),
            ..Default::default()
        });
    }

    pub(super) fn delete(&mut self, key: &str) {
        self.request(InternalRaftRequest {
            delete_range: Some(DeleteRangeRequest {
                key: key.to_owned().into(),
                ..Default::default()
            }),
            ..Default::default()
        });
    }

    /// Removes a founder.
    pub(super) fn remove(&mut self, n: u16) {
        let change = ConfChange {
            id: Some(1000 + self.last()),
            r#type: Some(ConfChangeType::ConfChangeRemoveNode as i32),
            node_id: Some(id(n)),
            context: None,
        };
        let data = change.encode_to_vec();
        self.push(raftpb::EntryType::EntryConfChange, data);
    }

    pub(super) fn compact(&mut self, revision: i64) {
        self.request(InternalRaftRequest {
            compaction: Some(CompactionRequest {
                revision,
                physical: false,
            }),
            ..Default::default()
        });
    }

    pub(super) fn grant(&mut self, id: i64) {
        self.request(InternalRaftRequest {
            lease_grant: Some(LeaseGrantRequest { id, ttl: 600 }),
            ..Default::default()
        });
    }

    pub(super) fn revoke(&mut self, id: i64) {
        self.request(InternalRaftRequest {
            lease_revoke: Some(LeaseRevokeRequest { id }),
            ..Default::default()
        });
    }

    fn alarm(&mut self, action: AlarmAction, n: u16) {
        self.request(InternalRaftRequest {
            alarm: Some(AlarmRequest {
                action: action as i32,
                member_id: id(n),
                alarm: AlarmType::Nospace as i32,
            }),
            ..Default::default()
        });
    }

    fn version(&mut self, version: &str) {
        self.request(InternalRaftRequest {
            cluster_version_set: Some(ClusterVersionSetRequest {
                ver: version.into(),
            }),
            ..Default::default()
        });
    }

    fn attributes(&mut self, n: u16) {
        self.request(InternalRaftRequest {
            cluster_member_attr_set: Some(ClusterMemberAttrSetRequest {
                member_id: id(n),
                member_attributes: Some(Attributes {
                    name: format!("m{n}"),
                    client_urls: vec![format!("http://10.0.0.{n}:2379")],
                }),
            }),
            ..Default::default()
        });
    }

    fn member(&mut self, kind: ConfChangeType, n: u16) {
        let context = Member {
            id: id(n),
            peer_urls: peer_urls(n),
            is_learner: kind == ConfChangeType::ConfChangeAddLearnerNode,
            ..Default::default()
        };
        let removes = kind == ConfChangeType::ConfChangeRemoveNode;
        let change = ConfChange {
            id: Some(1000 + self.last()),
            r#type: Some(kind as i32),
            node_id: Some(id(n)),
            context: (!removes).then(|| context.to_json().into()),
        };
        self.push(raftpb::EntryType::EntryConfChange, change.encode_to_vec());
    }

    /// What every member has in common: leases, an alarm that is up, a learner, keys.
    pub(super) fn beginning() -> Self {
        let mut script = Self::default();
        script.push(raftpb::EntryType::EntryNormal, Vec::new());
        script.version("3.6.0");
        for n in 1..=3 {
            script.attributes(n);
        }
        for lease in [7, 8] {
            script.grant(lease);
        }
        for n in 0..10 {
            script.put(&format!("k{n}"), "first", 0);
        }
        script.put("leased/a", "of seven", 7);
        script.put("leased/b", "of eight", 8);
        script.member(ConfChangeType::ConfChangeAddLearnerNode, 4);
        script.alarm(AlarmAction::Activate, 1);
        script
    }

    /// What the one that falls behind does not hear of: all of that changes, and history is compacted at `compact`.
    pub(super) fn go_on(&mut self, compact: i64) {
        self.alarm(AlarmAction::Deactivate, 1);
        self.version("3.7.0");
        self.grant(9);
        for n in 0..10 {
            self.put(&format!("k{n}"), &"second ".repeat(n * 20), 0);
        }
        self.delete("k3");
        self.put("leased/c", "of nine", 9);
        self.put("leased/a", "of eight now", 8);
        self.revoke(7);
        self.request(InternalRaftRequest {
            auth_role_add: Some(AuthRoleAddRequest {
                name: "reader".into(),
            }),
            ..Default::default()
        });
        self.member(ConfChangeType::ConfChangeRemoveNode, 4);
        self.member(ConfChangeType::ConfChangeAddLearnerNode, 5);
        self.compact(compact);
        self.put("k3", "again", 0);
        self.alarm(AlarmAction::Activate, 2);
        self.alarm(AlarmAction::Deactivate, 2);
        self.alarm(AlarmAction::Activate, 3);
    }

    /// What shows whether leases and alarms are those of the snapshot.
    pub(super) fn end(&mut self) {
        self.alarm(AlarmAction::Deactivate, 3);
        self.put("after", "the snapshot", 9);
        self.revoke(8);
        self.revoke(9);
        self.grant(7);
        self.put("k5", "third", 7);
    }
}
