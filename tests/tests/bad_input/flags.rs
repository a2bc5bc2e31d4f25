//! Flags and environment, as etcd refuses them.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use retcd_tests::ports::Port;
use retcd_tests::{binary, peers};

struct Case {
    args: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    code: i32,
    says: &'static str,
}

const fn case(args: &'static [&'static str], code: i32, says: &'static str) -> Case {
    Case { args, env: &[], code, says }
}

const fn env(
    env: &'static [(&'static str, &'static str)],
    args: &'static [&'static str],
    code: i32,
    says: &'static str,
) -> Case {
    Case { args, env, code, says }
}

const CASES: &[Case] = &[
    case(&["--version"], 0, "etcd Version: 3.7.1\n"),
    case(&["-version"], 0, "etcd Version: 3.7.1\n"),
    case(&["--help"], 0, "--initial-cluster-token"),
    case(&["-h"], 0, "--initial-cluster-token"),
    case(&["--bogus"], 2, "flag provided but not defined: -bogus"),
    case(&["-bogus=1"], 2, "flag provided but not defined: -bogus"),
    case(&["--=x"], 2, "bad flag syntax: --=x"),
    case(&["---name=x"], 2, "bad flag syntax: ---name=x"),
    case(
        &["--feature-gates=Foo=true"],
        2,
        "invalid value \"Foo=true\" for flag -feature-gates: unrecognized feature gate: Foo",
    ),
    case(
        &["--feature-gates=LeaseCheckpointPersist=true"],
        1,
        "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
    ),
    case(&["--name"], 2, "flag needs an argument: -name"),
    case(&["extra"], 1, "\"extra\" is not a valid flag"),
    case(&["--pre-vote", "false"], 1, "\"false\" is not a valid flag"),
    case(&["--name=x", "extra"], 1, "\"extra\" is not a valid flag"),
    case(&["--initial-cluster-state=foo"], 2, "invalid value \"foo\" for flag -initial-cluster-state"),
    case(&["--snapshot-count=abc"], 2, "invalid value \"abc\" for flag -snapshot-count: parse error"),
    case(&["--snapshot-count=-1"], 2, "invalid value \"-1\" for flag -snapshot-count: parse error"),
    case(
        &["--snapshot-count=18446744073709551616"],
        2,
        "invalid value \"18446744073709551616\" for flag -snapshot-count: value out of range",
    ),
    case(&["--max-txn-ops="], 2, "invalid value \"\" for flag -max-txn-ops: parse error"),
    case(&["--quota-backend-bytes=1G"], 2, "invalid value \"1G\" for flag -quota-backend-bytes: parse error"),
    case(&["--backend-batch-limit=1k"], 2, "invalid value \"1k\" for flag -backend-batch-limit: parse error"),
    case(&["--backend-batch-interval=100"], 2, "invalid value \"100\" for flag -backend-batch-interval: parse error"),
    case(&["--unsafe-no-fsync=maybe"], 2, "invalid boolean value \"maybe\" for -unsafe-no-fsync: parse error"),
    case(
        &["--listen-client-urls=ftp://127.0.0.1:1"],
        2,
        "URL scheme must be http, https, unix, or unixs: ftp://127.0.0.1:1",
    ),
    case(
        &["--listen-peer-urls=http://127.0.0.1"],
        2,
        "URL address does not have the form \"host:port\": http://127.0.0.1",
    ),
    case(&["--listen-peer-urls=http://127.0.0.1:1/path"], 2, "URL must not contain a path: http://127.0.0.1:1/path"),
    case(&["--heartbeat-interval=0"], 1, "--heartbeat-interval must be >0 (set to 0ms)"),
    case(&["--election-timeout=0"], 1, "--election-timeout must be >0 (set to 0ms)"),
    case(
        &["--heartbeat-interval=500"],
        1,
        "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[500ms]",
    ),
    case(
        &["--election-timeout=60000"],
        1,
        "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
    ),
    case(&["--logger=capnslog"], 1, "--logger=capnslog is removed in v3.5"),
    case(&["--logger=nonsense"], 1, "unknown logger option \"nonsense\""),
    case(&["--log-level=nonsense"], 2, "unrecognized level: \"nonsense\""),
    case(
        &["--listen-client-urls=http://foo.bar:2399", "--advertise-client-urls=http://foo.bar:2399"],
        1,
        "expected IP in URL for binding (http://foo.bar:2399)",
    ),
    case(
        &["--listen-client-urls=http://127.0.0.1:2399"],
        1,
        "--advertise-client-urls is required when --listen-client-urls is set explicitly",
    ),
    case(
        &["--name=a", "--initial-cluster=b=http://localhost:2380"],
        1,
        "couldn't find local name \"a\" in the initial cluster configuration",
    ),
    case(
        &["--name=a", "--initial-cluster=a=http://127.0.0.1:2381"],
        1,
        "--initial-cluster has a=http://127.0.0.1:2381 but missing from --initial-advertise-peer-urls=http://localhost:2380",
    ),
    case(&["--auto-compaction-mode=foo"], 1, "unknown auto-compaction-mode \"foo\""),
    case(&["--auto-compaction-mode="], 1, "undefined auto-compaction-mode"),
    case(&["--auto-compaction-retention=abc"], 1, "error parsing CompactionRetention: time: invalid duration \"abc\""),
    case(
        &["--auto-compaction-mode=revision", "--auto-compaction-retention=-7"],
        1,
        "error parsing CompactionRetention: time: missing unit in duration \"-7\"",
    ),
    case(
        &["--discovery-srv=x", "--initial-cluster=default=http://localhost:2380"],
        1,
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"",
    ),
    case(&["--discovery-token=x"], 1, "both --discovery-token and --discovery-endpoints must be set"),
    case(
        &["--discovery-token=x", "--discovery-endpoints="],
        1,
        "--discovery-endpoints must not contain empty endpoints",
    ),
    case(
        &["--discovery-token=x", "--discovery-endpoints=127.0.0.1:1", "--initial-cluster-state=existing"],
        1,
        "discovery URL should not be set when joining existing initial cluster",
    ),
    case(
        &["--discovery-fallback=proxy"],
        1,
        "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
    ),
    case(&["--discovery-fallback=foo"], 2, "invalid value \"foo\" for flag -discovery-fallback: invalid value"),
    env(
        &[("ETCD_HEARTBEAT_INTERVAL", "abc")],
        &[],
        1,
        "invalid value \"abc\" for ETCD_HEARTBEAT_INTERVAL: parse error",
    ),
    env(
        &[("ETCD_NAME", "x")],
        &["--name=y"],
        1,
        "conflicting environment variable is shadowed by corresponding command-line flag",
    ),
];

/// Exit code and everything that was said.
pub(crate) fn run(program: &Path, args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    run_in(dir.path(), program, args, env)
}

/// The same in a directory.
pub(crate) fn run_in(dir: &Path, program: &Path, args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    // Many listen on the default ports before they look at what is wrong.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Should a bad flag be taken, the server writes here and ends in time.
    let output = Command::new("timeout")
        .arg("60")
        .arg(program)
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .expect("the server runs");
    let said = [output.stdout, output.stderr].concat();
    // In a sentence within a line of the log, quotes are escaped.
    let said = String::from_utf8_lossy(&said).replace("\\\"", "\"");
    (output.status.code(), said)
}

fn check(program: &Path, creates_nothing: bool) {
    let mut wrong = Vec::new();
    for Case { args, env, code, says } in CASES {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (got, said) = run_in(dir.path(), program, args, env);
        let created: Vec<_> = dir.path().read_dir().expect("readable").collect();
        if creates_nothing && !created.is_empty() {
            wrong.push(format!("{env:?} {args:?} created {created:?}"));
        }
        if got != Some(*code) || !said.contains(says) {
            let said: String = said.chars().take(600).collect();
            wrong.push(format!("{env:?} {args:?}: exit code {got:?} instead of {code}, {says:?} wanted:\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", program.display(), wrong.join("\n"));
}

#[test]
fn ours_refuses_bad_flags() {
    check(&binary::ours(), true);
}

/// The table above is etcd's, not an invention.
#[test]
fn so_does_etcd() {
    if let Some(program) = peers::go_etcd() {
        check(&program, false);
    }
}

/// What etcd knows and ours cannot do yet is refused in a sentence, not ignored.
#[test]
fn what_is_to_come_is_refused() {
    for flag in ["--enable-distributed-tracing", "--corrupt-check-time=5s", "--feature-gates=InitialCorruptCheck=true"]
    {
        let (code, said) = run(&binary::ours(), &[flag], &[]);
        let name = flag.split('=').next().expect("a name");
        assert!(code == Some(1) && said.contains(name), "{flag}: {code:?} {said}");
        assert!(said.contains("is not implemented by retcd yet: leave"), "{flag}: {said}");
    }
    // Where there are no spans, it is the same to etcd what they would be like.
    let flags = ["--distributed-tracing-sampling-rate=5", "--distributed-tracing-address=x", "--heartbeat-interval=0"];
    for program in [Some(binary::ours()), peers::go_etcd()].into_iter().flatten() {
        let (code, said) = run(&program, &flags, &[]);
        assert!(code == Some(1) && said.contains("--heartbeat-interval must be >0"), "{code:?} {said}");
    }
}

/// Units of earlier releases start, or are told what to do.
#[test]
fn flags_of_earlier_releases_are_warned_of_or_refused() {
    let wrong = "--heartbeat-interval=0";
    for (flag, says) in [
        ("--experimental-compaction-batch-limit=5", "--heartbeat-interval must be >0"),
        ("--proxy=off", "--heartbeat-interval must be >0"),
        ("--proxy=on", "--proxy=\"on\": the v2 proxy is gone since etcd 3.6"),
        ("--discovery=http://127.0.0.1/x", "v2 discovery is gone since etcd 3.7"),
    ] {
        let (code, said) = run(&binary::ours(), &[flag, wrong], &[]);
        assert_eq!(code, Some(1), "{flag}: {said}");
        assert!(said.contains(says), "{flag}: {said}");
    }
    // As etcd 3.6 has it.
    let both = ["--experimental-corrupt-check-time=0s", "--corrupt-check-time=0s"];
    let says = "cannot set --experimental-corrupt-check-time and --corrupt-check-time at the same time, \
                please use --corrupt-check-time only";
    for program in [Some(binary::ours()), peers::go_etcd_of("3.6")].into_iter().flatten() {
        let (code, said) = run(&program, &both, &[]);
        assert!(code == Some(1) && said.contains(says), "{code:?} {said}");
    }
}

/// Flags that etcd does not have, or takes any value for.
#[test]
fn engines_and_batches_are_checked() {
    for (flag, code, says) in [
        ("--experimental-backend-engine=rocks", 2, "the engines are bolt and sled"),
        ("--experimental-backend-engine=sled", 1, "is not part of this build: build it with `--features sled`"),
        ("--backend-batch-limit=-1", 1, "--backend-batch-limit=-1 is below 0"),
        ("--backend-batch-interval=-1ms", 1, "--backend-batch-interval=-1ms is below 0"),
    ] {
        let (got, said) = run(&binary::ours(), &[flag], &[]);
        assert!(got == Some(code) && said.contains(says), "{flag}: {got:?} {said}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let (taken, free) = (Port::take(), Port::take());
    let _holder = TcpListener::bind((Ipv4Addr::LOCALHOST, taken.number())).expect("a free port");
    let client = format!("http://127.0.0.1:{}", taken.number());
    let peer = format!("http://127.0.0.1:{}", free.number());
    let args = [
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ];
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let (code, said) = run(&binary::ours(), &args, &[]);
    assert_eq!(code, Some(1), "{said}");
    let says = format!("listen tcp 127.0.0.1:{}: bind: address already in use", taken.number());
    assert!(said.contains(&says), "{said}");
}
