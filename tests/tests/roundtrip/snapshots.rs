//! Snapshots of either side, looked at and restored by either's tool, served by either side.

use std::path::{Path, PathBuf};
use std::process::Command;

use retcd_tests::{peers, run};
use serde_json::Value;

use crate::files;
use crate::handover::Handover;
use crate::rig::{Rig, Side, chance, keys};

/// Saves snapshots of what `maker` serves, and has each restored by each of `tools` and served by `servers`.
fn exchange(test: &str, maker: Side, tools: &[Side], servers: &[Side]) {
    let Some(rig) = Rig::find() else { return };
    // Genuine etcd begins, so that there are leases, users and roles in any case.
    let mut house = Handover::begin(&rig, Side::Go, chance(test));
    house.write(keys() / 4, 2);
    house.remember();
    house.stop();
    house.hand_to(maker);
    house.write(300, 1);
    house.remember();
    let clients = [Some(rig.etcdctl.clone()), peers::debian_etcdctl()];
    let snapshots: Vec<_> = clients.into_iter().flatten().map(|client| save(&mut house, &client)).collect();
    house.member.kill();
    for snapshot in snapshots {
        files::check(&rig, &snapshot).unwrap_or_else(|why| panic!("{}", house.trouble(&why)));
        let said: Vec<_> = tools.iter().map(|tool| status(&house, &rig.tool(*tool), &snapshot)).collect();
        assert!(said.iter().all(|s| *s == said[0]), "{}", house.trouble(&format!("tools disagree: {said:?}")));
        for tool in tools {
            for server in servers {
                restore(&house, &rig.tool(*tool), &snapshot);
                files::check(&rig, &house.database()).unwrap_or_else(|why| panic!("{}", house.trouble(&why)));
                house.hand_to(*server);
                house.compare();
                // It goes on from there.
                house.load.keys = 10;
                let mut load = house.load.clone();
                let loaded = rig.state.load(&house.member, server.skip(), &mut load);
                loaded.unwrap_or_else(|why| panic!("{}", house.trouble(&why)));
                house.member.kill();
                println!("{test}: {} by {tool:?}'s tool for {server:?}", snapshot.display());
            }
        }
    }
}

/// `etcdctl snapshot save`.
fn save(house: &mut Handover, etcdctl: &Path) -> PathBuf {
    let path = house.folder("snapshot.db");
    let mut command = Command::new(etcdctl);
    command.arg(format!("--endpoints=127.0.0.1:{}", house.member.port())).args(["snapshot", "save"]).arg(&path);
    run::stdout(&mut command).unwrap_or_else(|why| panic!("{}", house.trouble(&why)));
    path
}

/// `etcdutl snapshot status`: the same as what the server showed.
fn status(house: &Handover, etcdutl: &Path, snapshot: &Path) -> Value {
    let text = run::stdout(Command::new(etcdutl).args(["snapshot", "status", "--write-out=json"]).arg(snapshot));
    let text = text.unwrap_or_else(|why| panic!("{}", house.trouble(&why)));
    let status: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{etcdutl:?}: {text}: {e}"));
    let expected = house.expected.as_ref().expect("remembered");
    assert_eq!(status["revision"].as_i64(), Some(expected.revision), "{}", house.trouble(&text));
    assert_eq!(status["totalKey"].as_u64(), Some(expected.count()), "{}", house.trouble(&text));
    assert_eq!(status["version"].as_str(), Some("3.7.0"), "{}", house.trouble(&text));
    status
}

/// `etcdutl snapshot restore` in place of what the member served.
fn restore(house: &Handover, etcdutl: &Path, snapshot: &Path) {
    let dir = house.member.dir();
    std::fs::remove_dir_all(dir).expect("removable");
    let peer = house.member.peer_url();
    let mut command = Command::new(etcdutl);
    command.args(["snapshot", "restore"]).arg(snapshot).arg("--name=m").arg(format!("--data-dir={}", dir.display()));
    command.args([format!("--initial-cluster=m={peer}"), format!("--initial-advertise-peer-urls={peer}")]);
    run::stdout(&mut command).unwrap_or_else(|why| panic!("{}", house.trouble(&why)));
}

#[test]
fn of_ours() {
    exchange("of_ours", Side::Ours, &[Side::Go, Side::Ours], &[Side::Go, Side::Ours]);
}

#[test]
fn of_go() {
    exchange("of_go", Side::Go, &[Side::Go, Side::Ours], &[Side::Go, Side::Ours]);
}

#[test]
fn of_go_for_go() {
    exchange("of_go_for_go", Side::Go, &[Side::Go], &[Side::Go]);
}
