//! A queue: keys under one prefix, the oldest of which is served.

use bytes::Bytes;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use retcd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use retcd_proto::etcdserverpb::request_op::Request;
use retcd_proto::etcdserverpb::response_op::Response;
use retcd_proto::mvccpb::KeyValue;
use retcd_proto::mvccpb::event::EventType;

use super::says;
use crate::client::Client;
use crate::error::Error;

/// A name as the prefix of its queue.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The key of a lease in a queue.
fn place(prefix: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    let digits = format!("{sign}{:x}", lease.unsigned_abs());
    [prefix, digits.as_bytes()].concat().into()
}

/// The first key behind all that begin with `prefix`, which ends with a slash.
fn end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// A place in a queue.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) prefix: Bytes,
    pub(super) key: Bytes,
    /// The revision in which it was taken.
    pub(super) rev: i64,
    /// Of the transaction that took or found it.
    pub(super) header: Option<pb::ResponseHeader>,
    /// What it holds, if it was there already.
    pub(super) found: Option<KeyValue>,
    /// Nobody is before it.
    pub(super) is_first: bool,
}

/// Takes the place of a lease, or finds that it has it.
pub(super) async fn enter(
    client: &Client,
    name: &[u8],
    lease: i64,
    value: Bytes,
) -> Result<Place, Error> {
    let prefix = prefix(name);
    let key = place(&prefix, lease);
    let put = pb::PutRequest {
        key: key.clone(),
        value,
        lease,
        ..Default::default()
    };
    let own = pb::RangeRequest {
        key: key.clone(),
        ..Default::default()
    };
    let oldest = op(Request::RequestRange(oldest(&prefix)));
    let reply = client
        .txn(pb::TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![op(Request::RequestPut(put)), oldest.clone()],
            failure: vec![op(Request::RequestRange(own)), oldest],
        })
        .await?;
    let mut answers = reply.responses.into_iter().map(pairs);
    let found = answers.next().and_then(|kvs| kvs.into_iter().next());
    let first = answers.next().and_then(|kvs| kvs.into_iter().next());
    let now = reply.header.as_ref().map_or(0, |header| header.revision);
    let found = found.filter(|_| !reply.succeeded);
    let rev = found.as_ref().map_or(now, |found| found.create_revision);
    Ok(Place {
        is_first: first.is_none_or(|first| first.create_revision == rev),
        prefix,
        key,
        rev,
        header: reply.header,
        found,
    })
}

/// The pairs that a range in a transaction read.
fn pairs(answer: pb::ResponseOp) -> Vec<KeyValue> {
    match answer.response {
        Some(Response::ResponseRange(range)) => range.kvs,
        _ => Vec::new(),
    }
}

impl Place {
    /// That this place is still the one that was taken.
    pub(super) fn is_kept(&self) -> pb::Compare {
        created_at(&self.key, self.rev)
    }

    /// Waits until everybody who came before is gone; `false` if the place itself was lost before that.
    pub(super) async fn wait_for_turn(&self, client: &Client) -> Result<bool, Error> {
        loop {
            let before = pb::RangeRequest {
                key: self.prefix.clone(),
                range_end: end(&self.prefix),
                limit: 1,
                sort_order: SortOrder::Descend as i32,
                sort_target: SortTarget::Create as i32,
                max_create_revision: self.rev - 1,
                ..Default::default()
            };
            let reply = client.range(before).await?;
            let Some(before) = reply.kvs.into_iter().next() else {
                return Ok(true);
            };
            let since = reply.header.map_or(0, |header| header.revision);
            // Its own one, too: who waits for others while its lease ends need not wait for them (L9).
            let gone = first_deleted(client, &[&before.key, &self.key], since).await?;
            if gone == self.key {
                return Ok(false);
            }
        }
    }

    /// The place as it is now, if it is still the one that was taken.
    pub(super) async fn look(&self, client: &Client) -> Result<pb::RangeResponse, Error> {
        let own = pb::RangeRequest {
            key: self.key.clone(),
            ..Default::default()
        };
        let mut reply = client.range(own).await?;
        reply.kvs.retain(|kv| kv.create_revision == self.rev);
        Ok(reply)
    }
}

/// Waits until one of some keys, which were there at a revision, is deleted; returns which one.
async fn first_deleted(client: &Client, keys: &[&Bytes], since: i64) -> Result<Bytes, Error> {
    let watches = client.watch_stream()?;
    for (key, id) in keys.iter().zip(1..) {
        watches.create(pb::WatchCreateRequest {
            key: Bytes::clone(key),
            start_revision: since,
            watch_id: id,
            ..Default::default()
        });
    }
    let mut watches = watches;
    while let Some(reply) = watches.next().await {
        let reply = reply?;
        if reply.compact_revision > 0 {
            return Err(Error::Compacted);
        }
        if reply.canceled {
            return Err(says(&reply.cancel_reason));
        }
        for event in reply.events {
            let is_delete = event.r#type() == EventType::Delete;
            if let Some(kv) = event.kv.filter(|_| is_delete) {
                return Ok(kv.key);
            }
        }
    }
    Err(says("lost watcher waiting for delete"))
}

/// Leaves a queue whose caller went away while it waited: nobody should have to wait for its lease to end.
#[derive(Debug)]
pub(super) struct Leave {
    client: Client,
    place: Option<(Bytes, pb::Compare)>,
}

impl Leave {
    /// Until [`Self::stay`] is called, the end of this is the end of the place.
    pub(super) fn unless_served(client: &Client, place: &Place) -> Self {
        Self {
            client: client.clone(),
            place: Some((place.key.clone(), place.is_kept())),
        }
    }

    pub(super) fn stay(mut self) {
        self.place = None;
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        let Some((key, is_kept)) = self.place.take() else {
            return;
        };
        // Without a runtime the member is going away, and its callers with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let client = self.client.clone();
        runtime.spawn(async move {
            // If it cannot be deleted, its lease ends some time.
            drop(delete_if(&client, key, is_kept).await);
        });
    }
}

/// Deletes a key on condition.
pub(super) async fn delete_if(
    client: &Client,
    key: Bytes,
    condition: pb::Compare,
) -> Result<pb::TxnResponse, Error> {
    let delete = pb::DeleteRangeRequest {
        key,
        ..Default::default()
    };
    client
        .txn(pb::TxnRequest {
            compare: vec![condition],
            success: vec![op(Request::RequestDeleteRange(delete))],
            failure: vec![],
        })
        .await
}

/// The oldest key of a queue.
pub(super) fn oldest(prefix: &Bytes) -> pb::RangeRequest {
    pb::RangeRequest {
        key: prefix.clone(),
        range_end: end(prefix),
        limit: 1,
        sort_order: SortOrder::Ascend as i32,
        sort_target: SortTarget::Create as i32,
        ..Default::default()
    }
}

/// All keys of a queue, from a revision on.
pub(super) fn watch_all(prefix: &Bytes, from: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: prefix.clone(),
        range_end: end(prefix),
        start_revision: from,
        ..Default::default()
    }
}

pub(super) fn created_at(key: &Bytes, rev: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(rev)),
        ..Default::default()
    }
}

pub(super) fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_etcd() {
        let prefix = prefix(b"jobs");
        assert_eq!(
            place(&prefix, 0x694d_71e2_00f1_cafe),
            "jobs/694d71e200f1cafe"
        );
        assert_eq!(place(&prefix, 10), "jobs/a");
        assert_eq!(place(&prefix, -1), "jobs/-1");
        assert_eq!(place(&prefix, i64::MIN), "jobs/-8000000000000000");
        assert_eq!(end(&prefix), "jobs0");
    }
}
