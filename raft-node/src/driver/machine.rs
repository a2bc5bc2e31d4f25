//! What the core's outputs mean, and in which order: the part of the driver that a simulation runs
//! as well, on files and a network of its own.

use std::collections::VecDeque;

use bytes::Bytes;
use retcd_proto::raftpb;
use slog::{Logger, info, warn};

use super::Apply;
use super::log_writer::{Report, Write};
use crate::core::{Core, Output, SoftState, StepError};

/// Entries in one `Apply` at most, so that the apply thread publishes in steps.
const MAX_APPLY: usize = 4096;
/// Bytes of committed entries that there is no room for. With more no entries are taken from the
/// leader until half of them are gone: while a large snapshot is installed they would fill the
/// memory.
const MAX_BACKLOG_BYTES: usize = 512 << 20;

/// Where a [`Machine`]'s work goes. Nothing here may block for long.
pub trait Ports {
    /// Messages for peers, to be sent now or never.
    fn send(&mut self, messages: Vec<raftpb::Message>);

    /// A write for the log, behind all earlier ones; its [`Report`] comes when it is durable.
    /// `direct`: nothing else can go on meanwhile, so that it may be done at once.
    fn write(&mut self, write: Write, direct: bool);

    /// A snapshot of the member's own state for its file; false if it is skipped.
    fn save(&mut self, snapshot: raftpb::Snapshot) -> bool;

    /// Committed work. What there is no room for comes back.
    fn apply(&mut self, work: Apply) -> Option<Apply>;

    /// Everything that the core had to say was executed; what it has committed is about to be
    /// applied. Whoever hears of an applied entry may look at what is shown here.
    fn settled(&mut self, core: &Core) {
        let _ = core;
    }

    /// An answer to a read-index request.
    fn read_state(&mut self, request: u64, index: u64);

    /// Leader, role or term changed.
    fn soft_state(&mut self, state: SoftState);

    /// A snapshot of this index has its durable record.
    fn snapshot_recorded(&mut self, index: u64);
}

/// A core, and what is under way for it.
#[derive(Debug)]
pub struct Machine {
    core: Core,
    logger: Logger,
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
    /// Committed, no room for it yet.
    backlog: VecDeque<Apply>,
    backlog_bytes: usize,
    backlog_bound: usize,
    /// No entries are taken from the leader now.
    far_behind: bool,
}

impl Machine {
    /// A machine for a core that starts with this hard state, durable.
    pub fn new(core: Core, hard_state: raftpb::HardState, logger: Logger) -> Machine {
        Machine {
            core,
            logger,
            hard_state,
            commit_unwritten: false,
            writes: VecDeque::new(),
            number: 0,
            restoring: None,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            backlog_bound: MAX_BACKLOG_BYTES,
            far_behind: false,
        }
    }

    /// The core.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The core, for input. [`Machine::work`] is due after that.
    pub fn core_mut(&mut self) -> &mut Core {
        &mut self.core
    }

    /// Writes that are not durable yet.
    pub fn writes(&self) -> usize {
        self.writes.len()
    }

    /// Work for the application that it had no room for.
    pub fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Whether entries from the leader are taken, or dropped because too many wait.
    pub fn takes_entries(&self) -> bool {
        !self.far_behind
    }

    /// With more bytes than this of committed entries without room, none are taken from the leader.
    pub fn set_backlog_bound(&mut self, bytes: usize) {
        self.backlog_bound = bytes;
    }

    /// A message from a peer. Entries are dropped while too much waits for the application, as a
    /// network would: nothing of them was acknowledged, and the answers to its heartbeats tell the
    /// leader to send them again. Heartbeats and snapshots are always taken.
    ///
    /// # Errors
    /// As [`Core::step`].
    pub fn step(&mut self, message: raftpb::Message) -> Result<(), StepError> {
        if self.far_behind && message.r#type() == raftpb::MessageType::MsgApp {
            return Ok(());
        }
        self.core.step(message)
    }

    /// One unit of time passed.
    pub fn tick(&mut self, ports: &mut impl Ports) {
        self.core.tick();
        self.write_commit(ports);
    }

    /// Does all that there is to do now.
    pub fn work(&mut self, ports: &mut impl Ports) {
        while let Some(output) = self.core.ready() {
            self.execute(output, ports);
        }
        ports.settled(&self.core);
        while let Some(next) = self.backlog.pop_front() {
            let bytes = size(&next);
            if let Some(next) = ports.apply(next) {
                self.backlog.push_front(next);
                return;
            }
            self.backlog_bytes -= bytes;
            self.watch_backlog();
        }
    }

    /// Begins to refuse entries when too much waits, and ends it well below: each end costs the
    /// leader a question where to go on.
    fn watch_backlog(&mut self) {
        if !self.far_behind && self.backlog_bytes > self.backlog_bound {
            self.far_behind = true;
            warn!(self.logger, "too many committed entries wait to be applied; \
                no more are taken from the leader until half of them are";
                "bytes" => self.backlog_bytes);
        } else if self.far_behind && self.backlog_bytes <= self.backlog_bound / 2 {
            self.far_behind = false;
            info!(self.logger, "entries are taken from the leader again";
                "bytes" => self.backlog_bytes);
        }
    }

    fn execute(&mut self, output: Output, ports: &mut impl Ports) {
        self.number = output.number;
        if let Some(state) = output.soft_state {
            ports.soft_state(state);
        }
        if !output.messages.is_empty() {
            ports.send(output.messages);
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
            // The record of a snapshot counts only with a hard state that covers it.
            self.commit_unwritten |= snapshot.is_some();
            let hard_state = std::mem::take(&mut self.commit_unwritten).then_some(self.hard_state);
            self.writes
                .push_back((output.number, output.persisted_messages));
            self.write(
                Write::Append {
                    number: Some(output.number),
                    hard_state,
                    entries: output.entries,
                    snapshot,
                },
                ports,
            );
        } else {
            // Messages may depend on writes before this output, though not on this one.
            match self.writes.back_mut() {
                Some((_, waiting)) => waiting.extend(output.persisted_messages),
                None => {
                    if !output.persisted_messages.is_empty() {
                        ports.send(output.persisted_messages);
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
                self.write_commit(ports);
            }
            self.queue_entries(output.committed);
        }
        for (request, index) in output.read_states {
            ports.read_state(request, index);
        }
    }

    /// Something that was asked of the log is done.
    pub fn report(&mut self, report: Report, ports: &mut impl Ports) {
        match report {
            Report::Persisted(number) => self.persisted(number, ports),
            Report::SnapshotSaved(record) => {
                self.commit_unwritten = false;
                let hard_state = self.hard_state;
                self.write(Write::SnapshotRecord { record, hard_state }, ports);
            }
            Report::SnapshotRecorded(index) => {
                ports.snapshot_recorded(index);
                self.core.snapshot_saved(index);
            }
        }
    }

    fn persisted(&mut self, number: u64, ports: &mut impl Ports) {
        let mut messages = Vec::new();
        while let Some((_, waiting)) = self.writes.pop_front_if(|write| write.0 <= number) {
            messages.extend(waiting);
        }
        if !messages.is_empty() {
            ports.send(messages);
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

    /// The state up to `index` is durable in the database, under this configuration: its file and
    /// its record are to be written.
    pub fn save_snapshot(
        &mut self,
        index: u64,
        conf_state: raftpb::ConfState,
        data: Bytes,
        ports: &mut impl Ports,
    ) {
        let committed = self.hard_state.commit();
        let Some(term) = self.core.term(index).filter(|_| index <= committed) else {
            warn!(self.logger, "no snapshot: its index is older than the last one's, \
                or not committed"; "index" => index, "committed" => committed);
            return;
        };
        let snapshot = raftpb::Snapshot {
            data: Some(data),
            metadata: Some(raftpb::SnapshotMetadata {
                conf_state: Some(conf_state),
                index: Some(index),
                term: Some(term),
            }),
        };
        if !ports.save(snapshot) {
            info!(self.logger, "snapshot skipped: others are being written"; "index" => index);
        }
    }

    /// Writes the commit index down. It need not be durable; but the fewer entries are committed
    /// twice after a restart, the better.
    pub fn write_commit(&mut self, ports: &mut impl Ports) {
        if std::mem::take(&mut self.commit_unwritten) {
            let write = Write::Append {
                number: None,
                hard_state: Some(self.hard_state),
                entries: Vec::new(),
                snapshot: None,
            };
            self.write(write, ports);
        }
    }

    fn write(&self, write: Write, ports: &mut impl Ports) {
        // Alone nothing else could go on meanwhile: no peer waits for a message or a heartbeat,
        // and proposals gather for the next write.
        ports.write(write, self.core.leads_alone());
    }

    fn queue_entries(&mut self, mut entries: Vec<raftpb::Entry>) {
        self.backlog_bytes += entries.iter().map(entry_size).sum::<usize>();
        self.watch_backlog();
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
}

/// What committed work holds in memory, nearly.
fn size(work: &Apply) -> usize {
    match work {
        Apply::Entries(entries) => entries.iter().map(entry_size).sum(),
        Apply::Snapshot(_) => 0,
    }
}

fn entry_size(entry: &raftpb::Entry) -> usize {
    64 + entry.data.as_ref().map_or(0, Bytes::len)
}
