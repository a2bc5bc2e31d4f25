//! The document that a snapshot file carries: the membership in the shape of etcd's old v2 store.
//!
//! Old members read it at their start; newer ones only write it. It is what a fresh v2 store would
//! hold after the membership was entered into it: for each member by ascending id its raft
//! attributes and, once it is known, its name and client URLs; the removed members; the version.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Cluster, json};
use crate::ids::format_id;

/// Slots of the history's ring: readers index it by its capacity.
const HISTORY: usize = 1000;
const NEVER: &str = "0001-01-01T00:00:00Z";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    root: Node,
    watcher_hub: WatcherHub,
    current_index: u64,
    stats: Stats,
    current_version: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    path: String,
    created_index: u64,
    modified_index: u64,
    expire_time: &'static str,
    value: String,
    /// None for a file.
    children: Option<BTreeMap<String, Node>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WatcherHub {
    event_history: EventHistory,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EventHistory {
    queue: Queue,
    start_index: u64,
    last_index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Queue {
    events: Vec<Option<Event>>,
    size: usize,
    front: usize,
    back: usize,
    capacity: usize,
}

#[derive(Serialize)]
struct Event {
    action: &'static str,
    node: EventNode,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventNode {
    key: String,
    value: String,
    modified_index: u64,
    created_index: u64,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Stats {
    gets_success: u64,
    gets_fail: u64,
    sets_success: u64,
    sets_fail: u64,
    delete_success: u64,
    delete_fail: u64,
    update_success: u64,
    update_fail: u64,
    create_success: u64,
    create_fail: u64,
    compare_and_swap_success: u64,
    compare_and_swap_fail: u64,
    compare_and_delete_success: u64,
    compare_and_delete_fail: u64,
    expire_count: u64,
    watchers: u64,
}

#[derive(Serialize)]
struct RaftAttributes<'a> {
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(rename = "isLearner", skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
}

#[derive(Serialize)]
struct Attributes<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs")]
    client_urls: &'a [String],
}

impl Cluster {
    /// The data of a snapshot file.
    pub fn v2_document(&self) -> Vec<u8> {
        let mut store = Store::new();
        for member in self.members() {
            let id = format_id(member.id);
            store.create(
                &["0", "members", &id, "raftAttributes"],
                json::to_string(&RaftAttributes {
                    peer_urls: &member.peer_urls,
                    is_learner: member.is_learner,
                }),
            );
            if !member.client_urls.is_empty() {
                store.set(
                    &["0", "members", &id, "attributes"],
                    json::to_string(&Attributes {
                        name: &member.name,
                        client_urls: &member.client_urls,
                    }),
                );
            }
        }
        for id in self.removed() {
            store.create(&["0", "removed_members", &format_id(id)], String::new());
        }
        if let Some(version) = self.version() {
            store.set(&["0", "version"], version.to_owned());
        }
        store.encode()
    }
}

struct Store {
    root: Node,
    events: Vec<Event>,
    index: u64,
    stats: Stats,
}

impl Store {
    fn new() -> Store {
        let mut root = directory("/".to_owned(), 0);
        for name in ["0", "1"] {
            child(&mut root, name, || directory(format!("/{name}"), 0));
        }
        Store {
            root,
            events: Vec::new(),
            index: 0,
            stats: Stats {
                // etcd looks for members before it enters them, and finds none.
                gets_fail: 1,
                ..Stats::default()
            },
        }
    }

    fn create(&mut self, path: &[&str], value: String) {
        self.stats.create_success += 1;
        self.enter("create", path, value);
    }

    fn set(&mut self, path: &[&str], value: String) {
        self.stats.sets_success += 1;
        self.enter("set", path, value);
    }

    fn enter(&mut self, action: &'static str, path: &[&str], value: String) {
        self.index += 1;
        let index = self.index;
        let mut node = &mut self.root;
        let mut key = String::new();
        for (depth, name) in path.iter().enumerate() {
            key = format!("{key}/{name}");
            node = child(node, name, || {
                if depth + 1 == path.len() {
                    file(key.clone(), index, value.clone())
                } else {
                    directory(key.clone(), index)
                }
            });
        }
        self.events.push(Event {
            action,
            node: EventNode {
                key,
                value,
                modified_index: index,
                created_index: index,
            },
        });
    }

    fn encode(mut self) -> Vec<u8> {
        // The ring keeps the newest events, the oldest of them at `front`.
        let total = self.events.len();
        let size = total.min(HISTORY);
        let kept = self.events.split_off(total - size);
        let front = if total > HISTORY { total % HISTORY } else { 0 };
        let start_index = kept.first().map_or(0, |e| e.node.modified_index);
        let mut events: Vec<Option<Event>> = kept.into_iter().map(Some).collect();
        events.resize_with(HISTORY, || None);
        events.rotate_right(front);
        json::to_vec(&Document {
            root: self.root,
            watcher_hub: WatcherHub {
                event_history: EventHistory {
                    queue: Queue {
                        events,
                        size,
                        front,
                        back: total % HISTORY,
                        capacity: HISTORY,
                    },
                    start_index,
                    last_index: self.index,
                },
            },
            current_index: self.index,
            stats: self.stats,
            current_version: 2,
        })
    }
}

fn directory(path: String, index: u64) -> Node {
    Node {
        children: Some(BTreeMap::new()),
        ..file(path, index, String::new())
    }
}

fn file(path: String, index: u64, value: String) -> Node {
    Node {
        path,
        created_index: index,
        modified_index: index,
        expire_time: NEVER,
        value,
        children: None,
    }
}

fn child<'a>(node: &'a mut Node, name: &str, make: impl FnOnce() -> Node) -> &'a mut Node {
    node.children
        .get_or_insert_default()
        .entry(name.to_owned())
        .or_insert_with(make)
}
