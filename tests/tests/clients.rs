//! Other people's clients against our server: the packages of the official Go client (`peers/clients`), etcd3 for
//! Python, etcd3 for Node, and jetcd. Each puts, gets, runs transactions, watches, leases and locks, and does it again
//! over TLS, trusting the authority of the server's certificate and showing none of its own.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use retcd_tests::member::{Member, Setup};
use retcd_tests::pki::{Issued, Spec};
use retcd_tests::ports::Port;
use retcd_tests::{binary, peers, run};
use tempfile::TempDir;

fn endpoint(member: &Member) -> String {
    format!("127.0.0.1:{}", member.port())
}

fn succeed(member: &Member, command: &mut Command) {
    match run::stdout(command) {
        Ok(said) => assert!(said.ends_with("ok\n"), "{said}"),
        Err(why) => panic!("{why}\n{}", member.describe()),
    }
}

fn go(commands: &[&str]) {
    let Some(program) = peers::go_clients() else { return };
    let member = Member::start(Setup::new(binary::ours()));
    for name in commands {
        succeed(&member, Command::new(&program).arg(format!("--endpoint={}", endpoint(&member))).arg(name));
    }
}

#[test]
fn go_concurrency() {
    go(&["session", "mutex", "election", "stm"]);
}

/// Go's package and our services in one queue.
#[test]
fn go_concurrency_beside_the_services() {
    go(&["mutex-service"]);
}

#[test]
fn go_leasing_mirror_namespace_ordering() {
    go(&["leasing", "mirror", "namespace", "ordering"]);
}

#[test]
fn go_keep_alive() {
    go(&["keepalive"]);
}

/// A watch of Go's client lives on over `kill -9` and stops, and misses nothing.
#[test]
fn go_watch_over_restarts() {
    let Some(program) = peers::go_clients() else { return };
    let mut member = Member::start(Setup::new(binary::ours()));
    let mut child = Command::new(&program)
        .args([format!("--endpoint={}", endpoint(&member)), "watch-restart".into()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().and_then(Result::ok).as_deref(), Some("ready"), "{}", member.describe());
    for round in 0..4 {
        if round % 2 == 0 {
            member.kill();
        } else {
            member.terminate();
        }
        member.restart();
        // Not to wait for anything: it writes in between.
        thread::sleep(Duration::from_millis(200));
    }
    let end = lines.next().and_then(Result::ok);
    let status = child.wait().expect("it ends");
    assert!(status.success() && end.as_deref() == Some("ok"), "{status}: {end:?}\n{}", member.describe());
}

#[test]
fn go_basics() {
    go(&["basics"]);
}

#[test]
fn go_basics_over_tls() {
    let Some(program) = peers::go_clients() else { return };
    let secure = Secure::start();
    let flags = [format!("--endpoint={}", secure.endpoint()), format!("--cacert={}", secure.authority())];
    succeed(&secure.member, Command::new(program).args(flags).arg("basics"));
}

/// A script that takes an endpoint, and a file of authorities.
fn script(peer: &peers::Interpreted) {
    let run = |arguments: &[String]| {
        let mut command = Command::new(&peer.program);
        command.arg(&peer.script).args(arguments);
        command
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let member = Member::start(Setup::new(binary::ours()));
            succeed(&member, &mut run(&[endpoint(&member)]));
        });
        let secure = Secure::start();
        succeed(&secure.member, &mut run(&[secure.endpoint(), secure.authority()]));
    });
}

#[test]
fn python_etcd3() {
    if let Some(python) = peers::python_etcd3() {
        script(&python);
    }
}

#[test]
fn node_etcd3() {
    if let Some(node) = peers::node_etcd3() {
        script(&node);
    }
}

#[test]
fn java_jetcd() {
    let Some(java) = peers::jetcd() else { return };
    let member = Member::start(Setup::new(binary::ours()));
    succeed(&member, Command::new("java").args(&java).arg(member.url()));
}

#[test]
fn java_jetcd_over_tls() {
    let Some(java) = peers::jetcd() else { return };
    let secure = Secure::start();
    let arguments = [format!("https://{}", secure.endpoint()), secure.authority()];
    succeed(&secure.member, Command::new("java").args(&java).args(arguments));
}

/// A member whose clients speak TLS, and need no certificate.
struct Secure {
    member: Member,
    port: Port,
    authority: PathBuf,
    _dir: TempDir,
}

impl Secure {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("retcd-").tempdir().expect("a directory");
        let ca = Issued::self_signed(&Spec::new("ca").names(&[]).usages(&[]).authority());
        let (authority, _) = ca.put(dir.path(), "ca");
        let (cert, key) = ca.issue(&Spec::new("server")).put(dir.path(), "server");
        let port = Port::take();
        let mut member = Member::prepare(Setup::new(binary::ours()));
        // The harness looks after it in plain text.
        let plain = member.url();
        let secure = format!("https://127.0.0.1:{}", port.number());
        member.set_flags([
            format!("--listen-client-urls={plain},{secure}"),
            format!("--advertise-client-urls={secure}"),
            format!("--cert-file={}", cert.display()),
            format!("--key-file={}", key.display()),
        ]);
        member.restart();
        Self { member, port, authority, _dir: dir }
    }

    fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    fn authority(&self) -> String {
        self.authority.to_str().expect("UTF-8").to_owned()
    }
}
