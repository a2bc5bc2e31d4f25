//! The owner of the core: takes inputs in batches and executes what the core returns.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Select, Sender, TrySendError};
use retcd_proto::{raftpb, walpb};
use slog::{error, info, warn};

use super::handle::Control;
use super::status::Shared;
use super::wal_thread::{Write, Writes};
use super::{Apply, Config, MAX_WRITES, Transport};
use crate::Error;
use crate::core::{Core, Output, Role, SoftState, StepError};

/// Proposals that become one round of the core at most, in number and in bytes: what one sync
/// carries must not delay the next one for long.
const MAX_BATCH: usize = 4096;
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Requests handled between two rounds.
const MAX_CONTROL: usize = 1024;
/// Entries in one `Apply` at most, so that the apply thread publishes in steps.
const MAX_APPLY: usize = 4096;
/// Batches that wait for room in the apply channel. With as many, proposals wait in their queue.
const MAX_BACKLOG: usize = 16;

/// What the other threads report.
pub(super) enum Report {
    /// Writes up to this number are durable.
    Persisted(u64),
    /// The file of this snapshot is durable.
    SnapshotSaved(walpb::Snapshot),
    /// And so is its record.
    SnapshotRecorded(u64),
    /// A disk operation failed; what it was for is lost.
    Failed(Error),
}

/// The raft thread's ends.
pub(super) struct Channels {
    pub(super) proposals: Receiver<Bytes>,
    pub(super) control: Receiver<Control>,
    pub(super) reports: Receiver<Report>,
    pub(super) writes: Writes,
    pub(super) jobs: Sender<raftpb::Snapshot>,
    pub(super) apply: Sender<Apply>,
    pub(super) transport: Arc<dyn Transport>,
}

pub(super) struct RaftThread {
    core: Core,
    config: Arc<Config>,
    shared: Arc<Shared>,
    channels: Channels,
    /// The newest hard state that the core gave out.
    hard_state: raftpb::HardState,
    /// It differs from what the WAL has by its commit index, which nothing depends on: it goes
    /// there with the next write, or with the next tick.
    commit_unwritten: bool,
    /// Numbers of the writes under way, each with the messages that must wait for it.
    writes: VecDeque<(u64, Vec<raftpb::Message>)>,
    /// Highest number that the core gave out.
    number: u64,
    /// A snapshot from the leader, until it is durable: (number, snapshot).
    restoring: Option<(u64, raftpb::Snapshot)>,
    /// Committed, no room in the apply channel yet.
    backlog: VecDeque<Apply>,
    /// Own snapshots whose record is not durable yet.
    saving: VecDeque<(u64, raftpb::ConfState, Bytes)>,
    batch: Vec<Bytes>,
    next_tick: Duration,
    leaderless_ticks: usize,
    /// A lone voter that has not elected itself yet.
    campaign: bool,
    stopping: bool,
}

impl RaftThread {
    pub(super) fn new(
        core: Core,
        hard_state: raftpb::HardState,
        config: Arc<Config>,
        shared: Arc<Shared>,
        channels: Channels,
    ) -> RaftThread {
        let next_tick = config.clock.now() + config.tick;
        RaftThread {
            core,
            config,
            shared,
            channels,
            hard_state,
            commit_unwritten: false,
            writes: VecDeque::new(),
            number: 0,
            restoring: None,
            backlog: VecDeque::new(),
            saving: VecDeque::new(),
            batch: Vec::new(),
            next_tick,
            leaderless_ticks: 0,
            campaign: true,
            stopping: false,
        }
    }

    pub(super) fn run(mut self) {
        self.shared.set_soft_state(self.core.soft_state());
        self.shared.set_ticked(self.config.clock.now());
        loop {
            if self.campaign && self.core.campaign_if_alone() {
                self.campaign = false;
            }
            while let Some(output) = self.core.ready() {
                self.execute(output);
            }
            self.shared
                .set_log(self.core.committed(), self.core.last_index());
            self.shared.set_alone(self.core.leads_alone());
            self.hand_to_apply();
            if self.stopping {
                break;
            }
            self.wait();
            self.take_inputs();
        }
        self.shared.set_alone(false);
        self.write_commit();
    }

    /// Until there is something to do.
    fn wait(&self) {
        let timeout = self.next_tick.saturating_sub(self.config.clock.now());
        if timeout.is_zero() {
            return;
        }
        let channels = &self.channels;
        let mut select = Select::new();
        select.recv(&channels.reports);
        select.recv(&channels.control);
        if self.takes_proposals() {
            select.recv(&channels.proposals);
        }
        if !self.backlog.is_empty() {
            select.send(&channels.apply);
        }
        // A timeout is as good as anything else.
        let _ = select.ready_timeout(timeout);
    }

    fn take_inputs(&mut self) {
        self.tick();
        while let Ok(report) = self.channels.reports.try_recv() {
            self.report(report);
        }
        for _ in 0..MAX_CONTROL {
            match self.channels.control.try_recv() {
                Ok(control) => self.control(control),
                Err(_) => break,
            }
        }
        self.core.applied(self.shared.applied());
        self.stopping |= self.shared.stop.load(Ordering::Acquire);
        if self.takes_proposals() {
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
        self.core.tick();
        if self.core.soft_state().leader == 0 {
            self.leaderless_ticks += 1;
        } else {
            self.leaderless_ticks = 0;
        }
        self.write_commit();
    }

    /// Proposals stay in their queue while too much is under way, and for a while when nobody
    /// leads: most elections end soon.
    fn takes_proposals(&self) -> bool {
        self.writes.len() < MAX_WRITES
            && self.backlog.len() < MAX_BACKLOG
            && (self.core.soft_state().leader != 0
                || self.leaderless_ticks >= 2 * self.config.election_ticks)
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
        let result = self.core.propose(&self.batch);
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
        let state = self.core.soft_state();
        let leads = state.role == Role::Leader && state.term == term;
        if leads && self.core.propose(&data).is_ok() {
            return;
        }
        for data in data {
            self.config.observer.proposal_dropped(data);
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Step(message) => {
                if let Err(e) = self.core.step(*message)
                    && e != StepError::ProposalDropped
                {
                    warn!(self.config.logger, "raft message refused"; "error" => %e);
                }
            }
            Control::ProposeInTerm { term, data } => self.propose_in_term(term, data),
            Control::ReadIndex(request) => {
                if !self.core.read_index(request) {
                    warn!(self.config.logger, "too many reads wait for a leader");
                }
            }
            Control::ProposeConfChange(cc) => {
                if let Err(e) = self.core.propose_conf_change(&cc) {
                    warn!(self.config.logger, "conf change dropped"; "error" => %e);
                    self.config.observer.conf_change_dropped(cc);
                }
            }
            Control::ApplyConfChange { change, reply } => {
                let result = self.core.apply_conf_change(change.as_ref());
                // Before anything can go to a new voter, which could then elect another leader.
                self.shared.set_alone(self.core.leads_alone());
                // The caller waits, unless its thread died.
                let _ = reply.send(result);
            }
            Control::SaveSnapshot {
                index,
                conf_state,
                data,
            } => self.save_snapshot(index, conf_state, data),
            Control::TransferLeader(to) => self.core.transfer_leader(to),
            Control::Unreachable(id) => self.core.report_unreachable(id),
            Control::SnapshotSent { to, sent } => self.core.report_snapshot(to, sent),
            Control::Wake => {}
        }
    }

    fn save_snapshot(&mut self, index: u64, conf_state: raftpb::ConfState, data: Bytes) {
        let committed = self.hard_state.commit();
        let Some(term) = self.core.term(index).filter(|_| index <= committed) else {
            warn!(self.config.logger, "no snapshot: its index is older than the last one's, \
                or not committed"; "index" => index, "committed" => committed);
            return;
        };
        let snapshot = raftpb::Snapshot {
            data: Some(data.clone()),
            metadata: Some(raftpb::SnapshotMetadata {
                conf_state: Some(conf_state.clone()),
                index: Some(index),
                term: Some(term),
            }),
        };
        match self.channels.jobs.try_send(snapshot) {
            Ok(()) => self.saving.push_back((index, conf_state, data)),
            Err(TrySendError::Full(_)) => {
                info!(self.config.logger, "snapshot skipped: others are being written";
                    "index" => index);
            }
            // Its error is among the reports.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Persisted(number) => self.persisted(number),
            Report::SnapshotSaved(record) => {
                self.commit_unwritten = false;
                self.write(Write::SnapshotRecord {
                    record,
                    hard_state: self.hard_state,
                });
            }
            Report::SnapshotRecorded(index) => {
                self.shared.set_snapshot(index);
                while let Some((saved, conf_state, data)) =
                    self.saving.pop_front_if(|saved| saved.0 <= index)
                {
                    self.core.snapshot_saved(saved, &conf_state, data);
                }
            }
            Report::Failed(e) => {
                error!(self.config.logger, "the member stops: its log cannot be written";
                    "error" => %e);
                self.stopping = true;
                self.config.observer.fatal(e);
            }
        }
    }

    fn persisted(&mut self, number: u64) {
        let mut messages = Vec::new();
        while let Some((_, waiting)) = self.writes.pop_front_if(|write| write.0 <= number) {
            messages.extend(waiting);
        }
        if !messages.is_empty() {
            self.channels.transport.send(messages);
        }
        if let Some((_, snapshot)) = self.restoring.take_if(|(at, _)| *at <= number) {
            self.backlog.push_back(Apply::Snapshot(snapshot));
        }
        // Outputs without a write count with the write before them.
        let covered = match self.writes.front() {
            Some((next, _)) => next - 1,
            None => self.number,
        };
        self.core.persisted(covered.max(number));
    }

    fn execute(&mut self, output: Output) {
        self.number = output.number;
        if let Some(state) = output.soft_state {
            self.soft_state(state);
        }
        if !output.messages.is_empty() {
            self.channels.transport.send(output.messages);
        }
        if let Some(hard_state) = output.hard_state {
            self.hard_state = hard_state;
            self.commit_unwritten = true;
        }
        if output.must_sync {
            let snapshot = output.snapshot.map(|snapshot| {
                self.restoring = Some((output.number, snapshot.clone()));
                Box::new(snapshot)
            });
            let hard_state = std::mem::take(&mut self.commit_unwritten).then_some(self.hard_state);
            self.writes
                .push_back((output.number, output.persisted_messages));
            self.write(Write::Append {
                number: Some(output.number),
                hard_state,
                entries: output.entries,
                snapshot,
            });
        } else {
            // Messages may depend on writes before this output, though not on this one.
            match self.writes.back_mut() {
                Some((_, waiting)) => waiting.extend(output.persisted_messages),
                None => {
                    if !output.persisted_messages.is_empty() {
                        self.channels.transport.send(output.persisted_messages);
                    }
                    self.core.persisted(output.number);
                }
            }
        }
        if !output.committed.is_empty() {
            // A member that campaigns must know of every conf change it has applied.
            let conf_change = raftpb::EntryType::EntryConfChange as i32;
            if output
                .committed
                .iter()
                .any(|e| e.r#type == Some(conf_change))
            {
                self.write_commit();
            }
            self.queue_entries(output.committed);
        }
        for (request, index) in output.read_states {
            self.config.observer.read_state(request, index);
        }
    }

    fn soft_state(&mut self, state: SoftState) {
        self.shared.set_soft_state(state);
        if state.leader != 0 {
            self.leaderless_ticks = 0;
        }
        info!(self.config.logger, "raft state changed";
            "leader" => format!("{:x}", state.leader), "term" => state.term,
            "role" => ?state.role);
        self.config
            .observer
            .leader_changed(state.leader, state.term, state.role == Role::Leader);
    }

    /// Writes the commit index down. It need not be durable; but the fewer entries are committed
    /// twice after a restart, the better.
    fn write_commit(&mut self) {
        if std::mem::take(&mut self.commit_unwritten) {
            self.write(Write::Append {
                number: None,
                hard_state: Some(self.hard_state),
                entries: Vec::new(),
                snapshot: None,
            });
        }
    }

    fn write(&mut self, write: Write) {
        if self.core.leads_alone() {
            // Nothing else could go on meanwhile: no peer waits for a message or a heartbeat, and
            // proposals gather for the next write.
            self.channels.writes.now(write);
        } else {
            self.channels.writes.queue(write);
        }
    }

    fn queue_entries(&mut self, mut entries: Vec<raftpb::Entry>) {
        while !entries.is_empty() {
            if let Some(Apply::Entries(waiting)) = self.backlog.back_mut()
                && waiting.len() + entries.len() <= MAX_APPLY
            {
                waiting.append(&mut entries);
                return;
            }
            let rest = entries.split_off(entries.len().min(MAX_APPLY));
            self.backlog.push_back(Apply::Entries(entries));
            entries = rest;
        }
    }

    fn hand_to_apply(&mut self) {
        while let Some(next) = self.backlog.pop_front() {
            match self.channels.apply.try_send(next) {
                Ok(()) => {}
                Err(TrySendError::Full(next)) => {
                    self.backlog.push_front(next);
                    return;
                }
                Err(TrySendError::Disconnected(_)) => {
                    info!(
                        self.config.logger,
                        "nobody applies entries any more; raft stops"
                    );
                    self.stopping = true;
                    return;
                }
            }
        }
    }
}
