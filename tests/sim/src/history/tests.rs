//! The checker itself: it must reject what is wrong, and nothing else.

use super::*;
use crate::random::Random;

fn call(begin: u64, end: u64, request: Request, outcome: Outcome) -> Call {
    Call { begin, end: (outcome != Outcome::Unknown).then_some(end), request, outcome }
}

fn put(value: u64) -> Request {
    Request::Put { key: 1, value }
}

const GET: Request = Request::Get { key: 1 };
const DELETE: Request = Request::Delete { key: 1 };

fn cas(expect: i64, value: u64) -> Request {
    Request::Cas { key: 1, expect, value }
}

use Outcome::{Done, Nothing, Unknown, Value};

#[test]
fn sound_histories_are_accepted() {
    let sound = [
        vec![],
        vec![
            call(0, 1, put(7), Done(2)),
            call(2, 3, GET, Value(2, Some((2, 7)))),
            call(4, 5, DELETE, Done(3)),
            call(6, 7, GET, Value(3, None)),
            call(8, 9, cas(0, 8), Done(4)),
            call(10, 11, cas(3, 9), Nothing(4)),
        ],
        // Overlapping calls in either order.
        vec![call(0, 9, put(7), Done(3)), call(1, 8, put(8), Done(2)), call(2, 7, GET, Value(2, Some((2, 8))))],
        // A write of unknown outcome that shows late, and one that never does.
        vec![
            call(0, 0, put(7), Unknown),
            call(1, 0, put(8), Unknown),
            call(2, 3, GET, Value(1, None)),
            call(4, 5, GET, Value(2, Some((2, 7)))),
        ],
        // A delete of unknown outcome.
        vec![call(0, 1, put(7), Done(2)), call(2, 0, DELETE, Unknown), call(3, 4, GET, Value(3, None))],
    ];
    for history in sound {
        assert_eq!(check(&history), Ok(()), "{history:?}");
    }
}

#[test]
fn known_bad_histories_are_rejected() {
    let bad = [
        (
            "a stale read",
            vec![call(0, 1, put(7), Done(2)), call(2, 3, put(8), Done(3)), call(4, 5, GET, Value(2, Some((2, 7))))],
        ),
        (
            "a stale read that hides its revision",
            vec![call(0, 1, put(7), Done(2)), call(2, 3, put(8), Done(3)), call(4, 5, GET, Value(3, Some((2, 7))))],
        ),
        ("a lost write", vec![call(0, 1, put(7), Done(2)), call(2, 3, GET, Value(2, None))]),
        (
            "reads that go back",
            vec![call(0, 9, put(7), Done(2)), call(1, 2, GET, Value(2, Some((2, 7)))), call(3, 4, GET, Value(1, None))],
        ),
        ("a read from the future", vec![call(0, 1, GET, Value(2, Some((2, 7)))), call(2, 3, put(7), Done(2))]),
        ("a value from nowhere", vec![call(0, 1, GET, Value(2, Some((2, 7))))]),
        (
            "an unknown write that shows before it began",
            vec![call(0, 1, GET, Value(2, Some((2, 7)))), call(2, 0, put(7), Unknown)],
        ),
        ("one revision for two writes", vec![call(0, 1, put(7), Done(2)), call(2, 3, put(8), Done(2))]),
        ("a revision that goes back", vec![call(0, 1, put(7), Done(3)), call(2, 3, put(8), Done(2))]),
        (
            "two swaps from one value (split brain)",
            vec![call(0, 1, put(7), Done(2)), call(2, 5, cas(2, 8), Done(3)), call(3, 6, cas(2, 9), Done(4))],
        ),
        ("a swap refused though it held", vec![call(0, 1, put(7), Done(2)), call(2, 3, cas(2, 8), Nothing(2))]),
        ("a delete of nothing", vec![call(0, 1, DELETE, Done(2))]),
        ("a delete that missed", vec![call(0, 1, put(7), Done(2)), call(2, 3, DELETE, Nothing(2))]),
        (
            "an unknown write at two places",
            vec![
                call(0, 0, put(7), Unknown),
                call(1, 2, GET, Value(2, Some((2, 7)))),
                call(3, 4, GET, Value(3, Some((3, 7)))),
            ],
        ),
    ];
    for (what, history) in bad {
        assert!(check(&history).is_err(), "{what} was accepted");
    }
}

/// One copy of one key: the answer to a request, and the state after it.
fn model(state: (i64, Option<(i64, u64)>), request: &Request) -> (Outcome, (i64, Option<(i64, u64)>)) {
    let (revision, stored) = state;
    let next = revision + 1;
    let modified = stored.map_or(0, |s| s.0);
    match request {
        Request::Put { value, .. } => (Done(next), (next, Some((next, *value)))),
        Request::Cas { expect, value, .. } if modified == *expect => (Done(next), (next, Some((next, *value)))),
        Request::Delete { .. } if stored.is_some() => (Done(next), (next, None)),
        Request::Cas { .. } | Request::Delete { .. } => (Nothing(revision), state),
        Request::Get { .. } => (Value(revision, stored), state),
    }
}

/// Searches all orders.
fn search(calls: &[Call], left: &mut Vec<usize>, state: (i64, Option<(i64, u64)>)) -> bool {
    if left.is_empty() {
        return true;
    }
    let first_end = left.iter().filter_map(|at| calls[*at].end).min();
    for i in 0..left.len() {
        let at = left[i];
        if first_end.is_some_and(|end| calls[at].begin > end) {
            continue;
        }
        let (outcome, after) = model(state, &calls[at].request);
        if outcome == calls[at].outcome {
            left.remove(i);
            let found = search(calls, left, after);
            left.insert(i, at);
            if found {
                return true;
            }
        }
    }
    false
}

/// Random small histories, some of them spoilt: the verdict is that of a search through all orders.
#[test]
fn the_verdict_is_that_of_an_exhaustive_search() {
    let mut random = Random::new(1);
    let (mut good, mut bad) = (0, 0);
    for round in 0..30_000 {
        let n = random.between(2, 6) as usize;
        // In the order in which they take effect, with times around it.
        let mut state = (1, None);
        let mut calls = Vec::new();
        for at in 0..n {
            let value = 100 + at as u64;
            let request = match random.below(4) {
                0 => put(value),
                1 => cas(random.below(4) as i64, value),
                2 => DELETE,
                _ => GET,
            };
            let (outcome, after) = model(state, &request);
            state = after;
            let middle = at as u64 * 10 + 20;
            calls.push(Call {
                begin: middle - random.between(1, 20),
                end: Some(middle + random.between(1, 20)),
                request,
                outcome,
            });
        }
        if random.chance(600) {
            let at = random.below(n as u64) as usize;
            let outcome = match calls[at].outcome.clone() {
                Done(r) => Done(r + random.below(3) as i64 - 1),
                Nothing(r) => Nothing(r + random.below(3) as i64 - 1),
                Value(r, Some((m, v))) => match random.below(3) {
                    0 => Value(r - 1, Some((m, v))),
                    1 => Value(r, None),
                    _ => Value(r, Some((m, v + random.below(3) - 1))),
                },
                Value(r, None) => Value(r + random.below(3) as i64 - 1, None),
                Unknown => Unknown,
            };
            calls[at].outcome = outcome;
            if random.chance(300) {
                let other = random.below(n as u64) as usize;
                (calls[at].begin, calls[at].end) = (calls[other].begin, calls[other].end);
            }
        }
        // Beginnings and ends are one order without ties.
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (at, c) in calls.iter().enumerate() {
            moments.push((c.begin, true, at));
            moments.push((c.end.unwrap(), false, at));
        }
        moments.sort_unstable();
        for (stamp, (_, begins, at)) in moments.into_iter().enumerate() {
            if begins {
                calls[at].begin = stamp as u64;
            } else {
                calls[at].end = Some(stamp as u64);
            }
        }
        let expected = search(&calls, &mut (0..n).collect(), (1, None));
        let verdict = check(&calls);
        // A gap in the revisions is not for the checker to see: other keys have revisions too.
        let revisions: std::collections::BTreeSet<i64> = calls
            .iter()
            .filter_map(|c| match c.outcome {
                Done(r) => Some(r),
                _ => None,
            })
            .collect();
        let highest = calls
            .iter()
            .filter_map(|c| match c.outcome {
                Done(r) | Nothing(r) | Value(r, _) => Some(r),
                Unknown => None,
            })
            .max();
        let gapless = (2..).zip(&revisions).all(|(want, got)| want == *got)
            && highest.is_none_or(|h| h == revisions.len() as i64 + 1 || h == 1);
        if expected {
            good += 1;
            assert_eq!(verdict, Ok(()), "round {round}: {calls:#?}");
        } else if gapless {
            bad += 1;
            assert!(verdict.is_err(), "round {round}: {calls:#?}");
        }
    }
    assert!(good > 5_000 && bad > 2_000, "{good} and {bad}");
}
