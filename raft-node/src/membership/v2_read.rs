//! Reading the document of a snapshot file: up to etcd 3.5 it was where a member's truth about its cluster was.
//!
//! Source: disk-format 3.1; etcd `server/etcdserver/api/membership/store.go` (3.5).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Cluster, Member};

/// Why the document of a snapshot file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is not such a document.
    #[error("the snapshot's document cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A member's record is not what members write.
    #[error("the snapshot's document has a member {0:?} that cannot be read")]
    Member(String),
    /// It holds keys of the v2 API.
    #[error(
        "detected disallowed custom content in v2store for stage --v2-deprecation=write-only: there are keys of the v2 API below {0:?}, which etcd left out in 3.6; start etcd 3.5 with --enable-v2 and delete or copy them there first"
    )]
    Custom(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    root: Node,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Node {
    value: String,
    /// None for a file.
    children: Option<BTreeMap<String, Node>>,
}

#[derive(Deserialize)]
struct RaftAttributes {
    #[serde(rename = "peerURLs", default)]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner", default)]
    is_learner: bool,
}

#[derive(Deserialize, Default)]
struct Attributes {
    #[serde(default)]
    name: String,
    #[serde(rename = "clientURLs", default)]
    client_urls: Option<Vec<String>>,
}

impl Node {
    fn child(&self, name: &str) -> Option<&Node> {
        self.children.as_ref()?.get(name)
    }

    fn children(&self) -> impl Iterator<Item = (&String, &Node)> {
        self.children.iter().flatten()
    }
}

impl Cluster {
    /// The membership that the data of a snapshot file says.
    ///
    /// # Errors
    /// What cannot be read; keys of users, which are nowhere else and would be lost.
    pub fn from_v2_document(
        data: &[u8],
        cluster_id: u64,
        max_learners: usize,
    ) -> Result<Cluster, DocumentError> {
        let Document { root } = serde_json::from_slice(data)?;
        // "2" is where the v2 API kept its own users.
        for (name, node) in root.children() {
            if name != "0" && name != "2" && node.children().next().is_some() {
                return Err(DocumentError::Custom(format!("/{name}")));
            }
        }
        let mut cluster = Cluster::empty(cluster_id, max_learners);
        let Some(own) = root.child("0") else {
            return Ok(cluster);
        };
        for (id, node) in own.child("members").iter().flat_map(|n| n.children()) {
            let member = member(id, node).ok_or_else(|| DocumentError::Member(id.clone()))?;
            cluster.members.insert(member.id, member);
        }
        let removed = own.child("removed_members");
        for (id, _) in removed.iter().flat_map(|n| n.children()) {
            let bad = || DocumentError::Member(id.clone());
            let id = u64::from_str_radix(id, 16).map_err(|_| bad())?;
            cluster.removed.insert(id);
        }
        cluster.version = own.child("version").map(|node| node.value.clone());
        Ok(cluster)
    }
}

fn member(id: &str, node: &Node) -> Option<Member> {
    let raft = &node.child("raftAttributes")?.value;
    let raft: RaftAttributes = serde_json::from_str(raft).ok()?;
    let attributes = match node.child("attributes") {
        None => Attributes::default(),
        Some(node) => serde_json::from_str(&node.value).ok()?,
    };
    Some(Member {
        id: u64::from_str_radix(id, 16).ok()?,
        peer_urls: raft.peer_urls.unwrap_or_default(),
        is_learner: raft.is_learner,
        name: attributes.name,
        client_urls: attributes.client_urls.unwrap_or_default(),
    })
}
