//! TLS where plain HTTP is spoken; both on one port; metrics.

use retcd_tests::member::{Member, Setup};
use retcd_tests::pki::{Issued, Spec};
use retcd_tests::ports::Port;
use retcd_tests::{binary, http1, secure};

use crate::rig::{Endpoint, Rig, flags};

fn server() -> (tempfile::TempDir, Vec<String>) {
    let dir = tempfile::Builder::new().prefix("retcd-tls-").tempdir().expect("a directory");
    let (cert, key) = Issued::self_signed(&Spec::new("server")).put(dir.path(), "server");
    let (cert, key) = (cert.to_str().expect("UTF-8"), key.to_str().expect("UTF-8"));
    let flags = flags(Endpoint::Client, &[("cert-file", cert), ("key-file", key)]);
    (dir, flags)
}

#[test]
fn tls_on_a_plain_port_is_explained() {
    let member = Member::start(Setup::new(binary::ours()));
    let tried = secure::get(member.port(), "/health", None, &secure::VERSIONS);
    assert!(tried.answer.is_err(), "{tried:?}");
    member.wait_for_log("tls-on-plain");
    let log = member.log().text();
    let line = log.lines().find(|line| line.contains("tls-on-plain")).expect("waited for");
    for part in [
        "rejected connection on client endpoint",
        &format!(r#""remote-addr":"{}""#, tried.local),
        r#""server-name":"some.server.test""#,
        "http://",
    ] {
        assert!(line.contains(part), "{part} not in {line}");
    }
    assert!(http1::get(member.port(), "/health").is_ok());
}

#[test]
fn one_port_may_speak_both() {
    let (_dir, tls) = server();
    for program in retcd_tests::peers::go_etcd().into_iter().chain([binary::ours()]) {
        let mut member = Member::prepare(Setup::new(program));
        let url = member.url();
        let both = format!("--listen-client-urls={url},{}", url.replace("http", "https"));
        member.set_flags(tls.iter().cloned().chain([both]));
        member.restart();
        assert_eq!(http1::get(member.port(), "/version").expect("answered").status, 200);
        let tried = secure::get(member.port(), "/version", None, &secure::VERSIONS);
        assert!(tried.is_served(), "{tried:?}: {}", member.describe());
    }
}

#[test]
fn metrics_have_urls_of_their_own() {
    let (_dir, tls) = server();
    for program in retcd_tests::peers::go_etcd().into_iter().chain([binary::ours()]) {
        let (plain, https) = (Port::take(), Port::take());
        let (plain_port, https_port) = (plain.number(), https.number());
        let urls = format!("--listen-metrics-urls=http://127.0.0.1:{plain_port},https://127.0.0.1:{https_port}");
        let more: Vec<String> = tls.iter().cloned().chain([urls]).collect();
        let rig = Rig::start(program, &more, &[]);
        for path in ["/metrics", "/health", "/livez", "/readyz"] {
            assert_eq!(http1::get(plain_port, path).expect("answered").status, 200, "{path}");
            let tried = secure::get(https_port, path, None, &secure::VERSIONS);
            assert!(tried.is_served(), "{path}: {tried:?}: {}", rig.member.describe());
        }
        assert_eq!(http1::get(plain_port, "/version").expect("answered").status, 404);
    }
}
