//! The border between etcd's `raftpb` and the types of the `raft` crate.
//!
//! Payloads are `bytes::Bytes` on both sides: they are moved or shared, never copied.
//!
//! # Conf changes
//! The two sides number the kinds of a conf change differently (etcd 2 = update, 3 = add learner;
//! the crate 2 = add learner), and the crate's leader decodes the data of every conf change that
//! is proposed, though only to see whether it is an empty joint one. So inside the crate a
//! *proposed* conf change has no data, which decodes as "nothing to say", and carries etcd's bytes
//! in the crate's own `context` field. [`to_entry`] puts them back. Every entry that leaves the
//! crate, to the log view, the WAL, the network or the apply thread, passes through there, so
//! outside of the crate's unstable tail a conf change has etcd's bytes and nothing else.

use bytes::Bytes;
use raft::eraftpb;
use retcd_proto::raftpb;

use super::StepError;

/// An entry in etcd's shape. A normal entry's type is left out, as etcd 3.7 does.
pub(super) fn to_entry(mut e: eraftpb::Entry) -> raftpb::Entry {
    restore_conf_change(&mut e);
    let data = std::mem::take(&mut e.data);
    raftpb::Entry {
        r#type: match e.get_entry_type() {
            eraftpb::EntryType::EntryNormal => None,
            other => Some(other as i32),
        },
        term: Some(e.term),
        index: Some(e.index),
        data: (!data.is_empty()).then_some(data),
    }
}

/// Puts the bytes of a proposed conf change back where etcd has them.
pub(super) fn restore_conf_change(e: &mut eraftpb::Entry) {
    if !e.context.is_empty() {
        e.data = std::mem::take(&mut e.context);
    }
}

/// An entry for a proposal: it has no term and no index yet.
pub(super) fn proposed_normal(data: Bytes) -> eraftpb::Entry {
    eraftpb::Entry {
        data,
        ..eraftpb::Entry::default()
    }
}

/// A proposed conf change, `data` being etcd's encoding of it.
pub(super) fn proposed_conf_change(data: Bytes) -> eraftpb::Entry {
    eraftpb::Entry {
        entry_type: eraftpb::EntryType::EntryConfChange,
        context: data,
        ..eraftpb::Entry::default()
    }
}

/// An entry of a log.
///
/// # Errors
/// An unknown entry type, or `EntryConfChangeV2`, which etcd never writes and cannot apply.
pub(super) fn from_entry(e: raftpb::Entry) -> Result<eraftpb::Entry, StepError> {
    let entry_type = match e.r#type.unwrap_or(0) {
        0 => eraftpb::EntryType::EntryNormal,
        1 => eraftpb::EntryType::EntryConfChange,
        other => return Err(StepError::EntryType(other)),
    };
    Ok(eraftpb::Entry {
        entry_type,
        term: e.term.unwrap_or(0),
        index: e.index.unwrap_or(0),
        data: e.data.unwrap_or_default(),
        ..eraftpb::Entry::default()
    })
}

/// A hard state with all three fields, as etcd writes it.
pub(super) fn to_hard_state(hs: &eraftpb::HardState) -> raftpb::HardState {
    raftpb::HardState {
        term: Some(hs.term),
        vote: Some(hs.vote),
        commit: Some(hs.commit),
    }
}

pub(super) fn from_hard_state(hs: &raftpb::HardState) -> eraftpb::HardState {
    eraftpb::HardState {
        term: hs.term(),
        vote: hs.vote(),
        commit: hs.commit(),
        ..eraftpb::HardState::default()
    }
}

/// A conf state with its members in ascending order, so that equal states are equal bytes.
pub(super) fn to_conf_state(cs: &eraftpb::ConfState) -> raftpb::ConfState {
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    raftpb::ConfState {
        voters: sorted(cs.get_voters()),
        learners: sorted(cs.get_learners()),
        voters_outgoing: sorted(cs.get_voters_outgoing()),
        learners_next: sorted(cs.get_learners_next()),
        auto_leave: Some(cs.auto_leave),
    }
}

pub(super) fn from_conf_state(cs: &raftpb::ConfState) -> eraftpb::ConfState {
    eraftpb::ConfState {
        voters: cs.voters.clone(),
        learners: cs.learners.clone(),
        voters_outgoing: cs.voters_outgoing.clone(),
        learners_next: cs.learners_next.clone(),
        auto_leave: cs.auto_leave(),
        ..eraftpb::ConfState::default()
    }
}

pub(super) fn to_snapshot(s: &eraftpb::Snapshot) -> raftpb::Snapshot {
    let meta = s.get_metadata();
    raftpb::Snapshot {
        data: (!s.data.is_empty()).then(|| s.data.clone()),
        metadata: Some(raftpb::SnapshotMetadata {
            conf_state: Some(to_conf_state(meta.get_conf_state())),
            index: Some(meta.index),
            term: Some(meta.term),
        }),
    }
}

pub(super) fn from_snapshot(s: &raftpb::Snapshot) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot {
        data: s.data.clone().unwrap_or_default(),
        ..eraftpb::Snapshot::default()
    };
    if let Some(meta) = &s.metadata {
        let to = snapshot.mut_metadata();
        to.index = meta.index();
        to.term = meta.term();
        if let Some(cs) = &meta.conf_state {
            to.set_conf_state(from_conf_state(cs));
        }
    }
    snapshot
}

/// The change of the configuration that etcd's conf change stands for; `None` when raft's
/// configuration stays as it is, as for an update of URLs.
///
/// # Errors
/// An unknown type.
pub(super) fn conf_change(
    cc: &raftpb::ConfChange,
) -> Result<Option<eraftpb::ConfChange>, StepError> {
    let change_type = match cc.r#type.unwrap_or(0) {
        0 => eraftpb::ConfChangeType::AddNode,
        1 => eraftpb::ConfChangeType::RemoveNode,
        2 => return Ok(None),
        3 => eraftpb::ConfChangeType::AddLearnerNode,
        other => return Err(StepError::ConfChangeType(other)),
    };
    Ok(Some(eraftpb::ConfChange {
        change_type,
        node_id: cc.node_id(),
        ..eraftpb::ConfChange::default()
    }))
}

/// A message for a peer, with the fields that etcd sets for its type. The crate adds to votes and answers what it knows to
/// be committed, which etcd does not know: a refused vote keeps it, the entry's term in the place of the log's, which etcd
/// leaves empty there and does not read.
pub(super) fn to_message(mut m: eraftpb::Message) -> raftpb::Message {
    use eraftpb::MessageType as T;
    let kind = m.get_msg_type();
    let some = |n: u64| (n != 0).then_some(n);
    let refused_vote = is_refused_vote(kind, m.reject);
    let context = std::mem::take(&mut m.context);
    raftpb::Message {
        r#type: Some(kind as i32),
        to: Some(m.to),
        from: Some(m.from),
        term: some(m.term),
        log_term: some(if refused_vote {
            m.commit_term
        } else {
            m.log_term
        }),
        index: some(m.index),
        commit: match kind {
            T::MsgAppend | T::MsgHeartbeat => some(m.commit),
            _ if refused_vote => some(m.commit),
            _ => None,
        },
        snapshot: (kind == T::MsgSnapshot).then(|| to_snapshot(m.get_snapshot())),
        reject: m.reject.then_some(true),
        reject_hint: some(m.reject_hint),
        context: (!context.is_empty()).then_some(context),
        entries: m.take_entries().into_iter().map(to_entry).collect(),
        vote: None,
        responses: Vec::new(),
    }
}

/// A candidate that lacks what the voter has learns from its refusal what is committed of what it has. Without that, the
/// last voter would ask in vain a member that was removed as it led, and has more entries (only the removal would let the
/// other one do without its vote).
fn is_refused_vote(kind: eraftpb::MessageType, reject: bool) -> bool {
    use eraftpb::MessageType as T;
    reject
        && matches!(
            kind,
            T::MsgRequestVoteResponse | T::MsgRequestPreVoteResponse
        )
}

/// A message from a peer. Fields 13 and 14, which mean other things to the crate, stay behind.
///
/// # Errors
/// Types that the crate does not know, and those that never travel between members.
pub(super) fn from_message(m: raftpb::Message) -> Result<eraftpb::Message, StepError> {
    use eraftpb::MessageType as T;
    let number = m.r#type.unwrap_or(0);
    let msg_type = match number {
        2 => T::MsgPropose,
        3 => T::MsgAppend,
        4 => T::MsgAppendResponse,
        5 => T::MsgRequestVote,
        6 => T::MsgRequestVoteResponse,
        7 => T::MsgSnapshot,
        8 => T::MsgHeartbeat,
        9 => T::MsgHeartbeatResponse,
        13 => T::MsgTransferLeader,
        14 => T::MsgTimeoutNow,
        15 => T::MsgReadIndex,
        16 => T::MsgReadIndexResp,
        17 => T::MsgRequestPreVote,
        18 => T::MsgRequestPreVoteResponse,
        _ => return Err(StepError::MessageType(number)),
    };
    let proposal = msg_type == T::MsgPropose;
    let refused_vote = is_refused_vote(msg_type, m.reject());
    let (log_term, commit_term) = match refused_vote {
        true => (0, m.log_term()),
        false => (m.log_term(), 0),
    };
    let mut out = eraftpb::Message {
        msg_type,
        to: m.to(),
        from: m.from(),
        // Forwarded proposals and read requests have no term: they are for whoever leads.
        term: if proposal || msg_type == T::MsgReadIndex {
            0
        } else {
            m.term()
        },
        log_term,
        index: m.index(),
        commit: m.commit(),
        commit_term,
        reject: m.reject(),
        reject_hint: m.reject_hint(),
        context: m.context.clone().unwrap_or_default(),
        ..eraftpb::Message::default()
    };
    let mut entries = Vec::with_capacity(m.entries.len());
    for entry in m.entries {
        let mut entry = from_entry(entry)?;
        if proposal && entry.get_entry_type() == eraftpb::EntryType::EntryConfChange {
            entry.context = std::mem::take(&mut entry.data);
        }
        entries.push(entry);
    }
    out.set_entries(entries.into());
    if msg_type == T::MsgSnapshot
        && let Some(snapshot) = &m.snapshot
    {
        out.set_snapshot(from_snapshot(snapshot));
    }
    Ok(out)
}
