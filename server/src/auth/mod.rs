//! Users, roles and permissions as the log says they are: the replicated state.
//!
//! Nothing is enforced yet, so a member does not run where authentication is enabled: see [`Enabled`].
//!
//! Source: api-semantics 10.1; etcd `server/auth/store.go`.

mod roles;
mod store;
mod users;

use retcd_storage::mvcc;

use crate::error::Error;

pub(crate) use store::Auth;

/// The user that may do everything, and its role.
const ROOT: &str = "root";

/// Why a member does not start, or go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "authentication is enabled in this cluster, and this release does not enforce it yet: everybody could read and write everything. Start the member with etcd again; to use this release, disable authentication there first (etcdctl auth disable)"
)]
pub struct Enabled;

/// Why a request had no effect.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The same on every member.
    Refused(Error),
    /// The database is damaged or cannot be read; this member must stop.
    Store(mvcc::Error),
    /// Other members did what this one cannot repeat; it must stop.
    Unsupported(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<mvcc::Error> for Failure {
    fn from(error: mvcc::Error) -> Self {
        Self::Store(error)
    }
}

#[cfg(test)]
mod tests;
