//! Leases in the same process.

use std::fmt;
use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, stream};
use retcd_proto::etcdserverpb as pb;
use tokio::sync::mpsc;

use super::Client;
use crate::error::Error;

/// A stream of renewals, as `Lease.LeaseKeepAlive` is one.
pub struct KeepAliveStream {
    requests: mpsc::UnboundedSender<i64>,
    replies: Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Error>> + Send>>,
}

impl Client {
    /// `Lease.LeaseGrant` for `ttl` seconds; id 0: the member chooses one.
    ///
    /// # Errors
    /// As the service.
    pub async fn lease_grant(&self, id: i64, ttl: i64) -> Result<pb::LeaseGrantResponse, Error> {
        let request = pb::LeaseGrantRequest { id, ttl };
        self.api()?.lease_grant(&self.caller, request).await
    }

    /// `Lease.LeaseRevoke`: ends a lease and deletes its keys.
    ///
    /// # Errors
    /// As the service.
    pub async fn lease_revoke(&self, id: i64) -> Result<pb::LeaseRevokeResponse, Error> {
        let request = pb::LeaseRevokeRequest { id };
        self.api()?.lease_revoke(&self.caller, request).await
    }

    /// `Lease.LeaseTimeToLive`; a TTL of -1: there is no such lease.
    ///
    /// # Errors
    /// As the service.
    pub async fn lease_time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        let request = pb::LeaseTimeToLiveRequest { id, keys };
        self.api()?.lease_time_to_live(&self.caller, request).await
    }

    /// `Lease.LeaseLeases`: the ids of all leases.
    ///
    /// # Errors
    /// As the service.
    pub async fn leases(&self) -> Result<Vec<i64>, Error> {
        let request = pb::LeaseLeasesRequest {};
        let reply = self.api()?.lease_leases(&self.caller, request).await?;
        Ok(reply.leases.into_iter().map(|lease| lease.id).collect())
    }

    /// Renews a lease once; returns its seconds, 0 if there is no such lease any more.
    ///
    /// # Errors
    /// As `Lease.LeaseKeepAlive`.
    pub async fn lease_keep_alive_once(&self, id: i64) -> Result<i64, Error> {
        let mut renewals = self.lease_keep_alive()?;
        renewals.renew(id);
        let reply = renewals.next().await.unwrap_or(Err(Error::Stopped));
        reply.map(|reply| reply.ttl)
    }

    /// `Lease.LeaseKeepAlive`. To be called within a tokio runtime.
    ///
    /// # Errors
    /// As the service.
    pub fn lease_keep_alive(&self) -> Result<KeepAliveStream, Error> {
        let (requests, queue) = mpsc::unbounded_channel();
        let queue = stream::unfold(queue, |mut queue| async {
            let id = queue.recv().await?;
            Some((Ok(pb::LeaseKeepAliveRequest { id }), queue))
        });
        let replies = self
            .api()?
            .lease_keep_alive(&self.caller, Box::pin(queue))?;
        Ok(KeepAliveStream {
            requests,
            replies: Box::pin(replies),
        })
    }
}

impl KeepAliveStream {
    /// Asks for a lease to be renewed. Replies come in the order of the requests.
    pub fn renew(&self, id: i64) {
        // Of a stream that has ended nobody takes requests any more; `next` says so.
        let _ = self.requests.send(id);
    }

    /// The next reply; nothing after an error. A TTL of 0: there is no such lease any more.
    ///
    /// # Errors
    /// `Stopped` when the member has stopped; `Timeout` and `NoLeader` when no leader renewed it.
    pub async fn next(&mut self) -> Option<Result<pb::LeaseKeepAliveResponse, Error>> {
        self.replies.next().await
    }
}

impl fmt::Debug for KeepAliveStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepAliveStream").finish_non_exhaustive()
    }
}
