//! What a request adds to the backend, and whether there is room for it.
//!
//! Source: api-semantics 11; etcd `server/storage/quota.go`.

use retcd_proto::etcdserverpb::request_op::Request;
use retcd_proto::etcdserverpb::{InternalRaftRequest, PutRequest, RequestOp, TxnRequest};

/// Bytes that a stored pair takes beside its key and value.
const PUT_OVERHEAD: u64 = 256;
const LEASE_OVERHEAD: u64 = 64;

/// Estimated growth of the backend, in bytes. Requests that cost nothing always pass.
pub(crate) fn cost(r: &InternalRaftRequest) -> u64 {
    if let Some(r) = &r.put {
        return put(r);
    }
    if let Some(r) = &r.txn {
        return txn(r);
    }
    if r.lease_grant.is_some() {
        return LEASE_OVERHEAD;
    }
    0
}

pub(crate) fn put(r: &PutRequest) -> u64 {
    PUT_OVERHEAD + (r.key.len() + r.value.len()) as u64
}

pub(crate) fn txn(r: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| -> u64 {
        ops.iter()
            .map(|op| match &op.request {
                Some(Request::RequestPut(r)) => put(r),
                Some(Request::RequestTxn(r)) => txn(r),
                _ => 0,
            })
            .sum()
    };
    branch(&r.success).max(branch(&r.failure))
}
