//! What `/v2/stats` tells of the traffic between members, beside the metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Counted since the member started.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Messages with log entries for other members.
    pub(crate) appends_sent: Count,
    /// Messages with log entries from other members.
    pub(crate) appends_received: Count,
    /// By member. Held for some additions, once for each probe or failure.
    peers: Mutex<BTreeMap<u64, Peer>>,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Probes of one other member, in milliseconds, and messages that did not get there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Peer {
    pub(crate) probes: u64,
    pub(crate) failures: u64,
    pub(crate) current: f64,
    pub(crate) minimum: f64,
    pub(crate) maximum: f64,
    sum: f64,
    sum_of_squares: f64,
}

impl Peer {
    fn add(&mut self, took: Duration) {
        let millis = took.as_secs_f64() * 1e3;
        self.minimum = match self.probes {
            0 => millis,
            _ => self.minimum.min(millis),
        };
        self.maximum = self.maximum.max(millis);
        self.current = millis;
        self.sum += millis;
        self.sum_of_squares += millis * millis;
        self.probes += 1;
    }

    pub(crate) fn average(&self) -> f64 {
        match self.probes {
            0 => 0.0,
            probes => self.sum / probes as f64,
        }
    }

    pub(crate) fn standard_deviation(&self) -> f64 {
        match self.probes {
            0 => 0.0,
            probes => {
                let variance = self.sum_of_squares / probes as f64 - self.average().powi(2);
                // Rounding may take it below zero.
                variance.max(0.0).sqrt()
            }
        }
    }
}

impl Traffic {
    pub(super) fn probed(&self, to: u64, took: Duration) {
        self.peers.lock().entry(to).or_default().add(took);
    }

    pub(super) fn failed(&self, to: u64) {
        self.peers.lock().entry(to).or_default().failures += 1;
    }

    /// What is known of a member.
    pub(crate) fn peer(&self, id: u64) -> Peer {
        self.peers.lock().get(&id).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_summed_up() {
        let traffic = Traffic::default();
        assert_eq!(traffic.peer(1), Peer::default());
        assert_eq!(traffic.peer(1).standard_deviation(), 0.0);
        for millis in [2, 4, 4, 4, 5, 5, 7, 9] {
            traffic.probed(1, Duration::from_millis(millis));
        }
        traffic.failed(1);
        traffic.failed(2);
        let peer = traffic.peer(1);
        assert_eq!((peer.probes, peer.failures), (8, 1));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(peer.minimum, 2.0) && near(peer.maximum, 9.0) && near(peer.current, 9.0));
        assert!(near(peer.average(), 5.0) && near(peer.standard_deviation(), 2.0));
        assert_eq!(traffic.peer(2).probes, 0);
        assert_eq!(traffic.peer(2).failures, 1);
    }
}
