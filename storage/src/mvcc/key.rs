//! A key as the index holds it.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Longest key without an allocation of its own; makes a [`Key`] 40 bytes.
const INLINE: usize = 38;

/// A user's key: short ones in place, so that a node of the tree is compared and copied without
/// following pointers. It never keeps the request alive that it came with.
#[derive(Clone)]
pub(super) struct Key(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE] },
    Shared(Arc<[u8]>),
}

impl Key {
    pub(super) fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Shared(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Self {
        if key.len() > INLINE {
            return Self(Repr::Shared(key.into()));
        }
        let mut bytes = [0; INLINE];
        bytes[..key.len()].copy_from_slice(key);
        let len = key.len() as u8;
        Self(Repr::Inline { len, bytes })
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_slice().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_length_read_back_and_sort_like_bytes() {
        let mut last = Key::from(&[][..]);
        assert_eq!(last.as_slice(), b"");
        for len in 1..100 {
            let bytes = vec![b'a'; len];
            let key = Key::from(&bytes[..]);
            assert_eq!(key.as_slice(), bytes);
            assert_eq!(key.clone(), key);
            assert!(last < key);
            assert!(key < Key::from(&b"b"[..]));
            last = key;
        }
    }

    #[test]
    fn a_key_is_small() {
        assert_eq!(size_of::<Key>(), 40);
    }
}
