//! A transaction in the making.

use bytes::Bytes;
use retcd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use retcd_proto::etcdserverpb::request_op::Request;
use retcd_proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use retcd_storage::mvcc::{RangeQuery, ReadView};

use super::node::{Action, Event, Node, Shown, Stored};
use super::path::{ORDER, Path, REMOVAL, deadline_key};
use super::refusal::{Code, Failure};
use super::removal::Removal;
use super::request::Content;
use super::tree::{self, Found};

/// A transaction in the making.
pub(super) struct Draft {
    now: i64,
    compare: Vec<Compare>,
    ops: Vec<RequestOp>,
}

impl Draft {
    pub(super) fn at(now: i64) -> Self {
        Self {
            now,
            compare: Vec::new(),
            ops: Vec::new(),
        }
    }

    pub(super) fn set(
        &mut self,
        view: &ReadView,
        path: &Path,
        content: &Content,
        refresh: bool,
    ) -> Result<Event, Failure> {
        let action = Action::Set;
        let node = match tree::find(view, path)? {
            Found::Blocked(file) => return Err(tree::blocked(view, &file)),
            Found::Missing { parent, missing } => {
                if let (true, Some(first)) = (refresh, missing.first()) {
                    return Err(tree::refused(view, Code::KeyNotFound, first));
                }
                return Ok(self.make(&parent, &missing, content, action));
            }
            Found::There(_) if path.is_root() => return Err(tree::root_only_read(view)),
            Found::There(node) => node,
        };
        if node.is_dir() {
            return Err(tree::refused(view, Code::NotFile, path));
        }
        let mut stored = self.stored(content, (!refresh).then_some(action));
        if refresh && !content.dir {
            stored.value = node.value.clone();
        }
        self.expect_unchanged(&node);
        Ok(self.write(path, stored, Some(&node), action))
    }

    pub(super) fn create(
        &mut self,
        view: &ReadView,
        path: &Path,
        content: &Content,
    ) -> Result<Event, Failure> {
        match tree::find(view, path)? {
            Found::Blocked(file) => Err(tree::blocked(view, &file)),
            Found::There(_) if path.is_root() => Err(tree::root_only_read(view)),
            Found::There(_) => Err(tree::refused(view, Code::NodeExist, path)),
            Found::Missing { parent, missing } => {
                Ok(self.make(&parent, &missing, content, Action::Create))
            }
        }
    }

    /// A path in a directory that sorts behind all that were made this way.
    pub(super) fn next_in_order(&mut self, view: &ReadView, dir: &Path) -> Result<Path, Failure> {
        let found = view.range(&RangeQuery {
            key: ORDER,
            limit: 1,
            ..RangeQuery::default()
        })?;
        let last = found.kvs.first();
        let seen = last.map_or(0, |kv| kv.modified.main);
        let last = last.and_then(|kv| std::str::from_utf8(&kv.value()).ok()?.parse::<i64>().ok());
        // The index that it will have, if nothing else is written meanwhile.
        let next = view.rev().saturating_add(1);
        let number = last.map_or(next, |last| next.max(last.saturating_add(1)));
        self.modified_at(Bytes::from_static(ORDER), seen);
        self.put(Bytes::from_static(ORDER), number.to_string().into());
        Ok(dir.child(&format!("{number:020}")))
    }

    /// Makes a node, and the directories that it needs.
    fn make(
        &mut self,
        parent: &Node,
        missing: &[Path],
        content: &Content,
        action: Action,
    ) -> Event {
        if !parent.path.is_root() {
            self.created_at(parent.path.key(), parent.incarnation);
        }
        if let Some(first) = missing.first() {
            self.expect_missing(first);
        }
        let (path, dirs) = match missing.split_last() {
            Some((path, dirs)) => (path, dirs),
            None => (&parent.path, &[][..]),
        };
        for dir in dirs {
            let silent = Content {
                dir: true,
                ..Content::default()
            };
            let stored = self.stored(&silent, None);
            self.put(dir.key(), stored.encode());
        }
        let stored = self.stored(content, Some(action));
        self.write(path, stored, None, action)
    }

    /// Changes a node, which stays what it is.
    pub(super) fn replace(
        &mut self,
        node: &Node,
        content: &Content,
        refresh: bool,
        action: Action,
    ) -> Event {
        let mut stored = self.stored(content, (!refresh).then_some(action));
        stored.created = node.created;
        match &node.value {
            None => stored.value = None,
            Some(value) if refresh => stored.value = Some(value.clone()),
            Some(_) => stored.value = Some(content.value.clone()),
        }
        self.expect_unchanged(node);
        self.write(&node.path, stored, Some(node), action)
    }

    /// Removes a node and all that is in it.
    pub(super) fn remove(&mut self, node: &Node, action: Action) -> Event {
        self.expect_unchanged(node);
        self.delete(node.path.key(), Bytes::new());
        if node.is_dir() {
            let (first, end) = node.path.below();
            self.delete(first, end);
        }
        self.move_deadline(&node.path, node.expires, 0);
        let removal = Removal::of(node, action, self.now);
        let text = serde_json::to_vec(&removal).unwrap_or_default();
        self.put(Bytes::from_static(REMOVAL), text.into());
        removal.event(node.value.clone())
    }

    fn stored(&self, content: &Content, action: Option<Action>) -> Stored {
        Stored {
            value: (!content.dir).then(|| content.value.clone()),
            created: 0,
            expires: content.expires,
            action,
            at: self.now,
        }
    }

    /// Writes a node in the place of another one, or of none.
    fn write(&mut self, path: &Path, stored: Stored, prev: Option<&Node>, action: Action) -> Event {
        self.put(path.key(), stored.encode());
        self.move_deadline(path, prev.map_or(0, |prev| prev.expires), stored.expires);
        let node = Shown {
            key: path.shown().to_owned(),
            dir: stored.value.is_none(),
            value: stored.value,
            created: stored.created,
            ..Shown::default()
        };
        Event {
            action,
            node: Some(node.until(stored.expires, self.now)),
            prev: prev.map(|prev| prev.shown(self.now)),
        }
    }

    fn move_deadline(&mut self, path: &Path, old: i64, new: i64) {
        if old == new {
            return;
        }
        if old != 0 {
            self.delete(deadline_key(old, path), Bytes::new());
        }
        if new != 0 {
            self.put(deadline_key(new, path), Bytes::new());
        }
    }

    pub(super) fn expect_unchanged(&mut self, node: &Node) {
        self.modified_at(node.path.key(), node.modified);
    }

    pub(super) fn expect_missing(&mut self, path: &Path) {
        self.created_at(path.key(), 0);
    }

    pub(super) fn expect_empty(&mut self, path: &Path) {
        let (first, end) = path.below();
        self.created_at(first, 0);
        if let Some(compare) = self.compare.last_mut() {
            compare.range_end = end;
        }
    }

    fn created_at(&mut self, key: Bytes, revision: i64) {
        let union = TargetUnion::CreateRevision(revision);
        self.expect(key, CompareTarget::Create, union);
    }

    fn modified_at(&mut self, key: Bytes, revision: i64) {
        let union = TargetUnion::ModRevision(revision);
        self.expect(key, CompareTarget::Mod, union);
    }

    fn expect(&mut self, key: Bytes, target: CompareTarget, union: TargetUnion) {
        self.compare.push(Compare {
            result: CompareResult::Equal as i32,
            target: target as i32,
            key,
            range_end: Bytes::new(),
            target_union: Some(union),
        });
    }

    fn put(&mut self, key: Bytes, value: Bytes) {
        let put = PutRequest {
            key,
            value,
            ..Default::default()
        };
        self.op(Request::RequestPut(put));
    }

    pub(super) fn delete(&mut self, key: Bytes, range_end: Bytes) {
        let delete = DeleteRangeRequest {
            key,
            range_end,
            prev_kv: false,
        };
        self.op(Request::RequestDeleteRange(delete));
    }

    fn op(&mut self, request: Request) {
        let request = Some(request);
        self.ops.push(RequestOp { request });
    }

    pub(super) fn into_txn(self) -> TxnRequest {
        TxnRequest {
            compare: self.compare,
            success: self.ops,
            failure: Vec::new(),
        }
    }
}
