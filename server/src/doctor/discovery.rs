//! Discovery: what the DNS says of the members, and whether the registry can be reached.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::finding::Findings;
use super::peers::{Trouble, reach_host, reach_socket};
use super::{Plan, silent};
use crate::config::{
    ClusterState, Discovery, Endpoint, EndpointAddress, Resolved, SrvDiscovery, Url,
};
use crate::discovery::{Dns, cluster};

/// The members of a new cluster, if they are in the DNS.
pub(super) fn list(
    resolved: &Resolved,
    offline: bool,
    findings: &mut Findings,
) -> Option<BTreeMap<String, Vec<Url>>> {
    match &resolved.discovery {
        Some(Discovery::Srv(srv)) if offline => {
            findings.skipped(format!(
                "the members in the DNS of {}: not asked, as wished",
                srv.domain
            ));
            None
        }
        Some(Discovery::Srv(srv)) => from_dns(srv, resolved, findings),
        Some(Discovery::Service(_)) => {
            if resolved.initial_cluster_state == ClusterState::Existing {
                findings.error(
                    "cluster-state",
                    "--initial-cluster-state=existing does not go with --discovery-token: a registry is for the first members of a cluster",
                    "name the members with --initial-cluster, as `etcdctl member add` prints it",
                );
            }
            None
        }
        None => None,
    }
}

fn from_dns(
    srv: &SrvDiscovery,
    resolved: &Resolved,
    findings: &mut Findings,
) -> Option<BTreeMap<String, Vec<Url>>> {
    match cluster(srv, resolved, &Dns::system(), &silent()) {
        Ok(cluster) => Some(cluster),
        Err(error) => {
            let fix = error.advice().unwrap_or_else(|| {
                "put the records right; docs/discovery.md shows what they look like".to_owned()
            });
            let what = format!("--discovery-srv={}: {error}", srv.domain);
            findings.error("discovery", what, fix);
            None
        }
    }
}

/// The endpoints of the registry that do not answer, and how many there are.
#[derive(Debug, Default)]
pub(super) struct Registry {
    silent: Vec<(String, Trouble)>,
    all: usize,
}

/// Connects to each, and asks nothing: a question would take a place in the registry.
pub(super) async fn ask(plan: &Plan) -> Registry {
    let Some(Discovery::Service(service)) = &plan.resolved.discovery else {
        return Registry::default();
    };
    if !plan.is_first_start() {
        return Registry::default();
    }
    let asked = service.endpoints.iter().map(|endpoint| async move {
        let trouble = reach(endpoint).await.err()?;
        Some((endpoint.text.clone(), trouble))
    });
    Registry {
        silent: join_all(asked).await.into_iter().flatten().collect(),
        all: service.endpoints.len(),
    }
}

async fn reach(endpoint: &Endpoint) -> Result<(), Trouble> {
    match &endpoint.address {
        EndpointAddress::Tcp(host, port) => {
            let authority = match host.contains(':') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            };
            reach_host(&authority).await
        }
        EndpointAddress::Socket(path) => reach_socket(path).await,
    }
}

pub(super) fn judge(registry: &Registry, findings: &mut Findings) {
    for (endpoint, trouble) in &registry.silent {
        let reason = match trouble {
            Trouble::Name(reason) | Trouble::Connection(reason) => reason.as_str(),
            _ => "it does not answer",
        };
        let what = format!("--discovery-endpoints: {endpoint} does not answer: {reason}");
        match registry.silent.len() == registry.all {
            true => findings.error(
                "discovery",
                what,
                "start the etcd that keeps the registry, or name its client URLs (port 2379): a new member waits for it",
            ),
            false => findings.warning(
                "discovery",
                what,
                "take it out of the list if it is gone; the others are asked in turn",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{found, plan};
    use super::*;
    use crate::server::run_async;

    fn registered(endpoints: &[String]) -> Plan {
        plan(|config| {
            config.discovery.token = "t".into();
            config.discovery.endpoints = endpoints.to_vec();
        })
    }

    #[test]
    fn a_registry_that_answers_draws_nothing_and_a_silent_one_does() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let there = listener.local_addr().expect("bound").to_string();
        let ask = |endpoints: &[String]| {
            let plan = registered(endpoints);
            let registry = run_async(ask(&plan)).expect("a runtime");
            found(|findings| judge(&registry, findings))
        };
        assert!(ask(std::slice::from_ref(&there)).checks().is_empty());
        // A port that nothing uses, and no system gives away.
        let nobody = "127.0.0.1:1".to_owned();
        let both = ask(&[there, nobody.clone()]).into_report();
        assert_eq!(both.count(super::super::Severity::Warning), 1, "{both:?}");
        let none = ask(&[nobody]).into_report();
        assert_eq!(none.count(super::super::Severity::Error), 1, "{none:?}");
    }

    #[test]
    fn nobody_joins_by_a_registry() {
        let mut plan = registered(&["127.0.0.1:1".to_owned()]);
        plan.resolved.initial_cluster_state = ClusterState::Existing;
        let found = found(|findings| assert!(list(&plan.resolved, false, findings).is_none()));
        assert_eq!(found.checks(), ["cluster-state"]);
    }
}
