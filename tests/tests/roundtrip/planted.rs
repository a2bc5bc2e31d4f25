//! The rig itself: differences put there on purpose are noticed.

use std::fs;
use std::process::Command;

use retcd_tests::run;
use retcd_tests::state::Load;
use retcd_tests::tree::copy_dir;

use crate::files;
use crate::handover::Handover;
use crate::rig::{Rig, Side, chance};

fn small(rig: &Rig, test: &str) -> Handover {
    let mut house = Handover::begin(rig, Side::Go, chance(test));
    house.write(300, 1);
    etcdctl(&house, &["put", "planted", MARK]);
    etcdctl(&house, &["role", "add", "planted"]);
    etcdctl(&house, &["user", "add", "planted", "--no-password"]);
    house.remember();
    house
}

const MARK: &str = "a value that is found again in the file";

fn etcdctl(house: &Handover, args: &[&str]) -> String {
    let endpoint = format!("--endpoints=127.0.0.1:{}", house.member.port());
    let said = run::stdout(Command::new(&house.rig.etcdctl).arg(endpoint).args(args));
    said.unwrap_or_else(|why| panic!("{}", house.trouble(&why)))
}

/// What a client changes.
#[test]
fn changes_are_noticed() {
    let Some(rig) = Rig::find() else { return };
    let mut house = small(&rig, "changes_are_noticed");
    let peer = house.member.peer_url().replace("127.0.0.1", "localhost");
    let id = etcdctl(&house, &["member", "list"]).split(',').next().expect("an id").to_owned();
    let changes: [(&[&str], &str); 7] = [
        (&["lease", "grant", "1000000"], "leases, line"),
        (&["user", "grant-role", "planted", "planted"], "auth, line"),
        (&["role", "grant-permission", "planted", "read", "a", "b"], "role \"planted\" READ 61 62"),
        (&["user", "delete", "planted"], "auth, line"),
        (&["member", "update", &id, &format!("--peer-urls={peer}")], "members, line"),
        (&["put", "planted", MARK], "was not shown"),
        (&["compaction", "250"], "required revision has been compacted"),
    ];
    for (change, complaint) in changes {
        house.compare();
        etcdctl(&house, change);
        let why = house.difference().expect_err("noticed");
        assert!(why.contains(complaint), "{change:?} {complaint:?}: {why}");
        house.remember();
    }
}

/// What nobody can see but in the file, and what only the file's structure shows.
#[test]
fn damage_is_noticed() {
    let Some(rig) = Rig::find() else { return };
    let mut house = small(&rig, "damage_is_noticed");
    house.stop();
    let db = house.database();
    let sound = fs::read(&db).expect("readable");
    // The log would not put it right: the entry is below the consistent index.
    let places: Vec<_> = sound.windows(MARK.len()).enumerate().filter(|(_, w)| *w == MARK.as_bytes()).collect();
    let mut damaged = sound.clone();
    for (at, _) in &places {
        damaged[*at] = b'A';
    }
    fs::write(&db, &damaged).expect("writable");
    house.hand_to(Side::Go);
    let why = house.difference().expect_err("noticed");
    assert!(why.contains("keys@") && why.contains("hashes, line"), "{why}");
    house.member.kill();

    // Every leaf claims to be a branch: one page alone may be a free one, which nobody looks at.
    let mut damaged = sound;
    for flags in damaged.chunks_mut(4096).skip(2).map(|page| &mut page[8]).filter(|flags| **flags == 2) {
        *flags = 1;
    }
    fs::write(&db, &damaged).expect("writable");
    files::check(&rig, &db).expect_err("noticed");
}

/// Acknowledged writes that are gone.
#[test]
fn loss_is_noticed() {
    let Some(rig) = Rig::find() else { return };
    let mut house = small(&rig, "loss_is_noticed");
    house.stop();
    let (copy, acks) = (house.folder("copy"), house.folder("acks"));
    copy_dir(house.member.dir(), &copy);
    house.hand_to(Side::Go);
    let mut load = Load { keys: 100, ops: 0, ..house.load.clone() };
    let mut writing = rig.state.load_until_gone(&house.member, "", &load, &acks).expect("runs");
    writing.wait(500).expect("writes");
    house.member.kill();
    writing.finish(&mut load).expect("ends");
    house.hand_to(Side::Go);
    rig.state.verify(&house.member, "", &acks).expect("nothing is lost yet");
    house.member.kill();
    house.put_back(&copy);
    house.hand_to(Side::Go);
    let why = rig.state.verify(&house.member, "", &acks).expect_err("noticed");
    assert!(why.contains("acknowledged effects are not there"), "{why}");
}

/// A service that a side is thought not to have.
#[test]
fn skipping_what_is_served_is_noticed() {
    let Some(rig) = Rig::find() else { return };
    let mut house = small(&rig, "skipping_what_is_served_is_noticed");
    let (which, dir) = (house.samples(None), house.folder("shown"));
    for skip in ["leases", "auth"] {
        let why = rig.state.dump(&house.member, skip, &which, &dir).expect_err("noticed");
        assert!(why.contains("compare it"), "{why}");
    }
}
