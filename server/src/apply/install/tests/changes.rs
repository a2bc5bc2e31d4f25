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
