//! The replies of a stream as lines of JSON.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use hyper::body::{Body as HttpBody, Frame};
use retcd_proto::schema::Message;
use tonic::Code;

use super::failure;
use crate::json;
use crate::net::body::Body;
use crate::net::grpc::{PREFIX, Status};

/// What comes next.
pub(super) enum Chunk {
    /// One reply or several, each a line.
    Lines(Bytes),
    /// The stream ends with an error.
    Failed(Status),
}

/// Reads the messages of a body of gRPC's.
pub(super) struct Results {
    body: Body,
    /// Of a message that has not come as a whole.
    pending: BytesMut,
    message: &'static Message,
    /// What goes out before anything else.
    first: Bytes,
    ended: bool,
}

impl Results {
    pub(super) fn new(body: Body, message: &'static Message) -> Self {
        Self {
            body,
            pending: BytesMut::new(),
            message,
            first: Bytes::new(),
            ended: false,
        }
    }

    /// Waits for a chunk; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Chunk> {
        poll_fn(|context| self.poll_chunk(context)).await
    }

    /// The lines as a body, after some that were read already.
    pub(super) fn into_body(mut self, first: Bytes) -> Body {
        self.first = first;
        Body::Streaming(Box::pin(self))
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Chunk>> {
        while !self.ended {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => break,
                Some(Ok(frame)) => frame,
                Some(Err(never)) => match never {},
            };
            match frame.into_data() {
                Ok(data) => {
                    self.pending.extend_from_slice(&data);
                    match self.lines() {
                        Ok(lines) if lines.is_empty() => {}
                        Ok(lines) => return Poll::Ready(Some(Chunk::Lines(lines.into()))),
                        Err(status) => return Poll::Ready(Some(self.fail(status))),
                    }
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().ok();
                    if let Some(status) = trailers.as_ref().and_then(Status::of) {
                        return Poll::Ready(Some(self.fail(status)));
                    }
                }
            }
        }
        self.ended = true;
        Poll::Ready(None)
    }

    fn fail(&mut self, status: Status) -> Chunk {
        self.ended = true;
        self.body = Body::Empty;
        Chunk::Failed(status)
    }

    /// A line for each message that is there.
    fn lines(&mut self) -> Result<Vec<u8>, Status> {
        let mut lines = Vec::new();
        while let Some([_, length @ ..]) = self.pending.first_chunk::<PREFIX>() {
            let length = u32::from_be_bytes(*length) as usize;
            let Some(message) = self.pending.get(PREFIX..PREFIX + length) else {
                break;
            };
            lines.extend_from_slice(br#"{"result":"#);
            json::to_json(self.message, message, &mut lines)
                .map_err(|damaged| Status::new(Code::Internal, damaged.to_string()))?;
            lines.extend_from_slice(b"}\n");
            self.pending.advance(PREFIX + length);
        }
        Ok(lines)
    }
}

impl HttpBody for Results {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let first = std::mem::take(&mut self.first);
        if !first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let data = match ready!(self.poll_chunk(context)) {
            None => return Poll::Ready(None),
            Some(Chunk::Lines(lines)) => lines,
            Some(Chunk::Failed(status)) => failure::line(&status).into(),
        };
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.first.is_empty()
    }
}
