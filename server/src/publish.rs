//! What a member writes into the log about itself when it starts, and what a new cluster decides.
//!
//! Source: raft-log 6 and 7.1.

use std::sync::Arc;

use retcd_proto::etcdserverpb::InternalRaftRequest;
use retcd_proto::membershippb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest,
};
use slog::{info, warn};

use crate::api::CLUSTER_VERSION;
use crate::error::Error;
use crate::member::Member;

/// Tells the cluster this member's name and client URLs; tries until it is heard or stopped.
pub(crate) async fn attributes(
    member: &Arc<Member>,
    name: &str,
    client_urls: &[String],
) -> Result<(), Error> {
    let request = InternalRaftRequest {
        cluster_member_attr_set: Some(ClusterMemberAttrSetRequest {
            member_id: member.id,
            member_attributes: Some(Attributes {
                name: name.to_owned(),
                client_urls: client_urls.to_vec(),
            }),
        }),
        ..Default::default()
    };
    retry(
        member,
        request,
        "failed to publish local member to cluster through raft",
    )
    .await?;
    info!(member.logger, "published local member to cluster through raft";
        "local-member-id" => format!("{:x}", member.id),
        "local-member-attributes" => format!("{{Name:{name} ClientURLs:[{}]}}", client_urls.join(" ")),
        "cluster-id" => format!("{:x}", member.cluster_id));
    Ok(())
}

/// Decides the version of a cluster that has none. With one member it is the member's own.
pub(crate) async fn cluster_version(member: &Arc<Member>) -> Result<(), Error> {
    if member.cluster.load().version().is_some() {
        return Ok(());
    }
    let request = InternalRaftRequest {
        cluster_version_set: Some(ClusterVersionSetRequest {
            ver: CLUSTER_VERSION.to_owned(),
        }),
        ..Default::default()
    };
    retry(member, request, "failed to update cluster version").await
}

async fn retry(
    member: &Member,
    request: InternalRaftRequest,
    complaint: &'static str,
) -> Result<(), Error> {
    loop {
        match member.propose(request.clone()).await {
            Ok(_) => return Ok(()),
            Err(Error::Stopped) => return Err(Error::Stopped),
            Err(error) => warn!(member.logger, "{}", complaint; "error" => %error),
        }
    }
}
