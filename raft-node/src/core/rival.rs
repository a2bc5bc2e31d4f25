//! Two members that lose patience with a silent leader at the same time.
//!
//! Each asks the other one whether it would vote for it. A vote for nobody yet is promised to both, so both become
//! candidates, vote for themselves, and wait for another election timeout. Raft leaves it to chance that this ends; but
//! chance is slow where messages are. So the one whose log is behind gives way, and of equal ones the one with the
//! higher id: it is a follower again, votes, and has lost nothing. Not to ask is always allowed, and who waits for
//! answers is no follower for long, so nobody is kept from being elected.

use raft::eraftpb::{Message, MessageType};
use raft::{Raft, StateRole, Storage};

/// Whether this member, which asks, gives way to the sender of a message, which asks too.
pub(super) fn gives_way<T: Storage>(raft: &Raft<T>, message: &Message) -> bool {
    let both_ask = raft.state == StateRole::PreCandidate
        && message.get_msg_type() == MessageType::MsgRequestPreVote
        && message.term > raft.term
        && raft.prs().conf().voters().contains(message.from);
    let log = &raft.raft_log;
    let own = (log.last_term(), log.last_index());
    let theirs = (message.log_term, message.index);
    both_ask && (theirs > own || (theirs == own && message.from < raft.id))
}
