//! Sockets that are open before the member starts, as systemd hands them over: `LISTEN_FDS`.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use retcd_tests::process::{Process, until};
use retcd_tests::{binary, http1};
use rustix::process::Signal;

/// A descriptor goes to the place where systemd puts the first one, by way of the standard input.
const HAND_OVER: &str = r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@""#;

fn start(data: &Path, client_url: &str, socket: impl Into<OwnedFd>) -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", HAND_OVER, "sh"]).arg(binary::ours());
    command.arg(format!("--data-dir={}", data.display()));
    command.args(["--listen-peer-urls=http://127.0.0.1:0", "--name=m"]);
    command.arg(format!("--listen-client-urls={client_url}"));
    command.arg(format!("--advertise-client-urls={client_url}"));
    Process::start_with(command, Stdio::from(socket.into()))
}

#[test]
fn clients_wait_while_the_member_is_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let url = format!("http://127.0.0.1:{port}");
    for _ in 0..2 {
        // The question comes before there is anybody to answer it.
        let client = thread::spawn(move || http1::get(port, "/health"));
        until("a client in the backlog", || {
            let table = std::fs::read_to_string("/proc/net/tcp").map_err(|e| e.to_string())?;
            let to = format!(":{port:04X} 01 ");
            table.lines().any(|line| line.contains(&to)).then_some(()).ok_or(table)
        });
        let mut member = start(&data, &url, listener.try_clone().expect("a copy"));
        let answer = client.join().expect("asked").expect("answered");
        assert!(answer.text().contains("\"health\":\"true\""), "{}", answer.text());
        member.wait_for_log("listening on an inherited socket");
        member.terminate();
    }
}

#[test]
fn a_socket_that_no_url_is_for_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let mut member = start(&dir.path().join("data"), "http://127.0.0.1:0", listener);
    member.wait_for_log("ready to serve client requests");
    let log = member.log().text();
    let line = log.lines().find(|line| line.contains("inherited socket is not used"));
    assert!(line.is_some_and(|line| line.contains(&address)), "{log}");
    member.terminate();
}

#[test]
fn the_file_of_a_socket_stays_for_the_next_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("c.sock");
    let listener = UnixListener::bind(&path).expect("bound");
    let url = format!("unix://{}", path.display());
    let mut member = start(&dir.path().join("data"), &url, listener.try_clone().expect("a copy"));
    member.wait_for_log("ready to serve client requests");
    member.wait_for_log("listening on an inherited socket");
    member.signal(Signal::TERM);
    member.wait();
    UnixStream::connect(&path).expect("whoever made it listens on");
}
