//! The databases that scripts begin with.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use retcd_storage::backend::{Backend as _, Batch, BoltBackend, BoltOptions, Bucket};

use super::DB;
use super::forge::{Forge, Tree};
use super::one_file::OneFile;

/// A database and the size of its pages.
pub(crate) struct Sample {
    pub(crate) bytes: Vec<u8>,
    pub(crate) page_size: usize,
}

pub(crate) fn all() -> &'static [Sample] {
    static ALL: OnceLock<Vec<Sample>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = Vec::new();
        for (page_size, list_free, inline, worked_on) in [
            (1024, false, true, false),
            (1024, true, true, true),
            (1024, true, false, true),
            (4096, false, false, true),
        ] {
            let forge = Forge {
                holes: 3,
                list_free,
                inline,
                ..Forge::new(page_size)
            };
            let mut bytes = forge.build(&database(page_size));
            if worked_on {
                bytes = work(bytes, list_free);
            }
            all.push(Sample { bytes, page_size });
        }
        all
    })
}

fn entries(n: u8, size: usize) -> Tree {
    (0..n).fold(Tree::default(), |tree, n| {
        tree.value(vec![b'a' + n / 26, b'a' + n % 26, n], vec![n; size])
    })
}

fn database(page_size: usize) -> Tree {
    let nested = entries(5, 100)
        .bucket("in pages", entries(16, page_size / 12).sequence(3))
        .bucket("small", entries(2, 10))
        .sequence(8);
    let mut root = Tree::default()
        .bucket("nested", nested)
        .bucket("other", entries(3, 30));
    for bucket in Bucket::ALL {
        let tree = match bucket {
            Bucket::Key => entries(60, page_size / 10),
            Bucket::Lease => entries(3, 2 * page_size),
            Bucket::Members => entries(9, page_size / 6),
            _ => entries(2, 5),
        };
        root = root.bucket(bucket.name(), tree);
    }
    root
}

/// Commits that leave free pages with old content, and pages of which the newest state has others.
fn work(bytes: Vec<u8>, store_freelist: bool) -> Vec<u8> {
    let fs = OneFile::new(bytes);
    let options = BoltOptions { store_freelist };
    let engine = BoltBackend::open(Arc::new(fs.clone()), Path::new(DB), options).expect("open");
    for n in 0..3_u8 {
        let mut batch = Batch::default();
        for at in 0..20 {
            batch.put(Bucket::Key, vec![0xE0, n, at], vec![n; 90]);
            batch.delete(Bucket::Key, vec![b'a' + n, b'a' + at, n * 26 + at]);
        }
        engine.commit(&batch).expect("commit");
    }
    drop(engine);
    // Little room behind the pages: the fuzzer's time is for what is in use.
    let mut bytes = fs.bytes();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    bytes.truncate((used + 1).next_multiple_of(4096));
    bytes
}
