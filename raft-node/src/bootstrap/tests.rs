use std::sync::Arc;
use std::time::Duration;

use retcd_proto::raftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState};
use retcd_storage::clock::SystemClock;
use retcd_storage::fs::{Fs, SimFs, read_all};

use super::*;
use crate::{DEFAULT_WAL_SEGMENT_SIZE, Observer};

struct Deaf;

impl Observer for Deaf {
    fn fatal(&self, error: Error) {
        panic!("{error}");
    }
}

fn config(fs: &SimFs) -> Config {
    fs.create_dir_all("/m/snap".as_ref()).unwrap();
    Config {
        fs: Arc::new(fs.clone()),
        clock: Arc::new(SystemClock),
        wal_dir: "/m/wal".into(),
        snap_dir: "/m/snap".into(),
        tick: Duration::from_millis(100),
        election_ticks: 10,
        pre_vote: true,
        initial_election_tick_advance: true,
        snapshot_catchup_entries: 5000,
        max_wals: 5,
        max_snapshots: 5,
        no_fsync: false,
        wal_segment_size: DEFAULT_WAL_SEGMENT_SIZE,
        wal_prepare: Default::default(),
        logger: slog::Logger::root(slog::Discard, slog::o!()),
        observer: Arc::new(Deaf),
    }
}

fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState {
        term: Some(term),
        vote: Some(vote),
        commit: Some(commit),
    }
}

fn normal(index: u64, term: u64) -> Entry {
    Entry {
        r#type: None,
        term: Some(term),
        index: Some(index),
        data: Some(Bytes::from_static(b"x")),
    }
}

fn conf_change(index: u64, term: u64, kind: ConfChangeType, id: u64) -> Entry {
    let cc = ConfChange {
        id: None,
        r#type: Some(kind as i32),
        node_id: Some(id),
        context: None,
    };
    Entry {
        r#type: Some(EntryType::EntryConfChange as i32),
        data: Some(cc.encode_to_vec().into()),
        ..normal(index, term)
    }
}

/// A log as some member left it.
fn log(snapshot: Option<walpb::Snapshot>, hs: HardState, entries: &[Entry]) -> SimFs {
    let fs = SimFs::new();
    let config = config(&fs);
    let metadata = etcdserverpb::Metadata {
        node_id: Some(1),
        cluster_id: Some(2),
    };
    let mut wal = Wal::create(
        config.fs.clone(),
        &config.wal_dir,
        &metadata.encode_to_vec(),
        config.wal_options(),
    )
    .unwrap();
    if let Some(snapshot) = snapshot {
        wal.append_snapshot(&snapshot).unwrap();
    }
    wal.append(Some(&hs), entries).unwrap();
    wal.flush().unwrap();
    drop(wal);
    fs
}

fn restart(fs: &SimFs, consistent_index: u64) -> Result<Opened, Error> {
    open(
        &config(fs),
        Start::Restart {
            consistent_index,
            conf_state: None,
        },
    )
}

fn voters(ids: &[u64]) -> ConfState {
    ConfState {
        voters: ids.to_vec(),
        ..ConfState::default()
    }
}

/// The log that etcd 3.7.1 wrote when a member with this name and URL founded its cluster.
#[test]
fn a_new_log_begins_like_that_of_etcd() {
    let peer_urls = vec!["http://127.0.0.1:27380".to_owned()];
    let id = crate::ids::member_id(&peer_urls, "etcd-cluster", None);
    let member = Member {
        id,
        peer_urls,
        name: "a<b".to_owned(),
        ..Member::default()
    };
    let fs = SimFs::new();
    let start = Start::New {
        cluster_id: crate::ids::cluster_id(&[id]),
        member_id: id,
        members: vec![member],
    };
    let opened = open(&config(&fs), start).unwrap();
    assert_eq!(opened.hard_state, hard_state(1, 0, 1));
    drop(opened);
    let path = "/m/wal/0000000000000000-0000000000000000.wal";
    let ours = read_all(&fs, path.as_ref()).unwrap();
    let etcd = include_bytes!("../../testdata/wal-bootstrap.bin");
    // Up to the end of the first hard state: what follows depends on the election.
    assert_eq!(ours[..0xe8], etcd[..0xe8]);

    // A database that has nothing yet: the log says who belongs to the cluster.
    let opened = restart(&fs, 0).unwrap();
    assert_eq!((opened.member_id, opened.conf_state.voters), (id, vec![id]));
}

/// D6: what is applied was committed, whatever the hard state on disk says.
#[test]
fn commit_and_term_are_never_behind_the_log() {
    let entries = [normal(1, 1), normal(2, 2), normal(3, 3)];
    // The write that had entry 3 was torn before its hard state.
    let fs = log(None, hard_state(2, 9, 1), &entries[..2]);
    let (mut wal, _) = open_wal(&config(&fs), &walpb::Snapshot::default()).unwrap();
    wal.append(None, &entries[2..]).unwrap();
    wal.flush().unwrap();
    drop(wal);
    assert_eq!(restart(&fs, 0).unwrap().hard_state, hard_state(3, 0, 1));
    assert_eq!(restart(&fs, 3).unwrap().hard_state, hard_state(3, 0, 3));
    let fs = log(None, hard_state(3, 9, 2), &entries);
    assert_eq!(restart(&fs, 1).unwrap().hard_state, hard_state(3, 9, 2));
    let fs = log(None, hard_state(3, 9, 4), &entries);
    assert!(matches!(restart(&fs, 1), Err(Error::Log { .. })));
}

#[test]
fn the_newest_committed_snapshot_record_decides() {
    let record = |index| walpb::Snapshot {
        index: Some(index),
        term: Some(1),
        conf_state: Some(voters(&[1, 5])),
    };
    let fs = log(
        Some(record(10)),
        hard_state(1, 0, 12),
        &[normal(11, 1), normal(12, 1)],
    );
    let opened = restart(&fs, 11).unwrap();
    assert_eq!(opened.snapshot, (10, 1));
    assert_eq!(opened.last_index, 12);
    assert_eq!(opened.conf_state.voters, [1, 5]);
    // D16. A log can be open once, so each attempt is on a copy.
    let error = restart(&fs.fork(), 9).unwrap_err();
    assert!(
        error.to_string().starts_with(
            "database file (/m/snap/db index 9) does not match with snapshot (index 10)"
        ),
        "{error}"
    );
    assert!(restart(&fs, 0).is_err(), "an empty database is no better");
}

#[test]
fn the_configuration_is_that_of_the_applied_entry() {
    use ConfChangeType as T;
    let entries = [
        conf_change(1, 1, T::ConfChangeAddNode, 1),
        conf_change(2, 1, T::ConfChangeAddNode, 2),
        normal(3, 2),
        conf_change(4, 2, T::ConfChangeAddLearnerNode, 3),
        conf_change(5, 2, T::ConfChangeUpdateNode, 2),
        conf_change(6, 2, T::ConfChangeAddNode, 3),
        conf_change(7, 2, T::ConfChangeRemoveNode, 1),
    ];
    let fs = log(None, hard_state(2, 0, 7), &entries);
    let at = |applied| {
        let cs = restart(&fs, applied).unwrap().conf_state;
        (cs.voters, cs.learners)
    };
    // The founders count from the start: one of them alone must not look like a cluster.
    for applied in [0, 1, 2, 3] {
        assert_eq!(at(applied), (vec![1, 2], vec![]));
    }
    assert_eq!(at(4), (vec![1, 2], vec![3]));
    assert_eq!(at(5), (vec![1, 2], vec![3]));
    assert_eq!(at(6), (vec![1, 2, 3], vec![]));
    assert_eq!(at(7), (vec![2, 3], vec![]));
    // The database's word comes first.
    let start = Start::Restart {
        consistent_index: 7,
        conf_state: Some(voters(&[1])),
    };
    assert_eq!(open(&config(&fs), start).unwrap().conf_state.voters, [1]);
}

#[test]
fn logs_that_nobody_wrote_are_refused() {
    let fs = log(
        None,
        hard_state(1, 0, 1),
        &[Entry {
            data: Some(Bytes::from_static(b"\xff")),
            ..conf_change(1, 1, ConfChangeType::ConfChangeAddNode, 1)
        }],
    );
    assert!(matches!(restart(&fs, 0), Err(Error::Log { .. })));

    let fs = SimFs::new();
    let config = config(&fs);
    let wal = Wal::create(
        config.fs.clone(),
        &config.wal_dir,
        b"?",
        config.wal_options(),
    );
    drop(wal.unwrap());
    assert!(matches!(restart(&fs, 0), Err(Error::Metadata { .. })));
}

#[test]
fn a_member_that_joins_begins_with_an_empty_log() {
    let fs = SimFs::new();
    let config = config(&fs);
    let join = |member_id, voters: &[u64]| {
        open(
            &config,
            Start::Join {
                cluster_id: 9,
                member_id,
                voters: voters.to_vec(),
            },
        )
    };
    for bad in [(0, &[1][..]), (4, &[]), (4, &[1, 4])] {
        assert!(matches!(join(bad.0, bad.1), Err(Error::Members(_))));
    }
    let opened = join(4, &[3, 1, 2, 2]).unwrap();
    assert_eq!((opened.member_id, opened.cluster_id), (4, 9));
    assert_eq!(opened.last_index, 0);
    // The log, or a snapshot, brings the members that go with it.
    assert_eq!(opened.conf_state, ConfState::default());
    drop(opened);

    // Nothing happened since: it may be tried again, by the same member only.
    assert!(matches!(Log::read(&config), Err(Error::Unfinished { .. })));
    assert!(matches!(join(5, &[1]), Err(Error::Exists { .. })));
    let opened = join(4, &[1, 2, 3]).unwrap();
    let (core, initial, _wal) = opened.into_core(&config, 0);
    crate::core::Core::new(&core, initial, &config.logger).unwrap();
}

#[test]
fn a_forced_log_drops_what_is_not_committed_and_ends_with_the_changes() {
    let entries: Vec<Entry> = (1..=6).map(|index| normal(index, 2)).collect();
    let fs = log(None, hard_state(3, 7, 4), &entries);
    let config = config(&fs);
    let mut found = Log::read(&config).unwrap();
    assert_eq!(found.committed(3), 4);
    assert_eq!(found.committed(5), 5);
    let change = |id| ConfChange {
        id: None,
        r#type: Some(ConfChangeType::ConfChangeRemoveNode as i32),
        node_id: Some(id),
        context: None,
    };
    found.force(&config, 5, vec![change(2), change(3)]).unwrap();
    drop(found);

    let found = Log::read(&config).unwrap();
    let ids: Vec<(u64, u64)> = found
        .entries()
        .iter()
        .map(|entry| (entry.index(), entry.term()))
        .collect();
    assert_eq!(
        ids,
        [(1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 3), (7, 3)]
    );
    assert_eq!(found.entries()[5].r#type(), EntryType::EntryConfChange);
    let opened = found.with_database(&config, 5, None).unwrap();
    assert_eq!(opened.hard_state.commit(), 7);
    assert_eq!(opened.hard_state.vote(), 7);
}
