//! What stands before a client port's endpoints while it speaks plain HTTP: the host whitelist
//! (DNS rebinding, CVE-2018-5702) and CORS.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use slog::warn;

use crate::net::body::Body;
use crate::net::incoming::Incoming;
use crate::net::site::{Secure, Site};

/// Answers a request if its host is known, and lets browsers of allowed origins read the answer.
pub(super) async fn serve(site: &Site, request: &Parts, body: Incoming) -> Response<Body> {
    let settings = &site.settings;
    let host = host_of(request);
    let secure = request.extensions.get::<Secure>().is_some();
    if !secure && !allowed(&settings.host_whitelist, host) {
        warn!(settings.logger, "rejecting HTTP request to prevent DNS rebinding attacks"; "host" => host);
        return super::error(StatusCode::MISDIRECTED_REQUEST, misdirected(host));
    }
    let mut response = match request.method {
        Method::OPTIONS => Response::new(Body::Full(Bytes::new())),
        _ => super::route(site, request, body).await,
    };
    // Browsers ask for no leave to open a websocket, and etcd's answer to one has no such headers.
    let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if !upgraded && let Some(origin) = origin(&settings.cors, &request.headers) {
        let headers = response.headers_mut();
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
        );
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("accept, content-type, authorization"),
        );
    }
    response
}

/// Whether a list names `name`, or everything: it is empty or holds `*`.
fn allowed(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|entry| entry == "*" || entry == name)
}

/// The host without its port.
fn host_of(request: &Parts) -> &str {
    let header = request.headers.get(header::HOST);
    let host = match header.and_then(|value| value.to_str().ok()) {
        Some(host) => host,
        None => request.uri.authority().map_or("", |a| a.as_str()),
    };
    if let Some((inside, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inside;
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}

fn misdirected(host: &str) -> String {
    format!(
        "\netcd received your request, but the Host header was unrecognized.\n\n\
         To fix this, choose one of the following options:\n\
         - Enable TLS, then any HTTPS request will be allowed.\n\
         - Add the hostname you want to use to the whitelist in settings.\n  \
         - e.g. etcd --host-whitelist {host:?}\n\n\
         This requirement has been added to help prevent \"DNS Rebinding\" attacks \
         (CVE-2018-5702).\n\n"
    )
}

/// The value of `Access-Control-Allow-Origin`, if the origin of the request is an allowed one.
fn origin(cors: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    if allowed(cors, "*") {
        return Some(HeaderValue::from_static("*"));
    }
    let origin = headers.get(header::ORIGIN)?;
    allowed(cors, origin.to_str().ok()?).then(|| origin.clone())
}
