//! A load generator for etcd servers, and comparisons of two of them.
//!
//! The client shares the machine with the server it measures, so it has to be lean: one thread per connection,
//! HTTP/2 frames written by hand from prepared bytes, replies counted and not decoded ([`h2`]). Printed beside
//! throughput and latency is what the *server* spent: CPU time per operation and memory ([`process`]).

pub mod acks;
pub mod busy;
pub mod cluster;
pub mod compare;
mod frames;
pub mod h2;
pub mod keepalive;
pub mod load;
pub mod process;
pub mod proof;
pub mod report;
pub mod server;
mod status;
pub mod streams;
pub mod watch;
pub mod workload;

/// What ends a measurement early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line.
    #[error("{0}")]
    Usage(String),
    /// A file, a process or a socket.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the name of the file or address.
        what: String,
        /// From the system.
        source: std::io::Error,
    },
    /// A server that did something it must not.
    #[error("{0}")]
    Server(String),
}

impl Error {
    /// For `map_err`: names what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
