//! Members that find each other in the DNS: on one machine made of namespaces, each at a loopback address of its own.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use retcd_tests::net::{Files, Host, Network};
use retcd_tests::pki::{Issued, Spec, put};
use retcd_tests::process::Process;
use retcd_tests::{binary, peers};

use super::name_server::{NameServer, Zone};

const DOMAIN: &str = "example.test";

struct Machine {
    host: Host,
    _dns: NameServer,
    _network: Network,
}

impl Machine {
    /// `infra0` to `infra2` have this service, on port 2380 of 127.0.1.1 to 127.0.1.3.
    fn new(service: &str) -> Option<Self> {
        let network = Network::make(&[])?;
        let ctl = peers::go_etcdctl()?;
        let host = network.host("members", Ipv4Addr::new(10, 77, 0, 1), Files::Own);
        host.install(&ctl, "/usr/bin/etcdctl");
        host.install(&binary::ours(), "/usr/bin/etcd-ours");
        if let Some(go) = peers::go_etcd() {
            host.install(&go, "/usr/bin/etcd-go");
        }
        let hosts: Vec<_> = (0..3).map(|n| (name(n), address(n))).collect();
        let places = hosts.iter().map(|(name, _)| (2380, name.clone())).collect();
        let services = vec![(format!("_{service}._tcp.{DOMAIN}"), places)];
        let dns = NameServer::start(&host, Zone { services, hosts });
        Some(Self { host, _dns: dns, _network: network })
    }

    /// The second one is of Go where that is there.
    fn programs(&self) -> [&'static str; 3] {
        let go = self.host.path("/usr/bin/etcd-go").exists();
        ["etcd-ours", if go { "etcd-go" } else { "etcd-ours" }, "etcd-ours"]
    }

    fn start(&self, program: &str, n: u8, scheme: &str, flags: &str) -> Process {
        let (name, address) = (name(n), address(n));
        Process::start(self.host.script(&format!(
            "exec {program} --name=infra{n} --data-dir=/infra{n} --initial-cluster-token=token \
             --listen-peer-urls={scheme}://{address}:2380 --initial-advertise-peer-urls={scheme}://{name}:2380 \
             --listen-client-urls=http://{address}:2379 --advertise-client-urls=http://{name}:2379 \
             --discovery-srv={DOMAIN} {flags}"
        )))
    }

    /// All three form a cluster, in which they have their names.
    fn found(&self, scheme: &str, flags: &str) {
        let members = self.programs().into_iter().zip(0..).map(|(program, n)| self.start(program, n, scheme, flags));
        let mut members: Vec<_> = members.collect();
        for member in &mut members {
            member.wait_for_log("ready to serve client requests");
        }
        let log = members[0].log().text();
        for line in ["get cluster for etcd-server SRV", "got bootstrap from DNS for etcd-server"] {
            assert!(log.contains(line), "no {line:?} in\n{log}");
        }
        let ctl = |n: u8, command: &str| {
            self.host.sh(&format!("etcdctl --command-timeout=60s --endpoints=http://{}:2379 {command}", address(n)))
        };
        let _ = ctl(0, "put key value");
        for n in 0..3 {
            assert_eq!(ctl(n, "get key --print-value-only").trim(), "value");
        }
        let list = ctl(1, "member list");
        for n in 0..3 {
            let entry = format!("started, infra{n}, {scheme}://{}:2380, http://{}:2379", name(n), name(n));
            assert!(list.contains(&entry), "no {entry:?} in\n{list}");
        }
        assert_eq!(list.lines().count(), 3, "{list}");
    }
}

fn name(n: u8) -> String {
    format!("infra{n}.{DOMAIN}")
}

fn address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, n + 1)
}

#[test]
fn members_find_each_other_in_the_dns() {
    let Some(machine) = Machine::new("etcd-server-blue") else { return };
    // Refused first: nothing of it stays.
    let refusals = [
        (
            "--discovery-srv=nothing.test",
            "error querying DNS SRV records for _etcd-server-ssl lookup _etcd-server-ssl._tcp.nothing.test on 127.0.0.1:53: \
             no such host",
            "_etcd-server-ssl._tcp.nothing.test and _etcd-server._tcp.nothing.test",
        ),
        (
            "--discovery-srv-name=blue --initial-advertise-peer-urls=http://127.0.1.1:9",
            "error setting up initial cluster: cannot find local etcd member \\\"infra0\\\" in SRV records",
            "no SRV record leads to an address and port of this member, which advertises http://127.0.1.1:9",
        ),
    ];
    for (flags, etcd, ours) in refusals {
        for program in &machine.programs()[..2] {
            let mut member = machine.start(program, 0, "http", flags);
            let status = member.wait();
            let log = member.log().whole();
            assert_eq!(status.code(), Some(1), "{log}");
            let fatal = log.lines().find(|line| line.contains(r#""msg":"discovery failed""#));
            assert!(fatal.is_some_and(|line| line.contains(etcd)), "{program}: no {etcd} in\n{log}");
            assert!(*program != "etcd-ours" || log.contains(ours), "no {ours} in\n{log}");
        }
        // Go's makes a directory first.
        let _ = std::fs::remove_dir_all(machine.host.path("/infra0"));
    }
    machine.found("http", "--discovery-srv-name=blue");
}

/// Where no authority is named, certificates have to be for the domain: whoever can have one for any other host cannot
/// become a member by way of the DNS.
#[test]
fn certificates_are_for_the_domain() {
    let Some(machine) = Machine::new("etcd-server-ssl") else { return };
    let authority = Issued::self_signed(&Spec::new("authority").authority());
    let dir: PathBuf = machine.host.path("/tls");
    std::fs::create_dir(&dir).expect("a folder");
    put(&dir, "ca.pem", authority.pem().as_bytes());
    let _ = authority.issue(&Spec::new("members").names(&[DOMAIN])).put(&dir, "domain");
    let flags = "--peer-cert-file=/tls/domain.pem --peer-key-file=/tls/domain-key.pem";
    // Go and ours take the system's authorities from there.
    let programs = machine.programs();
    let start =
        |program: &str, n| machine.start(&format!("env SSL_CERT_FILE=/tls/ca.pem {program}"), n, "https", flags);
    let mut members: Vec<_> = programs.into_iter().zip(0..).map(|(program, n)| start(program, n)).collect();
    for member in &mut members {
        member.wait_for_log("ready to serve client requests");
    }
    // Their connections work in all directions: whoever leads has followers.
    let put = format!("etcdctl --command-timeout=60s --endpoints=http://{}:2379 put key value", address(2));
    machine.host.does(&put);
}
