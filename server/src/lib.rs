//! A member of an etcd cluster as a library.

pub mod config;
pub mod log;
pub mod metrics;
