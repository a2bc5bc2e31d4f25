//! Requests in few words. What is not said is zero; `Type { field, ..base }` says more.

use bytes::Bytes;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::compare::TargetUnion;
use retcd_proto::etcdserverpb::request_op::Request;

pub(crate) use retcd_proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DefragmentRequest, DeleteRangeRequest, HashKvRequest, HashRequest,
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, MemberListRequest, PutRequest, RangeRequest, StatusRequest, TxnRequest,
};

pub(crate) const NONE: i32 = 0;
pub(crate) const ASCEND: i32 = 1;
pub(crate) const DESCEND: i32 = 2;

pub(crate) const KEY: i32 = 0;
pub(crate) const VERSION: i32 = 1;
pub(crate) const CREATE: i32 = 2;
pub(crate) const MOD: i32 = 3;
pub(crate) const VALUE: i32 = 4;

pub(crate) const EQUAL: i32 = 0;
pub(crate) const GREATER: i32 = 1;
pub(crate) const LESS: i32 = 2;
pub(crate) const NOT_EQUAL: i32 = 3;

pub(crate) fn bytes(of: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(of.as_ref())
}

/// One key.
pub(crate) fn one(key: impl AsRef<[u8]>) -> RangeRequest {
    RangeRequest { key: bytes(key), ..Default::default() }
}

/// The keys in `[key, end)`; `"\0"` as end: all from `key` on.
pub(crate) fn range(key: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> RangeRequest {
    RangeRequest { key: bytes(key), range_end: bytes(end), ..Default::default() }
}

/// All keys.
pub(crate) fn all() -> RangeRequest {
    range("\0", "\0")
}

pub(crate) fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), ..Default::default() }
}

pub(crate) fn delete(key: impl AsRef<[u8]>) -> DeleteRangeRequest {
    DeleteRangeRequest { key: bytes(key), ..Default::default() }
}

pub(crate) fn delete_range(key: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> DeleteRangeRequest {
    DeleteRangeRequest { key: bytes(key), range_end: bytes(end), ..Default::default() }
}

pub(crate) fn compact(revision: i64) -> CompactionRequest {
    CompactionRequest { revision, physical: false }
}

pub(crate) fn hash_kv(revision: i64) -> HashKvRequest {
    HashKvRequest { revision }
}

pub(crate) fn txn(
    compare: impl IntoIterator<Item = pb::Compare>,
    success: impl IntoIterator<Item = pb::RequestOp>,
    failure: impl IntoIterator<Item = pb::RequestOp>,
) -> TxnRequest {
    TxnRequest {
        compare: compare.into_iter().collect(),
        success: success.into_iter().collect(),
        failure: failure.into_iter().collect(),
    }
}

/// A transaction without conditions.
pub(crate) fn batch(success: impl IntoIterator<Item = pb::RequestOp>) -> TxnRequest {
    txn([], success, [])
}

/// A request as an operation of a transaction.
pub(crate) trait Op {
    fn op(self) -> pb::RequestOp;
}

macro_rules! op {
    ($($request:ident => $variant:ident,)*) => {$(
        impl Op for $request {
            fn op(self) -> pb::RequestOp {
                pb::RequestOp { request: Some(Request::$variant(self)) }
            }
        }
    )*};
}

op! {
    RangeRequest => RequestRange,
    PutRequest => RequestPut,
    DeleteRangeRequest => RequestDeleteRange,
    TxnRequest => RequestTxn,
}

/// An operation that says nothing.
pub(crate) const fn no_op() -> pb::RequestOp {
    pb::RequestOp { request: None }
}

/// A condition. The target follows from what is compared with.
pub(crate) fn when(key: impl AsRef<[u8]>, result: i32, with: TargetUnion) -> pb::Compare {
    let target = match with {
        TargetUnion::Version(_) => 0,
        TargetUnion::CreateRevision(_) => 1,
        TargetUnion::ModRevision(_) => 2,
        TargetUnion::Value(_) => 3,
        TargetUnion::Lease(_) => 4,
    };
    pb::Compare { key: bytes(key), result, target, target_union: Some(with), ..Default::default() }
}

pub(crate) const fn version(n: i64) -> TargetUnion {
    TargetUnion::Version(n)
}

pub(crate) const fn created(n: i64) -> TargetUnion {
    TargetUnion::CreateRevision(n)
}

pub(crate) const fn modified(n: i64) -> TargetUnion {
    TargetUnion::ModRevision(n)
}

pub(crate) fn value(v: impl AsRef<[u8]>) -> TargetUnion {
    TargetUnion::Value(bytes(v))
}

pub(crate) const fn lease(n: i64) -> TargetUnion {
    TargetUnion::Lease(n)
}

/// That a key has a lease.
pub(crate) fn lease_is(key: &str, id: i64) -> pb::Compare {
    when(key, EQUAL, lease(id))
}
