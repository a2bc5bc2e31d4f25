//! How a member that starts for the first time finds the others when the flags do not name them: in the DNS, or in a
//! registry that another etcd keeps.
//!
//! Source: config-and-ops 14; etcd `client/pkg/srv`, `server/etcdserver/api/v3discovery`.

mod dns;
mod service;
mod srv;

pub use service::DiscoveryError;

pub(crate) use dns::Dns;
pub(crate) use service::join;
pub(crate) use srv::cluster;
