//! The Lock and Election services.

use futures_util::Stream;
use retcd_proto::{v3electionpb, v3lockpb};

use super::{Api, Caller};
use crate::client::Client;
use crate::error::Error;
use crate::recipe::{election, lock};

impl Api {
    pub(crate) async fn lock(
        &self,
        caller: &Caller,
        r: v3lockpb::LockRequest,
    ) -> Result<v3lockpb::LockResponse, Error> {
        self.admit(caller)?;
        lock::lock(&self.client(), r).await
    }

    pub(crate) async fn unlock(
        &self,
        caller: &Caller,
        r: v3lockpb::UnlockRequest,
    ) -> Result<v3lockpb::UnlockResponse, Error> {
        self.admit(caller)?;
        lock::unlock(&self.client(), r).await
    }

    pub(crate) async fn campaign(
        &self,
        caller: &Caller,
        r: v3electionpb::CampaignRequest,
    ) -> Result<v3electionpb::CampaignResponse, Error> {
        self.admit(caller)?;
        election::campaign(&self.client(), r).await
    }

    pub(crate) async fn proclaim(
        &self,
        caller: &Caller,
        r: v3electionpb::ProclaimRequest,
    ) -> Result<v3electionpb::ProclaimResponse, Error> {
        self.admit(caller)?;
        election::proclaim(&self.client(), r).await
    }

    pub(crate) async fn leader(
        &self,
        caller: &Caller,
        r: v3electionpb::LeaderRequest,
    ) -> Result<v3electionpb::LeaderResponse, Error> {
        self.admit(caller)?;
        election::leader(&self.client(), r).await
    }

    pub(crate) async fn observe(
        &self,
        caller: &Caller,
        r: v3electionpb::LeaderRequest,
    ) -> Result<impl Stream<Item = Result<v3electionpb::LeaderResponse, Error>> + Send + use<>, Error>
    {
        self.admit_stream(caller)?;
        Ok(election::observe(self.client(), &r))
    }

    pub(crate) async fn resign(
        &self,
        caller: &Caller,
        r: v3electionpb::ResignRequest,
    ) -> Result<v3electionpb::ResignResponse, Error> {
        self.admit(caller)?;
        election::resign(&self.client(), r).await
    }

    /// What the recipes work with. Not to keep the member open while one of them waits.
    fn client(&self) -> Client {
        Client::new(std::sync::Arc::downgrade(&self.member))
    }
}
