//! Reads a database file without any of the engine's code, and takes nothing on trust: whatever a sound file may not
//! have is a failed assertion. It is stricter than the engine's own check where bbolt relies on more: the key of a
//! child in a branch is exactly the child's first key, branches have two children, pages no overflow page too many.

use std::collections::BTreeMap;

use super::forge::{Entry, Tree, fnv};

/// What a byte of the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    /// Of a page that is not in use.
    Free,
    /// Behind the last entry of a page.
    Rest,
    MetaHeader,
    /// The record of the newest commit.
    Meta,
    /// The record of the commit before.
    OtherMeta,
    PageNumber,
    PageFlags,
    Count,
    Overflow,
    EntryFlags,
    Position,
    KeySize,
    ValueSize,
    /// The sizes of key and value of the last entry of a page, which no position behind it confirms.
    LastSizes,
    /// The page number of a child.
    Child,
    BranchKey,
    Key,
    BucketName,
    Value,
    BucketRoot,
    Sequence,
    FreeCount,
    FreePage,
}

/// A database as found.
#[derive(Debug)]
pub(super) struct Dump {
    pub(super) root: Tree,
    pub(super) page_size: usize,
    pub(super) txid: u64,
    /// Pages in use and free ones.
    pub(super) pages: u64,
    /// Pages that nothing refers to.
    pub(super) free: Vec<u64>,
    /// The pages listed as free, if such a list is stored.
    pub(super) listed: Option<Vec<u64>>,
    /// What each byte is.
    pub(super) parts: Vec<Part>,
}

struct Reader<'a> {
    bytes: &'a [u8],
    page_size: usize,
    high_water: u64,
    reached: BTreeMap<u64, &'static str>,
    parts: Vec<Part>,
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let mut number = [0; 8];
    number[..len].copy_from_slice(&bytes[at..at + len]);
    u64::from_le_bytes(number)
}

/// Reads a file.
pub(super) fn dump(bytes: &[u8]) -> Dump {
    let metas: Vec<usize> = (10..17)
        .map(|shift| 1 << shift)
        .find_map(|page_size| {
            let sound = |at: usize| {
                bytes.len() >= at + 80
                    && number(bytes, at + 16, 4) == 0xED0C_DAED
                    && number(bytes, at + 24, 4) == page_size as u64
                    && number(bytes, at + 72, 8) == fnv(&bytes[at + 16..at + 72])
            };
            let found: Vec<usize> = [0, page_size].into_iter().filter(|at| sound(*at)).collect();
            (!found.is_empty()).then_some(found)
        })
        .expect("a meta page");
    let at = *metas
        .iter()
        .max_by_key(|at| number(bytes, **at + 64, 8))
        .expect("one");
    let page_size = number(bytes, at + 24, 4) as usize;
    let high_water = number(bytes, at + 56, 8);
    assert!(bytes.len() as u64 >= high_water * page_size as u64);
    let mut reader = Reader {
        bytes,
        page_size,
        high_water,
        reached: BTreeMap::from([(0, "meta"), (1, "meta")]),
        parts: vec![Part::Free; bytes.len()],
    };
    for page in 0..2 {
        let start = page * page_size;
        reader.note(start, page_size, Part::Rest);
        reader.note(start, 16, Part::MetaHeader);
        let part = if start == at {
            Part::Meta
        } else {
            Part::OtherMeta
        };
        reader.note(start + 16, 64, part);
    }
    let mut root = reader.tree(number(bytes, at + 32, 8));
    root.sequence = number(bytes, at + 40, 8);
    let freelist = number(bytes, at + 48, 8);
    let listed = (freelist != u64::MAX).then(|| reader.freelist(freelist));
    let free: Vec<u64> = (2..high_water)
        .filter(|id| !reader.reached.contains_key(id))
        .collect();
    if let Some(listed) = &listed {
        assert_eq!(*listed, free, "listed pages and free ones");
    }
    Dump {
        root,
        page_size,
        txid: number(bytes, at + 64, 8),
        pages: high_water,
        free,
        listed,
        parts: reader.parts,
    }
}

impl<'a> Reader<'a> {
    fn note(&mut self, start: usize, len: usize, part: Part) {
        self.parts[start..start + len].fill(part);
    }

    /// The offset of a page and its bytes, marked as reached.
    fn page(&mut self, id: u64, what: &'static str) -> (usize, &'a [u8]) {
        assert!(
            (2..self.high_water).contains(&id),
            "{what} {id} is outside of the file"
        );
        let at = id as usize * self.page_size;
        assert_eq!(number(self.bytes, at, 8), id, "{what} {id}");
        let pages = 1 + number(self.bytes, at + 12, 4);
        for id in id..id + pages {
            assert!(id < self.high_water, "{what} {id} is cut off");
            let before = self.reached.insert(id, what);
            assert_eq!(before, None, "{what} {id} is reached twice");
        }
        let len = pages as usize * self.page_size;
        self.note(at, len, Part::Rest);
        self.header(at);
        (at, &self.bytes[at..at + len])
    }

    fn header(&mut self, at: usize) {
        self.note(at, 8, Part::PageNumber);
        self.note(at + 8, 2, Part::PageFlags);
        self.note(at + 10, 2, Part::Count);
        self.note(at + 12, 4, Part::Overflow);
    }

    fn freelist(&mut self, id: u64) -> Vec<u64> {
        let (at, page) = self.page(id, "free list");
        assert_eq!(number(page, 8, 2), 0x10);
        let (first, count) = match number(page, 10, 2) {
            0xFFFF => (24, number(page, 16, 8) as usize),
            count => (16, count as usize),
        };
        self.note(at + 16, first - 16, Part::FreeCount);
        self.note(at + first, 8 * count, Part::FreePage);
        (0..count).map(|n| number(page, first + 8 * n, 8)).collect()
    }

    /// The tree below a root page.
    fn tree(&mut self, root: u64) -> Tree {
        let mut tree = Tree::default();
        let mut depths = Vec::new();
        self.node(root, None, 0, &mut depths, &mut tree);
        depths.dedup();
        assert_eq!(
            depths.len(),
            1,
            "leaves of tree {root} at depths {depths:?}"
        );
        tree
    }

    fn node(
        &mut self,
        id: u64,
        first_key: Option<&[u8]>,
        depth: usize,
        depths: &mut Vec<usize>,
        tree: &mut Tree,
    ) {
        let (at, page) = self.page(id, "page");
        let count = number(page, 10, 2) as usize;
        match number(page, 8, 2) {
            0x02 => {
                let used = self.leaf(at, page, first_key, tree);
                self.fits(id, page, used);
                assert!(count > 0 || depth == 0, "page {id} is empty");
                depths.push(depth);
            }
            0x01 => {
                assert!(count > 1, "branch {id} has {count} children");
                let mut end = 16 + 16 * count;
                let mut children = Vec::new();
                for n in 0..count {
                    let element = 16 + 16 * n;
                    assert_eq!(element + number(page, element, 4) as usize, end);
                    let size = number(page, element + 4, 4) as usize;
                    children.push((&page[end..end + size], number(page, element + 8, 8)));
                    self.note(at + element, 4, Part::Position);
                    let size_part = if n + 1 == count {
                        Part::LastSizes
                    } else {
                        Part::KeySize
                    };
                    self.note(at + element + 4, 4, size_part);
                    self.note(at + element + 8, 8, Part::Child);
                    self.note(at + end, size, Part::BranchKey);
                    end += size;
                }
                self.fits(id, page, end);
                if let Some(first) = first_key {
                    assert_eq!(first, children[0].0, "first key of page {id}");
                }
                assert!(children.is_sorted_by(|a, b| a.0 < b.0), "keys of page {id}");
                for (n, (key, child)) in children.iter().enumerate() {
                    self.node(*child, Some(key), depth + 1, depths, tree);
                    let last = tree.entries.last_key_value().expect("not empty").0;
                    if let Some((next, _)) = children.get(n + 1) {
                        assert!(&last[..] < *next, "page {child} has keys of the next one");
                    }
                }
            }
            flags => panic!("page {id} has flags {flags}"),
        }
    }

    fn fits(&self, id: u64, page: &[u8], used: usize) {
        assert_eq!(
            used.div_ceil(self.page_size) * self.page_size,
            page.len(),
            "page {id} uses {used} bytes"
        );
    }

    /// Reads a leaf into a tree; returns how many bytes it uses.
    fn leaf(
        &mut self,
        at: usize,
        page: &'a [u8],
        first_key: Option<&[u8]>,
        tree: &mut Tree,
    ) -> usize {
        let count = number(page, 10, 2) as usize;
        let mut end = 16 + 16 * count;
        for n in 0..count {
            let element = 16 + 16 * n;
            let flags = number(page, element, 4);
            assert_eq!(element + number(page, element + 4, 4) as usize, end);
            let key_size = number(page, element + 8, 4) as usize;
            let value_size = number(page, element + 12, 4) as usize;
            self.note(at + element, 4, Part::EntryFlags);
            self.note(at + element + 4, 4, Part::Position);
            self.note(at + element + 8, 4, Part::KeySize);
            self.note(at + element + 12, 4, Part::ValueSize);
            if n + 1 == count {
                self.note(at + element + 8, 8, Part::LastSizes);
            }
            let key = &page[end..end + key_size];
            if let (0, Some(first)) = (n, first_key) {
                assert_eq!(first, key, "first key");
            }
            let start = end + key_size;
            let value = &page[start..start + value_size];
            let name = if flags == 1 {
                Part::BucketName
            } else {
                Part::Key
            };
            self.note(at + end, key_size, name);
            self.note(at + start, value_size, Part::Value);
            let entry = match flags {
                0 => Entry::Value(value.to_vec()),
                1 => Entry::Bucket(self.bucket(at + start, value)),
                flags => panic!("an entry has flags {flags}"),
            };
            let before = tree.entries.last_key_value();
            assert!(before.is_none_or(|(before, _)| &before[..] < key), "order");
            tree.entries.insert(key.to_vec(), entry);
            end = start + value_size;
        }
        end
    }

    fn bucket(&mut self, at: usize, value: &'a [u8]) -> Tree {
        self.note(at, 8, Part::BucketRoot);
        self.note(at + 8, 8, Part::Sequence);
        let mut tree = match number(value, 0, 8) {
            0 => {
                let page = &value[16..];
                self.header(at + 16);
                assert_eq!(number(page, 0, 8), 0);
                assert_eq!(number(page, 8, 2), 2);
                let mut tree = Tree::default();
                let used = self.leaf(at + 16, page, None, &mut tree);
                assert_eq!(used, page.len(), "an inline bucket is as long as its page");
                tree
            }
            root => {
                assert_eq!(value.len(), 16, "a bucket's header");
                self.tree(root)
            }
        };
        tree.sequence = number(value, 8, 8);
        tree
    }
}
