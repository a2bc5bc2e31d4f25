//! Restores on a disk that fails and loses power.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message as _;
use retcd_proto::{etcdserverpb, walpb};
use retcd_storage::backend::{Backend as _, Batch, BoltBackend, BoltOptions, Bucket};
use retcd_storage::fs::sim::Plan;
use retcd_storage::fs::{Fs, OpenMode, SimFs, read_all};
use retcd_storage::{snapshot, wal};
use sha2::{Digest as _, Sha256};

use super::database::{Bolt, Engine as _};
use super::hash::{Totals, totals};
use super::restore::{RestoreError, RestoreOptions, Restored, Tools, restore_with};
use crate::log::Log;

const SNAPSHOT: &str = "/backup/snap.db";
const DATA: &str = "/data/n.etcd";

/// A disk with a saved snapshot on it.
fn disk() -> SimFs {
    let fs = SimFs::new();
    for dir in ["/backup", "/data", "/member"] {
        fs.create_dir_all(Path::new(dir)).expect("created");
    }
    let path = Path::new("/member/db");
    let database = BoltBackend::open(Arc::new(fs.clone()), path, BoltOptions::default());
    let database = database.expect("opens");
    let mut batch = Batch::default();
    for n in 0..50_u8 {
        let revision = retcd_storage::mvcc::Revision::new(2 + i64::from(n), 0);
        let stored = retcd_proto::mvccpb::KeyValue {
            key: vec![n].into(),
            value: vec![n; 300].into(),
            ..Default::default()
        };
        batch.put(Bucket::Key, revision.key().to_vec(), stored.encode_to_vec());
    }
    batch.put(Bucket::Members, "1234", "{}");
    batch.put(Bucket::MembersRemoved, "99", "removed");
    batch.put(Bucket::Cluster, "clusterVersion", "3.7.0");
    database.commit(&batch).expect("commits");
    let mut bytes = Vec::new();
    let mut copy = database.copy().expect("copies");
    io::copy(&mut copy.bytes, &mut bytes).expect("reads");
    let sha = Sha256::digest(&bytes);
    bytes.extend_from_slice(&sha);
    write(&fs, SNAPSHOT, &bytes);
    fs.fork()
}

fn write(fs: &SimFs, path: &str, bytes: &[u8]) {
    let file = fs
        .open(Path::new(path), OpenMode::CreateOrTruncate)
        .expect("created");
    file.write_all_at(bytes, 0).expect("written");
}

fn options(wal_dir: Option<&str>) -> RestoreOptions {
    RestoreOptions {
        wal_dir: wal_dir.map(PathBuf::from),
        name: "b".into(),
        initial_cluster: "a=http://localhost:1,b=http://localhost:2,c=http://localhost:3".into(),
        initial_advertise_peer_urls: "http://localhost:2".into(),
        ..RestoreOptions::new(SNAPSHOT, DATA)
    }
}

fn restore(fs: &SimFs, options: &RestoreOptions) -> Result<Restored, RestoreError> {
    let tools = Tools {
        fs: Arc::new(fs.clone()),
        engine: Box::new(Bolt),
        segment_size: 16 << 10,
    };
    restore_with(&tools, options, Log::discard().logger())
}

/// What a whole restored member holds: its database and its log.
fn content(fs: &SimFs, wal_dir: &Path) -> (Totals, Vec<u8>, u64) {
    let snap = Path::new(DATA).join("member/snap");
    let database = Bolt.tables(fs, &snap.join("db")).expect("opens");
    database.check().expect("sound");
    let valid = wal::valid_snapshots(fs, wal_dir).expect("readable");
    let newest = valid.last().cloned().expect("a snapshot");
    assert_eq!((newest.index(), newest.term()), (3, 1));
    let found = wal::verify(fs, wal_dir, &newest).expect("sound");
    assert!(!found.torn);
    assert_eq!(found.hard_state.commit(), 3);
    let all = wal::verify(fs, wal_dir, &walpb::Snapshot::default()).expect("sound");
    assert_eq!(all.entries, 3);
    let file = snapshot::load_newest(fs, &snap, &valid)
        .expect("readable")
        .expect("the file that goes with the record");
    assert_eq!(file.metadata.expect("metadata").index(), 3);
    (
        totals(&*database).expect("sound"),
        found.metadata.to_vec(),
        all.entries as u64,
    )
}

fn exists(fs: &SimFs, path: impl AsRef<Path>) -> bool {
    fs.exists(path.as_ref()).expect("readable")
}

fn has_member(fs: &SimFs) -> bool {
    exists(fs, Path::new(DATA).join("member"))
}

const PLACES: [Option<&str>; 3] = [None, Some("/wal/n"), Some("/data/n.etcd/member/elsewhere")];

#[test]
fn a_restored_member_is_whole() {
    for wal_dir in PLACES {
        let fs = disk();
        let restored = restore(&fs, &options(wal_dir)).expect("restores");
        let expected = wal_dir.map_or_else(|| Path::new(DATA).join("member/wal"), PathBuf::from);
        assert_eq!(restored.wal_dir, expected);
        let (_, metadata, _) = content(&fs, &expected);
        let metadata = etcdserverpb::Metadata::decode(&metadata[..]).expect("metadata");
        assert_eq!(metadata.node_id(), restored.member_id);
        assert_eq!(metadata.cluster_id(), restored.cluster_id);
        let mut names = fs.read_dir(Path::new(DATA)).expect("readable");
        names.retain(|name| name != "member");
        assert_eq!(names, [""; 0]);
        let names = fs.read_dir(&expected).expect("readable");
        assert_eq!(names, ["0000000000000000-0000000000000000.wal"]);
    }
}

/// Everything that a power failure at any moment can leave.
#[test]
fn a_crash_leaves_a_whole_member_or_none() {
    for wal_dir in PLACES {
        let fs = disk();
        fs.record();
        let restored = restore(&fs, &options(wal_dir)).expect("restores");
        fs.mark(1);
        let trace = fs.take_trace();
        let whole = content(&fs, &restored.wal_dir);
        let plan = Plan {
            random: 4,
            ..Plan::default()
        };
        let (mut none, mut members) = (0, 0);
        let images = trace.images(&plan, |image| {
            if has_member(&image.fs) {
                members += 1;
                assert_eq!(
                    content(&image.fs, &restored.wal_dir),
                    whole,
                    "{}",
                    image.describe()
                );
            } else {
                none += 1;
                assert_eq!(image.mark, 0, "acknowledged: {}", image.describe());
            }
        });
        assert!(
            none > 100 && members > 0,
            "{none} and {members} of {images}"
        );
    }
}

#[test]
fn a_failing_call_leaves_nothing_and_the_next_attempt_succeeds() {
    for wal_dir in PLACES {
        let fs = disk();
        let before = fs.calls();
        restore(&fs, &options(wal_dir)).expect("restores");
        let calls = fs.calls() - before;
        assert!(calls > 20, "{calls}");
        for n in 1..=calls {
            let fs = disk();
            fs.fail_at(n, io::ErrorKind::StorageFull, false);
            match restore(&fs, &options(wal_dir)) {
                Err(error) => assert!(!error.to_string().is_empty()),
                Ok(_) => panic!("call {n} of {calls} failed and nobody noticed"),
            }
            fs.heal();
            // The call may have been the removal of what was left, or come before anything was ours.
            let part = Path::new(DATA).join("member.part");
            if exists(&fs, &part) {
                assert!(n <= 6, "call {n} left {}", part.display());
                fs.remove_dir_all(Path::new(DATA)).expect("removed");
            }
            assert!(!has_member(&fs), "call {n}");
            let restored = restore(&fs, &options(wal_dir)).expect("restores");
            content(&fs, &restored.wal_dir);
        }
    }
}

#[test]
fn refusals_leave_nothing() {
    let change = |bytes: &mut Vec<u8>, at: usize| bytes[at] ^= 1;
    let good = read_all(&disk(), Path::new(SNAPSHOT)).expect("readable");
    let mut bad = good.clone();
    change(&mut bad, 5000);
    let no_trailer = good[..good.len() - 32].to_vec();
    for (bytes, text) in [
        (&bad, "expected sha256 ["),
        (
            &no_trailer,
            "snapshot missing hash but --skip-hash-check=false",
        ),
        (&Vec::new(), "seek /backup/snap.db: "),
        (&vec![1; 20], "seek /backup/snap.db: "),
        (&vec![1; 100], "snapshot missing hash"),
    ] {
        let fs = disk();
        write(&fs, SNAPSHOT, b"");
        fs.remove_file(Path::new(SNAPSHOT)).expect("removed");
        write(&fs, SNAPSHOT, bytes);
        let error = restore(&fs, &options(None)).expect_err(text).to_string();
        assert!(error.starts_with(text), "{error}");
        assert!(!exists(&fs, DATA), "{text}");
    }
    let fs = disk();
    fs.remove_file(Path::new(SNAPSHOT)).expect("removed");
    let error = restore(&fs, &options(None)).expect_err("no snapshot");
    assert!(
        error.to_string().starts_with("open /backup/snap.db: "),
        "{error}"
    );
    assert!(!exists(&fs, DATA));
}

#[test]
fn skipping_the_check_takes_what_can_be_read() {
    let good = read_all(&disk(), Path::new(SNAPSHOT)).expect("readable");
    let mut wrong_trailer = good.clone();
    *wrong_trailer.last_mut().expect("bytes") ^= 1;
    for bytes in [&good[..good.len() - 32], &wrong_trailer] {
        let fs = disk();
        fs.remove_file(Path::new(SNAPSHOT)).expect("removed");
        write(&fs, SNAPSHOT, bytes);
        let options = RestoreOptions {
            skip_hash_check: true,
            ..options(None)
        };
        let restored = restore(&fs, &options).expect("restores");
        let (found, ..) = content(&fs, &restored.wal_dir);
        assert_eq!((found.revision, found.keys), (51, 50));
    }
    // What is no database stays refused.
    let fs = disk();
    fs.remove_file(Path::new(SNAPSHOT)).expect("removed");
    write(&fs, SNAPSHOT, &[3; 20_000]);
    let options = RestoreOptions {
        skip_hash_check: true,
        ..options(None)
    };
    let error = restore(&fs, &options).expect_err("no database");
    assert!(matches!(error, RestoreError::Database(_)), "{error}");
    assert!(!exists(&fs, DATA));
}

#[test]
fn what_is_there_is_never_overwritten() {
    let fs = disk();
    fs.create_dir_all(&Path::new(DATA).join("member"))
        .expect("created");
    let error = restore(&fs, &options(None)).expect_err("not empty");
    assert_eq!(
        error.to_string(),
        "data-dir \"/data/n.etcd\" not empty or could not be read"
    );
    let fs = disk();
    fs.create_dir_all(&Path::new(DATA).join("member.part"))
        .expect("created");
    let error = restore(&fs, &options(None)).expect_err("interrupted");
    assert!(matches!(error, RestoreError::Interrupted(_)), "{error}");
    let fs = disk();
    fs.create_dir_all(Path::new("/wal/n")).expect("created");
    let error = restore(&fs, &options(Some("/wal/n"))).expect_err("exists");
    assert_eq!(error.to_string(), "wal-dir \"/wal/n\" exists");
    for wal_dir in [
        "/data/n.etcd",
        "/data/n.etcd/member/snap",
        "/data/n.etcd/member/snap/x",
    ] {
        let fs = disk();
        let error = restore(&fs, &options(Some(wal_dir))).expect_err("overlaps");
        assert!(matches!(error, RestoreError::WalDirPlace { .. }), "{error}");
        assert!(!exists(&fs, DATA));
    }
    // An empty directory is filled, and stays when that fails.
    let fs = disk();
    fs.create_dir_all(Path::new(DATA)).expect("created");
    fs.fail_at(9, io::ErrorKind::Other, false);
    restore(&fs, &options(None)).expect_err("a call failed");
    assert_eq!(fs.read_dir(Path::new(DATA)).expect("readable"), [""; 0]);
    restore(&fs, &options(None)).expect("restores");
}
