//! One call: its request in, its handler run, its reply out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::body::{Body as HttpBody, Frame};
use prost::Message;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::Code;

use super::encoding::Encoding;
use super::frame::{self, Local, Messages};
use super::stats::Stats;
use super::status::{self, Status};
use super::{Metadata, Method};
use crate::net::CallObserver;
use crate::net::body::Body;
use crate::net::site::Site;
use crate::watch::Batch;

/// What a call becomes: always an answer, since errors travel in it.
pub(crate) type Answer = Result<Response<Body>, Infallible>;

/// A call whose headers are in order, on its way to a handler.
pub(crate) struct Call {
    pub(super) messages: Messages,
    pub(super) encoding: Encoding,
    pub(super) metadata: Metadata,
    pub(super) deadline: Option<Instant>,
    pub(super) content_type: HeaderValue,
    pub(super) progress: Progress,
    pub(super) stats: Stats,
}

impl Call {
    /// A call that came by another way than gRPC's, with the headers that mean something. Its replies are framed as
    /// gRPC's all the same.
    pub(in crate::net) fn local(
        site: &Site,
        method: Method,
        remote: SocketAddr,
        requests: Local,
        headers: &HeaderMap,
        deadline: Option<Instant>,
    ) -> Self {
        Self {
            messages: Messages::Local(requests, site.max_receive_bytes),
            encoding: Encoding::Identity,
            metadata: Metadata::of(headers),
            deadline,
            content_type: HeaderValue::from_static(super::GRPC),
            progress: Progress::new(Arc::clone(&site.settings.observer), method),
            stats: Stats {
                settings: Arc::clone(&site.settings),
                remote,
                method,
            },
        }
    }

    /// Answers one request with one reply.
    pub(crate) async fn unary<Req, Rep, E, Fut>(
        self,
        handler: impl FnOnce(Metadata, Req) -> Fut + Send,
    ) -> Answer
    where
        Req: Message + Default,
        Rep: Message,
        E: Into<Status>,
        Fut: Future<Output = Result<Rep, E>> + Send,
    {
        let Self {
            mut messages,
            encoding,
            metadata,
            deadline,
            content_type,
            mut progress,
            stats,
        } = self;
        let mut whole = false;
        let mut running = None;
        let work = async {
            let request = one_message(&mut messages).await?;
            whole = true;
            let size = request.len();
            let bytes = request.clone();
            let request = frame::decode(request).map_err(|reason| {
                let text = format!("grpc: error unmarshalling request: {reason}");
                Status::new(Code::Internal, text)
            })?;
            progress.start();
            progress.received(size);
            running = Some(stats.begin(bytes));
            metadata.check()?;
            let reply = handler(metadata, request).await.map_err(Into::into)?;
            frame::encode(&reply)
        };
        let outcome = match deadline {
            None => work.await,
            Some(deadline) => timeout_at(deadline, work)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded())),
        };
        if let Some(running) = running {
            running.end(outcome.as_ref().ok());
        }
        let answer = match outcome {
            Ok(message) => {
                progress.sent(1, message.len());
                progress.finish(Code::Ok);
                let message = encoding.compress(message);
                let body = Body::Message(Some(message), Some(status::ok_trailers()));
                reply(content_type, encoding, body)
            }
            Err(status) => {
                progress.finish(status.code);
                status.response(StatusCode::OK, content_type)
            }
        };
        if whole {
            messages.finish().await;
        }
        Ok(answer)
    }

    /// Answers one request with a stream of replies.
    pub(crate) async fn server_stream<Req, Rep, E, S, Fut>(
        self,
        handler: impl FnOnce(Metadata, Req) -> Fut + Send,
    ) -> Answer
    where
        Req: Message + Default,
        Rep: Message + 'static,
        E: Into<Status> + 'static,
        S: Stream<Item = Result<Rep, E>> + Send + 'static,
        Fut: Future<Output = Result<S, E>> + Send,
    {
        let Self {
            mut messages,
            encoding,
            metadata,
            deadline,
            content_type,
            mut progress,
            stats: _,
        } = self;
        progress.start();
        let work = async {
            metadata.check()?;
            let request = only_message(&mut messages).await?;
            let size = request.len();
            let request = frame::decode(request).map_err(|reason| {
                let text = format!("grpc: failed to unmarshal the received message: {reason}");
                Status::new(Code::Internal, text)
            })?;
            progress.received(size);
            handler(metadata, request).await.map_err(Into::into)
        };
        let outcome = match deadline {
            None => work.await,
            Some(deadline) => timeout_at(deadline, work)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded())),
        };
        Ok(match outcome {
            Ok(replies) => {
                let replies = replies.map(|item| item.map_err(Into::into));
                let body = Replies {
                    replies: Box::pin(replies),
                    encoding,
                    deadline: deadline.map(|at| Box::pin(sleep_until(at))),
                    progress,
                    last: None,
                    ended: false,
                };
                reply(content_type, encoding, Body::Streaming(Box::pin(body)))
            }
            Err(status) => {
                progress.finish(status.code);
                status.response(StatusCode::OK, content_type)
            }
        })
    }

    /// Answers a stream of requests with a stream of replies. A request that cannot be read is an error in the
    /// stream, after which there is none.
    pub(crate) async fn bidi_stream<Req, Rep, S, E>(
        self,
        handler: impl FnOnce(Metadata, Requests<Req>) -> Result<S, E> + Send,
    ) -> Answer
    where
        Req: Message + Default + 'static,
        Rep: Outgoing + 'static,
        E: Into<Status>,
        S: Stream<Item = Result<Rep, Status>> + Send + 'static,
    {
        let Self {
            messages,
            encoding,
            metadata,
            deadline,
            content_type,
            mut progress,
            stats: _,
        } = self;
        progress.start();
        let requests = requests(messages, progress.observer.clone(), progress.method);
        let replies = metadata
            .check()
            .and_then(|()| handler(metadata, requests).map_err(Into::into));
        Ok(match replies {
            Ok(replies) => {
                let body = Replies {
                    replies: Box::pin(replies),
                    encoding,
                    deadline: deadline.map(|at| Box::pin(sleep_until(at))),
                    progress,
                    last: None,
                    ended: false,
                };
                reply(content_type, encoding, Body::Streaming(Box::pin(body)))
            }
            Err(status) => {
                progress.finish(status.code);
                status.response(StatusCode::OK, content_type)
            }
        })
    }

    /// Answers with an error without looking at the request.
    pub(crate) fn refuse(mut self, status: &Status) -> Answer {
        self.progress.start();
        self.progress.finish(status.code);
        Ok(status.response(StatusCode::OK, self.content_type))
    }
}

fn reply(content_type: HeaderValue, encoding: Encoding, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    encoding.announce(headers);
    response
}

/// The request of a unary call. Like grpc-go's it need not be the end of the stream.
async fn one_message(messages: &mut Messages) -> Result<Bytes, Status> {
    messages
        .next()
        .await?
        .ok_or_else(|| Status::new(Code::Unknown, "EOF"))
}

/// The request of a server-streaming call, where grpc-go does insist on exactly one.
async fn only_message(messages: &mut Messages) -> Result<Bytes, Status> {
    let violation = |what| {
        let text = format!("cardinality violation: received {what} non-client-streaming RPC");
        Status::new(Code::Internal, text)
    };
    let message = next_of_stream(messages)
        .await?
        .ok_or_else(|| violation("no request message from"))?;
    match next_of_stream(messages).await? {
        None => Ok(message),
        Some(_) => Err(violation("multiple request messages for")),
    }
}

/// The next message of a streaming call, where grpc-go reports a cut-off one as internal.
async fn next_of_stream(messages: &mut Messages) -> Result<Option<Bytes>, Status> {
    messages.next().await.map_err(|mut status| {
        if status.code == Code::Unknown {
            status.code = Code::Internal;
        }
        status
    })
}

/// The requests of a streaming call, decoded.
pub(crate) type Requests<Req> = Pin<Box<dyn Stream<Item = Result<Req, Status>> + Send>>;

fn requests<Req: Message + Default + 'static>(
    messages: Messages,
    observer: Arc<dyn CallObserver>,
    method: Method,
) -> Requests<Req> {
    let next = async move |mut messages: Messages| {
        let failed = |status: Status| {
            // One that its client broke off is no failure.
            if status.code != Code::Cancelled {
                observer.receive_failed(method);
            }
            status
        };
        let request = next_of_stream(&mut messages).await.map_err(failed)?;
        let Some(request) = request else {
            return Ok(None);
        };
        let size = request.len();
        let request = frame::decode(request).map_err(|reason| {
            let text = format!("grpc: failed to unmarshal the received message: {reason}");
            failed(Status::new(Code::Internal, text))
        })?;
        observer.received(method, size);
        Ok(Some((request, messages)))
    };
    let next = Arc::new(next);
    Box::pin(futures_util::stream::try_unfold(
        messages,
        move |messages| {
            let next = next.clone();
            async move { next(messages).await }
        },
    ))
}

/// Replies that are there are sent as one frame as long as it has fewer bytes.
const FULL_FRAME: usize = 32 << 10;

/// What a stream of replies yields at once.
pub(crate) trait Outgoing {
    /// Adds messages with their prefixes; returns how many.
    ///
    /// # Errors
    /// One is too large.
    fn append(self, frame: &mut BytesMut) -> Result<usize, Status>;
}

impl<M: Message> Outgoing for M {
    fn append(self, frame: &mut BytesMut) -> Result<usize, Status> {
        frame::append(&self, frame).map(|()| 1)
    }
}

impl Outgoing for Batch {
    fn append(self, frame: &mut BytesMut) -> Result<usize, Status> {
        let (bytes, messages) = self.into_parts();
        match frame.is_empty() {
            true => *frame = bytes,
            false => frame.extend_from_slice(&bytes),
        }
        Ok(messages)
    }
}

/// The replies of a streaming call as a body.
struct Replies<S> {
    replies: Pin<Box<S>>,
    encoding: Encoding,
    deadline: Option<Pin<Box<Sleep>>>,
    progress: Progress,
    /// What comes after the frame that was sent.
    last: Option<Option<Status>>,
    ended: bool,
}

impl<S, Rep> Replies<S>
where
    S: Stream<Item = Result<Rep, Status>>,
    Rep: Outgoing,
{
    fn end(&mut self, status: Option<Status>) -> Frame<Bytes> {
        self.ended = true;
        let (code, trailers) = match status {
            None => (Code::Ok, status::ok_trailers()),
            Some(status) => (status.code, status.trailers()),
        };
        self.progress.finish(code);
        Frame::trailers(trailers)
    }

    /// Gathers what is there into a frame.
    fn gather(&mut self, context: &mut Context<'_>) -> BytesMut {
        let mut frame = BytesMut::new();
        while frame.len() < FULL_FRAME && self.last.is_none() {
            let reply = match self.replies.as_mut().poll_next(context) {
                Poll::Ready(Some(Ok(reply))) => reply,
                Poll::Pending => break,
                Poll::Ready(end) => {
                    self.last = Some(end.and_then(Result::err));
                    break;
                }
            };
            let before = frame.len();
            match reply.append(&mut frame) {
                Ok(messages) => {
                    self.progress.sent(messages, frame.len() - before);
                    self.encoding.compress_behind(before, &mut frame);
                }
                Err(status) => self.last = Some(Some(status)),
            }
        }
        frame
    }
}

impl<S, Rep> HttpBody for Replies<S>
where
    S: Stream<Item = Result<Rep, Status>>,
    Rep: Outgoing,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let gathered = self.gather(context);
        if !gathered.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(gathered.freeze()))));
        }
        let frame = match self.last.take() {
            Some(status) => self.end(status),
            None => {
                let deadline = self.deadline.as_mut();
                if deadline.is_none_or(|at| at.as_mut().poll(context).is_pending()) {
                    return Poll::Pending;
                }
                self.end(Some(Status::deadline_exceeded()))
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

/// Reports a call to the observer. A started call that is dropped was cancelled by its client.
pub(super) struct Progress {
    observer: Arc<dyn CallObserver>,
    method: Method,
    running: bool,
    /// When it started, if that is wanted.
    since: Option<std::time::Instant>,
}

impl Progress {
    pub(super) fn new(observer: Arc<dyn CallObserver>, method: Method) -> Self {
        Self {
            observer,
            method,
            running: false,
            since: None,
        }
    }

    fn start(&mut self) {
        self.running = true;
        self.since = self.observer.wants_time().then(std::time::Instant::now);
        self.observer.started(self.method);
    }

    fn received(&self, bytes: usize) {
        self.observer.received(self.method, bytes);
    }

    /// Messages of so many bytes with their prefixes.
    fn sent(&self, messages: usize, framed: usize) {
        let bytes = framed - messages * frame::PREFIX;
        self.observer.sent(self.method, messages, bytes);
    }

    fn finish(&mut self, code: Code) {
        if std::mem::take(&mut self.running) {
            self.observer.finished(self.method, code);
            if let Some(since) = self.since {
                self.observer.took(self.method, since.elapsed());
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish(Code::Cancelled);
    }
}
