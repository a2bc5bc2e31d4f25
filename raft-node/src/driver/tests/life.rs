//! A member's life on a disk that works, and on one that does not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use retcd_proto::raftpb;
use retcd_storage::clock::{Clock, SystemClock};
use retcd_storage::fs::{Fs, RealFs, SimFs};

use super::rig::{PATIENCE, Rig, config, member, new_member, restart, wait_for};
use crate::{Error, ProposeError, Role, open};

#[test]
fn a_lone_member_elects_itself_and_applies_what_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(Arc::new(RealFs), dir.path(), new_member()).unwrap();
    rig.put("a");
    rig.put("b");
    assert_eq!(rig.texts(), ["a", "b"]);
    assert_eq!(rig.conf_state.voters, [member().id]);
    let status = rig.handle.status();
    assert_eq!(
        (status.term, status.leader, status.role),
        (2, member().id, Role::Leader)
    );
    assert_eq!(status.committed, rig.index);
    rig.stop();

    let mut rig = Rig::start(Arc::new(RealFs), dir.path(), restart(0)).unwrap();
    rig.put("c");
    assert_eq!(rig.texts(), ["a", "b", "c"]);
    assert_eq!(rig.handle.status().term, 3);
    let applied = rig.index;
    rig.stop();

    let mut rig = Rig::start(Arc::new(RealFs), dir.path(), restart(applied)).unwrap();
    rig.put("d");
    assert_eq!(rig.texts(), ["d"], "what is applied is not applied again");
    rig.stop();
}

/// Who is told that a leader was elected, or a member added, can rely on what is said of the logs.
#[test]
fn progress_is_shown_at_once() {
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
    // No tick comes.
    let slow = |config: &mut crate::Config| config.tick = Duration::from_secs(3600);
    let mut rig = Rig::start_with(fs, "/m".as_ref(), new_member(), slow).unwrap();
    rig.put("a");
    let own = member().id;
    assert!(rig.handle.progress().member(own).is_some());
    let learner = raftpb::ConfChange {
        id: Some(1),
        r#type: Some(raftpb::ConfChangeType::ConfChangeAddLearnerNode as i32),
        node_id: Some(own ^ 1),
        context: None,
    };
    rig.handle.propose_conf_change(learner).unwrap();
    rig.apply_until(|rig| !rig.conf_state.learners.is_empty());
    let progress = rig.handle.progress();
    assert!(progress.member(own ^ 1).is_some_and(|m| m.learner));
    rig.stop();
}

#[test]
fn reads_are_answered_with_an_index_that_covers_earlier_writes() {
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
    let mut rig = Rig::start(fs, "/m".as_ref(), new_member()).unwrap();
    // Asked before anybody leads: answered when somebody does (M2).
    rig.handle.read_index(1).unwrap();
    rig.put("a");
    let (request, index) = rig.ears.reads.recv_timeout(PATIENCE).unwrap();
    assert_eq!(request, 1);
    assert!(index >= 2);
    let written = rig.index;
    rig.handle.read_index(2).unwrap();
    let (request, index) = rig.ears.reads.recv_timeout(PATIENCE).unwrap();
    assert_eq!(request, 2);
    assert!(index >= written);
}

#[test]
fn a_failing_sync_stops_the_member_and_applies_nothing() {
    let fs = SimFs::new();
    let mut rig = Rig::start(Arc::new(fs.clone()), "/m".as_ref(), new_member()).unwrap();
    rig.put("a");
    fs.fail_syncs(true);
    rig.propose("lost");
    assert!(matches!(
        rig.ears.fatal.recv_timeout(PATIENCE).unwrap(),
        Error::Wal(_)
    ));
    while rig.apply_some(PATIENCE) {}
    assert_eq!(rig.texts(), ["a"]);
    wait_for("the node's end", || {
        rig.handle.propose(Bytes::from_static(b"late")) == Err(ProposeError::Stopped)
    });
    rig.stop();

    // What the machine kept decides; `a` is there in any case.
    let mut rig = Rig::start(Arc::new(fs.crash()), "/m".as_ref(), restart(0)).unwrap();
    rig.put("b");
    assert_eq!(rig.texts(), ["a", "b"]);
}

#[test]
fn a_power_failure_keeps_what_was_applied() {
    let fs = SimFs::new();
    let mut rig = Rig::start(Arc::new(fs.clone()), "/m".as_ref(), new_member()).unwrap();
    for n in 0..50 {
        rig.put(&n.to_string());
    }
    // The plug is pulled while the node runs.
    let disk = fs.crash();
    let mut after = Rig::start(Arc::new(disk), "/m".as_ref(), restart(0)).unwrap();
    after.put("end");
    let mut expected = rig.texts();
    expected.push("end".to_owned());
    assert_eq!(after.texts(), expected);
}

#[test]
fn snapshots_trim_the_log_and_restarts_begin_there() {
    let fs = SimFs::new();
    let small = |config: &mut crate::Config| {
        config.wal_segment_size = 4096;
        config.max_wals = 1;
    };
    let mut rig =
        Rig::start_with(Arc::new(fs.clone()), "/m".as_ref(), new_member(), small).unwrap();
    let payload = "x".repeat(500);
    let names = |fs: &SimFs, dir: &str| fs.read_dir(dir.as_ref()).unwrap();
    let segments = |fs: &SimFs| {
        let names = names(fs, "/m/wal");
        names.iter().filter(|n| n.ends_with(".wal")).count()
    };
    for n in 0..100 {
        rig.put(&format!("{n}{payload}"));
    }
    assert!(segments(&fs) > 5, "{:?}", names(&fs, "/m/wal"));
    let index = rig.index;
    rig.handle
        .save_snapshot(index, rig.conf_state.clone(), b"{}".to_vec())
        .unwrap();
    let file = format!("{:016x}-{index:016x}.snap", 2);
    wait_for("the snapshot file", || {
        names(&fs, "/m/snap").contains(&file)
    });
    // Its record in the log comes after it.
    wait_for("the snapshot's record", || {
        rig.handle.status().snapshot >= index
    });
    rig.put("after");
    rig.stop();

    let mut rig =
        Rig::start_with(Arc::new(fs.clone()), "/m".as_ref(), restart(index), small).unwrap();
    rig.put("end");
    assert_eq!(rig.texts(), ["after", "end"]);
    assert_eq!(
        rig.conf_state.voters,
        [member().id],
        "known without replaying its entry"
    );
    let behind = open(
        &config(Arc::new(fs.fork()), "/m".as_ref()).0,
        restart(index - 1),
    );
    let error = behind.unwrap_err().to_string();
    assert!(
        error.contains("does not match with snapshot"),
        "D16: {error}"
    );
}

#[test]
fn old_segments_and_snapshots_are_purged() {
    let fs = SimFs::new();
    let clock = Arc::new(FastClock::default());
    let mut rig = {
        let clock = clock.clone();
        Rig::start_with(
            Arc::new(fs.clone()),
            "/m".as_ref(),
            new_member(),
            |config| {
                config.wal_segment_size = 4096;
                config.max_wals = 2;
                config.max_snapshots = 2;
                config.clock = clock;
            },
        )
        .unwrap()
    };
    let count = |dir: &str, end: &str| {
        let names = fs.read_dir(dir.as_ref()).unwrap();
        names.iter().filter(|n| n.ends_with(end)).count()
    };
    // The thread looks at the clock when it has saved a snapshot.
    let deadline = SystemClock.now() + PATIENCE;
    for round in 0.. {
        for n in 0..20 {
            rig.put(&format!("{round}.{n}{}", "x".repeat(500)));
        }
        clock.leap(Duration::from_secs(31));
        rig.handle
            .save_snapshot(rig.index, rig.conf_state.clone(), b"{}".to_vec())
            .unwrap();
        if round > 4 && count("/m/snap", ".snap") <= 2 && count("/m/wal", ".wal") <= 8 {
            break;
        }
        assert!(SystemClock.now() < deadline, "nothing was purged");
    }
    let index = rig.index;
    rig.stop();
    Rig::start(Arc::new(fs), "/m".as_ref(), restart(index)).unwrap();
}

#[test]
fn a_full_apply_channel_stops_nobody() {
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
    let (config, ears) = config(fs, "/m".as_ref());
    let opened = open(&config, new_member()).unwrap();
    let mut rig = Rig::run(opened, config, ears, 0, 1).unwrap();
    rig.put("first");
    let total = 200_000;
    let mut sent = 0;
    let mut full = 0;
    while sent < total && full < 20_000 {
        match rig.handle.propose(Bytes::from_static(b"x")) {
            Ok(()) => sent += 1,
            Err(ProposeError::Full) => full += 1,
            Err(e) => panic!("{e}"),
        }
    }
    assert!(
        full > 0,
        "a member that applies nothing takes no end of proposals"
    );
    // It still answers.
    rig.handle.read_index(3).unwrap();
    assert_eq!(rig.ears.reads.recv_timeout(PATIENCE).unwrap().0, 3);
    rig.apply_until(|rig| rig.applied.len() == sent + 1);
    assert!(rig.ears.events.dropped.lock().is_empty());
}

#[test]
fn an_interrupted_first_start_is_completed() {
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
    let (config, _ears) = config(fs.clone(), "/m".as_ref());
    let metadata = retcd_proto::etcdserverpb::Metadata {
        node_id: Some(member().id),
        cluster_id: Some(crate::ids::cluster_id(&[member().id])),
    };
    let metadata = prost::Message::encode_to_vec(&metadata);
    let options = config.wal_options();
    retcd_storage::wal::Wal::create(fs.clone(), &config.wal_dir, &metadata, options).unwrap();
    assert!(matches!(
        open(&config, restart(0)),
        Err(Error::Unfinished { .. })
    ));
    let mut rig = Rig::start(fs.clone(), "/m".as_ref(), new_member()).unwrap();
    rig.put("a");
    rig.stop();
    // But a member with a past is not created again.
    assert!(matches!(
        open(&config, new_member()),
        Err(Error::Exists { .. })
    ));
}

#[test]
fn a_log_that_ends_before_the_database_is_refused() {
    let fs = SimFs::new();
    let mut rig = Rig::start(Arc::new(fs.clone()), "/m".as_ref(), new_member()).unwrap();
    rig.put("a");
    let index = rig.index;
    rig.stop();
    let (config, _ears) = config(Arc::new(fs), "/m".as_ref());
    let error = open(&config, restart(index + 1)).unwrap_err();
    assert!(matches!(error, Error::LogBehindDatabase { .. }), "{error}");
    assert!(error.to_string().contains("/m/wal"), "{error}");
    // D6: the commit index on disk may lag behind what is applied.
    let opened = open(&config, restart(index)).unwrap();
    assert!(opened.hard_state.commit() >= index);
}

#[test]
fn founding_a_cluster_needs_sound_members() {
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
    let (config, _ears) = config(fs, "/m".as_ref());
    let start = |member_id, members: Vec<crate::membership::Member>| crate::Start::New {
        cluster_id: 7,
        member_id,
        members,
    };
    let learner = crate::membership::Member {
        is_learner: true,
        ..member()
    };
    for (id, members) in [
        (1, vec![member()]),
        (0, vec![]),
        (member().id, vec![member(), member()]),
        (learner.id, vec![learner]),
    ] {
        let error = open(&config, start(id, members)).unwrap_err();
        assert!(matches!(error, Error::Members(_)), "{error}");
    }
}

/// The system's clock, with leaps.
#[derive(Debug, Default)]
struct FastClock {
    leaps: std::sync::atomic::AtomicU64,
}

impl FastClock {
    fn leap(&self, by: Duration) {
        let millis = by.as_millis() as u64;
        self.leaps
            .fetch_add(millis, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Clock for FastClock {
    fn now(&self) -> Duration {
        let leaps = self.leaps.load(std::sync::atomic::Ordering::Relaxed);
        SystemClock.now() + Duration::from_millis(leaps)
    }

    fn unix(&self) -> Duration {
        SystemClock.unix()
    }
}

/// `cargo test --release -p retcd-raft-node -- --ignored --nocapture throughput`
#[test]
#[ignore = "a measurement"]
fn throughput() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(Arc::new(RealFs), dir.path(), new_member()).unwrap();
    rig.put("warm");
    let begin = SystemClock.now();
    let rounds = 500;
    for n in 0..rounds {
        rig.put(&n.to_string());
    }
    let each = (SystemClock.now() - begin) / rounds;
    eprintln!("one client: {each:?} for each proposal, with its sync");

    let total = 300_000_usize;
    let producers: Vec<_> = (0..2)
        .map(|_| {
            let handle = rig.handle.clone();
            std::thread::spawn(move || {
                for _ in 0..total / 2 {
                    let data = Bytes::from(vec![7; 256]);
                    while handle.propose(data.clone()) == Err(ProposeError::Full) {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let begin = SystemClock.now();
    let target = rig.index + total as u64;
    while rig.index < target {
        assert!(rig.apply_some(PATIENCE));
        rig.applied.clear();
    }
    let took = SystemClock.now() - begin;
    eprintln!(
        "{total} proposals of 256 bytes in {took:?}: {:.0}/s",
        total as f64 / took.as_secs_f64()
    );
    producers.into_iter().for_each(|p| p.join().unwrap());
}
