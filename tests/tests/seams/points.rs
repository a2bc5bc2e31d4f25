//! The points, one after the other.

use std::time::{Duration, Instant};

use retcd_proto::etcdserverpb as pb;

use crate::number;
use crate::rig::{Rig, run};

/// How long a leader keeps its log for a member that is silent, at least.
const LEADER_REMEMBERS: Duration = Duration::from_secs(3);

/// Who dies.
#[derive(Clone, Copy, Debug)]
enum Who {
    Leader,
    Follower,
    /// The one that the change is about.
    Itself,
}

impl Rig {
    async fn who(&mut self, who: Who, itself: usize) -> usize {
        let leader = self.cluster.leader().await;
        match who {
            Who::Leader => leader,
            Who::Follower => (0..3).find(|&n| n != leader && n != itself).expect("three members"),
            Who::Itself => itself,
        }
    }

    /// Whoever is to die at the proposal must be asked for the change; else one is asked who stays.
    async fn asked(&mut self, who: Who, target: usize) -> usize {
        match who {
            Who::Leader => target,
            Who::Follower | Who::Itself => self.cluster.leader().await,
        }
    }
}

fn rounds() -> u64 {
    number("RETCD_SEAM_ROUNDS", 1)
}

/// A change goes through its proposal, raft, the members' list and the disk.
const CHANGE: [(&str, Who); 6] = [
    ("conf-change:proposing", Who::Leader),
    ("conf-change:decided", Who::Leader),
    ("conf-change:decided", Who::Follower),
    ("conf-change:in-raft", Who::Leader),
    ("conf-change:stored", Who::Leader),
    ("conf-change:stored", Who::Follower),
];

#[test]
fn add() {
    run(async {
        let mut rig = Rig::with_failpoints().await;
        for round in 0..rounds() {
            for (point, who) in CHANGE {
                let what = format!("round {round}, {point} of the {who:?} while a member is added");
                let new = rig.failing_node();
                let target = rig.who(who, new).await;
                let through = rig.asked(who, target).await;
                rig.arm(target, point);
                let urls = vec![rig.cluster.nodes[new].peer_url()];
                let request = pb::MemberAddRequest { peer_ur_ls: urls, is_learner: true };
                retry_until_dead(&mut rig, target, through, "Cluster/MemberAdd", &request, point).await;
                rig.cluster.restart(target);
                rig.cluster.settled().await;
                // It may or may not have happened; it can be asked for again.
                let through = rig.cluster.leader().await;
                let (id, cluster) = rig.cluster.announce(through, new, true).await;
                rig.cluster.nodes[new].spawn(&cluster, "existing");
                rig.cluster.promote(through, id).await;
                rig.check(&what).await;
                rig.leaves(new, id).await;
            }
        }
    });
}

#[test]
fn join() {
    run(async {
        let mut rig = Rig::with_failpoints().await;
        for round in 0..rounds() {
            for point in ["join:introduced", "join:log-created", "snapshot-receive:renamed", "snapshot-install:placed"]
            {
                let what = format!("round {round}, {point} of a member that joins");
                // So that it needs a snapshot.
                rig.put(60).await;
                let through = rig.cluster.leader().await;
                let new = rig.failing_node();
                let (id, cluster) = rig.cluster.announce(through, new, true).await;
                rig.arm(new, point);
                rig.cluster.nodes[new].spawn(&cluster, "existing");
                rig.dies(new, point).await;
                rig.cluster.nodes[new].spawn(&cluster, "existing");
                rig.cluster.promote(through, id).await;
                rig.check(&what).await;
                rig.leaves(new, id).await;
            }
        }
    });
}

#[test]
fn promote() {
    run(async {
        let mut rig = Rig::with_failpoints().await;
        for round in 0..rounds() {
            for (point, who) in CHANGE.into_iter().chain([("conf-change:stored", Who::Itself)]) {
                let what = format!("round {round}, {point} of the {who:?} while a learner is promoted");
                let through = rig.cluster.leader().await;
                let new = rig.failing_node();
                let (id, cluster) = rig.cluster.announce(through, new, true).await;
                rig.cluster.nodes[new].spawn(&cluster, "existing");
                in_sync(&mut rig, through, new).await;
                let target = rig.who(who, new).await;
                let through = rig.asked(who, target).await;
                rig.arm(target, point);
                let request = pb::MemberPromoteRequest { id };
                retry_until_dead(&mut rig, target, through, "Cluster/MemberPromote", &request, point).await;
                rig.cluster.restart(target);
                let through = (0..3).find(|&n| n != target).expect("three members");
                rig.cluster.serves(through).await;
                rig.cluster.promote(through, id).await;
                rig.check(&what).await;
                rig.leaves(new, id).await;
            }
        }
    });
}

#[test]
fn remove() {
    run(async {
        let mut rig = Rig::with_failpoints().await;
        let of_itself = ["conf-change:decided", "conf-change:in-raft", "conf-change:stored", "leave:begun"];
        for round in 0..rounds() {
            for (point, who) in CHANGE.into_iter().chain(of_itself.map(|p| (p, Who::Itself))) {
                let what = format!("round {round}, {point} of the {who:?} while a member is removed");
                let mut tries = 0;
                while !removed(&mut rig, point, who, &what).await {
                    tries += 1;
                    assert!(tries < 10, "{what}: the others are always faster");
                }
            }
        }
    });
}

/// Removes a member, and somebody dies; false if the removed one ended before it came to its point: the others, which
/// have the change applied, tell it that it is out, and close their streams, over which it would have come.
async fn removed(rig: &mut Rig, point: &str, who: Who, what: &str) -> bool {
    let through = rig.cluster.leader().await;
    let old = rig.failing_node();
    let (id, cluster) = rig.cluster.announce(through, old, false).await;
    rig.cluster.nodes[old].spawn(&cluster, "existing");
    rig.check(what).await;
    let target = rig.who(who, old).await;
    let through = rig.asked(who, target).await;
    rig.arm(target, point);
    let request = pb::MemberRemoveRequest { id };
    send_until_ended(rig, target, through, "Cluster/MemberRemove", &request).await;
    let came = target != old || !rig.left(old).await;
    if target != old {
        rig.dies(target, point).await;
        // Meanwhile the other may have heard that it is a member no longer.
        rig.cluster.restart(target);
        for n in 0..3 {
            rig.cluster.serves(n).await;
        }
        rig.leaves(old, id).await;
    } else {
        if came {
            rig.dies(old, point).await;
        }
        // It hears of it from the others, now or when it comes to the change again.
        let through = rig.cluster.leader().await;
        rig.cluster.remove(through, id).await;
        rig.arm(old, "");
        rig.cluster.restart(old);
        rig.gone(old).await;
    }
    rig.check(what).await;
    came
}

#[test]
fn snapshot() {
    run(async {
        let mut rig = Rig::with_failpoints().await;
        let points = [
            ("snapshot-send:begun", Who::Leader),
            ("snapshot-send:half", Who::Leader),
            ("snapshot-receive:begun", Who::Itself),
            ("snapshot-receive:written", Who::Itself),
            ("snapshot-receive:synced", Who::Itself),
            ("snapshot-receive:renamed", Who::Itself),
            ("snapshot-install:file-saved", Who::Itself),
            ("snapshot-install:recorded", Who::Itself),
            ("snapshot-install:inspected", Who::Itself),
            ("snapshot-install:placed", Who::Itself),
            ("snapshot-install:switched", Who::Itself),
        ];
        for round in 0..rounds() {
            for (point, who) in points {
                let what = format!("round {round}, {point} of the {who:?} while a snapshot is on its way");
                let leader = rig.cluster.leader().await;
                let behind = rig.who(Who::Follower, leader).await;
                let mut target = behind;
                for longer in 1.. {
                    assert!(longer < 5, "{what}: nobody needs a snapshot");
                    rig.cluster.nodes[behind].kill();
                    // A leader keeps its log for a while for one that has just been there.
                    let begin = Instant::now();
                    rig.put(70).await;
                    while begin.elapsed() < longer * LEADER_REMEMBERS {
                        rig.put(5).await;
                    }
                    if matches!(who, Who::Leader) {
                        target = rig.cluster.leader().await;
                    }
                    rig.arm(target, point);
                    rig.cluster.restart(behind);
                    if rig.dies_first(target, behind, point).await {
                        break;
                    }
                }
                rig.cluster.restart(target);
                rig.check(&what).await;
            }
        }
    });
}

/// Sends a change until its target has died: what forbids it for the moment passes.
async fn retry_until_dead<M: prost::Message>(
    rig: &mut Rig,
    target: usize,
    through: usize,
    method: &str,
    request: &M,
    point: &str,
) {
    send_until_ended(rig, target, through, method, request).await;
    rig.dies(target, point).await;
}

/// Sends a change until its target has ended.
async fn send_until_ended<M: prost::Message>(rig: &mut Rig, target: usize, through: usize, method: &str, request: &M) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while rig.cluster.nodes[target].process().exited().is_none() && Instant::now() < deadline {
        // All of these replies can be read as the one with the fewest fields.
        rig.send::<pb::MemberRemoveResponse>(through, method, request).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a learner has what the leader has.
async fn in_sync(rig: &mut Rig, leader: usize, learner: usize) {
    let deadline = Instant::now() + retcd_tests::member::PATIENCE;
    loop {
        let (a, b) = (rig.cluster.status(leader).await, rig.cluster.status(learner).await);
        if let (Ok(a), Ok(b)) = (&a, &b)
            && b.raft_applied_index >= a.raft_applied_index
        {
            return;
        }
        assert!(Instant::now() < deadline, "the learner does not follow: {a:?} {b:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Rig {
    /// Whether a member dies at its point, before another one has all that there is without it.
    async fn dies_first(&mut self, target: usize, behind: usize, point: &str) -> bool {
        let ahead = (0..3).find(|&n| n != behind).expect("three members");
        loop {
            if self.cluster.nodes[target].process().exited().is_some() {
                self.dies(target, point).await;
                return true;
            }
            if let (Ok(one), Ok(other)) = (self.cluster.status(ahead).await, self.cluster.status(behind).await)
                && one.raft_applied_index == other.raft_applied_index
            {
                self.arm(target, "");
                // It may have come to the point at the last moment.
                if self.cluster.nodes[target].process().exited().is_none() {
                    return false;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A member is removed, and ends.
    async fn leaves(&mut self, n: usize, id: u64) {
        let through = (0..3).find(|&o| self.cluster.nodes[o].serving()).expect("three members");
        self.cluster.remove(through, id).await;
        self.gone(n).await;
    }

    /// A removed member has ended, or ends. It has always been the last one.
    async fn gone(&mut self, n: usize) {
        assert_eq!(n, 3, "only members beside the first three are removed");
        let mut node = self.cluster.nodes.remove(n);
        if node.started() {
            node.ended();
        }
        self.cluster.leader().await;
    }
}
