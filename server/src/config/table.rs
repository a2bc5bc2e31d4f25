//! Every flag of etcd 3.7: its kind, its default, and whether retcd does what it says.

use super::url;
use super::value::{self, ValueError};

/// One flag.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// As text, the way etcd's help shows it.
    pub(super) default: &'static str,
    /// What it does; `None` while only its default is accepted.
    pub(super) help: Option<&'static str>,
}

/// What a flag's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Bool,
    Uint,
    Uint32,
    Int,
    Duration,
    Urls,
    Choice(&'static [&'static str]),
}

/// The environment variable that stands for the flag of this name.
pub(super) fn variable(name: &str) -> String {
    format!("ETCD_{}", name.to_ascii_uppercase().replace('-', "_"))
}

impl Flag {
    /// The environment variable that stands for the flag.
    pub(super) fn env(&self) -> String {
        variable(self.name)
    }

    /// Whether `text` means the same as the default; an error if it is no value of this kind at all.
    pub(super) fn is_default(&self, text: &str) -> Result<bool, ValueError> {
        let default = self.default;
        Ok(match self.kind {
            Kind::Text => text == default,
            Kind::Bool => value::parse_bool(text)? == value::parse_bool(default)?,
            Kind::Uint => value::parse_uint(text)? == value::parse_uint(default)?,
            Kind::Uint32 => parse_uint32(text)? == parse_uint32(default)?,
            Kind::Int => value::parse_int(text)? == value::parse_int(default)?,
            Kind::Duration => value::parse_duration(text)? == value::parse_duration(default)?,
            Kind::Urls if text == default => true,
            Kind::Urls => parse_urls(text)?.is_empty() && default.is_empty(),
            Kind::Choice(values) if values.contains(&text) => text == default,
            Kind::Choice(_) => return Err(ValueError::Other("invalid value".into())),
        })
    }
}

/// A number etcd reads with another library call, hence the other text.
pub(super) fn parse_uint32(text: &str) -> Result<u32, ValueError> {
    let reason = match value::parse_uint(text).map(u32::try_from) {
        Ok(Ok(number)) => return Ok(number),
        Ok(Err(_)) | Err(ValueError::Range) => "value out of range",
        Err(_) => "invalid syntax",
    };
    Err(ValueError::Other(format!(
        "strconv.ParseUint: parsing {text:?}: {reason}"
    )))
}

pub(super) fn parse_urls(text: &str) -> Result<Vec<url::Url>, ValueError> {
    url::parse_list(text).map_err(|error| ValueError::Other(error.to_string()))
}

/// The flag called `name`.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    FLAGS
        .binary_search_by(|flag| flag.name.cmp(name))
        .ok()
        .map(|at| &FLAGS[at])
}

/// Flags of long ago that etcd still takes and ignores; none of them wants a value.
pub(super) const IGNORED: &[&str] = &[
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-election-timeout",
    "peer-heartbeat-interval",
    "retry-interval",
    "snapshot",
    "test.coverprofile",
    "test.outputdir",
    "v",
    "vv",
];

const fn yes(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind,
        default,
        help: Some(help),
    }
}

const fn no(name: &'static str, kind: Kind, default: &'static str) -> Flag {
    Flag {
        name,
        kind,
        default,
        help: None,
    }
}

/// Sorted by name.
pub(super) static FLAGS: &[Flag] = &[
    yes(
        "advertise-client-urls",
        Kind::Urls,
        "http://localhost:2379",
        "URLs under which clients reach this member.",
    ),
    no("auth-token", Kind::Text, "simple"),
    no("auth-token-ttl", Kind::Uint, "300"),
    yes(
        "auto-compaction-mode",
        Kind::Text,
        "periodic",
        "What --auto-compaction-retention counts: time (periodic) or revisions (revision).",
    ),
    yes(
        "auto-compaction-retention",
        Kind::Text,
        "0",
        "History that the leader keeps when it compacts by itself: 30m, 5 (hours), or a number of revisions; 0 is all.",
    ),
    yes(
        "auto-tls",
        Kind::Bool,
        "false",
        "Serve https client URLs with a certificate made by this member, which authenticates nobody.",
    ),
    yes(
        "backend-batch-interval",
        Kind::Duration,
        "0s",
        "Longest time before written data is made durable in the store; 0s is 100ms.",
    ),
    yes(
        "backend-batch-limit",
        Kind::Int,
        "0",
        "Most operations before written data is made durable in the store; 0 is 10000.",
    ),
    yes(
        "backend-bbolt-freelist-type",
        Kind::Text,
        "map",
        "What etcd keeps its free pages in, map or array; the file is the same, and so is this store.",
    ),
    no("bcrypt-cost", Kind::Uint, "10"),
    yes(
        "bootstrap-defrag-threshold-megabytes",
        Kind::Uint,
        "0",
        "Megabytes of free space in the database from which on it is given back at start; 0 is never.",
    ),
    yes(
        "cert-file",
        Kind::Text,
        "",
        "Certificate chain for https client URLs.",
    ),
    yes(
        "cipher-suites",
        Kind::Text,
        "",
        "Cipher suites of TLS 1.2 by Go's names, separated by commas; all that are safe when empty.",
    ),
    yes(
        "client-cert-allowed-hostname",
        Kind::Text,
        "",
        "Host names, separated by commas, one of which a client's certificate must be valid for.",
    ),
    yes(
        "client-cert-auth",
        Kind::Bool,
        "false",
        "Demand certificates of clients.",
    ),
    yes(
        "client-cert-file",
        Kind::Text,
        "",
        "Certificate chain to show when dialing client URLs; --cert-file when empty.",
    ),
    yes(
        "client-crl-file",
        Kind::Text,
        "",
        "List of revoked client certificates (DER or PEM), read for each connection.",
    ),
    yes(
        "client-key-file",
        Kind::Text,
        "",
        "Key of --client-cert-file.",
    ),
    no("compact-hash-check-time", Kind::Duration, "1m0s"),
    yes(
        "compaction-batch-limit",
        Kind::Int,
        "0",
        "Revisions removed in one step of a compaction; 0 is 1000.",
    ),
    yes(
        "compaction-sleep-interval",
        Kind::Duration,
        "0s",
        "Pause between two steps of a compaction; 0s is 10ms.",
    ),
    yes(
        "config-file",
        Kind::Text,
        "",
        "YAML or JSON file to read in place of all other flags and of the environment.",
    ),
    no("corrupt-check-time", Kind::Duration, "0s"),
    yes(
        "cors",
        Kind::Urls,
        "*",
        "Origins whose web pages may read answers, separated by commas; * for every one.",
    ),
    yes(
        "data-dir",
        Kind::Text,
        "",
        "Directory of all that the member stores; `<name>.etcd` when empty.",
    ),
    yes(
        "discovery-cacert",
        Kind::Text,
        "",
        "Authorities of the registry's certificate.",
    ),
    yes(
        "discovery-cert",
        Kind::Text,
        "",
        "Certificate chain to show to the registry.",
    ),
    yes(
        "discovery-dial-timeout",
        Kind::Duration,
        "2s",
        "Time for a connection to the registry to come about.",
    ),
    yes(
        "discovery-endpoints",
        Kind::Text,
        "",
        "Where the registry of --discovery-token is: endpoints of another etcd, separated by commas.",
    ),
    yes(
        "discovery-fallback",
        Kind::Choice(&["exit", "proxy"]),
        "exit",
        "What to do when discovery fails; exit is all there is.",
    ),
    yes(
        "discovery-insecure-skip-tls-verify",
        Kind::Bool,
        "false",
        "Do not verify the registry's certificate.",
    ),
    yes(
        "discovery-insecure-transport",
        Kind::Bool,
        "true",
        "No TLS to endpoints of the registry that name no scheme.",
    ),
    yes(
        "discovery-keepalive-time",
        Kind::Duration,
        "2s",
        "Time between signs of life to the registry; 10s at least.",
    ),
    yes(
        "discovery-keepalive-timeout",
        Kind::Duration,
        "6s",
        "Time to wait for an answer to a sign of life.",
    ),
    yes("discovery-key", Kind::Text, "", "Key of --discovery-cert."),
    yes(
        "discovery-password",
        Kind::Text,
        "",
        "Password of --discovery-user.",
    ),
    yes(
        "discovery-request-timeout",
        Kind::Duration,
        "5s",
        "Time for a request to the registry.",
    ),
    yes(
        "discovery-srv",
        Kind::Text,
        "",
        "DNS domain whose SRV records name the members of a new cluster.",
    ),
    yes(
        "discovery-srv-name",
        Kind::Text,
        "",
        "What the services of --discovery-srv end with: _etcd-server-<name>._tcp.",
    ),
    yes(
        "discovery-token",
        Kind::Text,
        "",
        "Under which a new cluster is kept in the registry at --discovery-endpoints.",
    ),
    yes(
        "discovery-user",
        Kind::Text,
        "",
        "User of the registry: name, or name:password.",
    ),
    yes(
        "distributed-tracing-address",
        Kind::Text,
        "localhost:4317",
        "Without effect as long as --enable-distributed-tracing is off.",
    ),
    yes(
        "distributed-tracing-instance-id",
        Kind::Text,
        "",
        "Without effect as long as --enable-distributed-tracing is off.",
    ),
    yes(
        "distributed-tracing-sampling-rate",
        Kind::Int,
        "0",
        "Without effect as long as --enable-distributed-tracing is off.",
    ),
    yes(
        "distributed-tracing-service-name",
        Kind::Text,
        "etcd",
        "Without effect as long as --enable-distributed-tracing is off.",
    ),
    yes(
        "downgrade-check-time",
        Kind::Duration,
        "5s",
        "Without effect: members find out for themselves when all of them run the older release.",
    ),
    yes(
        "election-timeout",
        Kind::Uint,
        "1000",
        "Milliseconds without a leader before an election.",
    ),
    no("enable-distributed-tracing", Kind::Bool, "false"),
    yes(
        "enable-grpc-gateway",
        Kind::Bool,
        "true",
        "Answer calls that come as JSON, at /v3/ of client URLs.",
    ),
    yes(
        "enable-log-rotation",
        Kind::Bool,
        "false",
        "Rename the file of --log-outputs when it is full; it must be the only file there.",
    ),
    yes(
        "enable-pprof",
        Kind::Bool,
        "false",
        "Answer /debug/pprof: what to use in place of Go's profiles, which are not here.",
    ),
    yes(
        "enable-v2",
        Kind::Bool,
        "false",
        "Serve the API of etcd 2 under /v2/, for old tutorials and tools; etcd 3.6 removed it.",
    ),
    yes(
        "experimental-backend-engine",
        Kind::Text,
        "bolt",
        "Engine of the store: bolt (etcd's own file) or sled (in builds with that feature).",
    ),
    yes(
        "feature-gates",
        Kind::Text,
        "",
        "Features to switch, as Name=true or Name=false, separated by commas.",
    ),
    yes(
        "force-new-cluster",
        Kind::Bool,
        "false",
        "Go on as the only member of the cluster, with the data of this one; all others are removed.",
    ),
    yes(
        "grpc-keepalive-interval",
        Kind::Duration,
        "2h0m0s",
        "Time without a frame after which a client is pinged; 0s is the default.",
    ),
    yes(
        "grpc-keepalive-min-time",
        Kind::Duration,
        "5s",
        "A client that pings more often is sent away; 0s is 5m0s.",
    ),
    yes(
        "grpc-keepalive-timeout",
        Kind::Duration,
        "20s",
        "Time after which a client that does not answer a ping is given up; 0s is the default.",
    ),
    yes(
        "heartbeat-interval",
        Kind::Uint,
        "100",
        "Milliseconds between heartbeats.",
    ),
    yes(
        "host-whitelist",
        Kind::Text,
        "*",
        "Hosts that requests over plain HTTP may be for, separated by commas; * for every one.",
    ),
    yes(
        "initial-advertise-peer-urls",
        Kind::Urls,
        "http://localhost:2380",
        "URLs under which other members reach this one.",
    ),
    yes(
        "initial-cluster",
        Kind::Text,
        "default=http://localhost:2380",
        "Members of a new cluster: name=url[,name=url...].",
    ),
    yes(
        "initial-cluster-state",
        Kind::Choice(&["new", "existing"]),
        "new",
        "Whether the cluster is new or existing.",
    ),
    yes(
        "initial-cluster-token",
        Kind::Text,
        "etcd-cluster",
        "Tells clusters apart that start from the same URLs.",
    ),
    yes(
        "initial-election-tick-advance",
        Kind::Bool,
        "true",
        "Shorten the first wait for an election at start.",
    ),
    yes("key-file", Kind::Text, "", "Key of --cert-file."),
    yes(
        "listen-client-http-urls",
        Kind::Urls,
        "",
        "URLs to listen on for HTTP alone; with one of these, --listen-client-urls are for gRPC alone.",
    ),
    yes(
        "listen-client-urls",
        Kind::Urls,
        "http://localhost:2379",
        "URLs to listen on for clients, gRPC and HTTP alike; unix:// and unixs:// are sockets in files.",
    ),
    yes(
        "listen-metrics-urls",
        Kind::Urls,
        "",
        "URLs to listen on for /metrics and the health endpoints alone.",
    ),
    yes(
        "listen-peer-urls",
        Kind::Urls,
        "http://localhost:2380",
        "URLs to listen on for other members.",
    ),
    yes("log-format", Kind::Text, "json", "json or console."),
    yes(
        "log-level",
        Kind::Text,
        "info",
        "Least severe level to log: debug, info, warn, error, panic or fatal.",
    ),
    yes(
        "log-outputs",
        Kind::Text,
        "default",
        "Where log lines go: default, stderr, stdout, systemd/journal or files, separated by commas.",
    ),
    yes(
        "log-rotation-config-json",
        Kind::Text,
        crate::log::Settings::ROTATION_CONFIG,
        "What --enable-log-rotation does: maxsize in MB, maxage in days, maxbackups, localtime and compress.",
    ),
    yes(
        "logger",
        Kind::Text,
        "zap",
        "Kind of log lines; zap is all there is.",
    ),
    yes(
        "max-concurrent-streams",
        Kind::Uint32,
        "4294967295",
        "Most requests in flight on one client connection.",
    ),
    yes(
        "max-learners",
        Kind::Int,
        "1",
        "Most learners that the cluster may have; the same on every member.",
    ),
    yes(
        "max-request-bytes",
        Kind::Uint,
        "1572864",
        "Largest request a client may send, in bytes.",
    ),
    yes(
        "max-snapshots",
        Kind::Uint,
        "5",
        "Snapshot files to keep, 0 for all (deprecated by etcd 3.6).",
    ),
    yes(
        "max-txn-ops",
        Kind::Uint,
        "128",
        "Most operations in one transaction.",
    ),
    yes(
        "max-wals",
        Kind::Uint,
        "5",
        "Write-ahead log files to keep, 0 for all.",
    ),
    yes(
        "memory-mlock",
        Kind::Bool,
        "false",
        "Keep the memory of the process in RAM, index and caches with it; needs the right to (LimitMEMLOCK).",
    ),
    yes(
        "metrics",
        Kind::Text,
        "basic",
        "Level of detail of exported metrics: basic, or extensive for the time that each kind of call takes.",
    ),
    yes(
        "name",
        Kind::Text,
        "default",
        "Human-readable name of this member.",
    ),
    yes(
        "peer-auto-tls",
        Kind::Bool,
        "false",
        "Serve https peer URLs with a certificate made by this member, which authenticates nobody.",
    ),
    yes(
        "peer-cert-allowed-cn",
        Kind::Text,
        "",
        "Common names, separated by commas, one of which another member's certificate must bear.",
    ),
    yes(
        "peer-cert-allowed-hostname",
        Kind::Text,
        "",
        "Host names, separated by commas, one of which another member's certificate must be valid for.",
    ),
    yes(
        "peer-cert-file",
        Kind::Text,
        "",
        "Certificate chain for https peer URLs, also shown to other members.",
    ),
    yes(
        "peer-client-cert-auth",
        Kind::Bool,
        "false",
        "Demand certificates of other members.",
    ),
    yes(
        "peer-client-cert-file",
        Kind::Text,
        "",
        "Certificate chain to show to other members; --peer-cert-file when empty.",
    ),
    yes(
        "peer-client-key-file",
        Kind::Text,
        "",
        "Key of --peer-client-cert-file.",
    ),
    yes(
        "peer-crl-file",
        Kind::Text,
        "",
        "List of revoked certificates of members (DER or PEM), read for each connection.",
    ),
    yes("peer-key-file", Kind::Text, "", "Key of --peer-cert-file."),
    yes(
        "peer-skip-client-san-verification",
        Kind::Bool,
        "false",
        "Do not compare the names in another member's certificate with its address.",
    ),
    yes(
        "peer-trusted-ca-file",
        Kind::Text,
        "",
        "Authorities of other members' certificates.",
    ),
    yes(
        "pre-vote",
        Kind::Bool,
        "true",
        "Ask whether an election can be won before holding it.",
    ),
    yes(
        "quota-backend-bytes",
        Kind::Int,
        "0",
        "Size at which the store refuses writes; 0 is 2 GiB, negative is no limit.",
    ),
    yes(
        "raft-read-timeout",
        Kind::Duration,
        "5s",
        "Time after which a stream of a peer that brings nothing is given up; 5s at least.",
    ),
    yes(
        "raft-write-timeout",
        Kind::Duration,
        "5s",
        "Time after which a stream to a peer that takes nothing is given up; 5s at least.",
    ),
    yes(
        "self-signed-cert-validity",
        Kind::Uint,
        "1",
        "Years for which certificates made by this member are valid.",
    ),
    yes(
        "snapshot-catchup-entries",
        Kind::Uint,
        "5000",
        "Log entries kept behind a snapshot for slow followers.",
    ),
    yes(
        "snapshot-count",
        Kind::Uint,
        "10000",
        "Applied entries between two raft snapshots.",
    ),
    yes(
        "socket-reuse-address",
        Kind::Bool,
        "false",
        "Listen on an address that has old connections; always so.",
    ),
    yes(
        "socket-reuse-port",
        Kind::Bool,
        "false",
        "Share listened addresses with other processes that say so too (SO_REUSEPORT).",
    ),
    yes(
        "strict-reconfig-check",
        Kind::Bool,
        "true",
        "Refuse changes of the membership that would endanger the quorum.",
    ),
    yes(
        "tls-max-version",
        Kind::Text,
        "",
        "Highest TLS version: TLS1.2 or TLS1.3; empty for the highest there is.",
    ),
    yes(
        "tls-min-version",
        Kind::Text,
        "TLS1.2",
        "Lowest TLS version: TLS1.2 or TLS1.3.",
    ),
    yes(
        "trusted-ca-file",
        Kind::Text,
        "",
        "Authorities of clients' certificates; naming it demands certificates of clients.",
    ),
    yes(
        "unsafe-no-fsync",
        Kind::Bool,
        "false",
        "Do not wait for the disk. Loses acknowledged writes in a crash.",
    ),
    yes(
        "v2-deprecation",
        Kind::Choice(&[
            "write-only",
            "write-only-skip-check",
            "write-only-drop-data",
            "gone",
        ]),
        "write-only",
        "Without effect (deprecated by etcd 3.6).",
    ),
    yes(
        "version",
        Kind::Bool,
        "false",
        "Print the version and exit.",
    ),
    yes(
        "wal-dir",
        Kind::Text,
        "",
        "Separate directory for the write-ahead log.",
    ),
    yes(
        "warning-apply-duration",
        Kind::Duration,
        "100ms",
        "Time to apply one request above which a warning is logged.",
    ),
    yes(
        "warning-unary-request-duration",
        Kind::Duration,
        "300ms",
        "Time to answer one request above which a warning is logged; 0s is the default.",
    ),
    yes(
        "watch-progress-notify-interval",
        Kind::Duration,
        "0s",
        "Time between notifications to watchers that want them; 0s is 10m0s, less than 100ms is 100ms.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_defaults() {
        assert!(FLAGS.is_sorted_by(|a, b| a.name < b.name));
        for flag in FLAGS {
            assert_eq!(flag.is_default(flag.default), Ok(true), "{}", flag.name);
            assert!(!IGNORED.contains(&flag.name), "{}", flag.name);
        }
    }

    #[test]
    fn defaults_are_recognised_in_any_spelling() {
        let is_default = |name: &str, text: &str| find(name).expect(name).is_default(text);
        assert_eq!(is_default("compact-hash-check-time", "60s"), Ok(true));
        assert_eq!(is_default("strict-reconfig-check", "T"), Ok(true));
        assert_eq!(is_default("bcrypt-cost", "0xa"), Ok(true));
        assert_eq!(is_default("cors", "*"), Ok(true));
        assert_eq!(
            is_default("listen-metrics-urls", "http://127.0.0.1:1"),
            Ok(false)
        );
        assert_eq!(is_default("enable-pprof", "true"), Ok(false));
        assert_eq!(is_default("bcrypt-cost", "x"), Err(ValueError::Syntax));
    }
}
