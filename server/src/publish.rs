//! What a member writes into the log about itself when it starts.
//!
//! Source: raft-log 6.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use retcd_proto::etcdserverpb::InternalRaftRequest;
use retcd_proto::membershippb::{Attributes, ClusterMemberAttrSetRequest};
use slog::{info, warn};
use tokio::time::sleep;

use crate::config::GoDuration;
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
    let mut in_snapshot = pin!(in_snapshot(member, name, client_urls));
    loop {
        let applied = tokio::select! {
            applied = member.propose(request.clone()) => applied.map(drop),
            () = &mut in_snapshot => Ok(()),
        };
        match applied {
            Ok(()) => break,
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
                    "publish-timeout" => %GoDuration(member.limits.request_timeout),
                    "error" => %error);
                // Some refusals come at once.
                sleep(REST).await;
            }
        }
    }
    info!(member.logger, "published local member to cluster through raft";
        "local-member-id" => format!("{:x}", member.id),
        "local-member-attributes" => attributes,
        "cluster-id" => format!("{:x}", member.cluster_id),
        "publish-timeout" => %GoDuration(member.limits.request_timeout));
    Ok(())
}

/// Waits for a snapshot of the leader that has what is published. A member that joins is usually sent one: it stands for the
/// entry, too, which is then never applied here.
async fn in_snapshot(member: &Member, name: &str, client_urls: &[String]) {
    let mut installed = member.installed.notified();
    loop {
        installed.await;
        installed = member.installed.notified();
        let cluster = member.cluster.load();
        let known = cluster.member(member.id);
        if known.is_some_and(|known| known.name == name && known.client_urls == client_urls) {
            return;
        }
    }
}
