//! The body of a request that is no call of gRPC.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How much is read of what nobody wants, and for how long.
const UNWANTED_BYTES: usize = 256 << 10;
const UNWANTED_TIME: Duration = Duration::from_secs(5);

/// What a client sends with its request.
///
/// An answer may be there before the body is. Over HTTP/1 hyper then reads the rest, or closes. A stream of HTTP/2 would be
/// reset, which curl takes for a failure although it has the answer; so a body that is dropped is read on for a while.
pub(crate) struct Incoming {
    /// Gone once it is dropped.
    body: Option<hyper::body::Incoming>,
    is_stream: bool,
}

impl Incoming {
    pub(super) fn new(body: hyper::body::Incoming, version: Version) -> Self {
        Self {
            body: Some(body),
            is_stream: version == Version::HTTP_2,
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else {
            return;
        };
        if !self.is_stream || body.is_end_stream() {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(UNWANTED_TIME, forget(body)));
        }
    }
}

/// Reads a body and keeps nothing.
async fn forget(mut body: hyper::body::Incoming) {
    let mut left = UNWANTED_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(less) => left = less,
            None => return,
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = SizeHint::with_exact(0);
        self.body.as_ref().map_or(none, Body::size_hint)
    }
}
