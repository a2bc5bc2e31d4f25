//! `retcd dev` as a process: it says where it is, answers there, and leaves nothing when it is told to stop.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

struct Dev {
    child: Child,
    endpoints: Vec<String>,
    dir: PathBuf,
}

impl Dev {
    /// Returns when it has said where it is.
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_retcd"))
            .arg("dev")
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let stdout = child.stdout.take().expect("a pipe");
        let mut lines = BufReader::new(stdout)
            .lines()
            .map(|line| line.expect("text"));
        let first = lines.next().expect("it says what it runs");
        let dir = first.split(" data in ").nth(1).expect("it says where");
        let dir = dir.split(" is ").next().expect("a path").into();
        let endpoints =
            lines.find_map(|line| Some(line.trim().strip_prefix("endpoint")?.trim().to_owned()));
        let endpoints = endpoints.expect("it says where it answers");
        Self {
            child,
            endpoints: endpoints.split(',').map(str::to_owned).collect(),
            dir,
        }
    }

    fn stop(mut self, signal: Signal) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it runs");
        self.child.wait().expect("it ends")
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Where a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn health(endpoint: &str) -> String {
    let address = endpoint.strip_prefix("http://").expect("plain");
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

/// One after the other, so that neither takes a port that the other comes back to.
#[test]
fn members_come_and_go() {
    three_members_are_healthy_and_leave_nothing();
    data_that_is_kept_goes_on_where_it_was();
}

fn three_members_are_healthy_and_leave_nothing() {
    let dev = Dev::start(&["--members", "3", "--client-port", "0"]);
    assert_eq!(dev.endpoints.len(), 3);
    for endpoint in &dev.endpoints {
        assert!(
            health(endpoint).contains("{\"health\":\"true\""),
            "{endpoint}"
        );
    }
    let dir = dev.dir.clone();
    assert!(dir.join("m3/member/wal").exists(), "{}", dir.display());
    let status = dev.stop(Signal::TERM);
    assert_eq!(status.code(), Some(0));
    assert!(!dir.exists(), "{} is left", dir.display());
}

fn data_that_is_kept_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("data");
    let arg = format!("--data-dir={}", path.display());
    let mut seen: Option<Vec<String>> = None;
    for signal in [Signal::INT, Signal::HUP] {
        let port: &[&str] = match seen {
            None => &["--client-port=0"],
            Some(_) => &[],
        };
        let dev = Dev::start(&[&[arg.as_str()], port].concat());
        assert_eq!(Path::new(&dev.dir), path);
        assert!(health(&dev.endpoints[0]).contains("\"true\""));
        let endpoints = dev.endpoints.clone();
        assert_eq!(*seen.get_or_insert_with(|| endpoints.clone()), endpoints);
        assert_eq!(dev.stop(signal).code(), Some(0));
        assert!(path.join("m1/member/snap/db").exists());
    }
    // What it did not make, it does not touch.
    std::fs::remove_file(path.join("retcd-dev.json")).expect("removed");
    let refused = Command::new(env!("CARGO_BIN_EXE_retcd"))
        .args(["dev", &arg])
        .output()
        .expect("run");
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("did not make"), "{text}");
}
