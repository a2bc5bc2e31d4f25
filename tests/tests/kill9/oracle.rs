//! What must be in the store, from what writers were told; and the comparison with what is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::mvccpb::KeyValue;
use retcd_tests::grpc::Connection;

use crate::load::{Change, Work};

/// Keys per page when everything is read.
const PAGE: i64 = 2_000;

/// Earlier states that are read again per round.
const PAST: usize = 200;

/// A key that is there: its value and the revision of its last change.
type Live = (Bytes, i64);

/// What must be in the store.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    live: BTreeMap<Bytes, Live>,
    /// Changes without an answer since the last check: each may have happened or not.
    open: Vec<Change>,
    /// Acknowledged states since the last check, also those overwritten since.
    past: Vec<(Bytes, Option<Bytes>, i64)>,
    /// The newest revision that anybody saw.
    revision: i64,
    compacted: i64,
    /// `HashKV` at a revision, with the compacted revision it was taken at.
    hash: Option<(i64, u32, i64)>,
    acknowledged: u64,
    bytes: u64,
    unanswered: u64,
    happened: u64,
}

impl Oracle {
    pub(crate) fn holds(&self, key: &Bytes) -> bool {
        self.live.contains_key(key)
    }

    /// Bytes of acknowledged values.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn summary(&self) -> String {
        format!(
            "{} writes acknowledged ({} MB), {} unanswered of which {} had happened, {} keys, revision {}",
            self.acknowledged,
            self.bytes / 1_000_000,
            self.unanswered,
            self.happened,
            self.live.len(),
            self.revision,
        )
    }

    /// Compacts to the newest revision.
    pub(crate) async fn compact(&mut self, connection: &Connection) {
        let request = pb::CompactionRequest { revision: self.revision, physical: false };
        let outcome = connection.call("/etcdserverpb.KV/Compact", &request).await;
        outcome.reply::<pb::CompactionResponse>().expect("a compaction");
        self.compacted = self.revision;
    }

    /// Adds what a writer did.
    pub(crate) fn take(&mut self, work: Work) {
        let mut last = 0;
        for (change, revision) in work.acknowledged {
            assert!(revision > last, "revision {revision} after {last} for {:?}", change.keys);
            last = revision;
            self.acknowledged += 1;
            self.revision = self.revision.max(revision);
            for key in change.keys {
                self.past.push((key.clone(), change.value.clone(), revision));
                match &change.value {
                    Some(value) => {
                        self.bytes += value.len() as u64;
                        self.live.insert(key, (value.clone(), revision));
                    }
                    None => {
                        self.live.remove(&key);
                    }
                }
            }
        }
        self.unanswered += u64::from(work.open.is_some());
        self.open.extend(work.open);
    }

    /// Compares with the store and takes over which of the open changes happened.
    pub(crate) async fn check(&mut self, connection: &Connection) -> Result<(), String> {
        let (found, revision) = read(connection).await?;
        if revision < self.revision {
            return Err(format!("the store is at revision {revision}, acknowledged was {}", self.revision));
        }
        for change in std::mem::take(&mut self.open) {
            self.settle(&change, &found)?;
        }
        self.compare(&found)?;
        unique(&found)?;
        self.check_past(connection).await?;
        self.check_hash(connection, revision).await?;
        self.revision = revision;
        Ok(())
    }

    /// An open change happened wholly or not at all.
    fn settle(&mut self, change: &Change, found: &BTreeMap<Bytes, KeyValue>) -> Result<(), String> {
        let happened = |key: &Bytes| match (&change.value, found.get(key)) {
            (Some(value), Some(kv)) => kv.value == value,
            (None, None) => self.live.contains_key(key),
            _ => false,
        };
        let happened: Vec<_> = change.keys.iter().map(happened).collect();
        if happened.iter().any(|&h| h != happened[0]) {
            return Err(format!("half of a transaction: {:?} {happened:?}", change.keys));
        }
        if !happened[0] {
            return Ok(());
        }
        self.happened += 1;
        for key in &change.keys {
            match found.get(key) {
                Some(kv) => self.live.insert(key.clone(), (kv.value.clone(), kv.mod_revision)),
                None => self.live.remove(key),
            };
        }
        Ok(())
    }

    fn compare(&self, found: &BTreeMap<Bytes, KeyValue>) -> Result<(), String> {
        for (key, (value, revision)) in &self.live {
            let Some(kv) = found.get(key) else {
                return Err(format!("{key:?} of revision {revision} is lost"));
            };
            if kv.value != value || kv.mod_revision != *revision {
                return Err(format!(
                    "{key:?} is {} of revision {}, must be {} of revision {revision}",
                    brief(&kv.value),
                    kv.mod_revision,
                    brief(value),
                ));
            }
        }
        match found.keys().find(|key| !self.live.contains_key(*key)) {
            Some(key) => {
                Err(format!("{key:?} is there, but nobody put it, or it was deleted: {:?}", found[key].mod_revision))
            }
            None => Ok(()),
        }
    }

    /// Acknowledged states, read at their revisions.
    async fn check_past(&mut self, connection: &Connection) -> Result<(), String> {
        let past = std::mem::take(&mut self.past);
        let step = past.len().div_ceil(PAST).max(1);
        for (key, value, revision) in past.into_iter().step_by(step).filter(|p| p.2 >= self.compacted) {
            let request = pb::RangeRequest { key: key.clone(), revision, ..Default::default() };
            let reply: pb::RangeResponse = connection.call("/etcdserverpb.KV/Range", &request).await.reply()?;
            if reply.kvs.first().map(|kv| &kv.value) != value.as_ref() {
                return Err(format!(
                    "{key:?} at revision {revision} is not what was acknowledged: {:?}",
                    reply.kvs.first().map(|kv| brief(&kv.value))
                ));
            }
        }
        Ok(())
    }

    /// The whole history up to the last check is as it was then.
    async fn check_hash(&mut self, connection: &Connection, revision: i64) -> Result<(), String> {
        let hash = async |revision| -> Result<pb::HashKvResponse, String> {
            connection.call("/etcdserverpb.Maintenance/HashKV", &pb::HashKvRequest { revision }).await.reply()
        };
        if let Some((at, before, compacted)) = self.hash.filter(|(at, ..)| *at > self.compacted) {
            let now = hash(at).await?;
            if now.compact_revision == compacted && now.hash != before {
                return Err(format!("the history up to revision {at} has changed: hash {}, was {before}", now.hash));
            }
        }
        let now = hash(revision).await?;
        self.hash = Some((revision, now.hash, now.compact_revision));
        Ok(())
    }
}

/// Everything, page by page at one revision.
async fn read(connection: &Connection) -> Result<(BTreeMap<Bytes, KeyValue>, i64), String> {
    let mut found = BTreeMap::new();
    let mut request = pb::RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        limit: PAGE,
        ..Default::default()
    };
    loop {
        let reply: pb::RangeResponse = connection.call("/etcdserverpb.KV/Range", &request).await.reply()?;
        if request.revision == 0 {
            request.revision = reply.header.ok_or("a reply without header")?.revision;
        }
        let last = reply.kvs.last().map(|kv| kv.key.clone());
        found.extend(reply.kvs.into_iter().map(|kv| (kv.key.clone(), kv)));
        match last {
            Some(key) if reply.more => request.key = [&key[..], b"\0"].concat().into(),
            _ => return Ok((found, request.revision)),
        }
    }
}

/// One revision belongs to one change.
fn unique(found: &BTreeMap<Bytes, KeyValue>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for (key, kv) in found {
        let second = key.starts_with(b"pair/") && key.ends_with(b"/b");
        if second == seen.insert(kv.mod_revision) {
            return Err(format!("{key:?}: its revision {} belongs to another change", kv.mod_revision));
        }
    }
    Ok(())
}

fn brief(value: &Bytes) -> String {
    String::from_utf8_lossy(&value[..value.len().min(20)]).into_owned()
}
