//! Time, and what happens in it.

mod ending;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use retcd::simulation::{Answer, Applied};
use retcd_proto::etcdserverpb::InternalRaftRequest;
use retcd_proto::raftpb;
use retcd_raft_node::Apply;
use retcd_raft_node::core::{Role, SoftState};
use retcd_raft_node::membership::{Change, Member as Record};
use retcd_raft_node::parts::{Group, Report, Write, save_file};
use retcd_storage::{snapshot, wal};

use prost::Message as _;

use crate::client::Client;
use crate::history::Call;
use crate::member::{Beginning, Member, Running, snap_dir};
use crate::mutant::Mutant;
use crate::plan::{MS, Plan, SECOND};
use crate::ports::Outbox;
use crate::random::Random;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    Deliver(Box<raftpb::Message>),
    /// A snapshot message with its database.
    Database {
        message: Box<raftpb::Message>,
        bytes: Arc<Vec<u8>>,
        sender: (u64, u64),
    },
    /// A database that comes too late, for a planted fault.
    LateDatabase {
        to: u64,
        index: u64,
        bytes: Arc<Vec<u8>>,
    },
    SnapshotSent {
        sender: (u64, u64),
        to: u64,
        sent: bool,
    },
    Unreachable {
        sender: (u64, u64),
        to: u64,
    },
    Tick(u64, u64),
    Flushed(u64, u64),
    Saved(u64, u64),
    Apply(u64, u64),
    Commit(u64, u64),
    Client(usize),
    Timeout(usize, usize),
    Fault,
    Change,
    Uncut(Vec<(u64, u64)>),
    Start(u64),
    /// Of a member in the middle of something.
    Crash(u64, u64),
    Leave(u64),
    Heal,
    Marker,
}

struct Scheduled {
    at: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Simulated microseconds.
    pub simulated: u64,
    /// Things that happened.
    pub events: u64,
    /// Calls of clients that were answered.
    pub answered: u64,
    /// Calls of unknown outcome.
    pub unknown: u64,
    /// Entries applied somewhere first.
    pub entries: u64,
    /// Leaders.
    pub leaders: u64,
    /// Crashes.
    pub crashes: u64,
    /// Databases put in place of a member's own.
    pub installed: u64,
    /// Entries refused from a leader because too many waited to be applied.
    pub dropped: u64,
    /// Membership changes.
    pub changes: u64,
    /// A hash over everything that happened, in order.
    pub trace: u64,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) random: Random,
    pub(crate) now: u64,
    number: u64,
    events: BinaryHeap<Scheduled>,
    pub(crate) members: BTreeMap<u64, Member>,
    /// Directed links that are cut, with how often.
    pub(crate) cuts: BTreeMap<(u64, u64), u32>,
    pub(crate) healed: bool,
    /// Term and chain of every index that was applied anywhere.
    chains: BTreeMap<u64, (u64, u64)>,
    leaders: BTreeMap<u64, u64>,
    /// Members that the cluster has removed.
    pub(crate) gone: BTreeSet<u64>,
    pub(crate) clients: Vec<Client>,
    pub(crate) calls: Vec<Call>,
    pub(crate) stamp: u64,
    pub(crate) requests: u64,
    pub(crate) values: u64,
    pub(crate) next_member: u64,
    /// Who made which call, by request.
    pub(crate) call_of: BTreeMap<u64, usize>,
    /// What the calls' requests did where they were applied first.
    effects: BTreeMap<usize, Answer>,
    /// The last write: everybody must have it in the end.
    marker: Option<u64>,
    marker_index: Option<u64>,
    wrong: Option<String>,
    pub(crate) summary: Summary,
}

impl World {
    pub(crate) fn new(plan: Plan, mutant: Option<Mutant>) -> World {
        let mut random = Random::new(plan.seed.wrapping_mul(0x9e37_79b9) ^ 0xb0a7);
        let ids: Vec<u64> = (1..=plan.members as u64).collect();
        let records: Vec<Record> = ids.iter().map(|id| record(*id, 0)).collect();
        let members = ids
            .iter()
            .map(|id| {
                let beginning = Beginning::Found(records.clone());
                (*id, Member::new(*id, beginning, &plan, &mut random))
            })
            .collect();
        World {
            mutant,
            random,
            now: 0,
            number: 0,
            events: BinaryHeap::new(),
            members,
            cuts: BTreeMap::new(),
            healed: false,
            chains: BTreeMap::new(),
            leaders: BTreeMap::new(),
            gone: BTreeSet::new(),
            clients: (0..plan.clients).map(|_| Client::default()).collect(),
            calls: Vec::new(),
            stamp: 0,
            requests: 0,
            values: 0,
            next_member: plan.members as u64 + 1,
            call_of: BTreeMap::new(),
            effects: BTreeMap::new(),
            marker: None,
            marker_index: None,
            wrong: None,
            summary: Summary::default(),
            plan,
        }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// What went wrong first.
    pub(crate) fn run(mut self) -> Result<Summary, String> {
        for id in self.ids() {
            let at = self.random.below(200 * MS);
            self.at(at, Event::Start(id));
        }
        for client in 0..self.plan.clients {
            self.after(SECOND + self.plan.pause, Event::Client(client));
        }
        if self.plan.fault_every > 0 {
            self.after(2 * SECOND, Event::Fault);
        }
        if self.plan.change_every > 0 {
            self.after(3 * SECOND, Event::Change);
        }
        self.at(self.plan.heal_at, Event::Heal);
        while let Some(next) = self.events.pop() {
            if next.at > self.plan.end {
                break;
            }
            self.now = next.at;
            self.summary.events += 1;
            self.trace(next.at ^ next.number.rotate_left(40));
            self.handle(next.event);
            if let Some(wrong) = self.wrong.take() {
                let seconds = self.now as f64 / SECOND as f64;
                return Err(format!("{wrong} (at {seconds:.3} s)"));
            }
        }
        self.now = self.plan.end;
        self.finish()?;
        self.summary.simulated = self.plan.end;
        self.summary.leaders = self.leaders.len() as u64;
        self.summary.entries = self.chains.len() as u64;
        Ok(self.summary)
    }

    fn trace(&mut self, n: u64) {
        let trace = &mut self.summary.trace;
        *trace = (trace.rotate_left(17) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.members.keys().copied().collect()
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.events.push(Scheduled { at, number: self.number, event });
    }

    pub(crate) fn after(&mut self, wait: u64, event: Event) {
        self.at(self.now + wait, event);
    }

    /// Something that must not be.
    pub(crate) fn wrong(&mut self, what: impl Into<String>) {
        self.wrong.get_or_insert(what.into());
    }

    fn check<T>(&mut self, id: u64, result: Result<T, impl std::fmt::Display>) -> Option<T> {
        result.map_err(|e| self.wrong(format!("member {id:x} stops: {e}"))).ok()
    }

    /// Whether the start that something belongs to still lasts.
    fn is_current(&self, id: u64, incarnation: u64) -> bool {
        self.members.get(&id).is_some_and(|m| m.running.is_some() && m.incarnation == incarnation)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deliver(message) => self.deliver(message),
            Event::Database { message, bytes, sender } => self.database(message, bytes, sender),
            Event::LateDatabase { to, index, bytes } => self.receive(to, index, &bytes),
            Event::SnapshotSent { sender, to, sent } => {
                if self.is_current(sender.0, sender.1) && self.mutant != Some(Mutant::SnapshotNotReported) {
                    self.with_core(sender.0, |core| core.report_snapshot(to, sent));
                }
            }
            Event::Unreachable { sender, to } => {
                if self.is_current(sender.0, sender.1) {
                    self.with_core(sender.0, |core| core.report_unreachable(to));
                }
            }
            Event::Tick(id, incarnation) => self.tick(id, incarnation),
            Event::Flushed(id, incarnation) => {
                if self.is_current(id, incarnation) {
                    self.flushed(id);
                }
            }
            Event::Saved(id, incarnation) => {
                if self.is_current(id, incarnation) {
                    self.saved(id);
                }
            }
            Event::Apply(id, incarnation) => {
                if self.is_current(id, incarnation) {
                    if let Some(until) = self.paused(id) {
                        self.at(until, Event::Apply(id, incarnation));
                    } else {
                        self.apply(id);
                    }
                }
            }
            Event::Commit(id, incarnation) => {
                if self.is_current(id, incarnation) {
                    self.commit(id);
                    let wait = self.around(self.plan.commit_every);
                    self.after(wait, Event::Commit(id, incarnation));
                }
            }
            Event::Client(client) => self.call(client),
            Event::Timeout(client, call) => self.give_up(client, call),
            Event::Fault => self.fault(),
            Event::Change => self.change(),
            Event::Uncut(links) => self.uncut(&links),
            Event::Start(id) => self.start(id),
            Event::Crash(id, incarnation) => {
                if self.is_current(id, incarnation) && !self.healed {
                    self.crash_for_a_while(id);
                }
            }
            Event::Leave(id) => self.leave(id),
            Event::Heal => self.heal(),
            Event::Marker => self.mark(),
        }
    }

    /// Half to one and a half of it.
    pub(crate) fn around(&mut self, mean: u64) -> u64 {
        self.random.between(mean / 2, mean + mean / 2)
    }

    /// Until when a member stands still.
    pub(crate) fn paused(&self, id: u64) -> Option<u64> {
        let member = self.members.get(&id)?;
        (member.paused_until > self.now).then_some(member.paused_until)
    }

    pub(crate) fn with_core<T>(
        &mut self,
        id: u64,
        act: impl FnOnce(&mut retcd_raft_node::core::Core) -> T,
    ) -> Option<T> {
        let running = self.members.get_mut(&id)?.running.as_mut()?;
        let result = act(running.machine.core_mut());
        self.pump(id);
        Some(result)
    }

    fn start(&mut self, id: u64) {
        let (now, mutant) = (self.now, self.mutant);
        let plan = self.plan.clone();
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if member.running.is_some() || member.removed {
            return;
        }
        if let Err(e) = member.start(now, &plan, mutant) {
            return self.wrong(e);
        }
        let incarnation = member.incarnation;
        let wait = self.random.below(100 * MS);
        self.after(wait, Event::Tick(id, incarnation));
        let wait = self.around(self.plan.commit_every);
        self.after(wait, Event::Commit(id, incarnation));
        self.pump(id);
    }

    /// A removed member goes for ever; but of two voters it stays until the other one knows, which
    /// needs its vote until then: an operator who removes one of two does well to look.
    fn leave(&mut self, id: u64) {
        let needed = self.members.iter().any(|(other, m)| {
            let asks = |r: &Running| {
                let voters = r.state.cluster().conf_state().voters;
                voters.len() == 2 && voters.contains(&id)
            };
            !self.gone.contains(other) && !m.removed && m.running.as_ref().is_none_or(asks)
        });
        if needed {
            return self.after(500 * MS, Event::Leave(id));
        }
        self.crash(id);
        if let Some(member) = self.members.get_mut(&id) {
            member.removed = true;
        }
    }

    pub(crate) fn crash(&mut self, id: u64) {
        let mut random = Random::new(self.random.next());
        let mutant = self.mutant;
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let Some(running) = &mut member.running else {
            return;
        };
        self.summary.crashes += 1;
        let waiting: Vec<usize> = std::mem::take(&mut running.writers)
            .into_values()
            .chain(std::mem::take(&mut running.readers).into_values())
            .collect();
        member.crash(&mut random, mutant);
        for client in waiting {
            self.lost(client);
        }
    }

    fn tick(&mut self, id: u64, incarnation: u64) {
        if !self.is_current(id, incarnation) {
            return;
        }
        let wait = self.members[&id].tick;
        self.after(wait, Event::Tick(id, incarnation));
        if self.paused(id).is_some() {
            return;
        }
        let Some(running) = self.members.get_mut(&id).and_then(|m| m.running.as_mut()) else {
            return;
        };
        if running.campaign && running.machine.core_mut().campaign_if_alone() {
            running.campaign = false;
        }
        let mut out = Outbox::default();
        running.machine.tick(&mut out);
        self.take(id, out);
        self.pump(id);
    }

    /// Lets a member's machine do all that there is to do.
    pub(crate) fn pump(&mut self, id: u64) {
        let Some(running) = self.members.get_mut(&id).and_then(|m| m.running.as_mut()) else {
            return;
        };
        let mut out = Outbox { room: running.room(), ..Outbox::default() };
        running.machine.work(&mut out);
        self.take(id, out);
    }

    /// Does what a machine wants done.
    pub(crate) fn take(&mut self, id: u64, out: Outbox) {
        for state in out.soft_states {
            self.soft_state(id, state);
        }
        self.send(id, out.messages);
        let incarnation = self.members[&id].incarnation;
        let Some(running) = self.members.get_mut(&id).and_then(|m| m.running.as_mut()) else {
            return;
        };
        let mut early = Vec::new();
        if self.mutant == Some(Mutant::PersistedBeforeSync) {
            early.extend(out.writes.iter().filter_map(|write| match write {
                Write::Append { number, .. } => *number,
                Write::SnapshotRecord { .. } => None,
            }));
        }
        let appended: Vec<u64> = match self.mutant {
            Some(Mutant::AnswerAtAppend) => out
                .writes
                .iter()
                .filter_map(|write| match write {
                    Write::Append { entries, .. } => Some(entries),
                    Write::SnapshotRecord { .. } => None,
                })
                .flatten()
                .filter_map(|e| InternalRaftRequest::decode(e.data.clone()?).ok())
                .filter_map(|r| r.header.map(|h| h.id))
                .collect(),
            _ => Vec::new(),
        };
        running.queue.extend(out.writes);
        let save = !running.saving && !out.saves.is_empty();
        running.jobs.extend(out.saves);
        running.saving |= save;
        running.work.extend(out.work);
        let apply = !running.applying && !running.work.is_empty();
        running.applying |= apply;
        if save {
            let wait = self.disk_time(id);
            self.after(wait, Event::Saved(id, incarnation));
        }
        if apply {
            let wait = self.apply_time();
            self.after(wait, Event::Apply(id, incarnation));
        }
        for index in out.recorded {
            self.recorded(id, index);
        }
        for (request, index) in out.reads {
            self.read_index(id, request, index);
        }
        self.flush(id);
        for request in appended {
            self.answer_early(id, request);
        }
        for number in early {
            self.report(id, Report::Persisted(number));
        }
    }

    fn report(&mut self, id: u64, report: Report) {
        let Some(running) = self.members.get_mut(&id).and_then(|m| m.running.as_mut()) else {
            return;
        };
        let mut out = Outbox { room: running.room(), ..Outbox::default() };
        running.machine.report(report, &mut out);
        self.take(id, out);
        self.pump(id);
    }

    fn soft_state(&mut self, id: u64, state: SoftState) {
        self.trace(id ^ state.term << 8 ^ state.leader << 32);
        if state.role != Role::Leader {
            return;
        }
        let other = *self.leaders.entry(state.term).or_insert(id);
        if other != id {
            self.wrong(format!("two leaders in term {}: {other:x} and {id:x}", state.term));
        }
    }

    fn apply_time(&mut self) -> u64 {
        let (low, high) = self.plan.apply;
        self.random.between(low, if self.healed { high.min(2 * MS) } else { high })
    }

    fn disk_time(&mut self, id: u64) -> u64 {
        let (low, high) = self.plan.disk;
        let time = self.random.between(low, high);
        let slow = !self.healed && self.members[&id].slow_until > self.now;
        if slow { time * 60 } else { time }
    }

    /// Begins the next sync, if none is under way: everything queued becomes one.
    fn flush(&mut self, id: u64) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let incarnation = member.incarnation;
        let Some(running) = &mut member.running else {
            return;
        };
        if running.flushing.is_some() || running.queue.is_empty() {
            return;
        }
        let writes = std::mem::take(&mut running.queue);
        let before = self.mutant.and_then(|mutant| mutant.before(&writes));
        running.flushing = Some(writes);
        if let Some(write) = before {
            let mut group = Group::default();
            // A planted fault: what becomes of it is found out later.
            let _ = running.writer.append(write, &mut group);
            let _ = running.writer.flush(group);
        }
        let wait = self.disk_time(id);
        self.after(wait, Event::Flushed(id, incarnation));
    }

    fn flushed(&mut self, id: u64) {
        let mutant = self.mutant;
        let Some(running) = self.members.get_mut(&id).and_then(|m| m.running.as_mut()) else {
            return;
        };
        let mut group = Group::default();
        let mut result: Result<(), retcd_raft_node::Error> = Ok(());
        for write in running.flushing.take().unwrap_or_default() {
            let last = running.last_written;
            if let Write::Append { entries, .. } = &write
                && let Some(entry) = entries.last()
            {
                running.last_written = entry.index();
            }
            let writes = match mutant {
                Some(mutant) => mutant.write(write, last),
                None => vec![write],
            };
            for write in writes {
                if let Err(e) = running.writer.append(write, &mut group) {
                    result = Err(e);
                }
            }
        }
        let result = result.and_then(|()| running.writer.flush(group));
        let Some(reports) = self.check(id, result) else {
            return;
        };
        for report in reports {
            let early = mutant == Some(Mutant::PersistedBeforeSync);
            if !(early && matches!(report, Report::Persisted(_))) {
                self.report(id, report);
            }
        }
        self.flush(id);
    }

    fn saved(&mut self, id: u64) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let Some(running) = &mut member.running else {
            return;
        };
        let Some(snapshot) = running.jobs.pop_front() else {
            return;
        };
        running.saving = !running.jobs.is_empty();
        let more = running.saving;
        let incarnation = member.incarnation;
        let saved = save_file(&member.fs, &snap_dir(), &snapshot);
        if more {
            let wait = self.disk_time(id);
            self.after(wait, Event::Saved(id, incarnation));
        }
        if let Some((_, report)) = self.check(id, saved) {
            self.report(id, report);
        }
    }

    fn recorded(&mut self, id: u64, index: u64) {
        let Some(member) = self.members.get(&id) else {
            return;
        };
        let fs = member.fs.clone();
        let purged = wal::purge(&fs, "/m/wal".as_ref(), 2);
        self.check(id, purged);
        let purged = snapshot::purge(&fs, &snap_dir(), 2, index);
        self.check(id, purged);
    }

    fn commit(&mut self, id: u64) {
        let past = self.mutant == Some(Mutant::SnapshotPastDurable);
        let Some(running) = self.members.get_mut(&id).and_then(|m| m.running.as_mut()) else {
            return;
        };
        let state = &mut running.state;
        let mut result = Ok(());
        if running.compacting {
            match state.compaction_step(8) {
                Ok(more) => running.compacting = more,
                Err(e) => result = Err(e),
            }
        }
        let skip = past && self.random.chance(700);
        if result.is_ok() && !skip {
            result = state.commit();
        }
        let index = if past { state.applied().0 } else { state.durable() };
        let due = index >= running.last_snapshot + self.plan.snapshot_count && index >= state.conf_index();
        let mut out = Outbox::default();
        if due && result.is_ok() {
            running.last_snapshot = index;
            let conf_state = match state.conf_state() {
                Some(conf_state) => conf_state.clone(),
                None => running.machine.core().conf_state(),
            };
            let document = state.document();
            running.machine.save_snapshot(index, conf_state, document.into(), &mut out);
        }
        self.check(id, result);
        self.take(id, out);
    }

    fn apply(&mut self, id: u64) {
        let Some(running) = self.members.get_mut(&id).and_then(|m| m.running.as_mut()) else {
            return;
        };
        let Some(work) = running.work.pop_front() else {
            running.applying = false;
            return;
        };
        match work {
            Apply::Entries(entries) => self.apply_entries(id, entries),
            Apply::Snapshot(snapshot) => self.install(id, &snapshot),
        }
        if self.wrong.is_some() {
            return;
        }
        self.published(id);
        self.pump(id);
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let incarnation = member.incarnation;
        let Some(running) = &mut member.running else {
            return;
        };
        running.applying = !running.work.is_empty();
        if running.applying {
            let wait = self.apply_time();
            self.after(wait, Event::Apply(id, incarnation));
        }
    }

    fn apply_entries(&mut self, id: u64, mut entries: Vec<raftpb::Entry>) {
        self.spoil(id, &mut entries);
        let mut answers: Vec<Answer> = Vec::new();
        for entry in entries {
            let (index, term) = (entry.index(), entry.term());
            let mutant = self.mutant;
            let Some(running) = self.members.get_mut(&id).and_then(|m| m.running.as_mut()) else {
                return;
            };
            let fresh = index > running.state.applied().0;
            let core = running.machine.core_mut();
            let mut told = None;
            let applied = running.state.apply(entry, &mut |change| {
                let change = change.cloned().and_then(|change| spoil_change(mutant, change));
                let state = core.apply_conf_change(change.as_ref());
                told = state.as_ref().ok().cloned();
                state.map_err(|e| e.to_string())
            });
            let Some(applied) = self.check(id, applied) else {
                return;
            };
            if let Some(told) = told {
                self.same_members(id, index, &told);
            }
            if fresh {
                self.same_state(id, index, term, &applied);
            }
            self.changed(id, applied.change);
            answers.extend(applied.answer);
        }
        let mutant = self.mutant;
        let Some(running) = self.members.get_mut(&id).and_then(|m| m.running.as_mut()) else {
            return;
        };
        let state = &mut running.state;
        let (index, term) = state.applied();
        let chain = state.chain();
        let result = match mutant {
            Some(Mutant::IndexAheadOfEffects) => state.publish_as(index + 1, term, chain),
            Some(Mutant::IndexBehindEffects) => state.publish_as(index.saturating_sub(1), term, chain),
            _ => state.publish(),
        };
        running.compacting = true;
        self.check(id, result);
        for answer in answers {
            if let Some(call) = self.call_of.get(&answer.id) {
                let call = *call;
                self.effects.entry(call).or_insert_with(|| answer.clone());
            }
            if Some(answer.id) == self.marker {
                self.marker_index.get_or_insert(index);
            }
            self.answered(id, &answer);
        }
    }

    /// The members that raft counts are those of the cluster.
    fn same_members(&mut self, id: u64, index: u64, told: &raftpb::ConfState) {
        let Some(running) = self.members.get(&id).and_then(|m| m.running.as_ref()) else {
            return;
        };
        let members = running.state.cluster().conf_state();
        // The first entries name the founders one by one, who count together from the beginning.
        if index <= self.plan.members as u64 {
            return;
        }
        if (&members.voters, &members.learners) != (&told.voters, &told.learners) {
            self.wrong(format!("member {id:x}, index {index}: raft counts {told:?}, the members are {members:?}"));
        }
    }

    /// Every member has the same state at every index.
    fn same_state(&mut self, id: u64, index: u64, term: u64, applied: &Applied) {
        let chain = applied.chain;
        let first = *self.chains.entry(index).or_insert((term, chain));
        if first != (term, chain) {
            self.wrong(format!(
                "member {id:x} has another state at index {index}: term {term}, chain {chain:x}; \
                 others had term {}, chain {:x}",
                first.0, first.1
            ));
        }
        if applied.chain != 0 {
            self.trace(chain);
        }
    }

    /// Now and then a member crashes in the middle of something delicate.
    pub(crate) fn endanger(&mut self, id: u64) {
        if self.plan.crashes && !self.healed && self.random.chance(150) {
            let wait = self.random.below(self.plan.disk.1 * 2);
            let incarnation = self.members[&id].incarnation;
            self.after(wait, Event::Crash(id, incarnation));
        }
    }

    /// A membership change was applied somewhere.
    fn changed(&mut self, id: u64, change: Option<Change>) {
        if change.is_some() {
            self.endanger(id);
        }
        match change {
            Some(Change::Added(added)) if !self.members.contains_key(&added.id) => {
                self.summary.changes += 1;
                let voters = self.members[&id]
                    .running
                    .as_ref()
                    .map(|r| r.state.cluster().conf_state().voters)
                    .unwrap_or_default()
                    .into_iter()
                    .filter(|voter| *voter != added.id)
                    .collect();
                let beginning = Beginning::Join(voters);
                let member = Member::new(added.id, beginning, &self.plan, &mut self.random);
                self.members.insert(added.id, member);
                let wait = if self.healed { 0 } else { self.random.below(3 * SECOND) };
                self.after(wait, Event::Start(added.id));
            }
            Some(Change::Removed(removed)) => {
                if self.gone.insert(removed) {
                    self.summary.changes += 1;
                }
                if removed == id {
                    self.after(SECOND, Event::Leave(id));
                }
            }
            _ => {}
        }
    }

    fn install(&mut self, id: u64, received: &raftpb::Snapshot) {
        let meta = received.metadata.clone().unwrap_or_default();
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let fs: Arc<dyn retcd_storage::fs::Fs> = Arc::new(member.fs.clone());
        let Some(mut running) = member.running.take() else {
            return;
        };
        if running.state.applied().0 >= meta.index() {
            return self.wrong(format!(
                "member {id:x} is to install a snapshot of index {} at {}",
                meta.index(),
                running.state.applied().0
            ));
        }
        if self.mutant == Some(Mutant::DatabaseNotInstalled) {
            member.running = Some(running);
            return;
        }
        if let Err(e) = running.state.install(fs, meta.index()) {
            return self.wrong(format!("member {id:x} cannot install a database: {e}"));
        }
        running.last_snapshot = running.last_snapshot.max(meta.index());
        running.compacting = true;
        let (index, term) = running.state.applied();
        let chain = running.state.chain();
        member.running = Some(running);
        self.summary.installed += 1;
        if index < meta.index() {
            return self.wrong(format!("member {id:x} got a database that is too old"));
        }
        if index != 0 && self.chains.get(&index) != Some(&(term, chain)) {
            self.wrong(format!("member {id:x} got a database whose state at {index} is not the cluster's"));
        }
    }

    /// What is applied is visible now.
    fn published(&mut self, id: u64) {
        let Some(running) = self.members.get_mut(&id).and_then(|m| m.running.as_mut()) else {
            return;
        };
        let applied = running.state.applied().0;
        running.machine.core_mut().applied(applied);
        let mut ready = Vec::new();
        running.confirmed.retain(|(index, request)| {
            if *index <= applied {
                ready.push(*request);
            }
            *index > applied
        });
        for request in ready {
            self.serve_read(id, request);
        }
    }

    /// The member that leads, if one does, in the highest term.
    pub(crate) fn leader(&self) -> Option<u64> {
        self.members
            .iter()
            .filter_map(|(id, m)| Some((*id, m.running.as_ref()?.machine.core().soft_state())))
            .filter(|(_, state)| state.role == Role::Leader)
            .max_by_key(|(_, state)| state.term)
            .map(|(id, _)| id)
    }

    pub(crate) fn next_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }
}

/// A member's record; its URL tells who and when.
pub(crate) fn record(id: u64, version: u64) -> Record {
    Record { id, peer_urls: vec![format!("http://10.0.{version}.{id}:2380")], ..Record::default() }
}

fn spoil_change(mutant: Option<Mutant>, mut change: raftpb::ConfChange) -> Option<raftpb::ConfChange> {
    use raftpb::ConfChangeType as T;
    match (mutant, change.r#type()) {
        (Some(Mutant::LearnerVotes), T::ConfChangeAddLearnerNode) => {
            change.r#type = Some(T::ConfChangeAddNode as i32);
        }
        (Some(Mutant::RemovalIgnored), T::ConfChangeRemoveNode) => return None,
        _ => {}
    }
    Some(change)
}
