//! The engine on etcd's own database file, `member/snap/db`: bbolt's format (disk-format 5).
//!
//! - [`page`], [`meta`], [`freelist`]: what is in the file.
//! - [`pager`], [`tree`], [`state`]: reading. A reader holds the state of one commit and needs no lock.
//! - [`writer`], [`tx`]: committing a batch; [`sweep`], [`tidy`]: giving space back; [`create`]: beginning.
//! - [`walk`]: what is reached from a meta page, and whether all of it is sound.
//!
//! A commit writes its pages to free places, syncs, writes one of the two meta pages, syncs. Only then do readers see
//! it. Pages that it replaced are written again when no reader can see them any more, and never by the commit
//! right after it that would destroy what the other meta page needs.

mod copy;
mod create;
mod file;
mod freelist;
mod fuzz;
mod lone;
mod meta;
mod page;
mod pager;
mod state;
mod sweep;
#[cfg(test)]
mod tests;
mod tidy;
mod tree;
mod tx;
mod walk;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;

pub use self::file::BoltFile;
pub use self::fuzz::fuzz_page;

use self::copy::Copy;
use self::create::{create, lock};
use self::freelist::Freelist;
use self::page::PageId;
use self::pager::Pager;
use self::state::State;
use self::sweep::Sweep;
use self::tree::Head;
use self::writer::{Writer, changes, slack};
use super::{Backend, Batch, Bucket, DatabaseCopy, Error, View};
use crate::fs::{Fs, OpenMode};

/// A sweep finds few free places in front when the file is small or readers hold them; the next one finds more.
const MAX_SWEEPS: usize = 3;

/// Between two steps of a defragmentation, about as long as a step takes.
const PAUSE: Duration = Duration::from_millis(2);

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

    /// Tells that the file has another name now, for what is said about it. The file itself stays open, and locked.
    pub fn renamed(&self, path: &Path) {
        self.shared.pager.renamed(path);
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
            while self.step(true)? {
                // Disk and processors are not ours alone.
                thread::sleep(PAUSE);
            }
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

    fn view_and_copy(&self) -> Result<(Arc<dyn View>, DatabaseCopy), Error> {
        let (state, unused) = {
            let writer = self.writer.lock();
            writer.usable()?;
            let mut unused = writer.freelist.unused();
            unused.extend(writer.stored_freelist);
            unused.sort_unstable();
            (self.shared.current.load_full(), unused)
        };
        let view = BoltView {
            state: state.clone(),
            shared: self.shared.clone(),
        };
        let copy = Copy::new(self.shared.clone(), state, unused);
        let copy = DatabaseCopy {
            len: copy.len(),
            bytes: Box::new(copy),
        };
        Ok((Arc::new(view), copy))
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
