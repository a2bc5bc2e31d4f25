//! Load from several clients at once, and what must be in the store after it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use retcd_proto::etcdserverpb::request_op::Request;
use retcd_tests::nodes::{Caller, Failure};
use retcd_tests::random::Random;
use tokio::task::JoinSet;

/// Clients; each has keys that nobody else writes.
const CLIENTS: u64 = 6;

/// Keys of a client. One whose last change had no answer is given up: the change may come at any later time.
const KEYS: u64 = 12;

/// How long a client waits for an answer: a server takes up to seven seconds to say that it does not know either.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a key may hold: one state if everything was answered.
type States = Vec<Option<Bytes>>;

/// What must be in the store.
#[derive(Debug)]
pub(crate) struct Model {
    clients: Vec<Client>,
    pub(crate) acknowledged: u64,
    pub(crate) unknown: u64,
    /// The highest revision that anybody was told.
    pub(crate) revision: i64,
}

#[derive(Debug)]
struct Client {
    number: u64,
    random: Random,
    caller: Caller,
    keys: BTreeMap<Bytes, States>,
    /// How often each of its places was given up.
    generations: Vec<u64>,
    leases: Vec<(i64, Vec<Bytes>)>,
    no_leases_at: Vec<SocketAddr>,
    acknowledged: u64,
    unknown: u64,
    revision: i64,
    /// What it did, for whoever reads a failure.
    story: Vec<(Bytes, String)>,
}

impl Model {
    pub(crate) fn new(random: &mut Random) -> Self {
        let clients = (0..CLIENTS).map(|number| Client {
            number,
            random: Random::new(random.next()),
            caller: Caller::default(),
            keys: BTreeMap::new(),
            generations: vec![0; usize::try_from(KEYS).expect("small")],
            leases: Vec::new(),
            no_leases_at: Vec::new(),
            acknowledged: 0,
            unknown: 0,
            revision: 0,
            story: Vec::new(),
        });
        Self { clients: clients.collect(), acknowledged: 0, unknown: 0, revision: 0 }
    }

    /// Lets all clients do something, each the same number of operations, at these members.
    pub(crate) fn burst(&mut self, members: &[SocketAddr], each: u64) -> Burst {
        let mut set = JoinSet::new();
        for mut client in std::mem::take(&mut self.clients) {
            let members = members.to_vec();
            set.spawn(async move {
                for _ in 0..each {
                    client.act(&members).await;
                }
                client
            });
        }
        Burst(set)
    }

    /// Takes over what a burst did, once it has ended.
    pub(crate) async fn take(&mut self, burst: Burst) {
        self.clients = burst.0.join_all().await;
        self.clients.sort_by_key(|c| c.number);
        self.acknowledged = self.clients.iter().map(|c| c.acknowledged).sum();
        self.unknown = self.clients.iter().map(|c| c.unknown).sum();
        self.revision = self.clients.iter().map(|c| c.revision).max().unwrap_or(0);
    }

    /// Compares with all keys of a store.
    pub(crate) fn check(&self, found: &BTreeMap<Bytes, Bytes>) -> Result<(), String> {
        let mut expected = BTreeMap::new();
        for client in &self.clients {
            expected.extend(client.keys.iter());
        }
        for (key, states) in &expected {
            let is = found.get(*key);
            if !states.iter().any(|s| s.as_ref() == is) {
                return Err(format!("{key:?} is {is:?}, must be one of {states:?}"));
            }
        }
        match found.keys().find(|key| !expected.contains_key(*key)) {
            Some(key) => Err(format!("nobody put {key:?}")),
            None => Ok(()),
        }
    }
}

/// Load that goes on.
pub(crate) struct Burst(JoinSet<Client>);

impl Client {
    fn key(&mut self) -> (usize, Bytes) {
        let place = usize::try_from(self.random.within(0, KEYS)).expect("small");
        (place, format!("key/{}/{place}/{}", self.number, self.generations[place]).into())
    }

    fn value(&mut self) -> Bytes {
        let length = if self.random.one_in(20) { 5_000 } else { self.random.within(1, 200) };
        let mut value = format!("{:x}-", self.random.next());
        value.extend(std::iter::repeat_n('v', usize::try_from(length).expect("small")));
        value.into()
    }

    async fn act(&mut self, members: &[SocketAddr]) {
        let n = usize::try_from(self.random.next() % members.len() as u64).expect("small");
        let at = members[n];
        match self.random.within(0, 12) {
            0 => self.delete(at).await,
            1..=3 => self.transaction(at).await,
            4 if !self.no_leases_at.contains(&at) => self.lease(at).await,
            _ => self.put(at, 0).await,
        }
    }

    async fn put(&mut self, at: SocketAddr, lease: i64) {
        let ((place, key), value) = (self.key(), self.value());
        let request = pb::PutRequest { key: key.clone(), value: value.clone(), lease, ..Default::default() };
        let said = self.caller.call::<pb::PutResponse>(at, "KV/Put", &request, PATIENCE).await;
        self.note(at, &[(place, key, Some(value))], said.map(|r| r.header));
    }

    async fn delete(&mut self, at: SocketAddr) {
        let (place, key) = self.key();
        let request = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
        let said = self.caller.call::<pb::DeleteRangeResponse>(at, "KV/DeleteRange", &request, PATIENCE).await;
        self.note(at, &[(place, key, None)], said.map(|r| r.header));
    }

    /// Two keys at once, if the first is what it must be; it is, so the other branch is never taken.
    async fn transaction(&mut self, at: SocketAddr) {
        let ((a, key_a), (b, key_b)) = (self.key(), self.key());
        if a == b {
            return;
        }
        let (value_a, value_b) = (self.value(), self.value());
        let state = self.keys.get(&key_a).and_then(|s| s[0].clone());
        let compare = pb::Compare {
            result: CompareResult::Equal.into(),
            target: if state.is_some() { CompareTarget::Value } else { CompareTarget::Create }.into(),
            key: key_a.clone(),
            target_union: Some(state.map_or(TargetUnion::CreateRevision(0), TargetUnion::Value)),
            ..Default::default()
        };
        let put = |key: &Bytes, value: &Bytes| pb::RequestOp {
            request: Some(Request::RequestPut(pb::PutRequest {
                key: key.clone(),
                value: value.clone(),
                ..Default::default()
            })),
        };
        let wrong = Bytes::from_static(b"the comparison failed");
        let request = pb::TxnRequest {
            compare: vec![compare],
            success: vec![put(&key_a, &value_a), put(&key_b, &value_b)],
            failure: vec![put(&key_a, &wrong)],
        };
        let said = self.caller.call::<pb::TxnResponse>(at, "KV/Txn", &request, PATIENCE).await;
        if let Ok(reply) = &said {
            let must = self.keys.get(&key_a);
            let get = pb::RangeRequest { key: key_a.clone(), ..Default::default() };
            let is = if reply.succeeded { None } else { self.caller.call(at, "KV/Range", &get, PATIENCE).await.ok() };
            let is: Option<pb::RangeResponse> = is;
            let story: Vec<_> = self.story.iter().filter(|(k, _)| *k == key_a).map(|(_, what)| what).collect();
            assert!(
                reply.succeeded,
                "{at}: {key_a:?} was not what it must be: {must:?}, at {:?}; is {is:?}; {story:#?}",
                reply.header
            );
        }
        self.note(at, &[(a, key_a, Some(value_a)), (b, key_b, Some(value_b))], said.map(|r| r.header));
    }

    /// Grants, attaches keys that are used for nothing else, or revokes.
    async fn lease(&mut self, at: SocketAddr) {
        if self.leases.len() > 2 {
            let (id, keys) = self.leases.remove(0);
            let request = pb::LeaseRevokeRequest { id };
            let said = self.caller.call::<pb::LeaseRevokeResponse>(at, "Lease/LeaseRevoke", &request, PATIENCE).await;
            let gone = match &said {
                Ok(_) => true,
                Err(why) if why.unimplemented() => {
                    self.no_leases_at.push(at);
                    false
                }
                Err(why) if why.without_effect() => false,
                Err(_) => {
                    self.unknown += 1;
                    keys.iter().for_each(|k| self.keys.get_mut(k).expect("its own").push(None));
                    return;
                }
            };
            if gone {
                self.acknowledged += 1;
                keys.into_iter().for_each(|k| drop(self.keys.insert(k, vec![None])));
            } else {
                self.leases.push((id, keys));
            }
            return;
        }
        let id = i64::try_from(self.random.next() >> 2).expect("62 bits");
        let request = pb::LeaseGrantRequest { ttl: 3_600, id };
        match self.caller.call::<pb::LeaseGrantResponse>(at, "Lease/LeaseGrant", &request, PATIENCE).await {
            Ok(_) => {}
            Err(why) => {
                if why.unimplemented() {
                    self.no_leases_at.push(at);
                }
                return;
            }
        }
        let mut keys = Vec::new();
        for n in 0..self.random.within(1, 4) {
            let (key, value) = (Bytes::from(format!("key/{}/lease/{id:x}/{n}", self.number)), self.value());
            let request = pb::PutRequest { key: key.clone(), value: value.clone(), lease: id, ..Default::default() };
            let said = self.caller.call::<pb::PutResponse>(at, "KV/Put", &request, PATIENCE).await;
            let states = match &said {
                Ok(_) => vec![Some(value)],
                Err(why) if why.without_effect() => vec![None],
                Err(_) => vec![None, Some(value)],
            };
            let open = states.len() > 1;
            self.keys.insert(key.clone(), states);
            if open {
                // The put may come after a revocation, and then be refused, or before: leave this lease alone.
                self.unknown += 1;
                return;
            }
            keys.push(key);
        }
        self.leases.push((id, keys));
    }

    fn note(
        &mut self,
        at: SocketAddr,
        changes: &[(usize, Bytes, Option<Bytes>)],
        said: Result<Option<pb::ResponseHeader>, Failure>,
    ) {
        for (_, key, value) in changes {
            let value = value.as_ref().map(|v| String::from_utf8_lossy(&v[..v.len().min(12)]).into_owned());
            self.story.push((key.clone(), format!("{value:?} at {at}: {said:?}")));
        }
        match said {
            Ok(header) => {
                self.acknowledged += 1;
                self.revision = self.revision.max(header.unwrap_or_default().revision);
                for (_, key, value) in changes {
                    self.keys.insert(key.clone(), vec![value.clone()]);
                }
            }
            Err(why) if why.without_effect() => {}
            Err(_) => {
                self.unknown += 1;
                for (place, key, value) in changes {
                    self.keys.entry(key.clone()).or_insert_with(|| vec![None]).push(value.clone());
                    self.generations[*place] += 1;
                }
            }
        }
    }
}

/// All keys of a member, by a linearizable read.
pub(crate) async fn read(caller: &mut Caller, at: SocketAddr) -> Result<BTreeMap<Bytes, Bytes>, Failure> {
    let request = pb::RangeRequest { key: "key/".into(), range_end: "key0".into(), ..Default::default() };
    let reply: pb::RangeResponse = caller.call(at, "KV/Range", &request, PATIENCE).await?;
    Ok(reply.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect())
}

#[test]
fn the_model_bites() {
    let mut model = Model::new(&mut Random::new(1));
    let (key, other) = (Bytes::from_static(b"key/0/1/0"), Bytes::from_static(b"key/0/2/0"));
    let header = || Ok(Some(pb::ResponseHeader::default()));
    let client = &mut model.clients[0];
    let at = ([127, 0, 0, 1], 1).into();
    client.note(at, &[(1, key.clone(), Some("a".into()))], header());
    client.note(at, &[(2, other.clone(), Some("b".into()))], Err(Failure::Unknown("lost".into())));
    assert_eq!(client.generations[1..3], [0, 1]);
    let store = |pairs: &[(&Bytes, &'static str)]| {
        pairs.iter().map(|(k, v)| ((*k).clone(), Bytes::from_static(v.as_bytes()))).collect::<BTreeMap<_, _>>()
    };
    let alien = Bytes::from_static(b"key/9");
    assert_eq!(model.check(&store(&[(&key, "a")])), Ok(()));
    assert_eq!(model.check(&store(&[(&key, "a"), (&other, "b")])), Ok(()));
    let wrong = [vec![], vec![(&key, "b")], vec![(&key, "a"), (&other, "c")], vec![(&key, "a"), (&alien, "a")]];
    for pairs in wrong {
        assert!(model.check(&store(&pairs)).is_err(), "{pairs:?}");
    }
}
