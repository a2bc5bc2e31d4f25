//! The messages and services of the etcd v3 API, of its raft log and of its files.
//!
//! Modules are named after the protobuf packages; names and numbers are etcd 3.7's.
//! [`reply`] holds the shapes that a server sends without decoding what it stored, [`schema`] the messages as data.

#![allow(
    missing_docs,
    reason = "most items are generated; the .proto files say what they are"
)]

pub mod reply;
pub mod schema;

/// The file descriptor set of all `.proto` files, encoded.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! package {
    ($name:ident) => {
        #[allow(
            clippy::all,
            clippy::pedantic,
            unreachable_pub,
            rustdoc::all,
            reason = "generated"
        )]
        pub mod $name {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));
        }
    };
}

package!(authpb);
package!(etcdserverpb);
package!(leasepb);
package!(membershippb);
package!(mvccpb);
package!(raftpb);
package!(snappb);
package!(v3electionpb);
package!(v3lockpb);
package!(walpb);
