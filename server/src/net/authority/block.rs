//! The fields of one header block.

use std::ops::Range;

use http::uri::Authority;

use super::huffman;

const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// `:authority` in the static table. Go's encoder names it so.
const AUTHORITY: usize = 1;

/// A string's first bit.
const HUFFMAN: u8 = 0x80;

/// Replaces the authority in the payload of a HEADERS frame if h2 would refuse it.
///
/// What is not understood stays as it is. That includes a field which a CONTINUATION frame ends:
/// pseudo-header fields come first, and 16 KiB hold them.
pub(super) fn repair(flags: u8, frame: &mut [u8]) {
    if let Some(block) = fields(flags, frame)
        && let Some((huffman, value)) = authority(&frame[block.clone()])
    {
        let value = &mut frame[block][value];
        match huffman {
            true => repair_huffman(value),
            false => repair_plain(value),
        }
    }
}

/// Where the fields are: behind a padding length and a priority, before the padding.
fn fields(flags: u8, frame: &[u8]) -> Option<Range<usize>> {
    let mut start = 0;
    let mut end = frame.len();
    if flags & PADDED != 0 {
        start += 1;
        end = end.checked_sub(usize::from(*frame.first()?))?;
    }
    if flags & PRIORITY != 0 {
        start += 5;
    }
    (start <= end).then_some(start..end)
}

/// The first literal value of `:authority`: whether it is Huffman coded, and where it is.
fn authority(block: &[u8]) -> Option<(bool, Range<usize>)> {
    let mut input = Input { block, at: 0 };
    while let Some(&first) = block.get(input.at) {
        let (name, literal) = match first {
            0x80.. => (input.integer(7)?, false),
            0x40.. => (input.integer(6)?, true),
            // A new size for the dynamic table.
            0x20.. => (input.integer(5)?, false),
            _ => (input.integer(4)?, true),
        };
        if literal {
            if name == 0 {
                input.string()?;
            }
            let value = input.string()?;
            if name == AUTHORITY {
                return Some(value);
            }
        }
    }
    None
}

struct Input<'a> {
    block: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.block.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// A number whose first part is in the low `prefix` bits of the next byte.
    fn integer(&mut self, prefix: u32) -> Option<usize> {
        let mask = (1 << prefix) - 1;
        let first = usize::from(self.byte()?) & mask;
        if first < mask {
            return Some(first);
        }
        let mut value = first;
        // 2^21 is beyond every index and every length in a frame.
        for shift in [0, 7, 14] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn string(&mut self) -> Option<(bool, Range<usize>)> {
        let huffman = *self.block.get(self.at)? & HUFFMAN != 0;
        let length = self.integer(7)?;
        let start = self.at;
        self.at = start.checked_add(length)?;
        (self.at <= self.block.len()).then_some((huffman, start..self.at))
    }
}

fn repair_plain(value: &mut [u8]) {
    if wanted(value) {
        for byte in value {
            if !harmless(*byte) {
                *byte = b'-';
            }
        }
    }
}

fn repair_huffman(value: &mut [u8]) {
    let Some(symbols) = huffman::decode(value) else {
        return;
    };
    let text: Vec<u8> = symbols.iter().map(|symbol| symbol.byte).collect();
    if wanted(&text) {
        for symbol in symbols {
            if !harmless(symbol.byte) {
                symbol.replace(value);
            }
        }
    }
}

/// Whether h2 refuses a value that Go takes, which is anything without control characters.
fn wanted(value: &[u8]) -> bool {
    let control = value.iter().any(u8::is_ascii_control);
    !control && Authority::try_from(value).is_err()
}

/// What may be anywhere in an authority.
fn harmless(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'.'
}
