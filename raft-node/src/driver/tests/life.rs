//! A member's life on a disk that works, and on one that does not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use retcd_storage::fs::{Fs, RealFs, SimFs};

use super::rig::{PATIENCE, Rig, config, member, new_member, restart, wait_for};
use crate::{Error, ProposeError, Role, open};

#[test]
fn a_lone_member_elects_itself_and_applies_what_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(Arc::new(RealFs), dir.path(), new_member()).unwrap();
    rig.put("a");
    rig.put("b");
    assert_eq!(rig.texts(), ["a", "b"]);
    assert_eq!(rig.conf_state.voters, [member().id]);
    let status = rig.handle.status();
    assert_eq!(
        (status.term, status.leader, status.role),
        (2, member().id, Role::Leader)
    );
    assert_eq!(status.committed, rig.index);
    rig.stop();

    let mut rig = Rig::start(Arc::new(RealFs), dir.path(), restart(0)).unwrap();
    rig.put("c");
    assert_eq!(rig.texts(), ["a", "b", "c"]);
    assert_eq!(rig.handle.status().term, 3);
    let applied = rig.index;
    rig.stop();

    let mut rig = Rig::start(Arc::new(RealFs), dir.path(), restart(applied)).unwrap();
    rig.put("d");
    assert_eq!(rig.texts(), ["d"], "what is applied is not applied again");
    rig.stop();
}

#[test]
fn reads_are_answered_with_an_index_that_covers_earlier_writes() {
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
    let mut rig = Rig::start(fs, "/m".as_ref(), new_member()).unwrap();
    // Asked before anybody leads: answered when somebody does (M2).
    rig.handle.read_index(1).unwrap();
    rig.put("a");
    let (request, index) = rig.ears.reads.recv_timeout(PATIENCE).unwrap();
    assert_eq!(request, 1);
    assert!(index >= 2);
    let written = rig.index;
    rig.handle.read_index(2).unwrap();
    let (request, index) = rig.ears.reads.recv_timeout(PATIENCE).unwrap();
    assert_eq!(request, 2);
    assert!(index >= written);
}
