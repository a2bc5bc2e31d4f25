//! Answers as text that is the same for two servers that answer alike.

use std::fmt::Write as _;

use retcd_tests::http1::Answer;
use serde_json::{Map, Value};

use crate::plan::Server;

/// Names of fields whose values are a server's own.
pub(crate) type Hidden = &'static [&'static str];

/// Those of every answer.
const ALWAYS: Hidden = &["cluster_id", "member_id", "raft_term"];

/// What every answer on a client URL carries by default.
const CORS: &[(&str, &str)] = &[
    ("access-control-allow-methods", "POST, GET, OPTIONS, PUT, DELETE"),
    ("access-control-allow-origin", "*"),
    ("access-control-allow-headers", "accept, content-type, authorization"),
];

/// The headers that a client may go by.
const HEADERS: &[&str] = &[
    "content-type",
    "content-encoding",
    "grpc-metadata-content-type",
    "allow",
    "location",
    "www-authenticate",
    "x-content-type-options",
    "sec-websocket-version",
    "access-control-allow-origin",
];

/// Status, headers, and the body: JSON in one form whatever its spaces and order.
pub(crate) fn answer(answer: &Answer, server: &Server<'_>, hidden: Hidden) -> String {
    let mut out = head(answer);
    let text = answer.text();
    let lines: Vec<_> = text.lines().map(|line| line_of(line, server, hidden)).collect();
    let end = if text.ends_with('\n') { "\n" } else { "" };
    let _ = write!(out, " {}{end}", lines.join("\n"));
    out
}

/// Status and headers.
pub(crate) fn head(answer: &Answer) -> String {
    let mut out = answer.status.to_string();
    let cors = CORS.iter().all(|(name, value)| answer.header(name).as_deref() == Some(value));
    if cors {
        out += " cors";
    }
    for name in HEADERS.iter().filter(|name| !cors || !name.starts_with("access")) {
        if let Some(value) = answer.header(name) {
            let _ = write!(out, " {name}={value:?}");
        }
    }
    out
}

/// A line of an answer.
pub(crate) fn line_of(line: &str, server: &Server<'_>, hidden: Hidden) -> String {
    match serde_json::from_str(line) {
        Ok(value) => show(value, server, hidden).to_string(),
        // Builds of Go differ in the kind of space.
        Err(_) => line.replace('\u{a0}', " "),
    }
}

fn show(value: Value, server: &Server<'_>, hidden: Hidden) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(|value| show(value, server, hidden)).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| {
                let own = ALWAYS.contains(&name.as_str()) || hidden.contains(&name.as_str());
                let value = if own { "*".into() } else { show(value, server, hidden) };
                (name, value)
            });
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Value::String(text) => {
            let port = format!(":{}", server.port());
            let peer = server.member.peer_url();
            let text = if text == server.id { "MEMBER".to_owned() } else { text };
            Value::String(text.replace('\u{a0}', " ").replace(&peer, "PEER").replace(&port, ":PORT"))
        }
        other => other,
    }
}
