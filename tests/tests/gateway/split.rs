//! HTTP on a URL of its own.

use std::path::PathBuf;

use retcd_tests::member::{Member, Setup};
use retcd_tests::ports::Port;
use retcd_tests::process::until;
use retcd_tests::websocket::WebSocket;
use retcd_tests::{binary, http1, peers};

use crate::plan::Server;
use crate::shown;

/// What a client of HTTP/2 says first, and that it has no wishes.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// What a server says on its URL for HTTP, a line for each request.
fn talk(program: PathBuf) -> Vec<String> {
    let port = Port::take();
    let mut member = Member::prepare(Setup::new(program));
    member.set_flags([format!("--listen-client-http-urls=http://127.0.0.1:{}", port.number())]);
    member.spawn();
    // The last step of a start.
    until("HTTP is served, and the version settled", || match http1::get(port.number(), "/version") {
        Ok(answer) if answer.text().ends_with(r#""etcdcluster":"3.7.0","storage":"3.7.0"}"#) => Ok(()),
        other => Err(format!("{other:?}: {}", member.describe())),
    });
    let server = Server::at(&member, port.number());
    let mut said = Vec::new();
    let mut ask = |method, path: &str, body: &str| {
        let answer = http1::request(port.number(), method, path, &[], body.as_bytes()).expect("an answer");
        let shown = match path {
            "/metrics" | "/debug/vars" => shown::head(&answer),
            _ => shown::answer(&answer, &server, &[]),
        };
        said.push(format!("{method} {path} {body}\n    {shown}"));
    };
    for (method, path, body) in [
        ("POST", "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
        ("POST", "/v3/kv/range", r#"{"key":"Zm9v"}"#),
        ("POST", "/v3beta/kv/range", r#"{"key":"Zm9v","count_only":true}"#),
        ("POST", "/v3/kv/range", "nonsense"),
        ("POST", "/v3/lease/keepalive", r#"{"ID":7}"#),
        ("GET", "/v3/kv/range", ""),
        ("GET", "/health", ""),
        ("GET", "/readyz", ""),
        ("GET", "/version", ""),
        ("GET", "/metrics", ""),
        ("GET", "/debug/vars", ""),
        ("GET", "/nope", ""),
        ("OPTIONS", "/v3/kv/range", ""),
        ("POST", "/etcdserverpb.KV/Range", ""),
    ] {
        ask(method, path, body);
    }
    let mut socket = WebSocket::open(port.number(), "/v3/watch", &[]).expect("a websocket");
    socket.send(r#"{"create_request":{"key":"Zm9v","start_revision":"2"}}"#).expect("sent");
    for _ in 0..2 {
        let line = socket.receive().expect("a message").expect("a message");
        said.push(format!("websocket\n    {}", shown::line_of(&line, &server, &[])));
    }
    // gRPC is not spoken there, nor HTTP where gRPC is.
    let http2 = http1::exchange(port.number(), HTTP2);
    said.push(format!("HTTP/2 {:?}", http2.unwrap_or_default()));
    let http1 = http1::get(member.port(), "/health").map(|answer| answer.status);
    said.push(format!("HTTP/1 on the other {:?}", http1.ok()));
    said
}

#[test]
fn a_url_for_http() {
    let Some(etcd) = peers::go_etcd() else { return };
    let (theirs, ours) = (talk(etcd), talk(binary::ours()));
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(theirs.len(), ours.len());
    assert_eq!(ours.iter().filter(|line| line.contains("    200 ")).count(), 10, "{ours:#?}");
}
