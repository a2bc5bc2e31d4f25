//! Those who change the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use retcd_proto::etcdserverpb::request_op::Request;
use retcd_tests::nodes::Caller;
use retcd_tests::random::Random;

use crate::{PATIENCE, Shared};

/// How many keys there are: few, so that they change often.
pub(crate) const KEYS: u64 = 24;

/// Writers pause for so long, so that the reader of history keeps up.
const PAUSE: Duration = Duration::from_millis(4);

/// Part of a write.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Put(Bytes, Bytes),
    /// Of a key, or of `[key, end)`.
    Delete(Bytes, Bytes),
}

impl Op {
    /// Whether it is this one that changed the key.
    pub(crate) fn changes(&self, key: &[u8]) -> bool {
        match self {
            Self::Put(one, _) => one == key,
            Self::Delete(one, end) => within(key, one, end),
        }
    }

    fn request(&self) -> Request {
        match self {
            Self::Put(key, value) => Request::RequestPut(put(key, value)),
            Self::Delete(key, end) => Request::RequestDeleteRange(delete(key, end)),
        }
    }
}

/// `[key, end)` as in a request.
pub(crate) fn within(candidate: &[u8], key: &[u8], end: &[u8]) -> bool {
    match end {
        [] => candidate == key,
        [0] => candidate >= key,
        _ => candidate >= key && candidate < end,
    }
}

pub(crate) fn key(n: u64) -> Bytes {
    format!("{}/{n:02}", ["a", "b", "c"][usize::try_from(n % 3).expect("small")]).into()
}

/// The number that a value begins with.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value.get(..10)?).ok()?.parse().ok()
}

fn value(number: u64, random: &mut Random) -> Bytes {
    // Big ones fill what a client that reads slowly has room for, and replies that may come in fragments.
    let length = if random.one_in(3) { 6000 } else { 40 };
    format!("{number:010}{}", "x".repeat(length)).into()
}

fn put(key: &Bytes, value: &Bytes) -> pb::PutRequest {
    pb::PutRequest { key: key.clone(), value: value.clone(), ..Default::default() }
}

fn delete(key: &Bytes, end: &Bytes) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.clone(), range_end: end.clone(), ..Default::default() }
}

/// One write: each of its parts is about keys of its own, as etcd demands. What has several parts has a put.
fn ops(number: u64, random: &mut Random) -> Vec<Op> {
    match random.within(0, 10) {
        0 => vec![Op::Delete(key(random.within(0, KEYS)), Bytes::new())],
        1 => {
            let prefix = ["a/0", "b/1", "c/"][usize::try_from(random.within(0, 3)).expect("small")];
            vec![Op::Delete(prefix.into(), [prefix, "5"].concat().into())]
        }
        2..=6 => vec![Op::Put(key(random.within(0, KEYS)), value(number, random))],
        _ => {
            let first = random.within(0, KEYS);
            let count = random.within(2, 6);
            let keys = (0..count).map(|n| key((first + n * 5) % KEYS));
            keys.enumerate()
                .map(|(n, key)| {
                    if n > 0 && random.one_in(3) {
                        Op::Delete(key, Bytes::new())
                    } else {
                        Op::Put(key, value(number, random))
                    }
                })
                .collect()
        }
    }
}

/// Writes until it is to stop.
pub(crate) async fn write(shared: Arc<Shared>, random: Random) {
    write_until(&shared, random, &shared.stop, PAUSE).await;
}

/// Writes now and then until all watches have come to the end of the round: a watch that begins at the next revision is
/// told of no progress before it, and no other one of its stream either when the client asks, as with etcd.
pub(crate) async fn trickle(shared: Arc<Shared>, random: Random) {
    write_until(&shared, random, &shared.reached, 20 * PAUSE).await;
}

async fn write_until(shared: &Shared, mut random: Random, end: &AtomicBool, pause: Duration) {
    let mut caller = Caller::default();
    while !end.load(Ordering::SeqCst) {
        let number = shared.next.fetch_add(1, Ordering::SeqCst);
        let ops = ops(number, &mut random);
        shared.sent().insert(number, ops.clone());
        // A refused one, too, is only not acknowledged: no check depends on it.
        if let Some(revision) = send(&mut caller, shared, &ops, &mut random).await {
            shared.acknowledged.lock().expect("nobody panics with it").push((revision, number));
        }
        tokio::time::sleep(pause).await;
    }
}

/// The revision of the change, if it was acknowledged and changed something.
async fn send(caller: &mut Caller, shared: &Shared, ops: &[Op], random: &mut Random) -> Option<i64> {
    let at = shared.address;
    let (header, changed) = match ops {
        [Op::Put(key, value)] => {
            let reply: pb::PutResponse = caller.call(at, "KV/Put", &put(key, value), PATIENCE).await.ok()?;
            (reply.header, true)
        }
        [Op::Delete(key, end)] => {
            let reply: pb::DeleteRangeResponse =
                caller.call(at, "KV/DeleteRange", &delete(key, end), PATIENCE).await.ok()?;
            (reply.header, reply.deleted > 0)
        }
        _ => {
            let compare = pb::Compare {
                result: CompareResult::Greater.into(),
                target: CompareTarget::Version.into(),
                key: key(random.within(0, KEYS)),
                target_union: Some(TargetUnion::Version(0)),
                ..Default::default()
            };
            let request = pb::TxnRequest {
                compare: if random.one_in(3) { vec![compare] } else { Vec::new() },
                success: ops.iter().map(|op| pb::RequestOp { request: Some(op.request()) }).collect(),
                failure: Vec::new(),
            };
            let reply: pb::TxnResponse = caller.call(at, "KV/Txn", &request, PATIENCE).await.ok()?;
            (reply.header, reply.succeeded)
        }
    };
    changed.then(|| header.unwrap_or_default().revision)
}
