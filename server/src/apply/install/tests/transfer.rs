//! Databases on their way.

use std::io::{self, Read};

use retcd_proto::raftpb::{self, MessageType};
use retcd_raft_node::membership::Cluster;
use retcd_storage::backend::DatabaseCopy;
use retcd_storage::fs::Fs as _;
use slog::o;

use super::rig::{Rig, SNAP, disk, id, leader};
use super::script::{FOUNDED, Script};
use super::{ahead, index_of, snapshot_of};

fn ask(index: u64) -> raftpb::Message {
    raftpb::Message {
        r#type: Some(MessageType::MsgSnap as i32),
        to: Some(id(2)),
        from: Some(leader()),
        term: Some(2),
        snapshot: Some(raftpb::Snapshot {
            data: None,
            metadata: Some(raftpb::SnapshotMetadata {
                index: Some(index),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

fn read(copy: &mut DatabaseCopy, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    copy.bytes.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// What is sent is one moment, however long it takes and whatever is written meanwhile.
#[test]
fn a_copy_is_of_one_moment_while_writes_go_on() {
    let mut script = Script::beginning();
    let mut a = ahead(&script);
    script.go_on(a.state().rev);
    let (before, entries) = script.behind(a.member.applied());
    a.tell(before, entries);
    a.apply(script.last());
    let sent = a.state();
    let (message, mut copy) = a.member.database_to_send(ask(4)).unwrap();

    let snapshot = message.snapshot.clone().unwrap();
    let metadata = snapshot.metadata.unwrap();
    assert_eq!((metadata.index(), metadata.term()), (script.last(), 2));
    assert_eq!(message.r#type(), MessageType::MsgSnap);
    assert_eq!((message.to(), message.from()), (id(2), leader()));
    // What raft and a receiver of etcd 3.6 go by.
    let conf_state = metadata.conf_state.unwrap();
    let mut voters = vec![id(1), id(2), id(3)];
    voters.sort_unstable();
    assert_eq!(conf_state.voters, voters);
    assert_eq!(conf_state.learners, [id(5)]);
    let document = snapshot.data.unwrap();
    let cluster = Cluster::from_v2_document(&document, a.member.cluster_id, 1).unwrap();
    assert_eq!(cluster.version(), Some("3.7.0"));
    let members = sent
        .cluster
        .members()
        .map(|m| (m.id, m.peer_urls.clone(), m.is_learner));
    let told = cluster
        .members()
        .map(|m| (m.id, m.peer_urls.clone(), m.is_learner));
    assert!(members.eq(told));
    assert!(cluster.is_removed(id(4)));

    let mut database = read(&mut copy, 10_000).unwrap();
    script.end();
    for n in 0..200 {
        script.put(&format!("more{}", n % 7), &"x".repeat(n * 10), 0);
    }
    for part in script.behind(sent.applied).1.chunks(20) {
        let before = part[0].index() - 1;
        a.tell((before, 2), part);
        a.apply(part[part.len() - 1].index());
        a.member.backend().commit().unwrap();
    }
    let rest = copy.len as usize - database.len();
    database.extend(read(&mut copy, rest).unwrap());
    assert_eq!(
        copy.bytes.read(&mut [0]).unwrap(),
        0,
        "its length is what it said"
    );

    let mut b = Rig::start(&disk(), 2).unwrap();
    let first = &Script::beginning();
    b.tell((FOUNDED, 1), &first.entries[..2]);
    b.member
        .database_received(index_of(&message), &mut &database[..])
        .unwrap();
    b.tell_snapshot(&message);
    b.apply(index_of(&message));
    assert_eq!(b.state(), sent);
}

#[test]
fn copies_are_bounded_and_end_with_the_member() {
    let a = ahead(&Script::beginning());
    let send = || a.member.database_to_send(ask(4));
    let mut copies: Vec<_> = (0..4).map(|_| send().unwrap().1).collect();
    let refused = send().err().unwrap().to_string();
    assert!(
        refused.starts_with("4 databases are being sent already"),
        "{refused}"
    );
    read(&mut copies[1], 5000).unwrap();
    drop(copies.pop());
    copies.push(send().unwrap().1);
    copies.truncate(1);
    drop(copies.pop());

    let mut whole = send().unwrap().1;
    let len = whole.len as usize;
    read(&mut whole, len).unwrap();
    drop(whole);

    let behind = a
        .member
        .database_to_send(ask(1000))
        .err()
        .unwrap()
        .to_string();
    assert!(behind.contains("below the snapshot's 1000"), "{behind}");

    let mut last = send().unwrap().1;
    read(&mut last, 5000).unwrap();
    a.member.end_calls();
    let error = read(&mut last, 1).unwrap_err().to_string();
    assert_eq!(error, "the member stops");
    assert_eq!(send().err().unwrap().to_string(), "the member stops");
    let observed = &a.member.metrics.disk.backend_snapshot;
    assert_eq!(observed.get_sample_count(), 6);
    drop(last);
    assert_eq!(observed.get_sample_count(), 7);
}

/// A body that does something when it has come half.
struct Then<'a, F: FnMut()> {
    first: &'a [u8],
    then: Option<F>,
    rest: &'a [u8],
}

impl<F: FnMut()> Read for Then<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.first.is_empty() {
            return self.first.read(buffer);
        }
        if let Some(mut then) = self.then.take() {
            then();
        }
        self.rest.read(buffer)
    }
}

#[test]
fn databases_that_come_are_bounded_and_end_with_the_member() {
    let mut script = Script::beginning();
    let mut b = Rig::start(&disk(), 2).unwrap();
    let (before, entries) = script.behind(FOUNDED);
    b.tell(before, &entries[..3]);
    b.apply(before.0 + 3);
    let first = snapshot_of(&ahead(&script));
    script.go_on(5);
    let second = snapshot_of(&ahead(&script));
    let (one, two) = (index_of(&first.0), index_of(&second.0));
    let take = |index, body: &mut dyn Read| b.member.database_received(index, body);
    let names = || {
        let mut names = b.fs.read_dir(SNAP.as_ref()).unwrap();
        names.retain(|name| name != "db");
        names
    };
    let (half, rest) = first.1.split_at(9000);
    let mut nested = 0;
    let mut body = Then {
        first: half,
        rest,
        then: Some(|| {
            nested += 1;
            let twice = take(one, &mut &first.1[..]).unwrap_err().to_string();
            assert!(twice.ends_with("is being received already"), "{twice}");
            let (half, rest) = second.1.split_at(9000);
            let mut body = Then {
                first: half,
                rest,
                then: Some(|| {
                    let third = take(two + 1, &mut &second.1[..]).unwrap_err().to_string();
                    assert!(third.starts_with("2 databases are being"), "{third}");
                }),
            };
            take(two, &mut body).unwrap();
        }),
    };
    take(one, &mut body).unwrap();
    assert_eq!(nested, 1);
    assert_eq!(names().len(), 2, "{:?}", names());
    // Another index than the database's own.
    let wrong = take(two + 1, &mut &second.1[..]).unwrap_err().to_string();
    assert!(wrong.contains("below the snapshot's"), "{wrong}");
    // Both are durable, and are removed when neither is needed.
    b.member
        .incoming
        .release(one, &slog::Logger::root(slog::Discard, o!()));
    assert_eq!(names(), [format!("{two:016x}.snap.db")]);

    let mut body = Then {
        first: half,
        rest,
        then: Some(|| b.member.end_calls()),
    };
    let ended = take(one, &mut body).unwrap_err().to_string();
    assert!(ended.contains("the member stops"), "{ended}");
    assert_eq!(
        take(one, &mut io::empty()).unwrap_err().to_string(),
        "the member stops"
    );
    assert_eq!(names().len(), 1, "{:?}", names());
}
