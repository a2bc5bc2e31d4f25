//! What a member writes into the log about itself when it starts.
//!
//! Source: raft-log 6.

use std::sync::Arc;
use std::time::Duration;

use retcd_proto::etcdserverpb::InternalRaftRequest;
use retcd_proto::membershippb::{Attributes, ClusterMemberAttrSetRequest};
use slog::{info, warn};
use tokio::time::sleep;

use crate::error::Error;
use crate::member::Member;

/// Between two attempts.
const REST: Duration = Duration::from_millis(100);

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
    let attributes = format!("{{Name:{name} ClientURLs:[{}]}}", client_urls.join(" "));
    loop {
        match member.propose(request.clone()).await {
            Ok(_) => break,
            Err(Error::Stopped) => {
                warn!(member.logger, "stopped publish because server is stopping";
                    "local-member-id" => format!("{:x}", member.id),
                    "local-member-attributes" => &attributes);
                return Err(Error::Stopped);
            }
            Err(error) => {
                warn!(member.logger, "failed to publish local member to cluster through raft";
                    "local-member-id" => format!("{:x}", member.id),
                    "local-member-attributes" => &attributes,
                    "publish-timeout" => ?member.limits.request_timeout,
                    "error" => %error);
                // Some refusals come at once.
                sleep(REST).await;
            }
        }
    }
    info!(member.logger, "published local member to cluster through raft";
        "local-member-id" => format!("{:x}", member.id),
        "local-member-attributes" => attributes,
        "cluster-id" => format!("{:x}", member.cluster_id));
    Ok(())
}
