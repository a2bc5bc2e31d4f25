//! Power failures at every point of a member's life.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use retcd_storage::fs::{Fs, SimFs};
use retcd_storage::fs::sim::{Plan, Trace};
use retcd_storage::wal;

use super::rig::{Rig, new_member, restart, wait_for};
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
    (fs.take_trace(), by_index)
}

/// D19: whatever a power failure leaves, the member starts, everything that was acknowledged is
/// there, and nothing that was never written.
#[test]
fn a_member_starts_after_every_power_failure() {
    let writes = 12 * crate::test_scale();
    let (trace, by_index) = life(writes);
    let plan = Plan {
        seed: 0x5eed,
        bytes: false,
        sectors: 4,
        random: 2,
    };
    let mut begun = 0;
    let count = trace.images(&plan, |image| {
        let (mut rig, from) = boot(&image.fs)
            .unwrap_or_else(|e| panic!("seed {:#x}: {}: {e}", plan.seed, image.describe()));
        begun += u64::from(from > 0);
        rig.put("end");
        let mut expected: Vec<&String> = by_index
            .range(from + 1..)
            .map(|(_, text)| text)
            .collect();
        let already = by_index.len() - expected.len();
        let got = rig.texts();
        expected.truncate(got.len() - 1);
        let context = format!("seed {:#x}: {}", plan.seed, image.describe());
        assert_eq!(got[..got.len() - 1].iter().collect::<Vec<_>>(), expected, "{context}");
        assert!(
            (already + expected.len()) as u64 >= image.mark,
            "acknowledged writes are lost: {context}"
        );
        rig.stop();
    });
    assert!(begun > 0, "{count} images, none with the snapshot");
}
