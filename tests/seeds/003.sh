# etcd 3.5, March 2022: a cluster of three by configuration files and a unit, with one certificate for all, and what to do
# when a member "has already been bootstrapped". Markers (`#@`) are explained in README.md.
#@ tutorial 003: a cluster by configuration files (etcd 3.5)
#@ machine etcd-1 192.168.66.31
#@ machine etcd-2 192.168.66.41
#@ machine etcd-3 192.168.66.42

#@ part Programs
#@ step etcd-1 A folder for everything
mkdir /opt/etcd
mkdir /opt/etcd/{bin,cfg,ssl,data,wal} –p
#@ note the dash before p is a long one, so mkdir makes a folder of that name, too
#@ step etcd-1 Fetch etcd
wget -c https://github.com/etcd-io/etcd/releases/download/v3.5.0/etcd-v3.5.0-linux-amd64.tar.gz
#@ step etcd-1 Unpack it
tar -zxf etcd-v3.5.0-linux-amd64.tar.gz -C etcd-v3.5.0
#@ refused etcd-v3.5.0: Cannot open: No such file or directory
#@ note tar's own words: it makes no folder for -C
#@ step etcd-1 Unpack it
#@ mended the folder that tar asks for, and without the archive's own folder, since the next lines expect none
mkdir etcd-v3.5.0
tar -zxf etcd-v3.5.0-linux-amd64.tar.gz -C etcd-v3.5.0 --strip-components=1
#@ step etcd-1 Put the programs into the folder
cd etcd-v3.5.0
mv ./{etcd,etcdctl,etcdutl} /opt/etcd/bin/
#@ step etcd-1 Make the shell find them
vi /etc/profile
#@ left an editor
#@ step etcd-1 Make the shell find them
#@ mended what is to be written there
export PATH=/opt/etcd/bin:$PATH

#@ part Certificates
#@ step etcd-1 Fetch cfssl
curl -L https://github.com/cloudflare/cfssl/releases/download/v1.5.0/cfssl_1.5.0_linux_amd64 -o cfssl
chmod +x cfssl
curl -L https://github.com/cloudflare/cfssl/releases/download/v1.5.0/cfssljson_1.5.0_linux_amd64 -o cfssljson
chmod +x cfssljson
curl -L https://github.com/cloudflare/cfssl/releases/download/v1.5.0/cfssl-certinfo_1.5.0_linux_amd64 -o cfssl-certinfo
chmod +x cfssl-certinfo
mv {cfssl,cfssljson,cfssl-certinfo} /usr/local/bin
#@ step etcd-1 Go to the folder
#@ mended the prompts of the text show it
cd /opt/etcd
#@ step etcd-1 The authority's profile
cat > ca-config.json<< EOF 
{
    "signing":{
        "default":{
            "expiry":"87600h"
        },
        "profiles":{
            "kubernetes":{
                "expiry":"87600h",
                "usages":[
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
#@ step etcd-1 What the authority asks for
cat > ca-csr.json<< EOF 
{
    "CN":"etcd CA",
    "key":{
        "algo":"rsa",
        "size":2048
    },
    "names":[
        {
            "C":"CN",
            "L":"Beijing",
            "ST":"Beijing"
        }
    ]
}
EOF
#@ step etcd-1 The authority
cfssl gencert -initca ca-csr.json | cfssljson -bare ca
#@ step etcd-1 What the members ask for
cat > etcd-csr.json<< EOF
{
    "CN":"etcd",
    "hosts":[
        "192.168.66.31",
        "192.168.66.41",
        "192.168.66.42"
    ],
    "key":{
        "algo":"rsa",
        "size":2048
    },
    "names":[
        {
            "C":"CN",
            "L":"BeiJing",
            "ST":"BeiJing"
        }
    ]
}
EOF
#@ step etcd-1 One certificate for all members
cfssl gencert -ca=ca.pem -ca-key=ca-key.pem -config=ca-config.json -profile=kubernetes etcd-csr.json | cfssljson -bare etcd
#@ step etcd-1 Put the files into their folder
mv {ca.pem , etcd-key.pem , etcd.pem} /opt/etcd/ssl
#@ refused cannot stat '{ca.pem'
#@ note mv's own words: with blanks the braces are no list, and only the key is moved. The rest is missed when a member starts

#@ part Configuration files
#@ step etcd-1 Write the file
#@ written vi /opt/etcd/cfg/etcd.yml
#@ note the file has the text's lines, with all of its keys
cat > cfg/etcd.yml << 'EOF'
name: "etcd-1"
data-dir: "/opt/etcd/data"
wal-dir: "/opt/etcd/wal"
# 触发磁盘快照的已提交事务数。
snapshot-count: 10000
# 心跳
heartbeat-interval: 100
# 选举超时的时间(毫秒)。
election-timeout: 1000
# 当后端大小超过给定的配额时发出告警。0表示使用默认配额。
quota-backend-bytes: 0
# 用于侦听对等流量的逗号分隔的url列表。
listen-peer-urls: https://192.168.66.31:2380
# 用于侦听客户机通信的逗号分隔的url列表。
listen-client-urls: https://192.168.66.31:2379
# 快照文件保留的最大数量(0为无限制)。
max-snapshots: 5
# 保留wal文件的最大数量(0是无限的)。
max-wals: 5
# 用于CORS(跨源资源共享)的逗号分隔的源白列表。
#cors:

# 这个成员的对等url的列表，以通告给集群的其他成员。url需要是逗号分隔的列表。
initial-advertise-peer-urls: https://192.168.66.31:2380
#这个成员的对等url的列表，以通告给集群的其他成员。url需要是逗号分隔的列表。
advertise-client-urls: https://192.168.66.31:2379

# 后面做keepalived haproxy vip
discovery: ''
# Valid values include 'exit', 'proxy'
discovery-fallback: 'proxy'
# HTTP proxy to use for traffic to discovery service.
discovery-proxy: ''
# DNS domain used to bootstrap initial cluster.
discovery-srv: ''
# Initial cluster configuration for bootstrapping.
initial-cluster: 'etcd-1=https://192.168.66.31:2380,etcd-2=https://192.168.66.41:2380,etcd-3=https://192.168.66.42:2380'
# Initial cluster token for the etcd cluster during bootstrap.
initial-cluster-token: 'etcd-cluster'
# Initial cluster state ('new' or 'existing').
initial-cluster-state: 'new'

# 拒绝可能导致仲裁丢失的重新配置请求。
strict-reconfig-check: false

# 通过HTTP服务器启用运行时分析数据
enable-pprof: true

# Valid values include 'on', 'readonly', 'off'
proxy: 'off'

# Time (in milliseconds) an endpoint will be held in a failed state.
proxy-failure-wait: 5000

# Time (in milliseconds) of the endpoints refresh interval.
proxy-refresh-interval: 30000

# Time (in milliseconds) for a dial to timeout.
proxy-dial-timeout: 1000

# Time (in milliseconds) for a write to timeout.
proxy-write-timeout: 5000

# Time (in milliseconds) for a read to timeout.
proxy-read-timeout: 0

client-transport-security:
  # Path to the client server TLS cert file.
  cert-file: /opt/etcd/ssl/etcd.pem

  # Path to the client server TLS key file.
  key-file: /opt/etcd/ssl/etcd-key.pem

  # Enable client cert authentication.
  client-cert-auth: false

  # Path to the client server TLS trusted CA cert file.
  trusted-ca-file: /opt/etcd/ssl/ca.pem

  # Client TLS using generated certificates
  auto-tls: false

peer-transport-security:
  # Path to the peer server TLS cert file.
  cert-file: /opt/etcd/ssl/etcd.pem

  # Path to the peer server TLS key file.
  key-file: /opt/etcd/ssl/etcd-key.pem

  # Enable peer client cert authentication.
  client-cert-auth: false

  # Path to the peer server TLS trusted CA cert file.
  trusted-ca-file: /opt/etcd/ssl/ca.pem

  # Peer TLS using generated certificates.
  auto-tls: false

# The validity period of the self-signed certificate, the unit is year.
self-signed-cert-validity: 1

# Enable debug-level logging for etcd.
log-level: info

logger: zap

# Specify 'stdout' or 'stderr' to skip journald logging even when running under systemd.
log-outputs: [stderr]

# Force to create a new one member cluster.
force-new-cluster: false

auto-compaction-mode: periodic
auto-compaction-retention: "1"
EOF

#@ part The unit
#@ step etcd-1 Write it
cat > etcd.service << EOF 
[Unit] 
Description=Etcd Server 
After=network.target 
After=network-online.target 
Wants=network-online.target 
[Service] 
Type=notify 
ExecStart=/opt/etcd/bin/etcd  --config-file /opt/etcd/cfg/etcd.yml 
Restart=on-failure 
LimitNOFILE=65536 
[Install] 
WantedBy=multi-user.target 
EOF
#@ step etcd-1 Put it where systemd looks
cp etcd.service /etc/systemd/system/
#@ step etcd-1 Look at the folder
pwd
ls -l
#@ says /opt/etcd
#@ says etcd.service

#@ part The other machines
#@ step etcd-1 Copy the folder to etcd-2
scp /opt/etcd root@192.168.66.41:/opt/
#@ refused /opt/etcd: not a regular file
#@ note scp's own words: it copies folders only with `-r`
#@ step etcd-1 Copy the folder to etcd-3
scp /opt/etcd root@192.168.66.42:/opt/
#@ refused /opt/etcd: not a regular file
#@ note scp's own words: it copies folders only with `-r`
#@ step etcd-1 Copy the folder to both
#@ mended what scp asks for
scp -r /opt/etcd root@192.168.66.41:/opt/
scp -r /opt/etcd root@192.168.66.42:/opt/
#@ step etcd-2,etcd-3 Put the unit where systemd looks
#@ written cp etcd.service /etc/systemd/system/
#@ note in the folder that was copied
cd /opt/etcd
cp etcd.service /etc/systemd/system/
#@ step etcd-2 Its own lines in the file
#@ written vi /opt/etcd/cfg/etcd.yml
cd /opt/etcd/cfg
cat > own.yml << 'EOF'
name: "etcd-2"
listen-peer-urls: https://192.168.66.41:2380
# 用于侦听客户机通信的逗号分隔的url列表。
listen-client-urls: https://192.168.66.41:2379
# 这个成员的对等url的列表，以通告给集群的其他成员。url需要是逗号分隔的列表。
initial-advertise-peer-urls: https://192.168.66.41:2380
#这个成员的对等url的列表，以通告给集群的其他成员。url需要是逗号分隔的列表。
advertise-client-urls: https://192.168.66.41:2379
EOF
sed -i -E '/^(name|listen-peer-urls|listen-client-urls|initial-advertise-peer-urls|advertise-client-urls):/d' etcd.yml
cat own.yml >> etcd.yml
cd /opt/etcd
#@ step etcd-3 Its own lines in the file
#@ written vi /opt/etcd/cfg/etcd.yml
#@ note the lines of the text are once more those of etcd-2
cd /opt/etcd/cfg
cat > own.yml << 'EOF'
name: "etcd-2"
listen-peer-urls: https://192.168.66.41:2380
# 用于侦听客户机通信的逗号分隔的url列表。
listen-client-urls: https://192.168.66.41:2379
# 这个成员的对等url的列表，以通告给集群的其他成员。url需要是逗号分隔的列表。
initial-advertise-peer-urls: https://192.168.66.41:2380
#这个成员的对等url的列表，以通告给集群的其他成员。url需要是逗号分隔的列表。
advertise-client-urls: https://192.168.66.41:2379
EOF
sed -i -E '/^(name|listen-peer-urls|listen-client-urls|initial-advertise-peer-urls|advertise-client-urls):/d' etcd.yml
cat own.yml >> etcd.yml
cd /opt/etcd

#@ part Start
#@ step etcd-1,etcd-2,etcd-3 Start the members
systemctl start etcd
#@ refused Job for etcd.service failed
#@ log open /opt/etcd/ssl/etcd.pem: no such file or directory
#@ log a file of --peer-cert-file, --peer-key-file or --peer-trusted-ca-file is not there. Next: `ls -l` the path
#@ step etcd-1,etcd-2,etcd-3 Put the files into their folder
#@ mended the files that are missed; they were copied with the rest
cd /opt/etcd
mv ca.pem etcd.pem ssl/
#@ step etcd-1,etcd-2 Start the members
#@ mended the line of the text again
systemctl start etcd
#@ log the configuration file is ignored…discovery-fallback
#@ log flag is of an earlier etcd release and has no effect any more…--proxy
#@ log --enable-pprof has little effect
#@ step etcd-3 Start the member
#@ mended the line of the text again
systemctl start etcd
#@ refused Job for etcd.service failed
#@ log listen tcp 192.168.66.41:2380: bind: cannot assign requested address
#@ log this machine does not have the address that it is to listen on: most often the file or unit is a copy of another member's
#@ step etcd-3 Its own lines in the file
#@ mended the address that is missed, and the name with it
sed -i 's/etcd-2"/etcd-3"/; s/^\(listen\|initial-advertise\|advertise\)\(.*\)192.168.66.41/\1\2192.168.66.42/' cfg/etcd.yml
#@ step etcd-3 Start the member
#@ mended the line of the text again
systemctl start etcd

#@ part The cluster
#@ step etcd-1 Ask each member
etcdctl --cacert=/opt/etcd/ssl/ca.pem --cert=/opt/etcd/ssl/etcd.pem --key=/opt/etcd/ssl/etcd-key.pem --endpoints="https://192.168.66.31:2379,https://192.168.66.41:2379,https://192.168.66.42:2379" endpoint status --write-out=table
#@ again
#@ says https://192.168.66.31:2379 | 8961c893d708fd8f |   3.7
#@ says https://192.168.66.41:2379 | 88eb32d1ec3138d7 |   3.7
#@ says https://192.168.66.42:2379 | 6b189ebc663f0f38 |   3.7
#@ says |      true |      false |
#@ note the ids of the text belong to other addresses
#@ step etcd-1 A key, to be found again
#@ mended to see what becomes of the data
etcdctl --cacert=/opt/etcd/ssl/ca.pem --cert=/opt/etcd/ssl/etcd.pem --key=/opt/etcd/ssl/etcd-key.pem --endpoints=https://192.168.66.31:2379 put k before

#@ part When a member has already been bootstrapped
#@ step etcd-3 A member loses its data
#@ mended the text does not tell how it came to this
systemctl stop etcd
rm -rf /opt/etcd/data/* /opt/etcd/wal/*
#@ step etcd-3 Start the member
systemctl start etcd
#@ refused Job for etcd.service failed
#@ log member 6b189ebc663f0f38 has already been bootstrapped
#@ log 6b189ebc663f0f38 (etcd-3, https://192.168.66.42:2380)…comes without its data; start it with the --data-dir it had, or run
#@ note the first answer is etcd's and the text's, the second says what to do
#@ step etcd-3 First way: the state is existing
#@ written --initial-cluster-state=existing
#@ note in the file, which counts alone. In etcd 3.5 to 3.7 the member ends in a panic here, as the leader sends it a log without a begin
sed -i "s/^initial-cluster-state: 'new'/initial-cluster-state: 'existing'/" cfg/etcd.yml
systemctl start etcd
#@ refused Job for etcd.service failed
#@ log has been part of cluster 31570e39b7e644a2 before and comes without its data, so it could vote twice
#@ log etcdctl --endpoints=https://192.168.66.…:2379 member remove 6b189ebc663f0f38` and `etcdctl…member add etcd-3 --peer-urls=https://192.168.66.42:2380`
#@ step etcd-1 Remove the member, and add it again
#@ mended what the answer says
etcdctl --cacert=/opt/etcd/ssl/ca.pem --cert=/opt/etcd/ssl/etcd.pem --key=/opt/etcd/ssl/etcd-key.pem --endpoints=https://192.168.66.31:2379 member remove 6b189ebc663f0f38
etcdctl --cacert=/opt/etcd/ssl/ca.pem --cert=/opt/etcd/ssl/etcd.pem --key=/opt/etcd/ssl/etcd-key.pem --endpoints=https://192.168.66.31:2379 member add etcd-3 --peer-urls=https://192.168.66.42:2380
#@ says ETCD_INITIAL_CLUSTER_STATE="existing"
#@ step etcd-3 Start the member
systemctl start etcd
#@ mended the line of the text again
#@ step etcd-3 The key is there
#@ mended to see what became of the data
/opt/etcd/bin/etcdctl --cacert=/opt/etcd/ssl/ca.pem --cert=/opt/etcd/ssl/etcd.pem --key=/opt/etcd/ssl/etcd-key.pem --endpoints=https://192.168.66.42:2379 get k
#@ says before
#@ step etcd-1,etcd-2,etcd-3 Second way, the folders kept: restart all
systemctl restart etcd
#@ note the text: "or do not delete them"
#@ step etcd-1 The key is there
#@ mended to see what became of the data
etcdctl --cacert=/opt/etcd/ssl/ca.pem --cert=/opt/etcd/ssl/etcd.pem --key=/opt/etcd/ssl/etcd-key.pem --endpoints=https://192.168.66.31:2379 get k
#@ again
#@ says before
#@ step etcd-1,etcd-2,etcd-3 Second way: delete the data folders, restart all
#@ written rm -rf /opt/etcd/data/*
rm -rf /opt/etcd/data/*
systemctl restart etcd
#@ step etcd-1 The key is there
#@ mended to see what became of the data
etcdctl --cacert=/opt/etcd/ssl/ca.pem --cert=/opt/etcd/ssl/etcd.pem --key=/opt/etcd/ssl/etcd-key.pem --endpoints=https://192.168.66.31:2379 get k
#@ again
#@ says before
#@ note the log has a folder of its own, so nothing was lost
#@ step etcd-1,etcd-2,etcd-3 Second way, with the logs: stop all
#@ mended whoever starts before the last one has stopped is still told of the old cluster
systemctl stop etcd
#@ step etcd-1,etcd-2,etcd-3 Second way, with the logs: start all
#@ mended both folders, and the state new on all: then it is another cluster, and empty
rm -rf /opt/etcd/data/* /opt/etcd/wal/*
sed -i "s/^initial-cluster-state: 'existing'/initial-cluster-state: 'new'/" cfg/etcd.yml
systemctl start etcd
#@ step etcd-1 The key is gone
#@ mended to see what became of the data
etcdctl --cacert=/opt/etcd/ssl/ca.pem --cert=/opt/etcd/ssl/etcd.pem --key=/opt/etcd/ssl/etcd-key.pem --endpoints=https://192.168.66.31:2379 get k
etcdctl --cacert=/opt/etcd/ssl/ca.pem --cert=/opt/etcd/ssl/etcd.pem --key=/opt/etcd/ssl/etcd-key.pem --endpoints=https://192.168.66.31:2379 put k after
#@ hides before
#@ again
#@ step etcd-1,etcd-2,etcd-3 Third way: nobody runs any more
#@ mended the text does not say what went before
systemctl stop etcd
#@ step etcd-1 Third way: the folder of another member
#@ written scp -r root@192.168.66.41:/opt/etcd/data /opt/etcd/
rm -rf /opt/etcd/data /opt/etcd/wal/*
scp -r root@192.168.66.41:/opt/etcd/data /opt/etcd/
#@ step etcd-1 Third way: by force
#@ written --force-new-cluster
/opt/etcd/bin/etcd --config-file /opt/etcd/cfg/etcd.yml --force-new-cluster
#@ stays
#@ refused and there is no log in /opt/etcd/wal, so it cannot go on; bring the log of the same member there
#@ says flags beside a configuration file have no effect
#@ step etcd-1 The log of the same member, and the force in the file
#@ mended what both answers say
scp -r root@192.168.66.41:/opt/etcd/wal /opt/etcd/
sed -i 's/^force-new-cluster: false/force-new-cluster: true/' cfg/etcd.yml
systemctl start etcd
#@ step etcd-1 It is alone, and has the key
#@ mended to see what became of the data
etcdctl --cacert=/opt/etcd/ssl/ca.pem --cert=/opt/etcd/ssl/etcd.pem --key=/opt/etcd/ssl/etcd-key.pem --endpoints=https://192.168.66.31:2379 member list
etcdctl --cacert=/opt/etcd/ssl/ca.pem --cert=/opt/etcd/ssl/etcd.pem --key=/opt/etcd/ssl/etcd-key.pem --endpoints=https://192.168.66.31:2379 get k
#@ says 88eb32d1ec3138d7, started, etcd-1, https://192.168.66.41:2380, https://192.168.66.31:2379
#@ hides etcd-3
#@ says after
#@ step etcd-1 Its own address
#@ mended it still has the peer URL of the member whose folder it was
etcdctl --cacert=/opt/etcd/ssl/ca.pem --cert=/opt/etcd/ssl/etcd.pem --key=/opt/etcd/ssl/etcd-key.pem --endpoints=https://192.168.66.31:2379 member update 88eb32d1ec3138d7 --peer-urls=https://192.168.66.31:2380
sed -i 's/^force-new-cluster: true/force-new-cluster: false/' cfg/etcd.yml
systemctl restart etcd
#@ step etcd-1 Add the second member
#@ written etcdctl member add
etcdctl --cacert=/opt/etcd/ssl/ca.pem --cert=/opt/etcd/ssl/etcd.pem --key=/opt/etcd/ssl/etcd-key.pem --endpoints=https://192.168.66.31:2379 member add etcd-2 --peer-urls=https://192.168.66.41:2380
#@ again
#@ says ETCD_INITIAL_CLUSTER_STATE="existing"
#@ step etcd-2 Start it on empty folders
#@ mended with the cluster and the state that the answer names
rm -rf /opt/etcd/data/* /opt/etcd/wal/*
sed -i "s/^initial-cluster:.*/initial-cluster: 'etcd-1=https:\/\/192.168.66.31:2380,etcd-2=https:\/\/192.168.66.41:2380'/; s/^initial-cluster-state: 'new'/initial-cluster-state: 'existing'/" cfg/etcd.yml
systemctl start etcd
#@ step etcd-1 Add the third member
#@ written etcdctl member add
etcdctl --cacert=/opt/etcd/ssl/ca.pem --cert=/opt/etcd/ssl/etcd.pem --key=/opt/etcd/ssl/etcd-key.pem --endpoints=https://192.168.66.31:2379 member add etcd-3 --peer-urls=https://192.168.66.42:2380
#@ again
#@ says ETCD_INITIAL_CLUSTER_STATE="existing"
#@ step etcd-3 Start it on empty folders
#@ mended with the cluster and the state that the answer names
rm -rf /opt/etcd/data/* /opt/etcd/wal/*
sed -i "s/^initial-cluster-state: 'new'/initial-cluster-state: 'existing'/" cfg/etcd.yml
systemctl start etcd
#@ step etcd-1 Ask each member
etcdctl --cacert=/opt/etcd/ssl/ca.pem --cert=/opt/etcd/ssl/etcd.pem --key=/opt/etcd/ssl/etcd-key.pem --endpoints="https://192.168.66.31:2379,https://192.168.66.41:2379,https://192.168.66.42:2379" endpoint status --write-out=table
#@ again
#@ says https://192.168.66.31:2379 | 88eb32d1ec3138d7 |
#@ says https://192.168.66.41:2379 |
#@ says https://192.168.66.42:2379 |
#@ step etcd-1 The key is there
#@ mended to see what became of the data
etcdctl --cacert=/opt/etcd/ssl/ca.pem --cert=/opt/etcd/ssl/etcd.pem --key=/opt/etcd/ssl/etcd-key.pem --endpoints=https://192.168.66.42:2379 get k
#@ says after
