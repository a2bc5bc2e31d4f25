//! What a member does with new work while it has much to apply.

use std::time::Duration;

use retcd_proto::etcdserverpb::{InternalRaftRequest, PutRequest};
use retcd_proto::raftpb::MessageType;

use super::rig::{PATIENCE, Rig, disk, wait_for};
use super::script::{FOUNDED, Script};
use crate::error::Error;

fn put() -> InternalRaftRequest {
    InternalRaftRequest {
        put: Some(PutRequest {
            key: "k".into(),
            value: "v".into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[tokio::test]
async fn new_work_waits_for_the_apply_thread_before_it_is_refused() {
    let mut script = Script::beginning();
    let mut rig = Rig::start(&disk(), 2).unwrap();
    let (before, entries) = script.behind(FOUNDED);
    rig.tell(before, entries);
    let applied = script.last();
    rig.apply(applied);
    for n in 0..=5000 {
        script.put(&format!("k{n}"), "v", 0);
    }
    let (before, entries) = script.behind(applied);
    rig.tell(before, entries);
    wait_for("the commit", || {
        (rig.member.node().status().committed == script.last()).then_some(())
    });
    assert_eq!(
        rig.member.propose(put()).await.err(),
        Some(Error::TooManyRequests)
    );
    assert!(!rig.has_sent(MessageType::MsgProp));

    // It waits, and goes on its way as soon as less is left to apply.
    let waits = rig.member.clone();
    let waits = tokio::spawn(async move { waits.propose(put()).await });
    tokio::task::yield_now().await;
    rig.set_free();
    rig.wait_applied(script.last());
    let leaves = async {
        while !rig.has_sent(MessageType::MsgProp) {
            assert!(!waits.is_finished(), "it ended without leaving");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let left = tokio::time::timeout(PATIENCE, leaves).await;
    left.expect("it leaves in time");
    waits.abort();
    rig.stop();
}
