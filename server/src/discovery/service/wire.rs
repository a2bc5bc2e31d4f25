//! gRPC calls over a connection: one message there, some messages back.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use retcd_raft_node::transport::Stream;
use tokio::task::JoinHandle;

/// Bytes of a message: what a client of etcd takes by default is without a limit, and a registry of thousands of members
/// is far below this one.
const MAX_MESSAGE: usize = 16 << 20;

/// How a call ended other than well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// The server says no.
    #[error("{message}")]
    Status {
        /// One of gRPC's.
        code: i32,
        message: String,
    },
    /// There is no answer, or none that can be understood.
    #[error("{0}")]
    Broken(String),
}

/// A connection that speaks HTTP/2. Cheap to clone; open until the last clone is dropped, also by calls that go on.
#[derive(Clone)]
pub(super) struct Wire {
    sender: SendRequest<Outgoing>,
    /// `scheme://authority`.
    origin: String,
    driver: Arc<Driver>,
}

struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Wire {
    /// `keepalive`: how often to look whether the other side is there while a call waits, and how long to wait then.
    pub(super) async fn open(
        stream: Box<dyn Stream>,
        origin: String,
        keepalive: Option<(Duration, Duration)>,
    ) -> Result<Self, CallError> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        if let Some((interval, timeout)) = keepalive {
            builder
                .keep_alive_interval(interval)
                .keep_alive_timeout(timeout);
        }
        let (sender, driver) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer is told.
            let _ = driver.await;
        });
        Ok(Self {
            sender,
            origin,
            driver: Arc::new(Driver(driver)),
        })
    }

    /// A call with one answer.
    pub(super) async fn unary<A: Message + Default>(
        &self,
        method: &str,
        token: Option<&HeaderValue>,
        request: &impl Message,
    ) -> Result<A, CallError> {
        let mut answers: Answers<A> = self.send(method, token, request, false).await?;
        let answer = answers.next().await?;
        answers.end().await?;
        answer.ok_or_else(|| CallError::Broken("the answer has no message".into()))
    }

    /// A call that goes on until its answers are dropped.
    pub(super) async fn stream<A: Message + Default>(
        &self,
        method: &str,
        token: Option<&HeaderValue>,
        request: &impl Message,
    ) -> Result<Answers<A>, CallError> {
        self.send(method, token, request, true).await
    }

    async fn send<A>(
        &self,
        method: &str,
        token: Option<&HeaderValue>,
        request: &impl Message,
        open: bool,
    ) -> Result<Answers<A>, CallError> {
        let body = Outgoing {
            message: Some(frame(request)),
            open,
        };
        let uri = format!("{}{method}", self.origin);
        let built = Request::post(uri).header(CONTENT_TYPE, "application/grpc");
        let built = built
            .header(TE, "trailers")
            .header(USER_AGENT, "grpc-retcd");
        let mut request = built
            .body(body)
            .map_err(|error| CallError::Broken(error.to_string()))?;
        if let Some(token) = token {
            request.headers_mut().insert("token", token.clone());
        }
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let (head, body) = response.into_parts();
        let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_grpc = kind.is_some_and(|kind| kind.starts_with(b"application/grpc"));
        if head.status != StatusCode::OK || !is_grpc {
            let text = format!("the answer is not gRPC: HTTP status {}", head.status);
            return Err(CallError::Broken(text));
        }
        let mut answers = Answers {
            body,
            buffer: BytesMut::new(),
            status: None,
            _driver: self.driver.clone(),
            _answer: std::marker::PhantomData,
        };
        answers.read_status(&head.headers);
        Ok(answers)
    }
}

/// The answers to a call.
pub(super) struct Answers<A> {
    body: Incoming,
    buffer: BytesMut,
    /// How the call ended.
    status: Option<(i32, String)>,
    _driver: Arc<Driver>,
    _answer: std::marker::PhantomData<fn() -> A>,
}

impl<A: Message + Default> Answers<A> {
    /// The next one; `None` at a good end.
    pub(super) async fn next(&mut self) -> Result<Option<A>, CallError> {
        loop {
            if let Some(message) = self.take()? {
                let message = A::decode(message);
                return message
                    .map(Some)
                    .map_err(|error| CallError::Broken(error.to_string()));
            }
            if !self.read().await? {
                return self.ended().map(|()| None);
            }
        }
    }

    /// Waits for the end.
    async fn end(&mut self) -> Result<(), CallError> {
        while self.read().await? {
            if self.buffer.len() > MAX_MESSAGE {
                break;
            }
        }
        self.ended()
    }

    fn ended(&self) -> Result<(), CallError> {
        match &self.status {
            Some((0, _)) => Ok(()),
            Some((code, message)) => Err(CallError::Status {
                code: *code,
                message: message.clone(),
            }),
            None => Err(CallError::Broken(
                "the answer ended without a status".into(),
            )),
        }
    }

    /// A whole message, if there is one.
    fn take(&mut self) -> Result<Option<Bytes>, CallError> {
        let Some(head) = self.buffer.get(..5) else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if head[0] != 0 || length > MAX_MESSAGE {
            let text = "the answer is compressed, or longer than anything that is asked for";
            return Err(CallError::Broken(text.into()));
        }
        if self.buffer.len() < 5 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Some more of the body; `false` at its end.
    async fn read(&mut self) -> Result<bool, CallError> {
        let Some(frame) = self.body.frame().await else {
            return Ok(false);
        };
        match frame.map_err(broken)?.into_data() {
            Ok(data) => self.buffer.extend_from_slice(&data),
            Err(frame) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.read_status(trailers);
                }
            }
        }
        Ok(true)
    }
}

impl<A> Answers<A> {
    fn read_status(&mut self, headers: &HeaderMap) {
        let text = |name| {
            headers
                .get(name)
                .map(|value| String::from_utf8_lossy(value.as_bytes()))
        };
        if let Some(code) = text("grpc-status") {
            let message = text("grpc-message").map(|message| unescape(&message));
            // Two is gRPC's for all that has no number.
            self.status = Some((code.parse().unwrap_or(2), message.unwrap_or_default()));
        }
    }
}

/// A message with what gRPC puts before it.
fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // A buffer that grows takes all.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}

/// gRPC escapes what is not printable.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).filter(|_| *first == b'%');
        let escaped = escaped.filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let escaped = escaped.and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// hyper keeps what the operating system said one level below.
fn broken(error: hyper::Error) -> CallError {
    CallError::Broken(match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    })
}

/// A message, and then the end or nothing more for as long as the call goes on.
struct Outgoing {
    message: Option<Bytes>,
    open: bool,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.message.take() {
            Some(message) => Poll::Ready(Some(Ok(Frame::data(message)))),
            // Nothing will change it, so nobody has to be woken.
            None if self.open => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && !self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_servers_are_readable() {
        assert_eq!(unescape("a%20b%C3%A4"), "a bä");
        for odd in ["100%", "%", "%zz", "%2", "%+1"] {
            assert_eq!(unescape(odd), odd);
        }
    }
}
