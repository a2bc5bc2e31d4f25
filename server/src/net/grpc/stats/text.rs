//! Requests as text, in the notation of Go's protobuf.

use std::fmt::{Display, Write as _};

use retcd_proto::etcdserverpb as pb;

/// Fields that are not at their default, in the order of their numbers.
#[derive(Default)]
struct Fields(String);

impl Fields {
    fn put(&mut self, name: &str, value: impl Display) {
        let gap = if self.0.is_empty() { "" } else { " " };
        let _ = write!(self.0, "{gap}{name}:{value}");
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        if !value.is_empty() {
            self.put(name, quoted(value));
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

fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for byte in bytes {
        match byte {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(*byte));
            }
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => {
                let _ = write!(text, "\\{byte:03o}");
            }
        }
    }
    text.push('"');
    text
}

pub(super) fn range(r: &pb::RangeRequest) -> String {
    let mut fields = Fields::default();
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
    fields.0
}

/// With the size of the value in its place.
pub(super) fn put(r: &pb::PutRequest) -> String {
    let mut fields = Fields::default();
    fields.bytes("key", &r.key);
    fields.number("value_size", r.value.len() as i64);
    fields.number("lease", r.lease);
    fields.flag("prev_kv", r.prev_kv);
    fields.flag("ignore_value", r.ignore_value);
    fields.flag("ignore_lease", r.ignore_lease);
    fields.0
}

pub(super) fn delete_range(r: &pb::DeleteRangeRequest) -> String {
    let mut fields = Fields::default();
    fields.bytes("key", &r.key);
    fields.bytes("range_end", &r.range_end);
    fields.flag("prev_kv", r.prev_kv);
    fields.0
}

/// With sizes in place of values.
pub(super) fn txn(r: &pb::TxnRequest) -> String {
    let compare: Vec<_> = r.compare.iter().map(compare).collect();
    let operations =
        |all: &[pb::RequestOp]| all.iter().map(operation).collect::<Vec<_>>().join(" ");
    format!(
        "compare:<{}> success:<{}> failure:<{}>",
        compare.join(" "),
        operations(&r.success),
        operations(&r.failure)
    )
}

fn compare(c: &pb::Compare) -> String {
    use pb::compare::TargetUnion;
    let mut fields = Fields::default();
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
    fields.0
}

fn operation(op: &pb::RequestOp) -> String {
    use pb::request_op::Request;
    match &op.request {
        Some(Request::RequestPut(r)) => format!("request_put:<{}>", put(r)),
        Some(Request::RequestTxn(r)) => format!("request_txn:<{}>", txn(r)),
        Some(Request::RequestRange(r)) => format!("request_range:{{{}}}", range(r)),
        Some(Request::RequestDeleteRange(r)) => {
            format!("request_delete_range:{{{}}}", delete_range(r))
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
            "compare:<target:CREATE key:\"l\\000\\\"\" create_revision:0 \
             result:NOT_EQUAL target:VALUE key:\"k\" value_size:6> \
             success:<request_put:<key:\"k\" value_size:6 lease:9>> \
             failure:<request_range:{key:\"k\" sort_order:DESCEND serializable:true}>"
        );
    }
}
