//! Seeds, as many as there is time for.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use retcd_sim::{Mutant, Summary, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs `RETCD_SIM_SEEDS` seeds (200 by default) from `RETCD_SIM_FROM` on, on all cores.
#[test]
fn every_seed_holds() {
    let count = number("RETCD_SIM_SEEDS").unwrap_or(200);
    let from = number("RETCD_SIM_FROM").unwrap_or(1);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(from);
    let failed: Mutex<Vec<String>> = Mutex::default();
    let total: Mutex<Summary> = Mutex::default();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    match run(seed, None) {
                        Ok(summary) => add(&mut total.lock().unwrap(), &summary),
                        Err(why) => failed.lock().unwrap().push(why),
                    }
                }
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let total = total.into_inner().unwrap();
    let seconds = total.simulated as f64 / 1e6;
    println!(
        "simulated: {count} seeds from {from}, {seconds:.0} s in {took:.1} s on {threads} cores \
         ({:.0} simulated seconds per core and second); {} events, {} calls answered and {} unknown, \
         {} entries, {} terms with a leader, {} crashes, {} databases installed, \
         {} appends dropped, {} membership changes",
        seconds / took / threads as f64,
        total.events,
        total.answered,
        total.unknown,
        total.entries,
        total.leaders,
        total.crashes,
        total.installed,
        total.dropped,
        total.changes
    );
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "{} of {count} seeds failed:\n{}",
        failed.len(),
        failed.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n")
    );
    if count >= 100 {
        // A simulation in which nothing happens would hold as well.
        assert!(total.answered > 50 * count, "{total:?}");
        assert!(total.crashes > count && total.installed > count / 2);
        assert!(total.dropped > count);
        assert!(total.changes > count / 2 && total.leaders > 2 * count);
    }
}

fn add(total: &mut Summary, one: &Summary) {
    total.simulated += one.simulated;
    total.events += one.events;
    total.answered += one.answered;
    total.unknown += one.unknown;
    total.entries += one.entries;
    total.leaders += one.leaders;
    total.crashes += one.crashes;
    total.installed += one.installed;
    total.dropped += one.dropped;
    total.changes += one.changes;
}

/// A seed does the same every time, to the last event.
#[test]
fn a_seed_repeats_exactly() {
    for seed in [3, 7, 12, 25] {
        assert_eq!(run(seed, None), run(seed, None));
    }
}

/// `RETCD_SIM_SEED=n cargo test -p retcd-sim --test seeds replay -- --nocapture`
#[test]
fn replay() {
    let Some(seed) = number("RETCD_SIM_SEED") else {
        return;
    };
    let mutant = std::env::var("RETCD_SIM_MUTANT").ok();
    let mutant = mutant.map(|name| Mutant::named(&name).expect("the name of a mutant"));
    println!("{:#?}", retcd_sim::Plan::of(seed));
    match run(seed, mutant) {
        Ok(summary) => println!("{summary:#?}"),
        Err(why) => panic!("{why}"),
    }
}
