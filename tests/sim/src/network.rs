//! Messages between members, and what may become of them.

use std::sync::Arc;

use retcd_proto::raftpb::{self, MessageType as T};
use retcd_storage::clock::SystemClock;
use retcd_storage::snapshot;

use crate::member::{snap_dir, voters};
use crate::mutant::Mutant;
use crate::plan::MS;
use crate::world::{Event, World};

impl World {
    pub(crate) fn send(&mut self, from: u64, messages: Vec<raftpb::Message>) {
        for mut message in messages {
            let kind = message.r#type();
            match (self.mutant, kind) {
                (Some(Mutant::RefusalIsVote), T::MsgVoteResp) => message.reject = None,
                (Some(Mutant::AckTooFar), T::MsgAppResp) if message.reject != Some(true) => {
                    message.index = Some(message.index() + 1);
                }
                _ => {}
            }
            if kind == T::MsgSnap {
                self.send_database(from, message);
            } else {
                self.send_one(from, message);
            }
        }
    }

    fn send_one(&mut self, from: u64, message: raftpb::Message) {
        let to = message.to();
        let Some(target) = self.members.get(&to) else {
            return;
        };
        if target.running.is_none() {
            let sender = (from, self.members[&from].incarnation);
            if message.r#type() == T::MsgApp {
                self.after(MS, Event::Unreachable { sender, to });
            }
            return;
        }
        if self.is_lost(from, to) {
            return;
        }
        // A stream repeats nothing; but a proposal would become another entry.
        let twice = message.r#type() != T::MsgProp && self.random.chance(self.plan.duplicates);
        let wait = self.delay();
        if twice {
            let wait = wait + self.delay();
            self.after(wait, Event::Deliver(Box::new(message.clone())));
        }
        self.after(wait, Event::Deliver(Box::new(message)));
    }

    fn delay(&mut self) -> u64 {
        let (low, high) = self.plan.delay;
        let wait = self.random.between(low, high);
        // Now and then one is late.
        if self.random.chance(10) && !self.healed { wait * 10 } else { wait }
    }

    fn is_lost(&mut self, from: u64, to: u64) -> bool {
        self.cuts.contains_key(&(from, to)) || self.random.chance(self.plan.loss)
    }

    /// A snapshot message is replaced by one of this moment's state, which its database goes with.
    fn send_database(&mut self, from: u64, mut message: raftpb::Message) {
        let to = message.to();
        let Some(member) = self.members.get_mut(&from) else {
            return;
        };
        let sender = (from, member.incarnation);
        let Some(running) = &mut member.running else {
            return;
        };
        let bytes = match running.state.copy() {
            Ok(bytes) => Arc::new(bytes),
            Err(e) => return self.wrong(format!("member {from:x} cannot copy its database: {e}")),
        };
        let (mut index, term) = running.state.applied();
        let mut conf_state = match running.state.conf_state() {
            Some(conf_state) => conf_state.clone(),
            None => running.machine.core().conf_state(),
        };
        match self.mutant {
            Some(Mutant::SnapshotClaimsMore) => index += 1,
            Some(Mutant::SnapshotOldConfiguration) => {
                let mut ids: Vec<u64> = (1..=self.plan.members as u64).collect();
                ids.extend([to].iter().filter(|id| **id > self.plan.members as u64));
                conf_state = voters(ids.into_iter());
            }
            _ => {}
        }
        message.snapshot = Some(raftpb::Snapshot {
            data: Some(self.members[&from].running.as_ref().map_or_else(Vec::new, |r| r.state.document()).into()),
            metadata: Some(raftpb::SnapshotMetadata {
                conf_state: Some(conf_state),
                index: Some(index),
                term: Some(term),
            }),
        });
        let wait = 5 * MS + self.delay() * 3;
        let up = self.members.get(&to).is_some_and(|m| m.running.is_some());
        if !up || self.is_lost(from, to) {
            let sent = Event::SnapshotSent { sender, to, sent: false };
            return self.after(wait, sent);
        }
        let message = Box::new(message);
        self.after(wait, Event::Database { message, bytes, sender });
    }

    /// Whether the receiver's transport lets it in.
    fn is_welcome(&self, message: &raftpb::Message) -> bool {
        self.members
            .get(&message.to())
            .and_then(|m| m.running.as_ref())
            .is_some_and(|r| !r.state.cluster().is_removed(message.from()))
    }

    pub(crate) fn deliver(&mut self, message: Box<raftpb::Message>) {
        let to = message.to();
        if let Some(until) = self.paused(to) {
            return self.at(until, Event::Deliver(message));
        }
        if self.is_welcome(&message)
            && let Some(running) = self.members.get_mut(&to).and_then(|m| m.running.as_mut())
        {
            if message.r#type() == T::MsgApp && !running.machine.takes_entries() {
                self.summary.dropped += 1;
            }
            // What is refused changes nothing.
            let _ = running.machine.step(*message);
            self.pump(to);
        }
    }

    pub(crate) fn database(&mut self, message: Box<raftpb::Message>, bytes: Arc<Vec<u8>>, sender: (u64, u64)) {
        let to = message.to();
        if let Some(until) = self.paused(to) {
            let event = Event::Database { message, bytes, sender };
            return self.at(until, event);
        }
        let sent = self.is_welcome(&message);
        if sent {
            let meta = message.snapshot.as_ref().and_then(|s| s.metadata.as_ref());
            let index = meta.map_or(0, raftpb::SnapshotMetadata::index);
            if self.mutant == Some(Mutant::DatabaseAfterMessage) {
                let late = Event::LateDatabase { to, index, bytes };
                self.after(300 * MS, late);
            } else if self.mutant == Some(Mutant::SnapshotClaimsMore) {
                // The receiver checks the database against the index; this one says nothing.
                self.receive(to, index - 1, &bytes);
                let from = snap_dir().join(format!("{:016x}.snap.db", index - 1));
                let name = snap_dir().join(format!("{index:016x}.snap.db"));
                if let Some(member) = self.members.get(&to) {
                    let _ = retcd_storage::fs::durable_rename(&member.fs, &from, &name);
                }
            } else {
                self.receive(to, index, &bytes);
            }
            self.with_core(to, |core| core.step(*message).is_ok());
            self.endanger(to);
        }
        self.after(MS, Event::SnapshotSent { sender, to, sent });
    }

    pub(crate) fn receive(&mut self, to: u64, index: u64, bytes: &[u8]) {
        let Some(member) = self.members.get(&to).filter(|m| m.running.is_some()) else {
            return;
        };
        let fs = member.fs.clone();
        let len = Some(bytes.len() as u64);
        let mut body = bytes;
        // The clock only measures.
        let received = snapshot::receive(&fs, &SystemClock, &snap_dir(), index, len, 0, &mut body);
        if let Err(e) = received {
            self.wrong(format!("member {to:x} cannot receive a database: {e}"));
        }
    }
}
