//! The list of flags for `--help`, grouped, and what to do about a flag that was given wrong.

use std::fmt::Write as _;

use super::gates;
use super::old::{Fate, OLD};
use super::table::{self, FLAGS, Flag, Kind};
use crate::near::nearest;

/// Titles, and flags by name. Each flag is in one of them.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "The member",
        &[
            "name",
            "data-dir",
            "wal-dir",
            "config-file",
            "version",
            "heartbeat-interval",
            "election-timeout",
            "initial-election-tick-advance",
            "pre-vote",
            "feature-gates",
        ],
    ),
    (
        "Where it listens, and where others find it",
        &[
            "listen-peer-urls",
            "listen-client-urls",
            "listen-client-http-urls",
            "listen-metrics-urls",
            "initial-advertise-peer-urls",
            "advertise-client-urls",
            "socket-reuse-port",
            "socket-reuse-address",
        ],
    ),
    (
        "The cluster",
        &[
            "initial-cluster",
            "initial-cluster-state",
            "initial-cluster-token",
            "max-learners",
            "strict-reconfig-check",
            "raft-read-timeout",
            "raft-write-timeout",
            "downgrade-check-time",
        ],
    ),
    (
        "Finding the cluster",
        &[
            "discovery-srv",
            "discovery-srv-name",
            "discovery-token",
            "discovery-endpoints",
            "discovery-dial-timeout",
            "discovery-request-timeout",
            "discovery-keepalive-time",
            "discovery-keepalive-timeout",
            "discovery-insecure-transport",
            "discovery-insecure-skip-tls-verify",
            "discovery-cert",
            "discovery-key",
            "discovery-cacert",
            "discovery-user",
            "discovery-password",
            "discovery-fallback",
        ],
    ),
    (
        "What it stores",
        &[
            "quota-backend-bytes",
            "backend-batch-interval",
            "backend-batch-limit",
            "backend-bbolt-freelist-type",
            "experimental-backend-engine",
            "memory-mlock",
            "bootstrap-defrag-threshold-megabytes",
            "snapshot-count",
            "snapshot-catchup-entries",
            "max-snapshots",
            "max-wals",
            "auto-compaction-mode",
            "auto-compaction-retention",
            "compaction-batch-limit",
            "compaction-sleep-interval",
            "corrupt-check-time",
            "compact-hash-check-time",
            "v2-deprecation",
        ],
    ),
    (
        "What clients may ask",
        &[
            "max-request-bytes",
            "max-txn-ops",
            "max-concurrent-streams",
            "grpc-keepalive-min-time",
            "grpc-keepalive-interval",
            "grpc-keepalive-timeout",
            "watch-progress-notify-interval",
            "enable-grpc-gateway",
            "cors",
            "host-whitelist",
            "enable-v2",
        ],
    ),
    (
        "TLS with clients",
        &[
            "cert-file",
            "key-file",
            "trusted-ca-file",
            "client-cert-auth",
            "client-crl-file",
            "client-cert-allowed-hostname",
            "client-cert-file",
            "client-key-file",
            "auto-tls",
        ],
    ),
    (
        "TLS between members",
        &[
            "peer-cert-file",
            "peer-key-file",
            "peer-trusted-ca-file",
            "peer-client-cert-auth",
            "peer-crl-file",
            "peer-cert-allowed-cn",
            "peer-cert-allowed-hostname",
            "peer-skip-client-san-verification",
            "peer-client-cert-file",
            "peer-client-key-file",
            "peer-auto-tls",
        ],
    ),
    (
        "TLS with both",
        &[
            "tls-min-version",
            "tls-max-version",
            "cipher-suites",
            "self-signed-cert-validity",
        ],
    ),
    (
        "Users and roles",
        &["auth-token", "auth-token-ttl", "bcrypt-cost"],
    ),
    (
        "Logs, metrics and profiles",
        &[
            "log-level",
            "log-format",
            "log-outputs",
            "logger",
            "enable-log-rotation",
            "log-rotation-config-json",
            "warning-apply-duration",
            "warning-unary-request-duration",
            "metrics",
            "enable-pprof",
            "enable-distributed-tracing",
            "distributed-tracing-address",
            "distributed-tracing-service-name",
            "distributed-tracing-instance-id",
            "distributed-tracing-sampling-rate",
        ],
    ),
    (
        "Dangerous: these may lose data",
        &["force-new-cluster", "unsafe-no-fsync"],
    ),
];

/// All flags with their defaults, and what became of old ones.
pub(super) fn flag_list() -> String {
    let mut text = String::from(
        "\nA flag that is not given is taken from the environment: --data-dir from ETCD_DATA_DIR.\n",
    );
    for (title, names) in GROUPS {
        let _ = writeln!(text, "\n{title}:");
        for flag in names.iter().filter_map(|name| table::find(name)) {
            let _ = writeln!(text, "  --{} '{}'", flag.name, flag.default);
            let help = flag
                .help
                .unwrap_or("Not in retcd yet: only the default is accepted.");
            let _ = writeln!(text, "    {help}");
            if flag.name == "feature-gates" {
                let _ = writeln!(text, "    By default {}.", gates::list());
            }
        }
    }
    text.push_str("\nFlags of earlier releases that are still taken, each with a warning:\n");
    for old in OLD {
        let (name, default) = (old.flag.name, old.flag.default);
        let _ = match old.fate {
            Fate::Renamed(new) => writeln!(text, "  --{name}: now --{new}"),
            Fate::Gate(gate) => writeln!(text, "  --{name}: now --feature-gates={gate}"),
            Fate::Kept(new) => writeln!(text, "  --{name}: now {new}"),
            Fate::Gone(reason) => writeln!(text, "  --{name}: without effect, {reason}"),
            Fate::Refused(_) => writeln!(text, "  --{name}: only as '{default}'"),
        };
    }
    text
}

/// What to give instead of a bad value.
pub(super) fn remedy(flag: &Flag) -> String {
    let wanted = match flag.kind {
        Kind::Text if flag.name == "feature-gates" => {
            let gates = gates::list();
            return format!("--feature-gates takes Name=true or Name=false; the names: {gates}");
        }
        Kind::Text => "a text".to_owned(),
        Kind::Bool => "true or false".to_owned(),
        Kind::Uint => "a whole number, 0 or more".to_owned(),
        Kind::Uint32 => format!("a whole number from 0 to {}", u32::MAX),
        Kind::Int => "a whole number".to_owned(),
        Kind::Duration => "numbers with units, such as 300ms, 5s or 1h30m".to_owned(),
        Kind::Urls => {
            "URLs with a port and no path, such as http://10.0.0.1:2380, separated by commas"
                .to_owned()
        }
        Kind::Choice(values) => format!("one of {}", values.join(", ")),
    };
    format!(
        "--{} takes {wanted}; its default is '{}'",
        flag.name, flag.default
    )
}

/// What to do about an argument that is no flag.
pub(super) fn no_flag(argument: &str) -> String {
    match argument {
        "gateway" => "this program has no `gateway`: put a TCP load balancer in front of the members, or give clients the \
             URLs of all of them"
            .into(),
        "grpc-proxy" => {
            "this program has no `grpc-proxy`: give clients the URLs of all members".into()
        }
        _ if argument.starts_with(['\u{2013}', '\u{2014}']) => {
            "its dash is a long one, as word processors make it: write --".into()
        }
        _ => "take it out, or write it as --flag=value; truth values need the =, as in --auto-tls=false"
            .into(),
    }
}

/// What to do about a flag that there is not.
pub(super) fn unknown(name: &str) -> String {
    match nearest(name, FLAGS.iter().map(|flag| flag.name)) {
        Some(near) => format!("is --{near} meant? `etcd --help` lists the flags"),
        None => "leave it out; `etcd --help` lists the flags".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_in_one_group() {
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| *names).collect();
        grouped.sort_unstable();
        let all: Vec<_> = FLAGS.iter().map(|flag| &flag.name).collect();
        assert_eq!(grouped, all);
    }

    #[test]
    fn a_misspelt_name_is_recognised() {
        for (wrong, right) in [
            ("listen-client-url", "listen-client-urls"),
            ("intial-cluster", "initial-cluster"),
            ("data_dir", "data-dir"),
            ("nmae", "name"),
        ] {
            let advice = unknown(wrong);
            assert!(
                advice.starts_with(&format!("is --{right} meant?")),
                "{advice}"
            );
        }
        for strange in ["bogus", "", &"x".repeat(10_000)] {
            assert!(unknown(strange).starts_with("leave it out"), "{strange}");
        }
    }
}
