//! Changes of the membership that raft cannot make, or that come when the node is gone.

use retcd_storage::mvcc::RangeQuery;

use super::rig::{Rig, disk, id};
use super::script::{FOUNDED, Script};

fn has(rig: &Rig, key: &[u8]) -> bool {
    let query = RangeQuery {
        key,
        end: b"",
        rev: 0,
        limit: 0,
        count_only: true,
        keys_only: false,
    };
    rig.member.store.view().range(&query).unwrap().count == 1
}

/// Without `--strict-reconfig-check` all voters can be removed, one by one. Raft keeps the last one, and so must the
/// members: an entry that stops them would do so at each start.
#[test]
fn the_last_voter_stays() {
    let mut script = Script::default();
    script.remove(1);
    script.remove(3);
    script.remove(2);
    script.put("k", "after it", 0);
    let fs = disk();
    for start in 0..2 {
        let mut rig = Rig::start(&fs, 2).unwrap();
        if start == 0 {
            let (before, entries) = script.behind(FOUNDED);
            rig.tell(before, entries);
        }
        rig.apply(script.last());
        let members: Vec<u64> = rig.member.cluster.load().members().map(|m| m.id).collect();
        assert_eq!(members, [id(2)]);
        assert!(has(&rig, b"k"));
        assert_eq!(*rig.member.ending.borrow(), None);
        rig.stop();
    }
}

/// A stop that comes while a change of the membership waits to be applied is one like any other.
#[test]
fn a_stop_with_a_change_left_is_no_failure() {
    let mut script = Script::default();
    script.put("before", "it", 0);
    script.remove(1);
    script.put("after", "it", 0);
    let fs = disk();
    let mut rig = Rig::start(&fs, 2).unwrap();
    let (before, entries) = script.behind(FOUNDED);
    rig.tell(before, &[]);
    rig.apply(FOUNDED);
    rig.tell(before, entries);
    assert_eq!(rig.stop_behind(script.last()), None);
    // What was applied is in the database, with its index; the rest is applied after the start.
    let mut rig = Rig::start(&fs, 2).unwrap();
    assert!(has(&rig, b"before") && !has(&rig, b"after"));
    assert_eq!(rig.member.applied(), FOUNDED + 1);
    rig.apply(script.last());
    assert!(has(&rig, b"after"));
    assert!(rig.member.cluster.load().member(id(1)).is_none());
    rig.stop();
}
