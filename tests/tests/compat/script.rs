//! A script: calls on a fresh store, one after the other, whose outcomes are compared.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use prost::Message as _;
use retcd_proto::etcdserverpb as pb;
use retcd_tests::grpc::{Connection, Outcome, frame};
use retcd_tests::http1;
use retcd_tests::member::{Member, Setup};
use retcd_tests::recorded::{self, Form};

use crate::rpc::{Ids, Rpc, Show, show};

/// What a step is for. Cases are counted; a set-up step is compared as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Setup,
    Good,
    Bad,
}

/// The bytes of a gRPC body.
pub(crate) enum Body {
    Fixed(Vec<u8>),
    /// Depends on the member's ids.
    Of(Box<dyn Fn(Ids) -> Vec<u8> + Send + Sync>),
}

/// A call as it goes over the wire.
pub(crate) enum Call {
    Grpc {
        path: String,
        headers: Vec<(&'static str, String)>,
        body: Body,
        show: Show,
        stream: bool,
    },
    Http {
        method: &'static str,
        path: String,
        headers: Vec<(&'static str, &'static str)>,
        body: &'static str,
    },
    /// Bytes on the client port; compared is whether they are served.
    Tcp(Vec<u8>),
}

impl<R: Rpc> From<R> for Call {
    fn from(request: R) -> Self {
        Self::raw(R::PATH, frame(&request.encode_to_vec()), show::<R::Reply>)
    }
}

impl Call {
    /// Any body for any path.
    pub(crate) fn raw(path: impl Into<String>, body: Vec<u8>, show: Show) -> Self {
        Self::Grpc { path: path.into(), headers: Vec::new(), body: Body::Fixed(body), show, stream: false }
    }

    /// `RangeStream` instead of `Range`.
    pub(crate) fn stream(request: &pb::RangeRequest) -> Self {
        Self::Grpc {
            path: "/etcdserverpb.KV/RangeStream".into(),
            headers: Vec::new(),
            body: Body::Fixed(frame(&request.encode_to_vec())),
            show: show::<pb::RangeStreamResponse>,
            stream: true,
        }
    }

    /// A request that holds an id of the member.
    pub(crate) fn of<R: Rpc>(make: impl Fn(Ids) -> R + Send + Sync + 'static) -> Self {
        Self::Grpc {
            path: R::PATH.into(),
            headers: Vec::new(),
            body: Body::Of(Box::new(move |ids| frame(&make(ids).encode_to_vec()))),
            show: show::<R::Reply>,
            stream: false,
        }
    }

    /// Adds a header or metadata; an empty value takes one away. Bytes above 127 may stand in the value as `\u{80}`..`\u{ff}`.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Self::Grpc { headers, .. } = &mut self {
            headers.push((name, value.into()));
        }
        self
    }
}

struct Step {
    name: String,
    kind: Kind,
    call: Call,
    differs: Option<&'static str>,
}

/// Calls on a fresh store.
pub(crate) struct Script {
    name: &'static str,
    flags: Vec<&'static str>,
    steps: Vec<Step>,
}

impl Script {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, flags: Vec::new(), steps: Vec::new() }
    }

    /// Flags for the server.
    pub(crate) fn flags(mut self, flags: &[&'static str]) -> Self {
        self.flags.extend(flags);
        self
    }

    pub(crate) fn setup(&mut self, call: impl Into<Call>) -> &mut Self {
        let name = format!("(step {})", self.steps.len() + 1);
        self.add(name, Kind::Setup, call.into())
    }

    /// A sound call.
    pub(crate) fn good(&mut self, name: impl Into<String>, call: impl Into<Call>) -> &mut Self {
        self.add(name.into(), Kind::Good, call.into())
    }

    /// Bad input. Whether the connection is kept afterwards is compared too.
    pub(crate) fn bad(&mut self, name: impl Into<String>, call: impl Into<Call>) -> &mut Self {
        self.add(name.into(), Kind::Bad, call.into())
    }

    /// Says of the last step that ours answers otherwise, and why that is right. It then has to differ.
    pub(crate) fn differs(&mut self, why: &'static str) -> &mut Self {
        self.steps.last_mut().expect("a step").differs = Some(why);
        self
    }

    fn add(&mut self, name: String, kind: Kind, call: Call) -> &mut Self {
        assert!(!self.steps.iter().any(|s| s.name == name), "two steps named {name:?}");
        self.steps.push(Step { name, kind, call, differs: None });
        self
    }

    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.steps.iter().filter(|s| s.kind == kind).count()
    }

    /// Runs it on our server and compares with genuine etcd: live if it is there, else as recorded.
    ///
    /// # Panics
    /// If anything differs that should not; with a list of it.
    pub(crate) fn compare(&self) {
        let steps = self.steps.iter().map(|step| recorded::Step { name: &step.name, differs: step.differs });
        let file = format!("compat/{}.txt", self.name);
        recorded::compare(&file, Form::Lines, &steps.collect::<Vec<_>>(), |program| self.run(program));
    }

    fn run(&self, program: &Path) -> Vec<String> {
        let member = Member::start(Setup::new(PathBuf::from(program)).flags(self.flags.iter().copied()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let outcomes = runtime.block_on(self.outcomes(&member));
        let health = http1::get(member.port(), "/version").map(|a| a.status);
        assert!(matches!(health, Ok(200)), "{}: {health:?}\n{}", self.name, member.describe());
        outcomes
    }

    async fn outcomes(&self, member: &Member) -> Vec<String> {
        let mut connection = Connection::open(member.port()).await;
        let status: pb::StatusResponse =
            connection.call(pb::StatusRequest::PATH, &pb::StatusRequest {}).await.reply().expect("a status");
        let header = status.header.expect("a header");
        let ids = Ids { cluster: header.cluster_id, member: header.member_id };
        let mut outcomes = Vec::new();
        for step in &self.steps {
            let mut text = match &step.call {
                Call::Grpc { path, headers, body, show, stream } => {
                    let body = match body {
                        Body::Fixed(body) => body.clone(),
                        Body::Of(make) => make(ids),
                    };
                    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
                    let outcome = connection.send(path, &headers, body).await;
                    grpc_text(&outcome, *show, ids, *stream)
                }
                Call::Http { method, path, headers, body } => {
                    http_text(&http1::request(member.port(), method, path, headers, body.as_bytes()), path)
                }
                Call::Tcp(bytes) => tcp_text(http1::exchange(member.port(), bytes)),
            };
            if !connection.usable() {
                text += " [connection closed]";
                connection = Connection::try_open(member.port()).await.unwrap_or_else(|e| {
                    panic!("{}: server gone after {:?}: {e}\n{}", self.name, step.name, member.describe())
                });
            }
            outcomes.push(shorten(&text.replace('\n', "\\n")));
        }
        outcomes
    }
}

fn grpc_text(outcome: &Outcome, show: Show, ids: Ids, stream: bool) -> String {
    let mut out = String::new();
    if let Some(broken) = &outcome.broken {
        let _ = write!(out, "BROKEN {broken} ");
    }
    if outcome.http != 200 || !outcome.content_type.starts_with("application/grpc") {
        let _ = write!(out, "HTTP {} {} {:?} ", outcome.http, outcome.content_type, outcome.body);
    }
    match outcome.code {
        Some(0) => out += "OK",
        Some(code) => {
            let _ = write!(out, "code {code} {:?}", outcome.text);
        }
        None => out += "no code",
    }
    for message in &outcome.messages {
        let _ = write!(out, " {}", show(message, ids));
    }
    if stream {
        // Cut into messages or not, what arrives is one answer.
        let _ = write!(out, " in {} messages", outcome.messages.len());
    }
    out
}

/// In what words a request is refused that is none, or whether the connection just ends, is a matter
/// of the HTTP library.
fn tcp_text(answer: std::io::Result<Vec<u8>>) -> String {
    let answer = answer.unwrap_or_default();
    let text = String::from_utf8_lossy(&answer);
    let line = text.lines().next().unwrap_or_default();
    let refused = line.is_empty() || line.starts_with("HTTP/1.1 4");
    if refused { "refused".into() } else { line.to_owned() }
}

/// The metrics that ours must have, since dashboards and alerts read them.
const METRICS: &[&str] = &[
    "etcd_cluster_version",
    "etcd_debugging_mvcc_current_revision",
    "etcd_debugging_mvcc_keys_total",
    "etcd_disk_backend_commit_duration_seconds_bucket",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_put_total",
    "etcd_server_has_leader",
    "etcd_server_id",
    "etcd_server_is_leader",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_quota_backend_bytes",
    "etcd_server_version",
];

/// What every answer of the HTTP handlers carries.
const CORS: &[(&str, &str)] = &[
    ("access-control-allow-methods", "POST, GET, OPTIONS, PUT, DELETE"),
    ("access-control-allow-origin", "*"),
    ("access-control-allow-headers", "accept, content-type, authorization"),
];

fn http_text(answer: &std::io::Result<http1::Answer>, path: &str) -> String {
    let answer = match answer {
        Ok(answer) => answer,
        Err(e) => return format!("no answer: {}", e.kind()),
    };
    let mut out = answer.status.to_string();
    if CORS.iter().all(|(name, value)| answer.header(name).as_deref() == Some(value)) {
        out += " cors";
    }
    for name in ["content-type", "allow", "location"] {
        if let Some(value) = answer.header(name) {
            let _ = write!(out, " {name}={value:?}");
        }
    }
    if path.starts_with("/metrics") && answer.status == 200 {
        let text = answer.text();
        let has =
            |name: &&&str| text.lines().any(|l| l.strip_prefix(**name).is_some_and(|r| r.starts_with(['{', ' '])));
        let _ = write!(out, " {:?}", METRICS.iter().filter(has).collect::<Vec<_>>());
    } else {
        let text = answer.text();
        let mut lines: Vec<_> = text.split('\n').collect();
        if text.starts_with("[+]") || text.starts_with("[-]") {
            // Their order is a matter of chance.
            lines.sort_unstable();
        }
        let _ = write!(out, " {:?}", lines.join("\n"));
    }
    out
}

/// Long outcomes by their beginning, length and hash.
fn shorten(text: &str) -> String {
    const LONG: usize = 4000;
    if text.len() <= LONG {
        return text.to_owned();
    }
    // FNV-1a: stable from release to release, unlike the standard library's.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let cut = (0..=400).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    format!("{}... {} bytes, hash {hash:016x}", &text[..cut], text.len())
}
