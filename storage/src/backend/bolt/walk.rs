//! Walking through everything that a meta page reaches.
//!
//! At open this finds the free pages, which are the ones not reached, as etcd's settings of bbolt have it. On the way every page
//! is checked: reached once, sound by itself, its keys where the branch above says, as deep as the other leaves.
//! Source of the rules: bbolt `tx_check.go`.

use std::collections::HashSet;

use bytes::Bytes;

use super::freelist::{Freelist, Stretch};
use super::meta::Meta;
use super::page::{BUCKET, Header, Kind, Page, PageId};
use super::pager::Pager;
use super::tree::{Head, MAX_DEPTH, Root};
use crate::backend::Error;

/// Most pages that are read at once. More cost more: their memory is no longer in the processor's cache.
const AHEAD: usize = 16;

/// What was found.
pub(super) struct Walked {
    /// Stretches that nothing refers to.
    pub(super) unused: Vec<Stretch>,
    /// Bytes used in the pages of trees.
    pub(super) used: u64,
    /// The pages of the stored free list.
    pub(super) freelist: Option<Stretch>,
    /// A page that is neither reached nor in the stored free list. It is free all the same.
    pub(super) leaked: Option<PageId>,
}

/// A page to be visited, and where its keys may lie.
struct Visit {
    id: PageId,
    /// Which tree it belongs to; 0 is the tree of buckets.
    tree: usize,
    depth: usize,
    from: Bytes,
    to: Option<Bytes>,
}

struct Walk<'a> {
    pager: &'a Pager,
    high_water: PageId,
    /// A bit for each page.
    reached: Vec<u64>,
    used: u64,
    /// Of each tree, how deep its leaves lie, once one was seen.
    leaf_depths: Vec<Option<usize>>,
    todo: Vec<Visit>,
    stretch: (PageId, Bytes),
}

/// Walks through the database of `meta`.
pub(super) fn walk(pager: &Pager, meta: &Meta) -> Result<Walked, Error> {
    let mut walk = Walk {
        pager,
        high_water: meta.high_water,
        reached: vec![0; (meta.high_water as usize).div_ceil(64)],
        used: 0,
        leaf_depths: Vec::new(),
        todo: Vec::new(),
        stretch: (0, Bytes::new()),
    };
    walk.reach(0, 2)?;
    walk.push_tree(meta.root);
    while let Some(visit) = walk.todo.pop() {
        walk.visit(visit)?;
    }
    let (mut freelist, mut leaked) = (None, None);
    if let Some(id) = meta.freelist {
        let (stretch, listed) = walk.stored_freelist(id)?;
        let listed: HashSet<PageId> = listed.into_iter().collect();
        leaked = (2..meta.high_water).find(|id| !walk.is_reached(*id) && !listed.contains(id));
        freelist = Some(stretch);
    }
    Ok(Walked {
        unused: walk.unused(),
        used: walk.used,
        freelist,
        leaked,
    })
}

impl Walk<'_> {
    fn push_tree(&mut self, root: PageId) {
        self.todo.push(Visit {
            id: root,
            tree: self.leaf_depths.len(),
            depth: 0,
            from: Bytes::new(),
            to: None,
        });
        self.leaf_depths.push(None);
    }

    /// Marks pages; each may be reached once.
    fn reach(&mut self, id: PageId, pages: u64) -> Result<(), Error> {
        for id in id..id + pages {
            let (word, bit) = ((id / 64) as usize, 1 << (id % 64));
            match self.reached.get_mut(word) {
                Some(reached) if *reached & bit == 0 => *reached |= bit,
                _ => return Err(self.pager.corrupt(id, "it is referred to more than once")),
            }
        }
        Ok(())
    }

    /// Whether a page was reached.
    fn is_reached(&self, id: PageId) -> bool {
        self.reached[(id / 64) as usize] >> (id % 64) & 1 == 1
    }

    fn visit(&mut self, visit: Visit) -> Result<(), Error> {
        let Visit {
            id,
            tree,
            depth,
            from,
            to,
        } = visit;
        let corrupt = |detail: &str| self.pager.corrupt(id, detail);
        if depth > MAX_DEPTH {
            return Err(corrupt("its tree has too many levels"));
        }
        // Before it is read: a page that is reached twice may be read for ever.
        if id < self.high_water && self.is_reached(id) {
            return Err(corrupt("it is referred to more than once"));
        }
        let page = self.read(id)?;
        self.reach(id, (page.len_in_file() / self.pager.page_size()) as u64)?;
        self.used += page.used() as u64;
        let corrupt = |detail: &str| self.pager.corrupt(id, detail);
        if page.len() == 0 && depth > 0 {
            return Err(corrupt("it is empty, and not the only page of its tree"));
        }
        if page.len() == 0 && !page.is_blank() {
            return Err(corrupt("it has no entries, but is not blank"));
        }
        if page.len() > 0 {
            // bbolt finds the entry of a page in the page above by this key.
            if depth > 0 && page.key(0) != &from[..] {
                return Err(corrupt(
                    "its first key is not the one that the page above it has",
                ));
            }
            if to
                .as_ref()
                .is_some_and(|to| page.key(page.len() - 1) >= &to[..])
            {
                return Err(corrupt(
                    "its last key lies behind those that the page above it has here",
                ));
            }
        }
        match page.kind() {
            Kind::Branch => {
                self.pager.keep(id, &page);
                // The last one first: they are taken from the end.
                for n in (0..page.len()).rev() {
                    let last = n + 1 == page.len();
                    self.todo.push(Visit {
                        id: page.child(n),
                        tree,
                        depth: depth + 1,
                        from: page.shared_key(n),
                        to: if last {
                            to.clone()
                        } else {
                            Some(page.shared_key(n + 1))
                        },
                    });
                }
                Ok(())
            }
            Kind::Leaf => {
                if *self.leaf_depths[tree].get_or_insert(depth) != depth {
                    return Err(corrupt("it is a leaf where other leaves are not"));
                }
                if tree == 0 && (0..page.len()).any(|n| page.flags(n) & BUCKET == 0) {
                    return Err(corrupt("it has a key that is in no bucket"));
                }
                self.push_buckets(id, &page, 0)
            }
        }
    }

    /// The buckets in a leaf, those in inline ones included.
    fn push_buckets(&mut self, id: PageId, page: &Page, depth: usize) -> Result<(), Error> {
        for n in (0..page.len()).filter(|n| page.flags(*n) & BUCKET != 0) {
            let head = Head::decode(&page.shared_value(n))
                .map_err(|detail| self.pager.corrupt(id, detail))?;
            match head.root {
                Root::Page(root) => self.push_tree(root),
                Root::Inline(_) if depth == MAX_DEPTH => {
                    return Err(self.pager.corrupt(id, "buckets lie too deep in each other"));
                }
                Root::Inline(inner) => self.push_buckets(id, &inner, depth + 1)?,
            }
        }
        Ok(())
    }

    /// Reads a page, with as many of those that are to be visited next as lie behind it.
    fn read(&mut self, id: PageId) -> Result<Page, Error> {
        let (first, stretch) = &self.stretch;
        if let Some(page) = self
            .pager
            .page_of_stretch(stretch, *first, id, self.high_water)
        {
            return page;
        }
        let next = self.todo.iter().rev().take(AHEAD);
        let row = next
            .take_while(|visit| {
                visit.id.wrapping_sub(id) < AHEAD as u64 && visit.id < self.high_water
            })
            .last();
        if let Some(last) = row
            && id >= 2
        {
            let pages = (last.id - id) as usize + 1;
            // Nothing of it is kept, so its memory mostly serves again.
            let memory = std::mem::take(&mut self.stretch.1);
            self.stretch = (id, self.pager.read_stretch_into(id, pages, memory)?);
            let (first, stretch) = &self.stretch;
            if let Some(page) = self
                .pager
                .page_of_stretch(stretch, *first, id, self.high_water)
            {
                return page;
            }
        }
        self.pager.read(id, self.high_water)
    }

    /// Marks the stored free list, and checks that it lists no page that is in use.
    fn stored_freelist(&mut self, id: PageId) -> Result<(Stretch, Vec<PageId>), Error> {
        let bytes = self.pager.read_raw(id, self.high_water)?;
        let pages = (bytes.len() / self.pager.page_size()) as u64;
        self.reach(id, pages)?;
        let says = Header::read(&bytes).id;
        if says != id {
            return Err(self
                .pager
                .corrupt(id, format!("it says that it is page {says}")));
        }
        let listed = Freelist::decode(&bytes).map_err(|detail| self.pager.corrupt(id, detail))?;
        for &page in &listed {
            if page >= self.high_water || self.is_reached(page) {
                return Err(self
                    .pager
                    .corrupt(id, format!("it lists page {page}, which is in use")));
            }
        }
        Ok((Stretch { start: id, pages }, listed))
    }

    fn unused(&self) -> Vec<Stretch> {
        let mut unused: Vec<Stretch> = Vec::new();
        let mut id = 0;
        while id < self.high_water {
            if id % 64 == 0 && self.reached[(id / 64) as usize] == u64::MAX {
                id += 64;
                continue;
            }
            if !self.is_reached(id) {
                match unused.last_mut() {
                    Some(last) if last.start + last.pages == id => last.pages += 1,
                    _ => unused.push(Stretch {
                        start: id,
                        pages: 1,
                    }),
                }
            }
            id += 1;
        }
        unused
    }
}
