//! Machines made of namespaces: each with an address of its own on a common switch and, if wanted, files of its own.
//!
//! Nothing of it has a name in the system. A process holds the namespaces of each machine; once it ends, links,
//! rules and mounts are gone with it, also if the test is killed.

mod host;
mod network;

pub use host::{Files, Host, Link};
pub use network::Network;
