//! The revision of a change, and its key in the backend's `key` bucket.

use std::fmt;

/// Between the two numbers of a revision key.
const SEPARATOR: u8 = b'_';
/// Ends the key of a revision that deleted its key.
const TOMBSTONE: u8 = b't';

/// When a key was changed: the store's revision and the position within the transaction.
///
/// Both numbers are never negative in a store; the order is (main, sub).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The store's revision that the transaction created.
    pub main: i64,
    /// The number of changes that the transaction made before this one.
    pub sub: i64,
}

impl Revision {
    /// Bytes in the key of a put.
    pub const KEY_LEN: usize = 17;
    /// Bytes in the key of a tombstone.
    pub const TOMBSTONE_KEY_LEN: usize = 18;

    /// The revision `main.sub`.
    pub const fn new(main: i64, sub: i64) -> Self {
        Self { main, sub }
    }

    /// The backend key of a put: main (8 bytes BE), `_`, sub (8 bytes BE). Sorts like the revision.
    pub fn key(self) -> [u8; Self::KEY_LEN] {
        let mut key = [SEPARATOR; Self::KEY_LEN];
        key[..8].copy_from_slice(&self.main.to_be_bytes());
        key[9..].copy_from_slice(&self.sub.to_be_bytes());
        key
    }

    /// The backend key of a tombstone: the put's key followed by `t`. Sorts right after it.
    pub fn tombstone_key(self) -> [u8; Self::TOMBSTONE_KEY_LEN] {
        let mut key = [TOMBSTONE; Self::TOMBSTONE_KEY_LEN];
        key[..Self::KEY_LEN].copy_from_slice(&self.key());
        key
    }

    /// Reads a backend key; the flag tells a tombstone. `None` for anything that
    /// [`key`](Self::key) or [`tombstone_key`](Self::tombstone_key) would not write.
    pub fn from_key(key: &[u8]) -> Option<(Self, bool)> {
        let (revision, mark) = key.split_at_checked(Self::KEY_LEN)?;
        let (main, rest) = revision.split_first_chunk::<8>()?;
        let (separator, sub) = rest.split_first_chunk::<1>()?;
        let sub: [u8; 8] = sub.try_into().ok()?;
        let tombstone = match mark {
            [] => false,
            [TOMBSTONE] => true,
            _ => return None,
        };
        let revision = Self::new(i64::from_be_bytes(*main), i64::from_be_bytes(sub));
        (*separator == [SEPARATOR] && revision.main >= 0 && revision.sub >= 0)
            .then_some((revision, tombstone))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_layout_of_etcd() {
        let revision = Revision::new(0x0102, 3);
        let key = [0, 0, 0, 0, 0, 0, 1, 2, 0x5f, 0, 0, 0, 0, 0, 0, 0, 3];
        assert_eq!(revision.key(), key);
        assert_eq!(revision.tombstone_key()[..17], key);
        assert_eq!(revision.tombstone_key()[17], 0x74);
    }

    #[test]
    fn keys_read_back_and_sort_like_revisions() {
        let mut last = Vec::new();
        for main in [0, 1, 255, 256, i64::MAX] {
            for sub in [0, 1, i64::MAX] {
                let revision = Revision::new(main, sub);
                assert_eq!(Revision::from_key(&revision.key()), Some((revision, false)));
                assert_eq!(
                    Revision::from_key(&revision.tombstone_key()),
                    Some((revision, true))
                );
                assert!(last.as_slice() < revision.key().as_slice());
                last = revision.tombstone_key().to_vec();
                assert!(revision.key().as_slice() < last.as_slice());
            }
        }
    }

    #[test]
    fn other_bytes_are_not_revisions() {
        let key = Revision::new(1, 2).key();
        let mut separator = key;
        separator[8] = b'-';
        let mut negative = key;
        negative[0] = 0x80;
        let mut long = key.to_vec();
        long.extend(b"tt");
        for bytes in [
            &key[..16],
            &[],
            &separator,
            &negative,
            &long,
            &[&key[..], b"x"].concat(),
        ] {
            assert_eq!(Revision::from_key(bytes), None, "{bytes:?}");
        }
    }
}
