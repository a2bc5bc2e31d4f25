//! What a seed decides beforehand.

use crate::random::Random;

/// Microseconds in a millisecond.
pub(crate) const MS: u64 = 1000;
/// Microseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000;

/// A run's world: its size, its weather.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// Members at the beginning.
    pub members: usize,
    /// Faults end, in microseconds.
    pub heal_at: u64,
    /// All must be well, in microseconds.
    pub end: u64,
    /// Ticks of an election timeout.
    pub election_ticks: usize,
    /// Microseconds that a message takes.
    pub delay: (u64, u64),
    /// Of 1000 messages.
    pub loss: u64,
    /// Of 1000 messages.
    pub duplicates: u64,
    /// Microseconds that a sync takes.
    pub disk: (u64, u64),
    /// Entries between two snapshots.
    pub snapshot_count: u64,
    /// Entries kept behind the applied one.
    pub catch_up: u64,
    /// Bytes of committed entries that may wait for a member's application, and have no room in its batches.
    pub backlog: usize,
    /// Batches of work between a member's machine and its application.
    pub room: usize,
    /// Microseconds that a batch takes to be applied.
    pub apply: (u64, u64),
    /// Bytes of a WAL segment.
    pub segment: u64,
    /// Microseconds between two commits of the database.
    pub commit_every: u64,
    /// Percent by which clocks may differ.
    pub drift: u64,
    /// Clients.
    pub clients: usize,
    /// Microseconds between two calls of a client, about.
    pub pause: u64,
    /// Microseconds between two faults, about; 0: none.
    pub fault_every: u64,
    /// Microseconds between two membership changes, about; 0: none.
    pub change_every: u64,
    /// Whether crashes happen.
    pub crashes: bool,
    /// Whether links are cut.
    pub partitions: bool,
    /// Whether members stand still for a while.
    pub pauses: bool,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Plan {
        let mut r = Random::new(seed);
        // Numbers of its own: what a seed is known for stays.
        let mut own = Random::new(!seed);
        let slow_apply = own.chance(300);
        let calm = r.chance(100);
        let slow_network = r.chance(200);
        Plan {
            seed,
            members: *r.pick(&[1, 3, 3, 3, 3, 3, 5]).unwrap_or(&3),
            heal_at: 50 * SECOND,
            end: 60 * SECOND,
            election_ticks: 10,
            delay: if slow_network { (5 * MS, 120 * MS) } else { (200, r.between(1, 20) * MS) },
            loss: if calm { 0 } else { r.between(0, 150) },
            duplicates: if calm { 0 } else { r.between(0, 100) },
            disk: (300, r.between(1, 15) * MS),
            snapshot_count: r.between(8, 120),
            catch_up: r.between(2, 60),
            backlog: if slow_apply { own.between(0, 600) as usize } else { 512 << 20 },
            room: if slow_apply { 1 } else { 4 },
            apply: (20, if slow_apply { own.between(50, 800) * MS } else { 2 * MS }),
            segment: r.between(8, 40) << 10,
            commit_every: r.between(150, 2000) * MS,
            drift: r.between(0, 30),
            clients: r.between(2, 5) as usize,
            pause: r.between(60, 400) * MS,
            fault_every: if calm { 0 } else { r.between(700, 5000) * MS },
            change_every: if r.chance(650) { r.between(1000, 6000) * MS } else { 0 },
            crashes: r.chance(850),
            partitions: r.chance(850),
            pauses: r.chance(500),
        }
    }
}
