//! Watchers of a real server that is put, deleted, compacted and killed under them: whatever a watch shows is exactly what
//! happened.
//!
//! In each round writers write, clients watch (keys, ranges, prefixes, from the past, now and the future, filtered, with
//! what was before, several watches to a stream; some read slowly, lose their stream, cancel and begin again), and a
//! reader of history follows with ranges at every revision, which are the truth: they come from the index, not from
//! the watch service. Meanwhile the server dies by `kill -9`, and comes back. Then every watch has told its part of
//! history: each event once, in order, all of a revision at once, none that was filtered, with the right value before, none
//! below a progress report after it, none after a cancel; and what it missed is only what it was told was compacted.
//!
//! `RETCD_WATCH_ROUNDS` sets the number of rounds (3 by default; 100 by hand), `RETCD_WATCH_SEED` the chance.

mod check;
mod truth;
mod watcher;
mod writers;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, thread};

use retcd_proto::etcdserverpb as pb;
use retcd_tests::binary;
use retcd_tests::member::{Member, Setup};
use retcd_tests::nodes::Caller;
use retcd_tests::random::Random;

use check::Counts;
use truth::Truth;
use writers::Op;

const WRITERS: u64 = 4;
const CLIENTS: u64 = 10;

/// What all tasks of a round share.
pub(crate) struct Shared {
    pub(crate) address: SocketAddr,
    /// Writers are to end.
    stop: AtomicBool,
    /// The revision that all watches have to come to, once there is one; 0 before.
    goal: AtomicI64,
    /// All watches have come there.
    reached: AtomicBool,
    /// The last revision of the round, once there is one; 0 before.
    last: AtomicI64,
    /// Whatever was sent, by a number that every value begins with.
    sent: Mutex<BTreeMap<u64, Vec<Op>>>,
    next: AtomicU64,
    /// Revision and number of what was acknowledged.
    acknowledged: Mutex<Vec<(i64, u64)>>,
    /// The highest revision to which a compaction was asked for.
    compacting: AtomicI64,
}

impl Shared {
    fn sent(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<Op>>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goal(&self) -> Option<i64> {
        Some(self.goal.load(Ordering::SeqCst)).filter(|&goal| goal > 0)
    }

    fn last(&self) -> Option<i64> {
        Some(self.last.load(Ordering::SeqCst)).filter(|&last| last > 0)
    }

    fn compacting(&self) -> i64 {
        self.compacting.load(Ordering::SeqCst)
    }
}

#[test]
fn every_watch_tells_what_happened_over_kill9() {
    let seed = Random::seed("RETCD_WATCH_SEED", 1);
    let rounds = env::var("RETCD_WATCH_ROUNDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3);
    println!("RETCD_WATCH_SEED={seed} RETCD_WATCH_ROUNDS={rounds}");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut random = Random::new(seed);
    let mut member = Member::start(Setup::new(binary::ours()).flags(["--watch-progress-notify-interval=300ms"]));
    let (mut truth, mut counts) = (Truth::default(), Counts::default());
    let (mut numbers, mut compacted) = (0, 0);
    for round in 1..=rounds {
        let shared = Arc::new(Shared {
            address: (Ipv4Addr::LOCALHOST, member.port()).into(),
            stop: AtomicBool::new(false),
            goal: AtomicI64::new(0),
            reached: AtomicBool::new(false),
            last: AtomicI64::new(0),
            sent: Mutex::default(),
            next: AtomicU64::new(numbers),
            acknowledged: Mutex::default(),
            compacting: AtomicI64::new(compacted),
        });
        let reader = runtime.spawn(truth::follow(Arc::clone(&shared), truth, random.next()));
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| runtime.spawn(writers::write(Arc::clone(&shared), Random::new(random.next()))))
            .collect();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| runtime.spawn(watcher::follow(Arc::clone(&shared), Random::new(random.next()))))
            .collect();
        // Load, deaths in the middle of it, and load after them.
        for _ in 0..random.within(1, 3) {
            thread::sleep(Duration::from_millis(random.within(100, 600)));
            member.kill();
            member.restart();
        }
        thread::sleep(Duration::from_millis(random.within(50, 400)));
        shared.stop.store(true, Ordering::SeqCst);
        let checked = runtime.block_on(async {
            for writer in writers {
                writer.await.map_err(|e| format!("a writer: {e}"))?;
            }
            let goal = revision(&shared).await?;
            shared.goal.store(goal, Ordering::SeqCst);
            let trickle = tokio::spawn(writers::trickle(Arc::clone(&shared), Random::new(random.next())));
            let mut told = Vec::new();
            for (n, client) in clients.into_iter().enumerate() {
                let segments = client.await.map_err(|e| format!("client {n}: {e}"))?;
                told.push(segments.map_err(|e| format!("client {n}: {e}"))?);
            }
            shared.reached.store(true, Ordering::SeqCst);
            trickle.await.map_err(|e| format!("the last writer: {e}"))?;
            shared.last.store(revision(&shared).await?, Ordering::SeqCst);
            let truth = reader.await.map_err(|e| format!("the reader of history: {e}"))??;
            truth.has(&shared)?;
            for (n, segment) in told.iter().enumerate().flat_map(|(n, all)| all.iter().map(move |one| (n, one))) {
                check::check(&truth, segment, goal, &mut counts)
                    .map_err(|e| format!("client {n}: {e}\n{}", segment.describe()))?;
            }
            Ok::<_, String>(truth)
        });
        truth =
            checked.unwrap_or_else(|e| panic!("seed {seed}, round {round} of {rounds}: {e}\n{}", member.describe()));
        numbers = shared.next.load(Ordering::SeqCst);
        compacted = shared.compacting();
        truth.forget();
    }
    println!("{} revisions, {counts:?}", truth.revision());
    assert!(counts.events > 0 && counts.resumed > 0, "{counts:?}");
}

/// The current revision.
async fn revision(shared: &Shared) -> Result<i64, String> {
    let request = pb::RangeRequest { key: "none".into(), ..Default::default() };
    let said = Caller::default().call::<pb::RangeResponse>(shared.address, "KV/Range", &request, PATIENCE).await;
    Ok(said.map_err(|e| e.to_string())?.header.unwrap_or_default().revision)
}

/// How long a call may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
