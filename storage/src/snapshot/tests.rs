use super::*;
use crate::fs::SimFs;
use crate::fs::sim::Plan;

fn dir() -> &'static Path {
    Path::new("/member/snap")
}

fn new_fs() -> SimFs {
    let fs = SimFs::new();
    fs.create_dir_all(dir()).expect("dir");
    fs
}

fn snapshot(term: u64, index: u64) -> raftpb::Snapshot {
    raftpb::Snapshot {
        data: Some(format!("state at {index}").into_bytes().into()),
        metadata: Some(raftpb::SnapshotMetadata {
            conf_state: Some(raftpb::ConfState {
                voters: vec![1, 2],
                auto_leave: Some(false),
                ..Default::default()
            }),
            index: Some(index),
            term: Some(term),
        }),
    }
}

fn mark(term: u64, index: u64) -> walpb::Snapshot {
    walpb::Snapshot {
        index: Some(index),
        term: Some(term),
        conf_state: None,
    }
}

fn overwrite(fs: &SimFs, path: &Path, bytes: &[u8]) {
    let file = fs.open(path, OpenMode::CreateOrTruncate).expect("open");
    file.write_all_at(bytes, 0).expect("write");
}

#[test]
fn name_and_bytes() {
    let fs = new_fs();
    let small = raftpb::Snapshot {
        data: Some(Bytes::from_static(b"{}")),
        metadata: Some(raftpb::SnapshotMetadata {
            conf_state: Some(raftpb::ConfState {
                voters: vec![3],
                auto_leave: Some(false),
                ..Default::default()
            }),
            index: Some(300),
            term: Some(2),
        }),
    };
    let path = save(&fs, dir(), &small).expect("save");
    assert_eq!(path, dir().join("0000000000000002-000000000000012c.snap"));
    assert_eq!(fs.read_dir(dir()).expect("list").len(), 1);
    let data = [
        &[0x0a, 2][..],
        b"{}",
        &[0x12, 11, 0x0a, 4, 0x08, 3, 0x28, 0, 0x10, 0xac, 2, 0x18, 2],
    ]
    .concat();
    let mut expected = vec![0x08];
    let mut crc = crc32c::crc32c(&data);
    while crc >= 0x80 {
        expected.push(crc as u8 | 0x80);
        crc >>= 7;
    }
    expected.extend([crc as u8, 0x12, data.len() as u8]);
    expected.extend(&data);
    assert_eq!(read_all(&fs, &path).expect("read"), expected);
    assert_eq!(read(&fs, &path).expect("read"), small);
}

#[test]
fn the_newest_that_the_log_knows() {
    let fs = new_fs();
    for (term, index) in [(1, 5), (2, 9), (2, 12), (3, 10)] {
        save(&fs, dir(), &snapshot(term, index)).expect("save");
    }
    let load = |marks: &[walpb::Snapshot]| load_newest(&fs, dir(), marks).expect("load");
    assert_eq!(load(&[]), None);
    assert_eq!(load(&[mark(0, 0)]), None);
    assert_eq!(load(&[mark(1, 5), mark(2, 9)]), Some(snapshot(2, 9)));
    assert_eq!(load(&[mark(1, 9)]), None, "the term counts");
    assert_eq!(load(&[mark(2, 12), mark(3, 10)]), Some(snapshot(3, 10)));
}

#[test]
fn bad_files_are_set_aside() {
    let fs = new_fs();
    let good = save(&fs, dir(), &snapshot(1, 5)).expect("save");
    let bytes = read_all(&fs, &good).expect("read");
    let mut flipped = bytes.clone();
    *flipped.last_mut().expect("not empty") ^= 1;
    let cases: [(&str, &[u8], &str); 5] = [
        (
            "0000000000000001-0000000000000006.snap",
            b"",
            "snap: empty snapshot",
        ),
        (
            "0000000000000001-0000000000000007.snap",
            &flipped,
            "snap: crc mismatch",
        ),
        (
            "0000000000000001-0000000000000008.snap",
            &[0xff; 9],
            "is no snapshot file",
        ),
        (
            "0000000000000001-0000000000000009.snap",
            &[8, 0, 0x12, 1, 1],
            "snap: empty snapshot",
        ),
        (
            "0000000000000001-000000000000000a.snap",
            &[8, 7],
            "snap: empty snapshot",
        ),
    ];
    for (name, bytes, text) in cases {
        let path = dir().join(name);
        overwrite(&fs, &path, bytes);
        let error = read(&fs, &path).expect_err("bad").to_string();
        assert!(error.contains(text) && error.contains(name), "{error}");
    }
    for name in ["db", "tmp-x", "notes", "x.snap"] {
        overwrite(&fs, &dir().join(name), b"?");
    }
    let loaded = load_newest(&fs, dir(), &[mark(1, 5)]).expect("load");
    assert_eq!(loaded, Some(snapshot(1, 5)));
    let names = fs.read_dir(dir()).expect("list");
    let broken = names.iter().filter(|name| name.ends_with(".snap.broken"));
    assert_eq!(broken.count(), 5);
    assert!(names.contains(&"notes".to_owned()) && names.contains(&"x.snap".to_owned()));
}

/// Every flipped bit is noticed.
#[test]
fn flipped_bits() {
    let fs = new_fs();
    let path = save(&fs, dir(), &snapshot(4, 44)).expect("save");
    let bytes = read_all(&fs, &path).expect("read");
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        overwrite(&fs, &path, &flipped);
        if let Ok(found) = read(&fs, &path) {
            assert_eq!(found, snapshot(4, 44), "bit {bit}");
        }
    }
}

/// A power failure while a snapshot is saved leaves all of it or none, and the earlier one.
#[test]
fn power_failures() {
    let fs = new_fs();
    save(&fs, dir(), &snapshot(1, 5)).expect("save");
    fs.record();
    save(&fs, dir(), &snapshot(1, 9)).expect("save");
    fs.mark(1);
    let images = fs.take_trace().images(&Plan::default(), |image| {
        let marks = [mark(1, 5), mark(1, 9)];
        let loaded = load_newest(&image.fs, dir(), &marks).expect("load");
        let loaded = loaded.unwrap_or_else(|| panic!("{}", image.describe()));
        assert!(loaded == snapshot(1, 9) || (image.mark == 0 && loaded == snapshot(1, 5)));
        let names = image.fs.read_dir(dir()).expect("list");
        assert!(
            !names.iter().any(|name| name.ends_with(".broken")),
            "{}",
            image.describe()
        );
    });
    assert!(images > 60, "{images}");
}

#[test]
fn purge_keeps_the_newest() {
    let fs = new_fs();
    for index in 1..=7 {
        save(&fs, dir(), &snapshot(1, index)).expect("save");
    }
    for index in 1..=3 {
        overwrite(&fs, &dir().join(format!("{index:016x}.snap.db")), b"db");
    }
    assert!(purge(&fs, dir(), 0, 7).expect("purge").is_empty());
    assert!(purge(&fs, dir(), 7, 7).expect("purge").is_empty());
    // The log can only be read from the third one on: the newer ones have no record yet.
    let removed = purge(&fs, dir(), 2, 3).expect("purge");
    let name = |index| format!("0000000000000001-000000000000000{index}.snap");
    assert_eq!(removed, [name(1), name(2)]);
    let removed = purge(&fs, dir(), 2, 7).expect("purge");
    assert_eq!(removed, [name(3), name(4), name(5)]);
    // Databases may be waiting to be installed.
    assert_eq!(fs.crash().read_dir(dir()).expect("list").len(), 5);
}

#[test]
fn a_full_disk_names_file_and_remedy() {
    let fs = new_fs();
    save(&fs, dir(), &snapshot(1, 5)).expect("save");
    fs.set_capacity(60);
    let error = save(&fs, dir(), &snapshot(1, 9))
        .expect_err("full")
        .to_string();
    assert!(
        error.contains("0000000000000009.snap") && error.contains("free space"),
        "{error}"
    );
    fs.set_capacity(u64::MAX);
    let loaded = load_newest(&fs, dir(), &[mark(1, 5)]).expect("load");
    assert_eq!(loaded, Some(snapshot(1, 5)));
}
