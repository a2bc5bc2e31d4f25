//! A cluster from environment files goes from plain HTTP to TLS without losing anything: first its clients, then clients
//! with certificates, then the peers one by one. A fourth member joins over HTTP, becomes safe too, and is removed.

use std::collections::BTreeMap;

use retcd_tests::process::{Process, until};

use crate::lab::Lab;

const AUTHORITY: &str = r#"
mkdir -p /etc/etcd/pki
cd /etc/etcd/pki
cfssl print-defaults config > ca-config.json
cat >ca-config.json <<EOF
{
    "signing": {
        "default": {
            "expiry": "168h"
        },
        "profiles": {
            "server": {
                "expiry": "8760h",
                "usages": [
                    "signing",
                    "key encipherment",
                    "server auth"
                ]
            },
            "client": {
                "expiry": "8760h",
                "usages": [
                    "signing",
                    "key encipherment",
                    "client auth"
                ]
            },
            "peer": {
                "expiry": "8760h",
                "usages": [
                    "signing",
                    "key encipherment",
                    "server auth",
                    "client auth"
                ]
            }
        }
    }
}
EOF
cfssl print-defaults csr > rootca-csr.json
cat >rootca-csr.json<<EOF
{
    "CN": "ETCD Root CA",
    "key": {
        "algo": "ecdsa",
        "size": 256
    },
    "names": [
        {
            "C": "US",
            "L": "CA",
            "ST": "San Francisco"
        }
    ]
}
EOF
cfssl gencert -initca rootca-csr.json | cfssljson -bare rootca
"#;

/// A certificate of one machine, or of nobody's.
fn certificate(lab: &Lab, name: &str, common_name: &str, host: Option<usize>, profile: &str) {
    let hosts = host.map(|n| format!("\"hosts\": [\n        \"{}\"\n    ],", lab.address(n))).unwrap_or_default();
    lab.hosts[0].does(&format!(
        r#"
cd /etc/etcd/pki
cat > {name}-csr.json<< EOF
{{
    "CN": "{common_name}",
    {hosts}
    "key": {{
        "algo": "ecdsa",
        "size": 256
    }},
    "names": [
        {{
            "C": "US",
            "L": "CA",
            "ST": "San Francisco"
        }}
    ]
}}
EOF
cfssl gencert -ca=rootca.pem -ca-key=rootca-key.pem -config=ca-config.json -profile={profile} {name}-csr.json | cfssljson -bare {name}
"#
    ));
}

/// How far a member is on its way.
#[derive(Clone, Copy, Debug, Default)]
struct Safety {
    /// Clients speak TLS.
    client: bool,
    /// Clients show certificates.
    client_auth: bool,
    /// It has a certificate for peers.
    peer_certificate: bool,
    /// Peers reach it by TLS.
    peer: bool,
}

const fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

fn peer_url(n: usize, safe: bool) -> String {
    format!("{}://192.168.0.{}:2380", scheme(safe), 91 + n)
}

/// `/etc/etcd/etcd.conf` of a machine.
fn conf(n: usize, safety: Safety, cluster: &str, state: Option<&str>) -> String {
    let (name, address) = (format!("etcd{}", n + 1), format!("192.168.0.{}", 91 + n));
    let (client, peer) = (scheme(safety.client), peer_url(n, safety.peer));
    let mut conf = format!(
        r#"ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="{peer}"
ETCD_LISTEN_CLIENT_URLS="{client}://{address}:2379,http://127.0.0.1:2379"
ETCD_NAME="{name}"
ETCD_INITIAL_ADVERTISE_PEER_URLS="{peer}"
ETCD_ADVERTISE_CLIENT_URLS="{client}://{address}:2379"
ETCD_INITIAL_CLUSTER="{cluster}"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"
"#
    );
    if let Some(state) = state {
        conf += &format!("ETCD_INITIAL_CLUSTER_STATE=\"{state}\"\n");
    }
    if safety.client {
        conf += &format!(
            "\n#开启集群外部服务端认证\nETCD_CERT_FILE=\"/etc/etcd/pki/{name}.pem\"\n\
             ETCD_KEY_FILE=\"/etc/etcd/pki/{name}-key.pem\"\n"
        );
    }
    if safety.client_auth {
        conf += "\nETCD_CLIENT_CERT_AUTH=\"true\"\nETCD_TRUSTED_CA_FILE=\"/etc/etcd/pki/rootca.pem\"\n";
    }
    if safety.peer_certificate {
        conf += &format!(
            "\nETCD_PEER_CERT_FILE=\"/etc/etcd/pki/{name}-peer.pem\"      \n\
             ETCD_PEER_KEY_FILE=\"/etc/etcd/pki/{name}-peer-key.pem\"\nETCD_PEER_CLIENT_CERT_AUTH=\"true\"\n\
             ETCD_PEER_TRUSTED_CA_FILE=\"/etc/etcd/pki/rootca.pem\"\n"
        );
    }
    conf
}

/// Puts the file in its place and starts the service with it. The package of that time repeated three of its settings as
/// flags, which etcd 3.7 refuses.
fn start(lab: &Lab, n: usize, conf: &str) -> Process {
    lab.hosts[n].does(&format!("mkdir -p /etc/etcd /var/lib/etcd\ncat > /etc/etcd/etcd.conf <<'EOF'\n{conf}EOF\n"));
    lab.start(n, "bash -c 'set -a; source /etc/etcd/etcd.conf; exec /usr/bin/etcd'")
}

struct Run<'a> {
    lab: &'a mut Lab,
    safety: [Safety; 4],
    members: Vec<Process>,
    /// Everything put so far, by the machine it was put on.
    put: BTreeMap<String, usize>,
}

impl Run<'_> {
    /// The cluster as the file of the first day has it, with what is safe by now.
    fn cluster(&self, members: usize) -> String {
        let one = |n: usize| format!("etcd{}={}", n + 1, peer_url(n, self.safety[n].peer));
        (0..members).map(one).collect::<Vec<_>>().join(",")
    }

    /// Changes the file of a member and restarts it; data and health are as before.
    fn change(&mut self, n: usize, change: impl FnOnce(&mut Safety)) {
        change(&mut self.safety[n]);
        self.members[n].terminate();
        let state = (n == 3).then_some("new");
        let conf = conf(n, self.safety[n], &self.cluster(self.members.len()), state);
        self.members[n] = start(self.lab, n, &conf);
        self.check(n);
    }

    /// A new key on a machine is on all; all old ones are still there.
    fn check(&mut self, n: usize) {
        let count = self.members.len();
        self.lab.healthy(n, count);
        let key = format!("key-{}-{}", self.put.len(), n);
        self.lab.put_and_get(n, &(0..count).collect::<Vec<_>>(), &key);
        self.put.insert(key, n);
        let found = self.lab.ctl_until(n, "get key- --prefix --keys-only");
        for key in self.put.keys() {
            assert!(found.contains(key.as_str()), "{key} is gone: {found}");
        }
    }

    fn update(&self, n: usize, safe: bool) {
        let (id, _) = &self.lab.members(0)[&format!("etcd{}", n + 1)];
        let said = self.lab.ctl_until(0, &format!("member update {id} --peer-urls={}", peer_url(n, safe)));
        assert!(said.contains(&format!("{id} updated in cluster")), "{said}");
        assert_eq!(self.lab.members(0)[&format!("etcd{}", n + 1)].1, peer_url(n, safe));
    }
}

pub(crate) fn play(lab: &mut Lab) {
    lab.ctl_flags = "--endpoints=http://127.0.0.1:2379".into();
    let mut run = Run { lab, safety: [Safety::default(); 4], members: Vec::new(), put: BTreeMap::new() };
    run.members = (0..3).map(|n| start(run.lab, n, &conf(n, Safety::default(), &run.cluster(3), None))).collect();
    run.check(0);
    let ids: Vec<_> = run.lab.members(0).into_values().map(|(id, _)| id).collect();
    assert_eq!(ids, ["6c70a880257288f", "5bbe42788a239cc6", "3f7336e156287ed0"]);

    clients_become_safe(&mut run);
    peers_become_safe(&mut run);
    fourth_joins(&mut run);
    fourth_is_removed(&mut run);
    run.lab.same_hash(0, 3);
}

fn clients_become_safe(run: &mut Run<'_>) {
    run.lab.hosts[0].does(AUTHORITY);
    for n in 0..3 {
        let (name, common_name) = (format!("etcd{}", n + 1), format!("ETCD Cluster-{}", n + 1));
        certificate(run.lab, &name, &common_name, Some(n), "server");
        let peer = format!("ETCD Peer on {name}");
        certificate(run.lab, &format!("{name}-peer"), &peer, Some(n), "peer");
    }
    certificate(run.lab, "etcdctl", "ETCDCTL", None, "client");
    for n in 1..3 {
        run.lab.copy(0, &["/etc/etcd/pki"], n, "/etc/etcd");
    }
    // One after the other: with `--cluster`, etcdctl goes to HTTP and HTTPS side by side, and knows whom to trust.
    run.lab.ctl_flags = "--endpoints=http://127.0.0.1:2379 --cacert=/etc/etcd/pki/rootca.pem".into();
    for n in 0..3 {
        run.change(n, |s| s.client = true);
        let stranger = format!("etcdctl --command-timeout=2s --endpoints=https://{}:2379 get a", run.lab.address(n));
        let refused = run.lab.hosts[0].run(&stranger);
        assert!(refused.is_err(), "the authority is not known to the client: {refused:?}");
    }
    let certificates = "--cacert=/etc/etcd/pki/rootca.pem --cert=/etc/etcd/pki/etcdctl.pem \
                        --key=/etc/etcd/pki/etcdctl-key.pem";
    run.lab.ctl_flags = format!("--endpoints=https://$(hostname -I | tr -d ' '):2379 {certificates}");
    for n in 0..3 {
        run.change(n, |s| s.client_auth = true);
        let nobody = format!(
            "etcdctl --command-timeout=2s --endpoints=https://{}:2379 --cacert=/etc/etcd/pki/rootca.pem get a",
            run.lab.address(n)
        );
        let refused = run.lab.hosts[0].run(&nobody);
        assert!(refused.is_err(), "the client shows no certificate: {refused:?}");
    }
}

fn peers_become_safe(run: &mut Run<'_>) {
    // The third first, in the text's order: its URL among the members, then its own file, then certificates for the
    // others, who speak to it as clients.
    run.update(2, true);
    run.safety[2].peer_certificate = true;
    run.safety[2].peer = true;
    let conf_3 = conf(2, run.safety[2], &run.cluster(3), None);
    run.members[2].terminate();
    run.members[2] = start(run.lab, 2, &conf_3);
    // The others have no certificates yet: the two of them go on without it.
    for n in 0..2 {
        run.safety[n].peer_certificate = true;
        run.members[n].terminate();
        let conf = conf(n, run.safety[n], &run.cluster(3), None);
        run.members[n] = start(run.lab, n, &conf);
        if n == 1 {
            run.check(n);
        }
    }
    for n in [1, 0] {
        run.update(n, true);
        run.change(n, |s| s.peer = true);
    }
    for (name, (_, url)) in run.lab.members(0) {
        assert!(url.starts_with("https://"), "{name} {url}");
    }
    for n in 0..3 {
        run.check(n);
    }
}

fn fourth_joins(run: &mut Run<'_>) {
    // By itself first, as its package starts it; that cluster is another one.
    let alone = conf(3, Safety::default(), &format!("etcd4={}", peer_url(3, false)), Some("new"));
    let mut fourth = start(run.lab, 3, &alone);
    until("it serves by itself", || run.lab.hosts[3].run("etcdctl --endpoints=http://127.0.0.1:2379 endpoint health"));
    fourth.terminate();

    let said = run.lab.ctl_until(0, &format!("member add etcd4 --peer-urls={}", peer_url(3, false)));
    assert!(said.contains("ETCD_NAME=\"etcd4\""), "{said}");
    // Announced twice: refused.
    let twice = run.lab.ctl(0, &format!("member add etcd4 --peer-urls={}", peer_url(3, false))).expect_err("twice");
    // Ids are made of the URL and the second: within the same one it is the id that is there already.
    let reasons = ["etcdserver: Peer URLs already exists", "etcdserver: member ID already exist"];
    assert!(reasons.iter().any(|r| twice.contains(r)), "{twice}");

    run.lab.copy(0, &["/etc/etcd/pki"], 3, "/etc/etcd");
    for (name, profile) in [("etcd4", "server"), ("etcd4-peer", "peer")] {
        certificate(run.lab, name, "ETCD Peer on etcd4", Some(3), profile);
    }
    run.lab.hosts[3].does("rm -rf /etc/etcd/pki");
    run.lab.copy(0, &["/etc/etcd/pki"], 3, "/etc/etcd");
    // Wrong name in the list: it cannot find itself.
    run.lab.hosts[3].does("rm -rf /var/lib/etcd/default.etcd");
    let wrong = conf(3, Safety::default(), &run.cluster(3), Some("existing"));
    let mut lost = start(run.lab, 3, &wrong);
    assert!(lost.fails(), "{}", lost.tail());
    let reason = r#"couldn't find local name \"etcd4\" in the initial cluster configuration"#;
    assert!(lost.log().whole().contains(reason), "{}", lost.tail());

    run.lab.hosts[3].does("rm -rf /var/lib/etcd/default.etcd");
    run.safety[3].peer_certificate = true;
    let existing = conf(3, run.safety[3], &run.cluster(4), Some("existing"));
    run.members.push(start(run.lab, 3, &existing));
    // Its client port is plain for now, so etcdctl must go by each machine's own loopback.
    let flags = run.lab.ctl_flags.clone();
    run.lab.ctl_flags = "--endpoints=http://127.0.0.1:2379 --cacert=/etc/etcd/pki/rootca.pem \
                         --cert=/etc/etcd/pki/etcdctl.pem --key=/etc/etcd/pki/etcdctl-key.pem"
        .into();
    run.check(3);
    run.update(3, true);
    run.change(3, |s| s.peer = true);
    run.change(3, |s| {
        s.client = true;
        s.client_auth = true;
    });
    run.lab.ctl_flags = flags;
    for n in 0..4 {
        run.check(n);
    }
    run.lab.same_hash(0, 4);
}

fn fourth_is_removed(run: &mut Run<'_>) {
    let (id, _) = &run.lab.members(0)["etcd4"];
    let said = run.lab.ctl_until(0, &format!("member remove {id}"));
    assert!(said.contains(&format!("{id} removed from cluster")), "{said}");
    let mut fourth = run.members.pop().expect("four members");
    fourth.wait_for_log("removed");
    fourth.wait();
    // The data must go, says the member when it is started on them again.
    let again = conf(3, run.safety[3], &run.cluster(4), Some("new"));
    let mut again = start(run.lab, 3, &again);
    again.wait_for_log("the member has been permanently removed from the cluster");
    again.wait_for_log("data-dir used by this member must be removed");
    again.wait();
    for n in 0..3 {
        run.check(n);
    }
}
