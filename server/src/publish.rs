//! What a member writes into the log about itself when it starts, and what a new cluster decides.
//!
//! Source: raft-log 6 and 7.1.

use std::sync::Arc;

use retcd_proto::etcdserverpb::InternalRaftRequest;
use retcd_proto::membershippb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest,
};
use slog::{info, warn};

use crate::api::major_minor;
use crate::error::Error;
use crate::member::Member;
use crate::schema::{self, Version};

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

/// Decides the version of a cluster that has none, and raises or lowers that of one whose only member this is.
/// What other members run, nobody here knows yet.
pub(crate) async fn cluster_version(member: &Arc<Member>) -> Result<(), Error> {
    let cluster = member.cluster.load_full();
    let current = cluster.version();
    if current.is_some() && cluster.members().len() > 1 {
        return Ok(());
    }
    let next = schema::next_cluster_version(current.and_then(Version::parse), cluster.downgrade());
    let Some(next) = next else {
        return Ok(());
    };
    if let Some(current) = current {
        info!(member.logger, "updating cluster version using v3 API";
            "from" => major_minor(current), "to" => major_minor(&next.to_string()));
    }
    let request = InternalRaftRequest {
        cluster_version_set: Some(ClusterVersionSetRequest {
            ver: next.to_string(),
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
