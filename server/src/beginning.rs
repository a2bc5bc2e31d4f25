//! How a member starts for the first time: as a founder of a cluster, or by joining one. Who belongs to it is said by the
//! flags, or found by way of them.
//!
//! Source: raft-log 4.5, peer-protocol 15; etcd `server/etcdserver/bootstrap.go`.

use std::collections::{BTreeMap, BTreeSet};

use retcd_raft_node::membership::Member;
use retcd_raft_node::{Start, ids};
use retcd_storage::failpoint::failpoint;
use slog::{Logger, info};

use crate::config::{
    BootstrapError, ClusterState, Discovery, Resolved, Scheme, ServiceDiscovery, SrvDiscovery, Url,
    parse_cluster, show_cluster,
};
use crate::discovery::{self, DiscoveryError, Dns};
use crate::peers::{Introduction, Remote, Secure, Seeker};
use crate::server::{StartError, request_timeout, run_async};

/// Peer URLs by name.
type Members = BTreeMap<String, Vec<Url>>;

/// A first start.
pub(crate) struct Beginning {
    pub(crate) start: Start,
    /// The other members, as far as they are known.
    pub(crate) others: Vec<Member>,
    /// What the certificates of other members have to be for instead of the hosts that are dialed.
    pub(crate) peer_name: Option<String>,
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
        let (cluster, peer_name) = match &resolved.discovery {
            None => (resolved.bootstrap()?, None),
            Some(Discovery::Srv(srv)) => by_srv(resolved, srv, logger)?,
            Some(Discovery::Service(service)) => (by_service(resolved, service, logger)?, None),
        };
        let named = peer_name.as_deref().map(|name| {
            let secure = Secure::new(
                &resolved.tls.peer.naming(name),
                resolved.local_address,
                true,
                logger,
            );
            Remote::new(Some(secure), logger.clone())
        });
        let remote = named.as_ref().unwrap_or(remote);
        let mut beginning = match resolved.initial_cluster_state {
            ClusterState::New => found(resolved, cluster, remote, logger),
            ClusterState::Existing => join(resolved, cluster, remote, logger),
        }?;
        beginning.peer_name = peer_name;
        Ok(beginning)
    }
}

/// The members in the DNS. Where the system's authorities vouch for them, whoever has a certificate for any host may put
/// it there; so theirs have to be for the domain.
fn by_srv(
    resolved: &Resolved,
    srv: &SrvDiscovery,
    logger: &Logger,
) -> Result<(Members, Option<String>), BootstrapError> {
    let cluster = discovery::cluster(srv, resolved, &Dns::system(), logger)?;
    resolved.verify(&cluster)?;
    let over_tls = cluster
        .values()
        .flatten()
        .any(|url| url.scheme() == Scheme::Https);
    let named = over_tls && resolved.tls.peer.trusts_the_system();
    Ok((cluster, named.then(|| srv.domain.clone())))
}

/// The members in a registry, once all are there.
fn by_service(
    resolved: &Resolved,
    service: &ServiceDiscovery,
    logger: &Logger,
) -> Result<BTreeMap<String, Vec<Url>>, StartError> {
    let advertised = &resolved.initial_advertise_peer_urls;
    let alone = BTreeMap::from([(resolved.name.clone(), advertised.clone())]);
    resolved.verify(&alone)?;
    if resolved.initial_cluster_state == ClusterState::Existing {
        return Err(BootstrapError::JoinsByDiscovery.into());
    }
    info!(logger, "Bootstrapping cluster using v3 discovery.");
    let own = ids::member_id(&texts(advertised), &resolved.initial_cluster_token, None);
    let entry = show_cluster(&alone);
    let joined = run_async(discovery::join(service, own, &entry, logger));
    let joined = joined.unwrap_or_else(|error| Err(DiscoveryError::Io(error.to_string())));
    let text = joined.map_err(|reason| BootstrapError::Discovery {
        token: service.token.clone(),
        endpoints: service.texts(),
        reason,
    })?;
    let cluster = parse_cluster(&text).map_err(BootstrapError::Url)?;
    let mut seen = BTreeSet::new();
    if !cluster.values().flatten().all(|url| seen.insert(url)) {
        return Err(BootstrapError::DiscoveredDuplicateUrl(show_cluster(&cluster)).into());
    }
    if cluster.get(&resolved.name).map(|urls| texts(urls)) != Some(texts(advertised)) {
        return Err(BootstrapError::DiscoveredNamesake {
            name: resolved.name.clone(),
            advertised: texts(advertised).join(","),
            cluster: show_cluster(&cluster),
        }
        .into());
    }
    Ok(cluster)
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
        peer_name: None,
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
        peer_name: None,
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
