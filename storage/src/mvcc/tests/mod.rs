//! Tests of the store as a whole.

mod concurrent;
mod corrupt;
mod crash;
mod hashes;
mod model;
mod random;
mod replace;
mod rules;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::backend::{Backend, MemBackend, Writer, WriterOptions};
use crate::clock::{Clock, SystemClock};

/// A store over `engine`, with a small cache so that all ways to a value are used.
fn open(engine: &Arc<dyn Backend>) -> Store {
    open_with(engine, 4096, WriterOptions::default())
}

fn open_with(engine: &Arc<dyn Backend>, value_cache_bytes: u64, options: WriterOptions) -> Store {
    let (writer, reader) = Writer::start(engine.clone(), options);
    Store::open(writer, reader, StoreOptions { value_cache_bytes }).unwrap()
}

fn memory() -> Arc<dyn Backend> {
    Arc::new(MemBackend::new())
}

/// Steps until one compaction is finished.
fn finish_compaction(store: &mut Store, max_keys: usize) -> i64 {
    loop {
        match step(store, max_keys) {
            Compaction::Finished(rev) => return rev,
            Compaction::Idle => panic!("no compaction is under way"),
            Compaction::More | Compaction::Waiting => {}
        }
    }
}

/// One step, after the hash is there.
fn step(store: &mut Store, max_keys: usize) -> Compaction {
    let deadline = SystemClock.now() + Duration::from_secs(60);
    loop {
        match store.compaction_step(max_keys).unwrap() {
            Compaction::Waiting => assert!(SystemClock.now() < deadline, "the hash takes too long"),
            other => return other,
        }
        std::thread::yield_now();
    }
}

/// A transaction with one put, published.
fn put(store: &mut Store, key: &str, value: &str) -> i64 {
    let mut txn = store.begin();
    txn.put(key.to_owned().into(), value.to_owned().into(), 0)
        .unwrap();
    let rev = txn.end();
    store.publish().unwrap();
    rev
}

/// A transaction with one delete, published.
fn delete(store: &mut Store, key: &str, end: &str) -> i64 {
    let mut txn = store.begin();
    txn.delete_range(key.as_bytes(), end.as_bytes(), false)
        .unwrap();
    let rev = txn.end();
    store.publish().unwrap();
    rev
}

fn query<'a>(key: &'a str, end: &'a str, rev: i64) -> RangeQuery<'a> {
    RangeQuery {
        key: key.as_bytes(),
        end: end.as_bytes(),
        rev,
        ..RangeQuery::default()
    }
}

/// `key=value` of each, separated by spaces.
fn text(result: &RangeResult) -> String {
    let texts = result.kvs.iter().map(|kv| {
        let (key, value) = (String::from_utf8_lossy(&kv.key), kv.value());
        format!("{key}={}", String::from_utf8_lossy(&value))
    });
    texts.collect::<Vec<_>>().join(" ")
}
