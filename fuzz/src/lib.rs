//! What the fuzz targets do.
//!
//! An input is a script: which database to begin with, then edits of twelve bytes each. So short
//! inputs reach deep, and the checksums of the meta pages are right unless the script says otherwise.

mod edit;
#[path = "../../storage/src/backend/bolt/tests/forge.rs"]
#[allow(dead_code, reason = "shared with the engine's tests")]
mod forge;
#[path = "../../storage/src/backend/bolt/tests/one_file.rs"]
#[allow(dead_code, reason = "shared with the engine's tests")]
mod one_file;
mod samples;

// The shared files name the crate that they were written for.
use retcd_storage::fs;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use retcd_storage::backend::{Backend, Batch, BoltBackend, BoltFile, BoltOptions, Bucket, Error};

use self::one_file::OneFile;

const DB: &str = "/member/snap/db";

/// More calls of read than any of these small files needs.
const READS: usize = 100_000;

type Content = BTreeMap<(Bucket, Bytes), Bytes>;

/// Reads the pages of a database after a script, or bytes that never were one.
///
/// # Panics
/// If the engine does what it may not.
pub fn page(script: &[u8]) {
    match script.split_first() {
        Some((first, raw)) if *first >= 128 => retcd_storage::backend::fuzz_page(raw),
        _ => {
            let Some((bytes, page_size)) = edit::run(script) else {
                return;
            };
            bytes
                .chunks(page_size)
                .chain(bytes.chunks(3 * page_size))
                .for_each(retcd_storage::backend::fuzz_page);
        }
    }
}

/// Runs a script, then all that a tool and a member do with the file.
///
/// # Panics
/// If the engine does what it may not.
pub fn open(script: &[u8]) {
    let Some((bytes, _)) = edit::run(script) else {
        return;
    };
    let fs = OneFile::new(bytes.clone());
    fs.allow_reads(READS);
    let tool = read_as_tool(&fs);
    let options = BoltOptions {
        store_freelist: script.len().is_multiple_of(2),
    };
    let engine = match open_as_member(&fs, options) {
        Ok(engine) => engine,
        Err(error) => {
            expect_damage(&error);
            assert!(fs.holds(&bytes), "a refused file was changed");
            return;
        }
    };
    if let Err(error) = tool {
        // A tool also finds what a start mends.
        assert!(error.to_string().contains("unreachable unfreed"), "{error}");
    }
    // What was opened is sound: from here on nothing may fail.
    let mut content = read(&engine).expect("read");
    engine.check().expect("check");
    let view = engine.view().expect("view");
    let mut copy = engine.copy().expect("copy");
    let batch = changes(&content);
    match engine.commit(&batch) {
        Ok(()) => {}
        // A bucket has the name of a key, or there is no number for another commit.
        Err(error @ Error::Corrupt { .. }) => {
            let text = error.to_string();
            assert!(
                text.contains("is a bucket where a key is to be") || text.contains("no number"),
                "{text}"
            );
            assert!(fs.holds(&bytes), "a refused commit changed the file");
            return;
        }
        Err(error) => panic!("{error}"),
    }
    let mut copied = Vec::new();
    copy.bytes.read_to_end(&mut copied).expect("copy");
    assert_eq!(copied.len() as u64, copy.len);
    // It holds the file, and its lock.
    drop(copy);
    same_as_view(&OneFile::new(copied), options, &content);
    apply(&mut content, &batch);
    assert!(read(&engine).expect("read") == content, "after a commit");
    drop(view);
    engine.check().expect("check");
    engine.defragment().expect("defragment");
    engine.check().expect("check");
    drop(engine);
    fs.allow_reads(READS);
    read_as_tool(&fs).expect("tool");
    same_as_view(&fs, options, &content);
}

/// Bytes of a peer, in pieces whose size the first one says.
///
/// # Panics
/// If a decoder does what it may not.
pub fn streams(bytes: &[u8]) {
    if let Some((step, bytes)) = bytes.split_first() {
        retcd_raft_node::transport::fuzz_streams(bytes, usize::from(*step));
    }
}

/// A member's life, and messages of hostile peers in it.
///
/// # Panics
/// If the core does what it may not.
pub fn step(script: &[u8]) {
    retcd_raft_node::core::fuzz_core(script);
}

fn same_as_view(fs: &OneFile, options: BoltOptions, content: &Content) {
    let engine = open_as_member(fs, options).expect("open");
    assert!(read(&engine).expect("read") == *content, "after reopening");
}

fn open_as_member(fs: &OneFile, options: BoltOptions) -> Result<BoltBackend, Error> {
    BoltBackend::open(Arc::new(fs.clone()), Path::new(DB), options)
}

/// Reads all that a tool can, in whatever state the file is; then checks it.
fn read_as_tool(fs: &OneFile) -> Result<(), Error> {
    let file = BoltFile::open(fs, Path::new(DB))?;
    let read = file.buckets().and_then(|names| {
        names.iter().try_for_each(|name| {
            file.get(name, b"key")?;
            file.scan(name, b"m", 3)?;
            file.scan(name, b"", 0).map(drop)
        })
    });
    if let Err(error) = &read {
        expect_damage(error);
    }
    file.check()?;
    // What reading finds, `check` does not overlook.
    read
}

fn expect_damage(error: &Error) {
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

fn read(engine: &BoltBackend) -> Result<Content, Error> {
    let view = engine.view()?;
    let mut content = Content::new();
    for bucket in Bucket::ALL {
        for (key, value) in view.scan(bucket, b"", None, 0)? {
            assert_eq!(engine.get(bucket, &key)?.as_ref(), Some(&value));
            content.insert((bucket, key), value);
        }
    }
    Ok(content)
}

/// Some of everything: appended, overwritten, removed.
fn changes(content: &Content) -> Batch {
    let mut batch = Batch::default();
    for (n, (bucket, key)) in content.keys().enumerate() {
        match n % 5 {
            0 => batch.delete(*bucket, key.clone()),
            1 => batch.put(*bucket, key.clone(), vec![n as u8; 50 * (n % 50)]),
            _ => {}
        }
    }
    for n in 0..10_u8 {
        batch.put(Bucket::Key, vec![0xF0, n], vec![n; 200]);
        batch.put(Bucket::ALL[usize::from(n)], vec![n], "new");
    }
    batch
}

fn apply(content: &mut Content, batch: &Batch) {
    use retcd_storage::backend::Op;
    for op in batch.ops() {
        let place = (op.bucket(), op.key().clone());
        match op {
            Op::Put { value, .. } => content.insert(place, value.clone()),
            Op::Delete { .. } => content.remove(&place),
        };
    }
}
