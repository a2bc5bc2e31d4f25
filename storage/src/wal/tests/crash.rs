//! Power failures: every disk that one can leave, at every call.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::fs::sim::{Image, Plan, Trace};
use crate::snapshot;
use crate::wal::{Error, exists, purge, valid_snapshots};

const SNAP: &str = "/data/member/snap";

fn snap() -> &'static Path {
    Path::new(SNAP)
}

/// One thing that the log was told.
#[derive(Debug, Clone)]
enum Told {
    Entry(raftpb::Entry),
    State(raftpb::HardState),
}

/// What a log was told, and so every state it may be found in after a crash.
struct History {
    trace: Trace,
    /// Fingerprint of the log after so many things, without what is below `base`.
    by_fingerprint: HashMap<u64, Vec<usize>>,
    /// Entries of each state, for those that start at a snapshot.
    states: Vec<(Vec<raftpb::Entry>, raftpb::HardState)>,
    /// At each mark: number of things that are durable for certain, and the newest durable
    /// snapshot index.
    acknowledged: Vec<(usize, u64)>,
}

fn fingerprint(entries: &[raftpb::Entry], hard_state: &raftpb::HardState) -> u64 {
    let mut hasher = DefaultHasher::new();
    entries.hash(&mut hasher);
    (hard_state.term(), hard_state.vote(), hard_state.commit()).hash(&mut hasher);
    hasher.finish()
}

fn term_of(entries: &[raftpb::Entry], index: u64) -> u64 {
    entries[index as usize - 1].term()
}

/// Records a workload: appends of mixed sizes, overwritten entries, group commits, commit-only
/// flushes, new segments, snapshots with release and purge.
fn record(seed: u64, segment_size: u64, steps: usize) -> History {
    let mut random = Random(seed);
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("/data/member")).expect("dir");
    fs.create_dir_all(snap()).expect("dir");
    fs.record();
    let mut wal = create(&fs, segment_size);
    let mut told: Vec<Told> = Vec::new();
    let mut acknowledged = vec![(0, 0)];
    let acknowledge = |durable: usize, snapshot: u64, acknowledged: &mut Vec<(usize, u64)>| {
        acknowledged.push((durable, snapshot));
        fs.mark(acknowledged.len() as u64 - 1);
    };
    // Mark 0: nothing. Mark 1: the log exists.
    acknowledge(0, 0, &mut acknowledged);
    let (mut term, mut commit, mut snapshot) = (1, 0_u64, 0);
    let mut saved = raftpb::HardState::default();
    let mut log: Vec<raftpb::Entry> = Vec::new();
    let mut durable = 0;
    for _ in 0..steps {
        let mut synced = false;
        // A group commit is one to three appends.
        for _ in 0..1 + random.below(3) {
            if random.below(8) == 0 {
                term += 1;
            }
            let replace = random.below(4) == 0;
            let keep = match replace {
                true => log.len() as u64 - random.below(log.len() as u64 - commit + 1),
                false => log.len() as u64,
            };
            let new: Vec<_> = (0..random.below(4))
                .map(|i| {
                    let len = [0, 30, 120, 700][random.below(4) as usize];
                    entry(term, keep + 1 + i, &random.bytes(len))
                })
                .collect();
            if !new.is_empty() {
                log.truncate(keep as usize);
                log.extend(new.iter().cloned());
            }
            commit += random.below(log.len() as u64 - commit + 1);
            let hard_state = state(term, 1 + term % 3, commit);
            synced |= !new.is_empty() || saved.term() != term;
            saved = hard_state;
            told.extend(new.iter().cloned().map(Told::Entry));
            told.push(Told::State(hard_state));
            wal.append(Some(&hard_state), &new).expect("append");
        }
        wal.flush().expect("flush");
        if synced {
            durable = told.len();
        }
        acknowledge(durable, snapshot, &mut acknowledged);
        if random.below(8) == 0 && commit > snapshot {
            snapshot = commit;
            let metadata = raftpb::SnapshotMetadata {
                index: Some(snapshot),
                term: Some(term_of(&log, snapshot)),
                conf_state: None,
            };
            let file = raftpb::Snapshot {
                data: Some(vec![7; 600].into()),
                metadata: Some(metadata.clone()),
            };
            snapshot::save(&fs, snap(), &file).expect("save");
            wal.append_snapshot(&mark(snapshot, metadata.term()))
                .expect("append");
            wal.flush().expect("flush");
            // The sync covered everything before.
            durable = told.len();
            acknowledge(durable, snapshot, &mut acknowledged);
            wal.release_to(snapshot.saturating_sub(3)).expect("release");
            purge(&fs, dir(), 3).expect("purge");
            snapshot::purge(&fs, snap(), 2, snapshot).expect("purge");
        }
    }
    drop(wal);
    let mut states = vec![(Vec::new(), raftpb::HardState::default())];
    for thing in &told {
        let (mut entries, mut hard_state) = states[states.len() - 1].clone();
        match thing {
            Told::Entry(entry) => {
                entries.truncate(entry.index() as usize - 1);
                entries.push(entry.clone());
            }
            Told::State(state) => hard_state = *state,
        }
        states.push((entries, hard_state));
    }
    let mut by_fingerprint: HashMap<u64, Vec<usize>> = HashMap::new();
    for (at, (entries, hard_state)) in states.iter().enumerate() {
        let key = fingerprint(entries, hard_state);
        by_fingerprint.entry(key).or_default().push(at);
    }
    History {
        trace: fs.take_trace(),
        by_fingerprint,
        states,
        acknowledged,
    }
}

#[derive(Debug, Default)]
struct Counts {
    images: u64,
    repaired: u64,
    refused: u64,
    nested: u64,
    absent: u64,
}

impl History {
    /// Opens an image as a member would, checks that it is one of the states that it may be in,
    /// and returns which things survived and where the log was read from. `None`: there is no log
    /// yet, or the image equals a flipped bit.
    fn check(
        &self,
        fs: &SimFs,
        image: &Image,
        size: u64,
        counts: &mut Counts,
    ) -> Option<(usize, u64)> {
        let what = || image.describe();
        let (acknowledged, acknowledged_snapshot) = self.acknowledged[image.mark as usize];
        if !exists(fs, dir()).expect("exists") {
            assert_eq!(image.mark, 0, "the log is gone: {}", what());
            counts.absent += 1;
            return None;
        }
        let refused = |error: Error, counts: &mut Counts| {
            // A write torn at a byte so that only one bit is missing. Disks do not do that.
            assert!(
                image.inside_sector() && matches!(error, Error::Corrupt { .. }),
                "{error}: {}",
                what()
            );
            counts.refused += 1;
        };
        let valid = match valid_snapshots(fs, dir()) {
            Ok(valid) => valid,
            Err(error) => {
                refused(error, counts);
                return None;
            }
        };
        let newest =
            snapshot::load_newest(fs, snap(), &valid).unwrap_or_else(|e| panic!("{e}: {}", what()));
        let start = newest.map_or(mark(0, 0), |newest| {
            let metadata = newest.metadata.expect("has metadata");
            mark(metadata.index(), metadata.term())
        });
        assert!(
            start.index() >= acknowledged_snapshot,
            "snapshot {} instead of {acknowledged_snapshot}: {}",
            start.index(),
            what()
        );
        let (_, replay) = match Wal::open(sim(fs), dir(), &start, options(size)) {
            Ok(opened) => opened,
            Err(error) => {
                refused(error, counts);
                return None;
            }
        };
        assert_eq!(replay.metadata.as_ref(), b"metadata");
        counts.repaired += u64::from(replay.repaired.is_some());
        let survived = self.find(&replay, start.index(), acknowledged);
        let survived = survived.unwrap_or_else(|| {
            panic!(
                "after {acknowledged} acknowledged things, {} entries behind {} and {:?}: {}",
                replay.entries.len(),
                start.index(),
                replay.hard_state,
                what()
            )
        });
        Some((survived, start.index()))
    }

    /// Number of things, at least `acknowledged`, after which the log looks like this.
    fn find(&self, replay: &Replay, start: u64, acknowledged: usize) -> Option<usize> {
        if start == 0 {
            let key = fingerprint(&replay.entries, &replay.hard_state);
            let candidates = self.by_fingerprint.get(&key)?;
            return candidates.iter().copied().rfind(|at| *at >= acknowledged);
        }
        (acknowledged..self.states.len()).rev().find(|at| {
            let (entries, hard_state) = &self.states[*at];
            (hard_state.term(), hard_state.vote(), hard_state.commit())
                == (
                    replay.hard_state.term(),
                    replay.hard_state.vote(),
                    replay.hard_state.commit(),
                )
                && entries.get(start as usize..) == Some(&replay.entries[..])
        })
    }
}

/// D2, D8, D9, D10, D11, D19, D20: whatever a power failure leaves, the log opens, by itself or
/// after cutting an unfinished write, with everything acknowledged and only what was appended. The
/// opened log then takes new entries, and its own repair survives power failures.
fn enumerate(seed: u64, segment_size: u64, steps: usize) -> Counts {
    let history = record(seed, segment_size, steps);
    let mut counts = Counts::default();
    let plan = Plan {
        seed,
        ..Plan::default()
    };
    let images = history.trace.images(&plan, |image| {
        counts.images += 1;
        if counts.images % 199 != 0 {
            history.check(&image.fs, &image, segment_size, &mut counts);
            return;
        }
        // Recovery itself is interrupted, everywhere.
        image.fs.record();
        let Some((survived, start)) = history.check(&image.fs, &image, segment_size, &mut counts)
        else {
            return;
        };
        let recovery = image.fs.take_trace();
        recovery.images(
            &Plan {
                bytes: false,
                ..plan.clone()
            },
            |again| {
                counts.nested += 1;
                let (_, replay) = reopen(&again.fs, segment_size, start);
                let found = history.find(&replay, start, survived);
                assert_eq!(
                    found,
                    Some(survived),
                    "{} then {}",
                    image.describe(),
                    again.describe()
                );
            },
        );
        // And the recovered log is a log.
        let (mut wal, before) = reopen(&image.fs, segment_size, start);
        let next = wal.last_index() + 1;
        let term = before.hard_state.term() + 1;
        let next = next.min(start + before.entries.len() as u64 + 1);
        wal.append(
            Some(&state(term, 1, before.hard_state.commit())),
            &[entry(term, next, b"more")],
        )
        .expect("append");
        wal.flush().expect("flush");
        drop(wal);
        let (_, after) = reopen(&image.fs.crash(), segment_size, start);
        assert_eq!(after.entries.len(), before.entries.len() + 1);
        assert_eq!(after.entries[..before.entries.len()], before.entries);
        assert_eq!(after.hard_state.term(), term);
    });
    assert_eq!(images as u64, counts.images);
    counts
}

fn reopen(fs: &SimFs, size: u64, start: u64) -> (Wal, Replay) {
    let valid = valid_snapshots(fs, dir()).expect("valid");
    let start = valid
        .iter()
        .rfind(|m| m.index() == start)
        .expect("still valid");
    Wal::open(sim(fs), dir(), start, options(size)).expect("open")
}

/// A process killed at any call, then a power failure after the next start: what the start found
/// was taken for persisted, so it must be.
#[test]
fn what_a_start_found_is_durable() {
    let mut checks = 0;
    for (seed, size) in [(11, 2048), (12, 16_384)] {
        let history = record(seed, size, 20);
        for calls in 0..history.trace.points() {
            let fs = history.trace.killed(calls);
            if !exists(&fs, dir()).expect("exists") {
                continue;
            }
            let start = newest(&fs);
            let (_, found) = Wal::open(sim(&fs), dir(), &start, options(size)).expect("open");
            for image in [fs.crash(), fs.crash_random(calls as u64)] {
                let (_, again) = Wal::open(sim(&image), dir(), &start, options(size))
                    .unwrap_or_else(|e| panic!("seed {seed} call {calls}: {e}"));
                assert_eq!(again, found_again(&found), "seed {seed} call {calls}");
                checks += 1;
            }
        }
    }
    assert!(checks > 300, "{checks}");
}

fn found_again(found: &Replay) -> Replay {
    Replay {
        repaired: None,
        ..found.clone()
    }
}

/// The newest snapshot that both the log and the files have.
fn newest(fs: &SimFs) -> walpb::Snapshot {
    let valid = valid_snapshots(fs, dir()).expect("valid");
    let newest = snapshot::load_newest(fs, snap(), &valid).expect("load");
    newest.map_or(mark(0, 0), |newest| {
        let metadata = newest.metadata.expect("has metadata");
        mark(metadata.index(), metadata.term())
    })
}

#[test]
fn every_image_of_a_power_failure() {
    let total = AtomicU64::new(0);
    let nested = AtomicU64::new(0);
    for round in 0..scale() {
        for seed in 1..=6 {
            let size = [2048, 4096, 16_384][seed as usize % 3];
            let counts = enumerate(seed + 100 * round, size, 45);
            println!("seed {seed}, segments of {size}: {counts:?}");
            assert!(counts.repaired > counts.images / 10, "{counts:?}");
            assert!(counts.refused < counts.images / 100, "{counts:?}");
            total.fetch_add(counts.images, Ordering::Relaxed);
            nested.fetch_add(counts.nested, Ordering::Relaxed);
        }
    }
    let (total, nested) = (total.into_inner(), nested.into_inner());
    println!("power failures: {total} images, and {nested} of interrupted recoveries");
    assert!(total >= 200_000, "{total}");
}
