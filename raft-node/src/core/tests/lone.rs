//! A member alone.

use super::*;

/// D2 (etcd #14370): the only voter's entry is committed after its sync, not before, and nothing
/// that depends on it is told to anybody before.
#[test]
fn a_lone_voters_entry_is_committed_only_when_its_sync_has_returned() {
    let mut core = lone_leader();
    let before = core.committed();
    core.propose(&[Bytes::from_static(b"a")]).unwrap();
    let outputs = drain(&mut core);
    assert_eq!(outputs.len(), 1);
    let write = &outputs[0];
    assert!(write.must_sync);
    assert_eq!(texts(&write.entries), ["a"]);
    assert!(write.committed.is_empty());
    assert_eq!(core.committed(), before);

    // Whatever else happens meanwhile: ticks, reads, more proposals.
    for _ in 0..50 {
        core.tick();
    }
    core.read_index(7);
    core.propose(&[Bytes::from_static(b"b")]).unwrap();
    let outputs = drain(&mut core);
    assert!(committed(&outputs).is_empty());
    assert_eq!(core.committed(), before);
    let reads: Vec<_> = outputs.iter().flat_map(|o| o.read_states.clone()).collect();
    assert_eq!(reads, [(7, before)], "a read sees what is durable");

    // The report for `a` does not cover `b`.
    core.persisted(write.number);
    let outputs = drain(&mut core);
    assert_eq!(committed(&outputs), ["a"]);
    assert_eq!(core.committed(), before + 1);
    let last = outputs.last().unwrap().number;
    core.persisted(last);
    assert_eq!(committed(&drain(&mut core)), ["b"]);
}

#[test]
fn a_lone_voter_waits_for_its_founding_conf_change() {
    let members = [crate::membership::Member {
        id: 1,
        ..Default::default()
    }];
    let initial = InitialState {
        snapshot: (0, 0),
        conf_state: voters(&[1]),
        hard_state: hard_state(1, 0, 1),
        entries: crate::membership::bootstrap_entries(&members),
        applied: 0,
    };
    let mut core = Core::new(&config(1), initial, &logger()).unwrap();
    assert!(!core.campaign_if_alone(), "its conf change is not applied");
    let outputs = drain(&mut core);
    assert_eq!(outputs[0].committed.len(), 1);
    assert_eq!(
        outputs[0].committed[0].r#type(),
        raftpb::EntryType::EntryConfChange
    );
    let cc = raftpb::ConfChange::decode(outputs[0].committed[0].data.clone().unwrap()).unwrap();
    assert_eq!(core.apply_conf_change(Some(&cc)).unwrap(), voters(&[1]));
    assert!(core.campaign_if_alone());
    let outputs = drain(&mut core);
    assert_eq!(outputs[0].hard_state, Some(hard_state(2, 1, 1)));
    assert_eq!(outputs[0].entries, [normal(2, 2, b"")]);
}

/// Nothing of a new term reaches a learner before the term is durable: a lone voter that forgot it
/// would use it again, for other entries. (Found by simulation; etcd before 3.6 has it too.)
#[test]
fn a_lone_voter_sends_nothing_before_its_term_is_durable() {
    let initial = InitialState {
        conf_state: raftpb::ConfState {
            learners: vec![2],
            ..voters(&[1])
        },
        hard_state: hard_state(1, 1, 1),
        entries: vec![normal(1, 1, b"old")],
        applied: 1,
        ..InitialState::default()
    };
    let mut core = Core::new(&config(1), initial, &logger()).unwrap();
    assert!(core.campaign_if_alone());
    core.propose(&[Bytes::from_static(b"a")]).unwrap();
    let mut outputs = drain(&mut core);
    core.tick();
    outputs.extend(drain(&mut core));
    assert!(outputs.iter().all(|o| o.messages.is_empty()));
    let held = |o: &Output| o.persisted_messages.iter().any(|m| m.to() == 2);
    assert!(outputs.iter().any(held));
    core.persisted(outputs.last().unwrap().number);
    drain(&mut core);
    core.tick();
    let outputs = drain(&mut core);
    assert!(
        outputs
            .iter()
            .any(|o| o.messages.iter().any(|m| m.to() == 2))
    );
}

#[test]
fn a_lone_voter_also_elects_itself_by_ticks() {
    let mut core = core_with(1, &[1], 1);
    for _ in 0..20 {
        core.tick();
    }
    assert_eq!(core.soft_state().role, Role::Leader);
}

#[test]
fn proposals_without_a_leader_are_dropped_whole() {
    let mut core = core_with(1, &[1, 2, 3], 3);
    let result = core.propose(&[Bytes::from_static(b"a")]);
    assert_eq!(result, Err(StepError::ProposalDropped));
    let cc = conf_change(raftpb::ConfChangeType::ConfChangeAddNode, 4);
    assert_eq!(
        core.propose_conf_change(&cc),
        Err(StepError::ProposalDropped)
    );
    assert!(core.ready().is_none());
}

/// The conf changes of etcd reach log, network and apply as etcd's bytes, also the kind that the
/// crate cannot read.
#[test]
fn conf_changes_keep_their_bytes() {
    use raftpb::ConfChangeType as T;
    let kinds = [
        (T::ConfChangeAddLearnerNode, 4),
        (T::ConfChangeUpdateNode, 4),
        (T::ConfChangeAddNode, 4),
        (T::ConfChangeRemoveNode, 4),
    ];
    let mut core = lone_leader();
    for (kind, id) in kinds {
        let cc = conf_change(kind, id);
        core.propose_conf_change(&cc).unwrap();
        let bytes = cc.encode_to_vec();
        let mut outputs = drain(&mut core);
        assert_eq!(
            outputs[0].entries[0].data.as_deref(),
            Some(&bytes[..]),
            "{kind:?}"
        );
        // The new voter 4 acknowledges by itself; before it is added, and as a learner, it need not.
        let mut delivered = Vec::new();
        while delivered.is_empty() {
            for output in &outputs {
                core.persisted(output.number);
                for m in &output.messages {
                    for e in &m.entries {
                        if e.r#type == Some(1) && e.index == outputs[0].entries[0].index {
                            assert_eq!(e.data.as_deref(), Some(&bytes[..]));
                        }
                    }
                }
                delivered.extend(output.committed.clone());
            }
            outputs = drain(&mut core);
            if outputs.is_empty() && delivered.is_empty() {
                // Only with voter 4 there: let it acknowledge everything.
                let index = core.last_index();
                core.step(raftpb::Message {
                    r#type: Some(4),
                    to: Some(1),
                    from: Some(4),
                    term: Some(core.soft_state().term),
                    index: Some(index),
                    ..raftpb::Message::default()
                })
                .unwrap();
                outputs = drain(&mut core);
            }
        }
        assert_eq!(delivered[0].data.as_deref(), Some(&bytes[..]));
        core.apply_conf_change(Some(&cc)).unwrap();
        let cs = core.conf_state();
        match kind {
            T::ConfChangeAddLearnerNode | T::ConfChangeUpdateNode => {
                assert_eq!((cs.voters, cs.learners), (vec![1], vec![4]), "{kind:?}");
            }
            T::ConfChangeAddNode => assert_eq!(cs.voters, [1, 4]),
            T::ConfChangeRemoveNode => assert_eq!(cs.voters, [1]),
        }
    }
}

#[test]
fn a_conf_change_counts_as_uncommitted_until_it_is_committed() {
    let mut core = lone_leader();
    let cc = conf_change(raftpb::ConfChangeType::ConfChangeAddLearnerNode, 4);
    core.propose(&[Bytes::from_static(b"text")]).unwrap();
    core.propose_conf_change(&cc).unwrap();
    let outputs = drain(&mut core);
    let uncommitted = core.raw.raft.uncommitted_size();
    assert_eq!(uncommitted, 4 + cc.encode_to_vec().len());
    for output in outputs {
        core.persisted(output.number);
    }
    assert_eq!(drain(&mut core).len(), 1);
    assert_eq!(core.raw.raft.uncommitted_size(), 0);
}

#[test]
fn the_last_voter_stays() {
    let mut core = lone_leader();
    let cc = conf_change(raftpb::ConfChangeType::ConfChangeRemoveNode, 1);
    assert!(matches!(
        core.apply_conf_change(Some(&cc)),
        Err(StepError::Raft(_))
    ));
    assert_eq!(core.conf_state(), voters(&[1]));
}

/// M2: a request made before the leader has committed in its term waits for that; the core below
/// would have dropped it.
#[test]
fn reads_wait_for_the_first_commit_of_the_term() {
    let mut core = core_with(1, &[1], 1);
    core.read_index(5);
    assert!(core.campaign_if_alone());
    let outputs = drain(&mut core);
    assert!(outputs.iter().all(|o| o.read_states.is_empty()));
    core.persisted(outputs.last().unwrap().number);
    let reads: Vec<_> = drain(&mut core)
        .iter()
        .flat_map(|o| o.read_states.clone())
        .collect();
    assert_eq!(reads, [(5, 2)]);
}

#[test]
fn old_entries_are_forgotten_when_nobody_needs_them() {
    let mut core = lone_leader();
    for round in 0..50 {
        let batch = vec![Bytes::from_static(b"x"); 10];
        core.propose(&batch).unwrap();
        let outputs = drain(&mut core);
        core.persisted(outputs.last().unwrap().number);
        drain(&mut core);
        core.applied(core.committed());
        assert!(
            core.last_index() - core.first_index() < 120,
            "round {round}"
        );
    }
    let index = core.committed() - 200;
    assert_eq!(core.term(index), Some(2), "snapshots can still be named");
    core.snapshot_saved(core.committed());
    assert_eq!(
        core.last_index() - core.first_index(),
        2,
        "catch-up entries"
    );
    assert_eq!(core.term(index), None);
}

/// The same seed gives the same timeouts.
#[test]
fn elections_repeat_from_a_seed() {
    let ticks = |seed| {
        let config = CoreConfig { seed, ..config(1) };
        let initial = InitialState {
            conf_state: voters(&[1, 2, 3]),
            hard_state: hard_state(1, 0, 0),
            ..InitialState::default()
        };
        let mut core = Core::new(&config, initial, &logger()).unwrap();
        let mut ticks = 0;
        while core.soft_state().role == Role::Follower {
            core.tick();
            ticks += 1;
        }
        ticks
    };
    let all: Vec<usize> = (0..30).map(ticks).collect();
    assert_eq!(all, (0..30).map(ticks).collect::<Vec<_>>());
    assert!(all.iter().all(|t| (10..20).contains(t)), "{all:?}");
    assert!(all.iter().any(|t| *t != all[0]), "{all:?}");
}
