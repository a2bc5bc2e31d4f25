//! All that ever happened, and what a watcher is owed of it.

use bytes::Bytes;
use retcd_proto::etcdserverpb::WatchCreateRequest;
use retcd_proto::mvccpb::{Event, KeyValue};

/// Source: SplitMix64; equal seeds give equal runs.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// A change, with what was before.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) rev: i64,
    pub(super) kv: KeyValue,
    pub(super) deleted: bool,
    pub(super) before: Option<KeyValue>,
}

/// The history of a store, a list.
#[derive(Default)]
pub(super) struct Model {
    pub(super) changes: Vec<Change>,
    pub(super) live: Vec<KeyValue>,
}

impl Model {
    pub(super) fn put(&mut self, rev: i64, key: &Bytes, value: &Bytes) {
        let at = self.live.iter().position(|kv| kv.key == *key);
        let before = at.map(|at| self.live.swap_remove(at));
        let kv = KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: before.as_ref().map_or(rev, |kv| kv.create_revision),
            mod_revision: rev,
            version: before.as_ref().map_or(1, |kv| kv.version + 1),
            lease: 0,
        };
        self.live.push(kv.clone());
        self.changes.push(Change {
            rev,
            kv,
            deleted: false,
            before,
        });
    }

    /// Deletes `[key, end)` in key order.
    pub(super) fn delete(&mut self, rev: i64, key: &[u8], end: &[u8]) {
        let (mut gone, live) = std::mem::take(&mut self.live)
            .into_iter()
            .partition::<Vec<_>, _>(|kv| within(&kv.key, key, end));
        self.live = live;
        gone.sort_by(|a, b| a.key.cmp(&b.key));
        for before in gone {
            let kv = KeyValue {
                key: before.key.clone(),
                mod_revision: rev,
                ..KeyValue::default()
            };
            self.changes.push(Change {
                rev,
                kv,
                deleted: true,
                before: Some(before),
            });
        }
    }

    /// What a watcher is owed from revision `from` up to and with `to`.
    pub(super) fn owed<'a>(
        &'a self,
        r: &'a WatchCreateRequest,
        from: i64,
        to: i64,
    ) -> impl Iterator<Item = &'a Change> {
        let first = self.changes.partition_point(|change| change.rev < from);
        self.changes[first..]
            .iter()
            .take_while(move |change| change.rev <= to)
            .filter(|change| within(&change.kv.key, &r.key, &r.range_end))
            .filter(|change| !r.filters.contains(&i32::from(change.deleted)))
    }
}

/// `[key, end)` as in a request.
pub(super) fn within(candidate: &[u8], key: &[u8], end: &[u8]) -> bool {
    match end {
        [] => candidate == key,
        [0] => candidate >= key,
        _ => candidate >= key && candidate < end,
    }
}

/// Whether an event tells of a change.
pub(super) fn tells(event: &Event, change: &Change) -> bool {
    event.kv.as_ref() == Some(&change.kv) && event.r#type == i32::from(change.deleted)
}
