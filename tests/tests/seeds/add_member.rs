//! A cluster of three with certificates for its three addresses, and a fourth member: refused for its certificate, refused
//! because nobody announced it, and at last admitted. Then what an operator does next: a dead leader comes back, a member
//! that lost its data is replaced, a removed one returns as a learner.

use retcd_tests::process::{Process, until};

use crate::lab::Lab;

const AUTHORITY: &str = r#"
mkdir /certs && cd /certs
cat > ca-config.json << EOF
{
    "signing": {
        "default": {
          "expiry": "87600h"
        },
        "profiles": {
            "server": {
                "usages": [
                  "signing",
                  "key encipherment",
                  "server auth",
                  "client auth"
                ],
                "expiry": "87600h"
            },
            "client": {
                "usages": [
                  "signing",
                  "key encipherment",
                  "server auth",
                  "client auth"
                ],
                "expiry": "87600h"
            }
        }
    }
}
EOF
for name in etcd-ca-csr etcd-server etcd-client; do
cat > $name.json << EOF
{
    "CN": "etcd",
    "key": {
        "algo": "rsa",
        "size": 2048
    },
    "names": [
        {
            "C": "CN",
            "ST": "BeiJing",
            "L": "BeiJing",
            "O": "etcd",
            "OU": "Etcd Security"
        }
    ]
}
EOF
done
cfssl gencert -initca etcd-ca-csr.json | cfssljson -bare etcd-ca
"#;

const THREE: &str =
    "onfra0=https://192.168.111.201:2380,onfra1=https://192.168.111.202:2380,onfra2=https://192.168.111.203:2380";

fn certificate(lab: &Lab, profile: &str, hosts: &str, name: &str) {
    let json = if profile == "client" { "etcd-client.json" } else { "etcd-server.json" };
    lab.hosts[0].does(&format!(
        "cd /certs && cfssl gencert -ca=etcd-ca.pem -ca-key=etcd-ca-key.pem -config=ca-config.json \
         -hostname={hosts} -profile={profile} {json} | cfssljson -bare {name}"
    ));
}

fn etcd(n: usize, certificate: &str, cluster: &str, state: &str) -> String {
    let address = format!("192.168.111.{}", 201 + n);
    format!(
        r"etcd --name=onfra{n} \
    --listen-client-urls=https://0.0.0.0:2379 \
    --listen-peer-urls=https://0.0.0.0:2380 \
    --advertise-client-urls=https://{address}:2379 \
    --initial-advertise-peer-urls=https://{address}:2380 \
    --client-cert-auth \
    --peer-client-cert-auth \
    --auto-tls \
    --peer-auto-tls \
    --cert-file=/certs/{certificate}.pem \
    --key-file=/certs/{certificate}-key.pem \
    --trusted-ca-file=/certs/etcd-ca.pem \
    --peer-cert-file=/certs/{certificate}.pem \
    --peer-key-file=/certs/{certificate}-key.pem \
    --peer-trusted-ca-file=/certs/etcd-ca.pem \
    --initial-cluster={cluster} \
    --initial-cluster-token=etcd-cluster \
    --initial-cluster-state={state} \
    --data-dir=/etcd-data"
    )
}

pub(crate) fn play(lab: &mut Lab) {
    certificates(lab);
    let mut members: Vec<_> = (0..3).map(|n| lab.start(n, &etcd(n, "etcd-server", THREE, "new"))).collect();
    three_members(lab);
    fourth_is_refused(lab, &mut members);
    let four = fourth_joins(lab, &mut members);
    leader_dies(lab, &mut members, &four);
    data_is_lost(lab, &mut members);
    a_learner_is_promoted(lab, &mut members);
    for (n, member) in members.iter_mut().enumerate() {
        member.terminate();
        assert!(!member.log().whole().contains("panic"), "member {n}: {}", member.tail());
    }
}

fn certificates(lab: &mut Lab) {
    lab.hosts[0].does(AUTHORITY);
    certificate(lab, "server", "127.0.0.1,192.168.111.201,192.168.111.202,192.168.111.203", "etcd-server");
    let all = "192.168.111.201,192.168.111.202,192.168.111.203,192.168.111.204,127.0.0.1";
    certificate(lab, "client", all, "etcd-client");
    for n in 1..4 {
        lab.copy(0, &["/certs"], n, "/");
    }
    // Each machine asks its own server, by its address.
    lab.ctl_flags = "--endpoints=https://$(hostname -I | tr -d ' '):2379 --cacert=/certs/etcd-ca.pem \
                     --key=/certs/etcd-client-key.pem --cert=/certs/etcd-client.pem"
        .into();
}

fn three_members(lab: &Lab) {
    lab.healthy(0, 3);
    // The ids that etcd has for these URLs and this token, in every release.
    let ids: Vec<_> = lab.members(0).into_iter().map(|(name, (id, _))| format!("{name} {id}")).collect();
    assert_eq!(ids, ["onfra0 22f69347520bc065", "onfra1 31f594e98f861eb7", "onfra2 54e5fbcfbe557469"]);
    let status = until("the status of all", || {
        let status = lab.status(1)?;
        if status.len() == 3 { Ok(status) } else { Err(format!("{status:?}")) }
    });
    for one in &status {
        assert_eq!(one["Status"]["header"]["cluster_id"].as_u64(), Some(0xf44b_a854_c1b9_bc45), "{one}");
    }
    for put_on in 0..3 {
        lab.put_and_get(put_on, &[0, 1, 2], &format!("from-{put_on}"));
    }
    // The certificates are what lets one in.
    let refused = lab.hosts[3]
        .run("etcdctl --command-timeout=2s --endpoints=https://192.168.111.201:2379 --cacert=/certs/etcd-ca.pem get a");
    assert!(refused.is_err(), "{refused:?}");
}

fn fourth_is_refused(lab: &Lab, members: &mut [Process]) {
    let four = format!("{THREE},onfra3=https://192.168.111.204:2380");

    // Its certificate does not name its address: it gives up, and the others say why.
    let mut fourth = lab.start(3, &etcd(3, "etcd-server", &four, "existing"));
    assert!(fourth.fails(), "{}", fourth.tail());
    let reason = "x509: certificate is valid for 127.0.0.1, 192.168.111.201, 192.168.111.202, 192.168.111.203, not 192.168.111.204";
    for (n, member) in members.iter_mut().enumerate() {
        member.wait_for_log(reason);
        if lab.ours(n) {
            let log = member.log().text();
            let line = log.lines().find(|line| line.contains(reason)).expect("it was waited for");
            let parts = ["\"check\":\"address\"", "192.168.111.204", "issue one with 192.168.111.204", "`openssl x509"];
            assert!(parts.iter().all(|part| line.contains(part)), "{line}");
        }
    }
    let said = fourth.log().whole();
    assert!(said.contains("could not retrieve cluster information from the given URLs"), "{}", fourth.tail());
    if lab.ours(3) {
        // Its peers only hang up on it: it finds the reason in its own certificate, and says which check, which address
        // and what to do.
        let asked = (201..=203).all(|n| said.contains(&format!("Get \\\"https://192.168.111.{n}:2380/members\\\"")));
        let sentence = |line: &&str| {
            line.contains("this check (address) for https://192.168.111.204:2380")
                && line.contains(reason)
                && line.contains("`openssl x509 -noout -ext subjectAltName -in /certs/etcd-server.pem`")
                && line.contains("issue it again with 192.168.111.204 among its alternative addresses")
        };
        assert!(said.lines().any(|line| sentence(&line)) && asked, "{}", fourth.tail());
    }

    // With a good certificate it is refused because nobody has announced it.
    certificate(lab, "server", "127.0.0.1,192.168.111.204", "etcd-server2");
    lab.copy(0, &["/certs/etcd-server2.pem", "/certs/etcd-server2-key.pem"], 3, "/certs");
    let mut fourth = lab.start(3, &etcd(3, "etcd-server2", &four, "existing"));
    assert!(fourth.fails(), "{}", fourth.tail());
    let said = fourth.log().whole();
    assert!(said.contains("member count is unequal"), "{}", fourth.tail());
    if lab.ours(3) {
        assert!(said.contains("member add"), "no command that helps: {}", fourth.tail());
    }
    lab.healthy(0, 3);
}

fn fourth_joins(lab: &Lab, members: &mut Vec<Process>) -> String {
    let said = lab.ctl_until(0, "member add onfra3 --peer-urls=https://192.168.111.204:2380");
    let value = |name: &str| {
        let line = said.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name}: {said}")).trim_matches('"').to_owned()
    };
    assert_eq!(value("ETCD_NAME"), "onfra3");
    assert_eq!(value("ETCD_INITIAL_CLUSTER_STATE"), "existing");
    let four = value("ETCD_INITIAL_CLUSTER");
    let mut parts: Vec<_> = four.split(',').collect();
    parts.sort_unstable();
    assert_eq!(parts.join(","), format!("{THREE},onfra3=https://192.168.111.204:2380"));
    // Announced, not there yet: listed without a name.
    assert!(lab.members(1).contains_key(""), "{:?}", lab.members(1));

    // The folder of the failed attempts is still there, as in the text.
    members.push(lab.start(3, &etcd(3, "etcd-server2", &four, "existing")));
    lab.healthy(3, 4);
    assert_eq!(lab.members(0).len(), 4);
    lab.put_and_get(3, &[0, 1, 2, 3], "from-3");
    assert_eq!(lab.ctl_until(3, "get from-0 --print-value-only").trim(), "value of from-0");
    lab.same_hash(0, 4);
    four
}

fn leader_dies(lab: &Lab, members: &mut [Process], four: &str) {
    let old = lab.leader(0);
    members[old].kill();
    let rest: Vec<_> = (0..4).filter(|&n| n != old).collect();
    let new = until("another leader", || {
        let new = lab.leader(rest[0]);
        if new == old { Err("the old one".to_owned()) } else { Ok(new) }
    });
    lab.put_and_get(new, &rest, "without-the-old-leader");
    // A command of the first day still does: what it says about the cluster counts only then.
    members[old] = if old == 3 {
        lab.start(old, &etcd(old, "etcd-server2", four, "existing"))
    } else {
        lab.start(old, &etcd(old, "etcd-server", THREE, "new"))
    };
    lab.healthy(old, 4);
    lab.put_and_get(old, &[0, 1, 2, 3], "with-the-old-leader");
    lab.same_hash(0, 4);
}

fn data_is_lost(lab: &Lab, members: &mut [Process]) {
    let (lost, other) = (1, 2);
    members[lost].kill();
    lab.hosts[lost].does("rm -rf /etcd-data");
    // As if nothing had happened: it would vote a second time in terms it has voted in.
    let mut again = lab.start(lost, &etcd(lost, "etcd-server", THREE, "new"));
    assert!(again.fails(), "{}", again.tail());
    assert!(again.log().whole().contains("has already been bootstrapped"), "{}", again.tail());

    let (id, _) = &lab.members(other)["onfra1"];
    lab.ctl_until(other, &format!("member remove {id}"));
    let cluster = added(&lab.ctl_until(other, "member add onfra1 --peer-urls=https://192.168.111.202:2380"));
    lab.hosts[lost].does("rm -rf /etcd-data");
    members[lost] = lab.start(lost, &etcd(lost, "etcd-server", &cluster, "existing"));
    lab.healthy(lost, 4);
    lab.put_and_get(lost, &[0, 1, 2, 3], "after-the-loss");
    lab.same_hash(0, 4);
}

/// The fourth is removed, says so, and comes back as a learner that is promoted.
fn a_learner_is_promoted(lab: &Lab, members: &mut [Process]) {
    let (id, _) = &lab.members(0)["onfra3"];
    lab.ctl_until(0, &format!("member remove {id}"));
    // Its process ends by itself, and so does every later one on these data.
    members[3].wait_for_log("removed");
    members[3].wait();
    let mut again = lab.start(3, &etcd(3, "etcd-server2", THREE, "existing"));
    again.wait_for_log("the member has been permanently removed from the cluster");
    again.wait();

    let cluster = added(&lab.ctl_until(0, "member add onfra3 --learner --peer-urls=https://192.168.111.204:2380"));
    lab.hosts[3].does("rm -rf /etcd-data");
    let id = lab.members(0)[""].0.clone();
    // Nobody is promoted who is not there.
    let early = lab.ctl(0, &format!("member promote {id}")).expect_err("it has not started");
    assert!(early.contains("etcdserver: can only promote a learner member which is in sync with leader"), "{early}");
    members[3] = lab.start(3, &etcd(3, "etcd-server2", &cluster, "existing"));
    // `endpoint health` would ask it to agree, which a learner cannot.
    until("the learner answers", || {
        let status = lab.status(0)?;
        let learns = status.iter().any(|s| s["Status"]["isLearner"] == true);
        if learns { Ok(()) } else { Err(format!("{status:?}")) }
    });
    let refused = lab.ctl(3, "put a b").expect_err("a learner serves no puts");
    assert!(refused.contains("etcdserver: rpc not supported for learner"), "{refused}");
    lab.ctl_until(0, &format!("member promote {id}"));
    lab.healthy(3, 4);
    lab.put_and_get(3, &[0, 1, 2, 3], "from-the-promoted");
    lab.same_hash(0, 4);
}

/// The `--initial-cluster` that `member add` prints.
fn added(said: &str) -> String {
    let line = said.lines().find_map(|l| l.strip_prefix("ETCD_INITIAL_CLUSTER="));
    line.unwrap_or_else(|| panic!("no cluster: {said}")).trim_matches('"').to_owned()
}
