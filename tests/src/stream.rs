//! A gRPC call whose requests are sent, and whose replies are read, one by one.
//!
//! Nothing is read ahead: a test that does not ask for replies is a client that does not read.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::gate::{Gate, Gated};
use crate::grpc::frame;

/// How long a reply that has to come may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A connection for streams.
#[derive(Clone, Debug)]
pub struct Streams {
    sender: SendRequest<Requests>,
    port: u16,
}

/// The requests of a stream as a body.
#[derive(Debug)]
struct Requests(mpsc::UnboundedReceiver<Bytes>);

impl Body for Requests {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A reply.
    Message(Bytes),
    /// The end: code and text.
    End(i32, String),
    /// The stream broke.
    Broken(String),
}

/// One call.
#[derive(Debug)]
pub struct Stream {
    requests: Option<mpsc::UnboundedSender<Bytes>>,
    response: Option<JoinHandle<hyper::Result<Response<Incoming>>>>,
    body: Option<Incoming>,
    pending: BytesMut,
    ended: bool,
}

impl Streams {
    /// Connects to a loopback port; `window`: bytes that a stream may send ahead.
    ///
    /// # Panics
    /// If nobody answers.
    pub async fn open(port: u16, window: u32) -> Self {
        Self::try_open(port, window).await.unwrap_or_else(|e| panic!("port {port}: {e}"))
    }

    /// Connects to a loopback port of a server that may be down.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn try_open(port: u16, window: u32) -> Result<Self, String> {
        Self::try_behind(Gate::default(), port, [window, 16 << 20]).await
    }

    /// Connects to a loopback port behind a gate; `windows`: bytes that a stream, and all of them, may send ahead.
    ///
    /// # Panics
    /// If nobody answers.
    pub async fn behind(gate: Gate, port: u16, windows: [u32; 2]) -> Self {
        Self::try_behind(gate, port, windows).await.unwrap_or_else(|e| panic!("port {port}: {e}"))
    }

    async fn try_behind(gate: Gate, port: u16, windows: [u32; 2]) -> Result<Self, String> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(windows[0])
            .initial_connection_window_size(windows[1])
            .handshake(TokioIo::new(Gated::new(gate, stream)))
            .await
            .map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        Ok(Self { sender, port })
    }

    /// Begins a call.
    ///
    /// # Panics
    /// If a path or header is none, or the connection is gone.
    pub async fn call(&self, path: &str, headers: &[(&'static str, &str)]) -> Stream {
        self.try_call(path, headers).await.expect("a connection")
    }

    /// Begins a call of a server that may just have died.
    ///
    /// # Errors
    /// If the connection is gone.
    ///
    /// # Panics
    /// If a path or header is none.
    pub async fn try_call(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Stream, String> {
        let (requests, body) = mpsc::unbounded_channel();
        let mut request = Request::post(format!("http://127.0.0.1:{}{path}", self.port))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Requests(body)).expect("a valid request");
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(|e| e.to_string())?;
        let response = sender.send_request(request);
        Ok(Stream {
            requests: Some(requests),
            response: Some(tokio::spawn(response)),
            body: None,
            pending: BytesMut::new(),
            ended: false,
        })
    }
}

impl Stream {
    /// Sends a message.
    pub fn send(&self, message: &impl prost::Message) {
        self.send_raw(frame(&message.encode_to_vec()));
    }

    /// Sends bytes as they are. Nothing happens once the client's side is closed.
    pub fn send_raw(&self, bytes: Vec<u8>) {
        if let Some(requests) = &self.requests {
            // Of a call that has ended nobody takes requests any more.
            let _ = requests.send(bytes.into());
        }
    }

    /// Closes the client's side.
    pub fn half_close(&mut self) {
        self.requests = None;
    }

    /// Waits for what comes next. Who stops waiting loses nothing.
    pub async fn next(&mut self) -> Part {
        tokio::time::timeout(PATIENCE, self.part())
            .await
            .unwrap_or_else(|_| Part::Broken(format!("silent for {PATIENCE:?}")))
    }

    async fn part(&mut self) -> Part {
        if self.ended {
            return Part::Broken("it has ended before".into());
        }
        if let Some(response) = &mut self.response {
            let answer = response.await.expect("no panic");
            self.response = None;
            match answer {
                Ok(response) => {
                    if let Some(end) = end(response.headers()) {
                        self.ended = true;
                        return end;
                    }
                    self.body = Some(response.into_body());
                }
                Err(e) => return self.broken(&e),
            }
        }
        loop {
            if let Some(message) = self.message() {
                return Part::Message(message);
            }
            let Some(body) = &mut self.body else {
                return Part::Broken("no answer".into());
            };
            match body.frame().await {
                None => {
                    self.ended = true;
                    return Part::Broken("no trailers".into());
                }
                Some(Err(e)) => return self.broken(&e),
                Some(Ok(frame)) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        self.ended = true;
                        return end(trailers).unwrap_or_else(|| Part::Broken("no status".into()));
                    }
                    if let Ok(data) = frame.into_data() {
                        self.pending.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    fn broken(&mut self, error: &hyper::Error) -> Part {
        self.ended = true;
        Part::Broken(error.to_string())
    }

    fn message(&mut self) -> Option<Bytes> {
        let length = self.pending.get(1..5)?;
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        if self.pending.len() < 5 + length {
            return None;
        }
        self.pending.advance(5);
        Some(self.pending.split_to(length).freeze())
    }
}

fn end(headers: &HeaderMap) -> Option<Part> {
    let text = |name| headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    let code = text("grpc-status")?.parse().unwrap_or(-1);
    let message = text("grpc-message").unwrap_or_default();
    Some(Part::End(code, crate::grpc::unescape(&message)))
}
