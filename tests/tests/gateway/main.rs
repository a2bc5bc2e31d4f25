//! The JSON gateway and plain HTTP on client URLs: the same requests to our server and to genuine etcd 3.7.1; status,
//! headers and JSON must be the same.
//!
//! One server of each for all requests, and one more of each for flags. Where etcd is not there, what it said when it
//! was (`testdata/gateway/`) takes its place; `RETCD_REWRITE=1` records it anew.

mod beyond;
mod calls;
mod curl;
mod flags;
mod page;
mod plan;
mod shown;
mod split;
mod streams;

use plan::Plan;

#[test]
fn every_route() {
    let mut plan = Plan::new("calls", &[]);
    calls::add(&mut plan);
    streams::add(&mut plan);
    let count = plan.count();
    assert!(count >= 300, "{count} requests");
    plan.compare();
}

#[test]
fn origins_and_hosts() {
    flags::lists().compare();
}

#[test]
fn without_a_gateway() {
    flags::off().compare();
}
