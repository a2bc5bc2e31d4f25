//! Configuration: as given ([`Config`], with etcd's names and units), then resolved ([`Resolved`], only sound values).

mod auth;
mod bootstrap;
mod compaction;
mod discovery;
mod engine;
mod file;
mod flags;
mod gates;
mod help;
mod listing;
mod notice;
mod old;
mod remedy;
mod resolved;
mod table;
mod text;
mod tls;
mod url;
mod value;

use std::path::PathBuf;

pub use bootstrap::BootstrapError;
pub(crate) use bootstrap::{check_cluster, parse_cluster, same_urls, show_cluster};
pub use compaction::AutoCompaction;
pub use discovery::{
    Discovery, DiscoveryConfig, Endpoint, EndpointAddress, Secret, ServiceDiscovery, SrvDiscovery,
};
pub use engine::Engine;
pub use flags::{Invocation, Refusal, from_command_line};
pub(crate) use gates::Feature;
pub use listing::{FlagInfo, flags};
pub use notice::{Field, Notice};
pub use resolved::{ConfigError, Keepalive, Resolved};
pub use text::{ETCD_VERSION, SERVER_NAME};
pub use tls::{ResolvedTls, SideTls, TlsConfig, TlsSide};
pub use url::{Place, Scheme, Url, UrlError};
pub use value::{GoBytes, GoDuration, ValueError, parse_bool, parse_duration, parse_uint};

/// What a user asks for. Fields carry the names, units and special values of etcd's flags.
///
/// ```
/// let mut config = retcd::config::Config::new("/var/lib/etcd");
/// config.name = "one".into();
/// config.listen_client_urls = vec!["http://127.0.0.1:0".parse()?]; // port chosen by the system
/// # Ok::<(), retcd::config::UrlError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    /// `--name`.
    pub name: String,
    /// `--data-dir`; empty: `<name>.etcd` in the current directory.
    pub data_dir: PathBuf,
    /// `--wal-dir`; `None`: inside the data directory.
    pub wal_dir: Option<PathBuf>,
    /// `--listen-peer-urls`: IP addresses or `localhost`.
    pub listen_peer_urls: Vec<Url>,
    /// `--listen-client-urls`: IP addresses or `localhost`, or sockets; port 0 lets the system choose.
    pub listen_client_urls: Vec<Url>,
    /// `--listen-client-http-urls`: the same, for HTTP alone; with one of these, `listen_client_urls` are for gRPC alone.
    pub listen_client_http_urls: Vec<Url>,
    /// `--listen-metrics-urls`: IP addresses or `localhost`.
    pub listen_metrics_urls: Vec<Url>,
    /// Certificates and what is demanded of others.
    pub tls: TlsConfig,
    /// `--initial-advertise-peer-urls`; `None`: etcd's default.
    pub initial_advertise_peer_urls: Option<Vec<Url>>,
    /// `--advertise-client-urls`; `None`: the URLs listened on.
    pub advertise_client_urls: Option<Vec<Url>>,
    /// `--initial-cluster`, `name=url[,name=url...]`; `None`: this member alone.
    pub initial_cluster: Option<String>,
    /// `--initial-cluster-state`.
    pub initial_cluster_state: ClusterState,
    /// `--initial-cluster-token`.
    pub initial_cluster_token: String,
    /// `--discovery-*`: where a new member finds the others, instead of `initial_cluster`.
    pub discovery: DiscoveryConfig,
    /// `--force-new-cluster`: go on as the only member.
    pub force_new_cluster: bool,
    /// `--raft-read-timeout`: nanoseconds; below 5 s is 5 s.
    pub raft_read_timeout: i64,
    /// `--raft-write-timeout`: nanoseconds; below 5 s is 5 s.
    pub raft_write_timeout: i64,
    /// `--max-learners`.
    pub max_learners: i64,
    /// `--strict-reconfig-check`.
    pub strict_reconfig_check: bool,
    /// `--snapshot-count`: applied entries.
    pub snapshot_count: u64,
    /// `--snapshot-catchup-entries`: log entries kept behind a snapshot.
    pub snapshot_catchup_entries: u64,
    /// `--max-wals`: files; 0 keeps all.
    pub max_wals: u64,
    /// `--max-snapshots`: files; 0 keeps all.
    pub max_snapshots: u64,
    /// `--quota-backend-bytes`: 0 is 2 GiB, below 0 no limit.
    pub quota_backend_bytes: i64,
    /// `--max-request-bytes`.
    pub max_request_bytes: u64,
    /// `--max-txn-ops`.
    pub max_txn_ops: u64,
    /// `--max-concurrent-streams` per client connection.
    pub max_concurrent_streams: u32,
    /// `--enable-grpc-gateway`: answer calls that come as JSON.
    pub enable_grpc_gateway: bool,
    /// `--enable-pprof`: say under `/debug/pprof` what to use in place of Go's profiles.
    pub enable_pprof: bool,
    /// `--cors`: origins whose pages may read answers; `*` for every one.
    pub cors: Vec<String>,
    /// `--host-whitelist`: hosts that plain HTTP requests may be for; `*` for every one.
    pub host_whitelist: Vec<String>,
    /// `--heartbeat-interval`: milliseconds.
    pub heartbeat_interval: u64,
    /// `--election-timeout`: milliseconds.
    pub election_timeout: u64,
    /// `--initial-election-tick-advance`.
    pub initial_election_tick_advance: bool,
    /// `--pre-vote`.
    pub pre_vote: bool,
    /// `--experimental-backend-engine`.
    pub backend_engine: Engine,
    /// `--backend-batch-interval`: nanoseconds; 0 is 100 ms.
    pub backend_batch_interval: i64,
    /// `--backend-batch-limit`: operations; 0 is 10000.
    pub backend_batch_limit: i64,
    /// `--compaction-batch-limit`: revisions; 0 is 1000.
    pub compaction_batch_limit: i64,
    /// `--compaction-sleep-interval`: nanoseconds; 0 is 10 ms.
    pub compaction_sleep_interval: i64,
    /// `--auto-compaction-mode`: `periodic` or `revision`.
    pub auto_compaction_mode: String,
    /// `--auto-compaction-retention`: a duration, hours or revisions; `0` keeps everything.
    pub auto_compaction_retention: String,
    /// `--warning-apply-duration`: nanoseconds.
    pub warning_apply_duration: i64,
    /// `--warning-unary-request-duration`: nanoseconds; 0 is 300 ms.
    pub warning_unary_request_duration: i64,
    /// `--grpc-keepalive-min-time`: nanoseconds; 0 is 5 minutes.
    pub grpc_keepalive_min_time: i64,
    /// `--grpc-keepalive-interval`: nanoseconds; with 0 this and the timeout have their defaults.
    pub grpc_keepalive_interval: i64,
    /// `--grpc-keepalive-timeout`: nanoseconds; with 0 this and the interval have their defaults.
    pub grpc_keepalive_timeout: i64,
    /// `--socket-reuse-port`.
    pub socket_reuse_port: bool,
    /// Sockets that are open already, for URLs with their addresses. No flag of etcd; the binary has them of systemd.
    pub inherited: crate::Inherited,
    /// `SetMemberLocalAddr` of `--feature-gates`: dial other members from the advertised address.
    pub set_member_local_addr: bool,
    /// `--memory-mlock`.
    pub memory_mlock: bool,
    /// `--bootstrap-defrag-threshold-megabytes`: 0 is never.
    pub bootstrap_defrag_threshold_megabytes: u64,
    /// `--watch-progress-notify-interval`: nanoseconds; 0 is 10 minutes.
    pub watch_progress_notify_interval: i64,
    /// `--unsafe-no-fsync`.
    pub unsafe_no_fsync: bool,
    /// `--enable-v2`: serve the API of etcd 2.
    pub enable_v2: bool,
    /// `--metrics`: `basic`, or `extensive` for the time that each kind of call takes.
    pub metrics: String,
    /// `--logger`, `--log-level`, `--log-format`, `--log-outputs` and those of rotation.
    pub log: crate::log::Settings,
    /// Set by the command line: whoever says where to listen must say what to advertise.
    advertise_or_fail: bool,
    /// `--feature-gates`, to be told; what a gate switches has a field of its own.
    gates: gates::Gates,
}

/// `--initial-cluster-state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// All members of `--initial-cluster` start together for the first time.
    New,
    /// The cluster runs already.
    Existing,
}

impl ClusterState {
    /// As the flag spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Existing => "existing",
        }
    }
}

impl Config {
    /// etcd's defaults with the given data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            name: resolved::DEFAULT_NAME.into(),
            data_dir: data_dir.into(),
            wal_dir: None,
            listen_peer_urls: vec![resolved::default_url(2380)],
            listen_client_urls: vec![resolved::default_url(2379)],
            listen_client_http_urls: Vec::new(),
            listen_metrics_urls: Vec::new(),
            tls: TlsConfig::default(),
            initial_advertise_peer_urls: None,
            advertise_client_urls: None,
            initial_cluster: None,
            initial_cluster_state: ClusterState::New,
            initial_cluster_token: "etcd-cluster".into(),
            discovery: DiscoveryConfig::default(),
            force_new_cluster: false,
            raft_read_timeout: 5_000_000_000,
            raft_write_timeout: 5_000_000_000,
            max_learners: 1,
            strict_reconfig_check: true,
            snapshot_count: 10_000,
            snapshot_catchup_entries: 5_000,
            max_wals: 5,
            max_snapshots: 5,
            quota_backend_bytes: 0,
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            max_concurrent_streams: u32::MAX,
            enable_grpc_gateway: true,
            enable_pprof: false,
            cors: vec!["*".into()],
            host_whitelist: vec!["*".into()],
            heartbeat_interval: 100,
            election_timeout: 1_000,
            initial_election_tick_advance: true,
            pre_vote: true,
            backend_engine: Engine::Bolt,
            backend_batch_interval: 0,
            backend_batch_limit: 0,
            compaction_batch_limit: 0,
            compaction_sleep_interval: 0,
            auto_compaction_mode: "periodic".into(),
            auto_compaction_retention: "0".into(),
            warning_apply_duration: 100_000_000,
            warning_unary_request_duration: 300_000_000,
            grpc_keepalive_min_time: 5_000_000_000,
            grpc_keepalive_interval: 7_200_000_000_000,
            grpc_keepalive_timeout: 20_000_000_000,
            socket_reuse_port: false,
            inherited: crate::Inherited::default(),
            set_member_local_addr: false,
            memory_mlock: false,
            bootstrap_defrag_threshold_megabytes: 0,
            watch_progress_notify_interval: 0,
            unsafe_no_fsync: false,
            enable_v2: false,
            metrics: "basic".into(),
            log: crate::log::Settings::default(),
            advertise_or_fail: false,
            gates: gates::Gates::default(),
        }
    }

    /// As [`Config::new`], listening on the loopback interface on ports the system chooses.
    pub fn ephemeral(data_dir: impl Into<PathBuf>) -> Self {
        let any_port = Url::http(([127, 0, 0, 1], 0).into());
        Self {
            listen_peer_urls: vec![any_port.clone()],
            listen_client_urls: vec![any_port],
            ..Self::new(data_dir)
        }
    }
}
