//! What a purge must leave alone.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use retcd_proto::raftpb;
use retcd_storage::fs::{Fs, SimFs};
use retcd_storage::wal;

use super::super::log_writer::{Group, Write};
use super::super::snapshot_thread::SnapshotThread;
use super::super::status::Shared;
use super::super::wal_thread::WalThread;
use super::rig::{config, new_member};
use crate::open;

/// When a member stops, the thread that writes the log may end before the one that purges. Segments
/// with entries that no snapshot covers must be locked until both have ended: without them the
/// member cannot start.
#[test]
fn the_log_stays_locked_until_nobody_purges() {
    let fs = SimFs::new();
    let (mut config, _ears) = config(Arc::new(fs.clone()), "/m".as_ref());
    config.wal_segment_size = 4096;
    config.max_wals = 1;
    let config = Arc::new(config);
    let opened = open(&config, new_member()).unwrap();
    let first = opened.last_index + 1;
    let (_machine, mut writer) = opened.into_machine(&config, 0).unwrap();
    for index in first..first + 40 {
        let mut group = Group::default();
        let entry = raftpb::Entry {
            term: Some(1),
            index: Some(index),
            data: Some(Bytes::from(vec![b'x'; 500])),
            ..raftpb::Entry::default()
        };
        let write = Write::Append {
            number: None,
            hard_state: None,
            entries: vec![entry],
            snapshot: None,
        };
        writer.append(write, &mut group).unwrap();
        writer.flush(group).unwrap();
    }
    let dir = Path::new("/m/wal");
    let segments = || {
        let names = fs.read_dir(dir).unwrap();
        names.iter().filter(|name| name.ends_with(".wal")).count()
    };
    let all = segments();
    assert!(all > 3, "{all} segments");

    let (reports, _reports) = crate::queue::bounded(64);
    let (_jobs, jobs) = crossbeam_channel::bounded(1);
    let (wal_thread, writes) = WalThread::new(writer, 1, reports.clone());
    let shared = Arc::new(Shared::new(1, 0));
    let snapshots = SnapshotThread::new(config, shared, jobs, reports, writes.locked());
    drop((wal_thread, writes));
    snapshots.purge();
    assert_eq!(segments(), all);

    // It was the locks.
    drop(snapshots);
    assert_eq!(wal::purge(&fs, dir, 1).unwrap().len(), all - 1);
}
