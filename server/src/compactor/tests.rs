use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex};

use slog::Level;
use tokio::time::{Instant, timeout};

use super::*;
use crate::log::Log;

const MINUTE: Duration = Duration::from_secs(60);

/// tokio's time, which stands still in these tests but when everybody waits.
#[derive(Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn unix(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A store whose revision is a function of the time in minutes, as is everything else about it.
struct Store {
    clock: TokioClock,
    revision: fn(u64) -> i64,
    leads: fn(u64) -> bool,
    answer: fn(u64) -> Result<(), Error>,
    /// When it was asked to compact, and to which revision.
    asked: RefCell<Vec<(u64, i64)>>,
}

impl Store {
    /// One that gets a revision every minute, of a member that leads, and does as it is told.
    fn new() -> Self {
        Self {
            clock: TokioClock(Instant::now()),
            revision: |minute| 1 + minute as i64,
            leads: |_| true,
            answer: |_| Ok(()),
            asked: RefCell::default(),
        }
    }

    fn minute(&self) -> u64 {
        self.clock.now().as_secs() / 60
    }
}

impl Compactable for Store {
    fn leads(&self) -> bool {
        (self.leads)(self.minute())
    }

    fn revision(&self) -> i64 {
        (self.revision)(self.minute())
    }

    async fn compact(&self, revision: i64) -> Result<(), Error> {
        self.asked.borrow_mut().push((self.minute(), revision));
        (self.answer)(self.minute())
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lines").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a store is asked to do within so many minutes, and what is logged of it.
async fn play(what: AutoCompaction, minutes: u32, store: &Store) -> (Vec<(u64, i64)>, String) {
    let lines = Lines::default();
    let log = Log::to_writer(Level::Info, lines.clone());
    let run = run(what, store, &store.clock, log.logger());
    let ended = timeout(MINUTE * minutes + MINUTE / 2, run).await;
    assert!(ended.is_err(), "it never ends by itself");
    let text = String::from_utf8(lines.0.lock().expect("lines").clone()).expect("UTF-8");
    (store.asked.take(), text)
}

fn hours(hours: u32) -> AutoCompaction {
    AutoCompaction::Periodic(MINUTE * 60 * hours)
}

#[tokio::test(start_paused = true)]
async fn a_period_passes_before_each_compaction() {
    let store = Store::new();
    let (asked, log) = play(hours(1), 190, &store).await;
    // To what was there at the look before the period began: every six minutes.
    assert_eq!(asked, [(60, 1), (120, 55), (180, 115)]);
    let lines: Vec<_> = log
        .lines()
        .map(|line| line.split_once("\"msg\":").expect("a message").1)
        .collect();
    assert_eq!(
        lines[..2],
        [
            "\"starting auto periodic compaction\",\"revision\":1,\"compact-period\":\"1h0m0s\"}",
            "\"completed auto periodic compaction\",\"revision\":1,\"compact-period\":\"1h0m0s\",\"took\":\"0s\"}",
        ]
    );
    assert_eq!(lines.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn after_a_long_period_there_is_a_compaction_every_hour() {
    let (asked, _) = play(hours(24), 24 * 60 + 130, &Store::new()).await;
    assert_eq!(asked, [(1440, 1), (1500, 55), (1560, 115)]);
}

#[tokio::test(start_paused = true)]
async fn short_periods_are_looked_at_more_often() {
    // Six seconds between two looks.
    let (asked, _) = play(AutoCompaction::Periodic(MINUTE), 4, &Store::new()).await;
    // At 60, 126, 186 and 246 seconds.
    assert_eq!(asked, [(1, 1), (2, 2), (3, 3), (4, 4)]);
    let tiny = AutoCompaction::Periodic(Duration::from_nanos(1));
    assert_eq!(
        Schedule::new(tiny, Duration::ZERO).interval(),
        SHORTEST_LOOK
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_compaction_is_tried_again_soon() {
    let store = Store {
        answer: |minute| match minute {
            60 | 66 => Err(Error::TooManyRequests),
            _ => Ok(()),
        },
        ..Store::new()
    };
    let (asked, log) = play(hours(1), 140, &store).await;
    assert_eq!(asked, [(60, 1), (66, 1), (72, 7), (132, 67)]);
    // The log's clock is not the test's: to it both lines come at once, and are told as one.
    let failed = log
        .lines()
        .find(|line| line.contains("\"failed auto periodic compaction\""))
        .expect("a warning");
    assert!(
        failed.starts_with("{\"level\":\"warn\"") && failed.contains("\"retry-interval\":\"6m0s\"")
    );
}

#[tokio::test(start_paused = true)]
async fn what_somebody_compacted_already_is_done() {
    let store = Store {
        answer: |_| Err(Error::Compacted),
        ..Store::new()
    };
    let (asked, log) = play(hours(1), 130, &store).await;
    assert_eq!(asked, [(60, 1), (120, 55)]);
    assert!(!log.contains("failed"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn without_a_new_revision_there_is_nothing_to_do() {
    let store = Store {
        revision: |minute| if minute < 300 { 7 } else { 8 },
        ..Store::new()
    };
    // It is 8 for the first time at the look of minute 300, which is the oldest one an hour later.
    let (asked, _) = play(hours(1), 400, &store).await;
    assert_eq!(asked, [(60, 7), (366, 8)]);
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_compacts_and_a_new_one_at_once() {
    let store = Store {
        leads: |minute| (200..250).contains(&minute) || minute >= 300,
        ..Store::new()
    };
    let (asked, log) = play(hours(1), 370, &store).await;
    // It has counted all the time: at its first look it knows what was there a period ago.
    assert_eq!(asked, [(204, 139), (300, 235), (360, 295)]);
    assert_eq!(log.lines().count(), 6);
}

#[tokio::test(start_paused = true)]
async fn so_many_revisions_are_kept() {
    let store = Store {
        leads: |minute| !(21..29).contains(&minute),
        answer: |minute| match minute {
            15 => Err(Error::TooManyRequests),
            _ => Ok(()),
        },
        ..Store::new()
    };
    let (asked, log) = play(AutoCompaction::Revision(10), 36, &store).await;
    // Every five minutes; there is nothing to throw away before.
    assert_eq!(asked, [(10, 1), (15, 6), (20, 11), (30, 21), (35, 26)]);
    let lines: Vec<_> = log
        .lines()
        .map(|line| line.split_once("\"msg\":").expect("a message").1)
        .collect();
    assert_eq!(
        lines[..4],
        [
            "\"starting auto revision compaction\",\"revision\":1,\"revision-compaction-retention\":10}",
            "\"completed auto revision compaction\",\"revision\":1,\"revision-compaction-retention\":10,\"took\":\"0s\"}",
            "\"starting auto revision compaction\",\"revision\":6,\"revision-compaction-retention\":10}",
            "\"failed auto revision compaction\",\"revision\":6,\"revision-compaction-retention\":10,\
             \"retry-interval\":\"5m0s\",\"error\":\"etcdserver: too many requests\"}",
        ]
    );
    let store = Store {
        revision: |_| 20,
        ..Store::new()
    };
    let (asked, _) = play(AutoCompaction::Revision(10), 60, &store).await;
    assert_eq!(asked, [(5, 10)], "once");
}
