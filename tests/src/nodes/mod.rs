//! Clusters of servers, genuine ones and ours in any mix, whose members are killed, paused, replaced, added and removed.

mod caller;
mod cluster;
mod log;
mod node;
mod secrets;

pub use caller::{Caller, Failure};
pub use cluster::Cluster;
pub use log::{Line, lines};
pub use node::{Kind, Node, Place};
pub use secrets::Secrets;
