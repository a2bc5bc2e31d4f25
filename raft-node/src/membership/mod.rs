//! Who belongs to the cluster: the one source of truth, kept in the replicated state (M3).
//!
//! Changes are checked and applied in the order of the log, by rules that look at nothing but this
//! state and the change, so that every member comes to the same result.

mod change;
mod json;
mod member;
mod reconcile;
mod store;
#[cfg(test)]
mod tests;
mod v2;
mod v2_read;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::raftpb;

pub use change::{Change, MembershipError};
pub use json::to_vec as etcd_json;
pub use member::{ConfChangeContext, Member};
pub use store::LoadError;
pub use v2_read::DocumentError;

/// etcd's default for `--max-learners`.
pub const DEFAULT_MAX_LEARNERS: usize = 1;

/// The members of a cluster, the removed ones, and the cluster's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    cluster_id: u64,
    members: BTreeMap<u64, Member>,
    /// Ids that are gone for ever: an id is never used twice (M9).
    removed: BTreeSet<u64>,
    version: Option<String>,
    downgrade: Option<DowngradeInfo>,
    max_learners: usize,
}

/// A downgrade under way.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct DowngradeInfo {
    /// Text like `3.5.0`, empty for none.
    #[serde(rename = "target-version", default)]
    pub target_version: String,
    /// Whether it is.
    #[serde(default)]
    pub enabled: bool,
}

impl Cluster {
    /// The cluster that these members found. The cluster's id comes from theirs.
    pub fn from_initial(members: Vec<Member>, max_learners: usize) -> Cluster {
        let ids: Vec<u64> = members.iter().map(|m| m.id).collect();
        Cluster {
            cluster_id: crate::ids::cluster_id(&ids),
            members: members.into_iter().map(|m| (m.id, m)).collect(),
            removed: BTreeSet::new(),
            version: None,
            downgrade: None,
            max_learners,
        }
    }

    /// A cluster of which nothing is known yet but its id: a log from its beginning tells.
    pub fn empty(cluster_id: u64, max_learners: usize) -> Cluster {
        Cluster {
            cluster_id,
            members: BTreeMap::new(),
            removed: BTreeSet::new(),
            version: None,
            downgrade: None,
            max_learners,
        }
    }

    /// See [`cluster_id`](crate::ids::cluster_id).
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// Learners that there may be.
    pub fn max_learners(&self) -> usize {
        self.max_learners
    }

    /// All members, by ascending id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// One member.
    pub fn member(&self, id: u64) -> Option<&Member> {
        self.members.get(&id)
    }

    /// The member with this name. Names need not be unique; the lowest id wins.
    pub fn member_by_name(&self, name: &str) -> Option<&Member> {
        self.members.values().find(|m| m.name == name)
    }

    /// Whether the member was removed, for ever.
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// Ids of removed members, ascending.
    pub fn removed(&self) -> impl Iterator<Item = u64> {
        self.removed.iter().copied()
    }

    /// The cluster's version, such as `3.6.0`; none before the first leader set it.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The downgrade that was set last.
    pub fn downgrade(&self) -> Option<&DowngradeInfo> {
        self.downgrade.as_ref()
    }

    /// The configuration of raft that these members are: voters and learners, ascending.
    pub fn conf_state(&self) -> raftpb::ConfState {
        let ids = |learner: bool| {
            self.members
                .values()
                .filter(|m| m.is_learner == learner)
                .map(|m| m.id)
                .collect()
        };
        raftpb::ConfState {
            voters: ids(false),
            learners: ids(true),
            auto_leave: Some(false),
            ..raftpb::ConfState::default()
        }
    }
}

/// The entries that the log of a new cluster begins with: one `AddNode` for each member, by
/// ascending id, index 1 to n, term 1. All members make the same ones.
pub fn bootstrap_entries(members: &[Member]) -> Vec<raftpb::Entry> {
    let mut members: Vec<&Member> = members.iter().collect();
    members.sort_unstable_by_key(|m| m.id);
    members
        .into_iter()
        .zip(1..)
        .map(|(member, index)| {
            let change = raftpb::ConfChange {
                id: None,
                r#type: Some(raftpb::ConfChangeType::ConfChangeAddNode as i32),
                node_id: Some(member.id),
                context: Some(member.to_json().into()),
            };
            raftpb::Entry {
                r#type: Some(raftpb::EntryType::EntryConfChange as i32),
                term: Some(1),
                index: Some(index),
                data: Some(Bytes::from(change.encode_to_vec())),
            }
        })
        .collect()
}
