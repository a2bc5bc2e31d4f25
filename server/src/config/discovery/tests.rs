use super::super::Config;
use super::*;

fn with(change: impl FnOnce(&mut DiscoveryConfig)) -> DiscoveryConfig {
    let mut config = DiscoveryConfig::default();
    change(&mut config);
    config
}

fn service(change: impl FnOnce(&mut DiscoveryConfig)) -> ServiceDiscovery {
    let config = with(|c| {
        c.token = "t".into();
        c.endpoints = vec!["127.0.0.1:2379".into()];
        change(c);
    });
    match config.resolve(&mut Vec::new()) {
        Ok(Some(Discovery::Service(service))) => *service,
        other => panic!("{other:?}"),
    }
}

fn endpoint(text: &str, silent: bool) -> (EndpointAddress, bool) {
    let endpoint = Endpoint::parse(text, silent).expect(text);
    (endpoint.address, endpoint.tls)
}

#[test]
fn services_are_named_as_the_dns_has_them() {
    let srv = |name: &str| {
        let config = with(|c| {
            c.srv = "example.com".into();
            c.srv_name = name.into();
        });
        match config.resolve(&mut Vec::new()) {
            Ok(Some(Discovery::Srv(srv))) => srv,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(srv("").service(true), "etcd-server-ssl");
    assert_eq!(srv("").service(false), "etcd-server");
    assert_eq!(srv("dev").service(true), "etcd-server-ssl-dev");
    assert_eq!(srv("dev").service(false), "etcd-server-dev");
}

#[test]
fn without_flags_there_is_no_discovery() {
    assert_eq!(
        DiscoveryConfig::default().resolve(&mut Vec::new()),
        Ok(None)
    );
    let resolved = Config::new("/data").resolve().expect("defaults");
    assert_eq!(resolved.discovery, None);
}

#[test]
fn endpoints_are_those_of_etcds_clients() {
    let tcp = |host: &str, port| EndpointAddress::Tcp(host.into(), port);
    for silent in [false, true] {
        assert_eq!(
            endpoint("10.0.0.1:2379", silent),
            (tcp("10.0.0.1", 2379), silent)
        );
        assert_eq!(endpoint("http://a.b:1", silent), (tcp("a.b", 1), false));
        assert_eq!(endpoint("https://a.b:1", silent), (tcp("a.b", 1), true));
        assert_eq!(
            endpoint("HTTPS://[::1]:1/x?y", silent),
            (tcp("::1", 1), true)
        );
        assert_eq!(endpoint(":2379", silent), (tcp("localhost", 2379), silent));
        for socket in ["unix:/run/x", "unix:///run/x"] {
            assert_eq!(
                endpoint(socket, silent),
                (EndpointAddress::Socket("/run/x".into()), false)
            );
        }
    }
    for bad in [
        "a",
        "a:b",
        "a:70000",
        "ftp://a:1",
        "unix:",
        "http://a b:1",
        "http://:x",
    ] {
        let error = Endpoint::parse(bad, false).expect_err(bad).to_string();
        assert!(
            error.contains(&format!("{bad:?}")) && error.contains("host:port"),
            "{error}"
        );
    }
    let error = Endpoint::parse("unixs:///x", false).expect_err("TLS over a socket");
    assert!(error.to_string().contains("unix:"), "{error}");
}

#[test]
fn an_endpoint_without_scheme_is_plain_unless_something_asks_for_tls() {
    assert!(!service(|_| {}).endpoints[0].tls);
    assert!(service(|c| c.insecure_transport = false).endpoints[0].tls);
    assert!(service(|c| c.insecure_skip_tls_verify = true).endpoints[0].tls);
    assert!(service(|c| c.cacert = "ca.pem".into()).endpoints[0].tls);
    let plain = service(|c| {
        c.cacert = "ca.pem".into();
        c.endpoints = vec!["http://127.0.0.1:2379".into()];
    });
    assert!(!plain.endpoints[0].tls);
}

#[test]
fn times_have_defaults_and_a_least() {
    let seconds = Duration::from_secs;
    let defaults = service(|_| {});
    assert_eq!(
        (defaults.dial_timeout, defaults.request_timeout),
        (seconds(2), seconds(5))
    );
    // 2s are asked for, and would make servers hang up.
    assert_eq!(defaults.keepalive, Some((seconds(10), seconds(6))));
    let zeros = service(|c| {
        (c.dial_timeout, c.request_timeout) = (0, 0);
        (c.keepalive_time, c.keepalive_timeout) = (0, 0);
    });
    assert_eq!(
        (zeros.dial_timeout, zeros.request_timeout),
        (seconds(2), seconds(5))
    );
    assert_eq!(zeros.keepalive, None);
    let long = service(|c| (c.keepalive_time, c.keepalive_timeout) = (30_000_000_000, 0));
    assert_eq!(long.keepalive, Some((seconds(30), seconds(20))));
    let negative = with(|c| {
        c.token = "t".into();
        c.endpoints = vec!["a:1".into()];
        c.request_timeout = -1;
    });
    let error = negative.resolve(&mut Vec::new()).expect_err("below 0");
    assert!(
        error.to_string().contains("--discovery-request-timeout=-1"),
        "{error}"
    );
}

#[test]
fn a_user_comes_with_a_password() {
    let secret = |text: &str| Secret(text.into());
    let both = service(|c| (c.user, c.password) = ("root".into(), secret("pw")));
    assert_eq!(both.credentials, Some(("root".into(), secret("pw"))));
    let one = service(|c| c.user = "root:p:w".into());
    assert_eq!(one.credentials, Some(("root".into(), secret("p:w"))));
    // A name may have a colon when the password stands alone.
    let odd = service(|c| (c.user, c.password) = ("a:b".into(), secret("pw")));
    assert_eq!(odd.credentials, Some(("a:b".into(), secret("pw"))));
    let mut notices = Vec::new();
    let config = with(|c| {
        c.token = "t".into();
        c.endpoints = vec!["a:1".into()];
        c.user = "root".into();
    });
    let resolved = config.resolve(&mut notices).expect("sound");
    assert!(matches!(resolved, Some(Discovery::Service(service)) if service.credentials.is_none()));
    assert!(notices[0].message.contains("without a password"));
    assert!(!format!("{both:?}").contains("pw"), "no log shows it");
}

/// Texts of etcd 3.7.1.
#[test]
fn contradictions_are_refused() {
    let check = |cluster: Option<&str>, change: fn(&mut DiscoveryConfig)| {
        with(change)
            .check(cluster)
            .map_err(|error| error.to_string())
    };
    let many = Err(
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
                    \"discovery-endpoints\" or \"discovery-srv\""
            .to_owned(),
    );
    let half = Err("both --discovery-token and --discovery-endpoints must be set".to_owned());
    assert_eq!(check(Some("a=b"), |_| {}), Ok(()));
    assert_eq!(check(Some("a=b"), |c| c.srv = "x".into()), many);
    assert_eq!(
        check(Some("a=b"), |c| c.endpoints = vec!["a:1".into()]),
        many
    );
    let both = |c: &mut DiscoveryConfig| {
        c.srv = "x".into();
        c.token = "t".into();
        c.endpoints = vec!["a:1".into()];
    };
    assert_eq!(check(None, both), many);
    assert_eq!(check(Some(""), |c| c.srv = "x".into()), Ok(()));
    assert_eq!(check(None, |c| c.token = "t".into()), half);
    assert_eq!(check(None, |c| c.endpoints = vec!["a:1".into()]), half);
    let empty = |c: &mut DiscoveryConfig| {
        c.token = "t".into();
        c.endpoints = vec![" ".into(), "a:1".into()];
    };
    let error = "--discovery-endpoints must not contain empty endpoints";
    assert_eq!(check(None, empty), Err(error.to_owned()));
}

#[test]
fn the_token_of_the_registry_is_that_of_the_cluster() {
    let mut config = Config::new("/data");
    config.name = "a".into();
    config.discovery.token = "t".into();
    config.discovery.endpoints = vec!["a:1".into()];
    let resolved = config.resolve().expect("sound");
    assert_eq!(resolved.initial_cluster_token, "t");
    assert_eq!(resolved.initial_cluster, "");
}
