//! Rebuilding the index from the backend, in one pass.
//!
//! One thread reads and takes the records apart, the other builds the index.
//! Source of the rules: etcd `server/storage/mvcc/kvstore.go`.

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;

use super::chunks::Chunks;
use super::compaction::{FINISHED, SCHEDULED};
use super::index::{self, Index};
use super::kv::Layout;
use super::{Error, Revision};
use crate::backend::{Bucket, View};

/// Above this, a revision or version cannot have come about by counting.
const PLAUSIBLE: i64 = 1 << 62;

/// Chunks of records between the two threads.
const QUEUE: usize = 4;

/// A store as it is in the backend.
pub(crate) struct Restored {
    pub(crate) index: Index,
    pub(crate) rev: i64,
    pub(crate) compact_rev: i64,
    /// The compaction at `compact_rev` has not finished.
    pub(crate) interrupted: bool,
    /// Keys with a lease, in key order.
    pub(crate) leases: Vec<(Bytes, i64)>,
}

/// Reads everything.
pub(crate) fn restore(view: &dyn View) -> Result<Restored, Error> {
    let scheduled = read_mark(view, SCHEDULED)?;
    let finished = read_mark(view, FINISHED)?;
    let compact_rev = scheduled.max(finished);

    let (send, chunks) = mpsc::sync_channel(QUEUE);
    let mut builder = Builder::default();
    thread::scope(|scope| {
        let reader = thread::Builder::new()
            .name("restore".into())
            .spawn_scoped(scope, move || {
                read_records(view, |chunk| send.send(chunk).is_ok())
            });
        let reader = reader.map_err(|e| Error::Thread(e.into()))?;
        for chunk in chunks {
            for record in chunk {
                builder.add(&record);
            }
        }
        reader
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let Builder {
        index,
        newest,
        leases,
    } = builder;

    let mut leases: Vec<_> = leases.into_iter().collect();
    leases.sort_unstable();
    Ok(Restored {
        index: index.finish(),
        // Everything that had the newest revision may be compacted away.
        rev: newest.max(compact_rev).max(1),
        compact_rev,
        interrupted: scheduled > finished,
        leases,
    })
}

/// A compaction's mark, -1 if it is not there.
fn read_mark(view: &dyn View, key: &[u8]) -> Result<i64, Error> {
    let Some(value) = view.get(Bucket::Meta, key)? else {
        return Ok(-1);
    };
    match Revision::from_key(&value) {
        Some((revision, false)) if revision.main < PLAUSIBLE => Ok(revision.main),
        _ => Err(Error::corrupt(
            Bucket::Meta,
            key,
            "the value is not a revision",
        )),
    }
}

/// What the index needs of a stored record.
struct Record {
    revision: Revision,
    tombstone: bool,
    encoded: Bytes,
    layout: Layout,
}

/// Reads all records in order of revision, until `give` does not want more.
fn read_records(view: &dyn View, mut give: impl FnMut(Vec<Record>) -> bool) -> Result<(), Error> {
    let mut last = Revision::default();
    for chunk in Chunks::all(view, Bucket::Key) {
        let mut records = Vec::new();
        for (key, encoded) in chunk? {
            let record = Record::read(&key, encoded, last)
                .map_err(|problem| Error::corrupt(Bucket::Key, &key, problem))?;
            last = record.revision;
            records.push(record);
        }
        if !give(records) {
            break;
        }
    }
    Ok(())
}

impl Record {
    fn read(key: &[u8], encoded: Bytes, last: Revision) -> Result<Record, &'static str> {
        let (revision, tombstone) = Revision::from_key(key).ok_or("the key is not a revision")?;
        if !(1..PLAUSIBLE).contains(&revision.main) || revision.sub >= PLAUSIBLE {
            return Err("no store ever had this revision");
        }
        if revision <= last {
            return Err("it is the second record of its revision");
        }
        let layout = Layout::of(&encoded).ok_or("the value is not a key-value")?;
        // `etcdutl snapshot restore --bump-revision` stores an empty key-value.
        if !tombstone && !encoded.is_empty() {
            if layout.mod_revision != revision.main {
                return Err("the value has another mod_revision");
            }
            if !(1..=revision.main).contains(&layout.create_revision) {
                return Err("the value has an impossible create_revision");
            }
            if !(1..PLAUSIBLE).contains(&layout.version) {
                return Err("the value has an impossible version");
            }
        }
        Ok(Record {
            revision,
            tombstone,
            encoded,
            layout,
        })
    }

    fn key(&self) -> &[u8] {
        &self.encoded[self.layout.key.clone()]
    }
}

#[derive(Default)]
struct Builder {
    index: index::Restore,
    newest: i64,
    leases: HashMap<Bytes, i64>,
}

impl Builder {
    fn add(&mut self, record: &Record) {
        let key = record.key();
        self.newest = record.revision.main;
        let Layout {
            create_revision,
            version,
            lease,
            ..
        } = record.layout;
        if record.tombstone {
            self.index.tombstone(key, record.revision);
        } else {
            self.index
                .put(key, record.revision, create_revision, version);
        }
        let lease = if record.tombstone { 0 } else { lease };
        if lease != 0 {
            match self.leases.get_mut(key) {
                Some(known) => *known = lease,
                None => _ = self.leases.insert(Bytes::copy_from_slice(key), lease),
            }
        } else if !self.leases.is_empty() {
            self.leases.remove(key);
        }
    }
}
