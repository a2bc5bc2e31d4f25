//! Appending, reopening, new segments, locks, purge.

use std::sync::Mutex;

use super::*;
use crate::clock::ManualClock;
use crate::fs::{RealFs, read_all};
use crate::wal::{Error, Observed, exists, purge, valid_snapshots, verify};

#[test]
fn reopen_returns_what_was_flushed() {
    let fs = SimFs::new();
    assert!(!exists(&fs, dir()).expect("exists"));
    let mut wal = create(&fs, 1 << 20);
    assert!(exists(&fs, dir()).expect("exists"));
    wal.append(
        Some(&state(1, 9, 0)),
        &[entry(1, 1, b""), entry(1, 2, b"two")],
    )
    .expect("append");
    wal.flush().expect("flush");
    wal.append(Some(&state(1, 9, 2)), &[]).expect("append");
    wal.flush().expect("flush");
    wal.append(None, &[entry(1, 3, b"not flushed")])
        .expect("append");
    drop(wal);

    let (wal, replay) = open(&fs, 1 << 20).expect("open");
    assert_eq!(replay.metadata.as_ref(), b"metadata");
    assert_eq!(replay.hard_state, state(1, 9, 2));
    assert_eq!(replay.entries, [entry(1, 1, b""), entry(1, 2, b"two")]);
    assert_eq!(replay.repaired, None);
    assert_eq!(wal.last_index(), 2);
}

/// The log belongs to a thread of its own.
#[test]
fn can_be_sent_to_a_thread() {
    fn sent<T: Send>() {}
    sent::<Wal>();
    sent::<Error>();
}

#[test]
fn later_records_replace_entries() {
    let fs = SimFs::new();
    let mut wal = create(&fs, 1 << 20);
    let entries: Vec<_> = (1..=9).map(|i| entry(1, i, b"old")).collect();
    wal.append(Some(&state(1, 1, 3)), &entries).expect("append");
    wal.append(Some(&state(2, 1, 3)), &[entry(2, 5, b"new")])
        .expect("append");
    wal.flush().expect("flush");
    drop(wal);
    let (_, replay) = open(&fs, 1 << 20).expect("open");
    assert_eq!(replay.entries.len(), 5);
    assert_eq!(replay.entries[4], entry(2, 5, b"new"));
}

/// Only new commit indexes: written, not synced. Everything else is synced.
#[test]
fn sync_only_when_needed() {
    let syncs = Arc::new(Mutex::new((0, 0)));
    let seen = Arc::clone(&syncs);
    let fs = SimFs::new();
    let options = Options {
        observe: Some(Arc::new(move |what| {
            let mut counts = seen.lock().expect("lock");
            match what {
                Observed::Fsync(_) => counts.0 += 1,
                Observed::Write(_, bytes) => {
                    assert!(bytes > 0);
                    counts.1 += 1;
                }
                _ => {}
            }
        })),
        ..options(1 << 20)
    };
    let mut wal = Wal::create(sim(&fs), dir(), b"m", options).expect("create");
    let mut step = |hs: Option<raftpb::HardState>, entries: &[raftpb::Entry]| {
        wal.append(hs.as_ref(), entries).expect("append");
        wal.flush().expect("flush");
        *syncs.lock().expect("lock")
    };
    assert_eq!(step(Some(state(1, 0, 0)), &[]), (1, 1), "term");
    assert_eq!(step(Some(state(1, 5, 0)), &[]), (2, 2), "vote");
    assert_eq!(step(None, &[entry(1, 1, b"")]), (3, 3), "entry");
    assert_eq!(step(Some(state(1, 5, 1)), &[]), (3, 4), "commit");
    assert_eq!(step(None, &[]), (3, 4), "nothing");
    wal.append_snapshot(&mark(1, 1)).expect("append");
    wal.flush().expect("flush");
    assert_eq!(*syncs.lock().expect("lock"), (4, 5), "snapshot");
}

#[test]
fn segments_are_cut_purged_and_read_from_a_snapshot() {
    let fs = SimFs::new();
    let mut wal = create(&fs, 4096);
    for index in 1..=100 {
        wal.append(Some(&state(1, 1, index - 1)), &[entry(1, index, &[7; 300])])
            .expect("append");
        if index % 10 == 0 {
            wal.append_snapshot(&mark(index - 1, 1)).expect("append");
        }
        wal.flush().expect("flush");
    }
    let names = wal_names(&fs);
    assert!(names.len() >= 8, "{names:?}");
    assert!(!fs.exists(&dir().join("0.tmp")).expect("exists"));
    assert_eq!(valid_snapshots(&fs, dir()).expect("valid").len(), 11);

    // Nothing is released yet.
    assert_eq!(purge(&fs, dir(), 2).expect("purge"), Vec::<String>::new());
    wal.release_to(59).expect("release");
    let removed = purge(&fs, dir(), 2).expect("purge");
    assert!(!removed.is_empty());
    assert_eq!(removed[..], names[..removed.len()]);
    assert_eq!(purge(&fs, dir(), 0).expect("purge"), Vec::<String>::new());
    drop(wal);

    let (_, replay) = Wal::open(sim(&fs), dir(), &mark(59, 1), options(4096)).expect("open");
    assert_eq!(replay.entries.len(), 41);
    assert_eq!(replay.entries[0].index(), 60);
    assert_eq!(replay.hard_state, state(1, 1, 99));
    // D11 (etcd #11918): the chain is followed from wherever the purge left its beginning.
    let valid = valid_snapshots(&fs, dir()).expect("valid");
    assert!(
        valid.contains(&mark(59, 1)) && valid.contains(&mark(99, 1)),
        "{valid:?}"
    );
    let verified = verify(&fs, dir(), &mark(89, 1)).expect("verify");
    assert_eq!((verified.entries, verified.torn), (11, false));
    assert!(matches!(
        verify(&fs, dir(), &mark(95, 1)),
        Err(Error::SnapshotNotFound { index: 95, .. })
    ));
    assert!(matches!(
        Wal::open(sim(&fs), dir(), &mark(89, 2), options(4096)),
        Err(Error::SnapshotMismatch {
            index: 89,
            found: 1,
            wanted: 2
        })
    ));
    assert!(matches!(
        Wal::open(sim(&fs), dir(), &mark(1, 1), options(4096)),
        Err(Error::FileNotFound { index: 1, .. })
    ));
}

fn wal_names(fs: &SimFs) -> Vec<String> {
    let mut names = fs.read_dir(dir()).expect("read_dir");
    names.retain(|name| name.ends_with(".wal"));
    names
}

/// Snapshots that the newest hard state does not cover do not count.
#[test]
fn uncommitted_snapshots_are_not_valid() {
    let fs = SimFs::new();
    let mut wal = create(&fs, 1 << 20);
    wal.append_snapshot(&mark(5, 1)).expect("append");
    wal.append(Some(&state(1, 0, 5)), &[]).expect("append");
    wal.append_snapshot(&mark(9, 1)).expect("append");
    wal.flush().expect("flush");
    assert_eq!(
        valid_snapshots(&fs, dir()).expect("valid"),
        [mark(0, 0), mark(5, 1)]
    );
    // D5 (etcd #10219): the record without its hard state is no obstacle.
    drop(wal);
    let (wal, _) = Wal::open(sim(&fs), dir(), &mark(5, 1), options(1 << 20)).expect("open");
    assert_eq!(wal.last_index(), 9);
}

/// D7 (etcd #14127): what no reader accepts, the writer refuses, and goes on.
#[test]
fn refuses_what_cannot_be_read_back() {
    let fs = SimFs::new();
    let mut wal = create(&fs, 1 << 20);
    assert!(matches!(
        wal.append(None, &[entry(1, 1, b""), entry(1, 3, b"")]),
        Err(Error::Gap { index: 3, last: 1 })
    ));
    assert!(matches!(
        wal.append(None, &[entry(1, 0, b"")]),
        Err(Error::Gap { .. })
    ));
    // Never touched, so it costs no memory.
    let mut huge = entry(1, 2, b"");
    huge.data = Some(vec![0; crate::wal::MAX_RECORD_BYTES as usize].into());
    assert!(matches!(
        wal.append(None, &[entry(1, 1, b""), huge]),
        Err(Error::TooLarge { index: 2, .. })
    ));
    wal.append(None, &[entry(1, 1, b"")]).expect("append");
    wal.flush().expect("flush");
    drop(wal);
    assert_eq!(open(&fs, 1 << 20).expect("open").1.entries.len(), 1);
}

#[test]
fn a_second_log_in_the_same_place_is_refused() {
    let fs = SimFs::new();
    let wal = create(&fs, 1 << 20);
    let error = Wal::create(sim(&fs), dir(), b"", options(1 << 20)).expect_err("exists");
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    let error = open(&fs, 1 << 20).expect_err("locked");
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    drop(wal);
    open(&fs, 1 << 20).expect("open");

    let fs = SimFs::new();
    fs.create_dir_all(dir()).expect("dir");
    fs.open(&dir().join("notes.txt"), crate::fs::OpenMode::CreateNew)
        .expect("file");
    let error = Wal::create(sim(&fs), dir(), b"", options(1 << 20)).expect_err("foreign file");
    assert!(error.to_string().contains("notes.txt"), "{error}");
    assert_eq!(fs.read_dir(dir()).expect("names"), ["notes.txt"]);
}

/// An empty directory, etcd's write check and half a log from a crash are not in the way.
#[test]
fn leftovers_are_not_in_the_way() {
    let fs = SimFs::new();
    fs.create_dir_all(dir()).expect("dir");
    fs.create_dir_all(Path::new("/data/member/wal.tmp"))
        .expect("dir");
    for path in [
        "/data/member/wal/.touch",
        "/data/member/wal/0.tmp",
        "/data/member/wal.tmp/x",
    ] {
        fs.open(Path::new(path), crate::fs::OpenMode::CreateNew)
            .expect("file");
    }
    drop(create(&fs, 1 << 20));
    assert_eq!(wal_names(&fs).len(), 1);
    assert_eq!(
        fs.read_dir(Path::new("/data/member")).expect("names"),
        ["wal"]
    );
}

/// A long random history against a vector.
#[test]
fn random_history_equals_a_vector() {
    for seed in 0..20 * scale() {
        let mut random = Random(seed);
        let fs = SimFs::new();
        let size = [2048, 5000, 1 << 20][random.below(3) as usize];
        let mut wal = create(&fs, size);
        let mut log: Vec<raftpb::Entry> = Vec::new();
        let mut hard_state = raftpb::HardState::default();
        let (mut term, mut commit) = (1, 0_u64);
        for _ in 0..200 {
            if random.below(10) == 0 {
                term += random.below(3);
            }
            let keep = log.len() as u64 - random.below(log.len() as u64 - commit + 1);
            log.truncate(keep as usize);
            let new: Vec<_> = (0..random.below(6))
                .map(|i| {
                    let len = random.below(700) as usize;
                    entry(term, keep + 1 + i, &random.bytes(len))
                })
                .collect();
            if new.is_empty() {
                // Nothing was written about the truncation.
                log = open_entries(&mut wal, &fs, size);
            }
            log.extend(new.iter().cloned());
            commit += random.below(log.len() as u64 - commit + 1);
            hard_state = state(term, 3, commit);
            wal.append(Some(&hard_state), &new).expect("append");
            wal.flush().expect("flush");
            if random.below(10) == 0 {
                drop(wal);
                let (reopened, replay) = open(&fs, size).expect("open");
                wal = reopened;
                assert_eq!(replay.entries, log, "seed {seed}");
                assert_eq!(replay.hard_state, hard_state, "seed {seed}");
                assert_eq!(replay.repaired, None, "seed {seed}");
            }
        }
        drop(wal);
        assert_eq!(open(&fs, size).expect("open").1.entries, log, "seed {seed}");
        let _ = hard_state;
    }
}

/// What the log holds now.
fn open_entries(wal: &mut Wal, fs: &SimFs, size: u64) -> Vec<raftpb::Entry> {
    wal.flush().expect("flush");
    open(&fs.fork(), size).expect("open").1.entries
}

/// The real file system, the background thread and the real segment size.
#[test]
fn on_the_real_file_system() {
    let temp = tempfile::tempdir().expect("temp dir");
    let dir = temp.path().join("member/wal");
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let options = Options::default();
    let mut wal = Wal::create(Arc::clone(&fs), &dir, b"m", options.clone()).expect("create");
    let first = dir.join("0000000000000000-0000000000000000.wal");
    assert_eq!(
        std::fs::metadata(&first).expect("metadata").len(),
        64_000_000
    );
    let payload = vec![42; 1 << 20];
    for index in 1..=12 {
        wal.append(Some(&state(1, 1, index - 1)), &[entry(1, index, &payload)])
            .expect("append");
        wal.flush().expect("flush");
    }
    assert!(matches!(
        Wal::open(Arc::clone(&fs), &dir, &mark(0, 0), options.clone()),
        Err(Error::Locked { .. })
    ));
    drop(wal);
    let names = fs.read_dir(&dir).expect("names");
    assert_eq!(
        names,
        [
            "0000000000000000-0000000000000000.wal",
            "0000000000000001-0000000000000009.wal"
        ],
        "the prepared segment is removed"
    );
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| {
        std::fs::metadata(path)
            .expect("metadata")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!((mode(&dir), mode(&first)), (0o700, 0o600));
    let (wal, replay) = Wal::open(Arc::clone(&fs), &dir, &mark(0, 0), options).expect("open");
    assert_eq!(replay.entries.len(), 12);
    assert_eq!(replay.entries[11].data.as_deref(), Some(&payload[..]));
    assert_eq!(
        read_all(&*fs, &dir.join(&names[1])).expect("read").len(),
        64_000_000
    );
    drop(wal);
}

/// D18 (etcd #2819, #3347): a full disk is reported while the current segment can still grow, and
/// the log goes on by itself once there is space.
#[test]
fn without_space_for_a_new_segment_the_current_one_grows() {
    let reports = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&reports);
    let clock = Arc::new(ManualClock::default());
    let fs = SimFs::new();
    let clock_in = Arc::clone(&clock);
    let options = Options {
        clock: clock_in,
        observe: Some(Arc::new(move |what| {
            if let Observed::NoSpace(text) = what {
                seen.lock().expect("lock").push(text);
            }
        })),
        ..options(4096)
    };
    let mut wal = Wal::create(sim(&fs), dir(), b"m", options).expect("create");
    fs.set_capacity(8000);
    for index in 1..=10 {
        wal.append(None, &[entry(1, index, &[1; 512])])
            .expect("append");
        wal.flush().expect("flush");
    }
    assert_eq!(wal_names(&fs).len(), 1);
    let reported = reports.lock().expect("lock").clone();
    assert_eq!(reported.len(), 1, "not at every flush: {reported:?}");
    assert!(
        reported[0].contains("0.tmp") && reported[0].contains("no space left"),
        "{reported:?}"
    );

    fs.set_capacity(1 << 20);
    clock.advance(std::time::Duration::from_secs(2));
    wal.append(None, &[entry(1, 11, b"")]).expect("append");
    wal.flush().expect("flush");
    assert_eq!(wal_names(&fs).len(), 2);

    // When even the current segment cannot grow, the error names file and remedy.
    fs.set_capacity(fs_used(&fs));
    let error = loop {
        let index = wal.last_index() + 1;
        wal.append(None, &[entry(1, index, &[1; 512])])
            .expect("append");
        if let Err(error) = wal.flush() {
            break error;
        }
    };
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    assert!(error.to_string().contains("0000000000000001-"), "{error}");
    assert!(error.to_string().contains("free space"), "{error}");
    assert!(matches!(wal.flush(), Err(Error::Poisoned { .. })));
    let last = wal.last_index() - 1;
    drop(wal);
    fs.set_capacity(1 << 20);
    let (_, replay) = open(&fs, 4096).expect("open");
    assert!(replay.entries.len() as u64 >= last);
}

/// D18: the thread that prepares segments finds the full disk before the current segment is full.
#[test]
fn missing_space_is_reported_ahead() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = Mutex::new(tell);
    let fs = SimFs::new();
    let options = Options {
        prepare: Prepare::Background,
        observe: Some(Arc::new(move |what| {
            if let Observed::NoSpace(text) = what {
                // The receiver lives as long as the test.
                let _ = tell.lock().expect("lock").send(text);
            }
        })),
        ..options(1 << 16)
    };
    fs.set_capacity(100_000);
    let mut wal = Wal::create(sim(&fs), dir(), b"m", options).expect("create");
    let mut flush = |bytes: usize| {
        let index = wal.last_index() + 1;
        wal.append(None, &[entry(1, index, &vec![5; bytes])])
            .expect("append");
        wal.flush().expect("flush");
    };
    // At a quarter, a half, three quarters, and when the segment is full at the latest.
    for _ in 0..5 {
        flush(15_000);
    }
    assert!(told.try_recv().expect("a report").contains("no space left"));
    fs.set_capacity(1 << 30);
    drop(wal);
    assert_eq!(open(&fs, 1 << 16).expect("open").1.entries.len(), 5);
}

fn fs_used(fs: &SimFs) -> u64 {
    fs.set_capacity(1 << 30);
    (1 << 30) - fs.available(dir()).expect("available")
}

/// A leader's snapshot replaced the log: what had been behind its index, of older terms, is no part
/// of the log that begins with it. What a member's own snapshot has behind it is.
#[test]
fn entries_that_a_snapshot_replaced_are_left_out() {
    let fs = SimFs::new();
    let mut wal = create(&fs, 1 << 20);
    let stale: Vec<_> = (1..=9).map(|i| entry(2, i, b"stale")).collect();
    wal.append(Some(&state(2, 1, 3)), &stale).expect("append");
    let snapshot = walpb::Snapshot {
        index: Some(5),
        term: Some(4),
        conf_state: None,
    };
    wal.append_snapshot(&snapshot).expect("append");
    wal.append(Some(&state(4, 1, 5)), &[]).expect("append");
    wal.flush().expect("flush");
    let replayed = || {
        let options = options(1 << 20);
        let (wal, replay) =
            Wal::open(Arc::new(fs.clone()), dir(), &snapshot, options).expect("open");
        (wal, replay.entries)
    };
    drop(wal);
    let (mut wal, entries) = replayed();
    assert_eq!(entries, []);
    wal.append(Some(&state(4, 1, 5)), &[entry(4, 6, b"new")])
        .expect("append");
    wal.flush().expect("flush");
    drop(wal);
    assert_eq!(replayed().1, [entry(4, 6, b"new")]);
}

#[test]
fn the_newest_segment_tells_whose_log_it_is() {
    let fs = SimFs::new();
    assert!(matches!(
        super::super::metadata(&fs, dir()),
        Err(super::super::Error::FileNotFound { .. } | super::super::Error::Io { .. })
    ));
    let mut wal = create(&fs, 512);
    for index in 1..=40 {
        wal.append(Some(&state(1, 0, index)), &[entry(1, index, &[7; 64])])
            .expect("append");
        wal.flush().expect("flush");
    }
    drop(wal);
    assert!(fs.read_dir(dir()).expect("list").len() > 2);
    let metadata = super::super::metadata(&fs, dir()).expect("it has a head");
    assert_eq!(&metadata[..], b"metadata");
}
