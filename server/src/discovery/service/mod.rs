//! A registry in another etcd, in which the members of a new cluster write themselves down and wait for each other.
//!
//! The keys are etcd's: `/_etcd/registry/<token>/_config/size` says how many members there are to be, and
//! `/_etcd/registry/<token>/members/<id>` holds `name=url[,name=url...]` of each. Who registers first is in.

mod client;
mod registry;
mod wire;

use retcd_tls::SetupError;
use slog::{Logger, error, info, o};

use self::client::Client;
use self::registry::Registry;
use crate::config::ServiceDiscovery;

/// Why a member does not find its cluster in a registry. Texts are etcd's where etcd has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// What another member registered is no URL.
    #[error("discovery: invalid peer URL")]
    InvalidUrl(String),
    /// The size is no number of members.
    #[error("discovery: size key is bad")]
    BadSize(String),
    /// Nobody has said how many members there are to be.
    #[error("discovery: size key not found")]
    SizeNotFound,
    /// There are as many members as there are to be.
    #[error("discovery: cluster is full")]
    Full,
    /// The registry does not know the user, or not by this password.
    #[error("{0}")]
    Login(String),
    /// Certificates or keys cannot be used.
    #[error("{0}")]
    Tls(String),
    /// The system refuses what it takes to ask.
    #[error("cannot ask the registry: {0}")]
    Io(String),
}

impl DiscoveryError {
    /// What to do about it, in one sentence.
    pub(crate) fn advice(&self, token: &str, endpoints: &[String]) -> String {
        let size = registry::size_key(token);
        let put = format!(
            "etcdctl --endpoints={} put {size} <members>",
            endpoints.join(",")
        );
        match self {
            Self::InvalidUrl(found) => format!(
                "a member registered under this token with something that is no list of peer URLs; the registry has \
                 {found:?}: start all members again with a new token"
            ),
            Self::BadSize(found) => format!(
                "the size of the cluster is registered as {found:?}, which is no number above 0: correct it with `{put}`"
            ),
            Self::SizeNotFound => format!(
                "nobody has registered how many members the cluster of token {token:?} is to have: do that once, \
                 before the first member starts, with `{put}`"
            ),
            Self::Full => format!(
                "all members of token {token:?} have registered already, and this one, with its peer URLs, is none of \
                 them: use a new token for a new cluster; to add a member to the one that runs, use `etcdctl member \
                 add`, and start it without discovery"
            ),
            Self::Login(_) => "the registry refuses --discovery-user and --discovery-password: see whether \
                               `etcdctl --user` is let in with them"
                .to_owned(),
            Self::Tls(_) => "--discovery-cert, --discovery-key or --discovery-cacert cannot be used; see the error"
                .to_owned(),
            Self::Io(_) => "this machine has no means left for another thread or connection; see the error".to_owned(),
        }
    }
}

impl From<SetupError> for DiscoveryError {
    fn from(error: SetupError) -> Self {
        Self::Tls(error.to_string())
    }
}

/// Registers a member, which says of itself `entry`, and waits until all others have. Returns all of them as
/// `--initial-cluster` would name them.
///
/// Waits for the registry, and for the others, for ever.
///
/// # Errors
/// See [`DiscoveryError`].
pub(crate) async fn join(
    config: &ServiceDiscovery,
    member_id: u64,
    entry: &str,
    logger: &Logger,
) -> Result<String, DiscoveryError> {
    let logger = logger.new(o!(
        "discovery-token" => config.token.clone(),
        "discovery-endpoints" => config.texts().join(","),
    ));
    let client = Client::new(config, &logger)?;
    let mut registry = Registry::new(client, &config.token, member_id, &logger);
    let joined = registry.join(entry).await;
    match &joined {
        Ok(cluster) => {
            info!(logger, "discovery joined cluster successfully"; "cluster" => cluster);
        }
        Err(reason) => {
            let cluster = match reason {
                DiscoveryError::InvalidUrl(cluster) => cluster.as_str(),
                _ => "",
            };
            error!(logger, "discovery failed to join cluster"; "cluster" => cluster, "error" => %reason);
        }
    }
    joined
}
