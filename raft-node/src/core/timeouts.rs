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
    /// They are no random ones.
    turns: bool,
}

impl Timeouts {
    pub(super) fn new(seed: u64, election_ticks: usize) -> Timeouts {
        Timeouts {
            state: seed,
            election_ticks,
            for_view: None,
            ticks: election_ticks,
            turns: false,
        }
    }

    pub(super) fn current(&mut self, view: (u64, Role, u64)) -> usize {
        if self.for_view != Some(view) {
            self.for_view = Some(view);
            self.turns = false;
            self.ticks = self.election_ticks + (self.next() % self.election_ticks as u64) as usize;
        }
        self.ticks
    }

    /// For the present view members lose patience one after the other, by their ranks, and soon: for
    /// when they know that there is no leader, so that chance need not keep them apart for long. Two
    /// ticks lie between two ranks, since the members' ticks are not in step.
    pub(super) fn take_turns(&mut self, rank: usize) {
        self.ticks = self.election_ticks + 2 * rank % self.election_ticks;
        self.turns = true;
    }

    /// There is a leader after all.
    pub(super) fn relax(&mut self) {
        if std::mem::take(&mut self.turns) {
            self.for_view = None;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const TICKS: usize = 10;

    #[test]
    fn members_that_know_of_no_leader_take_turns() {
        let mut members: Vec<Timeouts> = (0..5).map(|seed| Timeouts::new(seed, TICKS)).collect();
        let view = (7, Role::Follower, 1);
        for (rank, timeouts) in members.iter_mut().enumerate() {
            timeouts.current(view);
            timeouts.take_turns(rank);
        }
        let all: Vec<usize> = members.iter_mut().map(|t| t.current(view)).collect();
        assert_eq!(all, [10, 12, 14, 16, 18]);
        // Nobody is quicker than a leader's lease, however many there are.
        members[0].take_turns(7);
        assert!((TICKS..2 * TICKS).contains(&members[0].current(view)));
    }

    #[test]
    fn a_leader_that_is_heard_again_ends_the_turns() {
        let draws = |turns: bool| -> Vec<usize> {
            (0..32)
                .map(|seed| {
                    let mut timeouts = Timeouts::new(seed, TICKS);
                    let view = (7, Role::Follower, 1);
                    timeouts.current(view);
                    if turns {
                        timeouts.take_turns(0);
                        timeouts.relax();
                    }
                    timeouts.relax();
                    timeouts.current(view)
                })
                .collect()
        };
        let relaxed = draws(true);
        assert!(relaxed.iter().any(|ticks| *ticks != relaxed[0]));
        // Without turns hearing the leader changes nothing.
        let mut timeouts = Timeouts::new(3, TICKS);
        let first = timeouts.current((7, Role::Follower, 1));
        assert_eq!(first, draws(false)[3]);
    }
}
