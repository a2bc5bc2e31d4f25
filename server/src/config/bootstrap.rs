//! What must hold before a member starts for the first time: the cluster contains it, as it advertises itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::ToSocketAddrs;

use retcd_tls::UnknownSuite;
use slog::Level;

use super::notice::Notice;
use super::url::{self, Url, UrlError};
use super::{ClusterState, Resolved};
use crate::discovery::DiscoveryError;

/// A member that cannot start for the first time with these flags: logged as `bootstrap failed` and
/// `discovery failed`, exit code 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is")]
pub enum BootstrapError {
    #[error("error setting up initial cluster: {0}")]
    Url(#[from] UrlError),
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NoLocalName(String),
    #[error(
        "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={advertised} ({reason})"
    )]
    NotAdvertised {
        missing: String,
        advertised: String,
        reason: String,
    },
    #[error(
        "--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={cluster}"
    )]
    NotInCluster { missing: String, cluster: String },
    #[error("failed to resolve {advertised} to match --initial-cluster={cluster} ({reason})")]
    Unresolved {
        advertised: String,
        cluster: String,
        reason: String,
    },
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(String),
    /// The DNS names nobody.
    #[error("error setting up initial cluster: {reason}")]
    NoSrv { records: String, reason: String },
    /// The DNS names others only.
    #[error(
        "error setting up initial cluster: cannot find local etcd member {name:?} in SRV records"
    )]
    NotInSrv {
        name: String,
        advertised: String,
        found: String,
    },
    #[error("discovery URL should not be set when joining existing initial cluster")]
    JoinsByDiscovery,
    #[error("failed to join discovery cluster ({reason})")]
    Discovery {
        token: String,
        endpoints: Vec<String>,
        reason: DiscoveryError,
    },
    #[error("discovery cluster {0} has duplicate url")]
    DiscoveredDuplicateUrl(String),
    /// Another member has the same name, and so would be the same one.
    #[error(
        "discovery cluster {cluster} has other peer URLs for the name {name:?} than this member advertises ({advertised})"
    )]
    DiscoveredNamesake {
        name: String,
        advertised: String,
        cluster: String,
    },
    #[error(
        "TLS key/cert (--cert-file, --key-file) must be provided for client url {0} with HTTPS scheme"
    )]
    ClientTls(Url),
    #[error("cannot listen on TLS for {0}: KeyFile and CertFile are not presented")]
    PeerTls(String),
    #[error(
        "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"
    )]
    MetricsTls,
    #[error("error parsing CompactionRetention: {reason}")]
    CompactionRetention { retention: String, reason: String },
    #[error(transparent)]
    CipherSuite(#[from] UnknownSuite),
    /// Files of peer URLs, or what is in them.
    #[error("{0}")]
    PeerCertificate(String),
    /// Files of client or metrics URLs, or what is in them.
    #[error("{0}")]
    ClientCertificate(String),
    #[error("{reason}")]
    SelfSigned { peer: bool, reason: String },
}

impl BootstrapError {
    /// What to do about it, in one sentence, where etcd's text leaves that open.
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::NoLocalName(name) => Some(format!(
                "the name of this member, {name:?}, is not in --initial-cluster: start it with --name set to one of the \
                 names there, or add {name}=<its peer URL> to --initial-cluster"
            )),
            Self::NotAdvertised { .. } | Self::NotInCluster { .. } => Some(
                "this member does not advertise the peer URLs that --initial-cluster gives it: make \
                 --initial-advertise-peer-urls and --initial-cluster agree"
                    .to_owned(),
            ),
            Self::NoSrv { records, .. } => Some(format!(
                "the DNS names no member of the cluster: look at the records with `dig SRV` for {records}, and whether \
                 the hosts in them have addresses; --discovery-srv is the domain alone"
            )),
            Self::NotInSrv {
                advertised, found, ..
            } => Some(format!(
                "no SRV record leads to an address and port of this member, which advertises {advertised} to its peers; \
                 the records lead to {found}: add a record for this member, or correct --initial-advertise-peer-urls"
            )),
            Self::JoinsByDiscovery => Some(
                "discovery founds new clusters: to join one that runs, leave --discovery-token and \
                 --discovery-endpoints out, announce this member with `etcdctl member add`, and give the \
                 --initial-cluster that it prints"
                    .to_owned(),
            ),
            Self::Discovery {
                reason,
                token,
                endpoints,
            } => Some(reason.advice(token, endpoints)),
            Self::DiscoveredDuplicateUrl(_) => Some(
                "two members registered with the same peer URL: give each its own --initial-advertise-peer-urls, and \
                 start all again with a new token"
                    .to_owned(),
            ),
            Self::DiscoveredNamesake { name, .. } => Some(format!(
                "another member registered under the name {name:?}: give each member its own --name, and start all \
                 again with a new token"
            )),
            Self::CompactionRetention { retention, .. } => Some(format!(
                "--auto-compaction-retention={retention} says neither how long nor how many: give a duration with a unit \
                 (30m, 12h), a plain number of hours, or with --auto-compaction-mode=revision a number of revisions"
            )),
            Self::Url(_) => Some(
                "--initial-cluster takes name=url[,name=url...], such as m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380: \
                 each part needs a name, = and a URL with a port"
                    .to_owned(),
            ),
            Self::Unresolved { .. } => Some(
                "write the same hosts in --initial-advertise-peer-urls and in --initial-cluster, letter by letter, or see \
                 that their names resolve on this machine"
                    .to_owned(),
            ),
            Self::DuplicateUrl(_) => {
                Some("give each member of --initial-cluster peer URLs of its own".to_owned())
            }
            Self::PeerTls(_) => Some(missing_pair("peer-", "--listen-peer-urls")),
            Self::ClientTls(_) => Some(missing_pair("", "--listen-client-urls")),
            Self::MetricsTls => Some(missing_pair("", "--listen-metrics-urls")),
            Self::CipherSuite(_) => Some(
                "--cipher-suites takes Go's names separated by commas, such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: \
                 correct the name, or leave the flag out for all that are safe"
                    .to_owned(),
            ),
            Self::PeerCertificate(_) => Some(wrong_files("peer-")),
            Self::ClientCertificate(_) => Some(wrong_files("")),
            Self::SelfSigned { peer, .. } => {
                let prefix = if *peer { "peer-" } else { "" };
                Some(format!(
                    "--{prefix}auto-tls writes a certificate to the data directory: see that the user of the member may \
                     write there, or name one with --{prefix}cert-file and --{prefix}key-file"
                ))
            }
        }
    }

    /// What etcd logs before it exits with code 1: which part of the start failed, if any had begun, and a fatal line.
    pub fn notices(&self) -> Vec<Notice> {
        let error = || vec![("error", self.to_string().into())];
        let mut notices = match self {
            Self::Url(_)
            | Self::NoSrv { .. }
            | Self::NotInSrv { .. }
            | Self::ClientTls(_)
            | Self::MetricsTls
            | Self::CipherSuite(_)
            | Self::CompactionRetention { .. } => Vec::new(),
            Self::ClientCertificate(_) => vec![Notice::new(
                Level::Error,
                "setting up serving from embedded etcd failed.",
                error(),
            )],
            Self::SelfSigned { .. } => {
                vec![Notice::new(Level::Warning, "cannot generate cert", error())]
            }
            Self::PeerTls(_) | Self::PeerCertificate(_) => vec![Notice::new(
                Level::Error,
                "creating peer listener failed",
                error(),
            )],
            _ => vec![Notice::new(Level::Error, "bootstrap failed", error())],
        };
        // Whatever the reason, etcd blames the token; who searches logs finds these.
        if let Self::Discovery {
            token, endpoints, ..
        } = self
        {
            let fields = vec![
                ("discovery-token", token.as_str().into()),
                ("discovery-endpoints", endpoints.join(",").into()),
                ("error", self.to_string().into()),
            ];
            let used = "failed to bootstrap; discovery token was already used";
            notices.push(Notice::new(Level::Warning, used, fields));
            notices.push(Notice::warn(
                "do not reuse discovery token; generate a new one to bootstrap a cluster",
            ));
            return notices;
        }
        let message = match self {
            Self::ClientCertificate(_) => "listener failed",
            Self::SelfSigned { peer: true, .. } => "failed to get peer self-signed certs",
            Self::SelfSigned { peer: false, .. } => "failed to get client self-signed certs",
            _ => "discovery failed",
        };
        notices.push(Notice::new(Level::Critical, message, error()));
        notices
    }
}

fn missing_pair(prefix: &str, urls: &str) -> String {
    format!(
        "name a certificate and its key with --{prefix}cert-file and --{prefix}key-file, let the member make one that \
         authenticates nobody with --{prefix}auto-tls, or write http:// in {urls}"
    )
}

fn wrong_files(prefix: &str) -> String {
    format!(
        "--{prefix}cert-file, --{prefix}key-file and --{prefix}trusted-ca-file (and --{prefix}client-cert-file with \
         --{prefix}client-key-file) are to name PEM files that belong together and that the user of the member can read; \
         `retcd doctor` looks at them"
    )
}

impl Resolved {
    /// Whether there is a certificate for each URL that asks for TLS. Checked at every start.
    ///
    /// # Errors
    /// The first URL without one, or a cipher suite that does not exist.
    pub fn check_tls(&self) -> Result<(), BootstrapError> {
        if let Some(unknown) = self.tls.unknown_suite() {
            return Err(unknown.clone().into());
        }
        let secure = |urls: &[Url]| urls.iter().find(|url| url.scheme().is_secure()).cloned();
        if let Some(url) = secure(&self.listen_peer_urls)
            && self.tls.peer.is_empty()
        {
            return Err(BootstrapError::PeerTls(url.authority().to_owned()));
        }
        if !self.tls.client.is_empty() {
            return Ok(());
        }
        let client = secure(&self.listen_client_urls);
        if let Some(url) = client.or_else(|| secure(&self.listen_client_http_urls)) {
            return Err(BootstrapError::ClientTls(url));
        }
        match secure(&self.listen_metrics_urls) {
            Some(_) => Err(BootstrapError::MetricsTls),
            None => Ok(()),
        }
    }

    /// Whether `--auto-compaction-retention` means something. Checked at every start.
    ///
    /// # Errors
    /// It does not.
    pub fn check_retention(&self) -> Result<(), BootstrapError> {
        self.bad_retention.clone().map_or(Ok(()), Err)
    }

    /// Members by name, each with its sorted peer URLs, for a data directory that holds no member yet.
    ///
    /// Resolves host names if `--initial-cluster` and `--initial-advertise-peer-urls` differ in spelling.
    ///
    /// # Errors
    /// If the cluster does not contain this member as it advertises itself.
    pub fn bootstrap(&self) -> Result<BTreeMap<String, Vec<Url>>, BootstrapError> {
        let cluster = parse_cluster(&self.initial_cluster)?;
        self.verify(&cluster)?;
        Ok(cluster)
    }

    /// Whether this member can start for the first time in such a cluster, wherever it was learned from.
    ///
    /// # Errors
    /// As [`Resolved::bootstrap`].
    pub fn verify(&self, cluster: &BTreeMap<String, Vec<Url>>) -> Result<(), BootstrapError> {
        let existing = self.initial_cluster_state == ClusterState::Existing;
        let advertised = (!existing).then_some(self.initial_advertise_peer_urls.as_slice());
        check_cluster(&self.name, advertised, cluster)
    }
}

/// Whether a cluster contains the member `name` as it advertises itself (`None`: in any way), and no URL twice.
pub(crate) fn check_cluster(
    name: &str,
    advertised: Option<&[Url]>,
    cluster: &BTreeMap<String, Vec<Url>>,
) -> Result<(), BootstrapError> {
    let own = cluster
        .get(name)
        .ok_or_else(|| BootstrapError::NoLocalName(name.to_owned()))?;
    if let Some(advertised) = advertised {
        check_advertised(name, advertised, own)?;
    }
    let mut seen = BTreeSet::new();
    if !cluster.values().flatten().all(|url| seen.insert(url)) {
        return Err(BootstrapError::DuplicateUrl(show_cluster(cluster)));
    }
    Ok(())
}

fn check_advertised(name: &str, given: &[Url], own: &[Url]) -> Result<(), BootstrapError> {
    let mut advertised = given.to_vec();
    advertised.sort();
    let Err(reason) = same_addresses(&advertised, own) else {
        return Ok(());
    };
    let cluster = || show_cluster(&BTreeMap::from([(name.to_owned(), given.to_vec())]));
    let missing: Vec<String> = own
        .iter()
        .filter(|url| !advertised.contains(url))
        .map(|url| format!("{name}={url}"))
        .collect();
    if !missing.is_empty() {
        let (missing, advertised) = (missing.join(","), url::join(&advertised));
        return Err(BootstrapError::NotAdvertised {
            missing,
            advertised,
            reason,
        });
    }
    let missing: Vec<Url> = advertised
        .iter()
        .filter(|url| !own.contains(url))
        .cloned()
        .collect();
    Err(if missing.is_empty() {
        BootstrapError::Unresolved {
            advertised: url::join(&advertised),
            cluster: cluster(),
            reason,
        }
    } else {
        BootstrapError::NotInCluster {
            missing: url::join(&missing),
            cluster: cluster(),
        }
    })
}

/// `name=url,name=url`; a name may come back to add another URL.
pub(crate) fn parse_cluster(text: &str) -> Result<BTreeMap<String, Vec<Url>>, UrlError> {
    let mut cluster: BTreeMap<String, Vec<Url>> = BTreeMap::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, url) = part.split_once('=').unwrap_or((part, ""));
        cluster
            .entry(name.to_owned())
            .or_default()
            .push(url.parse()?);
    }
    cluster.values_mut().for_each(|urls| urls.sort());
    Ok(cluster)
}

pub(crate) fn show_cluster(cluster: &BTreeMap<String, Vec<Url>>) -> String {
    let pairs = cluster
        .iter()
        .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
    pairs.collect::<Vec<_>>().join(",")
}

/// Whether peer URLs that a member is known by are those of `b`; host names are resolved if they differ in spelling.
///
/// # Errors
/// What tells them apart, in etcd's words.
pub(crate) fn same_urls(known: &[String], b: &[Url]) -> Result<(), String> {
    let parsed: Result<Vec<Url>, UrlError> = known.iter().map(|url| url.parse()).collect();
    let mut a = parsed.map_err(|error| error.to_string())?;
    let mut b = b.to_vec();
    a.sort();
    b.sort();
    same_addresses(&a, &b)
}

/// Equal as text, or after host names became addresses; otherwise what tells them apart.
fn same_addresses(a: &[Url], b: &[Url]) -> Result<(), String> {
    if a == b {
        return Ok(());
    }
    let quoted = |urls: &[Url]| {
        let quoted: Vec<String> = urls
            .iter()
            .map(|url| format!("{:?}", url.as_str()))
            .collect();
        format!("[{}]", quoted.join(" "))
    };
    if a.len() != b.len() {
        return Err(format!("len({}) != len({})", quoted(a), quoted(b)));
    }
    let mut resolved = [Vec::new(), Vec::new()];
    for (urls, resolved) in [a, b].into_iter().zip(&mut resolved) {
        for url in urls {
            resolved.push(resolve(url)?);
        }
        resolved.sort();
    }
    let [a, b] = resolved;
    match a.iter().zip(&b).find(|(a, b)| a != b) {
        Some((a, b)) => Err(format!("resolved urls: {a:?} != {b:?}")),
        None => Ok(()),
    }
}

/// The URL with its host name replaced by an address; `localhost` stays what it is, as in etcd.
fn resolve(url: &Url) -> Result<String, String> {
    match url.host_port() {
        Some((host, _)) if host != "localhost" && host.parse::<std::net::IpAddr>().is_err() => {
            let found = url
                .authority()
                .to_socket_addrs()
                .map_err(|error| error.to_string())?;
            let address = found
                .into_iter()
                .next()
                .ok_or_else(|| format!("no address for {host}"))?;
            Ok(url
                .as_str()
                .replacen(url.authority(), &address.to_string(), 1))
        }
        _ => Ok(url.as_str().to_owned()),
    }
}
