//! The consensus driver of a member: raft core, write-ahead log, membership.

pub mod core;
pub mod ids;
