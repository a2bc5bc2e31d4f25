//! The consensus driver of a member: raft core, write-ahead log, membership.
//!
//! [`open`] creates or recovers the log, [`Opened::run`] starts the node, [`Handle`] talks to it.
//! What is committed comes out as [`Apply`]; what else happens is told to an [`Observer`].
//! Normal entries are opaque here.

mod bootstrap;
pub mod core;
mod driver;
mod error;
pub mod ids;
pub mod membership;
pub mod queue;
pub mod transport;

pub use bootstrap::{Log, Opened, Start, open};
pub use core::{MemberProgress, Replication, Role};
pub use driver::{
    Apply, ConfChangeError, Config, DEFAULT_WAL_SEGMENT_SIZE, Handle, NoPeers, Node, Observer,
    Progress, ProposeError, Status, Stopped, Transport,
};
pub use error::Error;

/// The driver's parts without its threads: what a simulation drives by itself.
pub mod parts {
    pub use crate::driver::{Group, LogWriter, Machine, Ports, Report, Write, save_file};
}

/// Multiplies the rounds of the longer tests; `RETCD_TEST_SCALE`, 1 by default.
#[cfg(test)]
fn test_scale() -> u64 {
    std::env::var("RETCD_TEST_SCALE")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1)
}
