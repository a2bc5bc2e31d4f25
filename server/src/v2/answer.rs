//! Answers over HTTP, with the bodies and headers of etcd 2.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use retcd_raft_node::membership::etcd_json;
use serde::Serialize;

use super::refusal::Refusal;
use crate::net::Body;

const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
const INDEX: HeaderName = HeaderName::from_static("x-etcd-index");
const RAFT_INDEX: HeaderName = HeaderName::from_static("x-raft-index");
const RAFT_TERM: HeaderName = HeaderName::from_static("x-raft-term");
const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

/// Where raft and the store were when an answer about keys was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub(super) index: i64,
    pub(super) committed: u64,
    pub(super) term: u64,
}

impl Position {
    fn put_into(self, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        headers.insert(INDEX, HeaderValue::from(self.index));
        headers.insert(RAFT_INDEX, HeaderValue::from(self.committed));
        headers.insert(RAFT_TERM, HeaderValue::from(self.term));
    }
}

/// JSON and, as Go's encoder writes it, the end of a line.
pub(super) fn line<T: Serialize>(value: &T) -> Bytes {
    let mut text = etcd_json(value);
    text.push(b'\n');
    text.into()
}

pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    typed(status, "application/json", Body::Full(body.into()))
}

/// Words, as Go's `http.Error` sends them.
pub(super) fn words(status: StatusCode, text: &'static str) -> Response<Body> {
    let body = Body::Full(Bytes::from_static(text.as_bytes()));
    let mut response = typed(status, "text/plain; charset=utf-8", body);
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(NOSNIFF, nosniff);
    response
}

pub(super) fn text(body: String) -> Response<Body> {
    typed(
        StatusCode::OK,
        "text/plain; charset=utf-8",
        Body::Full(body.into()),
    )
}

pub(super) fn typed(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// An answer about keys.
pub(super) fn of_keys(status: StatusCode, position: Position, body: Body) -> Response<Body> {
    let mut response = typed(status, "application/json", body);
    position.put_into(&mut response);
    response
}

pub(super) fn refusal(refusal: &Refusal) -> Response<Body> {
    let mut response = json(refusal.status(), line(&refusal.body()));
    let index = HeaderValue::from(refusal.index);
    response.headers_mut().insert(INDEX, index);
    response
}

/// What members, statistics and users are refused with.
pub(super) fn message(status: StatusCode, message: &str) -> Response<Body> {
    #[derive(Serialize)]
    struct Message<'a> {
        message: &'a str,
    }
    json(status, etcd_json(&Message { message }))
}

/// An answer in the place of the one that was asked for.
pub(super) type Refused = Box<Response<Body>>;

/// The refusal of any other method, if it is another one.
pub(super) fn only(method: &Method, allowed: &'static str) -> Option<Response<Body>> {
    if allowed.split(',').any(|one| one == method.as_str()) {
        return None;
    }
    let mut response = words(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(header::ALLOW, allowed);
    Some(response)
}

/// Says of which cluster an answer is.
pub(super) fn of_cluster(id: u64, mut response: Response<Body>) -> Response<Body> {
    if let Ok(id) = HeaderValue::try_from(format!("{id:x}")) {
        response.headers_mut().insert(CLUSTER_ID, id);
    }
    response
}
