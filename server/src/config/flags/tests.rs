use super::super::{ConfigError, Resolved};
use super::*;

fn parse(args: &[&str], env: &[(&str, &str)]) -> Result<Invocation, Refusal> {
    let args = args.iter().map(OsString::from);
    from_command_line(
        args,
        env.iter()
            .map(|(k, v)| (OsString::from(k), OsString::from(v))),
    )
}

fn config(args: &[&str], env: &[(&str, &str)]) -> (Config, Vec<Notice>) {
    match parse(args, env) {
        Ok(Invocation::Serve { config, notices }) => (*config, notices),
        other => panic!("{args:?}: {other:?}"),
    }
}

fn refusal(args: &[&str], env: &[(&str, &str)]) -> Refusal {
    parse(args, env)
        .err()
        .unwrap_or_else(|| panic!("{args:?} {env:?} accepted"))
}

/// The `error` field of the last log line.
fn logged(refusal: &Refusal) -> String {
    let notice = refusal.notices.last().expect("a log line");
    assert_eq!(
        (notice.level, notice.message),
        (Level::Warning, "failed to verify flags")
    );
    assert_eq!(notice.fields[0].0, "error");
    notice.fields[0].1.to_string()
}

fn resolve(args: &[&str]) -> Result<Resolved, ConfigError> {
    config(args, &[]).0.resolve()
}

#[test]
fn every_spelling_of_a_flag_is_read() {
    for args in [
        &["-name", "x"][..],
        &["--name", "x"],
        &["-name=x"],
        &["--name=x"],
        &["--name=y", "--name=x"],
    ] {
        assert_eq!(config(args, &[]).0.name, "x");
    }
    for (args, value) in [
        (&["--pre-vote"][..], true),
        (&["-pre-vote=0"], false),
        (&["--pre-vote=False"], false),
        (&["--pre-vote=false", "--pre-vote"], true),
    ] {
        assert_eq!(config(args, &[]).0.pre_vote, value, "{args:?}");
    }
    // A value may look like a flag.
    assert_eq!(config(&["--name", "--data-dir"], &[]).0.name, "--data-dir");
    assert_eq!(config(&["--name=a=b"], &[]).0.name, "a=b");
    assert_eq!(config(&["--name", "x", "--"], &[]).0.name, "x");
}

#[test]
fn every_implemented_flag_reaches_its_field() {
    let (config, _) = config(
        &[
            "--data-dir=/d",
            "--wal-dir=/w",
            "--snapshot-count=7",
            "--snapshot-catchup-entries=8",
            "--max-wals=2",
            "--max-snapshots=3",
            "--quota-backend-bytes=-1",
            "--max-request-bytes=0x10",
            "--max-txn-ops=9",
            "--heartbeat-interval=10",
            "--election-timeout=100",
            "--initial-election-tick-advance=false",
            "--backend-batch-interval=1h2m",
            "--backend-batch-limit=4",
            "--compaction-batch-limit=5",
            "--compaction-sleep-interval=6ms",
            "--max-concurrent-streams=11",
            "--warning-unary-request-duration=3s",
            "--grpc-keepalive-min-time=4s",
            "--grpc-keepalive-interval=5s",
            "--grpc-keepalive-timeout=6s",
            "--socket-reuse-port",
            "--socket-reuse-address",
            "--memory-mlock",
            "--bootstrap-defrag-threshold-megabytes=12",
            "--warning-apply-duration=1s",
            "--watch-progress-notify-interval=2s",
            "--log-level=debug",
            "--log-format=console",
            "--log-outputs=stderr,/tmp/x",
            "--logger=zap",
            "--unsafe-no-fsync",
            "--enable-v2",
            "--metrics=basic",
            "--experimental-backend-engine=sled",
            "--backend-bbolt-freelist-type=array",
            "--initial-cluster=a=http://h:1",
            "--initial-cluster-state=existing",
            "--initial-cluster-token=t",
            "--listen-peer-urls=http://10.0.0.1:1",
            "--listen-client-urls=http://10.0.0.1:2,http://10.0.0.1:1",
            "--initial-advertise-peer-urls=http://p:1",
            "--advertise-client-urls=http://c:1",
        ],
        &[],
    );
    assert_eq!(config.data_dir, std::path::Path::new("/d"));
    assert_eq!(config.wal_dir.as_deref(), Some(std::path::Path::new("/w")));
    assert_eq!(
        (config.snapshot_count, config.snapshot_catchup_entries),
        (7, 8)
    );
    assert_eq!((config.max_wals, config.max_snapshots), (2, 3));
    assert_eq!(
        (
            config.quota_backend_bytes,
            config.max_request_bytes,
            config.max_txn_ops
        ),
        (-1, 16, 9)
    );
    assert_eq!(
        (config.heartbeat_interval, config.election_timeout),
        (10, 100)
    );
    assert_eq!(
        (config.initial_election_tick_advance, config.unsafe_no_fsync),
        (false, true)
    );
    assert_eq!(
        (config.backend_batch_interval, config.backend_batch_limit),
        (3_720_000_000_000, 4)
    );
    assert!(config.enable_v2);
    assert_eq!(config.backend_engine, Engine::Sled);
    assert_eq!(
        (
            config.compaction_batch_limit,
            config.compaction_sleep_interval
        ),
        (5, 6_000_000)
    );
    assert_eq!(
        (
            config.max_concurrent_streams,
            config.warning_apply_duration,
            config.watch_progress_notify_interval,
        ),
        (11, 1_000_000_000, 2_000_000_000)
    );
    assert_eq!(
        (
            config.warning_unary_request_duration,
            config.grpc_keepalive_min_time,
            config.grpc_keepalive_interval,
            config.grpc_keepalive_timeout,
        ),
        (3_000_000_000, 4_000_000_000, 5_000_000_000, 6_000_000_000)
    );
    assert!(config.socket_reuse_port && config.memory_mlock);
    assert_eq!(config.bootstrap_defrag_threshold_megabytes, 12);
    assert_eq!(
        (config.log.level.as_str(), config.log.format.as_str()),
        ("debug", "console")
    );
    assert_eq!(config.log.outputs, ["stderr", "/tmp/x"]);
    assert_eq!(config.initial_cluster.as_deref(), Some("a=http://h:1"));
    assert_eq!(
        (
            config.initial_cluster_state,
            config.initial_cluster_token.as_str()
        ),
        (ClusterState::Existing, "t")
    );
    let texts =
        |urls: &[super::super::Url]| urls.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&config.listen_peer_urls), ["http://10.0.0.1:1"]);
    assert_eq!(
        texts(&config.listen_client_urls),
        ["http://10.0.0.1:1", "http://10.0.0.1:2"]
    );
    assert_eq!(
        texts(&config.initial_advertise_peer_urls.expect("set")),
        ["http://p:1"]
    );
    assert_eq!(
        texts(&config.advertise_client_urls.expect("set")),
        ["http://c:1"]
    );
}

/// Texts and codes of etcd 3.7.1.
#[test]
fn malformed_flags_end_with_usage_and_code_2() {
    for (args, text) in [
        (&["-bogus"][..], "flag provided but not defined: -bogus"),
        (
            &["--version", "-bogus"],
            "flag provided but not defined: -bogus",
        ),
        (
            &["--feature-gates=Foo=true"],
            "invalid value \"Foo=true\" for flag -feature-gates: unrecognized feature gate: Foo",
        ),
        (
            &["--proxy=maybe"],
            "invalid value \"maybe\" for flag -proxy: invalid value",
        ),
        (&["--name"], "flag needs an argument: -name"),
        (&["---name"], "bad flag syntax: ---name"),
        (&["--=x"], "bad flag syntax: --=x"),
        (
            &["--initial-cluster-state=foo"],
            "invalid value \"foo\" for flag -initial-cluster-state: invalid value",
        ),
        (
            &["--heartbeat-interval=abc"],
            "invalid value \"abc\" for flag -heartbeat-interval: parse error",
        ),
        (
            &["--max-txn-ops=-1"],
            "invalid value \"-1\" for flag -max-txn-ops: parse error",
        ),
        (
            &["--bcrypt-cost=abc"],
            "invalid value \"abc\" for flag -bcrypt-cost: parse error",
        ),
        (
            &["--heartbeat-interval=99999999999999999999"],
            "invalid value \"99999999999999999999\" for flag -heartbeat-interval: value out of range",
        ),
        (
            &["--pre-vote=maybe"],
            "invalid boolean value \"maybe\" for -pre-vote: parse error",
        ),
        (
            &["--backend-batch-interval=5"],
            "invalid value \"5\" for flag -backend-batch-interval: parse error",
        ),
        (
            &["--max-concurrent-streams=99999999999"],
            "invalid value \"99999999999\" for flag -max-concurrent-streams: \
             strconv.ParseUint: parsing \"99999999999\": value out of range",
        ),
        (
            &["--listen-client-urls=ftp://127.0.0.1:1"],
            "invalid value \"ftp://127.0.0.1:1\" for flag -listen-client-urls: \
             URL scheme must be http, https, unix, or unixs: ftp://127.0.0.1:1",
        ),
        (
            &["--cors=foo"],
            "invalid value \"foo\" for flag -cors: URL scheme must be http, https, unix, or unixs: foo",
        ),
        (
            &["--backend-batch-limit=x"],
            "invalid value \"x\" for flag -backend-batch-limit: parse error",
        ),
        (
            &["--experimental-backend-engine=rocks"],
            "invalid value \"rocks\" for flag -experimental-backend-engine: the engines are bolt and sled",
        ),
        (
            &["--v2-deprecation=foo"],
            "invalid value \"foo\" for flag -v2-deprecation: invalid value \"foo\"",
        ),
    ] {
        let refusal = refusal(args, &[]);
        assert_eq!(refusal.stderr.lines().next(), Some(text));
        assert!(refusal.stderr.contains("\nUsage:\n"), "{args:?}");
        assert_eq!((refusal.code, refusal.notices.len()), (2, 0), "{args:?}");
    }
}

/// etcd takes any text for `map`; ours says so.
#[test]
fn an_unknown_freelist_type_is_map() {
    for text in ["map", "array", "", "hash"] {
        let flag = format!("--backend-bbolt-freelist-type={text}");
        let (_, notices) = config(&["--name=a", &flag], &[]);
        let shown: Vec<_> = notices.iter().map(|n| n.message).collect();
        match text {
            "hash" => assert!(shown[0].ends_with("this stands for map"), "{shown:?}"),
            _ => assert!(shown.is_empty(), "{shown:?}"),
        }
    }
}

#[test]
fn anything_else_on_the_line_is_no_flag() {
    for (args, extra) in [
        (&["extra"][..], "extra"),
        (&["-"], "-"),
        (&["--pre-vote", "false"], "false"),
        (&["--", "--name"], "--name"),
        (&["--version", "extra"], "extra"),
        (&["gateway", "start"], "gateway"),
        (&["--snapshot", "5"], "5"),
    ] {
        let refusal = refusal(args, &[("ETCD_HEARTBEAT_INTERVAL", "abc")]);
        assert_eq!(logged(&refusal), format!("{extra:?} is not a valid flag"));
        assert_eq!((refusal.code, refusal.stderr.as_str()), (1, ""));
    }
}

#[test]
fn version_and_help_are_printed() {
    let Ok(Invocation::Print { stdout, .. }) = parse(&["--version"], &[("ETCD_FOO", "1")]) else {
        panic!()
    };
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!((lines.len(), lines[0]), (4, "etcd Version: 3.7.1"));
    assert!(lines[1].starts_with("Git SHA: ") && lines[2].starts_with("Go Version: none (retcd "));
    assert!(lines[3].starts_with("Go OS/Arch: "));
    for args in [&["-h"][..], &["--help"], &["-help"], &["--name", "x", "-h"]] {
        let Ok(Invocation::Print { stdout, stderr }) = parse(args, &[]) else {
            panic!("{args:?}")
        };
        assert!(stderr.starts_with("Usage:\n"));
        for flag in FLAGS {
            let shown = format!("\n  --{} '{}'\n    ", flag.name, flag.default);
            assert!(stdout.contains(&shown), "{}", flag.name);
        }
    }
    assert!(matches!(
        parse(&["--version=false"], &[]),
        Ok(Invocation::Serve { .. })
    ));
}

#[test]
fn what_is_not_implemented_is_refused_unless_it_is_the_default() {
    for flag in FLAGS.iter().filter(|flag| flag.help.is_none()) {
        config(&[&format!("--{}={}", flag.name, flag.default)], &[]);
        let other = match flag.kind {
            Kind::Text if flag.name == "auth-token" => "jwt,other",
            Kind::Uint if flag.name == "bcrypt-cost" => "12",
            Kind::Text => "other",
            Kind::Bool if flag.default == "true" => "false",
            Kind::Bool => "true",
            Kind::Uint | Kind::Uint32 | Kind::Int => "12345",
            Kind::Duration => "17s",
            Kind::Urls => "http://127.0.0.1:1",
            Kind::Choice(values) => values[1],
        };
        let by_flag = refusal(&[&format!("--{}={other}", flag.name)], &[]);
        let by_env = refusal(&[], &[(&flag.env(), other)]);
        assert_eq!((by_flag.code, by_env.code), (1, 1));
        assert_eq!(logged(&by_flag), logged(&by_env));
        let text = logged(&by_flag);
        assert!(
            text.starts_with(&format!("--{}=", flag.name)) && text.contains("not implemented"),
            "{text}"
        );
        assert!(text.contains(other), "{text}");
    }
    // The last word counts.
    config(&["--enable-pprof", "--enable-pprof=false"], &[]);
}

#[test]
fn the_environment_fills_in() {
    let (config, notices) = config(
        &["--data-dir=/d"],
        &[
            ("ETCD_NAME", "x"),
            ("ETCD_PRE_VOTE", "false"),
            ("HOME", "/"),
        ],
    );
    assert_eq!(
        (config.name.as_str(), config.pre_vote, notices.len()),
        ("x", false, 0)
    );
}

#[test]
fn a_flag_and_its_variable_together_are_fatal() {
    for value in ["abc", "x", ""] {
        let refusal = refusal(&["--name", "x"], &[("ETCD_FOO", "1"), ("ETCD_NAME", value)]);
        assert_eq!(refusal.code, 1);
        let [warning, fatal] = &refusal.notices[..] else {
            panic!("{:?}", refusal.notices)
        };
        assert_eq!(
            (warning.level, fatal.level),
            (Level::Warning, Level::Critical)
        );
        assert_eq!(
            fatal.message,
            "conflicting environment variable is shadowed by corresponding command-line flag \
             (either unset environment variable or disable flag))"
        );
        assert_eq!(fatal.fields, [("environment-variable", "ETCD_NAME".into())]);
    }
}

#[test]
fn strange_variables_are_warned_of() {
    let (_, notices) = config(
        &[],
        &[("ETCD_FOO", "a"), ("ETCD_NAME", ""), ("ETCD_VERSION", "1")],
    );
    let shown: Vec<_> = notices
        .iter()
        .map(|n| (n.message, n.fields[0].1.to_string()))
        .collect();
    assert_eq!(
        shown,
        [
            ("cannot set special environment variable", "ETCD_VERSION"),
            ("unrecognized environment variable", "ETCD_FOO=a"),
            ("unrecognized environment variable", "ETCD_NAME="),
        ]
        .map(|(message, field)| (message, field.to_owned()))
    );
}

#[test]
fn bad_variables_are_refused() {
    for (key, value, text) in [
        (
            "ETCD_HEARTBEAT_INTERVAL",
            "abc",
            "invalid value \"abc\" for ETCD_HEARTBEAT_INTERVAL: parse error",
        ),
        (
            "ETCD_PRE_VOTE",
            "abc",
            "invalid value \"abc\" for ETCD_PRE_VOTE: parse error",
        ),
        (
            "ETCD_INITIAL_CLUSTER_STATE",
            "foo",
            "invalid value \"foo\" for ETCD_INITIAL_CLUSTER_STATE: invalid value",
        ),
        (
            "ETCD_LISTEN_CLIENT_URLS",
            "ftp://x",
            "invalid value \"ftp://x\" for ETCD_LISTEN_CLIENT_URLS: \
             URL scheme must be http, https, unix, or unixs: ftp://x",
        ),
    ] {
        let refusal = refusal(&[], &[(key, value)]);
        assert_eq!((logged(&refusal).as_str(), refusal.code), (text, 1));
    }
    // Of several, etcd reports the last by name of the flag.
    let refusal = refusal(
        &[],
        &[("ETCD_PRE_VOTE", "abc"), ("ETCD_HEARTBEAT_INTERVAL", "abc")],
    );
    assert!(logged(&refusal).contains("ETCD_PRE_VOTE"));
}

#[test]
fn deprecated_flags_are_warned_of() {
    let (_, notices) = config(
        &["--max-snapshots=5", "--v2-deprecation=gone", "--force"],
        &[],
    );
    let messages: Vec<_> = notices.iter().map(|notice| notice.message).collect();
    assert_eq!(
        messages[0],
        "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."
    );
    assert!(
        messages[1]
            .starts_with("--v2-deprecation is deprecated and scheduled for removal in v3.8.")
    );
    assert_eq!(messages[2], "flag is no longer supported and is ignored");
}

#[test]
fn listening_elsewhere_needs_an_advertised_url() {
    for url in [
        "--listen-client-urls=http://127.0.0.1:2379",
        "--listen-client-urls=http://localhost:2379",
    ] {
        let error = resolve(&[url]).expect_err("no advertised URL");
        assert_eq!(error, ConfigError::AdvertiseClientMissing);
        assert_eq!(
            error.notices()[2].message,
            "advertise client URLs are not set"
        );
    }
    assert!(
        resolve(&[
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls="
        ])
        .is_ok()
    );
}

#[test]
fn the_cluster_is_derived_only_for_a_name_of_its_own() {
    let bootstrap = |args: &[&str]| {
        resolve(args)
            .expect("sound")
            .bootstrap()
            .map_err(|error| error.to_string())
    };
    let peer = "--initial-advertise-peer-urls=http://127.0.0.1:1111";
    assert!(bootstrap(&["--name=x", peer]).is_ok());
    assert!(bootstrap(&["--name=x"]).is_ok());
    assert!(bootstrap(&[]).is_ok());
    assert_eq!(
        bootstrap(&[peer]).expect_err("etcd refuses it too"),
        "--initial-cluster has default=http://localhost:2380 but missing from \
         --initial-advertise-peer-urls=http://127.0.0.1:1111 \
         (resolved urls: \"http://127.0.0.1:1111\" != \"http://localhost:2380\")"
    );
}

#[test]
fn tls_flags_reach_their_side() {
    let args = [
        "--cert-file=a",
        "--key-file=b",
        "--client-cert-file=c",
        "--client-key-file=d",
        "--client-cert-auth",
        "--trusted-ca-file=e",
        "--client-crl-file=f",
        "--client-cert-allowed-hostname=g,h",
        "--auto-tls",
        "--peer-cert-file=A",
        "--peer-key-file=B",
        "--peer-client-cert-file=C",
        "--peer-client-key-file=D",
        "--peer-client-cert-auth",
        "--peer-trusted-ca-file=E",
        "--peer-crl-file=F",
        "--peer-cert-allowed-cn=G,H",
        "--peer-cert-allowed-hostname=I",
        "--peer-auto-tls",
        "--peer-skip-client-san-verification",
        "--self-signed-cert-validity=3",
        "--cipher-suites=X,Y",
        "--tls-min-version=TLS1.3",
        "--tls-max-version=TLS1.3",
        "--listen-metrics-urls=https://127.0.0.1:1",
    ];
    let side = |letters: [&str; 6]| super::super::TlsSide {
        cert_file: letters[0].into(),
        key_file: letters[1].into(),
        client_cert_file: letters[2].into(),
        client_key_file: letters[3].into(),
        trusted_ca_file: letters[4].into(),
        crl_file: letters[5].into(),
        client_cert_auth: true,
        auto_tls: true,
        ..Default::default()
    };
    let config = config(&args, &[]).0;
    let mut client = side(["a", "b", "c", "d", "e", "f"]);
    client.allowed_hostnames = vec!["g".into(), "h".into()];
    assert_eq!(config.tls.client, client);
    let mut peer = side(["A", "B", "C", "D", "E", "F"]);
    peer.allowed_cns = vec!["G".into(), "H".into()];
    peer.allowed_hostnames = vec!["I".into()];
    peer.skip_client_san_verification = true;
    assert_eq!(config.tls.peer, peer);
    assert_eq!(config.tls.self_signed_cert_validity, 3);
    assert_eq!(config.tls.cipher_suites, ["X", "Y"]);
    assert_eq!(config.tls.min_version, "TLS1.3");
    assert_eq!(config.tls.max_version, "TLS1.3");
    assert_eq!(config.listen_metrics_urls.len(), 1);
}

#[test]
fn discovery_takes_the_place_of_the_default_cluster() {
    let cluster = |args: &[&str]| resolve(args).expect("sound").initial_cluster;
    assert_eq!(
        cluster(&["--name=default"]),
        "default=http://localhost:2380"
    );
    assert_eq!(cluster(&["--name=a"]), "a=http://localhost:2380");
    for name in ["default", "a"] {
        let name = format!("--name={name}");
        assert_eq!(cluster(&[&name, "--discovery-srv=example.com"]), "");
        assert_eq!(cluster(&[&name, "--discovery-srv-name=x"]), "");
        let registry = ["--discovery-token=t", "--discovery-endpoints=b:1,a:1,b:1"];
        let resolved = resolve(&[&name, registry[0], registry[1]]).expect("sound");
        let Some(super::super::Discovery::Service(service)) = resolved.discovery else {
            panic!("a registry");
        };
        assert_eq!(service.texts(), ["a:1", "b:1"]);
    }
    let refused = |args: &[&str]| resolve(args).expect_err("refused").to_string();
    let many = refused(&[
        "--initial-cluster=default=http://localhost:2380",
        "--discovery-srv=x",
    ]);
    assert!(
        many.starts_with("multiple discovery or bootstrap flags are set."),
        "{many}"
    );
    let empty = refused(&["--discovery-endpoints=", "--discovery-token=t"]);
    assert_eq!(
        empty,
        "--discovery-endpoints must not contain empty endpoints"
    );
}

/// The first line is etcd's; the second names the flag and says what it takes.
#[test]
fn every_flag_with_a_bad_value_is_named_with_a_remedy() {
    let mut checked = 0;
    for flag in known() {
        let bad = match flag.kind {
            Kind::Text if flag.name == "feature-gates" => "Foo=true",
            // What is in it is looked at later.
            Kind::Text => continue,
            Kind::Bool => "maybe",
            Kind::Uint | Kind::Uint32 => "-1",
            Kind::Int => "1G",
            Kind::Duration => "5",
            Kind::Urls => "ftp://127.0.0.1:1",
            Kind::Choice(_) => "other",
        };
        let by_flag = refusal(&[&format!("--{}={bad}", flag.name)], &[]);
        let mut lines = by_flag.stderr.lines();
        let (says, remedy) = (lines.next().expect("etcd's"), lines.next().expect("ours"));
        assert_eq!(by_flag.code, 2, "{}", flag.name);
        assert!(
            says.contains(&format!("-{}", flag.name)) && says.contains(&format!("{bad:?}")),
            "{says}"
        );
        assert!(
            remedy.starts_with(&format!("--{} takes ", flag.name)),
            "{remedy}"
        );
        if flag.name != "version" {
            let by_env = refusal(&[], &[(&flag.env(), bad)]);
            let text = logged(&by_env);
            assert!(
                text.contains(&flag.env()) && text.contains(&format!("{bad:?}")),
                "{text}"
            );
            let field = &by_env.notices.last().expect("a log line").fields[1];
            assert_eq!(*field, ("remedy", remedy.into()));
            assert_eq!(by_env.code, 1);
        }
        checked += 1;
    }
    assert!(checked > 60, "{checked}");
}

/// Flags that take any text are checked once all flags are known.
#[test]
fn contradictions_come_with_a_remedy() {
    for (args, names) in [
        (&["--log-level=nonsense"][..], "nonsense"),
        (&["--log-format=xml"], "xml"),
        (&["--logger=capnslog"], "capnslog"),
        (&["--tls-min-version=SSL3"], "SSL3"),
        (&["--tls-max-version=TLS1.1"], "TLS1.1"),
        (&["--heartbeat-interval=0"], "heartbeat-interval"),
        (&["--heartbeat-interval=300"], "300ms"),
        (&["--listen-peer-urls=http://a:1"], "http://a:1"),
        (&["--initial-advertise-peer-urls=http://:1"], "http://:1"),
    ] {
        let error = resolve(args).expect_err("refused");
        let notices = error.notices();
        let fields = notices.iter().flat_map(|notice| &notice.fields);
        let shown: Vec<_> = fields
            .map(|(key, value)| (*key, value.to_string()))
            .collect();
        assert!(
            shown
                .iter()
                .any(|(key, text)| *key == "error" && text.contains(names)),
            "{args:?} {shown:?}"
        );
        assert!(
            shown
                .iter()
                .any(|(key, text)| *key == "remedy" && text.len() > 20),
            "{args:?} {shown:?}"
        );
    }
}

#[test]
fn old_flags_are_their_replacements() {
    let (config, notices) = config(
        &[
            "--name=a",
            "--experimental-compaction-batch-limit=7",
            "--experimental-watch-progress-notify-interval=2s",
            "--experimental-peer-skip-client-san-verification",
            "--experimental-enable-lease-checkpoint",
            "--log-output=stdout",
            "--debug",
            "--proxy=off",
            "--proxy-failure-wait=1",
            "--discovery=",
            "--discovery-fallback=exit",
            "--log-package-levels=raft=DEBUG",
        ],
        &[("ETCD_EXPERIMENTAL_SNAPSHOT_CATCHUP_ENTRIES", "9")],
    );
    assert_eq!(config.compaction_batch_limit, 7);
    assert_eq!(config.watch_progress_notify_interval, 2_000_000_000);
    assert!(config.tls.peer.skip_client_san_verification);
    assert_eq!(config.log.outputs, ["stdout"]);
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.snapshot_catchup_entries, 9);
    let mut said: Vec<_> = notices
        .iter()
        .filter(|notice| {
            notice
                .message
                .starts_with("flag is of an earlier etcd release")
        })
        .map(|notice| {
            (
                notice.fields[0].1.to_string(),
                notice.fields[1].1.to_string(),
            )
        })
        .collect();
    said.sort();
    assert_eq!(said.len(), 11, "{said:?}");
    for (flag, replacement) in [
        ("--debug", "--log-level=debug"),
        (
            "--experimental-compaction-batch-limit",
            "--compaction-batch-limit",
        ),
        (
            "--experimental-enable-lease-checkpoint",
            "--feature-gates=LeaseCheckpoint=true",
        ),
        ("--log-output", "--log-outputs"),
        ("--proxy-failure-wait", "there is no v2 proxy any more"),
    ] {
        let said = said.iter().filter(|(name, _)| name == flag);
        assert_eq!(
            said.map(|(_, to)| to.as_str()).collect::<Vec<_>>(),
            [replacement]
        );
    }
    // An explicit level is stronger.
    let (config, _) = self::config(&["--debug", "--log-level=warn"], &[]);
    assert_eq!(config.log.level, "warn");
}

#[test]
fn old_flags_with_another_meaning_are_refused() {
    for (args, text) in [
        (&["--proxy=on"][..], "--proxy=\"on\": the v2 proxy is gone"),
        (
            &["--discovery=https://discovery.etcd.io/x"],
            "--discovery=\"https://discovery.etcd.io/x\": v2 discovery is gone",
        ),
        (
            &["--experimental-enable-v2v3=/v2"],
            "--experimental-enable-v2v3=\"/v2\": ",
        ),
        (
            &[
                "--experimental-compaction-batch-limit=1",
                "--compaction-batch-limit=1",
            ],
            "cannot set --experimental-compaction-batch-limit and --compaction-batch-limit at the same time, \
             please use --compaction-batch-limit only",
        ),
        (
            &[
                "--experimental-warning-unary-request-duration=1s",
                "--warning-unary-request-duration=300ms",
            ],
            "both --experimental-warning-unary-request-duration and --warning-unary-request-duration flags are set. \
             Use only --warning-unary-request-duration",
        ),
        (
            &[
                "--experimental-enable-lease-checkpoint=true",
                "--feature-gates=LeaseCheckpoint=true",
            ],
            "cannot specify both flags: --experimental-enable-lease-checkpoint=true and \
             --feature-gates=LeaseCheckpoint=true at the same time, please just use \
             --feature-gates=LeaseCheckpoint=true",
        ),
        (
            &["--experimental-enable-lease-checkpoint-persist"],
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ),
        (
            &["--experimental-initial-corrupt-check"],
            "--experimental-initial-corrupt-check: --feature-gates: InitialCorruptCheck=true is not",
        ),
        (
            &["--feature-gates=CompactHashCheck=true"],
            "--feature-gates: CompactHashCheck=true is not",
        ),
    ] {
        let refusal = refusal(args, &[]);
        assert!(logged(&refusal).starts_with(text), "{}", logged(&refusal));
        assert_eq!(refusal.code, 1);
    }
    // The last word counts.
    config(&["--proxy=on", "--proxy=off"], &[]);
}

#[test]
fn keepalive_is_what_grpc_makes_of_it() {
    let keepalive = |args: &[&str]| resolve(args).expect("sound").grpc_keepalive;
    let seconds = |min_time, interval, timeout| super::super::Keepalive {
        min_time: std::time::Duration::from_secs(min_time),
        interval: std::time::Duration::from_secs(interval),
        timeout: std::time::Duration::from_secs(timeout),
    };
    assert_eq!(keepalive(&[]), seconds(5, 7200, 20));
    assert_eq!(
        keepalive(&[
            "--grpc-keepalive-min-time=0s",
            "--grpc-keepalive-interval=10ms"
        ]),
        seconds(300, 1, 20)
    );
    // 0 turns nothing off: the library's own defaults come back.
    assert_eq!(
        keepalive(&[
            "--grpc-keepalive-interval=9s",
            "--grpc-keepalive-timeout=0s"
        ]),
        seconds(5, 7200, 20)
    );
}

#[test]
fn falling_back_to_a_proxy_is_refused() {
    config(&["--discovery-fallback=exit"], &[]);
    config(
        &["--discovery-fallback=proxy", "--discovery-fallback=exit"],
        &[],
    );
    let refusal = refusal(&["--discovery-fallback=proxy"], &[]);
    assert_eq!(
        logged(&refusal),
        "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\""
    );
}

#[test]
fn what_has_no_effect_is_said() {
    let (_, notices) = config(&["--downgrade-check-time=1s", "--bcrypt-cost=99"], &[]);
    let said: Vec<_> = notices.iter().map(|notice| notice.message).collect();
    assert_eq!(
        said,
        [
            "use default bcrypt cost instead of the invalid given cost",
            "flag has no effect: its default holds",
        ]
    );
    let (_, notices) = config(
        &["--downgrade-check-time=1s", "--downgrade-check-time=5s"],
        &[],
    );
    assert!(notices.is_empty());
}

#[test]
fn other_members_are_dialed_from_the_advertised_address() {
    let gate = "--feature-gates=SetMemberLocalAddr=true";
    let url =
        |host: &str| format!("--initial-advertise-peer-urls=http://127.0.0.1:1,http://{host}:2");
    let local = |args: &[&str]| resolve(args).expect("sound").local_address;
    assert_eq!(local(&[gate, &url("10.1.2.3")]), Some([10, 1, 2, 3].into()));
    assert_eq!(local(&[&url("10.1.2.3")]), None);
    for none in ["localhost", "0.0.0.0"] {
        let resolved = resolve(&[gate, &url(none)]).expect("sound");
        assert_eq!(resolved.local_address, None);
        let said = |notice: &Notice| notice.message.starts_with("unable to set a member local");
        assert!(resolved.notices.iter().any(said), "{none}");
    }
}
