//! A snapshot for a peer: one POST with a message and a database.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use hyper::body::{Body, Frame};
use parking_lot::Mutex;
use retcd_proto::raftpb;
use retcd_storage::backend::DatabaseCopy;
use retcd_storage::failpoint::failpoint;
use slog::{info, warn};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::client::{self, BodyError, ClientError, PostError};
use super::codec::{Out, encode};
use super::context::Context;
use super::hex;
use super::status::Status;
use super::url::Picker;

/// Read at a time, and how many of these wait for the connection.
const PIECE: usize = 256 * 1024;
const PIECES: usize = 4;
/// A receiver that takes nothing for this long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Once it has all of it: it checks and syncs a whole database.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// And then says one sentence.
const STALL_CHECK: Duration = Duration::from_secs(1);

pub(super) struct SnapshotSender {
    pub(super) context: Arc<Context>,
    pub(super) peer: u64,
    pub(super) status: Arc<Status>,
    pub(super) urls: Arc<Picker>,
    /// One at a time for each peer.
    pub(super) busy: AtomicBool,
}

impl SnapshotSender {
    /// What sends, unless a snapshot is on its way to this peer already. What is dropped for it is
    /// not reported: the report of the one on its way comes. Never blocks.
    pub(super) fn start(
        self: &Arc<SnapshotSender>,
        message: raftpb::Message,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        if self.busy.swap(true, Ordering::AcqRel) {
            slog::debug!(self.context.options.logger, "a snapshot is on its way to the peer already";
                "remote-peer-id" => hex(self.peer));
            return None;
        }
        let busy = Busy(self.clone());
        let permit = self.context.sending.clone().try_acquire_owned();
        Some(async move {
            let sender = busy.0.clone();
            let sent = match &permit {
                Ok(_) => sender.run(message).await,
                Err(_) => {
                    warn!(sender.context.options.logger, "too many snapshots are being sent";
                        "remote-peer-id" => hex(sender.peer));
                    false
                }
            };
            drop(permit);
            // First: with the report raft may want to send another one.
            drop(busy);
            // It waits for room in the raft thread's queue, and other peers do not wait with it.
            let (member, peer) = (sender.context.member.clone(), sender.peer);
            tokio::task::spawn_blocking(move || member.report_snapshot(peer, sent));
        })
    }

    /// Whether it arrived.
    async fn run(&self, message: raftpb::Message) -> bool {
        let (context, observer) = (&self.context, &self.context.options.observer);
        let member = context.member.clone();
        let merged = tokio::task::spawn_blocking(move || member.database_to_send(message)).await;
        let (message, database) = match merged {
            Ok(Ok(merged)) => merged,
            failed => {
                let error = match failed {
                    Ok(Err(error)) => error,
                    _ => "the member broke off".to_owned(),
                };
                warn!(context.options.logger, "no database snapshot to send";
                    "remote-peer-id" => hex(self.peer), "error" => error);
                return false;
            }
        };
        failpoint("snapshot-send:begun");
        let url = self.urls.pick();
        let index = snapshot_index(&message);
        let total = database.len;
        let begin = Instant::now();
        info!(context.options.logger, "sending database snapshot"; "snapshot-index" => index,
            "remote-peer-id" => hex(self.peer), "bytes" => total, "size" => human(total));
        observer.snapshot_send_begins(self.peer);
        let ends = Ends(self);
        let result = self.post(&url, &message, database).await;
        std::mem::forget(ends);
        match result {
            Ok(()) => {
                let took = begin.elapsed();
                self.status.activate();
                info!(context.options.logger, "sent database snapshot";
                    "snapshot-index" => index, "remote-peer-id" => hex(self.peer),
                    "bytes" => total, "size" => human(total), "took" => ?took);
                observer.sent(self.peer, total);
                observer.snapshot_send_ends(self.peer, Some(took));
                true
            }
            Err(error) => {
                warn!(context.options.logger, "failed to send database snapshot";
                    "snapshot-index" => index, "remote-peer-id" => hex(self.peer),
                    "bytes" => total, "size" => human(total), "error" => %error);
                if matches!(error, PostError::Removed) {
                    context.member.removed(self.peer);
                }
                self.urls.unreachable(&url);
                self.status.deactivate("sendsnap", "post", &error);
                context.member.report_unreachable(self.peer);
                observer.send_failed(self.peer);
                observer.snapshot_send_ends(self.peer, None);
                false
            }
        }
    }

    async fn post(
        &self,
        url: &super::url::PeerUrl,
        message: &raftpb::Message,
        database: DatabaseCopy,
    ) -> Result<(), PostError> {
        let mut connection = self.context.connect(url).await?;
        let mut headers = self.context.headers.clone();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        let progress = Arc::new(Progress::new());
        let body = Box::pin(SnapshotBody::new(message, database, progress.clone()));
        let request = client::build(Method::POST, url, "/raft/snapshot", headers, body)?;
        let to = format!("{url}/raft/snapshot");
        let peer = hex(self.peer);
        let exchange = async {
            let response = connection.send(request).await?;
            // A failed read ends the body early, so this may be an answer to half of it.
            let within = self.context.options.read_timeout;
            timeout(
                within,
                client::post_result(&self.context, response, &peer, &to),
            )
            .await
            .map_err(|_| ClientError::Timeout(within))?
        };
        let result = tokio::select! {
            result = exchange => result,
            error = progress.stalled() => Err(error.into()),
        };
        match progress.failure() {
            Some(error) => Err(PostError::Database(error)),
            None => result,
        }
    }
}

struct Busy(Arc<SnapshotSender>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

/// Counts a snapshot whose task was dropped, because the peer is no more.
struct Ends<'a>(&'a SnapshotSender);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let observer = &self.0.context.options.observer;
        observer.snapshot_send_ends(self.0.peer, None);
    }
}

pub(super) fn snapshot_index(message: &raftpb::Message) -> u64 {
    let metadata = message.snapshot.as_ref().and_then(|s| s.metadata.as_ref());
    metadata.map_or(0, raftpb::SnapshotMetadata::index)
}

/// How far a body has come.
struct Progress(Mutex<(Instant, bool, Option<String>)>);

impl Progress {
    fn new() -> Progress {
        Progress(Mutex::new((Instant::now(), false, None)))
    }

    fn taken(&self, last: bool) {
        let mut state = self.0.lock();
        state.0 = Instant::now();
        state.1 |= last;
    }

    fn fail(&self, error: String) {
        self.0.lock().2 = Some(error);
    }

    fn failure(&self) -> Option<String> {
        self.0.lock().2.take()
    }

    /// Returns when nothing has been taken for too long.
    async fn stalled(&self) -> ClientError {
        loop {
            sleep(STALL_CHECK).await;
            let state = self.0.lock();
            let within = if state.1 {
                ANSWER_TIMEOUT
            } else {
                STALL_TIMEOUT
            };
            if state.0.elapsed() > within {
                return ClientError::Timeout(within);
            }
        }
    }
}

/// The message, then the database, which a thread reads a few pieces ahead.
struct SnapshotBody {
    head: Out,
    pieces: Option<mpsc::Receiver<io::Result<Bytes>>>,
    left: u64,
    progress: Arc<Progress>,
}

impl SnapshotBody {
    fn new(
        message: &raftpb::Message,
        database: DatabaseCopy,
        progress: Arc<Progress>,
    ) -> SnapshotBody {
        let mut head = Out::default();
        encode(message, &mut head);
        let (sender, pieces) = mpsc::channel(PIECES);
        let left = database.len;
        tokio::task::spawn_blocking(move || read(database, &sender));
        SnapshotBody {
            head,
            pieces: Some(pieces),
            left,
            progress,
        }
    }
}

/// Until the end, or until nobody takes it any more.
fn read(mut database: DatabaseCopy, sender: &mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = (&mut database.bytes)
            .take(PIECE as u64)
            .read_to_end(&mut piece);
        let last = matches!(read, Ok(0) | Err(_));
        let sent = match read {
            Ok(0) => Ok(()),
            Ok(_) => sender.blocking_send(Ok(piece.into())),
            Err(error) => sender.blocking_send(Err(error)),
        };
        if last || sent.is_err() {
            return;
        }
    }
}

impl Body for SnapshotBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        this.progress.taken(false);
        if let Some(piece) = this.head.pop() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let Some(pieces) = &mut this.pieces else {
            return Poll::Ready(None);
        };
        let piece = match pieces.poll_recv(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(piece) => piece,
        };
        let error = match piece {
            Some(Ok(piece)) if piece.len() as u64 <= this.left => {
                this.left -= piece.len() as u64;
                failpoint("snapshot-send:half");
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            None if this.left == 0 => {
                this.pieces = None;
                this.progress.taken(true);
                return Poll::Ready(None);
            }
            Some(Err(error)) => error.to_string(),
            _ => "it has another length than it was said to have".to_owned(),
        };
        this.pieces = None;
        this.progress.fail(error);
        Poll::Ready(Some(Err(Box::new(SnapshotBroken))))
    }
}

/// The connection is to be closed without the end that would make half a database whole.
#[derive(Debug, thiserror::Error)]
#[error("the database cannot be read to its end")]
struct SnapshotBroken;

/// As etcd's log has sizes.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let exponent = bytes.ilog10() / 3;
    let value = bytes as f64 / 1000_f64.powi(exponent as i32);
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[exponent as usize];
    if value < 10.0 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (20_480, "20 kB"),
            (2_500, "2.5 kB"),
            (999_999, "1000 kB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
