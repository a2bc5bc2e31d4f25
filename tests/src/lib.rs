//! What the end-to-end suites share: processes, ports, peers, wires.

pub mod binary;
pub mod cluster;
pub mod gate;
pub mod grpc;
pub mod http1;
pub mod linear;
pub mod link;
pub mod member;
pub mod net;
pub mod nodes;
pub mod peers;
pub mod pki;
pub mod ports;
pub mod process;
pub mod random;
pub mod recorded;
pub mod run;
pub mod secure;
pub mod state;
pub mod stream;
pub mod tree;
pub mod websocket;
