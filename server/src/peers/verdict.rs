//! Whether a member may start in a cluster that runs already, and the sentence that says why not.
//!
//! The member that starts and the member it asked come to the same verdict by the same rules, so that both can say
//! it. Source: etcd `ValidateClusterAndAssignIDs` and `isMemberBootstrapped`; the rules about lost and foreign data
//! are ours, where etcd panics or founds another cluster.

use std::fmt::Write as _;

use retcd_raft_node::membership::Member;

use super::introduction::Introduction;
use super::remote::RemoteCluster;
use crate::config::{Url, same_urls};

/// What stands against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// `--initial-cluster` names more or fewer members than there are.
    Count,
    /// It does not name this one.
    Unmatched {
        id: u64,
        urls: Vec<String>,
        reason: String,
    },
    /// The member ran before, and comes without its data.
    DataLost { id: u64 },
    /// As `DataLost`, for a founding member that wants to found the cluster once more.
    Bootstrapped { id: u64 },
    /// The cluster runs and has the member under another id: it was added later, and wants to found a cluster.
    Founds { id: u64 },
    /// The member is expected, and comes with the data of another cluster.
    ForeignData { id: u64, data_of: u64 },
}

/// The id that the member has in the cluster; `None` when the cluster says nothing about it.
///
/// Resolves host names: not for a thread that serves.
///
/// # Errors
/// What stands against a start.
pub(crate) fn judge(who: &Introduction, cluster: &RemoteCluster) -> Result<Option<u64>, Obstacle> {
    match who.data_of {
        Some(id) if id == cluster.id => Ok(who.id),
        Some(data_of) => match known(who, cluster) {
            Some(member) => Err(Obstacle::ForeignData {
                id: member.id,
                data_of,
            }),
            None => Ok(None),
        },
        None if who.joins => join(who, cluster).map(Some),
        None => found(who, cluster).map(|()| None),
    }
}

fn join(who: &Introduction, cluster: &RemoteCluster) -> Result<u64, Obstacle> {
    if who.cluster.len() != cluster.members.len() {
        return Err(Obstacle::Count);
    }
    let mut own = None;
    for member in &cluster.members {
        let mut reason = String::new();
        let mut names = who.cluster.iter();
        let found = names.find(|(_, urls)| match same_urls(&member.peer_urls, urls) {
            Ok(()) => true,
            Err(difference) => {
                reason = difference;
                false
            }
        });
        match found {
            Some((name, _)) if *name == who.name => own = Some(member),
            Some(_) => {}
            None => {
                return Err(Obstacle::Unmatched {
                    id: member.id,
                    urls: member.peer_urls.clone(),
                    reason,
                });
            }
        }
    }
    match own {
        Some(own) if has_started(own) => Err(Obstacle::DataLost { id: own.id }),
        Some(own) => Ok(own.id),
        // Two entries of the list fit one member of the cluster.
        None => Err(Obstacle::Unmatched {
            id: 0,
            urls: who.peer_urls.clone(),
            reason: "no member of the cluster has these".to_owned(),
        }),
    }
}

fn found(who: &Introduction, cluster: &RemoteCluster) -> Result<(), Obstacle> {
    if let Some(own) = who.id.and_then(|id| cluster.member(id)) {
        let lost = !own.client_urls.is_empty();
        return match lost {
            true => Err(Obstacle::Bootstrapped { id: own.id }),
            false => Ok(()),
        };
    }
    match known(who, cluster) {
        Some(member) => Err(Obstacle::Founds { id: member.id }),
        None => Ok(()),
    }
}

/// The member of the cluster that has one of these peer URLs.
fn known<'a>(who: &Introduction, cluster: &'a RemoteCluster) -> Option<&'a Member> {
    let has = |member: &&Member| {
        member
            .peer_urls
            .iter()
            .any(|url| who.peer_urls.contains(url))
    };
    cluster.members.iter().find(has)
}

fn has_started(member: &Member) -> bool {
    !member.name.is_empty() || !member.client_urls.is_empty()
}

impl Obstacle {
    /// One sentence with the reason and the next command, for both sides.
    pub(crate) fn explain(&self, who: &Introduction, cluster: &RemoteCluster) -> String {
        let (name, urls) = (&who.name, who.peer_urls.join(","));
        let ctl = etcdctl(who, cluster);
        let list = initial_cluster(who, cluster);
        let start =
            format!("start it with --initial-cluster-state=existing and --initial-cluster={list}");
        let again = |id: u64| {
            format!(
                "run `{ctl} member remove {id:x}` and `{ctl} member add {name} --peer-urls={urls}`, then {start}, \
                 on an empty data directory"
            )
        };
        let cluster_id = cluster.id;
        match self {
            Self::Count | Self::Unmatched { .. } if known(who, cluster).is_none() => format!(
                "member {name:?} ({urls}) is not in cluster {cluster_id:x} yet; run `{ctl} member add {name} \
                 --peer-urls={urls}`, then {start}"
            ),
            Self::Count => format!(
                "member {name:?} names {} members in --initial-cluster, but cluster {cluster_id:x} has {}; {start}",
                who.cluster.len(),
                cluster.members.len()
            ),
            Self::Unmatched { id: 0, urls, .. } => format!(
                "no member of cluster {cluster_id:x} has the peer URLs {} that --initial-cluster gives member \
                 {name:?}; {start}",
                urls.join(",")
            ),
            Self::Unmatched { id, urls, .. } => format!(
                "--initial-cluster of member {name:?} does not name member {id:x} of cluster {cluster_id:x} with \
                 its peer URLs {}; {start}",
                urls.join(",")
            ),
            Self::DataLost { id } => format!(
                "member {id:x} ({name}, {urls}) has been part of cluster {cluster_id:x} before and comes without \
                 its data, so it could vote twice; start it with the --data-dir it had, or {}",
                again(*id)
            ),
            Self::Bootstrapped { id } => format!(
                "member {id:x} ({name}, {urls}) of cluster {cluster_id:x} comes without its data; start it with \
                 the --data-dir it had, or {}",
                again(*id)
            ),
            Self::Founds { id } => format!(
                "cluster {cluster_id:x} runs and knows {urls} as member {id:x}, so member {name:?} must not found \
                 a cluster with --initial-cluster-state=new; start it with the --data-dir it had, or {}",
                again(*id)
            ),
            Self::ForeignData { id, data_of } => format!(
                "member {name:?} ({urls}) comes with the data of cluster {data_of:x}, but its peers are cluster \
                 {cluster_id:x}, which expects it as member {id:x}; move its data directory away and {start}"
            ),
        }
    }
}

/// How to reach the cluster with the client's tool: by another member, since this one does not run.
fn etcdctl(who: &Introduction, cluster: &RemoteCluster) -> String {
    let own = |member: &Member| {
        let mut urls = member.peer_urls.iter();
        urls.any(|url| who.peer_urls.contains(url))
    };
    let others = cluster.members.iter().filter(|member| !own(member));
    let mut urls = others.flat_map(|member| &member.client_urls);
    match urls.next() {
        Some(url) => format!("etcdctl --endpoints={url}"),
        None => "etcdctl".to_owned(),
    }
}

/// What to give as `--initial-cluster`: the members there are, and this one.
fn initial_cluster(who: &Introduction, cluster: &RemoteCluster) -> String {
    let mut text = String::new();
    let mut add = |name: &str, urls: &[String]| {
        for url in urls {
            let comma = if text.is_empty() { "" } else { "," };
            let _ = write!(text, "{comma}{name}={url}");
        }
    };
    for member in &cluster.members {
        let own = member
            .peer_urls
            .iter()
            .any(|url| who.peer_urls.contains(url));
        let named = |urls: &[Url]| {
            urls.iter()
                .any(|url| member.peer_urls.iter().any(|u| u == url.as_str()))
        };
        let given = who.cluster.iter().find(|(_, urls)| named(urls));
        match (own, &member.name, given) {
            (true, ..) => {}
            (false, name, _) if !name.is_empty() => add(name, &member.peer_urls),
            (false, _, Some((name, _))) => add(name, &member.peer_urls),
            _ => add(&format!("member-{:x}", member.id), &member.peer_urls),
        }
    }
    add(&who.name, &who.peer_urls);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_cluster;

    fn member(id: u64, name: &str, url: &str) -> Member {
        let client_urls = match name {
            "" => Vec::new(),
            _ => vec![format!("{url}0")],
        };
        Member {
            id,
            name: name.into(),
            peer_urls: vec![url.into()],
            client_urls,
            ..Member::default()
        }
    }

    fn cluster(members: Vec<Member>) -> RemoteCluster {
        RemoteCluster::new(0xc1, members)
    }

    fn running() -> RemoteCluster {
        cluster(vec![
            member(1, "a", "http://127.0.0.1:1"),
            member(2, "b", "http://127.0.0.1:2"),
            member(3, "", "http://127.0.0.1:3"),
        ])
    }

    fn joiner(list: &str) -> Introduction {
        Introduction {
            name: "c".into(),
            peer_urls: vec!["http://127.0.0.1:3".into()],
            cluster: parse_cluster(list).unwrap(),
            id: None,
            joins: true,
            data_of: None,
        }
    }

    const LIST: &str = "a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3";

    fn sentence(who: &Introduction, cluster: &RemoteCluster) -> String {
        judge(who, cluster).unwrap_err().explain(who, cluster)
    }

    #[test]
    fn an_announced_member_takes_its_id_from_the_cluster() {
        assert_eq!(judge(&joiner(LIST), &running()), Ok(Some(3)));
    }

    #[test]
    fn who_is_not_announced_learns_how_to_be() {
        let cluster = cluster(vec![member(1, "a", "http://127.0.0.1:1")]);
        let who = joiner("a=http://127.0.0.1:1,c=http://127.0.0.1:3");
        assert_eq!(judge(&who, &cluster), Err(Obstacle::Count));
        assert_eq!(
            sentence(&who, &cluster),
            "member \"c\" (http://127.0.0.1:3) is not in cluster c1 yet; run `etcdctl \
             --endpoints=http://127.0.0.1:10 member add c --peer-urls=http://127.0.0.1:3`, then start it with \
             --initial-cluster-state=existing and --initial-cluster=a=http://127.0.0.1:1,c=http://127.0.0.1:3"
        );
    }

    #[test]
    fn a_list_that_differs_is_put_right() {
        let short = joiner("a=http://127.0.0.1:1,c=http://127.0.0.1:3");
        assert_eq!(judge(&short, &running()), Err(Obstacle::Count));
        assert!(sentence(&short, &running()).ends_with(LIST));

        let wrong = joiner("a=http://127.0.0.1:1,b=http://127.0.0.1:9,c=http://127.0.0.1:3");
        let Err(Obstacle::Unmatched { id: 2, .. }) = judge(&wrong, &running()) else {
            panic!("member 2 is not in the list");
        };
        assert!(sentence(&wrong, &running()).ends_with(LIST));
    }

    #[test]
    fn lost_data_is_not_replaced_by_an_empty_log() {
        let mut running = running();
        running.members[2] = member(3, "c", "http://127.0.0.1:3");
        let who = joiner(LIST);
        assert_eq!(judge(&who, &running), Err(Obstacle::DataLost { id: 3 }));
        let text = sentence(&who, &running);
        assert!(
            text.contains("member remove 3`") && text.ends_with("on an empty data directory"),
            "{text}"
        );
        // Whichever comes first in the list, the one that does not run is not asked.
        running.members.reverse();
        let text = sentence(&who, &running);
        let asked = "`etcdctl --endpoints=http://127.0.0.1:20 member remove 3`";
        assert!(text.contains(asked), "{text}");
        running.members.reverse();

        // It wants to found the cluster again: as one of its founders, and as one that was added later.
        let founder = Introduction {
            joins: false,
            id: Some(3),
            ..who
        };
        assert_eq!(
            judge(&founder, &running),
            Err(Obstacle::Bootstrapped { id: 3 })
        );
        let added = Introduction {
            id: Some(4),
            ..founder.clone()
        };
        assert_eq!(judge(&added, &running), Err(Obstacle::Founds { id: 3 }));
        // A founder whom the others know and have not seen yet.
        running.members[2] = member(3, "c", "http://127.0.0.1:3");
        running.members[2].client_urls.clear();
        assert_eq!(judge(&founder, &running), Ok(None));
    }

    #[test]
    fn foreign_data_is_refused_where_the_member_is_expected() {
        let mut who = joiner(LIST);
        who.data_of = Some(0xc2);
        let expected = Obstacle::ForeignData {
            id: 3,
            data_of: 0xc2,
        };
        assert_eq!(judge(&who, &running()), Err(expected));
        // Somebody else's cluster is no business of this one.
        who.peer_urls = vec!["http://127.0.0.1:7".into()];
        assert_eq!(judge(&who, &running()), Ok(None));
        who.data_of = Some(0xc1);
        who.id = Some(3);
        assert_eq!(judge(&who, &running()), Ok(Some(3)));
    }
}
