//! Files that are no database, or cannot be used: a sentence that names the file and the cause, and not a byte changed.

use std::path::PathBuf;

use super::super::page::{Item, build};
use super::one_file::OneFile;
use super::*;
use crate::fs::{File, OpenMode, RealFs};
use crate::testing::Random;

/// Opens a file as a member and as a tool; both refuse it, or only the member. Returns what they say.
fn refused(bytes: &[u8]) -> String {
    let sim = Sim::with(bytes);
    let error = sim.open().map(drop).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(sim.bytes() == bytes, "the file is changed");
    assert_eq!(
        sim.0.read_dir(Path::new("/member/snap")).unwrap(),
        ["db"],
        "something is left"
    );
    let text = error.to_string();
    assert!(text.contains(DB), "{text}");
    assert!(text.contains("restore"), "what to do: {text}");
    let tool = BoltFile::open(&sim.0, db()).and_then(|file| file.check());
    assert_eq!(tool.unwrap_err().to_string(), text);
    text
}

fn good() -> Vec<u8> {
    let sim = Sim::new();
    let engine = sim.open().unwrap();
    for n in 0..6_u8 {
        let mut batch = Batch::default();
        for at in 0..40 {
            batch.put(Bucket::Key, vec![at, n], vec![n; 300]);
        }
        engine.commit(&batch).unwrap();
    }
    drop(engine);
    sim.bytes()
}

/// Changes a field of a meta page and corrects its checksum.
fn set(bytes: &mut [u8], page: usize, at: usize, field: &[u8]) {
    let record = &mut bytes[page * 4096 + 16..][..64];
    record[at..at + field.len()].copy_from_slice(field);
    let sum = forge::fnv(&record[..56]);
    record[56..].copy_from_slice(&sum.to_le_bytes());
}

/// The page of the newest meta record.
fn newest(bytes: &[u8]) -> usize {
    let txid = |page: usize| page::u64_at(bytes, page * 4096 + 16 + 48);
    usize::from(txid(1) > txid(0))
}

#[test]
fn no_database_at_all() {
    for bytes in [
        Vec::new(),
        b"x".to_vec(),
        vec![0; 4096],
        vec![0; 100_000],
        b"SQLite format 3\0".repeat(1000),
        b"{\"not\": \"a database\"}\n".repeat(3000),
    ] {
        let text = refused(&bytes);
        assert!(text.contains("invalid database: meta page 0:"), "{text}");
    }
    let mut rng = Random::new(Random::seed("no_database_at_all"));
    for _ in 0..200 {
        let len = rng.below(20_000);
        refused(&(0..len).map(|_| rng.next() as u8).collect::<Vec<_>>());
    }
}

#[test]
fn cut_off_anywhere() {
    let whole = good();
    let pages = page::u64_at(&whole, newest(&whole) * 4096 + 16 + 40) as usize;
    assert!(pages > 20);
    for page in 0..pages {
        for len in [
            page * 4096,
            page * 4096 + 1,
            page * 4096 + 2000,
            page * 4096 + 4095,
        ] {
            let text = refused(&whole[..len]);
            assert!(
                text.contains("it is cut off") || text.contains("is cut off"),
                "{len} bytes: {text}"
            );
        }
    }
    // The room behind the last page is not missed.
    let sim = Sim::with(&whole[..pages * 4096]);
    sim.open().unwrap().check().unwrap();
}

#[test]
fn another_magic_number_version_or_page_size() {
    for (at, field, says) in [
        (0, 0xDEAD_BEEF_u32, "magic number 0xdeadbeef"),
        (4, 3, "format version 3, only version 2 is known"),
        (4, 0, "format version 0"),
        (8, 0, "page size 0 is impossible"),
        (8, 4095, "page size 4095 is impossible"),
        (8, 512, "page size 512 is impossible"),
        (8, 1 << 17, "page size 131072 is impossible"),
        (8, u32::MAX, "page size 4294967295 is impossible"),
    ] {
        let mut bytes = good();
        for page in 0..2 {
            set(&mut bytes, page, at, &field.to_le_bytes());
        }
        let text = refused(&bytes);
        assert!(text.contains(says), "{text}");
    }
    // A page size that is possible, but not that of this file.
    for size in [1024_u32, 8192, 65536] {
        let mut bytes = good();
        for page in 0..2 {
            set(&mut bytes, page, 8, &size.to_le_bytes());
        }
        refused(&bytes);
    }
}

#[test]
fn pages_that_the_file_does_not_have() {
    for (at, field) in [
        (16, 0),
        (16, 1),
        (16, 1 << 40),
        (16, u64::MAX),
        (32, 0),
        (32, 1),
        (32, 1 << 40),
        (40, 0),
        (40, 2),
        (40, 1 << 40),
        (40, u64::MAX),
    ] {
        let mut bytes = good();
        let page = newest(&bytes);
        set(&mut bytes, page, at, &u64::to_le_bytes(field));
        refused(&bytes);
    }
}

#[test]
fn damaged_meta_pages() {
    let whole = good();
    let newest = newest(&whole);
    let sim = Sim::with(&whole);
    let engine = sim.open().unwrap();
    let now = Model::of(&*engine.view().unwrap()).unwrap();
    drop(engine);
    for at in 16..80 {
        let damage = |bytes: &mut Vec<u8>, page: usize| bytes[page * 4096 + at] ^= 0x55;
        // One of them: the other one counts.
        for page in 0..2 {
            let mut bytes = whole.clone();
            damage(&mut bytes, page);
            let sim = Sim::with(&bytes);
            let engine = sim.open().unwrap();
            let found = Model::of(&*engine.view().unwrap()).unwrap();
            assert_eq!(found == now, page != newest, "page {page}, byte {at}");
            engine.check().unwrap();
            let mut batch = Batch::default();
            batch.put(Bucket::Auth, "x", "1");
            engine.commit(&batch).unwrap();
            drop(engine);
            let engine = sim.open().unwrap();
            engine.check().unwrap();
            assert_eq!(
                engine.get(Bucket::Auth, b"x").unwrap().as_deref(),
                Some(&b"1"[..])
            );
        }
        let mut bytes = whole.clone();
        damage(&mut bytes, 0);
        damage(&mut bytes, 1);
        let text = refused(&bytes);
        assert!(
            text.contains("meta page 0:") && text.contains("meta page 1:"),
            "{text}"
        );
    }
}

#[test]
fn pages_without_sense() {
    // Each page overwritten as a whole: what counts is refused, the rest is not looked at.
    let whole = good();
    let used = dump::dump(&whole);
    for page in 2..used.pages {
        for byte in [0, 0x41, 0xFF] {
            let mut bytes = whole.clone();
            let at = page as usize * 4096;
            bytes[at..at + 4096].fill(byte);
            if used.free.contains(&page) {
                Sim::with(&bytes).open().unwrap().check().unwrap();
            } else {
                let text = refused(&bytes);
                assert!(text.contains("page "), "{text}");
            }
        }
    }
}

/// Branches that lead to the same leaves over and over: three to the power of thirteen times here. A tool reads without a
/// check before.
#[test]
fn branches_that_never_end() {
    let forge = Forge {
        inline: false,
        ..Forge::new(1024)
    };
    let mut bytes = forge.build(&Model::default().tree());
    let sim = Sim::with(&bytes);
    let engine = sim.open().unwrap();
    let state = engine.shared.current.load_full();
    let Some(tree::Root::Page(root)) = state.head(Bucket::Key).map(|head| head.root.clone()) else {
        panic!("it has a page of its own");
    };
    let first = state.meta.high_water;
    for level in 0..14_u64 {
        let id = if level == 0 { root } else { first + level - 1 };
        let page = if level == 13 {
            let item = |key| Item {
                flags: 0,
                key: Bytes::from_static(key),
                value: Bytes::new(),
            };
            build(&[item(b"a"), item(b"z")], id, 0, 1024)
        } else {
            let child = |key| page::Child {
                key: Bytes::from_static(key),
                id: first + level,
            };
            build(&[child(b"a"), child(b"b"), child(b"c")], id, 0, 1024)
        };
        let at = id as usize * 1024;
        bytes.resize(bytes.len().max(at + 1024), 0);
        bytes[at..at + 1024].copy_from_slice(&page);
    }
    for txid in [forge.txid - 1, forge.txid] {
        let mut meta = state.meta;
        (meta.txid, meta.high_water) = (txid, first + 13);
        let at = meta.page() as usize * 1024;
        bytes[at..at + 80].copy_from_slice(&meta.encode(meta.page()));
    }
    let fs = OneFile::new(bytes);
    fs.allow_reads(200);
    let file = BoltFile::open(&fs, db()).unwrap();
    let error = file.scan(b"key", b"", 0).unwrap_err().to_string();
    assert!(error.contains("not in order"), "{error}");
    let error = file.check().unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    open(&fs, BoltOptions::default()).map(drop).unwrap_err();
}

#[test]
fn in_use_by_somebody_else() {
    let sim = Sim::new();
    let first = sim.open().unwrap();
    let bytes = sim.bytes();
    let error = sim.open().map(drop).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert!(error.to_string().contains(DB), "{error}");
    assert!(sim.bytes() == bytes);
    // Tools read without the lock.
    BoltFile::open(&sim.0, db()).unwrap().check().unwrap();
    drop(first);
    sim.open().unwrap();
}

/// Two members that begin on an empty directory at the same moment: one of them gets it.
#[test]
fn created_by_somebody_else_meanwhile() {
    for _ in 0..50 {
        let sim = Sim::new();
        let start = std::sync::Barrier::new(3);
        let opened: Vec<Result<BoltBackend, Error>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        let engine = sim.open()?;
                        let mut batch = Batch::default();
                        batch.put(Bucket::Auth, "mine", "1");
                        engine.commit(&batch)?;
                        Ok(engine)
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(opened.iter().filter(|o| o.is_ok()).count(), 1);
        for error in opened.iter().filter_map(|o| o.as_ref().err()) {
            assert!(matches!(error, Error::Locked { .. }), "{error}");
        }
        drop(opened);
        let engine = sim.open().unwrap();
        assert!(
            engine.get(Bucket::Auth, b"mine").unwrap().is_some(),
            "a commit is lost"
        );
    }
}

/// A file system on which somebody else is faster: the database that was looked for is there a moment later.
#[derive(Debug, Clone)]
struct Overtaken(SimFs);

impl Fs for Overtaken {
    fn exists(&self, path: &Path) -> io::Result<bool> {
        let exists = self.0.exists(path)?;
        if !exists {
            let engine = open(&self.0, BoltOptions::default()).unwrap();
            let mut batch = Batch::default();
            batch.put(Bucket::Auth, "theirs", "1");
            engine.commit(&batch).unwrap();
        }
        Ok(exists)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        self.0.open(path, mode)
    }

    fn read_dir(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.read_dir(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn available(&self, dir: &Path) -> io::Result<u64> {
        self.0.available(dir)
    }
}

#[test]
fn somebody_else_is_faster() {
    let fs = Overtaken(Sim::new().0);
    let engine = open(&fs, BoltOptions::default()).unwrap();
    let found = engine.get(Bucket::Auth, b"theirs").unwrap();
    assert!(found.is_some(), "their commit is lost");
}

/// What a creation that was cut off has left is no obstacle.
#[test]
fn a_creation_cut_off() {
    for left in [&b""[..], b"half", &[7; 50_000]] {
        let sim = Sim::new();
        let aside = Path::new("/member/snap/db.tmp.new");
        let file = sim.0.open(aside, OpenMode::CreateNew).unwrap();
        file.write_all_at(left, 0).unwrap();
        drop(file);
        let engine = sim.open().unwrap();
        engine.check().unwrap();
        assert!(sim.open().is_err(), "it is locked");
        drop(engine);
        assert_eq!(sim.0.read_dir(Path::new("/member/snap")).unwrap(), ["db"]);
    }
}

/// A file system that lets nobody write.
#[derive(Debug, Clone)]
struct ReadOnly(SimFs);

impl Fs for ReadOnly {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        match mode {
            OpenMode::Read => self.0.open(path, mode),
            _ => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    fn read_dir(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.read_dir(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove_file(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn available(&self, dir: &Path) -> io::Result<u64> {
        self.0.available(dir)
    }
}

#[test]
fn a_disk_that_cannot_be_written() {
    let sim = Sim::with(&good());
    let fs = ReadOnly(sim.0.clone());
    let error = open(&fs, BoltOptions::default()).map(drop).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(DB) && text.contains("cannot open"), "{text}");
    assert!(text.contains("read-only"), "{text}");
    BoltFile::open(&fs, db()).unwrap().check().unwrap();

    let empty = ReadOnly(Sim::new().0);
    let text = open(&empty, BoltOptions::default())
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(text.contains("cannot create /member/snap/db"), "{text}");
}

/// On real files, where the kernel words the cause.
#[test]
fn real_files() {
    let dir = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let says = |path: &Path| {
        let options = BoltOptions::default();
        BoltBackend::open(fs.clone(), path, options)
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    let path: PathBuf = dir.path().join("directory");
    fs.create_dir_all(&path).unwrap();
    let text = says(&path);
    assert!(
        text.contains("directory") && text.contains("Is a directory"),
        "{text}"
    );
    let tool = BoltFile::open(&*fs, &path).unwrap_err().to_string();
    assert!(tool.contains("Is a directory"), "{tool}");

    let path = dir.path().join("no such place/db");
    let text = says(&path);
    assert!(
        text.contains("no such place") && text.contains("No such file or directory"),
        "{text}"
    );

    let path = dir.path().join("db");
    let engine = BoltBackend::open(fs.clone(), &path, BoltOptions::default()).unwrap();
    let text = says(&path);
    assert!(text.contains("in use by another process"), "{text}");
    let mut batch = Batch::default();
    for n in 0..2000_u64 {
        batch.put(Bucket::Key, n.to_be_bytes().to_vec(), vec![n as u8; 500]);
    }
    engine.commit(&batch).unwrap();
    drop(engine);
    let whole = read_all(&*fs, &path).unwrap();
    let file = fs.open(&path, OpenMode::Write).unwrap();
    file.set_len(300_000).unwrap();
    let text = says(&path);
    assert!(text.contains("it is cut off: 300000 bytes long"), "{text}");
    assert_eq!(read_all(&*fs, &path).unwrap(), whole[..300_000]);

    // Cut while it is in use: an error, not a signal.
    file.write_all_at(&whole, 0).unwrap();
    let engine = BoltBackend::open(fs.clone(), &path, BoltOptions::default()).unwrap();
    file.set_len(20_000).unwrap();
    let error = Model::of(&*engine.view().unwrap()).unwrap_err();
    assert!(
        error.to_string().contains("somebody else has cut it"),
        "{error}"
    );
}
