//! Every error a client can see, and the one place where it becomes a gRPC code and etcd's text.
//!
//! Source of codes and texts: etcd `api/v3rpc/rpctypes/error.go` and what 3.7 servers were seen to
//! send. Where etcd lets an error out as `Unknown`, the variant says so.

use std::fmt;

use tonic::Code;

use crate::lease::NotPrimary;

/// What went wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A key is required and empty.
    EmptyKey,
    /// An operation refers to a key that does not exist, or a transaction holds an empty operation.
    KeyNotFound,
    /// `ignore_value` came with a value.
    ValueProvided,
    /// `ignore_lease` came with a lease.
    LeaseProvided,
    /// More operations in a transaction than `--max-txn-ops`.
    TooManyOps,
    /// Transactions are nested deeper than the log can hold them. The words are ours.
    NestedTooDeep,
    /// A transaction puts a key twice, or puts a key that it deletes.
    DuplicateKey,
    /// The metadata `client-api-version` is not a version.
    InvalidClientApiVersion,
    /// Unknown sort order or target.
    InvalidSortOption,
    /// The revision is below the compacted one.
    Compacted,
    /// The revision is above the current one.
    FutureRev,
    /// The backend is over its quota.
    NoSpace,
    /// No such lease.
    LeaseNotFound,
    /// A lease of that id is there already.
    LeaseExists,
    /// The lease would be longer than any may be.
    LeaseTtlTooLarge,
    /// This member does not keep the time of leases. Etcd sends this as `Unknown`.
    NotPrimary,
    /// Authentication cannot be enabled without a user `root`.
    RootUserNotExist,
    /// Authentication cannot be enabled while the user `root` lacks its role.
    RootRoleNotExist,
    /// A user needs a name.
    UserEmpty,
    /// A user of that name is there already.
    UserAlreadyExist,
    /// No such user.
    UserNotFound,
    /// A role needs a name.
    RoleEmpty,
    /// A role of that name is there already.
    RoleAlreadyExist,
    /// No such role.
    RoleNotFound,
    /// The user does not have the role.
    RoleNotGranted,
    /// A permission is to be granted, but none is named.
    PermissionNotGiven,
    /// The role does not have the permission.
    PermissionNotGranted,
    /// Authentication is off.
    AuthNotEnabled,
    /// The change would lock everybody out, or the range of a permission holds no key.
    InvalidAuthMgmt,
    /// A password that is no password. Etcd sends this as `Unknown`.
    NoPasswordUser,
    /// The request exceeds `--max-request-bytes`.
    RequestTooLarge,
    /// Too many requests are waiting to be applied. Etcd sends this as `Unknown`.
    TooManyRequests,
    /// No member has the id, or it was removed.
    MemberNotFound,
    /// A member has the id already.
    MemberExist,
    /// Another member has one of the peer URLs.
    PeerUrlExist,
    /// The peer URLs are none.
    MemberBadUrls,
    /// Too few members have started for this change. Etcd sends this as `Unknown`.
    MemberNotEnoughStarted,
    /// Only learners can be promoted.
    MemberNotLearner,
    /// The learner has not received enough of the log.
    LearnerNotReady,
    /// As many learners as `--max-learners` are there already.
    TooManyLearners,
    /// This member is not connected to enough others for the change.
    Unhealthy,
    /// This member does not lead.
    NotLeader,
    /// Leadership cannot go to that member.
    BadLeaderTransferee,
    /// The new leader did not take over in time. Etcd sends this as `Unknown`.
    TimeoutLeaderTransfer,
    /// No answer within the request timeout, and the connection to the leader or a quorum was lost in that time.
    TimeoutDueToConnectionLost,
    /// Nobody led until the request timed out: it is in no log.
    NeverProposed,
    /// What was committed was not applied in time.
    TimeoutWaitAppliedIndex,
    /// The cluster has no leader.
    NoLeader,
    /// The leader changed while the request waited.
    LeaderChanged,
    /// The member is stopping.
    Stopped,
    /// No answer within the request timeout.
    Timeout,
    /// No answer within the request timeout, and the leader was lost in that time.
    TimeoutDueToLeaderFail,
    /// A CORRUPT alarm is raised.
    Corrupt,
    /// A learner was asked for something that learners do not serve.
    NotSupportedForLearner,
    /// `RangeStream` was asked for an order other than by key.
    StreamSortOrder,
    /// `RangeStream` was asked to filter by revision.
    StreamRevisionFilter,
    /// The engine of the store cannot do it, in words for the operator.
    EngineCannot(String),
    /// The request would be logged in the membership module's own words. Sent as `Unknown`.
    Membership(String),
    /// What the Lock and Election services say, or what they were told by those that they use. Sent as `Unknown`.
    Recipe(String),
    /// Damaged data or an impossible state, in words for the operator. Sent as `Unknown`.
    Internal(String),
}

impl Error {
    /// The gRPC code and the text, exactly as etcd sends them.
    #[must_use]
    pub fn code_and_text(&self) -> (Code, &str) {
        match self {
            Self::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
            Self::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
            Self::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
            Self::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
            Self::TooManyOps => (
                Code::InvalidArgument,
                "etcdserver: too many operations in txn request",
            ),
            Self::NestedTooDeep => (
                Code::InvalidArgument,
                "etcdserver: transactions are nested deeper than 40 levels",
            ),
            Self::DuplicateKey => (
                Code::InvalidArgument,
                "etcdserver: duplicate key given in txn request",
            ),
            Self::InvalidClientApiVersion => (
                Code::InvalidArgument,
                "etcdserver: invalid client api version",
            ),
            Self::InvalidSortOption => (Code::InvalidArgument, "etcdserver: invalid sort option"),
            Self::Compacted => (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            Self::FutureRev => (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            Self::NoSpace => (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
            Self::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
            Self::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
            Self::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
            Self::NotPrimary => (Code::Unknown, "not a primary lessor"),
            Self::RootUserNotExist => (
                Code::FailedPrecondition,
                "etcdserver: root user does not exist",
            ),
            Self::RootRoleNotExist => (
                Code::FailedPrecondition,
                "etcdserver: root user does not have root role",
            ),
            Self::UserEmpty => (Code::InvalidArgument, "etcdserver: user name is empty"),
            Self::UserAlreadyExist => (
                Code::FailedPrecondition,
                "etcdserver: user name already exists",
            ),
            Self::UserNotFound => (Code::FailedPrecondition, "etcdserver: user name not found"),
            Self::RoleEmpty => (Code::InvalidArgument, "etcdserver: role name is empty"),
            Self::RoleAlreadyExist => (
                Code::FailedPrecondition,
                "etcdserver: role name already exists",
            ),
            Self::RoleNotFound => (Code::FailedPrecondition, "etcdserver: role name not found"),
            Self::RoleNotGranted => (
                Code::FailedPrecondition,
                "etcdserver: role is not granted to the user",
            ),
            Self::PermissionNotGiven => (Code::InvalidArgument, "etcdserver: permission not given"),
            Self::PermissionNotGranted => (
                Code::FailedPrecondition,
                "etcdserver: permission is not granted to the role",
            ),
            Self::AuthNotEnabled => (
                Code::FailedPrecondition,
                "etcdserver: authentication is not enabled",
            ),
            Self::InvalidAuthMgmt => (Code::InvalidArgument, "etcdserver: invalid auth management"),
            Self::NoPasswordUser => (
                Code::Unknown,
                "auth: authentication failed, password was given for no password user",
            ),
            Self::RequestTooLarge => (Code::InvalidArgument, "etcdserver: request is too large"),
            Self::TooManyRequests => (Code::Unknown, "etcdserver: too many requests"),
            Self::MemberNotFound => (Code::NotFound, "etcdserver: member not found"),
            Self::MemberExist => (
                Code::FailedPrecondition,
                "etcdserver: member ID already exist",
            ),
            Self::PeerUrlExist => (
                Code::FailedPrecondition,
                "etcdserver: Peer URLs already exists",
            ),
            Self::MemberBadUrls => (
                Code::InvalidArgument,
                "etcdserver: given member URLs are invalid",
            ),
            Self::MemberNotEnoughStarted => (
                Code::Unknown,
                "etcdserver: re-configuration failed due to not enough started members",
            ),
            Self::MemberNotLearner => (
                Code::FailedPrecondition,
                "etcdserver: can only promote a learner member",
            ),
            Self::LearnerNotReady => (
                Code::FailedPrecondition,
                "etcdserver: can only promote a learner member which is in sync with leader",
            ),
            Self::TooManyLearners => (
                Code::FailedPrecondition,
                "etcdserver: too many learner members in cluster",
            ),
            Self::Unhealthy => (Code::Unavailable, "etcdserver: unhealthy cluster"),
            Self::NotLeader => (Code::FailedPrecondition, "etcdserver: not leader"),
            Self::BadLeaderTransferee => (
                Code::FailedPrecondition,
                "etcdserver: bad leader transferee",
            ),
            Self::TimeoutLeaderTransfer => (
                Code::Unknown,
                "etcdserver: request timed out, leader transfer took too long",
            ),
            Self::TimeoutDueToConnectionLost => (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to connection lost",
            ),
            Self::NeverProposed => (Code::DeadlineExceeded, "context deadline exceeded"),
            Self::TimeoutWaitAppliedIndex => (
                Code::Unavailable,
                "etcdserver: request timed out, waiting for the applied index took too long",
            ),
            Self::NoLeader => (Code::Unavailable, "etcdserver: no leader"),
            Self::LeaderChanged => (Code::Unavailable, "etcdserver: leader changed"),
            Self::Stopped => (Code::Unavailable, "etcdserver: server stopped"),
            Self::Timeout => (Code::Unavailable, "etcdserver: request timed out"),
            Self::TimeoutDueToLeaderFail => (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
            ),
            Self::Corrupt => (Code::DataLoss, "etcdserver: corrupt cluster"),
            Self::NotSupportedForLearner => (
                Code::FailedPrecondition,
                "etcdserver: rpc not supported for learner",
            ),
            Self::StreamSortOrder => (
                Code::Unimplemented,
                "RangeStream does not support custom sort orders",
            ),
            Self::StreamRevisionFilter => (
                Code::Unimplemented,
                "RangeStream does not support revision filters",
            ),
            Self::EngineCannot(text) => (Code::Unimplemented, text),
            Self::Membership(text) | Self::Recipe(text) | Self::Internal(text) => {
                (Code::Unknown, text)
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code_and_text().1)
    }
}

impl std::error::Error for Error {}

impl From<NotPrimary> for Error {
    fn from(_: NotPrimary) -> Self {
        Self::NotPrimary
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        let (code, text) = error.code_and_text();
        Self::new(code, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code and text of every error of etcd 3.7, one a line: the code's name, a tab, the text.
    const ETCD: &str = include_str!("error_table.txt");

    /// One of each variant that has etcd's words. The match makes the compiler ask for new ones.
    fn with_etcd_text() -> Vec<Error> {
        use Error::*;
        let all = vec![
            EmptyKey,
            KeyNotFound,
            ValueProvided,
            LeaseProvided,
            TooManyOps,
            DuplicateKey,
            InvalidClientApiVersion,
            InvalidSortOption,
            Compacted,
            FutureRev,
            NoSpace,
            LeaseNotFound,
            LeaseExists,
            LeaseTtlTooLarge,
            RootUserNotExist,
            RootRoleNotExist,
            UserEmpty,
            UserAlreadyExist,
            UserNotFound,
            RoleEmpty,
            RoleAlreadyExist,
            RoleNotFound,
            RoleNotGranted,
            PermissionNotGiven,
            PermissionNotGranted,
            AuthNotEnabled,
            InvalidAuthMgmt,
            NoPasswordUser,
            RequestTooLarge,
            TooManyRequests,
            MemberNotFound,
            MemberExist,
            PeerUrlExist,
            MemberBadUrls,
            MemberNotEnoughStarted,
            MemberNotLearner,
            LearnerNotReady,
            TooManyLearners,
            Unhealthy,
            NotLeader,
            BadLeaderTransferee,
            TimeoutDueToConnectionLost,
            TimeoutWaitAppliedIndex,
            NoLeader,
            LeaderChanged,
            Stopped,
            Timeout,
            TimeoutDueToLeaderFail,
            Corrupt,
            NotSupportedForLearner,
        ];
        for error in &all {
            match error {
                EmptyKey
                | KeyNotFound
                | ValueProvided
                | LeaseProvided
                | TooManyOps
                | DuplicateKey
                | InvalidClientApiVersion
                | InvalidSortOption
                | Compacted
                | FutureRev
                | NoSpace
                | LeaseNotFound
                | LeaseExists
                | LeaseTtlTooLarge
                | RootUserNotExist
                | RootRoleNotExist
                | UserEmpty
                | UserAlreadyExist
                | UserNotFound
                | RoleEmpty
                | RoleAlreadyExist
                | RoleNotFound
                | RoleNotGranted
                | PermissionNotGiven
                | PermissionNotGranted
                | AuthNotEnabled
                | InvalidAuthMgmt
                | NoPasswordUser
                | RequestTooLarge
                | TooManyRequests
                | MemberNotFound
                | MemberExist
                | PeerUrlExist
                | MemberBadUrls
                | MemberNotEnoughStarted
                | MemberNotLearner
                | LearnerNotReady
                | TooManyLearners
                | Unhealthy
                | NotLeader
                | BadLeaderTransferee
                | TimeoutDueToConnectionLost
                | TimeoutWaitAppliedIndex
                | NoLeader
                | LeaderChanged
                | Stopped
                | Timeout
                | TimeoutDueToLeaderFail
                | Corrupt
                | NotSupportedForLearner => {}
                NotPrimary
                | NestedTooDeep
                | NeverProposed
                | TimeoutLeaderTransfer
                | StreamSortOrder
                | StreamRevisionFilter
                | EngineCannot(_)
                | Membership(_)
                | Recipe(_)
                | Internal(_) => {
                    unreachable!("has its own words")
                }
            }
        }
        all
    }

    #[test]
    fn code_and_text_are_those_of_etcd() {
        for error in with_etcd_text() {
            let (code, text) = error.code_and_text();
            let line = format!("{code:?}\t{text}");
            assert!(ETCD.lines().any(|l| l == line), "etcd has no {line:?}");
        }
    }
}
