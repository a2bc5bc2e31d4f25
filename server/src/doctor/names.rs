//! Names of hosts in the list of members: what they stand for on this machine.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::Plan;
use super::finding::Findings;
use crate::config::Url;

/// For each name.
const PATIENCE: Duration = Duration::from_secs(3);

/// A peer URL and what its host stands for.
#[derive(Debug)]
pub(super) struct Found {
    member: String,
    url: Url,
    addresses: Vec<SocketAddr>,
}

/// Looks up all hosts of the list that are names. Of those that stand for nothing, whoever asks the members tells.
pub(super) async fn look_up(plan: &Plan) -> Vec<Found> {
    let named = |url: &&Url| {
        url.host_port()
            .is_some_and(|(host, _)| host != "localhost" && host.parse::<IpAddr>().is_err())
    };
    let urls = plan.cluster.iter().flatten();
    let urls = urls.flat_map(|(member, urls)| urls.iter().map(move |url| (member, url)));
    let looked = urls
        .filter(|(_, url)| named(url))
        .map(|(member, url)| async move {
            let addresses = timeout(PATIENCE, tokio::net::lookup_host(url.authority())).await;
            let mut addresses: Vec<_> = addresses.ok()?.ok()?.collect();
            addresses.sort_unstable();
            addresses.dedup();
            Some(Found {
                member: member.clone(),
                url: url.clone(),
                addresses,
            })
        });
    join_all(looked.collect::<Vec<_>>())
        .await
        .into_iter()
        .flatten()
        .collect()
}

/// `is_own`: whether an address is one of this machine.
pub(super) fn judge(
    plan: &Plan,
    found: &[Found],
    is_own: &dyn Fn(IpAddr) -> bool,
    findings: &mut Findings,
) {
    if !plan.is_first_start() {
        return; // the list does not count any more
    }
    for (number, one) in found.iter().enumerate() {
        let same = |other: &&Found| {
            other.member != one.member && other.addresses.iter().any(|a| one.addresses.contains(a))
        };
        for other in found[number + 1..].iter().filter(same) {
            findings.error(
                "cluster-list",
                format!(
                    "{} of {} and {} of {} stand for the same address, {}",
                    one.url,
                    one.member,
                    other.url,
                    other.member,
                    addresses(&one.addresses)
                ),
                "give each member an address of its own: look into DNS and /etc/hosts for a copied line",
            );
        }
        let own = one.member == plan.resolved.name;
        if own && !one.addresses.iter().any(|address| is_own(address.ip())) {
            findings.warning(
                "advertise-not-local",
                format!(
                    "{} of this member stands for {}, which is no address of this machine",
                    one.url,
                    addresses(&one.addresses)
                ),
                "put the name right in DNS or /etc/hosts, unless another machine forwards to this one: a copied line looks like this",
            );
        }
    }
}

fn addresses(all: &[SocketAddr]) -> String {
    let all: Vec<_> = all.iter().map(ToString::to_string).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{found, plan};
    use super::*;

    fn named(member: &str, address: &str) -> Found {
        Found {
            member: member.into(),
            url: format!("http://{member}.example.com:2380")
                .parse()
                .expect("a URL"),
            addresses: vec![address.parse().expect("an address")],
        }
    }

    /// A tutorial's own: /etc/hosts gives the fourth machine the name of the first.
    #[test]
    fn names_that_lead_to_the_wrong_machine_are_found() {
        let plan = plan(|config| config.name = "m4".into());
        let own = |ip: IpAddr| ip.to_string() == "10.0.0.4";
        let checks = |all: &[Found]| found(|findings| judge(&plan, all, &own, findings)).checks();
        let sound = [named("m1", "10.0.0.1:2380"), named("m4", "10.0.0.4:2380")];
        assert!(checks(&sound).is_empty());
        let copied = [named("m1", "10.0.0.4:2380"), named("m4", "10.0.0.4:2380")];
        assert_eq!(checks(&copied), ["cluster-list"]);
        let elsewhere = [named("m1", "10.0.0.1:2380"), named("m4", "10.0.0.9:2380")];
        assert_eq!(checks(&elsewhere), ["advertise-not-local"]);
    }
}
