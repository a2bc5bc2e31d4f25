//! Batches such as a member makes, and some that it would not.

use super::Model;
use crate::backend::{Batch, Bucket};
use crate::testing::Random;

/// Makes batches of random changes.
pub(super) struct Workload {
    pub(super) rng: Random,
    revision: u64,
    /// Largest value and key now and then.
    pub(super) largest_value: u32,
    pub(super) largest_key: u32,
    /// Different keys of the buckets that are not the revisions'.
    pub(super) keys: u32,
    /// Most revisions that are kept.
    pub(super) revisions: usize,
    /// Most changes of a batch.
    pub(super) most: u32,
}

/// Key of a revision: main, '_', sub.
pub(super) fn revision_key(main: u64, sub: u64) -> Vec<u8> {
    let mut key = main.to_be_bytes().to_vec();
    key.push(b'_');
    key.extend_from_slice(&sub.to_be_bytes());
    key
}

impl Workload {
    pub(super) fn new(seed: u64) -> Workload {
        Workload {
            rng: Random::new(seed),
            revision: 1,
            largest_value: 100 << 10,
            largest_key: 32768,
            keys: 300,
            revisions: 12_000,
            most: 500,
        }
    }

    pub(super) fn batch(&mut self, model: &Model) -> Batch {
        let mut batch = Batch::default();
        let kept = model.bucket(Bucket::Key).len();
        match self.rng.below(12) {
            _ if kept > self.revisions => self.compact(&mut batch, model, 100),
            0..5 => self.append(&mut batch),
            5 => {
                let share = 30 + self.rng.below(70);
                self.compact(&mut batch, model, share);
            }
            6 => self.wipe(&mut batch, model),
            _ => self.random(&mut batch),
        }
        if self.rng.below(2) == 0 {
            let index = self.revision.to_be_bytes().to_vec();
            batch.put(Bucket::Meta, "consistent_index", index);
        }
        batch
    }

    /// Revisions in ascending order, as puts make them.
    fn append(&mut self, batch: &mut Batch) {
        // Some batches are large: they fill many pages at once.
        let most = if self.rng.below(16) == 0 {
            self.most * 5
        } else {
            self.most
        };
        let n = 1 + self.rng.below(most);
        for _ in 0..n {
            let sub = u64::from(self.rng.below(2));
            self.revision += 1 - sub;
            let key = revision_key(self.revision, sub * u64::from(self.rng.below(9)));
            let len = self.value_len();
            batch.put(Bucket::Key, key, self.bytes(len));
        }
    }

    /// Removes a share (in percent) of the oldest revisions.
    fn compact(&mut self, batch: &mut Batch, model: &Model, share: u32) {
        let keys = model.bucket(Bucket::Key);
        let old = keys.len() / 4 + self.rng.below(1 + keys.len() as u32 / 2) as usize;
        for key in keys.keys().take(old.min(4 * self.most as usize)) {
            if self.rng.below(100) < share {
                batch.delete(Bucket::Key, key.clone());
            }
        }
        batch.put(
            Bucket::Meta,
            "finishedCompactRev",
            revision_key(self.revision, 0),
        );
    }

    /// Empties a bucket, but for a few keys perhaps.
    fn wipe(&mut self, batch: &mut Batch, model: &Model) {
        let bucket = self.bucket();
        for key in model.bucket(bucket).keys() {
            if self.rng.below(40) > 0 {
                batch.delete(bucket, key.clone());
            }
        }
    }

    fn random(&mut self, batch: &mut Batch) {
        let n = 1 + self.rng.below(self.most);
        let one = self.bucket();
        for _ in 0..n {
            let bucket = match self.rng.below(4) {
                0 => self.bucket(),
                _ => one,
            };
            let key = self.key();
            if self.rng.below(3) == 0 {
                batch.delete(bucket, key);
            } else {
                let len = self.value_len();
                batch.put(bucket, key, self.bytes(len));
            }
        }
    }

    fn bucket(&mut self) -> Bucket {
        Bucket::ALL[self.rng.below(Bucket::ALL.len() as u32) as usize]
    }

    fn key(&mut self) -> Vec<u8> {
        let n = self.rng.below(self.keys);
        let mut key = format!("{n:04}").into_bytes();
        // The same number always has the same length, so that keys are met again.
        let len = match n % 97 {
            0 => self.largest_key,
            1..5 => self.largest_key / 20,
            5..30 => 60,
            _ => 4,
        };
        key.resize((len as usize).max(4), b'k');
        key
    }

    fn value_len(&mut self) -> u32 {
        let most = match self.rng.below(1000) {
            0..2 => self.largest_value,
            2..20 => self.largest_value / 16,
            20..150 => 1000,
            150..900 => 200,
            _ => 1,
        };
        self.rng.below(most + 1)
    }

    /// Bytes of this length that hardly occur twice.
    fn bytes(&mut self, len: u32) -> Vec<u8> {
        let word = self.rng.next().to_le_bytes();
        (0..len as usize).map(|n| word[n % 8]).collect()
    }
}
