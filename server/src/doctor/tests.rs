//! What the tests of the checks have in common, and some that go through all of them.

use super::*;

/// A plan with etcd's defaults on an empty data directory, changed.
pub(super) fn plan(change: impl FnOnce(&mut Config)) -> Plan {
    let mut config = Config::new("/nonexistent/retcd-doctor");
    change(&mut config);
    let resolved = config.resolve().expect("sound");
    Plan {
        cluster: parse_cluster(&resolved.initial_cluster).ok(),
        resolved,
        data: Data::default(),
    }
}

pub(super) fn urls(text: &str) -> Vec<Url> {
    text.split(',').map(|url| url.parse().expect(url)).collect()
}

/// What a check finds.
pub(super) fn found(check: impl FnOnce(&mut Findings)) -> Findings {
    let mut findings = Findings::default();
    check(&mut findings);
    findings
}

#[test]
fn a_member_by_defaults_has_no_errors() {
    let dir = tempfile::tempdir().expect("a directory");
    // Any port, so that none can be taken.
    let url = "http://127.0.0.1:0";
    let request = Request {
        args: vec![
            format!("--data-dir={}", dir.path().join("data").display()).into(),
            "--name=one".into(),
            format!("--listen-client-urls={url}").into(),
            format!("--advertise-client-urls={url}").into(),
            format!("--listen-peer-urls={url}").into(),
            format!("--initial-advertise-peer-urls={url}").into(),
            format!("--initial-cluster=one={url}").into(),
        ],
        ..Request::default()
    };
    let report = examine(&request);
    assert_eq!(report.count(Severity::Error), 0, "{report:#?}");
    assert!(!dir.path().join("data").exists(), "nothing is made");
    let left = std::fs::read_dir(dir.path()).expect("listed").count();
    assert_eq!(left, 0, "nothing is left");
}

#[test]
fn a_running_member_is_recognised() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config::ephemeral(dir.path().join("data"));
    let server = crate::Server::start_with_log(config, &crate::log::Log::discard());
    let server = server.expect("started");
    let client = server.client_addresses()[0];
    let request = Request {
        args: vec![
            format!("--data-dir={}", dir.path().join("data").display()).into(),
            format!("--listen-client-urls=http://{client}").into(),
            format!("--advertise-client-urls=http://{client}").into(),
            format!("--listen-peer-urls=http://{}", server.peer_addresses()[0]).into(),
        ],
        endpoints: vec![client.to_string()],
        ..Request::default()
    };
    let report = examine(&request);
    let checks: Vec<_> = report.findings.iter().map(|f| f.check).collect();
    assert_eq!(report.count(Severity::Error), 0, "{report:#?}");
    assert!(checks.contains(&"initial-flags-ignored"), "{report:#?}");
    server.stop();
}
