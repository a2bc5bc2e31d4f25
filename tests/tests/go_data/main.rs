//! Data directories change hands: what Go etcd 3.5, 3.6 and 3.7 left, stopped or killed, is taken over in place, and
//! what ours left, Go etcd 3.7 takes over.

mod client;
mod downgrade;
mod file;
mod load;
mod recorded;
mod refuse;
mod repair;
mod replay;
mod shown;
mod takeover;

use std::path::PathBuf;

use retcd_tests::peers;

/// The releases whose data is taken over.
const RELEASES: [&str; 3] = ["3.5", "3.6", "3.7"];

/// A genuine server; `None`, with a word on it, when it is not there.
fn go(release: &str) -> Option<PathBuf> {
    if release == "3.7" { peers::go_etcd() } else { peers::go_etcd_of(release) }
}
