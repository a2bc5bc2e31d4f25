//! The multi-version key-value store.

pub mod index;
mod key;
mod key_index;
pub mod revision;

pub use index::{Found, Index};
pub use revision::Revision;
