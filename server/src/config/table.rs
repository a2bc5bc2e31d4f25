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

impl Flag {
    /// The environment variable that stands for the flag.
    pub(super) fn env(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
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
    no("auto-compaction-mode", Kind::Text, "periodic"),
    no("auto-compaction-retention", Kind::Text, "0"),
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
    no("bootstrap-defrag-threshold-megabytes", Kind::Uint, "0"),
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
    no("config-file", Kind::Text, ""),
    no("corrupt-check-time", Kind::Duration, "0s"),
    no("cors", Kind::Urls, "*"),
    yes(
        "data-dir",
        Kind::Text,
        "",
        "Directory of all that the member stores; `<name>.etcd` when empty.",
    ),
    no("discovery-cacert", Kind::Text, ""),
    no("discovery-cert", Kind::Text, ""),
    no("discovery-dial-timeout", Kind::Duration, "2s"),
    no("discovery-endpoints", Kind::Text, ""),
    no(
        "discovery-fallback",
        Kind::Choice(&["exit", "proxy"]),
        "exit",
    ),
    no("discovery-insecure-skip-tls-verify", Kind::Bool, "false"),
    no("discovery-insecure-transport", Kind::Bool, "true"),
    no("discovery-keepalive-time", Kind::Duration, "2s"),
    no("discovery-keepalive-timeout", Kind::Duration, "6s"),
    no("discovery-key", Kind::Text, ""),
    no("discovery-password", Kind::Text, ""),
    no("discovery-request-timeout", Kind::Duration, "5s"),
    no("discovery-srv", Kind::Text, ""),
    no("discovery-srv-name", Kind::Text, ""),
    no("discovery-token", Kind::Text, ""),
    no("discovery-user", Kind::Text, ""),
    no("distributed-tracing-address", Kind::Text, "localhost:4317"),
    no("distributed-tracing-instance-id", Kind::Text, ""),
    no("distributed-tracing-sampling-rate", Kind::Int, "0"),
    no("distributed-tracing-service-name", Kind::Text, "etcd"),
    no("downgrade-check-time", Kind::Duration, "5s"),
    yes(
        "election-timeout",
        Kind::Uint,
        "1000",
        "Milliseconds without a leader before an election.",
    ),
    no("enable-distributed-tracing", Kind::Bool, "false"),
    no("enable-grpc-gateway", Kind::Bool, "true"),
    yes(
        "enable-log-rotation",
        Kind::Bool,
        "false",
        "Rename the file of --log-outputs when it is full; it must be the only file there.",
    ),
    no("enable-pprof", Kind::Bool, "false"),
    yes(
        "experimental-backend-engine",
        Kind::Text,
        "bolt",
        "Engine of the store: bolt (etcd's own file) or sled (in builds with that feature).",
    ),
    yes(
        "experimental-watch-progress-notify-interval",
        Kind::Duration,
        "0s",
        "Name of --watch-progress-notify-interval before etcd 3.6.",
    ),
    no("feature-gates", Kind::Text, ""),
    yes(
        "force-new-cluster",
        Kind::Bool,
        "false",
        "Go on as the only member of the cluster, with the data of this one; all others are removed.",
    ),
    no("grpc-keepalive-interval", Kind::Duration, "2h0m0s"),
    no("grpc-keepalive-min-time", Kind::Duration, "5s"),
    no("grpc-keepalive-timeout", Kind::Duration, "20s"),
    yes(
        "heartbeat-interval",
        Kind::Uint,
        "100",
        "Milliseconds between heartbeats.",
    ),
    no("host-whitelist", Kind::Text, "*"),
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
    no("listen-client-http-urls", Kind::Urls, ""),
    yes(
        "listen-client-urls",
        Kind::Urls,
        "http://localhost:2379",
        "URLs to listen on for clients, gRPC and HTTP alike.",
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
    no("memory-mlock", Kind::Bool, "false"),
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
    no("socket-reuse-address", Kind::Bool, "false"),
    no("socket-reuse-port", Kind::Bool, "false"),
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
    no("warning-unary-request-duration", Kind::Duration, "300ms"),
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
