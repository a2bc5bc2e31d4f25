//! Other people's clients against our server: the packages of the official Go client (`peers/clients`), etcd3 for
//! Python and etcd3 for Node.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use retcd_tests::member::{Member, Setup};
use retcd_tests::{binary, peers, run};

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
fn python_etcd3() {
    let Some(python) = peers::python_etcd3() else { return };
    let member = Member::start(Setup::new(binary::ours()));
    succeed(&member, Command::new(&python.program).arg(&python.script).arg(endpoint(&member)));
}

#[test]
fn node_etcd3() {
    let Some(node) = peers::node_etcd3() else { return };
    let member = Member::start(Setup::new(binary::ours()));
    succeed(&member, Command::new(&node.program).arg(&node.script).arg(endpoint(&member)));
}
