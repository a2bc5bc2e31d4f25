//! What operators do when a disk is lost, again and again; and what becomes of a member that was removed.

use std::time::{Duration, Instant};

use retcd_tests::binary;

use crate::number;
use crate::rig::{Rig, run};

/// A member loses its data, is removed, added anew and joins, under load, with nobody looking.
#[test]
fn replace_again_and_again() {
    run(async {
        let mut rig = Rig::start(binary::ours()).await;
        let loops = number("RETCD_REPLACE_LOOPS", 2);
        for round in 0..loops {
            let lost = usize::try_from(round).expect("small") % 3;
            let id = rig.cluster.id(lost).await;
            rig.cluster.nodes[lost].kill();
            rig.cluster.nodes[lost].wipe();
            rig.put(30).await;
            let leader = rig.cluster.leader().await;
            rig.cluster.remove(leader, id).await;
            let learner = round % 2 == 0;
            let (id, cluster) = rig.cluster.announce(leader, lost, learner).await;
            rig.cluster.nodes[lost].spawn(&cluster, "existing");
            rig.learner = learner.then_some(lost);
            rig.put(30).await;
            if learner {
                rig.cluster.promote(leader, id).await;
                rig.learner = None;
            }
            rig.check(&format!("loop {round} of {loops}")).await;
        }
    });
}

/// Whoever was removed, and comes back with its data, changes nothing for the others: no election, no other leader.
#[test]
fn a_removed_member_disturbs_nobody() {
    run(async {
        // No election comes of itself, however busy the machine is.
        const PATIENT: &str = "--election-timeout=10000";
        let mut rig = Rig::with_flags(binary::ours(), &[PATIENT]).await;
        let leader = rig.cluster.leader().await;
        let out = (leader + 1) % 3;
        let id = rig.cluster.id(out).await;
        // It does not hear of its removal.
        rig.cluster.nodes[out].kill();
        rig.cluster.remove(leader, id).await;
        rig.put(20).await;
        let before = rig.cluster.status(leader).await.expect("it leads");
        let cluster = rig.cluster.initial();
        // One that is not patient.
        rig.cluster.nodes[out].flags.retain(|flag| flag != PATIENT);
        rig.cluster.nodes[out].spawn(&cluster, "existing");
        let begin = Instant::now();
        let mut node = rig.cluster.nodes.remove(out);
        while begin.elapsed() < Duration::from_secs(3) {
            rig.put(5).await;
        }
        // The others tell it, and it ends.
        node.process().wait_for_log("the member has been permanently removed from the cluster");
        node.ended();
        let leader = rig.cluster.leader().await;
        let after = rig.cluster.status(leader).await.expect("it leads");
        assert_eq!((before.leader, before.raft_term), (after.leader, after.raft_term), "{before:?} {after:?}");
        rig.check("after the removed one has ended").await;
    });
}
