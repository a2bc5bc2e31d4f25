//! What is asked of the server: requests made from a template in which only the key, the value's stamp and a revision
//! change.

use prost::Message;
use retcd_proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse, compare, request_op,
    response_op,
};

/// Digits of a key's number.
const DIGITS: usize = 10;
/// Revisions are written as varints of this width, so that they can be replaced in place.
const REVISION_WIDTH: usize = 5;
/// Puts in one transaction of a load; etcd takes 128 by default.
const LOAD_OPS: u64 = 100;

/// The kinds of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Put a random key.
    Put,
    /// Put every key once, in order.
    PutOnce,
    /// Get a random key.
    Range,
    /// Count all keys.
    Count,
    /// The first `limit` keys, and how many there are.
    Limit,
    /// As Kubernetes updates an object: put if the revision is the one seen last, else get.
    Txn,
    /// Put every key once, many in a transaction.
    Load,
}

/// What to do, for all connections together.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The kind of work.
    pub kind: Kind,
    /// First bytes of all keys.
    pub prefix: String,
    /// Number of keys.
    pub keys: u64,
    /// Bytes of a value, at least [`STAMP`].
    pub value_size: usize,
    /// Reads that need no round of the leader.
    pub serializable: bool,
    /// Of [`Kind::Limit`].
    pub limit: i64,
    /// Where the random numbers start.
    pub seed: u64,
}

/// Bytes at the start of a value that repeat the number of its key.
pub const STAMP: usize = DIGITS;

impl Plan {
    /// The gRPC method.
    pub fn path(&self) -> &'static str {
        match self.kind {
            Kind::Put | Kind::PutOnce => "/etcdserverpb.KV/Put",
            Kind::Range | Kind::Count | Kind::Limit => "/etcdserverpb.KV/Range",
            Kind::Txn | Kind::Load => "/etcdserverpb.KV/Txn",
        }
    }

    /// Whether the requests cannot be made without the replies.
    pub fn keeps_replies(&self) -> bool {
        self.kind == Kind::Txn
    }

    /// Operations that one call stands for.
    pub fn ops_per_call(&self) -> u64 {
        if self.kind == Kind::Load { LOAD_OPS } else { 1 }
    }

    /// Calls after which the work is done; `None`: it never is.
    pub fn calls(&self) -> Option<u64> {
        match self.kind {
            Kind::PutOnce => Some(self.keys),
            Kind::Load => Some(self.keys.div_ceil(LOAD_OPS)),
            _ => None,
        }
    }

    /// The key of a number.
    pub fn key(&self, number: u64) -> Vec<u8> {
        format!("{}{number:0DIGITS$}", self.prefix).into_bytes()
    }

    /// The first key behind all keys.
    pub fn end(&self) -> Vec<u8> {
        let mut end = self.prefix.clone().into_bytes();
        // Behind any digit.
        end.push(b':');
        end
    }

    /// The value of a key: its number, then bytes that depend on the seed.
    pub fn value(&self, number: u64) -> Vec<u8> {
        let mut value = format!("{number:0STAMP$}").into_bytes();
        let mut random = Random::new(self.seed);
        while value.len() < self.value_size {
            value.extend_from_slice(&random.next().to_le_bytes());
        }
        value.truncate(self.value_size.max(STAMP));
        value
    }
}

/// The requests of one connection.
#[derive(Debug)]
pub struct Source {
    plan: Plan,
    /// This connection owns the keys `lane`, `lane + lanes`, ...
    lane: u64,
    lanes: u64,
    random: Random,
    next: u64,
    template: Vec<u8>,
    keys_at: Vec<usize>,
    stamps_at: Vec<usize>,
    revision_at: Option<usize>,
    /// Of [`Kind::Txn`]: the revision each own key was seen at last; `BUSY` while a call is under way.
    revisions: Vec<i64>,
}

const BUSY: i64 = -1;

impl Source {
    /// Requests of connection `lane` of `lanes`.
    pub fn new(plan: &Plan, lane: u64, lanes: u64) -> Self {
        const PLACEHOLDER: u64 = 9_876_543_210;
        // As many bytes as a varint as REVISION_WIDTH says.
        const REVISION: i64 = 1 << 34;
        let key = plan.key(PLACEHOLDER);
        let value = plan.value(PLACEHOLDER);
        let end = plan.end();
        let range = |key: &[u8], end: &[u8]| RangeRequest {
            key: key.to_vec().into(),
            range_end: end.to_vec().into(),
            serializable: plan.serializable,
            ..RangeRequest::default()
        };
        let put = |number: u64| PutRequest {
            key: plan.key(number).into(),
            value: plan.value(number).into(),
            ..PutRequest::default()
        };
        let template = match plan.kind {
            Kind::Put | Kind::PutOnce => put(PLACEHOLDER).encode_to_vec(),
            Kind::Range => range(&key, &[]).encode_to_vec(),
            Kind::Count => RangeRequest {
                count_only: true,
                ..range(plan.prefix.as_bytes(), &end)
            }
            .encode_to_vec(),
            Kind::Limit => RangeRequest {
                limit: plan.limit,
                ..range(plan.prefix.as_bytes(), &end)
            }
            .encode_to_vec(),
            Kind::Txn => update(range(&key, &[]), put(PLACEHOLDER), REVISION).encode_to_vec(),
            Kind::Load => Vec::new(),
        };
        let find = |needle: &[u8]| -> Vec<usize> {
            let windows = template.windows(needle.len()).enumerate();
            windows
                .filter(|(_, window)| *window == needle)
                .map(|(at, _)| at)
                .collect()
        };
        let mut revision = Vec::new();
        prost::encoding::encode_varint(REVISION as u64, &mut revision);
        let keys_at: Vec<usize> = find(&key).iter().map(|at| at + plan.prefix.len()).collect();
        let own_keys = plan.keys.saturating_sub(lane).div_ceil(lanes);
        Self {
            stamps_at: find(&value),
            revision_at: (plan.kind == Kind::Txn)
                .then(|| find(&revision).first().copied())
                .flatten(),
            keys_at,
            revisions: if plan.kind == Kind::Txn {
                vec![0; own_keys as usize]
            } else {
                Vec::new()
            },
            random: Random::new(plan.seed ^ (lane + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            next: lane,
            template,
            plan: plan.clone(),
            lane,
            lanes,
        }
    }

    /// About the size of the next request's message.
    pub fn size(&self) -> usize {
        match self.plan.kind {
            Kind::Load => {
                LOAD_OPS as usize * (self.plan.value_size + self.plan.prefix.len() + DIGITS + 16)
            }
            _ => self.template.len(),
        }
    }

    /// Hands the next request's message to `send` with a number to give back to [`Source::finished`]; `None`: no more.
    pub fn next<R>(&mut self, send: impl FnOnce(u64, &[u8]) -> R) -> Option<R> {
        let number = match self.plan.kind {
            Kind::Put | Kind::Range => self.random.below(self.plan.keys),
            Kind::Count | Kind::Limit => 0,
            Kind::PutOnce | Kind::Load => {
                let number = self.next;
                if self.plan.calls().is_some_and(|calls| number >= calls) {
                    return None;
                }
                self.next += self.lanes;
                number
            }
            Kind::Txn => self.idle_key()?,
        };
        if self.plan.kind == Kind::Load {
            return Some(send(number, &self.load(number)));
        }
        let digits = digits(number);
        for at in self.keys_at.iter().chain(&self.stamps_at) {
            self.template[*at..*at + DIGITS].copy_from_slice(&digits);
        }
        if let Some(at) = self.revision_at {
            let own = self.own(number);
            let revision = std::mem::replace(&mut self.revisions[own], BUSY);
            self.template[at..at + REVISION_WIDTH].copy_from_slice(&wide_varint(revision));
        }
        Some(send(number, &self.template))
    }

    /// The call of `number` ended with this message.
    ///
    /// # Errors
    /// If the reply is not what was asked for.
    pub fn finished(&mut self, number: u64, reply: &[u8]) -> Result<(), &'static str> {
        if self.plan.kind != Kind::Txn {
            return Ok(());
        }
        let reply = TxnResponse::decode(reply).map_err(|_| "the reply is no TxnResponse")?;
        let own = self.own(number);
        self.revisions[own] = if reply.succeeded {
            reply.header.map_or(0, |header| header.revision)
        } else {
            // Somebody wrote it before this run; the range says when.
            match reply
                .responses
                .into_iter()
                .next()
                .and_then(|op| op.response)
            {
                Some(response_op::Response::ResponseRange(range)) => {
                    range.kvs.first().map_or(0, |kv| kv.mod_revision)
                }
                _ => return Err("the failed branch holds no range"),
            }
        };
        Ok(())
    }

    fn own(&self, number: u64) -> usize {
        ((number - self.lane) / self.lanes) as usize
    }

    /// A random key of this connection without a call under way.
    fn idle_key(&mut self) -> Option<u64> {
        let keys = self.revisions.len();
        let start = self.random.below(keys as u64) as usize;
        let own = (start..keys)
            .chain(0..start)
            .find(|own| self.revisions[*own] != BUSY)?;
        Some(self.lane + own as u64 * self.lanes)
    }

    fn load(&self, number: u64) -> Vec<u8> {
        let first = number * LOAD_OPS;
        let puts = (first..self.plan.keys.min(first + LOAD_OPS)).map(|number| {
            let (key, value) = (self.plan.key(number).into(), self.plan.value(number).into());
            op(request_op::Request::RequestPut(PutRequest {
                key,
                value,
                ..PutRequest::default()
            }))
        });
        TxnRequest {
            success: puts.collect(),
            ..TxnRequest::default()
        }
        .encode_to_vec()
    }
}

fn op(request: request_op::Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn update(range: RangeRequest, put: PutRequest, revision: i64) -> TxnRequest {
    TxnRequest {
        compare: vec![Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Mod.into(),
            key: put.key.clone(),
            target_union: Some(compare::TargetUnion::ModRevision(revision)),
            ..Compare::default()
        }],
        success: vec![op(request_op::Request::RequestPut(put))],
        failure: vec![op(request_op::Request::RequestRange(range))],
    }
}

fn digits(mut number: u64) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    digits
}

/// A varint of fixed width; decoders accept the leading zeros.
fn wide_varint(value: i64) -> [u8; REVISION_WIDTH] {
    let mut bytes = [0; REVISION_WIDTH];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = (value >> (7 * at)) as u8 | 0x80;
    }
    bytes[REVISION_WIDTH - 1] &= 0x7f;
    bytes
}

/// Marsaglia's xorshift64*: cheap, and good enough to pick keys.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit.max(1))) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use retcd_proto::etcdserverpb::ResponseHeader;

    fn plan(kind: Kind) -> Plan {
        Plan {
            kind,
            prefix: "bench/".into(),
            keys: 250,
            value_size: 64,
            serializable: true,
            limit: 500,
            seed: 7,
        }
    }

    #[test]
    fn puts_carry_their_key_and_its_number() {
        let plan = plan(Kind::PutOnce);
        let mut source = Source::new(&plan, 1, 4);
        let mut numbers = Vec::new();
        while let Some((number, request)) =
            source.next(|number, bytes| (number, PutRequest::decode(bytes).expect("request")))
        {
            assert_eq!(request.key, plan.key(number));
            assert_eq!(request.value, plan.value(number));
            numbers.push(number);
        }
        assert_eq!(numbers, (1..250).step_by(4).collect::<Vec<_>>());
    }

    #[test]
    fn loads_put_every_key_once() {
        let plan = plan(Kind::Load);
        assert_eq!(plan.calls(), Some(3));
        let mut keys = Vec::new();
        for lane in 0..2 {
            let mut source = Source::new(&plan, lane, 2);
            while let Some(request) =
                source.next(|_, bytes| TxnRequest::decode(bytes).expect("request"))
            {
                keys.extend(request.success.into_iter().map(|op| match op.request {
                    Some(request_op::Request::RequestPut(put)) => put.key,
                    other => panic!("{other:?}"),
                }));
            }
        }
        keys.sort();
        assert_eq!(keys, (0..250).map(|n| plan.key(n)).collect::<Vec<_>>());
        assert!(plan.key(0) < plan.end() && plan.key(9_999_999_999) < plan.end());
    }

    #[test]
    fn transactions_follow_the_revision() {
        let plan = Plan {
            keys: 2,
            ..plan(Kind::Txn)
        };
        let mut source = Source::new(&plan, 0, 2);
        let next = |source: &mut Source| {
            source.next(|number, bytes| {
                let request = TxnRequest::decode(bytes).expect("request");
                assert_eq!(request.compare[0].key, plan.key(number));
                let Some(compare::TargetUnion::ModRevision(revision)) =
                    request.compare[0].target_union
                else {
                    panic!("no revision")
                };
                (number, revision)
            })
        };
        assert_eq!(next(&mut source), Some((0, 0)));
        assert_eq!(next(&mut source), None, "the only key is busy");
        let header = ResponseHeader {
            revision: 12_345_678_901,
            ..ResponseHeader::default()
        };
        let reply = TxnResponse {
            succeeded: true,
            header: Some(header),
            ..TxnResponse::default()
        };
        source
            .finished(0, &reply.encode_to_vec())
            .expect("good reply");
        assert_eq!(next(&mut source), Some((0, 12_345_678_901)));
    }

    #[test]
    fn reads_ask_for_what_they_are_named_after() {
        let decode = |kind| {
            let mut source = Source::new(&plan(kind), 0, 1);
            source
                .next(|_, bytes| RangeRequest::decode(bytes).expect("request"))
                .expect("endless")
        };
        let range = decode(Kind::Range);
        assert!(
            range.serializable && range.range_end.is_empty() && range.key.starts_with(b"bench/0")
        );
        let count = decode(Kind::Count);
        assert!(count.count_only && count.key == "bench/" && count.range_end == "bench/:");
        assert_eq!(decode(Kind::Limit).limit, 500);
    }
}
