//! Random requests. Keys, values and numbers come from small sets, so that everything collides.

use bytes::Bytes;
use retcd_proto::etcdserverpb::compare::TargetUnion;
use retcd_proto::etcdserverpb::request_op::Request;
use retcd_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// Source: SplitMix64; equal seeds give equal runs.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// From `low..=high`.
    pub(super) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as u64) as i64
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

const KEYS: [&[u8]; 12] = [
    b"\0", b"a", b"a\0", b"ab", b"abc", b"ac", b"b", b"ba", b"bb", b"c", b"cab", b"\xff",
];
const VALUES: [&[u8]; 6] = [
    b"",
    b"\0",
    b"1",
    b"2",
    b"22",
    b"a longer value, to be moved",
];
pub(super) const LEASES: [i64; 3] = [7, 8, -3];

/// What requests are made for.
pub(super) struct Generator {
    pub(super) random: Random,
    /// The newest revision and the compacted one, around which revisions are chosen.
    pub(super) rev: i64,
    pub(super) compacted: i64,
}

impl Generator {
    fn key(&mut self) -> Bytes {
        if self.random.percent(1) {
            return Bytes::new();
        }
        Bytes::from_static(self.random.pick(&KEYS))
    }

    fn end(&mut self) -> Bytes {
        match self.random.below(10) {
            0..4 => Bytes::new(),
            4..6 => Bytes::from_static(b"\0"),
            _ => Bytes::from_static(self.random.pick(&KEYS)),
        }
    }

    fn value(&mut self) -> Bytes {
        Bytes::from_static(self.random.pick(&VALUES))
    }

    fn lease(&mut self) -> i64 {
        match self.random.below(40) {
            0 => 9,
            1..8 => self.random.pick(&LEASES),
            _ => 0,
        }
    }

    /// One that can be read, mostly.
    fn revision(&mut self) -> i64 {
        match self.random.below(200) {
            0 => self.rev + 1,
            1 => self.rev + self.random.between(2, 1 << 40),
            2..4 => self.random.between(-3, -1),
            4 => i64::MIN,
            5..8 => self.compacted - 1,
            8..20 => self.compacted,
            20..30 => self.rev,
            30..120 => self.random.between(self.compacted, self.rev),
            _ => 0,
        }
    }

    /// Off, or near the revisions that keys have.
    fn bound(&mut self) -> i64 {
        match self.random.below(12) {
            0 => self.random.between(self.compacted, self.rev),
            1 => self.random.between(self.rev - 12, self.rev),
            2 => self.random.between(-2, self.rev + 2),
            _ => 0,
        }
    }

    pub(super) fn put(&mut self) -> PutRequest {
        let ignore_value = self.random.percent(15);
        let ignore_lease = self.random.percent(15);
        // Both flags refuse what they ignore; a few requests break that.
        PutRequest {
            key: self.key(),
            value: if ignore_value && !self.random.percent(2) {
                Bytes::new()
            } else {
                self.value()
            },
            lease: if ignore_lease && !self.random.percent(2) {
                0
            } else {
                self.lease()
            },
            prev_kv: self.random.percent(40),
            ignore_value,
            ignore_lease,
        }
    }

    pub(super) fn delete_range(&mut self) -> DeleteRangeRequest {
        let range_end = if self.random.percent(75) {
            Bytes::new()
        } else {
            self.end()
        };
        DeleteRangeRequest {
            key: self.key(),
            range_end,
            prev_kv: self.random.percent(40),
        }
    }

    pub(super) fn range(&mut self) -> RangeRequest {
        let sorted = self.random.percent(60);
        let limit = match self.random.below(20) {
            0 => -1,
            1 => i64::MAX,
            2 => i64::MIN,
            3..11 => self.random.between(1, 13),
            _ => 0,
        };
        let filtered = self.random.percent(40);
        let mut bound = || if filtered { self.bound() } else { 0 };
        let (min_mod, max_mod, min_create, max_create) = (bound(), bound(), bound(), bound());
        RangeRequest {
            key: self.key(),
            range_end: self.end(),
            limit,
            revision: self.revision(),
            sort_order: if sorted {
                self.random.between(0, 2) as i32
            } else {
                0
            },
            sort_target: match self.random.below(100) {
                0 => 5,
                _ if sorted => self.random.between(0, 4) as i32,
                _ => 0,
            },
            serializable: self.random.percent(50),
            keys_only: self.random.percent(30),
            count_only: self.random.percent(10),
            min_mod_revision: min_mod,
            max_mod_revision: max_mod,
            min_create_revision: min_create,
            max_create_revision: max_create,
        }
    }

    fn compare(&mut self) -> Compare {
        let target = self.random.between(0, 4) as i32;
        // The union fits the target, mostly.
        let kind = if self.random.percent(90) {
            target
        } else {
            self.random.between(0, 5) as i32
        };
        let union = match kind {
            0 => Some(TargetUnion::Version(self.random.between(-1, 4))),
            1 => Some(TargetUnion::CreateRevision(self.near())),
            2 => Some(TargetUnion::ModRevision(self.near())),
            3 => Some(TargetUnion::Value(self.value())),
            4 => Some(TargetUnion::Lease(self.lease())),
            _ => None,
        };
        Compare {
            result: self.random.between(0, 3) as i32 + if self.random.percent(2) { 9 } else { 0 },
            target: target + if self.random.percent(2) { 9 } else { 0 },
            key: self.key(),
            target_union: union,
            range_end: if self.random.percent(60) {
                Bytes::new()
            } else {
                self.end()
            },
        }
    }

    /// A revision that keys are likely to have, or that of a missing one.
    fn near(&mut self) -> i64 {
        if self.random.percent(25) {
            0
        } else {
            self.random.between((self.rev - 20).max(0), self.rev)
        }
    }

    /// A transaction in which others are nested up to `depth` deep.
    pub(super) fn txn(&mut self, depth: usize) -> TxnRequest {
        let reads_only = self.random.percent(15);
        let compares = self.random.below(4);
        TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: self.ops(depth, reads_only),
            failure: self.ops(depth, reads_only),
        }
    }

    fn ops(&mut self, depth: usize, reads_only: bool) -> Vec<RequestOp> {
        let n = self.random.below(5);
        (0..n).map(|_| self.op(depth, reads_only)).collect()
    }

    fn op(&mut self, depth: usize, reads_only: bool) -> RequestOp {
        let request = match self.random.below(100) {
            0 if self.random.percent(20) => None,
            _ if reads_only => Some(Request::RequestRange(self.range())),
            0..35 => Some(Request::RequestPut(self.put())),
            35..45 => Some(Request::RequestDeleteRange(self.delete_range())),
            45..70 if depth > 0 => Some(Request::RequestTxn(self.txn(depth - 1))),
            _ => Some(Request::RequestRange(self.range())),
        };
        RequestOp { request }
    }
}
