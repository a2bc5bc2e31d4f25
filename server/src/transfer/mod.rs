//! Databases on their way between members: one that a follower lacks entries for is sent a copy, and one that the
//! leader sends is stored until raft installs it (`apply/install.rs`).
//!
//! Source: peer-protocol 6, raft-log 9; etcd `server/etcdserver/snapshot_merge.go`, `server/etcdserver/api/snap/db.go`.

mod incoming;
mod outgoing;

pub(crate) use incoming::Incoming;
pub(crate) use outgoing::Outgoing;
