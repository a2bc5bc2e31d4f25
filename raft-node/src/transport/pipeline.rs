//! Messages as POSTs: for peers without a stream, and for members that are not known yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use parking_lot::Mutex;
use prost::Message as _;
use retcd_proto::raftpb;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::client::{self, ClientError, Connection, PostError};
use super::context::Context;
use super::hex;
use super::status::Status;
use super::url::{PeerUrl, Picker};

/// POSTs to one peer at a time.
const POSTERS: usize = 4;
/// Messages that wait for them; the next one is dropped.
const MAX_MESSAGES: usize = 64;
/// And their bytes. One message always fits.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// For an answer. etcd waits for ever; but a proposal may wait there for a leader.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Pipeline {
    context: Arc<Context>,
    peer: u64,
    status: Arc<Status>,
    urls: Arc<Picker>,
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<raftpb::Message>,
    bytes: usize,
}

impl Pipeline {
    pub(super) fn new(
        context: Arc<Context>,
        peer: u64,
        status: Arc<Status>,
        urls: Arc<Picker>,
    ) -> Pipeline {
        Pipeline {
            context,
            peer,
            status,
            urls,
            queue: Mutex::default(),
            filled: Notify::new(),
        }
    }

    /// Never blocks.
    ///
    /// # Errors
    /// The message, when there is no room for it.
    #[expect(clippy::result_large_err, reason = "the message is moved once")]
    pub(super) fn push(&self, message: raftpb::Message) -> Result<(), raftpb::Message> {
        let mut queue = self.queue.lock();
        let bytes = message.encoded_len();
        let full = queue.messages.len() >= MAX_MESSAGES
            || (!queue.messages.is_empty() && queue.bytes + bytes > MAX_BYTES);
        if full {
            return Err(message);
        }
        queue.bytes += bytes;
        queue.messages.push_back(message);
        drop(queue);
        self.filled.notify_one();
        Ok(())
    }

    /// Starts the tasks that post.
    pub(super) fn start(self: &Arc<Pipeline>, runtime: &Handle) -> Vec<AbortHandle> {
        slog::info!(self.context.options.logger, "started HTTP pipelining with remote peer";
            "local-member-id" => &self.context.local, "remote-peer-id" => hex(self.peer));
        (0..POSTERS)
            .map(|_| runtime.spawn(self.clone().run()).abort_handle())
            .collect()
    }

    async fn run(self: Arc<Pipeline>) {
        let mut connection = None;
        loop {
            let message = {
                let mut queue = self.queue.lock();
                let message = queue.messages.pop_front();
                queue.bytes -= message.as_ref().map_or(0, raftpb::Message::encoded_len);
                message
            };
            match message {
                Some(message) => self.handle(&message, &mut connection).await,
                None => self.filled.notified().await,
            }
        }
    }

    async fn handle(
        &self,
        message: &raftpb::Message,
        connection: &mut Option<(PeerUrl, Connection)>,
    ) {
        let url = self.urls.pick();
        let observer = &self.context.options.observer;
        match self.post(&url, message, connection).await {
            Ok(()) => {
                self.status.activate();
                observer.sent(self.peer, message.encoded_len() as u64);
            }
            Err(error) => {
                *connection = None;
                self.urls.unreachable(&url);
                if matches!(error, PostError::Removed) {
                    self.context.member.removed(self.peer);
                }
                self.status.deactivate("pipeline", "write", &error);
                self.context.member.report_unreachable(self.peer);
                observer.send_failed(self.peer);
            }
        }
    }

    async fn post(
        &self,
        url: &PeerUrl,
        message: &raftpb::Message,
        connection: &mut Option<(PeerUrl, Connection)>,
    ) -> Result<(), PostError> {
        // A connection that was idle may have been closed meanwhile.
        let mut reused = match connection.take_if(|(to, _)| to == url) {
            Some((_, mut open)) => open.usable().await.then_some(open),
            None => None,
        };
        loop {
            let again = reused.is_some();
            let mut open = match reused.take() {
                Some(open) => open,
                None => self.context.connect(url).await?,
            };
            let body = message.encode_to_vec();
            let mut headers = self.context.headers.clone();
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("application/protobuf"),
            );
            client::length(&mut headers, body.len());
            let body = client::full(body.into());
            let request = client::build(Method::POST, url, "/raft", headers, body)?;
            let sent = timeout(ANSWER_TIMEOUT, async {
                let response = open.send(request).await?;
                let to = format!("{url}/raft");
                client::post_result(&self.context, response, &hex(self.peer), &to).await
            })
            .await;
            match sent {
                Err(_) => return Err(ClientError::Timeout(ANSWER_TIMEOUT).into()),
                Ok(Err(PostError::Client(ClientError::Http(error))))
                    if again && may_repeat(message, &error) => {}
                Ok(result) => {
                    result?;
                    *connection = Some((url.clone(), open));
                    return Ok(());
                }
            }
        }
    }

    /// The peer is no more.
    pub(super) fn stopped(&self) {
        slog::info!(self.context.options.logger, "stopped HTTP pipelining with remote peer";
            "local-member-id" => &self.context.local, "remote-peer-id" => hex(self.peer));
    }
}

/// Whether a message may go out again after its connection, which was idle, ended without an
/// answer. Cancelled: nothing of it was written. Incomplete: the peer may have it already. Raft
/// takes any message twice without harm but a proposal: that would be appended twice, and its
/// second copy undo what was written in between.
fn may_repeat(message: &raftpb::Message, error: &hyper::Error) -> bool {
    let proposal = message.r#type() == raftpb::MessageType::MsgProp;
    error.is_canceled() || (error.is_incomplete_message() && !proposal)
}
