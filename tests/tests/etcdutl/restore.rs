//! `snapshot restore`: equal directories, equal refusals.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::{raftpb, snappb};
use serde_json::Value;

use crate::rig::{Tools, saved, words};

const THREE: &str = "--name=b --initial-cluster=a=http://h1:1,b=http://localhost:1,c=http://h3:3,c=http://h2:9 \
                     --initial-advertise-peer-urls=http://localhost:1";

/// Names and kinds of everything below a directory.
fn names(dir: &Path) -> Vec<(PathBuf, bool)> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let is_dir = path.is_dir();
        found.push((path.strip_prefix(dir).expect("below").to_owned(), is_dir));
        if is_dir {
            assert_eq!(fs::metadata(&path).expect("readable").mode() & 0o777, 0o700, "{}", path.display());
            todo.extend(fs::read_dir(path).expect("readable").map(|entry| entry.expect("readable").path()));
        }
    }
    found.sort();
    found
}

/// The metadata of a raft snapshot, and its document without the numbers by which Go counts the members:
/// its order is one of chance.
fn raft_snapshot(file: &Path) -> (Option<raftpb::SnapshotMetadata>, Vec<Value>, Value) {
    let bytes = Bytes::from(fs::read(file).expect("readable"));
    let envelope = snappb::Snapshot::decode(bytes).expect("an envelope");
    let snapshot = raftpb::Snapshot::decode(envelope.data.expect("data")).expect("a snapshot");
    let mut document: Value = serde_json::from_slice(&snapshot.data.expect("data")).expect("JSON");
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| {
                    let name = name.to_ascii_lowercase();
                    name != "createdindex" && name != "modifiedindex"
                });
                fields.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut document);
    let events = document["WatcherHub"]["EventHistory"]["Queue"]["Events"].take();
    let mut events = events.as_array().expect("events").clone();
    events.sort_by_key(|event| event["node"]["key"].to_string());
    (snapshot.metadata, events, document)
}

/// Both directories hold the same: equal files, and databases of which Go's tool says the same.
fn assert_equal(tools: &Tools, what: &str, dirs: &[&str]) {
    for dir in dirs {
        let (ours, theirs) = (tools.our_dir().join(dir), tools.their_dir().join(dir));
        assert_eq!(names(&ours), names(&theirs), "{what}");
        for (name, is_dir) in names(&ours) {
            let (our_file, their_file) = (ours.join(&name), theirs.join(&name));
            if name.ends_with("db") {
                // The hash covers all buckets, their keys and values. Sizes may differ.
                let content = |file: &Path| {
                    let text = tools.judge(&["snapshot", "status"], file);
                    let fields: Vec<String> = text.trim().split(", ").map(str::to_owned).collect();
                    [fields[0].clone(), fields[1].clone(), fields[2].clone(), fields[4].clone()]
                };
                assert_eq!(content(&our_file), content(&their_file), "{what}");
                assert_eq!(
                    tools.judge(&["hashkv", "-w", "json"], &our_file),
                    tools.judge(&["hashkv", "-w", "json"], &their_file),
                    "{what}"
                );
            } else if name.extension().is_some_and(|ext| ext == "snap") {
                assert_eq!(raft_snapshot(&our_file), raft_snapshot(&their_file), "{what}");
            } else if !is_dir {
                assert!(
                    fs::read(&our_file).expect("readable") == fs::read(&their_file).expect("readable"),
                    "{what}: {} differs",
                    name.display()
                );
            }
        }
    }
}

#[test]
fn restored_directories_are_those_of_go() {
    let (Some(tools), Some((snapshot, mut source))) = (Tools::find(), saved(3000)) else { return };
    source.member.kill();
    tools.give("saved.db", &snapshot);
    tools.give("cut.db", &snapshot[..snapshot.len() - 32]);
    tools.give("member.db", &fs::read(source.member.dir().join("member/snap/db")).expect("readable"));
    let mut wrong = snapshot.clone();
    *wrong.last_mut().expect("bytes") ^= 1;
    tools.give("wrong.db", &wrong);
    for dir in [tools.our_dir(), tools.their_dir()] {
        fs::create_dir(dir.join("there")).expect("created");
        fs::set_permissions(dir.join("there"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("changed");
    }
    let three = |rest: &str| format!("{THREE} {rest}");
    for (args, dirs) in [
        ("saved.db".to_owned(), &["default.etcd"][..]),
        ("saved.db --name=x --initial-cluster=x=http://localhost:2380".to_owned(), &["x.etcd"]),
        ("saved.db --data-dir=a".to_owned(), &["a"]),
        ("saved.db --data-dir=deep/er/a/".to_owned(), &["deep/er/a"]),
        ("saved.db --data-dir there".to_owned(), &["there"]),
        ("saved.db --data-dir=b --wal-dir=b-wal".to_owned(), &["b", "b-wal"]),
        ("saved.db --data-dir=c --wal-dir=c/wal".to_owned(), &["c"]),
        ("saved.db --data-dir=d --wal-dir=d/member/log".to_owned(), &["d"]),
        ("saved.db --data-dir=e --initial-cluster-token=t".to_owned(), &["e"]),
        (three("saved.db --data-dir=f"), &["f"]),
        (three("saved.db --data-dir=g --bump-revision=1000000000 --mark-compacted"), &["g"]),
        ("saved.db --data-dir=h --bump-revision=0x10 --mark-compacted=T".to_owned(), &["h"]),
        ("saved.db --data-dir=i --skip-hash-check --initial-memory-map-size=0".to_owned(), &["i"]),
        ("cut.db --data-dir=j --skip-hash-check".to_owned(), &["j"]),
        ("member.db --data-dir=k --skip-hash-check".to_owned(), &["k"]),
        ("wrong.db --data-dir=l --skip-hash-check=1".to_owned(), &["l"]),
        ("saved.db --data-dir=m --initial-cluster=default=unix://sock:1,default=http://[::1]:2 --initial-advertise-peer-urls=http://[::1]:2,unix://sock:1".to_owned(), &["m"]),
    ] {
        let call = format!("snapshot restore {args}");
        let (ours, theirs) = (tools.ours(&words(&call)), tools.theirs(&words(&call)));
        assert_eq!(theirs.code, Some(0), "{call}: {theirs:?}");
        assert_eq!(ours, theirs, "{call}");
        assert_equal(&tools, &call, dirs);
        for dir in dirs {
            for base in [tools.our_dir(), tools.their_dir()] {
                fs::remove_dir_all(base.join(dir)).expect("removed");
            }
        }
    }
}

#[test]
fn refusals_are_those_of_go_and_leave_nothing() {
    let (Some(tools), Some((snapshot, _source))) = (Tools::find(), saved(300)) else { return };
    tools.give("saved.db", &snapshot);
    tools.give("cut.db", &snapshot[..snapshot.len() - 32]);
    let mut bad = snapshot.clone();
    bad[9000] ^= 1;
    tools.give("bad.db", &bad);
    tools.give("empty", b"");
    tools.give("short", b"short");
    tools.give("text", &[b'x'; 100]);
    tools.give("file", b"x");
    for dir in [tools.our_dir(), tools.their_dir()] {
        fs::create_dir_all(dir.join("full/x")).expect("created");
        fs::create_dir_all(dir.join("wal")).expect("created");
    }
    for args in [
        "nofile",
        "wal",
        "cut.db",
        "bad.db",
        "empty",
        "short",
        "text",
        "saved.db --data-dir=full",
        "saved.db --data-dir=file",
        "saved.db --data-dir=file/x",
        "saved.db --wal-dir=wal",
        "saved.db --wal-dir=file",
        "saved.db --name=other",
        "saved.db --name=~",
        "saved.db --initial-cluster=~",
        "saved.db --initial-cluster=foo",
        "saved.db --initial-cluster=foo=",
        "saved.db --initial-cluster=default=ftp://a:1",
        "saved.db --initial-cluster=default=http://a",
        "saved.db --initial-cluster=default=http://a:1/x",
        "saved.db --initial-cluster=default=http://127.0.0.1:9",
        "saved.db --initial-cluster=default=http://localhost:2380,b=http://localhost:2380",
        "saved.db --initial-cluster=default=http://localhost:2380,default=http://localhost:2381",
        "saved.db --initial-advertise-peer-urls=~",
        "saved.db --initial-advertise-peer-urls=http://localhost:2380,",
        "saved.db --initial-advertise-peer-urls=:x",
        "saved.db --initial-advertise-peer-urls=http://127.0.0.1:1",
        "saved.db --initial-advertise-peer-urls=http://localhost:2380,http://localhost:2381",
        "saved.db --initial-advertise-peer-urls=http://localhost:2380,http://localhost:2380",
    ] {
        let call = format!("snapshot restore {args}").replace("=~", "=");
        let data_dir = "default.etcd";
        let before = names_of(&tools.our_dir());
        let (ours, theirs) = (tools.ours(&words(&call)), tools.theirs(&words(&call)));
        assert_eq!(ours.code, Some(1), "{call}: {ours:?}");
        assert_eq!(theirs.code, Some(1), "{call}: {theirs:?}");
        let (our_log, our_error) = ours.err.split_at(ours.err.len() - 1);
        let (their_log, their_error) = theirs.err.split_at(theirs.err.len() - 1);
        assert_eq!(our_log, their_log, "{call}");
        // Ours may go on to say more.
        let same = our_error[0] == their_error[0] || our_error[0].starts_with(&format!("{}: ", their_error[0]));
        let same = same || call.ends_with("file/x") && our_error[0].ends_with(": file exists");
        assert!(same, "{call}: {ours:?} {theirs:?}");
        assert_eq!(names_of(&tools.our_dir()), before, "{call} left something");
        let _ = fs::remove_dir_all(tools.their_dir().join(data_dir));
    }
}

/// Where Go's tool does harm, crashes, or goes on with nonsense.
#[test]
fn stricter_than_go() {
    let (Some(tools), Some((snapshot, _source))) = (Tools::find(), saved(300)) else { return };
    tools.give("saved.db", &snapshot);
    tools.give("noise", &[7; 9000]);
    for (args, text) in [
        // Go panics with exit code 2.
        ("noise --skip-hash-check", "Error: backend: "),
        // Go wraps around and goes back to an older revision.
        (
            "saved.db --bump-revision=18446744073709551615 --mark-compacted",
            "Error: --bump-revision=18446744073709551615 is too large: ",
        ),
        // Go deletes the database that it has just restored.
        ("saved.db --data-dir=x --wal-dir=x/member", "Error: wal-dir \"x/member\" overlaps "),
        ("saved.db --data-dir=x --wal-dir=x", "Error: wal-dir \"x\" overlaps "),
    ] {
        let call = format!("snapshot restore {args}");
        let before = names_of(&tools.our_dir());
        let said = tools.ours(&words(&call));
        assert_eq!(said.code, Some(1), "{call}: {said:?}");
        assert!(said.error().starts_with(text), "{call}: {said:?}");
        assert_eq!(names_of(&tools.our_dir()), before, "{call} left something");
    }
}

fn names_of(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).expect("readable");
    let mut names: Vec<String> =
        names.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
