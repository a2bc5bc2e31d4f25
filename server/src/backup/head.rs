//! The first look at a file that should be a database: its two meta pages.
//!
//! The refusals begin with the words of Go's tools, which scripts look for. Source: disk-format 5.2.

use retcd_storage::fs::{File, read_full};

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Where a meta begins in its page, where its checksum stands, where it ends.
const META: usize = 16;
const CHECKSUM: usize = META + 56;
const END: usize = CHECKSUM + 8;
/// Files up to here are too small to look for a second meta.
const SMALLEST: u64 = 2048;
/// Pages of files whose own page size cannot be read.
const DEFAULT_PAGE: u64 = 4096;

/// Why a file is no database. The texts begin with Go's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is")]
pub enum NotADatabase {
    #[error("invalid database")]
    Magic,
    #[error("version mismatch")]
    Version,
    #[error("checksum error")]
    Checksum,
    #[error("file size too small {0}")]
    TooSmall(u64),
}

/// A meta page that is sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Meta {
    page_size: u64,
    /// Pages in use, and free ones between them.
    pages: u64,
    transaction: u64,
}

/// Bytes that the database takes, whatever stands behind them in the file.
pub(super) fn used(file: &dyn File) -> std::io::Result<Result<u64, NotADatabase>> {
    let len = file.len()?;
    let first = meta_at(file, 0)?;
    // The second one stands a page further, whose size the first one tells; without it, any is tried.
    let sizes = match first {
        Ok(meta) => meta.page_size..=meta.page_size,
        Err(_) => 1024..=1 << 24,
    };
    let mut second = Err(NotADatabase::Magic);
    let mut at = *sizes.start();
    while at <= *sizes.end() && at.saturating_add(END as u64) <= len {
        second = meta_at(file, at)?;
        if second.is_ok() {
            break;
        }
        at *= 2;
    }
    let newest = match (first, second) {
        (Ok(first), Ok(second)) if second.transaction > first.transaction => Ok(second),
        (Ok(meta), _) | (Err(_), Ok(meta)) => Ok(meta),
        (Err(first), Err(_)) => Err(first),
    };
    let page_size = newest.map_or(DEFAULT_PAGE, |meta| meta.page_size);
    Ok(if newest.is_err() && len <= SMALLEST {
        Err(NotADatabase::Magic)
    } else if len < page_size.saturating_mul(2) {
        Err(NotADatabase::TooSmall(len))
    } else {
        newest.map(|meta| meta.pages.saturating_mul(meta.page_size))
    })
}

fn meta_at(file: &dyn File, offset: u64) -> std::io::Result<Result<Meta, NotADatabase>> {
    let mut page = [0; END];
    if read_full(file, &mut page, offset)? < END {
        return Ok(Err(NotADatabase::Magic));
    }
    Ok(Meta::read(&page))
}

impl Meta {
    fn read(page: &[u8; END]) -> Result<Self, NotADatabase> {
        let short = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&page[at..at + 4]);
            u32::from_le_bytes(bytes)
        };
        let long = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&page[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        if short(META) != MAGIC {
            Err(NotADatabase::Magic)
        } else if short(META + 4) != VERSION {
            Err(NotADatabase::Version)
        } else if long(CHECKSUM) != fnv1a(&page[META..CHECKSUM]) || short(META + 8) == 0 {
            Err(NotADatabase::Checksum)
        } else {
            Ok(Self {
                page_size: short(META + 8).into(),
                pages: long(META + 40),
                transaction: long(META + 48),
            })
        }
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use retcd_storage::fs::{Fs, OpenMode, SimFs};

    use super::*;

    const SIZE: usize = 4096;

    fn meta(pages: u64, transaction: u64) -> Vec<u8> {
        let mut page = vec![0; SIZE];
        page[META..META + 4].copy_from_slice(&MAGIC.to_le_bytes());
        page[META + 4..META + 8].copy_from_slice(&VERSION.to_le_bytes());
        page[META + 8..META + 12].copy_from_slice(&(SIZE as u32).to_le_bytes());
        page[META + 40..META + 48].copy_from_slice(&pages.to_le_bytes());
        page[META + 48..META + 56].copy_from_slice(&transaction.to_le_bytes());
        let sum = fnv1a(&page[META..CHECKSUM]);
        page[CHECKSUM..END].copy_from_slice(&sum.to_le_bytes());
        page
    }

    fn look(bytes: &[u8]) -> Result<u64, NotADatabase> {
        let fs = SimFs::new();
        let file = fs
            .open(Path::new("/file"), OpenMode::CreateNew)
            .expect("created");
        file.write_all_at(bytes, 0).expect("written");
        used(&*file).expect("readable")
    }

    #[test]
    fn the_newer_meta_counts() {
        let tail = vec![0; 8 * SIZE];
        let file = |a: u64, b: u64| [meta(4, a), meta(6, b), tail.clone()].concat();
        assert_eq!(look(&file(1, 2)), Ok(6 * 4096));
        assert_eq!(look(&file(3, 2)), Ok(4 * 4096));
    }

    #[test]
    fn one_sound_meta_is_enough() {
        let (mut first, mut second) = (meta(4, 8), meta(6, 7));
        let sound = [first.clone(), second.clone()].concat();
        first[META + 20] ^= 1;
        assert_eq!(
            look(&[first.clone(), second.clone()].concat()),
            Ok(6 * 4096)
        );
        second[META] ^= 1;
        assert_eq!(look(&[meta(4, 8), second.clone()].concat()), Ok(4 * 4096));
        assert_eq!(look(&[first, second].concat()), Err(NotADatabase::Checksum));
        assert_eq!(look(&sound), Ok(4 * 4096));
    }

    /// As Go's tools refuse the same files.
    #[test]
    fn other_files_are_refused() {
        assert_eq!(look(&[]), Err(NotADatabase::Magic));
        assert_eq!(look(&[7; 2048]), Err(NotADatabase::Magic));
        assert_eq!(look(&[7; 2049]), Err(NotADatabase::TooSmall(2049)));
        assert_eq!(look(&[7; 5000]), Err(NotADatabase::TooSmall(5000)));
        assert_eq!(look(&[7; 9000]), Err(NotADatabase::Magic));
        assert_eq!(look(&meta(4, 1)), Err(NotADatabase::TooSmall(4096)));
        let mut version = [meta(4, 1), vec![0; SIZE]].concat();
        version[META + 4] = 9;
        assert_eq!(look(&version), Err(NotADatabase::Version));
    }
}
