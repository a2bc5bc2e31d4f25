//! `Snapshot`: a copy of the database as of one moment, sent while writes go on.
//!
//! Source: disk-format 9.1; etcd `server/etcdserver/api/v3rpc/maintenance.go`, and for the lines
//! about slow copies `server/storage/backend/backend.go`.

use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use prometheus::Histogram;
use retcd_proto::etcdserverpb as pb;
use retcd_storage::backend::{self, DatabaseCopy};
use sha2::{Digest as _, Sha256};
use slog::{Logger, error, info, warn};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at};

use super::{Api, Caller, blocking};
use crate::config::{GoBytes, GoDuration};
use crate::error::Error;

/// Bytes of the database in one message, as etcd sends them.
const BLOB: usize = 32 * 1024;

/// Messages read at once. While they are sent the next ones are read, so a stream holds twice as
/// many and one more, whatever its client does.
const READ_AHEAD: usize = 4;

/// A copy that takes longer than at this rate is reported, and again after the same time.
const SLOW_BYTES_PER_SECOND: u64 = 100 << 20;

/// It is not reported earlier than this.
const SLOW_AT_LEAST: Duration = Duration::from_secs(30);

impl Api {
    /// The database as of now in messages of 32 KiB, then its SHA-256.
    pub(crate) async fn snapshot(
        &self,
        caller: &Caller,
        _: pb::SnapshotRequest,
    ) -> Result<impl Stream<Item = Result<pb::SnapshotResponse, Error>> + Send + use<>, Error> {
        self.admit_stream_anywhere(caller)?;
        let member = self.member.clone();
        let version = member.storage_version();
        let backend = member.backend();
        let copy = blocking(move || {
            // What was applied before the call belongs into it.
            backend.commit()?;
            backend.engine().copy()
        });
        let copy = copy.await?.map_err(|error| match error {
            backend::Error::CopyUnsupported { .. } => Error::EngineCannot(error.to_string()),
            other => {
                error!(member.logger, "failed to read the database for a snapshot"; "error" => %other);
                Error::Internal(other.to_string())
            }
        })?;
        let feed = Feed {
            total: copy.len,
            version,
            logger: member.logger.clone(),
            duration: member.metrics.disk.backend_snapshot.clone(),
        };
        Ok(start(feed, copy, async move { member.ended().await }))
    }
}

/// What a stream says of itself.
struct Feed {
    /// Bytes of the database.
    total: u64,
    /// The version of its layout.
    version: String,
    logger: Logger,
    /// Seconds of each copy.
    duration: Histogram,
}

/// A message; with the last one, whom to tell that it was taken.
type Message = Result<(pb::SnapshotResponse, Option<oneshot::Sender<()>>), Error>;

/// Why a stream has no more messages.
enum End {
    /// Its client has the last one.
    Taken,
    /// Its client has an error instead.
    Failed,
    /// Its client is gone.
    Gone,
    /// The member stops.
    Stopped,
}

/// Starts to read the copy, and returns what comes of it.
///
/// The reading is a task of its own: a copy keeps pages of the database from being used again, so
/// it has to end with the member, also when nobody asks for its next message. No thread waits for a
/// client meanwhile.
fn start(
    feed: Feed,
    copy: DatabaseCopy,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> impl Stream<Item = Result<pb::SnapshotResponse, Error>> + Send {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(feed.run(copy, sender, stopped));
    stream::unfold(Some(receiver), |receiver| async {
        let mut receiver = receiver?;
        Some(match receiver.recv().await {
            Some(Ok((message, None))) => (Ok(message), Some(receiver)),
            Some(Ok((message, Some(taken)))) => {
                // Nobody waits for it if the member stops in this very moment.
                let _ = taken.send(());
                (Ok(message), None)
            }
            Some(Err(error)) => (Err(error), None),
            None => (Err(Error::Stopped), None),
        })
    })
}

impl Feed {
    async fn run(
        self,
        copy: DatabaseCopy,
        sender: mpsc::Sender<Message>,
        stopped: impl Future<Output = ()> + Send,
    ) {
        let started = Instant::now();
        let size = GoBytes(self.total).to_string();
        info!(self.logger, "sending database snapshot to client";
            "total-bytes" => self.total, "size" => &size, "storage-version" => &self.version);
        let end = {
            let slow = slow(self.total);
            let mut late = interval_at(started + slow, slow);
            let mut sending = std::pin::pin!(self.send(copy, &sender));
            let mut stopped = std::pin::pin!(stopped);
            loop {
                tokio::select! {
                    biased;
                    end = &mut sending => break end,
                    () = sender.closed() => break End::Gone,
                    () = &mut stopped => break End::Stopped,
                    _ = late.tick() => warn!(self.logger, "snapshotting taking too long to transfer";
                        "taking" => %GoDuration(started.elapsed()),
                        "bytes" => self.total,
                        "size" => &size),
                }
            }
        };
        let took = started.elapsed();
        self.duration.observe(took.as_secs_f64());
        match end {
            End::Taken => info!(self.logger, "successfully sent database snapshot to client";
                "total-bytes" => self.total,
                "size" => &size,
                "took" => %GoDuration(took),
                "storage-version" => &self.version),
            End::Gone => {
                warn!(self.logger, "did not send all of a database snapshot: its client is gone";
                "total-bytes" => self.total, "took" => %GoDuration(took))
            }
            End::Stopped => {
                warn!(self.logger, "did not send all of a database snapshot: the member stops";
                "total-bytes" => self.total, "took" => %GoDuration(took))
            }
            // Said where it happened.
            End::Failed => {}
        }
    }

    async fn send(&self, copy: DatabaseCopy, sender: &mpsc::Sender<Message>) -> End {
        let mut left = self.total;
        let mut reading = Source::new(copy).read();
        let checksum = loop {
            let (blobs, next) = match reading.await {
                Ok(Ok(read)) => read,
                Ok(Err(error)) => return self.fail(&error, left, sender).await,
                Err(error) => return self.fail(&error.into(), left, sender).await,
            };
            let next = match next {
                Next::Source(source) => Ok(source.read()),
                Next::Checksum(checksum) => Err(checksum),
            };
            for blob in blobs {
                left -= blob.len() as u64;
                if self.pass(blob, left, None, sender).await.is_err() {
                    return End::Gone;
                }
            }
            match next {
                Ok(more) => reading = more,
                Err(checksum) => break checksum,
            }
        };
        info!(self.logger, "sending database sha256 checksum to client";
            "total-bytes" => self.total, "checksum-size" => checksum.len());
        let (taken, is_taken) = oneshot::channel();
        let passed = self.pass(checksum, 0, Some(taken), sender).await;
        match passed.is_ok() && is_taken.await.is_ok() {
            true => End::Taken,
            false => End::Gone,
        }
    }

    async fn pass(
        &self,
        blob: Bytes,
        left: u64,
        last: Option<oneshot::Sender<()>>,
        sender: &mpsc::Sender<Message>,
    ) -> Result<(), mpsc::error::SendError<Message>> {
        let message = pb::SnapshotResponse {
            header: None,
            remaining_bytes: left,
            blob,
            version: self.version.clone(),
        };
        sender.send(Ok((message, last))).await
    }

    async fn fail(&self, error: &io::Error, left: u64, sender: &mpsc::Sender<Message>) -> End {
        error!(self.logger, "failed to read the database for a snapshot";
            "total-bytes" => self.total, "remaining-bytes" => left, "error" => %error);
        let text = format!("the database cannot be read for a snapshot: {error}");
        match sender.send(Err(Error::Internal(text))).await {
            Ok(()) => End::Failed,
            Err(_) => End::Gone,
        }
    }
}

/// How long a copy of this size may take before it is reported.
fn slow(total: u64) -> Duration {
    Duration::from_secs_f64(total as f64 / SLOW_BYTES_PER_SECOND as f64).max(SLOW_AT_LEAST)
}

/// The part of a copy that was not read yet.
struct Source {
    bytes: Box<dyn Read + Send>,
    left: u64,
    hash: Sha256,
}

/// What comes after some blobs.
enum Next {
    /// More of them.
    Source(Source),
    /// The checksum of all.
    Checksum(Bytes),
}

impl Source {
    fn new(copy: DatabaseCopy) -> Self {
        Self {
            bytes: copy.bytes,
            left: copy.len,
            hash: Sha256::new(),
        }
    }

    /// Reads the next blobs on a thread that may wait for the disk.
    fn read(self) -> JoinHandle<io::Result<(Vec<Bytes>, Next)>> {
        tokio::task::spawn_blocking(|| self.read_blocking())
    }

    fn read_blocking(mut self) -> io::Result<(Vec<Bytes>, Next)> {
        let mut blobs = Vec::with_capacity(READ_AHEAD);
        while self.left > 0 && blobs.len() < READ_AHEAD {
            let length = usize::try_from(self.left).map_or(BLOB, |left| left.min(BLOB));
            let mut blob = vec![0; length];
            self.bytes.read_exact(&mut blob)?;
            self.hash.update(&blob);
            self.left -= length as u64;
            blobs.push(Bytes::from(blob));
        }
        let next = match self.left {
            0 => Next::Checksum(Bytes::copy_from_slice(&self.hash.finalize())),
            _ => Next::Source(self),
        };
        Ok((blobs, next))
    }
}

#[cfg(test)]
mod tests;
