//! A disk whose syncs do not return.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use retcd_storage::fs::{File, Fs, OpenMode, SimFs};

use super::rig::{Rig, new_member, wait_for};

#[derive(Debug, Default)]
pub(super) struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
    /// Syncs that have come to the gate while it was closed.
    pub(super) stalled: AtomicU64,
}

impl Gate {
    fn pass(&self) {
        let mut closed = self.closed.lock();
        if *closed {
            self.stalled.fetch_add(1, Ordering::SeqCst);
        }
        while *closed {
            self.opened.wait(&mut closed);
        }
    }

    pub(super) fn set(&self, closed: bool) {
        *self.closed.lock() = closed;
        self.opened.notify_all();
    }
}

/// Opens the gate also when a test fails, or the node could not be stopped.
pub(super) struct OpenAtEnd(pub(super) Arc<Gate>);

impl Drop for OpenAtEnd {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// File syncs wait at the gate.
#[derive(Debug)]
pub(super) struct GatedFs(pub(super) SimFs, pub(super) Arc<Gate>);

#[derive(Debug)]
struct GatedFile(Box<dyn File>, Arc<Gate>);

impl Fs for GatedFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let file = self.0.open(path, mode)?;
        Ok(Box::new(GatedFile(file, self.1.clone())))
    }

    fn read_dir(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.read_dir(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
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

impl File for GatedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync_all()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.0.try_lock()
    }
}

/// D2, M17: while a sync has not returned, nothing of what it is for is committed, applied or
/// visible to a read. A lone voter waits with it; what it can say without its thread, it says.
#[test]
fn nothing_is_applied_while_its_sync_stalls() {
    let gate = Arc::new(Gate::default());
    let fs = Arc::new(GatedFs(SimFs::new(), gate.clone()));
    let mut rig = Rig::start(fs, "/m".as_ref(), new_member()).unwrap();
    let _open = OpenAtEnd(gate.clone());
    rig.put("a");
    let before = rig.handle.status();
    gate.set(true);
    rig.propose("b");
    wait_for("the sync", || gate.stalled.load(Ordering::SeqCst) > 0);
    rig.propose("c");
    assert_eq!(rig.handle.lone_read_index(), Some(before.committed));
    assert!(!rig.apply_some(Duration::from_millis(300)));
    let during = rig.handle.status();
    assert_eq!(during.committed, before.committed);
    assert_eq!(during.leader, before.leader);
    gate.set(false);
    rig.apply_until(|rig| rig.applied.last() == Some(&Bytes::from_static(b"c")));
    assert_eq!(rig.texts(), ["a", "b", "c"]);
}
