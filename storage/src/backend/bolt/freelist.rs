//! Which pages can be written: free ones, and those that only readers of earlier commits still need.
//!
//! On disk the free list is an array of page numbers (disk-format 5.3). etcd on Linux does not store it, and neither do
//! we unless asked: it is what the walk at open does not reach.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::page::{FREELIST, HEADER, Header, PageId, u64_at};

/// A stretch of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stretch {
    pub(super) start: PageId,
    pub(super) pages: u64,
}

/// Pages that a commit let go, still visible to readers of commits from `allocated` to before `freed`.
#[derive(Debug, Clone, Copy)]
struct Pending {
    stretch: Stretch,
    allocated: u64,
    freed: u64,
}

/// Free and pending pages.
#[derive(Debug, Default)]
pub(super) struct Freelist {
    /// Start to length; stretches neither touch nor overlap.
    free: BTreeMap<PageId, u64>,
    /// The same as (length, start).
    by_length: BTreeSet<(u64, PageId)>,
    free_pages: u64,
    pending: Vec<Pending>,
    pending_pages: u64,
    /// The commit that wrote a page, by its first number. Pages that are not here are older than every reader.
    allocated: HashMap<PageId, u64>,
}

impl Freelist {
    /// Number of pages that can be written now.
    #[cfg(test)]
    pub(super) fn free_pages(&self) -> u64 {
        self.free_pages
    }

    /// Number of pages that are in no tree of the newest commit, free ones included.
    pub(super) fn unused_pages(&self) -> u64 {
        self.free_pages + self.pending_pages
    }

    /// Adds pages that nobody uses.
    pub(super) fn add(&mut self, stretch: Stretch) {
        let Stretch {
            mut start,
            mut pages,
        } = stretch;
        self.free_pages += pages;
        if let Some((&before, &length)) = self.free.range(..start).next_back()
            && before + length == start
        {
            self.remove(before, length);
            start = before;
            pages += length;
        }
        if let Some(&length) = self.free.get(&(start + pages)) {
            self.remove(start + pages, length);
            pages += length;
        }
        self.insert(start, pages);
    }

    fn insert(&mut self, start: PageId, pages: u64) {
        self.free.insert(start, pages);
        self.by_length.insert((pages, start));
    }

    fn remove(&mut self, start: PageId, pages: u64) {
        self.free.remove(&start);
        self.by_length.remove(&(pages, start));
    }

    /// Takes `pages` in a row for commit `txid`, low ones first so that the end of the file falls free.
    pub(super) fn take(&mut self, pages: u64, txid: u64) -> Option<PageId> {
        let (start, length) = match self.free.first_key_value() {
            Some((&start, &length)) if length >= pages => (start, length),
            _ => {
                let (length, start) = *self.by_length.range((pages, 0)..).next()?;
                (start, length)
            }
        };
        self.remove(start, length);
        if length > pages {
            self.insert(start + pages, length - pages);
        }
        self.free_pages -= pages;
        self.note(start, txid);
        Some(start)
    }

    /// Remembers that commit `txid` writes page `start`, when it was not taken from here.
    pub(super) fn note(&mut self, start: PageId, txid: u64) {
        self.allocated.insert(start, txid);
    }

    /// Lets pages go that commit `txid` replaces.
    pub(super) fn free(&mut self, stretch: Stretch, txid: u64) {
        self.pending_pages += stretch.pages;
        self.pending.push(Pending {
            stretch,
            allocated: self.allocated.remove(&stretch.start).unwrap_or(0),
            freed: txid,
        });
    }

    /// Frees what no reader can see. `readers` are the commits that somebody still reads besides the newest one,
    /// ascending.
    pub(super) fn release(&mut self, readers: &[u64]) {
        let seen = |p: &Pending| {
            let first = readers.partition_point(|reader| *reader < p.allocated);
            readers.get(first).is_some_and(|reader| *reader < p.freed)
        };
        let (kept, released): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(seen);
        self.pending = kept;
        for Pending { stretch, .. } in released {
            self.pending_pages -= stretch.pages;
            self.add(stretch);
        }
        if readers.is_empty() {
            // Who reads from now on sees all that is written so far.
            self.allocated.clear();
        }
    }

    /// Gives the free pages at the end back: returns the page after the last one that is not free.
    pub(super) fn trim(&mut self, high_water: PageId) -> PageId {
        match self.free.last_key_value() {
            Some((&start, &length)) if start + length == high_water => {
                self.remove(start, length);
                self.free_pages -= length;
                start
            }
            _ => high_water,
        }
    }

    /// All unused stretches, in order, pending ones included.
    pub(super) fn unused(&self) -> Vec<Stretch> {
        let mut all: Vec<Stretch> = self.pending.iter().map(|p| p.stretch).collect();
        all.extend(
            self.free
                .iter()
                .map(|(&start, &pages)| Stretch { start, pages }),
        );
        all.sort_unstable();
        all
    }

    /// Bytes of the stored form of `pages` page numbers.
    pub(super) fn stored_len(pages: u64) -> u64 {
        let long = if pages < 0xFFFF { 0 } else { 8 };
        HEADER as u64 + long + 8 * pages
    }

    /// The stored form as page `id` with `overflow` further ones, filled up to `len`.
    pub(super) fn encode(unused: &[Stretch], id: PageId, overflow: u32, len: usize) -> Vec<u8> {
        let count: u64 = unused.iter().map(|s| s.pages).sum();
        let mut bytes = Vec::with_capacity(len);
        bytes.resize(HEADER, 0);
        Header {
            id,
            flags: FREELIST,
            count: u16::try_from(count).unwrap_or(0xFFFF),
            overflow,
        }
        .write(&mut bytes);
        if count >= 0xFFFF {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        for page in unused.iter().flat_map(|s| s.start..s.start + s.pages) {
            bytes.extend_from_slice(&page.to_le_bytes());
        }
        bytes.resize(len, 0);
        bytes
    }

    /// Reads the stored form, all pages of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn decode(bytes: &[u8]) -> Result<Vec<PageId>, String> {
        let header = Header::read(bytes);
        if header.flags != FREELIST {
            return Err(format!(
                "its flags {:#x} are not those of a free list",
                header.flags
            ));
        }
        let room = (bytes.len() - HEADER) as u64 / 8;
        let (first, count) = match header.count {
            0xFFFF if room == 0 => return Err("its length is missing".into()),
            0xFFFF => (1, u64_at(bytes, HEADER)),
            count => (0, u64::from(count)),
        };
        if count > room - first {
            return Err(format!(
                "it has no room for the {count} pages it is said to list"
            ));
        }
        let at = |n: u64| u64_at(bytes, HEADER + 8 * (first + n) as usize);
        Ok((0..count).map(at).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn stretch(start: PageId, pages: u64) -> Stretch {
        Stretch { start, pages }
    }

    #[test]
    fn neighbours_are_joined_and_low_pages_go_first() {
        let mut list = Freelist::default();
        for start in [10, 4, 6, 5, 20] {
            list.add(stretch(start, 1));
        }
        assert_eq!(
            list.unused(),
            [stretch(4, 3), stretch(10, 1), stretch(20, 1)]
        );
        assert_eq!(list.take(2, 9), Some(4));
        assert_eq!(list.take(2, 9), None);
        assert_eq!(list.take(1, 9), Some(6));
        assert_eq!(list.trim(21), 20);
        assert_eq!(list.trim(20), 20);
        assert_eq!((list.free_pages(), list.unused_pages()), (1, 1));
    }

    #[test]
    fn a_reader_holds_back_only_what_it_can_see() {
        let mut list = Freelist::default();
        // Page 2 is old, page 3 written by commit 6.
        list.note(3, 6);
        list.free(stretch(2, 1), 7);
        list.free(stretch(3, 1), 8);
        list.release(&[5]);
        assert_eq!(list.unused(), [stretch(2, 1), stretch(3, 1)]);
        assert_eq!(list.free_pages(), 1, "nobody reads commit 6 or 7");
        assert_eq!(list.take(1, 9), Some(3));
        list.release(&[7]);
        assert_eq!(list.take(1, 9), Some(2));
    }

    #[test]
    fn the_stored_form_is_read_back() {
        for pages in [0, 1, 509, 510, 0xFFFE, 0xFFFF, 0x1_0001] {
            let unused = [stretch(9, pages)];
            let unused = if pages == 0 { &[][..] } else { &unused[..] };
            let len = (Freelist::stored_len(pages) as usize).next_multiple_of(4096);
            let bytes = Freelist::encode(unused, 5, (len / 4096 - 1) as u32, len);
            assert_eq!(bytes.len(), len);
            assert_eq!(
                Freelist::decode(&bytes).unwrap(),
                (9..9 + pages).collect::<Vec<_>>()
            );
        }
        let mut bytes = Freelist::encode(&[stretch(9, 2)], 5, 0, 4096);
        bytes[10] = 0xfe;
        bytes[11] = 0x01;
        Freelist::decode(&bytes).unwrap();
        bytes[11] = 0x02;
        Freelist::decode(&bytes).unwrap_err();
        bytes[10..12].copy_from_slice(&[0xff; 2]);
        Freelist::decode(&bytes[..16]).unwrap_err();
        bytes[8] = 2;
        Freelist::decode(&bytes).unwrap_err();
    }

    /// Every page is used once at most, whatever is taken and freed and read.
    #[test]
    fn pages_are_never_given_out_twice() {
        let mut rng = Random::new(Random::seed("pages_are_never_given_out_twice"));
        let mut list = Freelist::default();
        list.add(stretch(2, 60));
        let mut used: Vec<(Stretch, u64)> = Vec::new();
        // What each reader sees, by its commit.
        let mut readers: BTreeMap<u64, Vec<Stretch>> = BTreeMap::new();
        for txid in 1..3000 {
            let live: Vec<u64> = readers.keys().copied().collect();
            list.release(&live);
            for _ in 0..rng.below(3) {
                let pages = u64::from(rng.below(3)) + 1;
                if let Some(start) = list.take(pages, txid) {
                    let new = stretch(start, pages);
                    let clash = |s: &Stretch| s.start < start + pages && start < s.start + s.pages;
                    assert!(!used.iter().any(|(s, _)| clash(s)), "{new:?} is in use");
                    for (reader, seen) in &readers {
                        assert!(!seen.iter().any(clash), "{new:?} is seen by {reader}");
                    }
                    used.push((new, txid));
                }
            }
            for _ in 0..rng.below(3) {
                if !used.is_empty() {
                    let at = rng.below(used.len() as u32) as usize;
                    // A page that this same commit wrote is never let go by it.
                    if used[at].1 != txid {
                        list.free(used.swap_remove(at).0, txid);
                    }
                }
            }
            if rng.below(4) == 0 {
                readers.insert(txid, used.iter().map(|(s, _)| *s).collect());
            }
            if rng.below(4) == 0 && !readers.is_empty() {
                let at = rng.below(readers.len() as u32) as usize;
                let reader = *readers.keys().nth(at).unwrap();
                readers.remove(&reader);
            }
        }
        list.release(&[]);
        let kept: u64 = used.iter().map(|(s, _)| s.pages).sum();
        assert_eq!(list.free_pages() + kept, 60);
    }
}
