use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use super::super::message::tests::answer_to;
use super::*;

const TRUNCATED: u16 = 0x0200;
const REFUSED: u16 = 5;
const RECORDS: &[(u16, u16, u16, &str)] = &[(1, 0, 3, "c.d"), (0, 1, 2, "b.d"), (0, 9, 1, "a.d")];

/// A server that answers each question by what `answer` makes of it and of the name in it.
fn server(answer: impl Fn(&[u8], &str) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = socket.local_addr().expect("bound");
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = &buffer[..length];
            for message in answer(question, &name(question)) {
                let _ = socket.send_to(&message, from);
            }
        }
    });
    address
}

fn name(question: &[u8]) -> String {
    let mut name = String::new();
    let mut at = 12;
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        name += &String::from_utf8_lossy(&question[at + 1..end]);
        name.push('.');
        at = end;
    }
    name
}

fn dns(servers: &[SocketAddr], change: impl FnOnce(&mut ResolvConf)) -> Dns {
    let mut conf = ResolvConf {
        servers: servers.to_vec(),
        timeout: Duration::from_secs(60),
        attempts: 1,
        ..ResolvConf::default()
    };
    change(&mut conf);
    Dns { conf }
}

fn targets(records: &[Srv]) -> Vec<&str> {
    let targets = records.iter().map(|record| record.target.as_deref());
    targets.map(Option::unwrap_or_default).collect()
}

#[test]
fn the_most_wanted_come_first() {
    let server = server(|question, name| {
        assert_eq!(name, "_etcd-server._tcp.example.com.");
        vec![answer_to(question, 0, RECORDS)]
    });
    let found = dns(&[server], |_| {}).srv("etcd-server", "example.com");
    assert_eq!(targets(&found.expect("records")), ["a.d", "b.d", "c.d"]);
}

#[test]
fn what_is_no_answer_is_not_listened_to() {
    let server = server(|question, _| {
        let mut other = answer_to(question, 0, &[(0, 0, 9, "evil")]);
        other[1] ^= 1;
        vec![other, b"nonsense".to_vec(), answer_to(question, 0, RECORDS)]
    });
    let found = dns(&[server], |_| {}).srv("x", "y");
    assert_eq!(found.expect("records").len(), 3);
}

#[test]
fn what_does_not_fit_comes_over_tcp() {
    // Another test may have the same port of UDP.
    let (listener, address, udp) = loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        if let Ok(udp) = UdpSocket::bind(address) {
            break (listener, address, udp);
        }
    };
    thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, from) = udp.recv_from(&mut buffer).expect("a question");
        let cut = answer_to(&buffer[..length], TRUNCATED, &[]);
        udp.send_to(&cut, from).expect("sent");
        // Once after the other way, and once at once.
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut question).expect("a question");
            let many: Vec<_> = (0..40)
                .map(|n| (n, 0, n, "a-rather-long.example.com"))
                .collect();
            let answer = answer_to(&question, 0, &many);
            let length = (answer.len() as u16).to_be_bytes();
            stream
                .write_all(&[&length, &answer[..]].concat())
                .expect("sent");
        }
    });
    for tcp in [false, true] {
        let found = dns(&[address], |conf| conf.tcp = tcp).srv("x", "y");
        assert_eq!(found.expect("records").len(), 40);
    }
}

#[test]
fn the_next_server_is_asked_when_one_fails() {
    let refuses = server(|question, _| vec![answer_to(question, REFUSED, &[])]);
    let knows = server(|question, _| vec![answer_to(question, 0, RECORDS)]);
    // Nobody is there.
    let silent = {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket.local_addr().expect("bound")
    };
    let found = dns(&[silent, refuses, knows], |_| {}).srv("x", "y");
    assert_eq!(found.expect("records").len(), 3);

    let error = |servers: &[SocketAddr]| {
        let found = dns(servers, |_| {}).srv("x", "y");
        found.expect_err("nobody knows").to_string()
    };
    assert_eq!(
        error(&[silent, refuses]),
        format!("lookup _x._tcp.y on {refuses}: server misbehaving")
    );
    let text = error(&[silent]);
    assert!(
        text.starts_with(&format!(
            "lookup _x._tcp.y on {silent}: read udp 127.0.0.1:"
        )),
        "{text}"
    );
    assert!(text.ends_with(": connection refused"), "{text}");
}

#[test]
fn a_server_that_says_nothing_is_waited_for() {
    let server = server(|_, _| vec![b"?".to_vec()]);
    let found = dns(&[server], |conf| {
        conf.timeout = Duration::from_millis(20);
        conf.attempts = 2;
    })
    .srv("x", "y");
    let text = found.expect_err("no answer").to_string();
    assert!(
        text.ends_with(&format!("->{server}: i/o timeout")),
        "{text}"
    );
}

#[test]
fn a_name_is_looked_for_in_the_domains_of_the_machine() {
    let server = server(|question, name| {
        vec![match name {
            "_x._tcp.y.here." => answer_to(question, 0, RECORDS),
            "_x._tcp.nothing." => answer_to(question, 0, &[]),
            _ => answer_to(question, u16::from(NO_SUCH_NAME), &[]),
        }]
    });
    let dns = dns(&[server], |conf| {
        conf.search = vec!["there".into(), "here".into()]
    });
    assert_eq!(dns.srv("x", "y").expect("records").len(), 3);
    for (domain, name) in [
        ("z", "_x._tcp.z"),
        ("y.", "_x._tcp.y."),
        ("nothing.", "_x._tcp.nothing."),
    ] {
        let error = dns.srv("x", domain).expect_err(domain);
        assert_eq!(
            error.to_string(),
            format!("lookup {name} on {server}: no such host")
        );
    }
    let error = dns.srv("x", "a b").expect_err("no name");
    assert_eq!(error.to_string(), "lookup _x._tcp.a b: no such host");
}

#[test]
fn a_record_has_to_lead_to_a_host() {
    let server =
        server(|question, _| vec![answer_to(question, 0, &[(0, 0, 1, "a"), (0, 0, 0, "")])]);
    let error = dns(&[server], |_| {}).srv("x", "y").expect_err("no host");
    assert_eq!(
        error.to_string(),
        "lookup _x._tcp.y: DNS response contained records which contain invalid names"
    );
}
