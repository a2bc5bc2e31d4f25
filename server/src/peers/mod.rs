//! Other members: starting beside them, asking them, answering them.

mod answer;
mod door;
mod introduction;
mod join;
mod leases;
mod question;
mod remote;
mod secure;
mod strangers;
pub(crate) mod verdict;

pub use join::JoinError;

pub(crate) use answer::answer;
pub(crate) use door::Door;
pub(crate) use introduction::Introduction;
pub(crate) use join::{Seeker, shown_member};
pub(crate) use leases::LeaderPath;
pub(crate) use remote::{PromoteError, Remote, RemoteCluster};
pub(crate) use secure::Secure;
pub(crate) use strangers::Strangers;

/// The header that names the cluster on what members say to each other.
pub(crate) const CLUSTER_ID: &str = "x-etcd-cluster-id";
