# etcd 3.3.13, May 2019: a cluster of three with certificates made by cfssl, all by flags, and a fourth member that does not
# get in at first. Markers (`#@`) are explained in README.md.
#@ tutorial 000: a fourth member for a cluster with certificates (etcd 3.3)
#@ machine 201 192.168.111.201
#@ machine 202 192.168.111.202
#@ machine 203 192.168.111.203
#@ machine 204 192.168.111.204
#@ installed

#@ part Certificates
#@ step 201 A folder for them
mkdir /certs && cd /certs
#@ step 201 The authority's profiles
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
#@ step 201 What the authority asks for
cat > etcd-ca-csr.json << EOF
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
#@ step 201 The authority
cfssl gencert -initca etcd-ca-csr.json | cfssljson -bare etcd-ca
#@ step 201 What members ask for
cat > etcd-server.json << EOF
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
#@ step 201 One certificate for three members
cfssl gencert -ca=etcd-ca.pem -ca-key=etcd-ca-key.pem -config=ca-config.json -hostname=127.0.0.1,192.168.111.201,192.168.111.202,192.168.111.203 -profile=server etcd-server.json | cfssljson -bare etcd-server
#@ step 201 Copy the folder to 202
scp /certs root@192.168.111.202:/
#@ refused /certs: not a regular file
#@ note scp's own words: it copies folders only with `-r`
#@ step 201 Copy the folder to 203
scp /certs root@192.168.111.203:/
#@ refused /certs: not a regular file
#@ note scp's own words: it copies folders only with `-r`
#@ step 201 Copy the folder to 204
scp /certs root@192.168.111.204:/
#@ refused /certs: not a regular file
#@ note scp's own words: it copies folders only with `-r`
#@ step 201 Copy the folder to all
#@ mended what scp asks for
scp -r /certs root@192.168.111.202:/
scp -r /certs root@192.168.111.203:/
scp -r /certs root@192.168.111.204:/

#@ part Three members
#@ step 201 Start the member
etcd --name=onfra0 \
    --listen-client-urls=https://0.0.0.0:2379 \
    --listen-peer-urls=https://0.0.0.0:2380 \
    --advertise-client-urls=https://192.168.111.201:2379 \
    --initial-advertise-peer-urls=https://192.168.111.201:2380 \
    --client-cert-auth \
    --peer-client-cert-auth \
    --auto-tls \
    --peer-auto-tls \
    --cert-file=/certs/etcd-server.pem \
    --key-file=/certs/etcd-server-key.pem \
    --trusted-ca-file=/certs/etcd-ca.pem \
    --peer-cert-file=/certs/etcd-server.pem \
    --peer-key-file=/certs/etcd-server-key.pem \
    --peer-trusted-ca-file=/certs/etcd-ca.pem \
    --initial-cluster=onfra0=https://192.168.111.201:2380,onfra1=https://192.168.111.202:2380,onfra2=https://192.168.111.203:2380 \
    --initial-cluster-token=etcd-cluster \
    --initial-cluster-state=new \
    --data-dir=/etcd-data
#@ stays
#@ step 202 Start the member
etcd --name=onfra1 \
    --listen-client-urls=https://0.0.0.0:2379 \
    --listen-peer-urls=https://0.0.0.0:2380 \
    --advertise-client-urls=https://192.168.111.202:2379 \
    --initial-advertise-peer-urls=https://192.168.111.202:2380 \
    --client-cert-auth \
    --peer-client-cert-auth \
    --auto-tls \
    --peer-auto-tls \
    --cert-file=/certs/etcd-server.pem \
    --key-file=/certs/etcd-server-key.pem \
    --trusted-ca-file=/certs/etcd-ca.pem \
    --peer-cert-file=/certs/etcd-server.pem \
    --peer-key-file=/certs/etcd-server-key.pem \
    --peer-trusted-ca-file=/certs/etcd-ca.pem \
    --initial-cluster=onfra0=https://192.168.111.201:2380,onfra1=https://192.168.111.202:2380,onfra2=https://192.168.111.203:2380 \
    --initial-cluster-token=etcd-cluster \
    --initial-cluster-state=new \
    --data-dir=/etcd-data
#@ stays
#@ step 203 Start the member
etcd --name=onfra2 \
    --listen-client-urls=https://0.0.0.0:2379 \
    --listen-peer-urls=https://0.0.0.0:2380 \
    --advertise-client-urls=https://192.168.111.203:2379 \
    --initial-advertise-peer-urls=https://192.168.111.203:2380 \
    --client-cert-auth \
    --peer-client-cert-auth \
    --auto-tls \
    --peer-auto-tls \
    --cert-file=/certs/etcd-server.pem \
    --key-file=/certs/etcd-server-key.pem \
    --trusted-ca-file=/certs/etcd-ca.pem \
    --peer-cert-file=/certs/etcd-server.pem \
    --peer-key-file=/certs/etcd-server-key.pem \
    --peer-trusted-ca-file=/certs/etcd-ca.pem \
    --initial-cluster=onfra0=https://192.168.111.201:2380,onfra1=https://192.168.111.202:2380,onfra2=https://192.168.111.203:2380 \
    --initial-cluster-token=etcd-cluster \
    --initial-cluster-state=new \
    --data-dir=/etcd-data
#@ stays
#@ step 201 What etcdctl asks for
cat > etcd-client.json << EOF
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
#@ step 201 A certificate for etcdctl
cfssl gencert -ca=etcd-ca.pem -ca-key=etcd-ca-key.pem -config=ca-config.json -hostname=192.168.111.201,192.168.111.202,192.168.111.203,192.168.111.204,127.0.0.1 -profile=client etcd-client.json | cfssljson -bare etcd-client
#@ log 201: ready to serve client requests
#@ log 202: ready to serve client requests
#@ log 203: ready to serve client requests
#@ step 201 List members
ETCDCTL_API=2 etcdctl --ca-file=./etcd-ca.pem --key-file=./etcd-client-key.pem --cert-file=./etcd-client.pem --endpoints https://192.168.111.201:2379 member list
#@ refused unexpected status code 404
#@ log *: start every member with --enable-v2
#@ note etcd 3.3 has version 2 of the API on, later ones have it off
#@ again
#@ interrupt 201
#@ interrupt 202
#@ interrupt 203
#@ step 201,202,203,204 Switch the API on
export ETCD_ENABLE_V2=true
#@ mended what the log says, as a variable so that the lines of the text stay
#@ step 201 Start the member again
etcd --name=onfra0 \
    --listen-client-urls=https://0.0.0.0:2379 \
    --listen-peer-urls=https://0.0.0.0:2380 \
    --advertise-client-urls=https://192.168.111.201:2379 \
    --initial-advertise-peer-urls=https://192.168.111.201:2380 \
    --client-cert-auth \
    --peer-client-cert-auth \
    --auto-tls \
    --peer-auto-tls \
    --cert-file=/certs/etcd-server.pem \
    --key-file=/certs/etcd-server-key.pem \
    --trusted-ca-file=/certs/etcd-ca.pem \
    --peer-cert-file=/certs/etcd-server.pem \
    --peer-key-file=/certs/etcd-server-key.pem \
    --peer-trusted-ca-file=/certs/etcd-ca.pem \
    --initial-cluster=onfra0=https://192.168.111.201:2380,onfra1=https://192.168.111.202:2380,onfra2=https://192.168.111.203:2380 \
    --initial-cluster-token=etcd-cluster \
    --initial-cluster-state=new \
    --data-dir=/etcd-data
#@ stays
#@ mended the line of the text again
#@ step 202 Start the member again
etcd --name=onfra1 \
    --listen-client-urls=https://0.0.0.0:2379 \
    --listen-peer-urls=https://0.0.0.0:2380 \
    --advertise-client-urls=https://192.168.111.202:2379 \
    --initial-advertise-peer-urls=https://192.168.111.202:2380 \
    --client-cert-auth \
    --peer-client-cert-auth \
    --auto-tls \
    --peer-auto-tls \
    --cert-file=/certs/etcd-server.pem \
    --key-file=/certs/etcd-server-key.pem \
    --trusted-ca-file=/certs/etcd-ca.pem \
    --peer-cert-file=/certs/etcd-server.pem \
    --peer-key-file=/certs/etcd-server-key.pem \
    --peer-trusted-ca-file=/certs/etcd-ca.pem \
    --initial-cluster=onfra0=https://192.168.111.201:2380,onfra1=https://192.168.111.202:2380,onfra2=https://192.168.111.203:2380 \
    --initial-cluster-token=etcd-cluster \
    --initial-cluster-state=new \
    --data-dir=/etcd-data
#@ stays
#@ mended the line of the text again
#@ step 203 Start the member again
etcd --name=onfra2 \
    --listen-client-urls=https://0.0.0.0:2379 \
    --listen-peer-urls=https://0.0.0.0:2380 \
    --advertise-client-urls=https://192.168.111.203:2379 \
    --initial-advertise-peer-urls=https://192.168.111.203:2380 \
    --client-cert-auth \
    --peer-client-cert-auth \
    --auto-tls \
    --peer-auto-tls \
    --cert-file=/certs/etcd-server.pem \
    --key-file=/certs/etcd-server-key.pem \
    --trusted-ca-file=/certs/etcd-ca.pem \
    --peer-cert-file=/certs/etcd-server.pem \
    --peer-key-file=/certs/etcd-server-key.pem \
    --peer-trusted-ca-file=/certs/etcd-ca.pem \
    --initial-cluster=onfra0=https://192.168.111.201:2380,onfra1=https://192.168.111.202:2380,onfra2=https://192.168.111.203:2380 \
    --initial-cluster-token=etcd-cluster \
    --initial-cluster-state=new \
    --data-dir=/etcd-data
#@ stays
#@ mended the line of the text again
#@ step 201 List members
ETCDCTL_API=2 etcdctl --ca-file=./etcd-ca.pem --key-file=./etcd-client-key.pem --cert-file=./etcd-client.pem --endpoints https://192.168.111.201:2379 member list
#@ again
#@ says 22f69347520bc065: name=onfra0 peerURLs=https://192.168.111.201:2380 clientURLs=https://192.168.111.201:2379 isLeader=
#@ says 31f594e98f861eb7: name=onfra1 peerURLs=https://192.168.111.202:2380 clientURLs=https://192.168.111.202:2379 isLeader=
#@ says 54e5fbcfbe557469: name=onfra2 peerURLs=https://192.168.111.203:2380 clientURLs=https://192.168.111.203:2379 isLeader=
#@ says isLeader=true
#@ note the ids are those that the text shows

#@ part A fourth member
#@ step 204 Start the member
etcd --name=onfra3 \
     --listen-client-urls=https://0.0.0.0:2379 \
     --listen-peer-urls=https://0.0.0.0:2380 \
     --advertise-client-urls=https://192.168.111.204:2379 \
     --initial-advertise-peer-urls=https://192.168.111.204:2380 \
     --client-cert-auth \
     --peer-client-cert-auth \
     --auto-tls \
     --peer-auto-tls \
     --cert-file=/certs/etcd-server.pem \
     --key-file=/certs/etcd-server-key.pem \
     --trusted-ca-file=/certs/etcd-ca.pem \
     --peer-cert-file=/certs/etcd-server.pem \
     --peer-key-file=/certs/etcd-server-key.pem \
     --peer-trusted-ca-file=/certs/etcd-ca.pem \
     --initial-cluster=onfra0=https://192.168.111.201:2380,onfra1=https://192.168.111.202:2380,onfra2=https://192.168.111.203:2380,onfra3=https://192.168.111.204:2380 \
     --initial-cluster-token=etcd-cluster \
     --initial-cluster-state=existing \
     --data-dir=/etcd-data
#@ stays
#@ refused x509: certificate is valid for 127.0.0.1, 192.168.111.201, 192.168.111.202, 192.168.111.203, not 192.168.111.204
#@ log 201: x509: certificate is valid for 127.0.0.1, 192.168.111.201, 192.168.111.202, 192.168.111.203, not 192.168.111.204
#@ log 202: x509: certificate is valid for 127.0.0.1, 192.168.111.201, 192.168.111.202, 192.168.111.203, not 192.168.111.204
#@ log 203: x509: certificate is valid for 127.0.0.1, 192.168.111.201, 192.168.111.202, 192.168.111.203, not 192.168.111.204
#@ note etcd says the reason only in the logs of the other members
#@ step 201 Another certificate, for its address
cfssl gencert -ca=etcd-ca.pem -ca-key=etcd-ca-key.pem -config=ca-config.json -hostname=127.0.0.1,192.168.111.204 -profile=server etcd-server.json | cfssljson -bare etcd-server2
#@ step 204 Start the member with it
etcd --name=onfra3 \
    --listen-client-urls=https://0.0.0.0:2379 \
    --listen-peer-urls=https://0.0.0.0:2380 \
    --advertise-client-urls=https://192.168.111.204:2379 \
    --initial-advertise-peer-urls=https://192.168.111.204:2380 \
    --client-cert-auth \
    --peer-client-cert-auth \
    --auto-tls \
    --peer-auto-tls \
    --cert-file=/certs/etcd-server2.pem \
    --key-file=/certs/etcd-server2-key.pem \
    --trusted-ca-file=/certs/etcd-ca.pem \
    --peer-cert-file=/certs/etcd-server2.pem \
    --peer-key-file=/certs/etcd-server2-key.pem \
    --peer-trusted-ca-file=/certs/etcd-ca.pem \
    --initial-cluster=onfra0=https://192.168.111.201:2380,onfra1=https://192.168.111.202:2380,onfra2=https://192.168.111.203:2380,onfra3=https://192.168.111.204:2380 \
    --initial-cluster-token=etcd-cluster \
    --initial-cluster-state=existing \
    --data-dir=/etcd-data
#@ stays
#@ refused open /certs/etcd-server2.pem: no such file or directory…Next: `ls -l` the path in the error
#@ note the text does not say that the certificate has to be copied
#@ step 201 Copy the certificate
#@ mended the file that is named
scp /certs/etcd-server2.pem /certs/etcd-server2-key.pem root@192.168.111.204:/certs/
#@ step 204 Start the member with it
etcd --name=onfra3 \
    --listen-client-urls=https://0.0.0.0:2379 \
    --listen-peer-urls=https://0.0.0.0:2380 \
    --advertise-client-urls=https://192.168.111.204:2379 \
    --initial-advertise-peer-urls=https://192.168.111.204:2380 \
    --client-cert-auth \
    --peer-client-cert-auth \
    --auto-tls \
    --peer-auto-tls \
    --cert-file=/certs/etcd-server2.pem \
    --key-file=/certs/etcd-server2-key.pem \
    --trusted-ca-file=/certs/etcd-ca.pem \
    --peer-cert-file=/certs/etcd-server2.pem \
    --peer-key-file=/certs/etcd-server2-key.pem \
    --peer-trusted-ca-file=/certs/etcd-ca.pem \
    --initial-cluster=onfra0=https://192.168.111.201:2380,onfra1=https://192.168.111.202:2380,onfra2=https://192.168.111.203:2380,onfra3=https://192.168.111.204:2380 \
    --initial-cluster-token=etcd-cluster \
    --initial-cluster-state=existing \
    --data-dir=/etcd-data
#@ stays
#@ refused member count is unequal
#@ says member add onfra3
#@ step 201 Announce the member
ETCDCTL_API=2 etcdctl --ca-file=./etcd-ca.pem --key-file=./etcd-client-key.pem --cert-file=./etcd-client.pem --endpoints https://192.168.111.201:2379 member add onfra3 https://192.168.111.204:2380
#@ again
#@ note within five seconds of its start, a member refuses changes of members: it does not know yet that the others stay
#@ says Added member named onfra3 with ID … to cluster
#@ says ETCD_NAME="onfra3"
#@ says onfra3=https://192.168.111.204:2380
#@ says ETCD_INITIAL_CLUSTER_STATE="existing"
#@ step 204 Start the member
etcd --name=onfra3 \
    --listen-client-urls=https://0.0.0.0:2379 \
    --listen-peer-urls=https://0.0.0.0:2380 \
    --advertise-client-urls=https://192.168.111.204:2379 \
    --initial-advertise-peer-urls=https://192.168.111.204:2380 \
    --client-cert-auth \
    --peer-client-cert-auth \
    --auto-tls \
    --peer-auto-tls \
    --cert-file=/certs/etcd-server2.pem \
    --key-file=/certs/etcd-server2-key.pem \
    --trusted-ca-file=/certs/etcd-ca.pem \
    --peer-cert-file=/certs/etcd-server2.pem \
    --peer-key-file=/certs/etcd-server2-key.pem \
    --peer-trusted-ca-file=/certs/etcd-ca.pem \
    --initial-cluster=onfra0=https://192.168.111.201:2380,onfra1=https://192.168.111.202:2380,onfra2=https://192.168.111.203:2380,onfra3=https://192.168.111.204:2380 \
    --initial-cluster-token=etcd-cluster \
    --initial-cluster-state=existing \
    --data-dir=/etcd-data
#@ stays
#@ log ready to serve client requests
#@ step 201 List members
ETCDCTL_API=2 etcdctl --ca-file=./etcd-ca.pem --key-file=./etcd-client-key.pem --cert-file=./etcd-client.pem --endpoints https://192.168.111.201:2379 member list
#@ again
#@ says 22f69347520bc065: name=onfra0 peerURLs=https://192.168.111.201:2380 clientURLs=https://192.168.111.201:2379 isLeader=
#@ says 31f594e98f861eb7: name=onfra1 peerURLs=https://192.168.111.202:2380 clientURLs=https://192.168.111.202:2379 isLeader=
#@ says 54e5fbcfbe557469: name=onfra2 peerURLs=https://192.168.111.203:2380 clientURLs=https://192.168.111.203:2379 isLeader=
#@ says name=onfra3 peerURLs=https://192.168.111.204:2380 clientURLs=https://192.168.111.204:2379 isLeader=false
