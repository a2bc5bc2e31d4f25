//! Peers that send anything, to members in every role.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: u32::try_from(4_000 * crate::test_scale()).unwrap_or(u32::MAX),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// No message is a panic, and one that is refused touches nothing.
    #[test]
    fn any_script_of_messages_is_survived(script in prop::collection::vec(any::<u8>(), 0..1_500)) {
        fuzz_core(&script);
    }
}

/// A snapshot of the committed index with another term: the crate would count it as durable at once, and panic when an
/// election is won before it is.
#[test]
fn a_snapshot_that_contradicts_the_commit_index_is_refused() {
    let mut core = core_with(1, &[1, 2, 3], 3);
    let snapshot = |index, term| raftpb::Message {
        r#type: Some(7),
        to: Some(1),
        from: Some(2),
        term: Some(2),
        snapshot: Some(raftpb::Snapshot {
            data: None,
            metadata: Some(raftpb::SnapshotMetadata {
                conf_state: Some(voters(&[1, 2, 3])),
                index: Some(index),
                term: Some(term),
            }),
        }),
        ..raftpb::Message::default()
    };
    assert!(core.step(snapshot(3, 2)).is_err());
    assert!(!core.has_ready());
    core.step(snapshot(3, 1)).unwrap();
    assert!(drain(&mut core).iter().all(|o| o.snapshot.is_none()));
    core.step(snapshot(4, 2)).unwrap();
    assert!(drain(&mut core)[0].snapshot.is_some());
}
