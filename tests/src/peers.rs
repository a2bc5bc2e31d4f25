//! Where genuine etcd programs are found.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

const GO: &str = "with Go, the commands in tests/peers/README.md";
const DEBIAN: &str = "apt-get install etcd-client";

/// Go etcd 3.7, the server; says `SKIPPED` and how to get it when it is not there.
#[must_use]
pub fn go_etcd() -> Option<PathBuf> {
    built("etcd")
}

/// An older Go etcd, `3.5` or `3.6`, the server; says `SKIPPED` and how to get it when it is not there.
#[must_use]
pub fn go_etcd_of(release: &str) -> Option<PathBuf> {
    let name = format!("etcd-{release}");
    let found = find(&name);
    if found.is_none() {
        let build = format!("cd tests/peers/v{release} && go build -o ../bin/{name} go.etcd.io/etcd/server/v3");
        skipped(&format!("Go etcd {release}"), &build);
    }
    found
}

/// Go etcdctl 3.7; says `SKIPPED` and how to get it when it is not there.
#[must_use]
pub fn go_etcdctl() -> Option<PathBuf> {
    built("etcdctl")
}

/// Go etcdutl 3.7; says `SKIPPED` and how to get it when it is not there.
#[must_use]
pub fn go_etcdutl() -> Option<PathBuf> {
    built("etcdutl")
}

/// The tool of Go's bbolt; says `SKIPPED` and how to get it when it is not there.
#[must_use]
pub fn bbolt() -> Option<PathBuf> {
    built("bbolt")
}

/// Our program over Go's client, `peers/state`; says `SKIPPED` and how to get it when it is not there.
#[must_use]
pub fn state() -> Option<PathBuf> {
    built("state")
}

/// Debian's etcdctl 3.4; says `SKIPPED` and how to get it when it is not there.
#[must_use]
pub fn debian_etcdctl() -> Option<PathBuf> {
    let path = Path::new("/usr/bin/etcdctl");
    let said = Command::new(path).arg("version").output().ok().map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    if said.is_some_and(|s| s.contains("etcdctl version: 3.4.")) {
        return Some(path.to_owned());
    }
    skipped("etcdctl 3.4 (Debian)", DEBIAN);
    None
}

/// Prometheus and its promtool, from Debian's package; says `SKIPPED` and how to get them when they are not there.
#[must_use]
pub fn prometheus() -> Option<(PathBuf, PathBuf)> {
    let either =
        |name: &str| find(name).or_else(|| Some(Path::new("/usr/bin").join(name)).filter(|path| path.is_file()));
    let found = either("prometheus").zip(either("promtool"));
    if found.is_none() {
        skipped(
            "Prometheus (Debian)",
            "in tests/peers: apt-get download prometheus, and unpack its programs into bin/",
        );
    }
    found
}

/// The official Go client's packages at work, `peers/clients`; says `SKIPPED` and how to get it when it is not there.
#[must_use]
pub fn go_clients() -> Option<PathBuf> {
    built("clients")
}

/// A script and what runs it.
#[derive(Clone, Debug)]
pub struct Interpreted {
    /// The interpreter.
    pub program: PathBuf,
    /// The script.
    pub script: PathBuf,
}

/// etcd3 for Python, `peers/python`; says `SKIPPED` and how to get it when it is not there.
#[must_use]
pub fn python_etcd3() -> Option<Interpreted> {
    let dir = peers_dir().join("python");
    let program = dir.join("venv/bin/python");
    if !loads(Command::new(&program).args(["-c", "import etcd3"])) {
        skipped(
            "etcd3 for Python",
            "in tests/peers/python: python3 -m venv venv && venv/bin/pip install -r requirements.txt",
        );
        return None;
    }
    Some(Interpreted { program, script: dir.join("client.py") })
}

/// etcd3 for Node, `peers/node`; says `SKIPPED` and how to get it when it is not there.
#[must_use]
pub fn node_etcd3() -> Option<Interpreted> {
    let dir = peers_dir().join("node");
    if !loads(Command::new("node").args(["-e", "require('etcd3')"]).current_dir(&dir)) {
        skipped("etcd3 for Node", "in tests/peers/node: npm ci");
        return None;
    }
    Some(Interpreted { program: "node".into(), script: dir.join("client.js") })
}

/// jetcd, `peers/jetcd`: arguments for `java` up to its main class; says `SKIPPED` and how to get it when it is not there.
#[must_use]
pub fn jetcd() -> Option<Vec<String>> {
    let built = peers_dir().join("jetcd/target");
    let found = built.join("classes/Client.class").is_file() && built.join("lib").is_dir();
    if !found || !loads(Command::new("java").arg("-version")) {
        skipped("jetcd", "in tests/peers/jetcd: mvn compiler:compile dependency:copy-dependencies");
        return None;
    }
    let path = format!("{0}/classes:{0}/lib/*", built.display());
    // It lives for seconds: what makes a long life quick only takes time.
    Some(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", &path, "Client"].map(str::to_owned).to_vec())
}

/// Whether a command that loads a library works.
fn loads(command: &mut Command) -> bool {
    command.output().is_ok_and(|out| out.status.success())
}

fn peers_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

fn built(name: &str) -> Option<PathBuf> {
    let found = find(name);
    if found.is_none() {
        skipped(&format!("tests/peers/bin/{name}"), GO);
    }
    found
}

fn find(name: &str) -> Option<PathBuf> {
    let ours = peers_dir().join("bin");
    env::var_os("RETCD_PEERS_BIN")
        .map(PathBuf::from)
        .into_iter()
        .chain([ours])
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// Prints, once per process and text, that something was not tested and how to change that.
///
/// Past the capture of the test harness, so that a run shows it without `--nocapture`.
pub fn skipped(what: &str, remedy: &str) {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let line = format!("SKIPPED: {what} not found ({remedy})\n");
    let mut said = SAID.lock().expect("no test panics while it prints");
    if !said.contains(&line) {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        said.push(line);
    }
}
