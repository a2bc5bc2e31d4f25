//! Committing: from a batch to two syncs.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::MutexGuard;

use super::freelist::{Freelist, Stretch};
use super::meta::Meta;
use super::page::{BUCKET, PageId};
use super::pager::Pager;
use super::state::State;
use super::sweep::Sweep;
use super::tree::Head;
use super::tx::{Change, Tx, Writes};
use super::{BoltBackend, BoltOptions};
use crate::backend::{Batch, Bucket, Error, Op};

/// bbolt's limits on a key and a value.
const MAX_KEY: usize = 32768;
const MAX_VALUE: usize = (1 << 31) - 2;

/// Most bytes handed to one write call.
const WRITE_BYTES: usize = 1 << 20;

/// Bounds on the bytes by which the file is made longer than needed, an eighth of it in between.
const MIN_SLACK: u64 = 64 << 10;
const MAX_SLACK: u64 = 16 << 20;

/// Most bytes cut off at once: the file system has to let go of each page that it holds of them, while others wait.
const MAX_CUT: u64 = 8 << 20;

/// What belongs to the one commit under way.
pub(super) struct Writer {
    pub(super) options: BoltOptions,
    pub(super) freelist: Freelist,
    pub(super) stored_freelist: Option<Stretch>,
    /// States before the current one that somebody may still read, oldest first.
    pub(super) older: Vec<Arc<State>>,
    /// End of the pages as the other meta page has it.
    pub(super) previous_high_water: PageId,
    pub(super) file_len: u64,
    /// Bytes used in the pages of trees.
    pub(super) used: u64,
    pub(super) failed: Option<Error>,
    pub(super) sweep: Sweep,
}

impl BoltBackend {
    /// Runs a transaction and makes it durable. `fill` does the changes and returns the buckets that have another head now.
    pub(super) fn transact(
        &self,
        writer: &mut MutexGuard<'_, Writer>,
        fill: impl FnOnce(&mut Tx<'_>, &State) -> Result<Vec<(Bytes, Head)>, Error>,
    ) -> Result<(), Error> {
        writer.usable()?;
        self.try_transact(&mut *writer, fill)
            .inspect_err(|error| writer.failed = Some(error.clone()))?;
        self.measure(writer);
        Ok(())
    }

    fn try_transact(
        &self,
        writer: &mut Writer,
        fill: impl FnOnce(&mut Tx<'_>, &State) -> Result<Vec<(Bytes, Head)>, Error>,
    ) -> Result<(), Error> {
        let pager = &self.shared.pager;
        let base = self.shared.current.load_full();
        if base.meta.txid == u64::MAX {
            return Err(pager.corrupt(base.meta.page(), "no number is left for another commit"));
        }
        writer.release_unread();
        let mut tx = Tx::new(pager, &base.meta, &mut writer.freelist);
        if let Some(stretch) = writer.stored_freelist.take() {
            tx.free_stretch(stretch);
        }
        let heads = fill(&mut tx, &base)?;
        let root = write_heads(&mut tx, &base, &heads)?;
        let txid = tx.txid;
        let used = tx.used;
        let Writes {
            pages,
            high_water,
            freelist,
        } = tx.finish(writer.options.store_freelist);
        writer.stored_freelist = freelist;
        writer.used = writer.used.wrapping_add_signed(used);
        let meta = Meta {
            root,
            high_water,
            txid,
            freelist: freelist.map(|stretch| stretch.start),
            ..base.meta
        };
        writer.grow(pager, high_water)?;
        write_pages(pager, &pages)?;
        sync(pager)?;
        let page = meta.page();
        write(pager, &meta.encode(page), page)?;
        sync(pager)?;
        self.shared.current.store(Arc::new(base.next(meta, heads)));
        writer.previous_high_water = base.meta.high_water;
        writer.older.push(base);
        writer.shrink(pager, high_water)
    }
}

impl Writer {
    /// # Errors
    /// That of the commit which failed, because from then on nothing here says what is on the disk.
    pub(super) fn usable(&self) -> Result<(), Error> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Frees what nobody reads any more.
    fn release_unread(&mut self) {
        // Exclusive access says that everybody else has let it go, and has finished reading before.
        self.older.retain_mut(|state| Arc::get_mut(state).is_none());
        let readers: Vec<u64> = self.older.iter().map(|state| state.meta.txid).collect();
        self.freelist.release(&readers);
    }

    /// Makes room for pages up to `high_water`, and a little more.
    fn grow(&mut self, pager: &Pager, high_water: PageId) -> Result<(), Error> {
        let needed = high_water * pager.page_size() as u64;
        if needed <= self.file_len {
            return Ok(());
        }
        let generous = needed + slack(needed);
        let file = pager.file();
        let len = match file.allocate(generous) {
            Ok(()) => generous,
            Err(_) => {
                file.allocate(needed)
                    .map_err(Error::io("make room in", pager.path()))?;
                needed
            }
        };
        self.file_len = len;
        Ok(())
    }

    /// Cuts off a piece of what neither meta page needs, if that is much.
    fn shrink(&mut self, pager: &Pager, high_water: PageId) -> Result<(), Error> {
        let needed = self.needed(pager, high_water);
        if self.has_excess(needed) {
            let len = needed.max(self.file_len.saturating_sub(MAX_CUT));
            pager
                .file()
                .set_len(len)
                .map_err(Error::io("shorten", pager.path()))?;
            self.file_len = len;
        }
        Ok(())
    }

    /// Bytes that one of the meta pages needs, the newest with pages up to `high_water`.
    pub(super) fn needed(&self, pager: &Pager, high_water: PageId) -> u64 {
        let pages = high_water.max(self.previous_high_water);
        pages.saturating_mul(pager.page_size() as u64)
    }

    /// Whether the file is much longer than needed.
    pub(super) fn has_excess(&self, needed: u64) -> bool {
        self.file_len > needed.saturating_add(2 * slack(needed))
    }
}

/// By how much a file is made longer than it has to be.
pub(super) fn slack(needed: u64) -> u64 {
    (needed / 8).clamp(MIN_SLACK, MAX_SLACK)
}

/// Writes the tree of buckets with new heads, and those buckets that are missing; returns its root.
fn write_heads(tx: &mut Tx<'_>, base: &State, heads: &[(Bytes, Head)]) -> Result<PageId, Error> {
    if heads.is_empty() {
        return Ok(base.meta.root);
    }
    let mut changes: Vec<(Bytes, Bytes)> = heads
        .iter()
        .map(|(name, head)| (name.clone(), head.encode()))
        .collect();
    changes.sort_unstable();
    let changes: Vec<Change<'_>> = changes
        .iter()
        .map(|(name, value)| Change {
            key: name,
            value: Some((BUCKET, value.clone())),
        })
        .collect();
    let page = tx.read(base.meta.root)?;
    let node = tx.rewrite(base.meta.root, &page, &changes, true, 0)?;
    tx.plant_buckets(node)
}

/// The changes of a batch to each bucket, ascending by key, the last one for each key.
pub(super) fn changes(batch: &Batch) -> Result<[Vec<Change<'_>>; Bucket::ALL.len()], Error> {
    let mut buckets: [Vec<Change<'_>>; Bucket::ALL.len()] = Default::default();
    for op in batch.ops() {
        let value = match op {
            Op::Put { value, .. } => Some((0, value.clone())),
            Op::Delete { .. } => None,
        };
        let size = value.as_ref().map_or(0, |(_, value)| value.len());
        if !(1..=MAX_KEY).contains(&op.key().len()) || size > MAX_VALUE {
            return Err(Error::Unstorable {
                bucket: op.bucket().name(),
                key_len: op.key().len(),
                value_len: size,
            });
        }
        buckets[op.bucket().index()].push(Change {
            key: op.key(),
            value,
        });
    }
    for changes in &mut buckets {
        if !changes.is_sorted_by(|a, b| a.key < b.key) {
            changes.sort_by(|a, b| a.key.cmp(b.key));
            changes.reverse();
            changes.dedup_by(|a, b| a.key == b.key);
            changes.reverse();
        }
    }
    Ok(buckets)
}

/// Writes pages, those that follow each other in one call.
fn write_pages(pager: &Pager, pages: &[(PageId, Vec<u8>)]) -> Result<(), Error> {
    let mut rest = pages;
    let mut buffer = Vec::new();
    while let Some((first, bytes)) = rest.first() {
        let mut count = 1;
        let mut len = bytes.len();
        while let Some((id, bytes)) = rest.get(count)
            && *id == first + (len / pager.page_size()) as u64
            && len + bytes.len() <= WRITE_BYTES
        {
            len += bytes.len();
            count += 1;
        }
        let (row, behind) = rest.split_at(count);
        row.iter().for_each(|(id, _)| pager.forget(*id));
        if count == 1 {
            write(pager, bytes, *first)?;
        } else {
            buffer.clear();
            row.iter()
                .for_each(|(_, bytes)| buffer.extend_from_slice(bytes));
            write(pager, &buffer, *first)?;
        }
        rest = behind;
    }
    Ok(())
}

fn write(pager: &Pager, bytes: &[u8], id: PageId) -> Result<(), Error> {
    let offset = id * pager.page_size() as u64;
    let written = pager.file().write_all_at(bytes, offset);
    written.map_err(Error::io("write", pager.path()))
}

fn sync(pager: &Pager) -> Result<(), Error> {
    let synced = pager.file().sync_data();
    synced.map_err(Error::io("sync", pager.path()))
}
