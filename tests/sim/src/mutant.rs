//! Faults planted on purpose. Each must be found, or the simulation proves nothing.

use retcd_proto::raftpb;
use retcd_raft_node::parts::Write;

/// A planted fault. All of them are in the simulation's own hooks: nothing of the product knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A write is reported durable when it is queued.
    PersistedBeforeSync,
    /// The log is never synced.
    NoSync,
    /// Term and vote are not written unless entries are.
    VoteNotWritten,
    /// Entries that replace others are not written.
    ConflictNotWritten,
    /// The record of a received snapshot is not written.
    ReceivedRecordSkipped,
    /// The hard state goes before the record of a received snapshot (D5).
    HardStateBeforeRecord,
    /// A snapshot message is stepped before its database is durable.
    DatabaseAfterMessage,
    /// A received database does not take the place of the old one.
    DatabaseNotInstalled,
    /// Snapshots are taken at the applied index, which the database may not have yet.
    SnapshotPastDurable,
    /// The consistent index runs ahead of the effects (D1).
    IndexAheadOfEffects,
    /// The consistent index lags behind the effects (D3).
    IndexBehindEffects,
    /// Writers are answered when their proposal is taken.
    AnswerAtProposal,
    /// Writers are answered when their entry is in the leader's log.
    AnswerAtAppend,
    /// Every so often a member leaves an entry out.
    EntrySkipped,
    /// A member's clock gets into what it applies.
    ClockInApply,
    /// Two neighbouring entries are applied the other way round.
    EntriesSwapped,
    /// The leader answers reads without asking anybody.
    ReadWithoutQuorum,
    /// Reads do not wait until their index is applied.
    ReadBeforeApplied,
    /// Any member answers reads from what it has.
    ReadLocally,
    /// A read is satisfied by an index that was asked for before it (M1).
    OldReadIndex,
    /// A leader answers reads before it has committed in its term (M2).
    ReadAtElection,
    /// After a restart raft has the configuration of the beginning.
    ConfigurationForgotten,
    /// Raft takes a new learner for a voter.
    LearnerVotes,
    /// Raft never hears of removals.
    RemovalIgnored,
    /// Nobody tells the leader what became of a snapshot.
    SnapshotNotReported,
    /// A sent snapshot claims one entry more than its database has.
    SnapshotClaimsMore,
    /// A sent snapshot has the configuration of the beginning.
    SnapshotOldConfiguration,
    /// A member that lost its disk comes back under its old identity.
    DiskLost,
    /// A refusal to vote arrives as a vote.
    RefusalIsVote,
    /// A follower acknowledges one entry more than it has.
    AckTooFar,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 30] = [
        Mutant::PersistedBeforeSync,
        Mutant::NoSync,
        Mutant::VoteNotWritten,
        Mutant::ConflictNotWritten,
        Mutant::ReceivedRecordSkipped,
        Mutant::HardStateBeforeRecord,
        Mutant::DatabaseAfterMessage,
        Mutant::DatabaseNotInstalled,
        Mutant::SnapshotPastDurable,
        Mutant::IndexAheadOfEffects,
        Mutant::IndexBehindEffects,
        Mutant::AnswerAtProposal,
        Mutant::AnswerAtAppend,
        Mutant::EntrySkipped,
        Mutant::ClockInApply,
        Mutant::EntriesSwapped,
        Mutant::ReadWithoutQuorum,
        Mutant::ReadBeforeApplied,
        Mutant::ReadLocally,
        Mutant::OldReadIndex,
        Mutant::ReadAtElection,
        Mutant::ConfigurationForgotten,
        Mutant::LearnerVotes,
        Mutant::RemovalIgnored,
        Mutant::SnapshotNotReported,
        Mutant::SnapshotClaimsMore,
        Mutant::SnapshotOldConfiguration,
        Mutant::DiskLost,
        Mutant::RefusalIsVote,
        Mutant::AckTooFar,
    ];

    /// The mutant of this name.
    pub fn named(name: &str) -> Option<Mutant> {
        Mutant::ALL.into_iter().find(|mutant| format!("{mutant:?}") == name)
    }

    /// What is written before everything else, under a sync of its own.
    pub(crate) fn before(self, writes: &[Write]) -> Option<Write> {
        let of = |write: &Write| match write {
            Write::Append { snapshot: Some(_), hard_state, .. } => *hard_state,
            _ => None,
        };
        let hard_state = writes.iter().find_map(of)?;
        (self == Mutant::HardStateBeforeRecord).then_some(Write::Append {
            number: None,
            hard_state: Some(hard_state),
            entries: Vec::new(),
            snapshot: None,
        })
    }

    /// What becomes of a write before it reaches the log; `last` is the log's last index.
    pub(crate) fn write(self, write: Write, last: u64) -> Vec<Write> {
        let Write::Append { number, mut hard_state, mut entries, snapshot } = write else {
            return vec![write];
        };
        match self {
            Mutant::VoteNotWritten if entries.is_empty() && snapshot.is_none() => hard_state = None,
            Mutant::ConflictNotWritten if snapshot.is_none() => {
                entries.retain(|e: &raftpb::Entry| e.index() > last);
            }
            Mutant::ReceivedRecordSkipped if snapshot.is_some() => {
                return vec![Write::Append { number, hard_state: None, entries: Vec::new(), snapshot: None }];
            }
            _ => {}
        }
        vec![Write::Append { number, hard_state, entries, snapshot }]
    }
}
