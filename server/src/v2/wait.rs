//! `wait=true`: events as they come, and from history, by the service that watches of the v3 API use.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Frame;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::mvccpb;
use retcd_proto::mvccpb::event::EventType;
use retcd_storage::mvcc::RangeQuery;

use super::counts::Watcher;
use super::node::{Action, Event, Node, Stored};
use super::path::{Path, REMOVAL};
use super::refusal::{Code, Refusal};
use super::removal::Removal;
use super::{V2, answer};
use crate::client::{Client, WatchStream};
use crate::member::Member;
use crate::net::Body;

impl V2 {
    /// Answers a `wait`: the head at once, the event when there is one.
    pub(super) fn wait(
        &self,
        path: &Path,
        since: u64,
        recursive: bool,
        stream: bool,
    ) -> Result<Response<Body>, Refusal> {
        let member = self.member();
        let index = member.store.rev();
        let compacted = member.store.compact_rev();
        let since = match i64::try_from(since).unwrap_or(i64::MAX) {
            0 => index.saturating_add(1),
            since => since,
        };
        if since < compacted {
            let cause = format!("the requested history has been cleared [{compacted}/{since}]");
            return Err(Refusal::new(Code::EventIndexCleared, cause, index));
        }
        let (key, range_end) = match recursive {
            true => path.around(),
            false => (path.key(), Bytes::new()),
        };
        let watches = Client::new(Arc::downgrade(member)).watch(pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: since,
            prev_kv: true,
            ..Default::default()
        })?;
        let waiter = Waiter {
            member: Arc::downgrade(member),
            path: path.clone(),
            recursive,
            stream,
            watches,
            pending: VecDeque::new(),
            _counted: self.counts.watcher(),
        };
        let frames = stream::unfold(Some(waiter), |waiter| async {
            let mut waiter = waiter?;
            let event = waiter.next().await?;
            let frame = Frame::data(answer::line(&event));
            let more = waiter.stream.then_some(waiter);
            Some((Ok::<_, Infallible>(frame), more))
        });
        let body = Body::Streaming(Box::pin(StreamBody::new(frames)));
        let position = self.position(index);
        Ok(answer::of_keys(StatusCode::OK, position, body))
    }
}

/// Somebody who waits.
struct Waiter {
    /// Not to keep the member, and its files, open while nothing happens.
    member: Weak<Member>,
    path: Path,
    recursive: bool,
    stream: bool,
    watches: WatchStream,
    /// What came and is not looked at yet.
    pending: VecDeque<mvccpb::Event>,
    _counted: Watcher,
}

impl Waiter {
    /// The next event; none when the member stops, or when what comes next is compacted.
    async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(changes) = self.revision() {
                if let Some(event) = self.event(&changes) {
                    return Some(event);
                }
            }
            let reply = self.watches.next().await?.ok()?;
            if reply.canceled {
                return None;
            }
            self.pending.extend(reply.events);
        }
    }

    /// All pending changes of the first revision among them. Replies never cut one.
    fn revision(&mut self) -> Option<Vec<mvccpb::Event>> {
        let first = revision(self.pending.front()?);
        let others = self
            .pending
            .iter()
            .position(|event| revision(event) != first);
        let count = others.unwrap_or(self.pending.len());
        Some(self.pending.drain(..count).collect())
    }

    /// What the changes of one revision are to this waiter.
    fn event(&self, changes: &[mvccpb::Event]) -> Option<Event> {
        let written = changes.iter().find_map(|change| self.write(change));
        written.or_else(|| self.removal(changes))
    }

    /// Whether it waits for what happens at a path.
    fn wants(&self, path: &Path) -> bool {
        let below = self.recursive && self.path.rest(path).is_some() && !self.path.hides(path);
        *path == self.path || below
    }

    fn write(&self, change: &mvccpb::Event) -> Option<Event> {
        let kv = change.kv.as_ref()?;
        if change.r#type() != EventType::Put {
            return None;
        }
        let path = Path::of_key(&kv.key).filter(|path| self.wants(path))?;
        let (stored, node) = node(path.clone(), kv)?;
        let prev = change.prev_kv.as_ref().and_then(|kv| node_alone(path, kv));
        let at = stored.at;
        Some(Event {
            action: stored.action?,
            node: Some(node.shown(at)),
            prev: prev.map(|prev| prev.shown(at)),
        })
    }

    /// Nodes are removed one by one, or a directory with all that is in it: then those who wait for what was in it
    /// hear of the directory.
    fn removal(&self, changes: &[mvccpb::Event]) -> Option<Event> {
        let removed = |change: &mvccpb::Event| {
            let kv = change.kv.as_ref()?;
            let is_removed = change.r#type() == EventType::Delete;
            let path = Path::of_key(&kv.key).filter(|_| is_removed)?;
            let prev = change.prev_kv.as_ref();
            Some((path.clone(), prev.and_then(|kv| node_alone(path, kv))))
        };
        let removed: Vec<(Path, Option<Node>)> = changes.iter().filter_map(removed).collect();
        let revision = revision(changes.first()?);
        let find = |path: &Path| removed.iter().find(|(removed, _)| removed == path);
        let own = find(&self.path);
        if let Some(removal) = self.record(revision) {
            let path = Path::of(&removal.path);
            let within = path == self.path || path.rest(&self.path).is_some();
            if (within && own.is_none()) || (!within && !self.wants(&path)) {
                return None;
            }
            let node = find(&path).and_then(|(_, node)| node.as_ref());
            let value = node.and_then(|node| node.value.clone());
            return Some(removal.event(value).at(revision));
        }
        // There was no room for the record, or it is compacted, or a client of the v3 API removed the key.
        let first = removed.iter().filter(|(path, _)| self.wants(path));
        let (path, node) = own.or_else(|| first.min_by_key(|(path, _)| path.depth()))?;
        let node = node.clone().unwrap_or_else(|| {
            let stored = Stored {
                value: Some(String::new()),
                ..Stored::default()
            };
            Node::new(path.clone(), stored, 0, 0)
        });
        let removal = Removal::of(&node, Action::Delete, node.expires);
        Some(removal.event(node.value).at(revision))
    }

    /// What was written down of a removal at a revision.
    fn record(&self, revision: i64) -> Option<Removal> {
        let member = self.member.upgrade()?;
        let query = RangeQuery {
            key: REMOVAL,
            rev: revision,
            limit: 1,
            ..RangeQuery::default()
        };
        // An error: it is compacted by now.
        let kv = member.store.range(&query).ok()?.kvs.into_iter().next()?;
        if kv.modified.main != revision {
            return None;
        }
        serde_json::from_slice(&kv.value()).ok()
    }
}

fn revision(event: &mvccpb::Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn node(path: Path, kv: &mvccpb::KeyValue) -> Option<(Stored, Node)> {
    let stored = Stored::decode(&kv.value)?;
    let node = Node::new(path, stored.clone(), kv.create_revision, kv.mod_revision);
    Some((stored, node))
}

fn node_alone(path: Path, kv: &mvccpb::KeyValue) -> Option<Node> {
    node(path, kv).map(|(_, node)| node)
}
