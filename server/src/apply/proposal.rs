//! What another member's proposal must be to get into the log.
//!
//! Once it is committed, an entry that cannot be applied stops every member, at each start again. So it ends at the
//! door of whoever would append it.

use prost::Message as _;
use retcd_proto::etcdserverpb::InternalRaftRequest;
use retcd_proto::raftpb::{ConfChange, ConfChangeType, Entry, EntryType, Message, MessageType};

use super::entry::{self, EntryError, Payload};
use crate::schema::{self, Version, VersionError};

/// Why a proposal is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProposalError {
    #[error("the proposal cannot be applied: {0}")]
    Entry(#[from] EntryError),
    #[error("the proposal cannot be applied: it holds no request that this release knows")]
    Unknown,
    #[error("the proposal sets the cluster's version to {0:?}, which is no version")]
    NoVersion(String),
    #[error("the proposal cannot be applied: {0}")]
    Version(#[from] VersionError),
    #[error("the proposal is not a membership change ({0})")]
    NoChange(prost::DecodeError),
    #[error("the proposal is a membership change of the unknown type {0}")]
    ChangeType(i32),
    #[error("the proposal has an entry without content")]
    Nothing,
    #[error("the proposal is an entry of the unknown type {0}")]
    EntryType(i32),
}

/// Whether all entries of a proposal can be applied; messages of other types pass.
///
/// # Errors
/// Why the first one cannot.
pub(crate) fn check(message: &Message) -> Result<(), ProposalError> {
    if message.r#type() != MessageType::MsgProp {
        return Ok(());
    }
    message.entries.iter().try_for_each(check_entry)
}

fn check_entry(entry: &Entry) -> Result<(), ProposalError> {
    let data = entry.data.clone().unwrap_or_default();
    match entry.r#type.unwrap_or(0) {
        kind if kind == EntryType::EntryNormal as i32 => {
            // Leaders write such entries, but nobody asks for one: etcd's followers pass on what their clients propose.
            if data.is_empty() {
                return Err(ProposalError::Nothing);
            }
            match entry::decode_proposed(data)? {
                Payload::Request(request) => check_request(*request),
                Payload::Nothing => Ok(()),
            }
        }
        kind if kind == EntryType::EntryConfChange as i32 => {
            let change = ConfChange::decode(data).map_err(ProposalError::NoChange)?;
            let kind = change.r#type.unwrap_or(0);
            match ConfChangeType::try_from(kind) {
                Ok(_) => Ok(()),
                Err(_) => Err(ProposalError::ChangeType(kind)),
            }
        }
        other => Err(ProposalError::EntryType(other)),
    }
}

fn check_request(request: InternalRaftRequest) -> Result<(), ProposalError> {
    if let Some(set) = &request.cluster_version_set {
        let version =
            Version::parse(&set.ver).ok_or_else(|| ProposalError::NoVersion(set.ver.clone()))?;
        schema::check_cluster(version)?;
    }
    let nothing_else = InternalRaftRequest {
        header: request.header.clone(),
        id: request.id,
        ..InternalRaftRequest::default()
    };
    if request == nothing_else {
        return Err(ProposalError::Unknown);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use retcd_proto::etcdserverpb::{PutRequest, RequestHeader};
    use retcd_proto::membershippb::ClusterVersionSetRequest;

    use super::*;

    fn proposal(kind: i32, data: Vec<u8>) -> Result<(), ProposalError> {
        check(&Message {
            r#type: Some(MessageType::MsgProp as i32),
            entries: vec![Entry {
                r#type: Some(kind),
                data: Some(data.into()),
                ..Entry::default()
            }],
            ..Message::default()
        })
    }

    fn request(request: InternalRaftRequest) -> Result<(), ProposalError> {
        let header = Some(RequestHeader {
            id: 7,
            ..RequestHeader::default()
        });
        proposal(0, InternalRaftRequest { header, ..request }.encode_to_vec())
    }

    fn version(ver: &str) -> Result<(), ProposalError> {
        request(InternalRaftRequest {
            cluster_version_set: Some(ClusterVersionSetRequest { ver: ver.into() }),
            ..InternalRaftRequest::default()
        })
    }

    fn change(kind: i32) -> Result<(), ProposalError> {
        let change = ConfChange {
            r#type: Some(kind),
            node_id: Some(5),
            ..ConfChange::default()
        };
        proposal(1, change.encode_to_vec())
    }

    #[test]
    fn what_members_propose_passes() {
        assert_eq!(
            request(InternalRaftRequest {
                put: Some(PutRequest::default()),
                ..InternalRaftRequest::default()
            }),
            Ok(())
        );
        assert_eq!(version("3.7.0"), Ok(()));
        for kind in 0..=3 {
            assert_eq!(change(kind), Ok(()));
        }
    }

    #[test]
    fn what_cannot_be_applied_is_refused() {
        use ProposalError as E;
        assert!(matches!(proposal(0, vec![0xff; 9]), Err(E::Entry(_))));
        assert_eq!(proposal(0, Vec::new()), Err(E::Nothing));
        assert_eq!(request(InternalRaftRequest::default()), Err(E::Unknown));
        assert_eq!(version("three"), Err(E::NoVersion("three".into())));
        assert!(matches!(version("99.0.0"), Err(E::Version(_))));
        assert!(matches!(proposal(1, vec![0xff; 9]), Err(E::NoChange(_))));
        assert_eq!(change(4), Err(E::ChangeType(4)));
        assert_eq!(proposal(2, Vec::new()), Err(E::EntryType(2)));
    }

    #[test]
    fn what_is_in_the_log_already_is_not_judged_here() {
        let append = Message {
            r#type: Some(MessageType::MsgApp as i32),
            entries: vec![Entry {
                data: Some(vec![0xff; 9].into()),
                ..Entry::default()
            }],
            ..Message::default()
        };
        assert_eq!(check(&append), Ok(()));
    }
}
