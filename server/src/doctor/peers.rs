//! The other members: whether they can be asked, and whether what they say goes with the plan.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use retcd_raft_node::membership::Member;
use retcd_raft_node::transport::{self, RequestError};
use retcd_tls::{Connector, Socket, TlsInfo};
use serde::Deserialize;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::Plan;
use super::finding::Findings;
use super::machine::has_address;
use super::registered;
use crate::beginning::introduction;
use crate::config::{ClusterState, Place, Url};
use crate::peers::{CLUSTER_ID, RemoteCluster, Secure, verdict};

/// For each step with each member.
const PATIENCE: Duration = Duration::from_secs(3);
/// A list of members is a few hundred bytes for each.
const MAX_ANSWER: usize = 4 << 20;
/// Clocks that differ by more draw warnings of etcd.
const MAX_DRIFT: Duration = Duration::from_secs(1);

/// What a member said.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) cluster: RemoteCluster,
    /// Its `etcdserver` version.
    pub(super) version: Option<String>,
    /// By how much its clock is ahead of, or behind, this one, whatever the way there took.
    pub(super) drift: Option<Duration>,
}

/// Why it said nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Its name stands for no address.
    Name(String),
    /// No connection comes about.
    Connection(String),
    /// The URL says http, and there is TLS.
    SpeaksTls,
    /// The URL says https, and there is none.
    SpeaksPlain,
    /// TLS was refused, by this side.
    Tls { error: String, advice: String },
    /// It hung up after TLS, or answered nonsense.
    Answer { error: String, after_tls: bool },
}

/// One peer URL of another member.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) url: Url,
    pub(super) result: Result<Seen, Trouble>,
}

/// Asks all of them at once.
pub(super) async fn ask(plan: &Plan) -> Vec<Asked> {
    let secure = Secure::new(
        &plan.resolved.tls.peer,
        plan.resolved.local_address,
        true,
        &super::silent(),
    );
    let urls = plan
        .others()
        .flat_map(|(name, urls)| urls.iter().map(move |url| (name.clone(), url.clone())));
    let mut asked = ask_all(urls.collect(), &secure).await;
    let Some((own, _)) = plan.data.ids else {
        return asked;
    };
    // After the first start, the members are whom the cluster names.
    let told = asked
        .iter()
        .find_map(|one| Some(one.result.as_ref().ok()?.cluster.members.clone()));
    let Some(members) = told else {
        return asked;
    };
    let urls = members.iter().filter(|member| member.id != own);
    let urls: Vec<(String, Url)> = urls
        .flat_map(|member| member.peer_urls.iter().map(move |url| (member, url)))
        .filter_map(|(member, url)| {
            let url: Url = url.parse().ok()?;
            let name = match member.name.as_str() {
                "" => format!("member {:x}", member.id),
                name => name.to_owned(),
            };
            Some((name, url))
        })
        .collect();
    asked.retain(|one| one.result.is_ok() || urls.iter().any(|(_, url)| *url == one.url));
    let new = urls
        .into_iter()
        .filter(|(_, url)| asked.iter().all(|one| one.url != *url));
    let more = ask_all(new.collect(), &secure).await;
    asked.extend(more);
    asked
}

async fn ask_all(urls: Vec<(String, Url)>, secure: &Secure) -> Vec<Asked> {
    let asked = urls.into_iter().map(|(name, url)| async move {
        let result = ask_one(&url, secure).await;
        Asked { name, url, result }
    });
    join_all(asked).await
}

async fn ask_one(url: &Url, secure: &Secure) -> Result<Seen, Trouble> {
    reach(url).await?;
    let is_secure = url.scheme().is_secure();
    let connector = is_secure.then_some(secure as &dyn transport::Connector);
    if is_secure {
        shake_hands(url, secure).await?;
    }
    let answer = match get(connector, url, "/members").await {
        Ok(answer) => answer,
        Err(error) => {
            if !is_secure && speaks_tls(url).await {
                return Err(Trouble::SpeaksTls);
            }
            return Err(Trouble::Answer {
                error: error.to_string(),
                after_tls: is_secure,
            });
        }
    };
    let id = answer.headers().get(CLUSTER_ID);
    let id = id.and_then(|id| u64::from_str_radix(id.to_str().ok()?, 16).ok());
    let members: Option<Vec<Member>> = serde_json::from_slice(answer.body()).ok();
    let (Some(id), Some(members)) = (id, members) else {
        if !is_secure && speaks_tls(url).await {
            return Err(Trouble::SpeaksTls);
        }
        return Err(Trouble::Answer {
            error: format!("it is no peer port of etcd (status {})", answer.status()),
            after_tls: false,
        });
    };
    Ok(Seen {
        cluster: RemoteCluster::new(id, members),
        version: version(connector, url).await,
        drift: drift(connector, url).await,
    })
}

/// Whether anybody takes a connection.
pub(super) async fn reach(url: &Url) -> Result<(), Trouble> {
    match url.place() {
        Some(Place::Unix(path)) => reach_socket(&path).await,
        _ => reach_host(url.authority()).await,
    }
}

pub(super) async fn reach_socket(path: &Path) -> Result<(), Trouble> {
    let connected = UnixStream::connect(path).await;
    connected.map(drop).map_err(|error| {
        Trouble::Connection(format!(
            "{}: {}",
            path.display(),
            crate::log::reason(&error)
        ))
    })
}

pub(super) async fn reach_host(authority: &str) -> Result<(), Trouble> {
    let addresses = tokio::net::lookup_host(authority);
    let addresses: Vec<_> = match timeout(PATIENCE, addresses).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(Trouble::Name(crate::log::reason(&error))),
        Err(_) => return Err(Trouble::Name("the name server does not answer".to_owned())),
    };
    match timeout(PATIENCE, TcpStream::connect(&addresses[..])).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Trouble::Connection(crate::log::reason(&error))),
        Err(_) => Err(Trouble::Connection(format!(
            "no answer within {PATIENCE:?}"
        ))),
    }
}

async fn connection(url: &Url) -> Option<Socket> {
    if let Some(Place::Unix(path)) = url.place() {
        return Some(UnixStream::connect(path).await.ok()?.into());
    }
    let connect = TcpStream::connect(url.authority());
    Some(timeout(PATIENCE, connect).await.ok()?.ok()?.into())
}

async fn shake_hands(url: &Url, secure: &Secure) -> Result<(), Trouble> {
    let connector = secure.connector().map_err(|error| Trouble::Tls {
        error: error.to_string(),
        advice: "put the own files right first".to_owned(),
    })?;
    tls(url, &connector).await
}

/// A handshake, and nothing else.
pub(super) async fn tls(url: &Url, connector: &Connector) -> Result<(), Trouble> {
    let host = match url.host_port() {
        Some((host, _)) => host,
        // As members dial sockets.
        None => url
            .authority()
            .split(':')
            .next()
            .filter(|host| !host.is_empty())
            .unwrap_or("localhost"),
    };
    let Some(stream) = connection(url).await else {
        return Err(Trouble::Connection(
            "it does not answer any more".to_owned(),
        ));
    };
    let failure = match connector.connect(stream, host).await {
        Ok(_) => return Ok(()),
        Err(failure) => failure,
    };
    let plain = match failure.check {
        retcd_tls::Check::NotTls => true,
        retcd_tls::Check::Closed => speaks_plain(url).await,
        _ => false,
    };
    if plain {
        return Err(Trouble::SpeaksPlain);
    }
    Err(Trouble::Tls {
        error: failure.error,
        advice: failure.advice,
    })
}

/// Whether http is spoken where TLS was expected: some servers hang up on what is no http, and say nothing.
async fn speaks_plain(url: &Url) -> bool {
    let plain = match url.scheme().is_socket() {
        true => url.as_str().replacen("unixs:", "unix:", 1),
        false => format!("http://{}", url.authority()),
    };
    let Ok(plain) = plain.parse::<Url>() else {
        return false;
    };
    let answer = get(None, &plain, "/version").await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// Whether TLS is spoken where http was expected. Nobody is authenticated for that.
async fn speaks_tls(url: &Url) -> bool {
    let info = TlsInfo {
        insecure_skip_verify: true,
        ..TlsInfo::default()
    };
    let Ok(connector) = Connector::new(&info, &super::silent()) else {
        return false;
    };
    match tls(url, &connector).await {
        Ok(()) => true,
        // An alert is TLS.
        Err(Trouble::Tls { error, .. }) => {
            error.contains("tls:") && !error.contains("first record")
        }
        Err(_) => false,
    }
}

async fn get(
    connector: Option<&dyn transport::Connector>,
    url: &Url,
    path: &str,
) -> Result<http::Response<Bytes>, RequestError> {
    let mut request = Request::new(Bytes::new());
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
    transport::request(connector, url.as_str(), request, PATIENCE, MAX_ANSWER).await
}

async fn version(connector: Option<&dyn transport::Connector>, url: &Url) -> Option<String> {
    #[derive(Deserialize)]
    struct Versions {
        etcdserver: String,
    }
    let answer = get(connector, url, "/version").await.ok()?;
    let versions: Versions = serde_json::from_slice(answer.body()).ok()?;
    Some(versions.etcdserver)
}

async fn drift(connector: Option<&dyn transport::Connector>, url: &Url) -> Option<Duration> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let before = now()?;
    let answer = get(connector, url, "/raft/probing").await.ok()?;
    let after = now()?;
    let theirs = transport::probe_time(answer.body())?;
    // Anything between question and answer is no difference.
    Some(match theirs < before {
        true => before - theirs,
        false => theirs.saturating_sub(after),
    })
}

/// Tells what does not go with the plan.
pub(super) fn judge(plan: &Plan, asked: &[Asked], findings: &mut Findings) {
    for one in asked {
        if let Err(trouble) = &one.result {
            tell(plan, one, trouble, findings);
        }
    }
    let seen: Vec<(&Asked, &Seen)> = asked
        .iter()
        .filter_map(|one| Some((one, one.result.as_ref().ok()?)))
        .collect();
    clusters(plan, &seen, findings);
    if let Some((_, first)) = seen.first() {
        state(plan, &first.cluster, findings);
        unstarted(plan, &first.cluster, findings);
        registered::check(plan, &first.cluster, &has_address, findings);
    } else if plan.is_first_start()
        && plan.resolved.initial_cluster_state == ClusterState::Existing
        && !asked.is_empty()
    {
        findings.error(
            "cluster-state",
            "--initial-cluster-state=existing, and none of the other members answers",
            "start one of them, or name peer URLs that reach them; a member cannot join a cluster that does not answer",
        );
    }
    for (one, seen) in seen {
        if let Some(drift) = seen.drift.filter(|drift| *drift > MAX_DRIFT) {
            findings.warning(
                "clock",
                format!("the clock of {} ({}) differs from that of this machine by {:.1} s", one.name, one.url, drift.as_secs_f64()),
                "let all machines take the time from the same servers (chrony, systemd-timesyncd): certificates and leases go by it",
            );
        }
        if let Some(version) = &seen.version {
            released(one, version, findings);
        }
    }
}

fn tell(plan: &Plan, one: &Asked, trouble: &Trouble, findings: &mut Findings) {
    let who = format!("{} ({})", one.name, one.url);
    let founding =
        plan.is_first_start() && plan.resolved.initial_cluster_state == ClusterState::New;
    match trouble {
        Trouble::Name(reason) => findings.error(
            "peer",
            format!("{who}: its name stands for no address: {reason}"),
            "put the name right, or enter it into DNS or /etc/hosts of every member",
        ),
        Trouble::Connection(reason) if founding => findings.note(
            "peer",
            format!("{who} does not answer: {reason}"),
            "nothing, if it is not started yet: members of a new cluster may be started in any order",
        ),
        Trouble::Connection(reason) => findings.warning(
            "peer",
            format!("{who} does not answer: {reason}"),
            "start it, or look for a wrong address or a firewall between the two machines (port 2380 both ways)",
        ),
        Trouble::SpeaksTls => findings.error(
            "peer-scheme",
            format!("{who} speaks TLS there, and its URL says http"),
            "write https:// and give this member certificates for peers (--peer-cert-file, --peer-key-file, --peer-trusted-ca-file)",
        ),
        Trouble::SpeaksPlain => findings.error(
            "peer-scheme",
            format!("{who} speaks no TLS there, and its URL says https"),
            "write http://, or start that member with https peer URLs: one after the other, with `etcdctl member update` first",
        ),
        Trouble::Tls { error, advice } => {
            findings.error("peer-tls", format!("{who}: {error}"), advice);
        }
        Trouble::Answer { error, after_tls: true } => findings.error(
            "peer-tls",
            format!("{who} hangs up on this member: {error}"),
            "its log says why (\"rejected connection on peer endpoint\"); most often the certificate of this member is of another \
             authority, lacks clientAuth, or is not for the address that it comes from",
        ),
        Trouble::Answer { error, .. } => findings.error(
            "peer",
            format!("{who} takes connections, but {error}"),
            "name its peer URL (port 2380), not that for clients (2379)",
        ),
    }
}

/// All that answer must be of one cluster, and of that of the data.
fn clusters(plan: &Plan, seen: &[(&Asked, &Seen)], findings: &mut Findings) {
    let Some((first, told)) = seen.first() else {
        return;
    };
    for (other, theirs) in &seen[1..] {
        if theirs.cluster.id != told.cluster.id {
            findings.error(
                "cluster-id",
                format!(
                    "{} is of cluster {:x}, and {} of cluster {:x}",
                    first.name, told.cluster.id, other.name, theirs.cluster.id
                ),
                "one of them was started by itself first, or with another token: stop it, move its data directory away, and add it with \
                 `etcdctl member add`",
            );
        }
    }
    if let Some((member, cluster)) = plan.data.ids {
        if told.cluster.id != cluster {
            findings.error(
                "cluster-id",
                format!(
                    "{} holds the data of cluster {cluster:x}, and {} is of cluster {:x}",
                    plan.resolved.data_dir.display(),
                    first.name,
                    told.cluster.id
                ),
                "move the data directory away and join with an empty one (`etcdctl member add`, --initial-cluster-state=existing), or name \
                 members of the own cluster",
            );
        } else if told.cluster.member(member).is_none() {
            findings.error(
                "data-dir-member",
                format!("member {member:x}, whose data {} holds, is no member of its cluster any more", plan.resolved.data_dir.display()),
                "it was removed for ever: move the data directory away and add the member again with `etcdctl member add`",
            );
        }
    }
}

/// The same verdict that the member itself and its peers come to at a start.
fn state(plan: &Plan, cluster: &RemoteCluster, findings: &mut Findings) {
    let Some(list) = &plan.cluster else {
        return;
    };
    if !plan.is_first_start() {
        return; // judged by its data
    }
    let own = list.get(&plan.resolved.name).map(|urls| {
        let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
        retcd_raft_node::ids::member_id(&urls, &plan.resolved.initial_cluster_token, None)
    });
    let founds = plan.resolved.initial_cluster_state == ClusterState::New;
    let who = introduction(&plan.resolved, list.clone(), own.filter(|_| founds));
    if let Err(obstacle) = verdict::judge(&who, cluster) {
        let state = plan.resolved.initial_cluster_state.as_str();
        findings.error(
            "cluster-state",
            format!(
                "--initial-cluster-state={state} does not go with cluster {:x}, whose members are: {}",
                cluster.id,
                names(cluster)
            ),
            obstacle.explain(&who, cluster),
        );
    }
}

fn names(cluster: &RemoteCluster) -> String {
    let names = cluster
        .members
        .iter()
        .map(|member| match member.name.as_str() {
            "" => format!("one not started yet at {}", member.peer_urls.join(" ")),
            name => name.to_owned(),
        });
    names.collect::<Vec<_>>().join(", ")
}

/// Such a member counts for the quorum.
fn unstarted(plan: &Plan, cluster: &RemoteCluster, findings: &mut Findings) {
    let own = |member: &Member| {
        let urls = plan.resolved.initial_advertise_peer_urls.iter();
        urls.map(Url::as_str)
            .any(|url| member.peer_urls.iter().any(|known| known == url))
    };
    for member in cluster
        .members
        .iter()
        .filter(|member| member.name.is_empty() && !own(member))
    {
        findings.warning(
            "unstarted-member",
            format!("member {:x} ({}) was added to the cluster and never came up", member.id, member.peer_urls.join(" ")),
            format!("start it, or take it out again (`etcdctl member remove {:x}`): it counts for the quorum", member.id),
        );
    }
}

/// Members of the release before may be in the cluster, others not.
fn released(one: &Asked, version: &str, findings: &mut Findings) {
    use crate::schema::{OWN, Version};
    let Some(theirs) = Version::parse(version) else {
        return;
    };
    // Members of one cluster are one release apart at most.
    let lowest = OWN.previous().unwrap_or(OWN);
    if theirs < lowest {
        findings.error(
            "version",
            format!("{} ({}) runs {version}, and this member {OWN}", one.name, one.url),
            format!("bring every member to a release from {lowest} on first, one release after the other"),
        );
    } else if theirs > OWN {
        findings.warning(
            "version",
            format!("{} ({}) runs {version}, which is newer than {OWN}", one.name, one.url),
            "the newer one keeps to the older one's protocol; bring this member to its release soon",
        );
    }
}

#[cfg(test)]
mod tests;
