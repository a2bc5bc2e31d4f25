//! Where the member listens, and what it tells others.

use std::net::IpAddr;

use super::Plan;
use super::finding::Findings;
use crate::config::{Resolved, Url};

/// One kind of URLs.
struct Kind<'a> {
    listen_flag: &'static str,
    advertise_flag: &'static str,
    listened: &'a [Url],
    advertised: &'a [Url],
    /// Who reads what is advertised.
    readers: &'static str,
    is_peer: bool,
}

/// `is_own`: whether an address is one of this machine.
pub(super) fn check(plan: &Plan, is_own: &dyn Fn(IpAddr) -> bool, findings: &mut Findings) {
    let resolved = &plan.resolved;
    let kinds = [
        Kind {
            listen_flag: "--listen-peer-urls",
            advertise_flag: "--initial-advertise-peer-urls",
            listened: &resolved.listen_peer_urls,
            advertised: &resolved.initial_advertise_peer_urls,
            readers: "other members",
            is_peer: true,
        },
        Kind {
            listen_flag: "--listen-client-urls",
            advertise_flag: "--advertise-client-urls",
            listened: &resolved.listen_client_urls,
            advertised: &resolved.advertise_client_urls,
            readers: "clients",
            is_peer: false,
        },
    ];
    let elsewhere = plan.others().any(|(_, urls)| {
        urls.iter()
            .any(|url| !is_loopback(url) && !url.scheme().is_socket())
    });
    for kind in &kinds {
        // What was advertised to peers once is in the data of the cluster.
        let counts = !kind.is_peer || plan.is_first_start();
        for url in kind.advertised.iter().filter(|_| counts) {
            advertised(kind, url, elsewhere, is_own, findings);
        }
        for url in kind.listened {
            plain(kind.listen_flag, url, kind.is_peer, findings);
        }
    }
    for url in &resolved.listen_client_http_urls {
        plain("--listen-client-http-urls", url, false, findings);
    }
    v2(resolved, findings);
    certificates(plan, findings);
}

fn ip(url: &Url) -> Option<IpAddr> {
    let (host, _) = url.host_port()?;
    host.parse().ok()
}

pub(super) fn is_loopback(url: &Url) -> bool {
    let localhost = url.host_port().is_some_and(|(host, _)| host == "localhost");
    localhost || ip(url).is_some_and(|ip| ip.is_loopback())
}

fn advertised(
    kind: &Kind<'_>,
    url: &Url,
    elsewhere: bool,
    is_own: &dyn Fn(IpAddr) -> bool,
    findings: &mut Findings,
) {
    let Kind {
        advertise_flag: flag,
        listen_flag,
        readers,
        ..
    } = kind;
    let address = ip(url);
    if address.is_some_and(|ip| ip.is_unspecified()) {
        findings.error(
            "advertise-unspecified",
            format!("{flag}={url}: nobody can connect to that address, it only means all of them"),
            format!("advertise the address under which {readers} reach this machine, and keep 0.0.0.0 for {listen_flag}"),
        );
        return;
    }
    let is_near = |url: &Url| is_loopback(url) || url.scheme().is_socket();
    let far = kind.listened.iter().any(|listened| !is_near(listened));
    if is_loopback(url) && (elsewhere || far) {
        let what = format!("{flag}={url}: on every other machine that is the other machine itself");
        let fix = format!("advertise the address under which {readers} reach this machine");
        // Members elsewhere cannot do without; clients may all be here.
        match elsewhere && kind.is_peer {
            true => findings.error("advertise-loopback", what, fix),
            false => findings.warning("advertise-loopback", what, fix),
        }
        return;
    }
    let Some((_, port)) = url.host_port() else {
        socket(kind, url, elsewhere, far, findings);
        return;
    };
    let same_port = |listened: &&Url| {
        listened
            .host_port()
            .is_some_and(|(_, p)| p == port || p == "0")
    };
    let at_port: Vec<&Url> = kind.listened.iter().filter(same_port).collect();
    if at_port.is_empty() {
        findings.warning(
            "advertise-not-listened",
            format!(
                "{flag}={url}: the member does not listen on port {port} ({listen_flag}={})",
                join(kind.listened)
            ),
            "make the ports agree, unless something forwards the one to the other",
        );
        return;
    }
    if !at_port
        .iter()
        .any(|listened| listened.scheme() == url.scheme())
    {
        findings.error(
            "advertise-scheme",
            format!(
                "{flag}={url}, and the member listens on {}",
                join_refs(&at_port)
            ),
            "make both http or both https",
        );
    }
    let Some(address) = address else {
        return;
    };
    let covered = at_port
        .iter()
        .filter_map(|listened| listened.bind_address());
    let mut covered = covered.map(|bound| bound.ip());
    if covered.any(|bound| bound == address || bound.is_unspecified()) {
        if !is_own(address) {
            findings.warning(
                "advertise-not-local",
                format!("{flag}={url}: {address} is not an address of this machine"),
                "put the address of this machine there, unless another one forwards to it: a copied configuration looks like this",
            );
        }
    } else if is_own(address) {
        findings.error(
            "advertise-not-listened",
            format!(
                "{flag}={url}: the member does not listen on {address} ({listen_flag}={})",
                join(kind.listened)
            ),
            format!("add {url} to {listen_flag}, or listen on 0.0.0.0"),
        );
    } else {
        findings.warning(
            "advertise-not-local",
            format!("{flag}={url}: {address} is neither an address of this machine nor listened on"),
            "put the address of this machine there, unless another one forwards to it: a copied configuration looks like this",
        );
    }
}

/// A file is of one machine.
fn socket(kind: &Kind<'_>, url: &Url, elsewhere: bool, far: bool, findings: &mut Findings) {
    let (flag, readers) = (kind.advertise_flag, kind.readers);
    if !kind.listened.contains(url) {
        findings.warning(
            "advertise-not-listened",
            format!(
                "{flag}={url}: the member does not listen there ({}={})",
                kind.listen_flag,
                join(kind.listened)
            ),
            "make both the same, letter by letter",
        );
    }
    let far = far && kind.advertised.iter().all(|url| url.scheme().is_socket());
    if elsewhere || far {
        let what = format!("{flag}={url}: no other machine has the file of that socket");
        let fix = format!("advertise an address under which {readers} reach this machine");
        match elsewhere && kind.is_peer {
            true => findings.error("advertise-loopback", what, fix),
            false if far => findings.warning("advertise-loopback", what, fix),
            false => {}
        }
    }
}

fn plain(flag: &str, url: &Url, is_peer: bool, findings: &mut Findings) {
    if url.scheme().is_secure() || url.scheme().is_socket() || is_loopback(url) {
        return;
    }
    let who = match is_peer {
        true => "whoever reaches it can be a member, and read and change everything",
        false => "whoever reaches it can read and change everything, and listen",
    };
    findings.warning(
        "plain-http",
        format!("{flag}={url}: {who}"),
        "use https with certificates that both sides have to show (docs/secure.md), or keep the port to machines that you trust",
    );
}

/// The API of etcd 2 asks for no password.
fn v2(resolved: &Resolved, findings: &mut Findings) {
    if !resolved.enable_v2 || resolved.tls.client.given().client_cert_auth {
        return;
    }
    let all = [
        &resolved.listen_client_urls,
        &resolved.listen_client_http_urls,
    ];
    let mut far = all
        .into_iter()
        .flatten()
        .filter(|url| !url.scheme().is_socket());
    if let Some(url) = far.find(|url| !is_loopback(url)) {
        findings.warning(
            "v2-open",
            format!("--enable-v2, and {url} asks for no client certificate: the API of etcd 2 knows no users, so whoever reaches the port reads and writes its keys"),
            "demand certificates (https, --client-cert-auth and --trusted-ca-file), or leave --enable-v2 out",
        );
    }
}

/// Whether each https URL has a certificate.
fn certificates(plan: &Plan, findings: &mut Findings) {
    if let Err(error) = plan.resolved.check_tls() {
        findings.error(
            "tls-missing",
            error,
            "name certificate and key (--cert-file and --key-file for clients, --peer-cert-file and --peer-key-file for peers), or \
             write http:// where TLS is not wanted",
        );
    }
}

pub(super) fn join(urls: &[Url]) -> String {
    let urls: Vec<&str> = urls.iter().map(Url::as_str).collect();
    urls.join(",")
}

fn join_refs(urls: &[&Url]) -> String {
    let urls: Vec<&str> = urls.iter().map(|url| url.as_str()).collect();
    urls.join(",")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{found, plan, urls};
    use super::*;

    /// What is found of a member of three at 10.0.0.1, which this machine is.
    fn checks(listen: &str, advertise: &str) -> Findings {
        let plan = plan(|config| {
            config.name = "a".into();
            config.listen_peer_urls = urls(listen);
            config.initial_advertise_peer_urls = Some(urls(advertise));
            config.listen_client_urls = urls("http://10.0.0.1:2379");
            config.initial_cluster = Some(format!(
                "a={advertise},b=http://10.0.0.2:2380,c=http://10.0.0.3:2380"
            ));
        });
        let own = |ip: IpAddr| ip.is_loopback() || ip.to_string() == "10.0.0.1";
        found(|findings| check(&plan, &own, findings))
    }

    #[test]
    fn what_is_listened_on_may_be_advertised() {
        for listen in ["http://10.0.0.1:2380", "http://0.0.0.0:2380"] {
            let found = checks(listen, "http://10.0.0.1:2380");
            assert_eq!(found.checks(), ["plain-http", "plain-http"], "{listen}");
        }
    }

    #[test]
    fn addresses_that_nobody_can_use_are_found() {
        let check = |listen, advertise| {
            let mut checks = checks(listen, advertise).checks();
            checks.retain(|check| *check != "plain-http");
            checks
        };
        let everywhere = "http://0.0.0.0:2380";
        assert_eq!(
            check(everywhere, "http://0.0.0.0:2380"),
            ["advertise-unspecified"]
        );
        assert_eq!(
            check(everywhere, "http://localhost:2380"),
            ["advertise-loopback"]
        );
        assert_eq!(
            check(everywhere, "http://127.0.0.1:2380"),
            ["advertise-loopback"]
        );
        assert_eq!(
            check(everywhere, "http://10.0.0.1:2390"),
            ["advertise-not-listened"]
        );
        assert_eq!(
            check(everywhere, "http://10.0.0.7:2380"),
            ["advertise-not-local"]
        );
        assert_eq!(
            check("http://127.0.0.1:2380", "http://10.0.0.1:2380"),
            ["advertise-not-listened"]
        );
        assert_eq!(
            check("http://127.0.0.1:2380", "https://10.0.0.7:2380"),
            ["advertise-scheme", "advertise-not-local"]
        );
    }

    #[test]
    fn a_member_of_its_own_may_be_on_loopback() {
        let plan = plan(|_| {});
        let found = found(|findings| check(&plan, &|ip| ip.is_loopback(), findings));
        assert!(found.checks().is_empty(), "{found:?}");
    }

    #[test]
    fn sockets_are_for_one_machine() {
        let of = |listen: &str, advertise: &str, list: &str| {
            let plan = plan(|config| {
                config.listen_peer_urls = urls(listen);
                config.initial_advertise_peer_urls = Some(urls(advertise));
                config.initial_cluster = Some(list.into());
                config.listen_client_urls = urls("unix:///run/etcd/c.sock");
                config.advertise_client_urls = Some(urls("unix:///run/etcd/c.sock"));
            });
            found(|findings| check(&plan, &|ip| ip.is_loopback(), findings)).checks()
        };
        let (a, b) = ("unix:///run/etcd/a.sock", "unix:///run/etcd/b.sock");
        assert!(of(a, a, &format!("default={a},b={b}")).is_empty());
        assert_eq!(
            of(a, b, &format!("default={b}")),
            ["advertise-not-listened"]
        );
        let far = format!("default={a},b=http://10.0.0.2:2380");
        assert_eq!(of(a, a, &far), ["advertise-loopback"]);
    }

    #[test]
    fn ports_for_http_and_the_old_api_are_looked_at() {
        let plan = plan(|config| {
            config.listen_client_http_urls = urls("http://10.0.0.1:8080");
            config.enable_v2 = true;
        });
        let found = found(|findings| check(&plan, &|_| true, findings));
        assert_eq!(found.checks(), ["plain-http", "v2-open"]);
    }

    #[test]
    fn https_without_certificate_is_found() {
        let plan = plan(|config| config.listen_client_urls = urls("https://127.0.0.1:2379"));
        let found = found(|findings| check(&plan, &|_| true, findings));
        assert_eq!(found.checks(), ["tls-missing"]);
    }
}
