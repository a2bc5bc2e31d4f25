#@ tutorial try
#@ machine a 192.168.111.201
#@ machine b 192.168.111.202
#@ env ETCDCTL_API=2 Because
#@ part one
#@ step a,b install
yum install -y etcd
sed -i 's|^ExecStart=.*|ExecStart=/usr/bin/etcd|' /usr/lib/systemd/system/etcd.service
#@ step a start
systemctl start etcd && systemctl enable etcd
#@ step a ok
etcdctl cluster-health
#@ says is healthy
#@ step a cp
mkdir /zz && cd /zz
touch aa ab
export X=1
#@ step a cp -r
echo $X `pwd`
scp /zz root@192.168.111.202:/
#@ refused not a regular file
#@ step b cp -r
scp root@192.168.111.201:/zz/a* /root/
ls /root/aa /root/ab
#@ step b not
X=2 journalctl -u etcd
etcdctl member list
#@ refused connection refused
#@ step a stop
systemctl stop etcd
#@ step a again
X=5 etcd --enable-v2
#@ stays
#@ log ready to serve
#@ interrupt a
#@ step b wget
wget https://github.com/coreos/etcd/releases/download/v3.1.6/etcd-v3.1.6-linux-amd64.tar.gz
tar xf etcd-v3.1.6-linux-amd64.tar.gz
./etcd-v3.1.6-linux-amd64/etcd --version
