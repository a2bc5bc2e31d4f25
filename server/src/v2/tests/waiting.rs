//! Who waits hears what it waits for.

use std::time::Duration;

use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::time::timeout;

use super::*;
use crate::net::Body;

/// The next event of an answer; none at its end.
pub(super) async fn next(body: &mut Body) -> Option<Value> {
    let frame = timeout(Duration::from_secs(60), body.frame()).await;
    let frame = frame.expect("an event within a minute")?;
    let frame = frame.unwrap_or_else(|never| match never {});
    let data = frame.into_data().expect("data");
    assert!(data.ends_with(b"\n"));
    Some(serde_json::from_slice(&data).expect("JSON"))
}

fn wait(rig: &Rig, path: &str, since: u64, recursive: bool, stream: bool) -> Body {
    let answer = rig.v2.wait(&Path::of(path), since, recursive, stream);
    let answer = answer.expect("it may wait");
    assert_eq!(answer.status(), 200);
    for name in ["x-etcd-index", "x-raft-index", "x-raft-term"] {
        assert!(answer.headers().contains_key(name), "{name}");
    }
    answer.into_body()
}

/// What a stream brings up to the key `/end`.
async fn heard(mut body: Body) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        let event = next(&mut body).await.expect("an event");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = text(&event["node"]["key"]);
        if key.ends_with("/end") {
            return heard;
        }
        heard.push(format!("{} {key}", text(&event["action"])));
    }
}

#[tokio::test]
async fn each_waiter_hears_what_is_its_own() {
    let rig = Rig::start();
    let first = rig.server.member().store.rev().unsigned_abs() + 1;
    let live = ["/", "/a", "/a/b", "/a/_h"].map(|path| wait(&rig, path, 0, true, true));
    let plain = wait(&rig, "/a", 0, false, true);
    let inner = wait(&rig, "/a/b/c", 0, false, true);

    let delete = |recursive| Write::Delete {
        dir: false,
        recursive,
    };
    rig.done("/a/b/c", set(file("1"))).await;
    rig.done("/a-b", set(file("not below"))).await;
    rig.done("/a/_h/x", set(file("hidden"))).await;
    let update = |refresh, expires| Write::Update {
        content: Content {
            value: if refresh { "" } else { "2" }.to_owned(),
            expires,
            dir: false,
        },
        refresh,
    };
    rig.done("/a/b/c", update(false, 0)).await;
    rig.done("/a/b/c", update(true, i64::MAX - 1)).await;
    rig.done("/a/b", delete(true)).await;
    rig.done("/a/b/c", Write::Create(file("3"))).await;
    rig.done("/a/b/c", Write::DeleteExpected(expected("3", 0)))
        .await;
    rig.done("/a", delete(true)).await;
    for path in ["/end", "/a/end", "/a/b/end", "/a/_h/end", "/a/b/c/end"] {
        rig.done(path, set(file(""))).await;
    }

    let below = [
        "set /a/b/c",
        "update /a/b/c",
        "delete /a/b",
        "create /a/b/c",
        "compareAndDelete /a/b/c",
        "delete /a",
    ];
    let all = [
        "set /a/b/c",
        "set /a-b",
        "update /a/b/c",
        "delete /a/b",
        "create /a/b/c",
        "compareAndDelete /a/b/c",
        "delete /a",
    ];
    let hidden = ["set /a/_h/x", "delete /a"];
    let expected: [&[&str]; 4] = [&all, &below, &below, &hidden];
    for (body, expected) in live.into_iter().zip(expected) {
        assert_eq!(heard(body).await, expected);
    }
    // The same from history.
    for (path, expected) in ["/", "/a", "/a/b", "/a/_h"].into_iter().zip(expected) {
        assert_eq!(
            heard(wait(&rig, path, first, true, true)).await,
            expected,
            "{path}"
        );
    }
    // Not what is below; it does not hear of its end, so that something at it must come last.
    let mut plain = plain;
    let event = next(&mut plain).await.expect("an event");
    assert_eq!(
        (&event["action"], &event["node"]["key"]),
        (&"delete".into(), &"/a".into())
    );
    let mut inner = inner;
    for (action, key) in [
        ("set", "/a/b/c"),
        ("update", "/a/b/c"),
        ("delete", "/a/b"),
        ("create", "/a/b/c"),
        ("compareAndDelete", "/a/b/c"),
    ] {
        let event = next(&mut inner).await.expect("an event");
        assert_eq!(
            (&event["action"], &event["node"]["key"]),
            (&action.into(), &key.into())
        );
    }
}

#[tokio::test]
async fn an_event_is_whole() {
    let rig = Rig::start();
    let created = rig.done("/a", set(file("1"))).await.node.expect("a node");
    let mut body = wait(&rig, "/a", 0, false, false);
    let swap = Write::Swap {
        expected: expected("1", 0),
        content: file("2"),
        refresh: false,
    };
    let answered = rig.done("/a", swap).await;
    let event = next(&mut body).await.expect("an event");
    assert_eq!(event, serde_json::to_value(&answered).expect("JSON"));
    assert_eq!(event["node"]["createdIndex"], created.created);
    assert_eq!(event["prevNode"]["value"], "1");
    assert_eq!(next(&mut body).await, None, "one event is all");

    let deleted = rig
        .done("/a", Write::DeleteExpected(expected("2", 0)))
        .await;
    let since = deleted
        .node
        .as_ref()
        .expect("a node")
        .modified
        .unsigned_abs();
    let mut body = wait(&rig, "/a", since, false, false);
    let event = next(&mut body).await.expect("an event");
    assert_eq!(event, serde_json::to_value(&deleted).expect("JSON"));
}

#[tokio::test]
async fn history_ends_where_it_is_compacted() {
    let rig = Rig::start();
    for n in 0..5 {
        rig.done("/a", set(file(n.to_string()))).await;
    }
    let index = rig.server.member().store.rev();
    let compact = retcd_proto::etcdserverpb::CompactionRequest {
        revision: index - 1,
        physical: true,
    };
    rig.server
        .client()
        .compact(compact)
        .await
        .expect("a compaction");
    let refused = rig.v2.wait(&Path::of("/a"), 3, false, false);
    let refused = refused.map(drop).expect_err("it is compacted");
    assert_eq!(
        (refused.code, refused.index),
        (Code::EventIndexCleared, index)
    );
    let cause = format!("the requested history has been cleared [{}/3]", index - 1);
    assert_eq!(refused.cause, cause);
    let mut body = wait(&rig, "/a", index.unsigned_abs(), false, false);
    let event = next(&mut body).await.expect("an event");
    assert_eq!(event["node"]["value"], "4");
}

#[tokio::test]
async fn a_member_that_stops_lets_go_of_who_waits() {
    let rig = Rig::start();
    let mut body = wait(&rig, "/a", 0, false, true);
    rig.done("/a", set(file("1"))).await;
    assert!(next(&mut body).await.is_some());
    let Rig { v2, server, _dir } = rig;
    drop(v2);
    tokio::task::spawn_blocking(move || server.stop())
        .await
        .expect("it stops");
    assert_eq!(next(&mut body).await, None);
}
