//! Our alert rules in Debian's Prometheus: each fires when its condition is true for long enough and not before
//! (`promtool test rules`), and those about members, leaders, room and disks fire on what real members export.

mod server;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use retcd_proto::etcdserverpb as pb;
use retcd_tests::cluster::Cluster;
use retcd_tests::grpc::Connection;
use retcd_tests::{binary, peers, run};

use server::Prometheus;

/// `--quota-backend-bytes` of the members.
const QUOTA: usize = 24 << 20;

fn rules_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/prometheus")
}

#[test]
fn each_rule_fires_when_it_should_and_not_before() {
    let Some((_, promtool)) = peers::prometheus() else { return };
    for args in [&["check", "rules", "etcd-rules.yml"], &["test", "rules", "etcd-rules-test.yml"]] {
        let mut command = Command::new(&promtool);
        command.args(args).current_dir(rules_dir());
        if let Err(why) = run::stdout(&mut command) {
            panic!("{why}");
        }
    }
}

#[test]
fn rules_fire_on_what_members_export() {
    let Some((prometheus, _)) = peers::prometheus() else { return };
    let ours = binary::ours();
    let flags = [&*format!("--quota-backend-bytes={QUOTA}"), "--metrics=extensive"];
    // Nobody needs etcdctl here.
    let mut cluster = Cluster::start(Path::new("etcdctl"), &[&ours, &ours, &ours], &flags);
    let disk = FakeDisk::start();
    let jobs =
        [("etcd", cluster.members.iter().map(|member| member.port()).collect()), ("disk-of-etcd", vec![disk.port])];
    let prometheus = Prometheus::start(&prometheus, &rules_dir().join("etcd-rules.yml"), &jobs);
    prometheus.wait_for_value("count(up == 1)", 4.0);
    prometheus.wait_for_evaluation();
    let watched = [
        "etcdMembersDown",
        "etcdInsufficientMembers",
        "etcdNoLeader",
        "etcdDatabaseQuotaLowSpace",
        "etcdAlarmRaised",
        "etcdHighFsyncDurations",
    ];
    let firing = prometheus.firing();
    assert!(watched.iter().all(|name| !firing.contains(*name)), "fired at once: {firing:?}");

    disk.slow();
    prometheus.wait_for(&["etcdHighFsyncDurations"], &["etcdMembersDown", "etcdDatabaseQuotaLowSpace"]);
    disk.fast();
    fill(cluster.members[0].port());
    prometheus.wait_for(&["etcdDatabaseQuotaLowSpace", "etcdAlarmRaised"], &["etcdMembersDown", "etcdNoLeader"]);
    cluster.members[2].kill();
    prometheus.wait_for(&["etcdMembersDown"], &["etcdInsufficientMembers"]);
    cluster.members[1].kill();
    prometheus.wait_for(&["etcdMembersDown", "etcdInsufficientMembers", "etcdNoLeader"], &[]);
    for number in [1, 2] {
        cluster.members[number].spawn();
    }
    for number in [1, 2] {
        cluster.wait_until_serving(number);
    }
    let back = ["etcdMembersDown", "etcdInsufficientMembers", "etcdNoLeader", "etcdHighFsyncDurations"];
    prometheus.wait_for(&[], &back);
}

/// Writes until the quota is reached.
fn fill(port: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let connection = Connection::open(port).await;
        for n in 0..100 {
            let value = vec![b'v'; 1 << 20];
            let key = format!("key{n}");
            let request = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
            let outcome = connection.call("/etcdserverpb.KV/Put", &request).await;
            if outcome.text.contains("database space exceeded") {
                return;
            }
            // A busy machine may hold an election meanwhile.
            assert!(outcome.ok() || outcome.text.starts_with("etcdserver: "), "{outcome:?}");
        }
        panic!("{QUOTA} bytes are never full");
    });
}

/// A disk that takes as long as one likes, as a member would tell of it. Real ones do not obey.
struct FakeDisk {
    port: u16,
    /// Syncs within a millisecond, and within two seconds, by each scrape.
    steps: Arc<[AtomicU64; 2]>,
}

impl FakeDisk {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let steps = Arc::new([AtomicU64::new(100), AtomicU64::new(0)]);
        let shared = steps.clone();
        thread::spawn(move || {
            let (mut quick, mut slow) = (0, 0);
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                quick += shared[0].load(Ordering::Relaxed);
                slow += shared[1].load(Ordering::Relaxed);
                let name = "etcd_disk_wal_fsync_duration_seconds";
                let all = quick + slow;
                let body = format!(
                    "# TYPE {name} histogram\n{name}_bucket{{le=\"0.001\"}} {quick}\n{name}_bucket{{le=\"1.024\"}} {quick}\n\
                     {name}_bucket{{le=\"2.048\"}} {all}\n{name}_bucket{{le=\"+Inf\"}} {all}\n{name}_sum 1\n{name}_count {all}\n"
                );
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        Self { port, steps }
    }

    fn slow(&self) {
        self.steps[1].store(100, Ordering::Relaxed);
    }

    fn fast(&self) {
        self.steps[1].store(0, Ordering::Relaxed);
    }
}

#[test]
fn rules_are_made_quick() {
    let text = "for: 10m\nexpr: rate(x[5m]) > predict(y[4h], 4 * 60)";
    assert_eq!(server::quick(text), "for: 0s\nexpr: rate(x[10s]) > predict(y[10s], 4 * 60)");
}
