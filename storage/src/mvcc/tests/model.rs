//! The simplest store there is: for every revision the whole map, and the list of all records.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use retcd_proto::mvccpb::KeyValue;

use crate::mvcc::{Error, Kv, RangeQuery, RangeResult, Revision};

pub(super) type Map = BTreeMap<Bytes, Item>;

/// A live key.
#[derive(Clone)]
pub(super) struct Item {
    modified: Revision,
    created: i64,
    version: i64,
    pub(super) lease: i64,
    encoded: Bytes,
    without_value: Bytes,
}

/// A record of the `key` bucket.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) revision: Revision,
    tombstone: bool,
    key: Bytes,
    encoded: Bytes,
}

#[derive(Clone)]
pub(super) struct Model {
    pub(super) rev: i64,
    pub(super) compact_rev: i64,
    /// From the compacted revision on.
    versions: BTreeMap<i64, Arc<Map>>,
    /// Those which finished compactions leave.
    pub(super) records: Vec<Record>,
    changes: i64,
    /// What the open transaction sees.
    working: Map,
}

impl Model {
    pub(super) fn new() -> Model {
        Model {
            rev: 1,
            compact_rev: -1,
            versions: BTreeMap::from([(1, Arc::default())]),
            records: Vec::new(),
            changes: 0,
            working: Map::new(),
        }
    }

    pub(super) fn put(&mut self, key: &Bytes, value: &Bytes, lease: i64) {
        let modified = Revision::new(self.rev + 1, self.changes);
        let (created, version) = self
            .working
            .get(key)
            .map_or((modified.main, 1), |old| (old.created, old.version + 1));
        let mut kv = KeyValue {
            key: key.clone(),
            create_revision: created,
            mod_revision: modified.main,
            version,
            value: value.clone(),
            lease,
        };
        let encoded = Bytes::from(kv.encode_to_vec());
        kv.value.clear();
        kv.lease = 0;
        let without_value = kv.encode_to_vec().into();
        self.record(modified, false, key, encoded.clone());
        self.working.insert(
            key.clone(),
            Item {
                modified,
                created,
                version,
                lease,
                encoded,
                without_value,
            },
        );
    }

    pub(super) fn delete(&mut self, key: &[u8], end: &[u8], want_prev: bool) -> Vec<Kv> {
        let deleted = in_range(&self.working, key, end);
        let deleted: Vec<_> = deleted.map(|(k, item)| (k.clone(), item.clone())).collect();
        for (key, _) in &deleted {
            self.working.remove(key);
            let encoded = KeyValue {
                key: key.clone(),
                ..KeyValue::default()
            }
            .encode_to_vec();
            self.record(
                Revision::new(self.rev + 1, self.changes),
                true,
                key,
                encoded.into(),
            );
        }
        let kv = |(key, item): &(Bytes, Item)| {
            let mut kv = item.kv(key, false);
            if !want_prev {
                kv.encoded.clear();
            }
            kv
        };
        deleted.iter().map(kv).collect()
    }

    fn record(&mut self, revision: Revision, tombstone: bool, key: &Bytes, encoded: Bytes) {
        self.records.push(Record {
            revision,
            tombstone,
            key: key.clone(),
            encoded,
        });
        self.changes += 1;
    }

    pub(super) fn end(&mut self) {
        if self.changes > 0 {
            self.rev += 1;
            self.changes = 0;
            self.versions
                .insert(self.rev, Arc::new(self.working.clone()));
        }
    }

    /// What the open transaction reads.
    pub(super) fn read_own(&self, query: &RangeQuery) -> Result<RangeResult, Error> {
        let rev = self.rev + i64::from(self.changes > 0);
        match query.rev {
            asked if asked <= 0 || asked == rev => Ok(answer(&self.working, query, rev)),
            _ => self.read(query, rev, self.compact_rev),
        }
    }

    /// What is read when `rev` is the newest and `compact_rev` the compacted revision.
    pub(super) fn read(
        &self,
        query: &RangeQuery,
        rev: i64,
        compact_rev: i64,
    ) -> Result<RangeResult, Error> {
        let at = if query.rev <= 0 { rev } else { query.rev };
        if at > rev {
            return Err(Error::FutureRev);
        }
        if at < compact_rev {
            return Err(Error::Compacted);
        }
        Ok(answer(&self.versions[&at], query, rev))
    }

    pub(super) fn newest(&self) -> &Map {
        &self.working
    }

    /// Compacts at once; returns the hash of the compaction.
    pub(super) fn compact(&mut self, rev: i64) -> Result<u32, Error> {
        if rev <= self.compact_rev {
            return Err(Error::Compacted);
        }
        if rev > self.rev {
            return Err(Error::FutureRev);
        }
        let keep = self.compact_keep(rev);
        let hash = self.hash(rev, self.compact_rev, &keep);
        self.records
            .retain(|record| record.revision.main > rev || keep.contains(&record.revision));
        self.compact_rev = rev;
        Ok(hash)
    }

    /// Forgets the maps of compacted revisions, of which a reader may still have some.
    pub(super) fn forget_below(&mut self, rev: i64) {
        while self
            .versions
            .first_entry()
            .is_some_and(|first| *first.key() < rev)
        {
            self.versions.pop_first();
        }
    }

    pub(super) fn hash_kv(&self, rev: i64) -> u32 {
        self.hash(rev, self.compact_rev, &self.keep(rev))
    }

    /// The lives of all keys, each from a put to a tombstone.
    fn generations(&self) -> Vec<Vec<Vec<&Record>>> {
        let mut keys: HashMap<&[u8], Vec<Vec<&Record>>> = HashMap::new();
        for record in &self.records {
            let generations = keys.entry(&record.key).or_default();
            let closed = generations
                .last()
                .and_then(|g| g.last())
                .is_none_or(|last| last.tombstone);
            if closed {
                generations.push(Vec::new());
            }
            generations.last_mut().unwrap().push(record);
        }
        keys.into_values().collect()
    }

    /// Of each key the last record up to `rev` of the first generation that is open or ended at `rev` or later.
    fn last_in_first<'a>(generations: &[Vec<&'a Record>], rev: i64) -> Option<&'a Record> {
        let ended_before = |g: &Vec<&Record>| {
            let last = g.last().unwrap();
            last.tombstone && last.revision.main < rev
        };
        let first = generations.iter().find(|g| !ended_before(g))?;
        first
            .iter()
            .rfind(|record| record.revision.main <= rev)
            .copied()
    }

    /// The records up to `rev` that a compaction at `rev` keeps (disk-format 6.5).
    fn compact_keep(&self, rev: i64) -> BTreeSet<Revision> {
        let mut keep = BTreeSet::new();
        for generations in self.generations() {
            let Some(last) = Self::last_in_first(&generations, rev) else {
                continue;
            };
            // "And everything newer": in the same transaction a key may have begun another life.
            keep.extend(
                generations
                    .iter()
                    .flatten()
                    .map(|r| r.revision)
                    .filter(|&r| r >= last.revision && r.main <= rev),
            );
        }
        keep
    }

    /// The records up to `rev` that count for a hash (disk-format 8.2).
    fn keep(&self, rev: i64) -> BTreeSet<Revision> {
        let generations = self.generations();
        let last = generations
            .iter()
            .filter_map(|g| Self::last_in_first(g, rev));
        last.filter(|last| !last.tombstone)
            .map(|last| last.revision)
            .collect()
    }

    fn hash(&self, rev: i64, compact_rev: i64, keep: &BTreeSet<Revision>) -> u32 {
        let mut bytes = b"key".to_vec();
        for Record {
            revision,
            tombstone,
            encoded,
            ..
        } in &self.records
        {
            let below = revision.main <= compact_rev;
            if revision.main > rev
                || below && !keep.is_empty() && !keep.contains(revision)
                || *tombstone && revision.main == compact_rev
            {
                continue;
            }
            if *tombstone {
                bytes.extend(revision.tombstone_key());
            } else {
                bytes.extend(revision.key());
            }
            bytes.extend(encoded);
        }
        crc32c::crc32c(&bytes)
    }
}

impl Item {
    fn kv(&self, key: &Bytes, keys_only: bool) -> Kv {
        let encoded = if keys_only {
            &self.without_value
        } else {
            &self.encoded
        };
        Kv {
            key: key.clone(),
            modified: self.modified,
            created: self.created,
            version: self.version,
            encoded: encoded.clone(),
        }
    }
}

/// The keys `etcdctl` would mean.
fn in_range<'a>(
    map: &'a Map,
    key: &'a [u8],
    end: &'a [u8],
) -> impl Iterator<Item = (&'a Bytes, &'a Item)> {
    map.iter().filter(move |(k, _)| match end {
        [] => k[..] == *key,
        [0] => k[..] >= *key,
        _ => k[..] >= *key && k[..] < *end,
    })
}

fn answer(map: &Map, query: &RangeQuery, rev: i64) -> RangeResult {
    let found: Vec<_> = in_range(map, query.key, query.end).collect();
    let wanted = match (query.count_only, query.limit) {
        (true, _) => 0,
        (false, 0) => usize::MAX,
        (false, limit) => limit,
    };
    let kvs = found
        .iter()
        .take(wanted)
        .map(|(key, item)| item.kv(key, query.keys_only))
        .collect();
    RangeResult {
        kvs,
        count: found.len(),
        rev,
    }
}
