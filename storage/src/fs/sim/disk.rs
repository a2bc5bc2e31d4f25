//! The model behind the simulated file system: what programs see, what a power failure leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::content::{Content, SECTOR};

pub(super) type NodeId = u64;
pub(super) type Names = BTreeMap<Arc<str>, NodeId>;
/// In a directory, a name gets a node or loses it.
pub(super) type Edit = (NodeId, Arc<str>, Option<NodeId>);

pub(super) const ROOT: NodeId = 0;

/// One change or sync, as recorded in a trace.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// A directory, durable at once.
    Mkdir {
        dir: NodeId,
        name: Arc<str>,
        node: NodeId,
    },
    Create {
        dir: NodeId,
        name: Arc<str>,
        node: NodeId,
    },
    Write {
        node: NodeId,
        offset: u64,
        data: Arc<[u8]>,
    },
    SetLen {
        node: NodeId,
        len: u64,
    },
    Sync {
        node: NodeId,
    },
    /// A sync that reported an error: what was pending may or may not reach the disk, and no later
    /// sync will tell.
    FailedSync {
        node: NodeId,
    },
    /// Edits that happen together (a rename).
    Names {
        edits: Vec<Edit>,
    },
    SyncDir {
        dir: NodeId,
    },
    /// The test's own progress.
    Mark(u64),
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Debug, Clone, Default)]
pub(super) struct FileNode {
    /// What programs read.
    pub(super) live: Content,
    /// What certainly survives.
    durable: Content,
    /// What may survive.
    pending: Vec<Pending>,
}

#[derive(Debug, Clone)]
struct Pending {
    seq: u64,
    range: Range,
    /// The file after this change. A sector that reaches the disk carries everything written to it
    /// before, so images copy sectors of this version.
    after: Content,
    /// A sync failed on it; later syncs do not cover it.
    doomed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Range {
    Write { start: u64, end: u64, plain: bool },
    SetLen(u64),
}

#[derive(Debug, Clone, Default)]
pub(super) struct DirNode {
    pub(super) live: Names,
    durable: Names,
}

#[derive(Debug, Clone)]
struct Renaming {
    seq: u64,
    edits: Vec<Edit>,
}

/// How much of one pending change an image contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    No,
    Yes,
    /// Only the first bytes of a write.
    Bytes(u64),
    /// Of a write, the sectors whose bit (number modulo 64) is set.
    Sectors(u64),
}

/// A pending change, in the order of all of them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item {
    /// A write of so many bytes from `start`, or a change of length (`end` 0).
    /// With `plain` it is only zeros: pieces of it are of no interest.
    Data {
        start: u64,
        end: u64,
        plain: bool,
    },
    Names,
}

#[derive(Debug, Clone)]
pub(super) struct Disk {
    nodes: BTreeMap<NodeId, Node>,
    next: NodeId,
    seq: u64,
    names: Vec<Renaming>,
}

impl Disk {
    pub(super) fn new() -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Dir(DirNode::default()))]),
            next: ROOT + 1,
            seq: 0,
            names: Vec::new(),
        }
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    pub(super) fn file(&self, id: NodeId) -> Option<&FileNode> {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    pub(super) fn new_id(&mut self) -> NodeId {
        let id = self.next;
        self.next += 1;
        id
    }

    /// Bytes of all files as programs see them.
    pub(super) fn used(&self) -> u64 {
        self.nodes
            .values()
            .map(|node| match node {
                Node::File(file) => file.live.len(),
                Node::Dir(_) => 0,
            })
            .sum()
    }

    pub(super) fn apply(&mut self, op: &Op) {
        self.seq += 1;
        if let Op::Mkdir { node, .. } | Op::Create { node, .. } = op {
            // A replayed recording brings its numbers along.
            self.next = self.next.max(node + 1);
        }
        match op {
            Op::Mkdir { dir, name, node } => {
                self.nodes.insert(*node, Node::Dir(DirNode::default()));
                if let Some(Node::Dir(dir)) = self.nodes.get_mut(dir) {
                    dir.live.insert(Arc::clone(name), *node);
                    dir.durable.insert(Arc::clone(name), *node);
                }
            }
            Op::Create { dir, name, node } => {
                self.nodes.insert(*node, Node::File(FileNode::default()));
                self.edit(vec![(*dir, Arc::clone(name), Some(*node))]);
            }
            Op::Names { edits } => self.edit(edits.clone()),
            Op::Write { node, offset, data } => self.change(
                *node,
                Range::Write {
                    start: *offset,
                    end: *offset + data.len() as u64,
                    plain: data.iter().all(|byte| *byte == 0),
                },
                |live| live.write(data, *offset),
            ),
            Op::SetLen { node, len } => {
                self.change(*node, Range::SetLen(*len), |live| live.set_len(*len));
            }
            Op::Sync { node } => self.sync(*node),
            Op::FailedSync { node } => {
                if let Some(Node::File(file)) = self.nodes.get_mut(node) {
                    file.pending.iter_mut().for_each(|p| p.doomed = true);
                }
            }
            Op::SyncDir { dir } => {
                let (done, left) = std::mem::take(&mut self.names)
                    .into_iter()
                    .partition(|change| change.edits.iter().any(|edit| edit.0 == *dir));
                self.names = left;
                let done: Vec<Renaming> = done;
                for change in &done {
                    self.edit_durable(&change.edits);
                }
            }
            Op::Mark(_) => {}
        }
    }

    fn change(&mut self, node: NodeId, range: Range, apply: impl FnOnce(&mut Content)) {
        if let Some(Node::File(file)) = self.nodes.get_mut(&node) {
            apply(&mut file.live);
            file.pending.push(Pending {
                seq: self.seq,
                range,
                after: file.live.clone(),
                doomed: false,
            });
        }
    }

    fn sync(&mut self, node: NodeId) {
        let Some(Node::File(file)) = self.nodes.get_mut(&node) else {
            return;
        };
        let (doomed, synced): (Vec<_>, Vec<_>) = std::mem::take(&mut file.pending)
            .into_iter()
            .partition(|p| p.doomed);
        if doomed.is_empty() {
            file.durable = file.live.clone();
        } else {
            for pending in &synced {
                pending.put(&mut file.durable, Keep::Yes);
            }
        }
        file.pending = doomed;
    }

    fn edit(&mut self, edits: Vec<Edit>) {
        for (dir, name, node) in &edits {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(dir) {
                set_name(&mut dir.live, name, *node);
            }
        }
        self.names.push(Renaming {
            seq: self.seq,
            edits,
        });
    }

    fn edit_durable(&mut self, edits: &[Edit]) {
        for (dir, name, node) in edits {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(dir) {
                set_name(&mut dir.durable, name, *node);
            }
        }
    }

    /// What a power failure may drop now, oldest first.
    pub(super) fn items(&self) -> Vec<Item> {
        let mut items: Vec<(u64, Item)> = self
            .names
            .iter()
            .map(|change| (change.seq, Item::Names))
            .collect();
        for node in self.nodes.values() {
            if let Node::File(file) = node {
                items.extend(file.pending.iter().map(|p| (p.seq, p.item())));
            }
        }
        items.sort_unstable_by_key(|(seq, _)| *seq);
        items.into_iter().map(|(_, item)| item).collect()
    }

    /// The disk after a power failure that kept of each item (numbered as in [`Disk::items`]) what
    /// `keep` says.
    pub(super) fn image(&self, keep: &[Keep]) -> Disk {
        let mut order: Vec<u64> = self.names.iter().map(|change| change.seq).collect();
        for node in self.nodes.values() {
            if let Node::File(file) = node {
                order.extend(file.pending.iter().map(|p| p.seq));
            }
        }
        order.sort_unstable();
        let keep_of = |seq: u64| {
            order
                .binary_search(&seq)
                .ok()
                .and_then(|at| keep.get(at).copied())
                .unwrap_or(Keep::No)
        };
        let mut image = Disk {
            nodes: BTreeMap::new(),
            next: self.next,
            seq: 0,
            names: Vec::new(),
        };
        for (id, node) in &self.nodes {
            let node = match node {
                Node::Dir(dir) => Node::Dir(DirNode {
                    live: dir.durable.clone(),
                    durable: dir.durable.clone(),
                }),
                Node::File(file) => {
                    let mut content = file.durable.clone();
                    for pending in &file.pending {
                        pending.put(&mut content, keep_of(pending.seq));
                    }
                    Node::File(FileNode {
                        live: content.clone(),
                        durable: content,
                        pending: Vec::new(),
                    })
                }
            };
            image.nodes.insert(*id, node);
        }
        for change in &self.names {
            if keep_of(change.seq) != Keep::No {
                image.edit_durable(&change.edits);
            }
        }
        for node in image.nodes.values_mut() {
            if let Node::Dir(dir) = node {
                dir.live = dir.durable.clone();
            }
        }
        image.forget(&BTreeSet::new());
        image
    }

    /// Drops nodes that no name and none of `open` refers to.
    pub(super) fn forget(&mut self, open: &BTreeSet<NodeId>) {
        let mut used: BTreeSet<NodeId> = open.clone();
        used.insert(ROOT);
        for node in self.nodes.values() {
            if let Node::Dir(dir) = node {
                used.extend(dir.live.values());
                used.extend(dir.durable.values());
            }
        }
        for change in &self.names {
            used.extend(change.edits.iter().filter_map(|edit| edit.2));
        }
        self.nodes.retain(|id, _| used.contains(id));
    }
}

impl Pending {
    fn item(&self) -> Item {
        match self.range {
            Range::Write { start, end, plain } => Item::Data { start, end, plain },
            Range::SetLen(_) => Item::Data {
                start: 0,
                end: 0,
                plain: true,
            },
        }
    }

    /// Puts what is kept of the change into an older version of the file.
    fn put(&self, content: &mut Content, keep: Keep) {
        match (self.range, keep) {
            (_, Keep::No) => {}
            (Range::SetLen(len), _) => content.set_len(len),
            (Range::Write { start, end, .. }, Keep::Yes) => {
                content.copy_from(&self.after, start - start % SECTOR, sector_end(end));
            }
            (Range::Write { start, .. }, Keep::Bytes(bytes)) => {
                if bytes > 0 {
                    content.copy_from(&self.after, start - start % SECTOR, start + bytes);
                }
            }
            (Range::Write { start, end, .. }, Keep::Sectors(mask)) => {
                let first = start / SECTOR;
                for sector in first..end.div_ceil(SECTOR) {
                    if mask >> ((sector - first) % 64) & 1 == 1 {
                        content.copy_from(&self.after, sector * SECTOR, (sector + 1) * SECTOR);
                    }
                }
            }
        }
    }
}

fn sector_end(end: u64) -> u64 {
    end.div_ceil(SECTOR) * SECTOR
}

fn set_name(names: &mut Names, name: &Arc<str>, node: Option<NodeId>) {
    match node {
        Some(node) => names.insert(Arc::clone(name), node),
        None => names.remove(name),
    };
}
