//! Requests as log lines show them: keys, and the sizes of values, never the values.
//!
//! The texts have the shape of etcd's: `put:<key:"a" value_size:3>`.

use std::fmt::Write as _;

use prost::Message;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::compare::TargetUnion;
use retcd_proto::etcdserverpb::request_op::Request;

use crate::wait::Reply;

/// What is longer is cut: a transaction may be of megabytes.
const MAX_BYTES: usize = 2 << 10;

/// A request that came through the log.
pub(crate) fn logged(r: &pb::InternalRaftRequest) -> String {
    let id = r.header.as_ref().map_or(r.id, |header| header.id);
    let mut out = Text::default();
    out.open("header");
    out.number("ID", id);
    out.close();
    if let Some(r) = &r.put {
        out.open("put");
        out.put(r);
    } else if let Some(r) = &r.txn {
        out.open("txn");
        out.txn(r);
    } else if let Some(r) = &r.delete_range {
        out.open("delete_range");
        out.delete_range(r);
    } else if let Some(r) = &r.range {
        out.open("range");
        out.range(r);
    } else if let Some(r) = &r.compaction {
        out.open("compaction");
        out.number("revision", r.revision);
        out.flag("physical", r.physical);
    } else if let Some(r) = &r.lease_grant {
        out.open("lease_grant");
        out.field(format_args!("ttl:{}-second", r.ttl));
        out.field(format_args!("id:{:016x}", r.id));
    } else if let Some(r) = &r.lease_revoke {
        out.open("lease_revoke");
        out.field(format_args!("id:{:016x}", r.id));
    } else if let Some(r) = &r.lease_checkpoint {
        out.open("lease_checkpoint");
        out.number("checkpoints", r.checkpoints.len());
    } else if let Some(r) = &r.alarm {
        out.open("alarm");
        out.number("action", r.action);
        out.field(format_args!("memberID:{:x}", r.member_id));
        out.number("alarm", r.alarm);
    } else {
        // Users, roles, members and versions: their names are in lines of their own.
        out.open("other");
        out.number("size", r.encoded_len());
    }
    out.close();
    out.whole()
}

/// A range.
pub(crate) fn range(r: &pb::RangeRequest) -> String {
    let mut out = Text::default();
    out.range(r);
    out.whole()
}

/// A transaction.
pub(crate) fn txn(r: &pb::TxnRequest) -> String {
    let mut out = Text::default();
    out.txn(r);
    out.whole()
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

#[derive(Default)]
struct Text {
    out: String,
    cut: bool,
}

impl Text {
    fn field(&mut self, field: std::fmt::Arguments<'_>) {
        if self.out.len() >= MAX_BYTES {
            self.cut = true;
            return;
        }
        if !(self.out.is_empty() || self.out.ends_with('<')) {
            self.out.push(' ');
        }
        let _ = self.out.write_fmt(field);
    }

    fn open(&mut self, name: &str) {
        self.field(format_args!("{name}:<"));
    }

    fn close(&mut self) {
        if !self.cut {
            self.out.push('>');
        }
    }

    fn number(&mut self, name: &str, value: impl std::fmt::Display + Default + PartialEq) {
        if value != Default::default() {
            self.field(format_args!("{name}:{value}"));
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.field(format_args!("{name}:true"));
        }
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        if value.is_empty() {
            return;
        }
        // A long key is cut where it is shown, too.
        let shown = &value[..value.len().min(MAX_BYTES)];
        self.field(format_args!("{name}:\"{}\"", shown.escape_ascii()));
    }

    fn put(&mut self, r: &pb::PutRequest) {
        self.bytes("key", &r.key);
        self.number("value_size", r.value.len());
        self.number("lease", r.lease);
        self.flag("prev_kv", r.prev_kv);
        self.flag("ignore_value", r.ignore_value);
        self.flag("ignore_lease", r.ignore_lease);
    }

    fn delete_range(&mut self, r: &pb::DeleteRangeRequest) {
        self.bytes("key", &r.key);
        self.bytes("range_end", &r.range_end);
        self.flag("prev_kv", r.prev_kv);
    }

    fn range(&mut self, r: &pb::RangeRequest) {
        self.bytes("key", &r.key);
        self.bytes("range_end", &r.range_end);
        self.number("limit", r.limit);
        self.number("revision", r.revision);
        self.number("sort_order", r.sort_order);
        self.number("sort_target", r.sort_target);
        self.flag("serializable", r.serializable);
        self.flag("keys_only", r.keys_only);
        self.flag("count_only", r.count_only);
    }

    fn txn(&mut self, r: &pb::TxnRequest) {
        self.open("compare");
        for compare in &r.compare {
            self.number("result", compare.result);
            self.number("target", compare.target);
            self.bytes("key", &compare.key);
            if let Some(TargetUnion::Value(value)) = &compare.target_union {
                self.number("value_size", value.len());
            }
            self.bytes("range_end", &compare.range_end);
        }
        self.close();
        for (name, operations) in [("success", &r.success), ("failure", &r.failure)] {
            self.open(name);
            for operation in operations {
                self.operation(operation);
            }
            self.close();
        }
    }

    fn operation(&mut self, operation: &pb::RequestOp) {
        if self.cut {
            return;
        }
        match &operation.request {
            Some(Request::RequestPut(r)) => {
                self.open("request_put");
                self.put(r);
            }
            Some(Request::RequestRange(r)) => {
                self.open("request_range");
                self.range(r);
            }
            Some(Request::RequestDeleteRange(r)) => {
                self.open("request_delete_range");
                self.delete_range(r);
            }
            Some(Request::RequestTxn(r)) => {
                self.open("request_txn");
                self.txn(r);
            }
            None => return,
        }
        self.close();
    }

    fn whole(mut self) -> String {
        if self.cut {
            self.out.push_str("...");
        }
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> pb::PutRequest {
        pb::PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..Default::default()
        }
    }

    #[test]
    fn values_are_never_shown() {
        let request = pb::InternalRaftRequest {
            header: Some(pb::RequestHeader {
                id: 7,
                ..Default::default()
            }),
            put: Some(put("a\"b", "secret")),
            ..Default::default()
        };
        assert_eq!(
            logged(&request),
            r#"header:<ID:7> put:<key:"a\"b" value_size:6>"#
        );
        let operation = |key| pb::RequestOp {
            request: Some(Request::RequestPut(put(key, "secret"))),
        };
        let compare = pb::Compare {
            key: "c".into(),
            target_union: Some(TargetUnion::Value("secret".into())),
            ..Default::default()
        };
        let request = pb::TxnRequest {
            compare: vec![compare],
            success: vec![operation("s")],
            failure: vec![operation("f")],
        };
        assert_eq!(
            txn(&request),
            r#"compare:<key:"c" value_size:6> success:<request_put:<key:"s" value_size:6>> failure:<request_put:<key:"f" value_size:6>>"#
        );
        let request = pb::RangeRequest {
            key: "a".into(),
            range_end: "b".into(),
            limit: 3,
            count_only: true,
            ..Default::default()
        };
        assert_eq!(
            range(&request),
            r#"key:"a" range_end:"b" limit:3 count_only:true"#
        );
    }

    #[test]
    fn large_requests_are_cut() {
        let operation = pb::RequestOp {
            request: Some(Request::RequestPut(put(&"k".repeat(1000), "v"))),
        };
        let request = pb::TxnRequest {
            success: vec![operation; 100_000],
            ..Default::default()
        };
        let text = txn(&request);
        assert!(
            text.len() < 3 * MAX_BYTES && text.ends_with("..."),
            "{}",
            text.len()
        );
        let text = range(&pb::RangeRequest {
            key: vec![0xff; 1 << 20].into(),
            ..Default::default()
        });
        assert!(text.len() < 5 * MAX_BYTES, "{}", text.len());
    }
}
