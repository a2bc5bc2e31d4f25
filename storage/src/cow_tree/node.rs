//! The nodes of the tree and the repair of their balance.

use std::borrow::Borrow;
use std::ops::Bound;
use std::sync::Arc;

use super::{At, Weight};

// Small under test, so that small trees are deep.
/// Most entries in a leaf.
const LEAF_MAX: usize = if cfg!(test) { 8 } else { 48 };
/// Most children of a branch.
const BRANCH_MAX: usize = if cfg!(test) { 8 } else { 16 };
/// How full a bulk build makes a leaf: the next insertion need not split it.
pub(super) const LEAF_FILL: usize = LEAF_MAX - LEAF_MAX / 8;
/// How full a bulk build makes a branch.
pub(super) const BRANCH_FILL: usize = BRANCH_MAX - BRANCH_MAX / 8;
/// Room that a growing node gets at a time; doubling would leave half of a node empty.
const SLACK: usize = 4;

/// A node; all leaves are equally deep. Everything of a node is in one allocation beside its
/// `Arc`: a lookup waits for memory more than for anything else.
pub(super) enum Node<K, V> {
    /// Entries in strictly ascending key order.
    Leaf(Vec<(K, V)>),
    /// Never empty.
    Branch(Vec<Child<K, V>>),
}

pub(super) struct Child<K, V> {
    /// Not above any key below `node`, but above all keys below the child before. The first
    /// child of a branch has the key of the branch; on the left edge of the tree it means nothing.
    pub(super) key: K,
    pub(super) node: Arc<Node<K, V>>,
    /// The total weight of the entries below `node`.
    pub(super) weight: usize,
}

impl<K: Clone, V> Clone for Child<K, V> {
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone(),
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
            Self::Branch(children) => Self::Branch(roomy_clone(children)),
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

/// The child below which `key` is or belongs.
pub(super) fn child_of<K, V, Q>(children: &[Child<K, V>], key: &Q) -> usize
where
    K: Borrow<Q>,
    Q: Ord + ?Sized,
{
    children[1..].partition_point(|child| child.key.borrow() <= key)
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
    pub(super) fn child<K: Borrow<Q>, V>(&self, children: &[Child<K, V>]) -> usize {
        match self {
            Self::First => 0,
            Self::Before(key) | Self::After(key) => child_of(children, *key),
            Self::Last => children.len() - 1,
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
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Branch(children) => children.len(),
        }
    }

    pub(super) fn max(&self) -> usize {
        match self {
            Self::Leaf(_) => LEAF_MAX,
            Self::Branch(_) => BRANCH_MAX,
        }
    }

    /// Fewer would be merged with a neighbour.
    pub(super) fn min(&self) -> usize {
        self.max() / 4
    }
}

impl<K, V: Weight> Node<K, V> {
    fn weight(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.iter().map(|(_, v)| v.weight()).sum(),
            Self::Branch(children) => children.iter().map(|c| c.weight).sum(),
        }
    }
}

impl<K, V: Weight> Child<K, V> {
    pub(super) fn new(key: K, node: Node<K, V>) -> Self {
        Self {
            key,
            weight: node.weight(),
            node: Arc::new(node),
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
        Node::Branch(children) => {
            let i = child_of(children, key);
            let on_edge = on_edge && i + 1 == children.len();
            let child = &mut children[i];
            let (result, weight) = edit(&mut child.node, key, on_edge, op);
            child.weight = child.weight.wrapping_add_signed(weight);
            mend(children, i, on_edge);
            (result, weight)
        }
    }
}

/// Makes the root a node again that needs no parent.
pub(super) fn mend_root<K: Clone, V: Clone + Weight>(root: &mut Arc<Node<K, V>>) {
    if root.len() > root.max() {
        let right = split(root, root.max());
        let left = Child {
            key: right.key.clone(), // means nothing
            weight: root.weight(),
            node: Arc::clone(root),
        };
        *root = Arc::new(Node::Branch(vec![left, right]));
    }
    while let Node::Branch(children) = &**root {
        match children.as_slice() {
            [] => *root = Arc::new(Node::Leaf(Vec::new())),
            [only] => *root = Arc::clone(&only.node),
            _ => break,
        }
    }
}

/// Brings child `i`, which may have grown or shrunk by one, back within its limits.
fn mend<K: Clone, V: Clone + Weight>(children: &mut Vec<Child<K, V>>, i: usize, on_edge: bool) {
    let child = &children[i].node;
    let (len, max) = (child.len(), child.max());
    if len > max {
        // Appending leaves full nodes behind.
        split_child(children, i, if on_edge { max } else { len / 2 });
    } else if len == 0 {
        children.remove(i);
    } else if len < child.min() && children.len() > 1 {
        merge(children, i.saturating_sub(1));
    }
}

/// Splits child `i`, which keeps `keep` of its entries or children.
fn split_child<K: Clone, V: Clone + Weight>(
    children: &mut Vec<Child<K, V>>,
    i: usize,
    keep: usize,
) {
    let child = &mut children[i];
    let right = split(&mut child.node, keep);
    child.weight = child.node.weight();
    insert_at(children, i + 1, right);
}

/// Takes everything after the first `keep` entries or children out of `node`.
fn split<K: Clone, V: Clone + Weight>(node: &mut Arc<Node<K, V>>, keep: usize) -> Child<K, V> {
    match Arc::make_mut(node) {
        Node::Leaf(entries) => {
            let right = split_at(entries, keep);
            Child::new(right[0].0.clone(), Node::Leaf(right))
        }
        Node::Branch(children) => {
            let right = split_at(children, keep);
            Child::new(right[0].key.clone(), Node::Branch(right))
        }
    }
}

/// Merges children `i` and `i + 1`, or balances them when that would make too full a node.
fn merge<K: Clone, V: Clone + Weight>(children: &mut Vec<Child<K, V>>, i: usize) {
    let right = children.remove(i + 1);
    let left = &mut children[i];
    left.weight += right.weight;
    let mut taken = Arc::unwrap_or_clone(right.node);
    match (Arc::make_mut(&mut left.node), &mut taken) {
        (Node::Leaf(left), Node::Leaf(right)) => left.append(right),
        (Node::Branch(left), Node::Branch(right)) => left.append(right),
        _ => unreachable!("all leaves are equally deep"),
    }
    let len = left.node.len();
    // Not quite full, so that the next insertion does not split again.
    if len > left.node.max() / 4 * 3 {
        split_child(children, i, len / 2);
    }
}

/// The number of branches above each leaf.
pub(super) fn depth<K, V>(node: &Node<K, V>) -> usize {
    let mut depth = 0;
    let mut node = node;
    while let Node::Branch(children) = node {
        depth += 1;
        node = &children[0].node;
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
        Node::Branch(children) => {
            let mut total = 0;
            for (i, child) in children.iter().enumerate() {
                if let (0, Some(low)) = (i, low) {
                    assert!(
                        child.key == *low,
                        "the first child has the key of the branch"
                    );
                }
                let low = if i == 0 { low } else { Some(&child.key) };
                let high = children.get(i + 1).map(|next| &next.key).or(high);
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
        Node::Branch(children) => children.iter().map(|c| leaves(&c.node)).sum(),
    }
}
