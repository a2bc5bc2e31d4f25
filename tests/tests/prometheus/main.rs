//! Our alert rules in Debian's Prometheus: each fires when its condition is true for long enough and not before
//! (`promtool test rules`), and those about members, leaders, room and disks fire on what real members export.

mod server;
mod slow_disk;

use std::path::{Path, PathBuf};
use std::process::Command;

use retcd_proto::etcdserverpb as pb;
use retcd_tests::cluster::Cluster;
use retcd_tests::grpc::Connection;
use retcd_tests::{binary, peers, run};

use server::Prometheus;
use slow_disk::SlowDisk;

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
    let mut disk = SlowDisk::prepare(&ours);
    let mut jobs = vec![("etcd", cluster.members.iter().map(|member| member.port()).collect())];
    // A name without etcd: whoever does not run yet is nobody to miss.
    jobs.extend(disk.iter().map(|disk| ("disk", vec![disk.port()])));
    let prometheus = Prometheus::start(&prometheus, &rules_dir().join("etcd-rules.yml"), &jobs);
    prometheus.wait_for_value("count(up == 1)", 3.0);
    prometheus.wait_for_evaluation();
    let watched = [
        "etcdMembersDown",
        "etcdInsufficientMembers",
        "etcdNoLeader",
        "etcdDatabaseQuotaLowSpace",
        "etcdAlarmRaised",
        "etcdHighFsyncDurations",
    ];
    prometheus.wait_for(&[], &watched);

    if let Some(disk) = &mut disk {
        disk.start();
        let slow = "count(ALERTS{alertname=\"etcdHighFsyncDurations\",alertstate=\"firing\",job=\"disk\",severity=\"warning\"})";
        prometheus.wait_for_value(slow, 1.0);
        disk.stop();
    }
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

#[test]
fn rules_are_made_quick() {
    let text = "for: 10m\nexpr: rate(x[5m]) > predict(y[4h], 4 * 60)";
    assert_eq!(server::quick(text), "for: 0s\nexpr: rate(x[10s]) > predict(y[10s], 4 * 60)");
}
