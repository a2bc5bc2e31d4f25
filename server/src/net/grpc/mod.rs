//! gRPC over HTTP/2, framed here because clients compare texts: grpc-go's answers to bad input
//! are part of etcd's face. Observed at etcd 3.7.1 (grpc-go 1.82).

mod call;
mod encoding;
mod frame;
mod health;
pub(super) mod metadata;
mod method;
mod stats;
mod status;
mod timeout;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::Code;

pub(crate) use call::{Answer, Call};
pub(super) use frame::{Local, PREFIX};
pub(super) use health::Serving;
pub(crate) use metadata::Metadata;
pub(super) use method::Kind;
pub(crate) use method::Method;
pub(crate) use status::Status;

use super::site::Site;
use call::Progress;
use encoding::Encoding;
use frame::Messages;
use stats::Stats;

const GRPC: &str = "application/grpc";
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The answer to a call, not yet there.
pub(crate) type Pending = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Starts a call: checks its headers, in grpc-go's order, and hands it to its handler.
pub(super) fn serve(site: &Arc<Site>, remote: SocketAddr, request: Request<Incoming>) -> Pending {
    match open(site, remote, request) {
        Ok((method, call)) => dispatch(site, method, call),
        Err(refusal) => {
            let (http, status, content_type) = *refusal;
            Box::pin(std::future::ready(Ok(status.response(http, content_type))))
        }
    }
}

fn dispatch(site: &Arc<Site>, method: Method, call: Call) -> Pending {
    match method {
        Method::HealthCheck => Box::pin(health::check(call, site.serving())),
        Method::HealthList => Box::pin(health::list(call, site.serving())),
        Method::HealthWatch => Box::pin(health::watch(call, site.serving())),
        _ => site.services.call(method, call),
    }
}

type Refusal = Box<(StatusCode, Status, HeaderValue)>;

fn open(
    site: &Site,
    remote: SocketAddr,
    request: Request<Incoming>,
) -> Result<(Method, Call), Refusal> {
    let (head, body) = request.into_parts();
    let headers = &head.headers;

    let content_type = content_type(headers).map_err(|got| {
        let text = format!("invalid gRPC request content-type {got:?}");
        let status = Status::new(Code::InvalidArgument, text);
        let plain = HeaderValue::from_static(GRPC);
        Box::new((StatusCode::UNSUPPORTED_MEDIA_TYPE, status, plain))
    })?;
    let refusal = |http, code, text: String| -> Refusal {
        Box::new((http, Status::new(code, text), content_type.clone()))
    };

    let mut timeout = None;
    let mut malformed = None;
    // All headers are read, in their order, before the last bad one is reported.
    for (name, value) in headers {
        if *name == GRPC_TIMEOUT {
            match timeout::parse(value.as_bytes()) {
                Ok(given) => timeout = Some(given),
                Err(reason) => malformed = Some(format!("malformed grpc-timeout: {reason}")),
            }
        } else if let Some(text) = metadata::binary_error(name, value) {
            malformed = Some(text);
        }
    }
    if let Some(text) = malformed {
        return Err(refusal(StatusCode::BAD_REQUEST, Code::Internal, text));
    }
    if head.method != http::Method::POST {
        let got = head.method.as_str();
        let text = format!("Received a HEADERS frame with :method {got:?} which should be POST");
        let http = StatusCode::METHOD_NOT_ALLOWED;
        return Err(refusal(http, Code::Internal, text));
    }
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        let Status { code, text } = Status::deadline_exceeded();
        return Err(refusal(StatusCode::OK, code, text.into_owned()));
    }

    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    let Some(method) = Method::find(path) else {
        let text = unknown(path);
        return Err(refusal(StatusCode::OK, Code::Unimplemented, text));
    };
    let encoding = Encoding::of(headers).map_err(|encoding| {
        let text = format!("grpc: Decompressor is not installed for grpc-encoding {encoding:?}");
        refusal(StatusCode::OK, Code::Unimplemented, text)
    })?;

    let call = Call {
        messages: Messages::new(body, encoding, site.max_receive_bytes),
        encoding,
        metadata: Metadata::of(headers),
        // A timeout beyond the clock's range is none.
        deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        content_type,
        progress: Progress::new(Arc::clone(&site.settings.observer), method),
        stats: Stats {
            settings: Arc::clone(&site.settings),
            remote,
            method,
        },
    };
    Ok((method, call))
}

/// The content type to answer with, or the one that is not gRPC's.
fn content_type(headers: &HeaderMap) -> Result<HeaderValue, String> {
    let value = headers
        .get(header::CONTENT_TYPE)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let foreign = || String::from_utf8_lossy(value).into_owned();
    let subtype = value.strip_prefix(GRPC.as_bytes()).ok_or_else(foreign)?;
    match subtype {
        [] => Ok(HeaderValue::from_static(GRPC)),
        [b'+' | b';', subtype @ ..] => {
            let echo = [GRPC.as_bytes(), b"+", subtype].concat();
            HeaderValue::from_bytes(&echo).map_err(|_| foreign())
        }
        _ => Err(foreign()),
    }
}

/// What grpc-go says of a path that leads nowhere.
fn unknown(path: &str) -> String {
    let split = path
        .strip_prefix('/')
        .and_then(|rest| rest.rsplit_once('/'));
    match split {
        None => format!("malformed method name: {path:?}"),
        Some((service, method)) if Method::SERVICES.contains(&service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
    }
}
