//! Calls with many answers: over HTTP and over websockets.

use retcd_tests::http1;
use retcd_tests::websocket::WebSocket;
use serde_json::Value;

use crate::plan::{Plan, Server};
use crate::shown;

/// A `POST` that is read to its end.
pub(crate) fn posted(server: &Server<'_>, path: &str, body: &str) -> String {
    let answer = http1::request(server.port(), "POST", path, &[], server.fill(body).as_bytes());
    match answer {
        Ok(answer) => shown::answer(&answer, server, &[]),
        Err(error) => format!("no answer: {}", error.kind()),
    }
}

/// A watch tells of the same events in any number of replies: the events of one after the other.
fn events(lines: &[String]) -> String {
    let replies = lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let events = replies.flat_map(|reply| reply["result"]["events"].as_array().cloned().unwrap_or_default());
    events.map(|event| event.to_string()).collect::<Vec<_>>().join(" ")
}

fn count(lines: &[String]) -> usize {
    lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["result"]["events"].as_array().map(Vec::len))
        .sum()
}

/// The first lines of a stream over HTTP, then hangs up.
fn lines(server: &Server<'_>, path: &str, body: &str, until: impl Fn(&[String]) -> bool) -> (String, Vec<String>) {
    let mut stream = http1::stream(server.port(), path, &[], server.fill(body).as_bytes()).expect("an answer");
    let head = shown::head(&stream.head);
    let mut lines = Vec::new();
    while !until(&lines) {
        match stream.next_line() {
            Ok(Some(line)) => lines.push(shown::line_of(&line, server, &[])),
            Ok(None) => {
                lines.push("END".to_owned());
                break;
            }
            Err(error) => {
                lines.push(format!("SILENT: {}", error.kind()));
                break;
            }
        }
    }
    (head, lines)
}

fn put(server: &Server<'_>, key: &str, value: &str) {
    let body = format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}");
    let answer = http1::request(server.port(), "POST", "/v3/kv/put", &[], body.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Adds all of them.
pub(crate) fn add(plan: &mut Plan) {
    watches(plan);
    others(plan);
    websockets(plan);
}

fn watches(plan: &mut Plan) {
    plan.act("(keys to watch)", |server| {
        for value in ["MQ==", "Mg==", "Mw=="] {
            put(server, "d2F0Y2g=", value);
        }
        String::new()
    });
    plan.act("a watch of what was", |server| {
        // Everything since the key was first put.
        let read = http1::request(server.port(), "POST", "/v3/kv/range", &[], br#"{"key":"d2F0Y2g="}"#).expect("a key");
        let read: Value = serde_json::from_slice(&read.body).expect("JSON");
        let since = read["kvs"][0]["create_revision"].as_str().expect("a revision").to_owned();
        let body =
            format!("{{\"create_request\":{{\"key\":\"d2F0Y2g=\",\"start_revision\":\"{since}\",\"prev_kv\":true}}}}");
        let (head, lines) = lines(server, "/v3/watch", &body, |lines| count(lines) >= 3);
        format!("{head} {} {}", lines[0], events(&lines[1..]))
    });
    for body in [
        r#"{"create_request":{"key":"d2F0Y2g=","watch_id":"5"}}"#,
        r#"{"createRequest":{"key":"AA==","rangeEnd":"AA==","progressNotify":true,"filters":["NOPUT"],"fragment":true}}"#,
        r#"{"create_request":{}}"#,
        r#"{"create_request":{"key":"d2F0Y2g=","start_revision":"1"}}"#,
        r#"{"create_request":{"key":"d2F0Y2g=","start_revision":"-1"}}"#,
        r#"{"create_request":{"key":"d2F0Y2g=","watch_id":"-1"}} trailing"#,
    ] {
        plan.act(format!("watch {body}"), move |server| {
            let (head, lines) = lines(server, "/v3/watch", body, |lines| !lines.is_empty());
            format!("{head} {}", lines.join("\n"))
        });
    }
    plan.act("several requests at once", |server| {
        let body = r#"{"create_request":{"key":"YQ=="}}
            {"create_request":{"key":"Yg==","watch_id":9}}{"cancel_request":{"watch_id":"9"}}{"progress_request":{}}"#;
        let (head, mut lines) = lines(server, "/v3/watch", body, |lines| lines.len() >= 4);
        // When the progress is told is a matter of chance.
        lines.sort();
        format!("{head} {}", lines.join("\n"))
    });
    for body in [
        r#"{"cancel_request":{"watch_id":3}}{"create_request":{"key":"YQ=="}}"#,
        r#"{}{"create_request":{"key":"YQ=="}}"#,
    ] {
        plan.act(format!("watch {body}"), move |server| {
            let (head, lines) = lines(server, "/v3/watch", body, |lines| lines.len() == 1);
            format!("{head} {}", lines.join("\n"))
        });
    }
    plan.request("GET", "/v3/watch", &[], "", &[]);
    plan.request("POST", "/v3/watch", &[("Grpc-Timeout", "soon")], "{}", &[]);
    plan.request("POST", "/v3/watch", &[("Grpc-Timeout", "-1S")], "{}", &[]);
}

fn others(plan: &mut Plan) {
    for body in [r#"{"ID":"7001"}"#, r#"{"ID":7001}{"ID":"7001"}"#, r#"{"ID":"12"}"#, "{}", ""] {
        plan.post("/v3/lease/keepalive", body);
    }
    plan.request("GET", "/v3/lease/keepalive", &[], "", &[]);
    plan.request("POST", "/v3/lease/keepalive", &[("Grpc-Timeout", "1n")], "{}", &[]);
    plan.act("a snapshot", |server| {
        let mut stream = http1::stream(server.port(), "/v3/maintenance/snapshot", &[], b"{}").expect("an answer");
        let head = shown::head(&stream.head);
        let (mut fields, mut last) = (Vec::new(), String::new());
        while let Some(line) = stream.next_line().expect("a line") {
            let line: Value = serde_json::from_str(&line).expect("JSON");
            let result = line["result"].as_object().expect("a result").clone();
            last = result.get("remaining_bytes").map_or_else(|| "none left".to_owned(), |_| "more".to_owned());
            for name in result.keys() {
                if !fields.contains(name) {
                    fields.push(name.clone());
                }
            }
        }
        fields.sort();
        format!("{head} {fields:?} {last}")
    });
    plan.act("an observed election", |server| {
        let grant = posted(server, "/v3/lease/grant", r#"{"TTL":1000,"ID":65535}"#);
        let won = posted(server, "/v3/election/campaign", r#"{"name":"b2Jz","lease":65535,"value":"MQ=="}"#);
        let (head, lines) = lines(server, "/v3/election/observe", r#"{"name":"b2Jz"}"#, |lines| lines.len() == 1);
        let done = posted(server, "/v3/lease/revoke", r#"{"ID":65535}"#);
        format!("{grant} {won} {head} {} {done}", lines.join(" "))
    });
}

fn websockets(plan: &mut Plan) {
    plan.act("a watch over a websocket", |server| {
        let mut socket = WebSocket::open(server.port(), "/v3/watch", &[]).expect("a websocket");
        let mut said = Vec::new();
        let mut next = |socket: &mut WebSocket| {
            let line = socket.receive().expect("a message").unwrap_or_else(|| "CLOSED".to_owned());
            said.push(shown::line_of(&line, server, &[]));
        };
        socket.send(r#"{"create_request":{"key":"d3M=","prev_kv":true}}"#).expect("sent");
        next(&mut socket);
        put(server, "d3M=", "MQ==");
        next(&mut socket);
        posted(server, "/v3/kv/deleterange", r#"{"key":"d3M="}"#);
        next(&mut socket);
        // In two messages.
        socket.send(r#"{"create_request":"#).expect("sent");
        socket.send(r#"{"key":"d3M=","watch_id":"4"}}"#).expect("sent");
        next(&mut socket);
        socket.send(r#"{"cancel_request":{"watch_id":"0"}}"#).expect("sent");
        next(&mut socket);
        put(server, "d3M=", "Mg==");
        next(&mut socket);
        socket.close().expect("sent");
        said.join(" ")
    });
    plan.act("renewals over a websocket", |server| {
        let mut socket = WebSocket::open(server.port(), "/v3/lease/keepalive", &["Origin: http://example.com"])
            .expect("a websocket");
        let mut said = Vec::new();
        for request in [r#"{"ID":"7001"}"#, r#"{"ID":7001}"#, r#"{"ID":"12"}"#] {
            socket.send(request).expect("sent");
            let line = socket.receive().expect("a message").unwrap_or_else(|| "CLOSED".to_owned());
            said.push(shown::line_of(&line, server, &[]));
        }
        said.join(" ")
    });
    plan.act("an unknown path over a websocket", |server| {
        let mut socket = WebSocket::open(server.port(), "/v3/nope", &[]).expect("a websocket");
        let line = socket.receive().expect("a message").unwrap_or_else(|| "CLOSED".to_owned());
        let end = socket.receive().expect("the end");
        format!("{} {end:?}", shown::line_of(&line, server, &[]))
    });
    plan.act("a token as a subprotocol", |server| {
        let socket =
            WebSocket::open(server.port(), "/v3/watch", &["Sec-WebSocket-Protocol: Bearer, x"]).expect("a websocket");
        let mut lines: Vec<_> =
            socket.head.lines().map(str::to_lowercase).filter(|line| line.contains("bearer")).collect();
        lines.sort();
        lines.join(" ")
    });
    for (name, headers) in [
        ("no key", "Sec-WebSocket-Version: 13"),
        ("a short key", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YQ=="),
        ("another version", "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        ("no websocket", "Upgrade-Insecure-Requests: 1"),
    ] {
        for method in ["GET", "POST"] {
            plan.act(format!("{method} for a websocket with {name}"), move |server| {
                let upgrade = if name == "no websocket" { "h2c" } else { "websocket" };
                let request = format!(
                    "{method} /v3/watch HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: {upgrade}\r\n{headers}\r\nContent-Length: 0\r\nGrpc-Timeout: soon\r\n\r\n"
                );
                let answer = http1::exchange(server.port(), request.as_bytes()).expect("an answer");
                String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
            });
        }
    }
}
