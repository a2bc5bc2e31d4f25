//! Faults, one after another, several at a time.

use crate::plan::{MS, SECOND};
use crate::world::{Event, World};

impl World {
    /// The next fault.
    pub(crate) fn fault(&mut self) {
        if self.healed {
            return;
        }
        let wait = self.around(self.plan.fault_every);
        self.after(wait, Event::Fault);
        let ids: Vec<u64> = self.ids().into_iter().filter(|id| !self.members[id].removed).collect();
        // Leaders have the most to lose.
        let target = match self.leader() {
            Some(leader) if self.random.chance(400) => leader,
            _ => *self.random.pick(&ids).unwrap_or(&1),
        };
        match self.random.below(100) {
            0..30 if self.plan.crashes => self.crash_for_a_while(target),
            30..35 if self.plan.crashes => {
                for id in ids {
                    self.crash_for_a_while(id);
                }
            }
            35..70 if self.plan.partitions => self.cut(target, &ids),
            70..85 if self.plan.pauses => {
                let until = self.now + self.random.between(100 * MS, 6 * SECOND);
                if let Some(member) = self.members.get_mut(&target) {
                    member.paused_until = until;
                }
            }
            85..100 => {
                let until = self.now + self.random.between(SECOND, 8 * SECOND);
                if let Some(member) = self.members.get_mut(&target) {
                    member.slow_until = until;
                }
            }
            _ => {}
        }
    }

    pub(crate) fn crash_for_a_while(&mut self, id: u64) {
        self.crash(id);
        let wait = self.random.between(50 * MS, 6 * SECOND);
        self.after(wait, Event::Start(id));
    }

    /// Cuts links around a member, or through the middle; either way, or only one.
    fn cut(&mut self, target: u64, ids: &[u64]) {
        let mut links = Vec::new();
        let others: Vec<u64> = ids.iter().copied().filter(|id| *id != target).collect();
        match self.random.below(5) {
            // One direction of one link.
            0 => links.extend(self.random.pick(&others).map(|other| (target, *other))),
            // It hears but cannot speak.
            1 => links.extend(others.iter().map(|other| (target, *other))),
            // It speaks but cannot hear.
            2 => links.extend(others.iter().map(|other| (*other, target))),
            // It is alone.
            3 => {
                for other in &others {
                    links.extend([(target, *other), (*other, target)]);
                }
            }
            // Two halves.
            _ => {
                let side: Vec<bool> = ids.iter().map(|_| self.random.chance(500)).collect();
                for (a, left) in ids.iter().zip(&side) {
                    for (b, right) in ids.iter().zip(&side) {
                        if left != right {
                            links.push((*a, *b));
                        }
                    }
                }
            }
        }
        for link in &links {
            *self.cuts.entry(*link).or_default() += 1;
        }
        let wait = self.random.between(200 * MS, 8 * SECOND);
        self.after(wait, Event::Uncut(links));
    }

    pub(crate) fn uncut(&mut self, links: &[(u64, u64)]) {
        for link in links {
            if let Some(times) = self.cuts.get_mut(link) {
                *times -= 1;
                if *times == 0 {
                    self.cuts.remove(link);
                }
            }
        }
    }
}
