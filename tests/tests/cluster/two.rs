//! One of two members is removed: the other one goes on alone, whoever led and whoever was asked.

use std::thread;
use std::time::Duration;

use retcd_tests::cluster::{Cluster, wait_for};
use retcd_tests::link::Link;

use super::programs;

/// Of a member that has been told.
const REMOVED: &str = "the member has been permanently removed from the cluster";

/// Removes a member once the cluster is taken for healthy, which needs it to have been whole for a while.
fn remove(cluster: &Cluster, through: usize, id: &str) {
    let said =
        wait_for("removal", || match cluster.ctl_at(through, &["--command-timeout=30s", "member", "remove", id]) {
            Ok(said) => Some(said),
            Err(error) => {
                assert!(error.contains("unhealthy cluster"), "{error}");
                None
            }
        });
    let words: Vec<_> = said.split_whitespace().take(5).collect();
    assert_eq!(words, ["Member", id, "removed", "from", "cluster"], "{said}");
}

/// It answers, and is the only member.
fn goes_on_alone(cluster: &Cluster, number: usize) {
    // While it elects itself it may refuse.
    wait_for("write on the last member", || cluster.ctl_at(number, &["put", "after", "2"]).ok());
    assert_eq!(cluster.get(number, "after"), "2");
    let list = cluster.at(number, &["member", "list"]);
    assert_eq!(list.lines().count(), 1, "{list}");
}

fn removed(leads: bool, through_itself: bool) {
    let Some((ctl, ours)) = programs() else { return };
    for _ in 0..2 {
        let mut cluster = Cluster::start(&ctl, &[&ours, &ours], &[]);
        let leader = cluster.leader();
        let gone = if leads { leader } else { 1 - leader };
        let rest = 1 - gone;
        cluster.put(gone, "before", "1");
        let id = cluster.id(gone);
        remove(&cluster, if through_itself { gone } else { rest }, &id);
        let status = cluster.members[gone].wait();
        let log = cluster.members[gone].log().whole();
        assert!(status.success() && log.contains(REMOVED), "{status}\n{log}");
        goes_on_alone(&cluster, rest);
        assert_eq!(cluster.get(rest, "before"), "1");
        // Nor does it need anybody after a start.
        cluster.members[rest].kill();
        cluster.restart(rest);
        goes_on_alone(&cluster, rest);
    }
}

#[test]
fn the_leader_of_two_is_removed_by_itself() {
    removed(true, true);
}

#[test]
fn the_leader_of_two_is_removed_through_the_other() {
    removed(true, false);
}

#[test]
fn the_follower_of_two_is_removed_by_itself() {
    removed(false, true);
}

#[test]
fn the_follower_of_two_is_removed_through_the_other() {
    removed(false, false);
}

/// The leader knows that its removal is committed, and the other one, which could learn it from nobody else, is cut off before
/// it hears of that.
#[test]
fn a_removed_leader_of_two_waits_until_the_other_one_knows() {
    let Some((ctl, ours)) = programs() else { return };
    let mut cluster = Cluster::prepare(&ctl, &[&ours, &ours], &[]);
    let links: Vec<_> = cluster.members.iter().map(|m| Link::new(port(&m.peer_url()))).collect();
    let url = |number: usize| format!("http://127.0.0.1:{}", links[number].port());
    let list = format!("m1={},m2={}", url(0), url(1));
    for number in 0..2 {
        let member = &mut cluster.members[number];
        member.set_cluster(list.clone());
        member.set_flags([
            format!("--initial-advertise-peer-urls={}", url(number)),
            "--election-timeout=5000".to_owned(),
        ]);
        member.spawn();
    }
    for number in 0..2 {
        cluster.wait_until_serving(number);
    }
    let leader = cluster.leader();
    let other = 1 - leader;
    cluster.put(leader, "before", "1");
    let members = cluster.at(leader, &["member", "list"]);
    let line = members.lines().find(|line| line.contains(&url(leader))).expect("it is a member");
    let id = line.split(',').next().expect("a first column").to_owned();
    // Far longer than it takes to cut the links.
    for link in &links {
        link.slow_down(Duration::from_secs(1));
    }
    thread::scope(|scope| {
        scope.spawn(|| remove(&cluster, leader, &id));
        // It is committed; that is on its way to the other one still.
        cluster.wait_for_log(leader, "removed member");
        for link in &links {
            link.cut();
        }
    });
    assert!(!cluster.members[other].log().text().contains("removed member"), "the other one knows it already");
    // Longer than a removed member goes on otherwise.
    cluster.wait_for_log(leader, "goes on until");
    assert!(cluster.members[leader].running());
    for link in &links {
        link.mend();
    }
    cluster.members[leader].wait();
    goes_on_alone(&cluster, other);
    assert_eq!(cluster.get(other, "before"), "1");
}

fn port(url: &str) -> u16 {
    url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}
