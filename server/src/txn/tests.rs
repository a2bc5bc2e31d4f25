//! A million random operations against the [store](Store) and against a [model](model::Model),
//! which must agree in every byte of every reply.
//!
//! `RETCD_TEST_SEED` repeats a run, `RETCD_TEST_SCALE` multiplies its length.

mod generate;
mod model;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use retcd_proto::etcdserverpb::{
    DeleteRangeResponse, PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use retcd_storage::backend::{Backend, MemBackend, Writer, WriterOptions};
use retcd_storage::clock::ManualClock;
use retcd_storage::mvcc::{Compaction, Store, StoreOptions};

use super::*;
use crate::api::check;
use crate::lease::{Leases, Lessor};
use crate::metrics::Metrics;
use generate::{Generator, LEASES, Random};
use model::Model;

/// Operations of a run at scale 1.
const OPERATIONS: u64 = 1_000_000;
/// Each in a new store, so that its first revisions are seen more than once.
const STORES: u64 = 20;
/// etcd's default.
const MAX_OPS: usize = 128;

/// What was run, to know that nothing was left out.
#[derive(Debug, Default)]
struct Counts {
    puts: u64,
    deletes: u64,
    ranges: u64,
    compares: u64,
    compares_true: u64,
    /// Ranges cut by their limit.
    cut: u64,
    nested: u64,
    txns: u64,
    read_only: u64,
    /// By the check before proposing.
    invalid: u64,
    lease_not_found: u64,
    key_not_found: u64,
    compacted: u64,
    future: u64,
    compactions: u64,
    revoked: u64,
    reopened: u64,
}

impl Counts {
    fn operations(&self) -> u64 {
        self.puts + self.deletes + self.ranges + self.compares
    }

    fn refused(&mut self, error: &Error) {
        let counter = match error {
            Error::LeaseNotFound => &mut self.lease_not_found,
            Error::KeyNotFound => &mut self.key_not_found,
            Error::Compacted => &mut self.compacted,
            Error::FutureRev => &mut self.future,
            other => panic!("{other:?}"),
        };
        *counter += 1;
    }
}

/// Seconds; every lease is granted less.
const MIN_TTL: i64 = 2;

fn leases() -> Arc<Leases> {
    let clock = Arc::new(ManualClock::new(Duration::ZERO));
    let metrics = Metrics::new().unwrap();
    Arc::new(Leases::new(clock, Duration::ZERO, metrics.lease.clone()))
}

/// The store and the leases as they are in the backend.
fn open(engine: &Arc<dyn Backend>) -> (Store, Lessor) {
    let (writer, reader) = Writer::start(engine.clone(), WriterOptions::default());
    let mut lessor = Lessor::load(&reader, MIN_TTL, leases()).unwrap();
    let options = StoreOptions {
        // Small, so that values come from everywhere.
        value_cache_bytes: 4096,
    };
    let mut store = Store::open(writer, reader, options).unwrap();
    assert_eq!(lessor.attach_restored(store.take_restored_leases()), 0);
    (store, lessor)
}

/// A reply as a client decodes it.
fn decoded<R: Message + Default>(
    reply: Result<impl Message, impl Into<Failure>>,
) -> Result<R, Error> {
    match reply.map_err(Into::into) {
        Ok(reply) => Ok(R::decode(&reply.encode_to_vec()[..]).unwrap()),
        Err(Failure::Refused(error)) => Err(error),
        Err(Failure::Store(error)) => panic!("the store failed: {error}"),
    }
}

struct Run {
    engine: Arc<dyn Backend>,
    store: Option<Store>,
    lessor: Lessor,
    model: Model,
    generator: Generator,
    seed: u64,
    number: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let engine: Arc<dyn Backend> = Arc::new(MemBackend::new());
        let (mut store, mut lessor) = open(&engine);
        for id in LEASES {
            lessor.grant(store.backend(), id, 1).unwrap();
        }
        store.publish().unwrap();
        Self {
            store: Some(store),
            lessor,
            engine,
            model: Model::new(&LEASES),
            generator: Generator {
                random: Random(seed),
                rev: 1,
                compacted: -1,
            },
            seed,
            number: 0,
        }
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    fn view(&self) -> ReadView {
        self.store.as_ref().unwrap().reader().view()
    }

    /// The store with what a request needs beside it.
    fn parts(&mut self) -> (&mut Store, Env<'_>) {
        let env = Env {
            leases: &mut self.lessor,
            tally: Tally::default(),
        };
        (self.store.as_mut().unwrap(), env)
    }

    fn same<T: Debug + PartialEq>(
        &self,
        request: &dyn Debug,
        got: &Result<T, Error>,
        want: &Result<T, Error>,
    ) {
        if let Err(error) = want {
            self.model.counts.borrow_mut().refused(error);
        }
        assert!(
            got == want,
            "seed {}, request {}: {request:#?}\n got {got:#?}\nwant {want:#?}",
            self.seed,
            self.number,
        );
    }

    fn same_revisions(&self) {
        let store = self.store.as_ref().unwrap();
        let got = (store.rev(), store.compact_rev());
        let view = self.view();
        let seen = (view.rev(), view.compact_rev());
        let want = (self.model.rev(), self.model.compacted);
        let place = format!("revisions; seed {}, request {}", self.seed, self.number);
        assert_eq!(got, want, "{place}");
        assert_eq!(seen, want, "{place}");
    }

    fn step(&mut self) {
        self.number += 1;
        self.generator.rev = self.model.rev();
        self.generator.compacted = self.model.compacted;
        match self.generator.random.below(1000) {
            0..200 => self.put(),
            200..240 => self.delete_range(),
            240..500 => {
                let r = self.generator.range();
                self.range(&r);
            }
            500..980 => self.txn(),
            980..985 => self.compact(),
            985..986 => self.reopen(),
            986..990 => self.revoke(),
            _ => {
                let max_keys = self.generator.random.below(8) as usize;
                self.store().compaction_step(max_keys).unwrap();
            }
        }
        self.same_revisions();
        self.same_leases();
    }

    /// Every lease has the keys that say so.
    fn same_leases(&self) {
        assert_eq!(self.lessor.shared.len(), LEASES.len());
        for id in LEASES {
            let lease = self.lessor.shared.lookup(id).unwrap();
            let got: Vec<&[u8]> = lease.keys.iter().map(AsRef::as_ref).collect();
            let newest = self.model.newest().iter();
            let want: Vec<&[u8]> = newest
                .filter(|(_, kv)| kv.lease == id)
                .map(|(key, _)| key.as_slice())
                .collect();
            let (seed, number) = (self.seed, self.number);
            assert_eq!(got, want, "lease {id}; seed {seed}, request {number}");
        }
    }

    fn invalid(&self, result: Result<(), Error>) -> bool {
        self.model.counts.borrow_mut().invalid += u64::from(result.is_err());
        result.is_err()
    }

    fn put(&mut self) {
        let r = self.generator.put();
        if self.invalid(check::put(&r)) {
            return;
        }
        let (store, mut env) = self.parts();
        let reply = put(&mut store.begin(), &mut env, r.clone());
        store.publish().unwrap();
        let want = self.model.put(&r);
        self.same(&r, &decoded::<PutResponse>(reply), &want);
    }

    fn delete_range(&mut self) {
        let r = self.generator.delete_range();
        if self.invalid(check::delete_range(&r)) {
            return;
        }
        let (store, mut env) = self.parts();
        let reply = delete_range(&mut store.begin(), &mut env, &r);
        store.publish().unwrap();
        let want = Ok(self.model.delete_range(&r));
        self.same(&r, &decoded::<DeleteRangeResponse>(reply), &want);
    }

    fn range(&mut self, r: &RangeRequest) {
        if self.invalid(check::range(r)) {
            return;
        }
        let reply = range::execute(&self.view(), r);
        let want = self.model.range(r);
        self.same(r, &decoded::<RangeResponse>(reply), &want);
    }

    fn txn(&mut self) {
        let r: TxnRequest = self.generator.txn(3);
        if self.invalid(check::txn(&r, MAX_OPS)) {
            return;
        }
        self.model.counts.borrow_mut().txns += 1;
        let read = is_read_only(&r).then(|| execute_read(&self.view(), &r));
        // One that only reads gets the same answer in the log.
        let (store, mut env) = self.parts();
        let reply = execute(&mut store.begin(), &mut env, r.clone());
        store.publish().unwrap();
        let want = self.model.txn(&r);
        self.same(&r, &decoded::<TxnResponse>(reply), &want);
        if let Some(read) = read {
            self.model.counts.borrow_mut().read_only += 1;
            self.same(&r, &decoded::<TxnResponse>(read), &want);
        }
    }

    fn compact(&mut self) {
        let (rev, compacted) = (self.model.rev(), self.model.compacted);
        let at = self.generator.random.between(compacted - 1, rev + 1);
        let store = self.store();
        let result = store.begin_compaction(at).map_err(Failure::from);
        store.publish().unwrap();
        let got = match result {
            Ok(()) => Ok(()),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Store(error)) => panic!("the store failed: {error}"),
        };
        let want = self.model.compact(at);
        self.same(&("compact", at), &got, &want);
        self.model.counts.borrow_mut().compactions += u64::from(want.is_ok());
    }

    /// Revokes a lease and grants it anew.
    fn revoke(&mut self) {
        let id = self.generator.random.pick(&LEASES);
        let store = self.store.as_mut().unwrap();
        self.lessor.revoke(store, id).unwrap();
        self.lessor.grant(store.backend(), id, 1).unwrap();
        store.publish().unwrap();
        self.model.revoke(id);
        self.model.counts.borrow_mut().revoked += 1;
    }

    /// Some reopenings come in the middle of a compaction.
    fn reopen(&mut self) {
        if self.generator.random.percent(50) {
            while self.store().compaction_step(100).unwrap() != Compaction::Idle {
                std::thread::yield_now();
            }
        }
        self.store.take().unwrap().close().unwrap();
        let (store, lessor) = open(&self.engine);
        (self.store, self.lessor) = (Some(store), lessor);
        self.model.counts.borrow_mut().reopened += 1;
        self.same_revisions();
        self.read_all();
    }

    /// Reads everything at every revision.
    fn read_all(&mut self) {
        for revision in self.model.compacted.max(1)..=self.model.rev() {
            self.range(&RangeRequest {
                key: b"\0"[..].into(),
                range_end: b"\0"[..].into(),
                revision,
                ..RangeRequest::default()
            });
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    let value = std::env::var(variable).ok();
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

#[test]
fn random_requests_do_what_the_model_does() {
    let seed = number("RETCD_TEST_SEED", 0x5eed);
    println!("RETCD_TEST_SEED={seed}");
    let wanted = OPERATIONS * number("RETCD_TEST_SCALE", 1);
    let mut total = 0;
    let mut n = 0;
    while total < wanted {
        // The first store has the given seed, so that a difference is found again at once.
        let mut run = Run::new(seed.wrapping_add(n));
        while run.model.counts.borrow().operations() < OPERATIONS / STORES + 1 {
            run.step();
        }
        run.reopen();
        run.store.take().unwrap().close().unwrap();
        let counts = run.model.counts.into_inner();
        println!("seed {}: {} requests, {counts:?}", run.seed, run.number);
        // Nothing that can happen is rare.
        for (name, count, least) in [
            ("puts", counts.puts, 2000),
            ("deletes", counts.deletes, 1000),
            ("ranges", counts.ranges, 2000),
            ("compares", counts.compares, 2000),
            ("true compares", counts.compares_true, 1000),
            ("cut ranges", counts.cut, 200),
            ("nested transactions", counts.nested, 500),
            ("read-only transactions", counts.read_only, 100),
            ("invalid requests", counts.invalid, 100),
            ("unknown leases", counts.lease_not_found, 50),
            ("missing keys", counts.key_not_found, 100),
            ("compacted revisions", counts.compacted, 50),
            ("future revisions", counts.future, 50),
            ("compactions", counts.compactions, 10),
            ("revoked leases", counts.revoked, 50),
            ("reopenings", counts.reopened, 5),
        ] {
            assert!(count >= least, "only {count} {name} with seed {}", run.seed);
        }
        total += counts.operations();
        n += 1;
    }
    assert!(total >= wanted, "{total} operations");
    println!("{total} operations in {n} stores agree");
}
