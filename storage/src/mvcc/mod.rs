//! The multi-version key-value store.

pub mod revision;

pub use revision::Revision;
