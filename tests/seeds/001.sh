# CentOS 7, January 2019, etcd 3.3: a cluster from environment files goes from plain HTTP to TLS, first its clients, then its
# peers; then it grows by a member and shrinks again. Ids of members in the text are those of the author's machines.
# Markers (`#@`) are explained in README.md.
#@ tutorial 001: from HTTP to TLS, and one more member (etcd 3.3, CentOS)
#@ machine test1 192.168.0.91
#@ machine test2 192.168.0.92
#@ machine test3 192.168.0.93
#@ machine test4 192.168.0.94
#@ env ETCDCTL_API=2 The etcdctl of etcd 3.3 speaks version 2 of the API unless told otherwise, Debian's 3.4 version 3.

#@ part 1. Machines
#@ step test1 Name the machine
sed -i '$a\hostname=test1' /etc/sysconfig/network && hostnamectl set-hostname test1     
#@ step test1 Name it for the next boot
sed -i '$a\test1' /etc/hostname
#@ step test2 Name the machine
sed -i '$a\hostname=test2' /etc/sysconfig/network && hostnamectl set-hostname test2     
sed -i '$a\test2' /etc/hostname
#@ mended the other machines have their own names
#@ written sed -i '$a\hostname=test1' /etc/sysconfig/network && hostnamectl set-hostname test1
#@ step test3 Name the machine
sed -i '$a\hostname=test3' /etc/sysconfig/network && hostnamectl set-hostname test3     
sed -i '$a\test3' /etc/hostname
#@ mended the other machines have their own names
#@ written sed -i '$a\hostname=test1' /etc/sysconfig/network && hostnamectl set-hostname test1
#@ step test1,test2,test3 Names of all machines
cat >>/etc/hosts<< EOF
192.168.0.91 test1
192.168.0.92 test2
192.168.0.93 test3
192.168.0.94 test4
EOF

#@ part 2. Three servers, then a cluster
#@ step test1,test2,test3 Install etcd
yum install -y etcd
#@ note our binary and the unit of CentOS in place of the package
#@ step test1,test2,test3 Start it
systemctl start etcd && systemctl enable etcd
#@ refused Job for etcd.service failed
#@ log conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag)
#@ log "environment-variable":"ETCD_LISTEN_CLIENT_URLS"
#@ note etcd 3.4 and later answer the unit of CentOS likewise: it gives flags and the same variables
#@ step test1,test2,test3 Leave the variables, disable the flags
sed -i 's|^ExecStart=.*|ExecStart=/usr/bin/etcd|' /usr/lib/systemd/system/etcd.service
systemctl daemon-reload
#@ mended what the log says
#@ step test1,test2,test3 Start it
systemctl start etcd && systemctl enable etcd
#@ step test1 Its health
etcdctl cluster-health
#@ says member 8e9e05c52164694d is healthy: got healthy result from http://localhost:2379
#@ again
#@ step test1 Configure etcd1
cat >/etc/etcd/etcd.conf <<EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="http://192.168.0.91:2380"
ETCD_LISTEN_CLIENT_URLS="http://192.168.0.91:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd1"
ETCD_INITIAL_ADVERTISE_PEER_URLS="http://192.168.0.91:2380"
ETCD_ADVERTISE_CLIENT_URLS="http://192.168.0.91:2379"
ETCD_INITIAL_CLUSTER="etcd1=http://192.168.0.91:2380,etcd2=http://192.168.0.92:2380,etcd3=http://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"
EOF
#@ step test2 Configure etcd2
cat >/etc/etcd/etcd.conf <<EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="http://192.168.0.92:2380"
ETCD_LISTEN_CLIENT_URLS="http://192.168.0.92:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd2"
ETCD_INITIAL_ADVERTISE_PEER_URLS="http://192.168.0.92:2380"
ETCD_ADVERTISE_CLIENT_URLS="http://192.168.0.92:2379"
ETCD_INITIAL_CLUSTER="etcd1=http://192.168.0.91:2380,etcd2=http://192.168.0.92:2380,etcd3=http://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"
EOF
#@ step test3 Configure etcd3
cat >/etc/etcd/etcd.conf <<EOF 
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="http://192.168.0.93:2380"
ETCD_LISTEN_CLIENT_URLS="http://192.168.0.93:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd3"
ETCD_INITIAL_ADVERTISE_PEER_URLS="http://192.168.0.93:2380"
ETCD_ADVERTISE_CLIENT_URLS="http://192.168.0.93:2379"
ETCD_INITIAL_CLUSTER="etcd1=http://192.168.0.91:2380,etcd2=http://192.168.0.92:2380,etcd3=http://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"
EOF
#@ step test1,test2,test3 Stop, and remove what the lone servers stored
systemctl stop etcd
rm -rf /var/lib/etcd/default.etcd
#@ step test1,test2,test3 Start all at once
systemctl daemon-reload && systemctl restart etcd
#@ step test1 Health of the cluster
etcdctl cluster-health
#@ says member 6c70a880257288f is healthy: got healthy result from http://192.168.0.91:2379
#@ says member 5bbe42788a239cc6 is healthy: got healthy result from http://192.168.0.92:2379
#@ says member 3f7336e156287ed0 is healthy: got healthy result from http://192.168.0.93:2379
#@ says cluster is healthy
#@ again

#@ part 4. An authority
#@ step test1 Install cfssl
mv cfssl-certinfo_linux-amd64 /usr/local/bin/cfssl-certinfo
mv cfssl_linux-amd64 /usr/local/bin/cfssl
mv cfssljson_linux-amd64 /usr/local/bin/cfssljson
chmod +x /usr/local/bin/cfssl*
#@ left files from a file sharing site; Debian's cfssl is there
#@ step test1 A folder for certificates
mkdir /etc/etcd/pki
#@ step test1 Go there
cd /etc/etcd/pki
#@ step test1 A sample configuration
cfssl print-defaults config > ca-config.json
#@ step test1 Edit the file
vi ca-config.json
#@ left an editor; what it is to become comes next
#@ step test1 Profiles
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
#@ step test1 A sample request
cfssl print-defaults csr > rootca-csr.json
#@ step test1 Edit the file
vi rootca-csr.json
#@ left an editor; what it is to become comes next
#@ step test1 The authority's request
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
#@ step test1 The authority
cfssl gencert -initca rootca-csr.json | cfssljson -bare rootca
#@ step test1 What there is
ls rootca*
#@ says rootca-key.pem
#@ step test1 Copy its certificate to test2
scp /etc/etcd/pki/rootca.pem root@192.168.0.92:/etc/etcd/pki/rootca.pem
#@ refused /etc/etcd/pki/rootca.pem: No such file or directory
#@ note scp's own words: the text makes the folder later
#@ step test1 Copy its certificate to test3
scp /etc/etcd/pki/rootca.pem root@192.168.0.93:/etc/etcd/pki/rootca.pem
#@ refused /etc/etcd/pki/rootca.pem: No such file or directory
#@ note scp's own words: the text makes the folder later
#@ step test2,test3 A folder for certificates
mkdir -p /etc/etcd/pki/
#@ mended what scp misses; the line is a later one of the text
#@ step test1 Copy its certificate
scp /etc/etcd/pki/rootca.pem root@192.168.0.92:/etc/etcd/pki/rootca.pem
scp /etc/etcd/pki/rootca.pem root@192.168.0.93:/etc/etcd/pki/rootca.pem
#@ mended the lines again
#@ step test1,test2,test3 Give the files to the user etcd
chown -R etcd:etcd /etc/etcd/pki/*

#@ part 5. TLS for clients
#@ step test1 A sample request
cfssl print-defaults csr > etcd1-csr.json
#@ step test1 Edit the file
vi etcd1-csr.json 
#@ left an editor; what it is to become comes next
#@ step test1 Request of etcd1
cat > etcd1-csr.json<< EOF
{
    "CN": "ETCD Cluster-1",
    "hosts": [
        "192.168.0.91"
    ],
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
#@ step test1 Certificate of etcd1
cfssl gencert -ca=rootca.pem -ca-key=rootca-key.pem -config=ca-config.json -profile=server etcd1-csr.json | cfssljson -bare etcd1
#@ step test1 A sample request
cfssl print-defaults csr > etcd2-csr.json
#@ step test1 Edit the file
vi etcd2-csr.json 
#@ left an editor; what it is to become comes next
#@ step test1 Request of etcd2
cat > etcd2-csr.json<< EOF
{
    "CN": "ETCD Cluster-2",
    "hosts": [
        "192.168.0.92"
    ],
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
#@ step test1 Certificate of etcd2
cfssl gencert -ca=rootca.pem -ca-key=rootca-key.pem -config=ca-config.json -profile=server etcd2-csr.json | cfssljson -bare etcd2
#@ step test1 A sample request
cfssl print-defaults csr > etcd3-csr.json
#@ step test1 Edit the file
vi etcd3-csr.json 
#@ left an editor; what it is to become comes next
#@ step test1 Request of etcd3
cat > etcd3-csr.json<< EOF
{
    "CN": "ETCD Cluster-3",
    "hosts": [
        "192.168.0.93"
    ],
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
#@ step test1 Certificate of etcd3
cfssl gencert -ca=rootca.pem -ca-key=rootca-key.pem -config=ca-config.json -profile=server etcd3-csr.json | cfssljson -bare etcd3
#@ step test2,test3 A folder for certificates
mkdir -p /etc/etcd/pki/
#@ step test1 Copy to test2
scp /etc/etcd/pki/etcd2*.pem root@192.168.0.92:/etc/etcd/pki/
#@ step test1 Copy to test3
scp /etc/etcd/pki/etcd3*.pem root@192.168.0.93:/etc/etcd/pki/
#@ step test1,test2,test3 Give the files to the user etcd
chown -R etcd:etcd /etc/etcd/pki/*
#@ step test1 A sample request
cfssl print-defaults csr > etcd-csr.json
#@ step test1 Edit the file
vi etcd-csr.json 
#@ left an editor; what it is to become comes next
#@ step test1 The other way: a request for all
cat >etcd-csr.json<<EOF
{
    "CN": "ETCD Cluster",
    "hosts": [
        "192.168.0.91",
        "192.168.0.92",
        "192.168.0.93"
    ],
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
#@ step test1 One certificate for all
cfssl gencert -ca=rootca.pem -ca-key=rootca-key.pem -config=ca-config.json -profile=server etcd-csr.json | cfssljson -bare etcd
#@ step test2,test3 A folder for certificates
mkdir -p /etc/etcd/pki/
#@ step test1 Copy to test2
scp /etc/etcd/pki/etcd*.pem root@192.168.0.92:/etc/etcd/pki/
#@ step test1 Copy to test3
scp /etc/etcd/pki/etcd*.pem root@192.168.0.93:/etc/etcd/pki/
#@ step test1,test2,test3 Give the files to the user etcd
chown -R etcd:etcd /etc/etcd/pki/*
#@ step test1 etcd1 with TLS for clients
cat >/etc/etcd/etcd.conf << EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="http://192.168.0.91:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.91:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd1"
ETCD_INITIAL_ADVERTISE_PEER_URLS="http://192.168.0.91:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.91:2379"
ETCD_INITIAL_CLUSTER="etcd1=http://192.168.0.91:2380,etcd2=http://192.168.0.92:2380,etcd3=http://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"

#开启集群外部服务端认证
ETCD_CERT_FILE="/etc/etcd/pki/etcd1.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd1-key.pem"
EOF
#@ step test1 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test1 Health without the authority
etcdctl cluster-health
#@ refused failed to check the health of member 6c70a880257288f on https://192.168.0.91:2379: Get "https://192.168.0.91:2379/health": x509: certificate signed by unknown authority
#@ says member 5bbe42788a239cc6 is healthy: got healthy result from http://192.168.0.92:2379
#@ says member 3f7336e156287ed0 is healthy: got healthy result from http://192.168.0.93:2379
#@ again
#@ step test1 Health with it
etcdctl --ca-file /etc/etcd/pki/rootca.pem cluster-health
#@ again
#@ says member 6c70a880257288f is healthy: got healthy result from https://192.168.0.91:2379
#@ says member 5bbe42788a239cc6 is healthy: got healthy result from http://192.168.0.92:2379
#@ says member 3f7336e156287ed0 is healthy: got healthy result from http://192.168.0.93:2379
#@ says cluster is healthy
#@ step test2 etcd2 with TLS for clients
cat >/etc/etcd/etcd.conf << EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="http://192.168.0.92:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.92:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd2"
ETCD_INITIAL_ADVERTISE_PEER_URLS="http://192.168.0.92:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.92:2379"
ETCD_INITIAL_CLUSTER="etcd1=http://192.168.0.91:2380,etcd2=http://192.168.0.92:2380,etcd3=http://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"

#开启集群外部服务端认证
ETCD_CERT_FILE="/etc/etcd/pki/etcd2.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd2-key.pem"
EOF
#@ step test2 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test3 etcd3 with TLS for clients
cat >/etc/etcd/etcd.conf << EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="http://192.168.0.93:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.93:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd3"
ETCD_INITIAL_ADVERTISE_PEER_URLS="http://192.168.0.93:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.93:2379"
ETCD_INITIAL_CLUSTER="etcd1=http://192.168.0.91:2380,etcd2=http://192.168.0.92:2380,etcd3=http://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"

#开启集群外部服务端认证
ETCD_CERT_FILE="/etc/etcd/pki/etcd3.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd3-key.pem"
EOF
#@ step test3 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test1 Health
etcdctl --ca-file /etc/etcd/pki/rootca.pem cluster-health
#@ again
#@ says member 6c70a880257288f is healthy: got healthy result from https://192.168.0.91:2379
#@ says member 5bbe42788a239cc6 is healthy: got healthy result from https://192.168.0.92:2379
#@ says member 3f7336e156287ed0 is healthy: got healthy result from https://192.168.0.93:2379
#@ says cluster is healthy

#@ part 6. Clients show certificates
#@ step test1 etcd1 asks for them
cat > /etc/etcd/etcd.conf <<EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="http://192.168.0.91:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.91:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd1"
ETCD_INITIAL_ADVERTISE_PEER_URLS="http://192.168.0.91:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.91:2379"
ETCD_INITIAL_CLUSTER="etcd1=http://192.168.0.91:2380,etcd2=http://192.168.0.92:2380,etcd3=http://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"

#开启集群外部服务端认证
ETCD_CERT_FILE="/etc/etcd/pki/etcd1.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd1-key.pem"

#开启集群外部客户端认证
ETCD_CLIENT_CERT_AUTH="true"
ETCD_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test1 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test1 Health without one
etcdctl --ca-file /etc/etcd/pki/rootca.pem cluster-health
#@ refused failed to check the health of member 6c70a880257288f on https://192.168.0.91:2379: Get "https://192.168.0.91:2379/health": …remote error: tls: certificate required
#@ says cluster is degraded
#@ log client didn't provide a certificate
#@ note the text calls the cluster healthy: etcdctl 3.3 did, if a majority was
#@ again
#@ step test1 A sample request
cfssl print-defaults csr > etcdctl-csr.json
#@ step test1 Edit the file
vi etcdctl-csr.json
#@ left an editor; what it is to become comes next
#@ step test1 Request of etcdctl
cat >etcdctl-csr.json<<EOF
{
    "CN": "ETCDCTL",
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
#@ step test1 Certificate of etcdctl
cfssl gencert -ca=rootca.pem -ca-key=rootca-key.pem -config=ca-config.json -profile=client etcdctl-csr.json | cfssljson -bare etcdctl
#@ step test1 Give the files to the user etcd
chown -R etcd:etcd /etc/etcd/pki/*
#@ step test1 Copy to test2
scp /etc/etcd/pki/etcdctl*.pem root@192.168.0.92:/etc/etcd/pki/
#@ step test1 Copy to test3
scp /etc/etcd/pki/etcdctl*.pem root@192.168.0.93:/etc/etcd/pki/
#@ step test2,test3 Give the files to the user etcd
chown -R etcd:etcd /etc/etcd/pki/*
#@ step test1 Health with a certificate
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem cluster-health
#@ again
#@ says member 6c70a880257288f is healthy: got healthy result from https://192.168.0.91:2379
#@ says member 5bbe42788a239cc6 is healthy: got healthy result from https://192.168.0.92:2379
#@ says member 3f7336e156287ed0 is healthy: got healthy result from https://192.168.0.93:2379
#@ says cluster is healthy
#@ step test2 etcd2 asks for them
cat > /etc/etcd/etcd.conf <<EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="http://192.168.0.92:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.92:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd2"
ETCD_INITIAL_ADVERTISE_PEER_URLS="http://192.168.0.92:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.92:2379"
ETCD_INITIAL_CLUSTER="etcd1=http://192.168.0.91:2380,etcd2=http://192.168.0.92:2380,etcd3=http://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"

#开启集群外部服务端认证
ETCD_CERT_FILE="/etc/etcd/pki/etcd2.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd2-key.pem"

#开启集群外部客户端认证
ETCD_CLIENT_CERT_AUTH="true"
ETCD_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test2 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test1 Health
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem cluster-health
#@ again
#@ says member 6c70a880257288f is healthy: got healthy result from https://192.168.0.91:2379
#@ says member 5bbe42788a239cc6 is healthy: got healthy result from https://192.168.0.92:2379
#@ says member 3f7336e156287ed0 is healthy: got healthy result from https://192.168.0.93:2379
#@ says cluster is healthy
#@ step test3 etcd3 asks for them
cat > /etc/etcd/etcd.conf <<EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="http://192.168.0.93:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.93:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd3"
ETCD_INITIAL_ADVERTISE_PEER_URLS="http://192.168.0.93:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.93:2379"
ETCD_INITIAL_CLUSTER="etcd1=http://192.168.0.91:2380,etcd2=http://192.168.0.92:2380,etcd3=http://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"

#开启集群外部服务端认证
ETCD_CERT_FILE="/etc/etcd/pki/etcd3.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd3-key.pem"

#开启集群外部客户端认证
ETCD_CLIENT_CERT_AUTH="true"
ETCD_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test3 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test1 Health
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem cluster-health
#@ again
#@ says member 6c70a880257288f is healthy: got healthy result from https://192.168.0.91:2379
#@ says member 5bbe42788a239cc6 is healthy: got healthy result from https://192.168.0.92:2379
#@ says member 3f7336e156287ed0 is healthy: got healthy result from https://192.168.0.93:2379
#@ says cluster is healthy

#@ part 7. TLS between members, one by one
#@ step test1 A sample request
cfssl print-defaults csr > etcd1-peer-csr.json
#@ step test1 Edit the file
vi etcd1-peer-csr.json
#@ left an editor; what it is to become comes next
#@ step test1 Request of etcd1 for its peers
cat >etcd1-peer-csr.json <<EOF
{
    "CN": "ETCD Peer on etcd1",
    "hosts": [
        "192.168.0.91"
    ],
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
#@ step test1 Certificate of etcd1 for its peers
cfssl gencert -ca=rootca.pem -ca-key=rootca-key.pem -config=ca-config.json -profile=peer etcd1-peer-csr.json | cfssljson -bare etcd1-peer
#@ step test1 A sample request
cfssl print-defaults csr > etcd2-peer-csr.json
#@ step test1 Edit the file
vi etcd2-peer-csr.json
#@ left an editor; what it is to become comes next
#@ step test1 Request of etcd2 for its peers
cat >etcd2-peer-csr.json <<EOF
{
    "CN": "ETCD Peer on etcd2",
    "hosts": [
        "192.168.0.92"
    ],
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
#@ step test1 Certificate of etcd2 for its peers
cfssl gencert -ca=rootca.pem -ca-key=rootca-key.pem -config=ca-config.json -profile=peer etcd2-peer-csr.json | cfssljson -bare etcd2-peer
#@ step test1 A sample request
cfssl print-defaults csr > etcd3-peer-csr.json
#@ step test1 Edit the file
vi etcd3-peer-csr.json
#@ left an editor; what it is to become comes next
#@ step test1 Request of etcd3 for its peers
cat >etcd3-peer-csr.json <<EOF
{
    "CN": "ETCD Peer on etcd3",
    "hosts": [
        "192.168.0.93"
    ],
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
#@ step test1 Certificate of etcd3 for its peers
cfssl gencert -ca=rootca.pem -ca-key=rootca-key.pem -config=ca-config.json -profile=peer etcd3-peer-csr.json | cfssljson -bare etcd3-peer
#@ step test1 Copy to test2
scp /etc/etcd/pki/etcd2-peer*.pem root@192.168.0.92:/etc/etcd/pki/
#@ step test1 Copy to test3
scp /etc/etcd/pki/etcd3-peer*.pem root@192.168.0.93:/etc/etcd/pki/
#@ step test1,test2,test3 Give the files to the user etcd
chown -R etcd:etcd /etc/etcd/pki/*
#@ step test1 Members and their ids
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says 6c70a880257288f: name=etcd1 peerURLs=http://192.168.0.91:2380 clientURLs=https://192.168.0.91:2379 isLeader=
#@ says 5bbe42788a239cc6: name=etcd2 peerURLs=http://192.168.0.92:2380 clientURLs=https://192.168.0.92:2379 isLeader=
#@ says 3f7336e156287ed0: name=etcd3 peerURLs=http://192.168.0.93:2380 clientURLs=https://192.168.0.93:2379 isLeader=
#@ step test1 etcd3 has HTTPS for its peers from now on
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update c883f9e325d8667d https://192.168.0.93:2380
#@ refused No such member: c883f9e325d8667d
#@ note the id is one of the author's machines; `member list` shows those of this cluster
#@ again
#@ step test1 The same with the id of this cluster
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update 3f7336e156287ed0 https://192.168.0.93:2380
#@ mended the id that `member list` shows
#@ written etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update c883f9e325d8667d https://192.168.0.93:2380
#@ says Updated member with ID 3f7336e156287ed0 in cluster
#@ again
#@ step test1 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says name=etcd1 peerURLs=http://192.168.0.91:2380 
#@ says name=etcd2 peerURLs=http://192.168.0.92:2380 
#@ says name=etcd3 peerURLs=https://192.168.0.93:2380 
#@ step test3 Health
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem cluster-health
#@ again
#@ says member 6c70a880257288f is healthy: got healthy result from https://192.168.0.91:2379
#@ says member 5bbe42788a239cc6 is healthy: got healthy result from https://192.168.0.92:2379
#@ says member 3f7336e156287ed0 is healthy: got healthy result from https://192.168.0.93:2379
#@ says cluster is healthy
#@ step test3 etcd3 serves it
cat >/etc/etcd/etcd.conf <<EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="https://192.168.0.93:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.93:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd3"
ETCD_INITIAL_ADVERTISE_PEER_URLS="https://192.168.0.93:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.93:2379"
ETCD_INITIAL_CLUSTER="etcd1=http://192.168.0.91:2380,etcd2=http://192.168.0.92:2380,etcd3=https://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"

#开启集群外部服务端认证
ETCD_CERT_FILE="/etc/etcd/pki/etcd3.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd3-key.pem"

#开启集群外部客户端认证
ETCD_CLIENT_CERT_AUTH="true"
ETCD_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"

ETCD_PEER_CERT_FILE="/etc/etcd/pki/etcd3-peer.pem"      
ETCD_PEER_KEY_FILE="/etc/etcd/pki/etcd3-peer-key.pem"
ETCD_PEER_CLIENT_CERT_AUTH="true"
ETCD_PEER_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test3 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test1 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says name=etcd1 peerURLs=http://192.168.0.91:2380 
#@ says name=etcd2 peerURLs=http://192.168.0.92:2380 
#@ says name=etcd3 peerURLs=https://192.168.0.93:2380 
#@ note the text shows etcd3 with HTTP: another run of the author's
#@ step test1 etcd1 has a certificate for its peers
cat > /etc/etcd/etcd.conf <<EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="http://192.168.0.91:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.91:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd1"
ETCD_INITIAL_ADVERTISE_PEER_URLS="http://192.168.0.91:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.91:2379"
ETCD_INITIAL_CLUSTER="etcd1=http://192.168.0.91:2380,etcd2=http://192.168.0.92:2380,etcd3=https://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"

#开启集群外部服务端认证
ETCD_CERT_FILE="/etc/etcd/pki/etcd1.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd1-key.pem"

#开启集群外部客户端认证
ETCD_CLIENT_CERT_AUTH="true"
ETCD_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"

#开启集群内部服务端认证同时带上客户端证书
ETCD_PEER_CERT_FILE="/etc/etcd/pki/etcd1-peer.pem"
ETCD_PEER_KEY_FILE="/etc/etcd/pki/etcd1-peer-key.pem"
ETCD_PEER_CLIENT_CERT_AUTH="true"
ETCD_PEER_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test1 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test2 etcd2 has a certificate for its peers
cat > /etc/etcd/etcd.conf <<EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="http://192.168.0.92:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.92:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd2"
ETCD_INITIAL_ADVERTISE_PEER_URLS="http://192.168.0.92:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.92:2379"
ETCD_INITIAL_CLUSTER="etcd1=http://192.168.0.91:2380,etcd2=http://192.168.0.92:2380,etcd3=https://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"

#开启集群外部服务端认证
ETCD_CERT_FILE="/etc/etcd/pki/etcd2.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd2-key.pem"

#开启集群外部客户端认证
ETCD_CLIENT_CERT_AUTH="true"
ETCD_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"

#开启集群内部服务端认证同时带上客户端证书
ETCD_PEER_CERT_FILE="/etc/etcd/pki/etcd2-peer.pem"
ETCD_PEER_KEY_FILE="/etc/etcd/pki/etcd2-peer-key.pem"
ETCD_PEER_CLIENT_CERT_AUTH="true"
ETCD_PEER_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test2 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test1 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says name=etcd1 peerURLs=http://192.168.0.91:2380 
#@ says name=etcd2 peerURLs=http://192.168.0.92:2380 
#@ says name=etcd3 peerURLs=https://192.168.0.93:2380 
#@ step test3 What etcd3 writes
systemctl status etcd -l
#@ says Active: active (running)
#@ step test1 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says name=etcd1 peerURLs=http://192.168.0.91:2380 
#@ says name=etcd2 peerURLs=http://192.168.0.92:2380 
#@ says name=etcd3 peerURLs=https://192.168.0.93:2380 
#@ step test1 etcd2 has HTTPS: the wrong id, and the wrong address
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update adff72f24ac33f4b https://192.168.0.91:2380
#@ refused No such member: adff72f24ac33f4b
#@ note the id is one of the author's machines; `member list` shows those of this cluster
#@ again
#@ step test1 As the text shows it done: etcd2 at the address of etcd1
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update 5bbe42788a239cc6 https://192.168.0.91:2380
#@ says Updated member with ID 5bbe42788a239cc6 in cluster
#@ note etcd takes it, too: no member has this URL, etcd1 has it with http
#@ again
#@ step test3 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says name=etcd2 peerURLs=https://192.168.0.91:2380 
#@ note the text shows what it meant
#@ step test3 Health
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem cluster-health
#@ again
#@ says member 6c70a880257288f is healthy: got healthy result from https://192.168.0.91:2379
#@ says member 5bbe42788a239cc6 is healthy: got healthy result from https://192.168.0.92:2379
#@ says member 3f7336e156287ed0 is healthy: got healthy result from https://192.168.0.93:2379
#@ says cluster is healthy
#@ step test2 etcd2 serves HTTPS
cat > /etc/etcd/etcd.conf <<EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="https://192.168.0.92:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.92:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd2"
ETCD_INITIAL_ADVERTISE_PEER_URLS="https://192.168.0.92:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.92:2379"
ETCD_INITIAL_CLUSTER="etcd1=http://192.168.0.91:2380,etcd2=https://192.168.0.92:2380,etcd3=https://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"

#开启集群外部服务端认证
ETCD_CERT_FILE="/etc/etcd/pki/etcd2.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd2-key.pem"

#开启集群外部客户端认证
ETCD_CLIENT_CERT_AUTH="true"
ETCD_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"

ETCD_PEER_CERT_FILE="/etc/etcd/pki/etcd2-peer.pem"
ETCD_PEER_KEY_FILE="/etc/etcd/pki/etcd2-peer-key.pem"
ETCD_PEER_CLIENT_CERT_AUTH="true"
ETCD_PEER_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test2 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test1 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says name=etcd2 peerURLs=https://192.168.0.91:2380 
#@ step test1 etcd1 has HTTPS: the wrong id
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update c96f41ba37a00a16 https://192.168.0.91:2380
#@ refused No such member: c96f41ba37a00a16
#@ note the id is one of the author's machines; `member list` shows those of this cluster
#@ again
#@ step test1 The right member, with an id of the author's
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update adff72f24ac33f4b https://192.168.0.91:2380
#@ refused No such member: adff72f24ac33f4b
#@ note the id is one of the author's machines; `member list` shows those of this cluster
#@ again
#@ step test1 The same with the id of this cluster
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update 6c70a880257288f https://192.168.0.91:2380
#@ mended the id that `member list` shows
#@ written etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update adff72f24ac33f4b https://192.168.0.91:2380
#@ refused membership: peerURL exists
#@ log *: peer URL https://192.168.0.91:2380 belongs to member 5bbe42788a239cc6 (etcd2)
#@ note the words of the text; the log says who has the URL
#@ again
#@ step test1 etcd2 at its own address, then etcd1
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update 5bbe42788a239cc6 https://192.168.0.92:2380
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update 6c70a880257288f https://192.168.0.91:2380
#@ mended what the log says
#@ says Updated member with ID 5bbe42788a239cc6 in cluster
#@ says Updated member with ID 6c70a880257288f in cluster
#@ again
#@ step test1 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says name=etcd1 peerURLs=https://192.168.0.91:2380 
#@ says name=etcd2 peerURLs=https://192.168.0.92:2380 
#@ says name=etcd3 peerURLs=https://192.168.0.93:2380 
#@ step test1 Health
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem cluster-health
#@ again
#@ says member 6c70a880257288f is healthy: got healthy result from https://192.168.0.91:2379
#@ says member 5bbe42788a239cc6 is healthy: got healthy result from https://192.168.0.92:2379
#@ says member 3f7336e156287ed0 is healthy: got healthy result from https://192.168.0.93:2379
#@ says cluster is healthy
#@ step test1 etcd1 serves HTTPS
cat > /etc/etcd/etcd.conf <<EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="https://192.168.0.91:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.91:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd1"
ETCD_INITIAL_ADVERTISE_PEER_URLS="https://192.168.0.91:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.91:2379"
ETCD_INITIAL_CLUSTER="etcd1=https://192.168.0.91:2380,etcd2=https://192.168.0.92:2380,etcd3=https://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"

#开启集群外部服务端认证
ETCD_CERT_FILE="/etc/etcd/pki/etcd1.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd1-key.pem"

#开启集群外部客户端认证
ETCD_CLIENT_CERT_AUTH="true"
ETCD_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"

ETCD_PEER_CERT_FILE="/etc/etcd/pki/etcd1-peer.pem"
ETCD_PEER_KEY_FILE="/etc/etcd/pki/etcd1-peer-key.pem"
ETCD_PEER_CLIENT_CERT_AUTH="true"
ETCD_PEER_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test1 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test3 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says name=etcd1 peerURLs=https://192.168.0.91:2380 
#@ says name=etcd2 peerURLs=https://192.168.0.92:2380 
#@ says name=etcd3 peerURLs=https://192.168.0.93:2380 
#@ step test3 Health
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem cluster-health
#@ again
#@ says member 6c70a880257288f is healthy: got healthy result from https://192.168.0.91:2379
#@ says member 5bbe42788a239cc6 is healthy: got healthy result from https://192.168.0.92:2379
#@ says member 3f7336e156287ed0 is healthy: got healthy result from https://192.168.0.93:2379
#@ says cluster is healthy
#@ step test3 What etcd3 writes
systemctl status etcd -l
#@ says Active: active (running)
#@ step test1 etcd1 with HTTPS for all
cat > /etc/etcd/etcd.conf <<EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="https://192.168.0.91:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.91:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd1"
ETCD_INITIAL_ADVERTISE_PEER_URLS="https://192.168.0.91:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.91:2379"
ETCD_INITIAL_CLUSTER="etcd1=https://192.168.0.91:2380,etcd2=https://192.168.0.92:2380,etcd3=https://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"

#开启集群外部服务端认证
ETCD_CERT_FILE="/etc/etcd/pki/etcd1.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd1-key.pem"

#开启集群外部客户端认证
ETCD_CLIENT_CERT_AUTH="true"
ETCD_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"

#开启集群内部服务端认证并带上客户端证书
ETCD_PEER_CERT_FILE="/etc/etcd/pki/etcd1-peer.pem"
ETCD_PEER_KEY_FILE="/etc/etcd/pki/etcd1-peer-key.pem"
ETCD_PEER_CLIENT_CERT_AUTH="true"
ETCD_PEER_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test1 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test2 etcd2 with HTTPS for all
cat >/etc/etcd/etcd.conf << EOF 
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="https://192.168.0.92:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.92:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd2"
ETCD_INITIAL_ADVERTISE_PEER_URLS="https://192.168.0.92:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.92:2379"
ETCD_INITIAL_CLUSTER="etcd1=https://192.168.0.91:2380,etcd2=https://192.168.0.92:2380,etcd3=https://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"

#开启集群外部服务端认证
ETCD_CERT_FILE="/etc/etcd/pki/etcd2.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd2-key.pem"

#开启集群外部客户端认证
ETCD_CLIENT_CERT_AUTH="true"
ETCD_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"

#开启集群内部服务端认证并带上客户端证书
ETCD_PEER_CERT_FILE="/etc/etcd/pki/etcd2-peer.pem"
ETCD_PEER_KEY_FILE="/etc/etcd/pki/etcd2-peer-key.pem"
ETCD_PEER_CLIENT_CERT_AUTH="true"
ETCD_PEER_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test2 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test3 etcd3 with HTTPS for all
cat >/etc/etcd/etcd.conf << EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="https://192.168.0.93:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.93:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd3"
ETCD_INITIAL_ADVERTISE_PEER_URLS="https://192.168.0.93:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.93:2379"
ETCD_INITIAL_CLUSTER="etcd1=https://192.168.0.91:2380,etcd2=https://192.168.0.92:2380,etcd3=https://192.168.0.93:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"

#开启集群外部服务端认证
ETCD_CERT_FILE="/etc/etcd/pki/etcd3.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd3-key.pem"

#开启集群外部客户端认证
ETCD_CLIENT_CERT_AUTH="true"
ETCD_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"

#开启集群内部服务端认证并带上客户端证书
ETCD_PEER_CERT_FILE="/etc/etcd/pki/etcd3-peer.pem"      
ETCD_PEER_KEY_FILE="/etc/etcd/pki/etcd3-peer-key.pem"
ETCD_PEER_CLIENT_CERT_AUTH="true"
ETCD_PEER_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test3 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test1 What etcd1 writes
systemctl status etcd -l
#@ says Active: active (running)
#@ hides Failed to dial
#@ note etcd dials itself with the server's certificate here, and fails: it is no client's. Nothing is dialled for JSON here
#@ step test1 The line that the text thinks wrong, as it corrects it
sed -i 's|^ETCD_INITIAL_CLUSTER=.*|ETCD_INITIAL_CLUSTER="etcd1=https://192.168.0.91:2380,etcd2=https://192.168.0.92:2380,k83=https://192.168.0.93:2380"|' /etc/etcd/etcd.conf
#@ mended the text shows the line, not how it gets into the file
#@ written ETCD_INITIAL_CLUSTER="etcd1=https://192.168.0.91:2380,etcd2=https://192.168.0.92:2380,k83=https://192.168.0.93:2380"
#@ note neither line changes anything: a member with data does not read it
#@ step test1 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test1 Health
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem cluster-health
#@ mended nothing is lost so far
#@ again
#@ says member 6c70a880257288f is healthy: got healthy result from https://192.168.0.91:2379
#@ says member 5bbe42788a239cc6 is healthy: got healthy result from https://192.168.0.92:2379
#@ says member 3f7336e156287ed0 is healthy: got healthy result from https://192.168.0.93:2379
#@ says cluster is healthy
#@ step test3 The other way: the file
cat /etc/etcd/etcd.conf 
#@ says ETCD_PEER_CERT_FILE
#@ step test1,test2,test3 The other way: everything anew, everything lost
systemctl stop etcd
rm -rf /var/lib/etcd/default.etcd
#@ step test1,test2,test3 Start all at once
systemctl daemon-reload && systemctl restart etcd
#@ note the file of the text names four members; three are there, and their files have three

#@ part 8. One more member
#@ step test4 Name the machine
sed -i '$a\hostname=test4' /etc/sysconfig/network && hostnamectl set-hostname test4     
#@ step test4 Name it for the next boot
sed -i '$a\test4' /etc/hostname
#@ step test4 Names of all machines
cat >>/etc/hosts<< EOF
192.168.0.91 test1
192.168.0.92 test2
192.168.0.93 test3
192.168.0.94 test1
EOF
#@ step test4 Boot again
reboot
#@ left not of etcd: the name is in force
#@ step test4 Install etcd
yum install -y etcd
#@ note as above
#@ step test4 Leave the variables, disable the flags
sed -i 's|^ExecStart=.*|ExecStart=/usr/bin/etcd|' /usr/lib/systemd/system/etcd.service
#@ mended as above
#@ step test4 Start it
systemctl start etcd && systemctl enable etcd
#@ step test4 Its health
etcdctl cluster-health
#@ again
#@ says member 8e9e05c52164694d is healthy: got healthy result from http://localhost:2379
#@ step test4 Stop it
systemctl stop etcd
#@ step test4 A cluster of its own
cat > /etc/etcd/etcd.conf<< EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="http://192.168.0.94:2380"
ETCD_LISTEN_CLIENT_URLS="http://192.168.0.94:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd4"
ETCD_INITIAL_ADVERTISE_PEER_URLS="http://192.168.0.94:2380"
ETCD_ADVERTISE_CLIENT_URLS="http://192.168.0.94:2379"
ETCD_INITIAL_CLUSTER="etcd4=http://192.168.0.94:2380"
ETCD_INITIAL_CLUSTER_STATE="new"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"
EOF
#@ step test4 Remove what it stored
rm -rf /var/lib/etcd/default.etcd
#@ step test4 Start it
systemctl daemon-reload && systemctl restart etcd
#@ step test1 A shorter way to an id
id_of() { etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list | sed -n "s/^\([0-9a-f]*\).*peerURLs=[a-z]*:..$1:.*/\1/p"; }
#@ mended ids of this cluster, by address
#@ step test1 Announce it
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member add etcd4 http://192.168.0.94:2380
#@ again
#@ says Added member named etcd4 with ID … to cluster
#@ says ETCD_INITIAL_CLUSTER_STATE="existing"
#@ step test1 Announce it again
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member add etcd4 http://192.168.0.94:2380
#@ again
#@ refused membership: peerURL exists
#@ log *: peer URL http://192.168.0.94:2380 belongs to member …
#@ note in the text, a cluster without leader answers
#@ step test1 Who has it
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ says [unstarted]: peerURLs=http://192.168.0.94:2380
#@ again
#@ step test1 Remove it
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member remove bc721669bdca5256
#@ refused bc721669bdca5256
#@ note the id is one of the author's machines; `member list` shows those of this cluster
#@ again
#@ step test1 The same with the id of this cluster
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member remove $(id_of 192.168.0.94)
#@ mended the id that `member list` shows
#@ written etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member remove bc721669bdca5256
#@ says Removed member … from cluster
#@ again
#@ step test1 It is gone
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ hides 192.168.0.94
#@ again
#@ step test1 What etcd1 writes
journalctl -xe
#@ step test1 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says name=etcd1 peerURLs=https://192.168.0.91:2380 
#@ says name=etcd2 peerURLs=https://192.168.0.92:2380 
#@ says name=etcd3 peerURLs=https://192.168.0.93:2380 
#@ step test1 A URL without its last digit, for an id of the author's
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update 6c70a880257288f https://192.168.0.4:2380
#@ refused No such member: 6c70a880257288f
#@ note the id is one of the author's machines; `member list` shows those of this cluster
#@ again
#@ step test1 The same with the id of this cluster
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update $(id_of 192.168.0.91) https://192.168.0.4:2380
#@ mended the id that `member list` shows
#@ written etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update 6c70a880257288f https://192.168.0.4:2380
#@ says Updated member with ID … in cluster
#@ note etcd takes it, too
#@ again
#@ step test1 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says name=etcd1 peerURLs=https://192.168.0.4:2380 
#@ step test1 Remove one that is not there
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member remove 62f2353f81e89de3
#@ refused 62f2353f81e89de3
#@ note the id is one of the author's machines; `member list` shows those of this cluster
#@ again
#@ step test1 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ says name=etcd1 peerURLs=https://192.168.0.4:2380 
#@ again
#@ step test1 Announce etcd4
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member add etcd4 http://192.168.0.94:2380
#@ again
#@ says Added member named etcd4 with ID … to cluster
#@ note in the text no leader is left here: two of its members had a wrong URL
#@ step test1 The wrong URL again
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update 6c70a880257288f https://192.168.0.4:2380
#@ refused No such member: 6c70a880257288f
#@ note the id is one of the author's machines; `member list` shows those of this cluster
#@ again
#@ step test1 The right URL
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update $(id_of 192.168.0.4) https://192.168.0.91:2380
#@ mended the author gave up here; the wrong URL is all that has to be undone
#@ says Updated member with ID … in cluster
#@ again
#@ step test1 etcd4 has been announced: undo it
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member remove $(id_of 192.168.0.94)
#@ mended the story goes on below
#@ says Removed member … from cluster
#@ again
#@ step test3 The author removes etcd1
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member remove 6c70a880257288f
#@ refused 6c70a880257288f
#@ note the id is one of the author's machines; `member list` shows those of this cluster
#@ again
#@ step test3 And announces it anew
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member add etcd1 http://192.168.0.91:2380
#@ again
#@ says Added member named etcd1 with ID … to cluster
#@ says ETCD_INITIAL_CLUSTER_STATE="existing"
#@ note etcd1 is there, with https; this is a fifth name for nobody
#@ step test1 Undo that
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list | sed -n 's/^\([0-9a-f]*\)\[unstarted\].*/\1/p' > /tmp/id
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member remove $(cat /tmp/id)
#@ mended the text goes on without etcd1; here it stays a member
#@ says Removed member … from cluster
#@ step test1 Announce etcd4
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member add etcd4 http://192.168.0.94:2380
#@ again
#@ says Added member named etcd4 with ID … to cluster
#@ says etcd4=http://192.168.0.94:2380
#@ says ETCD_INITIAL_CLUSTER_STATE="existing"
#@ step test1 The same line with its outcome
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member add etcd4 http://192.168.0.94:2380
#@ again
#@ refused membership: peerURL exists
#@ note done with the line before
#@ step test1 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says [unstarted]: peerURLs=http://192.168.0.94:2380
#@ says name=etcd1 peerURLs=https://192.168.0.91:2380 
#@ says name=etcd2 peerURLs=https://192.168.0.92:2380 
#@ says name=etcd3 peerURLs=https://192.168.0.93:2380 
#@ step test1 Health
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem cluster-health
#@ refused is unreachable: no available published client urls
#@ note as in the text: it is announced and does not run
#@ again
#@ step test4 A folder for certificates
mkdir -p /etc/etcd/pki/
#@ step test4 Copy the authority, with its key
scp root@192.168.0.91:/etc/etcd/pki/rootca* /etc/etcd/pki/
#@ step test1 A sample request
cfssl print-defaults csr > etcd4-csr.json
#@ step test1 Edit the file
vi etcd4-csr.json 
#@ left an editor; what it is to become comes next
#@ step test1 Request of etcd4
cat >etcd4-csr.json <<EOF
{
    "CN": "ETCD Peer on etcd4",
    "hosts": [
        "192.168.0.94"
    ],
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
#@ step test1 Certificate of etcd4
cfssl gencert -ca=rootca.pem -ca-key=rootca-key.pem -config=ca-config.json -profile=server etcd4-csr.json | cfssljson -bare etcd4
#@ step test1 Copy to test4
scp /etc/etcd/pki/etcd4*.pem root@192.168.0.94:/etc/etcd/pki/
#@ step test1 A sample request
cfssl print-defaults csr > etcd4-peer-csr.json
#@ step test1 Edit the file
vi etcd4-csr.json 
#@ left an editor; what it is to become comes next
#@ step test1 Request of etcd4 for its peers
cat >etcd4-peer-csr.json<<EOF 
{
    "CN": "ETCD Peer on etcd4",
    "hosts": [
        "192.168.0.94"
    ],
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
#@ step test1 Certificate of etcd4 for its peers
cfssl gencert -ca=rootca.pem -ca-key=rootca-key.pem -config=ca-config.json -profile=peer etcd4-peer-csr.json | cfssljson -bare etcd4-peer
#@ step test1 Copy to test4
scp /etc/etcd/pki/etcd4-peer*.pem root@192.168.0.94:/etc/etcd/pki/
#@ step test1 Give the files to the user etcd
chown -R etcd:etcd /etc/etcd/pki/*
#@ note on test4 it is done below, after the refusal that the text shows
#@ step test4 etcd4 joins, with a certificate for its peers
cat > /etc/etcd/etcd.conf << EOF 
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="http://192.168.0.94:2380"
ETCD_LISTEN_CLIENT_URLS="http://192.168.0.94:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd4"
ETCD_INITIAL_ADVERTISE_PEER_URLS="http://192.168.0.94:2380"
ETCD_ADVERTISE_CLIENT_URLS="http://192.168.0.94:2379"
ETCD_INITIAL_CLUSTER="etcd1=https://192.168.0.91:2380,etcd2=https://192.168.0.92:2380,etcd3=https://192.168.0.93:2380,etcd4=http://192.168.0.94:2380"
ETCD_INITIAL_CLUSTER_STATE="existing"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"
#带上集群内部客户端证书同时开启集群内部服务端认证
ETCD_PEER_CERT_FILE="/etc/etcd/pki/etcd4-peer.pem"
ETCD_PEER_KEY_FILE="/etc/etcd/pki/etcd4-peer-key.pem"
ETCD_PEER_CLIENT_CERT_AUTH="true"
ETCD_PEER_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test4 Restart
systemctl daemon-reload && systemctl restart etcd
#@ refused Job for etcd.service failed
#@ log /etc/etcd/pki/etcd4-peer-key.pem: permission denied…Next: `chown etcd: FILE` for the user of the service
#@ step test4 Restart
systemctl daemon-reload && systemctl restart etcd
#@ refused Job for etcd.service failed
#@ log /etc/etcd/pki/etcd4-peer-key.pem: permission denied…Next: `chown etcd: FILE` for the user of the service
#@ step test4 What etcd4 writes
journalctl -xe
#@ says /etc/etcd/pki/etcd4-peer-key.pem: permission denied
#@ step test4 Give the files to the user etcd
chown -R etcd:etcd /etc/etcd/pki/*
#@ step test4 Restart
systemctl daemon-reload && systemctl restart etcd
#@ refused Job for etcd.service failed
#@ log comes with the data of cluster …, but its peers are cluster …, which expects it as member …; move its data directory away
#@ note etcd runs on in a cluster of its own; the text finds that out below
#@ step test1 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says [unstarted]: peerURLs=http://192.168.0.94:2380
#@ step test1 Health
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem cluster-health
#@ refused is unreachable: no available published client urls
#@ again
#@ step test4 What etcd4 writes
systemctl status etcd
#@ again
#@ refused comes with the data of cluster
#@ note etcd: `request cluster ID mismatch`, again and again
#@ step test4 Stop it, and remove what it stored
systemctl stop etcd
rm -rf /var/lib/etcd/default.etcd
#@ step test4 The wrong name that the text has an error of
sed -i 's/NAME="etcd4"/NAME="etcd5"/' /etc/etcd/etcd.conf
systemctl daemon-reload && systemctl restart etcd
#@ mended the text shows the error alone
#@ written systemctl daemon-reload && systemctl restart etcd
#@ refused Job for etcd.service failed
#@ log couldn't find local name …etcd5…in the initial cluster configuration…--name is not among the names
#@ step test4 The right name
sed -i 's/NAME="etcd5"/NAME="etcd4"/' /etc/etcd/etcd.conf
#@ mended what the log says
#@ step test4 Start it
systemctl daemon-reload && systemctl restart etcd
#@ step test1 The restart that the text shows to fail
systemctl daemon-reload && systemctl restart etcd
#@ note the name is right here
#@ step test1 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says name=etcd4 peerURLs=http://192.168.0.94:2380 clientURLs=http://192.168.0.94:2379 isLeader=false
#@ step test1 Health
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem cluster-health
#@ again
#@ says is healthy: got healthy result from http://192.168.0.94:2379
#@ says cluster is healthy
#@ step test4 What etcd4 writes
journalctl -xe
#@ step test1 etcd4 has HTTPS for its peers
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update 7cdd9649a07e40fb https://192.168.0.4:2380
#@ refused No such member: 7cdd9649a07e40fb
#@ note the id is one of the author's machines; `member list` shows those of this cluster
#@ again
#@ step test1 The same line with its outcome
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update 7cdd9649a07e40fb https://192.168.0.4:2380
#@ refused No such member: 7cdd9649a07e40fb
#@ note the id is one of the author's machines; `member list` shows those of this cluster
#@ again
#@ step test1 With the id of this cluster, and its own address
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update $(id_of 192.168.0.94) https://192.168.0.94:2380
#@ mended the id that `member list` shows, and the digit that the text lost
#@ written etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member update 7cdd9649a07e40fb https://192.168.0.4:2380
#@ says Updated member with ID … in cluster
#@ again
#@ step test4 etcd4 serves HTTPS for all
cat >/etc/etcd/etcd.conf << EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="https://192.168.0.94:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.94:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd4"
ETCD_INITIAL_ADVERTISE_PEER_URLS="https://192.168.0.94:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.94:2379"
ETCD_INITIAL_CLUSTER="etcd1=https://192.168.0.91:2380,etcd2=https://192.168.0.92:2380,etcd3=https://192.168.0.93:2380,etcd4=https://192.168.0.94:2380"
ETCD_INITIAL_CLUSTER_STATE="existing"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"

#集群内部互相通信用的证书
ETCD_PEER_CERT_FILE="/etc/etcd/pki/etcd4-peer.pem"
ETCD_PEER_KEY_FILE="/etc/etcd/pki/etcd4-peer-key.pem"

# 开启集群内部客户端认证
ETCD_PEER_CLIENT_CERT_AUTH="true"
ETCD_PEER_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"

# 开启集群外部服务端认证
ETCD_CERT_FILE="/etc/etcd/pki/etcd4.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd4-key.pem"

# 开启集群外部客户端认证
ETCD_CLIENT_CERT_AUTH="true"
ETCD_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test4 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test1 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says name=etcd1 peerURLs=https://192.168.0.91:2380 
#@ says name=etcd2 peerURLs=https://192.168.0.92:2380 
#@ says name=etcd3 peerURLs=https://192.168.0.93:2380 
#@ says name=etcd4 peerURLs=https://192.168.0.94:2380 clientURLs=https://192.168.0.94:2379 isLeader=
#@ step test1 Health
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem cluster-health
#@ again
#@ says is healthy: got healthy result from https://192.168.0.91:2379
#@ says is healthy: got healthy result from https://192.168.0.92:2379
#@ says is healthy: got healthy result from https://192.168.0.93:2379
#@ says is healthy: got healthy result from https://192.168.0.94:2379
#@ says cluster is healthy
#@ step test4 What etcd4 writes
journalctl -xe
#@ step test1 All name all: etcd1
cat > /etc/etcd/etcd.conf<< EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="https://192.168.0.91:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.91:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd1"
ETCD_INITIAL_ADVERTISE_PEER_URLS="https://192.168.0.91:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.91:2379"
ETCD_INITIAL_CLUSTER="etcd1=https://192.168.0.91:2380,etcd2=https://192.168.0.92:2380,etcd3=https://192.168.0.93:2380,etcd4=https://192.168.0.94:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"
ETCD_INITIAL_CLUSTER_STATE="new"

ETCD_CERT_FILE="/etc/etcd/pki/etcd1.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd1-key.pem"
ETCD_CLIENT_CERT_AUTH="true"
ETCD_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"

ETCD_PEER_CERT_FILE="/etc/etcd/pki/etcd1-peer.pem"
ETCD_PEER_KEY_FILE="/etc/etcd/pki/etcd1-peer-key.pem"
ETCD_PEER_CLIENT_CERT_AUTH="true"
ETCD_PEER_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test1 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test2 All name all: etcd2
cat > /etc/etcd/etcd.conf<< EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="https://192.168.0.92:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.92:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd2"
ETCD_INITIAL_ADVERTISE_PEER_URLS="https://192.168.0.92:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.92:2379"
ETCD_INITIAL_CLUSTER="etcd1=https://192.168.0.91:2380,etcd2=https://192.168.0.92:2380,etcd3=https://192.168.0.93:2380,etcd4=https://192.168.0.94:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"
ETCD_INITIAL_CLUSTER_STATE="new"

ETCD_CERT_FILE="/etc/etcd/pki/etcd2.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd2-key.pem"

ETCD_CLIENT_CERT_AUTH="true"
ETCD_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"

ETCD_PEER_CERT_FILE="/etc/etcd/pki/etcd2-peer.pem"
ETCD_PEER_KEY_FILE="/etc/etcd/pki/etcd2-peer-key.pem"
ETCD_PEER_CLIENT_CERT_AUTH="true"
ETCD_PEER_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test2 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test3 All name all: etcd3
cat > /etc/etcd/etcd.conf<< EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="https://192.168.0.93:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.93:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd3"
ETCD_INITIAL_ADVERTISE_PEER_URLS="https://192.168.0.93:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.93:2379"
ETCD_INITIAL_CLUSTER="etcd1=https://192.168.0.91:2380,etcd2=https://192.168.0.92:2380,etcd3=https://192.168.0.93:2380,etcd4=https://192.168.0.94:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"
ETCD_INITIAL_CLUSTER_STATE="new"

ETCD_CERT_FILE="/etc/etcd/pki/etcd3.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd3-key.pem"

ETCD_CLIENT_CERT_AUTH="true"
ETCD_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"

ETCD_PEER_CERT_FILE="/etc/etcd/pki/etcd3-peer.pem"      
ETCD_PEER_KEY_FILE="/etc/etcd/pki/etcd3-peer-key.pem"
ETCD_PEER_CLIENT_CERT_AUTH="true"
ETCD_PEER_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test3 Restart
systemctl daemon-reload && systemctl restart etcd
#@ step test4 All name all: etcd4, with name and addresses of etcd3
cat > /etc/etcd/etcd.conf<< EOF
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"      
ETCD_LISTEN_PEER_URLS="https://192.168.0.93:2380"
ETCD_LISTEN_CLIENT_URLS="https://192.168.0.93:2379,http://127.0.0.1:2379"
ETCD_NAME="etcd3"
ETCD_INITIAL_ADVERTISE_PEER_URLS="https://192.168.0.93:2380"
ETCD_ADVERTISE_CLIENT_URLS="https://192.168.0.93:2379"
ETCD_INITIAL_CLUSTER="etcd1=https://192.168.0.91:2380,etcd2=https://192.168.0.92:2380,etcd3=https://192.168.0.93:2380,etcd4=https://192.168.0.94:2380"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"
ETCD_INITIAL_CLUSTER_STATE="new"

ETCD_CERT_FILE="/etc/etcd/pki/etcd4.pem"
ETCD_KEY_FILE="/etc/etcd/pki/etcd4-key.pem"

ETCD_CLIENT_CERT_AUTH="true"
ETCD_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"

ETCD_PEER_CERT_FILE="/etc/etcd/pki/etcd3-peer.pem"      
ETCD_PEER_KEY_FILE="/etc/etcd/pki/etcd3-peer-key.pem"
ETCD_PEER_CLIENT_CERT_AUTH="true"
ETCD_PEER_TRUSTED_CA_FILE="/etc/etcd/pki/rootca.pem"
EOF
#@ step test4 Restart
systemctl daemon-reload && systemctl restart etcd
#@ refused Job for etcd.service failed
#@ log open /etc/etcd/pki/etcd3-peer.pem: no such file or directory…Next: `ls -l` the path in the error
#@ step test4 Its own name and addresses
sed -i -e '/INITIAL_CLUSTER=/!s|192.168.0.93|192.168.0.94|g' -e 's|NAME="etcd3"|NAME="etcd4"|' -e 's|etcd3-peer|etcd4-peer|' /etc/etcd/etcd.conf
systemctl daemon-reload && systemctl restart etcd
#@ mended what the log says
#@ step test1 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says name=etcd1 peerURLs=https://192.168.0.91:2380 
#@ says name=etcd2 peerURLs=https://192.168.0.92:2380 
#@ says name=etcd3 peerURLs=https://192.168.0.93:2380 
#@ says name=etcd4 peerURLs=https://192.168.0.94:2380 clientURLs=https://192.168.0.94:2379 isLeader=
#@ step test1 Health
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem cluster-health
#@ again
#@ says is healthy: got healthy result from https://192.168.0.91:2379
#@ says is healthy: got healthy result from https://192.168.0.92:2379
#@ says is healthy: got healthy result from https://192.168.0.93:2379
#@ says is healthy: got healthy result from https://192.168.0.94:2379
#@ says cluster is healthy
#@ step test4 What etcd4 writes
journalctl -xe

#@ part 9. One member less
#@ step test1 Members
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member list
#@ again
#@ says name=etcd1 peerURLs=https://192.168.0.91:2380 
#@ says name=etcd2 peerURLs=https://192.168.0.92:2380 
#@ says name=etcd3 peerURLs=https://192.168.0.93:2380 
#@ says name=etcd4 peerURLs=https://192.168.0.94:2380 clientURLs=https://192.168.0.94:2379 isLeader=
#@ step test1 Remove etcd4
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member remove 1da3d0181b2c051
#@ refused 1da3d0181b2c051
#@ note the id is one of the author's machines; `member list` shows those of this cluster
#@ again
#@ step test1 The same line with its outcome
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member remove 1da3d0181b2c051
#@ refused 1da3d0181b2c051
#@ note the id is one of the author's machines; `member list` shows those of this cluster
#@ again
#@ step test1 The same with the id of this cluster
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member remove $(id_of 192.168.0.94)
#@ again
#@ note within five seconds of its start, a member refuses changes of members: it does not know yet that the others stay
#@ mended the id that `member list` shows
#@ written etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem member remove 1da3d0181b2c051
#@ says Removed member … from cluster
#@ step test4 What the text warns of: a restart before the data are removed
systemctl daemon-reload && systemctl restart etcd
#@ log data-dir used by this member must be removed
#@ step test4 Its state
systemctl status etcd -l
#@ refused Active: inactive (dead)
#@ note systemctl has an exit code for what does not run
#@ step test4 Stop it
systemctl stop etcd
#@ step test4 Remove what it stored
rm -rf /var/lib/etcd/default.etcd
#@ step test1 Health
etcdctl --ca-file /etc/etcd/pki/rootca.pem --cert-file /etc/etcd/pki/etcdctl.pem --key-file /etc/etcd/pki/etcdctl-key.pem cluster-health
#@ mended three are left
#@ again
#@ says is healthy: got healthy result from https://192.168.0.91:2379
#@ says is healthy: got healthy result from https://192.168.0.92:2379
#@ says is healthy: got healthy result from https://192.168.0.93:2379
#@ says cluster is healthy
#@ hides 192.168.0.94
