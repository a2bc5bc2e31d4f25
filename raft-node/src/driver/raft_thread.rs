//! The owner of the core: takes inputs in batches and lets its machine execute what comes of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::TrySendError;
use retcd_proto::raftpb;
use slog::{error, info, warn};

use super::handle::Control;
use super::heartbeats::Heartbeats;
use super::log_writer::{Report, Write};
use super::machine::{Machine, Ports};
use super::status::{Progress, Shared};
use super::wal_thread::Writes;
use super::{Apply, Config, MAX_WRITES, PROPOSAL_QUEUE, PROPOSAL_QUEUE_BYTES, Transport};
use crate::Error;
use crate::core::{Core, Role, SoftState, StepError};
use crate::queue::{Bell, Receiver, Sender};

/// Proposals that become one round of the core at most, in number and in bytes: what one sync
/// carries must not delay the next one for long.
const MAX_BATCH: usize = 4096;
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Requests handled between two rounds.
const MAX_CONTROL: usize = 1024;
/// Batches that wait for room in the apply channel. With as many, proposals wait in their queue.
const MAX_BACKLOG: usize = 16;

/// The raft thread's ends.
pub(super) struct Channels {
    pub(super) proposals: Receiver<Bytes>,
    pub(super) control: Receiver<Control>,
    /// An error means that a disk operation failed; what it was for is lost.
    pub(super) reports: Receiver<Result<Report, Error>>,
    /// Rings when any of them has something, and when there is room in the apply channel.
    pub(super) bell: Arc<Bell>,
    pub(super) outlets: Outlets,
}

/// Where its work goes.
pub(super) struct Outlets {
    pub(super) config: Arc<Config>,
    pub(super) shared: Arc<Shared>,
    pub(super) writes: Writes,
    pub(super) jobs: crossbeam_channel::Sender<raftpb::Snapshot>,
    pub(super) apply: Sender<Apply>,
    /// Nobody applies entries any more.
    pub(super) abandoned: bool,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) heartbeats: Heartbeats,
}

impl Ports for Outlets {
    fn send(&mut self, messages: Vec<raftpb::Message>) {
        let heartbeats = messages
            .iter()
            .filter(|message| message.r#type() == raftpb::MessageType::MsgHeartbeat);
        for message in heartbeats {
            let now = self.config.clock.now();
            if let Some(exceeded) = self.heartbeats.sent(message.to(), now) {
                let observer = &self.config.observer;
                observer.heartbeat_late(message.to(), self.config.tick, exceeded);
            }
        }
        self.transport.send(messages);
    }

    fn write(&mut self, write: Write, direct: bool) {
        if direct {
            self.writes.now(write);
        } else {
            self.writes.queue(write);
        }
    }

    fn save(&mut self, snapshot: raftpb::Snapshot) -> bool {
        // Of a thread that ended the error is among the reports.
        !matches!(self.jobs.try_send(snapshot), Err(TrySendError::Full(_)))
    }

    fn apply(&mut self, work: Apply) -> Option<Apply> {
        match self.apply.try_send(work) {
            Ok(()) => None,
            Err(TrySendError::Full(work)) => Some(work),
            Err(TrySendError::Disconnected(work)) => {
                self.abandoned = true;
                Some(work)
            }
        }
    }

    fn settled(&mut self, core: &Core) {
        self.shared.set_log(core.committed(), core.last_index());
        self.shared.set_alone(core.leads_alone());
    }

    fn read_state(&mut self, request: u64, index: u64) {
        self.config.observer.read_state(request, index);
    }

    fn soft_state(&mut self, state: SoftState) {
        self.shared.set_soft_state(state);
        self.heartbeats.reset();
        info!(self.config.logger, "raft state changed";
            "leader" => format!("{:x}", state.leader), "term" => state.term,
            "role" => ?state.role);
        self.config
            .observer
            .leader_changed(state.leader, state.term, state.role == Role::Leader);
    }

    fn snapshot_recorded(&mut self, index: u64) {
        self.shared.set_snapshot(index);
    }
}

pub(super) struct RaftThread {
    machine: Machine,
    config: Arc<Config>,
    shared: Arc<Shared>,
    channels: Channels,
    batch: Vec<Bytes>,
    /// Proposals that others passed on, and their bytes: they wait as this member's own do.
    held: VecDeque<raftpb::Message>,
    held_bytes: usize,
    next_tick: Duration,
    leaderless_ticks: usize,
    /// The state in which progress was last shown for it.
    shown: Option<SoftState>,
    /// A lone voter that has not elected itself yet.
    campaign: bool,
    stopping: bool,
}

impl RaftThread {
    pub(super) fn new(
        machine: Machine,
        config: Arc<Config>,
        shared: Arc<Shared>,
        channels: Channels,
    ) -> RaftThread {
        let next_tick = config.clock.now() + config.tick;
        RaftThread {
            machine,
            config,
            shared,
            channels,
            batch: Vec::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            next_tick,
            leaderless_ticks: 0,
            shown: None,
            campaign: true,
            stopping: false,
        }
    }

    pub(super) fn run(mut self) {
        self.shared.set_soft_state(self.machine.core().soft_state());
        self.shared.set_ticked(self.config.clock.now());
        loop {
            if self.campaign && self.machine.core_mut().campaign_if_alone() {
                self.campaign = false;
            }
            self.work();
            if self.stopping {
                break;
            }
            self.wait();
            self.take_inputs();
        }
        self.shared.set_alone(false);
        self.machine.write_commit(&mut self.channels.outlets);
    }

    fn work(&mut self) {
        // Before anybody is told who leads now.
        let state = self.machine.core().soft_state();
        if self.shown != Some(state) {
            self.shown = Some(state);
            self.show_progress();
        }
        // Before anybody can hear of an entry that was committed.
        self.show_log();
        self.machine.work(&mut self.channels.outlets);
        let core = self.machine.core();
        if core.soft_state().leader != 0 {
            self.leaderless_ticks = 0;
        }
        if self.channels.outlets.abandoned {
            info!(
                self.config.logger,
                "nobody applies entries any more; raft stops"
            );
            self.stopping = true;
        }
    }

    /// Until there is something to do.
    fn wait(&self) {
        let timeout = self.next_tick.saturating_sub(self.config.clock.now());
        if timeout.is_zero() || (!self.held.is_empty() && self.takes_proposals()) {
            return;
        }
        let channels = &self.channels;
        let takes_proposals = self.takes_proposals();
        let ready = || {
            !channels.reports.is_empty()
                || !channels.control.is_empty()
                || (takes_proposals && !channels.proposals.is_empty())
                || (self.machine.backlog() > 0 && !channels.outlets.apply.is_full())
        };
        // A timeout is as good as anything else.
        channels.bell.wait(Some(timeout), ready);
    }

    fn take_inputs(&mut self) {
        self.tick();
        while let Ok(report) = self.channels.reports.try_recv() {
            match report {
                Ok(report) => self.machine.report(report, &mut self.channels.outlets),
                Err(e) => self.fail(e),
            }
        }
        for _ in 0..MAX_CONTROL {
            match self.channels.control.try_recv() {
                Ok(control) => self.control(control),
                Err(_) => break,
            }
        }
        self.machine.core_mut().applied(self.shared.applied());
        self.stopping |= self.shared.stop.load(Ordering::Acquire);
        if self.takes_proposals() {
            self.step_held();
            self.propose();
        }
    }

    fn tick(&mut self) {
        let now = self.config.clock.now();
        if now < self.next_tick {
            return;
        }
        // Ticks that were missed are not made up for: time that this member slept through says
        // nothing about its leader.
        self.next_tick = (self.next_tick + self.config.tick).max(now);
        self.shared.set_ticked(now);
        self.machine.tick(&mut self.channels.outlets);
        let core = self.machine.core();
        if core.soft_state().leader == 0 {
            self.leaderless_ticks += 1;
        } else {
            self.leaderless_ticks = 0;
        }
        self.show_progress();
    }

    fn show_log(&self) {
        let core = self.machine.core();
        self.shared.set_log(core.committed(), core.last_index());
    }

    fn show_progress(&self) {
        let core = self.machine.core();
        self.shared.set_vote(core.vote());
        self.shared.set_progress(Progress {
            members: core.progress(),
            transferee: core.transferee(),
        });
    }

    /// Proposals stay in their queue while too much is under way, and for a while when nobody
    /// could take them: most elections and transfers of leadership end soon.
    fn takes_proposals(&self) -> bool {
        let core = self.machine.core();
        self.machine.writes() < MAX_WRITES
            && self.machine.backlog() < MAX_BACKLOG
            && !core.is_congested()
            && (core.soft_state().leader != 0
                || self.leaderless_ticks >= 2 * self.config.election_ticks)
    }

    /// A proposal of somebody else. What there is no room for is dropped, as a network would.
    fn hold(&mut self, message: raftpb::Message) {
        let bytes = size(&message);
        let full = self.held.len() >= PROPOSAL_QUEUE
            || (!self.held.is_empty() && self.held_bytes + bytes > PROPOSAL_QUEUE_BYTES);
        if !full {
            self.held_bytes += bytes;
            self.held.push_back(message);
        }
    }

    fn step_held(&mut self) {
        let mut stepped = 0;
        while stepped < MAX_BATCH_BYTES
            && let Some(message) = self.held.pop_front()
        {
            let bytes = size(&message);
            self.held_bytes -= bytes;
            stepped += bytes;
            self.step(message);
        }
    }

    fn step(&mut self, message: raftpb::Message) {
        // What is dropped is sent again; who was removed says no more that matters.
        if let Err(e) = self.machine.step(message)
            && !matches!(e, StepError::ProposalDropped | StepError::UnknownSender)
        {
            warn!(self.config.logger, "raft message refused"; "error" => %e);
        }
    }

    fn propose(&mut self) {
        let mut bytes = 0;
        while self.batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            let Ok(data) = self.channels.proposals.try_recv() else {
                break;
            };
            bytes += data.len();
            self.batch.push(data);
        }
        if self.batch.is_empty() {
            return;
        }
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        let result = self.machine.core_mut().propose(&self.batch);
        let batch = self.batch.drain(..);
        if let Err(e) = result {
            if e != StepError::ProposalDropped {
                warn!(self.config.logger, "proposals refused"; "error" => %e);
            }
            for data in batch {
                self.config.observer.proposal_dropped(data);
            }
        }
    }

    fn propose_in_term(&mut self, term: u64, data: Vec<Bytes>) {
        let state = self.machine.core().soft_state();
        let leads = state.role == Role::Leader && state.term == term;
        if leads && self.machine.core_mut().propose(&data).is_ok() {
            return;
        }
        for data in data {
            self.config.observer.proposal_dropped(data);
        }
    }

    fn control(&mut self, control: Control) {
        let core = self.machine.core_mut();
        match control {
            Control::Step(message) if message.r#type() == raftpb::MessageType::MsgProp => {
                self.hold(*message);
            }
            Control::Step(message) => self.step(*message),
            Control::ProposeInTerm { term, data } => self.propose_in_term(term, data),
            Control::ReadIndex(request) => {
                if !core.read_index(request) {
                    warn!(self.config.logger, "too many reads wait for a leader");
                }
            }
            Control::ProposeConfChange(cc) => {
                if let Err(e) = core.propose_conf_change(&cc) {
                    warn!(self.config.logger, "conf change dropped"; "error" => %e);
                    self.config.observer.conf_change_dropped(cc);
                }
            }
            Control::ApplyConfChange { change, reply } => {
                let result = core.apply_conf_change(change.as_ref());
                // Before anything can go to a new voter, which could then elect another leader.
                self.shared.set_alone(core.leads_alone());
                // Who was told of the change may ask for the new member at once.
                self.show_progress();
                // The caller waits, unless its thread died.
                let _ = reply.send(result);
            }
            Control::SaveSnapshot {
                index,
                conf_state,
                data,
            } => {
                let outlets = &mut self.channels.outlets;
                self.machine.save_snapshot(index, conf_state, data, outlets);
            }
            Control::TransferLeader(to) => core.transfer_leader(to),
            Control::AdvanceTicks(ticks) => core.advance_ticks(ticks),
            Control::Unreachable(id) => core.report_unreachable(id),
            Control::Gone(id) => core.report_gone(id),
            Control::SnapshotSent { to, sent } => core.report_snapshot(to, sent),
            Control::Wake => {}
        }
    }

    fn fail(&mut self, e: Error) {
        error!(self.config.logger, "the member stops: its log cannot be written"; "error" => %e);
        self.stopping = true;
        self.config.observer.fatal(e);
    }
}

/// What a proposal holds in memory, nearly.
fn size(message: &raftpb::Message) -> usize {
    let entries = message.entries.iter();
    64 + entries
        .map(|entry| 64 + entry.data.as_ref().map_or(0, Bytes::len))
        .sum::<usize>()
}
