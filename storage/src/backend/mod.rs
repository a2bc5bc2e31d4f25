//! The backend: ten buckets of ordered keys, one batch writer, consistent read views.
//!
//! [`Backend`] is an engine. [`Writer`] gathers the effects of applied entries and commits them in batches;
//! [`Reader`] sees everything the writer published, durable or not. Nothing else writes to an engine, so the
//! consistent index can never be stored apart from the effects it stands for (lessons D1 and D3 of etcd's history).

mod bolt;
mod codec;
mod error;
mod flusher;
#[cfg(feature = "sled")]
mod journal;
mod layers;
mod mem;
mod overlay;
mod reader;
mod shared;
#[cfg(feature = "sled")]
mod sled;
mod writer;

#[cfg(test)]
mod conformance;
#[cfg(all(test, feature = "sled"))]
mod faulty_fs;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use bytes::Bytes;

#[cfg(feature = "sled")]
pub use self::sled::SledBackend;
#[doc(hidden)]
pub use bolt::fuzz_page;
pub use bolt::{BoltBackend, BoltFile, BoltOptions};
pub use error::Error;
pub use mem::MemBackend;
pub use reader::Reader;
pub use shared::{Committed, Observer, OnDurable, WriterOptions};
pub use writer::Writer;

/// Key in [`Bucket::Meta`] of the last applied raft index, 8 bytes big endian.
/// Source: etcd `server/storage/schema/cindex.go`.
pub const CONSISTENT_INDEX: &[u8] = b"consistent_index";

/// The buckets of a member's database. Source: etcd `server/storage/schema/bucket.go`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// `alarm`: raised alarms.
    Alarm,
    /// `auth`: whether authentication is on, and its revision.
    Auth,
    /// `authRoles`: role name to role.
    AuthRoles,
    /// `authUsers`: user name to user.
    AuthUsers,
    /// `cluster`: cluster version and downgrade state.
    Cluster,
    /// `key`: revision to key-value.
    Key,
    /// `lease`: lease id to lease.
    Lease,
    /// `members`: member id to member.
    Members,
    /// `members_removed`: ids that may never come back.
    MembersRemoved,
    /// `meta`: consistent index, term, conf state, compaction marks, storage version.
    Meta,
}

impl Bucket {
    /// All buckets, in the order of their names.
    pub const ALL: [Bucket; 10] = [
        Bucket::Alarm,
        Bucket::Auth,
        Bucket::AuthRoles,
        Bucket::AuthUsers,
        Bucket::Cluster,
        Bucket::Key,
        Bucket::Lease,
        Bucket::Members,
        Bucket::MembersRemoved,
        Bucket::Meta,
    ];

    /// The name in a database file.
    pub fn name(self) -> &'static str {
        match self {
            Bucket::Alarm => "alarm",
            Bucket::Auth => "auth",
            Bucket::AuthRoles => "authRoles",
            Bucket::AuthUsers => "authUsers",
            Bucket::Cluster => "cluster",
            Bucket::Key => "key",
            Bucket::Lease => "lease",
            Bucket::Members => "members",
            Bucket::MembersRemoved => "members_removed",
            Bucket::Meta => "meta",
        }
    }

    /// Position in [`Bucket::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets `key` to `value`.
    Put {
        /// Where.
        bucket: Bucket,
        /// Not empty.
        key: Bytes,
        /// May be empty.
        value: Bytes,
    },
    /// Removes `key`; no error if it is not there.
    Delete {
        /// Where.
        bucket: Bucket,
        /// Not empty.
        key: Bytes,
    },
}

impl Op {
    /// Where.
    pub fn bucket(&self) -> Bucket {
        match self {
            Op::Put { bucket, .. } | Op::Delete { bucket, .. } => *bucket,
        }
    }

    /// Which key.
    pub fn key(&self) -> &Bytes {
        match self {
            Op::Put { key, .. } | Op::Delete { key, .. } => key,
        }
    }
}

/// Ordered changes that are committed as one; of two changes to a key the later one wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    ops: Vec<Op>,
}

impl Batch {
    /// An empty batch with room for `n` changes.
    pub fn with_capacity(n: usize) -> Self {
        Batch {
            ops: Vec::with_capacity(n),
        }
    }

    /// Appends a change.
    pub fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// Appends a put.
    pub fn put(&mut self, bucket: Bucket, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.push(Op::Put {
            bucket,
            key: key.into(),
            value: value.into(),
        });
    }

    /// Appends a delete.
    pub fn delete(&mut self, bucket: Bucket, key: impl Into<Bytes>) {
        self.push(Op::Delete {
            bucket,
            key: key.into(),
        });
    }

    /// The changes, oldest first.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

/// An engine that stores the buckets. Shaped for a file in bolt's format.
pub trait Backend: Send + Sync {
    /// Applies `batch` whole or not at all; durable when it returns.
    ///
    /// # Errors
    /// Final: what reached the disk is unknown, every later commit fails too.
    fn commit(&self, batch: &Batch) -> Result<(), Error>;

    /// The committed state at this moment; later commits neither change it nor wait for it.
    fn view(&self) -> Result<Arc<dyn View>, Error>;

    /// The newest committed value.
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// Bytes the database takes on disk.
    fn size(&self) -> u64;

    /// Bytes of [`Backend::size`] that hold live data; the rest is what defragmentation can win.
    fn size_in_use(&self) -> u64;

    /// Rewrites the database without its holes.
    fn defragment(&self) -> Result<(), Error>;

    /// A consistent copy in the format of etcd's `db` file.
    ///
    /// # Errors
    /// [`Error::CopyUnsupported`] where the engine has another format.
    fn copy(&self) -> Result<DatabaseCopy, Error> {
        Ok(self.view_and_copy()?.1)
    }

    /// The committed state at this moment, and a copy of the very same one.
    ///
    /// # Errors
    /// As [`Backend::copy`].
    fn view_and_copy(&self) -> Result<(Arc<dyn View>, DatabaseCopy), Error> {
        Err(Error::CopyUnsupported {
            engine: self.name(),
        })
    }

    /// Gives a bounded amount of space back without being asked; true if there may be more to do. Commits wait
    /// meanwhile, for milliseconds.
    fn tidy(&self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Name for logs and messages.
    fn name(&self) -> &'static str;
}

/// A consistent copy of a database, as bytes that are read while commits go on.
pub struct DatabaseCopy {
    /// Exactly how many bytes there are.
    pub len: u64,
    /// The bytes. Reading fails where the database is damaged.
    pub bytes: Box<dyn io::Read + Send>,
}

/// A state that does not change.
pub trait View: Send + Sync {
    /// The value of `key`.
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// Keys and values of `[from, to)` in ascending order, to the end of the bucket without `to`,
    /// at most `limit` of them (0: all).
    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error>;
}
