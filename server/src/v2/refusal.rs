//! What a request is refused with: numbers, words and statuses are those of etcd 2.
//!
//! Source: etcd 3.5 `server/etcdserver/api/v2error/error.go`.

use http::StatusCode;
use retcd_storage::mvcc;
use serde::Serialize;

use crate::error::Error;

/// The kinds of refusals that are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    KeyNotFound = 100,
    TestFailed = 101,
    NotFile = 102,
    NotDir = 104,
    NodeExist = 105,
    RootReadOnly = 107,
    DirNotEmpty = 108,
    PrevValueRequired = 201,
    TtlNaN = 202,
    IndexNaN = 203,
    InvalidField = 209,
    InvalidForm = 210,
    RefreshValue = 211,
    RefreshTtlRequired = 212,
    RaftInternal = 300,
    EventIndexCleared = 401,
}

impl Code {
    fn message(self) -> &'static str {
        match self {
            Self::KeyNotFound => "Key not found",
            Self::TestFailed => "Compare failed",
            Self::NotFile => "Not a file",
            Self::NotDir => "Not a directory",
            Self::NodeExist => "Key already exists",
            Self::RootReadOnly => "Root is read only",
            Self::DirNotEmpty => "Directory not empty",
            Self::PrevValueRequired => "PrevValue is Required in POST form",
            Self::TtlNaN => "The given TTL in POST form is not a number",
            Self::IndexNaN => "The given index in POST form is not a number",
            Self::InvalidField => "Invalid field",
            Self::InvalidForm => "Invalid POST form",
            Self::RefreshValue => "Value provided on refresh",
            Self::RefreshTtlRequired => "A TTL must be provided on refresh",
            Self::RaftInternal => "Raft Internal Error",
            Self::EventIndexCleared => "The event in requested index is outdated and cleared",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::KeyNotFound => StatusCode::NOT_FOUND,
            Self::NotFile | Self::DirNotEmpty => StatusCode::FORBIDDEN,
            Self::TestFailed | Self::NodeExist => StatusCode::PRECONDITION_FAILED,
            Self::RaftInternal => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// A request that is not done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: Code,
    /// What exactly: a path, or the values that differ.
    pub(super) cause: String,
    /// The store's revision; 0 where it was not looked at.
    pub(super) index: i64,
}

impl Refusal {
    pub(super) fn new(code: Code, cause: impl Into<String>, index: i64) -> Self {
        let cause = cause.into();
        Self { code, cause, index }
    }

    /// Of a request that makes no sense, whatever the store holds.
    pub(super) fn of_request(code: Code, cause: impl Into<String>) -> Self {
        Self::new(code, cause, 0)
    }

    pub(super) fn status(&self) -> StatusCode {
        self.code.status()
    }

    pub(super) fn body(&self) -> impl Serialize {
        Body {
            error_code: self.code as u16,
            message: self.code.message(),
            cause: self.cause.clone(),
            index: self.index,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    error_code: u16,
    message: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    cause: String,
    index: i64,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::of_request(Code::RaftInternal, error.to_string())
    }
}

/// Why something that looks at a view of the store comes to no result.
#[derive(Debug)]
pub(super) enum Failure {
    Refused(Refusal),
    /// A compaction went over the view; a newer one will do.
    Stale,
    /// The store cannot be read, or a node in it.
    Broken(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<mvcc::Error> for Failure {
    fn from(error: mvcc::Error) -> Self {
        match error {
            mvcc::Error::Stale => Self::Stale,
            other => Self::Broken(other.to_string()),
        }
    }
}
