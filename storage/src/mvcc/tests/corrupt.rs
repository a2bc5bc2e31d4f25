//! Records that no member wrote are named, never guessed at, and never a panic.

use bytes::Bytes;

use super::*;
use crate::backend::{Batch, Bucket};
use crate::testing::Random;

const FINE: &[u8] = b"\x0a\x01a\x10\x02\x18\x02\x20\x01\x2a\x011";

fn open_records(records: &[(Bucket, &[u8], &[u8])]) -> Result<Store, Error> {
    let engine = memory();
    let mut batch = Batch::default();
    for (bucket, key, value) in records {
        batch.put(
            *bucket,
            Bytes::copy_from_slice(key),
            Bytes::copy_from_slice(value),
        );
    }
    engine.commit(&batch).unwrap();
    let (writer, reader) = Writer::start(engine, WriterOptions::default());
    Store::open(writer, reader, StoreOptions::default())
}

fn refused(records: &[(Bucket, &[u8], &[u8])]) -> String {
    match open_records(records) {
        Err(error @ Error::Corrupt { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("opened {records:?}"),
    }
}

#[test]
fn damaged_records_are_refused_by_name() {
    let at = Revision::new(2, 0).key();
    assert!(open_records(&[(Bucket::Key, &at, FINE)]).is_ok());
    for (key, value, problem) in [
        (
            &at[..16],
            FINE,
            "key 0x00000000000000025f00000000000000: the key is not a revision",
        ),
        (
            &b"nonsense"[..],
            FINE,
            "key nonsense: the key is not a revision",
        ),
        (
            &Revision::new(0, 1).key(),
            FINE,
            "key 0.1: no store ever had this revision",
        ),
        (
            &Revision::new(i64::MAX, 0).key(),
            FINE,
            "no store ever had this revision",
        ),
        (
            &Revision::new(2, i64::MAX).key(),
            FINE,
            "no store ever had this revision",
        ),
        (&at, b"\x0a\x05a", "key 2.0: the value is not a key-value"),
        (
            &Revision::new(3, 0).key(),
            FINE,
            "key 3.0: the value has another mod_revision",
        ),
        (
            &at,
            b"\x0a\x01a\x10\x03\x18\x02\x20\x01",
            "the value has an impossible create_revision",
        ),
        (
            &at,
            b"\x0a\x01a\x18\x02\x20\x01",
            "the value has an impossible create_revision",
        ),
        (
            &at,
            b"\x0a\x01a\x10\x02\x18\x02",
            "the value has an impossible version",
        ),
        (
            &Revision::new(2, 0).tombstone_key(),
            b"\xff",
            "key 2.0: the value is not a key-value",
        ),
    ] {
        let message = refused(&[(Bucket::Key, key, value)]);
        assert!(message.contains(problem), "{message}");
        assert!(message.starts_with("mvcc: bucket key, key "), "{message}");
        assert!(
            message.contains("restore this member from a snapshot"),
            "{message}"
        );
    }
    let twice = refused(&[
        (Bucket::Key, &at, FINE),
        (
            Bucket::Key,
            &Revision::new(2, 0).tombstone_key(),
            b"\x0a\x01a",
        ),
    ]);
    assert!(
        twice.contains("key 2.0: it is the second record of its revision"),
        "{twice}"
    );
}

#[test]
fn damaged_marks_are_refused_by_name() {
    for mark in [
        &b""[..],
        b"17",
        &Revision::new(2, 0).tombstone_key(),
        &[0xff; 17],
    ] {
        for key in ["scheduledCompactRev", "finishedCompactRev"] {
            let message = refused(&[(Bucket::Meta, key.as_bytes(), mark)]);
            let expected = format!("mvcc: bucket meta, key {key}: the value is not a revision");
            assert!(message.starts_with(&expected), "{message}");
        }
    }
}

/// A value that changed behind the store's back is noticed when it is read.
#[test]
fn damaged_values_are_refused_when_read() {
    let at = Revision::new(2, 0).key();
    for (value, problem) in [
        (None, "the record is missing"),
        (Some(&b"\x0a\x05a"[..]), "the value is not a key-value"),
        (
            Some(b"\x0a\x01a\x18\x03"),
            "the value has another mod_revision",
        ),
        (Some(b"\x0a\x01b\x18\x02"), "the value has another key"),
    ] {
        let mut store = open_with(&memory(), 0, WriterOptions::default());
        put(&mut store, "a", "1");
        match value {
            None => store.backend().delete(Bucket::Key, at),
            Some(value) => store
                .backend()
                .put(Bucket::Key, at, Bytes::from_static(value)),
        }
        store.publish().unwrap();
        let read = store.reader().range(&query("a", "", 0)).unwrap_err();
        let read_in_txn = store.begin().range(&query("a", "", 0)).unwrap_err();
        let deleted = store.begin().delete_range(b"a", b"", true).unwrap_err();
        for error in [read, read_in_txn, deleted] {
            assert!(
                error.to_string().contains(&format!("key 2.0: {problem}")),
                "{error}"
            );
        }
        assert_eq!(store.rev(), 2, "nothing was deleted");
    }
}

/// Whatever single bytes are damaged: the store opens or says what is wrong.
#[test]
fn flipped_bytes_never_panic() {
    let seed = Random::seed("flipped bytes");
    let mut random = Random::new(seed);
    let at = [2, 3, 4].map(|main| Revision::new(main, 0));
    for _ in 0..3000 {
        let mut records = [
            (Bucket::Key, at[0].key().to_vec(), FINE.to_vec()),
            (
                Bucket::Key,
                at[1].key().to_vec(),
                b"\x0a\x01a\x10\x02\x18\x03\x20\x02\x2a\x012\x30\x07".to_vec(),
            ),
            (
                Bucket::Key,
                at[2].tombstone_key().to_vec(),
                b"\x0a\x01a".to_vec(),
            ),
            (
                Bucket::Meta,
                b"scheduledCompactRev".to_vec(),
                at[1].key().to_vec(),
            ),
            (
                Bucket::Meta,
                b"finishedCompactRev".to_vec(),
                at[0].key().to_vec(),
            ),
        ];
        for _ in 0..1 + random.below(2) {
            let n = random.below(records.len() as u32) as usize;
            let record = &mut records[n];
            let bytes = if record.0 == Bucket::Key && random.below(2) == 0 {
                &mut record.1
            } else {
                &mut record.2
            };
            let n = random.below(bytes.len() as u32) as usize;
            bytes[n] = random.next() as u8;
        }
        let records: Vec<_> = records
            .iter()
            .map(|(b, k, v)| (*b, &k[..], &v[..]))
            .collect();
        if let Ok(mut store) = open_records(&records) {
            put(&mut store, "a", "x");
            _ = store.reader().range(&query("\0", "\0", 0)).unwrap();
            _ = store.reader().hash_kv(0).unwrap();
            while step(&mut store, 2) != Compaction::Idle {}
        }
    }
}
