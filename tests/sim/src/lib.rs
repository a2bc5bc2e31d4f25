//! Whole clusters in one thread, from one seed.
//!
//! What runs is real: the consensus core and its driver's machine, the write-ahead log, snapshot
//! files, the database in etcd's format, the key-value store, transactions, membership. What is
//! simulated is what a member stands on: disk (with everything unsynced lost, or torn, in a crash),
//! network (loss, delay, reordering, duplicates, one-way cuts), and time (each member's own clock).
//!
//! [`run`] runs one seed: faults first, then all is healed, and within ten seconds everything must
//! be committed and equal everywhere. A [`Mutant`] plants a fault that must be found.

mod admin;
mod client;
mod history;
mod logger;
mod member;
mod mutant;
mod nemesis;
mod network;
mod plan;
mod ports;
mod random;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use mutant::Mutant;
pub use plan::Plan;
pub use world::Summary;

/// Runs one seed. The same seed does the same in every run.
///
/// # Errors
/// What went wrong first, with the command that shows it again.
pub fn run(seed: u64, mutant: Option<Mutant>) -> Result<Summary, String> {
    let plan = Plan::of(seed);
    let result = catch_unwind(AssertUnwindSafe(|| world::World::new(plan, mutant).run()));
    let result = result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("without a text")))
    });
    result.map_err(|why| {
        let mutant = mutant.map_or(String::new(), |m| format!(" RETCD_SIM_MUTANT={m:?}"));
        format!(
            "seed {seed}: {why}\nto see it again: \
             RETCD_SIM_SEED={seed}{mutant} cargo test -p retcd-sim --test seeds replay -- --nocapture"
        )
    })
}
