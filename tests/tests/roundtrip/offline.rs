//! Go's etcdutl at work on the files of a member that is down.

use std::process::Command;

use retcd_tests::run;
use serde_json::Value;

use crate::handover::Handover;
use crate::rig::{Rig, Side, chance, keys};

fn tools_work_on_files_of(test: &str, maker: Side) {
    let Some(rig) = Rig::find() else { return };
    let mut house = Handover::begin(&rig, Side::Go, chance(test));
    house.write(keys() / 4, 2);
    house.remember();
    house.stop();
    house.hand_to(maker);
    house.write(500, 2);
    house.remember();
    house.stop();

    hashes(&house);
    assert_eq!(status(&house)["version"], "3.7.0");
    let before = std::fs::metadata(house.database()).expect("there").len();
    etcdutl(&house, &["defrag", "--data-dir"], true);
    let after = std::fs::metadata(house.database()).expect("there").len();
    // Ours gives space back by itself, and Go's tool rounds the length of its file up.
    if matches!(maker, Side::Go) {
        assert!(after <= before, "{before} bytes became {after}");
    }
    house.check_file();
    hashes(&house);
    house.hand_to(maker);
    house.compare();
    house.stop();

    // One version down, as for an old binary; both sides bring it up again.
    for side in [maker, Side::Go] {
        etcdutl(&house, &["migrate", "--target-version=3.6", "--data-dir"], true);
        assert_eq!(status(&house)["version"], "3.6.0");
        house.check_file();
        house.hand_to(side);
        house.compare();
        house.stop();
        assert_eq!(status(&house)["version"], "3.7.0");
    }
    etcdutl(&house, &["migrate", "--target-version=3.6", "--data-dir"], true);
    etcdutl(&house, &["migrate", "--target-version=3.7", "--data-dir"], true);
    assert_eq!(status(&house)["version"], "3.7.0");
    house.hand_to(maker);
    house.compare();
}

/// Runs Go's etcdutl on the data directory or on the database.
fn etcdutl(house: &Handover, args: &[&str], on_directory: bool) -> String {
    let mut command = Command::new(house.rig.tool(Side::Go));
    command.args(args);
    if on_directory {
        command.arg(house.member.dir());
    } else {
        command.arg(house.database());
    }
    run::stdout(&mut command).unwrap_or_else(|why| panic!("{}", house.trouble(&why)))
}

/// `etcdutl hashkv` at every revision whose hash the server showed.
fn hashes(house: &Handover) {
    let expected = house.expected.as_ref().expect("remembered");
    let shown = std::fs::read_to_string(expected.dir.join("hashes")).expect("shown");
    for (rev, line) in expected.revs.iter().zip(shown.lines()) {
        let text = etcdutl(house, &["hashkv", "--write-out=json", &format!("--rev={rev}")], false);
        let found: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let found = format!(
            "revision {} hash {} compacted {} of revision {}",
            found["hashRevision"], found["hash"], found["compactRevision"], expected.revision
        );
        assert_eq!(found, line, "{}", house.trouble("etcdutl hashkv"));
    }
}

/// `etcdutl snapshot status` on the database as it lies there.
fn status(house: &Handover) -> Value {
    let text = etcdutl(house, &["snapshot", "status", "--write-out=json"], false);
    let status: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let expected = house.expected.as_ref().expect("remembered");
    assert_eq!(status["revision"].as_i64(), Some(expected.revision), "{}", house.trouble(&text));
    assert_eq!(status["totalKey"].as_u64(), Some(expected.count()), "{}", house.trouble(&text));
    status
}

#[test]
fn tools_on_ours() {
    tools_work_on_files_of("tools_on_ours", Side::Ours);
}

#[test]
fn tools_on_go() {
    tools_work_on_files_of("tools_on_go", Side::Go);
}
