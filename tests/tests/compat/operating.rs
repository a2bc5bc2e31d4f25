//! What an operator sees of flags at work: slow calls in the log, clients that ping too often, a start that looks at
//! free space.

use std::net::Ipv4Addr;

use retcd_proto::etcdserverpb as pb;
use retcd_tests::grpc::Connection;
use retcd_tests::member::{Member, Setup};
use retcd_tests::process::until;
use retcd_tests::{binary, peers};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::requests::*;
use crate::rpc::Rpc as _;

/// A line `request stats`, but for what differs from run to run.
#[derive(Debug, PartialEq, Eq)]
struct Stats {
    method: String,
    request: (i64, i64),
    responses: i64,
    content: String,
}

/// Lines `request stats`, with the sizes of the replies.
fn stats(member: &Member) -> Vec<(Stats, i64)> {
    let text = member.log().text();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["msg"] == "request stats")
        .map(|line| {
            assert_eq!(line["level"], "warn");
            for field in ["start time", "time spent", "remote"] {
                assert!(line[field].is_string(), "{field}: {line}");
            }
            let text = |field: &str| line[field].as_str().unwrap_or_else(|| panic!("{field}: {line}")).to_owned();
            let number = |field: &str| line[field].as_i64().unwrap_or_else(|| panic!("{field}: {line}"));
            let stats = Stats {
                method: text("response type"),
                request: (number("request count"), number("request size")),
                responses: number("response count"),
                // Go's programs put one space or two, so that nobody relies on it.
                content: text("request content").split_whitespace().collect::<Vec<_>>().join(" "),
            };
            (stats, number("response size"))
        })
        .collect()
}

/// Every call is slow.
async fn slow_calls(member: &Member) -> Vec<Stats> {
    let connection = Connection::open(member.port()).await;
    let locked = txn([when("lock", EQUAL, created(0))], [put("lock", "secret").op()], [one("lock").op()]);
    let outcomes = [
        connection.call(PutRequest::PATH, &put("a", "secret")).await,
        connection.call(PutRequest::PATH, &put("b\n\"\u{e9}\u{1}", "secret")).await,
        connection.call(RangeRequest::PATH, &RangeRequest { limit: 1, ..all() }).await,
        connection.call(TxnRequest::PATH, &locked).await,
        connection.call(TxnRequest::PATH, &locked).await,
        connection.call(DeleteRangeRequest::PATH, &delete("a")).await,
        connection.call(MemberListRequest::PATH, &MemberListRequest { linearizable: true }).await,
        connection.call(RangeRequest::PATH, &one("")).await,
        connection.call(TxnRequest::PATH, &pb::TxnRequest { compare: vec![pb::Compare::default()], ..batch([]) }).await,
    ];
    let count = outcomes.len();
    let found = until("all calls are in the log", || match stats(member) {
        found if found.len() == count => Ok(found),
        found => Err(format!("{found:?}")),
    });
    for ((stats, size), outcome) in found.iter().zip(&outcomes) {
        let sent = outcome.messages.first().map_or(0, bytes::Bytes::len);
        let sent = if *size == -1 { -1 } else { i64::try_from(sent).expect("small") };
        assert_eq!(*size, sent, "{stats:?}");
        assert!(!stats.content.contains("secret"), "{stats:?}");
    }
    found.into_iter().map(|(stats, _)| stats).collect()
}

/// The payload of the last frame that a client gets which pings four times without a call.
async fn ping(member: &Member) -> Vec<u8> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, member.port())).await.expect("it listens");
    let pings = b"\0\0\x08\x06\0\0\0\0\0pingpong".repeat(4);
    let greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(&[&greeting[..], &pings].concat()).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("closed in order");
    let mut rest = &answer[..];
    let mut last = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, tail @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        last = [&[*kind][..], &tail[..length]].concat();
        rest = &tail[length..];
    }
    last
}

#[test]
fn slow_calls_pings_and_free_space() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let run = |program| {
        let mut member = Member::start(Setup::new(program).flags(["--warning-unary-request-duration=1ns"]));
        let seen = runtime.block_on(async { (slow_calls(&member).await, ping(&member).await) });
        member.kill();
        member.set_flags(["--bootstrap-defrag-threshold-megabytes=100"]);
        member.restart();
        member.wait_for_log("\"msg\":\"Skipping defragmentation\",\"current-db-size-bytes\":");
        member.wait_for_log("\"bootstrap-defrag-threshold-bytes\":104857600,\"bootstrap-defrag-threshold\":\"105 MB\"");
        (member, seen)
    };
    let (mut member, ours) = run(binary::ours());
    assert_eq!(ours.1, b"\x07\0\0\0\0\0\0\0\x0btoo_many_pings");
    if let Some(program) = peers::go_etcd() {
        let (_, etcds) = run(program);
        assert_eq!(ours, etcds);
    }
    // Ours locks its memory, or says why it cannot.
    member.kill();
    member.set_flags(["--memory-mlock", "--socket-reuse-port"]);
    member.spawn();
    match member.wait_or_serve() {
        None => {
            let status = std::fs::read_to_string(format!("/proc/{}/status", member.pid())).expect("readable");
            let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("told");
            assert_ne!(locked.trim(), "0 kB");
        }
        Some(status) => {
            assert_eq!(status.code(), Some(1));
            member.wait_for_log("LimitMEMLOCK=infinity");
        }
    }
}
