//! The list of members: `--name`, `--initial-cluster`, and what this member advertises to the others.

use std::collections::BTreeMap;

use super::Plan;
use super::finding::Findings;
use crate::config::{BootstrapError, ClusterState, Url, check_cluster};
use crate::near::nearest;

/// More members than this cost more than they bring.
const MOST: usize = 7;

pub(super) fn check(plan: &Plan, findings: &mut Findings) {
    let resolved = &plan.resolved;
    if !resolved.strict_reconfig_check {
        findings.warning(
            "reconfig-check",
            "--strict-reconfig-check=false lets a change of the members cost the quorum",
            "leave the flag out",
        );
    }
    if !plan.is_first_start() {
        findings.note(
            "initial-flags-ignored",
            format!(
                "{} holds the data of a member, so --initial-cluster, --initial-cluster-state, --initial-cluster-token and \
                 --initial-advertise-peer-urls do not count any more",
                resolved.data_dir.display()
            ),
            "change the members of a running cluster with `etcdctl member add`, `update` and `remove`",
        );
        return;
    }
    let Some(cluster) = &plan.cluster else {
        // Of discovery, others tell.
        if resolved.discovery.is_none() {
            unreadable(&resolved.initial_cluster, findings);
        }
        return;
    };
    if resolved.discovery.is_none() {
        repeated(&resolved.initial_cluster, cluster, findings);
        own_entry(plan, cluster, findings);
    }
    number(cluster.len(), resolved.initial_cluster_state, findings);
    schemes(cluster, findings);
}

fn unreadable(list: &str, findings: &mut Findings) {
    let mut parts = list.split(',').filter(|part| !part.is_empty());
    let bad = parts.find_map(|part| {
        let (_, url) = part.split_once('=').unwrap_or((part, ""));
        let error = url.parse::<Url>().err()?;
        Some((part, error))
    });
    let what = match bad {
        Some((part, error)) => format!("--initial-cluster: {part:?} is no member: {error}"),
        None => format!("--initial-cluster={list:?} cannot be read"),
    };
    let form = "write name=URL for each peer URL, separated by commas without blanks: a=http://10.0.0.1:2380,b=http://10.0.0.2:2380";
    findings.error("cluster-list", what, form);
}

/// URLs that two members have, and names that come twice with different hosts.
fn repeated(list: &str, cluster: &BTreeMap<String, Vec<Url>>, findings: &mut Findings) {
    let mut owners: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, urls) in cluster {
        for url in urls {
            owners.entry(url.as_str()).or_default().push(name);
        }
    }
    for (url, names) in owners.into_iter().filter(|(_, names)| names.len() > 1) {
        findings.error(
            "cluster-list",
            format!("--initial-cluster gives {url} to {}", names.join(" and ")),
            "give each member its own peer URL: this is what a copied line looks like",
        );
    }
    for (name, urls) in cluster.iter().filter(|(_, urls)| urls.len() > 1) {
        let hosts = urls.iter().filter_map(|url| url.host_port());
        let mut hosts: Vec<&str> = hosts.map(|(host, _)| host).collect();
        hosts.sort_unstable();
        hosts.dedup();
        if hosts.len() > 1 {
            findings.warning(
                "cluster-list",
                format!(
                    "--initial-cluster has {name:?} with the hosts {}, which makes them one member",
                    hosts.join(", ")
                ),
                "if these are several members, give each a name of its own",
            );
        }
    }
    if list.contains(' ') {
        findings.warning(
            "cluster-list",
            format!("--initial-cluster={list:?} has blanks in it, which become part of names"),
            "take the blanks out",
        );
    }
}

/// Whether the list has this member, as it advertises itself.
fn own_entry(plan: &Plan, cluster: &BTreeMap<String, Vec<Url>>, findings: &mut Findings) {
    let resolved = &plan.resolved;
    let existing = resolved.initial_cluster_state == ClusterState::Existing;
    // A member that joins takes its URLs from the list; that they differ does no harm at first.
    let advertised = Some(resolved.initial_advertise_peer_urls.as_slice());
    match check_cluster(&resolved.name, advertised, cluster) {
        Err(BootstrapError::NoLocalName(name)) => {
            let names: Vec<&str> = cluster.keys().map(String::as_str).collect();
            let meant = nearest(&name, names.iter().copied());
            let meant = meant.map_or(String::new(), |meant| format!(" (is {meant:?} meant?)"));
            findings.error(
                "name-missing",
                format!(
                    "--name={name:?} is not in --initial-cluster, which has {}{meant}",
                    names.join(", ")
                ),
                format!("set --name to one of them, or add {name}=<its peer URL> to --initial-cluster on every member"),
            );
        }
        Err(BootstrapError::DuplicateUrl(_)) | Ok(()) => {}
        Err(error) => {
            let fix = "make --initial-advertise-peer-urls and the entry of this member in --initial-cluster the same, letter by letter";
            match existing {
                true => findings.warning("peer-url-mismatch", error, fix),
                false => findings.error("peer-url-mismatch", error, fix),
            }
        }
    }
}

fn number(members: usize, state: ClusterState, findings: &mut Findings) {
    let tolerated = members.saturating_sub(1) / 2;
    if members > 1 && members.is_multiple_of(2) {
        let fix = match state {
            ClusterState::New => "take one member more or one less",
            ClusterState::Existing => "add one more member when this one runs, or remove one",
        };
        findings.warning(
            "even-members",
            format!(
                "{members} members bear the loss of {tolerated}, as {} do",
                members - 1
            ),
            fix,
        );
    }
    if members > MOST {
        findings.warning(
            "even-members",
            format!(
                "{members} members: each write waits for {} of them",
                members / 2 + 1
            ),
            "five bear the loss of two, and seven of three: more are slower and rarely safer",
        );
    }
}

fn schemes(cluster: &BTreeMap<String, Vec<Url>>, findings: &mut Findings) {
    let with = |secure: bool| {
        let has = |urls: &Vec<Url>| urls.iter().any(|url| url.scheme().is_secure() == secure);
        let names = cluster.iter().filter(|(_, urls)| has(urls));
        names
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (plain, secure) = (with(false), with(true));
    if !plain.is_empty() && !secure.is_empty() {
        findings.warning(
            "tls-mixed",
            format!("--initial-cluster has http peer URLs of {plain} and https ones of {secure}"),
            "give all members https URLs; to get there in a running cluster, one member after the other: `etcdctl member update <id> \
             --peer-urls=https://...`, then start it again with https URLs",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{found, plan};
    use super::*;

    const THREE: &str =
        "etcd1=http://10.0.0.1:2380,etcd2=http://10.0.0.2:2380,etcd3=http://10.0.0.3:2380";

    fn checks(name: &str, advertised: &str, list: &str) -> Findings {
        let plan = plan(|config| {
            config.name = name.into();
            config.initial_advertise_peer_urls = Some(vec![advertised.parse().expect("a URL")]);
            config.initial_cluster = Some(list.into());
        });
        found(|findings| check(&plan, findings))
    }

    #[test]
    fn a_sound_list_draws_nothing() {
        assert!(
            checks("etcd2", "http://10.0.0.2:2380", THREE)
                .checks()
                .is_empty()
        );
    }

    #[test]
    fn a_missing_name_comes_with_the_nearest() {
        let found = checks("etcd4", "http://10.0.0.2:2380", THREE);
        let found = found.only("name-missing");
        assert!(found.what.contains("is \"etcd1\" meant?"), "{}", found.what);
    }

    #[test]
    fn a_registry_has_the_list() {
        let mut plan = plan(|config| {
            config.discovery.token = "t".into();
            config.discovery.endpoints = vec!["127.0.0.1:2379".into()];
        });
        plan.cluster = None;
        let found = found(|findings| check(&plan, findings));
        assert!(found.checks().is_empty(), "{found:?}");
    }

    #[test]
    fn copied_lines_are_found() {
        let list = "a=http://10.0.0.1:2380,b=http://10.0.0.1:2380,c=http://10.0.0.3:2380";
        let found = checks("a", "http://10.0.0.1:2380", list);
        assert_eq!(found.checks(), ["cluster-list"]);
        assert!(found.only("cluster-list").what.contains("to a and b"));
        let list = "a=http://10.0.0.1:2380,a=http://10.0.0.2:2380,c=http://10.0.0.3:2380";
        let found = checks("c", "http://10.0.0.3:2380", list);
        assert!(found.checks().contains(&"cluster-list"));
    }

    #[test]
    fn other_urls_than_the_advertised_ones_are_found() {
        let found = checks("etcd2", "http://10.0.0.9:2380", THREE);
        assert_eq!(found.checks(), ["peer-url-mismatch"]);
    }

    #[test]
    fn even_numbers_and_mixed_schemes_are_found() {
        let list = "a=http://10.0.0.1:2380,b=https://10.0.0.2:2380";
        let found = checks("a", "http://10.0.0.1:2380", list);
        assert_eq!(found.checks(), ["even-members", "tls-mixed"]);
        assert!(
            found
                .only("even-members")
                .what
                .contains("2 members bear the loss of 0, as 1 do")
        );
    }

    #[test]
    fn a_list_that_is_none_is_explained() {
        let found = checks("a", "http://10.0.0.1:2380", "a=10.0.0.1:2380");
        assert_eq!(found.checks(), ["cluster-list"]);
        assert!(
            found
                .only("cluster-list")
                .what
                .contains("\"a=10.0.0.1:2380\" is no member")
        );
    }
}
