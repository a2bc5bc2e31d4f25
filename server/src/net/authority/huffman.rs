//! The Huffman code of RFC 7541, appendix B, as far as URLs need it.
//!
//! The code is canonical: among the codes of one length, numbers rise with the symbols, and the
//! first number of a length follows from those before. So the lengths are all there is to know.

/// Codes of one length.
struct Length {
    bits: usize,
    /// What they stand for, in their order.
    symbols: &'static [u8],
    /// Which of them may be anywhere in an authority.
    substitute: Option<u8>,
}

const fn length(bits: usize, symbols: &'static [u8], substitute: Option<u8>) -> Length {
    Length {
        bits,
        symbols,
        substitute,
    }
}

/// All codes of up to 13 bits. Longer ones stand for what no URL holds.
const LENGTHS: [Length; 8] = [
    length(5, b"012aceiost", Some(b'0')),
    length(6, b" %-./3456789=A_bdfghlmnpru", Some(b'-')),
    length(7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz", Some(b'x')),
    length(8, b"&*,;XZ", Some(b'X')),
    length(10, b"!\"()?", Some(b'!')),
    length(11, b"'+|", Some(b'+')),
    length(12, b"#>", None),
    length(13, b"\0$@[]~", Some(b'~')),
];

/// A symbol and where it is.
pub(super) struct Symbol {
    pub(super) byte: u8,
    first_bit: usize,
    length: &'static Length,
    /// The first code of this length.
    first_code: u32,
}

/// The symbols of a string; `None` if one has a longer code, or the padding is wrong.
pub(super) fn decode(string: &[u8]) -> Option<Vec<Symbol>> {
    let mut symbols = Vec::new();
    let mut at = 0;
    while let Some(symbol) = decode_one(string, at) {
        at += symbol.length.bits;
        symbols.push(symbol);
    }
    let padding = at..string.len() * 8;
    let sound = padding.len() < 8 && padding.into_iter().all(|at| bit(string, at) == Some(1));
    sound.then_some(symbols)
}

fn decode_one(string: &[u8], first_bit: usize) -> Option<Symbol> {
    let (mut code, mut first_code, mut bits) = (0, 0, 0);
    for length in &LENGTHS {
        while bits < length.bits {
            code = code << 1 | bit(string, first_bit + bits)?;
            first_code <<= 1;
            bits += 1;
        }
        if let Some(byte) = length.symbols.get((code - first_code) as usize) {
            return Some(Symbol {
                byte: *byte,
                first_bit,
                length,
                first_code,
            });
        }
        first_code += length.symbols.len() as u32;
    }
    None
}

fn bit(string: &[u8], at: usize) -> Option<u32> {
    let byte = string.get(at / 8)?;
    Some(u32::from(byte >> (7 - at % 8) & 1))
}

impl Symbol {
    /// Puts one in its place that may be anywhere in an authority and has a code as long, where
    /// there is such a one.
    pub(super) fn replace(&self, string: &mut [u8]) {
        let mut symbols = self.length.symbols.iter();
        let Some(index) = symbols.position(|byte| Some(*byte) == self.length.substitute) else {
            return;
        };
        let code = self.first_code + index as u32;
        for place in 0..self.length.bits {
            let at = self.first_bit + place;
            let mask = 1 << (7 - at % 8);
            match code >> (self.length.bits - 1 - place) & 1 {
                0 => string[at / 8] &= !mask,
                _ => string[at / 8] |= mask,
            }
        }
    }
}
