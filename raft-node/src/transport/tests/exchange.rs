//! Members that behave.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use retcd_proto::raftpb::MessageType;

use super::super::peers::drop_superseded;
use super::rig::{PATIENT, Site, append, bind_again, message, wait};
use crate::driver::Transport as _;

#[test]
fn messages_of_all_kinds_go_both_ways() {
    let (a, b) = (Site::start(0xa), Site::start(0xb));
    a.knows(&b);
    b.knows(&a);
    wait("both are active", || a.active(b.id) && b.active(a.id));
    assert_eq!((a.peers.active_peers(), b.peers.active_peers()), (1, 1));
    wait("all streams are there", || {
        a.streams_to(b.id) && b.streams_to(a.id)
    });
    for (from, to) in [(&a, &b), (&b, &a)] {
        let sent = vec![
            append(from.id, to.id, 4, 3, 100),
            append(from.id, to.id, 7, 2, 40_000),
            message(from.id, to.id, MessageType::MsgHeartbeat, 0),
            message(from.id, to.id, MessageType::MsgProp, 0),
        ];
        from.peers.send(sent.clone());
        wait("all arrive", || to.seen.count() == sent.len());
        let got = to.seen.messages.lock();
        // Two streams: order holds within each.
        for m in &sent {
            let like = got.iter().filter(|other| other.r#type == m.r#type);
            let like: Vec<_> = like.cloned().collect();
            let want: Vec<_> = sent
                .iter()
                .filter(|o| o.r#type == m.r#type)
                .cloned()
                .collect();
            assert_eq!(like, want);
        }
    }
    assert_eq!(a.seen.unreachable() + b.seen.unreachable(), 0);
}

#[test]
fn a_stream_keeps_its_order_under_load() {
    let (a, b) = (Site::start(0xa), Site::start(0xb));
    a.knows(&b);
    b.knows(&a);
    wait("the streams are there", || a.streams_to(b.id));
    let rounds = 300 * crate::test_scale();
    for round in 0..rounds {
        let batch = (0..50).map(|n| append(a.id, b.id, (round * 50 + n) * 3, 3, 200));
        a.peers.send(batch.collect());
        // No more than the queue takes.
        let floor = (round * 50) as usize;
        wait("the queue has room", || b.seen.count() + 3000 > floor);
    }
    let all = rounds as usize * 50;
    wait("all arrive", || b.seen.count() == all);
    let got = b.seen.messages.lock();
    assert!(
        got.iter()
            .zip(0..)
            .all(|(m, n)| m.index() == n * 3 && m.entries.len() == 3)
    );
    assert_eq!(a.seen.unreachable(), 0);
}

#[test]
fn idle_streams_stay_up() {
    let [a, b] = [0xa, 0xb].map(|id| Site::with_deadline(id, Duration::from_secs(4)));
    a.knows(&b);
    b.knows(&a);
    wait("both are active", || a.active(b.id) && b.active(a.id));
    let since = a.peers.active_since(b.id);
    // Heartbeats of both streams, for longer than the deadline of a read.
    let before = a
        .seen
        .received_bytes
        .load(std::sync::atomic::Ordering::SeqCst);
    wait("heartbeats", || {
        let now = a
            .seen
            .received_bytes
            .load(std::sync::atomic::Ordering::SeqCst);
        now - before >= 10 * 11
    });
    assert_eq!(a.peers.active_since(b.id), since);
}

#[test]
fn one_who_is_not_known_gets_posts_and_answers() {
    let (a, b) = (Site::start(0xa), Site::start(0xb));
    a.peers.add_remote(b.id, &[b.url()]);
    for n in 0..20 {
        a.peers
            .send(vec![message(a.id, b.id, MessageType::MsgHeartbeat, n)]);
        wait("it arrives", || b.seen.count() as u64 == n + 1);
    }
    // By the header that says where a is.
    b.peers
        .send(vec![message(b.id, a.id, MessageType::MsgHeartbeatResp, 1)]);
    wait("the answer arrives", || a.seen.count() == 1);
    assert!(!a.active(b.id), "only members count");
    // To nobody, to one of whom nothing is known.
    a.peers.send(vec![
        message(a.id, 0, MessageType::MsgHeartbeat, 1),
        message(a.id, 0x77, MessageType::MsgHeartbeat, 1),
        message(a.id, b.id, MessageType::MsgSnap, 1),
    ]);
    wait("no snapshot for it", || {
        *a.seen.snapshots.lock() == [(b.id, false)]
    });
}

#[test]
fn a_member_that_learns_late_is_reached_meanwhile() {
    let (a, b) = (Site::start(0xa), Site::start(0xb));
    a.knows(&b);
    // b refuses a's streams, so neither has one; a's messages go by POST, and b learns where a is.
    a.peers.send(vec![append(a.id, b.id, 1, 1, 10)]);
    wait("it arrives", || b.seen.count() == 1);
    b.peers
        .send(vec![message(b.id, a.id, MessageType::MsgAppResp, 2)]);
    wait("the answer arrives", || a.seen.count() == 1);
    b.knows(&a);
    wait("it is a peer now", || a.active(b.id) && b.active(a.id));
}

#[test]
fn restarts() {
    // On an address of its own: no connection of another test can have its port when it comes back.
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    let mut b = Site::start_with(0xb, listener, PATIENT, |_| {});
    let a = Site::start(0xa);
    a.knows(&b);
    for round in 0..5 {
        b.knows(&a);
        wait("both are active", || a.active(b.id) && b.active(a.id));
        a.peers.send(vec![
            append(a.id, b.id, round, 1, 10),
            message(a.id, b.id, MessageType::MsgHeartbeat, round),
        ]);
        wait("they arrive", || b.seen.count() == 2);
        let address = b.stop();
        wait("the loss is seen", || !a.active(0xb));
        let before = a.seen.unreachable();
        a.peers
            .send(vec![message(a.id, 0xb, MessageType::MsgHeartbeat, round)]);
        wait("it is reported", || a.seen.unreachable() > before);
        b = Site::start_with(0xb, bind_again(address), PATIENT, |_| {});
    }
}

/// Lines and fields are those of etcd.
#[test]
fn the_log_of_a_peer() {
    let (a, b) = (Site::start(0xa), Site::start(0xb));
    a.knows(&b);
    b.knows(&a);
    let logged = |line: &str| a.seen.log.lock().iter().any(|l| l.starts_with(line));
    let stream = |what: &str, end: &str, kind: &str| {
        format!("{what} TCP streaming connection with remote peer stream-{end}-type=stream {kind}")
    };
    let all = ["writer", "reader"].map(|end| ["MsgApp v2", "Message"].map(|kind| (end, kind)));
    for (end, kind) in all.into_iter().flatten() {
        let line = stream("INFO established", end, kind) + " local-member-id=a remote-peer-id=b";
        wait(&line, || logged(&line));
    }
    for line in [
        "INFO starting remote peer remote-peer-id=b",
        "INFO started HTTP pipelining with remote peer local-member-id=a remote-peer-id=b",
        "INFO started stream writer with remote peer local-member-id=a remote-peer-id=b",
        "INFO started stream reader with remote peer stream-reader-type=stream MsgApp v2 \
            local-member-id=a remote-peer-id=b",
        "INFO started remote peer remote-peer-id=b",
        "INFO added remote peer local-member-id=a remote-peer-id=b remote-peer-urls=",
        "INFO peer became active peer-id=b",
        "INFO set message encoder from=a to=b stream-type=stream Message",
    ] {
        wait(line, || logged(line));
    }
    b.stop();
    for (end, kind) in all.into_iter().flatten() {
        let line = stream("WARN lost", end, kind) + " local-member-id=a remote-peer-id=b";
        wait(&line, || logged(&line));
    }
    let line = "WARN peer became inactive (message send to peer failed) peer-id=b error=failed to ";
    wait(line, || logged(line));
    a.peers.remove_peer(0xb);
    for line in [
        "INFO stopping remote peer remote-peer-id=b",
        "INFO stopped HTTP pipelining with remote peer local-member-id=a remote-peer-id=b",
        "INFO stopped TCP streaming connection with remote peer stream-writer-type=stream Message \
            remote-peer-id=b",
        "INFO removed remote peer local-member-id=a removed-remote-peer-id=b",
    ] {
        wait(line, || logged(line));
    }
}

#[test]
fn urls_take_turns_and_change() {
    let (a, b) = (Site::start(0xa), Site::start(0xb));
    let dead = "http://127.0.0.1:1".to_owned();
    a.peers.add_peer(b.id, &[dead.clone(), b.url()]);
    b.knows(&a);
    wait("the second URL is found", || {
        a.peers
            .send(vec![message(a.id, b.id, MessageType::MsgHeartbeat, 1)]);
        b.seen.count() > 0
    });
    let c = Site::start(0xc);
    a.peers.add_peer(c.id, &[dead]);
    c.knows(&a);
    a.peers.update_peer(c.id, &[c.url()]);
    wait("c is active", || a.active(c.id));
    a.peers
        .send(vec![message(a.id, c.id, MessageType::MsgHeartbeat, 1)]);
    wait("it arrives", || c.seen.count() > 0);
    // Nothing comes of URLs that are none.
    a.peers.add_peer(0xd, &["10.0.0.1:2380".to_owned()]);
    a.peers.update_peer(c.id, &[]);
    a.peers.remove_peer(c.id);
    wait("c is gone", || !a.active(c.id));
    a.peers.remove_peer(c.id);
    let before = c.seen.count();
    a.peers
        .send(vec![message(a.id, c.id, MessageType::MsgHeartbeat, 1)]);
    a.peers
        .send(vec![message(a.id, b.id, MessageType::MsgHeartbeat, 2)]);
    wait("b's arrives", || {
        b.seen.messages.lock().iter().any(|m| m.index() == 2)
    });
    assert_eq!(c.seen.count(), before);
    a.peers.remove_all();
    assert_eq!(a.peers.active_peers(), 0);
}

#[test]
fn the_last_acknowledgement_says_it_all() {
    let ack = |to, index| message(1, to, MessageType::MsgAppResp, index);
    let mut reject = ack(2, 9);
    reject.reject = Some(true);
    let vote = message(1, 2, MessageType::MsgVote, 3);
    let mut messages = vec![
        ack(2, 5),
        vote.clone(),
        ack(2, 7),
        reject.clone(),
        ack(3, 1),
        ack(2, 6),
        ack(2, 7),
    ];
    drop_superseded(&mut messages);
    assert_eq!(messages, [vote, ack(2, 7), reject, ack(3, 1)]);
    let mut one = vec![ack(2, 5)];
    drop_superseded(&mut one);
    assert_eq!(one, [ack(2, 5)]);
}

/// Its URL was no URL when it came to be known, and then its operator mended that.
#[test]
fn a_member_gets_its_first_usable_url() {
    let (a, b) = (Site::start(0xa), Site::start(0xb));
    b.knows(&a);
    a.peers.add_peer(b.id, &["http://".to_owned()]);
    assert!(a.peers.ids().is_empty());
    a.peers.update_peer(b.id, &[b.url()]);
    wait("both are active", || a.active(b.id) && b.active(a.id));
    // Not oneself.
    a.peers.update_peer(a.id, &[a.url()]);
    assert_eq!(a.peers.ids(), [b.id]);
}
