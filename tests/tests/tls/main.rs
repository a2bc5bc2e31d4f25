//! TLS at the ports of a member: ours, and what genuine etcd decides beside it.

mod etcdctl;
mod half_open;
mod matrix;
mod peers;
mod rig;
mod rotation;
mod wrong_port;
