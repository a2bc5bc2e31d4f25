//! Watching our server under load: clients that do not read, a client far behind, a client that follows over
//! restarts.

use std::time::{Duration, Instant};

use prost::Message as _;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::watch_request::RequestUnion;
use retcd_tests::gate::Gate;
use retcd_tests::grpc::Connection;
use retcd_tests::member::{Member, PATIENCE, Setup};
use retcd_tests::stream::{Part, Stream, Streams};
use retcd_tests::{binary, http1};

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const PUT: &str = "/etcdserverpb.KV/Put";

fn create(stream: &Stream, request: pb::WatchCreateRequest) {
    stream.send(&pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) });
}

/// All keys, from a revision on.
fn all(start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: b"\0".to_vec().into(),
        range_end: b"\0".to_vec().into(),
        start_revision,
        ..Default::default()
    }
}

async fn next(stream: &mut Stream) -> pb::WatchResponse {
    match stream.next().await {
        Part::Message(message) => pb::WatchResponse::decode(message).expect("a response"),
        other => panic!("{other:?}"),
    }
}

/// Puts `n` values of `bytes` bytes, some at a time; returns the revision after them and the longest time of one.
async fn put(port: u16, n: usize, bytes: usize) -> (i64, Duration) {
    const AT_ONCE: usize = 16;
    let mut writers = Vec::new();
    for writer in 0..AT_ONCE {
        let connection = Connection::open(port).await;
        writers.push(tokio::spawn(async move {
            let (mut revision, mut longest) = (0, Duration::ZERO);
            for i in (writer..n).step_by(AT_ONCE) {
                let request = pb::PutRequest {
                    key: format!("k{:04}", i % 1000).into(),
                    value: vec![b'x'; bytes].into(),
                    ..Default::default()
                };
                let started = Instant::now();
                let reply: pb::PutResponse = connection.call(PUT, &request).await.reply().expect("a put");
                longest = longest.max(started.elapsed());
                revision = reply.header.expect("a header").revision;
            }
            (revision, longest)
        }));
    }
    let mut all = (0, Duration::ZERO);
    for writer in writers {
        let (revision, longest) = writer.await.expect("no panic");
        all = (all.0.max(revision), all.1.max(longest));
    }
    all
}

/// Reads one event for each revision of `from..=to`: in order, each once.
async fn read(stream: &mut Stream, from: i64, to: i64) {
    let mut expected = from;
    while expected <= to {
        let reply = next(stream).await;
        assert!(!reply.canceled, "{reply:?}");
        for event in &reply.events {
            assert_eq!(event.kv.as_ref().map(|kv| kv.mod_revision), Some(expected));
            expected += 1;
        }
        assert!(reply.header.is_some_and(|header| header.revision + 1 >= expected));
    }
}

fn gauge(member: &Member, name: &str) -> i64 {
    let metrics = http1::get(member.port(), "/metrics").expect("metrics").text();
    let line = metrics.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

/// Waits until a gauge shows this.
async fn shows(member: &Member, name: &str, value: i64) {
    let deadline = Instant::now() + PATIENCE;
    while gauge(member, name) != value {
        assert!(Instant::now() < deadline, "{name} is {}, not {value}", gauge(member, name));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Megabytes that the process has in memory.
fn memory(member: &Member) -> i64 {
    gauge(member, "process_resident_memory_bytes") >> 20
}

/// Reliable, resumable, bounded: etcd's own faults W4, W8 and W11, and issue 16839 of slow clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_read_cost_little_and_miss_nothing() {
    const SLOW: usize = 50;
    const PUTS: usize = 30_000;
    let member = Member::start(Setup::new(binary::ours()).flags(["--unsafe-no-fsync"]));
    let port = member.port();
    put(port, 2000, 500).await;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let streams = Streams::open(port, 64 << 10).await;
        let mut stream = streams.call(WATCH, &[]).await;
        create(&stream, all(0));
        assert!(next(&mut stream).await.created);
        slow.push((streams, stream));
    }
    let streams = Streams::open(port, 16 << 20).await;
    let mut quick = streams.call(WATCH, &[]).await;
    create(&quick, all(0));
    let first = next(&mut quick).await.header.expect("a header").revision + 1;

    let before = memory(&member);
    let reader = tokio::spawn(async move {
        read(&mut quick, first, first + PUTS as i64 - 1).await;
        quick
    });
    let (last, longest) = put(port, PUTS, 500).await;
    assert_eq!(last, first + PUTS as i64 - 1);
    let quick = reader.await.expect("the quick one has everything");
    let grown = memory(&member) - before;
    println!("grown by {grown} MB, longest put {longest:?}");
    // The history itself is 15 MB in a cache and as much in a file's pages; the streams hold 1 MB each at most.
    assert!(grown < 250, "{grown} MB");
    assert!(gauge(&member, "etcd_debugging_mvcc_slow_watcher_total") >= SLOW as i64);

    let started = Instant::now();
    for (_, stream) in &mut slow {
        read(stream, first, last).await;
    }
    let events = (SLOW * PUTS) as f64;
    println!("caught up at {:.0} events/s", events / started.elapsed().as_secs_f64());
    // And they are up to date: what happens now comes by itself.
    let (last, _) = put(port, 1, 10).await;
    for (_, stream) in &mut slow {
        read(stream, last, last).await;
    }
    // An event may be read before its watcher counts as up to date.
    shows(&member, "etcd_debugging_mvcc_slow_watcher_total", 0).await;
    drop((slow, quick, streams));
    for name in ["watch_stream_total", "watcher_total", "pending_events_total"] {
        shows(&member, &format!("etcd_debugging_mvcc_{name}"), 0).await;
    }
}

/// What a client does whose server goes away: it goes on behind the last revision it has. Over `kill -9`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_is_resumed_over_restarts() {
    let mut member = Member::start(Setup::new(binary::ours()));
    let mut next_revision = 2;
    for round in 0..5 {
        let streams = Streams::open(member.port(), 64 << 10).await;
        let mut stream = streams.call(WATCH, &[]).await;
        create(&stream, all(next_revision));
        assert!(next(&mut stream).await.created);
        let (last, _) = put(member.port(), 200, 100).await;
        // Not all of it, so that the rest is history in the next round.
        let upto = if round == 4 { last } else { last - 50 };
        let mut seen = next_revision;
        while seen <= upto {
            for event in next(&mut stream).await.events {
                assert_eq!(event.kv.expect("a key").mod_revision, seen);
                seen += 1;
            }
        }
        next_revision = seen;
        member.kill();
        member.restart();
    }
    assert_eq!(next_revision, 2 + 5 * 200);
}

/// Streams do not wait for each other, nor watches of one stream: the lone key is heard of while a client far
/// behind reads all of history (etcd issue 15402).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_far_behind_delays_nobody() {
    let member = Member::start(Setup::new(binary::ours()).flags(["--unsafe-no-fsync"]));
    let port = member.port();
    let (last, _) = put(port, 40_000, 200).await;
    let streams = Streams::open(port, 16 << 20).await;
    let mut lone = streams.call(WATCH, &[]).await;
    create(&lone, pb::WatchCreateRequest { key: "lone".into(), ..Default::default() });
    assert!(next(&mut lone).await.created);
    let connection = Connection::open(port).await;
    // A quick machine reads it all in a moment, and a busy one may do nothing else meanwhile: once is enough.
    for round in 0..20 {
        // On the same connection.
        let mut behind = streams.call(WATCH, &[]).await;
        create(&behind, all(2));
        let reading = tokio::spawn(async move {
            let started = Instant::now();
            assert!(next(&mut behind).await.created);
            read(&mut behind, 2, last).await;
            started.elapsed()
        });
        let mut heard = 0;
        loop {
            let request = pb::PutRequest { key: "lone".into(), ..Default::default() };
            assert!(connection.call(PUT, &request).await.ok());
            assert_eq!(next(&mut lone).await.events.len(), 1);
            if reading.is_finished() {
                break;
            }
            heard += 1;
        }
        let took = reading.await.expect("it read all");
        println!("{:.0} events/s of history; {heard} heard meanwhile", 40_000.0 / took.as_secs_f64());
        // Who waits for the other one to be served hears of one key at the end, of none before.
        if heard >= 3 {
            return;
        }
        println!("once more after round {round}");
    }
    panic!("the lone key is never heard of while somebody reads all of history");
}

/// A reply of many megabytes does not hold up the events of a watch on its connection (etcd issue 15402). Nothing is
/// timed: the connection is held up when the reply has begun, an event is made, and then the frames are counted that
/// come before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_range_starves_no_watch_on_its_connection() {
    const VALUES: usize = 48;
    const BYTES: usize = 1 << 20;
    const ROUNDS: usize = 3;
    // Streams of the connection, as HTTP/2 numbers them.
    const WATCHES: u32 = 1;
    let member = Member::start(Setup::new(binary::ours()).flags(["--unsafe-no-fsync"]));
    let port = member.port();
    put(port, VALUES, BYTES).await;
    let connection = Connection::open(port).await;
    let gate = Gate::default();
    // Flow control is out of the game: only the order in which the server sends counts.
    let streams = Streams::behind(gate.clone(), port, [256 << 20, 1 << 30]).await;
    let mut lone = streams.call(WATCH, &[]).await;
    create(&lone, pb::WatchCreateRequest { key: "lone".into(), ..Default::default() });
    assert!(next(&mut lone).await.created);
    for (round, stream) in (0..ROUNDS).zip((WATCHES + 2..).step_by(2)) {
        gate.shut_at(stream);
        let mut range = streams.call("/etcdserverpb.KV/Range", &[]).await;
        range.send(&pb::RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() });
        range.half_close();
        tokio::time::timeout(retcd_tests::member::PATIENCE, gate.is_shut()).await.expect("a reply begins");
        let sent = gauge(&member, "etcd_debugging_mvcc_events_total");
        let request = pb::PutRequest { key: "lone".into(), ..Default::default() };
        assert!(connection.call(PUT, &request).await.ok());
        let deadline = Instant::now() + retcd_tests::member::PATIENCE;
        while gauge(&member, "etcd_debugging_mvcc_events_total") == sent {
            assert!(Instant::now() < deadline, "round {round}: the watch has to wait for the end of the range");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gate.open();
        assert_eq!(next(&mut lone).await.events.len(), 1);
        let frames = gate.frames();
        let event = frames.iter().rposition(|(stream, _)| *stream == WATCHES).expect("an event");
        let bytes = |frames: &[(u32, usize)]| -> usize {
            frames.iter().filter(|(of, _)| *of == stream).map(|(_, bytes)| bytes).sum()
        };
        let before = bytes(&frames[..event]);
        match range.next().await {
            Part::Message(reply) => assert!(reply.len() > VALUES * BYTES, "{}", reply.len()),
            other => panic!("{other:?}"),
        }
        let all = bytes(&gate.frames());
        println!("round {round}: {before} of {all} bytes came before the event");
        // What both ends of the connection had buffered when it was held up, and a few frames.
        assert!(before < all / 2, "round {round}: {before} of {all} bytes came before the event");
    }
}

/// Watch streams do not hold up a stop: they are told, and their clients find the member again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_streams_at_once() {
    let mut member = Member::start(Setup::new(binary::ours()));
    // How long it takes without them.
    let started = Instant::now();
    member.terminate();
    let alone = started.elapsed();
    member.restart();
    let streams = Streams::open(member.port(), 64 << 10).await;
    let mut stream = streams.call(WATCH, &[]).await;
    create(&stream, all(0));
    assert!(next(&mut stream).await.created);
    let started = Instant::now();
    let stopped = tokio::task::spawn_blocking(move || member.terminate());
    assert_eq!(stream.next().await, Part::End(14, "etcdserver: server stopped".into()));
    stopped.await.expect("it stops");
    // Calls in flight would have 5 s.
    assert!(started.elapsed() < alone + Duration::from_secs(4), "{:?}, {alone:?} alone", started.elapsed());
}

/// Seconds of CPU that a server needs for `streams` times `watchers` of one key while it is put `puts` times.
async fn fan_out(program: std::path::PathBuf, streams: usize, watchers: usize, puts: usize) -> f64 {
    let member = Member::start(Setup::new(program).flags(["--unsafe-no-fsync"]));
    let port = member.port();
    let mut readers = Vec::new();
    let connection = Streams::open(port, 16 << 20).await;
    for _ in 0..streams {
        let mut stream = connection.call(WATCH, &[]).await;
        for _ in 0..watchers {
            create(&stream, pb::WatchCreateRequest { key: "hot".into(), ..Default::default() });
            assert!(next(&mut stream).await.created);
        }
        readers.push(stream);
    }
    let cpu = || {
        let metrics = http1::get(member.port(), "/metrics").expect("metrics").text();
        let line = metrics.lines().find_map(|l| l.strip_prefix("process_cpu_seconds_total "));
        line.and_then(|n| n.parse::<f64>().ok()).expect("seconds")
    };
    let before = cpu();
    let readers = readers.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            let mut left = watchers * puts;
            while left > 0 {
                left -= next(&mut stream).await.events.len();
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    let unary = Connection::open(port).await;
    for _ in 0..puts {
        let request = pb::PutRequest { key: "hot".into(), value: vec![b'x'; 100].into(), ..Default::default() };
        assert!(unary.call(PUT, &request).await.ok());
    }
    for reader in readers {
        reader.await.expect("all events");
    }
    cpu() - before
}

/// What delivering costs, beside genuine etcd. Of use with a release build only (`RETCD_BIN`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn what_an_event_costs() {
    for (streams, watchers, puts) in [(10, 100, 400), (100, 10, 400), (1000, 1, 200), (1, 10_000, 30)] {
        let events = (streams * watchers * puts) as f64;
        let ours = fan_out(binary::ours(), streams, watchers, puts).await;
        println!("{streams} x {watchers}: ours {:.2} us/event", ours * 1e6 / events);
        if let Some(go) = retcd_tests::peers::go_etcd() {
            let theirs = fan_out(go, streams, watchers, puts).await;
            println!("{streams} x {watchers}: etcd {:.2} us/event, {:.1} times", theirs * 1e6 / events, theirs / ours);
        }
    }
}
