//! Members that are refused: both sides say in one sentence why, and what to do.

use std::path::PathBuf;

use retcd_tests::cluster::{Cluster, wait_for};
use retcd_tests::member::{Member, Setup};

use super::{programs, three};

/// Starts a member, waits for its end, and checks that it says `etcd` in etcd's words, and that it and a member of
/// the cluster (or only it) say `ours` in ours.
fn refused(cluster: &Cluster, member: &mut Member, etcd: &str, ours: &[&str], both: bool) {
    member.spawn();
    let status = member.wait();
    let log = member.log().whole();
    assert_eq!(status.code(), Some(1), "{log}");
    let fatal = log.lines().find(|line| line.contains(r#""level":"fatal""#)).unwrap_or_else(|| panic!("{log}"));
    assert!(fatal.contains("discovery failed") && fatal.contains(etcd), "{fatal}");
    let says = |log: &str| log.lines().any(|line| ours.iter().all(|part| line.contains(part)));
    assert!(says(&log), "no line with {ours:?} in\n{log}");
    if both {
        wait_for("sentence of the cluster", || {
            let mut running = cluster.members.iter();
            running
                .any(|other| other.log().text().lines().any(|line| line.contains("refused a member") && says(line)))
                .then_some(())
        });
    }
    assert!(!member.dir().join("member").exists(), "a refused start leaves nothing");
}

fn joiner(cluster: &Cluster, ours: &PathBuf) -> Member {
    let setup = Setup::new(ours).name("new").flags(["--initial-cluster-state=existing"]);
    let mut member = Member::prepare(setup);
    member.set_cluster(format!("{},{}", cluster.list(), member.entry()));
    member
}

#[test]
fn whoever_joins_as_somebody_else_learns_who_to_be() {
    let Some(cluster) = three(&[]) else { return };
    let (_, ours) = programs().expect("as before");

    // Not announced.
    let mut new = joiner(&cluster, &ours);
    let add = format!("member add new --peer-urls={}`", new.peer_url());
    refused(&cluster, &mut new, "member count is unequal", &["is not in cluster", &add, "etcdctl --endpoints="], true);

    // Announced, with another list.
    let url = new.peer_url();
    wait_for("healthy cluster", || cluster.ctl_at(0, &["member", "add", "new", "--peer-urls", &url]).ok());
    new.set_cluster(format!("{},{}", cluster.members[0].entry(), new.entry()));
    let (last, own) = (cluster.members[2].entry(), new.entry());
    let parts = ["names 2 members in --initial-cluster", "has 4", "--initial-cluster=m", &last, &own];
    refused(&cluster, &mut new, "member count is unequal", &parts, true);

    // The list has an address that nobody has.
    let list = cluster.list().replace(&cluster.members[2].peer_url(), "http://127.0.0.1:9");
    new.set_cluster(format!("{list},{}", new.entry()));
    let id = cluster.at(0, &["member", "list"]);
    let id = id.lines().find(|l| l.contains("m3")).and_then(|l| l.split(',').next()).expect("m3").to_owned();
    let etcd = format!("PeerURLs: no match found for existing member ({id}, [{}])", cluster.members[2].peer_url());
    refused(&cluster, &mut new, &etcd, &["does not name member", &id], true);

    // Its own name is not in the list: nobody is asked.
    new.set_cluster(cluster.list());
    refused(&cluster, &mut new, "couldn't find local name", &[r#"\"new\", is not in --initial-cluster"#], false);

    // Nobody answers.
    new.set_cluster(format!("x=http://127.0.0.1:9,{}", new.entry()));
    let etcd = "could not retrieve cluster information from the given URLs";
    refused(&cluster, &mut new, etcd, &["none of the peers in --initial-cluster told", "127.0.0.1:9"], false);

    // After all this it joins.
    new.set_cluster(format!("{},{}", cluster.list(), new.entry()));
    new.spawn();
    assert!(new.wait_or_serve().is_none(), "{}", new.log().text());
}

#[test]
fn a_member_that_was_added_later_does_not_found_a_second_cluster() {
    let Some(mut cluster) = three(&[]) else { return };
    let (_, ours) = programs().expect("as before");
    let new = cluster.newcomer(&ours, "m4", &[]);
    let url = format!("--peer-urls={}", cluster.members[new].peer_url());
    wait_for("healthy cluster", || cluster.ctl_at(0, &["member", "add", "m4", &url]).ok());
    cluster.members[new].spawn();
    cluster.wait_until_serving(new);
    let id = cluster.id(new);
    cluster.members[new].kill();
    cluster.members[new].wipe();

    let mut member = cluster.members.remove(new);
    member.set_flags([""; 0]);
    let parts = ["knows", &id, "must not found a cluster", "member remove", "--initial-cluster-state=existing"];
    refused(&cluster, &mut member, "must not found a cluster", &parts, true);
}

#[test]
fn data_of_another_cluster_is_refused_where_the_member_is_expected() {
    let Some(cluster) = three(&[]) else { return };
    let (_, ours) = programs().expect("as before");
    // First started on its own, then added, then started again on what it has: an endless quarrel in etcd.
    let mut stray = Member::start(Setup::new(&ours).name("stray"));
    stray.terminate();
    let url = stray.peer_url();
    wait_for("healthy cluster", || cluster.ctl_at(0, &["member", "add", "stray", "--peer-urls", &url]).ok());
    stray.set_flags(["--initial-cluster-state=existing"]);
    stray.set_cluster(format!("{},{}", cluster.list(), stray.entry()));
    stray.spawn();
    let status = stray.wait();
    let log = stray.log().whole();
    assert_eq!(status.code(), Some(1), "{log}");
    let sentence = "comes with the data of cluster";
    assert!(log.contains(sentence) && log.contains("move its data directory away"), "{log}");
    wait_for("sentence of the cluster", || {
        cluster.members.iter().any(|m| m.log().text().contains(sentence)).then_some(())
    });
    // Nothing of it was touched: alone it still is what it was.
    stray.set_flags([""; 0]);
    stray.set_cluster(stray.entry());
    stray.restart();
}
