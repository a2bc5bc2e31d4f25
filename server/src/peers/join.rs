//! The first start of a member beside others: who it is, and whether it may.
//!
//! Source: peer-protocol 15; etcd `server/etcdserver/bootstrap.go`, `cluster_util.go`.

use std::time::Duration;

use futures_util::future::join_all;
use retcd_raft_node::Start;
use retcd_raft_node::membership::Member;
use slog::{Logger, info, warn};

use super::introduction::Introduction;
use super::remote::{NoCluster, Remote, RemoteCluster, Versions};
use super::verdict::{Obstacle, judge};
use crate::schema::{self, Version};

/// How long a member is asked who belongs to the cluster; etcd's value.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The same when an answer is welcome and none is needed; etcd's value.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a member cannot start in a cluster that runs already. The first words are etcd's, where etcd has any;
/// [`JoinError::advice`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Nobody told who belongs to the cluster.
    #[error("cannot fetch cluster info from peer urls: {reason}")]
    NoCluster {
        /// In etcd's words.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// The cluster is not the one that the member expects.
    #[error("error validating peerURLs {cluster}: {reason}")]
    Invalid {
        /// The cluster, as etcd prints it.
        cluster: String,
        /// In etcd's words.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// A founding member that ran before comes without its data.
    #[error("member {id:x} has already been bootstrapped")]
    Bootstrapped {
        /// The member.
        id: u64,
        /// What to do.
        advice: String,
    },
    /// A cluster would get a second member in the place of one it has, or come into being beside it.
    #[error("{0}")]
    Refused(String),
    /// The cluster's version does not fit this release.
    #[error("incompatible with current running cluster")]
    Incompatible,
    /// The cluster has more learners than this member allows.
    #[error("membership: too many learner members in cluster")]
    TooManyLearners,
    /// The questions could not be asked.
    #[error("cannot ask the other members: {0}")]
    Io(String),
}

impl JoinError {
    /// What to do, in one sentence.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::NoCluster { advice, .. }
            | Self::Invalid { advice, .. }
            | Self::Bootstrapped { advice, .. } => Some(advice.clone()),
            Self::Incompatible => Some(format!(
                "no member of the cluster was found whose cluster version lets a member of {} join; see the lines \
                 above for each member, and bring the cluster to this release or the one before first",
                schema::OWN
            )),
            Self::TooManyLearners => Some(
                "the cluster has more learners than --max-learners of this member allows: give it the value that \
                 the other members have"
                    .to_owned(),
            ),
            Self::Refused(_) | Self::Io(_) => None,
        }
    }

    fn of(obstacle: Obstacle, who: &Introduction, cluster: &RemoteCluster) -> Self {
        let advice = obstacle.explain(who, cluster);
        let invalid = |reason| Self::Invalid {
            cluster: shown(cluster),
            reason,
            advice: advice.clone(),
        };
        match obstacle {
            Obstacle::Count => invalid("member count is unequal".to_owned()),
            Obstacle::Unmatched { id, urls, reason } => invalid(format!(
                "PeerURLs: no match found for existing member ({id:x}, [{}]), last resolver error ({reason})",
                urls.join(" ")
            )),
            Obstacle::Bootstrapped { id } => Self::Bootstrapped { id, advice },
            Obstacle::DataLost { .. } | Obstacle::Founds { .. } | Obstacle::ForeignData { .. } => {
                Self::Refused(advice)
            }
        }
    }
}

/// A member that looks for its cluster.
pub(crate) struct Seeker<'a> {
    pub(crate) who: &'a Introduction,
    pub(crate) remote: &'a Remote,
    pub(crate) logger: &'a Logger,
}

impl Seeker<'_> {
    /// The peer URLs of the others, in order.
    fn urls(&self) -> Vec<String> {
        let others = self
            .who
            .cluster
            .iter()
            .filter(|(name, _)| **name != self.who.name);
        let mut urls: Vec<String> = others
            .flat_map(|(_, urls)| urls.iter().map(ToString::to_string))
            .collect();
        urls.sort();
        urls
    }

    /// Joins a cluster: its members, one of which is this one, and how to start.
    ///
    /// # Errors
    /// The cluster cannot be asked, does not know this member as it is, or is of another release.
    pub(crate) async fn join(
        &self,
        max_learners: usize,
        request_timeout: Duration,
    ) -> Result<(Start, Vec<Member>), JoinError> {
        let (cluster, own) = self.admitted(&self.urls()).await?;
        let others: Vec<&Member> = cluster.members.iter().filter(|m| m.id != own).collect();
        if !self.is_compatible(&others, request_timeout).await {
            return Err(JoinError::Incompatible);
        }
        if cluster.members.iter().filter(|m| m.is_learner).count() > max_learners {
            return Err(JoinError::TooManyLearners);
        }
        let voters = others.iter().filter(|m| !m.is_learner).map(|m| m.id);
        info!(self.logger, "starting local member";
            "local-member-id" => format!("{own:x}"), "cluster-id" => format!("{:x}", cluster.id));
        let start = Start::Join {
            cluster_id: cluster.id,
            member_id: own,
            voters: voters.collect(),
        };
        Ok((start, cluster.members))
    }

    /// The cluster as the first of the peers tells it that knows this member as it is, and its id there.
    ///
    /// A peer that does not may only be behind: who announces a member and starts it at once is faster than a follower
    /// that has still to apply it. etcd gives up with the first answer.
    async fn admitted(&self, urls: &[String]) -> Result<(RemoteCluster, u64), JoinError> {
        let mut refused = None;
        let mut unreachable = Vec::new();
        for url in urls {
            let url = std::slice::from_ref(url);
            let told = self.remote.cluster(url, self.who, JOIN_TIMEOUT, true).await;
            let cluster = match told {
                Ok(cluster) => cluster,
                Err(NoCluster::Unreachable { reasons }) => {
                    unreachable.extend(reasons);
                    continue;
                }
                Err(error @ NoCluster::Empty) => {
                    refused.get_or_insert_with(|| self.nobody(&error, None));
                    continue;
                }
            };
            match judge(self.who, &cluster) {
                Ok(own) => return Ok((cluster, own.unwrap_or_default())),
                Err(obstacle) => {
                    let passes = matches!(obstacle, Obstacle::Count | Obstacle::Unmatched { .. });
                    let error = JoinError::of(obstacle, self.who, &cluster);
                    if !passes {
                        return Err(error);
                    }
                    refused.get_or_insert(error);
                }
            }
        }
        if let Some(error) = refused {
            return Err(error);
        }
        // Of a certificate that they refuse, its peers say nothing but that they hang up.
        let misfit = self.remote.misfit(&self.who.peer_urls).await;
        let reasons = unreachable;
        Err(self.nobody(&NoCluster::Unreachable { reasons }, misfit))
    }

    fn nobody(&self, error: &NoCluster, misfit: Option<String>) -> JoinError {
        let advice = match error {
            NoCluster::Unreachable { .. } if misfit.is_some() => misfit.unwrap_or_default(),
            NoCluster::Unreachable { reasons } if reasons.is_empty() => {
                "--initial-cluster names no other member: to join a cluster, name all its members and this one".into()
            }
            NoCluster::Unreachable { reasons } => {
                let reasons: Vec<String> = reasons.iter().map(|(_, why)| why.clone()).collect();
                format!(
                    "none of the peers in --initial-cluster told who belongs to the cluster: {}; start one of them, \
                     or name peer URLs that reach them",
                    reasons.join("; ")
                )
            }
            NoCluster::Empty => "the peer that answered does not know its cluster yet; start this member again once \
                 the cluster has a leader"
                .into(),
        };
        JoinError::NoCluster {
            reason: error.to_string(),
            advice,
        }
    }

    /// At least one of the others tells a version of the cluster that this release can join, and none tells another.
    async fn is_compatible(&self, others: &[&Member], deadline: Duration) -> bool {
        let versions = join_all(others.iter().map(|m| self.remote.versions(m, deadline)));
        let versions: Vec<Option<Versions>> = versions.await;
        let mut downgrade = false;
        for member in others {
            // The first answer counts: it is a linearizable one.
            if let Some(enabled) = self.remote.downgrades(member, deadline).await {
                downgrade = enabled;
                break;
            }
            warn!(self.logger, "failed to get downgrade enabled status";
                "remote-member-id" => format!("{:x}", member.id));
        }
        let (lowest, highest) = schema::joinable(downgrade);
        let mut fits = false;
        for (member, versions) in others.iter().zip(&versions) {
            let Some(versions) = versions else {
                continue;
            };
            let id = format!("{:x}", member.id);
            let Some(version) = Version::parse(&versions.cluster) else {
                warn!(self.logger, "failed to parse cluster version of remote member";
                    "remote-member-id" => id, "remote-member-cluster-version" => &versions.cluster);
                continue;
            };
            if version < lowest {
                warn!(self.logger, "cluster version of remote member is not compatible; too low";
                    "remote-member-id" => id,
                    "remote-member-cluster-version" => version.to_string(),
                    "minimum-cluster-version-supported" => lowest.to_string());
                return false;
            }
            if version > highest {
                warn!(self.logger, "cluster version of remote member is not compatible; too high";
                    "remote-member-id" => id,
                    "remote-member-cluster-version" => version.to_string(),
                    "maximum-cluster-version-supported" => highest.to_string());
                return false;
            }
            fits = true;
        }
        fits
    }

    /// Looks whether the others run already, before this member founds a cluster with them or goes on with its data.
    ///
    /// # Errors
    /// They do, and this member must not.
    pub(crate) async fn look(&self) -> Result<(), JoinError> {
        let urls = self.urls();
        if urls.is_empty() {
            return Ok(());
        }
        // All at once: a member that starts again must not wait for those that are gone one after the other.
        let asked = urls.iter().map(|url| {
            let url = std::slice::from_ref(url);
            self.remote.cluster(url, self.who, LOOK_TIMEOUT, false)
        });
        let asked = async { join_all(asked.collect::<Vec<_>>()).await };
        for cluster in asked.await.into_iter().flatten() {
            if let Err(obstacle) = judge(self.who, &cluster) {
                return Err(JoinError::of(obstacle, self.who, &cluster));
            }
        }
        Ok(())
    }
}

/// As etcd prints a cluster.
fn shown(cluster: &RemoteCluster) -> String {
    let members: Vec<String> = cluster.members.iter().map(shown_member).collect();
    format!(
        "{{ClusterID:{:x} Members:[{}] RemovedMemberIDs:[]}}",
        cluster.id,
        members.join(" ")
    )
}

/// As etcd prints a member.
pub(crate) fn shown_member(member: &Member) -> String {
    format!(
        "&{{ID:{:x} RaftAttributes:{{PeerURLs:[{}] IsLearner:{}}} Attributes:{{Name:{} ClientURLs:[{}]}}}}",
        member.id,
        member.peer_urls.join(" "),
        member.is_learner,
        member.name,
        member.client_urls.join(" "),
    )
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::config::parse_cluster;

    fn member(id: u64, name: &str, url: &str) -> Member {
        Member {
            id,
            name: name.into(),
            peer_urls: vec![url.into()],
            ..Member::default()
        }
    }

    /// A peer that tells one client that these are the members.
    fn peer(listener: TcpListener, members: &[Member]) {
        let body = serde_json::to_string(members).expect("members are JSON");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            let read = BufReader::new(stream.try_clone().expect("a socket"));
            let empty = |line: &std::io::Result<String>| !line.as_ref().is_ok_and(String::is_empty);
            assert!(read.lines().take_while(empty).count() > 0);
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-ID: c1\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .expect("the client reads");
        });
    }

    /// What a member hears that asks two peers, of which the second one is ahead or not.
    fn ask(second_knows: bool) -> Result<(RemoteCluster, u64), JoinError> {
        let listen = || TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let url =
            |listener: &TcpListener| format!("http://{}", listener.local_addr().expect("bound"));
        let (first, second) = (listen(), listen());
        let urls = [url(&first), url(&second)];
        let own = "http://127.0.0.1:1";
        let before = [member(1, "a", &urls[0]), member(2, "b", &urls[1])];
        let after = [before.as_slice(), &[member(3, "", own)]].concat();
        peer(first, &before);
        peer(second, if second_knows { &after } else { &before });
        let list = format!("a={},b={},c={own}", urls[0], urls[1]);
        let who = Introduction {
            name: "c".into(),
            peer_urls: vec![own.into()],
            cluster: parse_cluster(&list).expect("a list"),
            id: None,
            joins: true,
            data_of: None,
        };
        let logger = Logger::root(slog::Discard, slog::o!());
        let remote = Remote::new(None, logger.clone());
        let seeker = Seeker {
            who: &who,
            remote: &remote,
            logger: &logger,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(seeker.admitted(&urls))
    }

    #[test]
    fn a_peer_that_is_behind_is_not_the_last_word() {
        let (cluster, own) = ask(true).expect("the second one knows it");
        assert_eq!((cluster.id, cluster.members.len(), own), (0xc1, 3, 3));
    }

    #[test]
    fn who_is_known_to_nobody_is_refused() {
        let error = ask(false).expect_err("nobody knows it");
        assert!(
            error.to_string().ends_with("member count is unequal"),
            "{error}"
        );
    }
}
