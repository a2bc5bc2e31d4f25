//! Branches with one child. bbolt never writes one and relies on that, so neither do we.
//!
//! A branch of which one child is left is joined with a neighbour like any small node. Where it is itself the only child
//! there is no neighbour below the same branch; then it stays unwritten, [`Node::Lone`], until a level above has one:
//! the two branches' children become those of one branch, and so neighbours.

use super::page::PageId;
use super::tx::{Fill, Node, Slot, Tx, open};
use crate::backend::Error;

impl Tx<'_> {
    /// Joins lone children with neighbours, until there is none or it is the only one.
    pub(super) fn unite_lone(&mut self, mut slots: Vec<Slot>) -> Result<Vec<Slot>, Error> {
        let is_lone = |slot: &Slot| matches!(slot, Slot::Open(Node::Lone(_)));
        let is_nothing = |slot: &Slot| match slot {
            Slot::Open(Node::Branch(children)) => children.is_empty(),
            _ => false,
        };
        if !slots.iter().any(is_lone) {
            return Ok(slots);
        }
        // What has lost all its children is no neighbour.
        slots.retain(|slot| !is_nothing(slot));
        while slots.len() > 1
            && let Some(lone) = slots.iter().position(is_lone)
        {
            let left = lone.saturating_sub(1);
            let pair: Vec<Slot> = slots.drain(left..left + 2).collect();
            let united = self.unite(pair)?;
            slots.insert(left, Slot::Open(united));
        }
        Ok(slots)
    }

    /// One branch of two neighbours, one of them lone.
    fn unite(&mut self, pair: Vec<Slot>) -> Result<Node, Error> {
        let mut below = Vec::new();
        for (n, slot) in pair.into_iter().enumerate() {
            let node = match slot {
                Slot::Open(node) => node,
                Slot::Kept(child) | Slot::Written(child) => self.reopen(child.id)?,
            };
            match node {
                Node::Lone(node) => below.push(Slot::Open(*node)),
                Node::Branch(children) => {
                    // The child beside the other one's is opened, so that the two are joined.
                    let beside = if n == 0 {
                        children.len().saturating_sub(1)
                    } else {
                        0
                    };
                    for (n, child) in children.into_iter().enumerate() {
                        below.push(match n == beside {
                            true => Slot::Open(self.reopen(child.id)?),
                            false => Slot::Written(child),
                        });
                    }
                }
                Node::Leaf(_) => {
                    return Err(self
                        .pager
                        .corrupt(0, "leaves of a tree are at different depths"));
                }
            }
        }
        self.join(below, Fill::Even)
    }

    /// The content of a page, which is let go, even one that this transaction has written.
    fn reopen(&mut self, id: PageId) -> Result<Node, Error> {
        let page = match self.writes.iter().position(|(written, _)| *written == id) {
            Some(at) => self.pager.parse(self.writes.swap_remove(at).1.into(), id)?,
            None => self.read(id)?,
        };
        self.free(id, &page);
        Ok(open(&page))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::page::Kind;
    use super::super::tree::Root;
    use crate::backend::{Backend, Batch, BoltBackend, BoltOptions, Bucket};
    use crate::fs::{Fs, SimFs};
    use crate::testing::Random;

    /// Every branch of the bucket's tree has two children; returns how many levels there are.
    fn levels(backend: &BoltBackend) -> usize {
        let state = backend.shared.current.load();
        let mut level = match &state.head(Bucket::Key).unwrap().root {
            Root::Inline(_) => return 0,
            Root::Page(id) => vec![*id],
        };
        for depth in 1.. {
            let mut next = Vec::new();
            for id in &level {
                let page = backend
                    .shared
                    .pager
                    .read(*id, state.meta.high_water)
                    .unwrap();
                if page.kind() == Kind::Branch {
                    assert!(
                        page.len() >= 2,
                        "page {id} at level {depth} has {} children",
                        page.len()
                    );
                    next.extend((0..page.len()).map(|n| page.child(n)));
                }
            }
            if next.is_empty() {
                return depth;
            }
            level = next;
        }
        unreachable!()
    }

    /// Keys so long that branches have two or three children make deep trees; deleting nearly all of a stretch leaves
    /// branches with one child on several levels at once.
    #[test]
    fn no_branch_has_one_child() {
        let mut rng = Random::new(Random::seed("no_branch_has_one_child"));
        let mut deepest = 0;
        for _ in 0..40 {
            let fs = SimFs::new();
            fs.create_dir_all(Path::new("/d")).unwrap();
            let backend =
                BoltBackend::open(Arc::new(fs), Path::new("/d/db"), BoltOptions::default())
                    .unwrap();
            let mut model: BTreeMap<Bytes, Bytes> = BTreeMap::new();
            let len = 600 + rng.below(1400) as usize;
            let keys = 100 + rng.below(500);
            for round in 0..12 {
                let mut batch = Batch::default();
                if round % 2 == 0 {
                    for n in 0..keys {
                        if rng.below(3) == 0 {
                            continue;
                        }
                        let mut key = format!("{n:06}").into_bytes();
                        key.resize(len, b'.');
                        let value = Bytes::from(vec![b'v'; rng.below(60) as usize]);
                        model.insert(key.clone().into(), value.clone());
                        batch.put(Bucket::Key, key, value);
                    }
                } else {
                    let (from, survivors) = (rng.below(keys) as usize, rng.below(60) + 1);
                    let some: Vec<_> = model.keys().skip(from / 2).cloned().collect();
                    for key in some {
                        if rng.below(survivors) > 0 || survivors == 1 {
                            model.remove(&key);
                            batch.delete(Bucket::Key, key);
                        }
                    }
                }
                backend.commit(&batch).unwrap();
                if rng.below(3) == 0 {
                    backend.defragment().unwrap();
                }
                backend.check().unwrap();
                deepest = deepest.max(levels(&backend));
                let found = backend
                    .view()
                    .unwrap()
                    .scan(Bucket::Key, b"", None, 0)
                    .unwrap();
                assert!(found.into_iter().eq(model.clone()));
            }
        }
        assert!(deepest >= 6, "{deepest} levels test nothing");
    }
}
