//! Changes that are published but not yet in the engine, and the merge of such layers with a base.

use std::borrow::Borrow;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::{Batch, Bucket, Error, Op};
use crate::cow_tree::{CowTree, Weight};

/// Longest key held without an allocation: a revision key has 17 or 18 bytes, a member id 16.
const INLINE: usize = 22;

/// A key in a layer.
#[derive(Debug, Clone)]
pub(super) enum Key {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Arc<[u8]>),
}

impl Key {
    pub(super) fn new(key: &[u8]) -> Self {
        if key.len() <= INLINE {
            let mut bytes = [0; INLINE];
            bytes[..key.len()].copy_from_slice(key);
            Key::Inline {
                len: key.len() as u8,
                bytes,
            }
        } else {
            Key::Heap(key.into())
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Key::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Key::Heap(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            // Padded with zeros, so only keys that differ in trailing zeros are told apart by their length.
            (
                Key::Inline {
                    len: a_len,
                    bytes: a,
                },
                Key::Inline {
                    len: b_len,
                    bytes: b,
                },
            ) => (words(a), a_len).cmp(&(words(b), b_len)),
            _ => self.as_slice().cmp(other.as_slice()),
        }
    }
}

/// The bytes as numbers of the same order; the last two overlap by two bytes.
fn words(bytes: &[u8; INLINE]) -> [u64; 3] {
    let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| bytes[at + i]));
    [word(0), word(8), word(INLINE - 8)]
}

/// The new value of a key, or `None` for a delete.
#[derive(Debug, Clone)]
pub(super) struct Change(pub(super) Option<Bytes>);

impl Weight for Change {
    fn weight(&self) -> usize {
        1
    }
}

impl Change {
    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, Bytes::len)
    }
}

/// A change with its place.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) bucket: Bucket,
    pub(super) key: Key,
    pub(super) change: Change,
}

/// Memory that an entry costs beside its key and value, for the bound on unflushed bytes.
const ENTRY_OVERHEAD: usize = 64;

/// The newest change of each touched key.
#[derive(Debug, Clone, Default)]
pub(super) struct Overlay {
    buckets: [CowTree<Key, Change>; Bucket::ALL.len()],
    len: usize,
    bytes: usize,
}

impl Overlay {
    /// Records a change over an older one of the same key.
    pub(super) fn insert(&mut self, entry: Entry) {
        let key_len = entry.key.as_slice().len();
        self.bytes += entry.change.len();
        match self.buckets[entry.bucket.index()].insert(entry.key, entry.change) {
            Some(old) => self.bytes -= old.len(),
            None => {
                self.len += 1;
                self.bytes += key_len + ENTRY_OVERHEAD;
            }
        }
    }

    /// `Some(None)`: deleted here. `None`: nothing known here.
    pub(super) fn get(&self, bucket: Bucket, key: &[u8]) -> Option<&Change> {
        self.buckets[bucket.index()].get(key)
    }

    /// Changes in `[from, to)`; the caller has checked `from < to`.
    fn range<'a>(
        &'a self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a Key, &'a Change)> + use<'a> {
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        self.buckets[bucket.index()].range(Bound::Included(from), to)
    }

    /// Number of touched keys.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Approximate memory held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The changes as an engine takes them: by bucket, then by key.
    pub(super) fn to_batch(&self) -> Batch {
        let mut batch = Batch::with_capacity(self.len);
        for bucket in Bucket::ALL {
            for (key, change) in &self.buckets[bucket.index()] {
                let key = Bytes::copy_from_slice(key.as_slice());
                batch.push(match &change.0 {
                    Some(value) => Op::Put {
                        bucket,
                        key,
                        value: value.clone(),
                    },
                    None => Op::Delete { bucket, key },
                });
            }
        }
        batch
    }
}

/// Answer of a base below the layers: keys and values in `[from, to)`, at most `limit` (0: all).
type BaseScan<'a> = dyn Fn(&[u8], Option<&[u8]>, usize) -> Result<Vec<(Bytes, Bytes)>, Error> + 'a;

/// Fewest keys asked of the base at a time when a limit is given, so that many deletes in the layers do not make
/// many small reads.
const MIN_CHUNK: usize = 16;

/// Merges `layers` (newest first) over `base`; bounds and limit as in [`super::View::scan`].
pub(super) fn scan(
    base: &BaseScan<'_>,
    layers: &[&Overlay],
    bucket: Bucket,
    from: &[u8],
    to: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(Bytes, Bytes)>, Error> {
    if to.is_some_and(|to| to <= from) {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    let mut from = Bytes::copy_from_slice(from);
    loop {
        let want = if limit == 0 {
            0
        } else {
            (limit - out.len()).max(MIN_CHUNK)
        };
        let chunk = base(&from, to, want)?;
        // A full chunk says nothing about what lies behind its last key.
        let next = match chunk.last() {
            Some((last, _)) if want != 0 && chunk.len() >= want => Some(successor(last)),
            _ => None,
        };
        let end = next.as_deref().or(to);
        merge(chunk, layers, bucket, &from, end, limit, &mut out);
        match next {
            Some(next) if out.len() < limit && to.is_none_or(|to| &next[..] < to) => from = next,
            _ => return Ok(out),
        }
    }
}

/// Merges one stretch until `out` has `limit` keys (0: no limit).
pub(super) fn merge(
    base: Vec<(Bytes, Bytes)>,
    layers: &[&Overlay],
    bucket: Bucket,
    from: &[u8],
    to: Option<&[u8]>,
    limit: usize,
    out: &mut Vec<(Bytes, Bytes)>,
) {
    let mut base = base.into_iter().peekable();
    let mut layers: Vec<_> = layers
        .iter()
        .map(|l| l.range(bucket, from, to).peekable())
        .collect();
    while limit == 0 || out.len() < limit {
        let lowest = layers
            .iter_mut()
            .filter_map(|l| l.peek().map(|(key, _)| key.as_slice()))
            .min();
        let Some(lowest) = lowest else {
            let room = if limit == 0 {
                usize::MAX
            } else {
                limit - out.len()
            };
            out.extend(base.take(room));
            return;
        };
        match base.peek().map(|(key, _)| key[..].cmp(lowest)) {
            Some(std::cmp::Ordering::Less) => {
                out.extend(base.next());
                continue;
            }
            Some(std::cmp::Ordering::Equal) => {
                base.next();
            }
            _ => {}
        }
        let mut newest: Option<&Change> = None;
        for layer in &mut layers {
            if let Some((_, change)) = layer.next_if(|(key, _)| key.as_slice() == lowest) {
                newest.get_or_insert(change);
            }
        }
        if let Some(Change(Some(value))) = newest {
            out.push((Bytes::copy_from_slice(lowest), value.clone()));
        }
    }
}

/// The least key above `key`.
pub(super) fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

impl From<&Op> for Entry {
    fn from(op: &Op) -> Self {
        match op {
            Op::Put { bucket, key, value } => Entry {
                bucket: *bucket,
                key: Key::new(key),
                change: Change(Some(value.clone())),
            },
            Op::Delete { bucket, key } => Entry {
                bucket: *bucket,
                key: Key::new(key),
                change: Change(None),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_compare_as_their_bytes() {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for len in 0..30 {
            keys.push(vec![0; len]);
            keys.push(vec![1; len]);
            for at in 0..len {
                let mut key = vec![0; len];
                key[at] = 0x80;
                keys.push(key.clone());
                key[len - 1] = 7;
                keys.push(key);
            }
        }
        for a in &keys {
            assert_eq!(Key::new(a).as_slice(), a);
            for b in &keys {
                assert_eq!(Key::new(a).cmp(&Key::new(b)), a.cmp(b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_key_needs_no_more_than_three_words() {
        assert_eq!(size_of::<Key>(), 24);
    }
}
