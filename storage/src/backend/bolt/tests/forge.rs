//! Writes database files without any of the engine's code: a second opinion on the format, and files that the engine
//! would not make by itself (other page sizes, buckets in buckets, a stored free list).
//!
//! Source: disk-format 5.

use std::collections::BTreeMap;

/// A bucket with all that is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) sequence: u64,
    pub(crate) entries: BTreeMap<Vec<u8>, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Value(Vec<u8>),
    Bucket(Tree),
}

impl Tree {
    pub(crate) fn value(mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Tree {
        self.entries.insert(key.into(), Entry::Value(value.into()));
        self
    }

    pub(crate) fn bucket(mut self, name: impl Into<Vec<u8>>, tree: Tree) -> Tree {
        self.entries.insert(name.into(), Entry::Bucket(tree));
        self
    }

    pub(crate) fn sequence(mut self, sequence: u64) -> Tree {
        self.sequence = sequence;
        self
    }
}

/// How a file is to be written.
#[derive(Debug, Clone)]
pub(crate) struct Forge {
    pub(crate) page_size: usize,
    pub(crate) txid: u64,
    /// Pages get no further entry when they have so many bytes.
    pub(crate) fill: usize,
    /// Free pages, all before the others.
    pub(crate) holes: u64,
    /// Whether there is a page that lists them.
    pub(crate) list_free: bool,
    /// Whether small buckets lie in the value of their name.
    pub(crate) inline: bool,
}

impl Forge {
    pub(crate) fn new(page_size: usize) -> Forge {
        Forge {
            page_size,
            txid: 7,
            fill: page_size / 2,
            holes: 0,
            list_free: false,
            inline: true,
        }
    }

    /// The bytes of a database with these buckets.
    pub(crate) fn build(&self, root: &Tree) -> Vec<u8> {
        let mut file = vec![0; (2 + self.holes as usize) * self.page_size];
        let root_page = self.tree(&mut file, root);
        let freelist = if self.list_free {
            let mut list = Vec::new();
            if self.holes >= 0xFFFF {
                list.extend_from_slice(&self.holes.to_le_bytes());
            }
            for id in 2..2 + self.holes {
                list.extend_from_slice(&id.to_le_bytes());
            }
            let count = self.holes.min(0xFFFF) as u16;
            self.page(&mut file, 0x10, count, &list)
        } else {
            u64::MAX
        };
        let high_water = (file.len() / self.page_size) as u64;
        for txid in [self.txid - 1, self.txid] {
            let mut record = Vec::new();
            record.extend_from_slice(&0xED0C_DAED_u32.to_le_bytes());
            record.extend_from_slice(&2_u32.to_le_bytes());
            record.extend_from_slice(&(self.page_size as u32).to_le_bytes());
            record.extend_from_slice(&0_u32.to_le_bytes());
            for field in [root_page, root.sequence, freelist, high_water, txid] {
                record.extend_from_slice(&field.to_le_bytes());
            }
            record.extend_from_slice(&fnv(&record).to_le_bytes());
            let page = txid % 2;
            let at = page as usize * self.page_size;
            file[at..at + 8].copy_from_slice(&page.to_le_bytes());
            file[at + 8] = 0x04;
            file[at + 16..at + 16 + record.len()].copy_from_slice(&record);
        }
        file
    }

    /// Appends a page, with as many more behind it as it needs.
    fn page(&self, file: &mut Vec<u8>, flags: u16, count: u16, body: &[u8]) -> u64 {
        let id = (file.len() / self.page_size) as u64;
        let pages = (16 + body.len()).div_ceil(self.page_size);
        let end = file.len() + pages * self.page_size;
        file.extend_from_slice(&header(id, flags, count, pages as u32 - 1));
        file.extend_from_slice(body);
        file.resize(end, 0);
        id
    }

    /// Writes a tree; returns its root.
    fn tree(&self, file: &mut Vec<u8>, tree: &Tree) -> u64 {
        let items: Vec<(u32, &[u8], Vec<u8>)> = tree
            .entries
            .iter()
            .map(|(key, entry)| match entry {
                Entry::Value(value) => (0, &key[..], value.clone()),
                Entry::Bucket(bucket) => (1, &key[..], self.bucket_value(file, bucket)),
            })
            .collect();
        let mut level: Vec<(&[u8], u64)> = Vec::new();
        let mut rest = &items[..];
        loop {
            let mut size = 0;
            let fits = |(_, key, value): &&(u32, &[u8], Vec<u8>)| {
                size += 16 + key.len() + value.len();
                size <= self.fill
            };
            let n = rest.iter().take_while(fits).count().max(1).min(rest.len());
            let (mine, behind) = rest.split_at(n);
            let id = self.page(file, 0x02, n as u16, &leaf(mine));
            level.push((mine.first().map_or(b"", |item| item.1), id));
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        while level.len() > 1 {
            let mut above = Vec::new();
            let mut rest = &level[..];
            while !rest.is_empty() {
                let mut size = 0;
                let fits = |(key, _): &&(&[u8], u64)| {
                    size += 16 + key.len();
                    size <= self.fill
                };
                let n = rest.iter().take_while(fits).count().max(2).min(rest.len());
                // A branch has two children at least.
                let n = n + usize::from(rest.len() == n + 1);
                let (mine, behind) = rest.split_at(n);
                above.push((mine[0].0, self.page(file, 0x01, n as u16, &branch(mine))));
                rest = behind;
            }
            level = above;
        }
        level[0].1
    }

    fn bucket_value(&self, file: &mut Vec<u8>, bucket: &Tree) -> Vec<u8> {
        let mut size = 16;
        let mut plain = true;
        for (key, entry) in &bucket.entries {
            match entry {
                Entry::Value(value) => size += 16 + key.len() + value.len(),
                Entry::Bucket(_) => plain = false,
            }
        }
        let inline = self.inline && plain && size <= self.page_size / 4;
        let root = if inline { 0 } else { self.tree(file, bucket) };
        let mut value = Vec::new();
        value.extend_from_slice(&root.to_le_bytes());
        value.extend_from_slice(&bucket.sequence.to_le_bytes());
        if inline {
            let items: Vec<_> = bucket
                .entries
                .iter()
                .filter_map(|(key, entry)| match entry {
                    Entry::Value(value) => Some((0, &key[..], value.clone())),
                    Entry::Bucket(_) => None,
                })
                .collect();
            value.extend_from_slice(&header(0, 0x02, items.len() as u16, 0));
            value.extend_from_slice(&leaf(&items));
        }
        value
    }
}

fn header(id: u64, flags: u16, count: u16, overflow: u32) -> Vec<u8> {
    let mut header = id.to_le_bytes().to_vec();
    header.extend_from_slice(&flags.to_le_bytes());
    header.extend_from_slice(&count.to_le_bytes());
    header.extend_from_slice(&overflow.to_le_bytes());
    header
}

/// What follows the header of a leaf.
fn leaf(items: &[(u32, &[u8], Vec<u8>)]) -> Vec<u8> {
    let mut elements = Vec::new();
    let mut data = Vec::new();
    for (n, (flags, key, value)) in items.iter().enumerate() {
        let pos = (items.len() - n) * 16 + data.len();
        for field in [*flags, pos as u32, key.len() as u32, value.len() as u32] {
            elements.extend_from_slice(&field.to_le_bytes());
        }
        data.extend_from_slice(key);
        data.extend_from_slice(value);
    }
    elements.append(&mut data);
    elements
}

/// What follows the header of a branch.
fn branch(children: &[(&[u8], u64)]) -> Vec<u8> {
    let mut elements = Vec::new();
    let mut data: Vec<u8> = Vec::new();
    for (n, (key, id)) in children.iter().enumerate() {
        let pos = (children.len() - n) * 16 + data.len();
        elements.extend_from_slice(&(pos as u32).to_le_bytes());
        elements.extend_from_slice(&(key.len() as u32).to_le_bytes());
        elements.extend_from_slice(&id.to_le_bytes());
        data.extend_from_slice(key);
    }
    elements.append(&mut data);
    elements
}

/// FNV-1a, 64 bits: the checksum of a meta record.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash ^= u64::from(*byte);
        hash = hash.wrapping_mul(0x0100_0000_01b3);
    }
    hash
}
