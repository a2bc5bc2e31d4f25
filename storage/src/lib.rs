//! Everything of a member that is on disk: files, write-ahead log, snapshots, backend, MVCC.
//!
//! Knows no raft role, no tokio and no gRPC.

pub mod backend;
pub mod cow_tree;
pub mod mvcc;

#[cfg(test)]
mod testing;
