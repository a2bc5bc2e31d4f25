//! What a watch is for, and how watches are found by the key of an event.

use std::collections::HashMap;

use bytes::Bytes;
use retcd_proto::etcdserverpb::WatchCreateRequest;
use retcd_proto::etcdserverpb::watch_create_request::FilterType;

use super::ranges::{Range, Ranges};

/// The keys of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    One(Bytes),
    Range(Range),
}

impl Keys {
    /// An empty key is the smallest one, `\0` as end means no end. `None` for a range that holds nothing.
    pub(super) fn of(key: &Bytes, end: &Bytes) -> Option<Self> {
        let start = match key.is_empty() {
            true => Bytes::from_static(&[0]),
            false => Bytes::copy_from_slice(key),
        };
        match &end[..] {
            [] => Some(Self::One(start)),
            [0] => Some(Self::Range(Range { start, end: None })),
            _ if start >= *end => None,
            _ => {
                let end = Some(Bytes::copy_from_slice(end));
                Some(Self::Range(Range { start, end }))
            }
        }
    }

    pub(super) fn contain(&self, key: &[u8]) -> bool {
        match self {
            Self::One(only) => only == key,
            Self::Range(range) => range.contains(key),
        }
    }
}

/// The part of a watch that decides which events it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) keys: Keys,
    /// As asked for; 0: from now on.
    pub(super) start: i64,
    pub(super) filter: Filter,
    pub(super) prev_kv: bool,
}

/// Kinds of events that are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    puts: bool,
    deletes: bool,
}

impl Filter {
    /// Unknown kinds mean nothing.
    pub(super) fn of(request: &WatchCreateRequest) -> Self {
        let has = |kind: FilterType| request.filters.contains(&(kind as i32));
        Self {
            puts: has(FilterType::Noput),
            deletes: has(FilterType::Nodelete),
        }
    }

    pub(super) fn admits(self, is_delete: bool) -> bool {
        let is_delete = is_delete != planted!(FiltersSwapped);
        !if is_delete { self.deletes } else { self.puts }
    }
}

/// Entries by the keys they are for: single keys by hash, ranges in a tree.
pub(super) struct Index<T> {
    keys: HashMap<Bytes, Vec<T>>,
    ranges: Ranges<T>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self {
            keys: HashMap::new(),
            ranges: Ranges::default(),
        }
    }
}

impl<T> Index<T> {
    pub(super) fn insert(&mut self, keys: &Keys, entry: T) {
        match keys {
            Keys::One(key) => self.keys.entry(key.clone()).or_default().push(entry),
            Keys::Range(range) => self.ranges.insert(range, entry),
        }
    }

    /// Removes the first entry for exactly `keys` for which `which` holds.
    pub(super) fn remove(&mut self, keys: &Keys, which: impl Fn(&T) -> bool) -> Option<T> {
        match keys {
            Keys::Range(range) => self.ranges.remove(range, which),
            Keys::One(key) => {
                let entries = self.keys.get_mut(key)?;
                let at = entries.iter().position(which)?;
                let removed = entries.swap_remove(at);
                if entries.is_empty() {
                    self.keys.remove(key);
                }
                Some(removed)
            }
        }
    }

    /// Shows all entries that are for `key`.
    pub(super) fn find<'a>(&'a self, key: &[u8], mut show: impl FnMut(&'a T)) {
        if let Some(entries) = self.keys.get(key) {
            entries.iter().for_each(&mut show);
        }
        self.ranges.stab(key, &mut show);
    }
}
