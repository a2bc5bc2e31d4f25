//! The cluster that a restored member founds.

use retcd_raft_node::ids;
use retcd_raft_node::membership::{Cluster, DEFAULT_MAX_LEARNERS, Member};

use super::restore::{RestoreError, RestoreOptions};
use crate::config::{Url, UrlError, check_cluster, parse_cluster};

/// The cluster, and which of its members is restored.
#[derive(Debug)]
pub(super) struct Founding {
    pub(super) cluster: Cluster,
    pub(super) own: u64,
}

impl Founding {
    /// Checks the flags of a first start as a member does.
    pub(super) fn new(options: &RestoreOptions) -> Result<Self, RestoreError> {
        let mut advertised = options
            .initial_advertise_peer_urls
            .split(',')
            .map(str::parse)
            .collect::<Result<Vec<Url>, UrlError>>()?;
        advertised.sort();
        let cluster = parse_cluster(&options.initial_cluster)?;
        check_cluster(&options.name, Some(&advertised), &cluster)?;
        let members: Vec<Member> = cluster
            .into_iter()
            .map(|(name, urls)| {
                let peer_urls: Vec<String> =
                    urls.iter().map(|url| url.as_str().to_owned()).collect();
                Member {
                    id: ids::member_id(&peer_urls, &options.initial_cluster_token, None),
                    peer_urls,
                    name,
                    ..Member::default()
                }
            })
            .collect();
        let own = members
            .iter()
            .find(|member| member.name == options.name)
            .map(|member| member.id)
            .ok_or_else(|| RestoreError::Id(options.name.clone()))?;
        let count = members.len();
        let cluster = Cluster::from_initial(members, DEFAULT_MAX_LEARNERS);
        // Different URLs have different ids, save for a collision of hashes; 0 stands for nobody.
        if cluster.members().len() != count || cluster.member(0).is_some() {
            return Err(RestoreError::Id(options.name.clone()));
        }
        Ok(Self { cluster, own })
    }
}
