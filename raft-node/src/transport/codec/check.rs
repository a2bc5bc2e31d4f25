//! Which values of enums may go on to the core. The rest of a message is the core's to judge.

use retcd_proto::raftpb::{EntryType, Message, MessageType};

/// A value that nobody knows, or that no member sends another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum Unknown {
    #[error("raft message type {0} is unknown")]
    MessageType(i32),
    #[error("raft message type {} never travels between members", .0.as_str_name())]
    Local(MessageType),
    #[error("a snapshot came without its database")]
    NoDatabase,
    #[error("a snapshot without an index")]
    NoIndex,
    #[error("entry {index} has the unknown type {number}")]
    EntryType { index: u64, number: i32 },
    #[error("entry {0} has the type EntryConfChangeV2, which etcd never writes")]
    ConfChangeV2(u64),
}

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Way {
    /// By itself.
    Alone,
    /// In front of a database.
    WithDatabase,
}

/// # Errors
/// The first such value. And a snapshot without its database: raft would take it, and the member
/// could not go on.
pub(in super::super) fn check(m: &Message, way: Way) -> Result<(), Unknown> {
    use MessageType as T;
    let number = m.r#type.unwrap_or(0);
    let kind = T::try_from(number).map_err(|_| Unknown::MessageType(number))?;
    match kind {
        T::MsgProp
        | T::MsgApp
        | T::MsgAppResp
        | T::MsgVote
        | T::MsgVoteResp
        | T::MsgHeartbeat
        | T::MsgHeartbeatResp
        | T::MsgTransferLeader
        | T::MsgTimeoutNow
        | T::MsgReadIndex
        | T::MsgReadIndexResp
        | T::MsgPreVote
        | T::MsgPreVoteResp => {}
        T::MsgSnap if way == Way::Alone => return Err(Unknown::NoDatabase),
        T::MsgSnap => {
            let metadata = m.snapshot.as_ref().and_then(|s| s.metadata.as_ref());
            if metadata.is_none_or(|metadata| metadata.index() == 0) {
                return Err(Unknown::NoIndex);
            }
        }
        T::MsgHup
        | T::MsgBeat
        | T::MsgUnreachable
        | T::MsgSnapStatus
        | T::MsgCheckQuorum
        | T::MsgStorageAppend
        | T::MsgStorageAppendResp
        | T::MsgStorageApply
        | T::MsgStorageApplyResp
        | T::MsgForgetLeader => return Err(Unknown::Local(kind)),
    }
    for entry in &m.entries {
        let number = entry.r#type.unwrap_or(0);
        match EntryType::try_from(number) {
            Ok(EntryType::EntryNormal | EntryType::EntryConfChange) => {}
            Ok(EntryType::EntryConfChangeV2) => return Err(Unknown::ConfChangeV2(entry.index())),
            Err(_) => {
                return Err(Unknown::EntryType {
                    index: entry.index(),
                    number,
                });
            }
        }
    }
    Ok(())
}
