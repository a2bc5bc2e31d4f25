mod life;
mod model;
mod peer;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use retcd_storage::backend::{Backend, Batch, Bucket, MemBackend, Writer, WriterOptions};
use retcd_storage::clock::ManualClock;
use retcd_storage::mvcc::{self, Store, StoreOptions};

use super::*;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::txn::{Failure, Leases as _};

const MIN_TTL: i64 = 2;

/// What a new leader adds.
const GRACE: Duration = Duration::from_secs(1);

fn shared() -> Arc<Leases> {
    with_clock(Arc::new(ManualClock::new(Duration::ZERO)))
}

fn with_clock(clock: Arc<ManualClock>) -> Arc<Leases> {
    let metrics = Metrics::new().unwrap();
    Arc::new(Leases::new(clock, GRACE, metrics.lease.clone()))
}

fn open(engine: &Arc<dyn Backend>) -> (Store, Lessor) {
    let (writer, reader) = Writer::start(engine.clone(), WriterOptions::default());
    let lessor = Lessor::load(&reader, MIN_TTL, shared()).unwrap();
    let store = Store::open(writer, reader, StoreOptions::default()).unwrap();
    (store, lessor)
}

fn new() -> (Arc<dyn Backend>, Store, Lessor) {
    let engine: Arc<dyn Backend> = Arc::new(MemBackend::new());
    let (store, lessor) = open(&engine);
    (engine, store, lessor)
}

fn put(store: &mut Store, lessor: &mut Lessor, key: &'static str, lease: i64) {
    let key = Bytes::from(key);
    let mut txn = store.begin();
    txn.put(key.clone(), Bytes::new(), lease).unwrap();
    txn.end();
    lessor.attach(&key, lease);
}

fn records(store: &mut Store) -> Vec<(Bytes, Bytes)> {
    store.backend().scan(Bucket::Lease, &[], None, 0).unwrap()
}

#[test]
fn records_are_those_of_etcd() {
    let (_engine, mut store, mut lessor) = new();
    lessor
        .grant(store.backend(), 0x390d_a21e_e2dc_a405, 3600)
        .unwrap();
    lessor.grant(store.backend(), -1, 300).unwrap();
    lessor.checkpoint(store.backend(), -1, 77, true);
    assert_eq!(
        records(&mut store),
        [
            (
                Bytes::from_static(b"\x39\x0d\xa2\x1e\xe2\xdc\xa4\x05"),
                Bytes::from_static(b"\x08\x85\xc8\xf2\x96\xee\xc3\xe8\x86\x39\x10\x90\x1c"),
            ),
            (
                Bytes::from_static(b"\xff\xff\xff\xff\xff\xff\xff\xff"),
                Bytes::from_static(
                    b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\xac\x02\x18\x4d"
                ),
            ),
        ]
    );
}

#[test]
fn a_grant_is_checked_as_etcd_checks_it() {
    let (_engine, mut store, mut lessor) = new();
    let backend = store.backend();
    assert_eq!(
        lessor.grant(backend, 0, 10).unwrap_err(),
        Error::LeaseNotFound
    );
    assert_eq!(
        lessor.grant(backend, 1, MAX_TTL + 1).unwrap_err(),
        Error::LeaseTtlTooLarge
    );
    assert_eq!(lessor.grant(backend, 1, MAX_TTL).unwrap(), MAX_TTL);
    assert_eq!(
        lessor.grant(backend, 1, 10).unwrap_err(),
        Error::LeaseExists
    );
    for ttl in [i64::MIN, -1, 0, 1] {
        let id = 100 + ttl.clamp(-50, 50);
        assert_eq!(lessor.grant(backend, id, ttl).unwrap(), MIN_TTL);
    }
    assert_eq!(lessor.shared.len(), 5);
    assert_eq!(
        records(&mut store).len(),
        5,
        "a refused grant leaves nothing"
    );
}

#[test]
fn a_revoke_deletes_in_key_order_and_in_one_revision() {
    let (engine, mut store, mut lessor) = new();
    lessor.grant(store.backend(), 7, 60).unwrap();
    lessor.grant(store.backend(), 8, 60).unwrap();
    for key in ["c", "a", "b", "moved", "gone"] {
        put(&mut store, &mut lessor, key, 7);
    }
    put(&mut store, &mut lessor, "moved", 8);
    put(&mut store, &mut lessor, "gone", 0);
    let before = store.rev();

    lessor.revoke(&mut store, 7).unwrap();
    assert_eq!(store.rev(), before + 1);
    let tombstones: Vec<Bytes> = store
        .backend()
        .scan(Bucket::Key, &(before + 1).to_be_bytes(), None, 0)
        .unwrap()
        .into_iter()
        .map(|(_, value)| value.slice(2..))
        .collect();
    assert_eq!(tombstones, ["a", "b", "c"]);
    assert!(!lessor.exists(7));

    lessor.grant(store.backend(), 9, 60).unwrap();
    lessor.revoke(&mut store, 9).unwrap();
    assert_eq!(store.rev(), before + 1, "nothing was deleted");
    let error = lessor.revoke(&mut store, 9).unwrap_err();
    assert!(matches!(error, Failure::Refused(Error::LeaseNotFound)));

    store.close().unwrap();
    let (mut store, mut lessor) = open(&engine);
    assert_eq!(lessor.attach_restored(store.take_restored_leases()), 0);
    assert_eq!(lessor.shared.len(), 1);
    let keys = &lessor.shared.lookup(8).unwrap().keys;
    assert_eq!(keys.iter().collect::<Vec<_>>(), ["moved"]);
}

#[test]
fn a_checkpoint_outlives_a_restart_only_if_told_to() {
    let (engine, mut store, mut lessor) = new();
    for id in [1, 2] {
        lessor.grant(store.backend(), id, 60).unwrap();
        lessor.checkpoint(store.backend(), id, 33, id == 2);
        assert_eq!(lessor.shared.lookup(id).unwrap().remaining_ttl, 33);
    }
    lessor.checkpoint(store.backend(), 3, 33, true);
    store.close().unwrap();
    let (_store, lessor) = open(&engine);
    assert_eq!(lessor.shared.lookup(1).unwrap().remaining_ttl, 0);
    assert_eq!(lessor.shared.lookup(2).unwrap().remaining_ttl, 33);
    assert_eq!(lessor.shared.len(), 2, "an unknown lease was skipped");
}

#[test]
fn keys_of_lost_leases_belong_to_none() {
    let (engine, mut store, mut lessor) = new();
    lessor.grant(store.backend(), 1, 60).unwrap();
    put(&mut store, &mut lessor, "known", 1);
    put(&mut store, &mut lessor, "orphan", 99);
    store.close().unwrap();
    let (mut store, mut lessor) = open(&engine);
    assert_eq!(lessor.attach_restored(store.take_restored_leases()), 1);
    lessor.grant(store.backend(), 99, 60).unwrap();
    assert!(lessor.shared.lookup(99).unwrap().keys.is_empty());
}

#[test]
fn damaged_records_are_refused() {
    for (key, value, problem) in [
        (&b"short"[..], &b"\x08\x01"[..], "the key is not a lease id"),
        (&[0; 8], b"\x08", "the value is not a lease"),
        (&[0; 8], b"\x08\x01", "the value is another lease"),
    ] {
        let engine: Arc<dyn Backend> = Arc::new(MemBackend::new());
        let mut batch = Batch::default();
        batch.put(Bucket::Lease, key.to_vec(), value.to_vec());
        engine.commit(&batch).unwrap();
        let (_writer, reader) = Writer::start(engine, WriterOptions::default());
        let error = Lessor::load(&reader, MIN_TTL, shared()).unwrap_err();
        assert!(
            matches!(error, mvcc::Error::Corrupt { problem: found, .. } if found == problem),
            "{error}"
        );
    }
}

#[test]
fn the_shortest_lease_outlives_an_election() {
    assert_eq!(min_ttl(10, Duration::from_millis(100)), 2);
    assert_eq!(min_ttl(5, Duration::from_millis(1000)), 7);
    assert_eq!(min_ttl(50, Duration::from_millis(1000)), 75);
    assert_eq!(min_ttl(usize::MAX, Duration::from_millis(1)), 4_294_968);
}
