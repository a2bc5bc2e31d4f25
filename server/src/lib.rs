//! A member of an etcd cluster as a library.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let server = retcd::Server::start(retcd::Config::new("/var/lib/etcd"))?;
//! let client = server.client();
//! client.put("greeting", "hello").await?;
//! server.stop();
//! # Ok(()) }
//! ```
//!
//! Nothing is global: logger, metrics, clock and limits belong to a [`Server`], and several of them
//! run in one process.

#[macro_use]
mod mutant;

mod alarm;
mod api;
mod apply;
mod auth;
pub mod backup;
mod beginning;
mod client;
mod compactor;
mod conf_state;
pub mod config;
mod data_dir;
mod discovery;
mod disk;
pub mod doctor;
mod duties;
mod error;
mod inherited;
mod json;
mod lease;
mod listeners;
pub mod log;
mod loggable;
mod member;
mod memory;
mod metrics;
mod near;
mod net;
mod observer;
mod peers;
mod propose;
mod publish;
mod quota;
mod range;
mod read;
mod recipe;
mod reconfigure;
mod recovery;
mod schema;
mod server;
#[doc(hidden)]
pub mod simulation;
mod slow;
mod transfer;
mod txn;
mod v2;
mod version_monitor;
mod wait;
mod watch;

pub use auth::Enabled as AuthEnabled;
pub use client::{Client, KeepAliveStream, ObserveStream, WatchStream};
pub use config::Config;
pub use data_dir::DataDirError;
pub use discovery::DiscoveryError;
pub use error::Error;
pub use inherited::Inherited;
pub use memory::LockError as MemoryLockError;
pub use peers::JoinError;
pub use schema::{DatabaseError, VersionError};
pub use server::{Server, StartError};
