//! `snapshot status`: good files in every form, and files that are none.

use std::fs;
use std::time::{Duration, Instant};

use crate::rig::{Tools, saved, words};

#[test]
fn every_form_is_equal_on_every_kind_of_file() {
    let (Some(tools), Some((snapshot, mut source))) = (Tools::find(), saved(3000)) else { return };
    source.member.kill();
    tools.give("saved.db", &snapshot);
    tools.give("cut.db", &snapshot[..snapshot.len() - 32]);
    let member = fs::read(source.member.dir().join("member/snap/db")).expect("readable");
    tools.give("member.db", &member);
    let mut seen = String::new();
    for file in ["saved.db", "cut.db", "member.db"] {
        for form in ["simple", "fields", "json", "table", "protobuf", "xyz", "~"] {
            let call = format!("snapshot status {file} -w {form}");
            let ours = tools.ours(&words(&call));
            assert_eq!(ours, tools.theirs(&words(&call)), "{call}");
            seen += &ours.out;
        }
    }
    // Both look at the same: a database of the size and the keys that were written.
    assert!(seen.contains("\"totalKey\":1501,"), "{seen}");
}

#[test]
fn other_files_are_refused_in_the_words_of_go() {
    let (Some(tools), Some((snapshot, _source))) = (Tools::find(), saved(300)) else { return };
    let changed = |at: usize, bytes: &[u8]| {
        let mut file = snapshot.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let noise: Vec<u8> = (0..9000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let both_metas = |at: usize, bytes: &[u8]| {
        let mut file = changed(at, bytes);
        file[4096 + at..4096 + at + bytes.len()].copy_from_slice(bytes);
        file
    };
    tools.give("text", b"not a database");
    tools.give("noise", &noise);
    tools.give("short-noise", &noise[..5000]);
    tools.give("shorter-noise", &noise[..2049]);
    tools.give("shortest-noise", &noise[..2048]);
    tools.give("one-page", &snapshot[..4096]);
    tools.give("magic", &both_metas(16, b"xxxx"));
    tools.give("version", &both_metas(20, &[9]));
    tools.give("sum", &both_metas(72, b"12345678"));
    for dir in [tools.our_dir(), tools.their_dir()] {
        fs::create_dir(dir.join("dir")).expect("created");
    }
    for file in [
        "text",
        "noise",
        "short-noise",
        "shorter-noise",
        "shortest-noise",
        "one-page",
        "magic",
        "version",
        "sum",
        "dir",
    ] {
        let args = ["snapshot", "status", file];
        let (ours, theirs) = (tools.ours(&args), tools.theirs(&args));
        assert_eq!((ours.code, ours.out.as_str()), (Some(1), ""), "{file}: {ours:?}");
        assert_eq!(theirs.code, Some(1), "{file}: {theirs:?}");
        // Ours goes on to say what to do.
        assert!(ours.error().starts_with(&format!("{}: ", theirs.error())), "{file}: {ours:?} {theirs:?}");
    }
    // An empty file, which Go tries to write to.
    tools.give("empty", b"");
    let ours = tools.ours(&["snapshot", "status", "empty"]);
    assert!(ours.error().starts_with("Error: invalid database: "), "{ours:?}");
}

#[test]
fn one_damaged_meta_is_survived_and_a_damaged_page_is_not() {
    let (Some(tools), Some((snapshot, _source))) = (Tools::find(), saved(300)) else { return };
    for (name, at) in [("first", 16), ("second", 4096 + 16)] {
        let mut file = snapshot.clone();
        file[at] ^= 1;
        tools.give(name, &file);
        let args = ["snapshot", "status", name];
        assert_eq!(tools.ours(&args), tools.theirs(&args), "{name}");
    }
    // Pages with a wrong kind, of which Go finds as many as are in use.
    let mut damaged = 0;
    for page in 2..snapshot.len() / 4096 {
        let mut file = snapshot.clone();
        file[page * 4096 + 8] = 0x40;
        tools.give("page", &file);
        let args = ["snapshot", "status", "page"];
        let (ours, theirs) = (tools.ours(&args), tools.theirs(&args));
        assert_eq!(ours.code == Some(0), theirs.code == Some(0), "page {page}: {ours:?} {theirs:?}");
        if ours.code != Some(0) {
            damaged += 1;
            assert_eq!(ours.code, Some(1), "page {page}: {ours:?}");
            assert!(
                ours.error().starts_with("Error: snapshot file integrity check failed."),
                "page {page}: {ours:?} {theirs:?}"
            );
        }
    }
    assert!(damaged > 5, "{damaged} damaged pages");
}

/// Go's tool waits for ever here, silently.
#[test]
fn a_file_in_use_is_waited_for_as_long_as_asked() {
    let (Some(tools), Some((_, source))) = (Tools::find(), saved(10)) else { return };
    let file = source.member.dir().join("member/snap/db");
    let begin = Instant::now();
    let said = tools.ours(&["snapshot", "status", file.to_str().expect("plain"), "--timeout=200ms"]);
    assert!(begin.elapsed() >= Duration::from_millis(200));
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.error().starts_with("Error: timeout: "), "{said:?}");
}
