//! Adding, promoting, updating, removing and replacing members.

use retcd_tests::cluster::{Cluster, wait_for};

use super::{programs, three};

/// A member is trusted to stay only after some seconds: until then the cluster refuses to change.
fn change(cluster: &Cluster, at: usize, args: &[&str]) -> String {
    let all = [&["member"][..], args].concat();
    wait_for("healthy cluster", || match cluster.ctl_at(at, &all) {
        Ok(said) => Some(said),
        Err(refused) if refused.contains("etcdserver: unhealthy cluster") => None,
        Err(other) => panic!("{other}"),
    })
}

#[test]
fn a_learner_is_added_promoted_updated_and_removed() {
    let Some(mut cluster) = three(&[]) else { return };
    let (_, ours) = programs().expect("as before");
    cluster.put(0, "a", "1");
    let new = cluster.newcomer(&ours, "m4", &[]);
    let url = format!("--peer-urls={}", cluster.members[new].peer_url());
    let said = change(&cluster, 0, &["add", "m4", "--learner", &url]);
    assert!(said.contains("added as learner to cluster"), "{said}");
    let again = cluster.ctl_at(0, &["member", "add", "m5", "--learner", "--peer-urls=http://127.0.0.1:1"]);
    assert!(again.expect_err("one at most").contains("etcdserver: too many learner members in cluster"));
    let id = cluster.id(new);
    let early = cluster.ctl_at(0, &["member", "promote", &id]).expect_err("it has nothing yet");
    assert!(early.contains("etcdserver: can only promote a learner member which is in sync with leader"), "{early}");

    cluster.members[new].spawn();
    cluster.wait_for_log(new, "ready to serve client requests");
    wait_for("data on the learner", || {
        let args = ["get", "a", "--consistency=s", "--print-value-only"];
        (cluster.ctl_at(new, &args).ok()?.trim_end() == "1").then_some(())
    });
    for args in [&["get", "a"][..], &["put", "a", "2"], &["member", "list"]] {
        let refused = cluster.ctl_at(new, args).expect_err("a learner");
        assert!(refused.contains("etcdserver: rpc not supported for learner"), "{refused}");
    }
    // Only the leader can tell; a follower asks it.
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    if let Some(said) = cluster.promote(follower, new) {
        assert!(said.contains("promoted in cluster"), "{said}");
    }
    let again = cluster.ctl_at(follower, &["member", "promote", &id]).expect_err("it votes");
    assert!(again.contains("etcdserver: can only promote a learner member"), "{again}");
    let nobody = cluster.ctl_at(follower, &["member", "promote", "abcdef"]).expect_err("nobody");
    assert!(nobody.contains("etcdserver: member not found"), "{nobody}");
    cluster.put(new, "a", "3");

    let taken = format!("--peer-urls={}", cluster.members[0].peer_url());
    let refused = cluster.ctl_at(0, &["member", "update", &id, &taken]).expect_err("taken");
    assert!(refused.contains("etcdserver: Peer URLs already exists"), "{refused}");
    let said = cluster.at(0, &["member", "update", &id, &url]);
    assert!(said.contains("updated in cluster"), "{said}");

    let said = change(&cluster, 0, &["remove", &id]);
    assert!(said.contains("removed from cluster"), "{said}");
    let status = cluster.members[new].wait();
    assert!(status.success(), "etcd ends with 0 as well, not {status}");
    let log = cluster.members[new].log().whole();
    for line in [
        "the member has been permanently removed from the cluster",
        "data-dir used by this member must be removed",
        "to let it join again, move its data directory away",
    ] {
        assert!(log.contains(line), "no {line:?} in\n{log}");
    }
    // On its old data it learns it from the others.
    cluster.members[new].spawn();
    assert!(cluster.members[new].wait().success());
    let gone = cluster.ctl_at(0, &["member", "remove", &id]).expect_err("gone");
    assert!(gone.contains("etcdserver: member not found"), "{gone}");
    cluster.check_equal();
}

/// Raft makes one change at a time, and forgets one that comes too early; the leader holds it.
#[test]
fn changes_that_meet_are_all_made() {
    let Some(mut cluster) = three(&[]) else { return };
    let ids = [0, 1, 2].map(|number| cluster.id(number));
    for _ in 0..3 {
        std::thread::scope(|scope| {
            for (number, id) in ids.iter().enumerate() {
                let cluster = &cluster;
                let url = format!("--peer-urls={}", cluster.members[number].peer_url());
                for via in 0..3 {
                    let url = url.clone();
                    scope.spawn(move || {
                        let said = cluster.at(via, &["member", "update", id, &url]);
                        assert!(said.contains("updated in cluster"), "{said}");
                    });
                }
            }
        });
    }
    cluster.check_equal();
}

#[test]
fn a_member_without_its_data_is_refused_and_replaced() {
    let Some(mut cluster) = three(&[]) else { return };
    cluster.put(0, "a", "1");
    let victim = (cluster.leader() + 1) % 3;
    let other = (victim + 1) % 3;
    cluster.members[victim].kill();
    cluster.members[victim].wipe();
    cluster.members[victim].spawn();
    let status = cluster.members[victim].wait();
    assert_eq!(status.code(), Some(1));
    let log = cluster.members[victim].log().whole();
    assert!(log.contains("has already been bootstrapped"), "{log}");

    let id = cluster.id(victim);
    let _ = change(&cluster, other, &["remove", &id]);
    let name = cluster.members[victim].name().to_owned();
    let url = format!("--peer-urls={}", cluster.members[victim].peer_url());
    let said = change(&cluster, other, &["add", &name, &url]);
    assert!(said.contains(r#"ETCD_INITIAL_CLUSTER_STATE="existing""#), "{said}");
    cluster.members[victim].set_flags(["--initial-cluster-state=existing"]);
    cluster.restart(victim);
    assert_ne!(cluster.id(victim), id);
    assert_eq!(cluster.get(victim, "a"), "1");
    cluster.put(victim, "b", "2");
    cluster.check_equal();

    // And once more, when the flags say that it joins: even etcd does not survive that.
    cluster.members[victim].kill();
    cluster.members[victim].wipe();
    cluster.members[victim].spawn();
    assert_eq!(cluster.members[victim].wait().code(), Some(1));
    let log = cluster.members[victim].log().whole();
    assert!(log.contains("comes without its data, so it could vote twice"), "{log}");
    cluster.put(other, "c", "3");
}

#[test]
fn a_far_behind_member_gets_a_snapshot() {
    let Some(mut cluster) = three(&["--snapshot-count=20", "--snapshot-catchup-entries=5"]) else { return };
    let behind = (cluster.leader() + 1) % 3;
    let other = (behind + 1) % 3;
    cluster.members[behind].kill();
    let (key, last) = cluster.leave_behind(other);
    cluster.restart(behind);
    wait_for("installed snapshot", || cluster.members[behind].log().text().contains("applied snapshot").then_some(()));
    assert_eq!(cluster.get(behind, &key), last);
    cluster.put(behind, "after", "1");
    cluster.check_equal();
    // It is in its log, too.
    cluster.members[behind].kill();
    cluster.restart(behind);
    assert_eq!(cluster.get(behind, &key), last);
    cluster.check_equal();
}
