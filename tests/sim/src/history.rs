//! What clients saw, and whether a single copy of the data could have answered so.
//!
//! etcd's answers carry revisions: every write is told its place in the one order of all writes,
//! every read the place that it looked from. So no order has to be searched for. The history is
//! linearizable exactly if the order of the revisions is legal (each answer is right at its place)
//! and goes with time (what returned before something else began has its place before it). A write
//! whose outcome is unknown may have any free place behind its beginning, or none.

use std::collections::{BTreeMap, BTreeSet};

/// What a client asked for. Values are unique, so that a value tells who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Writes.
    Put {
        /// Where.
        key: u8,
        /// Unique.
        value: u64,
    },
    /// Writes if the key's newest write is of this revision; 0: if the key is not there.
    Cas {
        /// Where.
        key: u8,
        /// Revision of the write that must be the newest.
        expect: i64,
        /// Unique.
        value: u64,
    },
    /// Removes.
    Delete {
        /// Where.
        key: u8,
    },
    /// Reads, linearizably.
    Get {
        /// Where.
        key: u8,
    },
}

/// What the client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing: it may have happened, may happen yet, or not.
    Unknown,
    /// A put, a compare-and-swap that held, a delete that found something: at this revision.
    Done(i64),
    /// A compare-and-swap that did not hold, a delete that found nothing, as of this revision.
    Nothing(i64),
    /// A read: its revision; revision and value of the key's newest write.
    Value(i64, Option<(i64, u64)>),
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// When it began, in the order of all beginnings and ends.
    pub(crate) begin: u64,
    /// When it ended; `None` for an unknown outcome.
    pub(crate) end: Option<u64>,
    /// What was asked.
    pub(crate) request: Request,
    /// What was answered.
    pub(crate) outcome: Outcome,
}

impl Request {
    fn key(&self) -> u8 {
        match self {
            Request::Put { key, .. } | Request::Cas { key, .. } | Request::Delete { key } | Request::Get { key } => {
                *key
            }
        }
    }

    fn value(&self) -> Option<u64> {
        match self {
            Request::Put { value, .. } | Request::Cas { value, .. } => Some(*value),
            Request::Delete { .. } | Request::Get { .. } => None,
        }
    }
}

/// A write at its place.
#[derive(Debug, Clone)]
struct Placed {
    call: usize,
    key: u8,
    /// `None`: a delete.
    value: Option<u64>,
}

/// Checks a history.
///
/// # Errors
/// The first thing that a single copy of the data could not have answered.
pub(crate) fn check(calls: &[Call]) -> Result<(), String> {
    in_range(calls)?;
    let places = place(calls)?;
    let keys = by_key(&places);
    with_time(calls, &places)?;
    let placed: BTreeSet<usize> = places.values().map(|p| p.call).collect();
    let unknown = |key: u8, end: u64, is_delete: bool| {
        calls.iter().enumerate().any(|(at, c)| {
            c.outcome == Outcome::Unknown
                && !placed.contains(&at)
                && c.request.key() == key
                && (c.request == Request::Delete { key }) == is_delete
                && !matches!(c.request, Request::Get { .. })
                && c.begin < end
        })
    };
    // A delete of unknown outcome may explain that a key is gone; a put, that it is not what it was.
    let doubtful = |key: u8, end: u64| unknown(key, end, true);
    let overwritten = |key: u8, end: u64| unknown(key, end, false);
    for (at, call) in calls.iter().enumerate() {
        let key = call.request.key();
        // The newest write of the key at or before a revision.
        let newest = |revision: i64| {
            keys.get(&key).and_then(|k| k.range(..=revision).next_back()).map(|(r, value)| (*r, *value))
        };
        let end = call.end.unwrap_or(u64::MAX);
        let wrong = |why: String| Err(format!("call {at} {call:?}: {why}"));
        match (&call.request, &call.outcome) {
            (Request::Get { .. }, Outcome::Value(revision, seen)) => match (*seen, newest(*revision)) {
                (None, None) | (None, Some((_, None))) => {}
                (None, Some(put)) if doubtful(key, end) && put.1.is_some() => {}
                (Some((modified, value)), Some((r, Some(v)))) if (modified, value) == (r, v) => {}
                (_, expected) => return wrong(format!("the key held {expected:?}")),
            },
            (Request::Cas { expect, .. }, Outcome::Done(revision)) => {
                let before = present(newest(revision - 1));
                let explained = *expect == 0 && doubtful(key, end);
                if before != *expect && !explained {
                    return wrong(format!("the newest write was of revision {before}"));
                }
            }
            (Request::Cas { expect, .. }, Outcome::Nothing(revision)) => {
                let explained = doubtful(key, end) || overwritten(key, end);
                if present(newest(*revision)) == *expect && !explained {
                    return wrong("the comparison held".into());
                }
            }
            (Request::Delete { .. }, Outcome::Done(revision)) => {
                if present(newest(revision - 1)) == 0 && !overwritten(key, end) {
                    return wrong("there was nothing to delete".into());
                }
            }
            (Request::Delete { .. }, Outcome::Nothing(revision)) => {
                if present(newest(*revision)) != 0 && !doubtful(key, end) {
                    return wrong("there was something to delete".into());
                }
            }
            (Request::Put { .. }, Outcome::Done(_)) | (_, Outcome::Unknown) => {}
            (_, _) => return wrong("the answer does not fit the question".into()),
        }
    }
    Ok(())
}

/// An empty store is at revision 1, and the first write gets 2.
fn in_range(calls: &[Call]) -> Result<(), String> {
    for (at, call) in calls.iter().enumerate() {
        let sound = match call.outcome {
            Outcome::Unknown => true,
            Outcome::Done(revision) => revision > 1,
            Outcome::Nothing(revision) | Outcome::Value(revision, None) => revision > 0,
            Outcome::Value(revision, Some((modified, _))) => 1 < modified && modified <= revision,
        };
        if !sound {
            return Err(format!("call {at} {call:?}: there is no such revision"));
        }
    }
    Ok(())
}

/// Revision of the key's newest write, 0 if it is not there.
fn present(newest: Option<(i64, Option<u64>)>) -> i64 {
    match newest {
        Some((revision, Some(_))) => revision,
        _ => 0,
    }
}

/// The writes by revision: those that were told it, and those whose value somebody read.
fn place(calls: &[Call]) -> Result<BTreeMap<i64, Placed>, String> {
    let mut places: BTreeMap<i64, Placed> = BTreeMap::new();
    let mut unknown: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        match call.outcome {
            Outcome::Done(revision) => {
                let placed = Placed { call: at, key: call.request.key(), value: call.request.value() };
                if let Some(other) = places.insert(revision, placed) {
                    return Err(format!("calls {at} and {} both have revision {revision}", other.call));
                }
            }
            Outcome::Unknown => {
                if let Some(value) = call.request.value() {
                    unknown.insert(value, at);
                }
            }
            _ => {}
        }
    }
    for (at, call) in calls.iter().enumerate() {
        let Outcome::Value(_, Some((modified, value))) = call.outcome else {
            continue;
        };
        let key = call.request.key();
        if let Some(placed) = places.get(&modified) {
            if (placed.key, placed.value) == (key, Some(value)) {
                continue;
            }
            return Err(format!("call {at} {call:?} reads what call {} wrote otherwise", placed.call));
        }
        let writer =
            unknown.remove(&value).filter(|w| calls[*w].request.key() == key && Some(calls[*w].begin) < call.end);
        let Some(writer) = writer else {
            return Err(format!("call {at} {call:?} reads what nobody wrote"));
        };
        let placed = Placed { call: writer, key, value: Some(value) };
        places.insert(modified, placed);
    }
    Ok(places)
}

fn by_key(places: &BTreeMap<i64, Placed>) -> BTreeMap<u8, BTreeMap<i64, Option<u64>>> {
    let mut keys: BTreeMap<u8, BTreeMap<i64, Option<u64>>> = BTreeMap::new();
    for (revision, placed) in places {
        keys.entry(placed.key).or_default().insert(*revision, placed.value);
    }
    keys
}

/// What returned before something began has its place before it.
fn with_time(calls: &[Call], places: &BTreeMap<i64, Placed>) -> Result<(), String> {
    let mut revision_of: BTreeMap<usize, i64> = BTreeMap::new();
    for (revision, placed) in places {
        revision_of.insert(placed.call, *revision);
    }
    let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(calls.len() * 2);
    for (at, call) in calls.iter().enumerate() {
        moments.push((call.begin, false, at));
        if let Some(end) = call.end {
            moments.push((end, true, at));
        }
    }
    moments.sort_unstable();
    // The highest revision that anything has returned, and by whom.
    let (mut highest, mut by) = (0, 0);
    for (_, ended, at) in moments {
        let write = revision_of.get(&at).copied();
        let seen = match calls[at].outcome {
            Outcome::Nothing(revision) | Outcome::Value(revision, _) => Some(revision),
            Outcome::Done(_) | Outcome::Unknown => None,
        };
        if ended {
            let revision = write.or(seen).unwrap_or(0);
            if revision > highest {
                (highest, by) = (revision, at);
            }
            continue;
        }
        let backwards = write.is_some_and(|r| r <= highest) || seen.is_some_and(|r| r < highest);
        if backwards {
            return Err(format!(
                "call {at} {:?} began after call {by} {:?} had ended, and has a place before it",
                calls[at], calls[by]
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
