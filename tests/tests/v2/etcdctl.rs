//! Debian's etcdctl 3.4 in version 2 mode.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use retcd_tests::cluster::{Cluster, wait_for};
use retcd_tests::member::{Member, Setup};
use retcd_tests::ports::Port;
use retcd_tests::{binary, http1, peers};
use serde_json::Value;

/// Arguments; `~` stands for a blank inside of one, `%id` for the member's id, `%peer` for its peer URL.
const CALLS: &[&str] = &[
    "ls",
    "get foo",
    "set foo bar",
    "get foo",
    "-o extended get foo",
    "-o json get foo",
    "set foo two~words",
    "set /deep/down/key value --ttl 1000",
    "get deep/down/key",
    "get foo --quorum",
    "mk foo again",
    "mk new value",
    "mk --in-order queue first",
    "update foo three",
    "update missing x",
    "set foo four --swap-with-value three",
    "set foo five --swap-with-value nope",
    "set foo five --swap-with-index 999999",
    "mkdir dir",
    "mkdir dir",
    "mkdir a/b/c",
    "setdir other",
    "set dir/one 1",
    "set dir/two 2",
    "set dir/_hidden h",
    "ls",
    "ls -p",
    "ls dir",
    "ls --sort --recursive",
    "ls --sort -p -r /",
    "ls missing",
    "ls foo",
    "get dir",
    "get dir/_hidden",
    "-o json ls --sort dir",
    "set dir x",
    "rm dir",
    "rm --dir dir",
    "rmdir dir",
    "rm --with-value nope foo",
    "rm --with-value four foo",
    "rm missing",
    "rm -r dir",
    "rmdir other",
    "rmdir missing",
    "set foo",
    "get",
    "nonsense",
    "member list",
    "member update %id %peer",
    "member update nonsense %peer",
    "member update 12ab %peer",
    "member remove 12ab",
    "member add x",
    "cluster-health",
];

fn command(etcdctl: &Path, member: &Member, args: &str) -> Command {
    let mut command = Command::new(etcdctl);
    command
        .arg(format!("--endpoints={}", member.url()))
        .args(["--timeout=60s", "--total-timeout=60s"])
        .args(args.split(' ').map(|arg| arg.replace('~', " ").replace("%peer", &member.peer_url())))
        .env_clear()
        .env("ETCDCTL_API", "2")
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn first_index(member: &Member) -> u64 {
    let answer = http1::get(member.port(), "/v2/keys/").expect("an answer");
    let index = answer.header("x-etcd-index").and_then(|index| index.parse().ok());
    index.expect("an index")
}

fn own_id(member: &Member) -> String {
    let answer = http1::get(member.port(), "/v2/members").expect("an answer");
    let members: Value = serde_json::from_slice(&answer.body).expect("JSON");
    members["members"][0]["id"].as_str().expect("an id").to_owned()
}

/// What is named as an index, and names that were made in order, counted from a first one.
fn mask(text: &str, first: u64) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_alphanumeric() {
            digits.push(c);
            continue;
        }
        let is_index = ["[", " != ", "Index: ", "Index\":"].iter().any(|before| out.ends_with(before));
        match digits.parse::<u64>() {
            Ok(number) if is_index && (first..first + 1000).contains(&number) => {
                let _ = write!(out, "+{}", number - first);
            }
            Ok(number) if digits.len() == 20 => {
                let _ = write!(out, "in order: +{}", number - first);
            }
            _ => out += &digits,
        }
        digits.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

fn run(etcdctl: &Path, member: &Member, args: &str, first: u64) -> String {
    let args = args.replace("%id", &own_id(member));
    let output = command(etcdctl, member, &args).output().expect("etcdctl runs");
    let text = |bytes: &[u8]| mask(&String::from_utf8_lossy(bytes), first);
    let mut listed: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    // In any order, unless it is asked for.
    if args.contains("ls") && !args.contains("--sort") {
        listed.sort();
    }
    let mut text = format!("{}\nout: {}\nerr: {}", output.status, listed.join("\n"), text(&output.stderr));
    // What is left of a time that runs, and when it is over.
    if let Some(at) = text.find("\"expiration\"") {
        text.truncate(at);
    }
    text
}

fn start(program: std::path::PathBuf) -> Setup {
    Setup::new(program).flags(["--enable-v2"])
}

#[test]
fn commands_do_the_same_on_both() {
    let (Some(etcdctl), Some(go)) = (peers::debian_etcdctl(), peers::go_etcd_of("3.5")) else { return };
    let outputs = |member: &Member| {
        let first = first_index(member);
        CALLS.iter().map(|call| run(&etcdctl, member, call, first)).collect::<Vec<_>>()
    };
    let genuine = Member::start(start(go));
    let expected = outputs(&genuine);
    let ours = genuine.replaced(start(binary::ours()));
    let mut wrong = String::new();
    for ((call, theirs), ours) in CALLS.iter().zip(&expected).zip(outputs(&ours)) {
        if *theirs != ours {
            let _ = write!(wrong, "\n--- {call}\n etcd: {theirs}\n ours: {ours}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A command that waits, ended when it is dropped.
struct Waiting(Child);

impl Waiting {
    fn start(mut command: Command, member: &Member) -> Self {
        let child = command.spawn().expect("etcdctl runs");
        wait_for("watcher", || {
            let answer = http1::get(member.port(), "/v2/stats/store").ok()?;
            let stats: Value = serde_json::from_slice(&answer.body).ok()?;
            (stats["watchers"].as_u64()? > 0).then_some(())
        });
        Self(child)
    }

    fn lines(&mut self, count: usize) -> Vec<String> {
        let output = self.0.stdout.take().expect("piped");
        let lines = BufReader::new(output).lines().map(|line| line.expect("a line"));
        lines.take(count).collect()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn set(etcdctl: &Path, member: &Member, args: &str) {
    let output = command(etcdctl, member, args).output().expect("etcdctl runs");
    assert!(output.status.success(), "{args}: {output:?}");
}

#[test]
fn commands_that_wait() {
    let Some(etcdctl) = peers::debian_etcdctl() else { return };
    let member = Member::start(start(binary::ours()));
    let mut watch = Waiting::start(command(&etcdctl, &member, "watch foo"), &member);
    set(&etcdctl, &member, "set foo bar");
    assert_eq!(watch.lines(1), ["bar"]);
    assert!(watch.0.wait().expect("it ends").success());

    let first = first_index(&member);
    let call = format!("watch --after-index {} foo", first - 1);
    let output = command(&etcdctl, &member, &call).output().expect("etcdctl runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "bar\n");

    let mut forever = Waiting::start(command(&etcdctl, &member, "watch --recursive --forever dir"), &member);
    for args in ["set dir/a 1", "set elsewhere x", "update dir/a 2", "rm dir/a", "mkdir dir/b"] {
        set(&etcdctl, &member, args);
    }
    let lines = forever.lines(5);
    let events: Vec<_> = lines.iter().filter(|line| line.starts_with('[')).collect();
    assert_eq!(events, ["[set] /dir/a", "[update] /dir/a", "[delete] /dir/a"], "{lines:?}");
    drop(forever);

    wait_for("end of the watcher", || {
        let answer = http1::get(member.port(), "/v2/stats/store").ok()?;
        answer.text().contains("\"watchers\":0").then_some(())
    });
    let call = "exec-watch --recursive dir -- sh -c echo~$ETCD_WATCH_ACTION~$ETCD_WATCH_KEY~$ETCD_WATCH_VALUE";
    let mut executes = Waiting::start(command(&etcdctl, &member, call), &member);
    set(&etcdctl, &member, "set dir/c 3");
    assert_eq!(executes.lines(1), ["set /dir/c 3"]);
    drop(executes);

    // As older tools could: genuine 3.5 refuses every update of a directory.
    set(&etcdctl, &member, "mkdir ends --ttl 1000");
    set(&etcdctl, &member, "updatedir ends --ttl 2000");
    let answer = http1::get(member.port(), "/v2/keys/ends").expect("an answer");
    let node: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert!(node["node"]["ttl"].as_i64() > Some(1000), "{node}");
}

#[test]
fn members_come_and_go() {
    let Some(etcdctl) = peers::debian_etcdctl() else { return };
    let ours = binary::ours();
    let mut cluster = Cluster::start(&etcdctl, &[ours.as_path(), &ours, &ours], &["--enable-v2"]);
    cluster.leader();
    let member = &cluster.members[0];
    let said = |args: &str| {
        let output = command(&etcdctl, member, args).output().expect("etcdctl runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    wait_for("healthy cluster", || said("cluster-health").1.contains("cluster is healthy").then_some(()));
    let ports = [Port::take(), Port::take()];
    let urls = ports.each_ref().map(|port| format!("http://127.0.0.1:{}", port.number()));
    // The id of the member that has a URL. An answer may be lost in an election though the change is done.
    let find = |url: &str| {
        let answer = http1::get(member.port(), "/v2/members").expect("an answer");
        let all: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let has = |one: &&Value| one["peerURLs"][0] == url;
        all["members"].as_array().expect("a list").iter().find(has).map(|one| one["id"].as_str().unwrap().to_owned())
    };
    // Right after a start, and whenever a member was not reachable just now, a change is refused.
    let id = wait_for("member added", || {
        let (ok, text) = said(&format!("member add m4 {}", urls[0]));
        let id = find(&urls[0])?;
        if ok {
            assert!(text.starts_with(&format!("Added member named m4 with ID {id} to cluster\n")), "{text}");
            for line in ["ETCD_NAME=\"m4\"", "ETCD_INITIAL_CLUSTER_STATE=\"existing\""] {
                assert!(text.contains(line), "{text}");
            }
        }
        Some(id)
    });
    let listed = said("member list").1;
    assert!(listed.contains(&format!("{id}[unstarted]: peerURLs={}", urls[0])), "{listed}");
    wait_for("member updated", || {
        let (ok, text) = said(&format!("member update {id} {}", urls[1]));
        assert!(!ok || text == format!("Updated member with ID {id} in cluster\n"), "{text}");
        (find(&urls[1])? == id).then_some(())
    });
    wait_for("member removed", || {
        let (ok, text) = said(&format!("member remove {id}"));
        assert!(!ok || text == format!("Removed member {id} from cluster\n"), "{text}");
        find(&urls[1]).is_none().then_some(())
    });
    let again = command(&etcdctl, member, &format!("member remove {id}")).output().expect("etcdctl runs");
    assert!(!again.status.success());
    let answer = http1::request(member.port(), "DELETE", &format!("/v2/members/{id}"), &[], b"").expect("an answer");
    assert_eq!((answer.status, answer.text()), (410, format!("{{\"message\":\"Member permanently removed: {id}\"}}")));
}
