//! Read-index requests on their way.
//!
//! Each attempt goes out under a context of its own, which no other attempt of any member shares,
//! and is forgotten when it is repeated: an answer to an old attempt, which may come from a
//! leader of the past, satisfies nobody (M1). The consensus core drops a request silently when
//! there is no leader or the leader has not yet committed in its term (M2); so a request waits
//! here until it can be answered, and is asked again when no answer came.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::ids::RequestIds;

/// Requests that may wait at a time. The server has one round under way and coalesces the rest.
const MAX_WAITING: usize = 4096;

/// Requests of other members under way at a leader. The oldest is forgotten for one more: whoever made it asks again.
const MAX_PASSED_ON: usize = 16 * 1024;

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
    passed_on: PassedOn,
}

/// Requests that others passed on to this leader: their contexts by those under which they go round.
#[derive(Debug, Default)]
struct PassedOn {
    term: u64,
    contexts: BTreeMap<u64, Bytes>,
}

impl Reads {
    pub(super) fn new(contexts: RequestIds, patience: u32) -> Reads {
        Reads {
            contexts,
            patience,
            waiting: Vec::new(),
            attempts: Vec::new(),
            passed_on: PassedOn::default(),
        }
    }

    /// A context of its own for a request that another member passed on to the leader of `term`.
    ///
    /// The crate counts an answer to a heartbeat for whatever waits under its context, and for all before that. Were
    /// a request to arrive twice under one context, answers to its first round would confirm the second one, and reads
    /// that began after those answers: in the simulation a leader that had been deposed while it stood still read what
    /// was overwritten since.
    pub(super) fn pass_on(&mut self, context: Bytes, term: u64) -> [u8; 8] {
        let passed = &mut self.passed_on;
        if passed.term != term {
            passed.term = term;
            passed.contexts.clear();
        }
        if passed.contexts.len() >= MAX_PASSED_ON {
            passed.contexts.pop_first();
        }
        let own = self.contexts.next();
        passed.contexts.insert(own, context);
        own.to_be_bytes()
    }

    /// The context that the member knows its request by, when the request is answered.
    pub(super) fn passed_back(&mut self, own: &[u8]) -> Option<Bytes> {
        let own = u64::from_be_bytes(own.try_into().ok()?);
        self.passed_on.contexts.remove(&own)
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
    fn each_request_that_is_passed_on_has_a_context_of_its_own() {
        let mut reads = reads();
        let theirs = Bytes::from_static(b"context of another release");
        let (first, second) = (
            reads.pass_on(theirs.clone(), 5),
            reads.pass_on(theirs.clone(), 5),
        );
        assert_ne!(first, second);
        assert_eq!(reads.passed_back(&second), Some(theirs.clone()));
        assert_eq!(reads.passed_back(&second), None);
        reads.pass_on(theirs.clone(), 6);
        assert_eq!(reads.passed_back(&first), None, "of a term before");
        let oldest = reads.pass_on(theirs.clone(), 7);
        for _ in 0..MAX_PASSED_ON {
            reads.pass_on(theirs.clone(), 7);
        }
        assert_eq!(reads.passed_on.contexts.len(), MAX_PASSED_ON);
        assert_eq!(reads.passed_back(&oldest), None);
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
