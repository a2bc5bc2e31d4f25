//! Is a history of calls on a key linearizable: is there one order of all calls, each at some moment between its begin and
//! its end, in which every answer is right?
//!
//! The search is that of Wing and Gong with the memory of Lowe: take some call that began before any open one ended, go on
//! with the rest, go back if an answer is wrong, and never look twice at the same set of calls in the same state.

use std::collections::HashSet;
use std::fmt::Write as _;

/// What a key holds; every write of a history writes another value, so that a number stands for it.
pub type Value = Option<u64>;

/// A call on one key, with what it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Writes a value, or deletes the key.
    Write(Value),
    /// Reads, and finds this.
    Read(Value),
    /// Writes if the key holds something, which it did.
    Swap {
        /// What it held.
        from: Value,
        /// What it holds after.
        to: Value,
    },
    /// A swap that found something else.
    NoSwap {
        /// What was expected.
        expected: Value,
        /// What was found.
        found: Value,
    },
    /// A swap without an answer, which may have found anything.
    OpenSwap {
        /// What was expected.
        from: Value,
        /// What it holds after, if it did.
        to: Value,
    },
}

/// When a call was made, and when its answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Begin, on a clock that all callers share.
    pub begin: u64,
    /// End; none if no answer came: it may have had its effect at any later time, or never.
    pub end: Option<u64>,
    /// What it was.
    pub call: Call,
    /// Who made it, for messages.
    pub client: usize,
}

/// Checks the calls on one key.
///
/// # Errors
/// If there is no such order: the calls around the one that fits nowhere.
pub fn check(initial: Value, events: &[Event]) -> Result<(), String> {
    // What has no answer has told nothing: only if it changes something it matters whether it happened.
    let mut calls: Vec<_> =
        events.iter().filter(|e| e.end.is_some() || !matches!(e.call, Call::Read(_))).copied().collect();
    calls.sort_by_key(|e| e.begin);
    let answered = calls.iter().filter(|e| e.end.is_some()).count();
    let mut search =
        Search { calls: &calls, done: vec![false; calls.len()], seen: HashSet::new(), state: initial, best: 0 };
    if search.run(answered) { Ok(()) } else { Err(search.explain()) }
}

struct Search<'a> {
    calls: &'a [Event],
    done: Vec<bool>,
    /// Sets of calls that are done, with the state after them, from which there was no way on.
    seen: HashSet<(Vec<u64>, Value)>,
    state: Value,
    /// The most calls that could be put in order.
    best: usize,
}

/// A call that was put in its place, and what there was before.
struct Step {
    call: usize,
    before: Value,
    /// Where to look for the next candidate if this way is a dead end.
    next: usize,
}

impl Search<'_> {
    fn run(&mut self, answered: usize) -> bool {
        let mut path: Vec<Step> = Vec::new();
        let (mut from, mut done_answered) = (0, 0);
        loop {
            if done_answered == answered {
                return true;
            }
            let horizon = self.horizon();
            let candidate = (from..self.calls.len())
                .take_while(|&n| self.calls[n].begin <= horizon)
                .find(|&n| !self.done[n] && after(self.calls[n].call, self.state).is_some());
            match candidate {
                Some(n) => {
                    let before = self.state;
                    self.done[n] = true;
                    self.state = after(self.calls[n].call, before).expect("looked at above");
                    if self.seen.insert((self.set(), self.state)) {
                        path.push(Step { call: n, before, next: n + 1 });
                        done_answered += usize::from(self.calls[n].end.is_some());
                        self.best = self.best.max(path.len());
                        from = 0;
                    } else {
                        self.done[n] = false;
                        self.state = before;
                        from = n + 1;
                    }
                }
                None => {
                    let Some(step) = path.pop() else { return false };
                    self.done[step.call] = false;
                    self.state = step.before;
                    done_answered -= usize::from(self.calls[step.call].end.is_some());
                    from = step.next;
                }
            }
        }
    }

    /// The first end among the calls that are not done: what begins later cannot come before it.
    fn horizon(&self) -> u64 {
        let open = self.calls.iter().zip(&self.done).filter(|(_, done)| !**done);
        open.filter_map(|(e, _)| e.end).min().unwrap_or(u64::MAX)
    }

    fn set(&self) -> Vec<u64> {
        let mut set = vec![0; self.done.len().div_ceil(64)];
        for (n, _) in self.done.iter().enumerate().filter(|(_, done)| **done) {
            set[n / 64] |= 1 << (n % 64);
        }
        set
    }

    fn explain(&self) -> String {
        let mut text = format!("no order is right: at most {} of {} calls fit\n", self.best, self.calls.len());
        let from = self.best.saturating_sub(20);
        for event in self.calls.iter().skip(from).take(60) {
            let end = event.end.map_or_else(|| "never".to_owned(), |e| format!("{:.3}", ms(e)));
            let _ = writeln!(text, "  {:.3} to {end} ms, client {}: {:?}", ms(event.begin), event.client, event.call);
        }
        text
    }
}

#[expect(clippy::cast_precision_loss, reason = "for messages")]
fn ms(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// The state after a call; none if its answer is wrong in this state.
fn after(call: Call, state: Value) -> Option<Value> {
    match call {
        Call::Write(value) => Some(value),
        Call::Read(value) => (value == state).then_some(state),
        Call::Swap { from, to } => (from == state).then_some(to),
        Call::NoSwap { expected, found } => (found == state && expected != state).then_some(state),
        Call::OpenSwap { from, to } => Some(if from == state { to } else { state }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn event(begin: u64, end: u64, call: Call) -> Event {
        Event { begin, end: (end > 0).then_some(end), call, client: 0 }
    }

    fn good(events: &[Event]) {
        check(None, events).unwrap_or_else(|e| panic!("{e}"));
    }

    fn bad(events: &[Event]) {
        assert!(check(None, events).is_err(), "{events:?}");
    }

    const fn write(value: u64) -> Call {
        Call::Write(Some(value))
    }

    const fn read(value: u64) -> Call {
        Call::Read(Some(value))
    }

    #[test]
    fn one_after_the_other() {
        good(&[
            event(1, 2, write(1)),
            event(3, 4, read(1)),
            event(5, 6, Call::Write(None)),
            event(7, 8, Call::Read(None)),
        ]);
        bad(&[event(1, 2, write(1)), event(3, 4, Call::Read(None))]);
    }

    #[test]
    fn a_lost_write() {
        bad(&[event(1, 2, write(1)), event(3, 4, write(2)), event(5, 6, read(1))]);
    }

    #[test]
    fn a_stale_read() {
        // The second read began after the first one had seen the new value.
        bad(&[event(1, 2, write(1)), event(3, 10, write(2)), event(4, 5, read(2)), event(6, 7, read(1))]);
        // Side by side either is right.
        good(&[event(1, 2, write(1)), event(3, 10, write(2)), event(4, 7, read(2)), event(5, 8, read(1))]);
    }

    #[test]
    fn a_read_of_what_is_written_later() {
        bad(&[event(1, 2, read(1)), event(3, 4, write(1))]);
        good(&[event(1, 4, read(1)), event(3, 5, write(1))]);
    }

    #[test]
    fn without_an_answer_it_may_come_late_or_never() {
        good(&[event(1, 0, write(1)), event(2, 3, Call::Read(None)), event(4, 5, read(1))]);
        good(&[event(1, 0, write(1)), event(2, 3, Call::Read(None)), event(4, 5, Call::Read(None))]);
        // But not twice.
        bad(&[
            event(1, 0, write(1)),
            event(2, 3, read(1)),
            event(4, 5, write(2)),
            event(6, 7, read(2)),
            event(8, 9, read(1)),
        ]);
        bad(&[event(5, 0, write(1)), event(2, 3, read(1))]);
    }

    #[test]
    fn swaps() {
        let swap = |from, to| Call::Swap { from, to };
        good(&[event(1, 2, write(1)), event(3, 8, swap(Some(1), Some(2))), event(4, 9, swap(Some(2), Some(3)))]);
        // Two cannot both have found the same.
        bad(&[event(1, 2, write(1)), event(3, 8, swap(Some(1), Some(2))), event(4, 9, swap(Some(1), Some(3)))]);
        let no = Call::NoSwap { expected: Some(1), found: Some(2) };
        good(&[event(1, 2, write(1)), event(3, 8, write(2)), event(4, 9, no)]);
        bad(&[event(1, 2, write(1)), event(3, 4, write(3)), event(5, 9, no)]);
        let open = Call::OpenSwap { from: Some(1), to: Some(2) };
        good(&[event(1, 2, write(1)), event(3, 0, open), event(4, 5, read(1)), event(6, 7, read(2))]);
        bad(&[event(1, 2, write(1)), event(3, 4, write(3)), event(5, 0, open), event(6, 7, read(2))]);
    }

    /// Histories made by a real register are right; with one answer exchanged for an older one they are mostly not.
    #[test]
    fn made_histories() {
        let mut random = Random::new(5);
        let mut found = 0;
        for _ in 0..300 {
            let mut events = made(&mut random);
            good(&events);
            let reads: Vec<_> = (0..events.len()).filter(|&n| matches!(events[n].call, Call::Read(Some(_)))).collect();
            if let Some(&n) = reads.last() {
                events[n].call = Call::Read(None);
                found += u32::from(check(None, &events).is_err());
            }
        }
        assert!(found > 250, "{found} of 300");
    }

    fn made(random: &mut Random) -> Vec<Event> {
        let (mut state, mut busy, mut events) = (None, [0; 5], Vec::new());
        for n in 1_u64..80 {
            // Calls have their effect at 100 n; around that they last as long as their client is free.
            let at = 100 * n;
            let client = usize::try_from(random.within(0, 5)).expect("small");
            let begin = random.within(at.saturating_sub(250), at).max(busy[client] + 1);
            if begin > at {
                continue;
            }
            let end = random.within(at, at + 250);
            busy[client] = end;
            let open = random.one_in(10);
            let call = if random.one_in(2) {
                state = Some(n);
                write(n)
            } else {
                Call::Read(state)
            };
            events.push(Event { begin, end: (!open).then_some(end), call, client });
        }
        events
    }
}
