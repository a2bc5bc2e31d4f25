//! The API of etcd 2, for old tutorials and tools: `--enable-v2`.
//!
//! ```text
//! net/http ──▶ V2 ─┬─ keys ── request ── plan ──▶ a transaction through the log
//!                  │    └──── tree, from a view of the store
//!                  ├─ wait ──▶ the watch service
//!                  ├─ members, stats
//!                  └─ expire: ends what has reached its deadline
//! ```
//!
//! The tree lives under one prefix of the v3 store, as docs/v2.md says. Each write is one transaction, judged by what
//! this member sees and done if that is still so when the transaction is applied; otherwise it is judged again. So it
//! is atomic, and works on every member.

mod answer;
mod counts;
mod draft;
mod form;
mod keys;
mod members;
mod node;
mod path;
mod plan;
mod refusal;
mod removal;
mod request;
mod stats;
#[cfg(test)]
mod tests;
mod tree;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::api::Api;
use crate::member::Member;
use crate::net::{self, Body, Boxed, Incoming};

use counts::Counts;
use form::Form;
use keys::Turns;
use refusal::{Code, Refusal};

/// Bytes of a form; Go's limit.
const MAX_FORM: usize = 10 << 20;

/// The service.
#[derive(Debug)]
pub(crate) struct V2 {
    api: Api,
    counts: Counts,
    turns: Turns,
    /// Since 1970.
    started: Duration,
}

impl V2 {
    pub(crate) fn new(member: Arc<Member>) -> Self {
        let started = member.clock.unix();
        Self {
            api: Api::new(member),
            counts: Counts::default(),
            turns: Turns::default(),
            started,
        }
    }

    fn member(&self) -> &Arc<Member> {
        self.api.member()
    }

    /// Nanoseconds since 1970.
    fn now(&self) -> i64 {
        let nanos = self.member().clock.unix().as_nanos();
        i64::try_from(nanos).unwrap_or(i64::MAX)
    }

    async fn route(&self, request: &Parts, body: Incoming) -> Response<Body> {
        let path = request.uri.path();
        let method = &request.method;
        let found = if let Some(rest) = below(path, "/v2/keys") {
            // A path that cannot be read is none: Go answers so before it looks for who serves it.
            match form::unescape(rest, false) {
                Ok(rest) => Some(self.keys(request, body, &rest).await),
                Err(_) => Some(answer::words(StatusCode::BAD_REQUEST, "400 Bad Request")),
            }
        } else if let Some(rest) = below(path, "/v2/members") {
            let rest = rest.strip_prefix('/').unwrap_or(rest);
            Some(self.members(request, body, rest).await)
        } else if path == "/v2/machines" {
            Some(self.machines(method))
        } else if let Some(name) = path.strip_prefix("/v2/stats/") {
            self.stats(method, name)
        } else {
            let cluster = self.member().cluster_id;
            let answer = below(path, "/v2/auth").and_then(|rest| auth(method, rest));
            answer.map(|answer| answer::of_cluster(cluster, answer))
        };
        found.unwrap_or_else(|| answer::words(StatusCode::NOT_FOUND, "404 page not found\n"))
    }
}

impl net::Legacy for V2 {
    fn answer<'a>(&'a self, request: &'a Parts, body: Incoming) -> Boxed<'a, Response<Body>> {
        Box::pin(self.route(request, body))
    }
}

/// What follows a prefix in a path, if that is a whole part of it: nothing, or a slash and more.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// Users and roles of etcd 2: there are none here.
fn auth(method: &Method, rest: &str) -> Option<Response<Body>> {
    match rest {
        "/enable" if method == Method::GET => {
            return Some(answer::json(StatusCode::OK, "{\"enabled\":false}\n"));
        }
        "/enable" | "/users" | "/roles" => {}
        _ if rest.starts_with("/users/") || rest.starts_with("/roles/") => {}
        _ => return None,
    }
    let text = "users and roles of the v2 API are not kept: protect the port with client certificates \
                (--client-cert-auth), or use the v3 API, which has its own";
    Some(answer::message(StatusCode::NOT_IMPLEMENTED, text))
}

/// Reads the fields of a request, from its query and, if that is a form, from its body.
async fn read_form(request: &Parts, body: Incoming) -> Result<Form, Refusal> {
    let wrong = |cause: String| Refusal::of_request(Code::InvalidForm, cause);
    let has_body = matches!(request.method, Method::PUT | Method::POST);
    let body = match has_body && is_form(request) {
        true => Some(read_body(body, MAX_FORM).await.map_err(wrong)?),
        false => None,
    };
    let body = body.as_deref().map(std::str::from_utf8).transpose();
    let body = body.map_err(|_| wrong("the form is not UTF-8".to_owned()))?;
    Form::of(body, request.uri.query().unwrap_or_default()).map_err(wrong)
}

fn is_form(request: &Parts) -> bool {
    let kind = request.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split_once(';').map_or(kind, |(kind, _)| kind);
    kind.trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Reads a body of `limit` bytes at most. The text of an error is etcd's.
async fn read_body(body: Incoming, limit: usize) -> Result<Bytes, String> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err("http: POST too large".to_owned()),
        Err(_) => Err("unexpected EOF".to_owned()),
    }
}
