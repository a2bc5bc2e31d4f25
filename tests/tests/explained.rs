//! The error lines of tutorials, provoked with the real program: each says in its field `explain` what it means and what to
//! do next. Those that need machines of their own are in `tutorials`; that each line has its text is a unit test.

use std::path::Path;
use std::process::{Command, Output};

use retcd_tests::member::{Member, Setup};
use retcd_tests::pki::{Issued, Spec};
use retcd_tests::ports::Port;
use retcd_tests::{binary, http1, run, secure};
use serde_json::Value;

/// A log line: a part of its message, of its error, and of its explanation.
type Line<'a> = (&'a str, &'a str, &'a str);

fn records(log: &str) -> Vec<Value> {
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn assert_explained(log: &str, (message, error, explanation): Line<'_>) {
    let records = records(log);
    let field = |record: &Value, name: &str| record[name].as_str().unwrap_or_default().to_owned();
    let found = records.iter().find(|r| field(r, "msg").contains(message) && field(r, "error").contains(error));
    let found = found.unwrap_or_else(|| panic!("no {message:?} with {error:?} in\n{log}"));
    let text = field(found, "explain");
    assert!(text.contains(explanation), "{message:?}: {text:?} instead of {explanation:?}");
}

/// Runs a server that is refused, on ports of its own unless the flags say otherwise.
fn refused(dir: &Path, flags: &[String]) -> String {
    let (client, peer) = (Port::take(), Port::take());
    let data = dir.join("data");
    let mut command = Command::new(binary::ours());
    command.arg(format!("--data-dir={}", data.display()));
    for (name, port, advertise) in [
        ("listen-client-urls", &client, "advertise-client-urls"),
        ("listen-peer-urls", &peer, "initial-advertise-peer-urls"),
    ] {
        for name in [name, advertise] {
            let given = flags.iter().any(|flag| flag.starts_with(&format!("--{name}=")));
            if !given {
                command.arg(format!("--{name}=http://127.0.0.1:{}", port.number()));
            }
        }
    }
    let out: Output = run::output(command.args(flags));
    let log = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{flags:?}: {log}");
    assert!(!data.exists(), "{flags:?} left a directory: {log}");
    log
}

#[test]
fn a_start_that_is_refused_is_explained() {
    let dir = tempfile::Builder::new().prefix("retcd-").tempdir().expect("a directory");
    let running = Member::start(Setup::new(binary::ours()).name("one"));
    let (port, theirs) = (Port::take(), running.peer_url());
    let own = format!("http://127.0.0.1:{}", port.number());
    let flag = |name: &str, value: &str| format!("--{name}={value}");
    let at = |url: &str| [flag("listen-peer-urls", url), flag("initial-advertise-peer-urls", url)];
    let cluster = |text: String| flag("initial-cluster", &text);
    let cases: Vec<(Vec<String>, Line<'_>)> = vec![
        (
            vec![flag("name", "etcd4"), cluster(format!("etcd1={own}"))],
            ("bootstrap failed", "couldn't find local name", "Next: compare the two, letter by letter"),
        ),
        (
            vec![flag("name", "etcd4"), cluster(format!("etcd4={theirs}"))],
            ("bootstrap failed", "missing from --initial-advertise-peer-urls", "addresses of another machine"),
        ),
        (
            [&at(&own)[..], &[flag("name", "a"), cluster(format!("a={own},b={own}"))]].concat(),
            ("bootstrap failed", "has duplicate url", "Next: give each its own address"),
        ),
        (
            // Nobody announced it.
            [
                &at(&own)[..],
                &[
                    flag("name", "two"),
                    cluster(format!("one={theirs},two={own}")),
                    flag("initial-cluster-state", "existing"),
                ],
            ]
            .concat(),
            ("bootstrap failed", "member count is unequal", "`etcdctl member add NAME --peer-urls=URL`"),
        ),
        (
            // Nobody is there.
            [
                &at(&own)[..],
                &[
                    flag("name", "two"),
                    cluster(format!("one=http://127.0.0.1:1,two={own}")),
                    flag("initial-cluster-state", "existing"),
                ],
            ]
            .concat(),
            ("bootstrap failed", "cannot fetch cluster info from peer urls", "the lines above say why, for each"),
        ),
        (
            // The configuration of another machine, and of a member of this one.
            [&at("http://192.0.2.1:2380")[..], &[cluster("default=http://192.0.2.1:2380".into())]].concat(),
            ("bootstrap failed", "cannot assign requested address", "`ip -brief address`"),
        ),
        (
            [&at(&theirs)[..], &[flag("name", "one"), cluster(format!("one={theirs}"))]].concat(),
            ("bootstrap failed", "address already in use", "`ss -ltnp"),
        ),
        (
            [
                &at("https://127.0.0.1:2380")[..],
                &[
                    cluster("default=https://127.0.0.1:2380".into()),
                    flag("peer-cert-file", "/nowhere/peer.pem"),
                    flag("peer-key-file", "/nowhere/peer-key.pem"),
                ],
            ]
            .concat(),
            ("creating peer listener failed", "no such file or directory", "`ls -l` the path"),
        ),
        (
            vec![flag("listen-client-urls", "http://example.com:2379")],
            ("failed to verify flags", "expected IP in URL for binding", "Next: use the IP address"),
        ),
    ];
    for (flags, line) in cases {
        assert_explained(&refused(dir.path(), &flags), line);
    }
}

#[test]
fn what_a_member_refuses_is_explained() {
    let dir = tempfile::Builder::new().prefix("retcd-").tempdir().expect("a directory");
    let authority = |name: &str| Issued::self_signed(&Spec::new(name).authority());
    let (trusted, other) = (authority("trusted"), authority("other"));
    let (cert, key) = trusted.issue(&Spec::new("m")).put(dir.path(), "member");
    let (ca, _) = trusted.put(dir.path(), "ca");
    let mut member = Member::prepare(Setup::new(binary::ours()));
    let port = Port::take();
    let files = [("cert-file", &cert), ("key-file", &key), ("trusted-ca-file", &ca)];
    let files = |prefix: &str| files.map(|(name, path)| format!("--{prefix}{name}={}", path.display()));
    let plain = [
        format!("--listen-client-urls={},https://127.0.0.1:{}", member.url(), port.number()),
        "--client-cert-auth".to_owned(),
        "--auto-tls".to_owned(),
        "--peer-auto-tls".to_owned(),
    ];
    member.set_flags(plain.into_iter().chain(files("")).chain(files("peer-")));
    member.spawn();
    assert_eq!(member.wait_or_serve(), None, "{}", member.describe());
    let cases: [Line<'_>; 5] = [
        ("ignoring client auto TLS since certs given", "", "Nothing to do"),
        ("ignoring peer auto TLS since certs given", "", "Nothing to do"),
        ("rejected connection on client endpoint", "didn't provide a certificate", "--cert=CERT --key=KEY"),
        (
            "rejected connection on client endpoint",
            "unknown authority",
            "an authority that is not in --trusted-ca-file",
        ),
        ("rejected connection on client endpoint", "first record does not look like a TLS handshake", "use https://"),
    ];
    let stranger = other.issue(&Spec::new("stranger"));
    for own in [None, Some(&stranger)] {
        let tried = secure::get(port.number(), "/health", own, &secure::VERSIONS);
        assert!(!tried.is_served(), "{tried:?}");
    }
    let _ = http1::get(port.number(), "/health");
    for line in cases {
        member.wait_for_log(if line.1.is_empty() { line.0 } else { line.1 });
        assert_explained(&member.log().text(), line);
    }
}
