//! What goes into the core and what comes out.

use retcd_proto::raftpb;

/// What a core is told once.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Own id, not 0.
    pub id: u64,
    /// Ticks without a leader before an election, at least 2.
    pub election_ticks: usize,
    /// Ask for votes before raising the term.
    pub pre_vote: bool,
    /// Entries kept behind the applied one for peers that lag.
    pub catch_up_entries: u64,
    /// Seed of the election timeouts.
    pub seed: u64,
    /// Wall-clock milliseconds at the start, makes contexts of read-index requests unique.
    pub start_millis: u64,
}

/// Where a core starts from: what is durable.
#[derive(Debug, Clone, Default)]
pub struct InitialState {
    /// Index and term of the snapshot before the first entry, (0, 0) for none.
    pub snapshot: (u64, u64),
    /// The configuration at `applied`.
    pub conf_state: raftpb::ConfState,
    /// Term, vote and commit index.
    pub hard_state: raftpb::HardState,
    /// The entries after the snapshot.
    pub entries: Vec<raftpb::Entry>,
    /// Index of the last applied entry.
    pub applied: u64,
}

/// A message or a log that the core cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// A message type that is unknown or never sent between members.
    #[error("raft message type {0} is unknown or not one that members send each other")]
    MessageType(i32),
    /// An entry type that is unknown, or one that etcd never writes.
    #[error("raft entry type {0} is unknown or not one that etcd writes")]
    EntryType(i32),
    /// A kind of conf change that is unknown.
    #[error("raft conf change type {0} is unknown")]
    ConfChangeType(i32),
    /// Addressed to somebody else, such as a former member at this address (M10).
    #[error("raft message is for member {to:x}, not for this one")]
    NotForUs {
        /// The addressee.
        to: u64,
    },
    /// Values that no sound member sends.
    #[error("raft message refused: {0}")]
    Impossible(&'static str),
    /// An answer of a member that was removed a moment ago.
    #[error("raft message is an answer of somebody who is no member")]
    UnknownSender,
    /// There is nobody who could take the proposal.
    #[error("raft proposal dropped")]
    ProposalDropped,
    /// The core refuses for a reason of its own.
    #[error("raft: {0}")]
    Raft(String),
}

/// The part a member plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// Who leads, as this member sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoftState {
    /// 0: nobody known.
    pub leader: u64,
    /// This member's part.
    pub role: Role,
    /// The current term.
    pub term: u64,
}

/// How the leader sends entries to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// One message at a time, until it is known where the member's log ends.
    Probe,
    /// As the entries come.
    Replicate,
    /// Nothing, until the member has a snapshot.
    Snapshot,
}

/// What the leader knows of a member's log, its own included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberProgress {
    /// The member.
    pub id: u64,
    /// Highest index that it is known to have durably.
    pub matched: u64,
    /// Next index to be sent.
    pub next: u64,
    /// It does not vote.
    pub learner: bool,
    /// It was heard of within the last one to two election timeouts.
    pub recently_active: bool,
    /// How it gets entries.
    pub replication: Replication,
    /// Index of the snapshot that is on its way to it, 0 for none. It may get a newer one.
    pub pending_snapshot: u64,
}

/// One round of work for the driver.
#[derive(Debug, Default)]
pub struct Output {
    /// Ascending; what [`Core::persisted`] refers to.
    pub number: u64,
    /// The write below must be synced before `number` counts as persisted. Otherwise at most the
    /// commit index changed, and nothing depends on it being durable.
    pub must_sync: bool,
    /// To be written, after the entries.
    pub hard_state: Option<raftpb::HardState>,
    /// To be written; may replace entries that were written before.
    pub entries: Vec<raftpb::Entry>,
    /// A snapshot from the leader: to be saved before the entries, and to be applied.
    pub snapshot: Option<raftpb::Snapshot>,
    /// To be sent at once.
    pub messages: Vec<raftpb::Message>,
    /// To be sent when `number` is persisted.
    pub persisted_messages: Vec<raftpb::Message>,
    /// To be applied, in order.
    pub committed: Vec<raftpb::Entry>,
    /// Answers to read-index requests: (request, index).
    pub read_states: Vec<(u64, u64)>,
    /// Present when leader, role or term changed.
    pub soft_state: Option<SoftState>,
}
