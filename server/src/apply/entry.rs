//! What a normal entry of the log carries.
//!
//! Etcd 3.5 and older still wrote requests of the v2 API for two things of their own: what a member says about
//! itself, and the cluster's version. Here they become the requests that replaced them in 3.6.
//!
//! Source: raft-log 1.1; etcd 3.6 `server/etcdserver/apply_v2.go`.

mod nesting;

use bytes::{Buf as _, Bytes};
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use retcd_proto::etcdserverpb::{InternalRaftRequest, Request, RequestHeader};
use retcd_proto::membershippb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest,
};
use serde_json::Value;

/// Of requests of the v2 API.
const METHODS: [&[u8]; 6] = [b"PUT", b"GET", b"POST", b"DELETE", b"QGET", b"SYNC"];

/// What an entry carries.
#[derive(Debug, PartialEq)]
pub(crate) enum Payload {
    Request(Box<InternalRaftRequest>),
    /// A v2 request that changes nothing that is left of the v2 store.
    Nothing,
}

/// Why an entry cannot be applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EntryError {
    #[error("it is not a request ({0})")]
    Decode(#[from] prost::DecodeError),
    #[error("it is not a request (a field is longer than what is there)")]
    Truncated,
    #[error("its transactions are nested deeper than can be read")]
    Nesting,
    #[error(
        "detected disallowed v2 WAL for stage --v2-deprecation=write-only: it changes the key {path:?} of the v2 API ({method}), which etcd left out in 3.6"
    )]
    V2 { method: String, path: String },
    #[error("it sets attributes of a member as {0:?}, which no member writes")]
    Attributes(String),
}

/// Transactions within each other in an entry of the log: what Go can read. It takes a stack of [`STACK`].
const COMMITTED_NESTING: usize = 5_000;

/// The same in what another member proposes, which is looked at on threads with a stack of the usual size.
const PROPOSED_NESTING: usize = 500;

/// Bytes of stack for the thread that applies entries; those that are never used cost nothing.
pub(crate) const STACK: usize = 64 << 20;

/// Reads an entry that is committed.
///
/// # Errors
/// For what etcd 3.5 to 3.7 do not write, and for changes of keys by the v2 API.
pub(crate) fn decode(data: Bytes) -> Result<Payload, EntryError> {
    decode_nested(data, COMMITTED_NESTING)
}

/// Reads an entry that is proposed.
///
/// # Errors
/// As [`decode`], and for transactions that are nested deeper than any client has a reason for.
pub(crate) fn decode_proposed(data: Bytes) -> Result<Payload, EntryError> {
    decode_nested(data, PROPOSED_NESTING)
}

fn decode_nested(data: Bytes, depth: usize) -> Result<Payload, EntryError> {
    match v2_request(&data) {
        None => Ok(Payload::Request(Box::new(nesting::decode(data, depth)?))),
        Some(request) => translate(Request::decode(request)?),
    }
}

/// Whether an entry holds a request that etcd 3.7 cannot read.
pub(crate) fn is_old(data: &Bytes) -> bool {
    v2_request(data).is_some()
}

/// The bytes of the v2 request: either the whole entry, whose field 2 is then the method, or field 2 itself.
/// No method reads as a request and no request as a method.
fn v2_request(data: &Bytes) -> Option<Bytes> {
    let mut rest = data.clone();
    while rest.has_remaining() {
        let (tag, wire) = decode_key(&mut rest).ok()?;
        if (tag, wire) == (2, WireType::LengthDelimited) {
            let len = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            if len > rest.len() {
                return None;
            }
            let field = rest.split_to(len);
            let is_method = METHODS.contains(&field.as_ref());
            return Some(if is_method { data.clone() } else { field });
        }
        skip_field(wire, tag, &mut rest, DecodeContext::default()).ok()?;
    }
    None
}

fn translate(r: Request) -> Result<Payload, EntryError> {
    let (method, path) = (r.method(), r.path());
    let mut request = InternalRaftRequest {
        header: Some(RequestHeader {
            id: r.id(),
            ..RequestHeader::default()
        }),
        ..InternalRaftRequest::default()
    };
    match method {
        "PUT" if path == "/0/version" => {
            request.cluster_version_set = Some(ClusterVersionSetRequest {
                ver: r.val().to_owned(),
            });
        }
        "PUT" if member_id(path).is_some() => {
            let attributes =
                attributes(r.val()).ok_or_else(|| EntryError::Attributes(r.val().to_owned()))?;
            request.cluster_member_attr_set = Some(ClusterMemberAttrSetRequest {
                member_id: member_id(path).unwrap_or_default(),
                member_attributes: Some(attributes),
            });
        }
        "GET" | "QGET" | "SYNC" => return Ok(Payload::Nothing),
        _ => {
            return Err(EntryError::V2 {
                method: method.to_owned(),
                path: path.to_owned(),
            });
        }
    }
    Ok(Payload::Request(Box::new(request)))
}

/// Of `/0/members/<id>/attributes`.
fn member_id(path: &str) -> Option<u64> {
    let id = path
        .strip_prefix("/0/members/")?
        .strip_suffix("/attributes")?;
    let is_hex = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(id, 16).ok().filter(|_| is_hex)
}

fn attributes(json: &str) -> Option<Attributes> {
    let json: Value = serde_json::from_str(json).ok()?;
    let json = json.as_object()?;
    let name = match json.get("name") {
        None | Some(Value::Null) => "",
        Some(name) => name.as_str()?,
    };
    let urls = match json.get("clientURLs") {
        None | Some(Value::Null) => Vec::new(),
        Some(urls) => {
            let urls = urls.as_array()?.iter();
            urls.map(|url| url.as_str().map(str::to_owned))
                .collect::<Option<_>>()?
        }
    };
    Some(Attributes {
        name: name.to_owned(),
        client_urls: urls,
    })
}

#[cfg(test)]
mod tests;
