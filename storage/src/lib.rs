//! Everything of a member that is on disk: files, write-ahead log, snapshots, backend, MVCC.
//!
//! Knows no raft role, no tokio and no gRPC.

pub mod backend;
pub mod clock;
pub mod cow_tree;
pub mod failpoint;
pub mod fs;
pub mod mvcc;
pub mod snapshot;
pub mod wal;

#[cfg(test)]
mod testing;
