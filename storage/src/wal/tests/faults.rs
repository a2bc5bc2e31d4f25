//! Calls that fail: what was acknowledged survives, and nothing is guessed afterwards.

use std::io::ErrorKind;

use super::*;
use crate::wal::{Error, purge, verify};

/// Appends, flushes, cuts and releases until something fails. Returns the acknowledged index.
fn work(wal: &mut Wal, from: u64, to: u64) -> (u64, Option<Error>) {
    let mut acknowledged = from - 1;
    for index in from..=to {
        let result = wal
            .append(
                Some(&state(1, 1, index - 1)),
                &[entry(1, index, &[index as u8; 200])],
            )
            .and_then(|()| wal.flush())
            .and_then(|()| wal.release_to(index.saturating_sub(10)));
        if let Err(error) = result {
            return (acknowledged, Some(error));
        }
        acknowledged = index;
    }
    (acknowledged, None)
}

/// Whatever call fails, and however: the log is poisoned, and after a power failure everything
/// acknowledged is there. D18, D19.
#[test]
fn every_failing_call() {
    let kinds = [ErrorKind::Other, ErrorKind::StorageFull];
    let mut cases = 0;
    for kind in kinds {
        for sticky in [false, true] {
            for n in 1.. {
                let fs = SimFs::new();
                let mut wal = create(&fs, 2048);
                fs.fail_at(n, kind, sticky);
                let (acknowledged, error) = work(&mut wal, 1, 40);
                let Some(error) = error else {
                    // ENOSPC for a next segment is ridden out; see the test about space.
                    if kind == ErrorKind::StorageFull && fs.calls() > n {
                        assert_eq!(acknowledged, 40);
                        continue;
                    }
                    break;
                };
                cases += 1;
                let text = error.to_string();
                assert!(text.contains(DIR), "names the file: {text}");
                // The first error is final, even when the disk works again.
                fs.heal();
                let poisoned = wal.append(None, &[entry(1, acknowledged + 1, b"")]);
                assert!(matches!(poisoned, Err(Error::Poisoned { .. })));
                assert!(matches!(wal.flush(), Err(Error::Poisoned { .. })));
                drop(wal);
                for (name, image) in [
                    ("crash", fs.crash()),
                    ("restart", fs.fork()),
                    ("random", fs.crash_random(n)),
                ] {
                    let (_, replay) = open(&image, 2048)
                        .unwrap_or_else(|e| panic!("{kind} sticky {sticky} call {n}, {name}: {e}"));
                    let found = replay.entries.len() as u64;
                    assert!(
                        (acknowledged..=acknowledged + 1).contains(&found),
                        "{kind} sticky {sticky} call {n}, {name}: {found} of {acknowledged}"
                    );
                }
            }
        }
    }
    println!("{cases} failing calls");
    assert!(cases > 200, "{cases}");
}

/// A failed sync is never followed by one that pretends to have succeeded.
#[test]
fn a_failed_sync_is_final() {
    let fs = SimFs::new();
    let mut wal = create(&fs, 1 << 20);
    assert_eq!(work(&mut wal, 1, 3).0, 3);
    fs.fail_syncs(true);
    wal.append(None, &[entry(1, 4, b"lost")]).expect("append");
    assert!(matches!(wal.flush(), Err(Error::Io { action: "sync", .. })));
    fs.heal();
    assert!(matches!(wal.flush(), Err(Error::Poisoned { .. })));
    assert!(matches!(
        wal.append_snapshot(&mark(3, 1)),
        Err(Error::Poisoned { .. })
    ));
    assert!(matches!(wal.release_to(3), Err(Error::Poisoned { .. })));
    assert_eq!(open(&fs.crash(), 1 << 20).expect("open").1.entries.len(), 3);
}

/// A log that fails while it is created is either complete or not there. D10.
#[test]
fn failing_creation() {
    for n in 1.. {
        let fs = SimFs::new();
        fs.fail_at(n, ErrorKind::Other, false);
        let created = Wal::create(sim(&fs), dir(), b"m", options(2048));
        let done = created.is_ok();
        drop(created);
        fs.heal();
        for image in [fs.crash(), fs.fork()] {
            if crate::wal::exists(&image, dir()).expect("exists") {
                open(&image, 2048).expect("complete");
            } else {
                drop(create(&image, 2048));
            }
        }
        if done {
            break;
        }
        assert!(n < 100);
    }
}

/// The directory as bytes, to prove that nothing was altered.
fn contents(fs: &SimFs) -> Vec<(String, Vec<u8>)> {
    let names = fs.read_dir(dir()).expect("names");
    let read = |name: String| {
        let bytes = crate::fs::read_all(fs, &dir().join(&name)).expect("read");
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

/// Opens, expects an error with all of `words`, and that nothing was changed.
fn refused(fs: &SimFs, words: &[&str]) -> Error {
    let before = contents(fs);
    let calls = fs.calls();
    let error = open(fs, 2048).expect_err("damaged");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} in {text:?}");
    }
    assert_eq!(contents(fs), before, "{text}");
    assert_eq!(fs.calls(), calls, "{text}");
    assert!(verify(fs, dir(), &mark(0, 0)).is_err());
    error
}

fn segments(fs: &SimFs) -> Vec<String> {
    let mut names = fs.read_dir(dir()).expect("names");
    names.retain(|name| name.ends_with(".wal"));
    names
}

fn three_segments() -> SimFs {
    let fs = SimFs::new();
    let mut wal = create(&fs, 2048);
    assert!(work(&mut wal, 1, 20).1.is_none());
    drop(wal);
    assert!(segments(&fs).len() >= 3);
    fs
}

#[test]
fn a_missing_segment() {
    let fs = three_segments();
    let names = segments(&fs);
    fs.remove_file(&dir().join(&names[1])).expect("remove");
    let error = refused(
        &fs,
        &[&names[0], &names[2], "put the missing segment back", DIR],
    );
    assert!(matches!(error, Error::Sequence { .. }), "{error}");

    let fs = three_segments();
    fs.remove_file(&dir().join(&names[0])).expect("remove");
    let error = refused(
        &fs,
        &["file not found which matches the snapshot index '0'", DIR],
    );
    assert!(matches!(error, Error::FileNotFound { .. }), "{error}");
}

/// D20 (etcd #2597): damage in an earlier segment is never repaired by cutting.
#[test]
fn a_damaged_middle() {
    let fs = three_segments();
    let names = segments(&fs);
    for (cut, words) in [(true, "ends beyond the file"), (false, "damaged")] {
        let fs = fs.fork();
        let path = dir().join(&names[1]);
        let file = fs.open(&path, crate::fs::OpenMode::Write).expect("open");
        let len = file.len().expect("len");
        if cut {
            file.set_len(len - 40).expect("cut");
        } else {
            file.write_all_at(&[0; 512], 512).expect("write");
        }
        drop(file);
        refused(&fs, &[words, "nothing was changed on disk"]);
    }
}

/// Segments of another log fit neither the checksum chain nor the metadata.
#[test]
fn a_foreign_segment() {
    let fs = three_segments();
    let names = segments(&fs);
    let other = SimFs::new();
    let mut wal = Wal::create(sim(&other), dir(), b"another", options(2048)).expect("create");
    assert!(work(&mut wal, 1, 20).1.is_none());
    drop(wal);
    let theirs = crate::fs::read_all(&other, &dir().join(&segments(&other)[1])).expect("read");
    let file = fs
        .open(
            &dir().join(&names[1]),
            crate::fs::OpenMode::CreateOrTruncate,
        )
        .expect("open");
    file.write_all_at(&theirs, 0).expect("write");
    drop(file);
    refused(&fs, &["crc mismatch", &names[1]]);

    // Names that are no segments are not ours to judge.
    let fs = three_segments();
    fs.open(&dir().join("README"), crate::fs::OpenMode::CreateNew)
        .expect("file");
    open(&fs, 2048).expect("open");
}

/// A length that promises more than there is must not cost memory or a panic.
#[test]
fn hostile_lengths() {
    let fs = SimFs::new();
    let mut wal = create(&fs, 1 << 20);
    assert!(work(&mut wal, 1, 3).1.is_none());
    drop(wal);
    let end = crate::fs::read_all(&fs, &dir().join(&segments(&fs)[0]))
        .expect("read")
        .iter()
        .rposition(|b| *b != 0)
        .expect("not empty")
        .next_multiple_of(8) as u64;
    for word in [
        u64::MAX,
        i64::MAX as u64,
        1 << 55,
        (1 << 56) - 8,
        512 << 20,
        1,
        0x8000_0000_0000_0000,
        0x8700_0000_0000_0001,
        0x8700_0000_0000_0009,
    ] {
        let fs = fs.fork();
        let file = fs
            .open(&dir().join(&segments(&fs)[0]), crate::fs::OpenMode::Write)
            .expect("open");
        file.write_all_at(&word.to_le_bytes(), end).expect("write");
        drop(file);
        // Behind the last record: an unfinished write.
        let (_, replay) = open(&fs, 1 << 20).unwrap_or_else(|e| panic!("{word:#x}: {e}"));
        assert_eq!(replay.entries.len(), 3);
        assert!(replay.repaired.is_some());
    }
}

/// Purging stops at what cannot be removed, and leaves no gap.
#[test]
fn failing_purge() {
    for n in 1..10 {
        let fs = three_segments();
        fs.fail_at(n, ErrorKind::Other, false);
        let _ = purge(&fs, dir(), 1);
        fs.heal();
        let names = segments(&fs.crash());
        let sequences: Vec<u64> = names
            .iter()
            .map(|name| {
                crate::wal::segment::Segment::parse(name)
                    .expect("name")
                    .sequence
            })
            .collect();
        assert!(sequences.windows(2).all(|w| w[0] + 1 == w[1]), "{names:?}");
    }
}
