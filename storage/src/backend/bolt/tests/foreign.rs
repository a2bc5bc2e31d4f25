//! What the engine has no use for is kept as it is: other page sizes, buckets of others, buckets in buckets, sequence
//! numbers, stored lists of free pages.

use super::dump::{Dump, dump};
use super::workload::Workload;
use super::*;
use crate::testing::{self, Random};

/// Many entries, some of them larger than a page.
fn many(n: u32, page_size: usize) -> Tree {
    (0..n).fold(Tree::default(), |tree, n| {
        let len = match n % 19 {
            0 => page_size + page_size / 3,
            1 => 0,
            n => n as usize * 7,
        };
        tree.value(format!("entry {n:05}"), vec![n as u8; len])
    })
}

/// A database with etcd's buckets and others.
fn database(page_size: usize) -> Tree {
    let small = Tree::default().value("a", "1").value("b", "").sequence(3);
    let chain = (0..6_u64).fold(small.clone(), |inner, n| {
        Tree::default()
            .value(format!("beside {n}"), vec![n as u8; 50])
            .bucket("inner", inner)
            .sequence(n + 1)
    });
    let nested = many(200, page_size)
        .bucket("entry", many(90, page_size).sequence(u64::MAX))
        .bucket("empty", Tree::default().sequence(9))
        .bucket("small", small.clone())
        .bucket("zz chain", chain)
        .sequence(77);
    let mut root = Tree::default().sequence(12);
    for bucket in Bucket::ALL {
        let entries = [0, 3, 120][bucket.index() % 3];
        let tree = many(entries, page_size).sequence(bucket.index() as u64 * 1000);
        root = root.bucket(bucket.name(), tree);
    }
    let Some(Entry::Bucket(cluster)) = root.entries.remove(&b"cluster"[..]) else {
        panic!("it has just been put there");
    };
    root.bucket("cluster", cluster.bucket("inside", small.clone()))
        .bucket("! first", many(300, page_size).sequence(1))
        .bucket("kez", small)
        .bucket("test", Tree::default())
        .bucket("zz nested", nested)
}

/// The database with other values in the ten buckets.
fn expected(root: &Tree, model: &Model) -> Tree {
    let mut root = root.clone();
    for bucket in Bucket::ALL {
        let name = bucket.name().as_bytes();
        let Some(Entry::Bucket(tree)) = root.entries.get_mut(name) else {
            panic!("no bucket {}", bucket.name());
        };
        tree.entries
            .retain(|_, entry| matches!(entry, Entry::Bucket(_)));
        for (key, value) in model.bucket(bucket) {
            tree.entries
                .insert(key.to_vec(), Entry::Value(value.to_vec()));
        }
    }
    root
}

fn assert_kept(sim: &Sim, root: &Tree, model: &Model, when: &str) -> Dump {
    let bytes = sim.bytes();
    let found = dump(&bytes);
    if found.root != expected(root, model) {
        for (name, entry) in &expected(root, model).entries {
            let now = found.root.entries.get(name);
            assert!(
                now == Some(entry),
                "bucket {} after {when}",
                name.escape_ascii()
            );
        }
        assert_eq!(found.root.sequence, root.sequence, "after {when}");
        panic!("there are other buckets after {when}");
    }
    BoltFile::open(&sim.0, db()).unwrap().check().unwrap();
    found
}

/// Commits, tidying, defragmentation and reopening in random order.
fn work(forge: &Forge, options: BoltOptions, rounds: usize) {
    let root = database(forge.page_size);
    let bytes = forge.build(&root);
    assert!(dump(&bytes).root == root, "two views of the format");
    let sim = Sim::with(&bytes);
    let mut engine = open(&sim.0, options).unwrap();
    engine.check().unwrap();
    assert!(sim.bytes() == bytes, "opening changes nothing");
    let mut model = Model::of(&*engine.view().unwrap()).unwrap();
    assert_kept(&sim, &root, &model, "nothing at all");
    let mut work = Workload::new(forge.page_size as u64);
    work.largest_value = 3 * forge.page_size as u32;
    work.largest_key = 2000;
    work.most = 60;
    for round in 0..rounds {
        let what = match work.rng.below(8) {
            0 => {
                drop(engine);
                engine = open(&sim.0, options).unwrap();
                "reopening"
            }
            1 => {
                engine.step(true).unwrap();
                "a step"
            }
            2 => {
                engine.defragment().unwrap();
                "defragmentation"
            }
            _ => {
                let batch = work.batch(&model);
                model.apply(&batch);
                engine.commit(&batch).unwrap();
                "a commit"
            }
        };
        engine.check().unwrap();
        let found = assert_kept(&sim, &root, &model, &format!("{what} in round {round}"));
        assert_eq!(found.page_size, forge.page_size);
        assert_eq!(
            found.listed.is_some(),
            if found.txid == forge.txid {
                forge.list_free
            } else {
                options.store_freelist
            }
        );
    }
}

#[test]
fn every_page_size() {
    for page_size in (10..17).map(|shift| 1 << shift) {
        for (n, store_freelist) in [false, true].into_iter().enumerate() {
            let forge = Forge {
                holes: 5 * n as u64,
                list_free: n == 1,
                ..Forge::new(page_size)
            };
            work(
                &forge,
                BoltOptions { store_freelist },
                12 * testing::scale(),
            );
        }
    }
}

#[test]
fn buckets_that_are_never_inline() {
    let forge = Forge {
        inline: false,
        list_free: true,
        ..Forge::new(4096)
    };
    work(&forge, BoltOptions::default(), 20 * testing::scale());
}

/// A list of 65,535 pages and more has another form.
#[test]
fn a_long_list_of_free_pages() {
    for holes in [0xFFFE, 0xFFFF, 0x1_0003] {
        let forge = Forge {
            holes,
            list_free: true,
            ..Forge::new(1024)
        };
        // Without buckets in buckets: their pages stay where they are.
        let mut root = database(1024);
        root.entries.remove(&b"zz nested"[..]);
        let sim = Sim::with(&forge.build(&root));
        for store_freelist in [true, false] {
            let engine = open(&sim.0, BoltOptions { store_freelist }).unwrap();
            let mut model = Model::of(&*engine.view().unwrap()).unwrap();
            let mut batch = Batch::default();
            batch.put(Bucket::Lease, "lease", "new");
            model.apply(&batch);
            engine.commit(&batch).unwrap();
            drop(engine);
            let found = assert_kept(&sim, &root, &model, "a commit");
            assert_eq!(found.listed.is_some(), store_freelist);
            assert!(found.free.len() as u64 > holes - 10, "{}", found.free.len());
        }
        let engine = open(
            &sim.0,
            BoltOptions {
                store_freelist: true,
            },
        )
        .unwrap();
        let model = Model::of(&*engine.view().unwrap()).unwrap();
        engine.defragment().unwrap();
        assert!(engine.size() < 4 << 20, "{}", engine.size());
        assert_kept(&sim, &root, &model, "defragmentation");
    }
}

/// A page that is neither in use nor listed as free is lost to bbolt. It is found and used.
#[test]
fn lost_pages_are_found() {
    let forge = Forge {
        holes: 40,
        list_free: true,
        ..Forge::new(4096)
    };
    let root = database(4096);
    let mut bytes = forge.build(&root);
    let list = bytes.len() - 4096;
    assert_eq!(bytes[list + 10], 40);
    bytes[list + 10] = 30;
    let sim = Sim::with(&bytes);
    let lost = BoltFile::open(&sim.0, db()).unwrap().check().unwrap_err();
    assert!(
        lost.to_string().contains("page 32: unreachable unfreed"),
        "{lost}"
    );
    let engine = open(
        &sim.0,
        BoltOptions {
            store_freelist: true,
        },
    )
    .unwrap();
    engine.check().unwrap();
    engine.commit(&one("x")).unwrap();
    drop(engine);
    BoltFile::open(&sim.0, db()).unwrap().check().unwrap();
}

/// A key cannot take the place of a bucket.
#[test]
fn a_bucket_is_not_overwritten() {
    for delete in [false, true] {
        let sim = Sim::with(&Forge::new(4096).build(&database(4096)));
        let before = sim.bytes();
        let engine = sim.open().unwrap();
        let mut batch = Batch::default();
        match delete {
            true => batch.delete(Bucket::Cluster, "inside"),
            false => batch.put(Bucket::Cluster, "inside", "a value"),
        }
        let error = engine.commit(&batch).unwrap_err().to_string();
        assert!(error.contains("inside is a bucket"), "{error}");
        drop(engine);
        assert!(sim.bytes() == before, "nothing is changed");
    }
}

fn one(key: &str) -> Batch {
    let mut batch = Batch::default();
    batch.put(Bucket::Auth, key.to_owned(), "1");
    batch
}

/// The last number of a commit is not passed.
#[test]
fn commit_numbers_do_not_wrap() {
    let mut forge = Forge::new(4096);
    forge.txid = u64::MAX;
    let sim = Sim::with(&forge.build(&database(4096)));
    let before = sim.bytes();
    match sim.open() {
        Ok(engine) => engine.commit(&one("x")).unwrap_err(),
        Err(error) => error,
    };
    assert!(sim.bytes() == before, "nothing is changed");
}

/// Random files: forged, read by the engine, written by it, read by the test.
#[test]
fn random_files() {
    let mut rng = Random::new(Random::seed("random_files"));
    for _ in 0..60 * testing::scale() {
        let forge = Forge {
            page_size: 1024 << rng.below(7),
            txid: 1 + u64::from(rng.below(1000)),
            fill: 0,
            holes: u64::from(rng.below(30)),
            list_free: rng.below(2) == 0,
            inline: rng.below(2) == 0,
        };
        let forge = Forge {
            fill: forge.page_size / 8 * (1 + rng.below(7) as usize),
            ..forge
        };
        let root = random_tree(&mut rng, 0);
        let sim = Sim::with(&forge.build(&root));
        BoltFile::open(&sim.0, db()).unwrap().check().unwrap();
        let engine = sim.open().unwrap();
        let mut batch = one("x");
        batch.put(Bucket::Key, vec![7; 100], vec![8; 3000]);
        engine.commit(&batch).unwrap();
        engine.check().unwrap();
        let mut found = dump(&sim.bytes()).root;
        for bucket in Bucket::ALL {
            let tree = found.entries.remove(bucket.name().as_bytes()).unwrap();
            let Entry::Bucket(tree) = tree else {
                panic!("not a bucket");
            };
            let values = [Bucket::Auth, Bucket::Key].contains(&bucket);
            assert_eq!(tree.entries.len(), usize::from(values));
        }
        assert!(found == root, "others' buckets");
    }
}

fn random_tree(rng: &mut Random, depth: u32) -> Tree {
    let mut tree = Tree::default();
    if rng.below(4) == 0 {
        tree.sequence = rng.next();
    }
    for _ in 0..rng.below(if depth == 0 { 30 } else { 60 }) {
        let name = format!("{:x}", rng.below(1 << 20)).repeat(1 + rng.below(9) as usize);
        let name = format!("other {name}");
        tree = if depth == 0 || depth < 4 && rng.below(20) == 0 {
            let inner = random_tree(rng, depth + 1);
            tree.bucket(name, inner)
        } else {
            let len = [10, 100, 3000][rng.below(3) as usize];
            let len = rng.below(len) as usize;
            tree.value(name, vec![rng.next() as u8; len])
        };
    }
    tree
}
