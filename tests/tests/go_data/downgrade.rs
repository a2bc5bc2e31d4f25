//! A downgrade that was begun with Go etcd 3.7 is finished by ours, and etcd 3.6 takes over.

use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::downgrade_request::DowngradeAction;
use retcd_tests::binary::ours;
use retcd_tests::member::{Member, Setup};

use crate::client::Client;
use crate::file;
use crate::go;
use crate::shown::Shown;

#[test]
fn ours_makes_the_way_free_for_an_older_release() {
    let (Some(newest), Some(older)) = (go("3.7"), go("3.6")) else {
        return;
    };
    let (mut member, before) = loop {
        let mut member = Member::start(Setup::new(&newest));
        let client = Client::new(&member);
        for n in 0..20 {
            client.put(format!("key/{n}"), "value", 0);
        }
        let before = Shown::of(&client);
        client.call(pb::DowngradeRequest { action: DowngradeAction::Enable as i32, version: "3.6.0".into() });
        // Before its leader looks at the versions again, which it does every four seconds.
        member.kill();
        if !member.log().whole().contains("updating cluster version using v3 API") {
            break (member, before);
        }
    };
    let info = |member: &Member| file::text(&file::open(&file::database(member)), "cluster", "downgrade");

    member.set_program(ours());
    member.restart();
    assert_eq!(Shown::of(&Client::new(&member)), before);
    member.terminate();
    let stored = file::open(&file::database(&member));
    assert_eq!(file::text(&stored, "cluster", "clusterVersion").as_deref(), Some("3.6.0"));
    assert_eq!(file::text(&stored, "meta", "storageVersion").as_deref(), Some("3.6.0"));
    drop(stored);
    assert_eq!(info(&member).as_deref(), Some(r#"{"target-version":"3.6.0","enabled":true}"#));
    let snapshots = file::names(&member).iter().filter(|name| name.ends_with(".snap")).count();
    assert_eq!(snapshots, 1, "the older release starts behind what it might not read");

    // Again: what is lowered stays so.
    member.restart();
    assert_eq!(Shown::of(&Client::new(&member)), before);
    member.terminate();

    member.set_program(older);
    member.restart();
    assert_eq!(Shown::of(&Client::new(&member)), before);
}
