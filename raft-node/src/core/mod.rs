//! The consensus core: the `raft` crate behind etcd's types, without IO, clock or thread.
//!
//! A driver feeds it ticks, messages, proposals and reports of what became durable, and executes
//! each [`Output`] it returns. What may leave when:
//!
//! - `entries` and `hard_state` go to the WAL in the order of `number`; when they are durable the
//!   driver says [`Core::persisted`].
//! - `messages` may leave at once: the leader replicates while it writes (raft thesis, 10.2.1), and a
//!   follower asks it for something.
//! - `persisted_messages` may leave only when this output and all before it are durable.
//! - `committed` entries are durable here already and may be applied at once: a member's own
//!   acknowledgement counts only after its own sync (D2), also when it is the only voter.

mod check;
mod conf;
mod convert;
mod fuzz;
mod held;
mod log;
mod reads;
mod retention;
mod rival;
mod split;
#[cfg(test)]
mod tests;
mod timeouts;
mod types;

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::{self, MessageType};
use raft::{ProgressState, RawNode, StateRole};
use retcd_proto::raftpb;

use crate::ids::RequestIds;
use conf::Handed;
use held::Held;
use log::LogView;
use reads::Reads;
use retention::Retention;
use timeouts::Timeouts;

pub use fuzz::fuzz_core;
pub use types::{
    CoreConfig, InitialState, MemberProgress, Output, Replication, Role, SoftState, StepError,
};

/// Entries in one append message, in bytes; etcd's value.
const MAX_SIZE_PER_MSG: u64 = 1024 * 1024;
/// Append messages in flight to one peer; etcd's value.
const MAX_INFLIGHT_MSGS: usize = 512;
/// Payload that may be proposed and not committed. Beyond it proposals are dropped: a leader that
/// lost its quorum must not fill its memory before it notices.
const MAX_UNCOMMITTED_BYTES: u64 = 512 * 1024 * 1024;
/// Entries that are forgotten at once.
const TRIM_STEP: u64 = 100;
/// Ticks after which a read-index request without an answer is repeated; 500 ms at etcd's default.
const READ_RETRY_TICKS: u32 = 5;
/// See the module's text.
pub struct Core {
    raw: RawNode<LogView>,
    reads: Reads,
    /// Committed conf changes that were handed out and not applied yet.
    handed: Handed,
    held: Held,
    /// Term and vote that were given out last, and the output that is to make them durable.
    vote: (u64, u64),
    unsynced_vote: Option<u64>,
    /// The last output, not durable yet, that replaced entries of outputs before it; see [`Core::persisted`].
    replaces: Option<u64>,
    /// This member leads, and the configuration in force is without it; see [`Core::leave`].
    leaving: bool,
    /// What the application has applied, as reported.
    applied: u64,
    retention: Retention,
    soft_state: SoftState,
    timeouts: Timeouts,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("id", &self.raw.raft.id)
            .field("state", &self.soft_state)
            .field("log", &self.raw.raft.raft_log.to_string())
            .finish_non_exhaustive()
    }
}

impl Core {
    /// # Errors
    /// A state that contradicts itself.
    pub fn new(
        config: &CoreConfig,
        initial: InitialState,
        logger: &slog::Logger,
    ) -> Result<Core, StepError> {
        check::initial(config, &initial)?;
        let raft_config = raft::Config {
            id: config.id,
            election_tick: config.election_ticks,
            heartbeat_tick: 1,
            applied: initial.applied,
            max_size_per_msg: MAX_SIZE_PER_MSG,
            max_inflight_msgs: MAX_INFLIGHT_MSGS,
            check_quorum: true,
            pre_vote: config.pre_vote,
            batch_append: true,
            max_uncommitted_size: MAX_UNCOMMITTED_BYTES,
            ..raft::Config::default()
        };
        let mut snapshot = eraftpb::Snapshot::default();
        (snapshot.mut_metadata().index, snapshot.mut_metadata().term) = initial.snapshot;
        let entries = initial
            .entries
            .into_iter()
            .map(convert::from_entry)
            .collect::<Result<_, _>>()?;
        let log = LogView::new(
            snapshot,
            convert::from_hard_state(&initial.hard_state),
            convert::from_conf_state(&initial.conf_state),
            entries,
        );
        let raw = RawNode::new(&raft_config, log, logger).map_err(raft_error)?;
        let mut core = Core {
            raw,
            reads: Reads::new(
                RequestIds::new(config.id, config.start_millis),
                READ_RETRY_TICKS,
            ),
            vote: (initial.hard_state.term(), initial.hard_state.vote()),
            unsynced_vote: None,
            replaces: None,
            handed: Handed::default(),
            held: Held::new(2 * config.election_ticks as u32),
            leaving: false,
            applied: initial.applied,
            retention: Retention::new(config.catch_up_entries, 2 * config.election_ticks as u32),
            soft_state: SoftState {
                leader: 0,
                role: Role::Follower,
                term: 0,
            },
            timeouts: Timeouts::new(config.seed, config.election_ticks),
        };
        core.soft_state = core.read_soft_state();
        core.offer_conf_state();
        core.offer_applied();
        core.settle();
        Ok(core)
    }

    /// One unit of time passed.
    pub fn tick(&mut self) {
        self.reads.tick(self.raw.raft.term);
        if self.raw.raft.state == StateRole::Leader || self.may_campaign() {
            self.raw.tick();
        } else {
            // No election; but time passes: a leader that falls silent meanwhile is not taken for
            // one for ever, which would refuse all others this member's vote.
            self.raw.raft.election_elapsed += 1;
        }
        self.retention.tick(&self.raw.raft);
        self.hand_over_if_leaving();
        self.tick_held();
        self.settle();
    }

    /// Lets time pass at once for a member that has just started and hears of no leader, so that
    /// it does not wait for a whole election timeout. Nothing where somebody leads.
    pub fn advance_ticks(&mut self, ticks: usize) {
        if self.raw.raft.state == StateRole::Follower && self.raw.raft.leader_id == 0 {
            self.take_turns();
        }
        for _ in 0..ticks {
            if self.raw.raft.state != StateRole::Follower || self.raw.raft.leader_id != 0 {
                return;
            }
            self.tick();
        }
    }

    /// Nobody listens at a peer's address. If it is the leader, it is gone, and chance need not
    /// decide when this member loses patience. It is as patient as any member can be by chance,
    /// so whoever still hears the leader is not disturbed.
    pub fn report_gone(&mut self, id: u64) {
        if self.raw.raft.state == StateRole::Follower && self.raw.raft.leader_id == id {
            self.take_turns();
        }
    }

    /// Those who can be elected have their turns in the order of their ids.
    fn take_turns(&mut self) {
        let raft = &self.raw.raft;
        let voters = raft.prs().conf().voters().ids();
        let before = raft
            .prs()
            .iter()
            .filter(|(id, _)| **id < raft.id && **id != raft.leader_id && voters.contains(**id));
        self.timeouts.take_turns(before.count());
        self.settle();
    }

    /// Starts an election at once where waiting for others makes no sense: this member is the only
    /// voter. True when it was started; false also when a conf change must be applied first.
    pub fn campaign_if_alone(&mut self) -> bool {
        let raft = &self.raw.raft;
        if !self.is_alone() || raft.state == StateRole::Leader || !self.may_campaign() {
            return false;
        }
        // Refusals are logged by the core; a tick tries again.
        let _ = self.raw.campaign();
        self.settle();
        self.raw.raft.state == StateRole::Leader
    }

    /// The only voter there is.
    fn is_alone(&self) -> bool {
        self.raw.raft.promotable() && self.raw.raft.prs().is_singleton()
    }

    /// The only voter, leading, with a commit in its term: its commit index is the read index.
    pub fn leads_alone(&self) -> bool {
        self.is_alone()
            && self.raw.raft.state == StateRole::Leader
            && self.raw.raft.commit_to_current_term()
    }

    /// Whether an election may start. The crate panics in two cases that are sound and end soon:
    ///
    /// - A lone voter elects itself within the call, so there is no vote request that would wait
    ///   for its log to be durable, as it must be.
    /// - A snapshot from the leader is in the log and not applied yet.
    fn may_campaign(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        log.applied >= log.store.first() - 1
            && (!self.is_alone() || log.persisted == log.last_index())
    }

    /// A message from a peer.
    ///
    /// # Errors
    /// What no sound peer sends to this member is refused and changes nothing.
    pub fn step(&mut self, message: raftpb::Message) -> Result<(), StepError> {
        let mut message = convert::from_message(message)?;
        let raft = &self.raw.raft;
        check::message(
            &message,
            &check::Receiver {
                id: raft.id,
                last_index: raft.raft_log.last_index(),
                committed: raft.raft_log.commit_info(),
                leads: raft.state == StateRole::Leader,
                campaigns_unsynced: raft.state == StateRole::Candidate
                    && raft.raft_log.persisted != raft.raft_log.last_index(),
            },
        )?;
        if message.get_msg_type() == MessageType::MsgPropose && self.leaving {
            return Err(StepError::ProposalDropped);
        }
        if message.get_msg_type() == MessageType::MsgPropose && self.is_early(&message.entries) {
            return self.held.push(message.take_entries().into());
        }
        if message.get_msg_type() == MessageType::MsgTimeoutNow && !self.may_campaign() {
            return Err(StepError::Impossible(
                "no election now: the log is not in order yet",
            ));
        }
        // To the crate, whoever leads a cluster of one voter is that voter, and has nobody to ask before it answers.
        if message.get_msg_type() == MessageType::MsgReadIndex && self.leaving {
            return Err(StepError::ProposalDropped);
        }
        if message.get_msg_type() == MessageType::MsgReadIndex
            && raft.state == StateRole::Leader
            && raft.commit_to_current_term()
            && let Some(entry) = message.mut_entries().first_mut()
        {
            let own = self
                .reads
                .pass_on(std::mem::take(&mut entry.data), raft.term);
            entry.data = own.to_vec().into();
        }
        let before = (message.get_msg_type() == MessageType::MsgSnapshot)
            .then(|| (self.pending_snapshot(), self.conf_state()));
        if rival::gives_way(&self.raw.raft, &message) {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
        }
        let from = message.from;
        let result = self.raw.step(message);
        if from == self.raw.raft.leader_id && self.raw.raft.election_elapsed == 0 {
            self.timeouts.relax();
        }
        if let Some((pending, conf_state)) = before
            && self.pending_snapshot() != pending
        {
            // Conf changes that were handed out before it belong to the configuration before it.
            self.handed.restored(conf_state);
            self.offer_conf_state();
        }
        self.settle();
        result.map_err(raft_error)
    }

    /// Index of a snapshot from the leader that was not handed out yet.
    fn pending_snapshot(&self) -> Option<u64> {
        self.raw.snap().map(|s| s.get_metadata().index)
    }

    /// Appends normal entries, or passes them to the leader.
    ///
    /// # Errors
    /// `ProposalDropped` when there is no leader or it takes nothing now; none was taken then.
    pub fn propose(&mut self, data: &[Bytes]) -> Result<(), StepError> {
        if data.is_empty() {
            return Ok(());
        }
        let entries = data.iter().cloned().map(convert::proposed_normal).collect();
        self.propose_entries(entries)
    }

    /// As [`Core::propose`], for a change of the membership. The leader holds it for a while where
    /// another one is not applied yet.
    ///
    /// # Errors
    /// Also a type that is unknown.
    pub fn propose_conf_change(&mut self, cc: &raftpb::ConfChange) -> Result<(), StepError> {
        convert::conf_change(cc)?;
        let data = Bytes::from(cc.encode_to_vec());
        let entries = vec![convert::proposed_conf_change(data)];
        if self.is_early(&entries) && !self.leaving {
            return self.held.push(entries);
        }
        self.propose_entries(entries)
    }

    fn propose_entries(&mut self, entries: Vec<eraftpb::Entry>) -> Result<(), StepError> {
        if self.raw.raft.leader_id == 0 || self.leaving {
            return Err(StepError::ProposalDropped);
        }
        let mut message = eraftpb::Message {
            msg_type: MessageType::MsgPropose,
            from: self.raw.raft.id,
            ..eraftpb::Message::default()
        };
        message.set_entries(entries.into());
        self.raw.raft.step(message).map_err(raft_error)
    }

    /// Asks for an index that all reads asked for before this call may rely on once it is applied.
    /// The answer comes in an [`Output`]. False: too many requests wait already.
    pub fn read_index(&mut self, request: u64) -> bool {
        self.reads.add(request)
    }

    /// Hands over to `to`, if this member leads, and if `to` is a voter that can catch up within
    /// an election timeout. Who leads then shows whether it worked.
    pub fn transfer_leader(&mut self, to: u64) {
        if self.raw.raft.state == StateRole::Leader {
            self.raw.transfer_leader(to);
        }
    }

    /// To whom leadership is being handed over, 0: nobody.
    pub fn transferee(&self) -> u64 {
        self.raw.raft.lead_transferee.unwrap_or(0)
    }

    /// Whether a proposal would be dropped now that may well be taken soon: while leadership is
    /// handed over, and while as much as this leader's memory should hold waits for a quorum.
    pub fn is_congested(&self) -> bool {
        let raft = &self.raw.raft;
        raft.state == StateRole::Leader
            && (raft.lead_transferee.is_some()
                || raft.uncommitted_size() as u64 >= MAX_UNCOMMITTED_BYTES)
    }

    /// What a leader knows of all members' logs, its own included, by ascending id. Empty for
    /// everybody else.
    pub fn progress(&self) -> Vec<MemberProgress> {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader {
            return Vec::new();
        }
        let mut members: Vec<MemberProgress> = raft
            .prs()
            .iter()
            .filter(|(id, _)| !(self.leaving && **id == raft.id))
            .map(|(id, progress)| MemberProgress {
                id: *id,
                matched: progress.matched,
                next: progress.next_idx,
                learner: raft.prs().conf().learners().contains(id),
                recently_active: *id == raft.id || self.retention.is_active(*id),
                replication: match progress.state {
                    ProgressState::Probe => Replication::Probe,
                    ProgressState::Replicate => Replication::Replicate,
                    ProgressState::Snapshot => Replication::Snapshot,
                },
                pending_snapshot: progress.pending_snapshot,
            })
            .collect();
        members.sort_unstable_by_key(|m| m.id);
        members
    }

    /// A peer could not be reached.
    pub fn report_unreachable(&mut self, id: u64) {
        self.raw.report_unreachable(id);
    }

    /// Sending a snapshot to a peer ended.
    pub fn report_snapshot(&mut self, id: u64, sent: bool) {
        let status = if sent {
            raft::SnapshotStatus::Finish
        } else {
            raft::SnapshotStatus::Failure
        };
        self.raw.report_snapshot(id, status);
    }

    /// The writes of all outputs up to `number` are durable.
    ///
    /// The crate knows a durable entry by index and term. One that was replaced, and came back from a later leader, would
    /// pass for durable as soon as it was written the first time; with it this member could lead, and count itself for
    /// what a crash takes away. So the crate hears of nothing before the last replacement is durable, too.
    pub fn persisted(&mut self, number: u64) {
        self.unsynced_vote = self.unsynced_vote.filter(|at| *at > number);
        self.replaces = self.replaces.filter(|at| *at > number);
        if self.replaces.is_none() {
            self.raw.on_persist_ready(number);
        }
    }

    /// The application has applied everything up to `index`. Values that were reported before, or
    /// that were never handed out, are ignored.
    pub fn applied(&mut self, index: u64) {
        let log = &self.raw.raft.raft_log;
        let index = index.min(log.committed.min(log.persisted));
        if index > log.applied {
            self.raw.advance_apply_to(index);
        }
        if index > self.applied {
            self.applied = index;
            self.offer_applied();
            self.trim(TRIM_STEP);
        }
        self.release_held();
    }

    /// Applies the oldest conf change that was handed out and not applied yet; `None` when the
    /// application rejects it. To be called once for each of them, in order.
    ///
    /// # Errors
    /// A change that leaves no voters, or an unknown type; the configuration stays as it is.
    pub fn apply_conf_change(
        &mut self,
        cc: Option<&raftpb::ConfChange>,
    ) -> Result<raftpb::ConfState, StepError> {
        let change = match cc {
            Some(cc) => convert::conf_change(cc)?.filter(|change| change.node_id != 0),
            None => None,
        };
        let index = match self.handed.next(change.as_ref()) {
            conf::Next::Old(conf_state) => return Ok(convert::to_conf_state(&conf_state)),
            conf::Next::Current(index) => index,
        };
        if let Some(change) = change {
            self.change_conf(change)?;
        }
        // Everything before it was applied, or it would not be its turn.
        let log = &self.raw.raft.raft_log;
        if let Some(index) = index
            && index > log.applied
            && index <= log.committed.min(log.persisted)
        {
            self.raw.advance_apply_to(index);
        }
        self.offer_conf_state();
        self.offer_applied();
        self.settle();
        self.release_held();
        Ok(self.conf_state())
    }

    /// A leader that is removed goes on leading without a vote of its own, as etcd's does, until
    /// somebody else leads or the server stops it: the others may not know yet that the change is
    /// committed, and of two members the other one could learn it from nobody else. The crate
    /// looks for the leader's own log among the members, so it stays there as a learner meanwhile,
    /// which nobody sees.
    fn change_conf(&mut self, mut change: eraftpb::ConfChange) -> Result<(), StepError> {
        use eraftpb::ConfChangeType as T;
        let raft = &self.raw.raft;
        let leaves = change.change_type == T::RemoveNode
            && change.node_id == raft.id
            && raft.state == StateRole::Leader;
        if leaves {
            change.change_type = T::AddLearnerNode;
        }
        self.raw.apply_conf_change(&change).map_err(raft_error)?;
        self.leaving |= leaves;
        Ok(())
    }

    /// Asks a voter that has everything to take over, which saves the others an election timeout.
    fn hand_over_if_leaving(&mut self) {
        let raft = &mut self.raw.raft;
        if !self.leaving || raft.state != StateRole::Leader {
            return;
        }
        let last = raft.raft_log.last_index();
        let voters = raft.prs().conf().voters().ids();
        let successor = raft
            .prs()
            .iter()
            .filter(|(id, p)| voters.contains(**id) && p.recent_active && p.matched == last)
            .map(|(id, _)| *id)
            .min();
        if let Some(id) = successor {
            raft.send_timeout_now(id);
        }
    }

    fn offer_applied(&mut self) {
        let applied = self.raw.raft.raft_log.applied;
        self.raw.mut_store().offer(applied);
    }

    /// The configuration is that of the last applied entry, as changes are applied one by one; or
    /// that of a snapshot that was just received.
    fn offer_conf_state(&mut self) {
        let conf_state = self.conf();
        self.raw.mut_store().offer_conf_state(conf_state);
    }

    /// The configuration in force.
    pub fn conf_state(&self) -> raftpb::ConfState {
        convert::to_conf_state(&self.conf())
    }

    fn conf(&self) -> eraftpb::ConfState {
        let raft = &self.raw.raft;
        let mut conf_state = raft.prs().conf().to_conf_state();
        if self.leaving {
            conf_state.learners.retain(|id| *id != raft.id);
        }
        conf_state
    }

    /// Term of an entry at or above the newest snapshot.
    pub fn term(&self, index: u64) -> Option<u64> {
        self.raw.raft.raft_log.store.past_term(index)
    }

    /// A durable snapshot of the state at `index` exists.
    pub fn snapshot_saved(&mut self, index: u64) {
        if self.raw.mut_store().set_floor(index) {
            self.trim(0);
        }
    }

    /// Forgets applied entries that nobody needs any more, once there are more than `step` of
    /// them, so that the cost is spread over many entries.
    fn trim(&mut self, step: u64) {
        let applied = self.applied.min(self.raw.raft.raft_log.applied);
        let keep_from = self.retention.keep_from(applied, &self.raw.raft);
        let limit = retention::limit(&self.raw.raft);
        let log = self.raw.mut_store();
        if keep_from > log.first() + step {
            log.trim_to(keep_from);
        }
        while log.memory() > limit && log.first() <= applied {
            log.trim_to(log.first());
        }
    }

    /// True when [`Core::ready`] has something to return.
    pub fn has_ready(&self) -> bool {
        (self.reads.has_waiting() && self.can_ask_for_reads()) || self.raw.has_ready()
    }

    /// What is to be done now.
    pub fn ready(&mut self) -> Option<Output> {
        self.ask_for_reads();
        if !self.raw.has_ready() {
            return None;
        }
        let mut ready = self.raw.ready();
        let mut output = Output {
            number: ready.number(),
            must_sync: ready.must_sync(),
            hard_state: ready.hs().map(convert::to_hard_state),
            messages: to_messages(self.pass_back(ready.take_messages())),
            persisted_messages: to_messages(self.pass_back(ready.take_persisted_messages())),
            ..Output::default()
        };
        let waits = std::mem::take(&mut output.persisted_messages);
        let (at_once, waits) = waits.into_iter().partition(promises_nothing);
        output.messages.extend::<Vec<_>>(at_once);
        output.persisted_messages = waits;
        self.hold_back(&mut output);
        if !ready.snapshot().is_empty() {
            let snapshot = ready.snapshot().clone();
            self.replaces = Some(output.number);
            output.snapshot = Some(convert::to_snapshot(&snapshot));
            self.raw.mut_store().restore(snapshot);
        }
        let mut entries = ready.take_entries();
        if !entries.is_empty() {
            if entries[0].index <= self.raw.store().last() {
                self.replaces = Some(output.number);
            }
            entries.iter_mut().for_each(|e| self.restore_conf_change(e));
            output.entries = entries.iter().cloned().map(convert::to_entry).collect();
            self.raw.mut_store().append(entries);
        }
        for entry in ready.take_committed_entries() {
            if entry.get_entry_type() == eraftpb::EntryType::EntryConfChange {
                self.handed.push(entry.index);
            }
            output.committed.push(convert::to_entry(entry));
        }
        let term = self.raw.raft.term;
        for state in ready.take_read_states() {
            for request in self.reads.answered(&state.request_ctx, term) {
                output.read_states.push((request, state.index));
            }
        }
        let soft_state = self.read_soft_state();
        if soft_state != self.soft_state {
            self.soft_state = soft_state;
            output.soft_state = Some(soft_state);
        }
        self.raw.advance_append_async(ready);
        Some(output)
    }

    /// Gives answers to requests that others passed on the contexts that these know them by.
    fn pass_back(&mut self, mut messages: Vec<eraftpb::Message>) -> Vec<eraftpb::Message> {
        messages.retain_mut(|message| {
            if message.get_msg_type() != MessageType::MsgReadIndexResp {
                return true;
            }
            let Some(entry) = message.mut_entries().first_mut() else {
                return true;
            };
            // One that is not known any more was forgotten for others, and is asked again.
            let theirs = self.reads.passed_back(&entry.data);
            entry.data = theirs.clone().unwrap_or_default();
            theirs.is_some()
        });
        messages
    }

    /// Puts the bytes of a conf change back. When it was appended the crate saw none of them, and it will when the
    /// entry is committed: they count as uncommitted from now on.
    fn restore_conf_change(&mut self, entry: &mut eraftpb::Entry) {
        let proposed = !entry.context.is_empty();
        convert::restore_conf_change(entry);
        let raft = &mut self.raw.raft;
        if proposed && raft.state == StateRole::Leader && entry.term == raft.term {
            // A few bytes: of no account where there is no room for them.
            let _ = raft.maybe_increase_uncommitted_size(std::slice::from_ref(entry));
        }
    }

    /// A leader sends nothing before its term is durable. With other voters it is: their votes were
    /// asked for after that. A lone voter elects itself within one call, and if it had learners
    /// they could get entries of a term that a power failure makes it forget, and so use again.
    fn hold_back(&mut self, output: &mut Output) {
        if let Some(hard_state) = &output.hard_state {
            let vote = (hard_state.term(), hard_state.vote());
            if vote != std::mem::replace(&mut self.vote, vote) {
                self.unsynced_vote = Some(output.number);
            }
        }
        if self.unsynced_vote.is_some() {
            let mut held = std::mem::take(&mut output.messages);
            held.append(&mut output.persisted_messages);
            output.persisted_messages = held;
        }
    }

    fn can_ask_for_reads(&self) -> bool {
        let raft = &self.raw.raft;
        match raft.state {
            StateRole::Leader => !self.leaving && raft.commit_to_current_term(),
            StateRole::Follower => raft.leader_id != 0,
            StateRole::Candidate | StateRole::PreCandidate => false,
        }
    }

    fn ask_for_reads(&mut self) {
        if self.reads.has_waiting() && self.can_ask_for_reads() {
            let context = self.reads.start(self.raw.raft.term);
            self.raw.read_index(context.to_vec());
        }
    }

    fn read_soft_state(&self) -> SoftState {
        let raft = &self.raw.raft;
        SoftState {
            leader: raft.leader_id,
            role: match raft.state {
                StateRole::Follower => Role::Follower,
                StateRole::Candidate => Role::Candidate,
                StateRole::Leader => Role::Leader,
                StateRole::PreCandidate => Role::PreCandidate,
            },
            term: raft.term,
        }
    }

    /// The crate draws election timeouts from the thread's random numbers; a run must be
    /// repeatable from a seed, so ours take their place.
    ///
    /// And a leader that was removed is no member at all as soon as it leads no longer.
    fn settle(&mut self) {
        if self.leaving && self.raw.raft.state != StateRole::Leader {
            self.leaving = false;
            let remove = eraftpb::ConfChange {
                change_type: eraftpb::ConfChangeType::RemoveNode,
                node_id: self.raw.raft.id,
                ..eraftpb::ConfChange::default()
            };
            // Of a learner: the voters stay as they are, so nothing can refuse it.
            let _ = self.raw.apply_conf_change(&remove);
        }
        let state = self.read_soft_state();
        let ticks = self
            .timeouts
            .current((state.term, state.role, state.leader));
        self.raw.raft.set_randomized_election_timeout(ticks);
    }

    /// Highest index known to be committed.
    pub fn committed(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// Index of the last entry, durable or not.
    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// Leader, role and term as of now.
    pub fn soft_state(&self) -> SoftState {
        self.read_soft_state()
    }

    /// For whom this member voted in its term, 0: nobody.
    pub fn vote(&self) -> u64 {
        self.raw.raft.vote
    }

    /// Term, vote and commit index as of now.
    pub fn hard_state(&self) -> raftpb::HardState {
        convert::to_hard_state(&self.raw.raft.hard_state())
    }

    /// First entry held in memory.
    #[cfg(test)]
    fn first_index(&self) -> u64 {
        self.raw.raft.raft_log.store.first()
    }
}

fn to_messages(messages: Vec<eraftpb::Message>) -> Vec<raftpb::Message> {
    let mut out = Vec::with_capacity(messages.len());
    for message in messages {
        split::split(convert::to_message(message), &mut out);
    }
    out
}

/// Whether a follower's message says nothing about its log. The crate holds back all that a follower
/// sends; but what it asks of the leader need not wait for its disk. Answers wait, those to heartbeats
/// as well: a member whose disk has stopped should not pass for one that works.
fn promises_nothing(message: &raftpb::Message) -> bool {
    use raftpb::MessageType as T;
    matches!(message.r#type(), T::MsgProp | T::MsgReadIndex)
}

fn raft_error(e: raft::Error) -> StepError {
    match e {
        raft::Error::ProposalDropped => StepError::ProposalDropped,
        raft::Error::StepPeerNotFound => StepError::UnknownSender,
        other => StepError::Raft(other.to_string()),
    }
}
