//! Clusters of genuine members and ours, in all mixes, through random days: load, kills, restarts, pauses, other leaders,
//! compactions, snapshots in both directions, members that come and go, servers that take over each other's directories.
//! At the end everything acknowledged is there, and all members have the same history, byte for byte.
//!
//! `RETCD_MIXED_RUNS` sets the number of random runs (2 by default), `RETCD_MIXED_SEED` the first seed,
//! `RETCD_MIXED_KINDS` the members (`GGO`: two of Go's 3.7, one of ours; `6` is Go's 3.6), `RETCD_MIXED_STEPS` how long a
//! run is, `RETCD_REWRITE=1` adds what Go's members complain of, in runs of Go's alone, to the list of what is allowed.

mod by_etcdctl;
mod complaints;
mod model;
mod run;
mod scenes;
mod sockets;

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use retcd_tests::nodes::Kind;
use retcd_tests::random::Random;
use run::Run;

/// Runs that wait for elections and for each other's start more than they work.
const AT_ONCE: usize = 10;

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().and_then(|s| s.parse().ok()).unwrap_or(default)
}

/// The members that a run begins with.
fn kinds(random: &mut Random) -> Vec<Kind> {
    let mixes = ["GGO", "OOG", "GOG", "OGO", "OOO", "GOO", "OGG"];
    let mix = mixes[usize::try_from(random.next() % mixes.len() as u64).expect("a small number")];
    Kind::parse(&env::var("RETCD_MIXED_KINDS").unwrap_or_else(|_| mix.to_owned()))
}

#[test]
fn random_runs() {
    let (runs, first) = (number("RETCD_MIXED_RUNS", 2), number("RETCD_MIXED_SEED", 1));
    let steps = number("RETCD_MIXED_STEPS", 8);
    let next = AtomicU64::new(first);
    let failed = thread::scope(|scope| {
        let one = || -> Result<(), String> {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + runs {
                    return Ok(());
                }
                play(seed, steps)?;
            }
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one)).collect();
        workers.into_iter().filter_map(|w| w.join().expect("caught before").err()).collect::<Vec<_>>()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// One run; an error is the command that repeats it.
fn play(seed: u64, steps: u64) -> Result<(), String> {
    let mut random = Random::new(seed);
    let kinds = kinds(&mut random);
    let letters: String = kinds.iter().map(|k| k.letter()).collect();
    let played = std::panic::catch_unwind(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let Some(mut run) = Run::start(&kinds, random).await else { return };
            run.steps(steps).await;
            println!("seed {seed} {letters}: {}", run.finish().await);
        });
    });
    played.map_err(|_| {
        format!(
            "a run failed. Again: RETCD_MIXED_KINDS={letters} RETCD_MIXED_SEED={seed} RETCD_MIXED_STEPS={steps} \
             RETCD_MIXED_RUNS=1 cargo test --workspace --test mixed random_runs"
        )
    })
}
