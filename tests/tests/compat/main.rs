//! The same calls on our server and on genuine etcd 3.7.1: reply, code and text must be the same.
//!
//! A script is a list of calls on a fresh store (see `script.rs`); one test runs one script.

mod beyond;
mod hash;
mod http;
mod later;
mod lease;
mod maintenance;
mod operating;
mod range;
mod recipes;
mod requests;
mod rpc;
mod script;
mod txn;
mod watch;
mod wire;
mod write;

use script::{Kind, Script};

macro_rules! scripts {
    ($($name:ident => $script:expr,)*) => {
        $(#[test] fn $name() { $script.compare(); })*

        fn all() -> Vec<Script> {
            vec![$($script),*]
        }
    };
}

scripts! {
    range => range::options(),
    range_bad => range::bad(),
    range_stream => range::stream(),
    put_and_delete => write::put_and_delete(),
    compaction => write::compaction(),
    compaction_of_nothing => write::compaction_of_nothing(),
    txn_conditions => txn::conditions(),
    txn_operations => txn::operations(),
    txn_limits => txn::limits(),
    narrow_limits => txn::narrow(),
    hash_at_every_revision => hash::history(),
    maintenance => maintenance::calls(),
    quota => maintenance::quota(),
    corrupt => maintenance::corrupt(),
    garbage => wire::garbage(),
    frames => wire::frames(),
    metadata => wire::metadata(),
    sizes => wire::sizes(),
    leases => lease::leases(),
    bad_leases => lease::bad(),
    keys_of_leases => lease::keys(),
    renewals => lease::renewals(),
    locks => recipes::locks(),
    elections => recipes::elections(),
    http_paths => http::paths(),
}

#[test]
fn there_are_enough_cases() {
    let count = |kind| all().iter().map(|s| s.count(kind)).sum::<usize>();
    let (good, bad) = (count(Kind::Good), count(Kind::Bad));
    println!("{good} sound cases, {bad} of bad input");
    assert!(good + bad >= 150 && bad >= 60, "{good} sound cases, {bad} of bad input");
}
