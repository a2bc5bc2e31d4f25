//! The JSON gateway: calls as JSON over HTTP, and over a websocket.
//!
//! ```text
//! POST /v3/… ──▶ route ──▶ input: values ──▶ json::to_wire ──▶ Services::call ──▶ json::to_json ──▶ answer
//! ```
//!
//! A call goes through the same door as one of gRPC, so limits, metrics, metadata and errors are the same. Nothing is
//! dialed, as etcd's gateway does, which a certificate that is good for servers alone would break. Statuses, headers and
//! bodies are those of grpc-gateway 2 in etcd 3.7.1.

mod failure;
mod headers;
mod input;
mod results;
mod route;
mod websocket;

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::stream;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method as Verb, Response};
use http_body_util::BodyExt as _;
use retcd_proto::schema;
use tokio::time::Instant;
use tonic::Code;

use super::body::Body;
use super::grpc::{Call, Kind, Local, Method, PREFIX, Status};
use super::incoming::Incoming;
use super::site::{Sender, Site};
use crate::json;
use input::Input;
use results::{Chunk, Results};
pub(super) use websocket::Later;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// The one header of gRPC's that every answer has.
const METADATA_CONTENT_TYPE: HeaderName = HeaderName::from_static("grpc-metadata-content-type");

/// Answers a request whose path begins with `/v3/`.
pub(super) async fn serve(site: &Site, head: &Parts, path: &str, body: Incoming) -> Response<Body> {
    if websocket::is_wanted(head) {
        return websocket::open(site, head, path);
    }
    let Some(method) = route::find(path) else {
        return failure::not_found();
    };
    if head.method != Verb::POST {
        return failure::not_allowed();
    }
    let input = Input::of_body(body, site);
    respond(site, method, Sender::of(head), &head.headers, input).await
}

/// Answers a call.
async fn respond(
    site: &Site,
    method: Method,
    remote: SocketAddr,
    headers: &HeaderMap,
    input: Input,
) -> Response<Body> {
    let Some(schema) = method.schema() else {
        return failure::not_found();
    };
    let (metadata, deadline) = match headers::read(headers) {
        Ok(read) => read,
        Err(status) => return failure::response(&status),
    };
    let requests = match method.kind() {
        Kind::BidiStream => many(input, schema.input),
        Kind::Unary | Kind::ServerStream => match one(input, schema.input).await {
            Ok(request) => Box::pin(stream::iter([Ok(request)])),
            Err(status) => return failure::response(&status),
        },
    };
    // A call that waits for nothing would be done before anybody looked at the clock.
    if deadline.is_some_and(|at| at <= Instant::now()) {
        return failure::response(&Status::deadline_exceeded());
    }
    let call = Call::local(site, method, remote, requests, &metadata, deadline);
    let Ok(answer) = site.services.call(method, call).await;
    match method.kind() {
        Kind::Unary => unary(answer, schema.output).await,
        Kind::ServerStream | Kind::BidiStream => streaming(answer, schema.output).await,
    }
}

/// The request of a call that takes one: the first value, or nothing at all. What follows it is read and not looked at.
async fn one(mut input: Input, message: &'static schema::Message) -> Result<Bytes, Status> {
    let value = input.next().await;
    // Whatever it was: who is still sending would not hear the answer.
    input.discard().await;
    encode(message, value?.as_deref().unwrap_or(b"{}"))
}

/// The requests of a call that takes many.
///
/// As in etcd, what cannot be read after the first ends them without a word. If it is the first, etcd says nothing either
/// and lets its client wait; here it is told.
fn many(input: Input, message: &'static schema::Message) -> Local {
    let next = move |(mut input, first): (Input, bool)| async move {
        let request = match input.next().await {
            Ok(None) => return Ok(None),
            Ok(Some(value)) => encode(message, &value),
            Err(status) => Err(status),
        };
        match request {
            Ok(request) => Ok(Some((request, (input, false)))),
            Err(Status { code, text }) if first => Err(Status::new(
                code,
                format!("Failed to decode request: {text}"),
            )),
            Err(_) => Ok(None),
        }
    };
    Box::pin(stream::try_unfold((input, true), next))
}

fn encode(message: &'static schema::Message, value: &[u8]) -> Result<Bytes, Status> {
    match json::to_wire(message, value) {
        Ok(wire) => Ok(wire.into()),
        Err(words) => Err(Status::new(Code::InvalidArgument, words)),
    }
}

async fn unary(answer: Response<Body>, message: &'static schema::Message) -> Response<Body> {
    if let Some(status) = Status::of(answer.headers()) {
        return failure::response(&status);
    }
    let collected = match answer.into_body().collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(never) => match never {},
    };
    let mut text = Vec::new();
    let reply = collected.get(PREFIX..).unwrap_or_default();
    if let Err(damaged) = json::to_json(message, reply, &mut text) {
        return failure::response(&Status::new(Code::Internal, damaged.to_string()));
    }
    let mut response = Response::new(Body::Full(text.into()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(METADATA_CONTENT_TYPE, GRPC);
    response
}

/// The head of an answer waits for its first reply, since an error in its place has a status of its own.
async fn streaming(answer: Response<Body>, message: &'static schema::Message) -> Response<Body> {
    if let Some(status) = Status::of(answer.headers()) {
        return failure::of_stream(&status);
    }
    let mut results = Results::new(answer.into_body(), message);
    let (body, has_content) = match results.next().await {
        Some(Chunk::Failed(status)) => return failure::of_stream(&status),
        Some(Chunk::Lines(lines)) => (results.into_body(lines), true),
        None => (results.into_body(Bytes::new()), false),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    if has_content {
        headers.insert(header::CONTENT_TYPE, JSON);
        headers.insert(METADATA_CONTENT_TYPE, GRPC);
    }
    response
}
