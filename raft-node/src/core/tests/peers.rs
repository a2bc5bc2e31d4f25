//! What peers may send, and what they may not.

use super::*;

/// A follower that becomes the only voter while its log is not durable must not campaign: the
/// crate would panic.
#[test]
fn no_election_alone_before_the_log_is_durable() {
    let mut core = core_with(1, &[1, 2], 2);
    let cc = conf_change(raftpb::ConfChangeType::ConfChangeRemoveNode, 2);
    let mut entry = normal(3, 2, b"");
    entry.r#type = Some(1);
    entry.data = Some(cc.encode_to_vec().into());
    let append = |entries, index, commit| raftpb::Message {
        r#type: Some(3),
        to: Some(1),
        from: Some(2),
        term: Some(2),
        log_term: Some(if index == 2 { 1 } else { 2 }),
        index: Some(index),
        entries,
        commit: Some(commit),
        ..raftpb::Message::default()
    };
    core.step(append(vec![entry], 2, 2)).unwrap();
    for output in drain(&mut core) {
        core.persisted(output.number);
    }
    core.step(append(vec![normal(4, 2, b"x")], 3, 3)).unwrap();
    let outputs = drain(&mut core);
    assert_eq!(outputs.iter().flat_map(|o| &o.committed).count(), 1);
    core.apply_conf_change(Some(&cc)).unwrap();
    for _ in 0..50 {
        core.tick();
    }
    assert!(!core.campaign_if_alone());
    assert_eq!(core.soft_state().role, Role::Follower);
    core.persisted(outputs.last().unwrap().number);
    assert!(core.campaign_if_alone());
}

/// An entry is replaced and comes back from a later leader while the first write of it is still under way (of five members, the
/// one that has it leads again). That write being done does not make it durable: the write that replaces it follows.
#[test]
fn an_entry_that_came_back_is_not_durable_by_its_first_write() {
    let mut core = core_with(1, &[1, 2, 3, 4, 5], 2);
    let append = |core: &mut Core, term, entries: &[raftpb::Entry]| {
        core.step(raftpb::Message {
            r#type: Some(3),
            to: Some(1),
            from: Some(2),
            term: Some(term),
            log_term: Some(1),
            index: Some(2),
            entries: entries.to_vec(),
            commit: Some(2),
            ..raftpb::Message::default()
        })
        .unwrap();
        drain(core).last().expect("something to write").number
    };
    let writes = [
        append(&mut core, 2, &[normal(3, 2, b"x")]),
        append(&mut core, 3, &[normal(3, 3, b"y"), normal(4, 3, b"y")]),
        append(&mut core, 4, &[normal(3, 2, b"x")]),
    ];
    let durable = |core: &Core| core.raw.raft.raft_log.persisted;
    for write in &writes[..2] {
        core.persisted(*write);
        assert_eq!(durable(&core), 2);
    }
    core.persisted(writes[2]);
    assert_eq!(durable(&core), 3);
}

#[test]
fn messages_that_no_peer_sends_change_nothing() {
    let message = |kind: i32| raftpb::Message {
        r#type: Some(kind),
        to: Some(1),
        from: Some(2),
        term: Some(5),
        ..raftpb::Message::default()
    };
    let snapshot = |cs: raftpb::ConfState, index| raftpb::Snapshot {
        data: None,
        metadata: Some(raftpb::SnapshotMetadata {
            conf_state: Some(cs),
            index: Some(index),
            term: Some(1),
        }),
    };
    let entry = |index, term, kind| raftpb::Entry {
        r#type: Some(kind),
        term: Some(term),
        index: Some(index),
        data: None,
    };
    let mut bad = vec![
        ("unknown type", message(99)),
        ("negative type", message(-1)),
        (
            "not ours",
            raftpb::Message {
                to: Some(3),
                ..message(8)
            },
        ),
        (
            "no addressee",
            raftpb::Message {
                to: None,
                ..message(8)
            },
        ),
        (
            "no sender",
            raftpb::Message {
                from: None,
                ..message(8)
            },
        ),
        (
            "from itself",
            raftpb::Message {
                from: Some(1),
                ..message(8)
            },
        ),
        ("empty proposal", message(2)),
        ("empty read", message(15)),
        ("empty answer to a read", message(16)),
        (
            "commit that is not here",
            raftpb::Message {
                commit: Some(99),
                ..message(8)
            },
        ),
        ("transfer at a follower", message(13)),
        ("no snapshot", message(7)),
        (
            "snapshot of nobody",
            raftpb::Message {
                snapshot: Some(snapshot(voters(&[]), 9)),
                ..message(7)
            },
        ),
        (
            "snapshot of twins",
            raftpb::Message {
                snapshot: Some(snapshot(voters(&[1, 1]), 9)),
                ..message(7)
            },
        ),
        (
            "snapshot at 0",
            raftpb::Message {
                snapshot: Some(snapshot(voters(&[1]), 0)),
                ..message(7)
            },
        ),
        (
            "no term",
            raftpb::Message {
                index: Some(3),
                ..message(3)
            },
        ),
        (
            "gap",
            raftpb::Message {
                index: Some(3),
                log_term: Some(1),
                entries: vec![entry(5, 5, 0)],
                ..message(3)
            },
        ),
        (
            "later term",
            raftpb::Message {
                index: Some(3),
                log_term: Some(1),
                entries: vec![entry(4, 6, 0)],
                ..message(3)
            },
        ),
        (
            "terms going down",
            raftpb::Message {
                index: Some(3),
                log_term: Some(3),
                entries: vec![entry(4, 2, 0)],
                ..message(3)
            },
        ),
        (
            "unknown entry",
            raftpb::Message {
                index: Some(3),
                log_term: Some(1),
                entries: vec![entry(4, 5, 3)],
                ..message(3)
            },
        ),
        (
            "joint conf change",
            raftpb::Message {
                index: Some(3),
                log_term: Some(1),
                entries: vec![entry(4, 5, 2)],
                ..message(3)
            },
        ),
        (
            "huge term",
            raftpb::Message {
                term: Some(u64::MAX),
                ..message(8)
            },
        ),
        (
            "huge index",
            raftpb::Message {
                index: Some(u64::MAX),
                ..message(3)
            },
        ),
    ];
    // Local kinds, and those that only exist inside of other implementations.
    for kind in [0, 1, 10, 11, 12, 19, 20, 21, 22, 23] {
        bad.push(("local type", message(kind)));
    }
    for kind in [3, 4, 5, 6, 7, 8, 9, 13, 14, 16, 17, 18] {
        bad.push((
            "no term",
            raftpb::Message {
                term: None,
                ..message(kind)
            },
        ));
    }
    let mut core = core_with(1, &[1, 2, 3], 3);
    drain(&mut core);
    for (what, m) in bad {
        assert!(core.step(m.clone()).is_err(), "{what}: {m:?}");
        assert!(!core.has_ready(), "{what}: {m:?}");
    }
    // Fields 13 and 14 mean something else to the crate: they stay behind.
    let with_local_fields = raftpb::Message {
        vote: Some(3),
        responses: vec![message(8)],
        ..message(8)
    };
    core.step(with_local_fields).unwrap();
    let outputs = drain(&mut core);
    assert_eq!(outputs[0].persisted_messages[0].r#type, Some(9));
}

/// Any message at all is an error or is handled; none of them is a panic.
#[test]
fn arbitrary_messages_never_panic() {
    let mut random = Timeouts::new(7, 1);
    let mut core = core_with(1, &[1, 2, 3], 5);
    let rounds = 20_000 * crate::test_scale();
    for round in 0..rounds {
        if round % 200 == 0 {
            core = core_with(1, &[1, 2, 3], 5);
        }
        let mut n = |below: u64| random.next() % below;
        let (term, index) = (n(5), n(9));
        let entries = (0..n(3))
            .map(|i| raftpb::Entry {
                r#type: Some(n(4) as i32),
                term: Some(n(5)),
                index: Some(if n(4) == 0 { n(9) } else { index + 1 + i }),
                data: Some(Bytes::from_static(b"\x10\x03")),
            })
            .collect();
        let message = raftpb::Message {
            r#type: Some(n(25) as i32),
            to: Some(1),
            from: Some(n(5)),
            term: Some(term),
            log_term: Some(n(5)),
            index: Some(index),
            entries,
            commit: Some(n(9)),
            snapshot: (n(2) == 0).then(|| raftpb::Snapshot {
                data: None,
                metadata: Some(raftpb::SnapshotMetadata {
                    conf_state: Some(voters(&[n(4), n(4), 1])),
                    index: Some(n(12)),
                    term: Some(n(5)),
                }),
            }),
            reject: Some(n(2) == 0),
            reject_hint: Some(n(9)),
            context: (n(2) == 0).then(|| Bytes::from_static(b"CampaignTransfer")),
            vote: Some(n(5)),
            responses: Vec::new(),
        };
        let _ = core.step(message);
        if n(3) == 0 {
            core.tick();
        }
        for output in drain(&mut core) {
            if n(4) != 0 {
                core.persisted(output.number);
            }
            if let Some(entry) = output.committed.last()
                && n(2) == 0
            {
                core.applied(entry.index());
            }
        }
    }
}

#[test]
fn states_that_contradict_themselves_are_refused() {
    let sound = || InitialState {
        snapshot: (4, 2),
        conf_state: voters(&[1]),
        hard_state: hard_state(3, 1, 6),
        entries: vec![normal(5, 2, b""), normal(6, 3, b""), normal(7, 3, b"")],
        applied: 5,
    };
    let open = |initial| Core::new(&config(1), initial, &logger()).map(|_| ());
    assert_eq!(open(sound()), Ok(()));
    let mut unsound: Vec<InitialState> = Vec::new();
    for change in [
        (|s: &mut InitialState| s.applied = 3) as fn(&mut InitialState),
        |s| s.applied = 7,
        |s| s.hard_state = hard_state(3, 1, 8),
        |s| s.hard_state = hard_state(3, 1, 3),
        |s| s.hard_state = hard_state(2, 1, 6),
        |s| s.entries.remove(1).index = None,
        |s| s.entries[1].index = Some(9),
        |s| s.entries[2].term = Some(1),
        |s| s.entries[2].r#type = Some(2),
        |s| s.conf_state.learners = vec![1],
        |s| s.conf_state.voters = vec![0],
        |s| s.conf_state.voters_outgoing = vec![1],
    ] {
        let mut state = sound();
        change(&mut state);
        unsound.push(state);
    }
    for state in unsound {
        assert!(open(state.clone()).is_err(), "{state:?}");
    }
}

/// M17: no acknowledgement of an append, and no vote, leaves a follower before its sync returned.
#[test]
fn nothing_leaves_a_follower_before_its_sync() {
    let mut core = core_with(1, &[1, 2, 3], 3);
    let append = raftpb::Message {
        r#type: Some(3),
        to: Some(1),
        from: Some(2),
        term: Some(2),
        log_term: Some(1),
        index: Some(3),
        entries: vec![normal(4, 2, b"x")],
        commit: Some(4),
        ..raftpb::Message::default()
    };
    core.step(append).unwrap();
    let outputs = drain(&mut core);
    assert!(outputs.iter().all(|o| o.messages.is_empty()));
    assert!(outputs.iter().all(|o| o.committed.is_empty()));
    let acknowledged = &outputs[0].persisted_messages[0];
    assert_eq!((acknowledged.r#type, acknowledged.index()), (Some(4), 4));
    assert!(outputs[0].must_sync);
    core.persisted(outputs.last().unwrap().number);
    assert_eq!(committed(&drain(&mut core)), ["x"]);

    let vote = raftpb::Message {
        r#type: Some(5),
        to: Some(1),
        from: Some(3),
        term: Some(7),
        log_term: Some(2),
        index: Some(4),
        context: Some(Bytes::from_static(b"CampaignTransfer")),
        ..raftpb::Message::default()
    };
    core.step(vote).unwrap();
    let outputs = drain(&mut core);
    assert!(outputs[0].must_sync && outputs[0].messages.is_empty());
    assert_eq!(outputs[0].hard_state, Some(hard_state(7, 3, 4)));
    let answer = &outputs[0].persisted_messages[0];
    assert_eq!(
        (answer.r#type, answer.reject, answer.commit),
        (Some(6), None, None)
    );
}

/// A member that got a snapshot and has not applied it yet does not campaign: the crate would look
/// for entries that the snapshot replaced, and panic.
#[test]
fn no_election_before_a_snapshot_is_applied() {
    let mut core = core_with(1, &[1, 2, 3], 3);
    core.step(raftpb::Message {
        r#type: Some(7),
        to: Some(1),
        from: Some(2),
        term: Some(2),
        snapshot: Some(raftpb::Snapshot {
            data: None,
            metadata: Some(raftpb::SnapshotMetadata {
                conf_state: Some(voters(&[1, 2, 3])),
                index: Some(9),
                term: Some(2),
            }),
        }),
        ..raftpb::Message::default()
    })
    .unwrap();
    let outputs = drain(&mut core);
    assert!(outputs[0].must_sync && outputs[0].snapshot.is_some());
    core.persisted(outputs.last().unwrap().number);
    let timeout_now = raftpb::Message {
        r#type: Some(14),
        to: Some(1),
        from: Some(2),
        term: Some(2),
        ..raftpb::Message::default()
    };
    assert!(core.step(timeout_now.clone()).is_err());
    for _ in 0..50 {
        core.tick();
    }
    assert_eq!(core.soft_state().role, Role::Follower);
    core.applied(9);
    core.step(timeout_now).unwrap();
    assert_eq!(core.soft_state().role, Role::Candidate);
}

/// A database takes long to be swapped in. When the leader falls silent meanwhile, the member must
/// not stand by it: its vote may be the one that is needed.
#[test]
fn a_member_that_installs_a_snapshot_votes() {
    let mut core = core_with(1, &[1, 2, 3], 3);
    core.step(raftpb::Message {
        snapshot: Some(raftpb::Snapshot {
            data: None,
            metadata: Some(raftpb::SnapshotMetadata {
                conf_state: Some(voters(&[1, 2, 3])),
                index: Some(9),
                term: Some(2),
            }),
        }),
        r#type: Some(7),
        to: Some(1),
        from: Some(2),
        term: Some(2),
        ..raftpb::Message::default()
    })
    .unwrap();
    for output in drain(&mut core) {
        core.persisted(output.number);
    }
    drain(&mut core);
    let vote = |kind| raftpb::Message {
        r#type: Some(kind),
        to: Some(1),
        from: Some(3),
        term: Some(3),
        log_term: Some(2),
        index: Some(9),
        ..raftpb::Message::default()
    };
    let granted = |core: &mut Core, kind: i32| {
        core.step(vote(kind)).unwrap();
        let outputs = drain(core);
        for output in &outputs {
            core.persisted(output.number);
        }
        let mut sent = outputs
            .iter()
            .flat_map(|o| o.messages.iter().chain(&o.persisted_messages));
        sent.any(|m| m.r#type == Some(kind + 1) && !m.reject())
    };
    // Pre-vote: 17 and 18; vote: 5 and 6.
    assert!(!granted(&mut core, 17), "there is a leader");
    for _ in 0..100 {
        core.tick();
    }
    assert_eq!(core.soft_state().role, Role::Follower, "no election itself");
    assert!(granted(&mut core, 17));
    assert!(granted(&mut core, 5));
    core.applied(9);
    for _ in 0..20 {
        core.tick();
    }
    assert_eq!(core.soft_state().role, Role::PreCandidate);
}
