//! The plain HTTP endpoints: health, version, metrics. Bodies, headers and statuses as observed
//! at etcd 3.7.1.

mod guard;
mod gzip;
mod level;
mod target;

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};
use hyper::body::Body as _;
use slog::warn;

use super::body::Body;
use super::gateway;
use super::incoming::Incoming;
use super::site::{Probe, Site, Surface};
use target::Query;

const PLAIN: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
/// What old tools and tutorials ask for; etcd's words first.
const NO_V2: &str = "404 page not found: the API of etcd 2 is not served here; start every member with --enable-v2 to have \
                     it, or use the API of version 3 (etcdctl with ETCDCTL_API=3)\n";
const PROFILES: &str = "/debug/pprof/";
const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

/// Answers one request.
pub(super) async fn serve(site: &Site, request: &Parts, body: Incoming) -> Response<Body> {
    if let Some(text) = bad_host(request) {
        let mut response = answer(StatusCode::BAD_REQUEST, PLAIN, text);
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
        return response;
    }
    match site.surface {
        Surface::Client | Surface::Grpc | Surface::Http => guard::serve(site, request, body).await,
        Surface::Peer | Surface::Metrics => route(site, request, body).await,
    }
}

/// What hyper does over HTTP/1 alone: an answer has a date, which those of gRPC have not, and one to `HEAD` has no body.
pub(super) fn complete(method: &Method, response: &mut Response<Body>) {
    if let Some(now) = now() {
        response.headers_mut().insert(header::DATE, now);
    }
    if method == Method::HEAD {
        let body = std::mem::replace(response.body_mut(), Body::Empty);
        if let Some(length) = body.size_hint().exact() {
            let length = HeaderValue::from(length);
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length);
        }
    }
}

/// The time as HTTP writes it.
fn now() -> Option<HeaderValue> {
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    let text = printer.timestamp_to_rfc9110_string(&jiff::Timestamp::now());
    HeaderValue::try_from(text.ok()?).ok()
}

/// What Go says to an HTTP/1 request that does not name one host; it then ends the connection.
fn bad_host(request: &Parts) -> Option<&'static str> {
    if request.version > Version::HTTP_11 {
        return None;
    }
    let mut hosts = request.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version < Version::HTTP_11 => None,
        (None, _) => Some("400 Bad Request: missing required Host header"),
        (Some(_), Some(_)) => Some("400 Bad Request"),
        (Some(host), None) => {
            let allowed =
                |byte: &u8| byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(byte);
            let malformed = !host.as_bytes().iter().all(allowed);
            malformed.then_some("400 Bad Request: malformed Host header")
        }
    }
}

enum Endpoint<'a> {
    Nothing,
    Metrics,
    Version,
    Health,
    Variables,
    /// All checks, or the one named.
    Probe(Probe, Option<&'a str>),
}

impl<'a> Endpoint<'a> {
    fn find(surface: Surface, path: &'a str) -> Self {
        match (surface, path) {
            (Surface::Metrics, "/version" | "/debug/vars") => Self::Nothing,
            (_, "/version") => Self::Version,
            (Surface::Peer, _) => Self::Nothing,
            (_, "/debug/vars") => Self::Variables,
            (_, "/metrics") => Self::Metrics,
            (_, "/health") => Self::Health,
            _ => Self::probe(path),
        }
    }

    fn probe(path: &'a str) -> Self {
        let (probe, rest) = if let Some(rest) = path.strip_prefix("/livez") {
            (Probe::Live, rest)
        } else if let Some(rest) = path.strip_prefix("/readyz") {
            (Probe::Ready, rest)
        } else {
            return Self::Nothing;
        };
        match rest.strip_prefix('/') {
            None if rest.is_empty() => Self::Probe(probe, None),
            Some(name) if probe.names().contains(&name) => Self::Probe(probe, Some(name)),
            _ => Self::Nothing,
        }
    }
}

async fn route(site: &Site, request: &Parts, body: Incoming) -> Response<Body> {
    let path = target::renamed(request.uri.path());
    if let Some(clean) = target::cleaned(&path) {
        return redirect(request, &clean);
    }
    let client = matches!(site.surface, Surface::Client | Surface::Http);
    if let Some(v2) = &site.settings.v2
        && client
        && path.starts_with("/v2/")
    {
        return v2.answer(request, body).await;
    }
    if client && site.settings.gateway {
        match path.strip_prefix("/v3") {
            Some("") => return redirect(request, "/v3/"),
            Some(rest) if rest.starts_with('/') => {
                return gateway::serve(site, request, &path, body).await;
            }
            _ => {}
        }
    }
    let path = &*path;
    if path == level::PATH
        && let Some(log) = &site.settings.log
    {
        return level::serve(log, request, body).await;
    }
    if client && path.starts_with("/v2/") {
        // Clients of that API show the status alone.
        let why = NO_V2.trim_end().trim_start_matches("404 page not found: ");
        warn!(site.settings.logger, "refused a request: {}", why; "path" => path);
        return error(StatusCode::NOT_FOUND, NO_V2);
    }
    if client && site.settings.profiles && (path == "/debug/pprof" || path.starts_with(PROFILES)) {
        return no_profile();
    }
    let endpoint = Endpoint::find(site.surface, path);
    let any_method = matches!(endpoint, Endpoint::Nothing | Endpoint::Metrics);
    if !any_method && request.method != Method::GET {
        let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        let allow = HeaderValue::from_static("GET");
        response.headers_mut().insert(header::ALLOW, allow);
        return response;
    }
    let query = Query::of(request.uri.query().unwrap_or_default());
    match endpoint {
        Endpoint::Nothing => error(StatusCode::NOT_FOUND, "404 page not found\n"),
        Endpoint::Metrics => metrics(site, request),
        Endpoint::Version => version(site),
        Endpoint::Health => health(site, &query).await,
        Endpoint::Variables => variables(site),
        Endpoint::Probe(probe, only) => checks(site, probe, only, &query).await,
    }
}

fn metrics(site: &Site, request: &Parts) -> Response<Body> {
    let text = site.services.metrics();
    if gzip::is_wanted(&request.headers)
        && let Ok(packed) = gzip::pack(text.as_bytes())
    {
        let mut response = answer(StatusCode::OK, METRICS, String::new());
        let gzip = HeaderValue::from_static("gzip");
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, gzip);
        *response.body_mut() = Body::Full(packed.into());
        return response;
    }
    answer(StatusCode::OK, METRICS, text)
}

fn version(site: &Site) -> Response<Body> {
    let (server, cluster, storage) = site.services.version();
    let body = format!(
        r#"{{"etcdserver":{},"etcdcluster":{},"storage":{}}}"#,
        json(&server),
        json(&cluster),
        json(&storage),
    );
    answer(StatusCode::OK, "application/json", body)
}

/// A line for each variable, as Go's `expvar` lays them out.
fn variables(site: &Site) -> Response<Body> {
    let variables = site.services.variables();
    let lines: Vec<_> = variables
        .iter()
        .map(|(name, value)| format!("{}: {value}", json(name)))
        .collect();
    let body = format!("{{\n{}\n}}\n", lines.join(",\n"));
    answer(StatusCode::OK, "application/json; charset=utf-8", body)
}

/// Where Go's profiles would be.
fn no_profile() -> Response<Body> {
    let pid = std::process::id();
    let body = format!(
        "this member is not a Go program, so it has no profiles of Go's runtime. On its machine, \
         `perf record -g -p {pid} -- sleep 30` and `perf report` show where its time goes; \
         /metrics and /debug/vars have its memory.\n"
    );
    error(StatusCode::NOT_IMPLEMENTED, body)
}

async fn health(site: &Site, query: &Query) -> Response<Body> {
    let exclude = query.all("exclude");
    let serializable = query.first("serializable") == Some("true");
    match site.services.health(&exclude, serializable).await {
        Ok(()) => answer(StatusCode::OK, PLAIN, r#"{"health":"true","reason":""}"#),
        Err(reason) => {
            let body = format!("{{\"health\":\"false\",\"reason\":{}}}\n", json(&reason));
            error(StatusCode::SERVICE_UNAVAILABLE, body)
        }
    }
}

async fn checks(site: &Site, probe: Probe, only: Option<&str>, query: &Query) -> Response<Body> {
    let mut exclude = query.all("exclude");
    if let Some(only) = only {
        let others = probe.names().iter().filter(|name| **name != only);
        exclude.extend(others.map(|name| (*name).to_owned()));
    }
    let checks = site.services.probe(probe, &exclude).await;
    let mut body = String::new();
    for (name, failure) in &checks {
        let _ = match failure {
            None => writeln!(body, "[+]{name} ok"),
            Some(failure) => writeln!(body, "[-]{name} failed: {failure}"),
        };
    }
    if checks.iter().any(|(_, failure)| failure.is_some()) {
        body.push('\n');
        return error(StatusCode::SERVICE_UNAVAILABLE, body);
    }
    if !query.has("verbose") {
        body.clear();
    }
    body.push_str("ok\n");
    error(StatusCode::OK, body)
}

fn redirect(request: &Parts, path: &str) -> Response<Body> {
    let target = match request.uri.query() {
        None => path.to_owned(),
        Some(query) => format!("{path}?{query}"),
    };
    let mut response = match request.method {
        Method::GET | Method::HEAD => {
            let href = target.replace('&', "&amp;").replace('"', "&#34;");
            let body = format!("<a href=\"{href}\">Temporary Redirect</a>.\n\n");
            answer(StatusCode::OK, "text/html; charset=utf-8", body)
        }
        _ => Response::new(Body::Full(Bytes::new())),
    };
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(target) = HeaderValue::try_from(target) {
        response.headers_mut().insert(header::LOCATION, target);
    }
    response
}

/// A text and its type.
fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<String>,
) -> Response<Body> {
    let mut response = Response::new(Body::Full(body.into().into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

/// A text as Go's `http.Error` sends it.
fn error(status: StatusCode, body: impl Into<String>) -> Response<Body> {
    let mut response = answer(status, PLAIN, body);
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(NOSNIFF, nosniff);
    response
}

/// A JSON string as Go writes it: with `<`, `>` and `&` escaped too.
fn json(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}
