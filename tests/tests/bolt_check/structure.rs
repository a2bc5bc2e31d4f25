//! What bbolt relies on when it writes, and its check does not look at.

use std::fs;
use std::path::Path;

/// Every branch has two children at least: with one, bbolt's rebalancing panics.
///
/// # Errors
/// The first branch that has not.
pub(crate) fn no_lone_children(path: &Path) -> Result<(), String> {
    let file = fs::read(path).map_err(|e| e.to_string())?;
    let page_size = number(&file, 16 + 8, 4)? as usize;
    let root = |meta: usize| -> Result<(u64, u64), String> {
        Ok((number(&file, meta * page_size + 16 + 48, 8)?, number(&file, meta * page_size + 16 + 16, 8)?))
    };
    let (_, newest) = root(0)?.max(root(1)?);
    below(&file, page_size, newest)
}

fn below(file: &[u8], page_size: usize, id: u64) -> Result<(), String> {
    let at = usize::try_from(id).map_err(|e| e.to_string())? * page_size;
    let (flags, count) = (number(file, at + 8, 2)?, number(file, at + 10, 2)? as usize);
    if flags & 1 != 0 {
        if count < 2 {
            return Err(format!("branch page {id} has {count} children: bbolt panics when one of them gets small"));
        }
        return (0..count).try_for_each(|n| below(file, page_size, number(file, at + 16 + 16 * n + 8, 8)?));
    }
    for n in 0..count {
        let element = at + 16 + 16 * n;
        // A bucket: its value begins with the root page, 0 if it is inline.
        if number(file, element, 4)? & 1 != 0 {
            let value = element + number(file, element + 4, 4)? as usize + number(file, element + 8, 4)? as usize;
            match number(file, value, 8)? {
                0 => {}
                root => below(file, page_size, root)?,
            }
        }
    }
    Ok(())
}

fn number(file: &[u8], at: usize, len: usize) -> Result<u64, String> {
    let bytes = file.get(at..at + len).ok_or_else(|| format!("the file ends before byte {}", at + len))?;
    let mut out = [0; 8];
    out[..len].copy_from_slice(bytes);
    Ok(u64::from_le_bytes(out))
}
