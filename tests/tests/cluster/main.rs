//! Three of our members, driven by the genuine etcdctl: replication, faults, membership, refusals.

mod auto_compaction;
mod discovery;
mod endpoints;
mod forced;
mod life;
mod logs;
mod membership;
mod name_server;
mod ready;
mod refused;
mod srv;
mod two;

use std::path::PathBuf;

use retcd_tests::cluster::Cluster;
use retcd_tests::{binary, peers};

/// Three members; `None` where there is no etcdctl.
fn three(flags: &[&str]) -> Option<Cluster> {
    let (ctl, ours) = programs()?;
    Some(Cluster::start(&ctl, &[&ours, &ours, &ours], flags))
}

fn programs() -> Option<(PathBuf, PathBuf)> {
    Some((peers::go_etcdctl()?, binary::ours()))
}
