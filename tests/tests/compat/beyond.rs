//! Where genuine etcd is no model, since it never answers or falls over: ours must answer, and stay.

use retcd_tests::grpc::{Connection, Outcome, frame};
use retcd_tests::member::{Member, Setup};
use retcd_tests::{binary, http1};

use crate::requests::*;
use crate::rpc::Rpc;

/// Calls with a message, or without any body.
fn outcomes(calls: &[(&str, Option<Vec<u8>>)]) -> Vec<Outcome> {
    let member = Member::start(Setup::new(binary::ours()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let outcomes = runtime.block_on(async {
        let connection = Connection::open(member.port()).await;
        let mut outcomes = Vec::new();
        for (path, message) in calls {
            let body = message.as_deref().map(frame).unwrap_or_default();
            outcomes.push(connection.send(path, &[], body).await);
        }
        assert!(connection.usable(), "the connection went: {}", member.describe());
        outcomes
    });
    assert_eq!(http1::get(member.port(), "/health").expect("it lives").status, 200, "{}", member.describe());
    outcomes
}

fn encoded(message: &impl prost::Message) -> Option<Vec<u8>> {
    Some(message.encode_to_vec())
}

/// Go etcd leaves such a call open until the client gives up.
#[test]
fn a_call_without_body_fails() {
    for outcome in outcomes(&[(RangeRequest::PATH, None), ("/etcdserverpb.KV/RangeStream", None)]) {
        assert!(outcome.broken.is_none() && outcome.code.is_some_and(|c| c != 0), "{outcome:?}");
    }
}

/// Go etcd 3.7.1 ends in a panic.
#[test]
fn an_unknown_alarm_action_harms_nobody() {
    let alarm = |action, alarm| encoded(&AlarmRequest { action, alarm, member_id: 1 });
    let calls = [alarm(7, 1), alarm(-1, 1), alarm(3, 0), alarm(9, 9), alarm(0, 0)];
    let outcomes = outcomes(&calls.map(|message| (AlarmRequest::PATH, message)));
    for outcome in &outcomes {
        assert!(outcome.broken.is_none() && outcome.code.is_some(), "{outcome:?}");
    }
}

/// A transaction in a transaction in a ...: a decoder that calls itself must not run out of stack.
#[test]
fn deep_nesting_harms_nobody() {
    let deep = |levels: usize| {
        // By hand: the encoder calls itself as well.
        let mut message = encoded(&batch([put("deep", "v").op()])).expect("just encoded");
        for _ in 0..levels {
            for tag in [0x22, 0x12] {
                let mut outer = vec![tag];
                prost::encoding::encode_varint(message.len() as u64, &mut outer);
                outer.append(&mut message);
                message = outer;
            }
        }
        Some(message)
    };
    // Every depth around the decoder's limit: what the log holds is one level deeper than the request.
    let levels = (30..=52).chain([64, 126, 127, 128, 1000, 100_000]);
    let calls: Vec<_> = levels.map(|levels| (TxnRequest::PATH, deep(levels))).collect();
    let outcomes = outcomes(&calls);
    assert!(outcomes[10].ok() && !outcomes[11].ok(), "40 levels are the limit");
    assert!(outcomes[0].ok(), "30 levels are within the limits: {:?}", outcomes[0]);
    for outcome in &outcomes {
        assert!(outcome.broken.is_none() && outcome.code.is_some(), "{outcome:?}");
    }
    assert!(!outcomes[calls.len() - 1].ok(), "a hundred thousand levels are not");
}
