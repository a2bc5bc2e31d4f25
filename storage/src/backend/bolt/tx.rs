//! A write transaction: a whole batch is merged into the trees from the leaves up, and each touched page is written once.
//!
//! Nothing that the last commit can reach is overwritten. Changed pages go to free places; the new meta page, written
//! when all of them are on the disk, makes them the database.

use bytes::Bytes;

use super::freelist::{Freelist, Stretch};
use super::meta::Meta;
use super::page::{BUCKET, Child, Entry, HEADER, Item, Kind, Page, PageId, build};
use super::pager::Pager;
use super::tree::{Head, MAX_DEPTH, Root};
use crate::backend::Error;

/// A leaf may have this many pages so that large values share them: eight of 4 KiB take nine pages instead of sixteen.
const MAX_SHARED_PAGES: usize = 16;

/// A new value of a key, or `None` to remove it.
pub(super) struct Change<'a> {
    pub(super) key: &'a Bytes,
    pub(super) value: Option<(u32, Bytes)>,
}

/// The content of a node that is not in the file yet.
pub(super) enum Node {
    Leaf(Vec<Item>),
    Branch(Vec<Child>),
    /// A branch with one child, which is not written either: it has one child too few itself. See [`super::lone`].
    Lone(Box<Node>),
}

/// A child of a branch that is being rewritten.
pub(super) enum Slot {
    Kept(Child),
    /// One that this transaction has written.
    Written(Child),
    Open(Node),
}

/// How entries are dealt out to pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// All pages full but the last. For the end of a tree, where keys are appended, and for packing.
    Full,
    /// All pages alike, where keys can come in between.
    Even,
}

/// Pages written and let go since a base commit.
pub(super) struct Tx<'a> {
    pub(super) pager: &'a Pager,
    freelist: &'a mut Freelist,
    /// End of the pages of the commit that is read.
    base_high_water: PageId,
    pub(super) txid: u64,
    high_water: PageId,
    pub(super) writes: Vec<(PageId, Vec<u8>)>,
    /// Change of the bytes used in tree pages.
    pub(super) used: i64,
}

/// What a transaction wants to have written.
pub(super) struct Writes {
    /// By page, ascending.
    pub(super) pages: Vec<(PageId, Vec<u8>)>,
    /// The end of the file's pages afterwards.
    pub(super) high_water: PageId,
    pub(super) freelist: Option<Stretch>,
}

impl<'a> Tx<'a> {
    pub(super) fn new(pager: &'a Pager, base: &Meta, freelist: &'a mut Freelist) -> Tx<'a> {
        Tx {
            pager,
            freelist,
            base_high_water: base.high_water,
            txid: base.txid + 1,
            high_water: base.high_water,
            writes: Vec::new(),
            used: 0,
        }
    }

    pub(super) fn read(&self, id: PageId) -> Result<Page, Error> {
        self.pager.read(id, self.base_high_water)
    }

    /// Lets a page of the base commit go.
    pub(super) fn free(&mut self, id: PageId, page: &Page) {
        let pages = self.pager.pages(page.len_in_file()) as u64;
        self.used -= page.used() as i64;
        self.freelist.free(Stretch { start: id, pages }, self.txid);
    }

    /// Lets the stored free list go.
    pub(super) fn free_stretch(&mut self, stretch: Stretch) {
        self.freelist.free(stretch, self.txid);
    }

    fn allocate(&mut self, pages: usize) -> PageId {
        let pages = pages as u64;
        self.freelist.take(pages, self.txid).unwrap_or_else(|| {
            let start = self.high_water;
            self.high_water += pages;
            self.freelist.note(start, self.txid);
            start
        })
    }

    /// Merges changes, ascending by key, into a tree. The new tree is written but for its header.
    pub(super) fn update(&mut self, head: &Head, changes: &[Change<'_>]) -> Result<Head, Error> {
        let node = match &head.root {
            Root::Inline(page) => Node::Leaf(self.merge(0, page, changes)?),
            Root::Page(id) => {
                let page = self.read(*id)?;
                self.rewrite(*id, &page, changes, true, 0)?
            }
        };
        Ok(Head {
            root: self.plant(node)?,
            sequence: head.sequence,
        })
    }

    /// Writes the top of a tree.
    pub(super) fn plant(&mut self, mut node: Node) -> Result<Root, Error> {
        loop {
            let children = match node {
                Node::Leaf(items) if self.fits_inline(&items) => {
                    return Ok(Root::Inline(inline(&items)));
                }
                Node::Leaf(items) => self.pack(&items, Fill::Full),
                Node::Branch(children) if children.is_empty() => {
                    return Ok(Root::Inline(Page::empty()));
                }
                Node::Branch(children) if children.len() == 1 => {
                    return Ok(Root::Page(children[0].id));
                }
                Node::Branch(children) => self.pack(&children, Fill::Full),
                Node::Lone(below) => {
                    node = *below;
                    continue;
                }
            };
            node = Node::Branch(children);
        }
    }

    /// As [`Tx::plant`] for the tree of buckets, which is never inline.
    pub(super) fn plant_buckets(&mut self, node: Node) -> Result<PageId, Error> {
        let mut node = match node {
            Node::Leaf(items) => Node::Branch(self.pack(&items, Fill::Even)),
            branch => branch,
        };
        loop {
            node = match node {
                Node::Branch(children) if children.len() == 1 => return Ok(children[0].id),
                Node::Branch(children) => Node::Branch(self.pack(&children, Fill::Even)),
                Node::Lone(below) => *below,
                Node::Leaf(_) => {
                    return Err(self.pager.corrupt(0, "the tree of buckets has no pages"));
                }
            };
        }
    }

    /// bbolt's rule: one leaf, no buckets in it, at most a quarter of a page.
    fn fits_inline(&self, items: &[Item]) -> bool {
        let size = HEADER + items.iter().map(Entry::size).sum::<usize>();
        size <= self.pager.page_size() / 4 && items.iter().all(|item| item.flags & BUCKET == 0)
    }

    /// Page `id` with changes merged in. `edge`: it has the end of the tree.
    pub(super) fn rewrite(
        &mut self,
        id: PageId,
        page: &Page,
        changes: &[Change<'_>],
        edge: bool,
        depth: usize,
    ) -> Result<Node, Error> {
        if depth > MAX_DEPTH {
            return Err(self
                .pager
                .corrupt(id, format!("it is more than {MAX_DEPTH} levels deep")));
        }
        self.free(id, page);
        if page.kind() == Kind::Leaf {
            return Ok(Node::Leaf(self.merge(id, page, changes)?));
        }
        let mut slots = Vec::with_capacity(page.len() + 8);
        let mut rest = changes;
        for n in 0..page.len() {
            let last = n + 1 == page.len();
            let mine = if last {
                rest.len()
            } else {
                let next = page.key(n + 1);
                // Mostly none: look at the first before searching.
                match rest.first() {
                    Some(change) if &change.key[..] < next => {
                        rest.partition_point(|change| &change.key[..] < next)
                    }
                    _ => 0,
                }
            };
            let (mine, behind) = rest.split_at(mine);
            rest = behind;
            slots.push(if mine.is_empty() {
                Slot::Kept(Child::of(page, n))
            } else {
                let child = page.child(n);
                let below = self.read(child)?;
                Slot::Open(self.rewrite(child, &below, mine, edge && last, depth + 1)?)
            });
        }
        self.join(slots, if edge { Fill::Full } else { Fill::Even })
    }

    /// The items of leaf `id` with changes merged in. A bucket and a key do not take each other's place.
    fn merge(&self, id: PageId, page: &Page, changes: &[Change<'_>]) -> Result<Vec<Item>, Error> {
        let mut items = Vec::with_capacity(page.len() + changes.len());
        let mut n = 0;
        for change in changes {
            while n < page.len() && page.key(n) < &change.key[..] {
                items.push(Item::of(page, n));
                n += 1;
            }
            if n < page.len() && page.key(n) == &change.key[..] {
                let flags = change.value.as_ref().map_or(0, |(flags, _)| *flags);
                if page.flags(n) != flags {
                    let key = change.key.escape_ascii();
                    return Err(self.pager.corrupt(
                        id,
                        format!("{key} is a bucket where a key is to be, or the reverse"),
                    ));
                }
                n += 1;
            }
            if let Some((flags, value)) = &change.value {
                items.push(Item {
                    flags: *flags,
                    key: change.key.clone(),
                    value: value.clone(),
                });
            }
        }
        items.extend((n..page.len()).map(|n| Item::of(page, n)));
        Ok(items)
    }

    /// Writes the open ones of a branch's children, neighbours joined, and gives the branch's new entries.
    pub(super) fn join(&mut self, slots: Vec<Slot>, fill: Fill) -> Result<Node, Error> {
        let mut slots = self.unite_lone(slots)?;
        if let [Slot::Open(Node::Lone(_))] = slots[..]
            && let Some(Slot::Open(node)) = slots.pop()
        {
            return Ok(Node::Lone(Box::new(node)));
        }
        let leaves = slots.iter().find_map(|slot| match slot {
            Slot::Open(Node::Leaf(_)) => Some(true),
            Slot::Open(_) => Some(false),
            Slot::Kept(_) | Slot::Written(_) => None,
        });
        if leaves.unwrap_or(true) {
            self.join_kind::<Item>(slots, fill)
        } else {
            self.join_kind::<Child>(slots, fill)
        }
    }

    fn join_kind<E: Joined>(&mut self, slots: Vec<Slot>, fill: Fill) -> Result<Node, Error> {
        // Children so far, and whether each is an untouched page, which a small neighbour may still be joined with.
        let mut done: Vec<(Child, bool)> = Vec::with_capacity(slots.len());
        let mut run: Vec<E> = Vec::new();
        for slot in slots {
            match slot {
                Slot::Open(node) => run.extend(E::entries(node).ok_or_else(|| {
                    self.pager
                        .corrupt(0, "leaves of a tree are at different depths")
                })?),
                Slot::Written(child) => {
                    self.close(&mut run, &mut done, Fill::Even)?;
                    done.push((child, false));
                }
                Slot::Kept(child) => {
                    if (self.is_small(&run) || is_lone(&run))
                        && let Some(more) = self.absorb::<E>(&run, &child)?
                    {
                        run.extend(more);
                        continue;
                    }
                    self.close(&mut run, &mut done, Fill::Even)?;
                    done.push((child, true));
                }
            }
        }
        if done.is_empty() && is_lone(&run) {
            return Ok(Node::Lone(Box::new(E::node(run))));
        }
        self.close(&mut run, &mut done, fill)?;
        Ok(Node::Branch(
            done.into_iter().map(|(child, _)| child).collect(),
        ))
    }

    /// Something, but less than half a page: worth joining with a neighbour.
    fn is_small<E: Entry>(&self, run: &[E]) -> bool {
        let half = self.pager.capacity() / 2;
        let mut size = 0;
        let small = run.iter().all(|entry| {
            size += entry.size();
            size < half
        });
        small && !run.is_empty()
    }

    /// The entries of an untouched page, which is let go, if they fit into one page with a small run, or the run
    /// cannot be a page by itself.
    fn absorb<E: Joined>(&mut self, run: &[E], child: &Child) -> Result<Option<Vec<E>>, Error> {
        let page = self.read(child.id)?;
        let size: usize = run.iter().map(Entry::size).sum();
        if page.kind() != E::KIND {
            return Err(self
                .pager
                .corrupt(child.id, "leaves of its tree are at different depths"));
        }
        if size + page.used() > self.pager.page_size() && !is_lone(run) {
            return Ok(None);
        }
        self.free(child.id, &page);
        Ok(Some(E::all(&page)))
    }

    /// Writes a run behind what is done.
    fn close<E: Joined>(
        &mut self,
        run: &mut Vec<E>,
        done: &mut Vec<(Child, bool)>,
        fill: Fill,
    ) -> Result<(), Error> {
        if (self.is_small(run) || is_lone(run))
            && let Some((child, true)) = done.last()
            && let Some(mut before) = self.absorb::<E>(run, &child.clone())?
        {
            done.pop();
            before.append(run);
            *run = before;
        }
        done.extend(self.pack(run, fill).into_iter().map(|child| (child, false)));
        run.clear();
        Ok(())
    }

    /// Writes entries to new pages.
    fn pack<E: Entry>(&mut self, entries: &[E], fill: Fill) -> Vec<Child> {
        let mut children = Vec::new();
        let mut rest = entries;
        let mut target = usize::MAX;
        let total: usize = entries.iter().map(Entry::size).sum();
        if fill == Fill::Even && total > self.pager.capacity() {
            // Less than the capacity, so that what does not come out even needs no page of its own.
            let average = total / entries.len();
            let fitting = self.pager.capacity() - average.min(self.pager.capacity() / 2);
            target = total.div_ceil(total.div_ceil(fitting));
        }
        while !rest.is_empty() {
            let (mine, behind) = rest.split_at(self.first_page_of(rest, target));
            rest = behind;
            children.push(self.write(mine));
        }
        children
    }

    /// How many of the entries go into the next page.
    fn first_page_of<E: Entry>(&self, entries: &[E], target: usize) -> usize {
        let page_size = self.pager.page_size();
        let least = least_of::<E>();
        let mut size = HEADER;
        for (n, entry) in entries.iter().enumerate() {
            if n >= least {
                let full = size + entry.size() > self.pager.pages(size) * page_size;
                let wasted = self.pager.pages(size) * page_size - size;
                let wasteful = E::KIND == Kind::Leaf
                    && wasted * 8 > self.pager.pages(size) * page_size
                    && self.pager.pages(size + entry.size()) <= MAX_SHARED_PAGES;
                if (full && !wasteful) || size - HEADER >= target || n == usize::from(u16::MAX) - 1
                {
                    // Nor may the next one have too few.
                    return match entries.len() - n {
                        left if left >= least => n,
                        _ if n > least => n - 1,
                        _ => entries.len(),
                    };
                }
            }
            size += entry.size();
        }
        entries.len()
    }

    fn write<E: Entry>(&mut self, entries: &[E]) -> Child {
        let size = HEADER + entries.iter().map(Entry::size).sum::<usize>();
        let pages = self.pager.pages(size);
        let id = self.allocate(pages);
        self.used += size as i64;
        let len = pages * self.pager.page_size();
        self.writes
            .push((id, build(entries, id, pages as u32 - 1, len)));
        Child {
            key: entries[0].key().clone(),
            id,
        }
    }

    /// What is to be written, with the free list among it or not.
    pub(super) fn finish(mut self, store_freelist: bool) -> Writes {
        self.high_water = self.freelist.trim(self.high_water);
        let freelist = store_freelist.then(|| self.write_freelist());
        self.writes.sort_unstable_by_key(|(id, _)| *id);
        Writes {
            pages: self.writes,
            high_water: self.high_water,
            freelist,
        }
    }

    fn write_freelist(&mut self) -> Stretch {
        // Taking the pages makes it no longer.
        let len = Freelist::stored_len(self.freelist.unused_pages()) as usize;
        let pages = self.pager.pages(len);
        let start = self.allocate(pages);
        let len = pages * self.pager.page_size();
        let bytes = Freelist::encode(&self.freelist.unused(), start, pages as u32 - 1, len);
        self.writes.push((start, bytes));
        Stretch {
            start,
            pages: pages as u64,
        }
    }
}

/// bbolt relies on it that a branch has two children: it panics where it wants to join the only one with a neighbour.
fn least_of<E: Entry>() -> usize {
    if E::KIND == Kind::Branch { 2 } else { 1 }
}

/// Something, but too little to be a page.
fn is_lone<E: Entry>(run: &[E]) -> bool {
    !run.is_empty() && run.len() < least_of::<E>()
}

/// An entry together with the node that holds such entries.
trait Joined: Entry {
    fn entries(node: Node) -> Option<Vec<Self>>;

    fn node(entries: Vec<Self>) -> Node;

    fn all(page: &Page) -> Vec<Self>;
}

impl Joined for Item {
    fn entries(node: Node) -> Option<Vec<Self>> {
        match node {
            Node::Leaf(items) => Some(items),
            Node::Branch(_) | Node::Lone(_) => None,
        }
    }

    fn node(items: Vec<Self>) -> Node {
        Node::Leaf(items)
    }

    fn all(page: &Page) -> Vec<Self> {
        (0..page.len()).map(|n| Item::of(page, n)).collect()
    }
}

impl Joined for Child {
    fn entries(node: Node) -> Option<Vec<Self>> {
        match node {
            Node::Branch(children) => Some(children),
            Node::Leaf(_) | Node::Lone(_) => None,
        }
    }

    fn node(children: Vec<Self>) -> Node {
        Node::Branch(children)
    }

    fn all(page: &Page) -> Vec<Self> {
        (0..page.len()).map(|n| Child::of(page, n)).collect()
    }
}

/// All entries of a page.
pub(super) fn open(page: &Page) -> Node {
    match page.kind() {
        Kind::Leaf => Node::Leaf(Joined::all(page)),
        Kind::Branch => Node::Branch(Joined::all(page)),
    }
}

/// The page of an inline bucket.
fn inline(items: &[Item]) -> Page {
    let size = HEADER + items.iter().map(Entry::size).sum::<usize>();
    let bytes = build(items, 0, 0, size);
    Page::parse(bytes.into(), 0).unwrap_or_else(|_| Page::empty())
}
