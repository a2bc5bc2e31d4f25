//! Reading a tree of pages: one key, or all in order.

use bytes::Bytes;

use super::page::{BUCKET, HEADER, Header, Item, Kind, Page, PageId, u64_at};
use super::pager::Pager;
use crate::backend::Error;

/// Deeper trees do not fit into any file; whoever gets here follows damaged pages in a circle.
pub(super) const MAX_DEPTH: usize = 48;

/// Bytes in front of an inline bucket's page, and all of any other bucket: root page and sequence.
pub(super) const BUCKET_HEADER: usize = 16;

/// Most pages that a cursor reads at once. More cost more: their memory is no longer in the processor's cache.
const MAX_AHEAD: usize = 16;

/// Where a tree begins.
#[derive(Debug, Clone)]
pub(super) enum Root {
    Page(PageId),
    /// A small bucket is a page inside the value of its name.
    Inline(Page),
}

/// A bucket: its tree, and a number that etcd does not use.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) root: Root,
    pub(super) sequence: u64,
}

impl Head {
    pub(super) fn empty() -> Head {
        Head {
            root: Root::Inline(Page::empty()),
            sequence: 0,
        }
    }

    /// Reads the value of a bucket's name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn decode(value: &Bytes) -> Result<Head, String> {
        if value.len() < BUCKET_HEADER {
            return Err(format!("a bucket's header has only {} bytes", value.len()));
        }
        let root = match u64_at(value, 0) {
            0 => {
                let page = Page::parse(value.slice(BUCKET_HEADER..), 0)
                    .map_err(|detail| format!("inline bucket: {detail}"))?;
                if page.kind() != Kind::Leaf {
                    return Err("an inline bucket is not a leaf".into());
                }
                let overflow = Header::read(&value[BUCKET_HEADER..]).overflow;
                if overflow != 0 || page.used() != page.len_in_file() {
                    return Err("an inline bucket is not as long as its page".into());
                }
                Root::Inline(page)
            }
            id if value.len() == BUCKET_HEADER => Root::Page(id),
            id => {
                return Err(format!(
                    "a bucket that begins at page {id} has a header of {} bytes",
                    value.len()
                ));
            }
        };
        Ok(Head {
            root,
            sequence: u64_at(value, 8),
        })
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut value = Vec::with_capacity(BUCKET_HEADER);
        let id = match &self.root {
            Root::Page(id) => *id,
            Root::Inline(_) => 0,
        };
        value.extend_from_slice(&id.to_le_bytes());
        value.extend_from_slice(&self.sequence.to_le_bytes());
        if let Root::Inline(page) = &self.root {
            let bytes = page.bytes();
            if bytes.is_empty() {
                value.extend_from_slice(&super::page::build::<Item>(&[], 0, 0, HEADER));
            }
            value.extend_from_slice(&bytes);
        }
        value.into()
    }
}

/// A tree of one commit.
#[derive(Clone, Copy)]
pub(super) struct Tree<'a> {
    pub(super) pager: &'a Pager,
    pub(super) root: &'a Root,
    pub(super) high_water: PageId,
}

impl<'a> Tree<'a> {
    fn root_page(&self) -> Result<Page, Error> {
        match self.root {
            Root::Page(id) => self.pager.read(*id, self.high_water),
            Root::Inline(page) => Ok(page.clone()),
        }
    }

    /// The leaf and the position in it that has `key`.
    fn find(&self, key: &[u8]) -> Result<Option<(Page, usize)>, Error> {
        let mut page = self.root_page()?;
        for _ in 0..MAX_DEPTH {
            match page.kind() {
                Kind::Leaf => return Ok(page.search(key).ok().map(|n| (page, n))),
                Kind::Branch => {
                    let id = page.child(page.child_for(key));
                    page = self.pager.read(id, self.high_water)?;
                }
            }
        }
        Err(self.too_deep())
    }

    fn too_deep(&self) -> Error {
        self.corrupt(format!("its tree has more than {MAX_DEPTH} levels"))
    }

    /// An error about the tree as a whole.
    fn corrupt(&self, detail: impl std::fmt::Display) -> Error {
        let id = match self.root {
            Root::Page(id) => *id,
            Root::Inline(_) => 0,
        };
        self.pager.corrupt(id, detail)
    }

    /// The value of `key`, in memory of its own: a page would be kept alive by a small value.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let found = self.find(key)?;
        Ok(found.map(|(page, n)| Bytes::copy_from_slice(page.value(n))))
    }

    /// The entry of `key`.
    pub(super) fn item(&self, key: &[u8]) -> Result<Option<Item>, Error> {
        Ok(self.find(key)?.map(|(page, n)| Item::of(&page, n)))
    }

    /// The entries of `[from, to)` in order, at most `limit` (0: all), without buckets. They share the memory of
    /// pages, so they are not to be kept.
    pub(super) fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let limit = if limit == 0 { usize::MAX } else { limit };
        let mut found = Vec::new();
        let mut leaves = self.leaves(from)?;
        while let Some(page) = leaves.next()? {
            let first = page.search(from).unwrap_or_else(|n| n);
            for n in first..page.len() {
                if found.len() == limit || to.is_some_and(|to| page.key(n) >= to) {
                    return Ok(found);
                }
                if page.flags(n) & BUCKET == 0 {
                    found.push((page.shared_key(n), page.shared_value(n)));
                }
            }
        }
        Ok(found)
    }

    /// The leaves from the one that has or would have `from` on.
    pub(super) fn leaves(&self, from: &[u8]) -> Result<Leaves<'a>, Error> {
        let mut leaves = Leaves {
            tree: *self,
            branches: Vec::new(),
            next: None,
            last: Bytes::new(),
            stretch: (0, Bytes::new()),
            ahead: 1,
        };
        let page = self.root_page()?;
        leaves.descend(page, Some(from))?;
        Ok(leaves)
    }
}

/// Leaves in order.
pub(super) struct Leaves<'a> {
    tree: Tree<'a>,
    /// The branches above, each with the child that comes next.
    branches: Vec<(Page, usize)>,
    next: Option<Page>,
    /// The last key so far.
    last: Bytes,
    /// Pages read ahead, from the first one's number on.
    stretch: (PageId, Bytes),
    /// How many pages to read at once. Doubled as long as it goes on, so that short scans read little.
    ahead: usize,
}

impl Leaves<'_> {
    /// The next leaf. Its keys lie behind those before, so that damaged branches cannot lead on for ever.
    pub(super) fn next(&mut self) -> Result<Option<Page>, Error> {
        let Some(page) = self.advance()? else {
            return Ok(None);
        };
        if page.len() > 0 {
            if page.key(0) <= &self.last[..] {
                return Err(self.tree.corrupt("the leaves of its tree are not in order"));
            }
            self.last = page.shared_key(page.len() - 1);
        } else if !self.branches.is_empty() {
            return Err(self.tree.corrupt("its tree has empty leaves"));
        }
        Ok(Some(page))
    }

    fn advance(&mut self) -> Result<Option<Page>, Error> {
        if let Some(page) = self.next.take() {
            return Ok(Some(page));
        }
        while let Some((branch, n)) = self.branches.last_mut() {
            if *n == branch.len() {
                self.branches.pop();
                continue;
            }
            let (branch, at) = (branch.clone(), *n);
            *n += 1;
            let page = self.read(&branch, at)?;
            self.descend(page, None)?;
            return Ok(self.next.take());
        }
        Ok(None)
    }

    /// Goes down to a leaf: the one of `key`, or the first.
    fn descend(&mut self, mut page: Page, key: Option<&[u8]>) -> Result<(), Error> {
        while page.kind() == Kind::Branch {
            if self.branches.len() == MAX_DEPTH {
                return Err(self.tree.too_deep());
            }
            let n = key.map_or(0, |key| page.child_for(key));
            let child = self.tree.pager.read(page.child(n), self.tree.high_water)?;
            self.branches.push((page, n + 1));
            page = child;
        }
        self.next = Some(page);
        Ok(())
    }

    /// Child `n` of a branch, together with the ones behind it that follow in the file.
    fn read(&mut self, branch: &Page, n: usize) -> Result<Page, Error> {
        let Tree {
            pager, high_water, ..
        } = self.tree;
        let id = branch.child(n);
        let (first, stretch) = &self.stretch;
        if let Some(page) = pager.page_of_stretch(stretch, *first, id, high_water) {
            return page;
        }
        let most = self.ahead.min((high_water.saturating_sub(id)) as usize);
        self.ahead = (self.ahead * 2).min(MAX_AHEAD);
        // Children may have overflow pages, so the row need not be without gaps to be worth one call.
        let row = (n..branch.len())
            .take_while(|at| {
                let offset = branch.child(*at).wrapping_sub(id);
                offset < most as u64
            })
            .count();
        if row < 2 {
            return pager.read(id, high_water);
        }
        let pages = (branch.child(n + row - 1) - id) as usize + 1;
        self.stretch = (id, pager.read_stretch(id, pages)?);
        let (first, stretch) = &self.stretch;
        match pager.page_of_stretch(stretch, *first, id, high_water) {
            Some(page) => page,
            None => pager.read(id, high_water),
        }
    }
}
