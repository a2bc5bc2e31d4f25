//! What peers ask of this member, under `/raft`.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use hyper::body::Body;
use slog::{debug, warn};
use tokio::time::{Instant, timeout_at};

use super::codec::{MAX_MESSAGE, Way, check, decode_message};
use super::context::{Context, Share};
use super::outbox::Kind;
use super::peers::Peers;
use super::version::{self, text};
use super::{AnswerBody, ProcessError, hex, parse_id, probe, snapshot_receive};

/// For the body of a message, as etcd's listener has it.
const BODY_TIMEOUT: Duration = Duration::from_secs(300);
/// The space that is made before the first byte has come.
const FIRST: usize = 64 * 1024;

/// The body of a request.
pub trait Incoming: Body<Data: Buf + Send, Error: fmt::Display + Send> + Send {}

impl<B: Body<Data: Buf + Send, Error: fmt::Display + Send> + Send> Incoming for B {}

/// Bytes per second that a long body brings at least.
const MIN_RATE: u128 = 16 * 1024;
/// Over so many deadlines of a read.
const WINDOW: u32 = 4;

/// Reads a body, piece by piece, each within etcd's deadline of a read.
pub(super) struct Reading<B> {
    body: Pin<Box<B>>,
    within: Duration,
    pace: Option<Pace>,
}

/// Who sends one byte in each deadline would hold a place for ever. What counts is the time that
/// was waited for the sender, not that in which nobody read.
#[derive(Default)]
struct Pace {
    waited: Duration,
    bytes: usize,
}

impl Pace {
    fn count(&mut self, waited: Duration, bytes: usize, window: Duration) -> Result<(), String> {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < window {
            return Ok(());
        }
        let Pace { waited, bytes } = std::mem::take(self);
        if (bytes as u128) < waited.as_millis() * MIN_RATE / 1000 {
            return Err(format!(
                "too slow: {bytes} bytes came within {waited:?}; at least {MIN_RATE} a second have to"
            ));
        }
        Ok(())
    }
}

impl<B: Incoming> Reading<B> {
    pub(super) fn new(body: B, context: &Context) -> Reading<B> {
        Reading {
            body: Box::pin(body),
            within: context.options.read_timeout,
            pace: None,
        }
    }

    /// Also not below a minimum of bytes per second.
    pub(super) fn paced(body: B, context: &Context) -> Reading<B> {
        Reading {
            pace: Some(Pace::default()),
            ..Reading::new(body, context)
        }
    }

    /// `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            let begin = Instant::now();
            let deadline = begin + self.within;
            let frame = poll_fn(|context| self.body.as_mut().poll_frame(context));
            match timeout_at(deadline, frame).await {
                Err(_) => {
                    return Err(format!(
                        "i/o timeout: nothing came within {:?}",
                        self.within
                    ));
                }
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(error.to_string()),
                Ok(Some(Ok(frame))) => {
                    if let Ok(mut data) = frame.into_data() {
                        let len = data.remaining();
                        if let Some(pace) = &mut self.pace {
                            pace.count(begin.elapsed(), len, self.within * WINDOW)?;
                        }
                        return Ok(Some(data.copy_to_bytes(len)));
                    }
                }
            }
        }
    }
}

impl Peers {
    /// Answers everything under `/raft`: streams, messages, snapshots, probes. The body of the
    /// answer to a stream lasts for as long as the stream; it needs the timers of a tokio runtime
    /// and belongs on a connection whose writes have a deadline, see
    /// [`WriteDeadline`](super::WriteDeadline).
    pub async fn serve<B: Incoming>(self: &Arc<Self>, request: Request<B>) -> Response<AnswerBody> {
        let (head, body) = request.into_parts();
        let context = self.context();
        match head.uri.path() {
            "/raft/probing" => {
                let now = context.options.clock.unix();
                let mut answer = Response::new(full(probe::answer(now).into()));
                answer.headers_mut().insert(
                    CONTENT_TYPE,
                    HeaderValue::from_static("text/plain; charset=utf-8"),
                );
                answer
            }
            "/raft" if head.method != Method::POST => not_allowed("POST"),
            "/raft" => match self.check(&head.headers) {
                Some(refusal) => refusal,
                None => self.message(&head.headers, body).await,
            },
            "/raft/snapshot" if head.method != Method::POST => {
                context.options.observer.snapshot_receive_failed(0);
                not_allowed("POST")
            }
            "/raft/snapshot" => match self.check(&head.headers) {
                Some(refusal) => {
                    context.options.observer.snapshot_receive_failed(0);
                    refusal
                }
                None => {
                    self.remember_sender(&head.headers);
                    snapshot_receive::receive(self, body).await
                }
            },
            path if path.starts_with("/raft/stream/") => {
                if head.method != Method::GET {
                    return not_allowed("GET");
                }
                let mut answer = match self.check(&head.headers) {
                    Some(refusal) => refusal,
                    None => self.stream(path, &head.headers),
                };
                let version = HeaderValue::from_str(&context.options.server_version);
                if let Ok(version) = version {
                    answer.headers_mut().insert("x-server-version", version);
                }
                answer
            }
            _ => plain(StatusCode::NOT_FOUND, "404 page not found"),
        }
    }

    fn check(&self, headers: &HeaderMap) -> Option<Response<AnswerBody>> {
        let refusal = version::check(self.context(), headers).err()?;
        let text = refusal.to_string();
        Some(self.context().error(StatusCode::PRECONDITION_FAILED, &text))
    }

    /// Whoever says where it can be reached can be answered.
    fn remember_sender(&self, headers: &HeaderMap) {
        if let Some(from) = parse_id(text(headers, "x-server-from")) {
            self.remember(from, headers);
        }
    }

    fn remember(&self, id: u64, headers: &HeaderMap) {
        let urls = text(headers, "x-peerurls");
        if !urls.is_empty() {
            let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
            self.add_remote(id, &urls);
        }
    }

    fn stream(&self, path: &str, headers: &HeaderMap) -> Response<AnswerBody> {
        let context = self.context();
        let logger = &context.options.logger;
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let kinds = [Kind::Append, Kind::Message];
        let Some(kind) = kinds.into_iter().find(|kind| kind.path() == directory) else {
            debug!(logger, "ignored unexpected streaming request path";
                "local-member-id" => &context.local,
                "remote-peer-id-stream-handler" => &context.local, "path" => path);
            return context.error(StatusCode::NOT_FOUND, "invalid path");
        };
        let Some(from) = parse_id(name) else {
            warn!(logger, "failed to parse path into ID"; "local-member-id" => &context.local,
                "remote-peer-id-stream-handler" => &context.local, "path" => name);
            return context.error(StatusCode::NOT_FOUND, "invalid from");
        };
        if context.member.is_removed(from) {
            warn!(logger, "rejected stream from remote peer because it was removed";
                "local-member-id" => &context.local,
                "remote-peer-id-stream-handler" => &context.local,
                "remote-peer-id-from" => hex(from));
            return context.error(StatusCode::GONE, "removed member");
        }
        let Some(peer) = self.peer(from) else {
            self.remember(from, headers);
            warn!(logger, "failed to find remote peer in cluster";
                "local-member-id" => &context.local,
                "remote-peer-id-stream-handler" => &context.local,
                "remote-peer-id-from" => hex(from), "cluster-id" => &context.cluster);
            return context.error(StatusCode::NOT_FOUND, "error sender not found");
        };
        let to = text(headers, "x-raft-to");
        if to != context.local {
            warn!(logger, "ignored streaming request; ID mismatch";
                "local-member-id" => &context.local,
                "remote-peer-id-stream-handler" => &context.local,
                "remote-peer-id-header" => to, "remote-peer-id-from" => hex(from),
                "cluster-id" => &context.cluster);
            return context.error(StatusCode::PRECONDITION_FAILED, "to field mismatch");
        }
        let outbox = match kind {
            Kind::Append => &peer.append,
            Kind::Message => &peer.message,
        };
        match outbox.attach() {
            Some(body) => context.answer(StatusCode::OK, Box::pin(body)),
            // Removed just now.
            None => context.error(StatusCode::NOT_FOUND, "error sender not found"),
        }
    }

    async fn message<B: Incoming>(&self, headers: &HeaderMap, body: B) -> Response<AnswerBody> {
        self.remember_sender(headers);
        let context = self.context();
        let options = &context.options;
        let sender = parse_id(text(headers, "x-server-from")).map_or(0, |id| self.label(id));
        let bytes = match read_message(Reading::new(body, context), context.share()).await {
            Ok(bytes) => bytes,
            Err(error) => {
                warn!(options.logger, "failed to read Raft message";
                    "local-member-id" => &context.local, "error" => error);
                options.observer.receive_failed(sender);
                let text = "error reading raft message";
                return close(context.error(StatusCode::BAD_REQUEST, text));
            }
        };
        let len = bytes.len() as u64;
        let message = decode_message(bytes)
            .map_err(|e| e.to_string())
            .and_then(|m| check(&m, Way::Alone).map(|()| m).map_err(|e| e.to_string()));
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                warn!(options.logger, "failed to unmarshal Raft message";
                    "local-member-id" => &context.local, "error" => error);
                options.observer.receive_failed(sender);
                let text = "error unmarshalling raft message";
                return context.error(StatusCode::BAD_REQUEST, text);
            }
        };
        options.observer.received(self.label(message.from()), len);
        match context.member.process(message) {
            Ok(()) => context.no_content(),
            Err(error) => {
                if !matches!(error, ProcessError::Removed | ProcessError::Mismatch) {
                    warn!(options.logger, "failed to process Raft message";
                        "local-member-id" => &context.local, "error" => %error);
                }
                refused(context, &error, "")
            }
        }
    }
}

/// Grows with what comes; a length in the head is only a promise.
async fn read_message<B: Incoming>(
    mut body: Reading<B>,
    mut share: Share<'_>,
) -> Result<Bytes, String> {
    let deadline = Instant::now() + BODY_TIMEOUT;
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await? {
        if piece.len() > MAX_MESSAGE - bytes.len() {
            return Err(format!("it is longer than {MAX_MESSAGE} bytes"));
        }
        share.grow(piece.len())?;
        if Instant::now() > deadline {
            return Err(format!("it takes longer than {BODY_TIMEOUT:?}"));
        }
        if bytes.is_empty() {
            bytes.reserve_exact(piece.len().max(body.expected().min(FIRST)));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.into())
}

impl<B: Incoming> Reading<B> {
    fn expected(&self) -> usize {
        usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX)
    }
}

/// What the sender of a message is told that was not taken. `what`: more than etcd's usual text.
pub(super) fn refused(context: &Context, error: &ProcessError, what: &str) -> Response<AnswerBody> {
    match error {
        ProcessError::Removed | ProcessError::Mismatch => {
            let body = serde_json::json!({ "message": error.to_string() }).to_string();
            let mut answer = context.answer(StatusCode::FORBIDDEN, full(body.into()));
            let json = HeaderValue::from_static("application/json");
            answer.headers_mut().insert(CONTENT_TYPE, json);
            answer
        }
        ProcessError::Stopped | ProcessError::Refused(_) if what.is_empty() => {
            let text = "error processing raft message";
            close(context.error(StatusCode::INTERNAL_SERVER_ERROR, text))
        }
        ProcessError::Stopped | ProcessError::Refused(_) => {
            let text = format!("{what} ({error})");
            context.error(StatusCode::INTERNAL_SERVER_ERROR, &text)
        }
    }
}

/// The connection is of no more use.
fn close(mut answer: Response<AnswerBody>) -> Response<AnswerBody> {
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

impl Context {
    /// An answer with the cluster's id.
    fn answer(&self, status: StatusCode, body: AnswerBody) -> Response<AnswerBody> {
        let mut answer = Response::new(body);
        *answer.status_mut() = status;
        if let Ok(cluster) = HeaderValue::from_str(&self.cluster) {
            answer.headers_mut().insert("x-etcd-cluster-id", cluster);
        }
        answer
    }

    pub(super) fn no_content(&self) -> Response<AnswerBody> {
        self.answer(StatusCode::NO_CONTENT, empty())
    }

    /// A refusal with a sentence, and the cluster's id.
    pub(super) fn error(&self, status: StatusCode, text: &str) -> Response<AnswerBody> {
        let (head, body) = plain(status, text).into_parts();
        let mut answer = self.answer(status, body);
        answer.headers_mut().extend(head.headers);
        answer
    }
}

fn empty() -> AnswerBody {
    Box::pin(Empty::new())
}

fn full(bytes: Bytes) -> AnswerBody {
    Box::pin(Full::new(bytes))
}

/// As Go's `http.Error`.
fn plain(status: StatusCode, text: &str) -> Response<AnswerBody> {
    let mut answer = Response::new(full(format!("{text}\n").into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    answer
}

fn not_allowed(method: &'static str) -> Response<AnswerBody> {
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(method));
    answer
}
