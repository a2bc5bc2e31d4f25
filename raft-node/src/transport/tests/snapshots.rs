//! A message and a database.

use std::io::Write as _;
use std::net::TcpStream;

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::raftpb::{ConfState, Message, MessageType, Snapshot, SnapshotMetadata};

use super::rig::{Site, TIMEOUT, message, wait};
use crate::driver::Transport as _;

fn snapshot(from: u64, to: u64, index: u64) -> Message {
    Message {
        snapshot: Some(Snapshot {
            data: Some(Bytes::from_static(b"{\"Root\":{}}")),
            metadata: Some(SnapshotMetadata {
                conf_state: Some(ConfState {
                    voters: vec![from, to],
                    ..ConfState::default()
                }),
                index: Some(index),
                term: Some(2),
            }),
        }),
        ..message(from, to, MessageType::MsgSnap, 0)
    }
}

fn pair() -> (Site, Site) {
    acquainted(Site::start(0xa), Site::start(0xb))
}

fn acquainted(a: Site, b: Site) -> (Site, Site) {
    a.knows(&b);
    b.knows(&a);
    wait("both are active", || a.active(b.id) && b.active(a.id));
    (a, b)
}

#[test]
fn a_database_arrives_whole_and_before_its_message() {
    let (a, b) = pair();
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| (n / 7) as u8).collect();
    *a.seen.database.lock() = (bytes.len() as u64, bytes.clone(), None);
    a.peers.send(vec![snapshot(a.id, b.id, 77)]);
    wait("it is reported", || {
        *a.seen.snapshots.lock() == [(b.id, true)]
    });
    assert_eq!(*b.seen.received.lock(), [(77, Ok(bytes))]);
    assert_eq!(*b.seen.messages.lock(), [snapshot(a.id, b.id, 77)]);
}

#[test]
fn a_database_that_cannot_be_read_is_no_database() {
    let (a, b) = pair();
    let bytes = vec![1; 1_000_000];
    for broken in [
        (
            2_000_000,
            bytes.clone(),
            Some("page 7 is damaged".to_owned()),
        ),
        // Another length than it said.
        (2_000_000, bytes.clone(), None),
        (500_000, bytes, None),
    ] {
        *a.seen.database.lock() = broken;
        a.seen.snapshots.lock().clear();
        a.peers.send(vec![snapshot(a.id, b.id, 77)]);
        wait("it is reported", || {
            *a.seen.snapshots.lock() == [(b.id, false)]
        });
    }
    *a.seen.database.lock() = (2_000_000, vec![2; 2_000_000], None);
    wait("a whole one arrives", || {
        a.seen.snapshots.lock().clear();
        a.peers.send(vec![snapshot(a.id, b.id, 78)]);
        wait("it is reported", || !a.seen.snapshots.lock().is_empty());
        *a.seen.snapshots.lock() == [(b.id, true)]
    });
    // Where the receiver had begun with one of the others, it saw it break off.
    for (index, result) in &*b.seen.received.lock() {
        assert_eq!(result.is_ok(), *index == 78, "{index}");
    }
    assert_eq!(*b.seen.messages.lock(), [snapshot(a.id, b.id, 78)]);
    assert!(a.seen.unreachable() >= 3);
}

#[test]
fn a_receiver_without_room_says_so() {
    let (a, b) = pair();
    *a.seen.database.lock() = (40_000_000, vec![1; 40_000_000], None);
    *b.seen.disk_full.lock() = Some("no space left on device".to_owned());
    a.peers.send(vec![snapshot(a.id, b.id, 77)]);
    wait("it is reported", || {
        *a.seen.snapshots.lock() == [(b.id, false)]
    });
    assert_eq!(b.seen.count(), 0);
    // And again with room.
    *b.seen.disk_full.lock() = None;
    a.peers.send(vec![snapshot(a.id, b.id, 78)]);
    wait("it is reported", || a.seen.snapshots.lock().len() == 2);
    assert_eq!(a.seen.snapshots.lock()[1], (b.id, true));
    assert_eq!(b.seen.count(), 1);
}

#[test]
fn others_are_served_while_a_snapshot_is_on_its_way() {
    let (a, b) = pair();
    *a.seen.database.lock() = (60_000_000, vec![1; 60_000_000], None);
    a.peers
        .send(vec![snapshot(a.id, b.id, 77), snapshot(a.id, b.id, 78)]);
    a.peers
        .send(vec![message(a.id, b.id, MessageType::MsgHeartbeat, 3)]);
    wait("the message arrives", || {
        b.seen.messages.lock().iter().any(|m| m.index() == 3)
    });
    wait("it is reported", || {
        *a.seen.snapshots.lock() == [(b.id, true)]
    });
    // The second one was dropped: one at a time.
    assert_eq!(b.seen.received.lock().len(), 1);
}

/// A byte now and then keeps any deadline of a read.
#[test]
fn who_sends_next_to_nothing_holds_no_place() {
    let (a, b) = acquainted(Site::start(0xa), Site::with_deadline(0xb, TIMEOUT));
    let mut slow: Vec<TcpStream> = (1..=2)
        .map(|index| {
            let mut stream = TcpStream::connect(b.address).unwrap();
            let message = snapshot(a.id, b.id, index).encode_to_vec();
            write!(
                stream,
                "POST /raft/snapshot HTTP/1.1\r\nHost: b\r\nX-Server-Version: 3.7.1\r\n\
                 X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-Id: c1\r\n\
                 Content-Length: 100000000\r\n\r\n"
            )
            .unwrap();
            let length = (message.len() as u64).to_be_bytes();
            stream.write_all(&length).unwrap();
            stream.write_all(&message).unwrap();
            stream
        })
        .collect();
    wait("both are given up", || {
        for stream in &mut slow {
            // It is closed once it is given up.
            let _ = stream.write_all(b"x");
        }
        b.seen.received.lock().len() == 2
    });
    for (index, result) in &*b.seen.received.lock() {
        let error = result.as_ref().unwrap_err();
        assert!(error.contains("too slow"), "{index}: {error}");
    }
    *a.seen.database.lock() = (2_000_000, vec![2; 2_000_000], None);
    a.peers.send(vec![snapshot(a.id, b.id, 78)]);
    wait("it is reported", || {
        *a.seen.snapshots.lock() == [(b.id, true)]
    });
}
