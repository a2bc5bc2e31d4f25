//! Measurements on the machine's disk; run with `--ignored --nocapture`.

use std::time::Duration;

use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::fs::RealFs;

#[test]
#[ignore = "prints measurements"]
fn durable_appends() {
    let temp = tempfile::tempdir_in(".").expect("temp dir");
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let clock = SystemClock;
    let dir = temp.path().join("wal");
    let begin = clock.now();
    let mut wal = Wal::create(Arc::clone(&fs), &dir, b"m", Options::default()).expect("create");
    println!("create: {:?}", clock.now() - begin);
    let payload = vec![7; 4000];
    let mut index = 0;
    for name in ["first segment", "second segment", "second segment, later"] {
        let mut times: Vec<Duration> = (0..1900)
            .map(|_| {
                index += 1;
                let begin = clock.now();
                wal.append(None, &[entry(1, index, &payload)])
                    .expect("append");
                wal.flush().expect("flush");
                clock.now() - begin
            })
            .collect();
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        println!(
            "{name}: p50 {:?} p99 {:?} max {:?}",
            at(50),
            at(99),
            at(100)
        );
    }
    let begin = clock.now();
    for _ in 0..200 {
        let entries: Vec<_> = (0..500)
            .map(|_| {
                index += 1;
                entry(1, index, &payload[..300])
            })
            .collect();
        wal.append(None, &entries).expect("append");
        wal.flush().expect("flush");
    }
    println!(
        "100,000 entries of 300 bytes, 500 a flush: {:?}",
        clock.now() - begin
    );
    drop(wal);
    let begin = clock.now();
    let (_, replay) =
        Wal::open(Arc::clone(&fs), &dir, &mark(0, 0), Options::default()).expect("open");
    println!(
        "open {} entries: {:?}",
        replay.entries.len(),
        clock.now() - begin
    );
}
