use std::io::ErrorKind;

use super::sim::Plan;
use super::*;

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn put(fs: &dyn Fs, name: &Path, bytes: &[u8]) -> Box<dyn File> {
    let file = fs.open(name, OpenMode::CreateOrTruncate).expect("open");
    file.write_all_at(bytes, 0).expect("write");
    file
}

/// What both file systems promise.
fn conformance(fs: &dyn Fs, root: &Path) {
    let dir = root.join("a/b");
    fs.create_dir_all(&dir).expect("create");
    fs.create_dir_all(&dir).expect("again");
    assert!(fs.exists(&dir).expect("exists"));
    let name = dir.join("f");
    let missing = fs.open(&name, OpenMode::Read).expect_err("missing");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(fs.open(&name, OpenMode::Write).is_err());
    let file = fs.open(&name, OpenMode::CreateNew).expect("new");
    let twice = fs.open(&name, OpenMode::CreateNew).expect_err("exists");
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists);

    assert!(file.is_empty().expect("empty"));
    file.write_all_at(b"world", 6).expect("write");
    file.write_all_at(b"hello", 0).expect("write");
    assert_eq!(read_all(fs, &name).expect("read"), b"hello\0world");
    let mut buf = [0; 4];
    assert_eq!(file.read_at(&mut buf, 9).expect("read"), 2);
    assert_eq!(file.read_at(&mut buf, 11).expect("read"), 0);
    assert_eq!(file.read_at(&mut buf, 1 << 40).expect("read"), 0);
    file.set_len(3).expect("cut");
    file.allocate(5000).expect("allocate");
    file.allocate(10).expect("allocate");
    assert_eq!(file.len().expect("len"), 5000);
    let bytes = read_all(fs, &name).expect("read");
    assert_eq!(&bytes[..3], b"hel");
    assert!(bytes[3..].iter().all(|b| *b == 0));
    file.sync_data().expect("sync");
    file.sync_all().expect("sync");
    fs.sync_dir(&dir).expect("sync");

    let other = fs.open(&name, OpenMode::Write).expect("open");
    assert!(file.try_lock().expect("lock"));
    assert!(file.try_lock().expect("still mine"));
    assert!(!other.try_lock().expect("lock"));
    drop(file);
    assert!(other.try_lock().expect("free"));
    let reader = fs.open(&name, OpenMode::Read).expect("open");
    assert!(reader.write_all_at(b"x", 0).is_err());

    put(fs, &dir.join("g"), b"g");
    durable_rename(fs, &dir.join("g"), &name).expect("rename");
    assert_eq!(fs.read_dir(&dir).expect("list"), ["f"]);
    assert_eq!(read_all(fs, &name).expect("read"), b"g");
    assert_eq!(other.len().expect("the old one"), 5000);
    put(fs, &name, b"");
    assert!(read_all(fs, &name).expect("read").is_empty());

    let moved = root.join("a/c");
    fs.create_dir_all(&moved).expect("empty target");
    fs.rename(&dir, &moved).expect("over an empty directory");
    assert!(!fs.exists(&dir).expect("exists"));
    fs.create_dir_all(&dir).expect("create");
    assert!(fs.rename(&dir, &moved).is_err(), "over a full directory");
    fs.remove_file(&moved.join("f")).expect("remove");
    assert!(fs.remove_file(&moved.join("f")).is_err());
    put(fs, &moved.join("h"), b"h");
    fs.remove_dir_all(&root.join("a")).expect("remove");
    assert!(!fs.exists(&root.join("a")).expect("exists"));
    assert!(fs.available(root).expect("available") > 0);
}

#[test]
fn real_and_simulated_behave_alike() {
    let temp = tempfile::tempdir().expect("temp dir");
    conformance(&RealFs, temp.path());
    conformance(&SimFs::new(), path("/"));
}

#[test]
fn nothing_unsynced_survives_a_crash() {
    let fs = SimFs::new();
    fs.create_dir_all(path("/d")).expect("dir");
    let file = put(&fs, path("/d/f"), b"one");
    assert!(fs.crash().read_dir(path("/d")).expect("list").is_empty());
    fs.sync_dir(path("/d")).expect("sync");
    assert_eq!(read_all(&fs.crash(), path("/d/f")).expect("read"), b"");
    file.sync_data().expect("sync");
    file.write_all_at(b"two", 0).expect("write");
    assert_eq!(read_all(&fs.crash(), path("/d/f")).expect("read"), b"one");
    fs.rename(path("/d/f"), path("/d/g")).expect("rename");
    assert_eq!(fs.crash().read_dir(path("/d")).expect("list"), ["f"]);
    durable_rename(&fs, path("/d/g"), path("/d/h")).expect("rename");
    assert_eq!(fs.crash().read_dir(path("/d")).expect("list"), ["h"]);
    fs.remove_file(path("/d/h")).expect("remove");
    assert_eq!(fs.crash().read_dir(path("/d")).expect("list"), ["h"]);
    assert_eq!(file.len().expect("open though removed"), 3);
}

/// Every disk that a short history can leave, counted by hand.
#[test]
fn images_of_a_short_history() {
    let fs = SimFs::new();
    fs.create_dir_all(path("/d")).expect("dir");
    let file = put(&fs, path("/d/f"), &[1; 1024]);
    file.sync_data().expect("sync");
    fs.sync_dir(path("/d")).expect("sync");
    fs.record();
    file.write_all_at(&[2; 600], 0).expect("write");
    fs.mark(7);
    file.write_all_at(&[3; 200], 500).expect("write");
    file.sync_data().expect("sync");
    fs.mark(8);
    let trace = fs.take_trace();
    assert_eq!(trace.points(), 4);
    let plan = Plan {
        bytes: false,
        random: 300,
        ..Plan::default()
    };
    let mut seen = std::collections::BTreeSet::new();
    let count = trace.images(&plan, |image| {
        let bytes = read_all(&image.fs, path("/d/f")).expect("read");
        let sector = |at: usize| {
            let mut runs = bytes[at * 512..(at + 1) * 512].to_vec();
            runs.dedup();
            runs
        };
        assert_eq!(bytes.len(), 1024);
        seen.insert((image.mark, sector(0), sector(1)));
    });
    assert!(count >= seen.len());
    let mixed: Vec<u8> = vec![2, 3];
    // A sector has what it had after one of the writes, never a mixture that no time knew.
    let first = [vec![1], vec![2], mixed];
    let second = [vec![1], vec![2, 1], vec![3, 1]];
    for (mark, a, b) in &seen {
        assert!(
            first.contains(a) && second.contains(b),
            "{mark} {a:?} {b:?}"
        );
    }
    // Between the writes and the sync, all nine combinations can be on the disk.
    assert_eq!(seen.iter().filter(|(mark, ..)| *mark == 7).count(), 9);
    assert_eq!(seen.iter().filter(|(mark, ..)| *mark == 8).count(), 1);
}

#[test]
fn every_set_of_a_few_writes() {
    let fs = SimFs::new();
    let file = put(&fs, path("/f"), &[0; 4 * 512]);
    file.sync_data().expect("sync");
    fs.sync_dir(path("/")).expect("sync");
    fs.record();
    for sector in 0..4_u64 {
        let byte = sector as u8 + 1;
        file.write_all_at(&[byte; 512], sector * 512)
            .expect("write");
    }
    let plan = Plan {
        bytes: false,
        subsets: 4,
        sectors: 0,
        random: 0,
        ..Plan::default()
    };
    let mut seen = std::collections::BTreeSet::new();
    let count = fs.take_trace().images(&plan, |image| {
        seen.insert((image.at, read_all(&image.fs, path("/f")).expect("read")));
    });
    assert_eq!(count, 1 + 2 + 4 + 8 + 16);
    assert_eq!(seen.len(), count, "each set once");
}

#[test]
fn a_write_is_torn_at_every_byte() {
    let fs = SimFs::new();
    let file = put(&fs, path("/f"), b"");
    fs.sync_dir(path("/")).expect("sync");
    fs.record();
    file.write_all_at(b"abcdef", 0).expect("write");
    let mut seen = std::collections::BTreeSet::new();
    fs.take_trace().images(&Plan::default(), |image| {
        seen.insert(read_all(&image.fs, path("/f")).expect("read"));
    });
    let expected: std::collections::BTreeSet<Vec<u8>> =
        (0..=6).map(|len| b"abcdef"[..len].to_vec()).collect();
    assert_eq!(seen, expected);
}

#[test]
fn failing_calls_and_a_full_disk() {
    let fs = SimFs::new();
    let file = put(&fs, path("/f"), b"1");
    fs.fail_at(2, ErrorKind::Other, false);
    file.write_all_at(b"2", 0).expect("first");
    assert!(file.write_all_at(b"3456", 0).is_err(), "second");
    assert_eq!(
        read_all(&fs, path("/f")).expect("read"),
        b"34",
        "half of it"
    );
    file.write_all_at(b"7", 0).expect("third");
    fs.fail_at(1, ErrorKind::Other, true);
    assert!(file.sync_data().is_err());
    assert!(fs.remove_file(path("/f")).is_err());
    fs.heal();
    file.sync_data().expect("says so");
    // What a failed sync left open is not settled by one that works.
    assert_eq!(read_all(&fs.crash(), path("/f")).unwrap_or_default(), b"");

    let fs = SimFs::new();
    let file = put(&fs, path("/f"), &[1; 100]);
    fs.set_capacity(150);
    assert_eq!(fs.available(path("/")).expect("available"), 50);
    file.write_all_at(&[2; 100], 0).expect("no growth");
    let full = file.write_all_at(&[2; 100], 100).expect_err("full");
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    let full = file.allocate(200).expect_err("full");
    assert_eq!(full.kind(), ErrorKind::StorageFull);
}

#[test]
fn shared_between_threads() {
    let fs = SimFs::new();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let fs = fs.clone();
            scope.spawn(move || {
                let name = format!("/f{thread}");
                let file = put(&fs, path(&name), b"");
                for at in 0..200 {
                    file.write_all_at(&[thread], at).expect("write");
                    file.sync_data().expect("sync");
                }
            });
        }
    });
    fs.sync_dir(path("/")).expect("sync");
    for thread in 0..4_u8 {
        let bytes = read_all(&fs.crash(), path(&format!("/f{thread}"))).expect("read");
        assert_eq!(bytes, [thread; 200]);
    }
}
