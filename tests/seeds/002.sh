# CentOS 7, April 2017, etcd 3.1.6: a cluster from a systemd unit with flags, machines known by name, an environment file for
# etcdctl. Markers (`#@`) are explained in README.md.
#@ tutorial 002: a unit with flags, and names (etcd 3.1)
#@ machine node1 192.168.202.131
#@ machine node2 192.168.202.132
#@ machine node3 192.168.202.133
#@ env ETCDCTL_API=2 The etcdctl of etcd 3.1 speaks version 2 of the API unless told otherwise, Debian's 3.4 version 3.

#@ part Machines and cfssl
#@ step node1,node2,node3 Names of all machines
cat >> /etc/hosts <<EOF
192.168.202.131 node1
192.168.202.132 node2
192.168.202.133 node3
EOF
#@ mended the text has the list, not how the machines learn it
#@ written 192.168.202.131 node1
#@ step node1 Fetch cfssl
wget https://pkg.cfssl.org/R1.2/cfssl_linux-amd64
#@ note Debian's in place of the download
#@ step node1 Make it a program
chmod +x cfssl_linux-amd64
#@ step node1 To its place
sudo mv cfssl_linux-amd64 /root/local/bin/cfssl
#@ refused No such file or directory
#@ note mv's own words
#@ step node1 Fetch cfssljson
wget https://pkg.cfssl.org/R1.2/cfssljson_linux-amd64
#@ note Debian's in place of the download
#@ step node1 Make it a program
chmod +x cfssljson_linux-amd64
#@ step node1 To its place
sudo mv cfssljson_linux-amd64 /root/local/bin/cfssljson
#@ refused No such file or directory
#@ note mv's own words
#@ step node1 Fetch cfssl-certinfo
wget https://pkg.cfssl.org/R1.2/cfssl-certinfo_linux-amd64
#@ note Debian's in place of the download
#@ step node1 Make it a program
chmod +x cfssl-certinfo_linux-amd64
#@ step node1 To its place
sudo mv cfssl-certinfo_linux-amd64 /root/local/bin/cfssl-certinfo
#@ refused No such file or directory
#@ note mv's own words
#@ step node1 Make the folder, and move them
mkdir -p /root/local/bin
for p in cfssl cfssljson cfssl-certinfo; do sudo mv ${p}_linux-amd64 /root/local/bin/$p; done
#@ mended what mv misses
#@ step node1 Find it
export PATH=/root/local/bin:$PATH
#@ step node1 The other way: with Go
go get -u github.com/cloudflare/cfssl/cmd/...
echo $GOPATH
ls /usr/local/bin/cfssl*
#@ left not of etcd: builds cfssl from its sources

#@ part Certificates
#@ step node1 A folder for them
mkdir /root/ssl
cd /root/ssl
#@ step node1 Samples
cfssl print-defaults config > ca-config.json
cfssl print-defaults csr > ca-csr.json
#@ step node1 The configuration as it is to become
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
#@ mended an editor; the text shows the file
#@ step node1 Show it
cat ca-config.json
#@ says frognew
#@ step node1 What the authority asks for
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
#@ mended an editor; the text shows the file
#@ step node1 The authority
cfssl gencert -initca ca-csr.json | cfssljson -bare ca
#@ step node1 What there is
ls ca*
#@ says ca-key.pem
#@ step node1 What members ask for
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
#@ mended an editor; the text shows the file
#@ step node1 One certificate for all
cfssl gencert -ca=ca.pem -ca-key=ca-key.pem -config=ca-config.json -profile=frognew etcd-csr.json | cfssljson -bare etcd
#@ step node1 What there is
ls etcd*
#@ says etcd-key.pem
#@ step node1 Look at it
cfssl-certinfo -cert etcd.pem
#@ says frognew
#@ step node1 Look at it
openssl x509  -noout -text -in  etcd.pem
#@ says DNS:node1

#@ part Install etcd
#@ step node1,node2 Fetch it
wget https://github.com/coreos/etcd/releases/download/v3.1.6/etcd-v3.1.6-linux-amd64.tar.gz
#@ note our binary in place of the download
#@ step node1,node2 Unpack it, and move the programs to /usr/bin
tar -xzf etcd-v3.1.6-linux-amd64.tar.gz
mv etcd-v3.1.6-linux-amd64/etcd etcd-v3.1.6-linux-amd64/etcdctl /usr/bin/
#@ mended the text says it in words
#@ step node3 The other way: what there is
yum list etcd
#@ says etcd.x86_64
#@ step node3 The other way: install
yum install -y etcd
#@ note our binary and the files of CentOS in place of the package
#@ step node1,node2,node3 A folder for data
mkdir -p /var/lib/etcd
#@ step node1 The unit of node1
export ETCD_NAME=node1
export INTERNAL_IP=192.168.202.131
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
#@ step node2 The unit of node2
export ETCD_NAME=node2
export INTERNAL_IP=192.168.202.132
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
#@ note with its name and address, as the text tells
#@ step node3 The unit of node3
export ETCD_NAME=node3
export INTERNAL_IP=192.168.202.133
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
#@ note with its name and address, as the text tells

#@ part Start
#@ step node1,node2,node3 Read the units
systemctl daemon-reload
#@ step node1,node2,node3 Start at boot
systemctl enable etcd
#@ step node1,node2 Start now
systemctl start etcd
#@ refused Job for etcd.service failed
#@ log open /etc/etcd/ssl/etcd.pem: no such file or directory…Next: `ls -l` the path in the error
#@ note the text does not say that the certificates have to be there
#@ step node3 Start now
systemctl start etcd
#@ refused Job for etcd.service failed
#@ log conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag)
#@ note the file of the package and the flags of the text have the same settings; etcd 3.4 and later refuse that as well
#@ step node3 Unset the variables
rm /etc/etcd/etcd.conf
#@ mended what the log says
#@ step node2,node3 A folder for certificates
mkdir -p /etc/etcd/ssl
#@ mended what the log misses
#@ step node1 The certificates to their places
mkdir -p /etc/etcd/ssl
cp ca.pem etcd.pem etcd-key.pem /etc/etcd/ssl/
scp /etc/etcd/ssl/*.pem root@node2:/etc/etcd/ssl/
scp /etc/etcd/ssl/*.pem root@node3:/etc/etcd/ssl/
#@ mended what the log misses
#@ step node1,node2,node3 Start now
systemctl start etcd
#@ step node1,node2,node3 Their state
systemctl status etcd
#@ says Active: active (running)
#@ step node1 What they write
journalctl -f
#@ says ready to serve client requests
#@ note ends here after what there is
#@ step node1 The misspelled flag of the text
etcd --keyfile=/etc/etcd/ssl/etcd-key.pem
#@ stays
#@ refused flag provided but not defined: -keyfile
#@ says is --key-file meant?
#@ mended the text has it in words
#@ written --keyfile
#@ step node1 The data of a member that is not found
rm -rf /var/lib/etcd/member
#@ left the text has it for an error that does not occur here: the ids are right
#@ step node1 Health
etcdctl \
  --ca-file=/etc/etcd/ssl/ca.pem \
  --cert-file=/etc/etcd/ssl/etcd.pem \
  --key-file=/etc/etcd/ssl/etcd-key.pem \
  --endpoints=https://node1:2379,https://node2:2379,https://node3:2379 \
  cluster-health
#@ refused unexpected status code 404
#@ log *: start every member with --enable-v2
#@ again
#@ step node1,node2,node3 Switch version 2 of the API on
mkdir -p /etc/etcd
echo ETCD_ENABLE_V2=true >> /etc/etcd/etcd.conf
#@ mended what the log says; the unit reads this file
#@ step node1,node2,node3 Restart
systemctl restart etcd
#@ mended what the log says
#@ step node1 Health
etcdctl \
  --ca-file=/etc/etcd/ssl/ca.pem \
  --cert-file=/etc/etcd/ssl/etcd.pem \
  --key-file=/etc/etcd/ssl/etcd-key.pem \
  --endpoints=https://node1:2379,https://node2:2379,https://node3:2379 \
  cluster-health
#@ again
#@ says is healthy: got healthy result from https://192.168.202.131:2379
#@ says is healthy: got healthy result from https://192.168.202.132:2379
#@ says is healthy: got healthy result from https://192.168.202.133:2379
#@ says cluster is healthy
#@ mended the line of the text again
#@ step node1 Without certificates
etcdctl member list
#@ refused client: etcd cluster is unavailable or misconfigured
#@ log node1: tls: first record does not look like a TLS handshake…use https:// in its endpoint
#@ note as the text wants it
#@ again

#@ part etcdctl without flags
#@ step node1 Edit its file
vi /etc/etcd/etcdctl
#@ left an editor; the text shows the file
#@ step node1 Its file
cat > /etc/etcd/etcdctl <<EOF
ETCDCTL_ENDPOINT="https://node1:2379,https://node2:2379,https://node3:2379"
ETCDCTL_CACERT=/etc/etcd/ssl/ca.pem
ETCDCTL_CERT=/etc/etcd/ssl/etcd.pem
ETCDCTL_KEY=/etc/etcd/ssl/etcd-key.pem
EOF
#@ mended the text shows the file
#@ written $ vi /etc/etcd/etcdctl
#@ step node1 Show it
cat /etc/etcd/etcdctl
#@ says ETCDCTL_CACERT
#@ step node1 Read it
source /etc/etcd/etcdctl
#@ step node1 Health
etcdctl cluster-health
#@ refused cluster may be unhealthy: failed to list members
#@ log node1: tls: first record does not look like a TLS handshake…use https:// in its endpoint
#@ note the variables are not exported, and three have the names of version 3: etcdctl has nothing of it
#@ again
#@ step node1 The names of version 2, exported
sed -i -e 's/_CACERT/_CA_FILE/' -e 's/_CERT=/_CERT_FILE=/' -e 's/_KEY=/_KEY_FILE=/' /etc/etcd/etcdctl
set -a
source /etc/etcd/etcdctl
set +a
#@ mended names as `etcdctl --help` has them
#@ step node1 Health
etcdctl cluster-health
#@ again
#@ says is healthy: got healthy result from https://192.168.202.131:2379
#@ says is healthy: got healthy result from https://192.168.202.132:2379
#@ says is healthy: got healthy result from https://192.168.202.133:2379
#@ says cluster is healthy
#@ mended the line of the text again
