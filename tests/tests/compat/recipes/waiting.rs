//! Locks and elections in which somebody waits: what each caller is told is the same as on genuine etcd.
//!
//! A scene is a list of moves. A call that waits is begun, the next move comes when its key is there, and at the end
//! each tells what it was answered.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::v3electionpb::LeaderResponse;
use retcd_tests::grpc::{Connection, Outcome};
use retcd_tests::member::{Member, Setup};
use retcd_tests::recorded::{self, Form};
use retcd_tests::stream::{Part, Stream, Streams};

use tokio::task::JoinHandle;

use super::*;
use crate::rpc::{Ids, Show};

enum Move {
    /// Waits for the answer.
    Call(&'static str, Bytes, Show),
    /// Begins a call, which takes this key.
    Begin(&'static str, Bytes, Show, &'static str),
    /// The n-th call that was begun has to be answered now.
    Answered(usize),
    /// The n-th call that was begun is given up by its client, and its key goes.
    GiveUp(usize, &'static str),
    /// The key is put a second time.
    Changed(&'static str),
    /// The key goes, by itself.
    Gone(&'static str),
    /// Observes an election.
    Observe(&'static str),
    /// So many more leaders are told.
    Told(usize),
}

struct Scene {
    name: &'static str,
    moves: Vec<Move>,
    differs: Option<&'static str>,
}

impl Scene {
    fn new(name: &'static str) -> Self {
        Self { name, moves: Vec::new(), differs: None }
    }

    fn call<R: Rpc>(mut self, request: &R) -> Self {
        self.moves.push(Move::Call(R::PATH, request.encode_to_vec().into(), show::<R::Reply>));
        self
    }

    fn begin<R: Rpc>(mut self, request: &R, key: &'static str) -> Self {
        self.moves.push(Move::Begin(R::PATH, request.encode_to_vec().into(), show::<R::Reply>, key));
        self
    }

    fn then(mut self, next: Move) -> Self {
        self.moves.push(next);
        self
    }

    fn answered(self, n: usize) -> Self {
        self.then(Move::Answered(n))
    }

    fn told(self, n: usize) -> Self {
        self.then(Move::Told(n))
    }

    /// Ours answers otherwise, and why that is right. It then has to.
    fn differs(mut self, why: &'static str) -> Self {
        self.differs = Some(why);
        self
    }
}

fn revoke(id: i64) -> LeaseRevokeRequest {
    LeaseRevokeRequest { id }
}

/// All of them on one server, so that revisions go on.
fn scenes() -> Vec<Scene> {
    let first = Scene::new("leases").call(&grant(1, 1000)).call(&grant(2, 1000)).call(&grant(3, 1000));
    vec![
        first,
        Scene::new("two for a lock")
            .call(&lock("a", 1))
            .begin(&lock("a", 2), "a/2")
            .call(&unlock("a/1"))
            .answered(0)
            .call(&range("a/", "a0"))
            .call(&unlock("a/2")),
        Scene::new("three for a lock, in the order they came")
            .call(&lock("b", 3))
            .begin(&lock("b", 1), "b/1")
            .begin(&lock("b", 2), "b/2")
            .call(&unlock("b/3"))
            .answered(0)
            .call(&range("b/", "b0"))
            .call(&unlock("b/1"))
            .answered(1)
            .call(&unlock("b/2")),
        Scene::new("one in the middle leaves")
            .call(&lock("c", 1))
            .begin(&lock("c", 2), "c/2")
            .begin(&lock("c", 3), "c/3")
            .then(Move::GiveUp(0, "c/2"))
            .call(&range("c/", "c0"))
            .call(&unlock("c/1"))
            .answered(1)
            .call(&unlock("c/3")),
        Scene::new("the lease of the holder ends")
            .call(&grant(0x11, 1000))
            .call(&lock("d", 0x11))
            .begin(&lock("d", 1), "d/1")
            .call(&revoke(0x11))
            .answered(0)
            .call(&unlock("d/1")),
        Scene::new("the lease of the holder ends by itself")
            .call(&grant(0x12, 6))
            .call(&lock("e", 0x12))
            .begin(&lock("e", 1), "e/1")
            .then(Move::Gone("e/12"))
            .answered(0)
            .call(&unlock("e/1")),
        Scene::new("the lease of one who waits ends (L9)")
            .call(&grant(0x13, 1000))
            .call(&lock("f", 1))
            .begin(&lock("f", 0x13), "f/13")
            .call(&revoke(0x13))
            .call(&unlock("f/1"))
            .answered(0)
            .call(&range("f/", "f0")),
        Scene::new("a key of somebody else's making is waited for")
            .call(&put("g/someone", "x"))
            .begin(&lock("g", 1), "g/1")
            .call(&delete("g/someone"))
            .answered(0)
            .call(&unlock("g/1")),
        Scene::new("a key that was there before is older, even if it changed")
            .call(&put("h/old", "x"))
            .begin(&lock("h", 1), "h/1")
            .call(&put("h/old", "y"))
            .call(&range("h/", "h0"))
            .call(&delete("h/old"))
            .answered(0)
            .call(&unlock("h/1")),
        Scene::new("two with one lease share a lock")
            .call(&lock("i", 2))
            .begin(&lock("i", 1), "i/1")
            .begin(&lock("i", 1), "i/1")
            .call(&unlock("i/2"))
            .answered(0)
            .answered(1)
            .call(&unlock("i/1")),
        Scene::new("locks do not get into each other's way")
            .call(&lock("j", 1))
            .call(&lock("jj", 2))
            .call(&lock("j/j", 3))
            .call(&unlock("j/j/3"))
            .call(&unlock("jj/2"))
            .call(&unlock("j/1")),
        Scene::new("two candidates")
            .call(&campaign("k", 1, "one"))
            .begin(&campaign("k", 2, "two"), "k/2")
            .call(&leader("k"))
            .call(&delete("k/1"))
            .answered(0)
            .call(&leader("k"))
            .call(&delete("k/2")),
        Scene::new("a candidate that waits changes its mind")
            .call(&campaign("l", 1, "one"))
            .begin(&campaign("l", 2, "two"), "l/2")
            .begin(&campaign("l", 2, "other"), "l/2")
            .then(Move::Changed("l/2"))
            .call(&delete("l/1"))
            .answered(0)
            .answered(1)
            .call(&delete("l/2")),
        Scene::new("a candidate leaves")
            .call(&campaign("m", 1, "one"))
            .begin(&campaign("m", 2, "two"), "m/2")
            .then(Move::GiveUp(0, "m/2"))
            .call(&leader("m"))
            .call(&delete("m/1")),
        Scene::new("the lease of a candidate ends (L9)")
            .call(&grant(0x14, 1000))
            .call(&campaign("n", 1, "one"))
            .begin(&campaign("n", 0x14, "two"), "n/14")
            .call(&revoke(0x14))
            .call(&delete("n/1"))
            .answered(0)
            .differs("etcd tells one who is out of the election that it leads"),
        Scene::new("a leader is observed")
            .call(&campaign("o", 1, "one"))
            .then(Move::Observe("o"))
            .told(1)
            .call(&put("o/1", "two"))
            .told(1)
            .call(&put("o/1", "three"))
            .told(1)
            .call(&delete("o/1")),
        Scene::new("leaders are observed from the begin")
            .then(Move::Observe("p"))
            .call(&campaign("p", 1, "one"))
            .told(1)
            .begin(&campaign("p", 2, "two"), "p/2")
            .call(&delete("p/1"))
            .told(1)
            .answered(0)
            .call(&delete("p/2"))
            .call(&campaign("p", 3, "three"))
            .told(1)
            .call(&delete("p/3")),
    ]
}

struct Stage {
    port: u16,
    unary: Connection,
    ids: Ids,
    /// The calls that were begun, and are not answered.
    begun: Vec<Option<JoinHandle<Outcome>>>,
    shows: Vec<Show>,
    said: BTreeMap<usize, String>,
    observed: Option<Stream>,
    out: String,
}

impl Stage {
    async fn open(member: &Member) -> Self {
        let unary = Connection::open(member.port()).await;
        let status: pb::StatusResponse =
            unary.call(pb::StatusRequest::PATH, &pb::StatusRequest {}).await.reply().expect("a status");
        let header = status.header.expect("a header");
        Self {
            port: member.port(),
            unary,
            ids: Ids { cluster: header.cluster_id, member: header.member_id },
            begun: Vec::new(),
            shows: Vec::new(),
            said: BTreeMap::new(),
            observed: None,
            out: String::new(),
        }
    }

    async fn play(mut self, scene: &Scene) -> String {
        for next in &scene.moves {
            match next {
                Move::Call(path, body, show) => {
                    let outcome = self.unary.send(path, &[], retcd_tests::grpc::frame(body)).await;
                    let text = text(&outcome, *show, self.ids);
                    let _ = writeln!(self.out, "  {text}");
                }
                Move::Begin(path, body, show, key) => {
                    // A connection each, to be closed by who gives up.
                    let connection = Connection::open(self.port).await;
                    let body = retcd_tests::grpc::frame(body);
                    let path = *path;
                    self.begun.push(Some(tokio::spawn(async move { connection.send(path, &[], body).await })));
                    self.shows.push(*show);
                    self.until(key, 1).await;
                }
                Move::Answered(n) => {
                    let call = self.begun[*n].take().expect("it waits");
                    let outcome = call.await.expect("a call does not panic");
                    self.said.insert(*n, text(&outcome, self.shows[*n], self.ids));
                }
                Move::GiveUp(n, key) => {
                    self.begun[*n].take().expect("it waits").abort();
                    self.until(key, 0).await;
                }
                Move::Changed(key) => self.until(key, 2).await,
                Move::Gone(key) => self.until(key, 0).await,
                Move::Observe(name) => {
                    let streams = Streams::open(self.port, 1 << 20).await;
                    let mut stream = streams.call("/v3electionpb.Election/Observe", &[]).await;
                    stream.send(&leader(name));
                    stream.half_close();
                    self.observed = Some(stream);
                }
                Move::Told(n) => {
                    for _ in 0..*n {
                        let Some(Part::Message(bytes)) = self.next_leader().await else {
                            panic!("{}: the election is not observed any more", scene.name);
                        };
                        let _ = writeln!(self.out, "  told {}", show::<LeaderResponse>(&bytes, self.ids));
                    }
                }
            }
        }
        for (n, text) in &self.said {
            let _ = writeln!(self.out, "  call {n}: {text}");
        }
        for call in self.begun.into_iter().flatten() {
            assert!(!call.is_finished(), "{}: a call was answered too early", scene.name);
            call.abort();
        }
        self.out.trim_end().to_owned()
    }

    async fn next_leader(&mut self) -> Option<Part> {
        match &mut self.observed {
            Some(stream) => Some(stream.next().await),
            None => None,
        }
    }

    /// Waits until a key has been put so often, or, with 0, is not there.
    async fn until(&self, key: &str, version: i64) {
        let deadline = std::time::Instant::now() + retcd_tests::member::PATIENCE;
        loop {
            let reply: pb::RangeResponse =
                self.unary.call(RangeRequest::PATH, &one(key)).await.reply().expect("a range");
            let now = reply.kvs.first().map_or(0, |kv| kv.version);
            if now >= version && (version > 0 || now == 0) {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{key} has version {now}, not {version}");
        }
    }
}

fn text(outcome: &Outcome, show: Show, ids: Ids) -> String {
    let replies: String = outcome.messages.iter().map(|message| format!(" {}", show(message, ids))).collect();
    match outcome.code {
        Some(0) => format!("OK{replies}"),
        code => format!("{code:?} {:?} {:?}", outcome.text, outcome.broken),
    }
}

fn run(program: &Path, scenes: &[Scene]) -> Vec<String> {
    let member = Member::start(Setup::new(PathBuf::from(program)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut seen = Vec::new();
        for scene in scenes {
            seen.push(Stage::open(&member).await.play(scene).await);
        }
        seen
    })
}

#[test]
fn who_waits_is_told_the_same() {
    let scenes = scenes();
    let steps: Vec<_> =
        scenes.iter().map(|scene| recorded::Step { name: scene.name, differs: scene.differs }).collect();
    recorded::compare("compat/waiting.txt", Form::Blocks, &steps, |program| run(program, &scenes));
}
