//! Watch streams: the same requests and writes on our server and on genuine etcd give the same replies.
//!
//! A *scene* is a stream, what is sent on it and what is written beside it. Compared are, for each watch id, its
//! replies in order, with revisions counted from where the scene began. Between watchers etcd has no order; it
//! gives a reply to each revision, which ours may join when several wait, so the scenes wait in between.

mod bad;
mod history;
mod live;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use prost::Message as _;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::watch_request::RequestUnion;
use retcd_proto::mvccpb::KeyValue;
use retcd_tests::grpc::Connection;
use retcd_tests::member::{Member, Setup};
use retcd_tests::recorded::{self, Form};
use retcd_tests::stream::{Part, Stream, Streams};

use crate::requests::{bytes, delete_range, put};
use crate::rpc::Rpc;

/// The watch that tells the end of a scene: when it has its event, the others have theirs.
const FENCE: i64 = 7777;

/// A create request in few words. Revisions count from the begin of the scene.
#[derive(Clone, Debug, Default)]
struct Watch {
    request: pb::WatchCreateRequest,
    start: Option<i64>,
}

/// One key.
fn key(key: impl AsRef<[u8]>) -> Watch {
    range(key, "")
}

/// `[key, end)`.
fn range(key: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> Watch {
    let request = pb::WatchCreateRequest { key: bytes(key), range_end: bytes(end), ..Default::default() };
    Watch { request, start: None }
}

impl Watch {
    /// From the n-th revision of the scene on; 0 is the one before its first write.
    const fn from(mut self, n: i64) -> Self {
        self.start = Some(n);
        self
    }

    /// From a revision of the store.
    const fn at_revision(mut self, revision: i64) -> Self {
        self.request.start_revision = revision;
        self
    }

    const fn id(mut self, id: i64) -> Self {
        self.request.watch_id = id;
        self
    }

    const fn prev(mut self) -> Self {
        self.request.prev_kv = true;
        self
    }

    const fn notify(mut self) -> Self {
        self.request.progress_notify = true;
        self
    }

    const fn fragment(mut self) -> Self {
        self.request.fragment = true;
        self
    }

    fn filter(mut self, kinds: &[i32]) -> Self {
        self.request.filters = kinds.to_vec();
        self
    }
}

enum Step {
    Create(Watch),
    Cancel(i64),
    Progress,
    Nothing,
    Raw(Vec<u8>),
    HalfClose,
    /// So many more events and other replies.
    Wait(usize),
    End,
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>, Vec<u8>),
    Txn(Vec<pb::RequestOp>),
    Compact(i64),
}

/// See the module.
struct Scene {
    name: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    steps: Vec<Step>,
    differs: Option<&'static str>,
    /// Values are shown by their length.
    brief: bool,
}

impl Scene {
    fn new(name: &'static str) -> Self {
        Self { name, headers: Vec::new(), steps: Vec::new(), differs: None, brief: false }
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Creates a watch and waits for the answer.
    fn create(self, watch: Watch) -> Self {
        self.send(watch).wait(1)
    }

    /// Creates a watch without waiting.
    fn send(self, watch: Watch) -> Self {
        self.step(Step::Create(watch))
    }

    fn cancel(self, id: i64) -> Self {
        self.step(Step::Cancel(id))
    }

    fn progress(self) -> Self {
        self.step(Step::Progress)
    }

    fn wait(self, n: usize) -> Self {
        self.step(Step::Wait(n))
    }

    /// Waits for the end of the stream.
    fn end(self) -> Self {
        self.step(Step::End)
    }

    fn put(self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.step(Step::Put(key.as_ref().to_vec(), value.as_ref().to_vec()))
    }

    fn delete(self, key: impl AsRef<[u8]>) -> Self {
        self.delete_range(key, "")
    }

    fn delete_range(self, key: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> Self {
        self.step(Step::Delete(key.as_ref().to_vec(), end.as_ref().to_vec()))
    }

    fn txn(self, ops: impl IntoIterator<Item = pb::RequestOp>) -> Self {
        self.step(Step::Txn(ops.into_iter().collect()))
    }

    /// Compacts at the n-th revision of the scene.
    fn compact(self, n: i64) -> Self {
        self.step(Step::Compact(n))
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Ours answers otherwise, and why that is right. It then has to.
    fn differs(mut self, why: &'static str) -> Self {
        self.differs = Some(why);
        self
    }

    fn brief(mut self) -> Self {
        self.brief = true;
        self
    }
}

/// Scenes that share a server.
struct Play {
    name: &'static str,
    flags: Vec<&'static str>,
    scenes: Vec<Scene>,
}

impl Play {
    fn compare(&self) {
        let steps = self.scenes.iter().map(|scene| recorded::Step { name: scene.name, differs: scene.differs });
        let file = format!("compat/watch-{}.txt", self.name);
        recorded::compare(&file, Form::Blocks, &steps.collect::<Vec<_>>(), |program| self.run(program));
    }

    fn run(&self, program: &Path) -> Vec<String> {
        let member = Member::start(Setup::new(PathBuf::from(program)).flags(self.flags.iter().copied()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut seen = Vec::new();
            for scene in &self.scenes {
                seen.push(Stage::open(&member, scene).await.play(scene).await);
            }
            seen
        })
    }
}

/// A scene being played.
struct Stage {
    unary: Connection,
    stream: Stream,
    /// The store's revision when it began.
    base: i64,
    /// What came, by watch id; revisions counted from `base`.
    seen: BTreeMap<i64, Vec<String>>,
    brief: bool,
    end: Option<String>,
    fenced: bool,
    /// The fence is written: what is compared was before it.
    over: bool,
    half_closed: bool,
    /// Progress is told at times of the server's choice.
    periodic: bool,
}

impl Stage {
    async fn open(member: &Member, scene: &Scene) -> Self {
        let unary = Connection::open(member.port()).await;
        let streams = Streams::open(member.port(), 16 << 20).await;
        let status: pb::RangeResponse =
            unary.call(pb::RangeRequest::PATH, &crate::requests::one("none")).await.reply().expect("a range");
        let stream = streams.call("/etcdserverpb.Watch/Watch", &scene.headers).await;
        let base = status.header.expect("a header").revision;
        Self {
            unary,
            stream,
            base,
            seen: BTreeMap::new(),
            brief: scene.brief,
            end: None,
            fenced: false,
            over: false,
            half_closed: false,
            periodic: scene
                .steps
                .iter()
                .any(|step| matches!(step, Step::Create(watch) if watch.request.progress_notify)),
        }
    }

    async fn play(mut self, scene: &Scene) -> String {
        for step in &scene.steps {
            match step {
                Step::Create(watch) => {
                    let mut request = watch.request.clone();
                    if let Some(n) = watch.start {
                        request.start_revision = self.base + n;
                    }
                    self.request(RequestUnion::CreateRequest(request));
                }
                Step::Cancel(watch_id) => {
                    self.request(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: *watch_id }));
                }
                Step::Progress => self.request(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})),
                Step::Nothing => self.stream.send(&pb::WatchRequest { request_union: None }),
                Step::Raw(bytes) => self.stream.send_raw(bytes.clone()),
                Step::HalfClose => {
                    self.stream.half_close();
                    self.half_closed = true;
                }
                Step::Wait(n) => self.wait(*n).await,
                Step::End => {
                    while self.end.is_none() {
                        self.wait(1).await;
                    }
                }
                Step::Put(key, value) => self.write(&put(key, value)).await,
                Step::Delete(key, end) => self.write(&delete_range(key, end)).await,
                Step::Txn(ops) => self.write(&crate::requests::batch(ops.clone())).await,
                Step::Compact(n) => {
                    self.write(&pb::CompactionRequest { revision: self.base + n, physical: true }).await;
                }
            }
        }
        self.fence().await;
        self.text()
    }

    fn request(&self, request: RequestUnion) {
        self.stream.send(&pb::WatchRequest { request_union: Some(request) });
    }

    async fn write<R: Rpc + std::fmt::Debug>(&self, request: &R) {
        let outcome = self.unary.call(R::PATH, request).await;
        assert!(outcome.ok(), "{request:?}: {outcome:?}");
    }

    /// Takes replies until `n` events and other replies have come.
    async fn wait(&mut self, n: usize) {
        let mut come = 0;
        while come < n && self.end.is_none() {
            come += self.take().await;
        }
    }

    /// Everything that is on its way has come when this is over.
    async fn fence(&mut self) {
        // With its side closed the client cannot ask for anything any more. Both servers get the same writes.
        if self.end.is_some() || self.half_closed {
            return self.write(&put("fence", "")).await;
        }
        let Watch { mut request, .. } = key("fence").id(FENCE);
        request.watch_id = FENCE;
        self.request(RequestUnion::CreateRequest(request));
        while !self.fenced && self.end.is_none() {
            self.take().await;
        }
        self.fenced = false;
        self.over = true;
        self.write(&put("fence", "")).await;
        while !self.fenced && self.end.is_none() {
            self.take().await;
        }
    }

    /// Takes one reply, and returns what it counts.
    async fn take(&mut self) -> usize {
        let message = match self.stream.next().await {
            Part::Message(message) => message,
            Part::End(code, text) => {
                self.end = Some(format!("end: code {code} {text:?}"));
                return 1;
            }
            Part::Broken(why) => {
                self.end = Some(format!("broken: {why}"));
                return 1;
            }
        };
        let mut reply = pb::WatchResponse::decode(message).expect("a watch response");
        let fences = reply.events.len();
        reply.events.retain(|event| event.kv.as_ref().is_none_or(|kv| kv.key != "fence"));
        let only_fence = reply.events.len() < fences && reply.events.is_empty();
        if reply.watch_id == FENCE || only_fence {
            // Other watches may see the fence too.
            self.fenced |= reply.watch_id == FENCE;
            return 0;
        }
        let text = self.show(&reply);
        if self.over && self.periodic && is_progress(&text) {
            return 0;
        }
        let list = self.seen.entry(reply.watch_id).or_default();
        // How often progress comes is a matter of time.
        if list.last() != Some(&text) || !reply.events.is_empty() {
            list.push(text);
        }
        reply.events.len().max(1)
    }

    fn relative(&self, revision: i64) -> i64 {
        if revision == 0 { i64::MIN } else { revision - self.base }
    }

    fn show(&self, reply: &pb::WatchResponse) -> String {
        let header = reply.header.as_ref().expect("a header");
        assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0, "{header:?}");
        let mut out = match header.revision {
            0 => "no revision".to_owned(),
            revision => format!("at {}", revision - self.base),
        };
        for (flag, name) in [(reply.created, "created"), (reply.canceled, "canceled"), (reply.fragment, "fragment")] {
            if flag {
                let _ = write!(out, ", {name}");
            }
        }
        if reply.compact_revision != 0 {
            let _ = write!(out, ", compacted {}", self.relative(reply.compact_revision));
        }
        if !reply.cancel_reason.is_empty() {
            let _ = write!(out, ", {:?}", reply.cancel_reason);
        }
        for event in &reply.events {
            let kind = if event.r#type == 0 { "put" } else { "delete" };
            let _ = write!(out, "\n      {kind} {}", self.show_kv(event.kv.as_ref()));
            if let Some(prev) = &event.prev_kv {
                let _ = write!(out, ", before {}", self.show_kv(Some(prev)));
            }
        }
        out
    }

    fn show_kv(&self, kv: Option<&KeyValue>) -> String {
        let Some(kv) = kv else { return "nothing".into() };
        let mut out = format!("{:?}", kv.key);
        for (name, revision) in [("created", kv.create_revision), ("at", kv.mod_revision)] {
            if revision != 0 {
                let _ = write!(out, " {name} {}", self.relative(revision));
            }
        }
        let _ = match self.brief {
            true => write!(out, " v{} {} bytes", kv.version, kv.value.len()),
            false => write!(out, " v{} {:?}", kv.version, kv.value),
        };
        assert_eq!(kv.lease, 0);
        out
    }

    fn text(&self) -> String {
        let mut out = Vec::new();
        for (id, replies) in &self.seen {
            out.push(format!("  {id}:"));
            // A busy machine may be late with a cancel; none comes after it.
            let late = self.periodic && replies.last().is_some_and(|reply| reply.contains(", canceled"));
            let counts = |reply: &&String| !(late && is_progress(reply));
            out.extend(replies.iter().filter(counts).map(|reply| format!("    {reply}")));
        }
        out.extend(self.end.iter().map(|end| format!("  {end}")));
        out.join("\n")
    }
}

/// Whether a reply tells nothing but a revision.
fn is_progress(text: &str) -> bool {
    !text.contains([',', '\n'])
}

macro_rules! plays {
    ($($name:ident => $play:expr,)*) => {
        $(#[test] fn $name() { $play.compare(); })*

        #[test]
        fn there_are_enough_scenes() {
            let count: usize = [$($play.scenes.len()),*].iter().sum();
            println!("{count} scenes");
            assert!(count >= 80, "{count}");
        }
    };
}

plays! {
    keys_and_ranges => live::keys(),
    ids_and_cancels => live::ids(),
    filters_and_previous_values => live::details(),
    progress => live::progress(),
    periodic_progress => live::periodic(),
    transactions => live::transactions(),
    from_history => history::starts(),
    compacted => history::compacted(),
    fragments => history::fragments(),
    bad_input => bad::requests(),
}
