//! Scripts of edits: damage in terms of pages, headers, entries and meta records.

use super::forge::fnv;
use super::samples::{Sample, all};

/// Bytes of one edit: what, which page, where in it (2), a number (8).
const LEN: usize = 12;

/// Edits beyond this find nothing that fewer do not.
const MOST: usize = 64;

/// The file that a script makes, and the size of its pages. `None`: it is no script.
pub(crate) fn run(script: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (&[which, how], edits) = script.split_first_chunk()?;
    let samples = all();
    let sample = &samples[usize::from(which) % samples.len()];
    let mut bytes = sample.bytes.clone();
    for edit in edits.chunks_exact(LEN).take(MOST) {
        apply(&mut bytes, sample, edit);
    }
    if how % 8 != 7 {
        mend_checksums(&mut bytes, sample.page_size);
    }
    Some((bytes, sample.page_size))
}

fn apply(bytes: &mut Vec<u8>, sample: &Sample, edit: &[u8]) {
    let size = sample.page_size;
    let pages = sample.bytes.len() / size;
    let page = usize::from(edit[1]) % pages;
    let place = usize::from(u16::from_le_bytes([edit[2], edit[3]]));
    let number = u64::from_le_bytes(std::array::from_fn(|n| edit[4 + n]));
    let start = page * size;
    let id = number % (pages as u64 + 2);
    let element = start + 16 + 16 * (place / 4);
    let kind = edit[0] % 20;
    match kind {
        0 => put(bytes, start + place % size, &[number as u8]),
        1 => flip(bytes, start + place % size, 1 << (number % 8)),
        // A header.
        2 => put(bytes, start, &id.to_le_bytes()),
        3 => put(bytes, start + 8, &[1 << (number % 6), 0]),
        4 => put(bytes, start + 10, &(number as u16).to_le_bytes()),
        5 => put(bytes, start + 12, &(number as u32).to_le_bytes()),
        6 => put(bytes, start + 12, &(id as u32).to_le_bytes()),
        // An element: one of its four numbers, or the page of a child.
        7 => put(
            bytes,
            element + 4 * (place % 4),
            &(number as u32).to_le_bytes(),
        ),
        8 => put(
            bytes,
            element + 4 * (place % 4),
            &((number % 512) as u32).to_le_bytes(),
        ),
        9 => put(bytes, element + 8, &id.to_le_bytes()),
        16 => put(bytes, element + 8, &number.to_le_bytes()),
        17 => flip(bytes, element + 8 + place / 4 % 8, 1 << (number % 8)),
        18 => flip(bytes, element + place % 16, 1 << (number % 8)),
        // The root of a bucket, if it lies there.
        10 => put(bytes, start + place % size, &id.to_le_bytes()),
        // Another page in the place of this one, with its number corrected or not.
        11 | 12 => {
            let other = id as usize % pages * size;
            if let Some(copy) = bytes.get(other..other + size).map(<[u8]>::to_vec) {
                put(bytes, start, &copy);
                if kind == 12 {
                    put(bytes, start, &(page as u64).to_le_bytes());
                }
            }
        }
        // A field of a meta record.
        13 => put(
            bytes,
            (place % 2) * size + 16 + 8 * (place / 2 % 7),
            &number.to_le_bytes(),
        ),
        14 => put(
            bytes,
            (place % 2) * size + 16 + 8 * (place / 2 % 7),
            &id.to_le_bytes(),
        ),
        _ => bytes.truncate((number as usize) % (bytes.len() + 1)),
    }
}

fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    if let Some(old) = bytes.get_mut(at..at + new.len()) {
        old.copy_from_slice(new);
    }
}

fn flip(bytes: &mut [u8], at: usize, bit: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= bit;
    }
}

fn mend_checksums(bytes: &mut [u8], page_size: usize) {
    for start in [0, page_size] {
        if let Some(record) = bytes.get_mut(start + 16..start + 80) {
            let sum = fnv(&record[..56]);
            record[56..].copy_from_slice(&sum.to_le_bytes());
        }
    }
}
