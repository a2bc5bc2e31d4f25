//! The API of etcd 2 (`--enable-v2`): the same calls on ours and on Go etcd 3.5, the last that has it; Debian's etcdctl
//! in version 2 mode on both; clusters of ours.

mod cluster;
mod etcdctl;
mod http;
mod off;
mod script;
