//! What a message from a peer, or a log, must fulfil before the consensus core may see it.
//!
//! The core answers several impossible values with a panic, so they end here, with an error that
//! the transport logs. A sound peer never sends any of them.

use raft::eraftpb::{ConfState, Message, MessageType};

use super::{CoreConfig, InitialState, StepError, convert};

/// What the checks need to know of the receiver.
pub(super) struct Receiver {
    pub(super) id: u64,
    pub(super) last_index: u64,
    /// Place of the last entry known to be committed.
    pub(super) committed: (u64, u64),
    pub(super) leads: bool,
    /// It campaigns, and its log is not all durable yet.
    pub(super) campaigns_unsynced: bool,
}

/// Far above what any cluster reaches, far below where adding to it overflows.
const MAX_NUMBER: u64 = 1 << 62;

/// # Errors
/// The first violated rule.
pub(super) fn message(m: &Message, receiver: &Receiver) -> Result<(), StepError> {
    use MessageType as T;
    let bad = |what| Err(StepError::Impossible(what));
    let kind = m.get_msg_type();
    if m.to != receiver.id {
        return Err(StepError::NotForUs { to: m.to });
    }
    if m.from == 0 || m.from == receiver.id {
        return bad("the sender is nobody or the receiver itself");
    }
    if m.term == 0 && !matches!(kind, T::MsgPropose | T::MsgReadIndex) {
        return bad("the term is missing");
    }
    if m.term
        .max(m.index)
        .max(m.log_term)
        .max(m.commit)
        .max(m.reject_hint)
        > MAX_NUMBER
    {
        return bad("a term or an index is out of range");
    }
    match kind {
        T::MsgPropose if m.get_entries().is_empty() => bad("a proposal without entries"),
        T::MsgReadIndex | T::MsgReadIndexResp if m.get_entries().len() != 1 => {
            bad("a read index message needs exactly one entry")
        }
        T::MsgAppend => entries_follow(m),
        T::MsgAppendResponse if !m.reject && m.index > receiver.last_index && receiver.leads => {
            bad("an entry is acknowledged that was never sent")
        }
        T::MsgHeartbeat if m.commit > receiver.last_index => {
            // The leader sends what this member acknowledged at most. It did so before it lost
            // its log: M11.
            bad("the leader counts on entries that this member does not have")
        }
        // The requests wait for the log to be durable, and the crate relies on it.
        T::MsgRequestVoteResponse if receiver.campaigns_unsynced => {
            bad("a vote is answered that was not asked for yet")
        }
        T::MsgSnapshot => {
            let meta = m.get_snapshot().get_metadata();
            if meta.index == 0 || meta.term == 0 || meta.index > MAX_NUMBER || meta.term > m.term {
                return bad("a snapshot without a place in the log");
            }
            // The crate would take it for durable before it is.
            if meta.index == receiver.committed.0 && meta.term != receiver.committed.1 {
                return bad("a snapshot contradicts what is committed");
            }
            conf_state(meta.get_conf_state()).map_err(StepError::Impossible)
        }
        // A follower would pass it on, and the crate cannot: it has a term already.
        T::MsgTransferLeader if !receiver.leads => bad("leadership is asked of a non-leader"),
        _ => Ok(()),
    }
}

fn entries_follow(m: &Message) -> Result<(), StepError> {
    // To the core, term 0 is the term of whatever is not in its log.
    if (m.index == 0) != (m.log_term == 0) {
        return Err(StepError::Impossible("an entry without a term"));
    }
    let (mut index, mut term) = (m.index, m.log_term.max(1));
    for entry in m.get_entries() {
        if entry.index != index + 1 || entry.term < term || entry.term > m.term {
            return Err(StepError::Impossible(
                "the entries do not follow each other",
            ));
        }
        (index, term) = (entry.index, entry.term);
    }
    Ok(())
}

/// A configuration that the core can start from: voters, each member once, no joint part (etcd has
/// never used joint consensus).
pub(super) fn conf_state(cs: &ConfState) -> Result<(), &'static str> {
    if cs.get_voters().is_empty() {
        return Err("a configuration without voters");
    }
    if !cs.get_voters_outgoing().is_empty() || !cs.get_learners_next().is_empty() || cs.auto_leave {
        return Err("a joint configuration");
    }
    let mut ids: Vec<u64> = cs
        .get_voters()
        .iter()
        .chain(cs.get_learners())
        .copied()
        .collect();
    ids.sort_unstable();
    if ids.first() == Some(&0) || ids.windows(2).any(|w| w[0] == w[1]) {
        return Err("a configuration with a member twice or without an id");
    }
    Ok(())
}

/// The crate panics where these do not hold.
pub(super) fn initial(config: &CoreConfig, initial: &InitialState) -> Result<(), StepError> {
    let bad = |what| Err(StepError::Impossible(what));
    if config.id == 0 || config.election_ticks < 2 {
        return bad("a member needs an id and an election timeout of two ticks or more");
    }
    let (mut index, mut term) = initial.snapshot;
    for entry in &initial.entries {
        if entry.index() != index + 1 || entry.term() < term {
            return bad("the entries of the log do not follow each other");
        }
        (index, term) = (entry.index(), entry.term());
    }
    let commit = initial.hard_state.commit();
    if commit < initial.snapshot.0 || commit > index {
        return bad("the commit index is not in the log");
    }
    if initial.applied < initial.snapshot.0 || initial.applied > commit {
        return bad("the applied index is not between the snapshot and the commit index");
    }
    if initial.hard_state.term() < term {
        return bad("the log has an entry of a later term than the hard state");
    }
    let conf_state = convert::from_conf_state(&initial.conf_state);
    if conf_state != ConfState::default() {
        self::conf_state(&conf_state).map_err(StepError::Impossible)?;
    }
    Ok(())
}
