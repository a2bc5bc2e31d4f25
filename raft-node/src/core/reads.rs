//! Read-index requests on their way.
//!
//! Each attempt goes out under a context of its own, which no other attempt of any member shares,
//! and is forgotten when it is repeated: an answer to an old attempt, which may come from a
//! leader of the past, satisfies nobody (M1). The consensus core drops a request silently when
//! there is no leader or the leader has not yet committed in its term (M2); so a request waits
//! here until it can be answered, and is asked again when no answer came.

use crate::ids::RequestIds;

/// Requests that may wait at a time. The server has one round under way and coalesces the rest.
const MAX_WAITING: usize = 4096;

#[derive(Debug)]
struct Attempt {
    context: u64,
    requests: Vec<u64>,
    term: u64,
    age: u32,
}

#[derive(Debug)]
pub(super) struct Reads {
    contexts: RequestIds,
    /// Ticks after which an attempt is repeated.
    patience: u32,
    waiting: Vec<u64>,
    attempts: Vec<Attempt>,
}

impl Reads {
    pub(super) fn new(contexts: RequestIds, patience: u32) -> Reads {
        Reads {
            contexts,
            patience,
            waiting: Vec::new(),
            attempts: Vec::new(),
        }
    }

    /// False: too many are waiting already.
    pub(super) fn add(&mut self, request: u64) -> bool {
        if self.waiting.len() >= MAX_WAITING {
            return false;
        }
        self.waiting.push(request);
        true
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Context of an attempt for all requests that wait; they were all made before it.
    pub(super) fn start(&mut self, term: u64) -> [u8; 8] {
        let context = self.contexts.next();
        self.attempts.push(Attempt {
            context,
            requests: std::mem::take(&mut self.waiting),
            term,
            age: 0,
        });
        context.to_be_bytes()
    }

    /// The requests that an answer settles. Answers of another term, and unknown ones, settle none.
    pub(super) fn answered(&mut self, context: &[u8], term: u64) -> Vec<u64> {
        let Ok(context) = context.try_into().map(u64::from_be_bytes) else {
            return Vec::new();
        };
        let found = self
            .attempts
            .iter()
            .position(|a| a.context == context && a.term == term);
        found.map_or_else(Vec::new, |at| self.attempts.remove(at).requests)
    }

    pub(super) fn tick(&mut self, term: u64) {
        for attempt in &mut self.attempts {
            attempt.age += 1;
        }
        let patience = self.patience;
        for old in self
            .attempts
            .extract_if(.., |a| a.age >= patience || a.term != term)
        {
            self.waiting.extend(old.requests);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads() -> Reads {
        Reads::new(RequestIds::new(1, 1), 3)
    }

    #[test]
    fn one_attempt_answers_all_that_waited() {
        let mut reads = reads();
        reads.add(7);
        reads.add(8);
        let context = reads.start(5);
        reads.add(9);
        assert_eq!(reads.answered(&context, 5), [7, 8]);
        assert!(reads.answered(&context, 5).is_empty());
        assert!(reads.has_waiting());
    }

    /// M1: an answer of another term, or to an attempt that was given up, settles nothing.
    #[test]
    fn late_answers_settle_nothing() {
        let mut reads = reads();
        reads.add(7);
        let first = reads.start(5);
        assert!(reads.answered(&first, 6).is_empty());
        reads.tick(6);
        let second = reads.start(6);
        assert_ne!(first, second);
        assert!(reads.answered(&first, 6).is_empty());
        assert_eq!(reads.answered(&second, 6), [7]);
    }

    #[test]
    fn an_attempt_without_an_answer_is_repeated() {
        let mut reads = reads();
        reads.add(7);
        reads.start(5);
        reads.tick(5);
        reads.tick(5);
        assert!(!reads.has_waiting());
        reads.tick(5);
        assert!(reads.has_waiting());
    }

    #[test]
    fn waiting_requests_are_bounded() {
        let mut reads = reads();
        for n in 0..MAX_WAITING as u64 {
            assert!(reads.add(n));
        }
        assert!(!reads.add(0));
    }
}
