//! Replies that carry stored key-value pairs as the bytes they were stored as.
//!
//! On the wire a nested message and a `bytes` field look alike: both are a length and that many
//! bytes. So each type here is byte-compatible with the `etcdserverpb` message it is named after,
//! but a server splices in encoded `mvccpb.KeyValue`s instead of decoding and encoding them.

use bytes::Bytes;

use crate::etcdserverpb::ResponseHeader;

/// `etcdserverpb.RangeResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RangeReply {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// Encoded `mvccpb.KeyValue`s.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub kvs: Vec<Bytes>,
    #[prost(bool, tag = "3")]
    pub more: bool,
    #[prost(int64, tag = "4")]
    pub count: i64,
}

/// `etcdserverpb.RangeStreamResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RangeStreamReply {
    #[prost(message, optional, tag = "1")]
    pub range_response: Option<RangeReply>,
}

/// `etcdserverpb.PutResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PutReply {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// An encoded `mvccpb.KeyValue`.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub prev_kv: Option<Bytes>,
}

/// `etcdserverpb.DeleteRangeResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeleteRangeReply {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(int64, tag = "2")]
    pub deleted: i64,
    /// Encoded `mvccpb.KeyValue`s.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub prev_kvs: Vec<Bytes>,
}

/// `etcdserverpb.TxnResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TxnReply {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    pub succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub responses: Vec<OpReply>,
}

/// `etcdserverpb.ResponseOp`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpReply {
    #[prost(oneof = "Op", tags = "1, 2, 3, 4")]
    pub response: Option<Op>,
}

/// The reply to one operation of a transaction.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Op {
    #[prost(message, tag = "1")]
    Range(RangeReply),
    #[prost(message, tag = "2")]
    Put(PutReply),
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRangeReply),
    #[prost(message, tag = "4")]
    Txn(TxnReply),
}

/// `etcdserverpb.WatchResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchReply {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(int64, tag = "2")]
    pub watch_id: i64,
    #[prost(bool, tag = "3")]
    pub created: bool,
    #[prost(bool, tag = "4")]
    pub canceled: bool,
    #[prost(int64, tag = "5")]
    pub compact_revision: i64,
    #[prost(string, tag = "6")]
    pub cancel_reason: String,
    #[prost(bool, tag = "7")]
    pub fragment: bool,
    /// Encoded [`EventReply`]s.
    #[prost(bytes = "bytes", repeated, tag = "11")]
    pub events: Vec<Bytes>,
}

/// `mvccpb.Event`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EventReply {
    /// 0: put, 1: delete.
    #[prost(int32, tag = "1")]
    pub r#type: i32,
    /// An encoded `mvccpb.KeyValue`.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub kv: Option<Bytes>,
    /// An encoded `mvccpb.KeyValue`.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub prev_kv: Option<Bytes>,
}
