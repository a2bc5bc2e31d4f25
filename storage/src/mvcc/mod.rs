//! The multi-version key-value store.
//!
//! [`Store`] is the writer's side, owned by the apply thread; [`StoreReader`]s read published versions without
//! waiting for it. The *index* (key to revisions) is in memory, the values are in the backend under their
//! revision: what a revision holds never changes, so a version of the index is a version of the store.

mod changes;
mod chunks;
mod compaction;
mod error;
mod hash;
pub mod index;
mod key;
mod key_index;
mod kv;
mod read;
mod restore;
pub mod revision;
mod store;
mod values;
mod write;

#[cfg(test)]
mod tests;

pub use changes::{Change, ChangeKind, History, Stretch};
pub use compaction::Compaction;
pub use error::Error;
pub use hash::HashKv;
pub use index::{Found, Index};
pub use kv::Kv;
pub use read::{RangeQuery, RangeResult, ReadView, StoreReader};
pub use revision::Revision;
pub use store::{Store, StoreOptions};
pub use write::WriteTxn;
