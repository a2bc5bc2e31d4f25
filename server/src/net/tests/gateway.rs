//! Calls as JSON: over HTTP, over a websocket, and which listener takes what.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;

use super::fake::{MAX_RECEIVE, Server, until};
use super::wire::{call, connect, exchange, range, request};
use crate::net::Surface;

/// How long anything may take that nothing holds up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends one request; gives status line, the headers that matter, and the body.
async fn ask(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let answer = exchange(server.addr, request.as_bytes()).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let kept = head.split("\r\n").filter(|line| {
        let left_out = [
            "Date",
            "Connection",
            "Content-Length",
            "Access-Control",
            "X-Content",
        ];
        !left_out.iter().any(|name| line.starts_with(name))
    });
    format!("{}\n{body}", kept.collect::<Vec<_>>().join("\n"))
}

async fn post(server: &Server, path: &str, body: &str) -> String {
    ask(server, "POST", path, "", body).await
}

const OK: &str = "HTTP/1.1 200 OK\nContent-Type: application/json\nGrpc-Metadata-Content-Type: application/grpc\n";

fn failure(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\nContent-Type: application/json\n{body}")
}

#[tokio::test]
async fn a_call_and_its_errors() {
    let server = Server::start();
    let found = |key: &str| format!("{OK}{{\"kvs\":[{{\"key\":\"{key}\"}}],\"count\":\"1\"}}");
    assert_eq!(
        post(&server, "/v3/kv/range", r#"{"key":"Zm9v"}"#).await,
        found("Zm9v")
    );
    assert_eq!(
        post(&server, "/v3beta/kv/range", "\n {\"key\":\"Zm9v\"} garbage").await,
        found("Zm9v")
    );
    for (body, message) in [
        ("", "etcdserver: key is not provided"),
        ("{}", "etcdserver: key is not provided"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ("{\"key\"", "unexpected EOF"),
        ("[]", "proto: syntax error (line 1:1): unexpected token ["),
        (
            "{\"key\":1}",
            "proto: (line 1:8): invalid value for bytes field key: 1",
        ),
    ] {
        let expected = format!("{{\"code\":3,\"message\":\"{message}\"}}");
        assert_eq!(
            post(&server, "/v3/kv/range", body).await,
            failure("400 Bad Request", &expected)
        );
    }
    let broken = post(&server, "/v3/kv/range", r#"{"key":"ZmFpbA=="}"#).await;
    let expected = failure(
        "500 Internal Server Error",
        r#"{"code":2,"message":"100% broken\n"}"#,
    );
    assert_eq!(broken, expected);

    let nowhere = failure("404 Not Found", r#"{"code":5,"message":"Not Found"}"#);
    for path in ["/v3/", "/v3/nope", "/v3/kv/range/", "/v3beta/kv"] {
        assert_eq!(post(&server, path, "{}").await, nowhere, "{path}");
        assert_eq!(ask(&server, "GET", path, "", "").await, nowhere, "{path}");
    }
    let verb = failure(
        "501 Not Implemented",
        r#"{"code":12,"message":"Method Not Allowed"}"#,
    );
    for method in ["GET", "PUT", "DELETE", "HEAD"] {
        let answer = ask(&server, method, "/v3/kv/range", "", "").await;
        let expected = if method == "HEAD" {
            verb.split('{').next().unwrap()
        } else {
            &verb
        };
        assert_eq!(answer, expected, "{method}");
    }
    // Known, not served, and said so as over gRPC.
    let put = post(&server, "/v3/kv/put", "{}").await;
    assert!(
        put.starts_with("HTTP/1.1 501") && put.contains(r#"{"code":12,"message":"retcd"#),
        "{put}"
    );
    let watch = post(&server, "/v3/watch", "{}").await;
    assert!(
        watch.starts_with("HTTP/1.1 501") && watch.contains(r#"{"error":{"code":12,"#),
        "{watch}"
    );
    assert!(watch.ends_with("}}\n"));
}

#[tokio::test]
async fn headers_become_metadata() {
    let server = Server::start();
    let with = async |headers: &str, key: &str| {
        let body = format!("{{\"key\":\"{key}\"}}");
        ask(&server, "POST", "/v3/kv/range", headers, &body).await
    };
    let found = |key: &str| format!("{OK}{{\"kvs\":[{{\"key\":\"{key}\"}}],\"count\":\"1\"}}");
    assert_eq!(
        with("Grpc-Metadata-Hasleader: true\r\n", "bGVhZGVy").await,
        found("dHJ1ZQ==")
    );
    assert_eq!(
        with("Hasleader: true\r\n", "bGVhZGVy").await,
        found("ZmFsc2U=")
    );
    assert_eq!(
        with("Grpc-Metadata-Client-Api-Version: 3.7\r\n", "dmVyc2lvbg==").await,
        found("My43")
    );
    // `wait` would wait for ever.
    let late = with("Grpc-Timeout: 5m\r\n", "d2FpdA==").await;
    let expected = r#"{"code":4,"message":"context deadline exceeded"}"#;
    assert_eq!(late, failure("504 Gateway Timeout", expected));
    let wrong = with("Grpc-Timeout: soon\r\n", "d2FpdA==").await;
    let expected = r#"{"code":3,"message":"invalid grpc-timeout: soon"}"#;
    assert_eq!(wrong, failure("400 Bad Request", expected));
}

#[tokio::test]
async fn sizes_are_those_of_grpc() {
    let server = Server::start();
    let sized = |bytes: usize| format!("{{\"range_end\":\"{}\"}}", "A".repeat(bytes / 3 * 4));
    let large = post(&server, "/v3/kv/range", &sized(MAX_RECEIVE + 3)).await;
    assert!(
        large.starts_with("HTTP/1.1 429 Too Many Requests"),
        "{large}"
    );
    assert!(
        large.contains(r#"{"code":8,"message":"grpc: received message larger than max ("#),
        "{large}"
    );
    let small = post(&server, "/v3/kv/range", &sized(MAX_RECEIVE - 30)).await;
    assert!(small.contains("key is not provided"), "{small}");
    let huge = format!("[{}]", " ".repeat(9 * MAX_RECEIVE));
    let huge = post(&server, "/v3/kv/range", &huge).await;
    assert!(
        huge.starts_with("HTTP/1.1 429") && huge.contains("\"code\":8"),
        "{huge}"
    );
}

/// Calls are counted whatever they come by, and one whose client goes away is given up.
#[tokio::test]
async fn calls_are_calls() {
    let server = Server::start();
    post(&server, "/v3/kv/range", r#"{"key":"Zm9v"}"#).await;
    let log = std::mem::take(&mut *server.log.0.lock());
    assert_eq!(
        log,
        [
            "Range started",
            "Range received 5",
            "Range sent 9",
            "Range finished Ok"
        ]
    );

    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let body = r#"{"key":"d2FpdA=="}"#;
    let length = body.len();
    let request = format!(
        "POST /v3/kv/range HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    server.wait_for_waiting(1).await;
    drop(stream);
    server.wait_for_waiting(0).await;
    until("it is cancelled", || {
        server
            .log
            .0
            .lock()
            .last()
            .is_some_and(|line| line == "Range finished Cancelled")
    })
    .await;
}

#[tokio::test]
async fn the_gateway_may_be_off() {
    let server = Server::with(Surface::Client, |settings| settings.gateway = false);
    for path in ["/v3/kv/range", "/v3/", "/v3"] {
        let answer = post(&server, path, "{}").await;
        assert!(
            answer.starts_with("HTTP/1.1 404") && answer.ends_with("404 page not found\n"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn variables_and_redirects() {
    let server = Server::start();
    let variables = ask(&server, "GET", "/debug/vars", "", "").await;
    let body = "{\n\"cmdline\": [\"etcd\"],\n\"file_descriptor_limit\": 1024\n}\n";
    let head = "HTTP/1.1 200 OK\nContent-Type: application/json; charset=utf-8\n";
    assert_eq!(variables, format!("{head}{body}"));
    let posted = post(&server, "/debug/vars", "").await;
    assert!(posted.starts_with("HTTP/1.1 405"), "{posted}");
    let profile = ask(&server, "GET", "/debug/pprof/", "", "").await;
    assert!(profile.starts_with("HTTP/1.1 404"), "{profile}");
    let server = Server::with(Surface::Client, |settings| settings.profiles = true);
    for path in ["/debug/pprof", "/debug/pprof/", "/debug/pprof/profile"] {
        let profile = ask(&server, "GET", path, "", "").await;
        let command = format!("perf record -g -p {}", std::process::id());
        let told = profile.starts_with("HTTP/1.1 501") && profile.contains(&command);
        assert!(told, "{path}: {profile}");
    }
    for (path, location) in [
        ("/v3", "/v3/"),
        ("/v3//kv", "/v3/kv"),
        ("/v3beta/../x", "/x"),
    ] {
        let answer = post(&server, path, "").await;
        assert!(
            answer.contains(&format!("Location: {location}\n")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_surface_for_each() {
    let http = Server::with(Surface::Http, |_| ());
    let answer = post(&http, "/v3/kv/range", r#"{"key":"Zm9v"}"#).await;
    assert!(answer.starts_with(OK), "{answer}");
    assert!(
        ask(&http, "GET", "/health", "", "")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    assert_eq!(exchange(http.addr, preface).await, b"");

    let grpc = Server::with(Surface::Grpc, |_| ());
    let client = connect(grpc.addr).await;
    let reply = call(&client, request("/etcdserverpb.KV/Range"), range("a"))
        .await
        .unwrap();
    assert_eq!(reply.code(), Code::Ok as i32);
    assert_eq!(
        exchange(grpc.addr, b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n").await,
        b""
    );
}

/// A websocket, by hand.
struct Socket(TcpStream);

impl Socket {
    async fn open(addr: SocketAddr, path: &str, headers: &str) -> (Self, String) {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        (Self(stream), String::from_utf8(head).unwrap())
    }

    async fn send(&mut self, kind: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        assert!(length < 126);
        let mut frame = vec![0x80 | kind, 0x80 | length, 1, 2, 3, 4];
        frame.extend(
            payload
                .iter()
                .zip([1, 2, 3, 4].iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        self.0.write_all(&frame).await.unwrap();
    }

    /// Kind and payload of the next frame; `None` at the end.
    async fn next(&mut self) -> Option<(u8, String)> {
        let frame = async {
            let kind = self.0.read_u8().await.ok()?;
            let length = self.0.read_u8().await.ok()?;
            let length = match length {
                126 => self.0.read_u16().await.ok()?.into(),
                length => usize::from(length),
            };
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).await.ok()?;
            Some((kind & 0x0f, String::from_utf8_lossy(&payload).into_owned()))
        };
        timeout(PATIENCE, frame).await.expect("a frame or the end")
    }
}

#[tokio::test]
async fn a_websocket_carries_a_call() {
    let server = Server::start();
    let (mut socket, head) = Socket::open(server.addr, "/v3/kv/range?x=y", "").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    // In two messages, with a ping between them.
    socket.send(1, b"{\"key\":").await;
    socket.send(9, b"there?").await;
    assert_eq!(socket.next().await, Some((10, "there?".to_owned())));
    socket.send(2, b"\"Zm9v\"}").await;
    let answer = r#"{"kvs":[{"key":"Zm9v"}],"count":"1"}"#;
    assert_eq!(socket.next().await, Some((1, answer.to_owned())));
    assert_eq!(socket.next().await, Some((8, "\u{3}\u{fffd}".to_owned())));
    assert_eq!(socket.next().await, None);

    let (mut socket, head) = Socket::open(
        server.addr,
        "/v3/nope",
        "Sec-WebSocket-Protocol: Bearer, x\r\n",
    )
    .await;
    assert!(
        head.to_lowercase()
            .contains("sec-websocket-protocol: bearer\r\n"),
        "{head}"
    );
    let answer = r#"{"code":5,"message":"Not Found"}"#;
    assert_eq!(socket.next().await, Some((1, answer.to_owned())));
    until("the connections are gone", || server.net.connections() == 0).await;
}

#[tokio::test]
async fn a_websocket_ends_with_its_client_and_with_the_server() {
    let server = Server::start();
    for end in ["close", "drop", "break"] {
        let (mut socket, _) = Socket::open(server.addr, "/v3/kv/range", "").await;
        socket.send(1, br#"{"key":"d2FpdA=="}"#).await;
        server.wait_for_waiting(1).await;
        match end {
            "close" => {
                socket.send(8, &[0x03, 0xe9]).await;
                assert_eq!(socket.next().await, Some((8, "\u{3}\u{fffd}".to_owned())));
            }
            "break" => {
                // Not masked.
                socket.0.write_all(&[0x81, 0]).await.unwrap();
                assert_eq!(socket.next().await.map(|frame| frame.0), Some(8));
            }
            _ => drop(socket),
        }
        server.wait_for_waiting(0).await;
        until("its connection is gone", || server.net.connections() == 0).await;
    }
    let (mut socket, _) = Socket::open(server.addr, "/v3/kv/range", "").await;
    socket.send(1, br#"{"key":"d2FpdA=="}"#).await;
    server.wait_for_waiting(1).await;
    server.stop(PATIENCE).await;
    assert_eq!(socket.next().await.map(|frame| frame.0), Some(8));
    assert_eq!(socket.next().await, None);
}

#[tokio::test]
async fn a_websocket_has_to_be_asked_for_properly() {
    let server = Server::start();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (method, headers, status) in [
        (
            "POST",
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "405 Method Not Allowed",
        ),
        (
            "GET",
            "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "400 Bad Request",
        ),
        ("GET", "Sec-WebSocket-Version: 13\r\n", "400 Bad Request"),
        (
            "GET",
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhl\r\n",
            "400 Bad Request",
        ),
    ] {
        let headers = format!("{upgrade}{headers}");
        let answer = ask(&server, method, "/v3/watch", &headers, "").await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\n")),
            "{answer}"
        );
        assert!(answer.contains("Sec-Websocket-Version: 13\n"), "{answer}");
    }
}
