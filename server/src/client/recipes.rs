//! Locks and elections in the same process.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use retcd_proto::{v3electionpb, v3lockpb};

use super::Client;
use crate::error::Error;

/// The leaders of an election, as `Election.Observe` tells of them.
pub struct ObserveStream(
    Pin<Box<dyn Stream<Item = Result<v3electionpb::LeaderResponse, Error>> + Send>>,
);

impl Client {
    /// `Lock.Lock`: waits until nobody else holds the lock. It is held until [`unlock`](Self::unlock) of the key in
    /// the reply, or until the lease ends. Lease 0: a new one of a minute.
    ///
    /// A caller that gives up, by dropping the future, leaves the queue.
    ///
    /// # Errors
    /// As the service.
    pub async fn lock(
        &self,
        name: impl Into<Bytes>,
        lease: i64,
    ) -> Result<v3lockpb::LockResponse, Error> {
        let name = name.into();
        let request = v3lockpb::LockRequest { name, lease };
        self.api()?.lock(&self.caller, request).await
    }

    /// `Lock.Unlock`.
    ///
    /// # Errors
    /// As the service.
    pub async fn unlock(&self, key: impl Into<Bytes>) -> Result<v3lockpb::UnlockResponse, Error> {
        let request = v3lockpb::UnlockRequest { key: key.into() };
        self.api()?.unlock(&self.caller, request).await
    }

    /// `Election.Campaign`: waits until this candidate leads.
    ///
    /// A caller that gives up, by dropping the future, leaves the queue.
    ///
    /// # Errors
    /// As the service.
    pub async fn campaign(
        &self,
        r: v3electionpb::CampaignRequest,
    ) -> Result<v3electionpb::CampaignResponse, Error> {
        self.api()?.campaign(&self.caller, r).await
    }

    /// `Election.Proclaim`: a leader changes its value.
    ///
    /// # Errors
    /// As the service.
    pub async fn proclaim(
        &self,
        r: v3electionpb::ProclaimRequest,
    ) -> Result<v3electionpb::ProclaimResponse, Error> {
        self.api()?.proclaim(&self.caller, r).await
    }

    /// `Election.Leader`: who leads now.
    ///
    /// # Errors
    /// As the service.
    pub async fn leader(
        &self,
        name: impl Into<Bytes>,
    ) -> Result<v3electionpb::LeaderResponse, Error> {
        let request = v3electionpb::LeaderRequest { name: name.into() };
        self.api()?.leader(&self.caller, request).await
    }

    /// `Election.Observe`: who leads, now and later. To be called within a tokio runtime.
    ///
    /// # Errors
    /// As the service.
    pub async fn observe(&self, name: impl Into<Bytes>) -> Result<ObserveStream, Error> {
        let request = v3electionpb::LeaderRequest { name: name.into() };
        let leaders = self.api()?.observe(&self.caller, request).await?;
        Ok(ObserveStream(Box::pin(leaders)))
    }

    /// `Election.Resign`.
    ///
    /// # Errors
    /// As the service.
    pub async fn resign(
        &self,
        r: v3electionpb::ResignRequest,
    ) -> Result<v3electionpb::ResignResponse, Error> {
        self.api()?.resign(&self.caller, r).await
    }
}

impl ObserveStream {
    /// The next leader, or the next value of the same one; nothing after an error.
    ///
    /// # Errors
    /// As the service.
    pub async fn next(&mut self) -> Option<Result<v3electionpb::LeaderResponse, Error>> {
        self.0.next().await
    }
}

impl fmt::Debug for ObserveStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObserveStream").finish_non_exhaustive()
    }
}
