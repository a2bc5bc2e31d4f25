use super::super::tests::{found, plan};
use super::*;

const LIST: &str = "a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380";

fn member(id: u64, name: &str, url: &str) -> Member {
    Member {
        id,
        name: name.into(),
        peer_urls: vec![url.into()],
        client_urls: match name {
            "" => Vec::new(),
            _ => vec!["http://10.0.0.1:2379".into()],
        },
        ..Member::default()
    }
}

fn seen(cluster: u64, members: &[Member]) -> Seen {
    Seen {
        cluster: RemoteCluster::new(cluster, members.to_vec()),
        version: Some("3.7.1".into()),
        drift: Some(Duration::from_millis(3)),
    }
}

fn asked(name: &str, url: &str, result: Result<Seen, Trouble>) -> Asked {
    Asked {
        name: name.into(),
        url: url.parse().expect(url),
        result,
    }
}

/// Member c of three, with this state.
fn joining(state: ClusterState) -> Plan {
    plan(|config| {
        config.name = "c".into();
        config.initial_advertise_peer_urls =
            Some(vec!["http://10.0.0.3:2380".parse().expect("a URL")]);
        config.initial_cluster = Some(LIST.into());
        config.initial_cluster_state = state;
    })
}

fn judged(plan: &Plan, asked: &[Asked]) -> Findings {
    found(|findings| judge(plan, asked, findings))
}

fn two() -> Vec<Member> {
    vec![
        member(1, "a", "http://10.0.0.1:2380"),
        member(2, "b", "http://10.0.0.2:2380"),
    ]
}

#[test]
fn an_announced_member_may_join() {
    let members = [two(), vec![member(3, "", "http://10.0.0.3:2380")]].concat();
    let asked = [asked("a", "http://10.0.0.1:2380", Ok(seen(7, &members)))];
    let found = judged(&joining(ClusterState::Existing), &asked);
    assert!(found.checks().is_empty(), "{found:?}");
}

#[test]
fn the_state_is_judged_as_at_a_start() {
    let asked = [asked("a", "http://10.0.0.1:2380", Ok(seen(7, &two())))];
    let found = judged(&joining(ClusterState::Existing), &asked);
    let fix = &found.only("cluster-state").fix;
    assert!(
        fix.contains("member add c --peer-urls=http://10.0.0.3:2380"),
        "{fix}"
    );

    let members = [two(), vec![member(3, "", "http://10.0.0.3:2380")]].concat();
    let asked = [self::asked(
        "a",
        "http://10.0.0.1:2380",
        Ok(seen(7, &members)),
    )];
    let found = judged(&joining(ClusterState::New), &asked);
    let finding = found.only("cluster-state");
    assert!(
        finding.what.contains("--initial-cluster-state=new"),
        "{finding:?}"
    );
}

#[test]
fn clusters_that_differ_are_found() {
    let urls = ["http://10.0.0.1:2380", "http://10.0.0.2:2380"];
    let all = [
        asked("a", urls[0], Ok(seen(7, &two()))),
        asked("b", urls[1], Ok(seen(8, &two()))),
    ];
    let mut plan = joining(ClusterState::Existing);
    plan.data.has_log = true;
    plan.data.ids = Some((3, 9));
    let found = judged(&plan, &all);
    assert_eq!(found.checks(), ["cluster-id", "cluster-id"]);
    plan.data.ids = Some((3, 7));
    let found = judged(&plan, &all[..1]);
    assert!(
        found
            .only("data-dir-member")
            .fix
            .contains("removed for ever")
    );
    plan.data.ids = Some((2, 7));
    // The addresses of these members are none of this machine.
    assert_eq!(judged(&plan, &all[..1]).checks(), ["peer-url-registered"]);
}

#[test]
fn silence_is_judged_by_what_it_means() {
    let refused = || Err(Trouble::Connection("connection refused".into()));
    let all = [
        asked("a", "http://10.0.0.1:2380", refused()),
        asked("b", "http://10.0.0.2:2380", refused()),
    ];
    let founding = judged(&joining(ClusterState::New), &all).into_report();
    assert!(
        founding
            .findings
            .iter()
            .all(|f| f.severity == super::super::Severity::Note)
    );
    let found = judged(&joining(ClusterState::Existing), &all);
    assert_eq!(found.checks(), ["peer", "peer", "cluster-state"]);
}

#[test]
fn clocks_versions_and_members_that_never_came_are_found() {
    let members = [
        two(),
        vec![
            member(3, "", "http://10.0.0.3:2380"),
            member(4, "", "http://10.0.0.4:2380"),
        ],
    ]
    .concat();
    let mut told = seen(7, &members);
    told.drift = Some(Duration::from_secs(90));
    told.version = Some("3.4.23".into());
    let asked = [asked("a", "http://10.0.0.1:2380", Ok(told))];
    let found = judged(&joining(ClusterState::Existing), &asked);
    assert!(found.only("clock").what.contains("90.0 s"), "{found:?}");
    assert!(found.only("version").what.contains("3.4.23"), "{found:?}");
    assert!(
        found
            .only("unstarted-member")
            .fix
            .contains("member remove 4"),
        "{found:?}"
    );
}

/// What asking a URL comes to, with a peer of no certificate.
fn ask_url(url: &str) -> Result<Seen, Trouble> {
    let plan = plan(|_| {});
    let secure = Secure::new(&plan.resolved.tls.peer, None, true, &super::super::silent());
    let url: Url = url.parse().expect(url);
    crate::server::run_async(ask_one(&url, &secure)).expect("a runtime")
}

#[test]
fn a_member_that_runs_is_asked_and_others_are_told_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = crate::Config::ephemeral(dir.path().join("data"));
    let server = crate::Server::start_with_log(config, &crate::log::Log::discard());
    let server = server.expect("started");
    let (peer, client) = (server.peer_addresses()[0], server.client_addresses()[0]);

    let seen = ask_url(&format!("http://{peer}")).expect("it answers");
    assert_eq!(seen.cluster.members.len(), 1);
    assert_eq!(seen.version.as_deref(), Some(crate::config::ETCD_VERSION));
    assert!(seen.drift.is_some());
    assert!(matches!(
        ask_url(&format!("http://{client}")),
        Err(Trouble::Answer {
            after_tls: false,
            ..
        })
    ));
    server.stop();
    // A port that nothing uses, and no system gives away.
    assert!(matches!(
        ask_url("http://127.0.0.1:1"),
        Err(Trouble::Connection(_))
    ));
}

#[test]
fn tls_and_its_absence_are_told_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = crate::Config::ephemeral(dir.path().join("data"));
    config.listen_peer_urls = super::super::tests::urls("https://127.0.0.1:0");
    config.tls.peer.auto_tls = true;
    let server = crate::Server::start_with_log(config, &crate::log::Log::discard());
    let server = server.expect("started");
    let (peer, client) = (server.peer_addresses()[0], server.client_addresses()[0]);
    let trouble = |url: String| ask_url(&url).map(drop).expect_err("not as wished");
    assert_eq!(trouble(format!("http://{peer}")), Trouble::SpeaksTls);
    // Without authorities of the system there is no telling; with them, the certificate is of none of them.
    let result = trouble(format!("https://{peer}"));
    assert!(matches!(result, Trouble::Tls { .. }), "{result:?}");
    let info = TlsInfo {
        insecure_skip_verify: true,
        ..TlsInfo::default()
    };
    let connector = Connector::new(&info, &super::super::silent()).expect("nothing to read");
    let url: Url = format!("https://{client}").parse().expect("a URL");
    let result = crate::server::run_async(tls(&url, &connector)).expect("a runtime");
    assert_eq!(result, Err(Trouble::SpeaksPlain));
    server.stop();
}
