//! Faults that the tests plant, to see that they are found.
//!
//! In every other build `planted!` is the word `false`, and nothing else of this is there.

/// Whether a fault is planted, on this thread.
macro_rules! planted {
    ($mutant:ident) => {{
        #[cfg(test)]
        let planted = $crate::mutant::is_planted($crate::mutant::Mutant::$mutant);
        #[cfg(not(test))]
        let planted = false;
        planted
    }};
}

#[cfg(test)]
pub(crate) use of_tests::{Mutant, find, is_planted};

#[cfg(test)]
mod of_tests {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// What is wrong.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Mutant {
        /// Watch: who comes from history misses the first revision that the hub still has for it.
        HandOverDrops,
        /// Watch: who comes from history is given by the hub what it read there last.
        HandOverRepeats,
        /// Watch: who falls behind goes on behind the last revision that did not fit, not the first.
        FallsTooFar,
        /// Watch: the hub does not notice that published changes are missing.
        LossUnnoticed,
        /// Watch: `prev_kv` is the pair after the change.
        PrevKvIsNew,
        /// Watch: puts are filtered where deletes should be.
        FiltersSwapped,
        /// Watch: progress is told up to the store's revision, whatever the hub has handed out.
        ProgressTooEarly,
        /// Watch: events of a revision are handed out one by one.
        RevisionSplit,
        /// Watch: whose history is compacted is cancelled without the compacted revision.
        CompactedUntold,
        /// Watch: a cancel is answered, and nothing else.
        EventsAfterCancel,
        /// Watch: headers are one revision ahead.
        HeaderTooNew,
        /// Watch: the end of a range belongs to it.
        RangeEndInclusive,
        /// Lease: a new leader gives no time for renewals that the one before answered last.
        NoGrace,
        /// Lease: an elected leader keeps the time before it has applied what was in the log.
        LeadsBeforeApplied,
        /// Lease: who is deposed still revokes and renews.
        DeposedKeepsTime,
        /// Lease: a member that does not keep the time answers renewals.
        FollowerRenews,
        /// Lease: what was granted is forgotten by a restart, and the shortest time taken.
        ShortAfterRestart,
        /// Lease: a renewal does not defer the end.
        RenewalForgotten,
        /// Lease: a key that is put without a lease stays with the one that it had.
        KeyNotDetached,
        /// Lease: checkpoints do not outlive a restart.
        CheckpointNotPersisted,
        /// Lease: a new leader does not look at checkpoints.
        CheckpointIgnored,
        /// Lease: a renewal does not take the checkpoint back.
        CheckpointNotTakenBack,
        /// Lease: each key of a lease is deleted in a revision of its own.
        RevokedOneByOne,
    }

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    pub(crate) fn is_planted(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }

    /// Plants a fault on this thread, plays runs until one fails, and returns its number, from 1, with what it said.
    pub(crate) fn find(mutant: Mutant, runs: u64, play: impl Fn(u64)) -> Option<(u64, String)> {
        let found = (0..runs).find_map(|run| {
            PLANTED.set(Some(mutant));
            let played = catch_unwind(AssertUnwindSafe(|| play(run)));
            PLANTED.set(None);
            let panic = played.err()?;
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            let line = said.unwrap_or_default();
            Some((run + 1, line.lines().next().unwrap_or_default().to_owned()))
        });
        match &found {
            Some((runs, why)) => println!("{mutant:?}: run {runs}: {why}"),
            None => println!("{mutant:?}: survived {runs} runs"),
        }
        found
    }
}
