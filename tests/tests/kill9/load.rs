//! Writers that work until the server is gone, and know what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use retcd_proto::etcdserverpb as pb;
use retcd_tests::grpc::Connection;
use retcd_tests::member::Member;
use tokio::task::JoinHandle;

use crate::oracle::Oracle;

/// Writers of keys that are new each time, of pairs that stay equal, and of keys that come and go.
const FRESH: usize = 12;
const PAIRS: usize = 6;
const COMING: usize = 4;

/// The size of a pair's values: so large that segments of the log get full.
const LARGE: usize = 16 << 10;

/// What one writer wants to be so.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The keys; several are changed in one transaction.
    pub(crate) keys: Vec<Bytes>,
    /// Their common value; without one, they are deleted.
    pub(crate) value: Option<Bytes>,
}

/// What one writer did.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Changes with the revisions they were acknowledged with, in order.
    pub(crate) acknowledged: Vec<(Change, i64)>,
    /// The one without an answer.
    pub(crate) open: Option<Change>,
}

/// Starts all writers.
pub(crate) fn start(
    connection: &Connection,
    round: u64,
    oracle: &Oracle,
    acknowledged: &Arc<AtomicU64>,
) -> Vec<JoinHandle<Work>> {
    let changes = (0..FRESH)
        .map(|w| Box::new(move |n| fresh(w, round, n)) as Box<dyn Fn(u64) -> Change + Send>)
        .chain((0..PAIRS).map(|w| Box::new(move |n| pair(w, round, n)) as _))
        .chain((0..COMING).map(|w| {
            // A deletion of nothing makes no revision: begin with what is there.
            let there = oracle.holds(&coming(w, round, 0).keys[0]);
            Box::new(move |n| coming(w, round, n + u64::from(there))) as _
        }));
    changes.map(|change| tokio::spawn(write(connection.clone(), change, Arc::clone(acknowledged)))).collect()
}

fn fresh(writer: usize, round: u64, n: u64) -> Change {
    Change {
        keys: vec![format!("fresh/{writer:02}/{round:05}/{n:06}").into()],
        value: Some(format!("{round}.{n}").into()),
    }
}

fn pair(writer: usize, round: u64, n: u64) -> Change {
    let key = |side| Bytes::from(format!("pair/{writer:02}/{}/{side}", n % 3));
    let mut value = format!("{round}.{n} ");
    value.extend(std::iter::repeat_n('x', LARGE));
    Change { keys: vec![key('a'), key('b')], value: Some(value.into()) }
}

fn coming(writer: usize, round: u64, n: u64) -> Change {
    let value = n.is_multiple_of(2).then(|| format!("{round}.{n}").into());
    Change { keys: vec![format!("coming/{writer:02}").into()], value }
}

async fn write(
    connection: Connection,
    change: Box<dyn Fn(u64) -> Change + Send>,
    acknowledged: Arc<AtomicU64>,
) -> Work {
    let mut work = Work::default();
    for n in 0.. {
        let change = change(n);
        let Some(revision) = apply(&connection, &change).await else {
            work.open = Some(change);
            break;
        };
        work.acknowledged.push((change, revision));
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    work
}

/// The revision of a change, if it was acknowledged.
async fn apply(connection: &Connection, change: &Change) -> Option<i64> {
    use pb::request_op::Request;
    let header = match (&change.keys[..], &change.value) {
        ([key], Some(value)) => {
            let put = pb::PutRequest { key: key.clone(), value: value.clone(), ..Default::default() };
            let outcome = connection.call("/etcdserverpb.KV/Put", &put).await;
            outcome.reply::<pb::PutResponse>().ok()?.header
        }
        ([key], None) => {
            let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
            let outcome = connection.call("/etcdserverpb.KV/DeleteRange", &delete).await;
            outcome.reply::<pb::DeleteRangeResponse>().ok()?.header
        }
        (keys, value) => {
            let put = |key: &Bytes| pb::PutRequest {
                key: key.clone(),
                value: value.clone().unwrap_or_default(),
                ..Default::default()
            };
            let success = keys.iter().map(|k| pb::RequestOp { request: Some(Request::RequestPut(put(k))) }).collect();
            let txn = pb::TxnRequest { success, ..Default::default() };
            let outcome = connection.call("/etcdserverpb.KV/Txn", &txn).await;
            outcome.reply::<pb::TxnResponse>().ok()?.header
        }
    };
    Some(header?.revision)
}

/// Waits until so many writes were acknowledged.
pub(crate) async fn wait(acknowledged: &AtomicU64, count: u64, member: &mut Member) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while acknowledged.load(Ordering::Relaxed) < count {
        assert!(member.running(), "it ended by itself: {}", member.describe());
        assert!(Instant::now() < deadline, "only {acknowledged:?} of {count} writes: {}", member.describe());
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}
