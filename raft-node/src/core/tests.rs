//! Scripts for the core: one to three members, every step made by hand.

use std::collections::{BTreeMap, VecDeque};

use super::*;

fn logger() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

fn config(id: u64) -> CoreConfig {
    CoreConfig {
        id,
        election_ticks: 10,
        pre_vote: true,
        catch_up_entries: 3,
        seed: id,
        start_millis: 1,
    }
}

fn voters(ids: &[u64]) -> raftpb::ConfState {
    raftpb::ConfState {
        voters: ids.to_vec(),
        auto_leave: Some(false),
        ..raftpb::ConfState::default()
    }
}

fn hard_state(term: u64, vote: u64, commit: u64) -> raftpb::HardState {
    raftpb::HardState {
        term: Some(term),
        vote: Some(vote),
        commit: Some(commit),
    }
}

fn normal(index: u64, term: u64, data: &'static [u8]) -> raftpb::Entry {
    raftpb::Entry {
        r#type: None,
        term: Some(term),
        index: Some(index),
        data: (!data.is_empty()).then(|| Bytes::from_static(data)),
    }
}

fn conf_change(kind: raftpb::ConfChangeType, id: u64) -> raftpb::ConfChange {
    raftpb::ConfChange {
        id: Some(9),
        r#type: Some(kind as i32),
        node_id: Some(id),
        context: Some(Bytes::from_static(b"{}")),
    }
}

/// A core after `n` applied entries of term 1.
fn core_with(id: u64, members: &[u64], n: u64) -> Core {
    let initial = InitialState {
        snapshot: (0, 0),
        conf_state: voters(members),
        hard_state: hard_state(1, 0, n),
        entries: (1..=n).map(|i| normal(i, 1, b"old")).collect(),
        applied: n,
    };
    Core::new(&config(id), initial, &logger()).unwrap()
}

fn texts(entries: &[raftpb::Entry]) -> Vec<String> {
    entries
        .iter()
        .map(|e| String::from_utf8_lossy(e.data.as_deref().unwrap_or_default()).into_owned())
        .collect()
}

/// All outputs there are now, merged in order.
fn drain(core: &mut Core) -> Vec<Output> {
    std::iter::from_fn(|| core.ready()).collect()
}

fn committed(outputs: &[Output]) -> Vec<String> {
    outputs.iter().flat_map(|o| texts(&o.committed)).collect()
}

/// A lone leader with everything persisted.
fn lone_leader() -> Core {
    let mut core = core_with(1, &[1], 1);
    assert!(core.campaign_if_alone());
    for output in drain(&mut core) {
        core.persisted(output.number);
    }
    drain(&mut core);
    assert_eq!(core.soft_state().role, Role::Leader);
    core
}

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

#[test]
fn a_lone_voter_also_elects_itself_by_ticks() {
    let mut core = core_with(1, &[1], 1);
    for _ in 0..20 {
        core.tick();
    }
    assert_eq!(core.soft_state().role, Role::Leader);
}

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
fn a_second_conf_change_becomes_an_empty_entry() {
    let mut core = lone_leader();
    let learner = |id| conf_change(raftpb::ConfChangeType::ConfChangeAddLearnerNode, id);
    core.propose_conf_change(&learner(4)).unwrap();
    core.propose_conf_change(&learner(5)).unwrap();
    let outputs = drain(&mut core);
    assert_eq!(outputs[0].entries[0].r#type, Some(1));
    assert_eq!(outputs[0].entries[1].r#type, None);
    assert_eq!(outputs[0].entries[1].data, None);
    core.persisted(outputs[0].number);
    drain(&mut core);
    // Rejected by the application: raft's configuration stays, and the next one may come.
    assert_eq!(core.apply_conf_change(None).unwrap(), voters(&[1]));
    core.propose_conf_change(&learner(5)).unwrap();
    assert_eq!(drain(&mut core)[0].entries[0].r#type, Some(1));
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
    core.snapshot_saved(core.committed(), &voters(&[1]), Bytes::from_static(b"{}"));
    assert_eq!(
        core.last_index() - core.first_index(),
        2,
        "catch-up entries"
    );
    assert_eq!(core.term(index), None);
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

/// Three members and a network that delivers, or loses, what a test says.
struct Cluster {
    cores: BTreeMap<u64, Core>,
    network: VecDeque<raftpb::Message>,
    cut_off: Vec<u64>,
    applied: BTreeMap<u64, Vec<String>>,
    reads: Vec<(u64, u64, u64)>,
}

impl Cluster {
    fn new() -> Cluster {
        let ids = [1, 2, 3];
        Cluster {
            cores: ids.map(|id| (id, core_with(id, &ids, 3))).into(),
            network: VecDeque::new(),
            cut_off: Vec::new(),
            applied: ids.map(|id| (id, Vec::new())).into(),
            reads: Vec::new(),
        }
    }

    fn core(&mut self, id: u64) -> &mut Core {
        self.cores.get_mut(&id).unwrap()
    }

    fn execute(&mut self, id: u64) {
        let core = self.cores.get_mut(&id).unwrap();
        while let Some(output) = core.ready() {
            self.network.extend(output.messages);
            core.persisted(output.number);
            self.network.extend(output.persisted_messages);
            if let Some(snapshot) = output.snapshot {
                core.applied(snapshot.metadata.unwrap().index());
            }
            for entry in &output.committed {
                if entry.r#type() == raftpb::EntryType::EntryConfChange {
                    let cc = raftpb::ConfChange::decode(entry.data.clone().unwrap()).unwrap();
                    core.apply_conf_change(Some(&cc)).unwrap();
                }
                core.applied(entry.index());
            }
            let applied = self.applied.get_mut(&id).unwrap();
            applied.extend(
                texts(&output.committed)
                    .into_iter()
                    .filter(|t| !t.is_empty()),
            );
            self.reads
                .extend(output.read_states.iter().map(|(r, i)| (id, *r, *i)));
        }
    }

    /// Delivers until nobody has anything to say.
    fn settle(&mut self) {
        let ids: Vec<u64> = self.cores.keys().copied().collect();
        loop {
            ids.iter().for_each(|id| self.execute(*id));
            let Some(m) = self.network.pop_front() else {
                return;
            };
            let lost = self.cut_off.contains(&m.to()) || self.cut_off.contains(&m.from());
            if !lost && let Some(core) = self.cores.get_mut(&m.to()) {
                // As it would arrive from the wire.
                let m = raftpb::Message::decode(&m.encode_to_vec()[..]).unwrap();
                let _ = core.step(m);
            }
        }
    }

    fn tick(&mut self, ids: &[u64], ticks: usize) {
        for _ in 0..ticks {
            for id in ids {
                self.core(*id).tick();
            }
            self.settle();
        }
    }

    fn leader(&mut self) -> u64 {
        for _ in 0..100 {
            self.tick(&[1, 2, 3], 1);
            let cut_off = self.cut_off.clone();
            let leader = self
                .cores
                .iter()
                .find(|(id, core)| core.soft_state().role == Role::Leader && !cut_off.contains(id));
            if let Some((id, _)) = leader {
                return *id;
            }
        }
        panic!("no leader in 100 ticks: {:?}", self.cores);
    }
}

#[test]
fn three_members_elect_replicate_and_survive_a_leader() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader();
    cluster
        .core(leader)
        .propose(&[Bytes::from_static(b"a")])
        .unwrap();
    cluster.settle();
    let follower = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
    // A follower passes proposals on, and may ask for a read index.
    cluster
        .core(follower)
        .propose(&[Bytes::from_static(b"b")])
        .unwrap();
    cluster.core(follower).read_index(11);
    cluster.core(leader).read_index(12);
    cluster.settle();
    cluster.tick(&[1, 2, 3], 2);
    for applied in cluster.applied.values() {
        assert_eq!(applied[..], ["a", "b"]);
    }
    let mut reads = cluster.reads.clone();
    reads.sort_unstable_by_key(|r| r.1);
    assert_eq!(
        reads.iter().map(|r| (r.0, r.1)).collect::<Vec<_>>(),
        [(follower, 11), (leader, 12)]
    );
    assert!(reads.iter().all(|r| r.2 >= 5));

    cluster.cut_off = vec![leader];
    // M1: the old leader cannot answer reads any more; it asks again and again, and learns.
    cluster.core(leader).read_index(13);
    cluster.tick(&[1, 2, 3], 40);
    let next = cluster.leader();
    assert_ne!(next, leader);
    cluster
        .core(next)
        .propose(&[Bytes::from_static(b"c")])
        .unwrap();
    cluster.settle();
    assert!(cluster.reads.iter().all(|r| r.1 != 13));
    cluster.cut_off.clear();
    cluster.tick(&[1, 2, 3], 20);
    for applied in cluster.applied.values() {
        assert_eq!(applied[..], ["a", "b", "c"]);
    }
    let committed = cluster.core(next).committed();
    let read = cluster
        .reads
        .iter()
        .find(|r| r.1 == 13)
        .expect("answered in the end");
    assert!(read.2 >= committed, "and with an index that covers `c`");
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

#[test]
fn a_member_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader();
    let behind = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
    cluster.cut_off = vec![behind];
    for _ in 0..20 {
        cluster
            .core(leader)
            .propose(&[Bytes::from_static(b"x")])
            .unwrap();
        cluster.settle();
    }
    let index = cluster.core(leader).committed();
    cluster
        .core(leader)
        .snapshot_saved(index, &voters(&[1, 2, 3]), Bytes::from_static(b"{}"));
    assert_eq!(cluster.core(leader).first_index(), index - 2);
    cluster
        .core(leader)
        .propose(&[Bytes::from_static(b"y")])
        .unwrap();
    cluster.settle();
    cluster.cut_off.clear();
    for _ in 0..30 {
        cluster.tick(&[leader], 1);
    }
    let core = cluster.core(behind);
    assert_eq!(
        core.first_index(),
        index + 1,
        "the log starts after the snapshot"
    );
    assert_eq!(cluster.applied[&behind], ["y"]);
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

#[test]
fn leadership_is_handed_over() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader();
    let next = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
    cluster.core(leader).transfer_leader(next);
    cluster.settle();
    cluster.tick(&[1, 2, 3], 1);
    assert_eq!(cluster.core(next).soft_state().role, Role::Leader);
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
