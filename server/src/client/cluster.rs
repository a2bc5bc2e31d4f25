//! The membership in the same process.

use retcd_proto::etcdserverpb as pb;

use super::Client;
use crate::error::Error;

impl Client {
    /// `Cluster.MemberList` after a linearizable read: all changes that were answered before are in it. Needs a
    /// quorum.
    ///
    /// # Errors
    /// As the service.
    pub async fn member_list(&self) -> Result<pb::MemberListResponse, Error> {
        self.members(true).await
    }

    /// `Cluster.MemberList` as this member knows it, which may be an older state. Answered without a quorum.
    ///
    /// # Errors
    /// As the service.
    pub async fn member_list_serializable(&self) -> Result<pb::MemberListResponse, Error> {
        self.members(false).await
    }

    async fn members(&self, linearizable: bool) -> Result<pb::MemberListResponse, Error> {
        let request = pb::MemberListRequest { linearizable };
        self.api()?.member_list(&self.caller, request).await
    }

    /// `Cluster.MemberAdd` of a voter that will listen at these URLs, such as `http://10.0.0.4:2380`. The reply has
    /// its id, and all members. It counts for the quorum from now on: start it.
    ///
    /// # Errors
    /// `MemberBadUrls`, `PeerUrlExist`; `MemberNotEnoughStarted` and `Unhealthy` where `strict_reconfig_check` finds
    /// that the cluster could lose its quorum by it, which it does in the first five seconds of a connection.
    pub async fn member_add<U: Into<String>>(
        &self,
        peer_urls: impl IntoIterator<Item = U>,
    ) -> Result<pb::MemberAddResponse, Error> {
        self.add(pb::MemberAddRequest {
            peer_ur_ls: texts(peer_urls),
            is_learner: false,
        })
        .await
    }

    /// `Cluster.MemberAdd` of a learner: it receives the log and does not vote until it is
    /// [promoted](Self::member_promote).
    ///
    /// # Errors
    /// As [`member_add`](Self::member_add), and `TooManyLearners`.
    pub async fn member_add_learner<U: Into<String>>(
        &self,
        peer_urls: impl IntoIterator<Item = U>,
    ) -> Result<pb::MemberAddResponse, Error> {
        self.add(pb::MemberAddRequest {
            peer_ur_ls: texts(peer_urls),
            is_learner: true,
        })
        .await
    }

    async fn add(&self, r: pb::MemberAddRequest) -> Result<pb::MemberAddResponse, Error> {
        self.api()?.member_add(&self.caller, r).await
    }

    /// `Cluster.MemberPromote`: makes a voter of a learner that has most of the leader's log. Any voter may be asked.
    ///
    /// # Errors
    /// `MemberNotFound`, `MemberNotLearner`; `LearnerNotReady` while it lacks more than a tenth of the log.
    pub async fn member_promote(&self, id: u64) -> Result<pb::MemberPromoteResponse, Error> {
        let request = pb::MemberPromoteRequest { id };
        self.api()?.member_promote(&self.caller, request).await
    }

    /// `Cluster.MemberUpdate`: gives a member other peer URLs, in place of all it had.
    ///
    /// # Errors
    /// `MemberNotFound`, `MemberBadUrls`, `PeerUrlExist`.
    pub async fn member_update<U: Into<String>>(
        &self,
        id: u64,
        peer_urls: impl IntoIterator<Item = U>,
    ) -> Result<pb::MemberUpdateResponse, Error> {
        let request = pb::MemberUpdateRequest {
            id,
            peer_ur_ls: texts(peer_urls),
        };
        self.api()?.member_update(&self.caller, request).await
    }

    /// `Cluster.MemberRemove`: for ever; a member with that id never joins again. One that runs stops by itself.
    ///
    /// # Errors
    /// `MemberNotFound`; `MemberNotEnoughStarted` and `Unhealthy` as with [`member_add`](Self::member_add).
    pub async fn member_remove(&self, id: u64) -> Result<pb::MemberRemoveResponse, Error> {
        let request = pb::MemberRemoveRequest { id };
        self.api()?.member_remove(&self.caller, request).await
    }
}

fn texts<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> Vec<String> {
    urls.into_iter().map(Into::into).collect()
}
