//! `--force-new-cluster`: what is left when a quorum is lost for good.

use retcd_tests::cluster::{Cluster, wait_for};

use super::{programs, three};

#[test]
fn one_member_goes_on_alone_and_is_joined_again() {
    let Some(mut cluster) = three(&[]) else { return };
    let (ctl, ours) = programs().expect("as before");
    for n in 0..20 {
        cluster.put(n % 3, &format!("key{n}"), &n.to_string());
    }
    cluster.check_equal();
    // In order: what is not known to be committed is dropped, and it is known on the disk a moment later only.
    let _ = cluster.members[0].terminate();
    let mut rest = Cluster::prepare(&ctl, &[], &[]);
    rest.members.push(cluster.members.remove(0));
    drop(cluster);
    rest.members[0].set_flags(["--force-new-cluster"]);
    rest.restart(0);
    rest.wait_for_log(0, "forcing restart member");
    for n in 0..20 {
        assert_eq!(rest.get(0, &format!("key{n}")), n.to_string());
    }
    let list = rest.at(0, &["member", "list"]);
    assert_eq!(list.lines().count(), 1, "{list}");
    rest.put(0, "alone", "1");

    // The flag goes, the member stays alone, and others join it.
    rest.members[0].set_flags([""; 0]);
    let _ = rest.members[0].terminate();
    rest.restart(0);
    let new = rest.newcomer(&ours, "n2", &[]);
    let url = format!("--peer-urls={}", rest.members[new].peer_url());
    wait_for("healthy cluster", || rest.ctl_at(0, &["member", "add", "n2", &url]).ok());
    rest.restart(new);
    assert_eq!(rest.get(new, "alone"), "1");
    rest.put(new, "two", "2");
    rest.check_equal();
}
