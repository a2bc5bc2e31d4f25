//! Every spelling of commands and flags, right and wrong.

use crate::rig::{Said, Tools, words};

const CALLS: &[&str] = &[
    "help",
    "--help",
    "-h",
    "-- foo",
    "-",
    "~",
    "--help snapshot",
    "-h snapshot",
    "help snapshot",
    "help snapshot foo",
    "help help",
    "help --help",
    "help --foo",
    "help foo",
    "help foo bar",
    "foo",
    "h",
    "snapshto",
    "VERSION",
    "--write-out=json foo",
    "-w json foo",
    "--foo",
    "--foo snapshot",
    "-x",
    "-w",
    "-wx -y",
    "-=x",
    "--=x",
    "---x",
    "--version",
    "version",
    "versio",
    "v",
    "version x",
    "version -wjson",
    "version -w=json",
    "version -w=",
    "version -w ~",
    "version -ww",
    "version -- --foo",
    "version -w",
    "version --write-out",
    "version --write-ou=x",
    "version --write-out=xyz",
    "version --help=false",
    "version -h",
    "version -hx",
    "version -xh",
    "version -h=",
    "version -h=x",
    "version -wjson -h",
    "version --timeout=1s",
    "version --timeout=1h2m3.5s",
    "version --timeout=-5s",
    "version --timeout=0",
    "version --timeout=1",
    "version --timeout=1.5",
    "version --timeout=1x",
    "version --timeout=1s2x",
    "version --timeout=abc",
    "version --timeout=.s",
    "version --timeout=-",
    "version --timeout=",
    "version --timeout",
    "snapshot",
    "snap",
    "snapshot foo",
    "snapshot --foo status",
    "snapshot -w json status",
    "snapshot help status",
    "snapshot status",
    "snapshot statu",
    "s s",
    "snapshot s a b",
    "snapshot status --help",
    "snapshot status --foo x",
    "snapshot status nofile",
    "snapshot status nofile -w xyz",
    "snapshot restore",
    "snapshot restore a b",
    "snapshot restore --help",
    "snapshot restore x -h=1",
    "snapshot restore --foo x",
    "snapshot restore x --name",
    "snapshot restore x --bump-revision",
    "snapshot restore x --bump-revision=",
    "snapshot restore x --bump-revision=-1",
    "snapshot restore x --bump-revision -1",
    "snapshot restore x --bump-revision=+1",
    "snapshot restore x --bump-revision=abc",
    "snapshot restore x --bump-revision=0b12",
    "snapshot restore x --bump-revision=1_0",
    "snapshot restore x --bump-revision=1__0",
    "snapshot restore x --bump-revision=0x10",
    "snapshot restore x --bump-revision=99999999999999999999",
    "snapshot restore x --bump-revision=5",
    "snapshot restore x --bump-revision=0 --mark-compacted",
    "snapshot restore x --mark-compacted",
    "snapshot restore x --mark-compacted=maybe",
    "snapshot restore x --skip-hash-check false",
    "snapshot restore x --initial-memory-map-size=-5",
    "snapshot restore x --name=",
    "snapshot restore x --name=other",
];

/// What counts of a help text: its wording is ours.
fn bones(line: &str) -> Option<String> {
    let trimmed = line.trim_start();
    if line.starts_with("  ") && trimmed.starts_with('-') {
        let end = trimmed.find("   ").unwrap_or(trimmed.len());
        let default = line.rfind(" (default ").filter(|_| line.ends_with(')')).map_or("", |at| &line[at..]);
        return Some(format!("{}{default}", &trimmed[..end]));
    }
    // Names and short descriptions of commands, some of which are to come.
    let is_command = line.starts_with("  ") && !line.starts_with("  etcdutl");
    (!is_command).then(|| line.to_owned())
}

fn without_wording(said: Said) -> Said {
    Said {
        out: said.out.lines().filter_map(bones).collect::<Vec<_>>().join("\n"),
        err: said.err.iter().filter_map(|line| bones(line)).collect(),
        ..said
    }
}

#[test]
fn spellings_and_refusals_are_those_of_go() {
    let Some(tools) = Tools::find() else { return };
    let mut wrong = String::new();
    for call in CALLS {
        let args = words(call);
        let (ours, theirs) = (without_wording(tools.ours(&args)), without_wording(tools.theirs(&args)));
        if ours != theirs {
            wrong += &format!("\n--- {call}\n ours:   {ours:?}\n theirs: {theirs:?}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A missing file of status and restore has Go's words already above; here is the rest of their refusals.
#[test]
fn commands_to_come_are_named() {
    let Some(tools) = Tools::find() else { return };
    for call in ["defrag --data-dir=x", "hashkv x", "migrate"] {
        let said = tools.ours(&words(call));
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
    }
}
