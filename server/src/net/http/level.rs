//! `/config/local/log`: how much is logged, read and changed while the member runs.
//!
//! etcd had this path until 3.4 and has nothing in its place. Path, body and answers are those it had; `GET` is ours. Only
//! this machine may ask, and no page in a browser: whoever changes the level can hide or flood a log.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use slog::{Level, info};

use super::{answer, error};
use crate::log::Log;
use crate::net::body::Body;
use crate::net::incoming::Incoming;
use crate::net::site::Sender;

pub(super) const PATH: &str = "/config/local/log";

/// Bytes of a body: a name and what is around it.
const MAX_BODY: usize = 1024;

/// Answers a request for the level.
pub(super) async fn serve(log: &Log, head: &Parts, body: Incoming) -> Response<Body> {
    let remote = Sender::of(head);
    let foreign = !remote.ip().is_loopback() || head.headers.contains_key(header::ORIGIN);
    if foreign {
        return error(
            StatusCode::FORBIDDEN,
            "the log level is read and changed from the member's own machine only, e.g. with curl and 127.0.0.1\n",
        );
    }
    match head.method {
        Method::GET => {
            let name = name(log.level()).to_ascii_uppercase();
            answer(
                StatusCode::OK,
                "application/json",
                format!("{{\"Level\":\"{name}\"}}\n"),
            )
        }
        Method::PUT => match Limited::new(body, MAX_BODY).collect().await {
            Ok(whole) => change(log, &whole.to_bytes()),
            Err(_) => error(
                StatusCode::BAD_REQUEST,
                "the body cannot be read, or is too large\n",
            ),
        },
        _ => {
            let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
            let allow = HeaderValue::from_static("GET,PUT");
            response.headers_mut().insert(header::ALLOW, allow);
            response
        }
    }
}

fn change(log: &Log, body: &[u8]) -> Response<Body> {
    let Ok(request) = serde_json::from_slice::<Request>(body) else {
        return error(
            StatusCode::BAD_REQUEST,
            "Invalid json body: {\"Level\": \"debug\"} is one\n",
        );
    };
    let Some(level) = level(&request.level) else {
        return error(
            StatusCode::BAD_REQUEST,
            format!(
                "Invalid log level {:?}: debug, info, warn, error, panic and fatal are there\n",
                request.level
            ),
        );
    };
    let before = log.level();
    // Said while it is still, or already, heard.
    let say = || {
        info!(log.logger(), "log level changed"; "from" => name(before), "to" => name(level));
    };
    if before.as_usize() >= Level::Info.as_usize() {
        say();
        log.set_level(level);
    } else {
        log.set_level(level);
        say();
    }
    let mut response = Response::new(Body::Full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

#[derive(serde::Deserialize)]
struct Request {
    #[serde(alias = "Level", alias = "LEVEL")]
    level: String,
}

/// By zap's names; an empty one is none here.
fn level(text: &str) -> Option<Level> {
    let settings = crate::log::Settings {
        level: text.to_owned(),
        ..Default::default()
    };
    settings.level().ok().filter(|_| !text.is_empty())
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Critical => "fatal",
        Level::Error => "error",
        Level::Warning => "warn",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    }
}
