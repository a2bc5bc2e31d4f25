//! `kill -9` under load, again and again on one data directory: what was acknowledged is there.
//!
//! `RETCD_KILL_ROUNDS` sets the number of rounds (20 by default), `RETCD_KILL_SEED` the chance.
//! Guards the faults D1, D2 and W1 of the reliability notes: lost, doubled and half-applied writes.

mod load;
mod oracle;

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use oracle::Oracle;
use prost::Message as _;
use retcd_proto::etcdserverpb as pb;
use retcd_tests::binary;
use retcd_tests::grpc::{Connection, frame};
use retcd_tests::member::{Member, Setup};
use retcd_tests::random::Random;

/// Small ones, so that snapshots, log trimming and purging happen while processes die.
const SNAPSHOT_COUNTS: [u64; 4] = [10_000, 100, 20, 1_000];

fn rounds(default: u64) -> u64 {
    env::var("RETCD_KILL_ROUNDS").ok().and_then(|s| s.parse().ok()).unwrap_or(default)
}

fn flags(round: u64) -> [String; 1] {
    [format!("--snapshot-count={}", SNAPSHOT_COUNTS[round as usize % SNAPSHOT_COUNTS.len()])]
}

#[test]
fn acknowledged_writes_survive() {
    let seed = Random::seed("RETCD_KILL_SEED", 1);
    let rounds = rounds(20);
    println!("seed {seed}, {rounds} rounds");
    let mut random = Random::new(seed);
    let mut oracle = Oracle::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut member = Member::start(Setup::new(binary::ours()).flags(flags(0)));
    for round in 1..=rounds {
        let stop_after = random.within(1, 600);
        let grace = Duration::from_micros(random.within(0, 3000));
        let compaction = round % 7 == 0;
        runtime.block_on(async {
            let connection = Connection::open(member.port()).await;
            if compaction {
                oracle.compact(&connection).await;
            }
            let acknowledged = Arc::new(AtomicU64::new(0));
            let writers = load::start(&connection, round, &oracle, &acknowledged);
            load::wait(&acknowledged, stop_after, &mut member).await;
            tokio::time::sleep(grace).await;
            member.kill();
            for writer in writers {
                oracle.take(writer.await.expect("a writer never panics"));
            }
            assert!(acknowledged.load(Ordering::Relaxed) > 0, "round {round} wrote nothing");
        });
        member.set_flags(flags(round));
        if round % 5 == 4 {
            // Dies while it recovers, too.
            for _ in 0..random.within(1, 4) {
                member.spawn();
                thread::sleep(Duration::from_micros(random.within(0, 100_000)));
                member.kill();
            }
        }
        member.restart();
        let found = runtime.block_on(async {
            let connection = Connection::open(member.port()).await;
            oracle.check(&connection).await
        });
        if let Err(why) = found {
            panic!("seed {seed}, round {round} of {rounds}: {why}\n{}", member.describe());
        }
    }
    println!("{}", oracle.summary());
    // A run long enough has seen more than one segment of the log.
    if oracle.bytes() > 100_000_000 {
        let names: Vec<_> = std::fs::read_dir(member.dir().join("member/wal"))
            .expect("a log")
            .map(|e| e.expect("readable").file_name().into_string().expect("a name"))
            .collect();
        assert!(names.iter().any(|n| n.ends_with(".wal") && !n.starts_with("0000000000000000-")), "{names:?}");
    }
}

/// `SIGTERM` ends the process by that signal, after what was accepted is done.
#[test]
fn a_stop_loses_nothing() {
    use std::os::unix::process::ExitStatusExt as _;
    let mut oracle = Oracle::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut member = Member::start(Setup::new(binary::ours()).flags(flags(2)));
    for round in 1..=3 {
        runtime.block_on(async {
            let connection = Connection::open(member.port()).await;
            let acknowledged = Arc::new(AtomicU64::new(0));
            let writers = load::start(&connection, round, &oracle, &acknowledged);
            load::wait(&acknowledged, 200, &mut member).await;
            let status = member.terminate();
            assert_eq!(status.signal(), Some(15), "{status}: {}", member.describe());
            for writer in writers {
                oracle.take(writer.await.expect("a writer never panics"));
            }
        });
        member.restart();
        let found = runtime.block_on(async {
            let connection = Connection::open(member.port()).await;
            oracle.check(&connection).await
        });
        if let Err(why) = found {
            panic!("round {round}: {why}\n{}", member.describe());
        }
    }
}

/// The check itself: damage done on purpose is found.
#[test]
fn the_oracle_bites() {
    let put = |key: &str, value: &str| pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    };
    let delete = pb::DeleteRangeRequest { key: "fresh/00/00001/000000".into(), ..Default::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let damages = [
        ("DeleteRange", delete.encode_to_vec(), "is lost"),
        ("Put", put("fresh/00/00001/000000", "1.0").encode_to_vec(), "of revision"),
        ("Put", put("alien", "x").encode_to_vec(), "nobody put it"),
        ("Put", put("pair/00/0/a", "half").encode_to_vec(), "pair/00/0/a"),
    ];
    for (method, request, complaint) in damages {
        let mut member = Member::start(Setup::new(binary::ours()));
        let mut oracle = Oracle::default();
        let why = runtime.block_on(async {
            let connection = Connection::open(member.port()).await;
            let acknowledged = Arc::new(AtomicU64::new(0));
            let writers = load::start(&connection, 1, &oracle, &acknowledged);
            load::wait(&acknowledged, 200, &mut member).await;
            member.kill();
            for writer in writers {
                oracle.take(writer.await.expect("a writer never panics"));
            }
            member.restart();
            let connection = Connection::open(member.port()).await;
            oracle.check(&connection).await.expect("nothing is damaged yet");
            let body = frame(&request);
            assert!(connection.send(&format!("/etcdserverpb.KV/{method}"), &[], body).await.ok());
            oracle.check(&connection).await.expect_err("damaged")
        });
        assert!(why.contains(complaint), "{method} {complaint:?}: {why}");
    }
}
