//! What is refused, and with which words: peer-protocol 2.1, 3.2, 5, 6.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use prost::Message as _;
use retcd_proto::raftpb::{Message, MessageType, Snapshot, SnapshotMetadata};

use super::super::{RequestError, request};
use super::rig::{PATIENT, Site, message, wait};
use crate::driver::Transport as _;

const LIMIT: usize = 1 << 20;
/// Members and headers of somebody who may ask.
const SENDER: [(&str, &str); 5] = [
    ("x-server-from", "b"),
    ("x-server-version", "3.6.0"),
    ("x-min-cluster-version", "3.0.0"),
    ("x-etcd-cluster-id", "c1"),
    ("x-raft-to", "a"),
];

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// With the sender's headers, but for those in `instead`; one without a value is left out.
fn ask(
    site: &Site,
    method: Method,
    path: &str,
    instead: &[(&str, &str)],
    body: Vec<u8>,
) -> Response<Bytes> {
    let mut asked = Request::builder().method(method).uri(path);
    for (name, value) in SENDER {
        let value = instead
            .iter()
            .find(|(other, _)| *other == name)
            .map_or(value, |(_, v)| *v);
        if !value.is_empty() {
            asked = asked.header(name, value);
        }
    }
    for (name, value) in instead.iter().filter(|(name, _)| *name == "x-peerurls") {
        asked = asked.header(*name, *value);
    }
    let asked = asked.body(Bytes::from(body)).unwrap();
    block_on(request(
        None,
        &site.url(),
        asked,
        Duration::from_secs(10),
        LIMIT,
    ))
    .unwrap()
}

#[track_caller]
fn expect(answer: &Response<Bytes>, status: u16, body: &str) {
    let said = String::from_utf8_lossy(answer.body());
    assert_eq!((answer.status().as_u16(), &*said), (status, body));
}

fn header<'a>(answer: &'a Response<Bytes>, name: &str) -> &'a str {
    answer
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

#[test]
fn probes() {
    let site = Site::start(0xa);
    for method in [Method::GET, Method::POST, Method::DELETE] {
        let answer = ask(&site, method, "/raft/probing", &[], vec![]);
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "content-type"), "text/plain; charset=utf-8");
        let said = String::from_utf8(answer.body().to_vec()).unwrap();
        assert!(
            said.starts_with("{\"OK\":true,\"Now\":\"20") && said.ends_with("Z\"}\n"),
            "{said}"
        );
    }
}

#[test]
fn heads() {
    let site = Site::start(0xa);
    let stream = "/raft/stream/msgapp/b";
    for (method, path, allow) in [
        (Method::GET, "/raft", "POST"),
        (Method::PUT, "/raft/snapshot", "POST"),
        (Method::POST, stream, "GET"),
    ] {
        let answer = ask(&site, method, path, &[], vec![]);
        expect(&answer, 405, "Method Not Allowed\n");
        assert_eq!(header(&answer, "allow"), allow);
        assert_eq!(header(&answer, "content-type"), "text/plain; charset=utf-8");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
    }
    for (method, path) in [
        (Method::POST, "/raft"),
        (Method::POST, "/raft/snapshot"),
        (Method::GET, stream),
    ] {
        for (name, value, text) in [
            ("x-server-version", "", "incompatible version\n"),
            ("x-server-version", "2.3.8", "incompatible version\n"),
            ("x-server-version", "no version", "incompatible version\n"),
            ("x-min-cluster-version", "3.8.0", "incompatible version\n"),
            ("x-etcd-cluster-id", "", "cluster ID mismatch\n"),
            ("x-etcd-cluster-id", "0c1", "cluster ID mismatch\n"),
            ("x-etcd-cluster-id", "C1", "cluster ID mismatch\n"),
        ] {
            let answer = ask(&site, method.clone(), path, &[(name, value)], vec![]);
            expect(&answer, 412, text);
            assert_eq!(header(&answer, "x-etcd-cluster-id"), "c1");
        }
    }
    for path in ["/raft/", "/raft/other", "/raft/stream", "/"] {
        let answer = ask(&site, Method::GET, path, &[], vec![]);
        expect(&answer, 404, "404 page not found\n");
    }
}

#[test]
fn streams() {
    let site = Site::start(0xa);
    site.seen.removed.lock().insert(0xdead);
    let ask = |path: &str, instead: &[(&str, &str)]| ask(&site, Method::GET, path, instead, vec![]);
    for path in [
        "/raft/stream/b",
        "/raft/stream/other/b",
        "/raft/stream/msgapp/b/c",
    ] {
        expect(&ask(path, &[]), 404, "invalid path\n");
    }
    for path in [
        "/raft/stream/msgapp/",
        "/raft/stream/message/xyz",
        "/raft/stream/message/0x1",
        "/raft/stream/message/+1",
        "/raft/stream/message/11112222333344445",
    ] {
        expect(&ask(path, &[]), 404, "invalid from\n");
    }
    expect(
        &ask("/raft/stream/message/DEAD", &[]),
        410,
        "removed member\n",
    );
    let answer = ask("/raft/stream/message/b", &[]);
    expect(&answer, 404, "error sender not found\n");
    assert_eq!(header(&answer, "x-server-version"), "3.7.1");
    site.peers.add_peer(0xb, &["http://127.0.0.1:1".to_owned()]);
    for to in ["c", "", "A", "0a"] {
        let answer = ask("/raft/stream/message/b", &[("x-raft-to", to)]);
        expect(&answer, 412, "to field mismatch\n");
    }
}

#[test]
fn posts() {
    let site = Site::start(0xa);
    site.seen.removed.lock().insert(0xdead);
    let post = |m: Message| ask(&site, Method::POST, "/raft", &[], m.encode_to_vec());
    let heartbeat = |from, to| message(from, to, MessageType::MsgHeartbeat, 1);
    let answer = post(heartbeat(0xb, 0xa));
    expect(&answer, 204, "");
    assert_eq!(header(&answer, "x-etcd-cluster-id"), "c1");
    assert_eq!(site.seen.count(), 1);
    let answer = post(heartbeat(0xdead, 0xa));
    expect(
        &answer,
        403,
        "{\"message\":\"cannot process message from removed member\"}",
    );
    assert_eq!(header(&answer, "content-type"), "application/json");
    let answer = post(heartbeat(0xb, 0xc));
    expect(
        &answer,
        403,
        "{\"message\":\"cannot process message to mismatch member\"}",
    );
    let answer = ask(&site, Method::POST, "/raft", &[], b"\xff\xff".to_vec());
    expect(&answer, 400, "error unmarshalling raft message\n");
    // What no member sends another, or nobody alone.
    for kind in [
        MessageType::MsgHup,
        MessageType::MsgStorageApply,
        MessageType::MsgSnap,
    ] {
        let answer = post(message(0xb, 0xa, kind, 1));
        expect(&answer, 400, "error unmarshalling raft message\n");
    }
    *site.seen.refusal.lock() = Some("no room".to_owned());
    let answer = post(heartbeat(0xb, 0xa));
    expect(&answer, 500, "error processing raft message\n");
    assert_eq!(header(&answer, "connection"), "close");
    assert_eq!(site.seen.count(), 1);
}

#[test]
fn snapshots() {
    let site = Site::start(0xa);
    site.seen.removed.lock().insert(0xdead);
    let snapshot = |from, to| Message {
        snapshot: Some(Snapshot {
            data: None,
            metadata: Some(SnapshotMetadata {
                index: Some(9),
                ..SnapshotMetadata::default()
            }),
        }),
        ..message(from, to, MessageType::MsgSnap, 0)
    };
    let framed = |m: &Message| {
        let body = m.encode_to_vec();
        [&(body.len() as u64).to_be_bytes()[..], &body, b"database"].concat()
    };
    let post = |body: Vec<u8>| ask(&site, Method::POST, "/raft/snapshot", &[], body);
    for (body, text) in [
        (vec![], "unexpected EOF"),
        (vec![0; 5], "unexpected EOF"),
        (
            (1_u64 << 30).to_be_bytes().to_vec(),
            "a raft message of 1073741824 bytes",
        ),
        (
            framed(&message(0xb, 0xa, MessageType::MsgSnap, 0)),
            "a snapshot without an index",
        ),
    ] {
        let answer = post(body);
        let said = String::from_utf8_lossy(answer.body());
        assert_eq!(answer.status(), 400);
        assert!(
            said.starts_with(&format!("failed to decode raft message ({text}")),
            "{said}"
        );
    }
    let answer = post(framed(&message(0xb, 0xa, MessageType::MsgHeartbeat, 0)));
    expect(&answer, 400, "wrong raft message type\n");
    expect(
        &post(framed(&snapshot(0xdead, 0xa))),
        403,
        "{\"message\":\"cannot process message from removed member\"}",
    );
    expect(
        &post(framed(&snapshot(0xb, 0xc))),
        403,
        "{\"message\":\"cannot process message to mismatch member\"}",
    );
    assert!(site.seen.received.lock().is_empty(), "nothing was written");
    *site.seen.disk_full.lock() = Some("no space left".to_owned());
    expect(
        &post(framed(&snapshot(0xb, 0xa))),
        500,
        "failed to save KV snapshot (no space left)\n",
    );
    *site.seen.disk_full.lock() = None;
    *site.seen.refusal.lock() = Some("no room".to_owned());
    expect(
        &post(framed(&snapshot(0xb, 0xa))),
        500,
        "failed to process raft message (no room)\n",
    );
    *site.seen.refusal.lock() = None;
    expect(&post(framed(&snapshot(0xb, 0xa))), 204, "");
    assert_eq!(site.seen.received.lock()[1], (9, Ok(b"database".to_vec())));
}

/// Many senders that never end do not take all memory.
#[test]
fn unfinished_messages_share_a_budget() {
    let site = Site::start(0xa);
    let context = site.peers.context();
    let mut others = context.share();
    others.grow((1 << 30) - 5).unwrap();
    let body = message(0xb, 0xa, MessageType::MsgHeartbeat, 1).encode_to_vec();
    let post = || ask(&site, Method::POST, "/raft", &[], body.clone());
    expect(&post(), 400, "error reading raft message\n");
    let snapshot = ask(&site, Method::POST, "/raft/snapshot", &[], vec![0; 8]);
    assert_eq!(snapshot.status(), 400);
    drop(others);
    expect(&post(), 204, "");
}

/// Whoever asks says where it is, so it can be told what it lacks.
#[test]
fn an_unknown_sender_is_remembered() {
    let (site, other) = (Site::start(0xa), Site::start(0xb));
    let urls = [(
        "x-peerurls",
        &*format!("http://127.0.0.1:1,{}", other.url()),
    )];
    let answer = ask(&site, Method::GET, "/raft/stream/message/b", &urls, vec![]);
    expect(&answer, 404, "error sender not found\n");
    wait("the second URL takes it", || {
        site.peers.send(vec![message(
            site.id,
            other.id,
            MessageType::MsgHeartbeat,
            1,
        )]);
        other.seen.count() > 0
    });
    // What is no URL does no harm.
    let garbage = [("x-server-from", "f"), ("x-peerurls", "::::")];
    let body = message(0xf, 0xa, MessageType::MsgHeartbeat, 1).encode_to_vec();
    expect(&ask(&site, Method::POST, "/raft", &garbage, body), 204, "");
}

#[test]
fn a_removed_member_learns_of_it() {
    // By the stream.
    let (a, b) = (Site::start(0xa), Site::start(0xb));
    b.seen.removed.lock().insert(a.id);
    a.knows(&b);
    wait("a stream is refused", || {
        a.seen.removed_by.lock().contains(&b.id)
    });
    // By a POST.
    let (c, d) = (Site::start(0xc), Site::start(0xd));
    d.seen.removed.lock().insert(c.id);
    c.peers.add_remote(d.id, &[d.url()]);
    c.peers
        .send(vec![message(c.id, d.id, MessageType::MsgHeartbeat, 1)]);
    wait("a message is refused", || {
        c.seen.removed_by.lock().contains(&d.id)
    });
    // But not by somebody else's address.
    let (e, f) = (Site::start(0xe), Site::start(0xf));
    e.peers.add_remote(0x99, &[f.url()]);
    e.peers
        .send(vec![message(e.id, 0x99, MessageType::MsgHeartbeat, 1)]);
    wait("the message is lost", || e.seen.unreachable() > 0);
    assert!(e.seen.removed_by.lock().is_empty());
}

#[test]
fn another_cluster_is_not_talked_to() {
    let a = Site::start(0xa);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let b = Site::start_with(0xb, listener, PATIENT, |options| options.cluster_id = 0xc2);
    a.knows(&b);
    b.knows(&a);
    a.peers.send(vec![append_one(a.id, b.id)]);
    b.peers.send(vec![append_one(b.id, a.id)]);
    wait("both are told", || {
        a.seen.unreachable() > 0 && b.seen.unreachable() > 0
    });
    assert!(!a.active(b.id) && !b.active(a.id));
    assert_eq!((a.seen.count(), b.seen.count()), (0, 0));
    assert!(a.seen.removed_by.lock().is_empty());
}

fn append_one(from: u64, to: u64) -> Message {
    super::rig::append(from, to, 1, 1, 10)
}

#[test]
fn requests_end_in_time_and_size() {
    let site = Site::start(0xa);
    let ask = |url: &str, deadline: Duration, limit: usize| {
        let asked = Request::builder()
            .uri("/raft/probing")
            .body(Bytes::new())
            .unwrap();
        block_on(request(None, url, asked, deadline, limit))
    };
    let second = Duration::from_secs(1);
    assert!(ask(&site.url(), second * 10, LIMIT).is_ok());
    let error = ask(&site.url(), second * 10, 10).unwrap_err();
    assert!(
        matches!(error, RequestError::TooLong { limit: 10, .. }),
        "{error}"
    );
    let error = ask("https://127.0.0.1:1", second, LIMIT).unwrap_err();
    assert!(matches!(error, RequestError::Connection { .. }), "{error}");
    let error = ask("ftp://127.0.0.1:1", second, LIMIT).unwrap_err();
    assert!(matches!(error, RequestError::Url(_)), "{error}");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let error = ask(&url, Duration::from_millis(50), LIMIT).unwrap_err();
    assert!(matches!(error, RequestError::Deadline { .. }), "{error}");
    let seen = Arc::downgrade(&site.seen);
    drop(site);
    assert!(seen.upgrade().is_none(), "the member is let go");
}
