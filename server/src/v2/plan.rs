//! What a write comes to: refused, or a transaction that has its effect if the tree is still as it was seen.
//!
//! What is compared is as little as possible, so that writers do not get into each other's way: the node itself, and
//! of the directories it is in only the lowest one. That one cannot go while something is in it, but with it; and it
//! stays a directory as long as it is there.

use bytes::Bytes;
use retcd_proto::etcdserverpb::TxnRequest;
use retcd_storage::mvcc::ReadView;

use super::draft::Draft;
use super::node::{Action, Event, Node};
use super::path::{Path, deadline_key};
use super::refusal::{Code, Failure, Refusal};
use super::request::{Expected, Write};
use super::tree;

/// A transaction, and what is to be answered when its comparisons hold.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) txn: TxnRequest,
    /// Without the index of the write.
    pub(super) event: Event,
}

/// Judges a write by a view of the store.
pub(super) fn plan(view: &ReadView, path: &Path, write: &Write, now: i64) -> Result<Plan, Failure> {
    let mut draft = Draft::at(now);
    let event = match write {
        Write::Set { content, refresh } => draft.set(view, path, content, *refresh)?,
        Write::Create(content) => draft.create(view, path, content)?,
        Write::Append(content) => {
            let path = draft.next_in_order(view, path)?;
            draft.create(view, &path, content)?
        }
        Write::Update { content, refresh } => {
            let node = writable(view, path)?;
            if node.is_dir() && !content.value.is_empty() {
                return Err(tree::refused(view, Code::NotFile, path));
            }
            draft.replace(&node, content, *refresh, Action::Update)
        }
        Write::Swap {
            expected,
            content,
            refresh,
        } => {
            let node = writable(view, path)?;
            compare(view, &node, expected)?;
            draft.replace(&node, content, *refresh, Action::CompareAndSwap)
        }
        Write::Delete { dir, recursive } => {
            let node = writable(view, path)?;
            if node.is_dir() && !dir && !recursive {
                return Err(tree::refused(view, Code::NotFile, path));
            }
            if node.is_dir() && !recursive {
                if !tree::is_empty(view, path)? {
                    return Err(tree::refused(view, Code::DirNotEmpty, path));
                }
                draft.expect_empty(path);
            }
            draft.remove(&node, Action::Delete)
        }
        Write::DeleteExpected(expected) => {
            let node = tree::there(view, path)?;
            compare(view, &node, expected)?;
            draft.remove(&node, Action::CompareAndDelete)
        }
    };
    let txn = draft.into_txn();
    Ok(Plan { txn, event })
}

/// A transaction that ends a node at its deadline, and `true`; or one that forgets a deadline that the node does not
/// have any more.
pub(super) fn expiry(
    view: &ReadView,
    path: &Path,
    deadline: i64,
    now: i64,
) -> Result<(TxnRequest, bool), Failure> {
    let mut draft = Draft::at(now);
    let node = tree::load(view, path)?;
    let is_due = node.as_ref().is_some_and(|node| node.expires == deadline);
    match node {
        Some(node) if is_due => {
            draft.remove(&node, Action::Expire);
        }
        other => {
            match other {
                Some(node) => draft.expect_unchanged(&node),
                None => draft.expect_missing(path),
            }
            draft.delete(deadline_key(deadline, path), Bytes::new());
        }
    }
    Ok((draft.into_txn(), is_due))
}

/// The node that is to be changed.
fn writable(view: &ReadView, path: &Path) -> Result<Node, Failure> {
    if path.is_root() {
        return Err(tree::root_only_read(view));
    }
    tree::there(view, path)
}

/// Whether a file is as expected.
fn compare(view: &ReadView, node: &Node, expected: &Expected) -> Result<(), Failure> {
    let Some(value) = &node.value else {
        return Err(tree::refused(view, Code::NotFile, &node.path));
    };
    let index = u64::try_from(node.modified).unwrap_or(0);
    let mut different = Vec::new();
    if !expected.value.is_empty() && expected.value != *value {
        different.push(format!("[{} != {value}]", expected.value));
    }
    if expected.index != 0 && expected.index != index {
        different.push(format!("[{} != {index}]", expected.index));
    }
    if different.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(Code::TestFailed, different.join(" "), view.rev()).into())
}
