//! What is written down of a removal.

use serde::{Deserialize, Serialize};

use super::node::{Action, Event, Node, Shown};
use super::path::Path;

/// What those who wait need to know of a removal, since nothing is left of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Removal {
    pub(super) action: Action,
    pub(super) path: String,
    pub(super) dir: bool,
    pub(super) created: i64,
    pub(super) modified: i64,
    /// Nanoseconds since 1970, 0 for never.
    pub(super) expires: i64,
    /// When it was removed.
    pub(super) at: i64,
}

impl Removal {
    pub(super) fn of(node: &Node, action: Action, at: i64) -> Self {
        Self {
            action,
            path: node.path.as_str().to_owned(),
            dir: node.is_dir(),
            created: node.created,
            modified: node.modified,
            expires: node.expires,
            at,
        }
    }

    /// The event; `value`: that of a file.
    pub(super) fn event(&self, value: Option<String>) -> Event {
        let key = Path::of(&self.path).shown().to_owned();
        let prev = Shown {
            key: key.clone(),
            value,
            dir: self.dir,
            modified: self.modified,
            created: self.created,
            ..Shown::default()
        };
        Event {
            action: self.action,
            node: Some(Shown {
                key,
                dir: self.dir,
                created: self.created,
                ..Shown::default()
            }),
            prev: Some(prev.until(self.expires, self.at)),
        }
    }
}
