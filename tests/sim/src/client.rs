//! Clients: what they ask of whom, and what they are told.

use bytes::Bytes;
use prost::Message as _;
use retcd::simulation::{Answer, Read};
use retcd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use retcd_proto::etcdserverpb::request_op::Request as Op;
use retcd_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, RequestHeader, RequestOp, TxnRequest,
};
use retcd_proto::raftpb;
use retcd_raft_node::core::Role;

use crate::history::{Call, Outcome, Request};
use crate::mutant::Mutant;
use crate::plan::{MS, SECOND};
use crate::world::{Event, World};

/// Keys that clients share.
const KEYS: u64 = 4;
/// How long a client waits for an answer.
const PATIENCE: u64 = 3 * SECOND;

/// A client, which does one thing at a time.
#[derive(Debug, Default, Clone)]
pub(crate) struct Client {
    /// The call under way: its number, its request's, and whom it asked.
    call: Option<(usize, u64, u64)>,
    /// What it last saw of each key.
    seen: [i64; KEYS as usize],
}

fn name(key: u8) -> Bytes {
    Bytes::from(format!("key/{key}"))
}

fn encode(id: u64, mut request: InternalRaftRequest) -> Bytes {
    request.header = Some(RequestHeader { id, ..RequestHeader::default() });
    request.encode_to_vec().into()
}

fn put(key: Bytes, value: String, lease: i64) -> PutRequest {
    PutRequest { key, value: value.into(), lease, ..PutRequest::default() }
}

/// A write that is in nobody's way.
pub(crate) fn marker(id: u64) -> Bytes {
    let put = Some(put(Bytes::from_static(b"marker"), id.to_string(), 0));
    encode(id, InternalRaftRequest { put, ..InternalRaftRequest::default() })
}

fn entry_of(request: &Request, id: u64) -> Option<Bytes> {
    let mut r = InternalRaftRequest::default();
    match request {
        Request::Put { key, value } => r.put = Some(put(name(*key), value.to_string(), 0)),
        Request::Delete { key } => {
            r.delete_range = Some(DeleteRangeRequest { key: name(*key), ..DeleteRangeRequest::default() });
        }
        Request::Cas { key, expect, value } => {
            let compare = Compare {
                result: CompareResult::Equal as i32,
                target: CompareTarget::Mod as i32,
                key: name(*key),
                target_union: Some(TargetUnion::ModRevision(*expect)),
                ..Compare::default()
            };
            r.txn = Some(TxnRequest {
                compare: vec![compare],
                success: vec![RequestOp { request: Some(Op::RequestPut(put(name(*key), value.to_string(), 0))) }],
                failure: Vec::new(),
            });
        }
        Request::Get { .. } => return None,
    }
    Some(encode(id, r))
}

impl World {
    /// A client begins its next call.
    pub(crate) fn call(&mut self, client: usize) {
        let wait = self.around(self.plan.pause);
        if self.now + 3 * SECOND > self.plan.end || self.clients[client].call.is_some() {
            return;
        }
        let up: Vec<u64> = self
            .members
            .iter()
            .filter(|(id, m)| m.running.is_some() && !self.gone.contains(id))
            .map(|(id, _)| *id)
            .collect();
        let Some(to) = self.random.pick(&up).copied() else {
            return self.after(wait, Event::Client(client));
        };
        let id = self.next_request();
        if self.random.chance(60) {
            self.other(to, id);
            return self.after(wait, Event::Client(client));
        }
        let request = self.invent(client);
        self.stamp += 1;
        let call = self.calls.len();
        let begun = Call { begin: self.stamp, end: None, request: request.clone(), outcome: Outcome::Unknown };
        let taken = match entry_of(&request, id) {
            Some(data) => self.write(client, to, id, data),
            None => self.read(client, to, id),
        };
        if !taken {
            // A refusal is certain: nothing happened.
            return self.after(wait, Event::Client(client));
        }
        self.calls.push(begun);
        self.call_of.insert(id, call);
        self.clients[client].call = Some((call, id, to));
        self.after(PATIENCE, Event::Timeout(client, call));
        self.pump(to);
        self.answer_at_once(to, id, &request);
    }

    fn invent(&mut self, client: usize) -> Request {
        let key = self.random.below(KEYS) as u8;
        self.values += 1;
        let value = self.values;
        match self.random.below(100) {
            0..35 => Request::Put { key, value },
            35..50 => Request::Cas { key, expect: self.clients[client].seen[usize::from(key)], value },
            50..57 => Request::Delete { key },
            _ => Request::Get { key },
        }
    }

    /// Something that is not in the history, but in the state.
    fn other(&mut self, to: u64, id: u64) {
        let mut r = InternalRaftRequest::default();
        let lease = 1 + self.random.below(3) as i64;
        let key = Bytes::from(format!("lease/{}", self.random.below(5)));
        match self.random.below(5) {
            0 => {
                r.lease_grant = Some(LeaseGrantRequest { id: lease, ttl: 60 });
            }
            1 => r.lease_revoke = Some(LeaseRevokeRequest { id: lease }),
            2 | 3 => r.put = Some(put(key, id.to_string(), lease)),
            _ => {
                let back = self.random.below(40) as i64;
                let Some(running) = self.members.get(&to).and_then(|m| m.running.as_ref()) else {
                    return;
                };
                let revision = running.state.read(b"marker").map_or(0, |r| r.revision);
                r.compaction = Some(CompactionRequest { revision: revision - back, physical: false });
            }
        }
        let data = encode(id, r);
        self.with_core(to, |core| core.propose(&[data]).is_ok());
    }

    fn write(&mut self, client: usize, to: u64, id: u64, data: Bytes) -> bool {
        let Some(running) = self.members.get_mut(&to).and_then(|m| m.running.as_mut()) else {
            return false;
        };
        let core = running.machine.core_mut();
        if core.is_congested() || core.propose(&[data]).is_err() {
            return false;
        }
        running.writers.insert(id, client);
        true
    }

    fn read(&mut self, client: usize, to: u64, id: u64) -> bool {
        let Some(running) = self.members.get_mut(&to).and_then(|m| m.running.as_mut()) else {
            return false;
        };
        running.readers.insert(id, client);
        running.machine.core_mut().read_index(id)
    }

    /// Planted faults that answer too early.
    fn answer_at_once(&mut self, to: u64, id: u64, request: &Request) {
        let Some(running) = self.members.get(&to).and_then(|m| m.running.as_ref()) else {
            return;
        };
        let leads = running.machine.core().soft_state().role == Role::Leader;
        let is_read = matches!(request, Request::Get { .. });
        let early = match self.mutant {
            Some(Mutant::AnswerAtProposal) if !is_read => return self.answer_early(to, id),
            Some(Mutant::ReadLocally) => is_read,
            Some(Mutant::ReadWithoutQuorum) => is_read && leads,
            _ => false,
        };
        if early {
            self.serve_read(to, id);
        }
        if is_read && let Some(running) = self.members.get(&to).and_then(|m| m.running.as_ref()) {
            let committed = running.machine.core().committed();
            match (self.mutant, running.read_index) {
                (Some(Mutant::OldReadIndex), Some(index)) => self.confirm(to, id, index),
                (Some(Mutant::ReadAtElection), _) if leads => self.confirm(to, id, committed),
                _ => {}
            }
        }
    }

    /// An answer that claims what the next revision would be.
    pub(crate) fn answer_early(&mut self, to: u64, id: u64) {
        let Some(running) = self.members.get(&to).and_then(|m| m.running.as_ref()) else {
            return;
        };
        if !running.writers.contains_key(&id) {
            return;
        }
        let revision = running.state.read(b"marker").map_or(0, |r| r.revision);
        let answer = Answer { id, result: Ok(revision + 1), succeeded: true, deleted: 1 };
        self.answered(to, &answer);
    }

    /// A write was applied at the member that somebody waits at.
    pub(crate) fn answered(&mut self, id: u64, answer: &Answer) {
        let Some(running) = self.members.get_mut(&id).and_then(|m| m.running.as_mut()) else {
            return;
        };
        let Some(client) = running.writers.remove(&answer.id) else {
            return;
        };
        let Some((call, request, _)) = self.clients[client].call else {
            return;
        };
        if request != answer.id {
            return;
        }
        if answer.result.is_err() {
            return self.wrong(format!("a write was refused: {answer:?}"));
        }
        let outcome = outcome_of(&self.calls[call].request, answer);
        self.end(client, outcome);
    }

    /// Raft says from which index on a read may be served.
    pub(crate) fn read_index(&mut self, id: u64, request: u64, index: u64) {
        let Some(running) = self.members.get_mut(&id).and_then(|m| m.running.as_mut()) else {
            return;
        };
        running.read_index = Some(running.read_index.unwrap_or(index));
        self.confirm(id, request, index);
    }

    fn confirm(&mut self, id: u64, request: u64, index: u64) {
        let at_once = self.mutant == Some(Mutant::ReadBeforeApplied);
        let Some(running) = self.members.get_mut(&id).and_then(|m| m.running.as_mut()) else {
            return;
        };
        if running.state.applied().0 >= index || at_once {
            self.serve_read(id, request);
        } else {
            running.confirmed.push((index, request));
        }
    }

    pub(crate) fn serve_read(&mut self, id: u64, request: u64) {
        let Some(running) = self.members.get_mut(&id).and_then(|m| m.running.as_mut()) else {
            return;
        };
        let Some(client) = running.readers.remove(&request) else {
            return;
        };
        let Some((call, asked, _)) = self.clients[client].call else {
            return;
        };
        let Request::Get { key } = self.calls[call].request else {
            return;
        };
        if asked != request {
            return;
        }
        let read = running.state.read(&name(key));
        match read.and_then(seen) {
            Ok(outcome) => self.end(client, outcome),
            Err(e) => self.wrong(format!("member {id:x}: {e}")),
        }
    }

    fn end(&mut self, client: usize, outcome: Outcome) {
        let Some((call, _, _)) = self.clients[client].call.take() else {
            return;
        };
        self.stamp += 1;
        let key = match self.calls[call].request {
            Request::Put { key, .. } | Request::Cas { key, .. } | Request::Delete { key } | Request::Get { key } => {
                usize::from(key)
            }
        };
        self.clients[client].seen[key] = match (&self.calls[call].request, &outcome) {
            (Request::Delete { .. }, _) | (_, Outcome::Value(_, None)) => 0,
            (_, Outcome::Value(_, Some((modified, _)))) => *modified,
            (_, Outcome::Done(revision)) => *revision,
            _ => self.clients[client].seen[key],
        };
        self.calls[call].end = Some(self.stamp);
        self.calls[call].outcome = outcome;
        let wait = self.around(self.plan.pause);
        self.after(wait, Event::Client(client));
    }

    /// The client's patience ends.
    pub(crate) fn give_up(&mut self, client: usize, call: usize) {
        let Some((current, request, to)) = self.clients[client].call else {
            return;
        };
        if current != call {
            return;
        }
        if let Some(running) = self.members.get_mut(&to).and_then(|m| m.running.as_mut()) {
            running.writers.remove(&request);
            running.readers.remove(&request);
        }
        self.lost(client);
    }

    /// Nobody will answer the client's call.
    pub(crate) fn lost(&mut self, client: usize) {
        self.clients[client].call = None;
        let wait = 100 * MS + self.around(self.plan.pause);
        self.after(wait, Event::Client(client));
    }

    /// In the end everybody reads everything everywhere.
    pub(crate) fn final_reads(&mut self) -> Result<(), String> {
        for key in 0..KEYS as u8 {
            let running =
                self.members.iter().filter(|(id, _)| !self.gone.contains(id)).filter_map(|(_, m)| m.running.as_ref());
            for running in running {
                let outcome = running.state.read(&name(key)).and_then(seen)?;
                self.calls.push(Call {
                    begin: self.stamp + 1,
                    end: Some(self.stamp + 2),
                    request: Request::Get { key },
                    outcome,
                });
                self.stamp += 2;
            }
        }
        Ok(())
    }

    /// Planted faults in what is applied.
    pub(crate) fn spoil(&mut self, id: u64, entries: &mut [raftpb::Entry]) {
        let now = self.now;
        let normal = |e: &raftpb::Entry| e.r#type.unwrap_or(0) == 0 && e.data.is_some();
        match self.mutant {
            Some(Mutant::EntrySkipped) if self.random.chance(20) => {
                for entry in entries.iter_mut().filter(|e| normal(e)).take(1) {
                    entry.data = None;
                }
            }
            Some(Mutant::EntriesSwapped) if id % 2 == 0 => {
                for at in 1..entries.len() {
                    if normal(&entries[at - 1]) && normal(&entries[at]) {
                        let (a, b) = (entries[at - 1].data.take(), entries[at].data.take());
                        (entries[at - 1].data, entries[at].data) = (b, a);
                        break;
                    }
                }
            }
            Some(Mutant::ClockInApply) => {
                for entry in entries.iter_mut().filter(|e| normal(e)) {
                    let data = entry.data.clone().unwrap_or_default();
                    if let Ok(mut r) = InternalRaftRequest::decode(data)
                        && let Some(put) = &mut r.put
                        && put.lease != 0
                    {
                        put.value = (now / SECOND).to_string().into();
                        entry.data = Some(r.encode_to_vec().into());
                    }
                }
            }
            _ => {}
        }
    }
}

/// What a write did.
pub(crate) fn outcome_of(request: &Request, answer: &Answer) -> Outcome {
    let happened = match request {
        Request::Cas { .. } => answer.succeeded,
        Request::Delete { .. } => answer.deleted > 0,
        _ => true,
    };
    match answer.result {
        Ok(revision) if happened => Outcome::Done(revision),
        Ok(revision) => Outcome::Nothing(revision),
        Err(_) => Outcome::Unknown,
    }
}

fn seen(read: Read) -> Result<Outcome, String> {
    let value = match read.value {
        None => None,
        Some((modified, bytes)) => {
            let text = std::str::from_utf8(&bytes).map_err(|e| e.to_string())?;
            Some((modified, text.parse().map_err(|_| "a value that nobody wrote")?))
        }
    };
    Ok(Outcome::Value(read.revision, value))
}
