//! Watching: telling clients what changes, as it changes and from history.
//!
//! ```text
//! apply thread ──▶ Ring ──▶ Hub, a thread of its own ──▶ Inbox of each stream ──▶ Session ──▶ client
//!                                                          history, read by ──▶ Session
//! ```
//!
//! The apply thread leaves what it published in a bounded ring and never waits. The hub finds who watches for it
//! and puts it, by reference, into bounded inboxes. A watcher whose inbox is full *falls behind*: it is taken out
//! of the hub, reads on from history with a cursor of its own when its client reads again, and joins the hub
//! where its cursor ends. Whatever falls out on the way is read from history: there is no gap, and a watcher for
//! which that is compacted is cancelled.

mod batch;
mod catch_up;
mod desk;
mod event;
mod hub;
mod inbox;
mod ranges;
mod reply;
mod ring;
mod session;
mod spec;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use retcd_proto::etcdserverpb::ResponseHeader;
use slog::Logger;

use crate::error::Error;
use crate::member::Member;

pub(crate) use batch::Batch;
pub(crate) use hub::Hub;
pub(crate) use session::{Lost, Requests, Session};

/// How many election timeouts a stream whose client wants a leader lives without one.
const PATIENCE: u32 = 3;

/// What a stream wants of its member. Tests have another one.
pub(crate) trait Host: Send + Sync + 'static {
    fn hub(&self) -> &Arc<Hub>;
    fn header_at(&self, revision: i64) -> ResponseHeader;
    fn logger(&self) -> &Logger;
    /// Replies of so many bytes are cut into fragments for those who want that.
    fn max_reply_bytes(&self) -> usize;
    /// Time between two notifications of progress.
    fn progress_interval(&self) -> Duration;
    /// Completes when there was no leader for too long.
    fn without_leader(&self) -> Lost;
    /// Runs work that may take long where it delays nobody.
    fn beside<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send;
}

impl Host for Member {
    fn hub(&self) -> &Arc<Hub> {
        &self.watch
    }

    fn header_at(&self, revision: i64) -> ResponseHeader {
        Self::header_at(self, revision)
    }

    fn logger(&self) -> &Logger {
        &self.logger
    }

    fn max_reply_bytes(&self) -> usize {
        self.limits.max_request_bytes + crate::api::OVERHEAD_BYTES
    }

    fn progress_interval(&self) -> Duration {
        self.limits.watch_progress_interval
    }

    fn without_leader(&self) -> Lost {
        let mut leader = self.leader.subscribe();
        let patience = self.limits.election_timeout * PATIENCE;
        Box::pin(async move {
            loop {
                // An error means that the member is gone, which ends the stream anyway.
                if leader.wait_for(|leader| leader.id == 0).await.is_err() {
                    return future::pending().await;
                }
                let found = leader.wait_for(|leader| leader.id != 0);
                if tokio::time::timeout(patience, found).await.is_err() {
                    return;
                }
            }
        })
    }

    async fn beside<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        crate::api::blocking(work).await
    }
}
