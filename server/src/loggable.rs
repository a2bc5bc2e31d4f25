//! Requests as log lines show them, in the two notations of Go's protobuf that etcd's log has: the old one where sizes
//! stand in place of values, the new one for all else. Unlike etcd's, long ones are cut.
//!
//! Source: etcd 3.7 `api/etcdserverpb/raft_internal_stringer.go`; golang/protobuf 1.5 `proto/text_encode.go`, protobuf-go
//! 1.36 `internal/encoding/text/encode.go`.

use std::fmt::{Display, Write as _};

use prost::Message as _;
use retcd_proto::etcdserverpb as pb;

use crate::wait::Reply;

/// What is longer is cut: a transaction may be of megabytes.
const MAX_BYTES: usize = 2 << 10;

/// A request that came through the log.
pub(crate) fn logged(r: &pb::InternalRaftRequest) -> String {
    let id = r.header.as_ref().map_or(r.id, |header| header.id);
    let redacted = |what: String| format!("header:<ID:{id} > {what}");
    let plain = |name, text| format!("header:{{ID:{id}}} {name}:{{{text}}}");
    let mut fields = Fields::new(Notation::New);
    cut(if let Some(r) = &r.put {
        redacted(format!("put:<{}>", put_text(r)))
    } else if let Some(r) = &r.txn {
        redacted(format!("txn:<{}>", txn_text(r)))
    } else if let Some(r) = &r.lease_grant {
        let (ttl, id) = (r.ttl, r.id);
        redacted(format!("lease_grant:<ttl:{ttl}-second id:{id:016x}>"))
    } else if let Some(r) = &r.lease_revoke {
        redacted(format!("lease_revoke:<id:{:016x}>", r.id))
    } else if let Some(r) = &r.delete_range {
        plain("delete_range", delete_range_text(r))
    } else if let Some(r) = &r.range {
        plain("range", range_text(r))
    } else if let Some(r) = &r.compaction {
        fields.number("revision", r.revision);
        fields.flag("physical", r.physical);
        plain("compaction", fields.text)
    } else if let Some(r) = &r.lease_checkpoint {
        fields.number("size", r.encoded_len() as i64);
        plain("lease_checkpoint", fields.text)
    } else if let Some(r) = &r.alarm {
        fields.choice("action", r.action, &["GET", "ACTIVATE", "DEACTIVATE"]);
        if r.member_id != 0 {
            fields.put("memberID", r.member_id);
        }
        fields.choice("alarm", r.alarm, &["NONE", "NOSPACE", "CORRUPT"]);
        plain("alarm", fields.text)
    } else {
        // Users, roles, members and versions: their names are in lines of their own.
        fields.number("size", r.encoded_len() as i64);
        plain("other", fields.text)
    })
}

/// A range.
pub(crate) fn range(r: &pb::RangeRequest) -> String {
    cut(range_text(r))
}

/// A write of one key, with the size of the value in its place.
pub(crate) fn put(r: &pb::PutRequest) -> String {
    cut(put_text(r))
}

/// A deletion.
pub(crate) fn delete_range(r: &pb::DeleteRangeRequest) -> String {
    cut(delete_range_text(r))
}

/// A transaction, with sizes in place of values.
pub(crate) fn txn(r: &pb::TxnRequest) -> String {
    cut(txn_text(r))
}

/// What came of a request: the size of its reply.
pub(crate) fn reply(reply: &Reply) -> String {
    let size = match reply {
        Reply::Put(reply) => reply.encoded_len(),
        Reply::DeleteRange(reply) => reply.encoded_len(),
        Reply::Txn(reply) => reply.encoded_len(),
        Reply::Alarm(reply) => reply.encoded_len(),
        _ => 0,
    };
    format!("size:{size}")
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_BYTES {
        text.truncate(text.floor_char_boundary(MAX_BYTES));
        text.push_str("...");
    }
    text
}

/// Fields that are not at their default, in the order of their numbers.
struct Fields {
    text: String,
    notation: Notation,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Notation {
    /// A space after each field; bytes beyond ASCII are octal.
    Old,
    /// A space between fields; text is text.
    New,
}

impl Fields {
    fn new(notation: Notation) -> Self {
        Self {
            text: String::new(),
            notation,
        }
    }

    fn put(&mut self, name: &str, value: impl Display) {
        let _ = match self.notation {
            Notation::Old => write!(self.text, "{name}:{value} "),
            Notation::New if self.text.is_empty() => write!(self.text, "{name}:{value}"),
            Notation::New => write!(self.text, " {name}:{value}"),
        };
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        match (self.notation, value) {
            (_, []) => {}
            (Notation::Old, value) => self.put(name, old_quoted(shown(value))),
            (Notation::New, value) => self.put(name, quoted(shown(value))),
        }
    }

    fn number(&mut self, name: &str, value: i64) {
        if value != 0 {
            self.put(name, value);
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.put(name, value);
        }
    }

    /// A value by its name, but for the first of them.
    fn choice(&mut self, name: &str, value: i32, names: &[&str]) {
        match usize::try_from(value).ok().and_then(|at| names.get(at)) {
            Some(_) if value == 0 => {}
            Some(value) => self.put(name, value),
            None => self.put(name, value),
        }
    }
}

/// What of a key has room.
fn shown(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(MAX_BYTES + 1)]
}

/// The escapes of both notations, if `c` has one.
fn escape(c: char) -> Option<&'static str> {
    Some(match c {
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '"' => "\\\"",
        '\\' => "\\\\",
        _ => return None,
    })
}

fn old_quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for byte in bytes {
        let _ = match (escape(char::from(*byte)), byte) {
            (Some(escape), _) => text.write_str(escape),
            (None, b' '..=b'~') => text.write_char(char::from(*byte)),
            (None, _) => write!(text, "\\{byte:03o}"),
        };
    }
    text.push('"');
    text
}

fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let _ = match (escape(c), c) {
                (Some(escape), _) => text.write_str(escape),
                (None, '\0'..' ' | '\x7f') => write!(text, "\\x{:02x}", u32::from(c)),
                (None, '\u{80}'..='\u{9f}') => write!(text, "\\u{:04x}", u32::from(c)),
                (None, _) => text.write_char(c),
            };
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
    text
}

fn range_text(r: &pb::RangeRequest) -> String {
    let mut fields = Fields::new(Notation::New);
    fields.bytes("key", &r.key);
    fields.bytes("range_end", &r.range_end);
    fields.number("limit", r.limit);
    fields.number("revision", r.revision);
    let orders = ["NONE", "ASCEND", "DESCEND"];
    fields.choice("sort_order", r.sort_order, &orders);
    let targets = ["KEY", "VERSION", "CREATE", "MOD", "VALUE"];
    fields.choice("sort_target", r.sort_target, &targets);
    fields.flag("serializable", r.serializable);
    fields.flag("keys_only", r.keys_only);
    fields.flag("count_only", r.count_only);
    fields.number("min_mod_revision", r.min_mod_revision);
    fields.number("max_mod_revision", r.max_mod_revision);
    fields.number("min_create_revision", r.min_create_revision);
    fields.number("max_create_revision", r.max_create_revision);
    fields.text
}

/// With the size of the value in its place.
fn put_text(r: &pb::PutRequest) -> String {
    let mut fields = Fields::new(Notation::Old);
    fields.bytes("key", &r.key);
    fields.number("value_size", r.value.len() as i64);
    fields.number("lease", r.lease);
    fields.flag("prev_kv", r.prev_kv);
    fields.flag("ignore_value", r.ignore_value);
    fields.flag("ignore_lease", r.ignore_lease);
    fields.text
}

fn delete_range_text(r: &pb::DeleteRangeRequest) -> String {
    let mut fields = Fields::new(Notation::New);
    fields.bytes("key", &r.key);
    fields.bytes("range_end", &r.range_end);
    fields.flag("prev_kv", r.prev_kv);
    fields.text
}

/// With sizes in place of values.
fn txn_text(r: &pb::TxnRequest) -> String {
    format!(
        "compare:<{}> success:<{}> failure:<{}>",
        list(&r.compare, compare),
        list(&r.success, operation),
        list(&r.failure, operation)
    )
}

/// As many as are shown.
fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    let mut text = String::new();
    for item in items {
        if text.len() > MAX_BYTES {
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&show(item));
    }
    text
}

fn compare(c: &pb::Compare) -> String {
    use pb::compare::TargetUnion;
    let mut fields = Fields::new(match &c.target_union {
        Some(TargetUnion::Value(_)) => Notation::Old,
        _ => Notation::New,
    });
    let results = ["EQUAL", "GREATER", "LESS", "NOT_EQUAL"];
    fields.choice("result", c.result, &results);
    let targets = ["VERSION", "CREATE", "MOD", "VALUE", "LEASE"];
    fields.choice("target", c.target, &targets);
    fields.bytes("key", &c.key);
    match &c.target_union {
        Some(TargetUnion::Version(version)) => fields.put("version", version),
        Some(TargetUnion::CreateRevision(revision)) => fields.put("create_revision", revision),
        Some(TargetUnion::ModRevision(revision)) => fields.put("mod_revision", revision),
        Some(TargetUnion::Value(value)) => fields.number("value_size", value.len() as i64),
        Some(TargetUnion::Lease(lease)) => fields.put("lease", lease),
        None => {}
    }
    fields.bytes("range_end", &c.range_end);
    fields.text
}

fn operation(op: &pb::RequestOp) -> String {
    use pb::request_op::Request;
    match &op.request {
        Some(Request::RequestPut(r)) => format!("request_put:<{}>", put_text(r)),
        Some(Request::RequestTxn(r)) => format!("request_txn:<{}>", txn_text(r)),
        Some(Request::RequestRange(r)) => format!("request_range:{{{}}}", range_text(r)),
        Some(Request::RequestDeleteRange(r)) => {
            format!("request_delete_range:{{{}}}", delete_range_text(r))
        }
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_sizes_and_defaults_are_left_out() {
        let lock = pb::TxnRequest {
            compare: vec![
                pb::Compare {
                    target: pb::compare::CompareTarget::Create.into(),
                    key: "l\0\"".into(),
                    target_union: Some(pb::compare::TargetUnion::CreateRevision(0)),
                    ..Default::default()
                },
                pb::Compare {
                    result: pb::compare::CompareResult::NotEqual.into(),
                    target: pb::compare::CompareTarget::Value.into(),
                    key: "k".into(),
                    target_union: Some(pb::compare::TargetUnion::Value("secret".into())),
                    ..Default::default()
                },
            ],
            success: vec![pb::RequestOp {
                request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
                    key: "k".into(),
                    value: "secret".into(),
                    lease: 9,
                    ..Default::default()
                })),
            }],
            failure: vec![pb::RequestOp {
                request: Some(pb::request_op::Request::RequestRange(pb::RangeRequest {
                    key: "k".into(),
                    sort_order: pb::range_request::SortOrder::Descend.into(),
                    serializable: true,
                    ..Default::default()
                })),
            }],
        };
        assert_eq!(
            txn(&lock),
            "compare:<target:CREATE key:\"l\\x00\\\"\" create_revision:0 \
             result:NOT_EQUAL target:VALUE key:\"k\" value_size:6 > \
             success:<request_put:<key:\"k\" value_size:6 lease:9 >> \
             failure:<request_range:{key:\"k\" sort_order:DESCEND serializable:true}>"
        );
    }

    #[test]
    fn bytes_are_escaped_as_go_does() {
        let bytes = b"a \n\t\"\\\x01\x7f\xc3\xa9\xc2\x85\xff";
        let old = r#""a \n\t\"\\\001\177\303\251\302\205\377""#;
        let new = "\"a \\n\\t\\\"\\\\\\x01\\x7f\u{e9}\\u0085\\xff\"";
        assert_eq!(old_quoted(bytes), old);
        assert_eq!(quoted(bytes), new);
    }

    #[test]
    fn requests_of_the_log_are_shown_as_etcd_does() {
        let header = Some(pb::RequestHeader {
            id: 7,
            ..Default::default()
        });
        let put = pb::InternalRaftRequest {
            header: header.clone(),
            put: Some(pb::PutRequest {
                key: "a\"b".into(),
                value: "secret".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(
            logged(&put),
            r#"header:<ID:7 > put:<key:"a\"b" value_size:6 >"#
        );
        let compaction = pb::InternalRaftRequest {
            header,
            compaction: Some(pb::CompactionRequest {
                revision: 5,
                physical: true,
            }),
            ..Default::default()
        };
        assert_eq!(
            logged(&compaction),
            "header:{ID:7} compaction:{revision:5 physical:true}"
        );
    }

    #[test]
    fn large_requests_are_cut() {
        let put = pb::PutRequest {
            key: "k".repeat(1000).into(),
            ..Default::default()
        };
        let many = pb::TxnRequest {
            success: vec![
                pb::RequestOp {
                    request: Some(pb::request_op::Request::RequestPut(put)),
                };
                100_000
            ],
            ..Default::default()
        };
        let long = pb::RangeRequest {
            key: vec![0xff; 1 << 20].into(),
            ..Default::default()
        };
        for text in [txn(&many), range(&long)] {
            assert_eq!(text.len(), MAX_BYTES + 3);
            assert!(text.ends_with("..."));
        }
    }
}
