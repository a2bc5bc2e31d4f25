//! Every bit of a small database flipped, one at a time: it is refused, or harmless, or changes what the format has no
//! means to protect. Never a panic, an endless loop, or more memory than the file has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;

use super::super::page::BUCKET;
use super::dump::{Part, dump};
use super::one_file::OneFile;
use super::tree::Tree as Pages;
use super::*;
use crate::backend::Op;
use crate::testing;

/// What became of a flip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Refused at the start.
    Refused,
    /// Refused by the check, by reading or by writing.
    RefusedLater,
    /// The database is what it was.
    Same,
    /// What it was one commit before, as after a crash.
    Before,
    /// Something else is read.
    Other,
}

/// Everything in the database of an engine: buckets in buckets, and sequence numbers.
pub(super) fn everything(engine: &BoltBackend) -> Result<Tree, Error> {
    let state = engine.shared.current.load_full();
    let mut tree = contents(&engine.shared.pager, &state.root, state.meta.high_water)?;
    tree.sequence = state.meta.root_sequence;
    Ok(tree)
}

fn contents(pager: &Pager, root: &tree::Root, high_water: PageId) -> Result<Tree, Error> {
    let pages = Pages {
        pager,
        root,
        high_water,
    };
    let mut tree = Tree::default();
    let mut leaves = pages.leaves(b"")?;
    while let Some(page) = leaves.next()? {
        for n in 0..page.len() {
            let value = page.shared_value(n);
            let entry = if page.flags(n) & BUCKET == 0 {
                Entry::Value(value.to_vec())
            } else {
                let head = Head::decode(&value).map_err(|e| pager.corrupt(0, e))?;
                let mut inner = contents(pager, &head.root, high_water)?;
                inner.sequence = head.sequence;
                Entry::Bucket(inner)
            };
            tree.entries.insert(page.key(n).to_vec(), entry);
        }
    }
    Ok(tree)
}

/// A database with pages of every kind, some of them free with what older commits wrote.
fn sample(page_size: usize) -> (Vec<u8>, Tree, Tree) {
    let small = Tree::default()
        .value("one", "1")
        .value("two", "2")
        .sequence(3);
    let inner = (0..20_u8).fold(Tree::default(), |tree, n| {
        tree.value(format!("inner {n:02}"), vec![n; page_size / 20])
    });
    let others = Tree::default()
        .value("beside", vec![1; page_size / 10])
        .bucket("pages", inner.sequence(8))
        .bucket("small", small.clone())
        .sequence(5);
    let alone = Tree::default().value("alone", vec![1; page_size / 2]);
    let root = Model::default()
        .tree()
        .bucket("others", others)
        .bucket("small", small)
        .bucket("one entry", alone);
    let forge = Forge {
        holes: 3,
        list_free: true,
        fill: page_size - 16,
        ..Forge::new(page_size)
    };
    let sim = Sim::with(&forge.build(&root));
    let engine = open(
        &sim.0,
        BoltOptions {
            store_freelist: true,
        },
    )
    .unwrap();
    let mut before = Tree::default();
    for round in 0..2_u64 {
        before = everything(&engine).unwrap();
        let mut batch = Batch::default();
        for n in 0..20 {
            let value = vec![n as u8; page_size / 40];
            batch.put(
                Bucket::Key,
                workload::revision_key(20 * round + n + 2, 0),
                value,
            );
        }
        batch.put(
            Bucket::Meta,
            "consistent_index",
            round.to_be_bytes().to_vec(),
        );
        batch.put(
            Bucket::Members,
            "8e9e05c52164694d",
            vec![b'm'; 2 * page_size],
        );
        engine.commit(&batch).unwrap();
    }
    engine.check().unwrap();
    let now = everything(&engine).unwrap();
    drop(engine);
    let mut bytes = sim.bytes();
    let found = dump(&bytes);
    assert!(found.root == now);
    assert_eq!(found.listed.as_ref(), Some(&found.free));
    assert!(found.free.len() > 3, "free pages with something in them");
    // Room at the end for what comes next is of no interest here.
    bytes.truncate(found.pages as usize * page_size);
    (bytes, now, before)
}

struct Sample {
    bytes: Vec<u8>,
    now: Tree,
    before: Tree,
    parts: Vec<Part>,
}

impl Sample {
    fn flip(&self, bit: usize) -> (Outcome, String) {
        let mut bytes = self.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let fs = OneFile::new(bytes.clone());
        fs.allow_reads(5000);
        let file = BoltFile::open(&fs, db());
        let file = file.and_then(|file| {
            file.check()?;
            file.buckets()?
                .iter()
                .try_for_each(|name| file.scan(name, b"", 0).map(drop))
        });
        let engine = match open(
            &fs,
            BoltOptions {
                store_freelist: bit.is_multiple_of(3),
            },
        ) {
            Ok(engine) => engine,
            Err(error) => {
                assert!(matches!(error, Error::Corrupt { .. }), "{error}");
                assert!(fs.holds(&bytes), "a refused file is changed");
                assert!(
                    file.is_err() || !error.to_string().contains("page "),
                    "{error}"
                );
                return (Outcome::Refused, error.to_string());
            }
        };
        let mut batch = Batch::default();
        batch.put(Bucket::Key, workload::revision_key(1000, 0), "new");
        batch.put(Bucket::Lease, "a lease", vec![7; 300]);
        let used = everything(&engine).and_then(|found| {
            engine.check()?;
            engine.commit(&batch)?;
            engine.check()?;
            Ok((found, everything(&engine)?))
        });
        let (found, after) = match used {
            Ok(found) => found,
            Err(error) => {
                assert!(matches!(error, Error::Corrupt { .. }), "{error}");
                return (Outcome::RefusedLater, error.to_string());
            }
        };
        assert!(
            with(found.clone(), &batch) == after,
            "a commit does more than its own"
        );
        drop(engine);
        if bit.is_multiple_of(11) {
            assert!(dump(&fs.bytes()).root == after, "read by somebody else");
        }
        let outcome = if found == self.now {
            Outcome::Same
        } else if found == self.before {
            Outcome::Before
        } else {
            Outcome::Other
        };
        (outcome, String::new())
    }

    /// Flips all bits that `chosen` chooses; returns how many of each part had which outcome.
    fn all(&self, chosen: impl Fn(usize) -> bool + Sync) -> BTreeMap<(Part, Outcome), usize> {
        let next = AtomicUsize::new(0);
        let counts = parking_lot::Mutex::new(BTreeMap::new());
        let reasons = parking_lot::Mutex::new(BTreeSet::new());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let byte = next.fetch_add(1, Ordering::Relaxed);
                        let Some(part) = self.parts.get(byte) else {
                            break;
                        };
                        for bit in (8 * byte..8 * byte + 8).filter(|bit| chosen(*bit)) {
                            let (outcome, reason) = self.flip(bit);
                            *counts.lock().entry((*part, outcome)).or_default() += 1;
                            if !reason.is_empty() {
                                let reason: String =
                                    reason.chars().filter(|c| !c.is_ascii_digit()).collect();
                                reasons.lock().insert((*part, reason));
                            }
                        }
                    }
                });
            }
        });
        if std::env::var_os("RETCD_TEST_REASONS").is_some() {
            reasons
                .into_inner()
                .iter()
                .for_each(|reason| println!("{reason:?}"));
        }
        counts.into_inner()
    }
}

/// With the changes of a batch, and those of the ten buckets that are missing.
fn with(mut tree: Tree, batch: &Batch) -> Tree {
    for bucket in Bucket::ALL {
        let empty = Entry::Bucket(Tree::default());
        tree.entries.entry(bucket.name().into()).or_insert(empty);
    }
    for op in batch.ops() {
        let name = op.bucket().name().as_bytes();
        if let Op::Put { key, value, .. } = op
            && let Some(Entry::Bucket(bucket)) = tree.entries.get_mut(name)
        {
            bucket
                .entries
                .insert(key.to_vec(), Entry::Value(value.to_vec()));
        }
    }
    tree
}

/// How many of a thousand flips there may change something without being noticed. `docs/durability.md` says why.
fn unnoticed(part: Part) -> usize {
    match part {
        Part::Key | Part::BucketName | Part::Value | Part::Sequence => 1000,
        Part::LastSizes => 250,
        // A bucket in a bucket becomes a key; a page becomes another one that was in its place before.
        Part::EntryFlags | Part::BucketRoot | Part::Child => 10,
        _ => 0,
    }
}

fn judge(page_size: usize, chosen: impl Fn(usize) -> bool + Sync) -> usize {
    let (bytes, now, before) = sample(page_size);
    let parts = dump(&bytes).parts;
    let sample = Sample {
        bytes,
        now,
        before,
        parts,
    };
    let counts = sample.all(chosen);
    for ((part, outcome), count) in &counts {
        println!("pages of {page_size}: {part:?} {outcome:?} {count}");
    }
    for ((part, outcome), count) in &counts {
        let fine = match outcome {
            Outcome::Refused | Outcome::Same => true,
            Outcome::RefusedLater => false,
            Outcome::Before => *part == Part::Meta,
            Outcome::Other => {
                let of_part = counts.iter().filter(|((p, _), _)| p == part);
                let all: usize = of_part.map(|(_, count)| count).sum();
                count * 1000 <= unnoticed(*part) * all
            }
        };
        assert!(fine, "{part:?}: {outcome:?}, {count} times");
    }
    counts.values().sum()
}

/// Every bit of a database with pages of 1 KiB.
#[test]
fn every_bit() {
    let flips = judge(1024, |_| true);
    println!("every_bit: {flips} flips");
    assert!(flips > 100_000, "{flips}");
}

/// The same with pages of 4 KiB: every bit with `RETCD_TEST_SCALE=10`, else some.
#[test]
fn bits_of_larger_pages() {
    let every = if testing::scale() < 10 { 41 } else { 1 };
    let flips = judge(4096, |bit| bit % every == 0);
    println!("bits_of_larger_pages: {flips} flips");
}
