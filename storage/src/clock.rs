//! Time as a handed-in door, so that a simulation can own it.

use std::fmt::Debug;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// Where a part of the member reads the time.
pub trait Clock: Send + Sync + Debug {
    /// Monotonic time since an arbitrary start.
    fn now(&self) -> Duration;

    /// Wall-clock time since 1970-01-01 UTC; may jump.
    fn unix(&self) -> Duration;
}

/// The machine's clocks. The monotonic one starts at its first use in the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[expect(
    clippy::disallowed_methods,
    reason = "the one door to the machine's clocks"
)]
impl Clock for SystemClock {
    fn now(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        let start = *START.get_or_init(Instant::now);
        Instant::now().saturating_duration_since(start)
    }

    fn unix(&self) -> Duration {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }
}

/// A clock that moves only when told to.
#[derive(Debug, Default)]
pub struct ManualClock {
    /// (monotonic, unix); one lock, so that both move together.
    time: Mutex<(Duration, Duration)>,
}

impl ManualClock {
    /// A clock at monotonic zero and the given wall-clock time.
    pub fn new(unix: Duration) -> Self {
        Self {
            time: Mutex::new((Duration::ZERO, unix)),
        }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let mut time = self.time.lock();
        time.0 += by;
        time.1 += by;
    }

    /// Sets the wall clock alone, as an operator or NTP would.
    pub fn set_unix(&self, unix: Duration) {
        self.time.lock().1 = unix;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.time.lock().0
    }

    fn unix(&self) -> Duration {
        self.time.lock().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_does_not_go_back() {
        let first = SystemClock.now();
        assert!(SystemClock.now() >= first);
        assert!(SystemClock.unix() > Duration::from_secs(1_600_000_000));
    }

    #[test]
    fn manual_clock_moves_when_told() {
        let clock = ManualClock::new(Duration::from_secs(100));
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.now(), Duration::from_secs(5));
        assert_eq!(clock.unix(), Duration::from_secs(105));
        clock.set_unix(Duration::from_secs(7));
        assert_eq!(clock.now(), Duration::from_secs(5));
        assert_eq!(clock.unix(), Duration::from_secs(7));
    }
}
