//! Iteration in key order.

use std::borrow::Borrow;
use std::iter::FusedIterator;
use std::{ptr, slice};

use super::node::{Child, Edge, Node};

/// Entries of a [`CowTree`](super::CowTree) in key order.
///
/// Holds the path to the current leaf. The nodes of the path to the last entry are "on the
/// border": there only part of a node belongs to the range.
pub struct Iter<'a, K, V> {
    /// What remains of the current leaf.
    entries: slice::Iter<'a, (K, V)>,
    /// Entries of the border's leaf that belong to the range.
    end: usize,
    /// The branches of the path, root first.
    levels: Vec<Level<'a, K, V>>,
    /// Step over children without weight.
    weighted: bool,
}

struct Level<'a, K, V> {
    /// Children still to visit.
    rest: slice::Iter<'a, Child<K, V>>,
    /// The current branch is on the border.
    on_border: bool,
    /// Children of the border's branch at this level that belong to the range.
    end: usize,
}

impl<'a, K, V> Level<'a, K, V> {
    fn enter(&mut self, children: &'a [Child<K, V>], on_border: bool) {
        let end = if on_border { self.end } else { children.len() };
        self.rest = children[..end].iter();
        self.on_border = on_border;
    }

    /// The next child, and whether it is on the border.
    fn next(&mut self, weighted: bool) -> Option<(&'a Child<K, V>, bool)> {
        let child = self.rest.find(|child| !weighted || child.weight > 0)?;
        Some((child, self.on_border && self.rest.len() == 0))
    }
}

impl<'a, K, V> Iter<'a, K, V> {
    pub(super) fn new<Q>(
        root: &'a Node<K, V>,
        from: &Edge<'_, Q>,
        to: &Edge<'_, Q>,
        weighted: bool,
    ) -> Self
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut levels = Vec::with_capacity(8);
        let mut on_border = true;
        let (mut first, mut last) = (root, root);
        loop {
            match (first, last) {
                (Node::Branch(a), Node::Branch(b)) => {
                    let start = from.child(a);
                    let end = to.child(b);
                    debug_assert_eq!(on_border, ptr::eq(a, b));
                    let children = if on_border {
                        a.get(..=end).unwrap_or_default()
                    } else {
                        a
                    };
                    let Some(rest) = children.get(start + 1..) else {
                        return Self::empty();
                    };
                    levels.push(Level {
                        rest: rest.iter(),
                        on_border,
                        end: end + 1,
                    });
                    on_border = on_border && rest.is_empty();
                    first = &a[start].node;
                    last = &b[end].node;
                }
                (Node::Leaf(a), Node::Leaf(b)) => {
                    let end = to.entry(b);
                    let entries = if on_border { &a[..end] } else { a };
                    let entries = entries.get(from.entry(a)..).unwrap_or_default().iter();
                    return Self {
                        entries,
                        end,
                        levels,
                        weighted,
                    };
                }
                _ => unreachable!("all leaves are equally deep"),
            }
        }
    }

    fn empty() -> Self {
        Self {
            entries: [].iter(),
            end: 0,
            levels: Vec::new(),
            weighted: false,
        }
    }

    /// Moves to the next leaf.
    fn advance(&mut self) -> Option<()> {
        let mut depth = self.levels.len().checked_sub(1)?;
        loop {
            let Some((child, on_border)) = self.levels[depth].next(self.weighted) else {
                depth = depth.checked_sub(1)?;
                continue;
            };
            match &*child.node {
                Node::Branch(children) => {
                    depth += 1;
                    self.levels[depth].enter(children, on_border);
                }
                Node::Leaf(entries) => {
                    let end = if on_border { self.end } else { entries.len() };
                    self.entries = entries[..end].iter();
                    return Some(());
                }
            }
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.entries.next() {
                return Some((key, value));
            }
            self.advance()?;
        }
    }
}

impl<K, V> FusedIterator for Iter<'_, K, V> {}
