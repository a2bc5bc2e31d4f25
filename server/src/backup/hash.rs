//! What `snapshot status` computes over a whole database (disk-format 8.3).

use std::collections::HashSet;

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::mvccpb::KeyValue;
use retcd_storage::backend::Bucket;
use retcd_storage::mvcc::Revision;

use super::database::Tables;
use super::status::StatusError;

/// Pairs read at a time: bounded memory, whatever the database holds.
const CHUNK: usize = 1_000;

/// Checksum over everything, and the newest revision and the number of live keys on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) hash: u32,
    pub(super) revision: i64,
    pub(super) keys: usize,
}

pub(super) fn totals(tables: &dyn Tables) -> Result<Totals, StatusError> {
    let mut hash = 0;
    let mut revision = 0;
    let mut live: HashSet<Bytes> = HashSet::new();
    for bucket in tables.buckets()? {
        hash = crc32c::crc32c_append(hash, &bucket);
        let is_key = bucket == Bucket::Key.name().as_bytes();
        let mut from = Vec::new();
        loop {
            let pairs = tables.scan(&bucket, &from, CHUNK)?;
            for (key, value) in &pairs {
                hash = crc32c::crc32c_append(hash, key);
                hash = crc32c::crc32c_append(hash, value);
                if is_key {
                    revision = count(&mut live, key, value)?;
                }
            }
            match pairs.last() {
                // The next key in order after the last one.
                Some((last, _)) if pairs.len() == CHUNK => {
                    from.clear();
                    from.extend_from_slice(last);
                    from.push(0);
                }
                _ => break,
            }
        }
    }
    Ok(Totals {
        hash,
        revision,
        keys: live.len(),
    })
}

/// Counts one stored revision and returns its main number. A revision without a key, which a bump
/// leaves behind, counts as a key without a name, as in etcd.
fn count(live: &mut HashSet<Bytes>, key: &Bytes, value: &Bytes) -> Result<i64, StatusError> {
    let (revision, tombstone) =
        Revision::from_key(key).ok_or_else(|| StatusError::RevisionKey(key.clone()))?;
    let stored = KeyValue::decode(value.clone()).map_err(|source| StatusError::Value {
        revision: revision.to_string(),
        source,
    })?;
    if tombstone {
        live.remove(&stored.key);
    } else if !live.contains(&stored.key) {
        // A copy, so that the key does not keep its whole page of values alive.
        live.insert(Bytes::copy_from_slice(&stored.key));
    }
    Ok(revision.main)
}

#[cfg(test)]
mod tests {
    use super::super::database::fake::FakeTables;
    use super::*;

    fn put(tables: &mut FakeTables, main: i64, key: &str, value: &str) {
        let stored = KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ..KeyValue::default()
        };
        tables.put("key", Revision::new(main, 0).key(), stored.encode_to_vec());
    }

    fn delete(tables: &mut FakeTables, main: i64, key: &str) {
        let stored = KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..KeyValue::default()
        };
        let revision = Revision::new(main, 0).tombstone_key();
        tables.put("key", revision, stored.encode_to_vec());
    }

    #[test]
    fn everything_is_hashed_in_order() {
        let mut tables = FakeTables::default();
        tables.put("meta", "b", "2");
        tables.put("meta", "a", "1");
        tables.put("alarm", "x", "");
        tables.bucket("auth");
        let found = totals(&tables).expect("sound");
        assert_eq!(found.hash, crc32c::crc32c(b"alarmxauthmetaa1b2"));
        assert_eq!((found.revision, found.keys), (0, 0));
    }

    #[test]
    fn chunks_leave_nothing_out_and_nothing_twice() {
        let mut tables = FakeTables::default();
        let mut all = b"key".to_vec();
        for main in 1..=3 * CHUNK as i64 {
            put(&mut tables, main, &format!("k{}", main % 7), "v");
        }
        for (key, value) in tables.scan(b"key", b"", 0).expect("readable") {
            all.extend_from_slice(&key);
            all.extend_from_slice(&value);
        }
        let found = totals(&tables).expect("sound");
        assert_eq!(found.hash, crc32c::crc32c(&all));
        assert_eq!((found.revision, found.keys), (3 * CHUNK as i64, 7));
    }

    #[test]
    fn live_keys_are_those_without_a_tombstone_at_the_end() {
        let mut tables = FakeTables::default();
        put(&mut tables, 2, "a", "1");
        put(&mut tables, 3, "b", "1");
        delete(&mut tables, 4, "a");
        put(&mut tables, 5, "c", "1");
        delete(&mut tables, 6, "c");
        put(&mut tables, 7, "c", "2");
        let found = totals(&tables).expect("sound");
        assert_eq!((found.revision, found.keys), (7, 2));
        // What a restore with a bumped revision leaves.
        tables.put("key", Revision::new(107, 0).key(), "");
        let found = totals(&tables).expect("sound");
        assert_eq!((found.revision, found.keys), (107, 3));
    }

    #[test]
    fn a_damaged_revision_is_named() {
        let mut tables = FakeTables::default();
        tables.put("key", "short", "");
        let error = totals(&tables).expect_err("no revision").to_string();
        assert!(
            error.contains("cannot parse revision key: \"short\""),
            "{error}"
        );
        let mut tables = FakeTables::default();
        tables.put("key", Revision::new(9, 1).key(), "\u{7f}");
        let error = totals(&tables).expect_err("no value").to_string();
        assert!(error.contains("revision 9.1"), "{error}");
    }
}
