//! History goes away by itself: whoever leads sees to it.

use retcd_tests::cluster::{Cluster, wait_for};

use super::three;

const DONE: &str = "completed auto periodic compaction";

/// How often a member has compacted by itself.
fn compactions(cluster: &Cluster, number: usize) -> usize {
    cluster.members[number].log().text().matches(DONE).count()
}

#[test]
fn whoever_leads_compacts() {
    let Some(mut cluster) = three(&["--auto-compaction-retention=1s"]) else { return };
    let is_compacted = |cluster: &Cluster, number| {
        let read = cluster.ctl_at(number, &["get", "key", "--rev=2"]);
        read.is_err_and(|error| error.contains("required revision has been compacted"))
    };
    wait_for("compaction", || {
        cluster.put(0, "key", "value");
        is_compacted(&cluster, 0).then_some(())
    });
    assert!((0..3).any(|number| compactions(&cluster, number) > 0), "by none of the members itself");

    // Whoever led is gone.
    let leader = cluster.leader();
    cluster.members[leader].kill();
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    let before = others.map(|number| compactions(&cluster, number));
    wait_for("compaction by another leader", || {
        // While there is none, it may be refused.
        let _ = cluster.ctl_at(others[0], &["put", "key", "value"]);
        (others.map(|number| compactions(&cluster, number)) > before).then_some(())
    });
    for number in others {
        wait_for("compaction on a member", || is_compacted(&cluster, number).then_some(()));
    }
}
