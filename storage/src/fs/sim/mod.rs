//! A file system in memory that can lose what was not synced and fail when told to.
//!
//! Model of a power failure: of each file, every sector holds what it held after the last sync or
//! after any write since; a length change or a name change happened or did not; a rename is whole.
//! The last write may also be torn at a byte.

mod content;
mod crash;
mod disk;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use parking_lot::Mutex;

use self::disk::{Disk, Node, NodeId, Op, ROOT};
use super::{File, Fs, OpenMode};

pub use self::crash::{Image, Plan, Trace};

/// A simulated file system. Clones share it.
#[derive(Debug, Clone)]
pub struct SimFs {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    disk: Disk,
    handles: BTreeMap<NodeId, usize>,
    locked: BTreeSet<NodeId>,
    calls: u64,
    fault: Option<Fault>,
    syncs_fail: bool,
    capacity: u64,
    trace: Option<Trace>,
}

#[derive(Debug, Clone, Copy)]
struct Fault {
    at: u64,
    error: io::ErrorKind,
    sticky: bool,
}

impl Default for SimFs {
    fn default() -> Self {
        Self::new()
    }
}

impl SimFs {
    /// An empty file system.
    pub fn new() -> Self {
        Self::of(Disk::new())
    }

    fn of(disk: Disk) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                disk,
                handles: BTreeMap::new(),
                locked: BTreeSet::new(),
                calls: 0,
                fault: None,
                syncs_fail: false,
                capacity: u64::MAX,
                trace: None,
            })),
        }
    }

    /// Changing and syncing calls so far.
    pub fn calls(&self) -> u64 {
        self.shared.lock().calls
    }

    /// Makes the `n`-th changing or syncing call from now (1: the next one) fail; with `sticky`,
    /// all that follow too. A failing write may have written its first half; a failing sync leaves
    /// open what reached the disk, and no later sync tells.
    pub fn fail_at(&self, n: u64, error: io::ErrorKind, sticky: bool) {
        let mut shared = self.shared.lock();
        shared.fault = Some(Fault {
            at: shared.calls + n,
            error,
            sticky,
        });
    }

    /// Makes every file sync fail from now on, or work again.
    pub fn fail_syncs(&self, fail: bool) {
        self.shared.lock().syncs_fail = fail;
    }

    /// Ends what [`SimFs::fail_at`] and [`SimFs::fail_syncs`] began.
    pub fn heal(&self) {
        let mut shared = self.shared.lock();
        shared.fault = None;
        shared.syncs_fail = false;
    }

    /// Sets the size of the disk in bytes; what would exceed it fails with `StorageFull`.
    pub fn set_capacity(&self, bytes: u64) {
        self.shared.lock().capacity = bytes;
    }

    /// What remains after a power failure now that drops everything not synced.
    pub fn crash(&self) -> SimFs {
        Self::of(self.shared.lock().disk.image(&[]))
    }

    /// What remains after a power failure now, with chance deciding about everything not synced.
    pub fn crash_random(&self, seed: u64) -> SimFs {
        crash::random_image(&self.shared.lock().disk, seed)
    }

    /// A copy of what programs see now, all of it durable, without locks and faults.
    pub fn fork(&self) -> SimFs {
        let shared = self.shared.lock();
        let keep = vec![disk::Keep::Yes; shared.disk.items().len()];
        Self::of(shared.disk.image(&keep))
    }

    /// Starts recording all changes and syncs.
    pub fn record(&self) {
        let mut shared = self.shared.lock();
        shared.trace = Some(Trace::new(shared.disk.clone()));
    }

    /// Notes the caller's progress in the recording; images carry the newest mark.
    pub fn mark(&self, mark: u64) {
        if let Some(trace) = &mut self.shared.lock().trace {
            trace.push(Op::Mark(mark));
        }
    }

    /// Ends the recording and returns it; empty if none was started.
    pub fn take_trace(&self) -> Trace {
        let mut shared = self.shared.lock();
        let trace = shared.trace.take();
        trace.unwrap_or_else(|| Trace::new(shared.disk.clone()))
    }
}

impl Shared {
    /// Counts a changing call and decides whether it fails.
    fn admit(&mut self) -> io::Result<()> {
        self.calls += 1;
        match self.fault {
            Some(fault) if self.calls == fault.at || (fault.sticky && self.calls > fault.at) => {
                Err(io::Error::new(fault.error, "simulated fault"))
            }
            _ => Ok(()),
        }
    }

    fn apply(&mut self, op: Op) {
        self.disk.apply(&op);
        if let Some(trace) = &mut self.trace {
            trace.push(op);
        }
    }

    fn dir(&self, path: &Path) -> io::Result<NodeId> {
        match self.lookup(path)? {
            Some(id) if matches!(self.disk.node(id), Some(Node::Dir(_))) => Ok(id),
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn lookup(&self, path: &Path) -> io::Result<Option<NodeId>> {
        let mut at = ROOT;
        for name in components(path)? {
            match self.disk.node(at) {
                Some(Node::Dir(dir)) => match dir.live.get(name) {
                    Some(id) => at = *id,
                    None => return Ok(None),
                },
                _ => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// The directory that holds a path, and the path's last name.
    fn place(&self, path: &Path) -> io::Result<(NodeId, Arc<str>)> {
        let name = components(path)?
            .pop()
            .ok_or(io::ErrorKind::InvalidInput)?
            .into();
        Ok((self.dir(super::parent(path))?, name))
    }

    fn room(&self, grow: u64) -> io::Result<()> {
        if grow > 0 && self.disk.used().saturating_add(grow) > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn forget(&mut self) {
        let open = self.handles.keys().copied().collect();
        self.disk.forget(&open);
    }

    fn unlink(&mut self, dir: NodeId, name: &str) -> io::Result<()> {
        self.admit()?;
        self.apply(Op::Names {
            edits: vec![(dir, name.into(), None)],
        });
        Ok(())
    }

    fn remove_tree(&mut self, dir: NodeId, name: &str, node: NodeId) -> io::Result<()> {
        if let Some(Node::Dir(inner)) = self.disk.node(node) {
            for (child, id) in inner.live.clone() {
                self.remove_tree(node, &child, id)?;
            }
        }
        self.unlink(dir, name)
    }
}

fn components(path: &Path) -> io::Result<Vec<&str>> {
    path.components()
        .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
        .map(|part| match part {
            Component::Normal(name) => name
                .to_str()
                .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        })
        .collect()
}

impl Fs for SimFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let mut shared = self.shared.lock();
        let create = matches!(mode, OpenMode::CreateNew | OpenMode::CreateOrTruncate);
        let node = match shared.lookup(path)? {
            Some(_) if mode == OpenMode::CreateNew => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Some(node) => {
                let file = shared.disk.file(node).ok_or(io::ErrorKind::IsADirectory)?;
                if mode == OpenMode::CreateOrTruncate && file.live.len() > 0 {
                    shared.admit()?;
                    shared.apply(Op::SetLen { node, len: 0 });
                }
                node
            }
            None if create => {
                let (dir, name) = shared.place(path)?;
                shared.admit()?;
                let node = shared.disk.new_id();
                shared.apply(Op::Create { dir, name, node });
                node
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        *shared.handles.entry(node).or_default() += 1;
        Ok(Box::new(SimFile {
            shared: Arc::clone(&self.shared),
            node,
            writable: mode != OpenMode::Read,
            holds_lock: Mutex::new(false),
        }))
    }

    fn read_dir(&self, dir: &Path) -> io::Result<Vec<String>> {
        let shared = self.shared.lock();
        match shared.disk.node(shared.dir(dir)?) {
            Some(Node::Dir(dir)) => Ok(dir.live.keys().map(ToString::to_string).collect()),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.shared.lock().lookup(path)?.is_some())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut shared = self.shared.lock();
        let mut at = ROOT;
        for name in components(dir)? {
            let Some(Node::Dir(node)) = shared.disk.node(at) else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            at = match node.live.get(name) {
                Some(id) => *id,
                None => {
                    shared.admit()?;
                    let node = shared.disk.new_id();
                    shared.apply(Op::Mkdir {
                        dir: at,
                        name: name.into(),
                        node,
                    });
                    node
                }
            };
        }
        match shared.disk.node(at) {
            Some(Node::Dir(_)) => Ok(()),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut shared = self.shared.lock();
        let node = shared.lookup(from)?.ok_or(io::ErrorKind::NotFound)?;
        let (from_dir, from_name) = shared.place(from)?;
        let (to_dir, to_name) = shared.place(to)?;
        if let Some(target) = shared.lookup(to)? {
            match (shared.disk.node(node), shared.disk.node(target)) {
                (Some(Node::Dir(_)), Some(Node::Dir(dir))) if dir.live.is_empty() => {}
                (Some(Node::Dir(_)), Some(Node::Dir(_))) => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                (Some(Node::Dir(_)), _) => return Err(io::ErrorKind::NotADirectory.into()),
                (_, Some(Node::Dir(_))) => return Err(io::ErrorKind::IsADirectory.into()),
                _ => {}
            }
        }
        shared.admit()?;
        shared.apply(Op::Names {
            edits: vec![(from_dir, from_name, None), (to_dir, to_name, Some(node))],
        });
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut shared = self.shared.lock();
        let node = shared.lookup(path)?.ok_or(io::ErrorKind::NotFound)?;
        if shared.disk.file(node).is_none() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let (dir, name) = shared.place(path)?;
        shared.unlink(dir, &name)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut shared = self.shared.lock();
        let node = shared.dir(path)?;
        let (dir, name) = shared.place(path)?;
        shared.remove_tree(dir, &name, node)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut shared = self.shared.lock();
        let dir = shared.dir(dir)?;
        shared.admit()?;
        shared.apply(Op::SyncDir { dir });
        shared.forget();
        Ok(())
    }

    fn available(&self, _dir: &Path) -> io::Result<u64> {
        let shared = self.shared.lock();
        Ok(shared.capacity.saturating_sub(shared.disk.used()))
    }
}

#[derive(Debug)]
struct SimFile {
    shared: Arc<Mutex<Shared>>,
    node: NodeId,
    writable: bool,
    holds_lock: Mutex<bool>,
}

impl SimFile {
    fn changing(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            // What Linux says (EBADF) for a write through a read-only descriptor.
            Err(io::Error::other("file is open for reading only"))
        }
    }

    fn len_of(&self, shared: &Shared) -> u64 {
        shared
            .disk
            .file(self.node)
            .map_or(0, |file| file.live.len())
    }

    fn resize(&self, shared: &mut Shared, len: u64) -> io::Result<()> {
        shared.admit()?;
        shared.room(len.saturating_sub(self.len_of(shared)))?;
        shared.apply(Op::SetLen {
            node: self.node,
            len,
        });
        Ok(())
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let shared = self.shared.lock();
        let file = shared.disk.file(self.node);
        Ok(file.map_or(0, |file| file.live.read_at(buf, offset)))
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.changing()?;
        let mut shared = self.shared.lock();
        let end = offset
            .checked_add(buf.len() as u64)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let grow = end.saturating_sub(self.len_of(&shared));
        let result = shared.admit().and_then(|()| shared.room(grow));
        let data = match result {
            Ok(()) => buf,
            Err(_) => &buf[..buf.len() / 2],
        };
        if !data.is_empty() {
            shared.apply(Op::Write {
                node: self.node,
                offset,
                data: data.into(),
            });
        }
        result
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len_of(&self.shared.lock()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.changing()?;
        self.resize(&mut self.shared.lock(), len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.changing()?;
        let mut shared = self.shared.lock();
        if self.len_of(&shared) < len {
            self.resize(&mut shared, len)?;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut shared = self.shared.lock();
        let mut result = shared.admit();
        if shared.syncs_fail {
            result = Err(io::Error::other("simulated sync failure"));
        }
        let node = self.node;
        shared.apply(match result {
            Ok(()) => Op::Sync { node },
            Err(_) => Op::FailedSync { node },
        });
        result
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut mine = self.holds_lock.lock();
        if !*mine {
            *mine = self.shared.lock().locked.insert(self.node);
        }
        Ok(*mine)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut shared = self.shared.lock();
        if *self.holds_lock.get_mut() {
            shared.locked.remove(&self.node);
        }
        if let Some(count) = shared.handles.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                shared.handles.remove(&self.node);
            }
        }
    }
}
