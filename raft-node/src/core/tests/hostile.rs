//! Peers that send anything, to members in every role.

use proptest::prelude::*;

use super::super::fuzz_core;

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
