//! The Cluster service.

use std::time::{SystemTime, UNIX_EPOCH};

use retcd_proto::etcdserverpb as pb;
use retcd_raft_node::ids;
use retcd_raft_node::membership::Member;

use super::{Api, Caller};
use crate::config::{Url, UrlError};
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
        let members = cluster.members().map(message).collect();
        Ok(pb::MemberListResponse {
            header: Some(self.member.header_at(0)),
            members,
        })
    }

    pub(crate) async fn member_add(
        &self,
        caller: &Caller,
        r: pb::MemberAddRequest,
    ) -> Result<pb::MemberAddResponse, Error> {
        self.admit(caller)?;
        let peer_urls = peer_urls(&r.peer_ur_ls)?;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = unix.map_or(0, |unix| i64::try_from(unix.as_secs()).unwrap_or(i64::MAX));
        let member = Member {
            // The time makes it another member than one that had these URLs before.
            id: ids::member_id(&peer_urls, "", Some(seconds)),
            peer_urls,
            is_learner: r.is_learner,
            ..Member::default()
        };
        let members = self.member.add_member(&member).await?;
        Ok(pb::MemberAddResponse {
            header: Some(self.member.header_at(0)),
            member: Some(message(&member)),
            members: members.iter().map(message).collect(),
        })
    }

    pub(crate) async fn member_remove(
        &self,
        caller: &Caller,
        r: pb::MemberRemoveRequest,
    ) -> Result<pb::MemberRemoveResponse, Error> {
        self.admit(caller)?;
        let members = self.member.remove_member(r.id).await?;
        Ok(pb::MemberRemoveResponse {
            header: Some(self.member.header_at(0)),
            members: members.iter().map(message).collect(),
        })
    }

    pub(crate) async fn member_update(
        &self,
        caller: &Caller,
        r: pb::MemberUpdateRequest,
    ) -> Result<pb::MemberUpdateResponse, Error> {
        self.admit(caller)?;
        // Where etcd takes any text, all members of the cluster would fail on it.
        if let Err(refused) = peer_urls(&r.peer_ur_ls) {
            let known = self.member.cluster.load().member(r.id).is_some();
            return Err(if known {
                refused
            } else {
                Error::MemberNotFound
            });
        }
        let members = self.member.update_member(r.id, r.peer_ur_ls).await?;
        Ok(pb::MemberUpdateResponse {
            header: Some(self.member.header_at(0)),
            members: members.iter().map(message).collect(),
        })
    }

    pub(crate) async fn member_promote(
        &self,
        caller: &Caller,
        r: pb::MemberPromoteRequest,
    ) -> Result<pb::MemberPromoteResponse, Error> {
        self.admit(caller)?;
        let members = self.member.promote(r.id, None).await?;
        Ok(pb::MemberPromoteResponse {
            header: Some(self.member.header_at(0)),
            members: members.iter().map(message).collect(),
        })
    }
}

fn message(member: &Member) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}

/// The URLs in order, as etcd writes them; at least one.
fn peer_urls(given: &[String]) -> Result<Vec<String>, Error> {
    let parsed: Result<Vec<Url>, UrlError> = given.iter().map(|url| url.parse()).collect();
    let mut urls = parsed.map_err(|_| Error::MemberBadUrls)?;
    if urls.is_empty() {
        return Err(Error::MemberBadUrls);
    }
    urls.sort();
    Ok(urls.iter().map(ToString::to_string).collect())
}
