//! Watching in the same process.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use prost::Message as _;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::watch_request::RequestUnion;
use tokio::sync::mpsc;

use super::Client;
use crate::error::Error;
use crate::watch::Batch;

/// A stream of watches, as `Watch.Watch` is one. Ends all of them when it is dropped.
///
/// Replies are made when they are asked for. Who does not ask is not told later than others, but reads on from
/// history.
pub struct WatchStream {
    requests: mpsc::UnboundedSender<pb::WatchRequest>,
    batches: Pin<Box<dyn Stream<Item = Result<Batch, Error>> + Send>>,
    /// Of the last batch.
    replies: VecDeque<Bytes>,
}

impl Client {
    /// `Watch.Watch` with a first watch. The first reply says that it is created, or why not.
    ///
    /// # Errors
    /// As the service.
    pub fn watch(&self, r: pb::WatchCreateRequest) -> Result<WatchStream, Error> {
        let watches = self.watch_stream()?;
        watches.create(r);
        Ok(watches)
    }

    /// `Watch.Watch`: a stream without watches. To be called within a tokio runtime.
    ///
    /// # Errors
    /// As the service.
    pub fn watch_stream(&self) -> Result<WatchStream, Error> {
        let (requests, queue) = mpsc::unbounded_channel();
        let queue = stream::unfold(queue, |mut queue| async {
            let request = queue.recv().await?;
            Some((Ok(request), queue))
        });
        let batches = self.api()?.watch(&self.caller, Box::pin(queue))?;
        Ok(WatchStream {
            requests,
            batches: Box::pin(batches),
            replies: VecDeque::new(),
        })
    }
}

impl WatchStream {
    /// Asks for one more watch.
    pub fn create(&self, r: pb::WatchCreateRequest) {
        self.ask(RequestUnion::CreateRequest(r));
    }

    /// Ends a watch. Its last reply says `canceled`.
    pub fn cancel(&self, watch_id: i64) {
        self.ask(RequestUnion::CancelRequest(pb::WatchCancelRequest {
            watch_id,
        }));
    }

    /// Asks how far the stream is: for a reply with watch id -1, if no watch is behind.
    pub fn request_progress(&self) {
        self.ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    }

    fn ask(&self, request: RequestUnion) {
        // Of a stream that has ended nobody takes requests any more; `next` says so.
        let _ = self.requests.send(pb::WatchRequest {
            request_union: Some(request),
        });
    }

    /// The next reply; nothing after an error. Nothing is lost if this is dropped while it waits.
    ///
    /// # Errors
    /// `Stopped` when the member has stopped.
    pub async fn next(&mut self) -> Option<Result<pb::WatchResponse, Error>> {
        loop {
            if let Some(reply) = self.replies.pop_front() {
                let reply = pb::WatchResponse::decode(reply);
                return Some(reply.map_err(|error| Error::Internal(error.to_string())));
            }
            match self.batches.next().await? {
                Ok(batch) => self.replies.extend(batch.messages()),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchStream").finish_non_exhaustive()
    }
}
