//! Clients on a machine of their own, and what they see.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use retcd_proto::etcdserverpb::request_op::Request;
use retcd_proto::etcdserverpb::response_op::Response;
use retcd_tests::linear::{Call, Event, Value};
use retcd_tests::net::Host;
use retcd_tests::nodes::{Caller, Failure};
use retcd_tests::random::Random;
use rustls::ClientConfig;
use tokio::task::JoinSet;

use crate::history::Seen;

/// Callers at once.
pub(crate) const CLIENTS: usize = 9;

/// Keys per round: few, so that callers meet.
pub(crate) const KEYS: u64 = 5;

/// How long a caller waits for an answer: longer than pauses, so that it sees what a member answers that was away.
const PATIENCE: Duration = Duration::from_secs(4);

/// Calls per second of one caller, at most: the search for an order takes time, too.
const PAUSE: Duration = Duration::from_millis(15);

/// A clock that all callers share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).expect("less than centuries")
    }
}

/// Where callers are, and whom they call.
pub(crate) struct Target<'a> {
    pub(crate) host: &'a Host,
    pub(crate) members: &'a [SocketAddr],
    /// What they show, if members speak TLS.
    pub(crate) tls: Option<&'a Arc<ClientConfig>>,
}

/// Load of one round.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Seen>>,
}

impl Load {
    /// Starts callers on a machine; they go to the members at random.
    pub(crate) fn start(target: &Target<'_>, clock: Clock, round: u64, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let values = Arc::new(AtomicU64::new(round * 1_000_000));
        let (members, tls, stopped) = (target.members.to_vec(), target.tls.cloned(), Arc::clone(&stop));
        let thread = on(target.host, move || async move {
            let mut callers = JoinSet::new();
            for client in 0..CLIENTS {
                let caller = OneCaller {
                    client,
                    clock,
                    round,
                    members: members.clone(),
                    random: Random::new(seed ^ (client as u64) << 32),
                    values: Arc::clone(&values),
                    caller: Caller::over(tls.clone()),
                    seen: Vec::new(),
                };
                callers.spawn(caller.run(Arc::clone(&stopped)));
            }
            callers.join_all().await.concat()
        });
        Self { stop, thread }
    }

    /// Waits for all answers, and returns what was seen.
    pub(crate) fn stop(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("callers never panic")
    }
}

/// Runs something on a thread whose sockets are on that machine.
fn on<T, F>(host: &Host, task: impl FnOnce() -> F + Send + 'static) -> JoinHandle<T>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let link = host.link();
    thread::spawn(move || {
        link.enter();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(task())
    })
}

struct OneCaller {
    client: usize,
    clock: Clock,
    round: u64,
    members: Vec<SocketAddr>,
    random: Random,
    values: Arc<AtomicU64>,
    caller: Caller,
    seen: Vec<Seen>,
}

pub(crate) fn key(round: u64, n: u64) -> String {
    format!("round/{round}/{n}")
}

fn encode(value: u64) -> Bytes {
    value.to_string().into()
}

pub(crate) fn decode(kvs: &[retcd_proto::mvccpb::KeyValue]) -> Value {
    kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).parse().expect("nobody else writes here"))
}

impl OneCaller {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Vec<Seen> {
        let mut held = vec![None; usize::try_from(KEYS).expect("small")];
        while !stop.load(Ordering::Relaxed) {
            let n = self.random.within(0, KEYS);
            let place = usize::try_from(n).expect("small");
            let key = key(self.round, n);
            let value = self.values.fetch_add(1, Ordering::Relaxed);
            let at = self.members[usize::try_from(self.random.next() % self.members.len() as u64).expect("small")];
            let before = self.seen.len();
            match self.random.within(0, 10) {
                0..=4 => self.read(at, key).await,
                5..=6 => self.write(at, key, Some(value)).await,
                7 => self.write(at, key, None).await,
                _ => self.swap(at, key, held[place], value).await,
            }
            if let Some(one) = self.seen.get(before) {
                held[place] = match one.event.call {
                    Call::Read(found) | Call::NoSwap { found, .. } => found,
                    Call::Write(value) | Call::Swap { to: value, .. } | Call::OpenSwap { to: value, .. } => value,
                };
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.seen
    }

    fn note<R>(
        &mut self,
        key: String,
        begin: u64,
        said: Result<R, Failure>,
        open: Call,
        answer: impl FnOnce(R) -> (Call, Option<pb::ResponseHeader>),
    ) {
        let end = self.clock.now();
        let (end, (call, header)) = match said {
            Ok(reply) => (Some(end), answer(reply)),
            Err(why) if why.without_effect() => return,
            Err(_) => (None, (open, None)),
        };
        let event = Event { begin, end, call, client: self.client };
        self.seen.push(Seen { key, event, revision: header.map(|h| h.revision) });
    }

    async fn read(&mut self, at: SocketAddr, key: String) {
        let request = pb::RangeRequest { key: key.clone().into(), ..Default::default() };
        let begin = self.clock.now();
        let said = self.caller.call::<pb::RangeResponse>(at, "KV/Range", &request, PATIENCE).await;
        self.note(key, begin, said, Call::Read(None), |r| (Call::Read(decode(&r.kvs)), r.header));
    }

    async fn write(&mut self, at: SocketAddr, key: String, value: Value) {
        let call = Call::Write(value);
        let begin = self.clock.now();
        match value {
            Some(number) => {
                let request = pb::PutRequest { key: key.clone().into(), value: encode(number), ..Default::default() };
                let said = self.caller.call::<pb::PutResponse>(at, "KV/Put", &request, PATIENCE).await;
                self.note(key, begin, said, call, |r| (call, r.header));
            }
            None => {
                let request = pb::DeleteRangeRequest { key: key.clone().into(), ..Default::default() };
                let said = self.caller.call::<pb::DeleteRangeResponse>(at, "KV/DeleteRange", &request, PATIENCE).await;
                // A deletion of nothing makes no revision, and says so.
                self.note(key, begin, said, call, |r| {
                    if r.deleted == 0 { (Call::Read(None), r.header) } else { (call, r.header) }
                });
            }
        }
    }

    async fn swap(&mut self, at: SocketAddr, key: String, from: Value, to: u64) {
        let compare = pb::Compare {
            result: CompareResult::Equal.into(),
            target: if from.is_some() { CompareTarget::Value } else { CompareTarget::Create }.into(),
            key: key.clone().into(),
            target_union: Some(from.map_or(TargetUnion::CreateRevision(0), |f| TargetUnion::Value(encode(f)))),
            ..Default::default()
        };
        let put = pb::PutRequest { key: key.clone().into(), value: encode(to), ..Default::default() };
        let get = pb::RangeRequest { key: key.clone().into(), ..Default::default() };
        let request = pb::TxnRequest {
            compare: vec![compare],
            success: vec![pb::RequestOp { request: Some(Request::RequestPut(put)) }],
            failure: vec![pb::RequestOp { request: Some(Request::RequestRange(get)) }],
        };
        let begin = self.clock.now();
        let said = self.caller.call::<pb::TxnResponse>(at, "KV/Txn", &request, PATIENCE).await;
        self.note(key, begin, said, Call::OpenSwap { from, to: Some(to) }, |r| {
            let found = r.responses.first().and_then(|r| match &r.response {
                Some(Response::ResponseRange(range)) => decode(&range.kvs),
                _ => None,
            });
            let swapped = Call::Swap { from, to: Some(to) };
            (if r.succeeded { swapped } else { Call::NoSwap { expected: from, found } }, r.header)
        });
    }
}
