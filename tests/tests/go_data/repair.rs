//! Records about the members that old releases let drift apart.

use std::fs;

use retcd_proto::etcdserverpb as pb;
use retcd_storage::backend::Bucket;
use retcd_tests::binary::ours;
use retcd_tests::member::{Member, Setup};

use crate::client::Client;
use crate::file;
use crate::go;
use crate::shown::Shown;

/// Members as the server lists them: id, and whether it is a learner.
fn members(client: &Client) -> Vec<(u64, bool)> {
    let members = client.call(pb::MemberListRequest { linearizable: true }).members;
    members.iter().map(|member| (member.id, member.is_learner)).collect()
}

/// A member of etcd 3.5, stopped.
fn old(flags: &[&str]) -> Option<(Member, Shown)> {
    let mut member = Member::start(Setup::new(go("3.5")?).flags(flags.iter().copied()));
    let client = Client::new(&member);
    for n in 0..40 {
        client.put(format!("key/{n}"), "value", 0);
    }
    let shown = Shown::of(&client);
    member.terminate();
    Some((member, shown))
}

#[test]
fn members_that_came_back_with_a_restored_database_are_removed() {
    // Known by the log alone, and by the document of a snapshot.
    for flags in [&[][..], &["--snapshot-count=10"]] {
        let Some((mut member, shown)) = old(flags) else {
            return;
        };
        let zombie = br#"{"id":2766,"peerURLs":["http://127.0.0.1:4"],"name":"z","clientURLs":["http://127.0.0.1:5"]}"#;
        file::change(&file::database(&member), Bucket::Members, b"ace", zombie);
        member.set_program(ours());
        member.restart();
        assert_eq!(Shown::of(&Client::new(&member)), shown, "{flags:?}");
        member.terminate();
        let stored = file::open(&file::database(&member));
        assert_eq!(file::bucket(&stored, "members").len(), 1);
        let removed = [("ace".into(), "removed".into())];
        assert_eq!(file::bucket(&stored, "members_removed"), removed);
    }
}

#[test]
fn raft_knows_who_is_a_learner() {
    let Some(theirs) = go("3.6") else {
        return;
    };
    let mut member = Member::start(Setup::new(theirs));
    let client = Client::new(&member);
    let url = "http://127.0.0.1:4".to_owned();
    let added = client.call(pb::MemberAddRequest { peer_ur_ls: vec![url], is_learner: true });
    let learner = added.member.unwrap().id;
    let before = members(&client);
    assert!(before.contains(&(learner, true)));
    member.terminate();

    // As an update of its URLs left it before 3.6.12: with it as a voter, nothing would be committed any more.
    let record = format!(r#"{{"id":{learner},"peerURLs":["http://127.0.0.1:4"]}}"#);
    let key = format!("{learner:x}");
    file::change(&file::database(&member), Bucket::Members, key.as_bytes(), record.as_bytes());
    member.set_program(ours());
    member.restart();
    assert_eq!(members(&Client::new(&member)), before);
    member.terminate();
    let stored = file::open(&file::database(&member));
    let (_, record) = file::bucket(&stored, "members").into_iter().find(|(k, _)| *k == key.as_bytes()).unwrap();
    assert!(String::from_utf8_lossy(&record).contains(r#""isLearner":true"#), "{record:?}");
}

#[test]
fn a_snapshot_that_cannot_be_read_is_put_aside() {
    let Some((mut member, shown)) = old(&["--snapshot-count=10"]) else {
        return;
    };
    let newest = file::names(&member).into_iter().rfind(|name| name.ends_with(".snap")).expect("a snapshot");
    let path = file::snapshots(&member).join(&newest);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    member.set_program(ours());
    member.restart();
    assert_eq!(Shown::of(&Client::new(&member)), shown);
    member.wait_for_log("the snapshot file that the log starts from cannot be read");
    assert!(file::names(&member).contains(&format!("{newest}.broken")));
}

#[test]
fn keys_of_the_v2_api_are_not_lost_silently() {
    let Some(theirs) = go("3.5") else {
        return;
    };
    let words = "--v2-deprecation=write-only";
    for snapshots in [&[][..], &["--snapshot-count=10"]] {
        let flags = [&["--enable-v2"][..], snapshots].concat();
        let mut member = Member::start(Setup::new(theirs.clone()).flags(flags));
        v2_put(&member, "color", "blue");
        let client = Client::new(&member);
        for n in 0..40 {
            client.put(format!("key/{n}"), "value", 0);
        }
        member.terminate();
        // In the log it is met when entries are applied again, in a snapshot at once.
        if snapshots.is_empty() {
            fs::remove_file(file::database(&member)).unwrap();
        }
        member.set_program(ours());
        member.set_flags(Vec::<String>::new());
        member.spawn();
        assert_eq!(member.wait().code(), Some(1));
        let log = member.log().whole();
        assert!(log.contains(words), "{log}");
    }
}

/// A key of the v2 API.
fn v2_put(member: &Member, key: &str, value: &str) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", member.port())).unwrap();
    let body = format!("value={value}");
    write!(
        stream,
        "PUT /v2/keys/{key} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}
