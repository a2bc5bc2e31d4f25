//! The two meta pages, which take turns: the commit with number t writes page t mod 2, and until that is whole the
//! other one counts.
//!
//! Source: disk-format 5.2; bbolt `internal/common/meta.go`.

use super::page::{HEADER, Header, META, PageId, u32_at, u64_at};

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Bytes of the record, which follows the page header.
const LEN: usize = 64;
/// In place of the free list's page: it is not stored.
const NO_FREELIST: u64 = u64::MAX;

/// Smallest and largest page size that is believed. bbolt takes that of the machine it runs on.
pub(super) const PAGE_SIZES: std::ops::RangeInclusive<usize> = 1024..=(64 << 10);

/// The root of a database as of one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_size: u32,
    /// The tree of buckets.
    pub(super) root: PageId,
    pub(super) root_sequence: u64,
    /// Where the free pages are listed, if they are.
    pub(super) freelist: Option<PageId>,
    /// The first page that was never used.
    pub(super) high_water: PageId,
    /// Number of the commit.
    pub(super) txid: u64,
}

impl Meta {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn decode(page: &[u8]) -> Result<Meta, String> {
        let record = page
            .get(HEADER..HEADER + LEN)
            .ok_or_else(|| "it is cut off".to_owned())?;
        let magic = u32_at(record, 0);
        if magic != MAGIC {
            return Err(format!(
                "magic number {magic:#010x} instead of {MAGIC:#010x}"
            ));
        }
        let version = u32_at(record, 4);
        if version != VERSION {
            return Err(format!(
                "format version {version}, only version {VERSION} is known"
            ));
        }
        let checksum = fnv64(&record[..LEN - 8]);
        if u64_at(record, 56) != checksum {
            return Err("its checksum does not match".into());
        }
        let page_size = u32_at(record, 8);
        if !PAGE_SIZES.contains(&(page_size as usize)) || !page_size.is_power_of_two() {
            return Err(format!("page size {page_size} is impossible"));
        }
        let freelist = u64_at(record, 32);
        Ok(Meta {
            page_size,
            root: u64_at(record, 16),
            root_sequence: u64_at(record, 24),
            freelist: (freelist != NO_FREELIST).then_some(freelist),
            high_water: u64_at(record, 40),
            txid: u64_at(record, 48),
        })
    }

    /// The bytes of meta page `id`, header included, without what fills up the page.
    pub(super) fn encode(&self, id: PageId) -> Vec<u8> {
        let mut page = vec![0; HEADER + LEN];
        Header {
            id,
            flags: META,
            count: 0,
            overflow: 0,
        }
        .write(&mut page);
        let record = &mut page[HEADER..];
        record[..4].copy_from_slice(&MAGIC.to_le_bytes());
        record[4..8].copy_from_slice(&VERSION.to_le_bytes());
        record[8..12].copy_from_slice(&self.page_size.to_le_bytes());
        record[16..24].copy_from_slice(&self.root.to_le_bytes());
        record[24..32].copy_from_slice(&self.root_sequence.to_le_bytes());
        record[32..40].copy_from_slice(&self.freelist.unwrap_or(NO_FREELIST).to_le_bytes());
        record[40..48].copy_from_slice(&self.high_water.to_le_bytes());
        record[48..56].copy_from_slice(&self.txid.to_le_bytes());
        let checksum = fnv64(&record[..LEN - 8]);
        record[56..].copy_from_slice(&checksum.to_le_bytes());
        page
    }

    /// The meta page that a commit writes.
    pub(super) fn page(&self) -> PageId {
        self.txid % 2
    }
}

/// FNV-1a.
fn fnv64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flip_of_a_bit_of_the_record_is_noticed() {
        let meta = Meta {
            page_size: 4096,
            root: 7,
            root_sequence: 0,
            freelist: None,
            high_water: 12,
            txid: 5,
        };
        let page = meta.encode(meta.page());
        assert_eq!(Meta::decode(&page), Ok(meta));
        for bit in HEADER * 8..page.len() * 8 {
            let mut page = page.clone();
            page[bit / 8] ^= 1 << (bit % 8);
            Meta::decode(&page).unwrap_err();
        }
        for len in 0..page.len() {
            Meta::decode(&page[..len]).unwrap_err();
        }
    }
}
