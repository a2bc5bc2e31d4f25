//! The tree against a `BTreeMap`. Nodes are small under test, so that a thousand entries are four levels.

use std::collections::BTreeMap;
use std::ops::Bound::{self, Excluded, Included, Unbounded};

use super::*;
use crate::testing::{Random, scale};

type Tree = CowTree<u32, u32>;
type Model = BTreeMap<u32, u32>;

impl Weight for u32 {
    fn weight(&self) -> usize {
        (*self % 3) as usize
    }
}

fn total<'a>(values: impl Iterator<Item = &'a u32>) -> usize {
    values.map(Weight::weight).sum()
}

fn bound(random: &mut Random, keys: u32) -> Bound<u32> {
    match random.below(6) {
        0 => Unbounded,
        1..=3 => Included(random.below(keys)),
        _ => Excluded(random.below(keys)),
    }
}

/// Whether `key` is between the bounds, said without an order of the bounds.
fn within(key: u32, from: Bound<u32>, to: Bound<u32>) -> bool {
    let above = match from {
        Included(low) => key >= low,
        Excluded(low) => key > low,
        Unbounded => true,
    };
    above
        && match to {
            Included(high) => key <= high,
            Excluded(high) => key < high,
            Unbounded => true,
        }
}

#[track_caller]
fn assert_same(tree: &Tree, model: &Model) {
    tree.check();
    assert!(tree.iter().eq(model.iter()), "content");
    assert_eq!(tree.len(), model.len());
    assert_eq!(tree.is_empty(), model.is_empty());
    assert_eq!(tree.weight(), total(model.values()));
}

#[track_caller]
fn assert_same_range(tree: &Tree, model: &Model, from: Bound<u32>, to: Bound<u32>) {
    let expected = || model.iter().filter(|(k, _)| within(**k, from, to));
    assert!(tree.range(from.as_ref(), to.as_ref()).eq(expected()));
    assert_eq!(
        tree.weight_in(from.as_ref(), to.as_ref()),
        total(expected().map(|(_, v)| v))
    );
    let heavy = |(_, v): &(&u32, &u32)| v.weight() > 0;
    assert!(
        tree.range_weighted(from.as_ref(), to.as_ref())
            .filter(heavy)
            .eq(expected().filter(heavy))
    );
}

/// One random operation on both.
fn step(random: &mut Random, tree: &mut Tree, model: &mut Model, keys: u32, removals: u32) {
    let key = random.below(keys);
    let value = random.below(100);
    if random.below(100) < removals {
        assert_eq!(tree.remove(&key), model.remove(&key));
        return;
    }
    match random.below(4) {
        0 | 1 => assert_eq!(tree.insert(key, value), model.insert(key, value)),
        2 => {
            let change = |v: &mut u32| {
                *v = v.wrapping_mul(7).wrapping_add(value);
                *v
            };
            assert_eq!(tree.update(&key, change), model.get_mut(&key).map(change));
        }
        _ => {
            let expected = *model.entry(key).and_modify(|v| *v += 1).or_insert(value);
            let add = || (key, value, value);
            let change = |v: &mut u32| {
                *v += 1;
                *v
            };
            assert_eq!(tree.upsert(&key, add, change), expected);
        }
    }
}

#[test]
fn random_operations_equal_a_btree_map() {
    let seed = Random::seed("cow_tree::random_operations");
    let mut random = Random::new(seed);
    for round in 0..8 * scale() {
        let keys = [5, 60, 1_000, 10_000][round % 4];
        let (mut tree, mut model) = (Tree::new(), Model::new());
        let mut clones: Vec<(Tree, Model)> = Vec::new();
        for i in 0..30_000 {
            // Waves of growth and decline.
            let removals = if (i / 5_000) % 2 == 0 { 25 } else { 75 };
            step(&mut random, &mut tree, &mut model, keys, removals);
            assert_eq!(tree.len(), model.len());
            let key = random.below(keys);
            assert_eq!(tree.get(&key), model.get(&key));
            if i % 64 == 0 {
                let (from, to) = (bound(&mut random, keys), bound(&mut random, keys));
                assert_same_range(&tree, &model, from, to);
            }
            if i % 512 == 0 {
                tree.check();
            }
            if random.below(1_000) == 0 {
                if clones.len() == 4 {
                    let (tree, model) = clones.swap_remove(random.below(4) as usize);
                    assert_same(&tree, &model);
                }
                clones.push((tree.clone(), model.clone()));
            }
        }
        assert_same(&tree, &model);
        for (tree, model) in &clones {
            assert_same(tree, model);
        }
    }
}

#[test]
fn a_clone_after_every_change_keeps_its_content() {
    let mut random = Random::new(Random::seed("cow_tree::clone_after_every_change"));
    let (mut tree, mut model) = (Tree::new(), Model::new());
    let mut clones = Vec::new();
    for i in 0..2_000 {
        let removals = if i < 1_000 { 10 } else { 80 };
        step(&mut random, &mut tree, &mut model, 500, removals);
        clones.push((tree.clone(), model.clone()));
    }
    for (tree, model) in &clones {
        assert_same(tree, model);
    }
}

#[test]
fn every_range_of_a_small_tree() {
    for len in [0, 1, 7, 8, 9, 40, 70] {
        let model: Model = (0..len).map(|i| (2 * i + 1, i)).collect();
        let tree = Tree::from_sorted(model.clone());
        let bounds = || {
            let keys = 0..2 * len + 2;
            std::iter::once(Unbounded).chain(keys.flat_map(|key| [Included(key), Excluded(key)]))
        };
        for from in bounds() {
            for to in bounds() {
                assert_same_range(&tree, &model, from, to);
            }
        }
    }
}

#[test]
fn bulk_built_trees_are_like_others() {
    let mut random = Random::new(Random::seed("cow_tree::bulk_built"));
    for len in (0..200).chain([1_000, 10_000]) {
        let mut model: Model = (0..len).map(|i| (3 * i, i)).collect();
        let mut tree = Tree::from_sorted(model.clone());
        assert_same(&tree, &model);
        for _ in 0..300 {
            step(&mut random, &mut tree, &mut model, 3 * len + 1, 50);
        }
        assert_same(&tree, &model);
    }
}

#[test]
fn appending_and_emptying_in_every_direction() {
    const N: u32 = 3_000;
    let orders: [fn(u32) -> u32; 3] = [|i| i, |i| N - 1 - i, |i| i * 7 % N];
    for fill in orders {
        for empty in orders {
            let (mut tree, mut model) = (Tree::new(), Model::new());
            for i in (0..N).map(fill) {
                tree.insert(i, i);
                model.insert(i, i);
            }
            assert_same(&tree, &model);
            for (n, i) in (0..N).map(empty).enumerate() {
                assert_eq!(tree.remove(&i), model.remove(&i));
                if n % 64 == 0 {
                    tree.check();
                }
            }
            assert_same(&tree, &Model::new());
        }
    }
}

#[test]
fn appending_fills_the_leaves() {
    let mut tree = Tree::new();
    for i in 0..1_000 {
        tree.insert(i, i);
    }
    assert_eq!(node::leaves(&tree.root), 1_000 / 8);
}

#[test]
fn only_shared_nodes_are_copied() {
    let mut tree = Tree::from_sorted((0..10_000).map(|i| (2 * i, i)));
    let leaf = |tree: &Tree, key: u32| tree.get(&key).map(|v| v as *const u32).unwrap();

    let before = leaf(&tree, 100);
    tree.update(&100, |v| *v += 1).unwrap();
    assert_eq!(leaf(&tree, 100), before, "unshared: in place");

    let published = tree.clone();
    assert_eq!(tree.remove(&101), None);
    assert_eq!(tree.update(&101, |v| *v), None);
    assert_eq!(leaf(&tree, 100), before, "a miss copies nothing");

    tree.update(&100, |v| *v += 1).unwrap();
    let copy = leaf(&tree, 100);
    assert_ne!(copy, before, "shared: copied");
    assert_eq!(leaf(&published, 100), before);
    assert_eq!(
        leaf(&tree, 10_000),
        leaf(&published, 10_000),
        "the rest is shared"
    );
    tree.update(&100, |v| *v += 1).unwrap();
    assert_eq!(leaf(&tree, 100), copy, "copied once");
    assert_eq!(
        (published.get(&100), tree.get(&100)),
        (Some(&51), Some(&53))
    );
}
