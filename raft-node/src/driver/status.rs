//! What the node says about itself, readable at any time without asking its thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::core::{MemberProgress, Role, SoftState};

/// A member's view of its cluster. The values are read one by one and may be of slightly
/// different moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The member.
    pub id: u64,
    /// Current term.
    pub term: u64,
    /// For whom this member voted in it, 0: nobody; a moment older than the term.
    pub vote: u64,
    /// Who leads, 0: nobody known.
    pub leader: u64,
    /// Own part.
    pub role: Role,
    /// Highest index known to be committed.
    pub committed: u64,
    /// Highest index that the server reported as applied.
    pub applied: u64,
    /// Index of the last entry, durable or not.
    pub last_index: u64,
    /// Index of the newest snapshot that the log has a durable record of, 0 for none.
    pub snapshot: u64,
}

/// How far the members' logs are, as their leader sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// All members by ascending id, the leader itself included. Empty where this member does not
    /// lead.
    pub members: Vec<MemberProgress>,
    /// To whom leadership is being handed over, 0: nobody.
    pub transferee: u64,
}

impl Progress {
    /// One member.
    pub fn member(&self, id: u64) -> Option<&MemberProgress> {
        self.members.iter().find(|m| m.id == id)
    }
}

/// Shared between handles and the raft thread.
#[derive(Debug)]
pub(crate) struct Shared {
    id: u64,
    term: AtomicU64,
    vote: AtomicU64,
    leader: AtomicU64,
    role: AtomicU8,
    committed: AtomicU64,
    last_index: AtomicU64,
    snapshot: AtomicU64,
    progress: Mutex<Arc<Progress>>,
    /// When the raft thread last saw its clock tick, in nanoseconds of the node's clock.
    ticked: AtomicU64,
    /// The commit index is a read index, see [`Handle::lone_read_index`](super::Handle::lone_read_index).
    alone: AtomicBool,
    /// Written by the apply thread, read by the raft thread.
    applied: AtomicU64,
    /// Bytes of the proposals that wait for the raft thread.
    pub(super) queued_bytes: AtomicUsize,
    /// The node is asked to stop.
    pub(super) stop: AtomicBool,
}

impl Shared {
    pub(super) fn new(id: u64, applied: u64) -> Shared {
        Shared {
            id,
            term: AtomicU64::new(0),
            vote: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            role: AtomicU8::new(0),
            committed: AtomicU64::new(0),
            last_index: AtomicU64::new(0),
            snapshot: AtomicU64::new(0),
            progress: Mutex::default(),
            ticked: AtomicU64::new(0),
            alone: AtomicBool::new(false),
            applied: AtomicU64::new(applied),
            queued_bytes: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        }
    }

    pub(super) fn set_soft_state(&self, state: SoftState) {
        let role = match state.role {
            Role::Follower => 0,
            Role::PreCandidate => 1,
            Role::Candidate => 2,
            Role::Leader => 3,
        };
        self.term.store(state.term, Ordering::Release);
        self.role.store(role, Ordering::Release);
        self.leader.store(state.leader, Ordering::Release);
    }

    pub(super) fn set_vote(&self, vote: u64) {
        self.vote.store(vote, Ordering::Release);
    }

    pub(super) fn set_log(&self, committed: u64, last_index: u64) {
        self.committed.store(committed, Ordering::Release);
        self.last_index.store(last_index, Ordering::Release);
    }

    pub(super) fn set_snapshot(&self, index: u64) {
        self.snapshot.fetch_max(index, Ordering::AcqRel);
    }

    pub(super) fn set_progress(&self, progress: Progress) {
        let mut shown = self.progress.lock();
        if **shown != progress {
            *shown = Arc::new(progress);
        }
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        self.progress.lock().clone()
    }

    pub(super) fn set_ticked(&self, now: Duration) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.ticked.store(nanos, Ordering::Release);
    }

    pub(super) fn ticked(&self) -> Duration {
        Duration::from_nanos(self.ticked.load(Ordering::Acquire))
    }

    pub(super) fn set_alone(&self, alone: bool) {
        self.alone.store(alone, Ordering::Release);
    }

    pub(super) fn lone_read_index(&self) -> Option<u64> {
        let alone = self.alone.load(Ordering::Acquire);
        alone.then(|| self.committed.load(Ordering::Acquire))
    }

    pub(super) fn set_applied(&self, index: u64) {
        self.applied.fetch_max(index, Ordering::AcqRel);
    }

    pub(super) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    pub(super) fn status(&self) -> Status {
        Status {
            id: self.id,
            term: self.term.load(Ordering::Acquire),
            vote: self.vote.load(Ordering::Acquire),
            leader: self.leader.load(Ordering::Acquire),
            role: match self.role.load(Ordering::Acquire) {
                0 => Role::Follower,
                1 => Role::PreCandidate,
                2 => Role::Candidate,
                _ => Role::Leader,
            },
            committed: self.committed.load(Ordering::Acquire),
            applied: self.applied(),
            last_index: self.last_index.load(Ordering::Acquire),
            snapshot: self.snapshot.load(Ordering::Acquire),
        }
    }
}
