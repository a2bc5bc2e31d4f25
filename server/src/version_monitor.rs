//! The version of the cluster, which its leader decides by what all members run.
//!
//! Source: raft-log 7.1; etcd `server/etcdserver/version/monitor.go`.

use std::time::Duration;

use futures_util::future::join_all;
use retcd_proto::etcdserverpb::InternalRaftRequest;
use retcd_proto::membershippb::ClusterVersionSetRequest;
use slog::{error, info, warn};

use crate::api::major_minor;
use crate::error::Error;
use crate::member::Member;
use crate::schema::{self, Version};

/// How often the leader asks the others; etcd's value.
const INTERVAL: Duration = Duration::from_secs(4);

/// Decides again and again, until it is dropped.
pub(crate) async fn run(member: &Member) {
    loop {
        tokio::select! {
            () = member.term_began.notified() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
        decide(member).await;
    }
}

/// If this member leads: decides, and proposes what is to change.
pub(crate) async fn decide(member: &Member) {
    if member.node().status().leader != member.id {
        return;
    }
    let lowest = lowest(member).await;
    let cluster = member.cluster.load_full();
    let current = cluster.version().and_then(Version::parse);
    let next = match schema::next_cluster_version(current, cluster.downgrade(), lowest) {
        Ok(None) => return,
        Ok(Some(next)) => next,
        Err(impossible) => {
            error!(member.logger, "Failed to monitor cluster version"; "error" => %impossible);
            return;
        }
    };
    let to = major_minor(&next.to_string());
    match cluster.version() {
        None => info!(member.logger, "setting up initial cluster version using v3 API";
            "cluster-version" => &to),
        Some(current) => info!(member.logger, "updating cluster version using v3 API";
            "from" => major_minor(current), "to" => &to),
    }
    let request = InternalRaftRequest {
        cluster_version_set: Some(ClusterVersionSetRequest {
            ver: next.to_string(),
        }),
        ..Default::default()
    };
    match member.propose(request).await {
        Ok(_) => info!(member.logger, "cluster version is updated"; "cluster-version" => to),
        Err(Error::Stopped) => {
            warn!(member.logger, "aborting cluster version update; server is stopped";
                "error" => %Error::Stopped);
        }
        Err(error) => {
            warn!(member.logger, "failed to update cluster version"; "error" => %error);
        }
    }
}

/// The version of the oldest member; `None` while one of them does not tell.
async fn lowest(member: &Member) -> Option<Version> {
    let cluster = member.cluster.load_full();
    let others: Vec<_> = cluster.members().filter(|m| m.id != member.id).collect();
    let timeout = member.limits.request_timeout;
    let asked = others
        .iter()
        .map(|other| member.remote.versions(other, timeout));
    let asked = async { join_all(asked.collect::<Vec<_>>()).await };
    let mut lowest = schema::OWN;
    for (other, versions) in others.iter().zip(asked.await) {
        let text = versions?.server;
        let Some(version) = Version::parse(&text) else {
            warn!(member.logger, "failed to parse server version of remote member";
                "remote-member-id" => format!("{:x}", other.id), "remote-member-version" => text);
            return None;
        };
        if version > schema::OWN {
            warn!(member.logger, "leader found higher-versioned member";
                "local-member-version" => crate::config::ETCD_VERSION,
                "remote-member-id" => format!("{:x}", other.id),
                "remote-member-version" => text);
        }
        lowest = lowest.min(version);
    }
    Some(lowest)
}
