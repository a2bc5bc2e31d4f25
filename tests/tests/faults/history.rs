//! What clients saw, and what of it can be wrong.

use std::collections::BTreeMap;

use retcd_tests::linear::{self, Call, Event, Value};

/// A call, the key it was about, and the revisions in its answer.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) key: String,
    pub(crate) event: Event,
    /// The store's revision, as the answer says.
    pub(crate) revision: Option<i64>,
}

/// Checks everything that was seen of fresh keys, and returns what each may hold at the end.
pub(crate) fn check(seen: &[Seen]) -> Result<BTreeMap<String, Vec<Value>>, String> {
    revisions(seen)?;
    let mut keys: BTreeMap<&str, Vec<Event>> = BTreeMap::new();
    for one in seen {
        keys.entry(&one.key).or_default().push(one.event);
    }
    let mut last = BTreeMap::new();
    for (key, events) in keys {
        linear::check(None, &events).map_err(|e| format!("{key}: {e}"))?;
        last.insert(key.to_owned(), at_the_end(&events));
    }
    Ok(last)
}

/// What the last read found, or what some write without an answer may make of it later.
fn at_the_end(events: &[Event]) -> Vec<Value> {
    let answered = events.iter().filter(|e| e.end.is_some()).max_by_key(|e| e.begin);
    let mut values: Vec<_> = match answered.map(|e| e.call) {
        Some(Call::Read(value) | Call::NoSwap { found: value, .. }) => vec![value],
        Some(Call::Write(value) | Call::Swap { to: value, .. } | Call::OpenSwap { to: value, .. }) => vec![value],
        None => vec![None],
    };
    for event in events.iter().filter(|e| e.end.is_none()) {
        match event.call {
            Call::Write(value) | Call::OpenSwap { to: value, .. } => values.push(value),
            _ => {}
        }
    }
    values
}

/// The revision of the whole store is a register that only grows: an answer shows at least what any earlier answer showed,
/// and every change has a revision of its own.
fn revisions(seen: &[Seen]) -> Result<(), String> {
    let mut ends: Vec<_> = seen.iter().filter_map(|s| Some((s.event.end?, s.revision?, s))).collect();
    ends.sort_by_key(|(end, ..)| *end);
    let mut begins: Vec<_> = seen.iter().filter(|s| s.revision.is_some()).collect();
    begins.sort_by_key(|s| s.event.begin);
    let mut before = ends.into_iter().peekable();
    let mut newest: Option<(i64, &Seen)> = None;
    for one in begins {
        while let Some((_, revision, earlier)) = before.next_if(|(end, ..)| *end < one.event.begin) {
            if newest.is_none_or(|(r, _)| revision > r) {
                newest = Some((revision, earlier));
            }
        }
        let (Some(shown), Some((known, earlier))) = (one.revision, newest) else { continue };
        let changes = matches!(one.event.call, Call::Write(_) | Call::Swap { .. });
        if shown < known || changes && shown == known {
            return Err(format!("stale: {one:?} after {earlier:?}"));
        }
    }
    let mut changes = BTreeMap::new();
    for one in seen.iter().filter(|s| matches!(s.event.call, Call::Write(Some(_)) | Call::Swap { .. })) {
        if let Some(other) = one.revision.and_then(|r| changes.insert(r, one)) {
            return Err(format!("two changes of one revision: {one:?} and {other:?}"));
        }
    }
    Ok(())
}

#[test]
fn stale_revisions_are_noticed() {
    let seen = |begin, end, call, revision| Seen {
        key: "a".into(),
        event: Event { begin, end: Some(end), call, client: 0 },
        revision: Some(revision),
    };
    let (write, read) = (Call::Write(Some(1)), Call::Read(Some(1)));
    assert!(check(&[seen(1, 2, write, 5), seen(3, 4, read, 5)]).is_ok());
    assert!(check(&[seen(1, 2, write, 5), seen(3, 4, read, 4)]).is_err());
    assert!(check(&[seen(1, 2, write, 5), seen(1, 4, Call::Write(Some(2)), 5)]).is_err());
    // Of another key, so that only the revision tells.
    let other = Seen { key: "b".into(), ..seen(3, 4, Call::Read(None), 4) };
    assert!(check(&[seen(1, 2, write, 5), other]).is_err());
}
