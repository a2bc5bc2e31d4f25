//! What is not taken over: a sentence, exit code 1, and nothing changed.

use std::fs;
use std::path::Path;

use retcd_proto::etcdserverpb as pb;
use retcd_storage::backend::Bucket;
use retcd_tests::binary::ours;
use retcd_tests::member::{Member, Setup};
use retcd_tests::tree;

use crate::client::Client;
use crate::file;
use crate::go;
use crate::shown::Shown;

/// Ours does not start and says `words`; log and database stay as they are.
fn refuses(member: &mut Member, words: &[&str]) {
    let image = |member: &Member| tree::image(&member.dir().join("member"));
    let lock = Path::new("lock");
    let before = image(member);
    member.set_program(ours());
    member.spawn();
    let status = member.wait();
    let log = member.log().whole();
    assert_eq!(status.code(), Some(1), "{log}");
    for words in words {
        assert!(log.contains(words), "no {words:?} in\n{log}");
    }
    let after: Vec<_> = image(member).into_iter().filter(|(path, ..)| path != lock).collect();
    let before: Vec<_> = before.into_iter().filter(|(path, ..)| path != lock).collect();
    assert_eq!(tree::difference(&before, &after), Vec::<String>::new());
}

/// Genuine etcd does not start either, and says `words`.
fn theirs_refuses(member: &mut Member, words: &str) {
    member.set_program(go("3.7").unwrap());
    member.spawn();
    member.wait();
    let log = member.log().whole();
    assert!(log.contains(words), "no {words:?} in\n{log}");
}

#[test]
fn authentication_that_nobody_would_enforce() {
    let Some(theirs) = go("3.7") else {
        return;
    };
    let mut member = Member::start(Setup::new(theirs));
    let client = Client::new(&member);
    client.put("secret", "of root", 0);
    let root = pb::AuthUserAddRequest { name: "root".into(), password: "pw".into(), ..Default::default() };
    client.call(root);
    client.call(pb::AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() });
    client.call(pb::AuthEnableRequest {});
    member.terminate();

    let words = ["authentication is enabled in this cluster", "etcdctl auth disable"];
    refuses(&mut member, &words);
    // A log that enables it is refused as well, before anything is served.
    let (database, aside) = (file::database(&member), member.dir().join("aside"));
    fs::rename(&database, &aside).unwrap();
    member.spawn();
    assert_eq!(member.wait().code(), Some(1));
    let log = member.log().whole();
    assert!(log.contains(words[0]), "{log}");
    assert!(!log.contains("serving client traffic"), "{log}");

    // And the genuine server goes on with what it had.
    fs::rename(&aside, &database).unwrap();
    member.set_program(go("3.7").unwrap());
    member.restart();
    let range = pb::RangeRequest { key: "secret".into(), ..pb::RangeRequest::default() };
    assert_eq!(Client::new(&member).refused(range), "etcdserver: user name is empty");
}

#[test]
fn databases_and_clusters_of_newer_releases() {
    let Some(theirs) = go("3.7") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::start(Setup::new(theirs).data_dir(dir.path().join("data")));
    Client::new(&member).put("k", "v", 0);
    member.terminate();
    let (database, original) = (file::database(&member), dir.path().join("db"));
    fs::copy(&database, &original).unwrap();

    for (bucket, key, version, words) in [
        (Bucket::Meta, "storageVersion", "3.8.0", r#"version \"3.8.0\" is not supported"#),
        (Bucket::Meta, "storageVersion", "4.0.0", "changing major storage version is not supported"),
        (
            Bucket::Cluster,
            "clusterVersion",
            "3.8.0",
            "invalid downgrade; server version is lower than determined cluster version",
        ),
    ] {
        file::change(&database, bucket, key.as_bytes(), version.as_bytes());
        refuses(&mut member, &[words]);
        theirs_refuses(&mut member, words);
        fs::copy(&original, &database).unwrap();
    }
    member.set_program(ours());
    member.restart();
}

/// A member whose log begins behind a snapshot.
fn with_snapshot(dir: &Path) -> Option<(Member, Shown, u64)> {
    let theirs = go("3.7")?;
    let setup = Setup::new(theirs).flags(["--snapshot-count=10"]).data_dir(dir.join("data"));
    let mut member = Member::start(setup);
    let client = Client::new(&member);
    for n in 0..40 {
        client.put(format!("key/{}", n % 7), format!("value {n}"), 0);
    }
    let shown = Shown::of(&client);
    member.terminate();
    let newest = file::names(&member).into_iter().rfind(|name| name.ends_with(".snap")).expect("a snapshot");
    let index = newest.split(['-', '.']).nth(1).and_then(|index| u64::from_str_radix(index, 16).ok());
    Some((member, shown, index.expect("its index")))
}

#[test]
fn a_database_that_lacks_what_the_log_has_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let Some((mut member, shown, index)) = with_snapshot(dir.path()) else {
        return;
    };
    let (database, aside) = (file::database(&member), dir.path().join("db"));
    fs::rename(&database, &aside).unwrap();
    let missing = "failed to find database snapshot file (snap: snapshot file doesn't exist)";
    refuses(&mut member, &[missing, "is missing"]);
    theirs_refuses(&mut member, missing);

    // An older one: as after a restored backup of this file alone.
    fs::copy(&aside, &database).unwrap();
    file::change(&database, Bucket::Meta, b"consistent_index", &(index - 1).to_be_bytes());
    refuses(&mut member, &[missing, &format!("has nothing behind index {}", index - 1)]);
    let received = file::snapshots(&member).join(format!("{index:016x}.snap.db"));
    fs::copy(&database, &received).unwrap();
    refuses(&mut member, &[&format!("index {}) does not match with snapshot (index {index})", index - 1)]);

    // The one that came from a leader and was never put in place.
    fs::copy(&aside, &received).unwrap();
    member.set_program(ours());
    member.restart();
    assert_eq!(Shown::of(&Client::new(&member)), shown);
    assert!(!received.exists());
    assert!(file::index(&database) >= index);
}

#[test]
fn and_puts_it_in_place_where_there_is_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let Some((mut member, shown, index)) = with_snapshot(dir.path()) else {
        return;
    };
    let received = file::snapshots(&member).join(format!("{index:016x}.snap.db"));
    fs::rename(file::database(&member), received).unwrap();
    for leftover in ["tmp123", "db.tmp.456"] {
        fs::write(file::snapshots(&member).join(leftover), "half of something").unwrap();
    }
    member.set_program(ours());
    member.restart();
    assert_eq!(Shown::of(&Client::new(&member)), shown);
    let names = file::names(&member);
    assert!(!names.iter().any(|name| name.contains("tmp") || name.ends_with(".snap.db")), "{names:?}");
}
