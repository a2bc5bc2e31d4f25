//! Flags of etcd 3.4 to 3.6 that 3.7 has no more, as they stand in old units, scripts and files.
//!
//! Where one has a replacement, it is that; where it does nothing, it does nothing; where leaving it out would change
//! what the member is, the start is refused. etcd 3.7 refuses them all on the command line, and knows nothing of them in
//! the environment and in a file.
//!
//! Source: config-and-ops 2.1; etcd 3.5 `server/etcdmain/config.go`, etcd 3.6 `server/embed/config.go`.

use slog::Level;

use super::notice::Notice;
use super::table::{self, Flag, Kind};

/// A flag, and what becomes of it.
#[derive(Debug)]
pub(super) struct Old {
    pub(super) flag: Flag,
    pub(super) fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// This flag takes the value.
    Renamed(&'static str),
    /// This feature gate takes it.
    Gate(&'static str),
    /// No value has an effect; why.
    Gone(&'static str),
    /// The default has no effect; what to do about any other value.
    Refused(&'static str),
    /// It has a meaning of its own; how to say it today.
    Kept(&'static str),
}

/// The old flag called `name`.
pub(super) fn find(name: &str) -> Option<&'static Old> {
    OLD.binary_search_by(|old| old.flag.name.cmp(name))
        .ok()
        .map(|at| &OLD[at])
}

/// The flag called `name`, of whatever release.
pub(super) fn find_any(name: &str) -> Option<&'static Flag> {
    table::find(name).or_else(|| find(name).map(|old| &old.flag))
}

impl Old {
    /// etcd 3.6's text for a start that names both the flag and its replacement.
    pub(super) fn conflict(&self) -> Option<(&'static str, String)> {
        let Fate::Renamed(new) = self.fate else {
            return None;
        };
        let old = self.flag.name;
        let text = match new {
            "warning-unary-request-duration" => {
                format!("both --{old} and --{new} flags are set. Use only --{new}")
            }
            _ => {
                format!("cannot set --{old} and --{new} at the same time, please use --{new} only")
            }
        };
        Some((new, text))
    }
}

impl Old {
    /// What to say about its use. `open`: what it said of its gate.
    pub(super) fn notice(&self, open: bool) -> Notice {
        const REPLACED: &str =
            "flag is of an earlier etcd release and stands for its replacement: use that instead";
        const GONE: &str =
            "flag is of an earlier etcd release and has no effect any more: leave it out";
        let (message, key, text) = match self.fate {
            Fate::Renamed(new) => (REPLACED, "replacement", format!("--{new}")),
            Fate::Gate(gate) => {
                let new = format!("--feature-gates={gate}={open}");
                (REPLACED, "replacement", new)
            }
            Fate::Kept(new) => (REPLACED, "replacement", new.to_owned()),
            Fate::Gone(reason) => (GONE, "reason", reason.to_owned()),
            Fate::Refused(_) => (GONE, "reason", "it says what holds anyhow".to_owned()),
        };
        let flag = ("flag", format!("--{}", self.flag.name).into());
        Notice::new(Level::Warning, message, vec![flag, (key, text.into())])
    }
}

const fn old(name: &'static str, kind: Kind, default: &'static str, fate: Fate) -> Old {
    Old {
        flag: Flag {
            name,
            kind,
            default,
            help: None,
        },
        fate,
    }
}

const NO_PROXY: Fate = Fate::Gone("there is no v2 proxy any more");

/// Sorted by name.
pub(super) static OLD: &[Old] = &[
    old(
        "debug",
        Kind::Bool,
        "false",
        Fate::Kept("--log-level=debug"),
    ),
    old(
        "discovery",
        Kind::Text,
        "",
        Fate::Refused(
            "v2 discovery is gone since etcd 3.7; leave the flag out where the member has its data already, else name the \
             members with --initial-cluster, or use --discovery-token and --discovery-endpoints, or --discovery-srv",
        ),
    ),
    old(
        "discovery-proxy",
        Kind::Text,
        "",
        Fate::Gone("there is no v2 discovery any more"),
    ),
    old(
        "experimental-bootstrap-defrag-threshold-megabytes",
        Kind::Uint,
        "0",
        Fate::Renamed("bootstrap-defrag-threshold-megabytes"),
    ),
    old(
        "experimental-compact-hash-check-enabled",
        Kind::Bool,
        "false",
        Fate::Gate("CompactHashCheck"),
    ),
    old(
        "experimental-compact-hash-check-time",
        Kind::Duration,
        "1m0s",
        Fate::Renamed("compact-hash-check-time"),
    ),
    old(
        "experimental-compaction-batch-limit",
        Kind::Int,
        "0",
        Fate::Renamed("compaction-batch-limit"),
    ),
    old(
        "experimental-compaction-sleep-interval",
        Kind::Duration,
        "0s",
        Fate::Renamed("compaction-sleep-interval"),
    ),
    old(
        "experimental-corrupt-check-time",
        Kind::Duration,
        "0s",
        Fate::Renamed("corrupt-check-time"),
    ),
    old(
        "experimental-distributed-tracing-address",
        Kind::Text,
        "localhost:4317",
        Fate::Renamed("distributed-tracing-address"),
    ),
    old(
        "experimental-distributed-tracing-instance-id",
        Kind::Text,
        "",
        Fate::Renamed("distributed-tracing-instance-id"),
    ),
    old(
        "experimental-distributed-tracing-sampling-rate",
        Kind::Int,
        "0",
        Fate::Renamed("distributed-tracing-sampling-rate"),
    ),
    old(
        "experimental-distributed-tracing-service-name",
        Kind::Text,
        "etcd",
        Fate::Renamed("distributed-tracing-service-name"),
    ),
    old(
        "experimental-downgrade-check-time",
        Kind::Duration,
        "5s",
        Fate::Renamed("downgrade-check-time"),
    ),
    old(
        "experimental-enable-distributed-tracing",
        Kind::Bool,
        "false",
        Fate::Renamed("enable-distributed-tracing"),
    ),
    old(
        "experimental-enable-lease-checkpoint",
        Kind::Bool,
        "false",
        Fate::Gate("LeaseCheckpoint"),
    ),
    old(
        "experimental-enable-lease-checkpoint-persist",
        Kind::Bool,
        "false",
        Fate::Gate("LeaseCheckpointPersist"),
    ),
    old(
        "experimental-enable-v2v3",
        Kind::Text,
        "",
        Fate::Refused(
            "v2 keys over a prefix of the v3 keys are gone since etcd 3.6; leave the flag out, and read the keys with the \
             v3 API",
        ),
    ),
    old(
        "experimental-initial-corrupt-check",
        Kind::Bool,
        "false",
        Fate::Gate("InitialCorruptCheck"),
    ),
    old(
        "experimental-memory-mlock",
        Kind::Bool,
        "false",
        Fate::Renamed("memory-mlock"),
    ),
    old(
        "experimental-peer-skip-client-san-verification",
        Kind::Bool,
        "false",
        Fate::Renamed("peer-skip-client-san-verification"),
    ),
    old(
        "experimental-snapshot-catchup-entries",
        Kind::Uint,
        "5000",
        Fate::Renamed("snapshot-catchup-entries"),
    ),
    old(
        "experimental-stop-grpc-service-on-defrag",
        Kind::Bool,
        "false",
        Fate::Gate("StopGRPCServiceOnDefrag"),
    ),
    old(
        "experimental-txn-mode-write-with-shared-buffer",
        Kind::Bool,
        "true",
        Fate::Gate("TxnModeWriteWithSharedBuffer"),
    ),
    old(
        "experimental-warning-apply-duration",
        Kind::Duration,
        "100ms",
        Fate::Renamed("warning-apply-duration"),
    ),
    old(
        "experimental-warning-unary-request-duration",
        Kind::Duration,
        "0s",
        Fate::Renamed("warning-unary-request-duration"),
    ),
    old(
        "experimental-watch-progress-notify-interval",
        Kind::Duration,
        "0s",
        Fate::Renamed("watch-progress-notify-interval"),
    ),
    old(
        "log-output",
        Kind::Text,
        "default",
        Fate::Renamed("log-outputs"),
    ),
    old(
        "log-package-levels",
        Kind::Text,
        "",
        Fate::Gone("all packages log at --log-level"),
    ),
    old(
        "proxy",
        Kind::Choice(&["off", "readonly", "on"]),
        "off",
        Fate::Refused(
            "the v2 proxy is gone since etcd 3.6; give clients the URLs of all members, or put a TCP load balancer in \
             front of the members",
        ),
    ),
    old("proxy-dial-timeout", Kind::Uint, "1000", NO_PROXY),
    old("proxy-failure-wait", Kind::Uint, "5000", NO_PROXY),
    old("proxy-read-timeout", Kind::Uint, "0", NO_PROXY),
    old("proxy-refresh-interval", Kind::Uint, "30000", NO_PROXY),
    old("proxy-write-timeout", Kind::Uint, "5000", NO_PROXY),
];

#[cfg(test)]
mod tests {
    use super::super::gates;
    use super::*;

    #[test]
    fn the_table_is_sorted_and_apart_from_the_other_and_its_replacements_exist() {
        assert!(OLD.is_sorted_by(|a, b| a.flag.name < b.flag.name));
        for Old { flag, fate } in OLD {
            assert!(table::find(flag.name).is_none(), "{}", flag.name);
            assert_eq!(flag.is_default(flag.default), Ok(true), "{}", flag.name);
            match fate {
                Fate::Renamed(new) => {
                    let new = table::find(new).expect("a flag");
                    assert_eq!(flag.kind, new.kind, "{}", flag.name);
                }
                Fate::Gate(gate) => assert!(gates::find(gate).is_some(), "{gate}"),
                Fate::Gone(_) | Fate::Refused(_) | Fate::Kept(_) => {}
            }
        }
    }
}
