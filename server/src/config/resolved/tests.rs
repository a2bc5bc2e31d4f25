use super::super::{BootstrapError, Field, UrlError};
use super::*;
use std::collections::BTreeMap;
use std::path::Path;

fn config() -> Config {
    Config::new("/data")
}

fn urls(text: &str) -> Vec<Url> {
    url::parse_list(text).expect(text)
}

fn error(change: impl FnOnce(&mut Config)) -> String {
    let mut config = config();
    change(&mut config);
    config.resolve().expect_err("must be refused").to_string()
}

fn bootstrap(change: impl FnOnce(&mut Config)) -> Result<BTreeMap<String, Vec<Url>>, String> {
    let mut config = config();
    change(&mut config);
    config
        .resolve()
        .expect("sound")
        .bootstrap()
        .map_err(|error| error.to_string())
}

#[test]
fn defaults_become_etcds_effective_values() {
    let resolved = config().resolve().expect("defaults");
    assert_eq!(resolved.wal_dir, Path::new("/data/member/wal"));
    assert_eq!(resolved.snap_dir, Path::new("/data/member/snap"));
    assert_eq!(
        resolved.listen_clients,
        [Place::Tcp(([127, 0, 0, 1], 2379).into())]
    );
    assert_eq!(resolved.initial_cluster, "default=http://localhost:2380");
    assert_eq!(
        url::join(&resolved.advertise_client_urls),
        "http://localhost:2379"
    );
    assert_eq!(resolved.quota_backend_bytes, Some(2 << 30));
    assert_eq!(
        (resolved.heartbeat, resolved.election_ticks),
        (Duration::from_millis(100), 10)
    );
    assert_eq!(
        (
            resolved.backend_batch_interval,
            resolved.backend_batch_limit
        ),
        (Duration::from_millis(100), 10_000)
    );
    let compaction = (
        resolved.compaction_sleep_interval,
        resolved.compaction_batch_limit,
    );
    assert_eq!(compaction, (Duration::from_millis(10), 1_000));
    assert_eq!(
        (resolved.max_wals, resolved.max_snapshots),
        (Some(5), Some(5))
    );
    assert_eq!(resolved.max_request_bytes, 1_572_864);
    let messages: Vec<_> = resolved
        .notices
        .iter()
        .map(|notice| notice.message)
        .collect();
    assert!(messages[0].starts_with("Running http and grpc server on single port."));
    assert!(messages[1].starts_with("it isn't recommended to use default name"));
}

#[test]
fn the_progress_interval_has_a_default_and_a_least() {
    let resolved = |nanos| {
        let config = Config {
            watch_progress_notify_interval: nanos,
            ..config()
        };
        let resolved = config.resolve().expect("sound");
        let adjusted = resolved.notices.iter().any(|notice| {
            notice.message == "adjusting watch progress notify interval to minimum period"
        });
        (resolved.watch_progress_interval, adjusted)
    };
    assert_eq!(resolved(0), (Duration::from_secs(600), false));
    assert_eq!(resolved(-1), (Duration::from_secs(600), false));
    assert_eq!(resolved(1), (Duration::from_millis(100), true));
    assert_eq!(resolved(100_000_000), (Duration::from_millis(100), false));
    assert_eq!(resolved(5_000_000_000), (Duration::from_secs(5), false));
}

#[test]
fn special_values_are_resolved() {
    let config = Config {
        quota_backend_bytes: -1,
        max_wals: 0,
        max_snapshots: 0,
        ..config()
    };
    let resolved = config.resolve().expect("sound");
    assert_eq!(
        (
            resolved.quota_backend_bytes,
            resolved.max_wals,
            resolved.max_snapshots
        ),
        (None, None, None)
    );
    assert!(
        error(|c| c.backend_batch_limit = -1).starts_with("--backend-batch-limit=-1 is below 0")
    );
    assert!(
        error(|c| c.compaction_sleep_interval = -1)
            .starts_with("--compaction-sleep-interval=-1ns is below 0")
    );
    assert!(error(|c| c.max_learners = -1).starts_with("--max-learners=-1 is below 0"));
}

/// The lines of etcd.
#[test]
fn batches_of_another_size_are_announced() {
    let resolved = Config {
        backend_batch_interval: 1_500_000,
        backend_batch_limit: 7,
        ..config()
    };
    let resolved = resolved.resolve().expect("sound");
    assert_eq!(resolved.backend_batch_interval, Duration::from_micros(1500));
    assert_eq!(resolved.backend_batch_limit, 7);
    let of = |message: &str| {
        let notice = resolved.notices.iter().find(|n| n.message == message);
        let (key, value) = &notice.expect("a line").fields[0];
        format!("{key}={value}")
    };
    assert_eq!(of("setting backend batch limit"), "batch limit=7");
    assert_eq!(of("setting backend batch interval"), "batch interval=1.5ms");
    let default = config().resolve().expect("sound");
    assert!(
        !default
            .notices
            .iter()
            .any(|n| n.message.contains("backend batch"))
    );
}

#[test]
fn an_engine_that_was_not_built_is_refused() {
    for engine in Engine::ALL {
        let config = Config {
            backend_engine: engine,
            ..config()
        };
        match config.resolve() {
            Ok(resolved) => assert!(engine.is_built() && resolved.backend_engine == engine),
            Err(error) => {
                assert!(!engine.is_built());
                let text = format!(
                    "--experimental-backend-engine={engine} is not part of this build: \
                     build it with `--features {engine}`, or leave the flag out"
                );
                assert_eq!(error.to_string(), text);
            }
        }
    }
}

#[test]
fn an_empty_data_dir_is_named_after_the_member() {
    let resolved = Config {
        name: "m1".into(),
        ..Config::new("")
    }
    .resolve()
    .expect("sound");
    assert_eq!(resolved.data_dir, Path::new("m1.etcd"));
    let notice = resolved.notices.last().expect("a warning");
    assert_eq!(
        (notice.level, notice.message),
        (Level::Warning, "'data-dir' was empty; using default")
    );
    assert_eq!(notice.fields, [("data-dir", "m1.etcd".into())]);
}

/// Texts of etcd 3.7.1.
#[test]
fn contradictions_are_refused_with_etcds_texts() {
    assert_eq!(
        error(|c| c.listen_client_urls = urls("http://foo.bar:2399")),
        "expected IP in URL for binding (http://foo.bar:2399)"
    );
    assert_eq!(
        error(|c| c.listen_peer_urls = urls("http://:1")),
        "expected IP in URL for binding (http://:1)"
    );
    assert_eq!(
        error(|c| c.initial_advertise_peer_urls = Some(urls("http://:1"))),
        "--initial-advertise-peer-urls \"http://:1\" must be \"host:port\" (unexpected empty host (http://:1))"
    );
    assert_eq!(
        error(|c| c.advertise_client_urls = Some(urls("http://:1"))),
        "--advertise-client-urls \"http://:1\" must be in the format \"host:port\", \"unix:/path/to/socket\" or \
         \"unixs:/path/to/socket\" (unexpected empty host (http://:1))"
    );
    assert_eq!(
        error(|c| c.listen_client_urls = urls("http://127.0.0.1:99999")),
        "listen tcp: address 99999: invalid port"
    );
    assert_eq!(
        error(|c| c.heartbeat_interval = 0),
        "--heartbeat-interval must be >0 (set to 0ms)"
    );
    assert_eq!(
        error(|c| c.election_timeout = 0),
        "--election-timeout must be >0 (set to 0ms)"
    );
    assert_eq!(
        error(|c| c.heartbeat_interval = 500),
        "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[500ms]"
    );
    assert_eq!(
        error(|c| c.election_timeout = 60_000),
        "--election-timeout[60000ms] is too long, and should be set less than 50000ms"
    );
    assert_eq!(
        error(|c| c.log.logger = "foo".into()),
        "unknown logger option \"foo\""
    );
    assert_eq!(
        error(|c| c.log.logger = "capnslog".into()),
        "--logger=capnslog is removed in v3.5"
    );
    assert_eq!(
        error(|c| c.log.format = "foo".into()),
        "unknown log format: foo, supported values json, console"
    );
    assert_eq!(
        error(|c| c.log.outputs = vec!["default".into(), "stderr".into()]),
        "multi logoutput for \"default\" is not supported yet"
    );
    let mut config = config();
    config.log.level = "foo".into();
    let level = config.resolve().expect_err("level");
    assert_eq!(
        (level.to_string().as_str(), level.code()),
        ("unrecognized level: \"foo\"", 2)
    );
}

#[test]
fn lines_are_those_of_etcd() {
    let lines =
        |notices: Vec<Notice>| -> Vec<_> { notices.iter().map(|n| (n.level, n.message)).collect() };
    let unverified = (Level::Warning, "failed to verify flags");
    assert_eq!(
        lines(
            ConfigError::BindAddress {
                flag: "listen-peer-urls",
                url: Url::http(([1, 2, 3, 4], 5).into())
            }
            .notices()
        ),
        [unverified]
    );
    let late = lines(ConfigError::Heartbeat(0).notices());
    assert!(
        late[0]
            .1
            .starts_with("Running http and grpc server on single port.")
            && late[1] == unverified
    );
    let fatal = (Level::Critical, "discovery failed");
    assert_eq!(
        lines(BootstrapError::DuplicateUrl(String::new()).notices()),
        [(Level::Error, "bootstrap failed"), fatal]
    );
    assert_eq!(
        lines(BootstrapError::Url(UrlError::Scheme(String::new())).notices()),
        [fatal]
    );
}

#[test]
fn warnings_have_sizes_for_people() {
    let config = Config {
        max_request_bytes: 99_999_999,
        quota_backend_bytes: 99_999_999_999,
        ..config()
    };
    let notices = config.resolve().expect("sound").notices;
    let field = |message: &str, name: &str| {
        let notice = notices
            .iter()
            .find(|notice| notice.message == message)
            .expect(message);
        notice
            .fields
            .iter()
            .find(|(key, _)| *key == name)
            .expect(name)
            .1
            .clone()
    };
    let request = "exceeded recommended request limit";
    assert_eq!(
        field(request, "max-request-bytes"),
        Field::Number(99_999_999)
    );
    assert_eq!(field(request, "max-request-size"), "100 MB".into());
    assert_eq!(field(request, "recommended-request-size"), "10 MB".into());
    assert_eq!(
        field("quota exceeds the maximum value", "quota-maximum-size"),
        "8.6 GB".into()
    );
}

#[test]
fn sockets_are_files() {
    let sockets = "unix:///run/etcd/peer.sock,unix://localhost:2380,unixs://m1:1";
    let resolved = Config {
        listen_client_urls: urls("unix://x:1"),
        listen_client_http_urls: urls("unixs:///y"),
        listen_peer_urls: urls(sockets),
        initial_advertise_peer_urls: Some(urls(sockets)),
        initial_cluster: Some("default=unix://localhost:2380".into()),
        listen_metrics_urls: urls("unix:/run/metrics"),
        ..config()
    };
    let resolved = resolved.resolve().expect("sound");
    let unix = |path: &str| Place::Unix(path.into());
    assert_eq!(resolved.listen_clients, [unix("x:1")]);
    assert_eq!(resolved.listen_clients_http, [unix("/y")]);
    assert_eq!(resolved.listen_metrics, [unix("/run/metrics")]);
    for peers in ["/run/etcd/peer.sock", "localhost:2380", "m1:1"] {
        assert!(resolved.listen_peers.contains(&unix(peers)), "{peers}");
    }
    assert_eq!(
        error(|c| c.listen_peer_urls = urls("unix:")),
        "--listen-peer-urls=unix: names no file of a socket"
    );
    assert_eq!(
        error(|c| c.listen_client_urls = vec![]),
        "--listen-client-urls is empty: name at least one URL"
    );
}

#[test]
fn http_may_have_urls_of_its_own() {
    let single = |notices: &[Notice]| notices.iter().any(|n| n.message.contains("single port"));
    assert!(single(&config().resolve().expect("sound").notices));
    let split = Config {
        listen_client_http_urls: urls("http://127.0.0.1:2381"),
        ..config()
    };
    assert!(!single(&split.resolve().expect("sound").notices));
    // Not the same ones.
    assert_eq!(
        error(|c| {
            c.listen_client_urls = urls("https://127.0.0.1:7,http://127.0.0.1:2379");
            c.listen_client_http_urls = urls("http://localhost:2379");
        }),
        "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url http://localhost:2379"
    );
    assert_eq!(
        error(|c| c.listen_client_http_urls = urls("http://example.com:1")),
        "expected IP in URL for binding (http://example.com:1)"
    );
}

#[test]
fn go_profiles_are_warned_of() {
    let told = |wanted: bool| {
        let mut config = config();
        config.enable_pprof = wanted;
        let resolved = config.resolve().expect("sound");
        assert_eq!(resolved.enable_pprof, wanted);
        let about = |notice: &Notice| {
            notice
                .message
                .starts_with("--enable-pprof has little effect")
        };
        resolved.notices.iter().any(about)
    };
    assert!(told(true) && !told(false));
}

#[test]
fn tls_needs_certificates() {
    let with = |clients: &str, peers: &str| {
        let (listen_client_urls, listen_peer_urls) = (urls(clients), urls(peers));
        let resolved = Config {
            listen_client_urls,
            listen_peer_urls,
            ..config()
        }
        .resolve()
        .expect("sound");
        resolved
            .check_tls()
            .expect_err("no certificate")
            .to_string()
    };
    assert_eq!(
        with("https://127.0.0.1:2379", "http://127.0.0.1:2380"),
        "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:2379 with HTTPS scheme"
    );
    assert_eq!(
        with("http://127.0.0.1:2379", "https://127.0.0.1:2380"),
        "cannot listen on TLS for 127.0.0.1:2380: KeyFile and CertFile are not presented"
    );
}

#[test]
fn a_cluster_of_this_member_is_accepted() {
    let members = bootstrap(|c| c.name = "m".into()).expect("alone");
    assert_eq!(
        members,
        BTreeMap::from([("m".to_owned(), urls("http://localhost:2380"))])
    );
    let two = "a=http://10.0.0.1:1,a=http://10.0.0.1:2";
    let members = bootstrap(|c| {
        c.name = "a".into();
        c.initial_cluster = Some(two.into());
        c.initial_advertise_peer_urls = Some(urls("http://10.0.0.1:2,http://10.0.0.1:1"));
    });
    assert_eq!(members.expect("two URLs")["a"].len(), 2);
    // The same address under a name and as a number.
    let resolved = bootstrap(|c| {
        c.name = "a".into();
        c.initial_cluster = Some("a=http://ip6-localhost.:1".into());
        c.initial_advertise_peer_urls = Some(urls("http://ip6-localhost.:1"));
    });
    assert!(
        resolved.is_ok(),
        "equal texts are not looked up: {resolved:?}"
    );
}

/// Texts of etcd 3.7.1.
#[test]
fn a_cluster_without_this_member_is_refused() {
    let with =
        |cluster: &str| bootstrap(|c| c.initial_cluster = Some(cluster.into())).expect_err(cluster);
    assert_eq!(
        with(""),
        "couldn't find local name \"default\" in the initial cluster configuration"
    );
    assert_eq!(with("a=http://127.0.0.1:2380"), with(""));
    assert_eq!(
        bootstrap(|c| c.name = String::new()).expect_err("no name"),
        "couldn't find local name \"\" in the initial cluster configuration"
    );
    assert_eq!(
        with("foo"),
        "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: "
    );
    assert_eq!(
        with("default=b=http://localhost:2380"),
        "error setting up initial cluster: parse \"b=http://localhost:2380\": \
         first path segment in URL cannot contain colon"
    );
    assert_eq!(
        with("default=http://127.0.0.1:2380"),
        "--initial-cluster has default=http://127.0.0.1:2380 but missing from \
         --initial-advertise-peer-urls=http://localhost:2380 \
         (resolved urls: \"http://localhost:2380\" != \"http://127.0.0.1:2380\")"
    );
    assert_eq!(
        with("default=http://localhost:2380,default=http://localhost:2381"),
        "--initial-cluster has default=http://localhost:2381 but missing from \
         --initial-advertise-peer-urls=http://localhost:2380 (len([\"http://localhost:2380\"]) != \
         len([\"http://localhost:2380\" \"http://localhost:2381\"]))"
    );
    assert_eq!(
        with("default=http://localhost:2380,b=http://localhost:2380"),
        "initial cluster b=http://localhost:2380,default=http://localhost:2380 has duplicate url"
    );
    let more = bootstrap(|c| {
        c.initial_advertise_peer_urls = Some(urls("http://localhost:2380,http://localhost:2381"))
    });
    assert!(more.is_ok(), "derived from what is advertised");
    let reverse = bootstrap(|c| {
        c.initial_cluster = Some("default=http://localhost:2380".into());
        c.initial_advertise_peer_urls = Some(urls("http://localhost:2380,http://localhost:2381"));
    });
    assert!(
        reverse.as_ref().is_err_and(|text| text.starts_with(
            "--initial-advertise-peer-urls has http://localhost:2381 but missing from --initial-cluster=default="
        )),
        "{reverse:?}"
    );
}

#[test]
fn more_members_are_read_by_name() {
    let three = "b=http://localhost:2381,default=http://localhost:2380,b=http://localhost:2382";
    let cluster = bootstrap(|c| c.initial_cluster = Some(three.into())).expect("sound");
    let shown: Vec<_> = cluster
        .iter()
        .map(|(name, urls)| (name.as_str(), url::join(urls)))
        .collect();
    let b = "http://localhost:2381,http://localhost:2382";
    let own = "http://localhost:2380";
    assert_eq!(shown, [("b", b.into()), ("default", own.into())]);

    // Who joins may be listed as anything: the cluster's word counts.
    let joins = bootstrap(|c| {
        c.initial_cluster_state = ClusterState::Existing;
        c.initial_cluster = Some("default=http://localhost:9,b=http://localhost:2381".into());
    });
    assert!(joins.is_ok(), "{joins:?}");
}

#[test]
fn chosen_ports_are_advertised() {
    let mut resolved = Config::ephemeral("/data").resolve().expect("sound");
    assert_eq!(
        resolved.listen_clients[0].address().map(|a| a.port()),
        Some(0)
    );
    resolved.bound(&[Place::Tcp(([127, 0, 0, 1], 4711).into())]);
    assert_eq!(
        url::join(&resolved.advertise_client_urls),
        "http://127.0.0.1:4711"
    );
    assert!(resolved.bootstrap().is_ok());
}

#[test]
fn the_default_route_names_the_host() {
    let mut config = Config {
        name: "x".into(),
        listen_peer_urls: urls("http://0.0.0.0:2380"),
        ..config()
    };
    let resolved = config.resolve().expect("sound");
    let advertised = &resolved.initial_advertise_peer_urls[0];
    let expected = default_host().map_or("http://localhost:2380".into(), |host| {
        format!("http://{}:2380", host.ip())
    });
    assert_eq!(advertised.as_str(), expected);
    assert!(resolved.bootstrap().is_ok());
    config.initial_advertise_peer_urls = Some(urls("http://h:1"));
    assert_eq!(
        config.resolve().expect("sound").initial_advertise_peer_urls,
        urls("http://h:1")
    );
}

/// Texts of etcd 3.7.1.
#[test]
fn tls_versions_and_suites_are_checked() {
    assert_eq!(
        error(|c| c.tls.min_version = "TLS1.1".into()),
        "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)"
    );
    assert_eq!(
        error(|c| {
            c.tls.min_version = "TLS1.3".into();
            c.tls.max_version = "TLS1.2".into();
        }),
        "min version (TLS1.3) is greater than max version (TLS1.2)"
    );
    assert_eq!(
        error(|c| {
            c.tls.min_version = "TLS1.3".into();
            c.tls.cipher_suites = vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".into()];
        }),
        "cipher suites cannot be configured when only TLS1.3 is enabled"
    );
    let mut config = config();
    config.tls.cipher_suites = vec!["FOO".into()];
    let resolved = config.resolve().expect("judged later, as in etcd");
    let error = resolved.check_tls().expect_err("there is no such suite");
    assert_eq!(error.to_string(), "unexpected TLS cipher suite \"FOO\"");
    assert_eq!(error.notices().len(), 1);
}

#[test]
fn certificates_that_are_not_used_are_warned_of() {
    let mut config = config();
    config.listen_client_urls = urls("http://127.0.0.1:1,https://127.0.0.1:2");
    config.tls.client.cert_file = "c".into();
    config.tls.client.key_file = "k".into();
    config.tls.client.client_cert_auth = true;
    config.tls.client.auto_tls = true;
    config.listen_metrics_urls = urls("https://127.0.0.1:3");
    let resolved = config.resolve().expect("sound");
    assert_eq!(resolved.check_tls(), Ok(()));
    assert!(!resolved.tls.client.is_automatic());
    for message in [
        "ignoring client auto TLS since certs given",
        "scheme is http or unix while key and cert files are present; ignoring key and cert files",
        "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL",
    ] {
        let found = resolved.notices.iter().filter(|n| n.message == message);
        assert_eq!(found.count(), 1, "{message}");
    }
    config.tls.client = super::super::TlsSide::default();
    config.listen_client_urls = urls("http://127.0.0.1:1");
    let resolved = config.resolve().expect("sound");
    assert_eq!(
        resolved.check_tls().map_err(|error| error.to_string()),
        Err(
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"
                .into()
        )
    );
}
