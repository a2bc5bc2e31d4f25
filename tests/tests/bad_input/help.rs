//! Names, defaults and environment variables of all flags, compared with Go etcd's.

use std::collections::BTreeMap;
use std::path::Path;

use retcd_tests::{binary, peers};

use crate::flags::run;

/// Flags of etcd 3.7: 108 of its library, five of its program.
const ALL: usize = 108 + 5;

/// What etcd's help shows in another way, or not at all: by name, with the value that it has.
const DIFFERENT: &[(&str, &str)] = &[
    ("backend-batch-interval", "0s"),
    ("bootstrap-defrag-threshold-megabytes", "0"),
    ("compact-hash-check-time", "1m0s"),
    // Its help tells what 0 stands for.
    ("compaction-batch-limit", "0"),
    ("compaction-sleep-interval", "0s"),
    ("data-dir", ""),
    ("downgrade-check-time", "5s"),
    ("enable-grpc-gateway", "true"),
    ("grpc-keepalive-interval", "2h0m0s"),
    ("max-concurrent-streams", "4294967295"),
    ("memory-mlock", "false"),
    ("snapshot-catchup-entries", "5000"),
    ("watch-progress-notify-interval", "0s"),
];

/// Shown by etcd's help, though it does not take them any more.
const NOT_TAKEN: &[&str] = &["discovery", "discovery-proxy"];
/// Taken by etcd, though its list of flags does not show them.
const NOT_SHOWN: &[&str] = &["config-file", "version"];
/// Not of etcd 3.7.
const OUR_OWN: &[&str] = &["enable-v2", "experimental-backend-engine"];

/// Flags with their defaults, as `--help` lists them.
pub(crate) fn listed(program: &Path) -> BTreeMap<String, String> {
    let (code, said) = run(program, &["--help"], &[]);
    assert_eq!(code, Some(0));
    // Those of earlier releases have no default any more.
    let said = said.split("\nFlags of earlier releases").next().expect("a text");
    let lines = said.lines().filter_map(|line| line.strip_prefix("  --"));
    lines
        .map(|line| {
            let (name, default) = line.split_once(' ').unwrap_or((line, ""));
            (name.to_owned(), default.trim().trim_matches('\'').to_owned())
        })
        .collect()
}

#[test]
fn help_lists_what_etcds_does() {
    let mut ours = listed(&binary::ours());
    ours.retain(|name, _| !OUR_OWN.contains(&name.as_str()));
    assert_eq!(ours.len(), ALL);
    let Some(program) = peers::go_etcd() else { return };
    let mut etcds = listed(&program);
    for name in NOT_TAKEN {
        etcds.remove(*name).expect("shown");
    }
    for (name, default) in DIFFERENT {
        assert_ne!(etcds.insert((*name).into(), (*default).into()).as_deref(), Some(*default), "{name}");
    }
    for name in NOT_SHOWN {
        ours.remove(*name).expect("shown");
    }
    assert_eq!(ours, etcds);
}

/// All flags at their defaults, but for one that is wrong, are known and of the right notation; so are all variables.
#[test]
fn defaults_are_taken_as_flags_and_as_variables() {
    let mut flags = listed(&binary::ours());
    flags.retain(|name, _| !OUR_OWN.contains(&name.as_str()));
    flags.insert("heartbeat-interval".into(), "0".into());
    // Without endpoints is not the same to etcd as with one that has no name.
    let args = flags.iter().filter(|(name, _)| *name != "discovery-endpoints");
    let args: Vec<_> = args.map(|(name, default)| format!("--{name}={default}")).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    // An empty variable is none, and one for the version is warned of.
    let env = flags.iter().filter(|(name, default)| !default.is_empty() && *name != "version");
    let env: Vec<_> =
        env.map(|(name, default)| (format!("ETCD_{}", name.to_uppercase().replace('-', "_")), default)).collect();
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for program in [Some(binary::ours()), peers::go_etcd()].into_iter().flatten() {
        for (args, env) in [(&args[..], &[][..]), (&[], &env)] {
            let (code, said) = run(&program, args, env);
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains("--heartbeat-interval must be >0 (set to 0ms)"), "{said}");
            assert!(!said.contains("unrecognized environment variable"), "{said}");
        }
    }
}
