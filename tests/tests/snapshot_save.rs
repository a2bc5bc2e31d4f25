//! `Snapshot` over the wire: what genuine tools make of it, what it costs, and how it ends.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::etcdserverpb as pb;
use retcd_storage::backend::BoltFile;
use retcd_storage::fs::RealFs;
use retcd_tests::grpc::Connection;
use retcd_tests::member::{Member, PATIENCE, Setup};
use retcd_tests::{binary, http1, peers};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";

/// Bytes of the database in each message but the last of it.
const BLOB: usize = 32 << 10;

fn temp() -> TempDir {
    tempfile::Builder::new().prefix("retcd-snap-").tempdir().expect("a temporary directory")
}

async fn put(connection: &Connection, key: impl Into<Bytes>, value: impl Into<Bytes>) {
    let put = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
    connection.call("/etcdserverpb.KV/Put", &put).await.reply::<pb::PutResponse>().expect("a put");
}

/// Values that no compression makes smaller and no two of which are equal.
fn value(n: usize, size: usize) -> Vec<u8> {
    let mut block = Sha256::digest(n.to_be_bytes());
    let mut out = Vec::with_capacity(size + 32);
    while out.len() < size {
        out.extend_from_slice(&block);
        block = Sha256::digest(block);
    }
    out.truncate(size);
    out
}

/// Puts `count` values of `size` bytes, several at once.
async fn load(member: &Member, count: usize, size: usize) {
    let connection = Connection::open(member.port()).await;
    let writers = (0..8).map(|w| {
        let connection = connection.clone();
        tokio::spawn(async move {
            for n in (w..count).step_by(8) {
                put(&connection, format!("load/{n:06}"), value(n, size)).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer");
    }
}

fn run(program: &Path, args: &[&str]) -> Output {
    Command::new(program).args(args).env_clear().env("ETCDCTL_API", "3").output().expect("the tool runs")
}

/// Runs a tool that must succeed; what it wrote to its output.
fn tool(program: &Path, args: &[&str]) -> String {
    let output = run(program, args);
    let said = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{} {args:?}: {}", program.display(), String::from_utf8_lossy(&said));
    String::from_utf8(output.stdout).expect("text")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("ASCII")
}

/// All messages of a snapshot, the checksum tried.
async fn snapshot(member: &Member) -> Vec<pb::SnapshotResponse> {
    let connection = Connection::open(member.port()).await;
    let outcome = connection.call(SNAPSHOT, &pb::SnapshotRequest {}).await;
    assert!(outcome.ok(), "{:?} {:?} {:?}", outcome.code, outcome.text, outcome.broken);
    let decoded = outcome.messages.into_iter().map(|m| pb::SnapshotResponse::decode(m).expect("a message"));
    decoded.collect()
}

/// What is the same for every snapshot, whoever sends it. Returns the database.
fn shape(messages: &[pb::SnapshotResponse]) -> Vec<u8> {
    let (last, blobs) = messages.split_last().expect("messages");
    let total: usize = blobs.iter().map(|m| m.blob.len()).sum();
    let mut database = Vec::with_capacity(total);
    for (n, message) in blobs.iter().enumerate() {
        assert_eq!(message.blob.len(), BLOB.min(total - n * BLOB), "blob {n} of a database of {total} bytes");
        database.extend_from_slice(&message.blob);
        assert_eq!(message.remaining_bytes, (total - database.len()) as u64, "blob {n}");
    }
    assert_eq!(last.remaining_bytes, 0);
    assert_eq!(last.blob[..], Sha256::digest(&database)[..]);
    for message in messages {
        assert_eq!((message.version.as_str(), &message.header), ("3.7.0", &None));
    }
    database
}

/// The lines of a log about snapshots, without what depends on the moment.
fn lines(member: &Member) -> Vec<BTreeMap<String, Value>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = member.log().text();
        // The call ends a moment before its last line is there.
        if text.contains("successfully sent database snapshot") {
            let parsed = text.lines().filter_map(|l| serde_json::from_str::<BTreeMap<String, Value>>(l).ok());
            let of_it = |line: &BTreeMap<_, Value>| line["msg"].as_str().is_some_and(|m| m.contains("to client"));
            let mut lines: Vec<_> = parsed.filter(of_it).collect();
            for line in &mut lines {
                line.retain(|key, _| !matches!(key.as_str(), "ts" | "caller"));
                for (_, value) in
                    line.iter_mut().filter(|(key, _)| matches!(key.as_str(), "took" | "total-bytes" | "size"))
                {
                    *value = Value::from(if value.is_string() { "text" } else { "number" });
                }
            }
            return lines;
        }
        assert!(Instant::now() < deadline, "no word of the snapshot:\n{text}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Go and ours, on the data that Go left: as many messages for as many bytes, in the same order, and
/// the same said of it.
#[tokio::test]
async fn the_stream_is_that_of_go() {
    let Some(go) = peers::go_etcd() else { return };
    let dir = temp();
    let data = dir.path().join("data");
    let mut origin = Member::start(Setup::new(&go).data_dir(&data));
    load(&origin, 60, 5000).await;
    origin.terminate();
    let mut said = Vec::new();
    for program in [go, binary::ours()] {
        let copy = dir.path().join("copy");
        let _ = fs::remove_dir_all(&copy);
        tool(Path::new("/bin/cp"), &["-a", text(&data), text(&copy)]);
        let member = Member::start(Setup::new(&program).data_dir(&copy));
        let database = shape(&snapshot(&member).await);
        let file = dir.path().join("snapshot.db");
        fs::write(&file, &database).expect("writable");
        let pairs = pairs(&file);
        assert_eq!(pairs.len(), 60);
        said.push((lines(&member), pairs));
    }
    assert_eq!(said[0].0, said[1].0);
    assert!(said[0].1 == said[1].1, "other keys or revisions");
}

/// The bucket of keys and revisions of a saved snapshot, its pages checked.
fn pairs(file: &Path) -> Vec<(Bytes, Bytes)> {
    let database = BoltFile::open(&RealFs, file).expect("a database");
    database.check().expect("sound pages");
    database.scan(b"key", b"", 0).expect("a bucket")
}

/// Every size of a database: an empty one, one message more or less.
#[tokio::test]
async fn databases_that_grow() {
    let member = Member::start(Setup::new(binary::ours()));
    let connection = Connection::open(member.port()).await;
    let mut sizes = Vec::new();
    for n in 0..20 {
        sizes.push(shape(&snapshot(&member).await).len());
        put(&connection, format!("k{n}"), value(n, 9000)).await;
    }
    assert!(sizes.iter().all(|size| *size > 0 && size.is_multiple_of(4096)), "{sizes:?}");
    assert!(sizes.last() > sizes.first(), "{sizes:?}");
}

/// Puts that go on while snapshots are taken.
struct Puts {
    /// Keys acknowledged: all with a number below it.
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    writer: tokio::task::JoinHandle<Duration>,
}

impl Puts {
    /// 2,000 puts a second of keys numbered from 0. Each is sent when it is due, whatever became of
    /// those before, as far as 500 in flight.
    async fn start(member: &Member) -> Self {
        let connection = Connection::open(member.port()).await;
        let acknowledged = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, end) = (acknowledged.clone(), stop.clone());
        let writer = tokio::spawn(async move {
            let started = Instant::now();
            let mut due = tokio::time::interval(Duration::from_millis(10));
            let mut n = 0;
            while !end.load(Ordering::Relaxed) {
                due.tick().await;
                let batch = (n..n + 20).map(|n| {
                    let connection = connection.clone();
                    tokio::spawn(async move { put(&connection, format!("put/{n:08}"), vec![b'v'; 200]).await })
                });
                for put in batch.collect::<Vec<_>>() {
                    put.await.expect("a put");
                }
                n += 20;
                count.store(n, Ordering::SeqCst);
            }
            started.elapsed()
        });
        Self { acknowledged, stop, writer }
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    async fn wait_for(&self, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.acknowledged() < count {
            assert!(Instant::now() < deadline, "{} of {count} puts", self.acknowledged());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many there were and how long it took.
    async fn stop(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let took = self.writer.await.expect("the puts");
        (self.acknowledged.load(Ordering::SeqCst), took)
    }
}

/// Genuine `etcdctl snapshot save`, 3.4 and 3.7, under load: every put acknowledged before is in it,
/// genuine `etcdutl` finds it sound, and puts go on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn genuine_tools_save_it_under_load() {
    let clients: Vec<_> = [peers::go_etcdctl(), peers::debian_etcdctl()].into_iter().flatten().collect();
    let etcdutl = peers::go_etcdutl();
    let dir = temp();
    let member = Member::start(Setup::new(binary::ours()));
    load(&member, 2000, 10_000).await;
    let puts = Puts::start(&member).await;
    puts.wait_for(200).await;
    let endpoint = format!("--endpoints={}", member.url());
    for (n, etcdctl) in clients.iter().enumerate() {
        let file = dir.path().join(format!("{n}.db"));
        let before = puts.acknowledged();
        tool(etcdctl, &[&endpoint, "snapshot", "save", text(&file)]);
        let after = puts.acknowledged() + 20;
        let size = fs::metadata(&file).expect("a file").len();
        assert_eq!(size % 512, 32, "the checksum at its end");

        let stored = pairs(&file).len() as u64;
        assert!(
            (2000 + before..=2000 + after).contains(&stored),
            "{stored} revisions, {before} acknowledged before and {after} sent after"
        );
        // Revisions begin at 2, and each put is one.
        let revision = stored + 1;
        if let Some(etcdutl) = &etcdutl {
            let status = tool(etcdutl, &["snapshot", "status", text(&file), "-w", "json"]);
            let status: Value = serde_json::from_str(&status).expect("JSON");
            assert_eq!(status["revision"], revision, "{status}");
            assert_eq!(status["totalKey"], stored, "{status}");
            assert_eq!(status["version"], "3.7.0", "{status}");
            assert_eq!(status["totalSize"], size - 32, "{status}");
        }
        if let Some(old) = peers::debian_etcdctl() {
            let status = tool(&old, &["snapshot", "status", text(&file), "-w", "json"]);
            let status: Value = serde_json::from_str(&status).expect("JSON");
            assert_eq!(status["revision"], revision, "{status}");
        }
        println!("{}: {size} bytes, {stored} revisions, {} puts meanwhile", etcdctl.display(), after - 20 - before);
    }
    let at_end = puts.acknowledged();
    puts.wait_for(at_end + 200).await;
    let (count, took) = puts.stop().await;
    println!("{:.0} puts/s", count as f64 / took.as_secs_f64());
}

/// A saved snapshot, restored by genuine `etcdutl`, is a member of genuine etcd with all the keys.
#[tokio::test]
async fn genuine_etcd_starts_from_it() {
    let (Some(etcdutl), Some(go), Some(etcdctl)) = (peers::go_etcdutl(), peers::go_etcd(), peers::go_etcdctl()) else {
        return;
    };
    let dir = temp();
    let ours = Member::start(Setup::new(binary::ours()));
    load(&ours, 500, 1000).await;
    let file = dir.path().join("snapshot.db");
    tool(&etcdctl, &[&format!("--endpoints={}", ours.url()), "snapshot", "save", text(&file)]);

    let data = dir.path().join("restored");
    let mut restored = Member::prepare(Setup::new(&go).data_dir(&data));
    let peer = restored.peer_url();
    let cluster = format!("--initial-cluster=m={peer}");
    let advertise = format!("--initial-advertise-peer-urls={peer}");
    let into = format!("--data-dir={}", data.display());
    tool(&etcdutl, &["snapshot", "restore", text(&file), "--name=m", &cluster, &advertise, &into]);
    restored.restart();
    let hash = |url: String| tool(&etcdctl, &[&format!("--endpoints={url}"), "endpoint", "hashkv", "-w", "json"]);
    let hashes = [hash(ours.url()), hash(restored.url())].map(|json| {
        let all: Value = serde_json::from_str(&json).expect("JSON");
        all[0]["HashKV"]["hash"].clone()
    });
    assert!(hashes[0].is_number() && hashes[0] == hashes[1], "{hashes:?}");
}

/// A line of `/proc/<pid>/status`, in bytes.
fn memory(member: &Member, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", member.pid())).expect("it runs");
    let found = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
    let kib = found.expect("a line").trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number") << 10
}

/// The memory of a snapshot is that of a few messages, however large the database is and however
/// slowly, or never, its client reads.
#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_database() {
    const LOADED: usize = 128 << 20;
    const MORE: u64 = 16 << 20;
    let member = Member::start(Setup::new(binary::ours()));
    load(&member, LOADED / (64 << 10), 64 << 10).await;
    let count = snapshot_of(&member).await;
    assert!(count > LOADED / BLOB, "{count} messages");

    let before = memory(&member, "VmRSS");
    // From here on, the peak is that of the snapshots alone.
    fs::write(format!("/proc/{}/clear_refs", member.pid()), "5").expect("our own process");
    let mut silent = Vec::new();
    for _ in 0..4 {
        let connection = Connection::with_window(member.port(), 64 << 10).await.expect("a connection");
        let mut stream = connection.stream(SNAPSHOT, &pb::SnapshotRequest {}).await;
        stream.next().await.expect("a first message");
        silent.push(stream);
    }
    for _ in 0..2 {
        assert_eq!(snapshot_of(&member).await, count);
    }
    // The ones that did not read go on where they were.
    for stream in &mut silent {
        let next = pb::SnapshotResponse::decode(stream.next().await.expect("a second message")).expect("a message");
        assert_eq!((next.blob.len(), next.version.as_str()), (BLOB, "3.7.0"));
    }
    let peak = memory(&member, "VmHWM");
    println!("{} MiB before, {} MiB at most", before >> 20, peak >> 20);
    assert!(peak < before + MORE, "{before} bytes before, {peak} at most");
}

/// Reads a snapshot without keeping it; the number of messages.
async fn snapshot_of(member: &Member) -> usize {
    let connection = Connection::open(member.port()).await;
    let mut stream = connection.stream(SNAPSHOT, &pb::SnapshotRequest {}).await;
    let mut hash = Sha256::new();
    let mut last = Bytes::new();
    let mut count = 0;
    while let Some(message) = stream.next().await {
        hash.update(&last);
        last = pb::SnapshotResponse::decode(message).expect("a message").blob;
        count += 1;
    }
    assert!(stream.outcome().ok(), "{:?}", stream.outcome());
    assert_eq!(last[..], hash.finalize()[..]);
    count
}

fn metric(member: &Member, name: &str) -> f64 {
    let text = http1::get(member.port(), "/metrics").expect("metrics").text();
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

/// Waits for words in the log.
async fn logged(member: &Member, words: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !member.log().text().contains(words) {
        assert!(Instant::now() < deadline, "no {words:?}:\n{}", member.log().text());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_is_noticed() {
    let member = Member::start(Setup::new(binary::ours()));
    load(&member, 200, 64 << 10).await;
    let copies = "etcd_disk_backend_snapshot_duration_seconds_count";
    assert_eq!(metric(&member, copies), 0.0);
    let connection = Connection::with_window(member.port(), 64 << 10).await.expect("a connection");
    let mut stream = connection.stream(SNAPSHOT, &pb::SnapshotRequest {}).await;
    stream.next().await.expect("a message");
    drop((stream, connection));
    logged(&member, "its client is gone").await;
    assert_eq!(metric(&member, copies), 1.0);
    shape(&snapshot(&member).await);
    logged(&member, "successfully sent database snapshot to client").await;
    assert_eq!(metric(&member, copies), 2.0);
}

/// A client that does not read cannot keep a member from stopping.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_member_ends_the_stream() {
    let mut member = Member::start(Setup::new(binary::ours()));
    load(&member, 200, 64 << 10).await;
    let connection = Connection::with_window(member.port(), 64 << 10).await.expect("a connection");
    let mut stream = connection.stream(SNAPSHOT, &pb::SnapshotRequest {}).await;
    stream.next().await.expect("a message");
    member.terminate();
    let log = member.log().whole();
    assert!(log.contains("closed etcd server") && !log.contains("a call is still running"), "{log}");
    // What was under way may still arrive, but no end that looks like a good one.
    while stream.next().await.is_some() {}
    assert!(!stream.outcome().ok(), "{:?}", stream.outcome());
}

/// A page that went bad under a running member: an error with its place, for the client and in the log.
#[tokio::test]
async fn a_damaged_page_is_reported() {
    let dir = temp();
    let member = Member::start(Setup::new(binary::ours()).data_dir(dir.path()));
    load(&member, 200, 16 << 10).await;
    let total = shape(&snapshot(&member).await).len() as u64;
    let file = File::options().write(true).open(dir.path().join("member/snap/db")).expect("the database");
    // The heads of all pages behind the first few blobs. Some lie within values, where nothing tells
    // damage, and some are free, but not all.
    for page in 8 * BLOB as u64 / 4096..total / 4096 {
        file.write_all_at(&[0xff; 16], page * 4096).expect("writable");
    }
    let connection = Connection::open(member.port()).await;
    let outcome = connection.call(SNAPSHOT, &pb::SnapshotRequest {}).await;
    assert_eq!(outcome.code, Some(2), "{:?} {:?}", outcome.text, outcome.broken);
    assert!(
        outcome.text.contains("cannot be read for a snapshot") && outcome.text.contains("page"),
        "{}",
        outcome.text
    );
    let sent: Vec<_> =
        outcome.messages.into_iter().map(|m| pb::SnapshotResponse::decode(m).expect("a message")).collect();
    assert!(sent.iter().all(|m| m.remaining_bytes > 0), "it looks whole");
    logged(&member, "failed to read the database for a snapshot").await;
}
