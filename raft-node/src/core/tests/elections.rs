//! How long a cluster is without a leader when its leader falls silent, and nobody knows whether it has ended.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::*;

/// Milliseconds.
const TICK: u64 = 100;
const ELECTION_TIMEOUT: u64 = 10 * TICK;

/// What happens, and when. Of two at the same time the one that was known first comes first.
type Event = Reverse<(u64, u64, What)>;

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Tick(u64),
    /// An encoded message to a member.
    Comes(u64, Vec<u8>),
}

/// Members whose ticks are not in step, and whose messages take their time but stay in order.
struct World {
    cores: BTreeMap<u64, Core>,
    events: BinaryHeap<Event>,
    known: u64,
    now: u64,
    /// When the last message of a link comes.
    links: BTreeMap<(u64, u64), u64>,
    /// 0: nobody.
    silent: u64,
    /// The longest that a message takes.
    slowest: u64,
    random: u64,
}

impl World {
    fn new(seed: u64, members: u64, slowest: u64) -> World {
        let ids: Vec<u64> = (1..=members).collect();
        let core = |id: u64| {
            let seed = seed * 100 + id;
            let config = CoreConfig { seed, ..config(id) };
            (id, seeded(config, &ids, 3))
        };
        let mut world = World {
            cores: ids.iter().map(|id| core(*id)).collect(),
            events: BinaryHeap::new(),
            known: 0,
            now: 0,
            links: BTreeMap::new(),
            silent: 0,
            slowest,
            random: seed,
        };
        for id in ids {
            let phase = world.random(TICK);
            world.at(phase, What::Tick(id));
        }
        world
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.random >> 33) % below
    }

    fn at(&mut self, time: u64, what: What) {
        self.known += 1;
        self.events.push(Reverse((time, self.known, what)));
    }

    /// Until the next event is over.
    fn step(&mut self) {
        let Reverse((time, _, what)) = self.events.pop().expect("ticks go on");
        self.now = time;
        let (What::Tick(id) | What::Comes(id, _)) = what;
        if let What::Tick(id) = what {
            self.at(time + TICK, What::Tick(id));
        }
        if id == self.silent {
            return;
        }
        let core = self.cores.get_mut(&id).expect("a member");
        match what {
            What::Tick(_) => core.tick(),
            What::Comes(_, bytes) => {
                let message = raftpb::Message::decode(&bytes[..]).expect("encoded here");
                let _ = core.step(message);
            }
        }
        let mut sent = Vec::new();
        while let Some(output) = core.ready() {
            sent.extend(output.messages);
            core.persisted(output.number);
            sent.extend(output.persisted_messages);
            if let Some(last) = output.committed.last() {
                core.applied(last.index());
            }
        }
        for message in sent {
            let link = (id, message.to());
            let comes = time + 1 + self.random(self.slowest);
            let comes = comes.max(self.links.get(&link).copied().unwrap_or(0));
            self.links.insert(link, comes);
            self.at(comes, What::Comes(message.to(), message.encode_to_vec()));
        }
    }

    /// Until somebody leads who is not silent; who, and since which term.
    fn leader(&mut self) -> (u64, u64) {
        let limit = self.now + 100 * ELECTION_TIMEOUT;
        loop {
            let leads = |(id, core): (&u64, &Core)| {
                let state = core.soft_state();
                let leads = *id != self.silent && state.role == Role::Leader;
                leads.then_some((*id, state.term))
            };
            if let Some(found) = self.cores.iter().find_map(leads) {
                return found;
            }
            assert!(self.now < limit, "nobody leads: {:?}", self.cores);
            self.step();
        }
    }

    /// How long nobody led after the leader fell silent, and how many terms it took.
    fn silence_the_leader(&mut self) -> (u64, u64) {
        self.leader();
        let settled = self.now + ELECTION_TIMEOUT + self.random(5 * TICK);
        while self.now < settled {
            self.step();
        }
        let (leader, term) = self.leader();
        self.silent = leader;
        let since = self.now;
        let (_, next) = self.leader();
        (self.now - since, next - term)
    }
}

/// Of three, the two that are left need each other, so that either hears of the other one before it becomes a
/// candidate. Of five, two may still collect promises from the others.
#[test]
fn one_election_is_enough_after_a_silent_leader() {
    for (members, slowest, most) in [(3, 2, 0), (3, 20, 0), (3, 60, 0), (5, 20, 15)] {
        let runs: Vec<(u64, u64)> = (0..300)
            .map(|seed| World::new(seed, members, slowest).silence_the_leader())
            .collect();
        let split = runs.iter().filter(|(_, terms)| *terms > 1).count();
        let mut times: Vec<u64> = runs.iter().map(|(time, _)| *time).collect();
        times.sort_unstable();
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        println!(
            "{members} members, messages of {slowest} ms at most: {median} ms, at worst {worst} ms; {split} split"
        );
        assert!(
            split <= most,
            "{members} members, {slowest} ms: {split} split"
        );
        if split == 0 {
            // Two questions with their answers, and a tick that had just passed.
            assert!(
                worst <= 2 * ELECTION_TIMEOUT + 4 * slowest + TICK,
                "{worst} ms"
            );
        }
    }
}

/// Member 2, which asks in term 1 with a log of three entries.
fn asking() -> Core {
    let mut core = core_with(2, &[1, 2, 3], 3);
    while core.soft_state().role == Role::Follower {
        core.tick();
        drain(&mut core);
    }
    assert_eq!(core.soft_state().role, Role::PreCandidate);
    core
}

#[test]
fn of_two_that_ask_one_gives_way() {
    for (from, term, index, log_term, role) in [
        (1, 2, 3, 1, Role::Follower),
        (3, 2, 3, 1, Role::PreCandidate),
        // A longer log, and a newer one, and shorter ones.
        (3, 2, 4, 1, Role::Follower),
        (3, 3, 2, 2, Role::Follower),
        (1, 2, 2, 1, Role::PreCandidate),
        // Of an election that is over.
        (1, 1, 3, 1, Role::PreCandidate),
        // No member.
        (9, 2, 4, 1, Role::PreCandidate),
    ] {
        let mut core = asking();
        let question = raftpb::Message {
            r#type: Some(raftpb::MessageType::MsgPreVote as i32),
            to: Some(2),
            from: Some(from),
            term: Some(term),
            log_term: Some(log_term),
            index: Some(index),
            ..raftpb::Message::default()
        };
        let _ = core.step(question);
        let state = core.soft_state();
        assert_eq!(
            (state.role, state.term),
            (role, 1),
            "from {from}, {log_term}.{index}"
        );
        let answers: Vec<_> = drain(&mut core)
            .into_iter()
            .flat_map(|output| [output.messages, output.persisted_messages].concat())
            .filter(|m| m.r#type() == raftpb::MessageType::MsgPreVoteResp)
            .collect();
        if role == Role::Follower {
            assert_eq!((answers.len(), answers[0].reject()), (1, false));
        }
        // It does not wait for ever for whoever it gave way to.
        let mut ticks = 0;
        while core.soft_state().role != Role::PreCandidate {
            core.tick();
            ticks += 1;
        }
        assert!(ticks < 20);
    }
}
