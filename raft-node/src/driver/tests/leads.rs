//! A leader with peers, whose disk and whose peers' answers the test controls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use retcd_proto::raftpb;
use retcd_storage::fs::SimFs;

use super::rig::{config, wait_for};
use super::stall::{Gate, GatedFs, OpenAtEnd};
use crate::membership::Member;
use crate::{Apply, Replication, Role, Start, Transport, open};

/// Remembers what was sent.
#[derive(Default)]
struct Sent(Mutex<Vec<raftpb::Message>>);

impl Transport for Sent {
    fn send(&self, messages: Vec<raftpb::Message>) {
        self.0.lock().extend(messages);
    }
}

fn message(kind: i32, from: u64, term: u64) -> raftpb::Message {
    raftpb::Message {
        r#type: Some(kind),
        to: Some(1),
        from: Some(from),
        term: Some(term),
        ..raftpb::Message::default()
    }
}

/// The leader's appends leave while it writes itself (raft thesis, 10.2.1); with a quorum of others
/// the entry is committed; but nothing is applied here before it is durable here (D2). Proposals
/// wait while leadership is handed over.
#[test]
fn a_leader_sends_while_it_syncs() {
    let gate = Arc::new(Gate::default());
    let fs = Arc::new(GatedFs(SimFs::new(), gate.clone()));
    let (mut config, _ears) = config(fs, "/m".as_ref());
    config.tick = Duration::from_millis(20);
    let members = (1..=3).map(|id| Member {
        id,
        peer_urls: vec![format!("http://127.0.0.1:{id}")],
        ..Member::default()
    });
    let start = Start::New {
        cluster_id: 7,
        member_id: 1,
        members: members.collect(),
    };
    let sent = Arc::new(Sent::default());
    let (apply, work) = crate::queue::bounded(64);
    let node = open(&config, start)
        .unwrap()
        .run(config, sent.clone(), apply, 0)
        .unwrap();
    let _open = OpenAtEnd(gate.clone());
    let handle = node.handle().clone();
    let apply_all = || {
        let mut texts = Vec::new();
        while let Ok(Apply::Entries(entries)) = work.try_recv() {
            for entry in entries {
                if entry.r#type() == raftpb::EntryType::EntryConfChange {
                    handle.apply_conf_change(None).unwrap();
                } else {
                    texts.push(entry.data.unwrap_or_default());
                }
                handle.set_applied(entry.index.unwrap());
            }
        }
        texts
    };
    // Others vote for it and acknowledge what it sends.
    let answer = || {
        for m in std::mem::take(&mut *sent.0.lock()) {
            let reply = match m.r#type() {
                raftpb::MessageType::MsgPreVote => message(18, m.to(), m.term()),
                raftpb::MessageType::MsgVote => message(6, m.to(), m.term()),
                raftpb::MessageType::MsgHeartbeat => message(9, m.to(), m.term()),
                raftpb::MessageType::MsgApp => raftpb::Message {
                    index: Some(m.index() + m.entries.len() as u64),
                    ..message(4, m.to(), m.term())
                },
                _ => continue,
            };
            handle.step(reply).unwrap();
        }
    };
    wait_for("leadership", || {
        answer();
        apply_all();
        let status = handle.status();
        status.role == Role::Leader && status.applied == status.last_index
    });
    wait_for("progress", || {
        answer();
        apply_all();
        let progress = handle.progress();
        let status = handle.status();
        // The role may be seen before the entry that begins the term.
        status.applied == status.last_index
            && progress.members.len() == 3
            && progress.members.iter().all(|m| {
                m.matched == handle.status().last_index
                    && m.replication == Replication::Replicate
                    && m.recently_active
            })
    });

    gate.set(true);
    let before = handle.status().committed;
    handle.propose(Bytes::from_static(b"x")).unwrap();
    wait_for("a sync that stalls", || {
        gate.stalled.load(Ordering::SeqCst) > 0
    });
    let mut seen = BTreeMap::new();
    wait_for("appends to both others", || {
        for m in sent.0.lock().iter() {
            if m.entries.iter().any(|e| e.data.as_deref() == Some(b"x")) {
                seen.insert(m.to(), ());
            }
        }
        seen.len() == 2
    });
    wait_for("a commit by the others alone", || {
        answer();
        handle.status().committed > before
    });
    assert_eq!(apply_all(), Vec::<Bytes>::new(), "not durable here");
    gate.set(false);
    wait_for("the entry", || {
        answer();
        apply_all() == [Bytes::from_static(b"x")]
    });

    handle.transfer_leader(3).unwrap();
    wait_for("the transfer", || {
        answer();
        handle.progress().transferee == 3
    });
    handle.propose(Bytes::from_static(b"y")).unwrap();
    wait_for("the end of the transfer, and the proposal", || {
        answer();
        apply_all() == [Bytes::from_static(b"y")]
    });
    assert_eq!(handle.progress().transferee, 0);
    node.stop();
}
