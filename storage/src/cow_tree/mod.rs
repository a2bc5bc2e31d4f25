//! An ordered map whose clone is O(1) and stays what it was: the published version.
//!
//! A B+tree with wide nodes behind [`Arc`]s. A change copies only those nodes of its path that a
//! clone still holds, and works in place on the others; so the first change after a clone pays a
//! path, the next ones nearby pay nothing. Each branch knows the total [`Weight`] of every
//! subtree, which makes [`CowTree::weight_in`] O(log n).
//!
//! Balance: all leaves are equally deep, and no node holds less than a quarter of its capacity,
//! except the root and the nodes on the right edge (appending fills nodes completely and starts
//! the next one with one entry). Recursion is never deeper than the tree is high.

mod iter;
mod node;

#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

pub use iter::Iter;
use node::{Child, Edge, Node};

/// What an entry adds to the total of its subtree, for example 1 for a live key and 0 for a deleted one.
pub trait Weight {
    /// The weight; must depend on the value only.
    fn weight(&self) -> usize;
}

impl Weight for () {
    fn weight(&self) -> usize {
        1
    }
}

/// See the [module](self).
pub struct CowTree<K, V> {
    root: Arc<Node<K, V>>,
    len: usize,
    weight: usize,
}

impl<K, V> Clone for CowTree<K, V> {
    fn clone(&self) -> Self {
        Self {
            root: Arc::clone(&self.root),
            ..*self
        }
    }
}

impl<K, V> Default for CowTree<K, V> {
    fn default() -> Self {
        Self {
            root: Arc::new(Node::Leaf(Vec::new())),
            len: 0,
            weight: 0,
        }
    }
}

impl<K, V> CowTree<K, V> {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The total weight of all entries.
    pub fn weight(&self) -> usize {
        self.weight
    }
}

impl<K: Ord, V> CowTree<K, V> {
    /// All entries in key order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter::new(&self.root, &Edge::<K>::First, &Edge::Last, false)
    }

    /// The value of `key`.
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Branch(children) => node = &children[node::child_of(children, key)].node,
                Node::Leaf(entries) => {
                    let i = node::search(entries, key).ok()?;
                    return Some(&entries[i].1);
                }
            }
        }
    }

    /// The entries between the bounds in key order; none if the bounds are the wrong way round.
    /// Allocates once, not per entry.
    pub fn range<Q>(&self, from: Bound<&Q>, to: Bound<&Q>) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        Iter::new(&self.root, &Edge::lower(from), &Edge::upper(to), false)
    }

    /// Like [`range`](Self::range), but steps over subtrees without weight; entries without
    /// weight still come up beside others.
    pub fn range_weighted<Q>(&self, from: Bound<&Q>, to: Bound<&Q>) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        Iter::new(&self.root, &Edge::lower(from), &Edge::upper(to), true)
    }
}

impl<K, V: Weight> CowTree<K, V> {
    /// The total weight of the entries between the bounds, in O(log n).
    pub fn weight_in<Q>(&self, from: Bound<&Q>, to: Bound<&Q>) -> usize
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let before = self.weight_before(&Edge::lower(from));
        self.weight_before(&Edge::upper(to)).saturating_sub(before)
    }

    fn weight_before<Q>(&self, edge: &Edge<'_, Q>) -> usize
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        match edge {
            Edge::First => return 0,
            Edge::Last => return self.weight,
            Edge::Before(_) | Edge::After(_) => {}
        }
        let mut total = 0;
        let mut node = &*self.root;
        loop {
            match node {
                Node::Branch(children) => {
                    let i = edge.child(children);
                    total += children[..i].iter().map(|c| c.weight).sum::<usize>();
                    node = &children[i].node;
                }
                Node::Leaf(entries) => {
                    let before = &entries[..edge.entry(entries)];
                    return total + before.iter().map(|(_, v)| v.weight()).sum::<usize>();
                }
            }
        }
    }
}

impl<K: Ord + Clone, V: Clone + Weight> CowTree<K, V> {
    /// Builds a tree in O(n). The keys must come strictly ascending.
    pub fn from_sorted(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut entries = entries.into_iter();
        let mut len = 0;
        // The nodes of the level being built.
        let mut level: Vec<Child<K, V>> = Vec::new();
        loop {
            let leaf = take(&mut entries, node::LEAF_FILL);
            let Some((lowest, _)) = leaf.first() else {
                break;
            };
            debug_assert!(leaf.is_sorted_by(|(a, _), (b, _)| a < b));
            len += leaf.len();
            level.push(Child::new(lowest.clone(), Node::Leaf(leaf)));
        }
        debug_assert!(level.is_sorted_by(|a, b| a.key < b.key));
        while level.len() > 1 {
            let mut nodes = level.into_iter();
            level = Vec::new();
            loop {
                let children = take(&mut nodes, node::BRANCH_FILL);
                let Some(first) = children.first() else {
                    break;
                };
                level.push(Child::new(first.key.clone(), Node::Branch(children)));
            }
        }
        match level.pop() {
            Some(root) => Self {
                weight: root.weight,
                root: root.node,
                len,
            },
            None => Self::default(),
        }
    }

    /// Sets the value of `key` and returns the one it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let weight = value.weight();
        let old = self.edit(&key, |entries, at| match at {
            Ok(i) => {
                let old = std::mem::replace(&mut entries[i].1, value);
                let change = difference(weight, old.weight());
                (Some(old), change)
            }
            Err(i) => {
                node::insert_at(entries, i, (key.clone(), value));
                (None, difference(weight, 0))
            }
        });
        self.len += usize::from(old.is_none());
        old
    }

    /// Changes the value of `key` with `change`, or adds the entry that `add` makes (whose key
    /// must equal `key`). One descent.
    pub fn upsert<Q, R>(
        &mut self,
        key: &Q,
        add: impl FnOnce() -> (K, V, R),
        change: impl FnOnce(&mut V) -> R,
    ) -> R
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut added = 0;
        let result = self.edit(key, |entries, at| match at {
            Ok(i) => change_weighed(&mut entries[i].1, change),
            Err(i) => {
                let (key, value, result) = add();
                let weight = value.weight();
                node::insert_at(entries, i, (key, value));
                added = 1;
                (result, difference(weight, 0))
            }
        });
        self.len += added;
        result
    }

    /// Changes the value of `key` with `change`; `None` if there is no such key.
    pub fn update<Q, R>(&mut self, key: &Q, change: impl FnOnce(&mut V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        // Asked first: a miss must not copy shared nodes.
        self.get(key)?;
        self.edit(key, |entries, at| match at {
            Ok(i) => {
                let (result, weight) = change_weighed(&mut entries[i].1, change);
                (Some(result), weight)
            }
            Err(_) => (None, 0),
        })
    }

    /// Removes `key` and returns its value.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.get(key)?;
        let old = self.edit(key, |entries, at| match at {
            Ok(i) => {
                let (_, old) = entries.remove(i);
                let weight = old.weight();
                (Some(old), difference(0, weight))
            }
            Err(_) => (None, 0),
        });
        self.len -= usize::from(old.is_some());
        old
    }

    /// Runs `op` on the leaf where `key` is (`Ok`) or belongs (`Err`), then repairs the path.
    /// `op` adds or removes one entry at most, and returns the change of weight beside its result.
    fn edit<Q, R>(&mut self, key: &Q, op: impl FnOnce(&mut Vec<(K, V)>, At) -> (R, isize)) -> R
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (result, weight) = node::edit(&mut self.root, key, true, op);
        self.weight = self.weight.wrapping_add_signed(weight);
        node::mend_root(&mut self.root);
        result
    }

    /// Verifies every invariant; for tests.
    ///
    /// # Panics
    /// With the invariant that does not hold.
    pub fn check(&self) {
        let mut count = 0;
        let depth = node::depth(&self.root);
        let weight = node::check(&self.root, (None, None), depth, true, &mut count);
        assert_eq!(self.weight, weight, "total weight");
        assert_eq!(self.len, count, "total length");
        if let Node::Branch(children) = &*self.root {
            assert!(children.len() > 1, "a root branch with one child");
        }
    }
}

/// Where a key is in a leaf (`Ok`) or where it belongs (`Err`).
type At = Result<usize, usize>;

/// The next `n` items, or what is left, in no more room than they need.
fn take<T>(items: &mut impl Iterator<Item = T>, n: usize) -> Vec<T> {
    let mut taken = Vec::with_capacity(n);
    taken.extend(items.take(n));
    taken.shrink_to_fit();
    taken
}

fn difference(new: usize, old: usize) -> isize {
    new.wrapping_sub(old).cast_signed()
}

fn change_weighed<V: Weight, R>(value: &mut V, change: impl FnOnce(&mut V) -> R) -> (R, isize) {
    let old = value.weight();
    let result = change(value);
    (result, difference(value.weight(), old))
}

impl<K: fmt::Debug + Ord, V: fmt::Debug> fmt::Debug for CowTree<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a CowTree<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
