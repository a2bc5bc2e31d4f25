# Notes on etcd 3.2 and 3.3: what its flags mean, a static cluster, members that come and go, a lost majority, certificates.
# The text mostly tells and shows single flags and lines. Markers (`#@`) are explained in README.md.
#@ tutorial 004: notes on flags, members and certificates (etcd 3.2)
#@ machine infra0 10.0.1.10
#@ machine infra1 10.0.1.11
#@ machine infra2 10.0.1.12
#@ machine infra3 10.0.1.13
#@ installed

#@ part Flags
#@ step infra0 The flags about the cluster, and no others
#@ written --initial-cluster infra0=http://10.0.1.10:2380,... --listen-client-urls ... --initial-cluster-token etcd-cluster-1 --advertise-client-urls ...
etcd --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380 \
    --listen-client-urls http://10.0.1.10:2379,http://127.0.0.1:2379 \
    --initial-cluster-token etcd-cluster-1 \
    --advertise-client-urls http://10.0.1.10:2379
#@ stays
#@ refused couldn't find local name …default… in the initial cluster configuration
#@ says --name is not among the names in --initial-cluster. Next: compare the two
#@ step infra0 With a name
#@ mended the name that is missed
etcd --name infra0 --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380 \
    --listen-client-urls http://10.0.1.10:2379,http://127.0.0.1:2379 \
    --initial-cluster-token etcd-cluster-1 \
    --advertise-client-urls http://10.0.1.10:2379
#@ stays
#@ refused --initial-cluster has infra0=http://10.0.1.10:2380 but missing from --initial-advertise-peer-urls=http://localhost:2380
#@ says this member advertises other peer URLs than --initial-cluster gives it. Next: make both the same
#@ note as the text says: they have to match

#@ part A static cluster
#@ step infra0,infra1,infra2 By variables
# env
ETCD_INITIAL_CLUSTER="infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380"
ETCD_INITIAL_CLUSTER_STATE=new
#@ step infra0,infra1,infra2 Pass them on
#@ mended a shell keeps variables to itself
export ETCD_INITIAL_CLUSTER ETCD_INITIAL_CLUSTER_STATE
#@ step infra0 Start the member
etcd --name infra0 \
    --initial-advertise-peer-urls http://10.0.1.10:2380 \
    --listen-peer-urls http://10.0.1.10:2380 \
    --listen-client-urls http://10.0.1.10:2379,http://127.0.0.1:2379 \
    --advertise-client-urls http://10.0.1.10:2379 \
    --initial-cluster-token etcd-cluster-1
#@ stays
#@ mended the name and the addresses of each member, which the text leaves to the reader
#@ step infra1 Start the member
etcd --name infra1 \
    --initial-advertise-peer-urls http://10.0.1.11:2380 \
    --listen-peer-urls http://10.0.1.11:2380 \
    --listen-client-urls http://10.0.1.11:2379,http://127.0.0.1:2379 \
    --advertise-client-urls http://10.0.1.11:2379 \
    --initial-cluster-token etcd-cluster-1
#@ stays
#@ mended the name and the addresses of each member, which the text leaves to the reader
#@ step infra2 Start the member
etcd --name infra2 \
    --initial-advertise-peer-urls http://10.0.1.12:2380 \
    --listen-peer-urls http://10.0.1.12:2380 \
    --listen-client-urls http://10.0.1.12:2379,http://127.0.0.1:2379 \
    --advertise-client-urls http://10.0.1.12:2379 \
    --initial-cluster-token etcd-cluster-1
#@ stays
#@ mended the name and the addresses of each member, which the text leaves to the reader
#@ log infra0: ready to serve client requests
#@ log infra1: ready to serve client requests
#@ log infra2: ready to serve client requests
#@ interrupt infra0
#@ interrupt infra1
#@ interrupt infra2
#@ step infra0 By the command line
#@ written --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380 --initial-cluster-state new
etcd --name infra0 \
    --initial-advertise-peer-urls http://10.0.1.10:2380 \
    --listen-peer-urls http://10.0.1.10:2380 \
    --listen-client-urls http://10.0.1.10:2379,http://127.0.0.1:2379 \
    --advertise-client-urls http://10.0.1.10:2379 \
    --initial-cluster-token etcd-cluster-1 \
    --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380 \
    --initial-cluster-state new
#@ stays
#@ refused conflicting environment variable is shadowed by corresponding command-line flag
#@ note the text has one or the other
#@ step infra0,infra1,infra2 Without the variables
#@ mended what the answer says
unset ETCD_INITIAL_CLUSTER ETCD_INITIAL_CLUSTER_STATE
#@ step infra0 By the command line
etcd --name infra0 \
    --initial-advertise-peer-urls http://10.0.1.10:2380 \
    --listen-peer-urls http://10.0.1.10:2380 \
    --listen-client-urls http://10.0.1.10:2379,http://127.0.0.1:2379 \
    --advertise-client-urls http://10.0.1.10:2379 \
    --initial-cluster-token etcd-cluster-1 \
    --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380 \
    --initial-cluster-state new
#@ stays
#@ mended the name and the addresses of each member, which the text leaves to the reader
#@ step infra1 By the command line
etcd --name infra1 \
    --initial-advertise-peer-urls http://10.0.1.11:2380 \
    --listen-peer-urls http://10.0.1.11:2380 \
    --listen-client-urls http://10.0.1.11:2379,http://127.0.0.1:2379 \
    --advertise-client-urls http://10.0.1.11:2379 \
    --initial-cluster-token etcd-cluster-1 \
    --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380 \
    --initial-cluster-state new
#@ stays
#@ mended the name and the addresses of each member, which the text leaves to the reader
#@ step infra2 By the command line
etcd --name infra2 \
    --initial-advertise-peer-urls http://10.0.1.12:2380 \
    --listen-peer-urls http://10.0.1.12:2380 \
    --listen-client-urls http://10.0.1.12:2379,http://127.0.0.1:2379 \
    --advertise-client-urls http://10.0.1.12:2379 \
    --initial-cluster-token etcd-cluster-1 \
    --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380 \
    --initial-cluster-state new
#@ stays
#@ mended the name and the addresses of each member, which the text leaves to the reader
#@ log infra0: ready to serve client requests
#@ log infra1: ready to serve client requests
#@ log infra2: ready to serve client requests
#@ step infra0 A key, to be found again
#@ mended to see what becomes of the data
etcdctl --endpoints=http://10.0.1.10:2379 put k before

#@ part Members that come and go
#@ step infra3 A member that nobody announced
#@ mended the text tells that the cluster does not take it
etcd --name infra3 \
    --initial-advertise-peer-urls http://10.0.1.13:2380 \
    --listen-peer-urls http://10.0.1.13:2380 \
    --listen-client-urls http://10.0.1.13:2379,http://127.0.0.1:2379 \
    --advertise-client-urls http://10.0.1.13:2379 \
    --initial-cluster-token etcd-cluster-1 \
    --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380,infra3=http://10.0.1.13:2380 \
    --initial-cluster-state existing
#@ stays
#@ refused member count is unequal
#@ says is not in cluster …; run `etcdctl --endpoints=http://10.0.1.1…:2379 member add infra3 --peer-urls=http://10.0.1.13:2380`, then start it with --initial-cluster-state=existing and --initial-cluster=
#@ step infra0 A member like one that is there
#@ mended the text tells that it is refused at once, without harm to the cluster
etcdctl --endpoints=http://10.0.1.10:2379 member add infra3 --peer-urls=http://10.0.1.11:2380
#@ again
#@ refused Peer URLs already exists
#@ note within the first five seconds of a connection: `unhealthy cluster`, as in etcd
#@ step infra0 First phase: tell the cluster
#@ mended the text tells of it
etcdctl --endpoints=http://10.0.1.10:2379 member add infra3 --peer-urls=http://10.0.1.13:2380
#@ again
#@ says ETCD_INITIAL_CLUSTER_STATE="existing"
#@ step infra3 Second phase: start the member
#@ mended the text tells of it
etcd --name infra3 \
    --initial-advertise-peer-urls http://10.0.1.13:2380 \
    --listen-peer-urls http://10.0.1.13:2380 \
    --listen-client-urls http://10.0.1.13:2379,http://127.0.0.1:2379 \
    --advertise-client-urls http://10.0.1.13:2379 \
    --initial-cluster-token etcd-cluster-1 \
    --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380,infra3=http://10.0.1.13:2380 \
    --initial-cluster-state existing
#@ stays
#@ log ready to serve client requests
#@ step infra3 The key is there
#@ mended to see whether it has joined
etcdctl get k
#@ says before
#@ step infra0 Remove the member
#@ mended the text tells of it
etcdctl --endpoints=http://10.0.1.10:2379 member remove $(etcdctl --endpoints=http://10.0.1.10:2379 member list | grep http://10.0.1.13:2380 | cut -d, -f1)
#@ says removed from cluster
#@ log infra3: the member has been permanently removed from the cluster
#@ log infra3: closed etcd server
#@ step infra3 Start it once more, as systemd would
#@ mended the text tells of it
etcd --name infra3 \
    --initial-advertise-peer-urls http://10.0.1.13:2380 \
    --listen-peer-urls http://10.0.1.13:2380 \
    --listen-client-urls http://10.0.1.13:2379,http://127.0.0.1:2379 \
    --advertise-client-urls http://10.0.1.13:2379 \
    --initial-cluster-token etcd-cluster-1 \
    --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380,infra3=http://10.0.1.13:2380 \
    --initial-cluster-state existing
#@ says the member has been permanently removed from the cluster
#@ again
#@ says data-dir used by this member must be removed
#@ says To let it join again: move its data directory away, `etcdctl member add NAME --peer-urls=URL`
#@ note it ends well, so that systemd does not start it again and again

#@ part A majority that is lost for ever
#@ interrupt infra1
#@ interrupt infra2
#@ step infra0 A write
#@ mended the text tells that there is none
etcdctl --endpoints=http://10.0.1.10:2379 --command-timeout=4s put k after
#@ refused Error: …
#@ interrupt infra0
#@ step infra0 A new cluster from the old data directory
#@ mended the text tells of it, and not how
etcd --name infra0 \
    --initial-advertise-peer-urls http://10.0.1.10:2380 \
    --listen-peer-urls http://10.0.1.10:2380 \
    --listen-client-urls http://10.0.1.10:2379,http://127.0.0.1:2379 \
    --advertise-client-urls http://10.0.1.10:2379 \
    --initial-cluster-token etcd-cluster-1 --force-new-cluster
#@ stays
#@ log ready to serve client requests
#@ step infra0 It is alone, and has the key
#@ mended to see what became of the data
etcdctl --endpoints=http://10.0.1.10:2379 member list
etcdctl --endpoints=http://10.0.1.10:2379 get k
etcdctl --endpoints=http://10.0.1.10:2379 put k after
#@ again
#@ says infra0, http://10.0.1.10:2380, http://10.0.1.10:2379
#@ says before
#@ hides infra1
#@ says OK
#@ interrupt infra0

#@ part Certificates
#@ step infra0 Keep the defaults of cfssl
# 保存默认配置
mkdir ~/cfssl
cd ~/cfssl
cfssl print-defaults config > ca-config.json
cfssl print-defaults csr > ca-csr.json
#@ step infra0 An authority, a server, a client, under the names of the text's flags
#@ mended the text leaves it to a page that it links to
sed 's/example.net/server/' ca-csr.json > server-csr.json
sed 's/example.net/client/' ca-csr.json > client-csr.json
cfssl gencert -initca ca-csr.json | cfssljson -bare ca
cfssl gencert -ca=ca.pem -ca-key=ca-key.pem -config=ca-config.json -profile=www -hostname=127.0.0.1,10.0.1.10 server-csr.json | cfssljson -bare server
cfssl gencert -ca=ca.pem -ca-key=ca-key.pem -config=ca-config.json -profile=client -hostname= client-csr.json | cfssljson -bare client
mkdir -p /path/to
cp ca.pem /path/to/ca.crt
cp server.pem /path/to/server.crt
cp server-key.pem /path/to/server.key
cp client.pem /path/to/client.crt
cp client-key.pem /path/to/client.key
#@ step infra0 A server with a certificate
etcd --cert-file=/path/to/server.crt \
    --key-file=/path/to/server.key
#@ stays
#@ log scheme is http or unix while key and cert files are present; ignoring key and cert files
#@ log ready to serve client requests
#@ step infra0 A key in version 2 of the API
curl --cacert /path/to/ca.crt https://127.0.0.1:2379/v2/keys/foo -XPUT -d value=bar -v
#@ refused SSL
#@ log a client speaks TLS to a port that speaks plain HTTP. Next: use http:// in its endpoints, or start this member with --listen-client-urls=https://
#@ note the two flags alone leave the URL http://localhost:2379, as in etcd
#@ interrupt infra0
#@ step infra0 A server that speaks TLS
#@ mended what the log says
etcd --cert-file=/path/to/server.crt \
    --key-file=/path/to/server.key \
    --listen-client-urls=https://127.0.0.1:2379 --advertise-client-urls=https://127.0.0.1:2379
#@ stays
#@ log ready to serve client requests
#@ step infra0 A key in version 2 of the API
curl --cacert /path/to/ca.crt https://127.0.0.1:2379/v2/keys/foo -XPUT -d value=bar -v
#@ says 404 page not found: the API of etcd 2 is not served here; start every member with --enable-v2
#@ note a refusal, though curl ends well
#@ interrupt infra0
#@ step infra0 A server with version 2 of the API
#@ mended what the answer says
etcd --cert-file=/path/to/server.crt \
    --key-file=/path/to/server.key \
    --listen-client-urls=https://127.0.0.1:2379 --advertise-client-urls=https://127.0.0.1:2379 --enable-v2
#@ stays
#@ log ready to serve client requests
#@ step infra0 A key in version 2 of the API
curl --cacert /path/to/ca.crt https://127.0.0.1:2379/v2/keys/foo -XPUT -d value=bar -v
#@ says 201
#@ says "action":"set","node":{"key":"/foo","value":"bar"
#@ interrupt infra0
#@ step infra0 Only clients with a certificate
#@ written --client-cert-auth --trusted-ca-file=<path>
etcd --client-cert-auth --trusted-ca-file=/path/to/ca.crt \
    --cert-file=/path/to/server.crt \
    --key-file=/path/to/server.key \
    --listen-client-urls=https://127.0.0.1:2379 --advertise-client-urls=https://127.0.0.1:2379 --enable-v2
#@ stays
#@ log ready to serve client requests
#@ step infra0 A client without one
curl --cacert /path/to/ca.crt https://127.0.0.1:2379/v2/keys/foo -XPUT -d value=bar -v
#@ refused curl: (…)
#@ log a client connects without a certificate, and this member demands one (--client-cert-auth)
#@ step infra0 A client with one
#@ written curl --cacert /path/to/ca.crt --cert /path/to/client.crt --key /path/to/client.key
#@ note with the URL of the line before
curl --cacert /path/to/ca.crt --cert /path/to/client.crt --key /path/to/client.key https://127.0.0.1:2379/v2/keys/foo -XPUT -d value=bar -v
#@ says "action":"set","node":{"key":"/foo","value":"bar"
#@ says "prevNode":{"key":"/foo","value":"bar"
#@ interrupt infra0
#@ step infra0 A certificate for other members, without its key
#@ written --peer-cert-file=<path>
etcd --peer-cert-file=/path/to/server.crt --listen-peer-urls=https://127.0.0.1:2380 --initial-advertise-peer-urls=https://127.0.0.1:2380 --initial-cluster=default=https://127.0.0.1:2380
#@ stays
#@ refused KeyFile and CertFile must both be present
