//! Requests for keys: reads from this member's store, writes through the log.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::request::Parts;
use http::{Response, StatusCode};
use retcd_proto::etcdserverpb::request_op::Request as Op;
use retcd_proto::etcdserverpb::{DeleteRangeRequest, RequestOp, TxnRequest};
use retcd_storage::mvcc::{RangeQuery, ReadView};
use slog::{error, warn};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout_at};

use super::answer::{self, Position};
use super::node::Event;
use super::path::{self, Path, REMOVAL, deadlines_until, of_deadline_key};
use super::plan::{Plan, expiry, plan};
use super::refusal::{Failure, Refusal};
use super::request::{What, Write, parse};
use super::{V2, read_form, tree};
use crate::api::blocking;
use crate::error::Error;
use crate::net::{Body, Incoming};

/// Reads of more keys than this run beside the connection threads, so that they delay nobody.
const INLINE_KEYS: usize = 1000;

/// Writers of one member that are under way at once. Those of one path take turns: each would only see the others in
/// its way.
const TURNS: usize = 64;

/// How often it is looked for nodes that have reached their deadline; etcd's value.
const EXPIRY_LOOK: Duration = Duration::from_millis(500);
/// Nodes that are ended together.
const EXPIRY_BATCH: usize = 64;
/// The leader ends nodes. Others do it so much later, for a leader that does not serve this API.
const EXPIRY_GRACE: Duration = Duration::from_secs(5);

/// Who may write which path.
#[derive(Debug)]
pub(super) struct Turns([Mutex<()>; TURNS]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Turns {
    async fn take(&self, path: &Path, write: &Write) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        match write {
            // Whatever the directory: all of them count on.
            Write::Append(_) => path::ORDER.hash(&mut hasher),
            _ => path.hash(&mut hasher),
        }
        let at = hasher.finish() % TURNS as u64;
        self.0[at as usize].lock().await
    }
}

impl V2 {
    /// Answers a request below `/v2/keys`; `rest` is what follows, without escapes.
    pub(super) async fn keys(&self, request: &Parts, body: Incoming, rest: &str) -> Response<Body> {
        let method = &request.method;
        if let Some(refusal) = answer::only(method, "HEAD,GET,PUT,POST,DELETE") {
            return refusal;
        }
        let parsed = match read_form(request, body).await {
            Ok(form) => parse(method, rest, &form, self.now()),
            Err(refusal) => Err(refusal),
        };
        let answered = match parsed {
            Ok(request) => self.answer_keys(&request.path, request.what).await,
            Err(refusal) => Err(refusal),
        };
        let cluster = self.member().cluster_id;
        answer::of_cluster(
            cluster,
            answered.unwrap_or_else(|refusal| answer::refusal(&refusal)),
        )
    }

    async fn answer_keys(&self, path: &Path, what: What) -> Result<Response<Body>, Refusal> {
        match what {
            What::Get { recursive, quorum } => {
                let found = self
                    .get(path, recursive, quorum, answer::line::<Event>)
                    .await;
                self.counts.get.add(found.is_ok());
                let (body, index) = found?;
                let body = Body::Full(body);
                let position = self.position(index);
                Ok(answer::of_keys(StatusCode::OK, position, body))
            }
            What::Wait {
                since,
                recursive,
                stream,
            } => self.wait(path, since, recursive, stream),
            What::Write { write, quiet } => {
                let written = self.write(path, &write).await;
                self.counts.of(&write).add(written.is_ok());
                let mut event = written?;
                let status = match event.is_created() {
                    true => StatusCode::CREATED,
                    false => StatusCode::OK,
                };
                let index = event.node.as_ref().map_or(0, |node| node.modified);
                let removes = matches!(write, Write::Delete { .. } | Write::DeleteExpected(_));
                if quiet && !removes {
                    (event.node, event.prev) = (None, None);
                }
                let body = Body::Full(answer::line(&event));
                Ok(answer::of_keys(status, self.position(index), body))
            }
        }
    }

    /// Where raft is, with the index of an answer.
    pub(super) fn position(&self, index: i64) -> Position {
        let raft = self.member().node().status();
        Position {
            index,
            committed: raft.committed,
            term: raft.term,
        }
    }

    /// Reads a node and lets `show` make something of it; also says at which revision.
    pub(super) async fn get<T: Send + 'static>(
        &self,
        path: &Path,
        recursive: bool,
        quorum: bool,
        show: fn(&Event) -> T,
    ) -> Result<(T, i64), Refusal> {
        let member = self.member();
        if member.has_failed() {
            return Err(Error::Stopped.into());
        }
        if quorum {
            member.linearizable().await?;
        }
        loop {
            let view = member.store.view();
            let revision = view.rev();
            let now = self.now();
            let found = if tree::weight(&view, path) > INLINE_KEYS {
                let path = path.clone();
                let read =
                    move || tree::get(&view, &path, recursive, now).map(|event| show(&event));
                blocking(read).await?
            } else {
                tree::get(&view, path, recursive, now).map(|event| show(&event))
            };
            match found {
                Ok(shown) => return Ok((shown, revision)),
                Err(Failure::Stale) => {}
                Err(Failure::Refused(refusal)) => return Err(refusal),
                Err(Failure::Broken(reason)) => return Err(self.broken(reason)),
            }
        }
    }

    /// Writes, as often as it takes until nobody came in between.
    pub(super) async fn write(&self, path: &Path, write: &Write) -> Result<Event, Refusal> {
        let member = self.member();
        let started = Instant::now();
        let deadline = started + member.limits.request_timeout;
        let Ok(_turn) = timeout_at(deadline, self.turns.take(path, write)).await else {
            return Err(member.timeout_error(started).into());
        };
        // This member may be behind. A refusal counts if it has all that was committed when the request came.
        let mut is_current = false;
        while Instant::now() < deadline {
            match self.look(|view| plan(view, path, write, self.now())) {
                Ok(Plan { txn, event }) => {
                    if let Some(revision) = self.commit(txn).await? {
                        return Ok(event.at(revision));
                    }
                    // What came in between is applied here.
                    is_current = true;
                }
                Err(Failure::Stale) => {}
                Err(Failure::Refused(refusal)) if is_current => return Err(refusal),
                Err(Failure::Refused(_)) => {
                    member.linearizable().await?;
                    is_current = true;
                }
                Err(Failure::Broken(reason)) => return Err(self.broken(reason)),
            }
        }
        Err(member.timeout_error(started).into())
    }

    /// Lets `judge` see the newest state.
    fn look<T>(&self, judge: impl FnOnce(&ReadView) -> T) -> T {
        judge(&self.member().store.view())
    }

    /// Proposes a transaction; `None` if its comparisons did not hold.
    async fn commit(&self, mut txn: TxnRequest) -> Result<Option<i64>, Error> {
        let outcome = match self.api.own_txn(txn.clone()).await {
            // To remove something must be possible all the same. Those who wait hear of it without its kind.
            Err(Error::NoSpace) if drop_removal(&mut txn) => self.api.own_txn(txn).await,
            outcome => outcome,
        };
        let reply = outcome?;
        let revision = reply.header.map_or(0, |header| header.revision);
        Ok(reply.succeeded.then_some(revision))
    }

    pub(super) fn broken(&self, reason: String) -> Refusal {
        error!(self.member().logger, "failed to read the v2 tree from the store"; "error" => &reason);
        Error::Internal(reason).into()
    }

    /// Ends nodes when their time has come, as long as it is polled.
    pub(crate) async fn expire(&self) {
        loop {
            if self.end_some().await < EXPIRY_BATCH {
                sleep(EXPIRY_LOOK).await;
            }
        }
    }

    /// Ends some of the nodes that have reached their deadline, in that order; returns how many there were.
    pub(super) async fn end_some(&self) -> usize {
        let member = self.member();
        let raft = member.node().status();
        if raft.leader == 0 || member.is_learner() {
            return 0;
        }
        let now = self.now();
        let grace = match raft.leader == member.id {
            true => 0,
            false => i64::try_from(EXPIRY_GRACE.as_nanos()).unwrap_or(i64::MAX),
        };
        let (first, end) = deadlines_until(now.saturating_sub(grace));
        let due = self.look(|view| {
            view.range(&RangeQuery {
                key: &first,
                end: &end,
                limit: EXPIRY_BATCH,
                keys_only: true,
                ..RangeQuery::default()
            })
        });
        let due = match due {
            Ok(found) => found.kvs,
            Err(error) => {
                warn!(member.logger, "failed to look for v2 keys that have expired"; "error" => %error);
                return 0;
            }
        };
        let (ends, odd): (Vec<_>, Vec<_>) = due
            .iter()
            .map(|kv| of_deadline_key(&kv.key).ok_or(&kv.key))
            .partition(Result::is_ok);
        self.remove_odd(odd.into_iter().filter_map(Result::err))
            .await;
        let ends = ends.into_iter().filter_map(Result::ok);
        let ended = join_all(ends.map(|(deadline, path)| self.end(path, deadline))).await;
        // After a failure it rests.
        match ended.iter().all(|ended| *ended) {
            true => ended.len(),
            false => 0,
        }
    }

    /// Removes what somebody else wrote among the deadlines: it would be in the way of those behind it.
    async fn remove_odd(&self, keys: impl Iterator<Item = &Bytes>) {
        let success: Vec<_> = keys
            .map(|key| RequestOp {
                request: Some(Op::RequestDeleteRange(DeleteRangeRequest {
                    key: key.clone(),
                    ..Default::default()
                })),
            })
            .collect();
        if success.is_empty() {
            return;
        }
        let (logger, keys) = (&self.member().logger, success.len());
        warn!(logger, "removing keys that are no deadlines from among those of v2 keys"; "keys" => keys);
        let txn = TxnRequest {
            success,
            ..Default::default()
        };
        if let Err(error) = self.commit(txn).await {
            warn!(logger, "failed to remove keys that are no deadlines"; "error" => %error);
        }
    }

    /// Ends one node; `false` if that did not work out, so that it is tried again later.
    pub(super) async fn end(&self, path: Path, deadline: i64) -> bool {
        let planned = self.look(|view| expiry(view, &path, deadline, self.now()));
        let Ok((txn, is_due)) = planned else {
            return false;
        };
        // When somebody else was faster, or wrote the node, it is looked at once more.
        match self.commit(txn).await {
            Ok(Some(_)) if is_due => {
                self.counts.add_expired();
                true
            }
            Ok(ended) => ended.is_some(),
            Err(_) => false,
        }
    }
}

/// Leaves out what a removal says to those who wait; `false` if there is nothing of that.
fn drop_removal(txn: &mut TxnRequest) -> bool {
    let before = txn.success.len();
    txn.success.retain(|op: &RequestOp| match &op.request {
        Some(Op::RequestPut(put)) => put.key != REMOVAL,
        _ => true,
    });
    txn.success.len() < before
}
