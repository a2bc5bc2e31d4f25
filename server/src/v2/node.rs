//! A node of the tree: how it is stored, and how it is shown.

use std::time::Duration;

use bytes::Bytes;
use retcd_raft_node::transport::rfc3339;
use serde::{Deserialize, Serialize};

use super::path::Path;

/// What a request did; of writes it is stored with the node, for those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Action {
    Get,
    Set,
    Create,
    Update,
    CompareAndSwap,
    Delete,
    CompareAndDelete,
    Expire,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The value of a node's key, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Stored {
    /// None in a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<String>,
    /// Index at which it was created; 0: that of this very write.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) created: i64,
    /// When it ends by itself: nanoseconds since 1970; 0: never.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) expires: i64,
    /// What wrote it. None: nobody who waits is told, because it is a directory that a node further down needed, or
    /// only refreshed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) action: Option<Action>,
    /// When it was written: nanoseconds since 1970.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) at: i64,
}

impl Stored {
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }

    pub(super) fn encode(&self) -> Bytes {
        // Texts and numbers can always be written.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// A node as of some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) path: Path,
    /// None in a directory.
    pub(super) value: Option<String>,
    pub(super) created: i64,
    pub(super) modified: i64,
    /// Nanoseconds since 1970; 0: it does not end by itself.
    pub(super) expires: i64,
    /// The revision at which its key came to be. A directory keeps it until it is deleted, and stays a directory.
    pub(super) incarnation: i64,
}

impl Node {
    pub(super) fn new(path: Path, stored: Stored, incarnation: i64, modified: i64) -> Self {
        Self {
            path,
            value: stored.value,
            created: match stored.created {
                0 => modified,
                created => created,
            },
            modified,
            expires: stored.expires,
            incarnation,
        }
    }

    /// The root is there without being stored.
    pub(super) fn root() -> Self {
        Self::new(Path::root(), Stored::default(), 0, 0)
    }

    pub(super) fn is_dir(&self) -> bool {
        self.value.is_none()
    }

    /// As answers show it at a moment, without what is in it.
    pub(super) fn shown(&self, now: i64) -> Shown {
        Shown {
            key: self.path.shown().to_owned(),
            value: self.value.clone(),
            dir: self.is_dir(),
            modified: self.modified,
            created: self.created,
            ..Shown::default()
        }
        .until(self.expires, now)
    }
}

/// A node in an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Shown {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) dir: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expiration: Option<String>,
    /// Seconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) ttl: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) nodes: Vec<Shown>,
    #[serde(rename = "modifiedIndex", skip_serializing_if = "is_zero")]
    pub(super) modified: i64,
    #[serde(rename = "createdIndex", skip_serializing_if = "is_zero")]
    pub(super) created: i64,
}

impl Shown {
    /// The same node with its deadline, as seen at a moment: begun seconds count, and what is past is 0.
    pub(super) fn until(mut self, expires: i64, now: i64) -> Self {
        if expires > 0 {
            let unix = Duration::from_nanos(expires.unsigned_abs());
            self.expiration = Some(rfc3339(unix));
            let left = u64::try_from(expires.saturating_sub(now)).unwrap_or(0);
            self.ttl = i64::try_from(left.div_ceil(1_000_000_000)).unwrap_or(i64::MAX);
        }
        self
    }
}

/// What happened, or what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Event {
    pub(super) action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<Shown>,
    #[serde(rename = "prevNode", skip_serializing_if = "Option::is_none")]
    pub(super) prev: Option<Shown>,
}

impl Event {
    /// The event of a write that got a revision.
    pub(super) fn at(mut self, revision: i64) -> Self {
        if let Some(node) = &mut self.node {
            node.modified = revision;
            if node.created == 0 {
                node.created = revision;
            }
        }
        self
    }

    /// Whether the answer is `201 Created`.
    pub(super) fn is_created(&self) -> bool {
        match self.action {
            Action::Create => true,
            Action::Set => self.prev.is_none(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_back() {
        let file = Stored {
            value: Some("a\"<".to_owned()),
            created: 3,
            expires: 1_000,
            action: Some(Action::CompareAndSwap),
            at: 7,
        };
        let text =
            r#"{"value":"a\"<","created":3,"expires":1000,"action":"compareAndSwap","at":7}"#;
        assert_eq!(file.encode(), text);
        assert_eq!(Stored::decode(text.as_bytes()), Some(file));
        assert_eq!(Stored::default().encode(), "{}");
        assert_eq!(Stored::decode(b"{}"), Some(Stored::default()));
        for text in [
            "",
            "bar",
            "[]x",
            r#"{"value":1}"#,
            r#"{"action":"nonsense"}"#,
        ] {
            assert_eq!(Stored::decode(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn answers_leave_out_what_is_not_there() {
        let show = |node: &Node, now| serde_json::to_string(&node.shown(now)).expect("JSON");
        assert_eq!(show(&Node::root(), 0), r#"{"dir":true}"#);
        let stored = Stored {
            value: Some(String::new()),
            expires: 1_500_000_000_000_000_000,
            ..Stored::default()
        };
        let node = Node::new(Path::of("/a"), stored, 4, 5);
        let text = |ttl: &str| {
            format!(
                r#"{{"key":"/a","value":"","expiration":"2017-07-14T02:40:00Z"{ttl},"modifiedIndex":5,"createdIndex":5}}"#
            )
        };
        assert_eq!(show(&node, 1_499_999_999_000_000_000), text(r#","ttl":1"#));
        assert_eq!(show(&node, 1_499_999_998_999_999_999), text(r#","ttl":2"#));
        assert_eq!(show(&node, 1_500_000_000_000_000_000), text(""));
        assert_eq!(show(&node, i64::MAX), text(""));
    }

    #[test]
    fn an_event_gets_the_index_of_its_write() {
        let event = |created| {
            let node = Shown {
                key: "/a".to_owned(),
                created,
                ..Shown::default()
            };
            Event {
                action: Action::Set,
                node: Some(node),
                prev: None,
            }
        };
        let indexes = |event: Event| event.node.map(|node| (node.created, node.modified));
        assert_eq!(indexes(event(0).at(9)), Some((9, 9)));
        assert_eq!(indexes(event(4).at(9)), Some((4, 9)));
        assert!(event(0).is_created());
    }
}
