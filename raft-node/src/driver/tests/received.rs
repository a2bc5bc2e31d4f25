//! A snapshot from the leader, and power failures on its way to the disk.

use std::path::Path;
use std::sync::Arc;

use retcd_proto::raftpb;
use retcd_storage::fs::sim::Plan;
use retcd_storage::fs::{Fs, SimFs};

use super::rig::{config, member, new_member};
use crate::bootstrap::Log;
use crate::open;
use crate::parts::{Group, LogWriter, Report, Write};

const DIR: &str = "/m";

fn entry(index: u64, term: u64) -> raftpb::Entry {
    raftpb::Entry {
        r#type: None,
        term: Some(term),
        index: Some(index),
        // Records end everywhere in a sector.
        data: Some(vec![b'x'; 100 + index as usize * 37].into()),
    }
}

fn state(term: u64, commit: u64) -> raftpb::HardState {
    raftpb::HardState {
        term: Some(term),
        vote: Some(0),
        commit: Some(commit),
    }
}

fn conf_state() -> raftpb::ConfState {
    raftpb::ConfState {
        voters: vec![member().id],
        auto_leave: Some(false),
        ..raftpb::ConfState::default()
    }
}

fn append(
    number: u64,
    hard_state: raftpb::HardState,
    entries: Vec<raftpb::Entry>,
    snapshot: Option<u64>,
) -> Write {
    Write::Append {
        number: Some(number),
        hard_state: Some(hard_state),
        entries,
        snapshot: snapshot.map(|index| {
            Box::new(raftpb::Snapshot {
                data: Some(vec![b'd'; 700].into()),
                metadata: Some(raftpb::SnapshotMetadata {
                    conf_state: Some(conf_state()),
                    index: Some(index),
                    term: Some(5),
                }),
            })
        }),
    }
}

/// A follower with a tail that was never committed; its database is durable up to entry 3.
fn follower() -> (SimFs, crate::Config) {
    let fs = SimFs::new();
    for dir in ["/", DIR] {
        fs.create_dir_all(&Path::new(DIR).join("snap")).unwrap();
        fs.sync_dir(dir.as_ref()).unwrap();
    }
    let config = small(&fs);
    (fs, config)
}

fn small(fs: &SimFs) -> crate::Config {
    let (mut config, _ears) = config(Arc::new(fs.clone()), DIR.as_ref());
    config.wal_segment_size = 32 << 10;
    config
}

fn writer(config: &crate::Config) -> LogWriter {
    let opened = open(config, new_member()).unwrap();
    opened.into_machine(config, 0).unwrap().1
}

fn flush(writer: &mut LogWriter, writes: Vec<Write>) -> Vec<Report> {
    let mut group = Group::default();
    for write in writes {
        writer.append(write, &mut group).unwrap();
    }
    writer.flush(group).unwrap()
}

/// D5, D19: file, record, hard state and the entries after them under one sync. Whatever a power
/// failure leaves of them, the log can be read: as it was, or from the snapshot on. The stale tail
/// never counts behind the snapshot.
#[test]
fn a_power_failure_leaves_the_log_before_a_received_snapshot_or_after_it() {
    let (fs, config) = follower();
    let mut writer = writer(&config);
    let stale = (2..=20).map(|index| entry(index, 2)).collect();
    flush(&mut writer, vec![append(1, state(2, 3), stale, None)]);
    fs.record();
    // The snapshot at 9 ends in an entry of term 5, which the stale tail does not have; entries
    // that follow it are committed already.
    let reports = flush(
        &mut writer,
        vec![
            append(2, state(5, 11), vec![entry(10, 5), entry(11, 5)], Some(9)),
            append(3, state(5, 12), vec![entry(12, 5)], None),
        ],
    );
    assert_eq!(reports, [Report::Persisted(3), Report::SnapshotRecorded(9)]);
    drop(writer);
    let (mut before, mut after) = (0, 0);
    let plan = Plan {
        bytes: false,
        ..Plan::default()
    };
    let count = fs.take_trace().images(&plan, |image| {
        let config = small(&image.fs);
        let context = image.describe();
        let log = Log::read(&config).unwrap_or_else(|e| panic!("{context}: {e}"));
        let start = log.snapshot().index();
        let terms: Vec<u64> = log.entries().iter().map(raftpb::Entry::term).collect();
        assert!(terms.is_sorted(), "{context}: {terms:?}");
        match start {
            0 => {
                before += 1;
                assert_eq!(log.entries().len(), 20, "{context}");
            }
            9 => {
                after += 1;
                assert!(terms.iter().all(|t| *t == 5), "{context}: {terms:?}");
            }
            other => panic!("{context}: it starts at {other}"),
        }
        let applied = start.max(3);
        let opened = log
            .with_database(&config, applied, Some(conf_state()))
            .unwrap_or_else(|e| panic!("{context}: {e}"));
        opened
            .into_machine(&config, applied)
            .unwrap_or_else(|e| panic!("{context}: {e}"));
    });
    assert!(before > 10 && after > 0, "{before} and {after} of {count}");
}

/// D14: one snapshot after another, each replacing the log.
#[test]
fn snapshots_follow_each_other() {
    let (_fs, config) = follower();
    let mut writer = writer(&config);
    for index in [9_u64, 10, 30] {
        flush(
            &mut writer,
            vec![append(index, state(5, index), Vec::new(), Some(index))],
        );
    }
    flush(
        &mut writer,
        vec![append(31, state(5, 30), vec![entry(31, 5)], None)],
    );
    drop(writer);
    let log = Log::read(&config).unwrap();
    assert_eq!(log.snapshot().index(), 30);
    assert_eq!(log.entries().len(), 1);
}
