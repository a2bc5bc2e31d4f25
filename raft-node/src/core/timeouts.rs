//! When a member loses patience with its leader, repeatable from a seed.

use super::Role;

/// Election timeouts in `election_ticks .. 2 * election_ticks`, a new one whenever the member's
/// view of term, role or leader changes.
#[derive(Debug)]
pub(super) struct Timeouts {
    state: u64,
    election_ticks: usize,
    for_view: Option<(u64, Role, u64)>,
    ticks: usize,
}

impl Timeouts {
    pub(super) fn new(seed: u64, election_ticks: usize) -> Timeouts {
        Timeouts {
            state: seed,
            election_ticks,
            for_view: None,
            ticks: election_ticks,
        }
    }

    pub(super) fn current(&mut self, view: (u64, Role, u64)) -> usize {
        if self.for_view != Some(view) {
            self.for_view = Some(view);
            self.ticks = self.election_ticks + (self.next() % self.election_ticks as u64) as usize;
        }
        self.ticks
    }

    /// splitmix64.
    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
