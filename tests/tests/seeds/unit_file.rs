//! A cluster from a systemd unit with flags, machines known by name, and etcdctl with an environment file.

use retcd_tests::process::until;

use crate::lab::Lab;

const CERTIFICATES: &str = r#"
mkdir /root/ssl
cd /root/ssl
cfssl print-defaults config > ca-config.json
cfssl print-defaults csr > ca-csr.json
cat > ca-config.json <<EOF
{
  "signing": {
    "default": {
      "expiry": "8760h"
    },
    "profiles": {
      "frognew": {
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
cat > ca-csr.json <<EOF
{
  "CN": "frognew",
  "key": {
    "algo": "rsa",
    "size": 2048
  },
  "names": [
    {
      "C": "CN",
      "ST": "BeiJing",
      "L": "BeiJing",
      "O": "frognew",
      "OU": "cloudnative"
    }
  ]
}
EOF
cfssl gencert -initca ca-csr.json | cfssljson -bare ca
cat > etcd-csr.json <<EOF
{
    "CN": "frognew",
    "hosts": [
      "127.0.0.1",
      "192.168.202.131",
      "192.168.202.132",
      "192.168.202.133",
      "node1",
      "node2",
      "node3"
    ],
    "key": {
        "algo": "rsa",
        "size": 2048
    },
    "names": [
        {
            "C": "CN",
            "ST": "BeiJing",
            "L": "BeiJing",
            "O": "frognew",
            "OU": "cloudnative"
        }
    ]
}
EOF
cfssl gencert -ca=ca.pem -ca-key=ca-key.pem -config=ca-config.json -profile=frognew etcd-csr.json | cfssljson -bare etcd
openssl x509  -noout -text -in  etcd.pem
mkdir -p /etc/etcd/ssl && cp ca.pem etcd.pem etcd-key.pem /etc/etcd/ssl/
"#;

fn unit(n: usize) -> String {
    let exports = format!("export ETCD_NAME=node{}\nexport INTERNAL_IP=192.168.202.{}\n", n + 1, 131 + n);
    exports
        + r"
mkdir -p /var/lib/etcd
mkdir -p /usr/lib/systemd/system
cat > /usr/lib/systemd/system/etcd.service <<EOF
[Unit]
Description=etcd server
After=network.target
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
WorkingDirectory=/var/lib/etcd/
EnvironmentFile=-/etc/etcd/etcd.conf
ExecStart=/usr/bin/etcd \
  --name ${ETCD_NAME} \
  --cert-file=/etc/etcd/ssl/etcd.pem \
  --key-file=/etc/etcd/ssl/etcd-key.pem \
  --peer-cert-file=/etc/etcd/ssl/etcd.pem \
  --peer-key-file=/etc/etcd/ssl/etcd-key.pem \
  --trusted-ca-file=/etc/etcd/ssl/ca.pem \
  --peer-trusted-ca-file=/etc/etcd/ssl/ca.pem \
  --initial-advertise-peer-urls https://${INTERNAL_IP}:2380 \
  --listen-peer-urls https://${INTERNAL_IP}:2380 \
  --listen-client-urls https://${INTERNAL_IP}:2379,https://127.0.0.1:2379 \
  --advertise-client-urls https://${INTERNAL_IP}:2379 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster node1=https://192.168.202.131:2380,node2=https://192.168.202.132:2380,node3=https://192.168.202.133:2380 \
  --initial-cluster-state new \
  --data-dir=/var/lib/etcd
Restart=on-failure
RestartSec=5
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
EOF
"
}

/// What systemd runs. The shell that wrote the file has joined its continued lines.
fn exec_start(lab: &Lab, n: usize) -> String {
    let unit = lab.read(n, "/usr/lib/systemd/system/etcd.service");
    let command = unit.lines().find_map(|l| l.strip_prefix("ExecStart=")).expect("a unit runs something");
    format!("env -C /var/lib/etcd/ {command}")
}

pub(crate) fn play(lab: &mut Lab) {
    for host in &lab.hosts {
        host.does(r"printf '192.168.202.131 node1\n192.168.202.132 node2\n192.168.202.133 node3\n' >> /etc/hosts");
    }
    lab.hosts[0].does(CERTIFICATES);
    for n in 1..3 {
        lab.copy(0, &["/etc/etcd"], n, "/etc");
    }
    let mut members: Vec<_> = (0..3)
        .map(|n| {
            lab.hosts[n].does(&unit(n));
            lab.start(n, &exec_start(lab, n))
        })
        .collect();

    let certificates = "--cacert=/etc/etcd/ssl/ca.pem --cert=/etc/etcd/ssl/etcd.pem --key=/etc/etcd/ssl/etcd-key.pem";
    let by_name = format!("{certificates} --endpoints=https://node1:2379,https://node2:2379,https://node3:2379");
    by_name.clone_into(&mut lab.ctl_flags);
    lab.healthy(0, 3);
    let names: Vec<_> = lab.members(0).into_keys().collect();
    assert_eq!(names, ["node1", "node2", "node3"]);
    // By any of the names that the certificate has, and on the loopback address beside.
    lab.ctl_flags = format!("{certificates} --endpoints=https://127.0.0.1:2379");
    for n in 0..3 {
        lab.put_and_get(n, &[0, 1, 2], &format!("local-{n}"));
    }
    lab.ctl_flags = by_name;
    // Without TLS refused, otherwise it would not be in force.
    let plain = lab.hosts[0].run("etcdctl --endpoints=http://192.168.202.131:2379 --command-timeout=2s member list");
    assert!(plain.is_err(), "{plain:?}");
    let stranger = lab.hosts[0].run("etcdctl --endpoints=https://node1:2379 --command-timeout=2s member list");
    assert!(stranger.is_err(), "{stranger:?}");
    // An authority for clients is enough for the server to ask them for certificates, without `--client-cert-auth`.
    let nobody =
        "etcdctl --cacert=/etc/etcd/ssl/ca.pem --endpoints=https://node1:2379 --command-timeout=2s member list";
    let nobody = lab.hosts[0].run(nobody);
    assert!(nobody.is_err(), "{nobody:?}");

    // The environment file, with the names that etcdctl has now, and exported.
    lab.hosts[1].does(
        r#"cat > /etc/etcd/etcdctl <<EOF
ETCDCTL_ENDPOINTS="https://node1:2379,https://node2:2379,https://node3:2379"
ETCDCTL_CACERT=/etc/etcd/ssl/ca.pem
ETCDCTL_CERT=/etc/etcd/ssl/etcd.pem
ETCDCTL_KEY=/etc/etcd/ssl/etcd-key.pem
EOF
"#,
    );
    let health = until("health by the environment", || {
        lab.hosts[1].run("set -a; source /etc/etcd/etcdctl; etcdctl endpoint health 2>&1")
    });
    assert_eq!(health.matches("is healthy: successfully committed proposal").count(), 3, "{health}");

    // `systemctl restart` of one after the other.
    for (n, member) in members.iter_mut().enumerate() {
        member.terminate();
        *member = lab.start(n, &exec_start(lab, n));
        lab.healthy(n, 3);
        lab.put_and_get(n, &[0, 1, 2], &format!("restarted-{n}"));
    }
    lab.same_hash(0, 3);
}
