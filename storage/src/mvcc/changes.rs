//! What changed: as it happens, and again later from history. This is what watchers see.

use bytes::Bytes;

use super::chunks::Chunks;
use super::kv::{Fields, Layout};
use super::read::RangeQuery;
use super::{Error, Kv, Revision, StoreReader};
use crate::backend::Bucket;

/// One put, or one key deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its revision; changes of one transaction share the main one.
    pub revision: Revision,
    /// Which key.
    pub key: Bytes,
    /// What was done to it.
    pub kind: ChangeKind,
}

/// What was done to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was put.
    Put {
        /// The put brought the key to life.
        created: bool,
        /// The stored `mvccpb.KeyValue`.
        encoded: Bytes,
    },
    /// It was deleted.
    Delete,
}

impl Change {
    /// The `mvccpb.KeyValue` of its event: as stored, or for a deletion key and revision only.
    pub fn event_kv(&self) -> Bytes {
        match &self.kind {
            ChangeKind::Put { encoded, .. } => encoded.clone(),
            ChangeKind::Delete => Fields {
                key: &self.key,
                mod_revision: self.revision.main,
                ..Fields::default()
            }
            .encode(),
        }
    }

    /// Whether it is a deletion.
    pub fn is_delete(&self) -> bool {
        self.kind == ChangeKind::Delete
    }

    /// About how many bytes it keeps in memory.
    pub fn weight(&self) -> usize {
        let value = match &self.kind {
            ChangeKind::Put { encoded, .. } => encoded.len(),
            ChangeKind::Delete => 0,
        };
        size_of::<Change>() + self.key.len() + value
    }
}

/// How much of history to read at once. A revision is never cut, so both may be exceeded by the last one.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// Records to look at.
    pub records: usize,
    /// Bytes of wanted changes.
    pub bytes: usize,
}

/// A stretch of history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The wanted changes, in order of revision.
    pub changes: Vec<Change>,
    /// Where to go on: the main revision behind the stretch.
    pub next: i64,
    /// The store's revision when the stretch was read. All is read when `next` is above it.
    pub current: i64,
}

impl StoreReader {
    /// Reads what changed from main revision `from` on, as far as `stretch` goes, and keeps what `wanted` says
    /// of key and main revision. Nobody waits for it.
    ///
    /// # Errors
    /// `Compacted` if `from` is below the compacted revision, also if a compaction came meanwhile: a stretch
    /// has no gap. `Corrupt` and `Backend` otherwise.
    pub fn history(
        &self,
        from: i64,
        stretch: Stretch,
        mut wanted: impl FnMut(&[u8], i64) -> bool,
    ) -> Result<History, Error> {
        // In this order. A revision appears after its records, so the view has all up to `current`. And a
        // compaction is announced before its first deletion, so with `from` not below it none is in the view.
        let version = self.shared.published.load_full();
        let current = version.rev;
        let view = version.base.backend.view()?;
        if from < self.compact_rev() {
            return Err(Error::Compacted);
        }
        let mut history = History {
            changes: Vec::new(),
            next: current.saturating_add(1).max(from),
            current,
        };
        if from > current {
            return Ok(history);
        }
        let first = Revision::new(from.max(0), 0).key();
        let end = Revision::new(history.next, 0).key();
        let (mut records, mut bytes, mut last) = (0, 0, from);
        for chunk in Chunks::new(&*view, Bucket::Key, &first, Some(&end)) {
            for (key, encoded) in chunk? {
                let corrupt = |problem| Error::corrupt(Bucket::Key, &key, problem);
                let (revision, tombstone) =
                    Revision::from_key(&key).ok_or_else(|| corrupt("the key is not a revision"))?;
                if revision.main > last {
                    if records >= stretch.records || bytes >= stretch.bytes {
                        history.next = revision.main;
                        return Ok(history);
                    }
                    last = revision.main;
                }
                records += 1;
                // `etcdutl snapshot restore --bump-revision` stores an empty key-value.
                if encoded.is_empty() {
                    continue;
                }
                let layout =
                    Layout::of(&encoded).ok_or_else(|| corrupt("the value is not a key-value"))?;
                if !wanted(&encoded[layout.key.clone()], revision.main) {
                    continue;
                }
                let change = Change {
                    revision,
                    key: encoded.slice(layout.key),
                    kind: match tombstone {
                        true => ChangeKind::Delete,
                        false => ChangeKind::Put {
                            created: layout.create_revision == layout.mod_revision,
                            encoded,
                        },
                    },
                };
                bytes += change.weight();
                history.changes.push(change);
            }
        }
        Ok(history)
    }

    /// What the key had before `change`: nothing if the change created it, or if that is compacted.
    ///
    /// # Errors
    /// `Corrupt` and `Backend`.
    pub fn before(&self, change: &Change) -> Result<Option<Kv>, Error> {
        if matches!(change.kind, ChangeKind::Put { created: true, .. }) || change.revision.main <= 1
        {
            return Ok(None);
        }
        let query = RangeQuery {
            key: &change.key,
            rev: change.revision.main - 1,
            ..RangeQuery::default()
        };
        match self.range(&query) {
            Ok(found) => Ok(found.kvs.into_iter().next()),
            Err(Error::Compacted) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
