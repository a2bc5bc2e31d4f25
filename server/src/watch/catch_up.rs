//! Reading history for the watchers of one stream that are behind.

use std::collections::HashMap;
use std::sync::Arc;

use retcd_storage::mvcc::{self, History, StoreReader, Stretch};

use super::event::Unit;
use super::inbox::{Item, Which};
use super::spec::{Index, Spec};

/// What is read at once: so much that seeking does not matter, so little that a stream stays attentive.
const STRETCH: Stretch = Stretch {
    records: if cfg!(test) { 3 } else { 2000 },
    bytes: 512 << 10,
};

/// How often the events of a stretch may be for somebody. Beyond that the rest is left for the next one.
const MAX_ITEMS: usize = if cfg!(test) { 6 } else { 100_000 };

/// A watcher that is behind.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pub(super) serial: u64,
    pub(super) spec: Arc<Spec>,
    /// The next revision it needs.
    pub(super) next: i64,
}

/// A stretch of history.
#[derive(Debug)]
pub(super) enum Read {
    Items {
        /// In order of revision for each reader, one reader after the other.
        items: Vec<Item>,
        /// All readers have everything below this revision now.
        next: i64,
        /// The store's revision; with `next` above it, all is read.
        current: i64,
    },
    /// What the first reader needs is compacted.
    Compacted,
}

/// Reads on from where the first of `readers` is; the others, none of which may be behind it, take part.
///
/// # Errors
/// What the store says when it is damaged.
pub(super) fn read(store: &StoreReader, readers: &[Reader]) -> Result<Read, mvcc::Error> {
    let Some(first) = readers.first() else {
        return Ok(Read::Items {
            items: Vec::new(),
            next: 0,
            current: 0,
        });
    };
    let mut index = Index::default();
    for reader in readers {
        index.insert(&reader.spec.keys, reader);
    }
    let wanted = |key: &[u8], rev: i64| {
        let mut wanted = false;
        index.find(key, |reader: &&Reader| wanted |= reader.next <= rev);
        wanted
    };
    let History {
        changes,
        mut next,
        current,
    } = match store.history(first.next, STRETCH, wanted) {
        Err(mvcc::Error::Compacted) => return Ok(Read::Compacted),
        history => history?,
    };
    let mut found: HashMap<u64, Vec<Item>> = HashMap::new();
    let mut count = 0;
    for unit in Unit::split(changes) {
        if count >= MAX_ITEMS {
            next = unit.rev;
            break;
        }
        let unit = Arc::new(unit);
        let mut matches = Vec::new();
        for (event, n) in unit.events.iter().zip(0u32..) {
            let is_delete = event.change.is_delete();
            index.find(&event.change.key, |reader| {
                if reader.next <= unit.rev && reader.spec.filter.admits(is_delete) {
                    matches.push((reader.serial, n, reader.spec.prev_kv));
                }
            });
        }
        matches.sort_unstable();
        for group in matches.chunk_by(|a, b| a.0 == b.0) {
            let numbers: Vec<u32> = group.iter().map(|(_, n, _)| *n).collect();
            let (serial, _, prev_kv) = group[0];
            for n in &numbers {
                // Here, where it may take its time.
                unit.events[*n as usize].encoded(prev_kv, store)?;
            }
            count += 1;
            found.entry(serial).or_default().push(Item::Events {
                serial,
                unit: unit.clone(),
                which: Which::of(&numbers),
                at: current,
            });
        }
    }
    let items = readers.iter().filter_map(|r| found.remove(&r.serial));
    Ok(Read::Items {
        items: items.flatten().collect(),
        next,
        current,
    })
}
