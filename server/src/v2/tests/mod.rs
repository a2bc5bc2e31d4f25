//! The tree in a member of its own.

mod model;
mod time;
mod waiting;

use std::collections::BTreeSet;

use futures_util::future::join_all;
use tempfile::TempDir;

use super::V2;
use super::node::{Action, Event};
use super::path::{MAX_DEPTH, Path, REMOVAL};
use super::refusal::{Code, Refusal};
use super::request::{Content, Expected, Write};
use crate::config::Config;
use crate::error::Error;
use crate::server::Server;

/// A member and the service over it. Fields are dropped in order: the service holds the member.
struct Rig {
    v2: V2,
    server: Server,
    _dir: TempDir,
}

impl Rig {
    fn start() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config::ephemeral(dir.path());
        config.log.outputs = vec!["/dev/null".into()];
        config.unsafe_no_fsync = true;
        change(&mut config);
        let server = Server::start(config).expect("the member starts");
        Self {
            v2: V2::new(server.member()),
            server,
            _dir: dir,
        }
    }

    async fn write(&self, path: &str, write: Write) -> Result<Event, Refusal> {
        self.v2.write(&Path::of(path), &write).await
    }

    async fn done(&self, path: &str, write: Write) -> Event {
        let shown = format!("{path} {write:?}");
        let event = self.write(path, write).await;
        event.unwrap_or_else(|refusal| panic!("{shown}: {refusal:?}"))
    }

    async fn get(&self, path: &str, recursive: bool) -> Result<Event, Refusal> {
        let found = self
            .v2
            .get(&Path::of(path), recursive, true, Event::clone)
            .await;
        found.map(|(event, _)| event)
    }

    /// The names and values below a directory, with those in the directories there.
    async fn listed(&self, path: &str, recursive: bool) -> Vec<String> {
        fn list(nodes: &[super::node::Shown], names: &mut Vec<String>) {
            for node in nodes {
                let value = node
                    .value
                    .as_deref()
                    .map_or_else(|| "/".to_owned(), |v| format!("={v}"));
                names.push(format!("{}{value}", node.key));
                list(&node.nodes, names);
            }
        }
        let mut names = Vec::new();
        let event = self.get(path, recursive).await.expect("a directory");
        list(&event.node.expect("a node").nodes, &mut names);
        names
    }
}

fn file(value: impl Into<String>) -> Content {
    Content {
        value: value.into(),
        ..Content::default()
    }
}

fn directory() -> Content {
    Content {
        dir: true,
        ..Content::default()
    }
}

fn set(content: Content) -> Write {
    let refresh = false;
    Write::Set { content, refresh }
}

fn expected(value: &str, index: u64) -> Expected {
    let value = value.to_owned();
    Expected { value, index }
}

#[tokio::test]
async fn directories_list_what_is_in_them() {
    let rig = Rig::start();
    // So that what is read at once ends within directories, before and behind them.
    for n in 0..70 {
        for name in ["a", "a/x", "b"] {
            let path = format!("/d/{n:02}{name}/{n}");
            rig.done(&path, set(file("v"))).await;
        }
    }
    for path in [
        "/d/a-b", "/d/a.b", "/d/a0", "/d/a/b/c", "/d/_h/x", "/d/a/_h", "/d0", "/c",
    ] {
        rig.done(path, set(file("w"))).await;
    }
    let mut names: Vec<String> = Vec::new();
    for n in 0..70 {
        names.extend([format!("/d/{n:02}a/"), format!("/d/{n:02}b/")]);
    }
    names.extend(["/d/a/", "/d/a-b=w", "/d/a.b=w", "/d/a0=w"].map(str::to_owned));
    assert_eq!(rig.listed("/d", false).await, names);
    assert_eq!(rig.listed("/d/a", true).await, ["/d/a/b/", "/d/a/b/c=w"]);
    assert_eq!(rig.listed("/d/_h", false).await, ["/d/_h/x=w"]);
    assert_eq!(rig.listed("/", false).await, ["/c=w", "/d/", "/d0=w"]);
    let all = rig.listed("/", true).await;
    assert_eq!(all.len(), 3 + 70 * 6 + 6, "{all:#?}");
    assert!(all.is_sorted_by_key(|name| {
        name.split(['/', '='])
            .map(str::to_owned)
            .collect::<Vec<_>>()
    }));
    assert!(all.contains(&"/d/00a/x/0=v".to_owned()));
}

#[tokio::test]
async fn names_in_order_are_in_order() {
    let rig = Rig::start();
    rig.done("/q/05", set(file("named by hand"))).await;
    let writers = (0..8).map(|writer| {
        let rig = &rig;
        async move {
            let mut mine = Vec::new();
            for n in 0..8 {
                let event = rig
                    .done("/q", Write::Append(file(format!("{writer}.{n}"))))
                    .await;
                assert_eq!(event.action, Action::Create);
                let node = event.node.expect("a node");
                assert_eq!(node.created, node.modified);
                mine.push((node.created, node.key));
            }
            mine
        }
    });
    let mut made: Vec<(i64, String)> = join_all(writers).await.concat();
    made.sort();
    assert_eq!(made.len(), 64);
    assert!(made.is_sorted_by(|a, b| a.1 < b.1), "{made:?}");
    let digits = |key: &str| key.strip_prefix("/q/").is_some_and(|name| name.len() == 20);
    assert!(made.iter().all(|(_, key)| digits(key)));
    // Nobody else wrote: names are indexes.
    for (index, key) in &made {
        assert_eq!(*key, format!("/q/{index:020}"));
    }
    let listed = rig.listed("/q", false).await;
    assert_eq!(listed.len(), 65);

    let made = rig.done("/", Write::Append(directory())).await;
    assert!(made.node.expect("a node").dir);
    let refused = rig.write("/q/05", Write::Append(file("x"))).await;
    let refused = refused.expect_err("a file is in the way");
    assert_eq!((refused.code, &*refused.cause), (Code::NotDir, "/q/05"));
}

#[tokio::test]
async fn writers_do_not_lose_each_others_writes() {
    let rig = Rig::start();
    rig.done("/count", set(file("0"))).await;
    let other = V2::new(rig.server.member());
    // As on two members: they do not take turns.
    let writers = (0..6).map(|writer| {
        let v2 = if writer % 2 == 0 { &rig.v2 } else { &other };
        async move {
            let path = Path::of("/count");
            for _ in 0..10 {
                loop {
                    let (event, _) = v2
                        .get(&path, false, false, Event::clone)
                        .await
                        .expect("it is there");
                    let node = event.node.expect("a node");
                    let count: u32 = node.value.expect("a value").parse().expect("a number");
                    let swap = Write::Swap {
                        expected: expected("", node.modified.unsigned_abs()),
                        content: file((count + 1).to_string()),
                        refresh: false,
                    };
                    match v2.write(&path, &swap).await {
                        Ok(event) => {
                            assert_eq!(event.prev.map(|prev| prev.modified), Some(node.modified));
                            break;
                        }
                        Err(refusal) => assert_eq!(refusal.code, Code::TestFailed),
                    }
                }
                // What nobody has to compare comes through whoever else writes.
                let event = v2.write(&Path::of("/hot"), &set(file("x"))).await;
                assert!(event.is_ok(), "{event:?}");
            }
        }
    });
    join_all(writers).await;
    let event = rig.get("/count", false).await.expect("it is there");
    assert_eq!(
        event.node.and_then(|node| node.value).as_deref(),
        Some("60")
    );
}

/// A directory goes, or something comes into it, but not both.
#[tokio::test]
async fn no_file_is_left_without_its_directory() {
    let rig = Rig::start();
    let other = V2::new(rig.server.member());
    for n in 0..40 {
        let dir = Path::of(&format!("/d{n}"));
        rig.v2
            .write(&dir, &Write::Create(directory()))
            .await
            .expect("new");
        let delete = Write::Delete {
            dir: true,
            recursive: n % 2 == 0,
        };
        let deeper = dir.child("x").child("y");
        let content = set(file("v"));
        let both = (rig.v2.write(&dir, &delete), other.write(&deeper, &content));
        let (deleted, written) = futures_util::future::join(both.0, both.1).await;
        written.expect("it makes the directories that it needs");
        if let Err(refusal) = &deleted {
            assert_eq!(refusal.code, Code::DirNotEmpty);
        }
        let Err(refusal) = other.get(&deeper, false, false, Event::clone).await else {
            let name = dir.as_str();
            let listed = rig.listed(name, true).await;
            assert_eq!(listed, [format!("{name}/x/"), format!("{name}/x/y=v")]);
            continue;
        };
        // It came first, and went with its directory.
        assert_eq!(
            (refusal.code, &*refusal.cause),
            (Code::KeyNotFound, dir.as_str())
        );
        assert!(deleted.is_ok() && n % 2 == 0, "{dir:?}: {deleted:?}");
    }
}

#[tokio::test]
async fn a_full_store_takes_removals() {
    let rig = Rig::start();
    for path in ["/a", "/d/b", "/c"] {
        rig.done(path, set(file("v"))).await;
    }
    let alarm = retcd_proto::etcdserverpb::AlarmRequest {
        action: retcd_proto::etcdserverpb::alarm_request::AlarmAction::Activate as i32,
        member_id: rig.server.member().id,
        alarm: retcd_proto::etcdserverpb::AlarmType::Nospace as i32,
    };
    let request = retcd_proto::etcdserverpb::InternalRaftRequest {
        alarm: Some(alarm),
        ..Default::default()
    };
    rig.server.member().propose(request).await.expect("raised");
    let refused = rig.write("/a", set(file("w"))).await.expect_err("full");
    assert_eq!(refused.code, Code::RaftInternal);
    assert_eq!(refused.cause, Error::NoSpace.to_string());

    let mut waits = ["/a", "/d/b"].map(|path| {
        let answer = rig.v2.wait(&Path::of(path), 0, false, false);
        answer.expect("it may wait").into_body()
    });
    let recursive = |recursive| Write::Delete {
        dir: false,
        recursive,
    };
    rig.done("/a", recursive(false)).await;
    rig.done("/d", recursive(true)).await;
    rig.done("/c", Write::DeleteExpected(expected("v", 0)))
        .await;
    assert_eq!(rig.listed("/", true).await, Vec::<String>::new());
    for (wait, path) in waits.iter_mut().zip(["/a", "/d/b"]) {
        let event = waiting::next(wait).await.expect("an event");
        assert_eq!(event["action"], "delete");
        assert_eq!(event["node"]["key"], path);
        assert_eq!(event["prevNode"]["value"], "v");
    }
}

/// A client of the v3 API can write anything anywhere.
#[tokio::test]
async fn foreign_values_are_told_apart() {
    let rig = Rig::start();
    rig.done("/d/a", set(file("v"))).await;
    let client = rig.server.client();
    let deep = format!("_retcd/v2/node/{}", vec!["x"; MAX_DEPTH + 5].join("/"));
    for key in [
        "_retcd/v2/node/d/b",
        "_retcd/v2/node/d//c",
        "_retcd/v2/node/orphan/x",
        &deep,
    ] {
        client.put(key.to_owned(), "no node").await.expect("a put");
    }
    client.put(REMOVAL, "nonsense").await.expect("a put");
    client
        .put(super::path::ORDER, "nonsense")
        .await
        .expect("a put");
    client.put("_retcd/v2/ttl/x", "").await.expect("a put");
    assert_eq!(rig.listed("/", true).await, ["/d/", "/d/a=v"]);
    assert_eq!(rig.listed("/d", false).await, ["/d/a=v"]);
    for outcome in [
        rig.get("/d/b", false).await,
        rig.write("/d/b", set(file("x"))).await,
    ] {
        let refused = outcome.expect_err("no node");
        assert_eq!(refused.code, Code::RaftInternal);
        assert!(
            refused.cause.contains("_retcd/v2/node/d/b is no node"),
            "{refused:?}"
        );
    }
    let made = rig.done("/q", Write::Append(file("x"))).await;
    assert!(made.node.is_some());
    assert_eq!(rig.v2.end_some().await, 0);
}

#[tokio::test]
async fn indexes_are_revisions_of_the_store() {
    let rig = Rig::start();
    let client = rig.server.client();
    let mut indexes = BTreeSet::new();
    for n in 0..3 {
        let event = rig.done("/a", set(file(n.to_string()))).await;
        let node = event.node.expect("a node");
        assert_eq!(node.created, node.modified, "a set makes a new node");
        indexes.insert(node.modified);
        let other = client.put("other", "x").await.expect("a put");
        assert_eq!(other, node.modified + 1);
    }
    assert_eq!(indexes.len(), 3);
    let update = Write::Update {
        content: file("x"),
        refresh: false,
    };
    let event = rig.done("/a", update).await;
    let node = event.node.expect("a node");
    assert_eq!(Some(&node.created), indexes.last());
    assert_eq!(node.modified, node.created + 2);
}
