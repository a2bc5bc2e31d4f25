use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use tokio::sync::Notify;

use super::*;

/// What a test waits for at most. Nothing waits that long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// A database of `len` bytes, each telling its place. Counts what was read, and whether it lives.
struct Pages {
    at: usize,
    /// Where reading fails.
    damaged: Option<usize>,
    read: Arc<AtomicUsize>,
    _alive: Arc<()>,
}

fn byte(at: usize) -> u8 {
    (at.wrapping_mul(2_654_435_761) >> 13) as u8
}

impl Read for Pages {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // Never as much as asked for, as a reader may do.
        let end = buf.len().min(4096 + 17);
        if self.damaged.is_some_and(|at| self.at + end > at) {
            return Err(io::Error::other("page 7 is damaged"));
        }
        for slot in &mut buf[..end] {
            *slot = byte(self.at);
            self.at += 1;
        }
        self.read.fetch_add(end, Ordering::SeqCst);
        Ok(end)
    }
}

struct Rig {
    read: Arc<AtomicUsize>,
    alive: Arc<()>,
    stop: Arc<Notify>,
    duration: Histogram,
    log: Arc<Mutex<String>>,
}

/// Collects lines as `message key=value ...`.
struct Lines(Arc<Mutex<String>>);

impl slog::Drain for Lines {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        struct Fields(String);
        impl slog::Serializer for Fields {
            fn emit_arguments(
                &mut self,
                key: slog::Key,
                value: &std::fmt::Arguments<'_>,
            ) -> slog::Result {
                self.0 = format!(" {key}={value}{}", self.0);
                Ok(())
            }
        }
        let mut fields = Fields(String::new());
        let _ = slog::KV::serialize(&record.kv(), record, &mut fields);
        let line = format!("{}{}\n", record.msg(), fields.0);
        self.0.lock().unwrap().push_str(&line);
        Ok(())
    }
}

impl Rig {
    fn new() -> Self {
        let buckets = prometheus::HistogramOpts::new("copies", "Seconds of a copy.");
        Self {
            read: Arc::default(),
            alive: Arc::default(),
            stop: Arc::default(),
            duration: Histogram::with_opts(buckets).unwrap(),
            log: Arc::default(),
        }
    }

    fn copy(
        &self,
        len: usize,
        damaged: Option<usize>,
    ) -> std::pin::Pin<Box<impl Stream<Item = Result<pb::SnapshotResponse, Error>> + use<>>> {
        let pages = Pages {
            at: 0,
            damaged,
            read: self.read.clone(),
            _alive: self.alive.clone(),
        };
        let copy = DatabaseCopy {
            len: len as u64,
            bytes: Box::new(pages),
        };
        let feed = Feed {
            total: copy.len,
            version: "3.7.0".to_owned(),
            logger: Logger::root(Lines(self.log.clone()), slog::o!()),
            duration: self.duration.clone(),
        };
        let stop = self.stop.clone();
        Box::pin(start(feed, copy, async move { stop.notified().await }))
    }

    /// Whether the copy, and with it the pages it holds, was let go in time.
    async fn let_go(&self) {
        let gone = async {
            while Arc::strong_count(&self.alive) > 1 || self.duration.get_sample_count() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, gone)
            .await
            .expect("the copy is held for ever");
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn blobs_and_checksum() {
    for len in [
        0,
        1,
        BLOB - 1,
        BLOB,
        BLOB + 1,
        4 * BLOB,
        9 * BLOB,
        1_000_000,
    ] {
        let rig = Rig::new();
        let messages: Vec<_> = rig.copy(len, None).collect().await;
        let messages: Vec<_> = messages
            .into_iter()
            .map(|m| m.expect("a message"))
            .collect();
        let (last, blobs) = messages.split_last().expect("at least the checksum");
        assert_eq!(blobs.len(), len.div_ceil(BLOB));
        let mut sent = 0;
        for blob in blobs {
            assert_eq!(blob.blob.len(), BLOB.min(len - sent));
            let right = blob.blob.iter().zip(sent..).all(|(b, at)| *b == byte(at));
            assert!(right, "the bytes of the database, in order");
            sent += blob.blob.len();
            assert_eq!(blob.remaining_bytes, (len - sent) as u64);
        }
        let all: Vec<u8> = (0..len).map(byte).collect();
        assert_eq!(last.blob, Sha256::digest(&all)[..]);
        assert_eq!(last.remaining_bytes, 0);
        let same = messages
            .iter()
            .all(|m| m.header.is_none() && m.version == "3.7.0");
        assert!(same, "no header, and the version in each message");
        rig.let_go().await;
    }
}

/// The words are etcd's: operators search for them.
#[tokio::test]
async fn the_log_says_what_is_sent() {
    let rig = Rig::new();
    let count = rig.copy(100_000, None).count().await;
    assert_eq!(count, 5);
    rig.let_go().await;
    let log = rig.log();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "sending database snapshot to client total-bytes=100000 size=100 kB storage-version=3.7.0",
            "sending database sha256 checksum to client total-bytes=100000 checksum-size=32",
        ]
    );
    let done = "successfully sent database snapshot to client total-bytes=100000 size=100 kB took=";
    assert!(lines.len() == 3 && lines[2].starts_with(done), "{log}");
    assert!(lines[2].ends_with(" storage-version=3.7.0"), "{log}");
}

/// However large the database is, a client that does not read holds a few blobs of it and no thread.
#[tokio::test]
async fn a_client_that_does_not_read_holds_little() {
    let rig = Rig::new();
    let mut stream = rig.copy(1 << 40, None);
    stream.next().await.expect("a message").expect("a blob");
    // Whatever is read ahead was read when nothing more comes for a long while.
    let mut before = usize::MAX;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = rig.read.load(Ordering::SeqCst);
        if now == before && now >= 2 * READ_AHEAD * BLOB {
            break;
        }
        assert!(Instant::now() < deadline, "reads on and on: {now}");
        before = now;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(before, 2 * READ_AHEAD * BLOB);
    let metrics = tokio::runtime::Handle::current().metrics();
    assert_eq!(metrics.num_alive_tasks(), 1);

    // One that vanishes lets go of the copy.
    drop(stream);
    rig.let_go().await;
    assert!(rig.log().contains("its client is gone"), "{}", rig.log());
}

#[tokio::test]
async fn the_end_of_the_member_is_the_end_of_the_stream() {
    let rig = Rig::new();
    let mut stream = rig.copy(1 << 40, None);
    stream.next().await.expect("a message").expect("a blob");
    // Nobody asks for the next message when the member stops.
    rig.stop.notify_one();
    rig.let_go().await;
    assert!(rig.log().contains("the member stops"), "{}", rig.log());
    // What was passed on already may still come, then the reason.
    let rest: Vec<_> = stream.collect().await;
    let (end, before) = rest.split_last().expect("an end");
    assert_eq!(*end, Err(Error::Stopped));
    assert!(before.len() <= 1 && before.iter().all(Result::is_ok));
}

#[tokio::test]
async fn damage_ends_the_stream_with_its_place() {
    for damaged in [0, BLOB, 10 * BLOB + 1] {
        let rig = Rig::new();
        let messages: Vec<_> = rig.copy(20 * BLOB, Some(damaged)).collect().await;
        let (end, before) = messages.split_last().expect("an end");
        let text = "the database cannot be read for a snapshot: page 7 is damaged";
        assert_eq!(*end, Err(Error::Internal(text.to_owned())));
        assert!(before.len() <= damaged / BLOB && before.iter().all(Result::is_ok));
        rig.let_go().await;
        assert!(
            rig.log().contains("error=page 7 is damaged"),
            "{}",
            rig.log()
        );
        assert!(!rig.log().contains("successfully"));
    }
}

/// A copy that ends early is an error, never a short snapshot with a checksum that fits.
#[tokio::test]
async fn a_copy_that_is_too_short_is_noticed() {
    let rig = Rig::new();
    let copy = DatabaseCopy {
        len: 3 * BLOB as u64,
        bytes: Box::new(io::repeat(7).take(2 * BLOB as u64)),
    };
    let feed = Feed {
        total: copy.len,
        version: String::new(),
        logger: Logger::root(slog::Discard, slog::o!()),
        duration: rig.duration.clone(),
    };
    let messages: Vec<_> = start(feed, copy, std::future::pending()).collect().await;
    let end = messages
        .last()
        .expect("an end")
        .as_ref()
        .expect_err("an error");
    assert!(
        end.to_string().contains("failed to fill whole buffer"),
        "{end}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_copy_is_reported_again_and_again() {
    let rig = Rig::new();
    // At 100 MiB/s it would take 60 s.
    let mut stream = rig.copy(6000 << 20, None);
    stream.next().await.expect("a message").expect("a blob");
    for (seconds, reports) in [(55, 0), (10, 1), (60, 2)] {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let log = rig.log();
        let slow = log
            .matches("snapshotting taking too long to transfer taking=")
            .count();
        assert_eq!(slow, reports, "{log}");
    }
    assert_eq!(slow(1), Duration::from_secs(30));
    assert_eq!(
        slow(u64::MAX / 2),
        Duration::from_secs_f64((u64::MAX / 2) as f64 / (100_u64 << 20) as f64)
    );
}
