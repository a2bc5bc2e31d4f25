//! How the rest of the member talks to its raft node.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::TrySendError;
use retcd_proto::raftpb;

use super::status::{Progress, Shared, Status};
use super::{MAX_PROPOSAL_BYTES, PROPOSAL_QUEUE_BYTES};
use crate::core::StepError;
use crate::queue::Sender;

/// Why a proposal was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Too many proposals wait already; try again later.
    #[error("too many proposals are waiting for the raft node")]
    Full,
    /// No log takes an entry of this size.
    #[error("a proposal of {0} bytes is too large for the log")]
    TooLarge(usize),
    /// The node has stopped.
    #[error("the raft node has stopped")]
    Stopped,
}

/// The node has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the raft node has stopped")]
pub struct Stopped;

/// Why a conf change was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfChangeError {
    /// The node has stopped.
    #[error("the raft node has stopped")]
    Stopped,
    /// The change makes no sense to raft, such as removing the last voter.
    #[error(transparent)]
    Refused(StepError),
}

/// What the raft thread is asked for besides proposals.
pub(super) enum Control {
    Step(Box<raftpb::Message>),
    ProposeInTerm {
        term: u64,
        data: Vec<Bytes>,
    },
    ReadIndex(u64),
    ProposeConfChange(raftpb::ConfChange),
    ApplyConfChange {
        change: Option<raftpb::ConfChange>,
        reply: crossbeam_channel::Sender<Result<raftpb::ConfState, StepError>>,
    },
    SaveSnapshot {
        index: u64,
        conf_state: raftpb::ConfState,
        data: Bytes,
    },
    TransferLeader(u64),
    AdvanceTicks(usize),
    Unreachable(u64),
    Gone(u64),
    SnapshotSent {
        to: u64,
        sent: bool,
    },
    /// Something that the raft thread reads by itself has changed.
    Wake,
}

/// To talk to a running node; cheap to clone. Outlives the node: then everything says `Stopped`.
#[derive(Clone)]
pub struct Handle {
    proposals: Sender<Bytes>,
    control: Sender<Control>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Handle").field(&self.status()).finish()
    }
}

impl Handle {
    pub(super) fn new(
        proposals: Sender<Bytes>,
        control: Sender<Control>,
        id: u64,
        applied: u64,
    ) -> Handle {
        Handle {
            proposals,
            control,
            shared: Arc::new(Shared::new(id, applied)),
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Proposes a normal entry. Never blocks. The proposal waits up to two election timeouts for a
    /// leader; a proposal that is dropped is reported through `Observer::proposal_dropped`.
    ///
    /// # Errors
    /// `Full` when too many wait, in number or in bytes; `TooLarge`; `Stopped`.
    pub fn propose(&self, data: Bytes) -> Result<(), ProposeError> {
        let len = data.len();
        if len > MAX_PROPOSAL_BYTES {
            return Err(ProposeError::TooLarge(len));
        }
        let queued = &self.shared.queued_bytes;
        let before = queued.fetch_add(len, Ordering::AcqRel);
        if before != 0 && before + len > PROPOSAL_QUEUE_BYTES {
            queued.fetch_sub(len, Ordering::AcqRel);
            return Err(ProposeError::Full);
        }
        self.proposals.try_send(data).map_err(|e| {
            queued.fetch_sub(len, Ordering::AcqRel);
            propose_error(&e)
        })
    }

    /// Proposes normal entries on condition that this member leads in `term` when they are appended. They wait for
    /// no leader, are never passed on to one, and go before what [`propose`](Self::propose) has queued. Never
    /// blocks. What is dropped is reported through `Observer::proposal_dropped`.
    ///
    /// For what only the leader of that term may decide, such as that time is over: one that was deposed without
    /// knowing it must not have its say any more.
    ///
    /// # Errors
    /// `Full`, `TooLarge`: none was taken; `Stopped`.
    pub fn propose_in_term(&self, term: u64, data: Vec<Bytes>) -> Result<(), ProposeError> {
        if let Some(large) = data.iter().find(|data| data.len() > MAX_PROPOSAL_BYTES) {
            return Err(ProposeError::TooLarge(large.len()));
        }
        self.try_control(Control::ProposeInTerm { term, data })
    }

    /// When the raft thread last ticked, by the node's clock. Long ago: it is stuck, for example in a disk that
    /// does not answer, and may have been deposed without knowing it.
    pub fn ticked(&self) -> Duration {
        self.shared.ticked()
    }

    /// Proposes a change of the membership. A leader that has another one under way holds it for up
    /// to two election timeouts. Never blocks.
    ///
    /// # Errors
    /// `Full`, `Stopped`.
    pub fn propose_conf_change(&self, cc: raftpb::ConfChange) -> Result<(), ProposeError> {
        self.try_control(Control::ProposeConfChange(cc))
    }

    /// Asks for an index for reads; the answer comes through `Observer::read_state` with the same
    /// `request`, when there is a leader. Never blocks.
    ///
    /// # Errors
    /// `Full`, `Stopped`.
    pub fn read_index(&self, request: u64) -> Result<(), ProposeError> {
        self.try_control(Control::ReadIndex(request))
    }

    /// The index for reads when no round is needed to learn it: this member is the only voter and
    /// leads, so nobody else can have committed anything. Reads may run once it is applied.
    pub fn lone_read_index(&self) -> Option<u64> {
        self.shared.lone_read_index()
    }

    /// A message from another member. Never blocks.
    ///
    /// # Errors
    /// `Full`: the message is dropped, raft repeats what matters. `Stopped`.
    pub fn step(&self, message: raftpb::Message) -> Result<(), ProposeError> {
        self.try_control(Control::Step(Box::new(message)))
    }

    /// Applies a committed conf change to raft, `None` when the server rejected it. To be called
    /// by the apply thread, in order, once for each `EntryConfChange`. Blocks until it is done.
    ///
    /// # Errors
    /// `Stopped`; `Refused` for a change that raft cannot make, which leaves everything as it is.
    pub fn apply_conf_change(
        &self,
        change: Option<raftpb::ConfChange>,
    ) -> Result<raftpb::ConfState, ConfChangeError> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        self.control
            .send(Control::ApplyConfChange { change, reply })
            .map_err(|_| ConfChangeError::Stopped)?;
        answer
            .recv()
            .map_err(|_| ConfChangeError::Stopped)?
            .map_err(ConfChangeError::Refused)
    }

    /// The state up to `index` is durable in the database: writes a snapshot file with `data` (the
    /// v2 document), marks it in the WAL, and lets go of the log before it. Returns at once; when
    /// two are being written already this one is skipped.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn save_snapshot(
        &self,
        index: u64,
        conf_state: raftpb::ConfState,
        data: Vec<u8>,
    ) -> Result<(), Stopped> {
        self.send_control(Control::SaveSnapshot {
            index,
            conf_state,
            data: data.into(),
        })
    }

    /// The server has applied everything up to `index`.
    pub fn set_applied(&self, index: u64) {
        self.shared.set_applied(index);
    }

    /// Hands leadership over to member `to`, if this member leads and `to` votes. Nothing is said
    /// about the outcome: it worked when [`Status::leader`] is `to`, or another member as well; it
    /// is given up after an election timeout, when [`Progress::transferee`] is 0 again. Proposals
    /// wait meanwhile.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn transfer_leader(&self, to: u64) -> Result<(), Stopped> {
        self.send_control(Control::TransferLeader(to))
    }

    /// Lets so many ticks pass at once, unless somebody leads already. For a member that has just
    /// started and has seen that enough others are there
    /// ([`initial_election_tick_advance`](super::Config::initial_election_tick_advance)).
    ///
    /// # Errors
    /// `Stopped`.
    pub fn advance_ticks(&self, ticks: usize) -> Result<(), Stopped> {
        self.send_control(Control::AdvanceTicks(ticks))
    }

    /// What this member, if it leads, knows of the others' logs. As of the last tick; cheap.
    pub fn progress(&self) -> Arc<Progress> {
        self.shared.progress()
    }

    /// A member could not be reached.
    ///
    /// # Errors
    /// `Full`, `Stopped`.
    pub fn report_unreachable(&self, id: u64) -> Result<(), ProposeError> {
        self.try_control(Control::Unreachable(id))
    }

    /// Nobody listens at a member's address: its process has ended.
    ///
    /// # Errors
    /// `Full`, `Stopped`.
    pub fn report_gone(&self, id: u64) -> Result<(), ProposeError> {
        self.try_control(Control::Gone(id))
    }

    /// Sending a snapshot to a member ended.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn report_snapshot(&self, to: u64, sent: bool) -> Result<(), Stopped> {
        self.send_control(Control::SnapshotSent { to, sent })
    }

    /// How things are. Never blocks.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Asks the node to stop and returns at once; [`Node::stop`](super::Node::stop) also waits.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Lets the raft thread look at `set_applied` now instead of with its next work.
    pub fn wake(&self) {
        // Full: it is awake.
        let _ = self.control.try_send(Control::Wake);
    }

    fn try_control(&self, control: Control) -> Result<(), ProposeError> {
        self.control
            .try_send(control)
            .map_err(|e| propose_error(&e))
    }

    fn send_control(&self, control: Control) -> Result<(), Stopped> {
        self.control.send(control).map_err(|_| Stopped)
    }
}

fn propose_error<T>(e: &TrySendError<T>) -> ProposeError {
    match e {
        TrySendError::Full(_) => ProposeError::Full,
        TrySendError::Disconnected(_) => ProposeError::Stopped,
    }
}
