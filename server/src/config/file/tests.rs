//! What a file says, through the command line that names it. Error texts are etcd 3.7.1's.

use std::ffi::OsString;

use super::super::flags::{Invocation, Refusal, from_command_line};
use super::super::notice::Notice;
use super::super::table::FLAGS;
use super::super::{ClusterState, Config};
use super::*;

fn parse(text: &str) -> Result<(Config, Vec<Notice>), Refusal> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("etcd.yml");
    std::fs::write(&path, text).expect("written");
    let args = [OsString::from("--config-file"), path.into_os_string()];
    match from_command_line(args, [("ETCD_NAME".into(), "ignored".into())])? {
        Invocation::Serve { config, notices } => Ok((*config, notices)),
        other => panic!("{other:?}"),
    }
}

fn config(text: &str) -> Config {
    parse(text)
        .unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"))
        .0
}

fn field(notice: &Notice, name: &str) -> String {
    let found = notice.fields.iter().find(|(key, _)| *key == name);
    found.map_or(String::new(), |(_, value)| value.to_string())
}

/// The error, and the line it is found in.
fn refused(text: &str) -> (String, String) {
    let refusal = parse(text)
        .err()
        .unwrap_or_else(|| panic!("{text} accepted"));
    assert_eq!(refusal.code, 1, "{text}");
    let notice = refusal.notices.last().expect("a log line");
    assert_eq!(notice.message, "failed to verify flags");
    (field(notice, "error"), field(notice, "line"))
}

#[test]
fn every_kind_of_value_is_taken() {
    let config = config(
        "name: one\ndata-dir: /d\nlisten-client-urls: http://127.0.0.1:1,http://127.0.0.1:2\n\
         advertise-client-urls: http://h:1\nheartbeat-interval: 50\nelection-timeout: 500\npre-vote: no\n\
         quota-backend-bytes: -1\nbackend-batch-interval: 5000000\nlog-outputs: [stdout, /log]\n\
         initial-cluster: one=http://h:2\ninitial-cluster-state: existing\nmax-concurrent-streams: 7\n\
         client-transport-security:\n  cert-file: /c\n  client-cert-auth: true\n  allowed-cn: ['a,b']\n  \
         skip-client-san-verification: true\n\
         peer-transport-security: {key-file: /k, auto-tls: on, allowed-hostname: [h, i]}\n\
         cipher-suites: [X, Z]\ntls-min-version: TLS1.3\n",
    );
    assert_eq!(config.name, "one");
    assert_eq!(config.data_dir.to_str(), Some("/d"));
    assert_eq!(config.listen_client_urls.len(), 2);
    assert_eq!(
        config.advertise_client_urls.expect("given")[0].as_str(),
        "http://h:1"
    );
    assert_eq!(
        (config.heartbeat_interval, config.election_timeout),
        (50, 500)
    );
    assert!(!config.pre_vote);
    assert_eq!(config.quota_backend_bytes, -1);
    assert_eq!(config.backend_batch_interval, 5_000_000);
    assert_eq!(config.log.outputs, ["stdout", "/log"]);
    assert_eq!(config.initial_cluster.as_deref(), Some("one=http://h:2"));
    assert_eq!(config.initial_cluster_state, ClusterState::Existing);
    assert_eq!(config.max_concurrent_streams, 7);
    let (client, peer) = (config.tls.client, config.tls.peer);
    assert_eq!(client.cert_file.to_str(), Some("/c"));
    assert!(client.client_cert_auth && client.skip_client_san_verification && !client.auto_tls);
    assert_eq!(client.allowed_cns, ["a,b"]);
    assert_eq!(peer.key_file.to_str(), Some("/k"));
    assert!(peer.auto_tls && !peer.client_cert_auth);
    assert_eq!(peer.allowed_hostnames, ["h", "i"]);
    assert_eq!(config.tls.cipher_suites, ["X", "Z"]);
    assert_eq!(config.tls.min_version, "TLS1.3");
}

#[test]
fn what_is_left_out_has_etcds_default() {
    for text in [
        "",
        "name: ~\nheartbeat-interval: null\n",
        "{}",
        "---\n---\nname: b\n",
    ] {
        let config = config(text);
        assert_eq!(
            (config.name.as_str(), config.heartbeat_interval),
            ("default", 100)
        );
        assert_eq!(
            config.advertise_client_urls.expect("a default")[0].as_str(),
            "http://localhost:2379"
        );
    }
    // Neither the cluster nor the advertised URL follows from other keys, as it does among flags.
    let config =
        config("name: x\nlisten-client-urls: http://127.0.0.1:1\nself-signed-cert-validity: 0\n");
    assert_eq!(
        config.initial_cluster.as_deref(),
        Some("default=http://localhost:2380")
    );
    assert_eq!(
        config.advertise_client_urls.as_ref().expect("a default")[0].as_str(),
        "http://localhost:2379"
    );
    assert_eq!(config.tls.self_signed_cert_validity, 1);
}

#[test]
fn json_is_taken_too() {
    let config =
        config("{\n\t\"name\": \"a\",\n\t\"client-transport-security\": {\"auto-tls\": true}\n}\n");
    assert!(config.name == "a" && config.tls.client.auto_tls);
}

#[test]
fn errors_are_etcds_and_have_a_line() {
    const JSON: &str = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal ";
    for (text, error, line) in [
        (
            "heartbeat-interval: abc",
            "string into Go struct field configYAML.Config.heartbeat-interval of type uint",
            1,
        ),
        (
            "name: a\nheartbeat-interval: '100'",
            "string into Go struct field configYAML.Config.heartbeat-interval of type uint",
            2,
        ),
        (
            "Heartbeat-Interval: -1",
            "number -1 into Go struct field configYAML.Config.heartbeat-interval of type uint",
            1,
        ),
        (
            "heartbeat-interval: 1.5",
            "number 1.5 into Go struct field configYAML.Config.heartbeat-interval of type uint",
            1,
        ),
        (
            "max-concurrent-streams: 4294967296",
            "number 4294967296 into Go struct field configYAML.Config.max-concurrent-streams of type uint32",
            1,
        ),
        (
            "quota-backend-bytes: x",
            "string into Go struct field configYAML.Config.quota-backend-bytes of type int64",
            1,
        ),
        (
            "snapshot-count: x",
            "string into Go struct field configYAML.Config.snapshot-count of type uint64",
            1,
        ),
        (
            "max-learners: x",
            "string into Go struct field configYAML.Config.max-learners of type int",
            1,
        ),
        (
            "grpc-keepalive-min-time: 5s",
            "string into Go struct field configYAML.Config.grpc-keepalive-min-time of type time.Duration",
            1,
        ),
        (
            "strict-reconfig-check: 'yes'",
            "string into Go struct field configYAML.Config.strict-reconfig-check of type bool",
            1,
        ),
        (
            "pre-vote: 1",
            "number into Go struct field configYAML.Config.pre-vote of type bool",
            1,
        ),
        (
            "name: 5",
            "number into Go struct field configYAML.Config.name of type string",
            1,
        ),
        (
            "name: [a]",
            "array into Go struct field configYAML.Config.name of type string",
            1,
        ),
        (
            "name: {a: 1}",
            "object into Go struct field configYAML.Config.name of type string",
            1,
        ),
        (
            "name: true",
            "bool into Go struct field configYAML.Config.name of type string",
            1,
        ),
        (
            "listen-peer-urls: 5",
            "number into Go struct field configYAML.configJSON.listen-peer-urls of type string",
            1,
        ),
        (
            "log-outputs: stderr",
            "string into Go struct field configYAML.Config.log-outputs of type []string",
            1,
        ),
        (
            "log-outputs:\n- stderr\n- [a]",
            "array into Go struct field configYAML.Config.log-outputs of type string",
            3,
        ),
        (
            "client-transport-security: 5",
            "number into Go struct field configYAML.configJSON.client-transport-security of type embed.securityConfig",
            1,
        ),
        (
            "client-transport-security:\n  auto-tls: maybe",
            "string into Go struct field securityConfig.configJSON.client-transport-security.auto-tls of type bool",
            2,
        ),
        (
            "client-transport-security: {allowed-cn: x}",
            "string into Go struct field securityConfig.configJSON.client-transport-security.allowed-cn of type []string",
            1,
        ),
        (
            "socket-options: 5",
            "number into Go struct field configYAML.Config.socket-options of type transport.SocketOpts",
            1,
        ),
        (
            "socket-options: {reuse-port: 5}",
            "number into Go struct field SocketOpts.Config.socket-options.reuse-port of type bool",
            1,
        ),
        (
            "discovery-config: {token: 5}",
            "number into Go struct field DiscoveryConfig.Config.discovery-config.token of type string",
            1,
        ),
        (
            "discovery-config: {client: {endpoints: 5}}",
            "number into Go struct field ConfigSpec.Config.discovery-config.client.endpoints of type []string",
            1,
        ),
        (
            "discovery-config: {client: {secure: {cert: 5}}}",
            "number into Go struct field SecureConfig.Config.discovery-config.client.secure.cert of type string",
            1,
        ),
        (
            "discovery-config: {client: {auth: {username: 5}}}",
            "number into Go struct field AuthConfig.Config.discovery-config.client.auth.username of type string",
            1,
        ),
        // The first of the alphabet.
        (
            "name: 5\ndata-dir: 5",
            "number into Go struct field configYAML.Config.data-dir of type string",
            2,
        ),
        ("text", "string into Go value of type embed.configYAML", 1),
        ("- a", "array into Go value of type embed.configYAML", 1),
    ] {
        assert_eq!(
            refused(text),
            (format!("{JSON}{error}"), line.to_string()),
            "{text}"
        );
    }
    assert_eq!(
        refused("initial-cluster-state: bogus").0,
        "unexpected clusterState \"bogus\""
    );
    let (syntax, line) = refused("name: a\n\tdata-dir: b\n");
    assert!(
        syntax.starts_with("error converting YAML to JSON: yaml: line "),
        "{syntax}"
    );
    assert_eq!(line, "2");
    let refusal = parse("name: a\nlisten-metrics-urls: foo\n").expect_err("no URL");
    assert!(
        refusal.stderr.starts_with(
            "unexpected error setting up listen-metrics-urls: URL scheme must be http, https, unix, or unixs: foo ("
        ) && refusal.stderr.contains("etcd.yml, line 2)\n--listen-metrics-urls takes URLs with a port"),
        "{}",
        refusal.stderr
    );
    assert_eq!(refusal.code, 1);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let refusal =
        from_command_line(["--config-file=/nonexistent.yml".into()], []).expect_err("no file");
    let notice = refusal.notices.last().expect("a log line");
    assert_eq!(
        field(notice, "error"),
        "open /nonexistent.yml: no such file or directory"
    );
    // By the variable alone, too.
    let env = [("ETCD_CONFIG_FILE".into(), "/nonexistent.yml".into())];
    assert_eq!(from_command_line([], env).expect_err("no file").code, 1);
    let (error, line) = {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        std::fs::write(&path, b"name: a\nname: \xff\n").expect("written");
        let refusal =
            from_command_line(["--config-file".into(), path.into()], []).expect_err("no text");
        let notice = refusal.notices.last().expect("a log line");
        (field(notice, "error"), field(notice, "line"))
    };
    assert_eq!(
        (error.as_str(), line.as_str()),
        ("error converting YAML to JSON: yaml: invalid UTF-8", "2")
    );
}

#[test]
fn what_has_no_effect_is_warned_of_once_each() {
    let (_, notices) = parse(
        "bogus: off\nname: a\nname: b\nclient-transport-security: {ca-file: x}\nmax-snapshots: 3\n",
    )
    .expect("accepted");
    let lines: Vec<_> = notices
        .iter()
        .map(|n| (n.message, field(n, "key"), field(n, "line")))
        .collect();
    let line = |message, key: &str, line: &str| (message, key.to_owned(), line.to_owned());
    let unknown = "unknown key in the configuration file is ignored";
    assert_eq!(
        lines[1..],
        [
            line(
                "key is in the configuration file more than once; the last one counts",
                "name",
                "3"
            ),
            line(unknown, "bogus", "1"),
            line(unknown, "ca-file", "4"),
            line(
                "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.",
                "",
                ""
            ),
        ]
    );
    assert!(lines[0].0.starts_with("loaded server configuration"));
}

#[test]
fn what_is_not_implemented_is_refused() {
    let refusal = parse("auth-token: jwt\n").expect_err("not implemented");
    let notice = refusal.notices.last().expect("a log line");
    assert!(field(notice, "error").contains("--auth-token=\"jwt\""));
    assert!(field(notice, "config-file").ends_with("etcd.yml"));
    // Its default is not.
    config(
        "auth-token: simple\nauth-token-ttl: 300\ndiscovery-config: {client: {endpoints: []}}\n",
    );
}

/// A key for each flag but those that etcd's file does not know.
#[test]
fn every_flag_has_its_key() {
    let without: Vec<_> = FLAGS
        .iter()
        .map(|flag| flag.name)
        .filter(|name| ROOT.flag(name).is_none() && !ROOT.holds(name))
        .collect();
    assert_eq!(
        without,
        [
            "client-crl-file",
            "config-file",
            "discovery-fallback",
            "peer-crl-file",
            "raft-read-timeout",
            "raft-write-timeout",
            "version"
        ]
    );
}

/// A file as an old tutorial has it: what was said of proxies and discovery says nothing.
#[test]
fn keys_of_earlier_releases_are_warned_of() {
    let (config, notices) = parse(
        "name: a\ndiscovery: ''\ndiscovery-fallback: 'proxy'\ndiscovery-proxy: ''\ndiscovery-srv: ''\nproxy: 'off'\n\
         proxy-failure-wait: 5000\nproxy-read-timeout: 0\nexperimental-snapshot-catch-up-entries: 7\n\
         experimental-txn-mode-write-with-shared-buffer: true\ndebug: false\nenable-v2: false\n",
    )
    .expect("accepted");
    assert_eq!(config.snapshot_catchup_entries, 7);
    let said: Vec<_> = notices
        .iter()
        .filter(|n| n.message.starts_with("flag is of an earlier"))
        .map(|n| field(n, "flag"))
        .collect();
    assert_eq!(
        said,
        [
            "--debug",
            "--discovery",
            "--discovery-proxy",
            "--experimental-snapshot-catchup-entries",
            "--experimental-txn-mode-write-with-shared-buffer",
            "--proxy",
            "--proxy-failure-wait",
            "--proxy-read-timeout",
        ]
    );
    let unknown: Vec<_> = notices
        .iter()
        .filter(|n| n.message.starts_with("unknown key"))
        .map(|n| field(n, "key"))
        .collect();
    assert_eq!(unknown, ["discovery-fallback"]);
    // Without quotes it is a truth value.
    parse("proxy: off\n").expect("accepted");
    assert!(refused("proxy: on\n").0.starts_with("--proxy=\"on\": "));
    assert!(
        refused("discovery: http://d/x\n")
            .0
            .starts_with("--discovery=")
    );
    assert_eq!(
        refused("experimental-corrupt-check-time: 0\ncorrupt-check-time: 0\n").0,
        "cannot set --experimental-corrupt-check-time and --corrupt-check-time at the same time, \
         please use --corrupt-check-time only"
    );
}

#[test]
fn types_come_before_values_and_gates_before_urls() {
    assert!(
        refused("listen-peer-urls: foo\nname: 5\n")
            .0
            .contains("cannot unmarshal number")
    );
    assert_eq!(
        refused("cors: foo\nfeature-gates: Foo=true\nlisten-peer-urls: foo\n"),
        ("unrecognized feature gate: Foo".to_owned(), "2".to_owned())
    );
}

#[test]
fn a_file_full_of_unknown_keys_is_warned_of_for_a_while() {
    let text: String = (0..5_000).map(|n| format!("k{n}: v\n")).collect();
    let (_, notices) = parse(&text).expect("accepted");
    let unknown = notices
        .iter()
        .filter(|n| n.message.starts_with("unknown key"));
    assert_eq!(unknown.count(), MAX_WARNINGS);
    let more = notices.iter().find(|n| n.message.starts_with("more keys"));
    assert_eq!(field(more.expect("a sum"), "keys"), "4900");
}
