//! The same things done by hand, with the genuine etcdctl as the client.

use std::path::PathBuf;

use retcd_tests::cluster::{Cluster, wait_for};
use retcd_tests::{binary, peers};

struct Programs {
    ctl: PathBuf,
    ours: PathBuf,
    go: PathBuf,
}

fn programs() -> Option<Programs> {
    Some(Programs { ctl: peers::go_etcdctl()?, go: peers::go_etcd()?, ours: binary::ours() })
}

/// Puts, transactions, deletions, leases and a compaction, spread over all members.
fn work(cluster: &mut Cluster, round: &str) {
    let members = cluster.members.len();
    for n in 0..12 {
        cluster.put(n % members, &format!("{round}/{}", n % 5), &n.to_string());
    }
    let said = cluster.at(0, &["lease", "grant", "300"]);
    let id = said.split_whitespace().nth(1).expect("an id").to_owned();
    for number in 0..members {
        let _ = cluster.at(number, &["put", &format!("{round}/leased{number}"), "x", &format!("--lease={id}")]);
        let renewed = cluster.at(number, &["lease", "keep-alive", "--once", &id]);
        assert!(renewed.contains("TTL(300)"), "{renewed}");
    }
    let _ = cluster.at(members - 1, &["lease", "revoke", &id]);
    let _ = cluster.at(0, &["del", &format!("{round}/1")]);
    let status = cluster.status(members - 1).expect("a status");
    let revision = status["header"]["revision"].to_string();
    let _ = cluster.at(members - 1, &["compaction", &revision]);
    cluster.put(0, &format!("{round}/end"), "x");
    for number in 0..members {
        assert_eq!(cluster.get(number, &format!("{round}/end")), "x");
        assert_eq!(cluster.get(number, &format!("{round}/leased0")), "");
    }
    cluster.check_equal();
}

/// Lines that mean that a member found something wrong with what another did.
fn check_logs(cluster: &Cluster) {
    for member in &cluster.members {
        let log = member.log().text();
        for bad in [r#""level":"panic""#, r#""level":"fatal""#, "raft message refused", "failed to decode", "panic:"] {
            assert!(!log.contains(bad), "{bad} in the log of {}:\n{log}", member.name());
        }
    }
}

#[test]
fn go_go_ours() {
    let Some(p) = programs() else { return };
    let mut cluster = Cluster::start(&p.ctl, &[&p.go, &p.go, &p.ours], &[]);
    for number in 0..3 {
        cluster.lead(number);
        work(&mut cluster, &format!("led by {number}"));
    }
    check_logs(&cluster);
}

#[test]
fn ours_ours_go() {
    let Some(p) = programs() else { return };
    let mut cluster = Cluster::start(&p.ctl, &[&p.ours, &p.ours, &p.go], &[]);
    for number in [2, 0, 1] {
        cluster.lead(number);
        work(&mut cluster, &format!("led by {number}"));
    }
    check_logs(&cluster);
}

#[test]
fn snapshots_go_both_ways() {
    let Some(p) = programs() else { return };
    let flags = ["--snapshot-count=20", "--snapshot-catchup-entries=5"];
    let mut cluster = Cluster::start(&p.ctl, &[&p.go, &p.ours, &p.go], &flags);
    // Who falls behind, and who leads meanwhile; and what a log says of an installed snapshot.
    for (behind, leads) in [(1, 0), (0, 1)] {
        cluster.lead(leads);
        cluster.members[behind].kill();
        let (key, last) = cluster.leave_behind(leads);
        cluster.restart(behind);
        wait_for("installed snapshot", || {
            cluster.members[behind].log().text().contains("applied snapshot").then_some(())
        });
        assert_eq!(cluster.get(behind, &key), last);
        work(&mut cluster, &format!("after {behind}"));
    }
    check_logs(&cluster);
}

#[test]
fn members_are_replaced_one_by_one_on_their_own_data_and_back() {
    let Some(p) = programs() else { return };
    let mut cluster = Cluster::start(&p.ctl, &[&p.go, &p.go, &p.go], &[]);
    work(&mut cluster, "go");
    for program in [&p.ours, &p.go] {
        for number in 0..3 {
            let _ = cluster.members[number].terminate();
            cluster.members[number].set_program(program);
            cluster.restart(number);
            work(&mut cluster, &format!("{number} is now {}", program.display()));
        }
    }
    check_logs(&cluster);
}

#[test]
fn learners_of_either_kind_are_promoted() {
    let Some(p) = programs() else { return };
    for (founders, learner) in [([&p.ours, &p.ours, &p.ours], &p.go), ([&p.go, &p.go, &p.go], &p.ours)] {
        let founders = founders.map(PathBuf::as_path);
        let mut cluster = Cluster::start(&p.ctl, &founders, &[]);
        work(&mut cluster, "before");
        let new = cluster.newcomer(learner, "m4", &[]);
        let url = format!("--peer-urls={}", cluster.members[new].peer_url());
        wait_for("healthy cluster", || cluster.ctl_at(0, &["member", "add", "m4", "--learner", &url]).ok());
        cluster.members[new].spawn();
        cluster.wait_for_log(new, "ready to serve client requests");
        let id = cluster.id(new);
        cluster.promote(1, new);
        work(&mut cluster, "after");
        let _ = cluster.at(0, &["member", "remove", &id]);
        assert!(cluster.members[new].wait().success());
        cluster.members.truncate(3);
        work(&mut cluster, "alone again");
        check_logs(&cluster);
    }
}
