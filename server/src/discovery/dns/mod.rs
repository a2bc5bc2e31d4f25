//! As much of a DNS resolver as SRV records need: the system's looks up no others than addresses.
//!
//! Asks the servers in `/etc/resolv.conf`, in their order, as Go's does; over UDP, and over TCP what does not fit.

mod message;
mod resolv_conf;
mod resolver;

pub(crate) use message::Srv;
pub(crate) use resolver::{Dns, LookupError};
