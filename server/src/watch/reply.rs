//! Replies of a watch stream, and how large ones are cut.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::reply::WatchReply;

/// The id of replies that are for no watcher, or for all of them.
pub(super) const NO_WATCHER: i64 = -1;

/// Cuts a reply that has `max` bytes or more into fragments, each of at least one event and as many more as stay
/// below `max`. All but the last say so.
pub(super) fn fragments(reply: WatchReply, max: usize, into: &mut VecDeque<WatchReply>) {
    if reply.encoded_len() < max || reply.events.len() < 2 {
        into.push_back(reply);
        return;
    }
    let WatchReply { events, .. } = reply;
    let head = WatchReply {
        events: Vec::new(),
        fragment: true,
        ..reply
    };
    let mut fragment = head.clone();
    let mut size = head.encoded_len();
    for event in events {
        let added = field_len(&event);
        if !fragment.events.is_empty() && size + added >= max {
            into.push_back(std::mem::replace(&mut fragment, head.clone()));
            size = head.encoded_len();
        }
        size += added;
        fragment.events.push(event);
    }
    fragment.fragment = false;
    into.push_back(fragment);
}

/// Bytes of an event within a reply.
fn field_len(event: &Bytes) -> usize {
    prost::encoding::bytes::encoded_len(11, event)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(sizes: &[usize], max: usize) -> Vec<(usize, bool)> {
        let reply = WatchReply {
            watch_id: 7,
            events: sizes.iter().map(|n| Bytes::from(vec![1; *n])).collect(),
            ..WatchReply::default()
        };
        let mut out = VecDeque::new();
        fragments(reply.clone(), max, &mut out);
        let together: Vec<_> = out.iter().flat_map(|f| f.events.clone()).collect();
        assert_eq!(together, reply.events);
        for fragment in &out {
            assert_eq!(fragment.watch_id, 7);
            assert!(fragment.encoded_len() < max || fragment.events.len() <= 1);
        }
        out.iter().map(|f| (f.events.len(), f.fragment)).collect()
    }

    #[test]
    fn large_replies_are_cut_between_events() {
        assert_eq!(cut(&[10, 10], 1000), [(2, false)]);
        assert_eq!(cut(&[2000], 1000), [(1, false)]);
        assert_eq!(cut(&[400, 400, 400], 1000), [(2, true), (1, false)]);
        assert_eq!(
            cut(&[2000, 1, 2000], 1000),
            [(1, true), (1, true), (1, false)]
        );
        assert_eq!(cut(&[], 1), [(0, false)]);
    }
}
