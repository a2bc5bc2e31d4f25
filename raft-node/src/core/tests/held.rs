//! Conf changes that come before the one before them is applied.

use super::three::Cluster;
use super::*;
use raftpb::ConfChangeType::{ConfChangeAddLearnerNode, ConfChangeAddNode, ConfChangeRemoveNode};

fn kinds(entries: &[raftpb::Entry]) -> Vec<i32> {
    entries.iter().map(|e| e.r#type() as i32).collect()
}

fn all(cluster: &mut Cluster) -> Vec<raftpb::ConfState> {
    cluster.cores.values().map(Core::conf_state).collect()
}

#[test]
fn a_second_conf_change_waits_for_the_first() {
    let mut core = lone_leader();
    let learner = |id| conf_change(ConfChangeAddLearnerNode, id);
    core.propose_conf_change(&learner(4)).unwrap();
    core.propose_conf_change(&learner(5)).unwrap();
    // Who proposes something else does not wait.
    core.propose(&[Bytes::from_static(b"a")]).unwrap();
    let outputs = drain(&mut core);
    assert_eq!(kinds(&outputs[0].entries), [1, 0]);
    assert_eq!(texts(&outputs[0].entries)[1], "a");
    core.persisted(outputs[0].number);
    drain(&mut core);
    // Rejected by the application: raft's configuration stays, and the next one comes.
    assert_eq!(core.apply_conf_change(None).unwrap(), voters(&[1]));
    let outputs = drain(&mut core);
    assert_eq!(kinds(&outputs[0].entries), [1]);
    core.persisted(outputs[0].number);
    drain(&mut core);
    let conf_state = core.apply_conf_change(Some(&learner(5))).unwrap();
    assert_eq!(conf_state.learners, [5]);
}

#[test]
fn too_many_are_dropped() {
    let mut core = lone_leader();
    let learner = |id| conf_change(ConfChangeAddLearnerNode, id);
    let taken = (4..100).take_while(|id| core.propose_conf_change(&learner(*id)).is_ok());
    assert_eq!(taken.count(), 17, "one under way and 16 that wait");
    let mut large = learner(4);
    large.context = Some(vec![b' '; 65 * 1024].into());
    core.propose_conf_change(&large).unwrap();
    // It is not held, and so becomes an empty entry.
    assert_eq!(kinds(&drain(&mut core)[0].entries), [1, 0]);
}

#[test]
fn changes_that_a_follower_passes_on_are_all_made() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader();
    let follower = if leader == 1 { 2 } else { 1 };
    for change in [
        conf_change(ConfChangeAddLearnerNode, 4),
        conf_change(ConfChangeAddNode, 5),
        conf_change(ConfChangeRemoveNode, 5),
        conf_change(ConfChangeAddNode, 4),
    ] {
        cluster.core(follower).propose_conf_change(&change).unwrap();
    }
    cluster.settle();
    cluster.tick(&[1, 2, 3], 2);
    for conf_state in all(&mut cluster) {
        assert_eq!(conf_state, voters(&[1, 2, 3, 4]));
    }
}

/// Each is sound by itself: of three members that work. All three would leave six members, of which three work.
#[test]
fn changes_that_together_would_cost_the_quorum_are_not_all_made() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader();
    cluster.tick(&[1, 2, 3], 2);
    for id in 4..7 {
        let change = conf_change(ConfChangeAddNode, id);
        cluster.core(leader).propose_conf_change(&change).unwrap();
    }
    cluster.settle();
    cluster.tick(&[1, 2, 3], 100);
    for conf_state in all(&mut cluster) {
        assert_eq!(conf_state, voters(&[1, 2, 3, 4, 5]));
    }
    let remove = |id| conf_change(ConfChangeRemoveNode, id);
    for id in [4, 5, 1] {
        cluster
            .core(leader)
            .propose_conf_change(&remove(id))
            .unwrap();
    }
    cluster.settle();
    cluster.tick(&[1, 2, 3], 3);
    assert_eq!(cluster.core(leader).conf_state().voters.len(), 2);
    let core = cluster.core(leader);
    assert!(core.held.is_empty());
}

/// Simulation, seed 44403 at the time: the other one may never learn that it is alone.
#[test]
fn of_two_nobody_is_removed_by_a_change_that_was_held() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader();
    cluster.tick(&[1, 2, 3], 2);
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    for id in &others {
        let change = conf_change(ConfChangeRemoveNode, *id);
        cluster.core(leader).propose_conf_change(&change).unwrap();
    }
    cluster.settle();
    cluster.tick(&[1, 2, 3], 50);
    let core = cluster.core(leader);
    assert_eq!(core.conf_state().voters.len(), 2);
    assert!(core.held.is_empty(), "dropped in the end");
    // Asked for of two, it is made.
    let change = conf_change(ConfChangeRemoveNode, others[1]);
    core.propose_conf_change(&change).unwrap();
    cluster.settle();
    cluster.tick(&[1, 2, 3], 2);
    assert_eq!(cluster.core(leader).conf_state().voters, [leader]);
}

#[test]
fn a_removal_is_not_let_go_while_too_few_answer() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader();
    cluster.tick(&[1, 2, 3], 2);
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    // One has been silent for long.
    cluster.cut_off.push(others[0]);
    cluster.tick(&[1, 2, 3], 50);
    let core = cluster.core(leader);
    core.propose_conf_change(&conf_change(ConfChangeAddLearnerNode, 4))
        .unwrap();
    // Of the one that works: refused. Of the silent one: sound.
    core.propose_conf_change(&conf_change(ConfChangeRemoveNode, others[1]))
        .unwrap();
    cluster.settle();
    cluster.tick(&[1, 2, 3], 5);
    assert_eq!(cluster.core(leader).conf_state().voters, [1, 2, 3]);
    cluster.tick(&[1, 2, 3], 50);
    assert!(cluster.core(leader).held.is_empty(), "dropped in the end");
    let core = cluster.core(leader);
    core.propose_conf_change(&conf_change(ConfChangeAddLearnerNode, 5))
        .unwrap();
    core.propose_conf_change(&conf_change(ConfChangeRemoveNode, others[0]))
        .unwrap();
    cluster.settle();
    cluster.tick(&[1, 2, 3], 1);
    let conf_state = cluster.core(leader).conf_state();
    assert_eq!(conf_state.voters.len(), 2);
    assert_eq!(conf_state.learners, [4, 5]);
}

#[test]
fn a_leader_that_is_deposed_drops_what_it_holds() {
    let mut cluster = Cluster::new();
    let old = cluster.leader();
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != old).collect();
    cluster.cut_off.push(old);
    for id in [4, 5] {
        let change = conf_change(ConfChangeAddLearnerNode, id);
        cluster.core(old).propose_conf_change(&change).unwrap();
    }
    cluster.settle();
    while !others
        .iter()
        .any(|id| cluster.cores[id].soft_state().role == Role::Leader)
    {
        cluster.tick(&others, 1);
    }
    cluster.cut_off.clear();
    cluster.tick(&others, 2);
    assert_eq!(cluster.core(old).soft_state().role, Role::Follower);
    cluster.tick(&[1, 2, 3], 2);
    // The first one was in the old leader's log only; the second one nobody has judged for the new leader.
    assert!(cluster.core(old).held.is_empty());
    for conf_state in all(&mut cluster) {
        assert_eq!(conf_state, voters(&[1, 2, 3]));
    }
}
