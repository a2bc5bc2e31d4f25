//! Walking through a bucket without holding much of it in memory.

use bytes::Bytes;

use crate::backend::{self, Bucket, View};

/// What a chunk should hold, in bytes.
const TARGET_BYTES: usize = 4 << 20;

/// Records of a chunk: the first, and the most.
const FIRST_RECORDS: usize = 16;
const MAX_RECORDS: usize = 4096;

/// Reads `[from, to)` of a bucket chunk by chunk. The number of records per chunk follows their size.
pub(crate) struct Chunks<'a> {
    view: &'a dyn View,
    bucket: Bucket,
    /// `None` at the end.
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
    limit: usize,
}

impl<'a> Chunks<'a> {
    /// `[from, to)`, to the end of the bucket without `to`.
    pub(crate) fn new(
        view: &'a dyn View,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Chunks<'a> {
        Chunks {
            view,
            bucket,
            from: Some(from.to_vec()),
            to: to.map(<[u8]>::to_vec),
            limit: FIRST_RECORDS,
        }
    }

    /// The whole bucket.
    pub(crate) fn all(view: &'a dyn View, bucket: Bucket) -> Chunks<'a> {
        Chunks::new(view, bucket, b"", None)
    }

    fn read(&mut self) -> Result<Option<Vec<(Bytes, Bytes)>>, backend::Error> {
        let Some(from) = self.from.take() else {
            return Ok(None);
        };
        let records = self
            .view
            .scan(self.bucket, &from, self.to.as_deref(), self.limit)?;
        let Some((last, _)) = records.last() else {
            return Ok(None);
        };
        if records.len() >= self.limit {
            // The next key that could be there.
            self.from = Some([last, &[0][..]].concat());
        }
        let bytes: usize = records.iter().map(|(k, v)| k.len() + v.len()).sum();
        let fitting = TARGET_BYTES * records.len() / bytes.max(1);
        self.limit = fitting.clamp(FIRST_RECORDS, MAX_RECORDS.min(self.limit * 4));
        Ok(Some(records))
    }
}

impl Iterator for Chunks<'_> {
    type Item = Result<Vec<(Bytes, Bytes)>, backend::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, Batch, MemBackend};

    #[test]
    fn chunks_cover_the_range_once_and_keep_to_their_size() {
        let engine = MemBackend::new();
        let mut batch = Batch::default();
        // Sizes rise and fall, so that the limit has to follow.
        let size = |n: usize| if n % 3000 < 2000 { 10 } else { 10_000 };
        for n in 0..10_000 {
            batch.put(Bucket::Key, format!("{n:06}"), vec![0; size(n)]);
        }
        engine.commit(&batch).unwrap();
        let view = engine.view().unwrap();
        for (from, to, expected) in [
            ("", None, 0..10_000),
            ("", Some("005000"), 0..5000),
            ("000001", Some("000017"), 1..17),
            ("000001x", None, 2..10_000),
            ("", Some("0"), 0..0),
            ("5", Some("4"), 0..0),
        ] {
            let chunks = Chunks::new(&*view, Bucket::Key, from.as_bytes(), to.map(str::as_bytes));
            let mut n = expected.start;
            for chunk in chunks {
                let chunk = chunk.unwrap();
                assert!(!chunk.is_empty() && chunk.len() <= MAX_RECORDS);
                for (key, _) in chunk {
                    assert_eq!(key, format!("{n:06}"));
                    n += 1;
                }
            }
            assert_eq!(n, expected.end, "{from} {to:?}");
        }
    }
}
