//! Whether a watch told the truth.

use retcd_proto::mvccpb::Event;

use crate::truth::{Change, Truth};
use crate::watcher::Segment;

/// What there was, so that a run that shows nothing is noticed.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) watches: u64,
    pub(crate) resumed: u64,
    pub(crate) events: u64,
    pub(crate) with_before: u64,
    pub(crate) before_compacted: u64,
    pub(crate) several_revisions: u64,
    pub(crate) fragments: u64,
    pub(crate) reports: u64,
    pub(crate) canceled: u64,
    pub(crate) compacted: u64,
    pub(crate) to_the_end: u64,
}

/// Compares what a watch was told with what happened up to the end of the round.
pub(crate) fn check(truth: &Truth, segment: &Segment, goal: i64, counts: &mut Counts) -> Result<(), String> {
    let request = &segment.request;
    let Some(((_, created), replies)) = segment.replies.split_first() else {
        return Ok(());
    };
    if !created.created || created.canceled || !created.events.is_empty() {
        return Err(format!("begins with {created:?}"));
    }
    counts.watches += 1;
    counts.resumed += u64::from(request.start_revision > 0);
    let begun = created.header.as_ref().map_or(0, |h| h.revision);
    let from = if request.start_revision > 0 { request.start_revision } else { begun + 1 };
    let mut owed = truth.owed(request, from).peekable();
    // Everything below was told.
    let mut next = from;
    let mut pending: Vec<&Event> = Vec::new();
    let mut ended = false;
    for (compacting, reply) in replies {
        let revision = reply.header.as_ref().map_or(0, |h| h.revision);
        if ended {
            return Err("something comes after its end".into());
        }
        if reply.canceled {
            ended = true;
            counts.canceled += 1;
            if reply.compact_revision > 0 {
                counts.compacted += 1;
                if reply.compact_revision > *compacting || next >= reply.compact_revision {
                    return Err(format!(
                        "ends for the compaction of {}, was told of all below {next}; asked for was {compacting}",
                        reply.compact_revision
                    ));
                }
            } else if !segment.cancel {
                return Err("ends, and nobody asked for it".into());
            }
            continue;
        }
        if reply.events.is_empty() {
            counts.reports += 1;
            if !pending.is_empty() {
                return Err("a report between fragments".into());
            }
            if let Some(missed) = owed.peek().filter(|change| change.revision <= revision) {
                return Err(format!("reports {revision}, and has not told {}", brief(missed)));
            }
            next = next.max(revision + 1);
            continue;
        }
        pending.extend(&reply.events);
        if reply.fragment {
            counts.fragments += 1;
            if !request.fragment {
                return Err("comes in fragments, which nobody asked for".into());
            }
            continue;
        }
        let first = pending[0].kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let mut last = 0;
        for event in pending.drain(..) {
            let change = owed.next().ok_or_else(|| format!("tells {event:?}, which never happened"))?;
            same(event, change, request.prev_kv, *compacting, counts)?;
            last = change.revision;
            counts.events += 1;
        }
        counts.several_revisions += u64::from(first != last);
        if let Some(left) = owed.peek().filter(|change| change.revision == last) {
            return Err(format!("leaves out {} of the same revision", brief(left)));
        }
        if revision < last {
            return Err(format!("tells of {last} at revision {revision}"));
        }
        next = next.max(last + 1);
    }
    if segment.whole {
        counts.to_the_end += 1;
        if let Some(missed) = owed.peek().filter(|change| change.revision <= goal) {
            return Err(format!("has not told {}", brief(missed)));
        }
    }
    Ok(())
}

fn brief(change: &Change) -> String {
    format!("{}{:?} of {}", if change.deleted { "-" } else { "+" }, change.kv.key, change.revision)
}

fn same(event: &Event, change: &Change, before: bool, compacting: i64, counts: &mut Counts) -> Result<(), String> {
    if event.kv.as_ref() != Some(&change.kv) || event.r#type != i32::from(change.deleted) {
        return Err(format!("tells {event:?}, but next is {change:?}"));
    }
    match (&event.prev_kv, &change.before) {
        (Some(told), Some(known)) if before && told == known => counts.with_before += 1,
        (None, None) => {}
        (None, Some(_)) if !before => {}
        (None, Some(_)) if change.revision - 1 < compacting => counts.before_compacted += 1,
        _ => return Err(format!("tells {event:?} with the wrong value before: {change:?}, compacting {compacting}")),
    }
    Ok(())
}
