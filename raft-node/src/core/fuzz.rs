//! For the fuzz target and the property test: messages of hostile peers, stepped into a core in any role.
//!
//! An input is a script of bytes. The first ones say which member it is and what it has gone through, the others what
//! happens to it: mostly messages, whose numbers are near those that mean something to the member, or extreme. Around
//! them is a driver that keeps to its part of the contract: it persists in order, applies in order.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::raftpb::{self, ConfChange, ConfState, Entry, Message, Snapshot};

use super::{Core, CoreConfig, InitialState, Output, Role, StepError};

/// Own id; 2 and 3 are the other voters, 4 is a learner, nobody has a higher one.
const OWN: u64 = 1;
const STEPS: usize = 300;

/// Whatever peers send, a core takes it, or refuses it and stays as it was.
///
/// # Panics
/// Where that is not so.
#[doc(hidden)]
pub fn fuzz_core(script: &[u8]) {
    let mut script = Script(script);
    let mut member = Member::start(&mut script);
    for _ in 0..STEPS {
        if script.0.is_empty() {
            return;
        }
        member.happen(&mut script);
        member.check();
    }
}

/// What is left of the input. Beyond its end everything is 0.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn below(&mut self, n: u8) -> u8 {
        self.byte() % n
    }

    /// One in `n`, and not at the end.
    fn rarely(&mut self, n: u8) -> bool {
        self.below(n) == n - 1
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// Mostly one of the numbers given, or next to it.
    fn number(&mut self, near: &[u64]) -> u64 {
        const EXTREMES: [u64; 8] = [
            1 << 62,
            (1 << 62) - 1,
            (1 << 62) + 1,
            u64::MAX,
            u64::MAX - 1,
            1 << 63,
            i64::MAX as u64,
            u32::MAX as u64 + 1,
        ];
        match self.below(16) {
            0..10 => self.pick(near),
            10 => self.pick(near).saturating_add(1),
            11 => self.pick(near).saturating_sub(1),
            12 => self.pick(near).saturating_add(2),
            13 => u64::from(self.below(20)),
            14 => self.pick(&EXTREMES),
            _ => std::array::from_fn(|_| self.byte()).pipe(u64::from_le_bytes),
        }
    }
}

/// `x.pipe(f)` is `f(x)`.
trait Pipe: Sized {
    fn pipe<R>(self, f: impl FnOnce(Self) -> R) -> R {
        f(self)
    }
}

impl<T> Pipe for T {}

/// A core and the least that a driver and an application are.
struct Member {
    core: Core,
    /// Numbers of outputs that are not durable yet, ascending.
    unsynced: VecDeque<u64>,
    to_apply: VecDeque<Todo>,
    /// Place of the last entry that was handed out to be applied.
    handed: (u64, u64),
    /// Term and commit index seen last.
    seen: (u64, u64),
    reads: u64,
}

enum Todo {
    Entry(Entry),
    Snapshot(u64),
}

impl Member {
    fn start(script: &mut Script<'_>) -> Member {
        let offset = script.pick(&[0, 0, 0, 7]);
        let last = offset + u64::from(script.below(8));
        let commit = offset.max(last.saturating_sub(u64::from(script.below(4))));
        let applied = offset.max(commit.saturating_sub(u64::from(script.below(3))));
        // Terms 1 1 2 2 3 3 ...
        let term = |index: u64| if index == 0 { 0 } else { index.div_ceil(2) };
        let conf_state = script.pick::<fn() -> ConfState>(&[
            || conf_state(&[1, 2, 3], &[]),
            || conf_state(&[1, 2, 3], &[4]),
            || conf_state(&[2, 3], &[1]),
            || conf_state(&[1], &[4]),
            || conf_state(&[], &[]),
        ])();
        let initial = InitialState {
            snapshot: (offset, term(offset)),
            conf_state,
            hard_state: raftpb::HardState {
                term: Some(term(last) + u64::from(script.below(2))),
                vote: Some(u64::from(script.below(4))),
                commit: Some(commit),
            },
            entries: (offset + 1..=last)
                .map(|index| Entry {
                    term: Some(term(index)),
                    index: Some(index),
                    ..Entry::default()
                })
                .collect(),
            applied,
        };
        let config = CoreConfig {
            id: OWN,
            election_ticks: 3,
            pre_vote: !script.rarely(3),
            catch_up_entries: 2,
            seed: 1,
            start_millis: 1,
        };
        let seen = (initial.hard_state.term(), commit);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let core = Core::new(&config, initial, &logger).expect("a sound state");
        let mut member = Member {
            core,
            unsynced: VecDeque::new(),
            to_apply: VecDeque::new(),
            handed: (applied, term(applied)),
            seen,
            reads: 0,
        };
        // How far it comes; a learner stays what it is.
        for _ in 0..script.below(4) {
            member.next_role();
            member.check();
        }
        member
    }

    /// From follower to (pre-)candidate by waiting, and on by the answers of 2.
    fn next_role(&mut self) {
        let term = self.core.soft_state().term;
        let answer = |kind, term| Message {
            r#type: Some(kind),
            to: Some(OWN),
            from: Some(2),
            term: Some(term),
            ..Message::default()
        };
        match self.core.soft_state().role {
            Role::Follower => (0..7).for_each(|_| {
                if self.core.soft_state().role == Role::Follower {
                    self.core.tick();
                }
            }),
            Role::PreCandidate => drop(self.core.step(answer(18, term + 1))),
            Role::Candidate => drop(self.core.step(answer(6, term))),
            // It may lead with or without an entry of its term committed.
            Role::Leader => {
                let index = Some(self.core.last_index());
                drop(self.core.step(Message {
                    index,
                    ..answer(4, term)
                }));
            }
        }
        self.sync_all();
    }

    fn sync_all(&mut self) {
        self.take_outputs();
        while let Some(number) = self.unsynced.pop_back() {
            self.unsynced.clear();
            self.core.persisted(number);
            self.take_outputs();
        }
    }

    fn happen(&mut self, script: &mut Script<'_>) {
        match script.below(32) {
            0..2 => self.core.tick(),
            2..5 => self.take_outputs(),
            5..7 => {
                if let Some(number) = self.unsynced.pop_front() {
                    self.core.persisted(number);
                }
            }
            7 => self.sync_all(),
            8..10 => self.apply(),
            10 => (0..script.below(16)).for_each(|_| self.core.tick()),
            11 => {
                self.reads += 1;
                self.core.read_index(self.reads);
            }
            12 => self.core.transfer_leader(u64::from(script.below(6))),
            13 => self.core.report_unreachable(u64::from(script.below(6))),
            14 => {
                let (id, sent) = (script.below(6), script.rarely(2));
                self.core.report_snapshot(u64::from(id), sent);
            }
            15 => {
                // Either is fine, here and below.
                let _ = self.core.propose(&[Bytes::from_static(b"own")]);
                let _ = self.core.propose_conf_change(&conf_change(script));
            }
            16 => {
                self.core.campaign_if_alone();
            }
            17 => {
                let index = self.handed.0.min(self.core.applied);
                self.core.snapshot_saved(index);
            }
            _ => {
                let message = self.message(script);
                self.step(message);
            }
        }
    }

    fn step(&mut self, message: Message) {
        let before = self.state();
        let was_leader = self.core.soft_state().role == Role::Leader;
        // A proposal, or a question for a read index: a leader that is removed takes neither.
        let droppable = matches!(message.r#type, Some(2 | 15));
        match self.core.step(message.clone()) {
            Ok(()) => {}
            // A leader may look at a proposal before it drops it.
            Err(StepError::ProposalDropped) => assert!(droppable, "{message:?}"),
            Err(StepError::Raft(error)) => panic!("{error}: {message:?}"),
            Err(error) => {
                assert_eq!(
                    before,
                    self.state(),
                    "{error}, leader: {was_leader}, {message:?}"
                );
            }
        }
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.core.ready() {
            self.take(output);
        }
    }

    fn take(&mut self, output: Output) {
        self.unsynced.push_back(output.number);
        for m in output.messages.iter().chain(&output.persisted_messages) {
            assert!(
                !matches!(m.to(), 0 | OWN) && m.from() != 0,
                "sent to nobody: {m:?}"
            );
            // Nobody would take it otherwise.
            super::convert::from_message(m.clone()).expect("a message of ours");
        }
        if let Some(snapshot) = output.snapshot {
            let meta = snapshot.metadata.unwrap_or_default();
            assert!(
                meta.index() >= self.handed.0,
                "back to {meta:?} from {:?}",
                self.handed
            );
            self.handed = (meta.index(), meta.term());
            self.to_apply.push_back(Todo::Snapshot(meta.index()));
        }
        for entry in output.committed {
            let (index, term) = self.handed;
            assert!(
                entry.index() == index + 1 && entry.term() >= term,
                "{entry:?} after {:?}",
                self.handed
            );
            self.handed = (entry.index(), entry.term());
            self.to_apply.push_back(Todo::Entry(entry));
        }
    }

    fn apply(&mut self) {
        match self.to_apply.pop_front() {
            Some(Todo::Snapshot(index)) => self.core.applied(index),
            Some(Todo::Entry(entry)) => {
                if entry.r#type == Some(1) {
                    let data = entry.data.clone().unwrap_or_default();
                    let change = ConfChange::decode(data).ok();
                    if self.core.apply_conf_change(change.as_ref()).is_err() {
                        // A member that cannot apply what is committed stops.
                        self.to_apply.clear();
                        return;
                    }
                }
                self.core.applied(entry.index());
            }
            None => {}
        }
    }

    /// What holds whatever happened.
    fn check(&mut self) {
        let now = (self.core.soft_state().term, self.core.committed());
        assert!(
            now.0 >= self.seen.0 && now.1 >= self.seen.1,
            "term, commit: {:?} to {now:?}",
            self.seen
        );
        self.seen = now;
        let raft = &self.core.raw.raft;
        let log = &raft.raft_log;
        assert!(log.applied <= log.committed && log.committed <= log.last_index());
        assert!(log.persisted <= log.last_index());
        assert!(raft.msgs.len() < 100_000);
    }

    /// All that a message can touch.
    fn state(&self) -> String {
        let raft = &self.core.raw.raft;
        let log = &raft.raft_log;
        let mut progress: Vec<_> = raft.prs().iter().collect();
        progress.sort_unstable_by_key(|(id, _)| **id);
        let terms: Vec<_> = (log.store.first() - 1..=log.last_index().min(log.store.first() + 99))
            .map(|index| log.term(index).ok())
            .collect();
        format!(
            "{:?} {:?} {:?} {progress:?} {:?} {terms:?} {:?} {:?} {} {} {} {:?} {:?} {} {:?} {:?}",
            self.core.soft_state(),
            self.core.hard_state(),
            self.core.conf_state(),
            (log.applied, log.persisted, log.last_index()),
            raft.lead_transferee,
            raft.msgs,
            raft.pending_conf_index,
            raft.uncommitted_size(),
            raft.election_elapsed,
            raft.read_only.read_index_queue,
            raft.read_states,
            self.core.has_ready(),
            self.core.reads,
            self.core.handed,
        )
    }

    fn message(&self, script: &mut Script<'_>) -> Message {
        /// All that travel between members, the most interesting ones often, and some that do not.
        const KINDS: [i32; 32] = [
            2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 5, 6, 6, 7, 7, 8, 8, 9, 9, 13, 14, 14, 15, 15, 16, 17,
            18, 18, 0, 1, 11, 19,
        ];
        let raft = &self.core.raw.raft;
        let log = &raft.raft_log;
        let kind = if script.rarely(60) {
            i32::from_le_bytes(std::array::from_fn(|_| script.byte()))
        } else {
            script.pick(&KINDS)
        };
        let places = [
            log.last_index(),
            log.committed,
            log.persisted,
            log.applied,
            log.store.first(),
            log.last_index() + 3,
        ];
        let terms = [raft.term, raft.term, raft.term, raft.term + 1];
        let index = script.number(&places);
        let own_term = log.term(index).unwrap_or(0);
        let log_term = script.number(&[own_term, own_term, own_term, raft.term]);
        let term = script.number(&terms);
        let contexts: [&'static [u8]; 3] = [b"", b"CampaignTransfer", b"12345678"];
        let context = match raft.read_only.read_index_queue.back() {
            Some(context) if !script.rarely(4) => context.clone().into(),
            _ => Bytes::from_static(script.pick(&contexts)),
        };
        Message {
            r#type: Some(kind),
            to: Some(if script.rarely(40) { 2 } else { OWN }),
            from: Some(u64::from(script.pick::<u8>(&[2, 2, 2, 3, 3, 4, 5, 1, 0]))),
            term: (!script.rarely(40)).then_some(term),
            log_term: Some(log_term),
            index: Some(index),
            commit: Some(script.number(&places)),
            snapshot: (kind == 7 || script.rarely(20)).then(|| snapshot(script, &places, &terms)),
            reject: Some(script.rarely(4)),
            reject_hint: Some(script.number(&places)),
            context: (!context.is_empty()).then_some(context),
            entries: entries(script, index, log_term, term),
            vote: script.rarely(20).then_some(3),
            responses: Vec::new(),
        }
    }
}

/// Entries that follow the place given, or nearly.
fn entries(script: &mut Script<'_>, index: u64, log_term: u64, term: u64) -> Vec<Entry> {
    let mut at = log_term;
    (1..=u64::from(script.below(4)))
        .map(|n| {
            let conf = script.rarely(4);
            at = script.pick(&[at, at, at.saturating_add(1), term]);
            let data = if conf {
                Bytes::from(conf_change(script).encode_to_vec())
            } else {
                Bytes::from_static(script.pick(&[b"" as &[u8], b"x", b"12345678"]))
            };
            let (expected, kind) = (index.saturating_add(n), i32::from(conf));
            Entry {
                r#type: Some(if script.rarely(40) { 2 } else { kind }),
                term: Some(if script.rarely(20) {
                    script.number(&[term])
                } else {
                    at
                }),
                index: Some(if script.rarely(20) {
                    script.number(&[expected])
                } else {
                    expected
                }),
                data: (!data.is_empty()).then_some(data),
            }
        })
        .collect()
}

fn snapshot(script: &mut Script<'_>, places: &[u64], terms: &[u64]) -> Snapshot {
    let mut members = [Vec::new(), Vec::new(), Vec::new()];
    for id in 1..=4 {
        // Voter, learner, neither; or something that no etcd has.
        let part = script.pick(&[0, 0, 0, 0, 1, 3]);
        if let Some(ids) = members.get_mut(part) {
            ids.push(id);
        }
    }
    if script.rarely(20) {
        let part = usize::from(script.below(3));
        members[part].push(u64::from(script.below(5)));
    }
    let [voters, learners, voters_outgoing] = members;
    Snapshot {
        data: script.rarely(2).then(|| Bytes::from_static(b"{}")),
        metadata: (!script.rarely(30)).then(|| raftpb::SnapshotMetadata {
            conf_state: (!script.rarely(30)).then(|| ConfState {
                voters,
                learners,
                voters_outgoing,
                learners_next: if script.rarely(40) {
                    vec![2]
                } else {
                    Vec::new()
                },
                auto_leave: Some(script.rarely(40)),
            }),
            index: Some(script.number(places)),
            term: Some(script.number(terms)),
        }),
    }
}

/// Add, remove, update, add a learner; rarely something unknown, or garbage.
fn conf_change(script: &mut Script<'_>) -> ConfChange {
    ConfChange {
        id: Some(9),
        r#type: Some(script.pick(&[0, 1, 1, 2, 3, 0, 3, 7])),
        node_id: Some(u64::from(script.pick::<u8>(&[1, 2, 3, 4, 5, 0]))),
        context: None,
    }
}

fn conf_state(voters: &[u64], learners: &[u64]) -> ConfState {
    ConfState {
        voters: voters.to_vec(),
        learners: learners.to_vec(),
        ..ConfState::default()
    }
}
