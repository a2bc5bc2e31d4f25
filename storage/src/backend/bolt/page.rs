//! Branch and leaf pages: 16 bytes of header, one element of 16 bytes for each entry, then keys and values in order.
//!
//! Source: disk-format 5.1 and 5.4; bbolt `internal/common/{page,inode}.go`. The format has no checksums, so
//! everything that can be checked of a page is checked before it is used: its number, that entries lie
//! where a writer puts them, without gap or overlap, and that keys ascend. That they fill the page's pages is checked
//! where it is read, that it lies where the page above says by [`walk`](super::walk).

use bytes::Bytes;

/// Number of a page: its offset in the file, in pages.
pub(super) type PageId = u64;

/// Bytes before the elements.
pub(super) const HEADER: usize = 16;
/// Bytes of one element.
pub(super) const ELEMENT: usize = 16;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
pub(super) const META: u16 = 0x04;
pub(super) const FREELIST: u16 = 0x10;

/// Flag of a leaf entry whose value is a bucket.
pub(super) const BUCKET: u32 = 0x01;

/// The fields of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: PageId,
    pub(super) flags: u16,
    pub(super) count: u16,
    /// Pages that follow and belong to this one.
    pub(super) overflow: u32,
}

impl Header {
    /// Of the first bytes of a page; at least [`HEADER`] of them.
    pub(super) fn read(bytes: &[u8]) -> Header {
        Header {
            id: u64_at(bytes, 0),
            flags: u16::from_le_bytes([bytes[8], bytes[9]]),
            count: u16::from_le_bytes([bytes[10], bytes[11]]),
            overflow: u32_at(bytes, 12),
        }
    }

    pub(super) fn write(self, bytes: &mut [u8]) {
        bytes[..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.flags.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.overflow.to_le_bytes());
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Branch,
    Leaf,
}

/// A branch or leaf that was found sound. Clones share the bytes.
#[derive(Debug, Clone)]
pub(super) struct Page {
    bytes: Bytes,
    kind: Kind,
    count: usize,
    /// Bytes up to the end of the last entry.
    used: usize,
}

impl Page {
    /// An empty leaf that is nowhere in the file.
    pub(super) fn empty() -> Page {
        Page {
            bytes: Bytes::new(),
            kind: Kind::Leaf,
            count: 0,
            used: HEADER,
        }
    }

    /// Checks the bytes of page `id`, all its overflow pages included.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(bytes: Bytes, id: PageId) -> Result<Page, String> {
        if bytes.len() < HEADER {
            return Err(format!("it has {} bytes, less than a header", bytes.len()));
        }
        let header = Header::read(&bytes);
        if header.id != id {
            return Err(format!("it says that it is page {}", header.id));
        }
        let kind = match header.flags {
            BRANCH => Kind::Branch,
            LEAF => Kind::Leaf,
            flags => {
                return Err(format!(
                    "its flags {flags:#x} are those of neither branch nor leaf"
                ));
            }
        };
        let count = usize::from(header.count);
        if kind == Kind::Branch && count == 0 {
            return Err("it is a branch without children".into());
        }
        let mut page = Page {
            bytes,
            kind,
            count,
            used: HEADER + count * ELEMENT,
        };
        page.used = page.check_entries()?;
        Ok(page)
    }

    /// The same page in memory of its own, however much was read with it.
    pub(super) fn detached(&self) -> Page {
        Page {
            bytes: Bytes::copy_from_slice(&self.bytes),
            ..*self
        }
    }

    /// Checks that entries follow each other and their keys ascend; returns where the last one ends.
    fn check_entries(&self) -> Result<usize, String> {
        let mut end = self.used;
        if end > self.bytes.len() {
            return Err(format!("{} entries do not fit into it", self.count));
        }
        let mut last: &[u8] = &[];
        for n in 0..self.count {
            let Extent { start, key, value } = self.extent(n);
            if start != end {
                return Err(format!("entry {n} lies at {start} where {end} is expected"));
            }
            end = start + key + value;
            if end > self.bytes.len() {
                return Err(format!("entry {n} ends at {end}, outside of it"));
            }
            if self.kind == Kind::Leaf && self.flags(n) > BUCKET {
                return Err(format!("entry {n} has flags {:#x}", self.flags(n)));
            }
            let key = &self.bytes[start..start + key];
            if key <= last {
                return Err(format!("the key of entry {n} is not above the one before"));
            }
            last = key;
        }
        Ok(end)
    }

    /// Where entry `n` says it lies. Sums cannot overflow: three numbers of 32 bits.
    fn extent(&self, n: usize) -> Extent {
        let element = HEADER + n * ELEMENT;
        let at = |field: usize| u32_at(&self.bytes, element + field) as usize;
        match self.kind {
            Kind::Branch => Extent {
                start: element + at(0),
                key: at(4),
                value: 0,
            },
            Kind::Leaf => Extent {
                start: element + at(4),
                key: at(8),
                value: at(12),
            },
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Bytes that hold something.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Whether there are only zeros behind the last entry.
    pub(super) fn is_blank(&self) -> bool {
        self.bytes[self.used..].iter().all(|byte| *byte == 0)
    }

    /// Bytes it takes in the file, overflow pages and what is left over included.
    pub(super) fn len_in_file(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes that hold something, header included, as one memory with the page.
    pub(super) fn bytes(&self) -> Bytes {
        self.bytes.slice(..self.used.min(self.bytes.len()))
    }

    /// The key of entry `n`.
    pub(super) fn key(&self, n: usize) -> &[u8] {
        let extent = self.extent(n);
        &self.bytes[extent.start..extent.start + extent.key]
    }

    /// As [`Page::key`], sharing the page's memory.
    pub(super) fn shared_key(&self, n: usize) -> Bytes {
        let extent = self.extent(n);
        self.bytes.slice(extent.start..extent.start + extent.key)
    }

    /// The value of entry `n` of a leaf.
    pub(super) fn value(&self, n: usize) -> &[u8] {
        let extent = self.extent(n);
        &self.bytes[extent.start + extent.key..extent.start + extent.key + extent.value]
    }

    /// As [`Page::value`], sharing the page's memory.
    pub(super) fn shared_value(&self, n: usize) -> Bytes {
        let extent = self.extent(n);
        let start = extent.start + extent.key;
        self.bytes.slice(start..start + extent.value)
    }

    /// The flags of entry `n` of a leaf.
    pub(super) fn flags(&self, n: usize) -> u32 {
        u32_at(&self.bytes, HEADER + n * ELEMENT)
    }

    /// The page of child `n` of a branch.
    pub(super) fn child(&self, n: usize) -> PageId {
        u64_at(&self.bytes, HEADER + n * ELEMENT + 8)
    }

    /// Which child of a branch has `key`: the last one whose key is not above it, else the first.
    pub(super) fn child_for(&self, key: &[u8]) -> usize {
        match self.search(key) {
            Ok(n) => n,
            Err(n) => n.saturating_sub(1),
        }
    }

    /// The entry with `key`, or where it would be.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }
}

struct Extent {
    start: usize,
    key: usize,
    value: usize,
}

/// What a page is built from.
pub(super) trait Entry: Clone {
    /// Of the pages that hold such entries.
    const KIND: Kind;

    fn key(&self) -> &Bytes;

    fn value(&self) -> &[u8];

    /// Fills an element whose data begins `pos` bytes after the element.
    fn element(&self, pos: u32) -> [u8; ELEMENT];

    /// Bytes it takes in a page.
    fn size(&self) -> usize {
        ELEMENT + self.key().len() + self.value().len()
    }
}

/// An entry of a leaf.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) flags: u32,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
}

impl Item {
    /// Entry `n` of a leaf.
    pub(super) fn of(page: &Page, n: usize) -> Item {
        Item {
            flags: page.flags(n),
            key: page.shared_key(n),
            value: page.shared_value(n),
        }
    }
}

impl Entry for Item {
    const KIND: Kind = Kind::Leaf;

    fn key(&self) -> &Bytes {
        &self.key
    }

    fn value(&self) -> &[u8] {
        &self.value
    }

    fn element(&self, pos: u32) -> [u8; ELEMENT] {
        let mut element = [0; ELEMENT];
        element[..4].copy_from_slice(&self.flags.to_le_bytes());
        element[4..8].copy_from_slice(&pos.to_le_bytes());
        element[8..12].copy_from_slice(&(self.key.len() as u32).to_le_bytes());
        element[12..].copy_from_slice(&(self.value.len() as u32).to_le_bytes());
        element
    }
}

/// An entry of a branch.
#[derive(Debug, Clone)]
pub(super) struct Child {
    /// At most the least key below it.
    pub(super) key: Bytes,
    pub(super) id: PageId,
}

impl Child {
    /// Entry `n` of a branch.
    pub(super) fn of(page: &Page, n: usize) -> Child {
        Child {
            key: page.shared_key(n),
            id: page.child(n),
        }
    }
}

impl Entry for Child {
    const KIND: Kind = Kind::Branch;

    fn key(&self) -> &Bytes {
        &self.key
    }

    fn value(&self) -> &[u8] {
        &[]
    }

    fn element(&self, pos: u32) -> [u8; ELEMENT] {
        let mut element = [0; ELEMENT];
        element[..4].copy_from_slice(&pos.to_le_bytes());
        element[4..8].copy_from_slice(&(self.key.len() as u32).to_le_bytes());
        element[8..].copy_from_slice(&self.id.to_le_bytes());
        element
    }
}

/// The bytes of a page with these entries, which are in order and fit: a header, elements, keys with values.
/// `len` is the length of the whole, filled up with zeros.
pub(super) fn build<E: Entry>(entries: &[E], id: PageId, overflow: u32, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    bytes.resize(HEADER, 0);
    Header {
        id,
        flags: match E::KIND {
            Kind::Branch => BRANCH,
            Kind::Leaf => LEAF,
        },
        count: entries.len() as u16,
        overflow,
    }
    .write(&mut bytes);
    let mut data = entries.len() * ELEMENT;
    for (n, entry) in entries.iter().enumerate() {
        bytes.extend_from_slice(&entry.element((data - n * ELEMENT) as u32));
        data += entry.size() - ELEMENT;
    }
    for entry in entries {
        bytes.extend_from_slice(entry.key());
        bytes.extend_from_slice(entry.value());
    }
    bytes.resize(len, 0);
    bytes
}
