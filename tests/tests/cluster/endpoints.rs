//! What members ask each other over HTTP: the same answers as genuine etcd's.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use prost::Message as _;
use retcd_proto::etcdserverpb::{InternalRaftRequest, PutRequest, RequestHeader};
use retcd_proto::raftpb::{Entry, Message, MessageType};
use retcd_tests::member::{Member, PATIENCE, Setup};
use retcd_tests::{binary, http1, peers};

/// Method, path, body, further headers.
const REQUESTS: &[(&str, &str, &str, &str)] = &[
    ("GET", "/members", "", ""),
    ("POST", "/members", "", ""),
    ("GET", "/members/", "", ""),
    ("GET", "/members/x", "", ""),
    ("POST", "/members/promote/123", "", ""),
    ("POST", "/members/promote/", "", ""),
    ("POST", "/members/promote/abc", "", ""),
    ("POST", "/members/promote/-1", "", ""),
    ("POST", "/members/promote/18446744073709551616", "", ""),
    ("GET", "/members/promote/123", "", ""),
    ("GET", "/members/hashkv", "{}", ""),
    ("GET", "/members/hashkv", r#"{"revision":1}"#, ""),
    ("GET", "/members/hashkv", r#"{"revision":99}"#, ""),
    ("GET", "/members/hashkv", "nonsense", ""),
    ("GET", "/members/hashkv", "{}", "X-Etcd-Cluster-ID: 1234\r\n"),
    ("POST", "/members/hashkv", "{}", ""),
    ("GET", "/downgrade/enabled", "", ""),
    ("POST", "/downgrade/enabled", "", ""),
    ("GET", "/downgrade/enabled/", "", ""),
    ("GET", "/downgrade", "", ""),
    ("POST", "/leases", "nonsense", ""),
    ("POST", "/leases", "\x08\x7b", ""),
    ("GET", "/leases", "", ""),
    ("POST", "/leases/internal", "\x0a\x02\x08\x7b", ""),
    ("GET", "/leases/internal", "", ""),
    ("GET", "/leases/", "", ""),
    ("GET", "/version", "", ""),
    ("POST", "/version", "", ""),
    ("GET", "/raft", "", ""),
    ("POST", "/raft", "", ""),
    ("GET", "/raft/nothing", "", ""),
    ("GET", "/raft/stream/message/1", "", ""),
    ("POST", "/raft/snapshot", "", ""),
    ("GET", "/health", "", ""),
    ("GET", "/metrics", "", ""),
    ("GET", "/", "", ""),
];

/// Headers that mean something.
const HEADERS: &[&str] = &["content-type", "allow", "x-content-type-options", "x-etcd-cluster-id", "x-server-version"];

/// One answer, by its own word on its length: genuine etcd closes peer connections seconds later.
fn exchange(port: u16, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !is_whole(&text) {
        match stream.read(&mut buffer)? {
            0 => break,
            read => text.push_str(&String::from_utf8_lossy(&buffer[..read])),
        }
    }
    Ok(text)
}

fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

fn answers(member: &Member) -> Vec<String> {
    let url = member.peer_url();
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let ask = |(method, path, body, headers): &(&str, &str, &str, &str)| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            url.trim_start_matches("http://"),
            body.len()
        );
        let text = exchange(port, &request).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.get(9..12)).unwrap_or("no status").to_owned();
        let mut answer = format!("{method} {path} {body:?} => {status}", body = body.trim_end());
        let mut found: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .filter(|(name, _)| HEADERS.contains(&name.as_str()))
            .collect();
        found.sort();
        for (name, value) in found {
            let _ = write!(answer, "; {name}: {value}");
        }
        answer
    };
    REQUESTS.iter().map(ask).collect()
}

#[test]
fn peers_are_answered_as_by_genuine_etcd() {
    let Some(go) = peers::go_etcd() else { return };
    let genuine = Member::start(Setup::new(go));
    let expected = answers(&genuine);
    // On the same ports, and so with the same ids.
    let ours = genuine.replaced(Setup::new(binary::ours()));
    let got = answers(&ours);
    let different: Vec<_> = expected.iter().zip(&got).filter(|(a, b)| a != b).collect();
    assert!(different.is_empty(), "genuine, ours: {different:#?}");
}

/// What gets into the log is there on all members, for ever.
#[test]
fn only_members_propose() {
    let member = Member::start(Setup::new(binary::ours()));
    let url = member.peer_url();
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let members = http1::get(port, "/members").expect("an answer");
    let cluster = members.header("x-etcd-cluster-id").expect("an id");
    let list: serde_json::Value = serde_json::from_slice(&members.body).expect("JSON");
    let post = |proposal: &[u8]| {
        let headers =
            [("X-Server-Version", "3.7.1"), ("X-Min-Cluster-Version", "3.0.0"), ("X-Etcd-Cluster-Id", &*cluster)];
        let answer = http1::request(port, "POST", "/raft", &headers, proposal).expect("an answer");
        answer.text()
    };
    let mut proposal = Message {
        r#type: Some(MessageType::MsgProp as i32),
        to: list[0]["id"].as_u64(),
        from: Some(0xbad),
        ..Message::default()
    };
    let put = InternalRaftRequest {
        header: Some(RequestHeader { id: 7, ..RequestHeader::default() }),
        put: Some(PutRequest { key: "of-nobody".into(), ..PutRequest::default() }),
        ..InternalRaftRequest::default()
    };
    proposal.entries = vec![Entry { data: Some(put.encode_to_vec().into()), ..Entry::default() }];
    let said = post(&proposal.encode_to_vec());
    assert!(said.contains("error processing raft message"), "{said}");
    member.wait_for_log("cannot process proposal of a sender that is no member");
    // A million entries without content, in two megabytes.
    proposal.entries.clear();
    let mut flood = proposal.encode_to_vec();
    flood.extend([0x3a, 0].repeat(1_000_000));
    let said = post(&flood);
    assert!(said.contains("error unmarshalling raft message"), "{said}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", member.pid())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 192 << 10, "it took {peak} KiB");
}
