//! Genuine etcdctl over https: one-way, mutual, with made certificates.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use retcd_tests::pki::{Issued, Spec};
use retcd_tests::{binary, http1, peers, secure};

use crate::rig::{Endpoint, Rig, flags};

fn etcdctl(program: &Path, args: &[&str]) -> Output {
    Command::new(program).args(args).env_clear().env("ETCDCTL_API", "3").output().expect("etcdctl runs")
}

fn both() -> Vec<PathBuf> {
    [peers::debian_etcdctl(), peers::go_etcdctl()].into_iter().flatten().collect()
}

/// Puts and gets, and watches the member's health.
fn works(program: &Path, url: &str, tls: &[&str]) {
    let call = |args: &[&str]| {
        let endpoints = format!("--endpoints={url}");
        let patient = ["--dial-timeout=30s", "--command-timeout=30s"];
        let output = etcdctl(program, &[&[endpoints.as_str()], &patient[..], tls, args].concat());
        assert!(output.status.success(), "{} {tls:?} {args:?}: {output:?}", program.display());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(call(&["put", "key", "value"]), "OK\n");
    assert_eq!(call(&["get", "key"]), "key\nvalue\n");
    let health = call(&["endpoint", "health"]);
    assert!(health.contains(url) || health.is_empty(), "{health}");
}

fn fails(program: &Path, url: &str, tls: &[&str]) {
    let endpoints = format!("--endpoints={url}");
    let short = ["--dial-timeout=2s", "--command-timeout=3s", "get", "key"];
    let output = etcdctl(program, &[&[endpoints.as_str()], tls, &short].concat());
    assert!(!output.status.success(), "{} {tls:?}: {output:?}", program.display());
}

#[test]
fn one_way_and_mutual() {
    let dir = tempfile::Builder::new().prefix("retcd-tls-").tempdir().expect("a directory");
    let ca = Issued::self_signed(&Spec::new("ca").names(&[]).usages(&[]).authority());
    let (ca_file, _) = ca.put(dir.path(), "ca");
    let (cert, key) = ca.issue(&Spec::new("server")).put(dir.path(), "server");
    let (own_cert, own_key) = ca.issue(&Spec::new("client").names(&[])).put(dir.path(), "client");
    let path = |path: &PathBuf| path.to_str().expect("UTF-8").to_owned();
    let (ca_file, cert, key) = (path(&ca_file), path(&cert), path(&key));
    let cacert = format!("--cacert={ca_file}");
    let (own_cert, own_key) = (format!("--cert={}", path(&own_cert)), format!("--key={}", path(&own_key)));

    let server = [("cert-file", cert.as_str()), ("key-file", &key)];
    let one_way = flags(Endpoint::Client, &server);
    let rig = Rig::start(binary::ours(), &one_way, &[]);
    for program in both() {
        works(&program, &rig.url(), &[&cacert]);
        works(&program, &rig.url(), &["--insecure-skip-tls-verify", "--insecure-transport=false"]);
        // Both kinds of URL lead to one member.
        works(&program, &rig.member.url(), &[]);
        fails(&program, &rig.url().replace("https", "http"), &[]);
    }
    drop(rig);

    let both_ways = [server[0], server[1], ("client-cert-auth", "true"), ("trusted-ca-file", &ca_file)];
    let rig = Rig::start(binary::ours(), &flags(Endpoint::Client, &both_ways), &[]);
    for program in both() {
        works(&program, &rig.url(), &[&cacert, &own_cert, &own_key]);
        fails(&program, &rig.url(), &[&cacert]);
    }
    // HTTP over TLS has the other endpoints, and no list of hosts.
    let health =
        secure::get(rig.port(Endpoint::Client), "/health", Some(&ca.issue(&Spec::new("x"))), &secure::VERSIONS);
    assert!(health.answer.as_ref().is_ok_and(|answer| answer.contains(r#"{"health":"true""#)), "{health:?}");
}

#[test]
fn made_certificates() {
    let auto = ["--auto-tls".to_owned(), "--self-signed-cert-validity=2".to_owned()];
    let rig = Rig::start(binary::ours(), &auto, &["--peer-auto-tls".to_owned()]);
    for program in both() {
        works(&program, &rig.url(), &["--insecure-skip-tls-verify", "--insecure-transport=false"]);
    }
    let fixtures = rig.member.dir().join("fixtures");
    for side in ["client", "peer"] {
        for file in ["cert.pem", "key.pem"] {
            let path = fixtures.join(side).join(file);
            assert!(path.is_file(), "{}", path.display());
        }
    }
    let shown = |rig: &Rig, endpoint| secure::get(rig.port(endpoint), "/version", None, &secure::VERSIONS).server;
    assert!(shown(&rig, Endpoint::Peer).is_some());
    // Whoever takes over the directory, in either direction, takes over the certificates.
    let mut rig = rig;
    let first = shown(&rig, Endpoint::Client).expect("a certificate");
    rig.member.terminate();
    let Some(go) = peers::go_etcd() else {
        return;
    };
    rig.member.set_program(&go);
    rig.member.restart();
    let deadline = std::time::Instant::now() + retcd_tests::member::PATIENCE;
    while http1::get(rig.member.port(), "/health").is_err() {
        assert!(std::time::Instant::now() < deadline, "{}", rig.member.describe());
    }
    assert_eq!(shown(&rig, Endpoint::Client), Some(first));
    drop(rig);

    // Go's are of P-521.
    let mut rig = Rig::start(go, &auto, &["--peer-auto-tls".to_owned()]);
    rig.member.terminate();
    rig.member.set_program(binary::ours());
    rig.member.restart();
    for program in both() {
        works(&program, &rig.url(), &["--insecure-skip-tls-verify", "--insecure-transport=false"]);
    }
}
