//! Starting, writing, losing and finding members.

use retcd_proto::etcdserverpb as pb;
use retcd_tests::cluster::{Cluster, wait_for};
use retcd_tests::grpc::Connection;
use retcd_tests::http1;
use rustix::process::{Pid, Signal, kill_process};

use super::{programs, three};

#[test]
fn what_one_member_takes_all_members_have() {
    let Some(mut cluster) = three(&[]) else { return };
    for number in 0..3 {
        cluster.put(number, &format!("key{number}"), "value");
    }
    for number in 0..3 {
        for key in ["key0", "key1", "key2"] {
            assert_eq!(cluster.get(number, key), "value");
        }
    }
    let health = cluster.at(0, &["endpoint", "health", "--cluster"]);
    assert!(health.is_empty() || !health.contains("unhealthy"), "{health}");
    let list = cluster.at(1, &["member", "list"]);
    assert_eq!(list.lines().filter(|line| line.contains("started")).count(), 3, "{list}");
    for number in 0..3 {
        let version = http1::get(cluster.members[number].port(), "/version").expect("an answer");
        let text = String::from_utf8_lossy(&version.body).into_owned();
        assert!(text.contains(r#""etcdcluster":"3.7.0""#), "{text}");
    }
    cluster.check_equal();
}

#[test]
fn leases_live_on_any_member() {
    let Some(mut cluster) = three(&[]) else { return };
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    let said = cluster.at(follower, &["lease", "grant", "600"]);
    let id = said.split_whitespace().nth(1).expect("an id").to_owned();
    let _ = cluster.at(follower, &["put", "leased", "x", &format!("--lease={id}")]);
    let renewed = cluster.at(follower, &["lease", "keep-alive", "--once", &id]);
    assert!(renewed.contains("TTL(600)"), "{renewed}");
    let left = cluster.at((leader + 2) % 3, &["lease", "timetolive", &id, "--keys"]);
    assert!(left.contains("granted with TTL(600s)") && left.contains("leased"), "{left}");
    let _ = cluster.at(follower, &["lease", "revoke", &id]);
    for number in 0..3 {
        assert_eq!(cluster.get(number, "leased"), "");
    }
    cluster.check_equal();
}

/// A connection that ends takes a port for a minute. With one for each renewal a follower has none left soon.
#[test]
fn renewals_at_a_follower_share_connections() {
    let Some(mut cluster) = three(&[]) else { return };
    let leader = cluster.leader();
    let port = cluster.members[(leader + 1) % 3].port();
    let url = cluster.members[leader].peer_url();
    let peer: u16 = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let before = sockets(peer);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let connection = Connection::open(port).await;
        let grant = pb::LeaseGrantRequest { ttl: 600, id: 0 };
        let outcome = connection.call("/etcdserverpb.Lease/LeaseGrant", &grant).await;
        let lease: pb::LeaseGrantResponse = outcome.reply().expect("a lease");
        for _ in 0..1000 {
            let request = pb::LeaseKeepAliveRequest { id: lease.id };
            let outcome = connection.call("/etcdserverpb.Lease/LeaseKeepAlive", &request).await;
            let reply: pb::LeaseKeepAliveResponse = outcome.reply().expect("a renewal");
            assert_eq!(reply.ttl, 600);
        }
    });
    let more = sockets(peer).saturating_sub(before);
    assert!(more < 100, "1000 renewals left {more} sockets");
}

/// Sockets at a port and to it, those that only wait for their end among them.
fn sockets(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let port = format!(":{port:04X}");
    let of = |line: &str| line.split_whitespace().skip(1).take(2).any(|address| address.ends_with(&port));
    table.lines().filter(|line| of(line)).count()
}

#[test]
fn a_killed_leader_is_replaced_and_comes_back() {
    let Some(mut cluster) = three(&[]) else { return };
    cluster.put(0, "before", "1");
    let leader = cluster.leader();
    cluster.members[leader].kill();
    let next = cluster.leader();
    assert_ne!(next, leader);
    cluster.put(next, "while", "2");
    cluster.restart(leader);
    for key in ["before", "while"] {
        assert!(!cluster.get(leader, key).is_empty(), "{key}");
    }
    cluster.put(leader, "after", "3");
    cluster.check_equal();
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over() {
    let Some(mut cluster) = three(&[]) else { return };
    let leader = cluster.leader();
    let others: Vec<_> = (0..3).filter(|number| *number != leader).map(|number| cluster.id(number)).collect();
    let mut member = cluster.members.swap_remove(leader);
    member.terminate();
    let log = member.log().whole();
    let line =
        log.lines().find(|line| line.contains("leadership transfer finished")).unwrap_or_else(|| panic!("{log}"));
    let named = |id: &String| line.contains(&format!(r#""new-leader-member-id":"{id}""#));
    assert!(others.iter().any(named), "{others:?}: {line}");
    let next = cluster.leader();
    cluster.put(next, "after", "1");
}

#[test]
fn a_leader_that_stops_and_finds_no_successor_says_so() {
    let Some((ctl, ours)) = programs() else { return };
    let mut cluster = Cluster::start(&ctl, &[&ours, &ours], &[]);
    let leader = cluster.leader();
    let deaf = cluster.members[1 - leader].pid();
    let deaf = Pid::from_raw(i32::try_from(deaf).expect("a process id")).expect("not 0");
    kill_process(deaf, Signal::STOP).expect("it runs");
    cluster.members[leader].terminate();
    kill_process(deaf, Signal::CONT).expect("it is there");
    let log = cluster.members[leader].log().whole();
    assert!(log.contains("leadership transfer failed"), "{log}");
    assert!(!log.contains("leadership transfer finished"), "{log}");
}

#[test]
fn leadership_moves_where_it_is_told_to() {
    let Some(mut cluster) = three(&[]) else { return };
    for number in [0, 1, 2, 0] {
        cluster.lead(number);
        cluster.put((number + 1) % 3, "led-by", &number.to_string());
    }
    let follower = cluster.id(1);
    let said = cluster.ctl_at(1, &["move-leader", &follower]).expect_err("it does not lead");
    assert!(said.contains("no leader endpoint given"), "{said}");
    let said = cluster.ctl_at(0, &["move-leader", "abcdef"]).expect_err("nobody");
    assert!(said.contains("etcdserver: bad leader transferee"), "{said}");
}

#[test]
fn members_wait_for_a_quorum_and_lose_nothing() {
    let Some((ctl, ours)) = programs() else { return };
    let mut cluster = Cluster::prepare(&ctl, &[&ours, &ours, &ours], &[]);
    // Alone it neither serves nor gives up.
    cluster.members[0].spawn();
    cluster.wait_for_log(0, "failed to publish local member to cluster through raft");
    assert!(cluster.members[0].running());
    let members = peer_members(&cluster, 0);
    assert!(members.contains(r#""name":"m3""#), "{members}");
    for number in 1..3 {
        cluster.members[number].spawn();
    }
    for number in 0..3 {
        cluster.wait_until_serving(number);
    }
    cluster.put(0, "kept", "1");

    // All fall, one comes back: what it has can wait for the others.
    for member in &mut cluster.members {
        member.kill();
    }
    cluster.members[1].spawn();
    cluster.wait_for_log(1, "serving peer traffic");
    cluster.members[2].spawn();
    for number in 1..3 {
        cluster.wait_until_serving(number);
    }
    assert_eq!(cluster.get(1, "kept"), "1");
    // Without a quorum again: no linearizable read, no write, but what it has can be read.
    cluster.members[1].kill();
    wait_for("loss of the leader", || {
        let status = cluster.status(2)?;
        status["errors"].to_string().contains("etcdserver: no leader").then_some(())
    });
    assert_eq!(cluster.at(2, &["get", "kept", "--consistency=s", "--print-value-only"]), "1\n");
    let health = http1::get(cluster.members[2].port(), "/health").expect("an answer");
    assert_eq!(health.status, 503);
    assert!(String::from_utf8_lossy(&health.body).contains("RAFT NO LEADER"));
    cluster.restart(0);
    cluster.restart(1);
    cluster.put(0, "again", "2");
    cluster.check_equal();
}

fn peer_members(cluster: &Cluster, number: usize) -> String {
    let url = cluster.members[number].peer_url();
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let answer = http1::get(port, "/members").expect("an answer");
    assert_eq!(answer.header("x-etcd-cluster-id").map(|id| id.is_empty()), Some(false));
    String::from_utf8_lossy(&answer.body).into_owned()
}
