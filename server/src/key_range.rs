//! etcd's key ranges.

/// The keys that a pair of `key` and `range_end` stands for.
///
/// An empty `range_end` is the single key, one zero byte is everything from `key` on, anything
/// else is the half-open range `[key, range_end)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRange<'a> {
    key: &'a [u8],
    end: &'a [u8],
}

impl<'a> KeyRange<'a> {
    pub(crate) fn new(key: &'a [u8], end: &'a [u8]) -> Self {
        Self { key, end }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match self.end {
            [] => key == self.key,
            [0] => key >= self.key,
            end => key >= self.key && key < end,
        }
    }
}
