//! Each flag of etcd with a value that is none: the exit code is etcd's, the message names flag, value and what to do, and
//! nothing is created.

use retcd_tests::{binary, peers, tree};

use crate::flags::run_in;
use crate::help::listed;

/// What ours does, and whether etcd does the same.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Code {
    /// This exit code.
    Same(i32),
    /// This one; etcd takes the value, or comes to another end. Why ours does not.
    Ours(i32, &'static str),
}
use Code::{Ours, Same};

struct Case {
    flag: &'static str,
    value: &'static str,
    /// Beside the flag.
    more: &'static [&'static str],
    code: Code,
    /// Part of the sentence that says what to do.
    remedy: &'static str,
}

const fn case(flag: &'static str, value: &'static str, code: Code, remedy: &'static str) -> Case {
    Case { flag, value, more: &[], code, remedy }
}

const fn with(
    more: &'static [&'static str],
    flag: &'static str,
    value: &'static str,
    code: Code,
    remedy: &'static str,
) -> Case {
    Case { flag, value, more, code, remedy }
}

const NUMBER: &str = "a whole number";
const SWITCH: &str = "true or false";
const DURATION: &str = "numbers with units, such as 300ms, 5s or 1h30m";
const URLS: &str = "URLs with a port and no path, such as http://10.0.0.1:2380";
const TLS: &[&str] = &["--listen-client-urls=https://127.0.0.1:0", "--advertise-client-urls=https://127.0.0.1:2379"];
const PEER_TLS: &[&str] = &["--peer-key-file=/nope/k"];
const PEER_DIAL: &[&str] = &["--peer-cert-file=/nope/c", "--peer-key-file=/nope/k"];
const REGISTRY: &[&str] = &["--discovery-token=x", "--discovery-endpoints=127.0.0.1:1"];
const STILL: &str = "leave the flag out";
const HARMFUL: &str = "etcd goes on with a value that can only do harm";
const LATER: &str = "not there yet";
const PANIC: &str = "etcd ends with a panic";

/// All flags but those of [`ANYTHING`].
const CASES: &[Case] = &[
    with(&["--initial-cluster=a=http://localhost:2380"], "name", "b", Same(1), "start it with --name set to one"),
    case("data-dir", "/dev/null/x", Same(1), "give the user that runs the member read and write permission"),
    case("wal-dir", "/dev/null/x", Ours(1, PANIC), "give the user that runs the member read and write permission"),
    case("config-file", "/nope", Same(1), "name a file that the user of the member can read"),
    case("version", "maybe", Same(2), SWITCH),
    case("heartbeat-interval", "0", Same(1), "give --heartbeat-interval in milliseconds"),
    case("election-timeout", "50001", Same(1), "50000 at most"),
    case("initial-election-tick-advance", "maybe", Same(2), SWITCH),
    case("pre-vote", "maybe", Same(2), SWITCH),
    case("feature-gates", "Foo=true", Same(2), "takes Name=true or Name=false; the names:"),
    case("listen-peer-urls", "http://x:1", Same(1), "a name may be advertised"),
    case("listen-client-urls", "127.0.0.1:2379", Same(2), URLS),
    case("listen-client-http-urls", "ftp://127.0.0.1:1", Same(2), URLS),
    case("listen-metrics-urls", "http://x:1", Same(1), "a name may be advertised"),
    case("initial-advertise-peer-urls", "http://127.0.0.1:2380/x", Same(2), URLS),
    case("advertise-client-urls", "http://:2379", Same(1), "put the IP address or the name before the port"),
    case("socket-reuse-port", "maybe", Same(2), SWITCH),
    case("socket-reuse-address", "maybe", Same(2), SWITCH),
    case("initial-cluster", "a", Same(1), "--initial-cluster takes name=url"),
    case("initial-cluster-state", "old", Same(2), "takes one of new, existing"),
    case("max-learners", "-1", Same(1), "leave --max-learners out"),
    case("strict-reconfig-check", "maybe", Same(2), SWITCH),
    case("raft-read-timeout", "5", Same(2), DURATION),
    case("raft-write-timeout", "5", Same(2), DURATION),
    case("downgrade-check-time", "5", Same(2), DURATION),
    with(&["--initial-cluster=a=http://localhost:1"], "discovery-srv", "x", Same(1), "leave two of --initial-cluster"),
    case("discovery-token", "x", Same(1), "give the missing one"),
    with(&["--discovery-token=x"], "discovery-endpoints", "a,,b", Same(1), "take the comma too many out"),
    case("discovery-dial-timeout", "5", Same(2), DURATION),
    case("discovery-request-timeout", "5", Same(2), DURATION),
    case("discovery-keepalive-time", "5", Same(2), DURATION),
    case("discovery-keepalive-timeout", "5", Same(2), DURATION),
    case("discovery-insecure-transport", "maybe", Same(2), SWITCH),
    case("discovery-insecure-skip-tls-verify", "maybe", Same(2), SWITCH),
    with(REGISTRY, "discovery-cert", "/nope/c", Same(1), "--discovery-cert"),
    with(REGISTRY, "discovery-key", "/nope/k", Same(1), "--discovery-cert"),
    with(REGISTRY, "discovery-cacert", "/nope/ca", Same(1), "--discovery-c"),
    case("discovery-fallback", "proxy", Same(1), "leave --discovery-fallback out"),
    case("quota-backend-bytes", "2G", Same(2), NUMBER),
    case("backend-batch-interval", "-1s", Ours(1, HARMFUL), "leave --backend-batch-interval out"),
    case("backend-batch-limit", "-1", Ours(1, HARMFUL), "leave --backend-batch-limit out"),
    case("memory-mlock", "maybe", Same(2), SWITCH),
    case("bootstrap-defrag-threshold-megabytes", "1G", Same(2), NUMBER),
    case("snapshot-count", "-1", Same(2), NUMBER),
    case("snapshot-catchup-entries", "1e3", Same(2), NUMBER),
    case("max-snapshots", "", Same(2), NUMBER),
    case("max-wals", "five", Same(2), NUMBER),
    case("auto-compaction-mode", "never", Same(1), "give periodic or revision"),
    case("auto-compaction-retention", "5d", Same(1), "give a duration with a unit (30m, 12h)"),
    case("compaction-batch-limit", "-1", Ours(1, HARMFUL), "leave --compaction-batch-limit out"),
    case("compaction-sleep-interval", "-1s", Ours(1, HARMFUL), "leave --compaction-sleep-interval out"),
    case("corrupt-check-time", "5s", Ours(1, LATER), STILL),
    case("compact-hash-check-time", "0s", Same(1), STILL),
    case("v2-deprecation", "now", Same(2), "takes one of write-only"),
    case("max-request-bytes", "1.5MB", Same(2), NUMBER),
    case("max-txn-ops", "x", Same(2), NUMBER),
    case("max-concurrent-streams", "4294967296", Same(2), "from 0 to 4294967295"),
    case("grpc-keepalive-min-time", "5", Same(2), DURATION),
    case("grpc-keepalive-interval", "5", Same(2), DURATION),
    case("grpc-keepalive-timeout", "5", Same(2), DURATION),
    case("watch-progress-notify-interval", "5", Same(2), DURATION),
    case("enable-grpc-gateway", "maybe", Same(2), SWITCH),
    case("cors", "", Same(2), URLS),
    with(TLS, "cert-file", "/nope/c", Same(1), "--cert-file, --key-file and --trusted-ca-file (and"),
    with(TLS, "key-file", "/nope/k", Same(1), "--cert-file, --key-file and --trusted-ca-file (and"),
    case("client-cert-auth", "maybe", Same(2), SWITCH),
    case("auto-tls", "maybe", Same(2), SWITCH),
    with(PEER_TLS, "peer-cert-file", "/nope/c", Same(1), "--peer-cert-file, --peer-key-file"),
    case("peer-key-file", "/nope/k", Same(1), "--peer-cert-file, --peer-key-file"),
    case("peer-trusted-ca-file", "/nope/ca", Same(1), "--peer-cert-file, --peer-key-file"),
    case("peer-client-cert-auth", "maybe", Same(2), SWITCH),
    case("peer-skip-client-san-verification", "maybe", Same(2), SWITCH),
    case("peer-auto-tls", "maybe", Same(2), SWITCH),
    with(PEER_DIAL, "peer-client-cert-file", "/nope/cc", Same(1), "--peer-cert-file, --peer-key-file"),
    with(PEER_DIAL, "peer-client-key-file", "/nope/ck", Same(1), "--peer-cert-file, --peer-key-file"),
    case("tls-min-version", "TLS1.1", Same(1), "give TLS1.2 or TLS1.3 with --tls-min-version"),
    case("tls-max-version", "SSL3", Same(1), "--tls-max-version, or leave them out"),
    case("cipher-suites", "NULL", Same(1), "--cipher-suites takes Go's names"),
    case("self-signed-cert-validity", "1y", Same(2), NUMBER),
    case("auth-token", "basic", Same(1), "the kinds of token are simple and jwt"),
    case("auth-token-ttl", "5m", Same(2), NUMBER),
    case("bcrypt-cost", "low", Same(2), NUMBER),
    case("log-level", "loud", Same(2), "give debug, info, warn, error, panic or fatal with --log-level"),
    case("log-format", "xml", Same(1), "give json or console with --log-format"),
    case("log-outputs", "syslog://localhost/", Same(1), "give --log-outputs stderr, stdout, systemd/journal"),
    case("logger", "capnslog", Same(1), "leave --logger out"),
    with(&["--log-outputs=x.log"], "enable-log-rotation", "maybe", Same(2), SWITCH),
    with(
        &["--log-outputs=/nope/x.log", "--enable-log-rotation"],
        "log-rotation-config-json",
        "{",
        Same(1),
        "give --log-rotation-config-json a map with maxsize",
    ),
    case("warning-apply-duration", "-1s", Ours(1, HARMFUL), "leave --warning-apply-duration out"),
    case("warning-unary-request-duration", "-1s", Ours(1, HARMFUL), "leave --warning-unary-request-duration out"),
    case("enable-pprof", "maybe", Same(2), SWITCH),
    case("enable-distributed-tracing", "maybe", Same(2), SWITCH),
    case("distributed-tracing-sampling-rate", "half", Same(2), NUMBER),
    case("force-new-cluster", "maybe", Same(2), SWITCH),
    case("unsafe-no-fsync", "maybe", Same(2), SWITCH),
    // Not of etcd 3.7.
    case("enable-v2", "maybe", Ours(2, ""), SWITCH),
    case("experimental-backend-engine", "rocks", Ours(2, ""), "the engines are bolt and sled"),
];

/// Flags that etcd takes with any text: names and passwords, files that it only reads when somebody connects, and words
/// of which all but one stand for the default.
const ANYTHING: &[&str] = &[
    "backend-bbolt-freelist-type",
    "client-cert-allowed-hostname",
    "client-cert-file",
    "client-crl-file",
    "client-key-file",
    "discovery-password",
    "discovery-srv-name",
    "discovery-user",
    "distributed-tracing-address",
    "distributed-tracing-instance-id",
    "distributed-tracing-service-name",
    "host-whitelist",
    "initial-cluster-token",
    "metrics",
    "peer-cert-allowed-cn",
    "peer-cert-allowed-hostname",
    "peer-crl-file",
    "trusted-ca-file",
];

/// Refused for what is said beside them, whatever their values.
const TOGETHER: &[&str] = &["discovery-srv", "discovery-token", "discovery-endpoints"];

#[test]
fn every_flag_is_there() {
    let mut known: Vec<_> = CASES.iter().map(|case| case.flag).chain(ANYTHING.iter().copied()).collect();
    known.sort_unstable();
    let flags = listed(&binary::ours());
    assert_eq!(known, flags.keys().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_bad_value_is_refused_with_etcds_exit_code() {
    let etcd = peers::go_etcd();
    let mut wrong = Vec::new();
    for Case { flag, value, more, code, remedy } in CASES {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let own = format!("--{flag}={value}");
        let mut args: Vec<&str> = [own.as_str()].into_iter().chain(more.iter().copied()).collect();
        // Some listen before they find what is wrong, and the default ports may not be free.
        let says = |args: &[&str], start: &str| args.iter().any(|arg| arg.starts_with(start));
        if !says(&args, "--listen-client-urls") && *flag != "advertise-client-urls" {
            args.extend(["--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:2379"]);
        }
        if !says(&args, "--listen-peer-urls") {
            args.push("--listen-peer-urls=http://127.0.0.1:0");
        }
        let (Same(wanted) | Ours(wanted, _)) = code;
        let (got, said) = run_in(dir.path(), &binary::ours(), &args, &[]);
        let named = said.contains(flag) && (said.contains(value) || TOGETHER.contains(flag)) && said.contains(remedy);
        if got != Some(*wanted) || !named || said.contains("panicked") {
            wrong.push(format!("{args:?}: {got:?} instead of {wanted}, flag, value and {remedy:?} wanted:\n{said}"));
        }
        let left = tree::image(dir.path());
        if left.len() > 1 {
            wrong.push(format!("{args:?}: left {:?}", left.iter().map(|(path, ..)| path).collect::<Vec<_>>()));
        }
        if let (Some(etcd), Same(wanted)) = (&etcd, code) {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let (got, said) = run_in(dir.path(), etcd, &args, &[]);
            if got != Some(*wanted) {
                wrong.push(format!("{args:?}: etcd ends with {got:?}, ours with {wanted}:\n{said}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
