//! Nodes that end by themselves.

use retcd_storage::mvcc::RangeQuery;

use super::*;

const SECOND: i64 = 1_000_000_000;

fn until(content: Content, expires: i64) -> Content {
    Content { expires, ..content }
}

/// The deadlines that the store keeps.
fn deadlines(rig: &Rig) -> usize {
    let (first, end) = crate::v2::path::deadlines_until(i64::MAX);
    let query = RangeQuery {
        key: &first,
        end: &end,
        count_only: true,
        ..RangeQuery::default()
    };
    rig.server
        .member()
        .store
        .range(&query)
        .expect("a count")
        .count
}

#[tokio::test]
async fn nodes_end_at_their_deadlines() {
    let rig = Rig::start();
    let now = rig.v2.now();
    let (past, future) = (now - SECOND, now + 1000 * SECOND);
    let event = rig.done("/later", set(until(file("v"), future))).await;
    let shown = serde_json::to_value(event.node).expect("JSON");
    assert!(
        (990..=1000).contains(&shown["ttl"].as_i64().expect("a number")),
        "{shown}"
    );
    assert!(shown["expiration"].is_string());
    rig.done("/never", set(file("v"))).await;
    rig.done("/ended", set(until(file("v"), past))).await;
    rig.done("/dir", Write::Create(until(directory(), past + 1)))
        .await;
    rig.done("/dir/file", set(file("v"))).await;
    rig.done("/dir/own", set(until(file("v"), future))).await;
    assert_eq!(deadlines(&rig), 4);

    let since = rig.server.member().store.rev().unsigned_abs() + 1;
    let mut waits = [("/", true), ("/dir/file", false)].map(|(path, recursive)| {
        let answer = rig.v2.wait(&Path::of(path), since, recursive, true);
        answer.expect("it may wait").into_body()
    });
    assert_eq!(rig.v2.end_some().await, 2);
    assert_eq!(rig.v2.end_some().await, 0);
    assert_eq!(rig.listed("/", true).await, ["/later=v", "/never=v"]);
    let event = waiting::next(&mut waits[0]).await.expect("an event");
    assert_eq!(event["action"], "expire");
    assert_eq!(event["node"]["key"], "/ended");
    assert_eq!(event["prevNode"]["value"], "v");
    for wait in &mut waits {
        let event = waiting::next(wait).await.expect("an event");
        assert_eq!(event["action"], "expire");
        assert_eq!(event["node"]["key"], "/dir");
        assert_eq!(event["node"]["dir"], true);
    }
    // That of what was in the directory is forgotten when it comes.
    assert_eq!(deadlines(&rig), 2);
    let key = Path::of("/dir/own");
    assert!(rig.v2.end(key, future).await);
    assert_eq!(deadlines(&rig), 1);
    let counts = serde_json::to_value(rig.v2.counts.shown()).expect("JSON");
    assert_eq!(counts["expireCount"], 2);
    assert_eq!(counts["watchers"], 2);
    drop(waits);
    let counts = serde_json::to_value(rig.v2.counts.shown()).expect("JSON");
    assert_eq!(counts["watchers"], 0);
}

#[tokio::test]
async fn a_node_that_is_written_anew_has_its_new_deadline_alone() {
    let rig = Rig::start();
    let now = rig.v2.now();
    let (past, future) = (now - SECOND, now + 1000 * SECOND);
    let refresh = |content| Write::Update {
        content,
        refresh: true,
    };
    rig.done("/a", set(until(file("v"), past))).await;
    rig.done("/a", refresh(until(file(""), future))).await;
    assert_eq!(deadlines(&rig), 1);
    assert_eq!(rig.v2.end_some().await, 0);
    assert_eq!(rig.listed("/", false).await, ["/a=v"], "the value is kept");

    let refresh = Write::Set {
        content: until(file(""), future + 1),
        refresh: true,
    };
    let event = rig.done("/a", refresh.clone()).await;
    assert_eq!(event.node.and_then(|node| node.value).as_deref(), Some("v"));
    assert_eq!(deadlines(&rig), 1);
    let refused = rig
        .write("/none/x", refresh)
        .await
        .expect_err("nothing there");
    assert_eq!(
        (refused.code, &*refused.cause),
        (Code::KeyNotFound, "/none")
    );

    // Without a deadline it stays.
    rig.done("/a", set(file("w"))).await;
    assert_eq!(deadlines(&rig), 0);
    rig.done("/a", set(until(file("x"), past))).await;
    let delete = Write::Delete {
        dir: false,
        recursive: false,
    };
    rig.done("/a", delete).await;
    assert_eq!(deadlines(&rig), 0);

    rig.done("/d", Write::Create(until(directory(), past)))
        .await;
    let update = Write::Update {
        content: until(directory(), 0),
        refresh: false,
    };
    let event = rig.done("/d", update).await;
    assert_eq!(event.action, Action::Update);
    assert!(event.node.is_some_and(|node| node.dir));
    assert_eq!(deadlines(&rig), 0);
}

/// Without being called, by the member's own thread.
#[tokio::test]
async fn a_member_with_the_flag_ends_nodes_by_itself() {
    let rig = Rig::with(|config| config.enable_v2 = true);
    let path = Path::of("/a");
    let mut wait = rig
        .v2
        .wait(&path, 0, false, false)
        .expect("it may wait")
        .into_body();
    let mut content = file("v");
    content.expires = rig.v2.now() + SECOND / 10;
    rig.done("/a", Write::Create(content)).await;
    let event = waiting::next(&mut wait).await.expect("an event");
    assert_eq!(event["action"], "create");
    let since = event["node"]["modifiedIndex"].as_u64().expect("a number") + 1;
    let mut wait = rig
        .v2
        .wait(&path, since, false, false)
        .expect("it may wait")
        .into_body();
    let event = waiting::next(&mut wait).await.expect("an event");
    assert_eq!(event["action"], "expire");
    assert_eq!(rig.listed("/", false).await, Vec::<String>::new());
}
