//! All that happened, as ranges at every revision tell it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::mvccpb::KeyValue;
use retcd_tests::member;
use retcd_tests::nodes::{Caller, Failure};
use retcd_tests::random::Random;

use crate::writers::{self, Op, within};
use crate::{PATIENCE, Shared};

/// A change of a key, with what was before.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) revision: i64,
    pub(crate) kv: KeyValue,
    pub(crate) deleted: bool,
    pub(crate) before: Option<KeyValue>,
}

pub(crate) struct Truth {
    /// In order, from some revision on.
    changes: Vec<Change>,
    live: BTreeMap<Bytes, KeyValue>,
    revision: i64,
    /// The last compaction that was acknowledged: nobody is told of what is below.
    compacted: i64,
}

impl Default for Truth {
    fn default() -> Self {
        Self { changes: Vec::new(), live: BTreeMap::new(), revision: 1, compacted: 0 }
    }
}

impl Truth {
    /// The last one that is known.
    pub(crate) const fn revision(&self) -> i64 {
        self.revision
    }

    /// Takes in all keys as of the next revision.
    fn take(&mut self, kvs: Vec<KeyValue>, sent: &BTreeMap<u64, Vec<Op>>) -> Result<(), String> {
        let revision = self.revision + 1;
        // Copies, which do not hold the whole reply; of what did not change, those that are here.
        let copy = |kv: KeyValue| match self.live.get(&kv.key).filter(|before| **before == kv) {
            Some(before) => before.clone(),
            None => KeyValue { key: Bytes::copy_from_slice(&kv.key), value: Bytes::copy_from_slice(&kv.value), ..kv },
        };
        let now: BTreeMap<_, _> = kvs.into_iter().map(copy).map(|kv| (kv.key.clone(), kv)).collect();
        let (mut changes, mut number) = (Vec::new(), None);
        for (key, kv) in &now {
            let before = self.live.get(key);
            if kv.mod_revision != revision {
                if before != Some(kv) {
                    return Err(format!("{key:?} of revision {revision} is {kv:?}, was {before:?} before"));
                }
                continue;
            }
            let expected = before.map_or((revision, 1), |b| (b.create_revision, b.version + 1));
            if (kv.create_revision, kv.version) != expected {
                return Err(format!("{kv:?} follows {before:?}"));
            }
            let mine = writers::number(&kv.value);
            if number.replace(mine).is_some_and(|other| other != mine) || mine.is_none() {
                return Err(format!("revision {revision} is of several writes: {kv:?}"));
            }
            changes.push(Change { revision, kv: kv.clone(), deleted: false, before: before.cloned() });
        }
        for (key, before) in self.live.iter().filter(|(key, _)| !now.contains_key(*key)) {
            let kv = KeyValue { key: key.clone(), mod_revision: revision, ..KeyValue::default() };
            changes.push(Change { revision, kv, deleted: true, before: Some(before.clone()) });
        }
        if changes.is_empty() {
            return Err(format!("nothing happened in revision {revision}"));
        }
        if let Some(number) = number.flatten() {
            let ops = sent.get(&number).ok_or_else(|| format!("nobody wrote {:?}", changes[0]))?;
            let place = |change: &Change| ops.iter().position(|op| op.changes(&change.kv.key));
            if let Some(stray) = changes.iter().find(|c| place(c).is_none()) {
                return Err(format!("{stray:?} is not of {ops:?}"));
            }
            changes.sort_by_key(|c| (place(c), c.kv.key.clone()));
        } else {
            changes.sort_by_key(|c| c.kv.key.clone());
        }
        self.changes.extend(changes);
        self.live = now;
        self.revision = revision;
        Ok(())
    }

    /// What a watch is owed from a revision on.
    pub(crate) fn owed<'a>(
        &'a self,
        request: &'a pb::WatchCreateRequest,
        from: i64,
    ) -> impl Iterator<Item = &'a Change> {
        let first = self.changes.partition_point(|change| change.revision < from);
        self.changes[first..]
            .iter()
            .filter(|change| within(&change.kv.key, &request.key, &request.range_end))
            .filter(|change| !request.filters.contains(&i32::from(change.deleted)))
    }

    /// Everything acknowledged happened when its answer said.
    pub(crate) fn has(&self, shared: &Shared) -> Result<(), String> {
        let sent = shared.sent();
        for (revision, number) in shared.acknowledged.lock().expect("nobody panics with it").iter() {
            let first = self.changes.partition_point(|change| change.revision < *revision);
            let there: Vec<_> = self.changes[first..].iter().take_while(|c| c.revision == *revision).collect();
            let ops = &sent[number];
            let found = |op: &Op| match op {
                Op::Put(key, value) => there.iter().any(|c| c.kv.key == *key && c.kv.value == *value),
                Op::Delete(..) => true,
            };
            let ours = there.iter().all(|c| ops.iter().any(|op| op.changes(&c.kv.key)));
            if there.is_empty() || !ours || !ops.iter().all(found) {
                return Err(format!("{ops:?} was acknowledged with revision {revision}, which is {there:?}"));
            }
        }
        Ok(())
    }

    /// Forgets what is compacted.
    pub(crate) fn forget(&mut self) {
        self.changes.retain(|change| change.revision >= self.compacted);
    }
}

/// Reads one revision after the other to the end of the round, and has some of what it has read compacted.
pub(crate) async fn follow(shared: Arc<Shared>, mut truth: Truth, seed: u64) -> Result<Truth, String> {
    let (mut caller, mut random) = (Caller::default(), Random::new(seed));
    let mut deadline = Instant::now() + member::PATIENCE;
    loop {
        if shared.last().is_some_and(|last| last <= truth.revision) {
            return Ok(truth);
        }
        let request = pb::RangeRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            revision: truth.revision + 1,
            ..Default::default()
        };
        match caller.call::<pb::RangeResponse>(shared.address, "KV/Range", &request, PATIENCE).await {
            Ok(reply) => {
                deadline = Instant::now() + member::PATIENCE;
                truth.take(reply.kvs, &shared.sent())?;
                if random.one_in(60) {
                    let done = compact(&mut caller, &shared, truth.revision, &mut random).await;
                    truth.compacted = truth.compacted.max(done.unwrap_or(0));
                }
            }
            // The revision is not there yet.
            Err(Failure::Refused { code: 11, text }) if text.contains("future revision") => {
                deadline = Instant::now() + member::PATIENCE;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(why) if Instant::now() > deadline => return Err(format!("revision {}: {why}", truth.revision + 1)),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Compacts to somewhere in the past; the revision, if that was acknowledged.
async fn compact(caller: &mut Caller, shared: &Shared, known: i64, random: &mut Random) -> Option<i64> {
    let back = i64::try_from(random.within(0, 80)).expect("small");
    let revision = (known - back).max(1);
    // First: nobody may hear of it before.
    shared.compacting.fetch_max(revision, Ordering::SeqCst);
    let request = pb::CompactionRequest { revision, physical: random.one_in(2) };
    // It may be compacted further already, or the server may just have died.
    let said = caller.call::<pb::CompactionResponse>(shared.address, "KV/Compact", &request, PATIENCE).await;
    said.ok().map(|_| revision)
}
