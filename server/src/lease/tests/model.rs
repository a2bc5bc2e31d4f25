//! Random lives of leases on two members with one log, against a model that knows what was promised to clients.
//!
//! Time, elections, lost proposals, late applies, restarts, and a leader that does not know yet that it was deposed
//! and answers renewals for as long as one can (one election timeout into the next term, see [`Deadlines`]).
//! No lease is ever revoked for its age before the time that somebody was promised; all end some time; both members
//! end with the same leases and keys.
//!
//! Of etcd's own faults it guards L1, L2, L3, L5, L6, L7. `RETCD_TEST_SEED` repeats a run, `RETCD_TEST_SCALE`
//! multiplies their number.
//!
//! [`Deadlines`]: crate::lease::deadlines::Deadlines

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use retcd_proto::etcdserverpb as pb;
use retcd_storage::clock::Clock as _;

use super::*;
use crate::lease::keeper::checkpoint;
use crate::lease::shared::{Lease, Renewal};
use crate::mutant::{self, Mutant};

const RUNS: u64 = 60;
const STEPS: usize = 400;

fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let len = from.len() as u64;
        (len > 0).then(|| from[self.below(len) as usize])
    }
}

enum Entry {
    Begin,
    Grant(i64, i64),
    Revoke(i64),
    Checkpoint(Vec<(i64, i64)>),
    /// A key gets a lease, 0: none.
    Put(&'static str, i64),
}

struct Member {
    engine: Arc<dyn Backend>,
    leases: Arc<Leases>,
    /// Gone only while it restarts.
    disk: Option<(Store, Lessor)>,
    applied: usize,
    /// It was deposed and does not know it until then.
    unaware_until: Option<Duration>,
}

struct World {
    random: Random,
    clock: Arc<ManualClock>,
    members: [Member; 2],
    log: Vec<(u64, Entry)>,
    leader: usize,
    term: u64,
    /// Until when somebody may rely on a lease; an explicit revoke takes it away.
    promised: BTreeMap<i64, Duration>,
    ttl: BTreeMap<i64, i64>,
    next_id: i64,
    told: VecDeque<String>,
    counts: BTreeMap<&'static str, u64>,
}

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

impl World {
    fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1_000)));
        let member = || {
            let engine: Arc<dyn Backend> = Arc::new(MemBackend::new());
            let leases = with_clock(clock.clone());
            let disk = Some(load(&engine, &leases));
            Member {
                engine,
                leases,
                disk,
                applied: 0,
                unaware_until: None,
            }
        };
        let members = [member(), member()];
        let mut world = Self {
            random: Random(seed),
            clock,
            members,
            log: Vec::new(),
            leader: 0,
            term: 0,
            promised: BTreeMap::new(),
            ttl: BTreeMap::new(),
            next_id: 1,
            told: VecDeque::new(),
            counts: BTreeMap::new(),
        };
        world.elect(0, false);
        world
    }

    fn tell(&mut self, what: &'static str, more: &dyn std::fmt::Debug) {
        *self.counts.entry(what).or_default() += 1;
        let now = self.clock.now();
        self.told.push_back(format!("{now:?} {what} {more:?}"));
        if self.told.len() > 60 {
            self.told.pop_front();
        }
    }

    fn append(&mut self, entry: Entry) {
        self.log.push((self.term, entry));
    }

    fn step(&mut self) {
        let ids = match self.random.below(5) {
            0 => self.ttl.keys().copied().collect(),
            _ => self.members[self.leader].leases.ids(),
        };
        let some = self.random.pick(&ids).unwrap_or(77);
        let who = self.random.below(2) as usize;
        match self.random.below(100) {
            0..12 => self.grant(),
            12..16 => {
                self.tell("revoke", &some);
                self.promised.remove(&some);
                self.append(Entry::Revoke(some));
            }
            16..24 => {
                let key = KEYS[self.random.below(6) as usize];
                let id = if self.random.below(3) == 0 { 0 } else { some };
                self.append(Entry::Put(key, id));
            }
            24..44 => self.renew(who, some),
            44..60 => self.pass(),
            60..75 => self.keep(who),
            75..93 => {
                let entries = 1 + self.random.below(6) as usize;
                self.apply(who, entries);
            }
            93..96 => {
                let silently = self.random.below(2) == 0;
                self.elect(1 - self.leader, silently);
            }
            96..98 => self.restart(who),
            _ => {
                let unix = self.random.below(1 << 40);
                self.clock.set_unix(Duration::from_secs(unix));
            }
        }
        for member in &self.members {
            member.leases.check();
        }
    }

    fn grant(&mut self) {
        let ttl = match self.random.below(10) {
            0 => -5,
            1..6 => self.random.below(12) as i64,
            _ => 400 + self.random.below(1_000) as i64,
        };
        // L7: ids below zero are ids like others.
        let id = if self.next_id % 3 == 0 {
            -self.next_id
        } else {
            self.next_id
        };
        self.next_id += 1;
        self.tell("grant", &(id, ttl));
        self.append(Entry::Grant(id, ttl));
        let ttl = ttl.max(MIN_TTL);
        self.ttl.insert(id, ttl);
        self.promise(id);
    }

    /// Somebody counts on the full time of a lease from now on.
    fn promise(&mut self, id: i64) {
        let ttl = Duration::from_secs(self.ttl[&id] as u64);
        self.promised.insert(id, self.clock.now() + ttl);
    }

    fn renew(&mut self, who: usize, id: i64) {
        // As `serve.rs` does: an answer counts only while the lease is there.
        match self.members[who].leases.renew(id) {
            Ok(Renewal::Renewed(ttl)) => {
                assert_eq!(ttl, self.ttl[&id]);
                let is_old = who != self.leader;
                self.tell(
                    if is_old {
                        "renewed by the old one"
                    } else {
                        "renewed"
                    },
                    &id,
                );
                if self.promised.contains_key(&id) {
                    self.promise(id);
                }
            }
            Ok(Renewal::Checkpointed(_)) if who == self.leader => {
                self.tell("took back", &id);
                self.append(Entry::Checkpoint(vec![(id, 0)]));
                // Its client is answered when that is applied.
                let all = self.log.len();
                self.apply(who, all);
                if self.promised.contains_key(&id) && self.members[who].leases.contains(id) {
                    self.promise(id);
                }
            }
            Ok(Renewal::Expired(_)) => self.tell("late", &id),
            _ => {}
        }
    }

    fn pass(&mut self) {
        let millis = match self.random.below(40) {
            0..3 => 100_000 + self.random.below(300_000),
            3..10 => self.random.below(8_000),
            _ => self.random.below(900),
        };
        let mut to = self.clock.now() + Duration::from_millis(millis);
        for member in &mut self.members {
            // Raft notices in time.
            if let Some(until) = member.unaware_until.filter(|until| *until < to) {
                if member
                    .unaware_until
                    .take()
                    .is_some_and(|at| at > self.clock.now())
                {
                    to = until;
                }
                member.leases.elected(None);
            }
        }
        self.clock.advance(to.saturating_sub(self.clock.now()));
    }

    /// What the keeper of a member does.
    fn keep(&mut self, who: usize) {
        let work = self.members[who].leases.work();
        if work.expired.is_empty() && work.checkpoints.is_empty() {
            return;
        }
        let member = &self.members[who];
        assert!(
            who == self.leader || member.unaware_until.is_some(),
            "who was told that it does not lead wants {work:?}"
        );
        let lost = self.random.below(8) == 0;
        // As raft does.
        if lost || who != self.leader || work.term != self.term {
            if self.random.below(2) == 0 {
                self.members[who].leases.put_back(&work.expired);
            }
            self.tell("lost", &work);
            return;
        }
        let now = self.clock.now();
        for id in work.expired {
            let promised = self.promised.get(&id).copied();
            assert!(
                promised.is_none_or(|promised| promised <= now),
                "{id} is revoked at {now:?}, and was promised until {promised:?}"
            );
            self.tell("ended", &id);
            self.append(Entry::Revoke(id));
        }
        if !work.checkpoints.is_empty() {
            self.tell("checkpoint", &work.checkpoints);
            let request = checkpoint(&work.checkpoints).lease_checkpoint;
            let checkpoints = request.unwrap_or_default().checkpoints.into_iter();
            let left = checkpoints.map(|c: pb::LeaseCheckpoint| (c.id, c.remaining_ttl));
            self.append(Entry::Checkpoint(left.collect()));
        }
    }

    fn apply(&mut self, who: usize, entries: usize) {
        let member = &mut self.members[who];
        let Some((store, lessor)) = &mut member.disk else {
            return;
        };
        for (term, entry) in self.log.iter().skip(member.applied).take(entries) {
            match entry {
                Entry::Begin => {
                    member.leases.term_begun(*term);
                    if who == self.leader && *term == self.term {
                        // Nobody gets more time of a new leader than the log says is left.
                        for lease in by_the_log(&self.log[..member.applied]).0 {
                            let found = member.leases.time_to_live(lease.id, false);
                            let left = match lease.remaining_ttl {
                                0 => lease.ttl,
                                left => left,
                            };
                            let left = left + GRACE.as_secs() as i64;
                            assert_eq!(found.unwrap().map(|found| found.left), Some(left));
                        }
                    }
                }
                Entry::Grant(id, ttl) => {
                    lessor.grant(store.backend(), *id, *ttl).unwrap();
                }
                Entry::Revoke(id) => match lessor.revoke(store, *id) {
                    Ok(_) | Err(Failure::Refused(Error::LeaseNotFound)) => {}
                    Err(other) => panic!("{other:?}"),
                },
                Entry::Checkpoint(left) => {
                    for (id, left) in left {
                        lessor.checkpoint(store.backend(), *id, *left, true);
                    }
                }
                Entry::Put(key, id) if *id == 0 || lessor.exists(*id) => {
                    put(store, lessor, key, *id);
                }
                Entry::Put(..) => {}
            }
            member.applied += 1;
        }
    }

    /// Another member leads. `silently`: the old one notices later.
    fn elect(&mut self, who: usize, silently: bool) {
        self.tell("elect", &(who, silently));
        self.term += 1;
        let now = self.clock.now();
        let old = std::mem::replace(&mut self.leader, who);
        if old != who {
            match silently {
                true => self.members[old].unaware_until = Some(now + GRACE),
                false => self.members[old].leases.elected(None),
            }
        }
        self.members[who].unaware_until = None;
        self.members[who].leases.elected(Some(self.term));
        self.append(Entry::Begin);
    }

    fn restart(&mut self, who: usize) {
        self.tell("restart", &who);
        if who == self.leader {
            self.elect(1 - who, false);
        }
        let member = &mut self.members[who];
        member.leases.close();
        let (store, _) = member.disk.take().unwrap();
        store.close().unwrap();
        member.leases = with_clock(self.clock.clone());
        member.disk = Some(load(&member.engine, &member.leases));
        member.unaware_until = None;
    }

    /// With a leader that stays, everything ends.
    fn settle(&mut self) {
        let leader = self.leader;
        for _ in 0..20 {
            self.apply(leader, usize::MAX);
            self.apply(1 - leader, usize::MAX);
            self.same();
            self.clock.advance(Duration::from_secs(150));
            for _ in 0..200 {
                self.keep(leader);
                self.apply(leader, usize::MAX);
            }
        }
        assert_eq!(self.members[leader].leases.len(), 0);
    }

    /// Both have what the log says.
    fn same(&self) {
        let (leases, rev) = by_the_log(&self.log);
        for member in &self.members {
            let mut ids = member.leases.ids();
            ids.sort_unstable();
            let found: Vec<_> = ids
                .iter()
                .filter_map(|id| member.leases.lookup(*id))
                .collect();
            assert_eq!(found, leases);
            let store = member.disk.as_ref().map(|(store, _)| store.rev());
            assert_eq!(
                store,
                Some(rev),
                "a change is a revision, whatever it deletes"
            );
        }
    }
}

/// All leases, and the store's revision, as a list of entries makes them.
fn by_the_log(log: &[(u64, Entry)]) -> (Vec<Lease>, i64) {
    let mut leases: BTreeMap<i64, Lease> = BTreeMap::new();
    let mut rev = 1;
    for (_, entry) in log {
        match entry {
            Entry::Begin => {}
            Entry::Grant(id, ttl) => {
                let lease = Lease {
                    id: *id,
                    ttl: (*ttl).max(MIN_TTL),
                    remaining_ttl: 0,
                    keys: BTreeSet::new(),
                };
                leases.insert(*id, lease);
            }
            Entry::Revoke(id) => {
                let gone = leases.remove(id);
                rev += i64::from(gone.is_some_and(|lease| !lease.keys.is_empty()));
            }
            Entry::Checkpoint(left) => {
                for (id, left) in left {
                    if let Some(lease) = leases.get_mut(id) {
                        lease.remaining_ttl = *left;
                    }
                }
            }
            Entry::Put(key, id) => {
                if *id != 0 && !leases.contains_key(id) {
                    continue;
                }
                rev += 1;
                for lease in leases.values_mut() {
                    lease.keys.remove(key.as_bytes());
                }
                if let Some(lease) = leases.get_mut(id) {
                    lease.keys.insert(Bytes::from(*key));
                }
            }
        }
    }
    (leases.into_values().collect(), rev)
}

fn load(engine: &Arc<dyn Backend>, leases: &Arc<Leases>) -> (Store, Lessor) {
    let (writer, reader) = Writer::start(engine.clone(), WriterOptions::default());
    let mut lessor = Lessor::load(&reader, MIN_TTL, leases.clone()).unwrap();
    let mut store = Store::open(writer, reader, StoreOptions::default()).unwrap();
    assert_eq!(lessor.attach_restored(store.take_restored_leases()), 0);
    (store, lessor)
}

/// One run; how often what happened in it.
fn play(seed: u64, run: u64) -> BTreeMap<&'static str, u64> {
    let mut world = World::new(seed.wrapping_mul(1_000_003).wrapping_add(run));
    let played = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
    }));
    if let Err(panic) = played {
        println!("run {run} of seed {seed}; the last steps:");
        for line in &world.told {
            println!("  {line}");
        }
        // What is wrong may also be wrong at its end.
        std::mem::forget(world);
        resume_unwind(panic);
    }
    world.counts
}

/// A model that lets faults pass proves nothing.
#[test]
fn planted_faults_are_found() {
    let mutants = [
        Mutant::NoGrace,
        Mutant::LeadsBeforeApplied,
        Mutant::DeposedKeepsTime,
        Mutant::FollowerRenews,
        Mutant::ShortAfterRestart,
        Mutant::RenewalForgotten,
        Mutant::KeyNotDetached,
        Mutant::CheckpointNotPersisted,
        Mutant::CheckpointIgnored,
        Mutant::CheckpointNotTakenBack,
        Mutant::RevokedOneByOne,
    ];
    let found = |mutant: &Mutant| mutant::find(*mutant, RUNS, |run| drop(play(1, run))).is_some();
    let survivors: Vec<_> = mutants
        .into_iter()
        .filter(|mutant| !found(mutant))
        .collect();
    assert!(
        survivors.is_empty(),
        "not found in {RUNS} runs: {survivors:?}"
    );
}

#[test]
fn no_lease_ends_before_what_was_promised() {
    let seed = number("RETCD_TEST_SEED", 1);
    let runs = RUNS * number("RETCD_TEST_SCALE", 1);
    println!("RETCD_TEST_SEED={seed}");
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for run in 0..runs {
        for (name, count) in play(seed, run) {
            *counts.entry(name).or_default() += count;
        }
    }
    println!("{counts:?}");
    for name in [
        "grant",
        "revoke",
        "renewed",
        "renewed by the old one",
        "took back",
        "late",
        "ended",
        "checkpoint",
        "lost",
        "elect",
        "restart",
    ] {
        let count = counts.get(name).copied().unwrap_or(0);
        assert!(count >= runs / 10, "too few: {name}: {counts:?}");
    }
}
