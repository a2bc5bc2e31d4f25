//! Power failures at every point of a member's life.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use retcd_storage::fs::sim::{Plan, Trace};
use retcd_storage::fs::{Fs, SimFs};
use retcd_storage::wal;

use super::rig::{PATIENCE, Rig, new_member, restart, wait_for};
use crate::Error;

const DIR: &str = "/m";
const SEGMENT: u64 = 2048;

/// Starts whatever is there: a member with a log, one whose first start was interrupted, or none.
/// The database is one that follows its log, and never behind a snapshot (D16 is for those).
fn boot(fs: &SimFs) -> Result<(Rig, u64), Error> {
    let shared = Arc::new(fs.clone());
    let small = |config: &mut crate::Config| config.wal_segment_size = SEGMENT;
    let dir = format!("{DIR}/wal");
    let begun = wal::exists(fs, dir.as_ref()).unwrap();
    if begun {
        let snapshots = wal::valid_snapshots(fs, dir.as_ref())?;
        let index = snapshots.iter().map(|s| s.index()).max().unwrap_or(0);
        match Rig::start_with(shared.clone(), DIR.as_ref(), restart(index), small) {
            Err(Error::Unfinished { .. }) => {}
            result => return result.map(|rig| (rig, index)),
        }
    }
    Rig::start_with(shared, DIR.as_ref(), new_member(), small).map(|rig| (rig, 0))
}

/// A member's life from nothing: it is founded, writes over several segments, saves a snapshot,
/// and goes on. The disk notes how many writes were applied, which is when they are acknowledged.
fn life(writes: u64) -> (Trace, BTreeMap<u64, String>) {
    let fs = SimFs::new();
    // The data directory is there and durable before a member starts.
    for dir in ["/", DIR] {
        fs.create_dir_all(&Path::new(DIR).join("snap")).unwrap();
        fs.sync_dir(dir.as_ref()).unwrap();
    }
    fs.record();
    let (mut rig, _) = boot(&fs).unwrap();
    let mut by_index = BTreeMap::new();
    for n in 1..=writes {
        // Of many lengths: records end everywhere in a sector.
        let text = format!("{n}:{}", "x".repeat((n as usize * 131) % 700));
        rig.put(&text);
        fs.mark(n);
        by_index.insert(rig.index, text);
        if n == writes / 2 {
            rig.handle
                .save_snapshot(rig.index, rig.conf_state.clone(), b"{}".to_vec())
                .unwrap();
        }
        if n == writes * 3 / 4 {
            let recorded = || {
                let snapshots = wal::valid_snapshots(&fs, format!("{DIR}/wal").as_ref()).unwrap();
                snapshots.iter().any(|s| s.index() > 0)
            };
            wait_for("the record of the snapshot", recorded);
        }
    }
    rig.stop();
    let names = fs.read_dir(format!("{DIR}/wal").as_ref()).unwrap();
    assert!(
        names.iter().filter(|n| n.ends_with(".wal")).count() > 2,
        "{names:?}"
    );
    (fs.take_trace(), by_index)
}

/// D19: whatever a power failure leaves, the member starts, everything that was acknowledged is
/// there, and nothing that was never written.
#[test]
fn a_member_starts_after_every_power_failure() {
    let writes = 40 * crate::test_scale();
    let (trace, by_index) = life(writes);
    let plan = Plan {
        seed: 0x5eed,
        bytes: false,
        subsets: 0,
        sectors: 16,
        random: 8,
    };
    let mut begun = 0;
    let count = trace.images(&plan, |image| {
        let (mut rig, from) = boot(&image.fs)
            .unwrap_or_else(|e| panic!("seed {:#x}: {}: {e}", plan.seed, image.describe()));
        begun += u64::from(from > 0);
        rig.put("end");
        let mut expected: Vec<&String> = by_index.range(from + 1..).map(|(_, text)| text).collect();
        let already = by_index.len() - expected.len();
        let got = rig.texts();
        expected.truncate(got.len() - 1);
        let context = format!("seed {:#x}: {}", plan.seed, image.describe());
        assert_eq!(
            got[..got.len() - 1].iter().collect::<Vec<_>>(),
            expected,
            "{context}"
        );
        assert!(
            (already + expected.len()) as u64 >= image.mark,
            "acknowledged writes are lost: {context}"
        );
        rig.stop();
    });
    assert!(begun > 0, "{count} images, none with the snapshot");
    assert!(count > 500, "{count} images");
}

/// D2, D10: whichever call to the disk fails, the member stops and says why, what it applied before
/// is there after a power failure, and what it could not sync it never applied.
#[test]
fn a_member_survives_every_failing_call() {
    for n in 1.. {
        let fs = SimFs::new();
        fs.create_dir_all(&Path::new(DIR).join("snap")).unwrap();
        fs.sync_dir("/".as_ref()).unwrap();
        fs.fail_at(n, std::io::ErrorKind::Other, true);
        let Ok((mut rig, _)) = boot(&fs) else {
            continue;
        };
        let mut sent = 0;
        let mut snapshot = 0;
        let failed = loop {
            if sent == 12 {
                break false;
            }
            sent += 1;
            let text = format!("{sent}:{}", "x".repeat(300));
            if rig.handle.propose(text.into()).is_err() {
                break true;
            }
            let before = rig.applied.len();
            while rig.applied.len() == before && rig.apply_some(PATIENCE) {}
            if rig.applied.len() == before {
                break true;
            }
            if sent == 8 {
                snapshot = rig.index;
                let saved =
                    rig.handle
                        .save_snapshot(snapshot, rig.conf_state.clone(), b"{}".to_vec());
                if saved.is_err() {
                    break true;
                }
            }
        };
        if failed {
            rig.ears.fatal.recv_timeout(PATIENCE).expect("it says why");
        }
        let applied = rig.texts();
        rig.stop();
        let calls = fs.calls();

        let disk = fs.crash();
        let (mut after, from) = boot(&disk).unwrap_or_else(|e| panic!("call {n}: {e}"));
        assert!(from == 0 || from == snapshot);
        after.put("end");
        let got = after.texts();
        let skipped = if from == 0 { 0 } else { 8 };
        assert_eq!(
            got[..(applied.len() - skipped).min(got.len())],
            applied[skipped..],
            "call {n}: applied entries are there"
        );
        // Only what was sent, in order.
        for (at, text) in got[..got.len() - 1].iter().enumerate() {
            assert!(
                text.starts_with(&format!("{}:", at + 1 + skipped)),
                "call {n}"
            );
        }
        if calls < n {
            break;
        }
    }
}
