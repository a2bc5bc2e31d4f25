//! Everything of a member that is on disk: files, write-ahead log, snapshots, backend, MVCC.
//!
//! Knows no raft role, no tokio and no gRPC.

pub mod clock;
pub mod fs;
pub mod snapshot;
pub mod wal;
