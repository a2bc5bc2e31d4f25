use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::{install, release, remove_leftovers};
use super::*;
use crate::backend::{Backend as _, Batch, BoltBackend, BoltFile, BoltOptions, Bucket};
use crate::clock::SystemClock;
use crate::fs::sim::Plan;
use crate::fs::{SimFs, read_all};

fn dir() -> &'static Path {
    Path::new("/member/snap")
}

fn new_fs() -> SimFs {
    let fs = SimFs::new();
    fs.create_dir_all(dir()).unwrap();
    fs
}

/// The bytes of a database at a consistent index, as a leader sends them.
fn database(index: u64, keys: u64) -> Vec<u8> {
    let fs: Arc<dyn Fs> = Arc::new(new_fs());
    let engine = BoltBackend::open(fs, &dir().join("db"), BoltOptions::default()).unwrap();
    let mut batch = Batch::default();
    for n in 0..keys {
        batch.put(Bucket::Key, n.to_be_bytes().to_vec(), vec![n as u8; 300]);
    }
    batch.put(
        Bucket::Meta,
        "consistent_index",
        index.to_be_bytes().to_vec(),
    );
    engine.commit(&batch).unwrap();
    let mut copy = engine.copy().unwrap();
    let mut bytes = Vec::new();
    copy.bytes.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, copy.len);
    bytes
}

fn take(fs: &dyn Fs, index: u64, len: Option<u64>, body: &mut dyn Read) -> Result<Received, Error> {
    receive(fs, &SystemClock, dir(), index, len, 0, body)
}

fn names(fs: &SimFs) -> Vec<String> {
    fs.read_dir(dir()).unwrap()
}

/// Comes in pieces of at most so many bytes.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let end = self.1.min(buf.len());
        self.0.read(&mut buf[..end])
    }
}

#[test]
fn what_came_is_there_for_good() {
    let bytes = database(300, 100);
    for len in [None, Some(bytes.len() as u64)] {
        let fs = new_fs();
        let received = take(&fs, 300, len, &mut &bytes[..]).unwrap();
        assert_eq!(received.path, dir().join("000000000000012c.snap.db"));
        assert_eq!(received.bytes, bytes.len() as u64);
        assert_eq!(names(&fs), ["000000000000012c.snap.db"]);
        let after = fs.crash();
        assert_eq!(read_all(&after, &received.path).unwrap(), bytes);
        // Again, as when the first answer got lost.
        take(&fs, 300, len, &mut &bytes[..]).unwrap();
        assert_eq!(names(&fs), ["000000000000012c.snap.db"]);
    }
}

/// Two senders at once, and leftovers of a process that ended, do not get into each other's way.
#[test]
fn two_at_once_have_files_of_their_own() {
    struct Nested<'a>(&'a SimFs, &'a [u8], &'a [u8]);
    impl Read for Nested<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if !self.2.is_empty() {
                let all = std::mem::take(&mut self.2);
                take(self.0, 7, None, &mut &all[..]).unwrap();
                assert_eq!(names(self.0).len(), 2);
            }
            self.1.read(buf)
        }
    }
    let (fs, bytes) = (new_fs(), database(7, 10));
    take(&fs, 7, None, &mut Nested(&fs, &bytes, &bytes)).unwrap();
    assert_eq!(names(&fs), ["0000000000000007.snap.db"]);
}

/// However much of it comes, a part is refused, and nothing of it stays.
#[test]
fn a_body_that_is_cut_off_leaves_nothing() {
    let bytes = database(7, 60);
    let whole = Some(bytes.len() as u64);
    let mut ends: BTreeSet<usize> = (0..bytes.len()).step_by(4096).collect();
    ends.extend([1, 15, 16, 79, 80, 4095, 4097, bytes.len() - 1]);
    for end in ends {
        for len in [None, whole] {
            let fs = new_fs();
            let error = take(&fs, 7, len, &mut &bytes[..end]).unwrap_err();
            assert!(
                matches!(error, Error::Length { .. } | Error::Database(_)),
                "{end} of {}: {error}",
                bytes.len()
            );
            assert_eq!(names(&fs), [""; 0], "{end}: {error}");
        }
    }
    // Too long is as wrong as too short.
    let error = take(&new_fs(), 7, Some(10), &mut &bytes[..]).unwrap_err();
    assert!(
        error.to_string().contains("10 bytes was announced"),
        "{error}"
    );
}

#[test]
fn a_body_that_breaks_off_leaves_nothing() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionReset,
                    "reset by peer",
                ));
            }
            self.0 -= 1;
            buf.fill(1);
            Ok(buf.len())
        }
    }
    let fs = new_fs();
    let error = take(&fs, 7, None, &mut Broken(3)).unwrap_err().to_string();
    let text = format!("broke off after {} bytes: reset by peer", 3 * BUFFER);
    assert!(error.contains(&text), "{error}");
    assert_eq!(names(&fs), [""; 0]);
}

#[test]
fn what_is_no_sound_database_is_refused() {
    let mut bytes = database(7, 60);
    for (index, wrong) in [
        (7, vec![0; 20_000]),
        (7, b"this is no database".repeat(2000)),
        (7, {
            let page = bytes.len() - 4096;
            bytes[page + 8] ^= 0xff;
            bytes.clone()
        }),
    ] {
        let fs = new_fs();
        let error = take(&fs, index, None, &mut &wrong[..]).unwrap_err();
        assert!(matches!(error, Error::Database(_)), "{error}");
        assert_eq!(names(&fs), [""; 0]);
    }
}

/// Taken, it would lose what happened between its index and the snapshot's (D16).
#[test]
fn an_older_database_is_refused() {
    let fs = new_fs();
    let bytes = database(41, 3);
    let error = take(&fs, 42, None, &mut &bytes[..])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("stands at index 41, below the snapshot's 42"),
        "{error}"
    );
    assert_eq!(names(&fs), [""; 0]);
}

/// Raft would be told of entries that it has not seen yet.
#[test]
fn a_newer_database_is_refused() {
    let fs = new_fs();
    let bytes = database(41, 3);
    let error = take(&fs, 40, None, &mut &bytes[..])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the snapshot at index 40 stands at index 41"),
        "{error}"
    );
    assert_eq!(names(&fs), [""; 0]);
    take(&fs, 41, None, &mut &bytes[..]).unwrap();
}

/// The log, which is on the same disk, keeps its room.
#[test]
fn a_database_leaves_room_for_the_log() {
    let bytes = database(7, 400);
    let len = bytes.len() as u64;
    let spare = 64 << 10;
    for (capacity, fits) in [
        (spare - 1, false),
        (spare + len / 2, false),
        (spare + len + 8192, true),
    ] {
        let fs = new_fs();
        fs.set_capacity(capacity);
        let mut body = Pieces(&bytes, 3000);
        match receive(&fs, &SystemClock, dir(), 7, None, spare, &mut body) {
            Ok(_) => assert!(fits, "{capacity}"),
            Err(error) => {
                assert!(!fits, "{capacity}: {error}");
                assert!(matches!(error, Error::TooLarge { .. }), "{error}");
                assert!(error.to_string().contains("free space"), "{error}");
                assert_eq!(names(&fs), [""; 0]);
            }
        }
    }
}

/// Whoever has the first file open must find it under its name.
#[test]
fn a_file_that_is_there_stays() {
    let fs = new_fs();
    let bytes = database(7, 60);
    take(&fs, 7, None, &mut &bytes[..]).unwrap();
    let path = received_path(dir(), 7);
    let open = fs.open(&path, OpenMode::Read).unwrap();
    assert!(open.try_lock().unwrap());
    take(&fs, 7, None, &mut &bytes[..]).unwrap();
    let named = fs.open(&path, OpenMode::Read).unwrap();
    assert!(!named.try_lock().unwrap(), "it is another file");
    assert_eq!(names(&fs), ["0000000000000007.snap.db"]);
}

#[test]
fn a_full_disk_leaves_nothing() {
    let bytes = database(7, 400);
    let mut refused = 0;
    for room in (0..bytes.len() as u64 + 8192).step_by(5000) {
        for len in [None, Some(bytes.len() as u64)] {
            let fs = new_fs();
            fs.set_capacity(room);
            match take(&fs, 7, len, &mut Pieces(&bytes, 3000)) {
                Ok(_) => assert_eq!(names(&fs), ["0000000000000007.snap.db"]),
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains("free space"), "{error}");
                    assert_eq!(names(&fs), [""; 0], "{error}");
                }
            }
        }
    }
    assert!(refused > 10, "{refused}");
}

/// A power failure leaves all of it or nothing (D9), and what a start removes.
#[test]
fn power_failures() {
    let (bytes, before) = (database(9, 120), database(5, 20));
    let plan = Plan {
        bytes: false,
        ..Plan::default()
    };
    let mut images = 0;
    for replaces in [false, true] {
        let fs = new_fs();
        if replaces {
            take(&fs, 9, None, &mut &bytes[..]).unwrap();
        }
        take(&fs, 5, None, &mut &before[..]).unwrap();
        fs.record();
        take(&fs, 9, None, &mut Pieces(&bytes, 5000)).unwrap();
        fs.mark(1);
        images += fs.take_trace().images(&plan, |image| {
            remove_leftovers(&image.fs, dir()).unwrap();
            let names = names(&image.fs);
            assert_eq!(names[0], "0000000000000005.snap.db");
            let there = names.len() == 2 && names[1] == "0000000000000009.snap.db";
            assert!(there || names.len() == 1, "{names:?}: {}", image.describe());
            assert!(
                there || (image.mark == 0 && !replaces),
                "{}",
                image.describe()
            );
            if there {
                let path = dir().join(&names[1]);
                let found = read_all(&image.fs, &path).unwrap();
                assert!(found == bytes, "torn: {}", image.describe());
            }
        });
    }
    println!("{images} images");
    assert!(images > 1000, "{images}");
}

/// Whichever call fails, the file is whole or not there, and nothing else is.
#[test]
fn failing_calls() {
    let bytes = database(9, 120);
    let mut calls = 0;
    for n in 1.. {
        let fs = new_fs();
        fs.fail_at(n, io::ErrorKind::Other, false);
        let done = take(&fs, 9, Some(bytes.len() as u64), &mut Pieces(&bytes, 5000));
        match names(&fs)[..] {
            [] => assert!(done.is_err()),
            [ref name] => {
                assert_eq!(name, "0000000000000009.snap.db");
                let path = dir().join(name);
                BoltFile::open(&fs, &path).unwrap().check().unwrap();
            }
            ref more => panic!("{more:?}"),
        }
        if done.is_ok() {
            break;
        }
        calls = n;
    }
    assert!(calls > 12, "{calls}");
}

#[test]
fn the_received_database_takes_the_place_of_the_old_one() {
    let (old, new) = (database(5, 50), database(9, 20));
    let fs = new_fs();
    let db = dir().join("db");
    let file = fs.open(&db, OpenMode::CreateNew).unwrap();
    file.write_all_at(&old, 0).unwrap();
    file.sync_all().unwrap();
    fs.sync_dir(dir()).unwrap();
    let error = install(&fs, dir(), 9).unwrap_err().to_string();
    assert!(
        error.starts_with("snap: snapshot file doesn't exist"),
        "{error}"
    );
    take(&fs, 9, None, &mut &new[..]).unwrap();

    fs.record();
    install(&fs, dir(), 9).unwrap();
    fs.mark(1);
    let trace = fs.take_trace();
    let images = trace.images(&Plan::default(), |image| {
        let stored = read_all(&image.fs, &db).unwrap();
        let waits = names(&image.fs).contains(&"0000000000000009.snap.db".to_owned());
        match image.mark {
            1 => assert!(stored == new && !waits),
            _ => assert!((stored == new && !waits) || (stored == old && waits)),
        }
    });
    assert!(images >= 4, "{images}");
    assert_eq!(names(&fs), ["db"]);
}

/// What is not sound does not replace what is.
#[test]
fn a_file_that_is_no_database_is_not_installed() {
    let fs = new_fs();
    for (name, bytes) in [
        ("db", database(5, 50)),
        (
            "0000000000000009.snap.db",
            database(9, 50)[..30_000].to_vec(),
        ),
        ("000000000000000a.snap.db", database(9, 50)),
    ] {
        let file = fs.open(&dir().join(name), OpenMode::CreateNew).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
    }
    let error = install(&fs, dir(), 9).unwrap_err();
    assert!(matches!(error, Error::Database(_)), "{error}");
    let error = install(&fs, dir(), 10).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Older {
                found: 9,
                index: 10,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(names(&fs).len(), 3);
    assert!(read_all(&fs, &dir().join("db")).unwrap() == database(5, 50));
}

#[test]
fn what_nobody_needs_is_removed() {
    let fs = new_fs();
    for name in [
        "0000000000000005.snap.db",
        "0000000000000009.snap.db",
        "000000000000000a.snap.db",
        "0000000000000001-0000000000000009.snap",
        "db",
        "db.tmp.123",
        "notes.snap.db",
        "tmp-0000000000000009-0",
        "tmp123456",
    ] {
        fs.open(&dir().join(name), OpenMode::CreateNew).unwrap();
    }
    fs.sync_dir(dir()).unwrap();
    let removed = remove_leftovers(&fs, dir()).unwrap();
    assert_eq!(
        removed,
        ["db.tmp.123", "tmp-0000000000000009-0", "tmp123456"]
    );
    let removed = release(&fs, dir(), 10).unwrap();
    assert_eq!(
        removed,
        ["0000000000000005.snap.db", "0000000000000009.snap.db"]
    );
    assert_eq!(
        names(&fs.crash()),
        [
            "0000000000000001-0000000000000009.snap",
            "000000000000000a.snap.db",
            "db",
            "notes.snap.db",
        ]
    );
}
