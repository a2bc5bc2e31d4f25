//! How a member starts for the first time: as a founder of a cluster, or by joining one.
//!
//! Source: raft-log 4.5, peer-protocol 15; etcd `server/etcdserver/bootstrap.go`.

use std::collections::BTreeMap;

use retcd_raft_node::membership::Member;
use retcd_raft_node::{Start, ids};
use retcd_storage::failpoint::failpoint;
use slog::{Logger, info};

use crate::config::{ClusterState, Resolved, Url, parse_cluster};
use crate::peers::{Introduction, Remote, Seeker};
use crate::server::{StartError, request_timeout, run_async};

/// A first start.
pub(crate) struct Beginning {
    pub(crate) start: Start,
    /// The other members, as far as they are known.
    pub(crate) others: Vec<Member>,
}

impl Beginning {
    /// Finds out by the flags, and by asking the other members. Nothing is written.
    ///
    /// # Errors
    /// Flags that do not add up; other members that do not know this one as it is.
    pub(crate) fn find(
        resolved: &Resolved,
        remote: &Remote,
        logger: &Logger,
    ) -> Result<Self, StartError> {
        let cluster = resolved.bootstrap()?;
        match resolved.initial_cluster_state {
            ClusterState::New => found(resolved, cluster, remote, logger),
            ClusterState::Existing => join(resolved, cluster, remote, logger),
        }
    }
}

fn found(
    resolved: &Resolved,
    cluster: BTreeMap<String, Vec<Url>>,
    remote: &Remote,
    logger: &Logger,
) -> Result<Beginning, StartError> {
    let token = &resolved.initial_cluster_token;
    let mut members: Vec<Member> = cluster
        .iter()
        .map(|(name, urls)| {
            let peer_urls = texts(urls);
            Member {
                id: ids::member_id(&peer_urls, token, None),
                name: name.clone(),
                peer_urls,
                ..Member::default()
            }
        })
        .collect();
    members.sort_by_key(|member| member.id);
    let all: Vec<u64> = members.iter().map(|member| member.id).collect();
    let own = members.iter().find(|member| member.name == resolved.name);
    let own = own.map_or(0, |member| member.id);
    let who = introduction(resolved, cluster, Some(own));
    let seeker = Seeker {
        who: &who,
        remote,
        logger,
    };
    run_async(seeker.look())??;
    let cluster_id = ids::cluster_id(&all);
    info!(logger, "starting local member";
        "local-member-id" => format!("{own:x}"), "cluster-id" => format!("{cluster_id:x}"));
    let others = members.iter().filter(|member| member.id != own);
    Ok(Beginning {
        others: others.cloned().collect(),
        start: Start::New {
            cluster_id,
            member_id: own,
            members,
        },
    })
}

fn join(
    resolved: &Resolved,
    cluster: BTreeMap<String, Vec<Url>>,
    remote: &Remote,
    logger: &Logger,
) -> Result<Beginning, StartError> {
    let who = introduction(resolved, cluster, None);
    let seeker = Seeker {
        who: &who,
        remote,
        logger,
    };
    let timeout = request_timeout(resolved);
    let (start, members) = run_async(seeker.join(resolved.max_learners, timeout))??;
    failpoint("join:introduced");
    let own = match &start {
        Start::Join { member_id, .. } => *member_id,
        _ => 0,
    };
    let others = members.into_iter().filter(|member| member.id != own);
    Ok(Beginning {
        others: others.collect(),
        start,
    })
}

/// Before a member that was told to join goes on with the data it has: its peers must not be another cluster, which
/// waits for it. Without an answer there is nothing to say.
///
/// # Errors
/// `Refused`.
pub(crate) fn check_data(
    resolved: &Resolved,
    remote: &Remote,
    logger: &Logger,
    (id, cluster_id): (u64, u64),
) -> Result<(), StartError> {
    if resolved.initial_cluster_state == ClusterState::New {
        return Ok(());
    }
    // The flags of a first start may be anything by now.
    let Ok(cluster) = parse_cluster(&resolved.initial_cluster) else {
        return Ok(());
    };
    let mut who = introduction(resolved, cluster, Some(id));
    who.data_of = Some(cluster_id);
    let seeker = Seeker {
        who: &who,
        remote,
        logger,
    };
    Ok(run_async(seeker.look())??)
}

/// How the member introduces itself to others.
pub(crate) fn introduction(
    resolved: &Resolved,
    cluster: BTreeMap<String, Vec<Url>>,
    id: Option<u64>,
) -> Introduction {
    let urls = match cluster.get(&resolved.name) {
        Some(own) => texts(own),
        None => texts(&resolved.initial_advertise_peer_urls),
    };
    Introduction {
        name: resolved.name.clone(),
        peer_urls: urls,
        cluster,
        id,
        joins: resolved.initial_cluster_state == ClusterState::Existing,
        data_of: None,
    }
}

fn texts(urls: &[Url]) -> Vec<String> {
    let mut texts: Vec<String> = urls.iter().map(ToString::to_string).collect();
    texts.sort();
    texts
}
