//! The simplest server there is: for every revision the whole map.
//!
//! Written from api-semantics 6.1 and 6.3-6.7, slow and without a trick.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;

use retcd_proto::etcdserverpb::compare::TargetUnion;
use retcd_proto::etcdserverpb::request_op::Request;
use retcd_proto::etcdserverpb::response_op::Response;
use retcd_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use retcd_proto::mvccpb::KeyValue;

use super::Counts;
use crate::error::Error;

type Map = BTreeMap<Vec<u8>, KeyValue>;

pub(super) struct Model {
    /// The map at each revision; those below the compacted one are never looked at.
    history: Vec<Rc<Map>>,
    pub(super) compacted: i64,
    pub(super) leases: Vec<i64>,
    pub(super) counts: RefCell<Counts>,
}

/// What an open transaction sees and did.
struct Open {
    map: Map,
    changed: bool,
}

/// The branch a transaction takes, and those that the transactions in that branch take: one for
/// each of its operations.
struct Path {
    succeeded: bool,
    nested: Vec<Option<Path>>,
}

impl Model {
    pub(super) fn new(leases: &[i64]) -> Self {
        Self {
            history: vec![Rc::default(), Rc::default()],
            compacted: -1,
            leases: leases.to_vec(),
            counts: RefCell::default(),
        }
    }

    pub(super) fn rev(&self) -> i64 {
        self.history.len() as i64 - 1
    }

    pub(super) fn newest(&self) -> &Map {
        self.history.last().unwrap()
    }

    fn open(&self) -> Open {
        Open {
            map: self.newest().clone(),
            changed: false,
        }
    }

    fn close(&mut self, open: Open) {
        if open.changed {
            self.history.push(Rc::new(open.map));
        }
    }

    /// The revision a reader inside the transaction sees, which is also that of its changes.
    fn current(&self, open: &Open) -> i64 {
        self.rev() + i64::from(open.changed)
    }

    pub(super) fn compact(&mut self, rev: i64) -> Result<(), Error> {
        if rev <= self.compacted {
            return Err(Error::Compacted);
        }
        if rev > self.rev() {
            return Err(Error::FutureRev);
        }
        self.compacted = rev;
        for old in &mut self.history[..rev as usize] {
            *old = Rc::default();
        }
        Ok(())
    }

    pub(super) fn put(&mut self, r: &PutRequest) -> Result<PutResponse, Error> {
        self.check_put(r)?;
        let mut open = self.open();
        let response = self.run_put(&mut open, r);
        self.close(open);
        Ok(response)
    }

    pub(super) fn delete_range(&mut self, r: &DeleteRangeRequest) -> DeleteRangeResponse {
        let mut open = self.open();
        let response = self.run_delete(&mut open, r);
        self.close(open);
        response
    }

    /// Deletes the keys of a lease, all in one revision.
    pub(super) fn revoke(&mut self, lease: i64) {
        let mut open = self.open();
        let before = open.map.len();
        open.map.retain(|_, kv| kv.lease != lease);
        open.changed = open.map.len() != before;
        self.close(open);
    }

    pub(super) fn range(&self, r: &RangeRequest) -> Result<RangeResponse, Error> {
        if r.revision > self.rev() {
            return Err(Error::FutureRev);
        }
        if r.revision > 0 && r.revision < self.compacted {
            return Err(Error::Compacted);
        }
        Ok(self.run_range(&self.open(), r))
    }

    pub(super) fn txn(&mut self, r: &TxnRequest) -> Result<TxnResponse, Error> {
        let path = self.path(r);
        self.check(r, &path)?;
        let mut open = self.open();
        let mut response = self.run(&mut open, r, &path);
        response.header = header(self.current(&open));
        self.close(open);
        Ok(response)
    }

    fn path(&self, r: &TxnRequest) -> Path {
        let succeeded = r.compare.iter().all(|c| self.compare(c));
        let nested = |op: &RequestOp| match &op.request {
            Some(Request::RequestTxn(r)) => Some(self.path(r)),
            _ => None,
        };
        Path {
            succeeded,
            nested: branch(r, succeeded).iter().map(nested).collect(),
        }
    }

    fn compare(&self, c: &Compare) -> bool {
        let mut counts = self.counts.borrow_mut();
        counts.compares += 1;
        let found = in_range(self.newest(), &c.key, &c.range_end);
        let holds = if found.is_empty() {
            // 3 is VALUE.
            c.target != 3 && holds(c, &KeyValue::default())
        } else {
            found.into_iter().all(|kv| holds(c, kv))
        };
        counts.compares_true += u64::from(holds);
        holds
    }

    /// Everything on the taken path is looked at in its order, before anything is done.
    fn check(&self, r: &TxnRequest, path: &Path) -> Result<(), Error> {
        for (op, nested) in branch(r, path.succeeded).iter().zip(&path.nested) {
            match op.request.as_ref().unwrap() {
                Request::RequestPut(r) => self.check_put(r)?,
                Request::RequestRange(r) if r.revision > self.rev() => {
                    return Err(Error::FutureRev);
                }
                // In a transaction a negative revision is one below the compacted one, which is -1
                // at first. Source: etcd `server/etcdserver/txn/range.go`, `checkRange`.
                Request::RequestRange(r) if r.revision != 0 && r.revision < self.compacted => {
                    return Err(Error::Compacted);
                }
                Request::RequestRange(_) | Request::RequestDeleteRange(_) => {}
                Request::RequestTxn(r) => self.check(r, nested.as_ref().unwrap())?,
            }
        }
        Ok(())
    }

    fn check_put(&self, r: &PutRequest) -> Result<(), Error> {
        if r.lease != 0 && !self.leases.contains(&r.lease) {
            return Err(Error::LeaseNotFound);
        }
        if (r.ignore_value || r.ignore_lease) && !self.newest().contains_key(&r.key[..]) {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }

    fn run(&self, open: &mut Open, r: &TxnRequest, path: &Path) -> TxnResponse {
        let mut responses = Vec::new();
        for (op, nested) in branch(r, path.succeeded).iter().zip(&path.nested) {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestRange(r) => Response::ResponseRange(self.run_range(open, r)),
                Request::RequestPut(r) => Response::ResponsePut(self.run_put(open, r)),
                Request::RequestDeleteRange(r) => {
                    Response::ResponseDeleteRange(self.run_delete(open, r))
                }
                Request::RequestTxn(r) => {
                    self.counts.borrow_mut().nested += 1;
                    Response::ResponseTxn(self.run(open, r, nested.as_ref().unwrap()))
                }
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        TxnResponse {
            // Of a nested one empty, as etcd leaves it.
            header: header(0),
            succeeded: path.succeeded,
            responses,
        }
    }

    fn run_put(&self, open: &mut Open, r: &PutRequest) -> PutResponse {
        self.counts.borrow_mut().puts += 1;
        open.changed = true;
        let revision = self.current(open);
        let previous = open.map.get(&r.key[..]).cloned();
        let mut kv = KeyValue {
            key: r.key.clone(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            value: r.value.clone(),
            lease: r.lease,
        };
        if let Some(old) = &previous {
            kv.create_revision = old.create_revision;
            kv.version = old.version + 1;
            if r.ignore_value {
                kv.value = old.value.clone();
            }
            if r.ignore_lease {
                kv.lease = old.lease;
            }
        }
        open.map.insert(r.key.to_vec(), kv);
        PutResponse {
            header: header(revision),
            prev_kv: if r.prev_kv { previous } else { None },
        }
    }

    fn run_delete(&self, open: &mut Open, r: &DeleteRangeRequest) -> DeleteRangeResponse {
        self.counts.borrow_mut().deletes += 1;
        let deleted: Vec<KeyValue> = in_range(&open.map, &r.key, &r.range_end)
            .into_iter()
            .cloned()
            .collect();
        for kv in &deleted {
            open.map.remove(&kv.key[..]);
            open.changed = true;
        }
        DeleteRangeResponse {
            header: header(self.current(open)),
            deleted: deleted.len() as i64,
            prev_kvs: if r.prev_kv { deleted } else { Vec::new() },
        }
    }

    /// A range whose revision was found to be readable.
    fn run_range(&self, open: &Open, r: &RangeRequest) -> RangeResponse {
        self.counts.borrow_mut().ranges += 1;
        let map = if r.revision <= 0 {
            &open.map
        } else {
            &*self.history[r.revision as usize]
        };
        let mut kvs: Vec<KeyValue> = in_range(map, &r.key, &r.range_end)
            .into_iter()
            .cloned()
            .collect();
        let mut response = RangeResponse {
            header: header(self.current(open)),
            count: kvs.len() as i64,
            ..RangeResponse::default()
        };
        if r.count_only {
            return response;
        }
        let (none, ascend, descend) = (r.sort_order == 0, r.sort_order == 1, r.sort_order == 2);
        let by_key = r.sort_target == 0;
        let by_value = r.sort_target == 4;

        let filtered = [
            r.max_mod_revision,
            r.min_mod_revision,
            r.max_create_revision,
            r.min_create_revision,
        ] != [0; 4];
        if (none || ascend && by_key) && !filtered && r.limit > 0 {
            kvs.truncate((r.limit as usize).saturating_add(1));
        }
        kvs.retain(|kv| r.max_mod_revision == 0 || kv.mod_revision <= r.max_mod_revision);
        kvs.retain(|kv| r.min_mod_revision == 0 || kv.mod_revision >= r.min_mod_revision);
        kvs.retain(|kv| r.max_create_revision == 0 || kv.create_revision <= r.max_create_revision);
        kvs.retain(|kv| r.min_create_revision == 0 || kv.create_revision >= r.min_create_revision);

        // How etcd orders equal elements follows from Go's sort alone; here they keep the order of
        // their keys, in both directions.
        let order = |a: &KeyValue, b: &KeyValue| match r.sort_target {
            0 => a.key.cmp(&b.key),
            1 => a.version.cmp(&b.version),
            2 => a.create_revision.cmp(&b.create_revision),
            3 => a.mod_revision.cmp(&b.mod_revision),
            4 => a.value.cmp(&b.value),
            other => panic!("sort target {other}"),
        };
        if descend {
            kvs.sort_by(|a, b| order(b, a));
        } else {
            kvs.sort_by(order);
        }
        if r.limit > 0 && kvs.len() as i64 > r.limit {
            kvs.truncate(r.limit as usize);
            response.more = true;
            self.counts.borrow_mut().cut += 1;
        }
        if r.keys_only {
            for kv in &mut kvs {
                kv.value.clear();
                if !by_value {
                    kv.lease = 0;
                }
            }
        }
        response.kvs = kvs;
        response
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

fn branch(r: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &r.success } else { &r.failure }
}

fn in_range<'a>(map: &'a Map, key: &[u8], end: &[u8]) -> Vec<&'a KeyValue> {
    let within = |k: &[u8]| match end {
        b"" => k == key,
        b"\0" => k >= key,
        _ => k >= key && k < end,
    };
    map.values().filter(|kv| within(&kv.key)).collect()
}

/// One comparison with one key-value; one of a missing key is all zero.
fn holds(c: &Compare, kv: &KeyValue) -> bool {
    use TargetUnion::{CreateRevision, Lease, ModRevision, Value, Version};
    let union = c.target_union.as_ref();
    let ordering = match c.target {
        0 => kv.version.cmp(&match union {
            Some(Version(v)) => *v,
            _ => 0,
        }),
        1 => kv.create_revision.cmp(&match union {
            Some(CreateRevision(v)) => *v,
            _ => 0,
        }),
        2 => kv.mod_revision.cmp(&match union {
            Some(ModRevision(v)) => *v,
            _ => 0,
        }),
        3 => kv.value[..].cmp(match union {
            Some(Value(v)) => &v[..],
            _ => b"",
        }),
        4 => kv.lease.cmp(&match union {
            Some(Lease(v)) => *v,
            _ => 0,
        }),
        // etcd compares nothing then, and finds it equal.
        _ => Ordering::Equal,
    };
    match c.result {
        0 => ordering == Ordering::Equal,
        1 => ordering == Ordering::Greater,
        2 => ordering == Ordering::Less,
        3 => ordering != Ordering::Equal,
        _ => true,
    }
}
