//! The peer URLs that a running cluster has for its members.

use std::net::IpAddr;

use super::Plan;
use super::finding::Findings;
use super::urls::join;
use crate::config::Url;
use crate::peers::RemoteCluster;

/// `is_own`: whether an address is one of this machine.
pub(super) fn check(
    plan: &Plan,
    cluster: &RemoteCluster,
    is_own: &dyn Fn(IpAddr) -> bool,
    findings: &mut Findings,
) {
    shared(cluster, findings);
    let ids = plan.data.ids.filter(|(_, id)| *id == cluster.id);
    let own = ids.and_then(|(member, _)| cluster.member(member));
    let Some(own) = own else {
        return;
    };
    let resolved = &plan.resolved;
    for url in own
        .peer_urls
        .iter()
        .filter_map(|url| url.parse::<Url>().ok())
    {
        let why = match url.host_port() {
            Some((host, port)) => {
                let listens = resolved.listen_peer_urls.iter().any(|listened| {
                    listened.scheme() == url.scheme()
                        && listened
                            .host_port()
                            .is_some_and(|(_, own)| own == port || own == "0")
                });
                match host.parse::<IpAddr>() {
                    _ if !listens => Some(format!(
                        "it listens on {}",
                        join(&resolved.listen_peer_urls)
                    )),
                    Ok(ip) if !is_own(ip) => Some(format!("{ip} is no address of this machine")),
                    _ => None,
                }
            }
            None => (!resolved.listen_peer_urls.contains(&url))
                .then(|| format!("it listens on {}", join(&resolved.listen_peer_urls))),
        };
        if let Some(why) = why {
            findings.warning(
                "peer-url-registered",
                format!("the other members dial {url} for this one, and {why}"),
                format!(
                    "`etcdctl member update {:x} --peer-urls={}`, unless something forwards the one to the other",
                    own.id,
                    join(&resolved.initial_advertise_peer_urls)
                ),
            );
        }
    }
}

/// One URL of two members: only one of them is reached.
fn shared(cluster: &RemoteCluster, findings: &mut Findings) {
    for (number, one) in cluster.members.iter().enumerate() {
        for other in &cluster.members[number + 1..] {
            let both = one
                .peer_urls
                .iter()
                .filter(|url| other.peer_urls.contains(url));
            for url in both {
                findings.error(
                    "peer-url-registered",
                    format!("the cluster has {url} for two members, {:x} and {:x}", one.id, other.id),
                    format!(
                        "give the one that is not there its own URL: `etcdctl member update <id> --peer-urls=<its URL>`, with {:x} or {:x}",
                        one.id, other.id
                    ),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use retcd_raft_node::membership::Member;

    use super::super::tests::{found, plan, urls};
    use super::*;

    fn checks(members: &[(u64, &str)]) -> Vec<&'static str> {
        let mut plan = plan(|config| {
            config.listen_peer_urls = urls("http://0.0.0.0:2380");
            config.initial_advertise_peer_urls = Some(urls("http://10.0.0.2:2380"));
        });
        plan.data.ids = Some((2, 7));
        plan.data.has_log = true;
        let members = members.iter().map(|(id, url)| Member {
            id: *id,
            peer_urls: vec![(*url).to_owned()],
            ..Member::default()
        });
        let cluster = RemoteCluster::new(7, members.collect());
        let own = |ip: IpAddr| ip.to_string() == "10.0.0.2";
        found(|findings| check(&plan, &cluster, &own, findings)).checks()
    }

    #[test]
    fn a_url_that_is_listened_on_draws_nothing() {
        assert!(checks(&[(1, "http://10.0.0.1:2380"), (2, "http://10.0.0.2:2380")]).is_empty());
        // A name, whatever it stands for.
        assert!(checks(&[(1, "http://10.0.0.1:2380"), (2, "http://m2:2380")]).is_empty());
    }

    /// Of a tutorial, both: an address without a digit, and that of another member.
    #[test]
    fn slips_of_member_update_are_found() {
        let check = "peer-url-registered";
        assert_eq!(checks(&[(2, "http://10.0.0.22:2380")]), [check]);
        assert_eq!(checks(&[(2, "https://10.0.0.2:2380")]), [check]);
        assert_eq!(checks(&[(2, "http://10.0.0.2:2381")]), [check]);
        let copied = [(1, "http://10.0.0.2:2380"), (2, "http://10.0.0.2:2380")];
        assert_eq!(checks(&copied), [check]);
    }
}
