//! Whether a leader keeps its time.

use std::collections::BTreeMap;
use std::time::Duration;

/// When a heartbeat last went to each member.
#[derive(Debug)]
pub(super) struct Heartbeats {
    last: BTreeMap<u64, Duration>,
    /// Between two of them; etcd's value is twice the interval.
    expected: Duration,
}

impl Heartbeats {
    pub(super) fn new(interval: Duration) -> Heartbeats {
        Heartbeats {
            last: BTreeMap::new(),
            expected: 2 * interval,
        }
    }

    /// Leader, term or own part changed: what was before says nothing about this leader.
    pub(super) fn reset(&mut self) {
        self.last.clear();
    }

    /// One goes out; returns by how much it is late, if it is.
    pub(super) fn sent(&mut self, to: u64, now: Duration) -> Option<Duration> {
        let before = self.last.insert(to, now)?;
        let late = now.saturating_sub(before).saturating_sub(self.expected);
        (!late.is_zero()).then_some(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_is_what_comes_after_more_than_two_intervals() {
        let ms = Duration::from_millis;
        let mut heartbeats = Heartbeats::new(ms(100));
        assert_eq!(heartbeats.sent(1, ms(0)), None);
        assert_eq!(heartbeats.sent(1, ms(200)), None);
        // To another member, the first one.
        assert_eq!(heartbeats.sent(2, ms(5_000)), None);
        assert_eq!(heartbeats.sent(1, ms(401)), Some(ms(1)));
        assert_eq!(heartbeats.sent(1, ms(1_000)), Some(ms(399)));
        heartbeats.reset();
        assert_eq!(heartbeats.sent(1, ms(9_000)), None);
        assert_eq!(heartbeats.sent(1, ms(9_100)), None);
    }
}
