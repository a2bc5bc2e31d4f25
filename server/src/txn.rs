//! Puts, deletes and transactions against the store, as the apply thread runs them, and
//! transactions that only read.
//!
//! Source: api-semantics 6.3-6.5; etcd `server/etcdserver/txn/`.

use std::cell::Cell;
use std::cmp::Ordering;

use bytes::Bytes;
use retcd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use retcd_proto::etcdserverpb::request_op::Request;
use retcd_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest,
};
use retcd_proto::reply::{DeleteRangeReply, Op, OpReply, PutReply, TxnReply};
use retcd_storage::mvcc::{self, Kv, RangeQuery, ReadView, WriteTxn};

use crate::error::Error;
use crate::range::{self, Source};

/// Why a request had no effect.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request itself cannot be served; the same on every member.
    Refused(Error),
    /// The store is damaged or cannot be read or written; this member must stop.
    Store(mvcc::Error),
}

impl From<mvcc::Error> for Failure {
    fn from(error: mvcc::Error) -> Self {
        match error {
            mvcc::Error::Compacted => Self::Refused(Error::Compacted),
            mvcc::Error::FutureRev => Self::Refused(Error::FutureRev),
            other => Self::Store(other),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// What a transaction needs of the leases.
pub(crate) trait Leases {
    /// A put may only attach its key to a lease that exists.
    fn exists(&self, id: i64) -> bool;

    /// The key belongs to this lease from now on, and no longer to the one before; to none if `id` is 0 or
    /// no lease's.
    fn attach(&mut self, key: &Bytes, id: i64);
}

/// What one request did, for the metrics.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) ranges: Cell<u64>,
    pub(crate) puts: Cell<u64>,
    pub(crate) deletes: Cell<u64>,
    /// Bytes of keys and values put.
    pub(crate) put_bytes: Cell<u64>,
}

fn add(counter: &Cell<u64>, n: usize) {
    counter.set(counter.get() + n as u64);
}

/// What a request needs beside the store.
pub(crate) struct Env<'a> {
    pub(crate) leases: &'a mut dyn Leases,
    pub(crate) tally: Tally,
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

/// The newest value of one key.
fn current(source: &impl Source, key: &[u8]) -> Result<Option<Kv>, mvcc::Error> {
    let found = source.range(&RangeQuery {
        key,
        end: &[],
        rev: 0,
        limit: 1,
        count_only: false,
        keys_only: false,
    })?;
    Ok(found.kvs.into_iter().next())
}

/// What a put must find before it may run.
fn check_put(source: &impl Source, env: &Env<'_>, r: &PutRequest) -> Result<(), Failure> {
    if r.lease != 0 && !env.leases.exists(r.lease) {
        return Err(Error::LeaseNotFound.into());
    }
    if (r.ignore_value || r.ignore_lease) && current(source, &r.key)?.is_none() {
        return Err(Error::KeyNotFound.into());
    }
    Ok(())
}

/// A put that was proposed by itself.
pub(crate) fn put(
    txn: &mut WriteTxn<'_>,
    env: &mut Env<'_>,
    r: PutRequest,
) -> Result<PutReply, Failure> {
    check_put(txn, env, &r)?;
    run_put(txn, env, r)
}

fn run_put(txn: &mut WriteTxn<'_>, env: &mut Env<'_>, r: PutRequest) -> Result<PutReply, Failure> {
    let previous = if r.prev_kv || r.ignore_value || r.ignore_lease {
        current(txn, &r.key)?
    } else {
        None
    };
    let (mut value, mut lease) = (r.value, r.lease);
    if let Some(kv) = &previous {
        if r.ignore_value {
            value = kv.value();
        }
        if r.ignore_lease {
            lease = kv.lease();
        }
    }
    add(&env.tally.puts, 1);
    add(&env.tally.put_bytes, r.key.len() + value.len());
    let revision = txn.put(r.key.clone(), value, lease)?;
    env.leases.attach(&r.key, lease);
    Ok(PutReply {
        header: header(revision),
        prev_kv: previous.filter(|_| r.prev_kv).map(|kv| kv.encoded),
    })
}

/// Deletes what the request names.
pub(crate) fn delete_range(
    txn: &mut WriteTxn<'_>,
    env: &mut Env<'_>,
    r: &DeleteRangeRequest,
) -> Result<DeleteRangeReply, Failure> {
    let deleted = txn.delete_range(&r.key, &r.range_end, r.prev_kv)?;
    add(&env.tally.deletes, 1);
    for kv in &deleted {
        env.leases.attach(&kv.key, 0);
    }
    Ok(DeleteRangeReply {
        header: header(revision(txn)),
        deleted: i64::try_from(deleted.len()).unwrap_or(i64::MAX),
        prev_kvs: if r.prev_kv {
            deleted.into_iter().map(|kv| kv.encoded).collect()
        } else {
            Vec::new()
        },
    })
}

/// The revision of a write transaction: one more than before as soon as it changed anything.
fn revision(txn: &WriteTxn<'_>) -> i64 {
    txn.rev() + i64::from(txn.changes() > 0)
}

/// Whether a transaction can be answered without the log: only ranges at its top level.
/// A nested transaction makes it a write, as in etcd.
pub(crate) fn is_read_only(r: &TxnRequest) -> bool {
    let is_range = |op: &RequestOp| matches!(op.request, Some(Request::RequestRange(_)));
    r.success.iter().chain(&r.failure).all(is_range)
}

/// Whether every range of a read-only transaction is serializable; true when it holds none.
pub(crate) fn is_serializable(r: &TxnRequest) -> bool {
    r.success
        .iter()
        .chain(&r.failure)
        .all(|op| match &op.request {
            Some(Request::RequestRange(r)) => r.serializable,
            _ => false,
        })
}

/// Runs a transaction that came through the log.
pub(crate) fn execute(
    txn: &mut WriteTxn<'_>,
    env: &mut Env<'_>,
    r: TxnRequest,
) -> Result<TxnReply, Failure> {
    let plan = Plan::new(txn, &r)?;
    check_ops(txn, env, &r, &plan)?;
    let mut reply = run(txn, env, r, &mut plan.steps())?;
    reply.header = header(revision(txn));
    Ok(reply)
}

/// Runs a transaction that only reads.
pub(crate) fn execute_read(view: &ReadView, r: &TxnRequest) -> Result<TxnReply, Failure> {
    let plan = Plan::new(view, r)?;
    let succeeded = plan.0[0];
    let ops = if succeeded { &r.success } else { &r.failure };
    let ranges = || {
        ops.iter().filter_map(|op| match &op.request {
            Some(Request::RequestRange(r)) => Some(r),
            _ => None,
        })
    };
    for r in ranges() {
        check_range(r, view.rev(), view.compact_rev())?;
    }
    let responses = ranges()
        .map(|r| {
            Ok(OpReply {
                response: Some(Op::Range(range::execute(view, r)?)),
            })
        })
        .collect::<Result<_, Failure>>()?;
    Ok(TxnReply {
        header: header(view.rev()),
        succeeded,
        responses,
    })
}

/// Which branch each transaction takes, the outer one first. All comparisons look at the state
/// before any write of the whole transaction.
struct Plan(Vec<bool>);

impl Plan {
    fn new(source: &impl Source, r: &TxnRequest) -> Result<Self, Failure> {
        let mut plan = Self(Vec::new());
        plan.add(source, r)?;
        Ok(plan)
    }

    fn add(&mut self, source: &impl Source, r: &TxnRequest) -> Result<(), Failure> {
        let mut holds = true;
        for c in &r.compare {
            if !compare(source, c)? {
                holds = false;
                break;
            }
        }
        self.0.push(holds);
        for op in if holds { &r.success } else { &r.failure } {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                self.add(source, nested)?;
            }
        }
        Ok(())
    }

    /// The branches in the order in which a walk over the taken operations meets them.
    fn steps(&self) -> Steps {
        self.0.clone().into_iter()
    }
}

type Steps = std::vec::IntoIter<bool>;

/// The next branch of a plan.
fn next(steps: &mut Steps) -> bool {
    steps
        .next()
        .expect("the plan was made by the same walk over the same request")
}

fn compare(source: &impl Source, c: &Compare) -> Result<bool, Failure> {
    let found = source.range(&RangeQuery {
        key: &c.key,
        end: &c.range_end,
        rev: 0,
        limit: 0,
        count_only: false,
        keys_only: false,
    })?;
    if found.kvs.is_empty() {
        return Ok(c.target != CompareTarget::Value as i32 && holds(c, None));
    }
    Ok(found.kvs.iter().all(|kv| holds(c, Some(kv))))
}

/// One comparison with one key, or with one that does not exist: all its numbers are 0 then.
fn holds(c: &Compare, kv: Option<&Kv>) -> bool {
    let number = |stored: fn(&Kv) -> i64, wanted: Option<i64>| {
        kv.map_or(0, stored).cmp(&wanted.unwrap_or_default())
    };
    // A union that does not fit the target counts as 0 or empty.
    let ordering = match (CompareTarget::try_from(c.target), &c.target_union) {
        (Ok(CompareTarget::Version), union) => number(
            |kv| kv.version,
            match union {
                Some(TargetUnion::Version(v)) => Some(*v),
                _ => None,
            },
        ),
        (Ok(CompareTarget::Create), union) => number(
            |kv| kv.created,
            match union {
                Some(TargetUnion::CreateRevision(v)) => Some(*v),
                _ => None,
            },
        ),
        (Ok(CompareTarget::Mod), union) => number(
            |kv| kv.modified.main,
            match union {
                Some(TargetUnion::ModRevision(v)) => Some(*v),
                _ => None,
            },
        ),
        (Ok(CompareTarget::Lease), union) => number(
            Kv::lease,
            match union {
                Some(TargetUnion::Lease(v)) => Some(*v),
                _ => None,
            },
        ),
        (Ok(CompareTarget::Value), union) => {
            let wanted: &[u8] = match union {
                Some(TargetUnion::Value(v)) => v,
                _ => &[],
            };
            kv.map_or_else(Default::default, Kv::value)
                .as_ref()
                .cmp(wanted)
        }
        (Err(_), _) => Ordering::Equal,
    };
    match CompareResult::try_from(c.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

/// Checks everything on the taken branches against the state before the transaction, so that it
/// runs whole or not at all. Of several failures the first one in the order of the operations
/// counts, as in etcd 3.6 and later.
fn check_ops(
    txn: &WriteTxn<'_>,
    env: &Env<'_>,
    r: &TxnRequest,
    plan: &Plan,
) -> Result<(), Failure> {
    walk(r, &mut plan.steps(), &mut |request| match request {
        Request::RequestPut(r) => check_put(txn, env, r),
        Request::RequestRange(r) => check_range(r, txn.rev(), txn.compact_rev()),
        _ => Ok(()),
    })
}

fn walk(
    r: &TxnRequest,
    steps: &mut Steps,
    check: &mut impl FnMut(&Request) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let ops = if next(steps) { &r.success } else { &r.failure };
    for request in ops.iter().filter_map(|op| op.request.as_ref()) {
        match request {
            Request::RequestTxn(nested) => walk(nested, steps, check)?,
            other => check(other)?,
        }
    }
    Ok(())
}

/// Whether the revision of a range can be read at all. Unlike outside of a transaction a negative
/// one does not mean the newest: it is below every compacted revision, of which the first is -1.
/// Source: etcd `server/etcdserver/txn/range.go`, `checkRange`.
fn check_range(r: &RangeRequest, rev: i64, compact_rev: i64) -> Result<(), Failure> {
    match r.revision {
        0 => Ok(()),
        asked if asked > rev => Err(Error::FutureRev.into()),
        asked if asked < compact_rev => Err(Error::Compacted.into()),
        _ => Ok(()),
    }
}

fn run(
    txn: &mut WriteTxn<'_>,
    env: &mut Env<'_>,
    r: TxnRequest,
    steps: &mut Steps,
) -> Result<TxnReply, Failure> {
    let succeeded = next(steps);
    let ops = if succeeded { r.success } else { r.failure };
    let mut responses = Vec::with_capacity(ops.len());
    for request in ops.into_iter().filter_map(|op| op.request) {
        let response = match request {
            Request::RequestRange(r) => {
                add(&env.tally.ranges, 1);
                Op::Range(range::execute(txn, &r)?)
            }
            Request::RequestPut(r) => Op::Put(run_put(txn, env, r)?),
            Request::RequestDeleteRange(r) => Op::DeleteRange(delete_range(txn, env, &r)?),
            Request::RequestTxn(r) => Op::Txn(run(txn, env, r, steps)?),
        };
        responses.push(OpReply {
            response: Some(response),
        });
    }
    Ok(TxnReply {
        header: Some(ResponseHeader::default()),
        succeeded,
        responses,
    })
}

#[cfg(test)]
mod tests;
