//! The Cluster service, as far as one member needs it.

use retcd_proto::etcdserverpb as pb;

use super::{Api, Caller};
use crate::error::Error;

impl Api {
    pub(crate) async fn member_list(
        &self,
        caller: &Caller,
        r: pb::MemberListRequest,
    ) -> Result<pb::MemberListResponse, Error> {
        self.admit(caller)?;
        if r.linearizable {
            self.member.linearizable().await?;
        }
        let cluster = self.member.cluster.load();
        let members = cluster
            .members()
            .map(|member| pb::Member {
                id: member.id,
                name: member.name.clone(),
                peer_ur_ls: member.peer_urls.clone(),
                client_ur_ls: member.client_urls.clone(),
                is_learner: member.is_learner,
            })
            .collect();
        Ok(pb::MemberListResponse {
            header: Some(self.member.header_at(0)),
            members,
        })
    }
}
