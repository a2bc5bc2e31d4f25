//! Ranges of keys, and which of them hold a key: a search tree over their starts, where every node knows how
//! far its subtree reaches. Balanced by chance (a treap), so that no order of insertion makes it deep.

use std::cmp::Ordering;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use bytes::Bytes;

/// `[start, end)`; without an end everything from `start` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: Bytes,
    pub(super) end: Option<Bytes>,
}

impl Range {
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.start <= key && reaches(self.end.as_ref(), key)
    }

    fn order(&self, other: &Self) -> Ordering {
        let starts = self.start.cmp(&other.start);
        starts.then_with(|| farther(self.end.as_ref(), other.end.as_ref()))
    }
}

/// Whether what ends at `end` goes beyond `key`.
fn reaches(end: Option<&Bytes>, key: &[u8]) -> bool {
    end.is_none_or(|end| end > key || planted!(RangeEndInclusive) && end == key)
}

/// Compares ends.
fn farther(a: Option<&Bytes>, b: Option<&Bytes>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(b),
    }
}

type Link<T> = Option<Box<Node<T>>>;

struct Node<T> {
    range: Range,
    /// The farthest end in the subtree.
    reach: Option<Bytes>,
    /// No child has a higher one.
    priority: u64,
    /// Never empty.
    entries: Vec<T>,
    left: Link<T>,
    right: Link<T>,
}

impl<T> Node<T> {
    fn update(&mut self) {
        let children = [&self.left, &self.right];
        let reaches = children.into_iter().flatten().map(|child| &child.reach);
        let farthest = reaches.fold(&self.range.end, |farthest, reach| {
            match farther(reach.as_ref(), farthest.as_ref()) {
                Ordering::Greater => reach,
                _ => farthest,
            }
        });
        self.reach = farthest.clone();
    }
}

/// Entries by range; equal ranges share a node.
pub(super) struct Ranges<T> {
    root: Link<T>,
    chance: u64,
}

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self {
            root: None,
            // Not zero, where the generator would stay.
            chance: RandomState::new().build_hasher().finish() | 1,
        }
    }
}

impl<T> Ranges<T> {
    pub(super) fn insert(&mut self, range: &Range, entry: T) {
        // Marsaglia's xorshift.
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        insert(&mut self.root, range, entry, self.chance);
    }

    /// Removes the first entry of `range` for which `which` holds.
    pub(super) fn remove(&mut self, range: &Range, which: impl Fn(&T) -> bool) -> Option<T> {
        remove(&mut self.root, range, &which)
    }

    /// Shows all entries whose range holds `key`.
    pub(super) fn stab<'a>(&'a self, key: &[u8], show: &mut impl FnMut(&'a T)) {
        stab(&self.root, key, show);
    }
}

fn insert<T>(link: &mut Link<T>, range: &Range, entry: T, priority: u64) {
    let Some(node) = link else {
        *link = Some(Box::new(Node {
            range: range.clone(),
            reach: range.end.clone(),
            priority,
            entries: vec![entry],
            left: None,
            right: None,
        }));
        return;
    };
    let side = range.order(&node.range);
    match side {
        Ordering::Equal => return node.entries.push(entry),
        Ordering::Less => insert(&mut node.left, range, entry, priority),
        Ordering::Greater => insert(&mut node.right, range, entry, priority),
    }
    let child = match side {
        Ordering::Less => &mut node.left,
        _ => &mut node.right,
    };
    let Some(mut child) = child.take_if(|child| child.priority > node.priority) else {
        return node.update();
    };
    // The child becomes the parent.
    let inner = match side {
        Ordering::Less => &mut child.right,
        _ => &mut child.left,
    };
    match side {
        Ordering::Less => node.left = inner.take(),
        _ => node.right = inner.take(),
    }
    node.update();
    *inner = link.take();
    child.update();
    *link = Some(child);
}

fn remove<T>(link: &mut Link<T>, range: &Range, which: &impl Fn(&T) -> bool) -> Option<T> {
    let node = link.as_mut()?;
    let removed = match range.order(&node.range) {
        Ordering::Less => remove(&mut node.left, range, which),
        Ordering::Greater => remove(&mut node.right, range, which),
        Ordering::Equal => {
            let at = node.entries.iter().position(which)?;
            Some(node.entries.swap_remove(at))
        }
    };
    if node.entries.is_empty() {
        let (left, right) = (node.left.take(), node.right.take());
        *link = merge(left, right);
    } else {
        node.update();
    }
    removed
}

/// Joins two trees, the first of which has the smaller ranges.
fn merge<T>(left: Link<T>, right: Link<T>) -> Link<T> {
    match (left, right) {
        (None, tree) | (tree, None) => tree,
        (Some(mut left), Some(mut right)) => {
            if left.priority > right.priority {
                left.right = merge(left.right.take(), Some(right));
                left.update();
                Some(left)
            } else {
                right.left = merge(Some(left), right.left.take());
                right.update();
                Some(right)
            }
        }
    }
}

fn stab<'a, T>(link: &'a Link<T>, key: &[u8], show: &mut impl FnMut(&'a T)) {
    let Some(node) = link else {
        return;
    };
    if !reaches(node.reach.as_ref(), key) {
        return;
    }
    stab(&node.left, key, show);
    if node.range.start <= key {
        if reaches(node.range.end.as_ref(), key) {
            node.entries.iter().for_each(&mut *show);
        }
        stab(&node.right, key, show);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn depth<T>(link: &Link<T>) -> usize {
        match link {
            None => 0,
            Some(node) => 1 + depth(&node.left).max(depth(&node.right)),
        }
    }

    fn check<T>(link: &Link<T>) {
        let Some(node) = link else { return };
        assert!(!node.entries.is_empty());
        for child in [&node.left, &node.right].into_iter().flatten() {
            assert!(child.priority <= node.priority);
            assert_ne!(
                farther(child.reach.as_ref(), node.reach.as_ref()),
                Ordering::Greater
            );
        }
        check(&node.left);
        check(&node.right);
    }

    fn any_key() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(0..4u8, 0..4).prop_map(Bytes::from)
    }

    fn any_range() -> impl Strategy<Value = Range> {
        (any_key(), proptest::option::of(any_key())).prop_map(|(start, end)| Range { start, end })
    }

    proptest! {
        #[test]
        fn holds_what_a_list_holds(
            steps in proptest::collection::vec((any_range(), any::<bool>()), 1..60),
            keys in proptest::collection::vec(any_key(), 1..20),
        ) {
            let mut tree = Ranges::default();
            let mut list: Vec<(Range, usize)> = Vec::new();
            for (n, (range, add)) in steps.into_iter().enumerate() {
                if add || list.is_empty() {
                    tree.insert(&range, n);
                    list.push((range, n));
                } else {
                    let (range, entry) = list.swap_remove(n % list.len());
                    prop_assert_eq!(tree.remove(&range, |e| *e == usize::MAX), None);
                    prop_assert_eq!(tree.remove(&range, |e| *e == entry), Some(entry));
                }
                check(&tree.root);
                for key in &keys {
                    let mut found = Vec::new();
                    tree.stab(key, &mut |entry| found.push(*entry));
                    let mut expected: Vec<_> =
                        list.iter().filter(|(r, _)| r.contains(key)).map(|(_, e)| *e).collect();
                    found.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }

    #[test]
    fn ascending_ranges_do_not_make_it_deep() {
        let mut tree = Ranges::default();
        for n in 0..20_000 {
            let start = Bytes::from(format!("{n:08}"));
            tree.insert(
                &Range {
                    end: Some(Bytes::from(format!("{n:08}0"))),
                    start,
                },
                n,
            );
        }
        assert!(depth(&tree.root) < 64, "{}", depth(&tree.root));
        let mut found = Vec::new();
        tree.stab(b"00012345", &mut |entry| found.push(*entry));
        assert_eq!(found, [12345]);
    }
}
