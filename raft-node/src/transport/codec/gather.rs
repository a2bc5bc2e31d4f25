//! A known number of bytes out of pieces of any size.

use bytes::Bytes;

/// Space that is made at once; after it, as much again as has come.
const FIRST: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(in super::super) struct Gather {
    have: Vec<u8>,
}

impl Gather {
    /// Takes from the front of `input` until there are `need` bytes. They are a copy of their own:
    /// what is kept of one message keeps nothing else in memory.
    pub(in super::super) fn take(&mut self, input: &mut &[u8], need: usize) -> Option<Bytes> {
        let missing = need - self.have.len();
        let (taken, rest) = input.split_at(missing.min(input.len()));
        *input = rest;
        if taken.len() == missing && self.have.is_empty() {
            return Some(Bytes::copy_from_slice(taken));
        }
        let free = self.have.capacity() - self.have.len();
        if taken.len() > free {
            let more = self.have.len().max(FIRST).max(taken.len());
            self.have.reserve_exact(more.min(missing));
        }
        self.have.extend_from_slice(taken);
        (self.have.len() == need).then(|| std::mem::take(&mut self.have).into())
    }
}

/// A number of eight bytes, highest first.
#[derive(Debug, Default)]
pub(super) struct Number {
    bytes: [u8; 8],
    have: usize,
}

impl Number {
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Option<u64> {
        let (taken, rest) = input.split_at((8 - self.have).min(input.len()));
        *input = rest;
        self.bytes[self.have..self.have + taken.len()].copy_from_slice(taken);
        self.have += taken.len();
        if self.have < 8 {
            return None;
        }
        self.have = 0;
        Some(u64::from_be_bytes(self.bytes))
    }
}
