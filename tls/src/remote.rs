//! Whether a certificate belongs to the address it came from.

use std::fs;
use std::net::{IpAddr, ToSocketAddrs as _};

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::HANDSHAKE_TIMEOUT;
use crate::certificate::Leaf;
use crate::failure::{Check, Failure};

/// Where the system keeps names without a server.
const HOSTS: &str = "/etc/hosts";

/// Accepts a certificate without names; one with the address; one of whose names the address has, forward or
/// backward.
pub(crate) async fn check(leaf: &Leaf, remote: IpAddr) -> Result<(), Failure> {
    if leaf.ip_addresses.is_empty() && leaf.dns_names.is_empty() {
        return Ok(());
    }
    let address = remote.to_string();
    if !leaf.ip_addresses.is_empty() {
        let Err(error) = leaf.verify_hostname(&address) else {
            return Ok(());
        };
        if leaf.dns_names.is_empty() {
            return Err(refuse(leaf, &address, error));
        }
    }
    let names = leaf.dns_names.clone();
    let lookup = spawn_blocking(move || belongs(&names, remote));
    let trouble = match timeout(HANDSHAKE_TIMEOUT, lookup).await {
        Ok(Ok(Ok(()))) => return Ok(()),
        Ok(Ok(Err(trouble))) => trouble,
        Ok(Err(_)) => Some("the lookup was cut off".to_owned()),
        Err(_) => Some(format!("lookup {address}: i/o timeout")),
    };
    let trouble = trouble
        .map(|trouble| format!(" ({trouble})"))
        .unwrap_or_default();
    let error = format!(
        "tls: {address:?} does not match any of DNSNames {:?}{trouble}",
        leaf.dns_names
    );
    Err(refuse(leaf, &address, error))
}

fn refuse(leaf: &Leaf, address: &str, error: String) -> Failure {
    let advice = format!(
        "the certificate (names {:?}, addresses {:?}) is not for {address}, where the connection comes from: issue one with {address} among its alternative addresses (`openssl x509 -noout -ext subjectAltName -in <its file>` shows them), or make one of its names resolve to {address}",
        leaf.dns_names, leaf.ip_addresses
    );
    Failure::new(Check::Address, error, advice)
}

/// Whether any of the names has the address. `Err`: no; with the last trouble in finding out.
fn belongs(names: &[String], address: IpAddr) -> Result<(), Option<String>> {
    let (wild, plain): (Vec<&str>, Vec<&str>) = names
        .iter()
        .map(String::as_str)
        .partition(|name| name.starts_with("*."));
    let mut trouble = None;
    match names_of(address) {
        Err(error) => trouble = Some(error),
        Ok(found) => {
            let fits = |name: &String| {
                let name = name.strip_suffix('.').unwrap_or(name);
                plain.contains(&name) || wild.iter().any(|wild| name.ends_with(&wild[1..]))
            };
            if found.iter().any(fits) {
                return Ok(());
            }
        }
    }
    for name in plain {
        match (name, 0).to_socket_addrs() {
            Ok(mut found) => {
                if found.any(|found| found.ip().to_canonical() == address) {
                    return Ok(());
                }
            }
            Err(_) => trouble = Some(format!("lookup {name}: no such host")),
        }
    }
    Err(trouble)
}

/// All names that the hosts file has for an address, else the one that the system's resolver knows.
fn names_of(address: IpAddr) -> Result<Vec<String>, String> {
    let hosts = fs::read_to_string(HOSTS).unwrap_or_default();
    let listed = names_in(&hosts, address);
    if !listed.is_empty() {
        return Ok(listed);
    }
    match dns_lookup::lookup_addr(&address) {
        Ok(name) => Ok(vec![name]),
        Err(_) => Err(format!("lookup {address}: no such host")),
    }
}

fn names_in(hosts: &str, address: IpAddr) -> Vec<String> {
    let lines = hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let mut names = Vec::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let Some(Ok(listed)) = words.next().map(str::parse::<IpAddr>) else {
            continue;
        };
        if listed.to_canonical() == address {
            names.extend(words.map(str::to_owned));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(dns: &[&str], ips: &[&str]) -> Leaf {
        Leaf {
            dns_names: dns.iter().map(ToString::to_string).collect(),
            ip_addresses: ips
                .iter()
                .map(|ip| ip.parse().expect("an address"))
                .collect(),
            ..Leaf::default()
        }
    }

    #[test]
    fn the_hosts_file_has_many_names_for_an_address() {
        let hosts = "127.0.0.1 localhost a.example # b\n#127.0.0.1 c\n\n::1 d\n127.0.0.1\te\n";
        let local = "127.0.0.1".parse().expect("an address");
        assert_eq!(names_in(hosts, local), ["localhost", "a.example", "e"]);
        assert_eq!(names_in(hosts, "::1".parse().expect("an address")), ["d"]);
    }

    #[tokio::test]
    async fn an_address_fits_by_itself_or_by_a_name_that_leads_to_it() {
        let local: IpAddr = "127.0.0.1".parse().expect("an address");
        for (dns, ips) in [
            (&[][..], &[][..]),
            (&[], &["127.0.0.1"]),
            (&[], &["10.0.0.1", "127.0.0.1"]),
            (&["nowhere.invalid"], &["127.0.0.1"]),
            (&["localhost"], &[]),
            (&["localhost"], &["10.0.0.1"]),
        ] {
            assert_eq!(
                check(&leaf(dns, ips), local).await,
                Ok(()),
                "{dns:?} {ips:?}"
            );
        }
        for (dns, ips, error) in [
            (
                &[][..],
                &["10.0.0.1"][..],
                "x509: certificate is valid for 10.0.0.1, not 127.0.0.1",
            ),
            (
                &["nowhere.invalid"],
                &[],
                r#"tls: "127.0.0.1" does not match any of DNSNames ["nowhere.invalid"] (lookup nowhere.invalid: no such host)"#,
            ),
            (
                &["*.invalid"],
                &["10.0.0.1"],
                r#"tls: "127.0.0.1" does not match any of DNSNames ["*.invalid"]"#,
            ),
        ] {
            let failure = check(&leaf(dns, ips), local)
                .await
                .expect_err("it does not fit");
            assert_eq!(failure.error, error);
            assert_eq!(failure.check, Check::Address);
            assert!(failure.advice.contains("127.0.0.1"), "{}", failure.advice);
        }
    }
}
