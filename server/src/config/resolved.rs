//! The configuration as the server uses it: checked, with durations and addresses.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use slog::Level;

use super::compaction::Mode;
use super::notice::Notice;
use super::url::{self, Place, Url};
use super::value::{GoBytes, GoDuration};
use super::{
    AutoCompaction, BootstrapError, ClusterState, Config, Discovery, Engine, Feature, ResolvedTls,
};

pub(super) const DEFAULT_NAME: &str = "default";
/// Longest `--election-timeout` in milliseconds.
const MAX_ELECTION_MS: u64 = 50_000;
const DEFAULT_QUOTA: u64 = 2 << 30;
const RECOMMENDED_QUOTA: u64 = 8 << 30;
const RECOMMENDED_REQUEST_BYTES: u64 = 10 << 20;
/// Room that gRPC framing and message wrapping may add to a request, as etcd allows for.
const REQUEST_OVERHEAD: usize = 512 << 10;

pub(super) fn default_url(port: u16) -> Url {
    match format!("http://localhost:{port}").parse() {
        Ok(url) => url,
        Err(_) => Url::http(([127, 0, 0, 1], port).into()),
    }
}

pub(super) fn default_initial_cluster() -> String {
    format!("{DEFAULT_NAME}={}", default_url(2380))
}

/// What the server runs with. Every value is sound; what cannot be checked without touching the network or the
/// data directory is left to [`Resolved::bootstrap`].
#[derive(Debug, Clone)]
pub struct Resolved {
    /// `--name`.
    pub name: String,
    /// `--data-dir`, never empty.
    pub data_dir: PathBuf,
    /// `<data-dir>/member`.
    pub member_dir: PathBuf,
    /// `<data-dir>/member/snap`.
    pub snap_dir: PathBuf,
    /// Where the log lives: `--wal-dir` or `<data-dir>/member/wal`.
    pub wal_dir: PathBuf,
    /// Whether `--wal-dir` names it.
    pub wal_dir_dedicated: bool,

    /// Sockets for other members.
    pub listen_peers: Vec<Place>,
    /// Sockets for clients.
    pub listen_clients: Vec<Place>,
    /// Sockets for clients that speak HTTP.
    pub listen_clients_http: Vec<Place>,
    /// Sockets for metrics.
    pub listen_metrics: Vec<Place>,
    /// As given, for log lines.
    pub listen_peer_urls: Vec<Url>,
    /// As given, for log lines.
    pub listen_client_urls: Vec<Url>,
    /// As given, for log lines.
    pub listen_client_http_urls: Vec<Url>,
    /// As given, for log lines.
    pub listen_metrics_urls: Vec<Url>,
    /// Certificates and what is demanded of others.
    pub tls: ResolvedTls,
    /// How other members reach this one.
    pub initial_advertise_peer_urls: Vec<Url>,
    /// How clients reach this member; see [`Resolved::bound`] for ports chosen by the system.
    pub advertise_client_urls: Vec<Url>,
    /// HTTP/2 streams per client connection.
    pub max_concurrent_streams: u32,
    /// Answer calls that come as JSON.
    pub enable_grpc_gateway: bool,
    /// Origins whose pages may read answers.
    pub cors: Vec<String>,
    /// Hosts that plain HTTP requests may be for.
    pub host_whitelist: Vec<String>,
    /// Whether `/debug/pprof` says what to use in place of Go's profiles.
    pub enable_pprof: bool,

    // What follows must be the same on every member of a cluster.
    /// `--initial-cluster` as given or derived; empty with `discovery`.
    pub initial_cluster: String,
    /// Where the cluster is found instead.
    pub discovery: Option<Discovery>,
    /// `--initial-cluster-state`.
    pub initial_cluster_state: ClusterState,
    /// `--initial-cluster-token`, or the one of a registry.
    pub initial_cluster_token: String,
    /// One tick of the raft clock.
    pub heartbeat: Duration,
    /// Time without a leader before an election.
    pub election: Duration,
    /// The same in ticks.
    pub election_ticks: usize,
    /// Shorten the first wait for an election.
    pub initial_election_tick_advance: bool,
    /// Ask before an election.
    pub pre_vote: bool,
    /// Learners that the cluster may have.
    pub max_learners: usize,
    /// Refuse changes of the membership that would endanger the quorum.
    pub strict_reconfig_check: bool,
    /// Bytes of the store above which writes are refused; `None`: no limit.
    pub quota_backend_bytes: Option<u64>,
    /// Largest request a proposal may hold.
    pub max_request_bytes: usize,
    /// Largest gRPC message taken from a client: a request and what wraps it.
    pub max_receive_bytes: usize,
    /// Operations in one transaction.
    pub max_txn_ops: usize,

    // What follows may differ.
    /// Go on as the only member of the cluster.
    pub force_new_cluster: bool,
    /// A stream of a peer that brings nothing for so long is given up.
    pub raft_read_timeout: Duration,
    /// A stream to a peer that takes nothing for so long is given up.
    pub raft_write_timeout: Duration,
    /// Applied entries between snapshots.
    pub snapshot_count: u64,
    /// Log entries kept behind a snapshot.
    pub snapshot_catchup_entries: u64,
    /// WAL files kept; `None`: all.
    pub max_wals: Option<usize>,
    /// Snapshot files kept; `None`: all.
    pub max_snapshots: Option<usize>,
    /// What keeps the data. This build can run it.
    pub backend_engine: Engine,
    /// Longest wait before the backend commits.
    pub backend_batch_interval: Duration,
    /// Operations after which the backend commits.
    pub backend_batch_limit: usize,
    /// Revisions removed in one step of a compaction.
    pub compaction_batch_limit: usize,
    /// Pause between two steps.
    pub compaction_sleep_interval: Duration,
    /// What the leader compacts by itself; `None`: nothing. See [`Resolved::check_retention`].
    pub auto_compaction: Option<AutoCompaction>,
    /// A retention that means nothing: etcd notices it later than other contradictions.
    pub(super) bad_retention: Option<BootstrapError>,
    /// Applying one request longer than this is logged.
    pub warning_apply_duration: Duration,
    /// Answering one unary call longer than this is logged.
    pub warning_unary_request_duration: Duration,
    /// Time between notifications to watchers that want them.
    pub watch_progress_interval: Duration,
    /// Pings on connections of clients.
    pub grpc_keepalive: Keepalive,
    /// Listen with `SO_REUSEPORT`.
    pub socket_reuse_port: bool,
    /// Sockets that are open already.
    pub inherited: crate::Inherited,
    /// Where to dial other members from; `None` leaves it to the system.
    pub local_address: Option<IpAddr>,
    /// Keep the memory of the process from being swapped.
    pub memory_mlock: bool,
    /// Bytes that a defragmentation at start has to win; `None`: there is none.
    pub bootstrap_defrag_threshold: Option<u64>,
    /// Do not wait for the disk: loses acknowledged writes in a crash.
    pub unsafe_no_fsync: bool,
    /// Serve the API of etcd 2.
    pub enable_v2: bool,
    /// Measure the time of each call.
    pub extensive_metrics: bool,
    /// The feature gates, to be told.
    pub(crate) features: Vec<Feature>,

    /// Warnings to be logged at start.
    pub notices: Vec<Notice>,
}

/// Pings on connections of clients, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// A client that pings more often is sent away.
    pub min_time: Duration,
    /// After so long without a frame a client is pinged.
    pub interval: Duration,
    /// A client that does not answer for so long is given up.
    pub timeout: Duration,
}

impl Keepalive {
    /// What gRPC's library for Go makes of etcd's flags, which hands on only what is above 0.
    fn new(min_time: i64, interval: i64, timeout: i64) -> Self {
        let given = |nanos: i64| match u64::try_from(nanos) {
            Ok(nanos @ 1..) => Some(Duration::from_nanos(nanos)),
            _ => None,
        };
        let both = given(interval).zip(given(timeout));
        let (interval, timeout) =
            both.unwrap_or((Duration::from_secs(2 * 60 * 60), Duration::from_secs(20)));
        Self {
            min_time: given(min_time).unwrap_or(Duration::from_secs(5 * 60)),
            interval: interval.max(Duration::from_secs(1)),
            timeout,
        }
    }
}

/// Flags that do not add up: logged as `failed to verify flags`, exit code 1. Texts are etcd's where etcd has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is")]
pub enum ConfigError {
    #[error("expected IP in URL for binding ({url})")]
    BindAddress { flag: &'static str, url: Url },
    #[error("listen tcp: address {0}: invalid port")]
    Port(String),
    #[error(
        "--initial-advertise-peer-urls {urls:?} must be \"host:port\" (unexpected empty host ({url}))"
    )]
    AdvertisePeer { urls: String, url: Url },
    #[error(
        "--advertise-client-urls {urls:?} must be in the format \"host:port\", \"unix:/path/to/socket\" or \
         \"unixs:/path/to/socket\" (unexpected empty host ({url}))"
    )]
    AdvertiseClient { urls: String, url: Url },
    #[error(
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \
         \"discovery-srv\""
    )]
    ManySources,
    #[error("both --discovery-token and --discovery-endpoints must be set")]
    HalfDiscovery,
    #[error("--discovery-endpoints must not contain empty endpoints")]
    EmptyEndpoint,
    #[error(
        "--discovery-endpoints has {0:?}, which is no endpoint: give host:port, http://host:port, https://host:port or \
         unix:path"
    )]
    Endpoint(String),
    #[error(
        "--discovery-endpoints has {0:?}, TLS over a socket, which is not implemented by retcd: use unix: or https:"
    )]
    SecureSocketEndpoint(String),
    #[error("--heartbeat-interval must be >0 (set to {0}ms)")]
    Heartbeat(u64),
    #[error("--election-timeout must be >0 (set to {0}ms)")]
    Election(u64),
    #[error(
        "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
    )]
    Ratio { election: u64, heartbeat: u64 },
    #[error(
        "--election-timeout[{0}ms] is too long, and should be set less than {MAX_ELECTION_MS}ms"
    )]
    ElectionTooLong(u64),
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    AdvertiseClientMissing,
    #[error("--{flag}={value} is below 0: give 0 or more")]
    Negative { flag: &'static str, value: String },
    #[error("--{flag}={value} does not fit this machine")]
    TooLarge { flag: &'static str, value: u64 },
    #[error("--{flag}={url} names no file of a socket")]
    SocketFile { flag: &'static str, url: Url },
    #[error("{}", compaction_mode(.0))]
    CompactionMode(String),
    #[error("unexpected TLS version {0:?} (must be one of: TLS1.2, TLS1.3)")]
    TlsVersion(String),
    #[error("min version ({lowest}) is greater than max version ({highest})")]
    TlsVersions { lowest: String, highest: String },
    #[error("cipher suites cannot be configured when only TLS1.3 is enabled")]
    SuitesOfTls13,
    #[error(
        "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {0}"
    )]
    SharedWithHttp(Url),
    #[error("--{0} is empty: name at least one URL")]
    NoListener(&'static str),
    #[error(
        "--experimental-backend-engine={0} is not part of this build: build it with `--features {0}`, or leave the flag out"
    )]
    EngineNotBuilt(Engine),
    #[error(transparent)]
    Log(#[from] crate::log::SettingsError),
}

impl ConfigError {
    /// What to log before exiting with [`ConfigError::code`].
    pub fn notices(&self) -> Vec<Notice> {
        let early = matches!(
            self,
            Self::Log(_) | Self::BindAddress { .. } | Self::SocketFile { .. }
        );
        let mut notices = if early {
            Vec::new()
        } else {
            vec![single_port()]
        };
        let mut unverified = Notice::unverified(self);
        unverified.fields.push(("remedy", self.remedy().into()));
        notices.push(unverified);
        if matches!(self, Self::AdvertiseClientMissing) {
            let error = vec![("error", self.to_string().into())];
            notices.push(Notice::new(
                Level::Warning,
                "advertise client URLs are not set",
                error,
            ));
        }
        notices
    }

    /// The exit code of the binary: 1, but 2 for an unknown log level, where etcd panics.
    pub fn code(&self) -> u8 {
        match self {
            Self::Log(crate::log::SettingsError::Level(_)) => 2,
            _ => 1,
        }
    }
}

impl Config {
    /// Checks the whole configuration and turns it into what the server works with.
    ///
    /// # Errors
    /// The first contradiction, in etcd's order.
    pub fn resolve(&self) -> Result<Resolved, ConfigError> {
        self.log.check()?;
        let mut notices = Vec::new();
        check_bind("listen-peer-urls", &self.listen_peer_urls)?;
        check_bind("listen-client-urls", &self.listen_client_urls)?;
        check_bind("listen-client-http-urls", &self.listen_client_http_urls)?;
        check_bind("listen-metrics-urls", &self.listen_metrics_urls)?;
        if self.listen_client_http_urls.is_empty() {
            notices.push(single_port());
        }
        let peer_urls = self.peer_urls(&mut notices);
        if let Some(url) = without_host(&peer_urls) {
            return Err(ConfigError::AdvertisePeer {
                urls: url::join(&peer_urls),
                url,
            });
        }
        let client_urls = self.client_urls();
        if let Some(url) = client_urls.as_deref().and_then(without_host) {
            let urls = url::join(client_urls.as_deref().unwrap_or_default());
            return Err(ConfigError::AdvertiseClient { urls, url });
        }
        self.discovery.check(self.initial_cluster.as_deref())?;
        self.check_timing()?;
        let advertise_client_urls = client_urls.ok_or(ConfigError::AdvertiseClientMissing)?;
        let compaction = Mode::parse(&self.auto_compaction_mode)?;
        self.check_tls_versions()?;
        if self.listen_client_urls.is_empty() {
            return Err(ConfigError::NoListener("listen-client-urls"));
        }
        self.check_http_urls()?;
        if !self.backend_engine.is_built() {
            return Err(ConfigError::EngineNotBuilt(self.backend_engine));
        }
        self.add_warnings(&mut notices);

        let retention = compaction.retention(&self.auto_compaction_retention, &mut notices);
        let discovery = self.discovery.resolve(&mut notices)?;
        let local_address = self.local_address(&peer_urls, &mut notices);
        let data_dir = self.data_dir(&mut notices);
        let tls = self.resolve_tls(&data_dir, &mut notices)?;
        let member_dir = data_dir.join("member");
        let max_request_bytes = to_usize("max-request-bytes", self.max_request_bytes)?;
        Ok(Resolved {
            name: self.name.clone(),
            snap_dir: member_dir.join("snap"),
            wal_dir: self
                .wal_dir
                .clone()
                .unwrap_or_else(|| member_dir.join("wal")),
            wal_dir_dedicated: self.wal_dir.is_some(),
            member_dir,
            data_dir,

            listen_peers: places(&self.listen_peer_urls),
            listen_clients: places(&self.listen_client_urls),
            listen_clients_http: places(&self.listen_client_http_urls),
            listen_metrics: places(&self.listen_metrics_urls),
            listen_peer_urls: self.listen_peer_urls.clone(),
            listen_client_urls: self.listen_client_urls.clone(),
            listen_client_http_urls: self.listen_client_http_urls.clone(),
            listen_metrics_urls: self.listen_metrics_urls.clone(),
            tls,
            advertise_client_urls,
            max_concurrent_streams: self.max_concurrent_streams,
            enable_grpc_gateway: self.enable_grpc_gateway,
            cors: self.cors.clone(),
            host_whitelist: self.host_whitelist.clone(),
            enable_pprof: self.enable_pprof,

            initial_cluster: match (&self.initial_cluster, &discovery) {
                (Some(given), _) => given.clone(),
                (None, None) => self.alone(&peer_urls),
                (None, Some(_)) => String::new(),
            },
            initial_advertise_peer_urls: peer_urls,
            initial_cluster_state: self.initial_cluster_state,
            initial_cluster_token: match &discovery {
                Some(Discovery::Service(service)) => service.token.clone(),
                _ => self.initial_cluster_token.clone(),
            },
            discovery,
            heartbeat: Duration::from_millis(self.heartbeat_interval),
            election: Duration::from_millis(self.election_timeout),
            election_ticks: to_usize(
                "election-timeout",
                self.election_timeout / self.heartbeat_interval,
            )?,
            initial_election_tick_advance: self.initial_election_tick_advance,
            pre_vote: self.pre_vote,
            max_learners: learners(self.max_learners)?,
            strict_reconfig_check: self.strict_reconfig_check,
            force_new_cluster: self.force_new_cluster,
            raft_read_timeout: peer_timeout(self.raft_read_timeout),
            raft_write_timeout: peer_timeout(self.raft_write_timeout),
            quota_backend_bytes: match self.quota_backend_bytes {
                0 => Some(DEFAULT_QUOTA),
                quota => u64::try_from(quota).ok(),
            },
            max_request_bytes,
            max_receive_bytes: max_request_bytes.saturating_add(REQUEST_OVERHEAD),
            max_txn_ops: to_usize("max-txn-ops", self.max_txn_ops)?,

            snapshot_count: match self.snapshot_count {
                0 => 10_000,
                count => count,
            },
            snapshot_catchup_entries: self.snapshot_catchup_entries,
            max_wals: limit("max-wals", self.max_wals)?,
            max_snapshots: limit("max-snapshots", self.max_snapshots)?,
            backend_engine: self.backend_engine,
            backend_batch_interval: duration(
                "backend-batch-interval",
                self.backend_batch_interval,
                100,
            )?,
            backend_batch_limit: count("backend-batch-limit", self.backend_batch_limit, 10_000)?,
            compaction_batch_limit: count(
                "compaction-batch-limit",
                self.compaction_batch_limit,
                1_000,
            )?,
            compaction_sleep_interval: duration(
                "compaction-sleep-interval",
                self.compaction_sleep_interval,
                10,
            )?,
            auto_compaction: retention.clone().unwrap_or_default(),
            bad_retention: retention.err(),
            warning_apply_duration: duration(
                "warning-apply-duration",
                self.warning_apply_duration,
                0,
            )?,
            watch_progress_interval: progress_interval(
                self.watch_progress_notify_interval,
                &mut notices,
            ),
            warning_unary_request_duration: duration(
                "warning-unary-request-duration",
                self.warning_unary_request_duration,
                300,
            )?,
            grpc_keepalive: Keepalive::new(
                self.grpc_keepalive_min_time,
                self.grpc_keepalive_interval,
                self.grpc_keepalive_timeout,
            ),
            socket_reuse_port: self.socket_reuse_port,
            inherited: self.inherited.clone(),
            local_address,
            memory_mlock: self.memory_mlock,
            bootstrap_defrag_threshold: match self.bootstrap_defrag_threshold_megabytes {
                0 => None,
                megabytes => Some(megabytes.saturating_mul(1 << 20)),
            },
            unsafe_no_fsync: self.unsafe_no_fsync,
            enable_v2: self.enable_v2,
            extensive_metrics: self.metrics == "extensive",
            features: self.gates.features(),
            notices,
        })
    }

    /// gRPC and HTTP apart need sockets apart.
    fn check_http_urls(&self) -> Result<(), ConfigError> {
        let shared = self.listen_client_http_urls.iter().find(|http| {
            let place = http.place();
            // Port 0 is another one each time.
            let any_port = place
                .as_ref()
                .and_then(Place::address)
                .is_some_and(|a| a.port() == 0);
            !any_port
                && self
                    .listen_client_urls
                    .iter()
                    .any(|url| url.place() == place)
        });
        match shared {
            Some(url) => Err(ConfigError::SharedWithHttp(url.clone())),
            None => Ok(()),
        }
    }

    fn check_timing(&self) -> Result<(), ConfigError> {
        let (heartbeat, election) = (self.heartbeat_interval, self.election_timeout);
        if heartbeat == 0 {
            return Err(ConfigError::Heartbeat(heartbeat));
        }
        if election == 0 {
            return Err(ConfigError::Election(election));
        }
        if heartbeat.saturating_mul(5) > election {
            return Err(ConfigError::Ratio {
                election,
                heartbeat,
            });
        }
        if election > MAX_ELECTION_MS {
            return Err(ConfigError::ElectionTooLong(election));
        }
        Ok(())
    }

    fn add_warnings(&self, notices: &mut Vec<Notice>) {
        if !matches!(self.metrics.as_str(), "basic" | "extensive") {
            notices.push(Notice::new(
                Level::Warning,
                "--metrics is neither basic nor extensive; as in etcd, this stands for basic",
                vec![("metrics", self.metrics.as_str().into())],
            ));
        }
        if self.enable_pprof {
            notices.push(Notice::warn(
                "--enable-pprof has little effect: the profiles are those of Go's runtime, which is not here. \
                 /debug/pprof says what to use in their place; leave the flag out to be rid of this line",
            ));
        }
        if self.name == DEFAULT_NAME {
            notices.push(Notice::new(
                Level::Warning,
                "it isn't recommended to use default name, please set a value for --name. Note that etcd might run \
                 into issue when multiple members have the same default name",
                vec![("name", self.name.as_str().into())],
            ));
        }
        if self.max_request_bytes > RECOMMENDED_REQUEST_BYTES {
            let (given, recommended) = (self.max_request_bytes, RECOMMENDED_REQUEST_BYTES);
            let fields = vec![
                ("max-request-bytes", given.into()),
                ("max-request-size", GoBytes(given).to_string().into()),
                ("recommended-request-bytes", recommended.into()),
                (
                    "recommended-request-size",
                    GoBytes(recommended).to_string().into(),
                ),
            ];
            notices.push(Notice::new(
                Level::Warning,
                "exceeded recommended request limit",
                fields,
            ));
        }
        if let Ok(quota) = u64::try_from(self.quota_backend_bytes)
            && quota > RECOMMENDED_QUOTA
        {
            let fields = vec![
                ("quota-name", "v3-applier".into()),
                ("quota-size-bytes", quota.into()),
                ("quota-size", GoBytes(quota).to_string().into()),
                ("quota-maximum-size-bytes", RECOMMENDED_QUOTA.into()),
                (
                    "quota-maximum-size",
                    GoBytes(RECOMMENDED_QUOTA).to_string().into(),
                ),
            ];
            notices.push(Notice::new(
                Level::Warning,
                "quota exceeds the maximum value",
                fields,
            ));
        }
        if let Ok(limit @ 1..) = u64::try_from(self.backend_batch_limit) {
            let field = ("batch limit", limit.into());
            notices.push(Notice::new(
                Level::Info,
                "setting backend batch limit",
                vec![field],
            ));
        }
        if let Ok(interval @ 1..) = u64::try_from(self.backend_batch_interval) {
            let interval = GoDuration(Duration::from_nanos(interval)).to_string();
            notices.push(Notice::new(
                Level::Info,
                "setting backend batch interval",
                vec![("batch interval", interval.into())],
            ));
        }
        if self.enable_v2 {
            notices.push(Notice::warn(
                "--enable-v2 serves the API of etcd 2, which is for old tutorials and tools and has no users or \
                 roles: use the v3 API for anything else (etcdctl with ETCDCTL_API=3, or JSON under /v3/), which \
                 replaces it since etcd 3.6",
            ));
        }
        if self.unsafe_no_fsync {
            notices.push(Notice::warn(
                "running without fsync: a crash of the machine loses writes that were acknowledged",
            ));
        }
    }

    fn data_dir(&self, notices: &mut Vec<Notice>) -> PathBuf {
        if !self.data_dir.as_os_str().is_empty() {
            return self.data_dir.clone();
        }
        let dir = format!("{}.etcd", self.name);
        let field = ("data-dir", dir.clone().into());
        notices.push(Notice::new(
            Level::Warning,
            "'data-dir' was empty; using default",
            vec![field],
        ));
        dir.into()
    }

    /// The default, when listening on all interfaces, is the address of the interface with the default route.
    fn peer_urls(&self, notices: &mut Vec<Notice>) -> Vec<Url> {
        if let Some(urls) = &self.initial_advertise_peer_urls
            && !urls.is_empty()
        {
            return urls.clone();
        }
        let everywhere = self.listen_peer_urls.first().and_then(Url::host_port);
        if let Some(("0.0.0.0", port)) = everywhere
            && let Some(host) = default_host()
            && let Ok(port) = port.parse()
        {
            let field = ("host", host.ip().to_string().into());
            notices.push(Notice::new(
                Level::Info,
                "detected default host for advertise",
                vec![field],
            ));
            return vec![Url::http(SocketAddr::new(host.ip(), port))];
        }
        vec![default_url(2380)]
    }

    /// The first advertised address that others can reach, if that is asked for.
    fn local_address(&self, peer_urls: &[Url], notices: &mut Vec<Notice>) -> Option<IpAddr> {
        if !self.set_member_local_addr {
            return None;
        }
        let hosts = peer_urls.iter().filter_map(Url::host_port);
        let mut addresses = hosts.filter_map(|(host, _)| host.parse::<IpAddr>().ok());
        let found = addresses.find(|address| !address.is_loopback() && !address.is_unspecified());
        notices.push(match found {
            Some(address) => Notice::new(
                Level::Info,
                "setting member local address",
                vec![("LocalAddr", address.to_string().into())],
            ),
            None => Notice::new(
                Level::Warning,
                "unable to set a member local address due to lack of suitable local addresses",
                vec![("advertise-peer-urls", url::join(peer_urls).into())],
            ),
        });
        found
    }

    /// `None`: the command line says where to listen but not what to advertise.
    fn client_urls(&self) -> Option<Vec<Url>> {
        match &self.advertise_client_urls {
            Some(urls) => Some(urls.clone()),
            None if self.advertise_or_fail => None,
            None => Some(self.listen_client_urls.clone()),
        }
    }

    /// A cluster of this member only; none without a name.
    fn alone(&self, peer_urls: &[Url]) -> String {
        if self.name.is_empty() {
            return String::new();
        }
        let members: Vec<String> = peer_urls
            .iter()
            .map(|url| format!("{}={url}", self.name))
            .collect();
        members.join(",")
    }
}

impl Resolved {
    /// Puts the ports the system chose into what is advertised to clients, in the order of `listen_clients`.
    pub fn bound(&mut self, clients: &[Place]) {
        for (listened, bound) in self.listen_client_urls.iter().zip(clients) {
            let Some(bound) = bound.address() else {
                continue;
            };
            for url in self
                .advertise_client_urls
                .iter_mut()
                .filter(|url| *url == listened)
            {
                *url = url.with_port(bound.port());
            }
        }
    }
}

/// The address the system would send from by its default route. Nothing is sent.
fn default_host() -> Option<SocketAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    // An address of the range reserved for documentation, thus on no network but the default route's.
    socket
        .connect(("192.0.2.1", 9))
        .or_else(|_| socket.connect(("203.0.113.1", 9)))
        .ok()?;
    socket
        .local_addr()
        .ok()
        .filter(|address| !address.ip().is_loopback())
}

fn compaction_mode(mode: &str) -> String {
    match mode {
        "" => "undefined auto-compaction-mode".to_owned(),
        mode => format!("unknown auto-compaction-mode {mode:?}"),
    }
}

fn single_port() -> Notice {
    Notice::warn(
        "Running http and grpc server on single port. This is not recommended for production.",
    )
}

fn check_bind(flag: &'static str, urls: &[Url]) -> Result<(), ConfigError> {
    let Some(url) = urls.iter().find(|url| url.place().is_none()) else {
        return Ok(());
    };
    let url = url.clone();
    if url.scheme().is_socket() {
        return Err(ConfigError::SocketFile { flag, url });
    }
    if url.bind_ip().is_none() {
        return Err(ConfigError::BindAddress { flag, url });
    }
    let port = url.host_port().map_or("", |(_, port)| port).to_owned();
    Err(ConfigError::Port(port))
}

fn places(urls: &[Url]) -> Vec<Place> {
    urls.iter().filter_map(Url::place).collect()
}

fn without_host(urls: &[Url]) -> Option<Url> {
    urls.iter()
        .find(|url| url.host_port().is_some_and(|(host, _)| host.is_empty()))
        .cloned()
}

fn to_usize(flag: &'static str, value: u64) -> Result<usize, ConfigError> {
    usize::try_from(value).map_err(|_| ConfigError::TooLarge { flag, value })
}

fn limit(flag: &'static str, files: u64) -> Result<Option<usize>, ConfigError> {
    if files == 0 {
        Ok(None)
    } else {
        to_usize(flag, files).map(Some)
    }
}

/// Nanoseconds; 0 stands for `default_ms`.
pub(super) fn duration(
    flag: &'static str,
    nanos: i64,
    default_ms: u64,
) -> Result<Duration, ConfigError> {
    match u64::try_from(nanos) {
        Ok(0) => Ok(Duration::from_millis(default_ms)),
        Ok(nanos) => Ok(Duration::from_nanos(nanos)),
        Err(_) => {
            let magnitude = GoDuration(Duration::from_nanos(nanos.unsigned_abs()));
            let value = format!("-{magnitude}");
            Err(ConfigError::Negative { flag, value })
        }
    }
}

/// As in etcd, 5 s at least.
fn peer_timeout(nanos: i64) -> Duration {
    let given = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
    given.max(Duration::from_secs(5))
}

/// 0 and below is etcd's default; what is too short is made longer.
fn progress_interval(nanos: i64, notices: &mut Vec<Notice>) -> Duration {
    const LEAST: Duration = Duration::from_millis(100);
    let interval = match u64::try_from(nanos) {
        Ok(0) | Err(_) => return Duration::from_secs(600),
        Ok(nanos) => Duration::from_nanos(nanos),
    };
    if interval >= LEAST {
        return interval;
    }
    let mut notice = Notice::warn("adjusting watch progress notify interval to minimum period");
    let field = "min-watch-progress-notify-interval";
    notice.fields.push((field, "100ms".into()));
    notices.push(notice);
    LEAST
}

fn count(flag: &'static str, value: i64, default: usize) -> Result<usize, ConfigError> {
    match u64::try_from(value) {
        Ok(0) => Ok(default),
        Ok(value) => to_usize(flag, value),
        Err(_) => Err(negative(flag, value)),
    }
}

/// 0 stands for none; etcd does not start for the first time with less.
fn learners(value: i64) -> Result<usize, ConfigError> {
    usize::try_from(value).map_err(|_| negative("max-learners", value))
}

fn negative(flag: &'static str, value: i64) -> ConfigError {
    let value = value.to_string();
    ConfigError::Negative { flag, value }
}

#[cfg(test)]
mod tests;
