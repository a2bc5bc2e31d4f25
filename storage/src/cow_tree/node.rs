//! The nodes of the tree and the repair of their balance.

use std::borrow::Borrow;
use std::ops::Bound;
use std::sync::Arc;

use super::{At, Weight};

// Small under test, so that small trees are deep.
/// Most entries in a leaf.
const LEAF_MAX: usize = if cfg!(test) { 8 } else { 64 };
/// Most children of a branch.
const BRANCH_MAX: usize = if cfg!(test) { 8 } else { 32 };
/// How full a bulk build makes a leaf: the next insertion need not split it.
pub(super) const LEAF_FILL: usize = LEAF_MAX - LEAF_MAX / 8;
/// How full a bulk build makes a branch.
pub(super) const BRANCH_FILL: usize = BRANCH_MAX - BRANCH_MAX / 8;
/// Room that a growing node gets at a time; doubling would leave half of a node empty.
const SLACK: usize = 8;

/// A node; all leaves are equally deep.
pub(super) enum Node<K, V> {
    /// Entries in strictly ascending key order.
    Leaf(Vec<(K, V)>),
    Branch(Branch<K, V>),
}

pub(super) struct Branch<K, V> {
    /// `keys[i]` is above all keys below `children[i]`, and not above any below `children[i + 1]`.
    pub(super) keys: Vec<K>,
    /// One more than keys.
    pub(super) children: Vec<Child<K, V>>,
}

pub(super) struct Child<K, V> {
    pub(super) node: Arc<Node<K, V>>,
    /// The total weight of the entries below `node`.
    pub(super) weight: usize,
}

impl<K, V> Clone for Child<K, V> {
    fn clone(&self) -> Self {
        Self {
            node: Arc::clone(&self.node),
            weight: self.weight,
        }
    }
}

/// A node is only cloned to be changed: the copy has room for one more.
impl<K: Clone, V: Clone> Clone for Node<K, V> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(entries) => Self::Leaf(roomy_clone(entries)),
            Self::Branch(branch) => Self::Branch(Branch {
                keys: roomy_clone(&branch.keys),
                children: roomy_clone(&branch.children),
            }),
        }
    }
}

fn roomy_clone<T: Clone>(items: &[T]) -> Vec<T> {
    let mut copy = Vec::with_capacity((items.len() + 1).next_multiple_of(SLACK));
    copy.extend_from_slice(items);
    copy
}

/// Inserts with modest growth.
pub(super) fn insert_at<T>(items: &mut Vec<T>, i: usize, item: T) {
    if items.len() == items.capacity() {
        items.reserve_exact(SLACK);
    }
    items.insert(i, item);
}

/// Splits off the items from `n` on, and gives back the room that became free.
fn split_at<T>(items: &mut Vec<T>, n: usize) -> Vec<T> {
    let right = items.split_off(n);
    items.shrink_to(n + SLACK);
    right
}

/// Where `key` is in a leaf, or belongs.
pub(super) fn search<K, V, Q>(entries: &[(K, V)], key: &Q) -> At
where
    K: Borrow<Q>,
    Q: Ord + ?Sized,
{
    entries.binary_search_by(|(k, _)| k.borrow().cmp(key))
}

impl<K, V> Branch<K, V> {
    /// The child below which `key` is or belongs.
    pub(super) fn child_of<Q>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.keys.partition_point(|k| k.borrow() <= key)
    }
}

/// A place between two entries.
pub(super) enum Edge<'q, Q: ?Sized> {
    First,
    Before(&'q Q),
    After(&'q Q),
    Last,
}

impl<'q, Q: ?Sized> Edge<'q, Q> {
    /// Where a range with this lower bound begins.
    pub(super) fn lower(bound: Bound<&'q Q>) -> Self {
        match bound {
            Bound::Included(key) => Self::Before(key),
            Bound::Excluded(key) => Self::After(key),
            Bound::Unbounded => Self::First,
        }
    }

    /// Where a range with this upper bound ends.
    pub(super) fn upper(bound: Bound<&'q Q>) -> Self {
        match bound {
            Bound::Included(key) => Self::After(key),
            Bound::Excluded(key) => Self::Before(key),
            Bound::Unbounded => Self::Last,
        }
    }
}

impl<Q: Ord + ?Sized> Edge<'_, Q> {
    /// The child that the place is below.
    pub(super) fn child<K: Borrow<Q>, V>(&self, branch: &Branch<K, V>) -> usize {
        match self {
            Self::First => 0,
            Self::Before(key) | Self::After(key) => branch.child_of(key),
            Self::Last => branch.children.len() - 1,
        }
    }

    /// The number of entries of the leaf before the place.
    pub(super) fn entry<K: Borrow<Q>, V>(&self, entries: &[(K, V)]) -> usize {
        match self {
            Self::First => 0,
            Self::Before(key) => entries.partition_point(|(k, _)| k.borrow() < *key),
            Self::After(key) => entries.partition_point(|(k, _)| k.borrow() <= *key),
            Self::Last => entries.len(),
        }
    }
}

impl<K, V> Node<K, V> {
    /// Entries or children.
    fn len(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Branch(branch) => branch.children.len(),
        }
    }

    fn max(&self) -> usize {
        match self {
            Self::Leaf(_) => LEAF_MAX,
            Self::Branch(_) => BRANCH_MAX,
        }
    }

    /// Fewer would be merged with a neighbour.
    fn min(&self) -> usize {
        self.max() / 4
    }
}

impl<K, V: Weight> Child<K, V> {
    pub(super) fn new(node: Node<K, V>) -> Self {
        Self {
            weight: node.weight(),
            node: Arc::new(node),
        }
    }
}

impl<K, V: Weight> Node<K, V> {
    fn weight(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.iter().map(|(_, v)| v.weight()).sum(),
            Self::Branch(branch) => branch.children.iter().map(|c| c.weight).sum(),
        }
    }
}

/// See [`CowTree::edit`](super::CowTree). On return `node` itself may hold one too many or too few;
/// `on_edge` tells whether it is on the right edge of the tree.
pub(super) fn edit<K, V, Q, R>(
    node: &mut Arc<Node<K, V>>,
    key: &Q,
    on_edge: bool,
    op: impl FnOnce(&mut Vec<(K, V)>, At) -> (R, isize),
) -> (R, isize)
where
    K: Clone + Borrow<Q>,
    V: Clone + Weight,
    Q: Ord + ?Sized,
{
    match Arc::make_mut(node) {
        Node::Leaf(entries) => {
            let at = search(entries, key);
            op(entries, at)
        }
        Node::Branch(branch) => {
            let i = branch.child_of(key);
            let on_edge = on_edge && i + 1 == branch.children.len();
            let child = &mut branch.children[i];
            let (result, weight) = edit(&mut child.node, key, on_edge, op);
            child.weight = child.weight.wrapping_add_signed(weight);
            branch.mend(i, on_edge);
            (result, weight)
        }
    }
}

/// Makes the root a node again that needs no parent.
pub(super) fn mend_root<K: Clone, V: Clone + Weight>(root: &mut Arc<Node<K, V>>) {
    if root.len() > root.max() {
        let old = std::mem::replace(root, Arc::new(Node::Leaf(Vec::new())));
        let weight = 0; // set by the split
        let mut branch = Branch {
            keys: Vec::new(),
            children: vec![Child { node: old, weight }],
        };
        branch.mend(0, true);
        *root = Arc::new(Node::Branch(branch));
    }
    while let Node::Branch(branch) = &**root {
        match branch.children.as_slice() {
            [] => *root = Arc::new(Node::Leaf(Vec::new())),
            [only] => *root = Arc::clone(&only.node),
            _ => break,
        }
    }
}

impl<K: Clone, V: Clone + Weight> Branch<K, V> {
    /// Brings child `i`, which may have grown or shrunk by one, back within its limits.
    fn mend(&mut self, i: usize, on_edge: bool) {
        let child = &self.children[i].node;
        let (len, max) = (child.len(), child.max());
        if len > max {
            // Appending leaves full nodes behind.
            let keep = if on_edge { max } else { len / 2 };
            self.split(i, keep);
        } else if len == 0 {
            self.children.remove(i);
            if !self.keys.is_empty() {
                self.keys.remove(i.saturating_sub(1));
            }
        } else if len < child.min() && self.children.len() > 1 {
            self.merge(i.saturating_sub(1));
        }
    }

    /// Splits child `i`, which keeps `keep` of its entries or children.
    fn split(&mut self, i: usize, keep: usize) {
        let (key, right) = match Arc::make_mut(&mut self.children[i].node) {
            Node::Leaf(entries) => {
                let right = split_at(entries, keep);
                (right[0].0.clone(), Node::Leaf(right))
            }
            Node::Branch(branch) => {
                let children = split_at(&mut branch.children, keep);
                let keys = split_at(&mut branch.keys, keep);
                let key = branch.keys.pop().expect("a key between the halves");
                (key, Node::Branch(Branch { keys, children }))
            }
        };
        let right = Child::new(right);
        let left = &mut self.children[i];
        left.weight = left.node.weight();
        insert_at(&mut self.keys, i, key);
        insert_at(&mut self.children, i + 1, right);
    }

    /// Merges children `i` and `i + 1`, or balances them when that would make too full a node.
    fn merge(&mut self, i: usize) {
        let right = self.children.remove(i + 1);
        let key = self.keys.remove(i);
        let left = &mut self.children[i];
        left.weight += right.weight;
        match (
            Arc::make_mut(&mut left.node),
            Arc::unwrap_or_clone(right.node),
        ) {
            (Node::Leaf(left), Node::Leaf(right)) => left.extend(right),
            (Node::Branch(left), Node::Branch(right)) => {
                left.keys.push(key);
                left.keys.extend(right.keys);
                left.children.extend(right.children);
            }
            _ => unreachable!("all leaves are equally deep"),
        }
        let len = left.node.len();
        // Not quite full, so that the next insertion does not split again.
        if len > left.node.max() / 4 * 3 {
            self.split(i, len / 2);
        }
    }
}

/// The number of branches above each leaf.
pub(super) fn depth<K, V>(node: &Node<K, V>) -> usize {
    let mut depth = 0;
    let mut node = node;
    while let Node::Branch(branch) = node {
        depth += 1;
        node = &branch.children[0].node;
    }
    depth
}

/// Verifies the invariants of a node within `[low, high)`, adds its entries to `count`, and
/// returns its weight.
pub(super) fn check<K: Ord, V: Weight>(
    node: &Node<K, V>,
    (low, high): (Option<&K>, Option<&K>),
    depth: usize,
    exempt: bool,
    count: &mut usize,
) -> usize {
    assert!(node.len() <= node.max(), "a node with too much");
    assert!(exempt || node.len() >= node.min(), "a node with too little");
    match node {
        Node::Leaf(entries) => {
            assert_eq!(depth, 0, "a leaf not as deep as others");
            assert!(entries.is_sorted_by(|(a, _), (b, _)| a < b), "leaf order");
            if let (Some((first, _)), Some(low)) = (entries.first(), low) {
                assert!(first >= low, "an entry before its leaf");
            }
            if let (Some((last, _)), Some(high)) = (entries.last(), high) {
                assert!(last < high, "an entry after its leaf");
            }
            *count += entries.len();
            entries.iter().map(|(_, v)| v.weight()).sum()
        }
        Node::Branch(Branch { keys, children }) => {
            assert_eq!(keys.len() + 1, children.len(), "keys of a branch");
            let mut total = 0;
            for (i, child) in children.iter().enumerate() {
                let low = if i == 0 { low } else { Some(&keys[i - 1]) };
                let high = keys.get(i).or(high);
                let exempt = exempt && i + 1 == children.len();
                assert!(child.node.len() > 0, "an empty node");
                let weight = check(&child.node, (low, high), depth - 1, exempt, count);
                assert_eq!(child.weight, weight, "weight of a child");
                total += weight;
            }
            total
        }
    }
}

/// The number of leaves.
#[cfg(test)]
pub(super) fn leaves<K, V>(node: &Node<K, V>) -> usize {
    match node {
        Node::Leaf(_) => 1,
        Node::Branch(branch) => branch.children.iter().map(|c| leaves(&c.node)).sum(),
    }
}
