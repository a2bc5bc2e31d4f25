//! Three or five members on machines of their own, over HTTP or mutual TLS, under load, through rounds of faults:
//! `kill -9` of one, some or all, pauses, partitions in both directions and in one. The history of all clients is
//! linearizable, nothing acknowledged is lost, and writes go on soon after a quorum is there.
//!
//! `RETCD_FAULT_ROUNDS` sets the number of rounds (6 by default, shared out to the tests), `RETCD_FAULT_SEED` the
//! chance, `RETCD_FAULT_KINDS` the members (`OOO`, `GGG`, `OGOGO`...) instead of those that the test has.

mod clients;
mod history;
mod round;

use std::env;

use retcd_tests::net::Network;
use retcd_tests::nodes::Kind;
use retcd_tests::random::Random;

/// What members and clients speak.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire {
    Plain,
    /// Everybody shows a certificate, to clients and to peers.
    MutualTls,
}

fn play(letters: &str, wire: Wire, share: u64) {
    let Some(network) = Network::make(&["iptables"]) else { return };
    let letters = env::var("RETCD_FAULT_KINDS").unwrap_or_else(|_| letters.to_owned());
    let seed = Random::seed("RETCD_FAULT_SEED", 1);
    let rounds = env::var("RETCD_FAULT_ROUNDS").ok().and_then(|s| s.parse().ok()).unwrap_or(6);
    let rounds = (rounds / share).max(1);
    println!("RETCD_FAULT_KINDS={letters} RETCD_FAULT_SEED={seed} RETCD_FAULT_ROUNDS={rounds}, {wire:?}");
    round::play(&network, &Kind::parse(&letters), wire, seed, rounds);
}

#[test]
fn ours() {
    play("OOO", Wire::Plain, 3);
}

#[test]
fn ours_over_tls() {
    play("OOO", Wire::MutualTls, 3);
}

#[test]
fn five_over_tls() {
    play("OOOOO", Wire::MutualTls, 3);
}

#[test]
fn mixed() {
    play("OGO", Wire::Plain, 3);
}

/// Go members and ours trust each other's certificates.
#[test]
fn mixed_over_tls() {
    play("OGO", Wire::MutualTls, 6);
}

/// The measure: what is asked of ours is true of genuine members.
#[test]
fn genuine() {
    play("GGG", Wire::Plain, 3);
}
