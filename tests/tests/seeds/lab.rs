//! The machines of a tutorial.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use retcd_tests::net::{Files, Host, Network};
use retcd_tests::process::{Process, until};
use retcd_tests::{binary, peers, run};
use serde_json::Value;

/// Whose server runs on the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    Go,
    Ours,
    /// Go's on the first, third and so on, ours on the others: with three, Go's have the quorum; with four, half.
    Mixed,
}

/// Four machines, with `etcd`, `etcdctl` and `cfssl` installed.
pub(crate) struct Lab {
    pub(crate) hosts: Vec<Host>,
    servers: Servers,
    /// What etcdctl is given on each machine: flags for certificates.
    pub(crate) ctl_flags: String,
    _network: Network,
}

impl Lab {
    /// None, and says `SKIPPED`, if something is not there that the tutorial needs.
    pub(crate) fn new(subnet: [u8; 3], first: u8, servers: Servers) -> Option<Self> {
        let network = Network::make(&["cfssl", "cfssljson", "openssl"])?;
        let (go, etcdctl) = (peers::go_etcd()?, peers::go_etcdctl()?);
        let [a, b, c] = subnet;
        let hosts = (0..4).map(|n| {
            let host = network.host(&format!("test{}", n + 1), Ipv4Addr::new(a, b, c, first + n), Files::Own);
            let ours = servers == Servers::Ours || servers == Servers::Mixed && n % 2 == 1;
            host.install(&if ours { binary::ours() } else { go.clone() }, "/usr/bin/etcd");
            host.install(&etcdctl, "/usr/bin/etcdctl");
            host
        });
        Some(Self { hosts: hosts.collect(), servers, ctl_flags: String::new(), _network: network })
    }

    /// Whether the machine's server is ours.
    pub(crate) fn ours(&self, host: usize) -> bool {
        self.servers == Servers::Ours || self.servers == Servers::Mixed && host % 2 == 1
    }

    pub(crate) fn address(&self, host: usize) -> Ipv4Addr {
        self.hosts[host].address()
    }

    /// `scp -r from:path to:folder`.
    pub(crate) fn copy(&self, from: usize, paths: &[&str], to: usize, folder: &str) {
        std::fs::create_dir_all(self.hosts[to].path(folder)).expect("a folder");
        let mut cp = Command::new("cp");
        cp.arg("-r").args(paths.iter().map(|p| self.hosts[from].path(p))).arg(self.hosts[to].path(folder));
        run::stdout(&mut cp).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Starts a server by a shell command line that begins with `etcd`.
    pub(crate) fn start(&self, host: usize, command: &str) -> Process {
        Process::start(self.hosts[host].script(&format!("exec {}", command.trim())))
    }

    /// Runs `etcdctl` on a machine.
    pub(crate) fn ctl(&self, host: usize, arguments: &str) -> Result<String, String> {
        // It gives up after five seconds by itself, on a busy machine before the server has answered.
        self.hosts[host].run(&format!("etcdctl --command-timeout=30s {} {arguments}", self.ctl_flags))
    }

    /// Runs `etcdctl` on a machine until it succeeds.
    pub(crate) fn ctl_until(&self, host: usize, arguments: &str) -> String {
        until(arguments, || self.ctl(host, arguments))
    }

    /// Runs `etcdctl` on a machine, which prints JSON.
    pub(crate) fn json(&self, host: usize, arguments: &str) -> Result<Value, String> {
        let text = self.ctl(host, &format!("{arguments} --write-out=json"))?;
        serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))
    }

    /// Waits until a number of members is healthy, seen from one of them.
    pub(crate) fn healthy(&self, host: usize, members: usize) {
        until("health of the cluster", || {
            let health = self.json(host, "endpoint health --cluster")?;
            let healthy = health.as_array().into_iter().flatten().filter(|e| e["health"] == true).count();
            if healthy == members { Ok(()) } else { Err(format!("{healthy} of {members} are healthy: {health}")) }
        });
    }

    /// The members by name, `""` for one that has not started: id and peer URLs.
    pub(crate) fn members(&self, host: usize) -> BTreeMap<String, (String, String)> {
        let list = self.ctl_until(host, "member list --write-out=simple");
        let fields = list.lines().map(|line| line.split(", ").collect::<Vec<_>>());
        fields.map(|f| (f[2].to_owned(), (f[0].to_owned(), f[3].to_owned()))).collect()
    }

    /// The state of each member that answers: its client URL, its id, and the rest. Etcdctl fails if one does not.
    pub(crate) fn status(&self, host: usize) -> Result<Vec<Value>, String> {
        let text =
            self.ctl(host, "endpoint status --cluster --command-timeout=3s --write-out=json 2>/dev/null || true")?;
        serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))
    }

    /// The machine of the leader, once all members that answer agree on it in one term.
    pub(crate) fn leader(&self, host: usize) -> usize {
        until("one leader", || {
            let status = self.status(host)?;
            let said = |field: &str| status.iter().map(|s| s["Status"][field].clone()).collect::<Vec<_>>();
            let leaders = said("leader");
            let agreed = |all: &[Value]| all.windows(2).all(|w| w[0] == w[1]);
            if leaders.is_empty() || !agreed(&leaders) || !agreed(&said("raftTerm")) || leaders[0].is_null() {
                return Err(format!("{status:?}"));
            }
            let leads = |s: &&Value| s["Status"]["header"]["member_id"] == leaders[0];
            let url = status.iter().find(leads).and_then(|s| s["Endpoint"].as_str()).unwrap_or_default();
            let at = |h: &Host| url.contains(&format!("{}:", h.address()));
            self.hosts.iter().position(at).ok_or_else(|| format!("{url:?} leads"))
        })
    }

    /// A key that is put on one machine is there on all of these, for linearizable and for serializable reads.
    pub(crate) fn put_and_get(&self, put_on: usize, get_on: &[usize], key: &str) {
        self.ctl_until(put_on, &format!("put {key} 'value of {key}'"));
        for &host in get_on {
            let get = format!("get {key} --print-value-only");
            assert_eq!(self.ctl_until(host, &get).trim(), format!("value of {key}"), "{key} on machine {host}");
            until(&format!("{key} on machine {host}"), || {
                let found = self.ctl(host, &format!("{get} --consistency=s"))?;
                if found.trim() == format!("value of {key}") { Ok(()) } else { Err(format!("{found:?}")) }
            });
        }
    }

    /// All members have the same history.
    pub(crate) fn same_hash(&self, host: usize, members: usize) {
        until("the same hash everywhere", || {
            let hashes = self.json(host, "endpoint hashkv --cluster")?;
            let hashes: Vec<_> = hashes
                .as_array()
                .into_iter()
                .flatten()
                .map(|h| (h["HashKV"]["hash"].clone(), h["HashKV"]["header"]["revision"].clone()))
                .collect();
            if hashes.len() == members && hashes.windows(2).all(|w| w[0] == w[1]) {
                Ok(())
            } else {
                Err(format!("{hashes:?}"))
            }
        });
    }

    /// What is in a file of a machine.
    pub(crate) fn read(&self, host: usize, path: &str) -> String {
        let path = self.hosts[host].path(path);
        std::fs::read_to_string(Path::new(&path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}
