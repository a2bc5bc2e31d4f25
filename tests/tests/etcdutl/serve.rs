//! Members start on what was restored and serve what was saved.

use std::path::Path;
use std::process::Command;

use retcd_tests::member::{Member, Setup};
use retcd_tests::{binary, peers};

use crate::rig::{Tools, contents, ctl, saved};

fn restore_args<'a>(dir: &'a Path, name: &'a str, url: &'a str, cluster: &'a str) -> Vec<String> {
    [
        "snapshot".to_owned(),
        "restore".to_owned(),
        "saved.db".to_owned(),
        format!("--data-dir={}", dir.display()),
        format!("--name={name}"),
        format!("--initial-cluster={cluster}"),
        format!("--initial-advertise-peer-urls={url}"),
    ]
    .into()
}

fn restored(said: &crate::rig::Said) {
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn go_serves_what_ours_restored() {
    let Some(etcd) = peers::go_etcd() else { return };
    serves(&etcd, true);
}

#[test]
fn ours_serves_what_go_restored() {
    serves(&binary::ours(), false);
}

#[test]
fn ours_serves_what_ours_restored() {
    serves(&binary::ours(), true);
}

/// Restores with one of the tools, starts a member on it, and looks at what it serves.
fn serves(etcd: &Path, by_ours: bool) {
    let (Some(tools), Some((snapshot, source))) = (Tools::find(), saved(3000)) else { return };
    tools.give("saved.db", &snapshot);
    let (kvs, revision) = source.contents();
    for bump in [0, 1_000_000] {
        let mut member = Member::prepare(Setup::new(etcd));
        let (url, cluster) = (member.peer_url(), format!("m={}", member.peer_url()));
        let mut args = restore_args(member.dir(), "m", &url, &cluster);
        if bump > 0 {
            args.extend([format!("--bump-revision={bump}"), "--mark-compacted".to_owned()]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        restored(&if by_ours { tools.ours(&args) } else { tools.theirs(&args) });
        member.restart();
        let (found, now) = contents(&source.etcdctl, &member);
        assert_eq!(found, kvs, "{}", member.describe());
        assert_eq!(now, revision + bump);
        ctl(&source.etcdctl, &member, &["put", "new", "value"]);
        assert_eq!(contents(&source.etcdctl, &member).1, revision + bump + 1);
        if bump > 0 {
            // What a client saw before is compacted now, so it knows that it has to begin anew.
            let get = Command::new(&source.etcdctl)
                .arg(format!("--endpoints=127.0.0.1:{}", member.port()))
                .args(["get", "leased", &format!("--rev={revision}")])
                .env_clear()
                .output()
                .expect("etcdctl runs");
            let text = String::from_utf8_lossy(&get.stderr);
            assert!(text.contains("required revision has been compacted"), "{text}");
        }
        // And once more, from its log.
        member.kill();
        member.restart();
        assert_eq!(contents(&source.etcdctl, &member).1, revision + bump + 1);
    }
}

/// Three members, each restored for itself, two by ours and one by Go's: they agree on everything.
#[test]
fn a_cluster_is_restored_by_both_tools() {
    let (Some(tools), Some((snapshot, source)), Some(etcd)) = (Tools::find(), saved(300), peers::go_etcd()) else {
        return;
    };
    tools.give("saved.db", &snapshot);
    let (kvs, _) = source.contents();
    let mut members: Vec<Member> = (0..3).map(|_| Member::prepare(Setup::new(&etcd))).collect();
    let names = ["a", "b", "c"];
    let cluster: Vec<String> =
        names.iter().zip(&members).map(|(name, member)| format!("{name}={}", member.peer_url())).collect();
    let cluster = cluster.join(",");
    for (name, member) in names.iter().zip(&mut members) {
        let url = member.peer_url();
        let args = restore_args(member.dir(), name, &url, &cluster);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        restored(&if *name == "c" { tools.theirs(&args) } else { tools.ours(&args) });
        member.set_flags([format!("--name={name}"), format!("--initial-cluster={cluster}")]);
        member.spawn();
    }
    for member in &mut members {
        assert_eq!(member.wait_or_serve(), None, "{}", member.describe());
    }
    ctl(&source.etcdctl, &members[0], &["put", "new", "value"]);
    for member in &members {
        let (found, _) = contents(&source.etcdctl, member);
        let count = |kvs: &serde_json::Value| kvs.as_array().map_or(0, Vec::len);
        assert_eq!(count(&found), count(&kvs) + 1, "{}", member.describe());
    }
    let endpoints: Vec<String> = members.iter().map(|member| format!("127.0.0.1:{}", member.port())).collect();
    let hashes = Command::new(&source.etcdctl)
        .args([&format!("--endpoints={}", endpoints.join(",")), "endpoint", "hashkv", "-w", "json"])
        .env_clear()
        .output()
        .expect("etcdctl runs");
    let hashes: serde_json::Value = serde_json::from_slice(&hashes.stdout).expect("JSON");
    let hashes: Vec<_> = hashes.as_array().expect("a list").iter().map(|h| h["HashKV"]["hash"].clone()).collect();
    assert_eq!(hashes.len(), 3);
    assert!(hashes.iter().all(|hash| *hash == hashes[0] && hash.is_u64()), "{hashes:?}");
}
