//! The replicated state without threads and sockets, for the simulation of whole clusters: the
//! same database, store, transactions, leases and membership that the apply thread works on.
//!
//! Not part of the library's interface.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::raftpb::{self, ConfChange, ConfState};
use retcd_proto::reply::{OpReply, TxnReply};
use retcd_raft_node::membership::{Change, Cluster, DEFAULT_MAX_LEARNERS};
use retcd_storage::backend::{
    self, Backend, BoltBackend, BoltOptions, Bucket, Reader, Writer, WriterOptions,
};
use retcd_storage::clock::SystemClock;
use retcd_storage::fs::Fs;
use retcd_storage::mvcc::{self, Compaction, RangeQuery, Store, StoreOptions};
use retcd_storage::snapshot;

use crate::apply::entry::{self, Payload};
use crate::conf_state::{self, CONF_STATE};
use crate::disk::TERM;
use crate::error::Error;
use crate::lease::{Leases, Lessor};
use crate::metrics::LeaseMetrics;
use crate::schema;
use crate::txn::{self, Env, Failure, Tally};

/// Where the chain over everything applied is kept.
const CHAIN: &[u8] = b"simulation_chain";

/// What a request through the log answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The request.
    pub id: u64,
    /// Revision after it; an error's text.
    pub result: Result<i64, String>,
    /// Of a transaction: whether its comparisons held.
    pub succeeded: bool,
    /// Keys that a delete found.
    pub deleted: i64,
}

/// What applying an entry did.
#[derive(Debug, Default)]
pub struct Applied {
    /// For whoever waits for the request.
    pub answer: Option<Answer>,
    /// The membership changed.
    pub change: Option<Change>,
    /// A hash over this entry's effects and all before it: equal on all members.
    pub chain: u64,
}

/// A value as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Revision that was read at.
    pub revision: i64,
    /// Revision of the value's write, and the value.
    pub value: Option<(i64, Bytes)>,
}

/// The state of a member.
pub struct StateMachine {
    store: Store,
    engine: Arc<dyn Backend>,
    cluster: Cluster,
    lessor: Lessor,
    conf_state: Option<ConfState>,
    /// Index of the newest membership change.
    conf_index: u64,
    applied: (u64, u64),
    durable: Arc<AtomicU64>,
    chain: u64,
    snap_dir: PathBuf,
}

impl std::fmt::Debug for StateMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateMachine")
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

/// Leases are not under test here; any length does.
const MIN_TTL: i64 = 1;

impl StateMachine {
    /// Opens the database in `snap_dir`, after putting that in place which the log needs that
    /// begins behind `begin`.
    ///
    /// # Errors
    /// As a member says it.
    pub fn open(
        fs: Arc<dyn Fs>,
        snap_dir: &Path,
        begin: u64,
        cluster_id: u64,
    ) -> Result<StateMachine, String> {
        snapshot::remove_leftovers(&*fs, snap_dir).map_err(text)?;
        schema::place_database(&*fs, snap_dir, begin).map_err(text)?;
        snapshot::release(&*fs, snap_dir, begin).map_err(text)?;
        Self::open_database(fs, &snap_dir.join("db"), snap_dir, cluster_id)
    }

    fn open_database(
        fs: Arc<dyn Fs>,
        path: &Path,
        snap_dir: &Path,
        cluster_id: u64,
    ) -> Result<StateMachine, String> {
        let engine: Arc<dyn Backend> =
            Arc::new(BoltBackend::open(fs, path, BoltOptions::default()).map_err(text)?);
        let durable = Arc::new(AtomicU64::new(0));
        let report = durable.clone();
        let options = WriterOptions {
            inline: true,
            batch_interval: Duration::MAX,
            on_durable: Some(Arc::new(move |index| {
                report.store(index, Ordering::Release)
            })),
            ..WriterOptions::default()
        };
        let (writer, reader) = Writer::start(engine.clone(), options);
        let number = |key| number(&reader, key);
        let applied = (number(backend::CONSISTENT_INDEX)?, number(TERM)?);
        let chain = number(CHAIN)?;
        durable.store(applied.0, Ordering::Release);
        let conf_state = match reader.get(Bucket::Meta, CONF_STATE).map_err(text)? {
            None => None,
            Some(stored) => {
                Some(conf_state::from_json(&stored).ok_or("the stored conf state is damaged")?)
            }
        };
        let cluster = Cluster::load(&reader, cluster_id, DEFAULT_MAX_LEARNERS).map_err(text)?;
        // Nobody leads here as far as leases go: the clock is never looked at.
        let metrics = LeaseMetrics::unseen().map_err(text)?;
        let leases = Leases::new(Arc::new(SystemClock), Duration::ZERO, metrics);
        let mut lessor = Lessor::load(&reader, MIN_TTL, Arc::new(leases)).map_err(text)?;
        let small = StoreOptions {
            value_cache_bytes: 0,
        };
        let mut store = Store::open(writer, reader, small).map_err(text)?;
        lessor.attach_restored(store.take_restored_leases());
        store.record_changes();
        Ok(StateMachine {
            store,
            engine,
            cluster,
            lessor,
            conf_state,
            conf_index: 0,
            applied,
            durable,
            chain,
            snap_dir: snap_dir.to_owned(),
        })
    }

    /// Index and term of the last applied entry.
    pub fn applied(&self) -> (u64, u64) {
        self.applied
    }

    /// Index that is durable in the database.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The members.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The configuration as of the last applied entry, once there was a change.
    pub fn conf_state(&self) -> Option<&ConfState> {
        self.conf_state.as_ref()
    }

    /// Index of the newest membership change that was applied since the start.
    pub fn conf_index(&self) -> u64 {
        self.conf_index
    }

    /// A hash over everything applied so far.
    pub fn chain(&self) -> u64 {
        self.chain
    }

    /// Applies an entry; `reconfigure` tells raft of a membership change, `None` for a rejected one.
    ///
    /// # Errors
    /// What makes a member stop.
    pub fn apply(
        &mut self,
        entry: raftpb::Entry,
        reconfigure: &mut dyn FnMut(Option<&ConfChange>) -> Result<ConfState, String>,
    ) -> Result<Applied, String> {
        let (index, term) = (entry.index(), entry.term());
        if index <= self.applied.0 {
            return Ok(Applied {
                chain: self.chain,
                ..Applied::default()
            });
        }
        let kind = entry.r#type();
        let data = entry.data.unwrap_or_default();
        let mut done = Applied::default();
        match kind {
            raftpb::EntryType::EntryNormal if data.is_empty() => {}
            raftpb::EntryType::EntryNormal => done.answer = self.apply_normal(data.clone())?,
            raftpb::EntryType::EntryConfChange => {
                let change = ConfChange::decode(data.clone()).map_err(text)?;
                self.apply_conf_change(index, &change, reconfigure, &mut done)?;
            }
            raftpb::EntryType::EntryConfChangeV2 => return Err("a joint conf change".into()),
        }
        self.applied = (index, term);
        self.link(index, term, &data, &done);
        done.chain = self.chain;
        Ok(done)
    }

    fn apply_conf_change(
        &mut self,
        index: u64,
        change: &ConfChange,
        reconfigure: &mut dyn FnMut(Option<&ConfChange>) -> Result<ConfState, String>,
        done: &mut Applied,
    ) -> Result<(), String> {
        let valid = self.cluster.validate(change);
        let state = reconfigure(valid.is_ok().then_some(change))?;
        self.conf_index = index;
        let result = match valid {
            Err(refused) => Err(refused.to_string()),
            Ok(()) => {
                let applied = self.cluster.apply(change).map_err(text)?;
                let backend = self.store.backend();
                self.cluster.store(&applied, backend);
                backend.put(Bucket::Meta, CONF_STATE, conf_state::to_json(&state));
                done.change = Some(applied);
                Ok(self.store.rev())
            }
        };
        self.conf_state = Some(state);
        done.answer = Some(Answer {
            id: change.id(),
            result,
            succeeded: true,
            deleted: 0,
        });
        Ok(())
    }

    fn apply_normal(&mut self, data: Bytes) -> Result<Option<Answer>, String> {
        let Payload::Request(r) = entry::decode(data).map_err(text)? else {
            return Ok(None);
        };
        let id = r.header.as_ref().map_or(r.id, |header| header.id);
        let mut answer = Answer {
            id,
            result: Ok(0),
            succeeded: true,
            deleted: 0,
        };
        let mut env = Env {
            leases: &mut self.lessor,
            tally: Tally::default(),
        };
        let mut txn = self.store.begin();
        let mut done = Ok(());
        if let Some(r) = r.put {
            done = txn::put(&mut txn, &mut env, r).map(drop);
        } else if let Some(r) = r.txn {
            done = txn::execute(&mut txn, &mut env, r).map(|reply| {
                answer.succeeded = reply.succeeded;
                answer.deleted = deleted(&reply);
            });
        } else if let Some(r) = r.delete_range {
            done = txn::delete_range(&mut txn, &mut env, &r)
                .map(|reply| answer.deleted = reply.deleted);
        }
        txn.end();
        if let Some(r) = r.compaction {
            done = self.store.begin_compaction(r.revision).map_err(Into::into);
        } else if let Some(r) = r.lease_grant {
            let granted = self.lessor.grant(self.store.backend(), r.id, r.ttl);
            done = granted.map(drop).map_err(Failure::from);
        } else if let Some(r) = r.lease_revoke {
            done = self
                .lessor
                .revoke(&mut self.store, r.id)
                .map(|n| answer.deleted = n as i64);
        } else if let Some(r) = r.cluster_member_attr_set {
            let attributes = r.member_attributes.unwrap_or_default();
            let (name, urls) = (attributes.name, attributes.client_urls);
            if self.cluster.set_attributes(r.member_id, &name, &urls) {
                self.cluster.store_member(r.member_id, self.store.backend());
            }
        }
        answer.result = match done {
            Ok(()) => Ok(self.store.rev()),
            Err(Failure::Refused(error)) => Err(refusal(&error)),
            Err(Failure::Store(error)) => return Err(error.to_string()),
        };
        Ok(Some(answer))
    }

    /// Takes an entry and what it did into the chain.
    fn link(&mut self, index: u64, term: u64, data: &Bytes, done: &Applied) {
        let mut chain = Chain(self.chain);
        chain.number(index);
        chain.number(term);
        chain.bytes(data);
        if let Some(answer) = &done.answer {
            match &answer.result {
                Ok(revision) => chain.number(*revision as u64),
                Err(error) => chain.bytes(error.as_bytes()),
            }
            chain.number(u64::from(answer.succeeded));
            chain.number(answer.deleted as u64);
        }
        for change in self.store.take_changes() {
            chain.bytes(&change.event_kv());
        }
        for member in self.cluster.members() {
            chain.bytes(&member.to_json());
        }
        chain.number(self.store.rev() as u64);
        chain.number(self.store.compact_rev() as u64);
        self.chain = chain.0;
    }

    /// Makes everything applied one atomic unit with its index, and visible.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn publish(&mut self) -> Result<(), String> {
        let (index, term) = self.applied;
        let chain = self.chain;
        self.publish_as(index, term, chain)
    }

    /// As [`StateMachine::publish`], under another index: for planted faults.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn publish_as(&mut self, index: u64, term: u64, chain: u64) -> Result<(), String> {
        let backend = self.store.backend();
        backend.put(
            Bucket::Meta,
            backend::CONSISTENT_INDEX,
            index.to_be_bytes().to_vec(),
        );
        backend.put(Bucket::Meta, TERM, term.to_be_bytes().to_vec());
        backend.put(Bucket::Meta, CHAIN, chain.to_be_bytes().to_vec());
        self.store.publish().map_err(text)
    }

    /// Makes all that is published durable.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn commit(&mut self) -> Result<(), String> {
        self.store.commit().map_err(text)
    }

    /// A step of a compaction under way; true while there is more to do.
    ///
    /// # Errors
    /// The database is damaged.
    pub fn compaction_step(&mut self, keys: usize) -> Result<bool, String> {
        let step = self.store.compaction_step(keys).map_err(text)?;
        if matches!(step, Compaction::Idle | Compaction::Waiting) {
            return Ok(step == Compaction::Waiting);
        }
        self.store.publish().map_err(text)?;
        Ok(true)
    }

    /// What a read of one key sees now.
    ///
    /// # Errors
    /// The database is damaged.
    pub fn read(&self, key: &[u8]) -> Result<Read, String> {
        let view = self.store.reader().view();
        let found = view.range(&RangeQuery {
            key,
            end: &[],
            rev: 0,
            limit: 1,
            count_only: false,
            keys_only: false,
        });
        let kv = found.map_err(text)?.kvs.into_iter().next();
        Ok(Read {
            revision: view.rev(),
            value: kv.map(|kv| (kv.modified.main, kv.value())),
        })
    }

    /// Hash, revision and compacted revision of the key-values.
    ///
    /// # Errors
    /// The database is damaged.
    pub fn hash_kv(&self) -> Result<(u32, i64, i64), String> {
        let hash = self.store.reader().hash_kv(0);
        let hash = hash.map_err(|e: mvcc::Error| e.to_string())?;
        Ok((hash.hash, hash.rev, hash.compact_rev))
    }

    /// The document of a snapshot.
    pub fn document(&self) -> Vec<u8> {
        self.cluster.v2_document()
    }

    /// The whole database as of the last applied entry, to be sent to another member.
    ///
    /// # Errors
    /// The database cannot be written or read.
    pub fn copy(&mut self) -> Result<Vec<u8>, String> {
        self.commit()?;
        let mut copy = self.engine.copy().map_err(text)?;
        let mut bytes = Vec::new();
        copy.bytes.read_to_end(&mut bytes).map_err(text)?;
        Ok(bytes)
    }

    /// Lets a received database take the place of this one, in the order in which a member does it: all that can
    /// be refused, the name, the store.
    ///
    /// # Errors
    /// It is not there, or not what it should be.
    pub fn install(&mut self, fs: Arc<dyn Fs>, index: u64) -> Result<(), String> {
        let snap_dir = self.snap_dir.clone();
        let path = snapshot::received_path(&snap_dir, index);
        if !fs.exists(&path).map_err(text)? {
            return Err(format!("{} is not there", path.display()));
        }
        let new = Self::open_database(fs.clone(), &path, &snap_dir, self.cluster.cluster_id())?;
        if new.applied.0 != index {
            return Err(format!(
                "the database of the snapshot at {index} stands at {}",
                new.applied.0
            ));
        }
        snapshot::install(&*fs, &snap_dir, index).map_err(text)?;
        snapshot::release(&*fs, &snap_dir, index).map_err(text)?;
        self.store.replace(new.store).map_err(text)?;
        self.store.take_changes();
        self.engine = new.engine;
        self.cluster = new.cluster;
        self.lessor = new.lessor;
        self.conf_state = new.conf_state;
        self.conf_index = 0;
        self.applied = new.applied;
        self.durable = new.durable;
        self.chain = new.chain;
        Ok(())
    }

    /// Lets go of the database as a crash would.
    pub fn abandon(self) {
        self.store.abandon();
    }
}

fn refusal(error: &Error) -> String {
    format!("{error:?}")
}

fn deleted(reply: &TxnReply) -> i64 {
    use retcd_proto::reply::Op;
    let of = |op: &OpReply| match &op.response {
        Some(Op::DeleteRange(r)) => r.deleted,
        _ => 0,
    };
    reply.responses.iter().map(of).sum()
}

fn number(reader: &Reader, key: &[u8]) -> Result<u64, String> {
    match reader.get(Bucket::Meta, key).map_err(text)? {
        None => Ok(0),
        Some(value) => <[u8; 8]>::try_from(value.as_ref())
            .map(u64::from_be_bytes)
            .map_err(|_| format!("{} is damaged", key.escape_ascii())),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// FNV-1a, with a finish that spreads the bits.
struct Chain(u64);

impl Chain {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.number(bytes.len() as u64);
    }

    fn number(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(23) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 29;
    }
}
