//! What systemd is told, and when: `Type=notify` waits for it.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use retcd_tests::member::{Member, PATIENCE, Setup};
use retcd_tests::{binary, peers};

/// The program with the variable that systemd sets.
fn told(program: &Path, dir: &Path, socket: &str) -> PathBuf {
    let script = dir.join("etcd");
    let text = format!("#!/bin/sh\nNOTIFY_SOCKET='{socket}' exec '{}' \"$@\"\n", program.display());
    std::fs::write(&script, text).expect("written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a script");
    script
}

fn received(socket: &UnixDatagram) -> String {
    socket.set_nonblocking(false).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer).expect("a message");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn systemd_is_told_by_a_path_and_by_an_abstract_name() {
    for program in [Some(binary::ours()), peers::go_etcd()].into_iter().flatten() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("a socket");
        let member = Member::start(Setup::new(told(&program, dir.path(), path.to_str().expect("text"))));
        assert_eq!(received(&by_path), "READY=1", "{}", program.display());
        member.wait_for_log("successfully notified init daemon");
        drop(member);

        let name = format!("retcd-notify-{}", dir.path().display());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let by_name = UnixDatagram::bind_addr(&address).expect("a socket");
        let _member = Member::start(Setup::new(told(&program, dir.path(), &format!("@{name}"))));
        assert_eq!(received(&by_name), "READY=1", "{}", program.display());
    }
}

#[test]
fn systemd_is_told_when_there_is_a_quorum() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let program = told(&binary::ours(), dir.path(), path.to_str().expect("text"));
    let mut members = ["m1", "m2", "m3"].map(|name| Member::prepare(Setup::new(&program).name(name)));
    let cluster = members.iter().map(Member::entry).collect::<Vec<_>>().join(",");
    for member in &mut members {
        member.set_cluster(&*cluster);
    }
    let [first, second, _] = &mut members;
    first.spawn();
    first.wait_for_log("serving peer traffic");
    socket.set_nonblocking(true).expect("a socket");
    let early = socket.recv(&mut [0; 100]).expect_err("one of three is no quorum");
    assert_eq!(early.kind(), ErrorKind::WouldBlock);
    second.spawn();
    for _ in 0..2 {
        assert_eq!(received(&socket), "READY=1");
    }
}

#[test]
fn a_socket_that_is_gone_stops_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let member = Member::start(Setup::new(told(&binary::ours(), dir.path(), "/nonexistent/notify")));
    member.wait_for_log("failed to notify systemd for readiness");
}
