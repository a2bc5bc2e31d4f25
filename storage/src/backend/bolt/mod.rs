//! The engine on etcd's own database file, `member/snap/db`: bbolt's format (disk-format 5).
//!
//! - [`page`], [`meta`], [`freelist`]: what is in the file.
//! - [`pager`], [`tree`], [`state`]: reading. A reader holds the state of one commit and needs no lock.
//! - [`tx`]: writing a batch; [`tidy`]: giving space back.
//! - [`walk`]: what is reached from a meta page, and whether all of it is sound.
//!
//! A commit writes its pages to free places, syncs, writes one of the two meta pages, syncs. Only then do readers see
//! it. Pages that it replaced are written again when no reader can see them any more, and never by the commit
//! right after it that would destroy what the other meta page needs.

mod copy;
mod file;
mod freelist;
mod fuzz;
mod lone;
mod meta;
mod page;
mod pager;
mod state;
#[cfg(test)]
mod tests;
mod tidy;
mod tree;
mod tx;
mod walk;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

pub use self::file::BoltFile;
pub use self::fuzz::fuzz_page;

use self::copy::Copy;
use self::freelist::{Freelist, Stretch};
use self::meta::Meta;
use self::page::{BUCKET, Item, PageId, build};
use self::pager::Pager;
use self::state::{State, head_in};
use self::tidy::Step;
use self::tree::Head;
use self::tx::{Change, Tx, Writes};
use super::{Backend, Batch, Bucket, DatabaseCopy, Error, Op, View};
use crate::fs::{File, Fs, OpenMode, durable_rename};

/// Pages of a new file have this size, on every machine. bbolt takes the machine's, and reads any.
const PAGE_SIZE: usize = 4096;

/// bbolt's limits on a key and a value.
const MAX_KEY: usize = 32768;
const MAX_VALUE: usize = (1 << 31) - 2;

/// Most bytes handed to one write call.
const WRITE_BYTES: usize = 1 << 20;

/// Bounds on the bytes by which the file is made longer than needed, an eighth of it in between.
const MIN_SLACK: u64 = 64 << 10;
const MAX_SLACK: u64 = 16 << 20;

/// Below so many bytes a database is not worth tidying.
const MIN_TIDY: u64 = 1 << 20;

/// Commits after a sweep until the last pages that it let go can be cut off: one makes them free, one more takes the
/// end of the file out of the other meta page too.
const SETTLING: u8 = 3;

/// A sweep finds few free places in front when the file is small or readers hold them; the next one finds more.
const MAX_SWEEPS: usize = 3;

/// How a database is kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct BoltOptions {
    /// Stores the list of free pages with each commit, which costs 8 bytes for each of them. etcd does not on Linux;
    /// without it the list is found at open.
    pub store_freelist: bool,
}

/// The engine on etcd's database file. See the module's documentation.
pub struct BoltBackend {
    shared: Arc<Shared>,
    writer: Mutex<Writer>,
    /// One defragmentation at a time.
    defragment: Mutex<()>,
    size: AtomicU64,
    in_use: AtomicU64,
}

/// What readers need.
struct Shared {
    pager: Pager,
    current: ArcSwap<State>,
}

/// What belongs to the one commit under way.
struct Writer {
    options: BoltOptions,
    freelist: Freelist,
    stored_freelist: Option<Stretch>,
    /// States before the current one that somebody may still read, oldest first.
    older: Vec<Arc<State>>,
    /// End of the pages as the other meta page has it.
    previous_high_water: PageId,
    file_len: u64,
    /// Bytes used in the pages of trees.
    used: u64,
    failed: Option<Error>,
    sweep: Sweep,
}

/// Where tidying stands.
#[derive(Default)]
enum Sweep {
    #[default]
    Idle,
    /// Going through the trees.
    Moving {
        /// Trees still to go through, the next one last.
        buckets: Vec<Bytes>,
        /// The key to go on at in it.
        from: Bytes,
        target: PageId,
    },
    /// Nothing but commits are needed, so many.
    Settling(u8),
    /// Done when so many pages were unused and so many bytes used: without a change of these, another one is no use.
    Done { unused: u64, used: u64 },
}

impl BoltBackend {
    /// Opens the database `path`, and creates it with etcd's ten buckets if it is not there. An existing one is not
    /// changed before the first commit.
    ///
    /// # Errors
    /// `Locked` if somebody else has it open; `Corrupt` says what is wrong with it.
    pub fn open(fs: Arc<dyn Fs>, path: &Path, options: BoltOptions) -> Result<BoltBackend, Error> {
        let exists = fs.exists(path).map_err(Error::io("look for", path))?;
        let created = if exists { None } else { create(&*fs, path)? };
        let file = match created {
            Some(file) => file,
            None => {
                let file = fs
                    .open(path, OpenMode::Write)
                    .map_err(Error::io("open", path))?;
                lock(&*file, path)?;
                file
            }
        };
        // A process that was killed may have left a commit that is not on the disk yet. From here on it counts: its
        // index is reported as durable, and the pages it replaced are written over.
        file.sync_data().map_err(Error::io("sync", path))?;
        let file_len = file.len().map_err(Error::io("read", path))?;
        let (pager, meta) = Pager::open(file, path)?;
        let walked = walk::walk(&pager, &meta)?;
        let mut freelist = Freelist::default();
        walked.unused.into_iter().for_each(|s| freelist.add(s));
        let state = State::load(&pager, meta)?;
        let backend = BoltBackend {
            shared: Arc::new(Shared {
                pager,
                current: ArcSwap::from_pointee(state),
            }),
            writer: Mutex::new(Writer {
                options,
                freelist,
                stored_freelist: walked.freelist,
                older: Vec::new(),
                // Unknown: nothing is cut off before two commits.
                previous_high_water: PageId::MAX,
                file_len,
                used: walked.used,
                failed: None,
                sweep: Sweep::Idle,
            }),
            defragment: Mutex::default(),
            size: AtomicU64::default(),
            in_use: AtomicU64::default(),
        };
        backend.measure(&backend.writer.lock());
        Ok(backend)
    }

    /// Checks that every page is reached once or free, that all pages are sound and keys in order.
    ///
    /// # Errors
    /// `Corrupt`, with the first thing that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let writer = self.writer.lock();
        writer.usable()?;
        let walked = walk::walk(&self.shared.pager, &self.shared.current.load().meta)?;
        let mut unused = Freelist::default();
        walked.unused.into_iter().for_each(|s| unused.add(s));
        let mut known = Freelist::default();
        writer
            .freelist
            .unused()
            .into_iter()
            .for_each(|s| known.add(s));
        if unused.unused() != known.unused() || walked.used != writer.used {
            return Err(self
                .shared
                .pager
                .corrupt(0, "the free pages are not those that nothing refers to"));
        }
        Ok(())
    }

    /// Publishes the sizes.
    fn measure(&self, writer: &Writer) {
        let page_size = self.shared.pager.page_size() as u64;
        let pages = self.shared.current.load().meta.high_water;
        let unused = writer.freelist.unused_pages();
        self.size.store(pages * page_size, Ordering::Relaxed);
        self.in_use
            .store((pages - unused) * page_size, Ordering::Relaxed);
    }

    /// Runs a transaction and makes it durable. `fill` does the changes and returns the buckets that have another head now.
    fn transact(
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

    /// One step of tidying; false when there is nothing to do. `eager` also does what is not worth while by itself.
    fn step(&self, eager: bool) -> Result<bool, Error> {
        let writer = &mut self.writer.lock();
        if matches!(writer.sweep, Sweep::Idle | Sweep::Done { .. }) {
            let state = self.shared.current.load();
            if !eager && !writer.is_untidy(&state.meta) {
                return Ok(false);
            }
            writer.sweep = self.begin_sweep(writer, &state)?;
        }
        match std::mem::take(&mut writer.sweep) {
            Sweep::Moving {
                mut buckets,
                mut from,
                target,
            } => {
                self.transact(writer, |tx, base| {
                    move_some(tx, base, &mut buckets, &mut from, target)
                })?;
                writer.sweep = if buckets.is_empty() {
                    Sweep::Settling(SETTLING)
                } else {
                    Sweep::Moving {
                        buckets,
                        from,
                        target,
                    }
                };
                Ok(true)
            }
            Sweep::Settling(left) if left > 0 => {
                self.transact(writer, |_, _| Ok(Vec::new()))?;
                writer.sweep = Sweep::Settling(left - 1);
                Ok(true)
            }
            _ => {
                writer.sweep = Sweep::Done {
                    unused: writer.freelist.unused_pages(),
                    used: writer.used,
                };
                Ok(false)
            }
        }
    }

    fn begin_sweep(&self, writer: &Writer, state: &State) -> Result<Sweep, Error> {
        let pager = &self.shared.pager;
        let in_use = state.meta.high_water - writer.freelist.unused_pages();
        // What the trees need when packed, but for the pages that a step needs twice.
        let packed = (writer.used / pager.capacity() as u64).min(in_use);
        let tree = tree::Tree {
            pager,
            root: &state.root,
            high_water: state.meta.high_water,
        };
        let mut buckets = Vec::new();
        let mut leaves = tree.leaves(b"")?;
        while let Some(page) = leaves.next()? {
            let names = (0..page.len()).filter(|n| page.flags(*n) & BUCKET != 0);
            buckets.extend(names.map(|n| Bytes::copy_from_slice(page.key(n))));
        }
        buckets.reverse();
        Ok(Sweep::Moving {
            buckets,
            from: Bytes::new(),
            target: packed + packed / 16 + 16,
        })
    }
}

/// Takes a step through as many trees as there is budget for.
fn move_some(
    tx: &mut Tx<'_>,
    base: &State,
    buckets: &mut Vec<Bytes>,
    from: &mut Bytes,
    target: PageId,
) -> Result<Vec<(Bytes, Head)>, Error> {
    let mut step = Step::new(target);
    let mut heads = Vec::new();
    while step.has_budget()
        && let Some(name) = buckets.last()
    {
        if let Some(head) = head_in(tx.pager, &base.root, base.meta.high_water, name)?
            && let Some(head) = tx.tidy(&head, from, &mut step)?
        {
            heads.push((name.clone(), head));
        }
        match step.next.take() {
            Some(next) => {
                *from = Bytes::copy_from_slice(&next);
                break;
            }
            None => {
                // The tree of buckets moves when one of them has another head.
                if buckets.len() == 1 && heads.is_empty() && base.meta.root >= target {
                    let head = head_in(tx.pager, &base.root, base.meta.high_water, name)?;
                    heads.extend(head.map(|head| (name.clone(), head)));
                }
                buckets.pop();
                *from = Bytes::new();
            }
        }
    }
    Ok(heads)
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
fn changes(batch: &Batch) -> Result<[Vec<Change<'_>>; Bucket::ALL.len()], Error> {
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

impl Writer {
    /// # Errors
    /// That of the commit which failed, because from then on nothing here says what is on the disk.
    fn usable(&self) -> Result<(), Error> {
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

    /// Cuts off what neither meta page needs, if it is much.
    fn shrink(&mut self, pager: &Pager, high_water: PageId) -> Result<(), Error> {
        let pages = high_water.max(self.previous_high_water);
        let needed = pages.saturating_mul(pager.page_size() as u64);
        if self.file_len > needed.saturating_add(2 * slack(needed)) {
            pager
                .file()
                .set_len(needed)
                .map_err(Error::io("shorten", pager.path()))?;
            self.file_len = needed;
        }
        Ok(())
    }

    /// Whether a quarter of the file is not in use, or pages are less than three quarters full, and a sweep
    /// has not just been through.
    fn is_untidy(&self, meta: &Meta) -> bool {
        let page_size = u64::from(meta.page_size);
        let unused = self.freelist.unused_pages();
        let in_use = meta.high_water - unused;
        let holes = unused > in_use / 4 && unused * page_size > MIN_TIDY;
        let loose = self.used < in_use * page_size / 4 * 3 && in_use * page_size > MIN_TIDY;
        let changed = match self.sweep {
            Sweep::Done {
                unused: before,
                used,
            } => unused > before + in_use / 8 || self.used.abs_diff(used) > used / 8,
            _ => true,
        };
        (holes || loose) && changed
    }
}

fn slack(needed: u64) -> u64 {
    (needed / 8).clamp(MIN_SLACK, MAX_SLACK)
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

fn lock(file: &dyn File, path: &Path) -> Result<(), Error> {
    if file.try_lock().map_err(Error::io("lock", path))? {
        Ok(())
    } else {
        Err(Error::Locked {
            path: path.to_owned(),
        })
    }
}

/// Makes a database with etcd's ten buckets, whole or not at all. `None` if somebody else was faster. The file is
/// locked before it gets its name, so two members that start at once cannot each have one.
fn create(fs: &dyn Fs, path: &Path) -> Result<Option<Box<dyn File>>, Error> {
    // etcd removes files of this kind of name at its next start.
    let aside = path.with_file_name("db.tmp.new");
    let mut left = false;
    let opened = match fs.open(&aside, OpenMode::CreateNew) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // By a start that was cut off, or somebody else is just here. Not emptied before it is ours.
            left = true;
            match fs.open(&aside, OpenMode::Write) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened,
            }
        }
        opened => opened,
    };
    let file = opened.map_err(Error::io("create", &aside))?;
    lock(&*file, path)?;
    if fs.exists(path).map_err(Error::io("look for", path))? {
        if !left {
            fs.remove_file(&aside)
                .map_err(Error::io("remove", &aside))?;
        }
        return Ok(None);
    }
    let bytes = empty_database();
    file.set_len(0).map_err(Error::io("empty", &aside))?;
    file.write_all_at(&bytes, 0)
        .map_err(Error::io("write", &aside))?;
    file.sync_all().map_err(Error::io("sync", &aside))?;
    durable_rename(fs, &aside, path).map_err(Error::io("rename", &aside))?;
    Ok(Some(file))
}

fn empty_database() -> Vec<u8> {
    let empty = Head::empty().encode();
    let items = Bucket::ALL.map(|bucket| Item {
        flags: BUCKET,
        key: Bytes::from_static(bucket.name().as_bytes()),
        value: empty.clone(),
    });
    let mut bytes = Vec::with_capacity(4 * PAGE_SIZE);
    for txid in [0, 1] {
        let meta = Meta {
            page_size: PAGE_SIZE as u32,
            root: 3,
            root_sequence: 0,
            freelist: Some(2),
            high_water: 4,
            txid,
        };
        bytes.extend_from_slice(&meta.encode(txid));
        bytes.resize((txid as usize + 1) * PAGE_SIZE, 0);
    }
    bytes.extend_from_slice(&Freelist::encode(&[], 2, 0, PAGE_SIZE));
    bytes.extend_from_slice(&build(&items, 3, 0, PAGE_SIZE));
    bytes
}

impl Backend for BoltBackend {
    fn commit(&self, batch: &Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return self.writer.lock().usable();
        }
        let changes = changes(batch)?;
        self.transact(&mut self.writer.lock(), |tx, base| {
            let mut heads = Vec::new();
            for (bucket, changes) in Bucket::ALL.into_iter().zip(&changes) {
                let head = base.head(bucket);
                if changes.is_empty() && head.is_some() {
                    continue;
                }
                let empty = Head::empty();
                let head = tx.update(head.unwrap_or(&empty), changes)?;
                heads.push((Bytes::from_static(bucket.name().as_bytes()), head));
            }
            Ok(heads)
        })
    }

    fn view(&self) -> Result<Arc<dyn View>, Error> {
        Ok(Arc::new(BoltView {
            state: self.shared.current.load_full(),
            shared: self.shared.clone(),
        }))
    }

    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let state = self.shared.current.load();
        match state.tree(&self.shared, bucket) {
            Some(tree) => tree.get(key),
            None => Ok(None),
        }
    }

    fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    fn size_in_use(&self) -> u64 {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Goes on in small commits, each whole by itself, so that other commits get their turn and a crash does no harm.
    fn defragment(&self) -> Result<(), Error> {
        let _one = self.defragment.lock();
        for _ in 0..MAX_SWEEPS {
            self.writer.lock().sweep = Sweep::Idle;
            while self.step(true)? {}
            if self.size() <= self.size_in_use() + slack(self.size_in_use()) {
                break;
            }
        }
        Ok(())
    }

    fn tidy(&self) -> Result<bool, Error> {
        match self.defragment.try_lock() {
            Some(_one) => self.step(false),
            None => Ok(false),
        }
    }

    fn copy(&self) -> Result<DatabaseCopy, Error> {
        let (state, unused) = {
            let writer = self.writer.lock();
            writer.usable()?;
            let mut unused = writer.freelist.unused();
            unused.extend(writer.stored_freelist);
            unused.sort_unstable();
            (self.shared.current.load_full(), unused)
        };
        let copy = Copy::new(self.shared.clone(), state, unused);
        Ok(DatabaseCopy {
            len: copy.len(),
            bytes: Box::new(copy),
        })
    }

    fn name(&self) -> &'static str {
        "bolt"
    }
}

/// The state of one commit.
struct BoltView {
    // Before what it is read from: as long as it is here, its pages stay.
    state: Arc<State>,
    shared: Arc<Shared>,
}

impl View for BoltView {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        match self.state.tree(&self.shared, bucket) {
            Some(tree) => tree.get(key),
            None => Ok(None),
        }
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        match self.state.tree(&self.shared, bucket) {
            Some(tree) if to.is_none_or(|to| from < to) => tree.scan(from, to, limit),
            _ => Ok(Vec::new()),
        }
    }
}
