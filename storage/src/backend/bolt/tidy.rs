//! Giving space back, a bounded step at a time: a sweep through a tree in key order packs leaves that have become empty
//! in part, and moves pages from the end of the file to free places nearer to its beginning. A step is an
//! ordinary commit, so it can be cut off anywhere; what it frees at the end of the file is cut away.

use bytes::Bytes;

use super::page::{Child, Kind, Page, PageId};
use super::tree::{Head, MAX_DEPTH, Root};
use super::tx::{Fill, Slot, Tx, open};
use crate::backend::Error;

/// Bounds on one step, in pages: those looked at, and those written anew.
const READ: usize = 1024;
const WRITTEN: usize = 256;

/// Leaves are packed if that saves one page in so many.
const WORTHWHILE: usize = 8;

/// One step of a sweep through one tree.
pub(super) struct Step {
    /// Pages from here on are to move down.
    target: PageId,
    /// Where to go on: the next step begins with this key; `None` once the tree is done.
    pub(super) next: Option<Bytes>,
    read: usize,
    written: usize,
}

impl Step {
    /// A step that goes on at `from`.
    pub(super) fn new(target: PageId) -> Step {
        Step {
            target,
            next: None,
            read: READ,
            written: WRITTEN,
        }
    }

    /// Whether there is room for more.
    pub(super) fn has_budget(&self) -> bool {
        self.read > 0 && self.written > 0
    }

    fn takes(&mut self, page: &Page, tx: &Tx<'_>) {
        let pages = tx.pager.pages(page.len_in_file());
        self.read = self.read.saturating_sub(pages);
    }

    fn writes(&mut self, page: &Page, tx: &Tx<'_>) {
        let pages = tx.pager.pages(page.len_in_file());
        self.written = self.written.saturating_sub(pages);
    }
}

impl Tx<'_> {
    /// Takes a step through a tree from key `from` on. Returns its new head if anything moved.
    pub(super) fn tidy(
        &mut self,
        head: &Head,
        from: &[u8],
        step: &mut Step,
    ) -> Result<Option<Head>, Error> {
        step.next = None;
        let Root::Page(id) = head.root else {
            return Ok(None);
        };
        let page = self.read(id)?;
        let node = if page.kind() == Kind::Leaf {
            step.takes(&page, self);
            if id < step.target {
                return Ok(None);
            }
            step.writes(&page, self);
            self.free(id, &page);
            open(&page)
        } else {
            match self.tidy_branch(id, &page, from, step, 0)? {
                Some(slots) => self.join(slots, Fill::Full)?,
                None => return Ok(None),
            }
        };
        Ok(Some(Head {
            root: self.plant(node)?,
            sequence: head.sequence,
        }))
    }

    /// The children of a branch, those open that are to be written anew; `None` if the branch itself can stay.
    fn tidy_branch(
        &mut self,
        id: PageId,
        page: &Page,
        from: &[u8],
        step: &mut Step,
        depth: usize,
    ) -> Result<Option<Vec<Slot>>, Error> {
        if depth > MAX_DEPTH {
            return Err(self.pager.corrupt(id, "its tree has too many levels"));
        }
        let first = page.child_for(from);
        let below = self.read(page.child(first))?;
        let mut changed = id >= step.target;
        let mut slots: Vec<Slot> = (0..first).map(|n| Slot::Kept(Child::of(page, n))).collect();
        if below.kind() == Kind::Leaf {
            self.tidy_leaves(page, first, step, &mut slots, &mut changed)?;
        } else {
            let mut from = from;
            let mut n = first;
            while n < page.len() && step.next.is_none() {
                if !step.has_budget() {
                    step.next = Some(page.shared_key(n));
                    break;
                }
                let child = page.child(n);
                let below = self.read(child)?;
                slots.push(
                    match self.tidy_branch(child, &below, from, step, depth + 1)? {
                        Some(slots) => {
                            changed = true;
                            Slot::Open(self.join(slots, Fill::Full)?)
                        }
                        None => Slot::Kept(Child::of(page, n)),
                    },
                );
                from = &[];
                n += 1;
            }
            slots.extend((n..page.len()).map(|n| Slot::Kept(Child::of(page, n))));
        }
        if changed {
            self.free(id, page);
        }
        Ok(changed.then_some(slots))
    }

    /// The same for a branch above leaves.
    fn tidy_leaves(
        &mut self,
        page: &Page,
        first: usize,
        step: &mut Step,
        slots: &mut Vec<Slot>,
        changed: &mut bool,
    ) -> Result<(), Error> {
        let mut leaves = Vec::new();
        let (mut pages, mut bytes) = (0, 0);
        for n in first..page.len() {
            if step.read == 0 || pages >= step.written {
                step.next = Some(page.shared_key(n));
                break;
            }
            let leaf = self.read(page.child(n))?;
            step.takes(&leaf, self);
            pages += self.pager.pages(leaf.len_in_file());
            bytes += leaf.used();
            leaves.push((n, leaf));
        }
        let packed = bytes.div_ceil(self.pager.capacity());
        let pack = pages.saturating_sub(packed) * WORTHWHILE > pages;
        let rest = first + leaves.len();
        for (n, leaf) in leaves {
            let child = Child::of(page, n);
            if pack || child.id >= step.target {
                *changed = true;
                step.writes(&leaf, self);
                self.free(child.id, &leaf);
                slots.push(Slot::Open(open(&leaf)));
            } else {
                slots.push(Slot::Kept(child));
            }
        }
        slots.extend((rest..page.len()).map(|n| Slot::Kept(Child::of(page, n))));
        Ok(())
    }
}
