//! Logs that genuine servers wrote, kept here with what was in their databases then: what replays them needs no Go.
//!
//! `RETCD_REWRITE=1` records them anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use retcd_storage::backend::{BoltFile, Bucket};
use retcd_tests::binary::ours;
use retcd_tests::member::{Member, Setup};

use crate::client::Client;
use crate::file;
use crate::load;
use crate::shown::Shown;
use crate::{RELEASES, go};

/// The first segment of a log.
const SEGMENT: &str = "0000000000000000-0000000000000000.wal";

fn folder(release: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/go_data").join(release)
}

fn segment(member: &Member) -> PathBuf {
    member.dir().join("member/wal").join(SEGMENT)
}

/// All pairs but those that every start changes, a line each.
fn dump(file: &BoltFile) -> String {
    let mut out = String::new();
    for name in Bucket::ALL.map(Bucket::name) {
        for (key, value) in file::bucket(file, name) {
            if name != "meta" || !matches!(&key[..], b"consistent_index" | b"term") {
                writeln!(out, "{name}\t{}\t{}", key.escape_ascii(), value.escape_ascii()).unwrap();
            }
        }
    }
    out
}

fn record(release: &str) {
    let theirs = go(release).expect("a genuine server records");
    let mut member = Member::start(Setup::new(theirs));
    let client = Client::new(&member);
    load::everything(&client);
    let compacted = Shown::of(&client).compacted();
    let url = member.url();
    member.terminate();
    let mut log = fs::read(segment(&member)).unwrap();
    let end = log.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    log.truncate(end.next_multiple_of(8));
    let folder = folder(release);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("log.wal"), log).unwrap();
    fs::write(folder.join("client_url.txt"), url).unwrap();
    fs::write(folder.join("compacted.txt"), compacted.to_string()).unwrap();
    fs::write(folder.join("buckets.txt"), dump(&file::open(&file::database(&member)))).unwrap();
}

#[test]
fn recorded_logs_give_the_recorded_buckets() {
    for release in RELEASES {
        if std::env::var_os("RETCD_REWRITE").is_some() {
            record(release);
        }
        let text = |name: &str| fs::read_to_string(folder(release).join(name)).unwrap();
        let mut member = Member::prepare(Setup::new(ours()).flags([
            // What it says of itself is what its predecessor said.
            format!("--advertise-client-urls={}", text("client_url.txt")),
        ]));
        fs::create_dir_all(segment(&member).parent().unwrap()).unwrap();
        fs::copy(folder(release).join("log.wal"), segment(&member)).unwrap();
        member.restart();
        member.wait_for_log(&format!(r#""compact-revision":{}"#, text("compacted.txt")));
        member.terminate();
        let found = dump(&file::open(&file::database(&member)));
        let wanted = text("buckets.txt");
        let missing: Vec<_> = wanted.lines().filter(|line| !found.lines().any(|l| l == *line)).collect();
        let extra: Vec<_> = found.lines().filter(|line| !wanted.lines().any(|l| l == *line)).collect();
        assert!(missing.is_empty() && extra.is_empty(), "{release}: missing {missing:#?}, extra {extra:#?}");
    }
}
