//! Database files of members that do not run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use retcd_storage::backend::{Backend as _, Batch, BoltBackend, BoltFile, BoltOptions, Bucket};
use retcd_storage::fs::RealFs;
use retcd_tests::member::Member;

/// The database of a member.
pub(crate) fn database(member: &Member) -> PathBuf {
    snapshots(member).join("db")
}

/// Where its snapshots are.
pub(crate) fn snapshots(member: &Member) -> PathBuf {
    member.dir().join("member/snap")
}

/// Names in the directory of the snapshots.
pub(crate) fn names(member: &Member) -> Vec<String> {
    let entries = fs::read_dir(snapshots(member)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// All pairs of a bucket.
pub(crate) type Pairs = Vec<(Bytes, Bytes)>;

pub(crate) fn open(path: &Path) -> BoltFile {
    let file = BoltFile::open(&RealFs, path).unwrap();
    file.check().unwrap();
    file
}

pub(crate) fn bucket(file: &BoltFile, name: &str) -> Pairs {
    file.scan(name.as_bytes(), b"", 0).unwrap()
}

/// What `meta` or `cluster` says, as text.
pub(crate) fn text(file: &BoltFile, bucket: &str, key: &str) -> Option<String> {
    let value = file.get(bucket.as_bytes(), key.as_bytes()).unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// The last entry that the database has.
pub(crate) fn index(path: &Path) -> u64 {
    let value = open(path).get(b"meta", b"consistent_index").unwrap();
    value.map_or(0, |value| u64::from_be_bytes(value[..].try_into().unwrap()))
}

/// Changes a database.
pub(crate) fn change(path: &Path, bucket: Bucket, key: &[u8], value: &[u8]) {
    let engine = BoltBackend::open(Arc::new(RealFs), path, BoltOptions::default()).unwrap();
    let mut batch = Batch::default();
    batch.put(bucket, key.to_vec(), value.to_vec());
    engine.commit(&batch).unwrap();
}

/// What differs between two databases besides `except`, in words.
pub(crate) fn differences(a: &BoltFile, b: &BoltFile, except: &[(&str, &str)]) -> Vec<String> {
    let mut out = Vec::new();
    if a.buckets().unwrap() != b.buckets().unwrap() {
        out.push(format!("buckets {:?} and {:?}", a.buckets().unwrap(), b.buckets().unwrap()));
    }
    for name in Bucket::ALL.map(Bucket::name) {
        let pairs = |file| -> Pairs {
            let counts = |key: &Bytes| !except.iter().any(|(bucket, but)| *bucket == name && *key == but.as_bytes());
            bucket(file, name).into_iter().filter(|(key, _)| counts(key)).collect()
        };
        let (left, right) = (pairs(a), pairs(b));
        out.extend(left.iter().filter(|pair| !right.contains(pair)).map(|pair| format!("{name}: {pair:?} is gone")));
        out.extend(right.iter().filter(|pair| !left.contains(pair)).map(|pair| format!("{name}: {pair:?} is new")));
    }
    out
}
