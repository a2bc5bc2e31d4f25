//! Reading the tree from a view of the store.

use std::collections::HashMap;

use bytes::Bytes;
use retcd_storage::mvcc::{Kv, RangeQuery, ReadView};

use super::node::{Action, Event, Node, Shown, Stored};
use super::path::Path;
use super::refusal::{Code, Failure, Refusal};

/// Keys that are read at once where some of them may be skipped.
const BATCH: usize = 64;

/// What stands at a path.
#[derive(Debug)]
pub(super) enum Found {
    There(Node),
    Missing {
        /// The lowest directory on the way that is there.
        parent: Node,
        /// What is not there: from right below that directory down to the path itself.
        missing: Vec<Path>,
    },
    /// A file is on the way.
    Blocked(Path),
}

/// Looks where a path leads.
pub(super) fn find(view: &ReadView, path: &Path) -> Result<Found, Failure> {
    let way = path.way();
    let mut parent = Node::root();
    for (at, step) in way.iter().enumerate() {
        if !parent.is_dir() {
            return Ok(Found::Blocked(parent.path));
        }
        let Some(node) = load(view, step)? else {
            let missing = way[at..].to_vec();
            return Ok(Found::Missing { parent, missing });
        };
        parent = node;
    }
    Ok(Found::There(parent))
}

/// The node of a path, by its own key alone.
pub(super) fn load(view: &ReadView, path: &Path) -> Result<Option<Node>, Failure> {
    let found = view.range(&RangeQuery {
        key: &path.key(),
        limit: 1,
        ..RangeQuery::default()
    })?;
    let Some(kv) = found.kvs.into_iter().next() else {
        return Ok(None);
    };
    node(path.clone(), &kv).map(Some).ok_or_else(|| {
        let key = String::from_utf8_lossy(&kv.key).into_owned();
        Failure::Broken(format!(
            "the value of {key} is no node of the v2 tree, but was written by something else: delete that key"
        ))
    })
}

fn node(path: Path, kv: &Kv) -> Option<Node> {
    let stored = Stored::decode(&kv.value())?;
    Some(Node::new(path, stored, kv.created, kv.modified.main))
}

/// Answers a `get`.
pub(super) fn get(
    view: &ReadView,
    path: &Path,
    recursive: bool,
    now: i64,
) -> Result<Event, Failure> {
    let node = there(view, path)?;
    let mut shown = node.shown(now);
    if node.is_dir() {
        shown.nodes = match recursive {
            true => descendants(view, path, now)?,
            false => children(view, path, now)?,
        };
    }
    Ok(Event {
        action: Action::Get,
        node: Some(shown),
        prev: None,
    })
}

/// The node at a path.
pub(super) fn there(view: &ReadView, path: &Path) -> Result<Node, Failure> {
    match find(view, path)? {
        Found::There(node) => Ok(node),
        Found::Missing { missing, .. } => {
            let first = missing.first().unwrap_or(path);
            Err(refused(view, Code::KeyNotFound, first))
        }
        Found::Blocked(file) => Err(blocked(view, &file)),
    }
}

/// The refusal of a path, at the revision of the view.
pub(super) fn refused(view: &ReadView, code: Code, path: &Path) -> Failure {
    Refusal::new(code, path.shown(), view.rev()).into()
}

/// The root is there and stays as it is.
pub(super) fn root_only_read(view: &ReadView) -> Failure {
    Refusal::new(Code::RootReadOnly, "/", view.rev()).into()
}

/// The refusal of a way through a file.
pub(super) fn blocked(view: &ReadView, file: &Path) -> Failure {
    refused(view, Code::NotDir, file)
}

/// Whether nothing is in a directory.
pub(super) fn is_empty(view: &ReadView, path: &Path) -> Result<bool, Failure> {
    let (first, end) = path.below();
    let found = view.range(&RangeQuery {
        key: &first,
        end: &end,
        count_only: true,
        ..RangeQuery::default()
    })?;
    Ok(found.count == 0)
}

/// How many keys a `get` looks at, at most.
pub(super) fn weight(view: &ReadView, path: &Path) -> usize {
    let (first, end) = path.below();
    let found = view.range(&RangeQuery {
        key: &first,
        end: &end,
        count_only: true,
        ..RangeQuery::default()
    });
    found.map_or(0, |found| found.count)
}

/// What is in a directory, and not hidden, in order. What is further down is skipped rather than read.
fn children(view: &ReadView, dir: &Path, now: i64) -> Result<Vec<Shown>, Failure> {
    let (mut cursor, end) = dir.below();
    let mut shown = Vec::new();
    loop {
        let found = view.range(&RangeQuery {
            key: &cursor,
            end: &end,
            limit: BATCH,
            ..RangeQuery::default()
        })?;
        let mut behind = Bytes::new();
        for kv in &found.kvs {
            if kv.key < behind {
                continue;
            }
            let Some(path) = Path::of_key(&kv.key) else {
                continue;
            };
            match dir.rest(&path).and_then(|rest| rest.split_once('/')) {
                Some((name, _)) => behind = dir.child(name).below().1,
                None if dir.hides(&path) => {}
                None => shown.extend(node(path, kv).map(|node| node.shown(now))),
            }
        }
        match found.kvs.last() {
            Some(last) if found.kvs.len() < found.count => {
                let next = Bytes::from([&last.key[..], b"\0"].concat());
                cursor = next.max(behind);
            }
            _ => return Ok(shown),
        }
    }
}

/// All that is below a directory, and not hidden, in order.
fn descendants(view: &ReadView, dir: &Path, now: i64) -> Result<Vec<Shown>, Failure> {
    let (first, end) = dir.below();
    let found = view.range(&RangeQuery {
        key: &first,
        end: &end,
        ..RangeQuery::default()
    })?;
    // A node comes behind the directories it is in: from the end, all that is in one is known before it.
    let mut inside: HashMap<Path, Vec<Shown>> = HashMap::new();
    for kv in found.kvs.iter().rev() {
        let Some(path) = Path::of_key(&kv.key) else {
            continue;
        };
        if dir.hides(&path) {
            continue;
        }
        let Some(node) = node(path, kv) else {
            continue;
        };
        let mut shown = node.shown(now);
        if node.is_dir() {
            shown.nodes = in_order(inside.remove(&node.path));
        }
        inside.entry(node.path.parent()).or_default().push(shown);
    }
    Ok(in_order(inside.remove(dir)))
}

fn in_order(backwards: Option<Vec<Shown>>) -> Vec<Shown> {
    let mut nodes = backwards.unwrap_or_default();
    nodes.reverse();
    nodes
}
