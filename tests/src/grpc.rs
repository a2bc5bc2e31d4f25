//! gRPC over HTTP/2 by hand, so that any bytes can be sent and everything that comes back is seen.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection.
#[derive(Clone, Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
    scheme: &'static str,
}

/// Everything that came back from one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The HTTP status, 0 if there was no answer.
    pub http: u16,
    /// The content type of the answer.
    pub content_type: String,
    /// The gRPC code, from trailers or, for an answer without body, headers.
    pub code: Option<i32>,
    /// The gRPC text, decoded.
    pub text: String,
    /// The messages of the answer.
    pub messages: Vec<Bytes>,
    /// The body, if it is no gRPC one.
    pub body: String,
    /// How the stream or connection broke, if it did.
    pub broken: Option<String>,
}

impl Connection {
    /// Connects to a loopback port.
    ///
    /// # Panics
    /// If nobody answers.
    pub async fn open(port: u16) -> Self {
        Self::try_open(port).await.unwrap_or_else(|e| panic!("port {port}: {e}"))
    }

    /// Connects to a loopback port.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn try_open(port: u16) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Self::with_window(port, 16 << 20).await
    }

    /// Connects to a loopback port, and lets the other side send so many bytes ahead.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn with_window(port: u16, window: u32) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Self::to((Ipv4Addr::LOCALHOST, port).into(), window).await
    }

    /// Connects to any address, and lets the other side send so many bytes ahead.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn to(address: SocketAddr, window: u32) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { sender: handshake(stream, window).await?, address, scheme: "http" })
    }

    /// The same over TLS.
    ///
    /// # Errors
    /// If nobody answers, or either side does not trust the other.
    pub async fn secure(
        address: SocketAddr,
        window: u32,
        config: Arc<ClientConfig>,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(config).connect(address.ip().into(), stream).await?;
        Ok(Self { sender: handshake(stream, window).await?, address, scheme: "https" })
    }

    /// Whether the connection still takes calls.
    #[must_use]
    pub fn usable(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a message to a method and waits for the end of the call.
    pub async fn call(&self, path: &str, message: &impl Message) -> Outcome {
        self.send(path, &[], frame(&message.encode_to_vec())).await
    }

    /// Sends a message to a method and returns the answer as it comes.
    ///
    /// # Panics
    /// If there is none.
    pub async fn stream(&self, path: &str, message: &impl Message) -> Streaming {
        let request = Request::post(format!("{}://{}{path}", self.scheme, self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from(frame(&message.encode_to_vec()))))
            .expect("a valid request");
        let mut sender = self.sender.clone();
        sender.ready().await.expect("connected");
        let response = sender.send_request(request).await.expect("an answer");
        let mut outcome = Outcome { http: response.status().as_u16(), ..Outcome::default() };
        outcome.status(response.headers());
        Streaming { body: response.into_body(), pending: BytesMut::new(), outcome }
    }

    /// Posts a body as it is. `headers` replace those of the same name (`""` leaves one out); a
    /// character of a value stands for the byte of its number.
    ///
    /// # Panics
    /// If a path or header is none.
    pub async fn send(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Outcome {
        let mut request = Request::post(format!("{}://{}{path}", self.scheme, self.address));
        let map = request.headers_mut().expect("a valid path");
        for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")].iter().chain(headers) {
            let name: http::HeaderName = name.parse().expect("a header name");
            if value.is_empty() {
                map.remove(name);
            } else {
                map.insert(name, http::HeaderValue::from_bytes(&latin1(value)).expect("a header value"));
            }
        }
        let request = request.body(Full::new(Bytes::from(body))).expect("a valid request");
        tokio::time::timeout(PATIENCE, self.exchange(request))
            .await
            .unwrap_or_else(|_| Outcome { broken: Some(format!("silent for {PATIENCE:?}")), ..Outcome::default() })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut sender = self.sender.clone();
        if let Err(e) = sender.ready().await {
            outcome.broken = Some(chain(&e));
            return outcome;
        }
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(e) => {
                outcome.broken = Some(chain(&e));
                return outcome;
            }
        };
        outcome.http = response.status().as_u16();
        outcome.content_type = text(response.headers(), "content-type").unwrap_or_default();
        outcome.status(response.headers());
        let mut body = response.into_body();
        let mut data = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => {
                    if let Some(bytes) = frame.data_ref() {
                        data.extend_from_slice(bytes);
                    } else if let Some(trailers) = frame.trailers_ref() {
                        outcome.status(trailers);
                    }
                }
                Err(e) => {
                    outcome.broken = Some(chain(&e));
                    break;
                }
            }
        }
        if outcome.content_type.starts_with("application/grpc") {
            outcome.messages = split(data);
        } else {
            outcome.body = String::from_utf8_lossy(&data).into_owned();
        }
        outcome
    }
}

async fn handshake<T>(stream: T, window: u32) -> Result<SendRequest<Full<Bytes>>, hyper::Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// An answer that is read message by message. What is not read yet, the server cannot send.
#[derive(Debug)]
pub struct Streaming {
    body: Incoming,
    pending: BytesMut,
    outcome: Outcome,
}

impl Streaming {
    /// The next message; none at the end.
    ///
    /// # Panics
    /// If nothing happens for a long time.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(head) = self.pending.get(1..5) {
                let length = u32::from_be_bytes(head.try_into().expect("four bytes")) as usize;
                if self.pending.len() >= 5 + length {
                    return Some(self.pending.split_to(5 + length).freeze().slice(5..));
                }
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await;
            match frame.unwrap_or_else(|_| panic!("silent for {PATIENCE:?}"))? {
                Ok(frame) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.pending.extend_from_slice(bytes);
                    } else if let Some(trailers) = frame.trailers_ref() {
                        self.outcome.status(trailers);
                    }
                }
                Err(e) => {
                    self.outcome.broken = Some(chain(&e));
                    return None;
                }
            }
        }
    }

    /// How the call ended, once there is no next message.
    #[must_use]
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }
}

impl Outcome {
    fn status(&mut self, headers: &HeaderMap) {
        if let Some(code) = text(headers, "grpc-status") {
            self.code = Some(code.parse().unwrap_or(-1));
        }
        if let Some(message) = text(headers, "grpc-message") {
            self.text = unescape(&message);
        }
    }

    /// Whether the call succeeded.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.code == Some(0) && self.broken.is_none()
    }

    /// The only message of a successful unary call.
    ///
    /// # Errors
    /// If the call failed; with all that is known.
    pub fn reply<M: Message + Default>(&self) -> Result<M, String> {
        match (&self.messages[..], self.ok()) {
            ([message], true) => M::decode(message.clone()).map_err(|e| e.to_string()),
            _ => Err(format!("{self:?}")),
        }
    }
}

/// A message with the prefix that gRPC puts before it.
#[must_use]
pub fn frame(message: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&u32::try_from(message.len()).expect("below 4 GiB").to_be_bytes());
    out.extend_from_slice(message);
    out
}

fn split(data: Vec<u8>) -> Vec<Bytes> {
    let mut rest = Bytes::from(data);
    let mut messages = Vec::new();
    while rest.len() >= 5 {
        let head = rest.split_to(5);
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if rest.len() < length {
            messages.push(Bytes::from_static(b"(cut short)"));
            break;
        }
        messages.push(rest.split_to(length));
    }
    messages
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
}

pub(crate) fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        if let Some(byte) = code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    // Go's protobuf prints a blank of a width that depends on the build.
    String::from_utf8_lossy(&out).replace('\u{a0}', " ")
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).expect("a byte")).collect()
}

fn chain(error: &dyn Error) -> String {
    let mut out = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        out = error.to_string();
        source = error.source();
    }
    out
}
