//! A call over a websocket: each message of the client is part of the request's body, each line of the answer a message.
//!
//! As grpc-websocket-proxy does it in etcd: any path will do, a query stands for nothing, and a browser, which can set no
//! headers, gives its token as a subprotocol (`Bearer, <token>`) or as the cookie `token`. Other than in etcd, a call that
//! takes one request is answered once that is there, and both sides say goodbye.

mod conversation;
mod frame;

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method as Verb, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use parking_lot::Mutex;
use sha1::{Digest as _, Sha1};

use crate::net::body::Body;
use crate::net::site::{Boxed, Sender, Site};
use crate::net::threads::Drain;

/// What RFC 6455 adds to a key.
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What goes on with a connection after its last answer. Travels with each request; the task of the connection takes it
/// up, so that the connection counts for as long as it lasts.
#[derive(Clone)]
pub(in crate::net) struct Later {
    conversation: Arc<Mutex<Option<Boxed<'static, ()>>>>,
    drain: Drain,
}

impl Later {
    pub(in crate::net) fn new(drain: Drain) -> Self {
        Self {
            conversation: Arc::default(),
            drain,
        }
    }

    /// What is to be done now that the connection is nobody else's, if anything.
    pub(in crate::net) fn take(&self) -> Option<Boxed<'static, ()>> {
        self.conversation.lock().take()
    }
}

/// Whether a request asks for a websocket.
pub(super) fn is_wanted(head: &Parts) -> bool {
    has_word(&head.headers, &header::CONNECTION, "upgrade")
        && has_word(&head.headers, &header::UPGRADE, "websocket")
}

/// Answers such a request.
pub(super) fn open(site: &Site, head: &Parts, path: &str) -> Response<Body> {
    if head.method != Verb::GET {
        return refused(StatusCode::METHOD_NOT_ALLOWED);
    }
    let version = has_word(&head.headers, &header::SEC_WEBSOCKET_VERSION, "13");
    let key = head.headers.get(header::SEC_WEBSOCKET_KEY);
    let key = key.filter(|key| {
        let bytes = BASE64_STANDARD.decode(key.as_bytes());
        bytes.is_ok_and(|bytes| bytes.len() == 16)
    });
    let upgrade = head.extensions.get::<OnUpgrade>();
    let later = head.extensions.get::<Later>();
    let (Some(key), Some(upgrade), Some(later), true) = (key, upgrade, later, version) else {
        return refused(StatusCode::BAD_REQUEST);
    };
    let protocol = head.headers.get(header::SEC_WEBSOCKET_PROTOCOL);
    let request = conversation::Request {
        remote: Sender::of(head),
        path: path.to_owned(),
        headers: headers(&head.headers),
    };
    *later.conversation.lock() = Some(Box::pin(conversation::hold(
        upgrade.clone(),
        site.clone(),
        request,
        later.drain.clone(),
    )));
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::try_from(accept(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if protocol.is_some_and(|protocol| protocol.as_bytes().starts_with(b"Bearer")) {
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static("Bearer"),
        );
    }
    response
}

/// As Go's `http.Error` with the name of the status.
fn refused(status: StatusCode) -> Response<Body> {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut response = Response::new(Body::Full(format!("{reason}\n").into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::SEC_WEBSOCKET_VERSION,
        HeaderValue::from_static("13"),
    );
    response
}

/// Whether one of the words of a header is `word`.
fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let texts = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut words = texts.flat_map(|text| text.split(','));
    words.any(|given| given.trim().eq_ignore_ascii_case(word))
}

/// The headers of the call: none but the token.
fn headers(given: &HeaderMap) -> HeaderMap {
    let text = |name| {
        given
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let protocol = text(header::SEC_WEBSOCKET_PROTOCOL).map(|protocols| {
        let token = protocols
            .split_once("Bearer,")
            .map(|(_, token)| token.trim_matches(' '));
        token.map_or_else(String::new, |token| format!("Bearer {token}"))
    });
    let cookies = given
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut cookies = cookies.flat_map(|text| text.split(';'));
    let cookie = cookies.find_map(|cookie| cookie.trim().strip_prefix("token="));
    let token = cookie.map(|token| format!("Bearer {token}")).or(protocol);
    let value = token.and_then(|token| HeaderValue::try_from(token).ok());
    let pairs = value.map(|value| (header::AUTHORIZATION, value));
    pairs.into_iter().collect()
}

/// The proof that a key was understood.
fn accept(key: &[u8]) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(MAGIC).finalize();
    BASE64_STANDARD.encode(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        pairs.collect()
    }

    /// The example of RFC 6455.
    #[test]
    fn keys_are_accepted() {
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn words_of_headers_are_found() {
        let headers = with(&[
            (header::CONNECTION, "keep-alive, Upgrade"),
            (header::UPGRADE, "WebSocket"),
        ]);
        assert!(has_word(&headers, &header::CONNECTION, "upgrade"));
        assert!(has_word(&headers, &header::UPGRADE, "websocket"));
        assert!(!has_word(&headers, &header::CONNECTION, "grade"));
    }

    #[test]
    fn a_browser_has_two_ways_to_give_its_token() {
        let token = |pairs: &[_]| {
            let headers = headers(&with(pairs));
            headers
                .get(header::AUTHORIZATION)
                .map(|value| value.to_str().expect("text").to_owned())
        };
        let protocol = (header::SEC_WEBSOCKET_PROTOCOL, "Bearer, abc");
        let cookie = (header::COOKIE, "a=b; token=xyz");
        assert_eq!(
            token(std::slice::from_ref(&protocol)).as_deref(),
            Some("Bearer abc")
        );
        assert_eq!(
            token(&[(header::SEC_WEBSOCKET_PROTOCOL, "Bearer,abc")]).as_deref(),
            Some("Bearer abc")
        );
        assert_eq!(token(&[protocol, cookie]).as_deref(), Some("Bearer xyz"));
        assert_eq!(
            token(&[(header::SEC_WEBSOCKET_PROTOCOL, "chat")]).as_deref(),
            Some("")
        );
        assert_eq!(token(&[]), None);
    }
}
