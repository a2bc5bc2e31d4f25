//! A range read: fetch, filter, sort, cut, in the order in which etcd does it.
//!
//! Source: api-semantics 6.1; etcd `server/etcdserver/txn/range.go`.

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use retcd_proto::etcdserverpb::{RangeRequest, ResponseHeader};
use retcd_proto::mvccpb::KeyValue;
use retcd_proto::reply::RangeReply;
use retcd_storage::mvcc::{self, Kv, RangeQuery, RangeResult};

/// What a range can be read from: a pinned view, or the state inside a write transaction.
pub(crate) trait Source {
    fn range(&self, query: &RangeQuery<'_>) -> Result<RangeResult, mvcc::Error>;
}

impl Source for mvcc::ReadView {
    fn range(&self, query: &RangeQuery<'_>) -> Result<RangeResult, mvcc::Error> {
        mvcc::ReadView::range(self, query)
    }
}

impl Source for mvcc::WriteTxn<'_> {
    fn range(&self, query: &RangeQuery<'_>) -> Result<RangeResult, mvcc::Error> {
        mvcc::WriteTxn::range(self, query)
    }
}

/// Whether the request asks for a minimal or maximal revision.
pub(crate) fn has_filters(r: &RangeRequest) -> bool {
    r.min_mod_revision != 0
        || r.max_mod_revision != 0
        || r.min_create_revision != 0
        || r.max_create_revision != 0
}

/// Answers a checked request. Of the header only the revision is set.
pub(crate) fn execute(source: &impl Source, r: &RangeRequest) -> Result<RangeReply, mvcc::Error> {
    let limit = usize::try_from(r.limit).unwrap_or(0);
    let order = r.sort_order();
    let target = r.sort_target();
    let in_key_order =
        order == SortOrder::None || (order == SortOrder::Ascend && target == SortTarget::Key);
    // The values are looked at only to sort by them; otherwise the index alone can answer.
    let keys_only = r.keys_only && target != SortTarget::Value;

    let mut result = source.range(&RangeQuery {
        key: &r.key,
        end: &r.range_end,
        rev: r.revision,
        // One more than asked for tells whether there are more.
        limit: if limit > 0 && in_key_order && !has_filters(r) {
            limit + 1
        } else {
            0
        },
        count_only: r.count_only,
        keys_only,
    })?;

    let header = Some(ResponseHeader {
        revision: result.rev,
        ..ResponseHeader::default()
    });
    let count = i64::try_from(result.count).unwrap_or(i64::MAX);
    if r.count_only {
        return Ok(RangeReply {
            header,
            count,
            ..RangeReply::default()
        });
    }

    if has_filters(r) {
        result.kvs.retain(|kv| passes(r, kv));
    }
    sort(&mut result.kvs, order, target);
    let more = limit > 0 && result.kvs.len() > limit;
    if more {
        result.kvs.truncate(limit);
    }
    let kvs = result.kvs.into_iter().map(|kv| kv.encoded);
    Ok(RangeReply {
        header,
        kvs: if r.keys_only && !keys_only {
            kvs.map(without_value).collect()
        } else {
            kvs.collect()
        },
        more,
        count,
    })
}

fn passes(r: &RangeRequest, kv: &Kv) -> bool {
    let within =
        |value: i64, min: i64, max: i64| (max == 0 || value <= max) && (min == 0 || value >= min);
    within(kv.modified.main, r.min_mod_revision, r.max_mod_revision)
        && within(kv.created, r.min_create_revision, r.max_create_revision)
}

fn sort(kvs: &mut [Kv], order: SortOrder, target: SortTarget) {
    if target == SortTarget::Key && order != SortOrder::Descend {
        return; // as read
    }
    let compare = |a: &Kv, b: &Kv| match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.created.cmp(&b.created),
        SortTarget::Mod => a.modified.main.cmp(&b.modified.main),
        SortTarget::Value => a.value().cmp(&b.value()),
    };
    if order == SortOrder::Descend {
        kvs.sort_by(|a, b| compare(b, a));
    } else {
        kvs.sort_by(compare);
    }
}

/// The stored pair again, its value emptied.
fn without_value(encoded: Bytes) -> Bytes {
    match KeyValue::decode(encoded.clone()) {
        Ok(mut kv) => {
            kv.value = Bytes::new();
            kv.encode_to_vec().into()
        }
        // What the store returned was checked there; a client then sees what is stored.
        Err(_) => encoded,
    }
}
