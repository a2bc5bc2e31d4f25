//! Planted faults: the simulation must find each of them, or it proves nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use retcd_sim::{Mutant, run};

/// Seeds that a mutant may survive; `RETCD_SIM_MUTANT_SEEDS`.
fn limit() -> u64 {
    std::env::var("RETCD_SIM_MUTANT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000)
}

#[test]
fn every_mutant_is_caught() {
    // Panics are findings here, and many.
    std::panic::set_hook(Box::new(|_| {}));
    let limit = limit();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<(usize, String)>> = Mutex::default();
    let survivors: Mutex<Vec<Mutant>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(mutant) = Mutant::ALL.get(at) else {
                        return;
                    };
                    let caught = (1..=limit).find_map(|seed| {
                        let why = run(seed, Some(*mutant)).err()?;
                        Some((seed, why))
                    });
                    match caught {
                        Some((seed, why)) => {
                            let why = why.lines().next().unwrap_or_default().to_owned();
                            let line = format!("{mutant:?}: caught by seed {seed}: {why}");
                            found.lock().unwrap().push((at, line));
                        }
                        None => survivors.lock().unwrap().push(*mutant),
                    }
                }
            });
        }
    });
    let _ = std::panic::take_hook();
    let mut found = found.into_inner().unwrap();
    found.sort();
    for (_, line) in &found {
        println!("{line}");
    }
    let survivors = survivors.into_inner().unwrap();
    assert!(survivors.is_empty(), "not caught by {limit} seeds: {survivors:?}");
}
