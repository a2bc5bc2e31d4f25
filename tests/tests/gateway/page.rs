//! Websockets and calls of real JavaScript: of Node, and of a page in Chromium.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use retcd_proto::etcdserverpb as pb;
use retcd_tests::grpc::Connection;
use retcd_tests::member::{Member, Setup};
use retcd_tests::process::{Process, until};
use retcd_tests::{binary, peers};
use rustix::process::{Pid, Signal, kill_process_group};

const SCRIPT: &str = "tests/gateway/page.js";

/// What the script sees.
const SEEN: &str = "PUT 1 before \nPUT 2 before 1\nDELETE  before 2\ncanceled\n1000 true\n\
                    renewed true 1000\nrenewed true 1000\nrenewed true 1000\n1000 true";

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(SCRIPT)
}

#[test]
fn node_follows_a_key() {
    // Up to version 21 it has to be asked for.
    let knows = |flags: &[&str]| {
        let test = "process.exit(typeof WebSocket === 'function' ? 0 : 1)";
        let known = Command::new("node").args(flags).args(["-e", test]).output();
        known.is_ok_and(|output| output.status.success())
    };
    let flags: &[&str] = match (knows(&[]), knows(&["--experimental-websocket"])) {
        (true, _) => &[],
        (false, true) => &["--experimental-websocket"],
        _ => return peers::skipped("Node with websockets", "apt-get install nodejs, of version 20.10 or later"),
    };
    for program in peers::go_etcd().into_iter().chain([binary::ours()]) {
        let member = Member::start(Setup::new(program));
        let host = format!("127.0.0.1:{}", member.port());
        let output = Command::new("node").args(flags).arg(script()).arg(host).output().expect("node runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?} {}", member.describe());
        assert_eq!(said.trim_end(), SEEN, "{}", member.describe());
    }
}

#[test]
fn a_page_follows_a_key() {
    let Some(chromium) = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()))
    else {
        return peers::skipped("Chromium", "apt-get install chromium");
    };
    let member = Member::start(Setup::new(binary::ours()));
    let dir = tempfile::Builder::new().prefix("retcd-page-").tempdir().expect("a directory");
    let host = format!("127.0.0.1:{}", member.port());
    // What it saw it leaves under a key: the page of another origin may call, and read the answers.
    let page = format!(
        "<!doctype html><script>\n{}\n\
         const tell = (text) => fetch('http://{host}/v3/kv/put', \
         {{method: 'POST', body: JSON.stringify({{key: btoa('seen'), value: btoa(text)}})}});\n\
         talk('{host}').then(tell, tell);\n</script>",
        fs::read_to_string(script()).expect("the script"),
    );
    let file = dir.path().join("page.html");
    fs::write(&file, page).expect("written");
    let mut command = Command::new(chromium);
    // It leaves there what it made.
    command.env("TMPDIR", dir.path());
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--disable-background-networking", "--remote-debugging-port=0"])
        .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
        .arg(format!("file://{}", file.display()));
    let mut browser = Browser::start(command);
    let seen = until("the page tells what it saw", || {
        read(&member).ok_or_else(|| format!("{:?} {}", browser.0.exited(), browser.0.tail()))
    });
    drop(browser);
    // What was about to write a file may still do so.
    until("the directory is removed", || match fs::remove_dir_all(dir.path()) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    });
    assert_eq!(seen, SEEN, "{}", member.describe());
}

/// A browser, whose helpers end with it.
struct Browser(Process);

impl Browser {
    fn start(mut command: Command) -> Self {
        command.process_group(0);
        Self(Process::start(command))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.pid()).ok().and_then(Pid::from_raw);
        // They may be gone.
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
    }
}

/// What is under the key `seen`.
fn read(member: &Member) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let get = pb::RangeRequest { key: "seen".into(), ..Default::default() };
        let connection = Connection::open(member.port()).await;
        let outcome = connection.call("/etcdserverpb.KV/Range", &get).await;
        let reply: pb::RangeResponse = outcome.reply().expect("a reply");
        let pair = reply.kvs.first()?;
        Some(String::from_utf8_lossy(&pair.value).into_owned())
    })
}
