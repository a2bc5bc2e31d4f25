//! A member as etcd stores it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::json;

/// A member of the cluster.
///
/// Its JSON is etcd's: `{"id":…,"peerURLs":[…],"isLearner":true,"name":"…","clientURLs":[…]}`,
/// where the last three are left out when empty and missing peer URLs are `null`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Member {
    /// See [`member_id`](crate::ids::member_id).
    pub id: u64,
    /// Where other members reach it.
    #[serde(
        rename = "peerURLs",
        default,
        deserialize_with = "null_is_empty",
        serialize_with = "empty_is_null"
    )]
    pub peer_urls: Vec<String>,
    /// Receives the log but does not vote.
    #[serde(rename = "isLearner", default, skip_serializing_if = "is_false")]
    pub is_learner: bool,
    /// Empty until the member has started and published it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where clients reach it. Empty until the member has started and published them.
    #[serde(
        rename = "clientURLs",
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub client_urls: Vec<String>,
}

impl Member {
    /// etcd's encoding, as stored in the database and in bootstrap entries.
    pub fn to_json(&self) -> Vec<u8> {
        json::to_vec(self)
    }

    /// # Errors
    /// What is wrong with the text.
    pub fn from_json(text: &[u8]) -> Result<Member, serde_json::Error> {
        serde_json::from_slice(text)
    }
}

/// What a conf change says beside the member's id.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConfChangeContext {
    /// The member.
    #[serde(flatten)]
    pub member: Member,
    /// The change turns a learner into a voter.
    #[serde(rename = "isPromote", default, skip_serializing_if = "is_false")]
    pub is_promote: bool,
}

impl ConfChangeContext {
    /// etcd's encoding.
    pub fn to_json(&self) -> Vec<u8> {
        json::to_vec(self)
    }

    /// # Errors
    /// What is wrong with the text.
    pub fn from_json(text: &[u8]) -> Result<ConfChangeContext, serde_json::Error> {
        serde_json::from_slice(text)
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

fn null_is_empty<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(d)?.unwrap_or_default())
}

fn empty_is_null<S: Serializer>(urls: &[String], s: S) -> Result<S::Ok, S::Error> {
    if urls.is_empty() {
        s.serialize_none()
    } else {
        urls.serialize(s)
    }
}
