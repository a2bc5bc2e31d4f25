//! What a leader owes to members that lag, join, leave or take over.

use super::three::Cluster;
use super::*;

fn message(kind: i32, from: u64, term: u64) -> raftpb::Message {
    raftpb::Message {
        r#type: Some(kind),
        to: Some(1),
        from: Some(from),
        term: Some(term),
        ..raftpb::Message::default()
    }
}

/// Persists everything; what is committed counts as applied at once.
fn run(core: &mut Core) -> Vec<raftpb::Message> {
    let mut messages = Vec::new();
    while let Some(output) = core.ready() {
        core.persisted(output.number);
        messages.extend(output.messages);
        messages.extend(output.persisted_messages);
        if let Some(last) = output.committed.last() {
            core.applied(last.index());
        }
    }
    messages
}

/// Makes member 1 of 1, 2, 3 the leader.
fn elect(core: &mut Core) -> u64 {
    let mut term = 0;
    for kind in [18, 6] {
        for _ in 0..if kind == 18 { 25 } else { 0 } {
            core.tick();
            let asked = run(core).into_iter().find(|m| m.r#type == Some(17));
            if let Some(m) = asked {
                term = m.term();
                break;
            }
        }
        core.step(message(kind, 2, term)).unwrap();
        run(core);
    }
    assert_eq!(core.soft_state().role, Role::Leader);
    core.step(raftpb::Message {
        index: Some(core.last_index()),
        ..message(4, 2, term)
    })
    .unwrap();
    run(core);
    term
}

/// Of the snapshot that its log starts from, a restarted member knows only the place. What it
/// offers is its applied state.
#[test]
fn a_restarted_leader_serves_a_member_far_behind() {
    let initial = InitialState {
        snapshot: (50, 2),
        conf_state: voters(&[1, 2, 3]),
        hard_state: hard_state(2, 0, 58),
        entries: (51..=60).map(|i| normal(i, 2, b"x")).collect(),
        applied: 57,
    };
    let mut core = Core::new(&config(1), initial, &logger()).unwrap();
    let term = elect(&mut core);
    assert_eq!(core.committed(), 61);
    core.step(raftpb::Message {
        index: Some(60),
        reject: Some(true),
        reject_hint: Some(4),
        log_term: Some(1),
        ..message(4, 3, term)
    })
    .unwrap();
    let sent = run(&mut core);
    let snapshot = sent.iter().find(|m| m.r#type == Some(7)).unwrap();
    let meta = snapshot.snapshot.clone().unwrap().metadata.unwrap();
    assert_eq!((meta.index(), meta.term()), (61, term));
    assert_eq!(meta.conf_state, Some(voters(&[1, 2, 3])));
    let progress = core.progress();
    assert_eq!(progress[2].replication, Replication::Snapshot);
    assert_eq!(progress[2].pending_snapshot, 61);

    // The transport sent a newer one.
    core.propose(&[Bytes::from_static(b"y")]).unwrap();
    run(&mut core);
    core.report_snapshot(3, true);
    core.step(raftpb::Message {
        index: Some(61),
        ..message(4, 3, term)
    })
    .unwrap();
    let sent = run(&mut core);
    let append = sent.iter().find(|m| m.to() == 3 && m.r#type == Some(3));
    assert_eq!(texts(&append.unwrap().entries), ["y"]);
}

#[test]
fn a_snapshot_that_failed_is_sent_again() {
    let initial = InitialState {
        snapshot: (50, 2),
        conf_state: voters(&[1, 2, 3]),
        hard_state: hard_state(2, 0, 50),
        entries: Vec::new(),
        applied: 50,
    };
    let mut core = Core::new(&config(1), initial, &logger()).unwrap();
    let term = elect(&mut core);
    let reject = |hint| raftpb::Message {
        index: Some(50),
        reject: Some(true),
        reject_hint: Some(hint),
        log_term: Some(1),
        ..message(4, 3, term)
    };
    core.step(reject(4)).unwrap();
    assert!(run(&mut core).iter().any(|m| m.r#type == Some(7)));
    core.step(message(9, 3, term)).unwrap();
    assert!(run(&mut core).iter().all(|m| m.r#type != Some(7)));
    core.report_snapshot(3, false);
    run(&mut core);
    core.step(message(9, 3, term)).unwrap();
    assert!(run(&mut core).iter().any(|m| m.r#type == Some(7)));
}

/// A member that is heard of, however slow, keeps the entries that it needs in the leader's memory;
/// a silent one does not for long.
#[test]
fn entries_are_kept_for_members_that_lag() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader();
    let slow = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
    cluster.settle();
    let matched = cluster.core(leader).progress()[slow as usize - 1].matched;
    cluster.cut_off = vec![slow];
    let term = cluster.core(leader).soft_state().term;
    for round in 0..40 {
        let core = cluster.core(leader);
        core.propose(&vec![Bytes::from_static(b"x"); 50]).unwrap();
        cluster.settle();
        cluster.tick(&[leader], 1);
        if round < 20 {
            // It answers heartbeats, and gets no further.
            let core = cluster.core(leader);
            core.step(raftpb::Message {
                to: Some(leader),
                ..message(9, slow, term)
            })
            .unwrap();
            cluster.settle();
            let core = cluster.core(leader);
            assert!(core.first_index() <= matched + 1, "round {round}");
            assert!(core.progress()[slow as usize - 1].recently_active);
        }
    }
    cluster.tick(&[leader], 15);
    let core = cluster.core(leader);
    core.propose(&[Bytes::from_static(b"x")]).unwrap();
    cluster.settle();
    cluster.tick(&[leader], 1);
    let core = cluster.core(leader);
    assert!(!core.progress()[slow as usize - 1].recently_active);
    assert!(core.last_index() - core.first_index() < 200);
    // It comes back, and needs no entry that is gone.
    cluster.cut_off.clear();
    cluster.tick(&[leader], 30);
    let last = cluster.core(leader).last_index();
    assert_eq!(cluster.core(slow).last_index(), last);
}

/// Seam d of membership changes: the leader is removed by its own change, with entries behind it
/// under way. They are committed without its vote, and somebody takes over without waiting for an
/// election timeout.
#[test]
fn a_leader_that_removes_itself_hands_over() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader();
    cluster.settle();
    let remove = conf_change(raftpb::ConfChangeType::ConfChangeRemoveNode, leader);
    let core = cluster.core(leader);
    core.propose_conf_change(&remove).unwrap();
    core.propose(&vec![Bytes::from_static(b"behind it"); 3])
        .unwrap();
    cluster.settle();
    let rest: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    assert_eq!(cluster.core(leader).conf_state().voters, rest);
    let more = cluster.core(leader).propose(&[Bytes::from_static(b"more")]);
    assert_eq!(more, Err(StepError::ProposalDropped));
    cluster.tick(&[1, 2, 3], 2);
    assert_eq!(cluster.core(leader).soft_state().role, Role::Follower);
    assert!(cluster.core(leader).progress().is_empty());
    let leads = |cluster: &mut Cluster, id: u64| cluster.core(id).soft_state().role == Role::Leader;
    assert!(rest.iter().any(|id| leads(&mut cluster, *id)));
    cluster.tick(&rest, 3);
    for id in rest {
        assert_eq!(cluster.applied[&id].len(), 4, "with the change itself");
        let voters = cluster.core(id).conf_state().voters;
        assert!(!voters.contains(&leader));
    }
    // What is left of it disturbs nobody.
    cluster.tick(&[leader], 50);
    assert_eq!(cluster.core(leader).soft_state().role, Role::Follower);
}

/// Of two members the leader removes itself. What follows is lost on the way to the other one; it
/// still learns that it is alone, though it has less than the one that left.
#[test]
fn the_last_but_one_leaves_nobody_behind() {
    let mut cores: std::collections::BTreeMap<u64, Core> =
        [1, 2].map(|id| (id, core_with(id, &[1, 2], 3))).into();
    let mut cluster = Cluster::of(std::mem::take(&mut cores));
    let leader = cluster.leader();
    let other = 3 - leader;
    cluster.settle();
    let remove = conf_change(raftpb::ConfChangeType::ConfChangeRemoveNode, leader);
    cluster.core(leader).propose_conf_change(&remove).unwrap();
    cluster
        .core(leader)
        .propose(&[Bytes::from_static(b"y")])
        .unwrap();
    cluster.settle();
    // The commit and the entry behind it never arrive.
    cluster.cut_off = vec![other];
    cluster.tick(&[1, 2], 5);
    cluster.cut_off.clear();
    cluster.tick(&[1, 2], 5);
    assert_eq!(cluster.core(other).conf_state(), voters(&[other]));
    cluster.tick(&[other], 30);
    assert!(cluster.core(other).leads_alone());
    assert!(cluster.applied[&other].contains(&"y".to_owned()));
}

/// Of two members the leader removed itself. The other one may lead already, which this one has not heard, and overwrite what
/// it would read.
#[test]
fn a_leader_that_left_answers_no_reads() {
    let cores = [1, 2].map(|id| (id, core_with(id, &[1, 2], 3)));
    let mut cluster = Cluster::of(cores.into());
    let leader = cluster.leader();
    let other = 3 - leader;
    cluster.settle();
    let remove = conf_change(raftpb::ConfChangeType::ConfChangeRemoveNode, leader);
    cluster.core(leader).propose_conf_change(&remove).unwrap();
    cluster.settle();
    let core = cluster.core(leader);
    assert_eq!(core.conf_state(), voters(&[other]));
    assert_eq!(core.soft_state().role, Role::Leader);
    let passed_on = raftpb::Message {
        to: Some(leader),
        entries: vec![raftpb::Entry {
            data: Some(Bytes::from_static(b"a context")),
            ..raftpb::Entry::default()
        }],
        ..message(15, other, 0)
    };
    assert_eq!(core.step(passed_on), Err(StepError::ProposalDropped));
    assert!(core.read_index(7));
    for output in drain(core) {
        assert_eq!(output.read_states, []);
        assert!(output.messages.iter().all(|m| m.r#type != Some(16)));
    }
}

/// Of two members the leader removed itself, and both were started again before the other one knew. The one that left has
/// more in its log, so it does not vote for the other one; its refusal says that the removal is committed.
#[test]
fn a_refused_vote_tells_the_last_member_that_it_is_alone() {
    let removal = raftpb::Entry {
        r#type: Some(raftpb::EntryType::EntryConfChange as i32),
        data: Some(
            conf_change(raftpb::ConfChangeType::ConfChangeRemoveNode, 2)
                .encode_to_vec()
                .into(),
        ),
        ..normal(4, 1, b"")
    };
    let mut entries: Vec<_> = (1..=3).map(|i| normal(i, 1, b"old")).collect();
    entries.push(removal);
    let stays = InitialState {
        snapshot: (0, 0),
        conf_state: voters(&[1, 2]),
        hard_state: hard_state(1, 2, 3),
        entries: entries.clone(),
        applied: 3,
    };
    entries.push(normal(5, 1, b"behind it"));
    let left = InitialState {
        snapshot: (0, 0),
        conf_state: voters(&[1]),
        hard_state: hard_state(1, 2, 4),
        entries,
        applied: 4,
    };
    let core = |id, initial| (id, Core::new(&config(id), initial, &logger()).unwrap());
    let mut cluster = Cluster::of([core(1, stays), core(2, left)].into());
    cluster.tick(&[1, 2], 60);
    assert_eq!(cluster.core(1).conf_state(), voters(&[1]));
    assert!(cluster.core(1).leads_alone());
}

/// A conf change from before a snapshot, applied after the snapshot came: the configuration of the
/// snapshot stays, and the database gets that of its own time.
#[test]
fn an_old_conf_change_does_not_touch_a_newer_configuration() {
    let mut core = core_with(1, &[1, 2, 3], 3);
    let learner = conf_change(raftpb::ConfChangeType::ConfChangeAddLearnerNode, 4);
    let entry = raftpb::Entry {
        r#type: Some(1),
        data: Some(learner.encode_to_vec().into()),
        ..normal(4, 2, b"")
    };
    core.step(raftpb::Message {
        log_term: Some(1),
        index: Some(3),
        entries: vec![entry],
        commit: Some(4),
        ..message(3, 2, 2)
    })
    .unwrap();
    for output in drain(&mut core) {
        core.persisted(output.number);
    }
    assert_eq!(
        drain(&mut core)[0].committed.len(),
        1,
        "handed out, not applied"
    );
    core.step(raftpb::Message {
        snapshot: Some(raftpb::Snapshot {
            data: None,
            metadata: Some(raftpb::SnapshotMetadata {
                conf_state: Some(voters(&[1, 2, 3, 4])),
                index: Some(9),
                term: Some(2),
            }),
        }),
        ..message(7, 2, 2)
    })
    .unwrap();
    let old = core.apply_conf_change(Some(&learner)).unwrap();
    assert_eq!((old.voters, old.learners), (vec![1, 2, 3], vec![4]));
    assert_eq!(core.conf_state(), voters(&[1, 2, 3, 4]));
    for output in drain(&mut core) {
        core.persisted(output.number);
    }
    core.applied(9);
    let remove = conf_change(raftpb::ConfChangeType::ConfChangeRemoveNode, 3);
    assert_eq!(
        core.apply_conf_change(Some(&remove)).unwrap(),
        voters(&[1, 2, 4])
    );
}

#[test]
fn ticks_are_advanced_only_while_nobody_leads() {
    let mut core = core_with(1, &[1, 2, 3], 3);
    core.advance_ticks(8);
    for _ in 0..11 {
        core.tick();
    }
    assert_eq!(core.soft_state().role, Role::PreCandidate);
    let mut core = core_with(1, &[1, 2, 3], 3);
    core.step(message(8, 2, 2)).unwrap();
    core.advance_ticks(100);
    assert_eq!(core.soft_state().leader, 2);
}

/// What a follower asks of its leader does not wait for its disk; what it says about its log does,
/// and so does everything in a term that is not durable yet.
#[test]
fn a_followers_questions_do_not_wait_for_its_disk() {
    let kinds = |messages: &[raftpb::Message]| -> Vec<i32> {
        messages.iter().filter_map(|m| m.r#type).collect()
    };
    let mut core = core_with(1, &[1, 2, 3], 3);
    for (index, durable) in [(4, false), (5, true)] {
        core.step(raftpb::Message {
            index: Some(index - 1),
            log_term: Some(if index == 4 { 1 } else { 2 }),
            entries: vec![normal(index, 2, b"new")],
            ..message(3, 2, 2)
        })
        .unwrap();
        core.propose(&[Bytes::from_static(b"mine")]).unwrap();
        assert!(core.read_index(index));
        let outputs = drain(&mut core);
        let at_once: Vec<_> = outputs.iter().flat_map(|o| kinds(&o.messages)).collect();
        let mut waits: Vec<_> = outputs
            .iter()
            .flat_map(|o| kinds(&o.persisted_messages))
            .collect();
        waits.sort_unstable();
        match durable {
            true => assert_eq!((at_once, waits), (vec![2, 15], vec![4])),
            false => assert_eq!((at_once, waits), (vec![], vec![2, 4, 15])),
        }
        for output in outputs {
            core.persisted(output.number);
        }
    }
}

/// Whose leader's process has ended waits as long as it must, and then its turn.
#[test]
fn members_whose_leader_is_gone_take_turns() {
    for (id, gone, heard_again, patience) in [
        (1, Some(2), false, Some(10)),
        (3, Some(2), false, Some(12)),
        (1, Some(3), false, None),
        (1, Some(2), true, None),
        (1, None, false, None),
    ] {
        let mut waited = Vec::new();
        for seed in 1..=16 {
            let config = CoreConfig { seed, ..config(id) };
            let mut core = seeded(config, &[1, 2, 3], 3);
            let heartbeat = raftpb::Message {
                to: Some(id),
                ..message(8, 2, 2)
            };
            core.step(heartbeat.clone()).unwrap();
            run(&mut core);
            core.report_gone(gone.unwrap_or(0));
            if heard_again {
                core.step(heartbeat).unwrap();
            }
            let mut ticks = 0;
            while core.soft_state().role == Role::Follower {
                core.tick();
                run(&mut core);
                ticks += 1;
            }
            waited.push(ticks);
        }
        match patience {
            Some(patience) => assert_eq!(waited, vec![patience; 16], "{id} {gone:?}"),
            None => assert!(waited.iter().any(|ticks| *ticks != waited[0]), "{waited:?}"),
        }
        assert!(waited.iter().all(|ticks| (10..20).contains(ticks)));
    }
}

/// While leadership is handed over a leader takes no proposals; it says so, and for how long.
#[test]
fn a_transfer_ends_by_itself() {
    let mut core = core_with(1, &[1, 2, 3], 3);
    elect(&mut core);
    assert!(!core.is_congested());
    core.transfer_leader(9);
    core.transfer_leader(1);
    assert_eq!(core.transferee(), 0, "no member, and the leader itself");
    core.transfer_leader(3);
    assert_eq!((core.transferee(), core.is_congested()), (3, true));
    for _ in 0..10 {
        core.tick();
        core.step(message(9, 2, core.soft_state().term)).unwrap();
        run(&mut core);
    }
    assert_eq!((core.transferee(), core.is_congested()), (0, false));
    assert_eq!(core.soft_state().role, Role::Leader);
}

/// A vote that cannot have been asked for, since the request waits for the log to be durable: the
/// crate would panic.
#[test]
fn no_vote_is_counted_before_the_log_is_durable() {
    let mut core = core_with(1, &[1, 2, 3], 3);
    core.step(raftpb::Message {
        log_term: Some(1),
        index: Some(3),
        entries: vec![normal(4, 2, b"x")],
        ..message(3, 2, 2)
    })
    .unwrap();
    let unsynced = drain(&mut core);
    core.step(message(14, 2, 2)).unwrap();
    assert_eq!(core.soft_state().role, Role::Candidate);
    assert!(core.step(message(6, 3, 3)).is_err());
    assert_eq!(core.soft_state().role, Role::Candidate);
    drain(&mut core);
    core.persisted(unsynced.last().unwrap().number);
    core.step(message(6, 3, 3)).unwrap();
    assert_eq!(core.soft_state().role, Role::Leader);
}

/// An old answer to a heartbeat confirms the request that it was for, and neither that request when it comes once more
/// nor a read that began in between: this leader may have been deposed meanwhile.
#[test]
fn a_read_request_that_comes_twice_confirms_no_other() {
    let mut core = core_with(1, &[1, 2, 3], 3);
    let term = elect(&mut core);
    let theirs = Bytes::from_static(b"theirs");
    let request = raftpb::Message {
        term: None,
        entries: vec![raftpb::Entry {
            data: Some(theirs.clone()),
            ..raftpb::Entry::default()
        }],
        ..message(15, 2, 0)
    };
    core.step(request.clone()).unwrap();
    let context = run(&mut core)
        .iter()
        .find(|m| m.r#type == Some(8))
        .unwrap()
        .context
        .clone();
    assert_ne!(context, Some(theirs.clone()));
    let answer = raftpb::Message {
        context,
        ..message(9, 3, term)
    };
    core.step(answer.clone()).unwrap();
    let told = run(&mut core);
    let told = told.iter().find(|m| m.r#type == Some(16)).unwrap();
    assert_eq!(told.entries[0].data, Some(theirs));

    assert!(core.read_index(77));
    run(&mut core);
    core.step(request).unwrap();
    let context = run(&mut core)
        .iter()
        .find(|m| m.r#type == Some(8))
        .unwrap()
        .context
        .clone();
    core.step(answer.clone()).unwrap();
    let outputs = drain(&mut core);
    assert!(
        outputs.iter().all(|o| o.read_states.is_empty()),
        "an old answer confirms a new read"
    );
    // A new one confirms both.
    core.step(raftpb::Message { context, ..answer }).unwrap();
    let confirmed: Vec<_> = drain(&mut core)
        .into_iter()
        .flat_map(|o| o.read_states)
        .collect();
    assert_eq!(confirmed.len(), 1);
    assert_eq!(confirmed[0].0, 77);
}
