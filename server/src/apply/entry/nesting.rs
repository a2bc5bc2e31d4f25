//! Requests whose transactions are nested deeper than prost reads.
//!
//! Prost ends at 100 levels of messages, Go at 10,000, and etcd lets a client nest as many transactions as
//! `--max-txn-ops` says (128 unless set). What a leader in Go has committed must be applied here, so each nested
//! transaction is decoded by itself. The recursion is ours, and bounded.

use bytes::{Buf as _, Bytes};
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use retcd_proto::etcdserverpb::request_op::Request;
use retcd_proto::etcdserverpb::{InternalRaftRequest, RequestOp, TxnRequest};

use super::EntryError;

/// Fields of `InternalRaftRequest`, `TxnRequest` and `RequestOp`.
const TXN: u32 = 6;
const SUCCESS: u32 = 2;
const FAILURE: u32 = 3;
const REQUEST_TXN: u32 = 4;

/// Reads a request in which transactions are nested at most `depth` deep.
pub(super) fn decode(data: Bytes, depth: usize) -> Result<InternalRaftRequest, EntryError> {
    // Nearly all of them. What is no request at all is looked at twice, which is rare.
    if let Ok(request) = InternalRaftRequest::decode(data.clone()) {
        return Ok(request);
    }
    let mut request = InternalRaftRequest::default();
    merge(&mut request, data, depth)?;
    Ok(request)
}

pub(super) fn merge(
    request: &mut InternalRaftRequest,
    data: Bytes,
    depth: usize,
) -> Result<(), EntryError> {
    each_field(data, |tag, content, whole| match (tag, content) {
        (TXN, Some(inner)) => {
            let txn = request.txn.get_or_insert_default();
            merge_txn(txn, inner, depth)
        }
        _ => Ok(request.merge(whole)?),
    })
}

fn merge_txn(txn: &mut TxnRequest, data: Bytes, depth: usize) -> Result<(), EntryError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(EntryError::Nesting);
    };
    each_field(data, |tag, content, whole| match (tag, content) {
        (SUCCESS | FAILURE, Some(inner)) => {
            let mut op = RequestOp::default();
            merge_op(&mut op, inner, depth)?;
            let list = match tag {
                SUCCESS => &mut txn.success,
                _ => &mut txn.failure,
            };
            list.push(op);
            Ok(())
        }
        _ => Ok(txn.merge(whole)?),
    })
}

/// As with every `oneof`, the last field counts, and one of the same kind adds to what is there.
fn merge_op(op: &mut RequestOp, data: Bytes, depth: usize) -> Result<(), EntryError> {
    each_field(data, |tag, content, whole| match (tag, content) {
        (REQUEST_TXN, Some(inner)) => {
            let mut txn = match op.request.take() {
                Some(Request::RequestTxn(txn)) => txn,
                _ => TxnRequest::default(),
            };
            merge_txn(&mut txn, inner, depth)?;
            op.request = Some(Request::RequestTxn(txn));
            Ok(())
        }
        _ => Ok(op.merge(whole)?),
    })
}

/// Calls `take` for each field of a message: its number, what is in it if it has a length, and the field as it
/// stands, which is a message with nothing else.
fn each_field(
    mut data: Bytes,
    mut take: impl FnMut(u32, Option<Bytes>, Bytes) -> Result<(), EntryError>,
) -> Result<(), EntryError> {
    while data.has_remaining() {
        let mut rest = data.clone();
        let (tag, wire) = decode_key(&mut rest)?;
        let content = if wire == WireType::LengthDelimited {
            let len = decode_varint(&mut rest)?;
            let len = usize::try_from(len).ok().filter(|len| *len <= rest.len());
            Some(rest.split_to(len.ok_or(EntryError::Truncated)?))
        } else {
            skip_field(wire, tag, &mut rest, DecodeContext::default())?;
            None
        };
        take(tag, content, data.slice(..data.len() - rest.len()))?;
        data = rest;
    }
    Ok(())
}
