//! Configuration files that are refused, by ours as by Go etcd; and one that is taken in place of flags.

use std::fs;
use std::path::Path;
use std::process::Command;

use retcd_tests::ports::Port;
use retcd_tests::process::Process;
use retcd_tests::{binary, peers, tree};

use crate::flags::run_in;

/// Flags beside the file.
type Args = &'static [&'static str];
/// Variables beside the file.
type Env = &'static [(&'static str, &'static str)];

struct Case {
    file: &'static [u8],
    args: Args,
    env: Env,
    code: i32,
    says: &'static str,
}

const fn case(file: &'static str, says: &'static str) -> Case {
    Case { file: file.as_bytes(), args: &["--config-file=etcd.yml"], env: &[], code: 1, says }
}

const CASES: &[Case] = &[
    case("name: a\n\tdata-dir: b\n", "error converting YAML to JSON: yaml: line "),
    case("name: \"a\n", "error converting YAML to JSON: yaml: line "),
    case("name: x: y\n", "mapping values are not allowed in this context"),
    case("name: a\nname\n", "error converting YAML to JSON: yaml: line "),
    case("{\"name\": \"a\",\n\"data-dir\" \"b\"}\n", "error converting YAML to JSON: yaml: line "),
    case("x: *nope\n", "error converting YAML to JSON: yaml: "),
    case("heartbeat-interval: .inf\n", "error converting YAML to JSON: json: unsupported value: +Inf"),
    Case { file: b"name: a\ndata-dir: \xff\n", ..case("", "error converting YAML to JSON: yaml: ") },
    case("- name\n", "cannot unmarshal array into Go value of type embed.configYAML"),
    case(
        "heartbeat-interval: 100ms\n",
        "cannot unmarshal string into Go struct field configYAML.Config.heartbeat-interval of type uint",
    ),
    case("name: 5\n", "cannot unmarshal number into Go struct field configYAML.Config.name of type string"),
    case(
        "log-outputs: stderr\n",
        "cannot unmarshal string into Go struct field configYAML.Config.log-outputs of type []string",
    ),
    case(
        "client-transport-security:\n  auto-tls: maybe\n",
        "cannot unmarshal string into Go struct field securityConfig.configJSON.client-transport-security.auto-tls of type bool",
    ),
    // Types come first.
    case("listen-peer-urls: foo\nname: 5\n", "cannot unmarshal number into Go struct field configYAML.Config.name"),
    case(
        "listen-peer-urls: foo\n",
        "unexpected error setting up listen-peer-urls: URL scheme must be http, https, unix, or unixs: foo",
    ),
    case("listen-client-urls: http://foo.bar:2379\n", "expected IP in URL for binding (http://foo.bar:2379)"),
    case("feature-gates: Foo=true\nlisten-peer-urls: foo\n", "unrecognized feature gate: Foo"),
    case("initial-cluster-state: bogus\n", "unexpected clusterState \"bogus\""),
    case("heartbeat-interval: 0\n", "--heartbeat-interval must be >0 (set to 0ms)"),
    // The last of equal keys.
    case("heartbeat-interval: 100\nheartbeat-interval: 0\n", "--heartbeat-interval must be >0 (set to 0ms)"),
    case("Heartbeat-Interval: 0\n", "--heartbeat-interval must be >0 (set to 0ms)"),
    // The first of several documents.
    case("heartbeat-interval: 0\n---\nheartbeat-interval: 100\n", "--heartbeat-interval must be >0 (set to 0ms)"),
    case(
        "name: a\ninitial-cluster: b=http://localhost:2380\n",
        "couldn't find local name \"a\" in the initial cluster configuration",
    ),
    // Nothing but the file counts, and a flag that does not fit its type.
    Case {
        args: &["--config-file=etcd.yml", "--heartbeat-interval=100", "--name=x"],
        env: &[("ETCD_NAME", "y"), ("ETCD_ELECTION_TIMEOUT", "abc")],
        ..case("heartbeat-interval: 0\n", "--heartbeat-interval must be >0 (set to 0ms)")
    },
    Case {
        args: &[],
        env: &[("ETCD_CONFIG_FILE", "etcd.yml")],
        ..case("heartbeat-interval: 0\n", "--heartbeat-interval must be >0 (set to 0ms)")
    },
    Case {
        args: &["--config-file=etcd.yml", "--heartbeat-interval=abc"],
        code: 2,
        ..case("name: a\n", "invalid value \"abc\" for flag -heartbeat-interval: parse error")
    },
    Case { args: &["--config-file=nope.yml"], ..case("", "open nope.yml: no such file or directory") },
    Case { args: &["--config-file=."], ..case("", "read .: is a directory") },
];

fn check(program: &Path, ours: bool) {
    let mut wrong = Vec::new();
    for Case { file, args, env, code, says } in CASES {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("etcd.yml"), file).expect("writable");
        let before = tree::image(dir.path());
        let (got, said) = run_in(dir.path(), program, args, env);
        let text = String::from_utf8_lossy(file);
        if got != Some(*code) || !said.contains(says) || said.contains("panicked") {
            let said: String = said.chars().take(600).collect();
            wrong.push(format!("{text:?} {args:?}: exit code {got:?} instead of {code}, {says:?} wanted:\n{said}"));
        }
        // As a field, or as a sentence of its own.
        let remedies = ["\"remedy\":", "; its default is '", "start it with --name"];
        if ours && !remedies.iter().any(|remedy| said.contains(remedy)) {
            wrong.push(format!("{text:?} {args:?}: nothing to do:\n{said}"));
        }
        let difference = tree::difference(&before, &tree::image(dir.path()));
        if ours && !difference.is_empty() {
            wrong.push(format!("{text:?} {args:?}: changed {difference:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", program.display(), wrong.join("\n"));
}

#[test]
fn ours_refuses_bad_files_and_creates_nothing() {
    check(&binary::ours(), true);
}

#[test]
fn so_does_etcd() {
    if let Some(program) = peers::go_etcd() {
        check(&program, false);
    }
}

/// Ten megabytes that end in an error.
#[test]
fn a_large_file_is_read_to_its_end() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let text = format!("{}heartbeat-interval: 0\n", "# nothing but words, words, words, words\n".repeat(300_000));
    assert!(text.len() > 10 << 20);
    fs::write(dir.path().join("etcd.yml"), text).expect("writable");
    for program in [Some(binary::ours()), peers::go_etcd()].into_iter().flatten() {
        let (code, said) = run_in(dir.path(), &program, &["--config-file=etcd.yml"], &[]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("--heartbeat-interval must be >0 (set to 0ms)"), "{said}");
    }
    // One without an end.
    let (code, said) = run_in(dir.path(), &binary::ours(), &["--config-file=/dev/zero"], &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("more than 67108864 bytes"), "{said}");
}

/// What a file says, with keys that are unknown, old and repeated, beside flags and variables that would contradict it.
fn starts(program: &Path) -> Process {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (client, peer) = (Port::take(), Port::take());
    let text = format!(
        "# as in an old tutorial\nname: other\nname: from-file\ndata-dir: {dir}/data\n\
         listen-client-urls: http://127.0.0.1:{client}\nadvertise-client-urls: http://127.0.0.1:{client}\n\
         listen-peer-urls: http://127.0.0.1:{peer}\ninitial-advertise-peer-urls: http://127.0.0.1:{peer}\n\
         initial-cluster: from-file=http://127.0.0.1:{peer}\ndiscovery: ''\nproxy: 'off'\nproxy-read-timeout: 0\n\
         discovery-fallback: 'proxy'\nbogus: {{a: [b]}}\nclient-transport-security: {{bogus: 1}}\n",
        dir = dir.path().display(),
        client = client.number(),
        peer = peer.number(),
    );
    let file = dir.path().join("etcd.yml");
    fs::write(&file, text).expect("writable");
    let mut command = Command::new(program);
    command.arg("--config-file").arg(&file).args(["--name=flag", "--pre-vote"]).current_dir(dir.path());
    command.env("ETCD_NAME", "variable").env("ETCD_HEARTBEAT_INTERVAL", "abc");
    let mut process = Process::start(command);
    process.wait_for_log("ready to serve client requests");
    assert!(process.log().text().contains("\"name\":\"from-file\""), "{}", process.tail());
    process.terminate();
    process
}

#[test]
fn a_file_is_taken_in_place_of_all_else() {
    let said = starts(&binary::ours()).log().whole();
    for (times, line) in [
        (1, "loaded server configuration, other configuration command line flags"),
        (1, "\"key is in the configuration file more than once; the last one counts\",\"key\":\"name\""),
        (3, "\"unknown key in the configuration file is ignored\""),
        (1, "\"flag\":\"--discovery\""),
        (1, "\"flag\":\"--proxy\""),
        (1, "\"flag\":\"--proxy-read-timeout\""),
    ] {
        assert_eq!(said.matches(line).count(), times, "{line}:\n{said}");
    }
    if let Some(program) = peers::go_etcd() {
        starts(&program);
    }
}
