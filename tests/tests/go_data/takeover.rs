//! From Go to ours and on to Go 3.7, with nothing but restarts.

use std::fs;

use retcd_tests::binary::ours;
use retcd_tests::member::{Member, Setup};
use retcd_tests::tree;

use crate::client::Client;
use crate::file;
use crate::load;
use crate::shown::{Shared, Shown};
use crate::{RELEASES, go};

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stop,
    Kill,
}

/// Nothing reaches the database of a genuine server but what it commits at once: a kill leaves the rest to the log.
const LAZY: [&str; 2] = ["--backend-batch-interval=1h", "--backend-batch-limit=1000000"];

/// Snapshots of the log, often.
const SNAPSHOTS: [&str; 1] = ["--snapshot-count=20"];

fn end(member: &mut Member, how: End) {
    match how {
        End::Stop => drop(member.terminate()),
        End::Kill => member.kill(),
    }
}

/// Starts another server on the same directory and ports.
fn replace(member: &mut Member, program: std::path::PathBuf, flags: &[&str]) -> Client {
    member.set_program(program);
    member.set_flags(flags.iter().copied());
    member.restart();
    Client::new(member)
}

/// `flags` are those of the first server, once it has settled without them.
fn take_over(release: &str, how: End, flags: &[&str]) {
    let (Some(theirs), Some(newest)) = (go(release), go("3.7")) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::start(Setup::new(theirs.clone()).data_dir(dir.path().join("data")));
    member.terminate();
    let client = replace(&mut member, theirs.clone(), flags);
    load::everything(&client);
    let left = dir.path().join("left.db");
    let (before, shared) = if how == End::Kill {
        // Asking makes it store what it has: it is killed first, and a copy of what it left is asked.
        member.kill();
        let aside = dir.path().join("aside");
        tree::copy_dir(member.dir(), &aside);
        let client = replace(&mut member, theirs, &[]);
        let shown = (Shown::of(&client), Shared::of(&client));
        member.terminate();
        fs::remove_dir_all(member.dir()).unwrap();
        fs::rename(aside, member.dir()).unwrap();
        shown
    } else {
        let shown = (Shown::of(&client), Shared::of(&client));
        member.terminate();
        shown
    };
    assert!(before.keys() > 20 && before.revisions() > 10, "{before:?}");
    assert_eq!(shared.counts(), (3, 3, 2));
    fs::copy(file::database(&member), &left).unwrap();

    let client = replace(&mut member, ours(), &[]);
    let label = format!("{release}, {how:?}, {flags:?}");
    assert_eq!(Shown::of(&client), before, "{label}");
    end(&mut member, End::Stop);
    if flags == LAZY {
        let behind = file::index(&file::database(&member)) - file::index(&left);
        assert!(behind > 20, "{label}: only {behind} entries came from the log");
    }
    if how == End::Stop {
        // Nothing was asked of it, so nothing but the index moved on.
        let except = [("meta", "consistent_index"), ("meta", "term")];
        let (old, new) = (file::open(&left), file::open(&file::database(&member)));
        assert_eq!(file::differences(&old, &new, &except), Vec::<String>::new(), "{label}");
    }

    let client = replace(&mut member, ours(), &[]);
    load::disarm(&client);
    load::more(&client, "ours");
    let before = Shown::of(&client);
    end(&mut member, how);

    let client = replace(&mut member, newest, &[]);
    assert_eq!(Shown::of(&client), before, "{label}");
    let now = Shared::of(&client);
    assert_eq!(now.without_keys(), shared.without_keys(), "{label}");
    assert_ne!(now, shared, "ours attached keys");
    load::more(&client, "theirs");
    let (before, shared) = (Shown::of(&client), Shared::of(&client));
    end(&mut member, how);

    let client = replace(&mut member, ours(), &[]);
    assert_eq!(Shown::of(&client), before, "{label}");
    load::more(&client, "ours again");
    let last = Shown::of(&client);
    end(&mut member, how);

    let client = replace(&mut member, go("3.7").unwrap(), &[]);
    assert_eq!(Shown::of(&client), last, "{label}");
    assert_eq!(Shared::of(&client).without_keys(), shared.without_keys(), "{label}");
}

#[test]
fn after_a_stop() {
    for release in RELEASES {
        take_over(release, End::Stop, &[]);
    }
}

#[test]
fn after_a_kill_with_everything_in_the_log() {
    for release in RELEASES {
        take_over(release, End::Kill, &LAZY);
    }
}

#[test]
fn behind_snapshots_of_the_log() {
    for release in RELEASES {
        take_over(release, End::Stop, &SNAPSHOTS);
        take_over(release, End::Kill, &SNAPSHOTS);
    }
}
