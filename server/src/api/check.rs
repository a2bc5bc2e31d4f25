//! What can be refused without looking at any state, before a request is proposed or read.
//!
//! Source: etcd `server/etcdserver/api/v3rpc/key.go`; api-semantics 6.

use std::collections::HashSet;

use bytes::Bytes;
use retcd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use retcd_proto::etcdserverpb::request_op::Request;
use retcd_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use crate::error::Error;

pub(crate) fn range(r: &RangeRequest) -> Result<(), Error> {
    if r.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if SortOrder::try_from(r.sort_order).is_err() || SortTarget::try_from(r.sort_target).is_err() {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

/// `RangeStream` sends chunks in key order as it reads them, so it can neither sort nor filter.
pub(crate) fn range_stream(r: &RangeRequest) -> Result<(), Error> {
    range(r)?;
    let in_key_order = match r.sort_order() {
        SortOrder::None => true,
        SortOrder::Ascend => r.sort_target() == SortTarget::Key,
        SortOrder::Descend => false,
    };
    if !in_key_order {
        return Err(Error::StreamSortOrder);
    }
    if crate::range::has_filters(r) {
        return Err(Error::StreamRevisionFilter);
    }
    Ok(())
}

pub(crate) fn put(r: &PutRequest) -> Result<(), Error> {
    if r.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if r.ignore_value && !r.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if r.ignore_lease && r.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

pub(crate) fn delete_range(r: &DeleteRangeRequest) -> Result<(), Error> {
    if r.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    Ok(())
}

/// Checks a transaction and all that is nested in it; `max_ops` bounds each of its three lists.
pub(crate) fn txn(r: &TxnRequest, max_ops: usize) -> Result<(), Error> {
    shape(r, max_ops, MAX_NESTING)?;
    touched(&r.success)?;
    touched(&r.failure)?;
    Ok(())
}

/// Transactions inside each other. Each takes two of the 100 levels that a message may have when it
/// is decoded, and in the log the whole is one level deeper than on the wire: whatever is proposed
/// must be readable there, now and at every restart.
const MAX_NESTING: usize = 40;

fn shape(r: &TxnRequest, max_ops: usize, max_nesting: usize) -> Result<(), Error> {
    let ops = r.compare.len().max(r.success.len()).max(r.failure.len());
    if ops > max_ops {
        return Err(Error::TooManyOps);
    }
    if r.compare.iter().any(|c| c.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in r.success.iter().chain(&r.failure) {
        match &op.request {
            Some(Request::RequestRange(r)) => range(r)?,
            Some(Request::RequestPut(r)) => put(r)?,
            Some(Request::RequestDeleteRange(r)) => delete_range(r)?,
            Some(Request::RequestTxn(_)) if max_nesting == 0 => return Err(Error::NestedTooDeep),
            Some(Request::RequestTxn(r)) => shape(r, max_ops - ops, max_nesting - 1)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// What one delete names, as etcd looks at it here: the end of the key space, one zero byte, is taken
/// literally, so that a delete up to there clashes with no put.
#[derive(Clone, Copy)]
struct Deleted<'a> {
    key: &'a [u8],
    end: &'a [u8],
}

impl Deleted<'_> {
    fn contains(&self, key: &[u8]) -> bool {
        if self.end.is_empty() {
            key == self.key
        } else {
            key >= self.key && key < self.end
        }
    }
}

/// The keys that a list of operations may put, and the ranges that it may delete.
#[derive(Default)]
struct Touched<'a> {
    puts: HashSet<&'a Bytes>,
    deletes: Vec<Deleted<'a>>,
}

impl<'a> Touched<'a> {
    fn add_put(&mut self, key: &'a Bytes) -> Result<(), Error> {
        if !self.puts.insert(key) {
            return Err(Error::DuplicateKey);
        }
        self.check_deletes(key)
    }

    fn check_deletes(&self, key: &Bytes) -> Result<(), Error> {
        if self.deletes.iter().any(|range| range.contains(key)) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }
}

/// Refuses a list that puts a key twice or puts a key that it deletes. The two branches of one
/// nested transaction never run both, so they may put the same key.
fn touched(ops: &[RequestOp]) -> Result<Touched<'_>, Error> {
    let mut all = Touched::default();
    let requests = || ops.iter().filter_map(|op| op.request.as_ref());

    for request in requests() {
        if let Request::RequestDeleteRange(r) = request {
            all.deletes.push(Deleted {
                key: &r.key,
                end: &r.range_end,
            });
        }
    }
    for request in requests() {
        if let Request::RequestTxn(r) = request {
            let then = touched(&r.success)?;
            let otherwise = touched(&r.failure)?;
            for &key in &then.puts {
                all.add_put(key)?;
            }
            for &key in &otherwise.puts {
                if then.puts.contains(key) {
                    all.check_deletes(key)?;
                } else {
                    all.add_put(key)?;
                }
            }
            all.deletes.extend(then.deletes);
            all.deletes.extend(otherwise.deletes);
        }
    }
    for request in requests() {
        if let Request::RequestPut(r) = request {
            all.add_put(&r.key)?;
        }
    }
    Ok(all)
}
