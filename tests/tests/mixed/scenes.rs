//! What every mix must be able to do, one by one; random runs come to each of it only by chance.

use std::time::Duration;

use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::request_op::Request;
use retcd_tests::nodes::Kind;
use retcd_tests::random::Random;

use crate::run::Run;

fn play(letters: &str, scene: impl AsyncFn(&mut Run)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let Some(mut run) = Run::start(&Kind::parse(letters), Random::new(7)).await else { return };
        run.load(10).await;
        scene(&mut run).await;
        println!("{letters}: {}", run.finish().await);
    });
}

/// A member of the second letter falls behind a leader of the first.
async fn snapshot(run: &mut Run) {
    run.cluster.lead(0).await;
    run.falls_behind(1).await;
    // Whoever led before may lead again: who sent it does not matter as long as the others agree.
    run.load(10).await;
}

#[test]
fn a_genuine_leader_sends_ours_a_snapshot() {
    play("GOG", snapshot);
}

#[test]
fn ours_sends_a_genuine_member_a_snapshot() {
    play("OGO", snapshot);
}

#[test]
fn ours_sends_ours_a_snapshot() {
    play("OOG", snapshot);
}

/// The measure for the others.
#[test]
fn genuine_members_alone() {
    play("GGG", async |run| {
        snapshot(run).await;
        run.learner_for(0, Kind::Go).await;
        run.compact(1).await;
    });
}

#[test]
fn all_are_replaced_and_back() {
    play("GGG", async |run| {
        for kind in [Kind::Ours, Kind::Go] {
            for n in 0..3 {
                run.replaced_in_place(n, kind).await;
                run.load(10).await;
            }
        }
    });
}

#[test]
fn all_of_3_6_are_replaced() {
    play("666", async |run| {
        for n in 0..3 {
            run.replaced_in_place(n, Kind::Ours).await;
            run.load(10).await;
        }
    });
}

#[test]
fn learners_of_either_kind_are_promoted() {
    play("GGO", async |run| {
        run.cluster.lead(0).await;
        run.learner_for(1, Kind::Ours).await;
        run.load(10).await;
        let ours = run.cluster.nodes.iter().position(|n| n.kind() == Kind::Ours).expect("two of ours");
        run.cluster.lead(ours).await;
        run.learner_for(0, Kind::Go).await;
    });
}

/// A put within so many transactions.
fn nested(depth: usize) -> pb::TxnRequest {
    let put = pb::PutRequest { key: "deep".into(), value: depth.to_string().into(), ..Default::default() };
    let mut request = Request::RequestPut(put);
    for _ in 1..depth {
        let inner = pb::TxnRequest { success: vec![pb::RequestOp { request: Some(request) }], ..Default::default() };
        request = Request::RequestTxn(inner);
    }
    pb::TxnRequest { success: vec![pb::RequestOp { request: Some(request) }], ..Default::default() }
}

/// Deeper than prost reads, and as deep as etcd takes.
const DEPTHS: [usize; 2] = [60, 128];

#[test]
fn deep_transactions_of_genuine_members_are_applied() {
    play("GOO", async |run| {
        for leader in 0..2 {
            run.cluster.lead(leader).await;
            for depth in DEPTHS {
                let request = nested(depth);
                let sent = run.cluster.until(0, "deep transaction", async |caller, at| {
                    // The reply is as deep, and is not looked at.
                    caller.call::<()>(at, "KV/Txn", &request, Duration::from_secs(10)).await
                });
                sent.await;
                for n in 0..3 {
                    let get = pb::RangeRequest { key: "deep".into(), ..Default::default() };
                    let read = run.cluster.until(n, "read", async |caller, at| {
                        caller.call::<pb::RangeResponse>(at, "KV/Range", &get, Duration::from_secs(10)).await
                    });
                    assert_eq!(read.await.kvs[0].value, depth.to_string());
                }
            }
        }
        // They are read from the log again.
        run.replaced_in_place(1, Kind::Ours).await;
        run.load(10).await;
    });
}
