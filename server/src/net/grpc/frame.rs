//! Messages on a stream: one flag byte, four length bytes, the encoded message.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use prost::Message;
use tokio::time::timeout;
use tonic::Code;

use super::encoding::{self, Encoding};
use super::status::Status;

/// Bytes in front of each message.
pub(in crate::net) const PREFIX: usize = 5;

/// The flag of a compressed message.
pub(super) const COMPRESSED: u8 = 1;

/// How long an answer waits for the client to close its side of the stream.
const CLOSING: Duration = Duration::from_secs(1);

/// Largest message that gRPC lets a server send, 2^31 - 1.
const MAX_SEND: usize = i32::MAX as usize;

/// The messages of one request.
pub(crate) enum Messages {
    /// Out of the body of a request.
    Framed(Framed),
    /// As they are, with the size that one may have.
    Local(Local, usize),
}

/// Messages that come by another way than gRPC's.
pub(crate) type Local = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Takes messages out of a body.
pub(crate) struct Framed {
    body: Incoming,
    pending: Pending,
    encoding: Encoding,
    max: usize,
}

/// Bytes that have arrived and belong to the next message. One frame, the usual case, is kept as
/// it came; only a message that spans frames is copied together.
enum Pending {
    Frame(Bytes),
    Joined(BytesMut),
}

impl Pending {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Frame(bytes) => bytes,
            Self::Joined(bytes) => bytes,
        }
    }

    fn push(&mut self, more: Bytes) {
        match self {
            Self::Frame(bytes) if bytes.is_empty() => *bytes = more,
            Self::Frame(bytes) => {
                let mut joined = BytesMut::with_capacity((bytes.len() + more.len()).max(1024));
                joined.extend_from_slice(bytes);
                joined.extend_from_slice(&more);
                *self = Self::Joined(joined);
            }
            Self::Joined(bytes) => bytes.extend_from_slice(&more),
        }
    }

    /// Cuts off the first message, whose size is `length`.
    fn split_message(&mut self, length: usize) -> Bytes {
        match self {
            Self::Frame(bytes) => {
                bytes.advance(PREFIX);
                bytes.split_to(length)
            }
            Self::Joined(bytes) => {
                bytes.advance(PREFIX);
                bytes.split_to(length).freeze()
            }
        }
    }
}

impl Messages {
    /// `max`: the largest message allowed, in bytes, before and after it is decompressed.
    pub(super) fn new(body: Incoming, encoding: Encoding, max: usize) -> Self {
        Self::Framed(Framed {
            body,
            pending: Pending::Frame(Bytes::new()),
            encoding,
            max,
        })
    }

    /// The next message; `None` when the client has sent all of them.
    ///
    /// # Errors
    /// Code and text as grpc-go answers: too large, wrongly compressed, cut short.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        match self {
            Self::Framed(framed) => framed.next().await,
            Self::Local(messages, max) => match messages.next().await.transpose()? {
                Some(message) if message.len() > *max => Err(too_large(message.len(), *max)),
                message => Ok(message),
            },
        }
    }

    /// Waits a moment for the client to close its side, which many do in a frame of their own.
    ///
    /// Answering before that resets the stream; the h2 crate then takes late frames for errors,
    /// of which it allows a connection 1024.
    pub(super) async fn finish(&mut self) {
        if let Self::Framed(framed) = self {
            framed.finish().await;
        }
    }
}

fn too_large(length: usize, max: usize) -> Status {
    Status::new(
        Code::ResourceExhausted,
        format!("grpc: received message larger than max ({length} vs. {max})"),
    )
}

impl Framed {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some((flag, length)) = self.prefix() {
                if length > self.max {
                    return Err(too_large(length, self.max));
                }
                if self.pending.bytes().len() >= PREFIX + length {
                    let message = self.pending.split_message(length);
                    return self.plain(flag, message).map(Some);
                }
            }
            if !self.more().await? {
                return match self.pending.bytes().len() {
                    0..PREFIX => Ok(None),
                    _ => Err(Status::new(Code::Unknown, "unexpected EOF")),
                };
            }
        }
    }

    /// A message without its compression.
    fn plain(&self, flag: u8, message: Bytes) -> Result<Bytes, Status> {
        match (flag, self.encoding) {
            (0, _) => Ok(message),
            (COMPRESSED, Encoding::Gzip) => encoding::decompress(&message, self.max),
            (COMPRESSED, Encoding::Identity) => Err(Status::new(
                Code::Internal,
                "grpc: compressed flag set with identity or empty encoding",
            )),
            _ => Err(Status::new(
                Code::Internal,
                format!("grpc: received unexpected payload format {flag}"),
            )),
        }
    }

    fn prefix(&self) -> Option<(u8, usize)> {
        let mut bytes = self.pending.bytes();
        (bytes.len() >= PREFIX).then(|| (bytes.get_u8(), bytes.get_u32() as usize))
    }

    /// Waits for a frame; false when the client has closed its side.
    async fn more(&mut self) -> Result<bool, Status> {
        loop {
            match self.body.frame().await {
                None => return Ok(false),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.pending.push(data);
                        return Ok(true);
                    }
                }
                // The stream was reset or the connection is gone: nobody reads this.
                Some(Err(_)) => return Err(Status::new(Code::Cancelled, "context canceled")),
            }
        }
    }

    async fn finish(&mut self) {
        if !self.body.is_end_stream() {
            let _ = timeout(CLOSING, async {
                // An error comes again and again: the stream was reset or the connection is gone.
                while let Some(Ok(_)) = self.body.frame().await {}
            })
            .await;
        }
    }
}

/// A decoded message, or why not in the words of Go's protobuf.
pub(super) fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, &'static str> {
    M::decode(bytes).map_err(|error| {
        if error.to_string().contains("UTF-8") {
            "string field contains invalid UTF-8"
        } else {
            "proto: cannot parse invalid wire-format data"
        }
    })
}

/// A message with its prefix, ready to be sent.
pub(super) fn encode(message: &impl Message) -> Result<Bytes, Status> {
    let mut bytes = BytesMut::new();
    append(message, &mut bytes)?;
    Ok(bytes.freeze())
}

/// Adds a message with its prefix.
pub(super) fn append(message: &impl Message, bytes: &mut BytesMut) -> Result<(), Status> {
    let length = message.encoded_len();
    if length > MAX_SEND {
        return Err(Status::new(
            Code::ResourceExhausted,
            format!("grpc: trying to send message larger than max ({length} vs. {MAX_SEND})"),
        ));
    }
    bytes.reserve(PREFIX + length);
    bytes.put_u8(0);
    bytes.put_u32(length as u32);
    message.encode(bytes).expect("the buffer grows as needed");
    Ok(())
}
