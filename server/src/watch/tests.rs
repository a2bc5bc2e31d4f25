//! Random histories, watched by random clients, against a model that knows all that ever happened.
//!
//! Everything runs on one thread in an order that the seed decides: writes, publications (some of which are
//! lost on the way), the hub, clients that create, cancel, read much, little or not at all, and compactions.
//! The bounds are so small under test that every queue is full again and again.
//!
//! Of etcd's own faults it guards W1, W2, W3 (lost batches are what an installed snapshot is), W4, W6, W8, W11, W12.
//!
//! `RETCD_TEST_SEED` repeats a run, `RETCD_TEST_SCALE` multiplies their number.

mod model;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use model::Random;
use world::World;

use crate::error::Error;
use crate::mutant::{self, Mutant};

/// Runs at scale 1.
const RUNS: u64 = 200;
/// What happens in each.
const STEPS: usize = 250;

fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One run; how often what happened in it.
fn play(seed: u64, run: u64) -> BTreeMap<&'static str, u64> {
    let mut world = World::new(Random::new(seed.wrapping_mul(1_000_003).wrapping_add(run)));
    let played = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
    }));
    if let Err(panic) = played {
        println!("run {run} of seed {seed}; the last steps:");
        for line in world.log.iter().rev().take(40).rev() {
            println!("  {line}");
        }
        // What is wrong may also be wrong at its end.
        std::mem::forget(world);
        resume_unwind(panic);
    }
    world.counts
}

/// A model that lets faults pass proves nothing.
#[test]
fn planted_faults_are_found() {
    let mutants = [
        Mutant::HandOverDrops,
        Mutant::HandOverRepeats,
        Mutant::FallsTooFar,
        Mutant::LossUnnoticed,
        Mutant::PrevKvIsNew,
        Mutant::FiltersSwapped,
        Mutant::ProgressTooEarly,
        Mutant::RevisionSplit,
        Mutant::CompactedUntold,
        Mutant::EventsAfterCancel,
        Mutant::HeaderTooNew,
        Mutant::RangeEndInclusive,
    ];
    let found = |mutant: &Mutant| mutant::find(*mutant, RUNS, |run| drop(play(1, run))).is_some();
    let survivors: Vec<_> = mutants
        .into_iter()
        .filter(|mutant| !found(mutant))
        .collect();
    assert!(
        survivors.is_empty(),
        "not found in {RUNS} runs: {survivors:?}"
    );
}

#[test]
fn every_watcher_sees_what_it_should_once_and_in_order() {
    let seed = number("RETCD_TEST_SEED", 1);
    let runs = RUNS * number("RETCD_TEST_SCALE", 1);
    println!("RETCD_TEST_SEED={seed}");
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for run in 0..runs {
        for (name, count) in play(seed, run) {
            *counts.entry(name).or_default() += count;
        }
    }
    println!("{counts:?}");
    for name in [
        "events",
        "fell",
        "joined",
        "lost batches",
        "compacted",
        "progress",
        "notified",
        "canceled",
        "several revisions",
        "prev_kv",
        "prev_kv compacted",
        "fragments",
        "filtered",
        "future",
    ] {
        assert!(
            counts.get(name).is_some_and(|n| *n >= runs / 10),
            "too few: {name}: {counts:?}"
        );
    }
}

#[test]
fn a_stream_that_wants_a_leader_ends_without_one() {
    let world = World::new(Random::new(1));
    assert_eq!(world.without_leader(), [Err(Error::NoLeader)]);
}

#[test]
fn streams_end_when_the_service_stops() {
    let ends = World::new(Random::new(1)).stopped();
    assert_eq!(ends, [[Err(Error::Stopped)], [Err(Error::Stopped)]]);
}
