//! Reading pages from the file, and finding out what the file is.
//!
//! Pages are read with `pread`, not through a memory map: a truncated file or a bad sector is then an error of the call
//! instead of a signal that kills the process, and no page changes under our hands. The kernel's page cache keeps
//! the leaves, a cache of ours the branches, parsed.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::meta::{Meta, PAGE_SIZES};
use super::page::{HEADER, Header, Kind, Page, PageId};
use crate::backend::Error;
use crate::fs::{File, read_full};

/// Bytes of branch pages to keep. A million keys of 256 bytes have 3 MiB of them.
const CACHE_BYTES: u64 = 64 << 20;

/// What an entry of the cache is taken to weigh when its tables are sized.
const TYPICAL_PAGE: u64 = 8 << 10;

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<PageId, Page> for Weight {
    fn weight(&self, _: &PageId, page: &Page) -> u64 {
        page.used() as u64 + 128
    }
}

/// An open database file.
#[derive(Debug)]
pub(super) struct Pager {
    file: Box<dyn File>,
    /// The name it was opened by.
    path: PathBuf,
    /// The name that it was given since.
    renamed: OnceLock<PathBuf>,
    page_size: usize,
    /// Sound branches. A page is forgotten when it is written; whoever puts it back still reads a commit that has it.
    branches: Cache<PageId, Page, Weight>,
}

impl Pager {
    /// Finds the newest sound meta page. The file must be as long as that says.
    pub(super) fn open(file: Box<dyn File>, path: &Path) -> Result<(Pager, Meta), Error> {
        let len = file.len().map_err(Error::io("read", path))?;
        let meta = find_meta(&*file, path)?;
        let corrupt = |detail| Error::Corrupt {
            path: path.to_owned(),
            detail,
        };
        let page_size = meta.page_size as usize;
        let pages = len / page_size as u64;
        if pages < meta.high_water {
            return Err(corrupt(format!(
                "it is cut off: {len} bytes long, but {} pages of {page_size} bytes are in use",
                meta.high_water
            )));
        }
        for (what, id) in [("root", Some(meta.root)), ("free list", meta.freelist)] {
            if id.is_some_and(|id| !(2..meta.high_water).contains(&id)) {
                return Err(corrupt(format!("its {what} is not one of its pages")));
            }
        }
        let pager = Pager {
            file,
            path: path.to_owned(),
            renamed: OnceLock::new(),
            page_size,
            branches: Cache::with_weighter(
                (CACHE_BYTES / TYPICAL_PAGE) as usize,
                CACHE_BYTES,
                Weight,
            ),
        };
        Ok((pager, meta))
    }

    pub(super) fn page_size(&self) -> usize {
        self.page_size
    }

    pub(super) fn file(&self) -> &dyn File {
        &*self.file
    }

    pub(super) fn path(&self) -> &Path {
        self.renamed.get().unwrap_or(&self.path)
    }

    /// A database gets its final name once; a second one is not taken.
    pub(super) fn renamed(&self, path: &Path) {
        self.renamed.get_or_init(|| path.to_owned());
    }

    /// An error about page `id`.
    pub(super) fn corrupt(&self, id: PageId, detail: impl std::fmt::Display) -> Error {
        Error::Corrupt {
            path: self.path().to_owned(),
            detail: format!("page {id}: {detail}"),
        }
    }

    /// The branch or leaf `id` of a commit whose pages end at `high_water`.
    pub(super) fn read(&self, id: PageId, high_water: PageId) -> Result<Page, Error> {
        if let Some(page) = self.branches.get(&id) {
            return Ok(page);
        }
        let page = self.parse(self.read_raw(id, high_water)?, id)?;
        self.keep(id, &page);
        Ok(page)
    }

    /// The bytes of page `id` and its overflow pages.
    pub(super) fn read_raw(&self, id: PageId, high_water: PageId) -> Result<Bytes, Error> {
        if !(2..high_water).contains(&id) {
            return Err(self.corrupt(id, "it is referred to, but outside of the file"));
        }
        let mut bytes = vec![0; self.page_size];
        self.fill(&mut bytes, id)?;
        let overflow = self.overflow(&bytes, id, high_water)?;
        if overflow > 0 {
            bytes.resize((overflow + 1) * self.page_size, 0);
            let (_, rest) = bytes.split_at_mut(self.page_size);
            self.fill(rest, id + 1)?;
        }
        Ok(bytes.into())
    }

    /// How many pages belong to the one that begins with `bytes`. Pages outside of the file are an error, so nothing
    /// larger than the file is ever allocated.
    fn overflow(&self, bytes: &[u8], id: PageId, high_water: PageId) -> Result<usize, Error> {
        let overflow = Header::read(bytes).overflow;
        if u64::from(overflow) >= high_water - id {
            return Err(self.corrupt(
                id,
                format!("its {overflow} overflow pages are outside of the file"),
            ));
        }
        Ok(overflow as usize)
    }

    fn fill(&self, bytes: &mut [u8], id: PageId) -> Result<(), Error> {
        let offset = id * self.page_size as u64;
        let read = read_full(&*self.file, bytes, offset).map_err(Error::io("read", self.path()))?;
        if read < bytes.len() {
            return Err(self.corrupt(id, "the file ends before it; somebody else has cut it"));
        }
        Ok(())
    }

    /// Reads `pages` pages in one call. They may be anything.
    pub(super) fn read_stretch(&self, id: PageId, pages: usize) -> Result<Bytes, Error> {
        self.read_stretch_into(id, pages, Bytes::new())
    }

    /// As [`Pager::read_stretch`], into memory that may serve again if nobody else holds it.
    pub(super) fn read_stretch_into(
        &self,
        id: PageId,
        pages: usize,
        memory: Bytes,
    ) -> Result<Bytes, Error> {
        let len = pages * self.page_size;
        let mut bytes = memory.try_into_mut().unwrap_or_default();
        bytes.resize(len, 0);
        self.fill(&mut bytes, id)?;
        Ok(bytes.freeze())
    }

    /// Takes page `id` out of a stretch that was read from page `first` on. `None` if it is not whole in there.
    pub(super) fn page_of_stretch(
        &self,
        stretch: &Bytes,
        first: PageId,
        id: PageId,
        high_water: PageId,
    ) -> Option<Result<Page, Error>> {
        let start = usize::try_from(id.checked_sub(first)?)
            .ok()?
            .checked_mul(self.page_size)?;
        let bytes = stretch.get(start..start.checked_add(self.page_size)?)?;
        let overflow = match self.overflow(bytes, id, high_water) {
            Ok(overflow) => overflow,
            Err(error) => return Some(Err(error)),
        };
        let end = start + (overflow + 1) * self.page_size;
        if end > stretch.len() {
            return None;
        }
        Some(self.parse(stretch.slice(start..end), id))
    }

    pub(super) fn parse(&self, bytes: Bytes, id: PageId) -> Result<Page, Error> {
        let page = Page::parse(bytes, id).map_err(|detail| self.corrupt(id, detail))?;
        let pages = page.len_in_file() / self.page_size;
        // Before 2019 bbolt had one page more for what fills its pages to the last byte.
        if pages != self.pages(page.used()) && pages != page.used() / self.page_size + 1 {
            let used = page.used();
            return Err(self.corrupt(id, format!("it has {pages} pages for {used} bytes")));
        }
        Ok(page)
    }

    /// Keeps a branch in memory.
    pub(super) fn keep(&self, id: PageId, page: &Page) {
        if page.kind() == Kind::Branch {
            self.branches.insert(id, page.detached());
        }
    }

    /// Forgets a page that is about to be written.
    pub(super) fn forget(&self, id: PageId) {
        self.branches.remove(&id);
    }

    /// Number of pages that these bytes need.
    pub(super) fn pages(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.page_size).max(1)
    }

    /// Bytes of a page that entries can take.
    pub(super) fn capacity(&self) -> usize {
        self.page_size - HEADER
    }
}

/// The newer of the two sound meta pages.
fn find_meta(file: &dyn File, path: &Path) -> Result<Meta, Error> {
    let mut first = [0; 4096];
    let read = read_full(file, &mut first, 0).map_err(Error::io("read", path))?;
    let zero = Meta::decode(&first[..read]);
    // The second one tells where it is only if the first one cannot.
    let sizes: Vec<usize> = match &zero {
        Ok(meta) => vec![meta.page_size as usize],
        Err(_) => std::iter::successors(Some(*PAGE_SIZES.start()), |size| Some(size * 2))
            .take_while(|size| PAGE_SIZES.contains(size))
            .collect(),
    };
    let mut one = Err("no meta page at any page size".to_owned());
    for size in sizes {
        let mut second = [0; 256];
        let read = read_full(file, &mut second, size as u64).map_err(Error::io("read", path))?;
        let found = Meta::decode(&second[..read]).and_then(|meta| {
            if meta.page_size as usize == size {
                Ok(meta)
            } else {
                Err(format!("it says that pages have {} bytes", meta.page_size))
            }
        });
        if found.is_ok() || zero.is_ok() {
            one = found;
            break;
        }
    }
    match (zero, one) {
        (Ok(zero), Ok(one)) if one.txid > zero.txid => Ok(one),
        (Ok(meta), _) | (Err(_), Ok(meta)) => Ok(meta),
        (Err(zero), Err(one)) => Err(Error::Corrupt {
            path: path.to_owned(),
            detail: format!("invalid database: meta page 0: {zero}; meta page 1: {one}"),
        }),
    }
}
