//! The KV service.

use std::sync::{Arc, Weak};
use std::time::Instant;

use futures_util::{Stream, stream};
use prost::Message as _;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::request_op::Request;
use retcd_proto::mvccpb::KeyValue;
use retcd_proto::reply::{DeleteRangeReply, PutReply, RangeReply, RangeStreamReply, TxnReply};
use retcd_storage::mvcc::{self, RangeQuery, ReadView};

use super::{Api, Caller, blocking, check, unexpected};
use crate::error::Error;
use crate::loggable;
use crate::member::Member;
use crate::metrics::Op;
use crate::quota;
use crate::range;
use crate::slow;
use crate::txn::{self, Failure, Tally};
use crate::wait::Reply;

/// Reads of more keys than this run beside the connection threads, so that they delay nobody.
const INLINE_KEYS: usize = 1000;
/// Keys in the first message of a stream.
const FIRST_CHUNK: i64 = 10;

impl Api {
    pub(crate) async fn range(
        &self,
        caller: &Caller,
        r: pb::RangeRequest,
    ) -> Result<RangeReply, Error> {
        match r.serializable {
            true => self.admit_anywhere(caller)?,
            false => self.admit(caller)?,
        }
        self.admitted_range(r).await
    }

    /// A range for which the caller was let in.
    pub(super) async fn admitted_range(&self, r: pb::RangeRequest) -> Result<RangeReply, Error> {
        let started = Instant::now();
        check::range(&r)?;
        let reply = self.confirm_and_read(r.clone()).await;
        let took = started.elapsed();
        let durations = &self.member.metrics.server.request_duration;
        durations.observe(Some(Op::Range), reply.is_ok(), took.as_secs_f64());
        let member = &self.member;
        if took > member.limits.warning_apply {
            let outcome = reply.as_ref().map(slow::ranged);
            member.read_took(took, "read-only range ", loggable::range(&r), outcome);
        }
        reply
    }

    async fn confirm_and_read(&self, r: pb::RangeRequest) -> Result<RangeReply, Error> {
        if !r.serializable {
            self.member.linearizable().await?;
        }
        let mut reply = self.measured_range(r).await?;
        self.complete(&mut reply.header);
        Ok(reply)
    }

    /// One reading of a range, counted.
    async fn measured_range(&self, r: pb::RangeRequest) -> Result<RangeReply, Error> {
        let started = Instant::now();
        let reply = self.read_range(r).await;
        let metrics = &self.member.metrics;
        metrics.mvcc.ranges.inc();
        let took = started.elapsed().as_secs_f64();
        metrics.server.range_duration.observe(reply.is_ok(), took);
        reply
    }

    /// A range in chunks, all at the revision of the first; only the last one carries header,
    /// `more` and `count`.
    pub(crate) async fn range_stream(
        &self,
        caller: &Caller,
        r: pb::RangeRequest,
    ) -> Result<impl Stream<Item = Result<RangeStreamReply, Error>> + Send + use<>, Error> {
        self.admit_stream(caller)?;
        check::range_stream(&r)?;
        if !r.serializable {
            self.member.linearizable().await?;
        }
        let chunks = Chunks {
            member: Arc::downgrade(&self.member),
            left: r.limit,
            chunk: FIRST_CHUNK,
            count: None,
            revision: 0,
            r,
        };
        Ok(stream::try_unfold(Some(chunks), |chunks| async {
            match chunks {
                Some(chunks) => chunks.next().await.map(Some),
                None => Ok(None),
            }
        }))
    }

    pub(crate) async fn put(&self, caller: &Caller, r: pb::PutRequest) -> Result<PutReply, Error> {
        self.admit(caller)?;
        check::put(&r)?;
        let request = pb::InternalRaftRequest {
            put: Some(r),
            ..Default::default()
        };
        match self.write(request).await? {
            Reply::Put(mut reply) => {
                self.complete(&mut reply.header);
                Ok(reply)
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn delete_range(
        &self,
        caller: &Caller,
        r: pb::DeleteRangeRequest,
    ) -> Result<DeleteRangeReply, Error> {
        self.admit(caller)?;
        check::delete_range(&r)?;
        let request = pb::InternalRaftRequest {
            delete_range: Some(r),
            ..Default::default()
        };
        match self.write(request).await? {
            Reply::DeleteRange(mut reply) => {
                self.complete(&mut reply.header);
                Ok(reply)
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn txn(&self, caller: &Caller, r: pb::TxnRequest) -> Result<TxnReply, Error> {
        self.admit(caller)?;
        check::txn(&r, self.member.limits.max_txn_ops)?;
        let mut reply = if txn::is_read_only(&r) {
            self.confirm_and_read_txn(r).await?
        } else {
            let request = pb::InternalRaftRequest {
                txn: Some(r),
                ..Default::default()
            };
            match self.write(request).await? {
                Reply::Txn(reply) => reply,
                other => return Err(unexpected(&other)),
            }
        };
        self.complete(&mut reply.header);
        Ok(reply)
    }

    /// A transaction that this member made itself: it need not be checked, and has as many operations as it takes.
    pub(crate) async fn own_txn(&self, r: pb::TxnRequest) -> Result<TxnReply, Error> {
        self.admit_own()?;
        let request = pb::InternalRaftRequest {
            txn: Some(r),
            ..Default::default()
        };
        match self.write(request).await? {
            Reply::Txn(reply) => Ok(reply),
            other => Err(unexpected(&other)),
        }
    }

    async fn confirm_and_read_txn(&self, r: pb::TxnRequest) -> Result<TxnReply, Error> {
        if !txn::is_serializable(&r) {
            self.member.linearizable().await?;
        }
        // As in etcd, waiting for the others is no part of it.
        let started = Instant::now();
        let r = Arc::new(r);
        let reply = self.read_txn(r.clone()).await;
        let took = started.elapsed();
        let metrics = &self.member.metrics;
        let durations = &metrics.server.request_duration;
        durations.observe(Some(Op::ReadonlyTxn), reply.is_ok(), took.as_secs_f64());
        if let Ok(reply) = &reply {
            let ranges = Tally::default();
            ranges.ranges.set(reply.responses.len() as u64);
            metrics.count(&ranges);
        }
        if took > self.member.limits.warning_apply {
            let outcome = reply
                .as_ref()
                .map(|reply| format!("size:{}", reply.encoded_len()));
            self.member
                .read_took(took, "read-only txn ", loggable::txn(&r), outcome);
        }
        reply
    }

    pub(crate) async fn compact(
        &self,
        caller: &Caller,
        r: pb::CompactionRequest,
    ) -> Result<pb::CompactionResponse, Error> {
        self.admit(caller)?;
        let physical = r.physical;
        let request = pb::InternalRaftRequest {
            compaction: Some(r),
            ..Default::default()
        };
        let Reply::Compacted(revision) = self.member.propose(request).await? else {
            return Err(Error::Internal(
                "a compaction got another request's reply".into(),
            ));
        };
        if physical {
            let mut finished = self.member.compacted.subscribe();
            finished
                .wait_for(|done| *done >= revision)
                .await
                .map_err(|_| Error::Stopped)?;
            self.flush().await?;
        }
        Ok(pb::CompactionResponse {
            header: Some(self.member.header()),
        })
    }

    /// A write through the log, if there is room for it.
    pub(super) async fn write(&self, request: pb::InternalRaftRequest) -> Result<Reply, Error> {
        if !self.member.has_room(quota::cost(&request)) {
            self.raise_no_space().await;
            return Err(Error::NoSpace);
        }
        self.member.propose(request).await
    }

    /// Reads a checked request from the newest state.
    async fn read_range(&self, r: pb::RangeRequest) -> Result<RangeReply, Error> {
        let r = Arc::new(r);
        loop {
            let view = self.member.store.view();
            let result = if is_large(&view, &r) {
                let r = r.clone();
                blocking(move || range::execute(&view, &r)).await?
            } else {
                range::execute(&view, &r)
            };
            match result {
                // A compaction passed a read of the newest state; there is a newer one now.
                Err(mvcc::Error::Stale) => {}
                Ok(reply) => return Ok(reply),
                Err(error) => return Err(self.refused(error.into())),
            }
        }
    }

    async fn read_txn(&self, r: Arc<pb::TxnRequest>) -> Result<TxnReply, Error> {
        loop {
            let view = self.member.store.view();
            let large = r
                .success
                .iter()
                .chain(&r.failure)
                .any(|op| match &op.request {
                    Some(Request::RequestRange(r)) => is_large(&view, r),
                    _ => false,
                });
            let result = if large {
                let r = r.clone();
                blocking(move || txn::execute_read(&view, &r)).await?
            } else {
                txn::execute_read(&view, &r)
            };
            match result {
                Err(Failure::Store(mvcc::Error::Stale)) => {}
                Ok(reply) => return Ok(reply),
                Err(failure) => return Err(self.refused(failure)),
            }
        }
    }

    /// What a failed read tells its caller. Damage is also told to the operator.
    fn refused(&self, failure: Failure) -> Error {
        match failure {
            Failure::Refused(error) => error,
            Failure::Store(error) => {
                slog::error!(self.member.logger, "failed to read from the store"; "error" => %error);
                Error::Internal(error.to_string())
            }
        }
    }

    /// Completes a header that holds only a revision.
    fn complete(&self, header: &mut Option<pb::ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(self.member.header_at(revision));
    }
}

/// Whether a read looks at so many keys that others would notice.
fn is_large(view: &ReadView, r: &pb::RangeRequest) -> bool {
    let bounded_by_limit =
        (1..=INLINE_KEYS as i64).contains(&r.limit) && r.sort_order == 0 && !range::has_filters(r);
    if r.range_end.is_empty() || bounded_by_limit || (r.count_only && r.revision <= 0) {
        return false;
    }
    let count = view.range(&RangeQuery {
        key: &r.key,
        end: &r.range_end,
        rev: 0,
        limit: 0,
        count_only: true,
        keys_only: true,
    });
    count.is_ok_and(|found| found.count > INLINE_KEYS)
}

/// A range that is being streamed.
struct Chunks {
    /// Not to keep the member, and its files, open between two messages.
    member: Weak<Member>,
    /// The request; its key moves on with every chunk.
    r: pb::RangeRequest,
    /// Keys still wanted; 0: no limit.
    left: i64,
    /// Keys of the next chunk.
    chunk: i64,
    /// The total, as the first chunk saw it.
    count: Option<i64>,
    /// Revision of the header, as the first chunk saw it.
    revision: i64,
}

impl Chunks {
    /// The next message, and what is left after it.
    async fn next(mut self) -> Result<(RangeStreamReply, Option<Self>), Error> {
        let member = self.member.upgrade().filter(|member| !member.is_ending());
        let api = Api::new(member.ok_or(Error::Stopped)?);
        let limit = match self.left {
            left if left > 0 => self.chunk.min(left),
            _ => self.chunk,
        };
        let mut reply = api
            .measured_range(pb::RangeRequest {
                limit,
                ..self.r.clone()
            })
            .await?;
        if self.count.is_none() {
            self.count = Some(reply.count);
            self.revision = reply.header.as_ref().map_or(0, |header| header.revision);
            if self.r.revision <= 0 {
                self.r.revision = self.revision;
            }
        }
        let sent = reply.kvs.len() as i64;
        let limit_reached = self.left > 0 && sent >= self.left;
        let next_key = match reply.kvs.last() {
            Some(last) if reply.more && !limit_reached => Some(key_after(last)?),
            _ => None,
        };
        let Some(next_key) = next_key else {
            reply.count = self.count.unwrap_or_default();
            reply.header = Some(api.member.header_at(self.revision));
            return Ok((message(reply), None));
        };
        self.adapt(&reply, api.member.limits.max_request_bytes);
        self.r.key = next_key;
        self.left = (self.left - sent).max(0);
        let reply = RangeReply {
            kvs: reply.kvs,
            ..RangeReply::default()
        };
        Ok((message(reply), Some(self)))
    }

    /// Doubles the chunk while messages are small, halves it when they are larger than `target` bytes.
    fn adapt(&mut self, reply: &RangeReply, target: usize) {
        let bytes: usize = reply.kvs.iter().map(bytes::Bytes::len).sum();
        if bytes < target / 2 {
            self.chunk = self.chunk.saturating_mul(2);
        } else if bytes > target {
            self.chunk = (self.chunk / 2).max(1);
        }
    }
}

fn message(reply: RangeReply) -> RangeStreamReply {
    RangeStreamReply {
        range_response: Some(reply),
    }
}

/// The first key behind that of an encoded pair.
fn key_after(encoded: &bytes::Bytes) -> Result<bytes::Bytes, Error> {
    let pair = KeyValue::decode(encoded.clone())
        .map_err(|error| Error::Internal(format!("a stored pair cannot be decoded: {error}")))?;
    let mut key = pair.key.to_vec();
    key.push(0);
    Ok(key.into())
}
