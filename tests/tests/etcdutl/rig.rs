//! A snapshot of a genuine member, and both tools, each in a directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use retcd_proto::etcdserverpb as pb;
use retcd_tests::grpc::Connection;
use retcd_tests::member::{Member, Setup};
use retcd_tests::{binary, peers};
use serde_json::Value;
use tempfile::TempDir;

/// One run of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// The exit code.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error, log lines without time and place.
    pub(crate) err: Vec<String>,
}

impl Said {
    /// The line that says what went wrong.
    pub(crate) fn error(&self) -> &str {
        self.err.iter().find(|line| line.starts_with("Error: ")).map_or("", String::as_str)
    }
}

/// Both tools. Paths in arguments are relative, so that both are told the same.
#[derive(Debug)]
pub(crate) struct Tools {
    temp: TempDir,
    ours: PathBuf,
    theirs: PathBuf,
}

impl Tools {
    /// `None` without Go's tool.
    pub(crate) fn find() -> Option<Self> {
        let theirs = peers::go_etcdutl()?;
        let temp = tempfile::Builder::new().prefix("retcd-utl-").tempdir().expect("a temporary directory");
        let tools = Self { temp, ours: binary::our_etcdutl(), theirs };
        for dir in [tools.our_dir(), tools.their_dir()] {
            fs::create_dir(dir).expect("created");
        }
        Some(tools)
    }

    /// Where ours works.
    pub(crate) fn our_dir(&self) -> PathBuf {
        self.temp.path().join("ours")
    }

    /// Where Go's works.
    pub(crate) fn their_dir(&self) -> PathBuf {
        self.temp.path().join("theirs")
    }

    /// Gives both a file.
    pub(crate) fn give(&self, name: &str, bytes: &[u8]) {
        for dir in [self.our_dir(), self.their_dir()] {
            fs::write(dir.join(name), bytes).expect("written");
        }
    }

    /// Runs ours.
    pub(crate) fn ours(&self, args: &[&str]) -> Said {
        run(&self.ours, &self.our_dir(), args)
    }

    /// Runs Go's.
    pub(crate) fn theirs(&self, args: &[&str]) -> Said {
        run(&self.theirs, &self.their_dir(), args)
    }

    /// What Go's tool prints on a file, of either directory.
    pub(crate) fn judge(&self, args: &[&str], file: &Path) -> String {
        let file = file.to_str().expect("a plain path");
        let said = run(&self.theirs, self.temp.path(), &[args, &[file]].concat());
        assert_eq!(said.code, Some(0), "{file}: {said:?}");
        said.out
    }
}

/// Arguments in one text; `~` is an empty one.
pub(crate) fn words(args: &str) -> Vec<&str> {
    args.split(' ').map(|arg| if arg == "~" { "" } else { arg }).collect()
}

fn run(program: &Path, dir: &Path, args: &[&str]) -> Said {
    let output = Command::new(program)
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said {
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr).lines().filter_map(log_line).collect(),
    }
}

/// Without the time, the place in the source, and the lines of the engine and the resolver, which are not
/// about the work.
fn log_line(line: &str) -> Option<String> {
    let parts: Vec<&str> = line.split('\t').collect();
    let [time, level, _, message, rest @ ..] = parts.as_slice() else {
        return Some(line.to_owned());
    };
    if !time.ends_with('Z') || time.len() != 20 {
        return Some(line.to_owned());
    }
    if line.contains("\tbbolt\t") || *message == "resolved URL Host" {
        return None;
    }
    let fields: Value = rest.first().map_or(Value::Null, |json| serde_json::from_str(json).expect("JSON"));
    Some(format!("{level} {message} {fields}"))
}

/// A snapshot of a genuine member with some history: deletes, a compaction, a lease, users, many pages.
pub(crate) fn saved(keys: usize) -> Option<(Vec<u8>, Source)> {
    let source = Source::start(keys)?;
    let path = source.temp.path().join("snap.db");
    source.ctl(&["snapshot", "save", path.to_str().expect("a plain path")]);
    let bytes = fs::read(path).expect("readable");
    Some((bytes, source))
}

/// A genuine member.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) member: Member,
    pub(crate) etcdctl: PathBuf,
    temp: TempDir,
}

impl Source {
    fn start(keys: usize) -> Option<Self> {
        let (etcd, etcdctl) = (peers::go_etcd()?, peers::go_etcdctl()?);
        let member = Member::start(Setup::new(etcd));
        let temp = tempfile::Builder::new().prefix("retcd-utl-").tempdir().expect("a temporary directory");
        let source = Self { member, etcdctl, temp };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let connection = Connection::open(source.member.port()).await;
            for n in 0..keys {
                let put = pb::PutRequest {
                    key: format!("key/{:05}", n % (keys / 2 + 1)).into(),
                    value: vec![b'a' + (n % 26) as u8; 150].into(),
                    ..Default::default()
                };
                connection.call("/etcdserverpb.KV/Put", &put).await.reply::<pb::PutResponse>().expect("a put");
            }
        });
        source.ctl(&["del", "key/00001"]);
        source.ctl(&["compaction", "5", "--physical"]);
        source.ctl(&["put", "key/00001", "again"]);
        source.ctl(&["del", "--prefix", "key/00002"]);
        let lease = source.ctl(&["lease", "grant", "100000"]);
        let id = lease.split(' ').nth(1).expect("an id").to_owned();
        source.ctl(&["put", "leased", "x", &format!("--lease={id}")]);
        source.ctl(&["role", "add", "reader"]);
        source.ctl(&["role", "grant-permission", "reader", "read", "key/", "--prefix"]);
        source.ctl(&["user", "add", "u:secret"]);
        source.ctl(&["user", "grant-role", "u", "reader"]);
        Some(source)
    }

    fn ctl(&self, args: &[&str]) -> String {
        ctl(&self.etcdctl, &self.member, args)
    }

    /// All keys with their revisions, as a client sees them, and the store's revision.
    pub(crate) fn contents(&self) -> (Value, i64) {
        contents(&self.etcdctl, &self.member)
    }
}

/// Runs etcdctl, which has to succeed.
pub(crate) fn ctl(etcdctl: &Path, member: &Member, args: &[&str]) -> String {
    let output = Command::new(etcdctl)
        .arg(format!("--endpoints=127.0.0.1:{}", member.port()))
        .args(args)
        .env_clear()
        .output()
        .expect("etcdctl runs");
    assert!(output.status.success(), "{args:?}: {output:?}\n{}", member.describe());
    String::from_utf8(output.stdout).expect("text")
}

/// All keys with their revisions, as a client sees them, and the store's revision.
pub(crate) fn contents(etcdctl: &Path, member: &Member) -> (Value, i64) {
    let text = ctl(etcdctl, member, &["get", "", "--prefix", "-w", "json"]);
    let reply: Value = serde_json::from_str(&text).expect("JSON");
    let revision = reply["header"]["revision"].as_i64().expect("a revision");
    (reply["kvs"].clone(), revision)
}
