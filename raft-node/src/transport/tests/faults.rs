//! Peers that do not behave.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use prost::Message as _;
use retcd_proto::raftpb::{self, MessageType};

use super::rig::{PATIENT, Site, TIMEOUT, append, message, wait};
use crate::driver::Transport as _;

/// Somebody at the place of a peer.
pub(super) struct Fake {
    address: SocketAddr,
    calls: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Does `then` with each connection; what it returns stays open.
    pub(super) fn start(then: impl Fn(TcpStream) -> Option<TcpStream> + Send + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (calls, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (count, stopped) = (calls.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                open.extend(then(stream.unwrap()));
            }
        });
        Fake {
            address,
            calls,
            stop,
            thread: Some(thread),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

/// Reads a head.
pub(super) fn head(stream: &mut TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(TIMEOUT * 10)).unwrap();
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

const OK: &[u8] =
    b"HTTP/1.1 200 OK\r\nX-Server-Version: 3.7.1\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut all = format!("{:x}\r\n", bytes.len()).into_bytes();
    all.extend_from_slice(bytes);
    all.extend_from_slice(b"\r\n");
    all
}

fn quick(id: u64) -> Site {
    Site::with_deadline(id, TIMEOUT)
}

/// Another peer that is well, to see that nobody stalls it.
fn beside(a: &Site) -> Site {
    let b = quick(0xb);
    a.knows(&b);
    b.knows(a);
    wait("both are active", || a.active(b.id) && b.active(a.id));
    b
}

#[track_caller]
fn still_served(a: &Site, b: &Site) {
    for (from, to) in [(a, b), (b, a)] {
        let before = to.seen.count();
        let arrived = |kind| {
            let messages = to.seen.messages.lock();
            messages[before..].iter().any(|m| m.r#type() == kind)
        };
        // On a busy machine a stream may end, and with it what it carried: raft says it again.
        let mut looks = 0;
        wait("others are served", || {
            if looks % 500 == 0 {
                from.peers.send(vec![
                    append(from.id, to.id, 1, 1, 10),
                    message(from.id, to.id, MessageType::MsgHeartbeat, 1),
                ]);
            }
            looks += 1;
            arrived(MessageType::MsgApp) && arrived(MessageType::MsgHeartbeat)
        });
    }
    wait("others are active", || a.active(b.id) && b.active(a.id));
}

#[test]
fn the_head_of_a_stream_is_that_of_etcd() {
    let heads = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = heads.clone();
    let fake = Fake::start(move |mut stream| {
        seen.lock().extend(head(&mut stream));
        Some(stream)
    });
    let a = quick(0xa);
    a.peers.add_peer(0xf, &[fake.url()]);
    wait("both streams are asked for", || heads.lock().len() >= 2);
    for kind in ["msgapp", "message"] {
        let heads = heads.lock();
        let line = format!("GET /raft/stream/{kind}/a HTTP/1.1\r\n");
        let head = heads
            .iter()
            .find(|head| head.starts_with(&line))
            .expect("asked for");
        let mut lines: Vec<_> = head.trim_end().lines().skip(1).collect();
        lines.sort_unstable();
        let peer_urls = format!("X-Peerurls: {}", a.url());
        let host = format!("Host: {}", fake.address);
        assert_eq!(
            lines,
            [
                &*host,
                "X-Etcd-Cluster-Id: c1",
                "X-Min-Cluster-Version: 3.0.0",
                &*peer_urls,
                "X-Raft-To: f",
                "X-Server-From: a",
                "X-Server-Version: 3.7.1",
            ]
        );
    }
}

#[test]
fn a_silent_peer() {
    let a = quick(0xa);
    let b = beside(&a);
    // Takes connections, says nothing.
    let fake = Fake::start(Some);
    a.peers.add_peer(0xf, &[fake.url()]);
    // Asked again after the deadline, and again.
    wait("it is given up", || fake.calls() >= 6);
    a.peers.send(
        (0..200)
            .map(|n| message(a.id, 0xf, MessageType::MsgHeartbeat, n))
            .collect(),
    );
    wait("what has no room is reported", || {
        a.seen.unreachable() >= 100
    });
    assert!(!a.active(0xf));
    still_served(&a, &b);
}

#[test]
fn a_peer_that_stops_sending() {
    let a = quick(0xa);
    let b = beside(&a);
    let fake = Fake::start(|mut stream| {
        head(&mut stream)?;
        stream.write_all(OK).ok()?;
        Some(stream)
    });
    a.peers.add_peer(0xf, &[fake.url()]);
    wait("its streams are there", || a.active(0xf));
    wait("they are given up, and asked for again", || {
        fake.calls() >= 6
    });
    still_served(&a, &b);
}

#[test]
fn a_peer_that_does_not_read() {
    let a = quick(0xa);
    let b = beside(&a);
    let posts = Arc::new(AtomicU64::new(0));
    let posted = posts.clone();
    let fake = Fake::start(move |mut stream| {
        if head(&mut stream)?.starts_with("POST /raft ") {
            posted.fetch_add(1, Ordering::SeqCst);
        }
        None
    });
    a.peers.add_peer(0xf, &[fake.url()]);
    // It asks for a stream and leaves it at that.
    let mut stream = TcpStream::connect(a.address).unwrap();
    let asked = "GET /raft/stream/msgapp/f HTTP/1.1\r\nHost: a\r\nX-Server-From: f\r\n\
        X-Server-Version: 3.7.1\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-Id: c1\r\n\
        X-Raft-To: a\r\n\r\n";
    stream.write_all(asked.as_bytes()).unwrap();
    let answer = head(&mut stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let answer = answer.to_ascii_lowercase();
    for line in [
        "x-server-version: 3.7.1",
        "x-etcd-cluster-id: c1",
        "transfer-encoding: chunked",
    ] {
        assert!(answer.contains(&format!("\r\n{line}\r\n")), "{answer}");
    }
    let before = a.seen.unreachable();
    // All share their content: they are made in no time.
    let large = append(a.id, 0xf, 1, 1, 100_000);
    let begin = tokio::time::Instant::now();
    for _ in 0..100 {
        a.peers.send(vec![large.clone(); 50]);
    }
    // 500 MB do not fit into the queue.
    assert!(
        a.seen.unreachable() > before,
        "what has no room is reported at once"
    );
    // A machine that takes longer than that for these messages has given up the stream by now.
    assert!(posts.load(Ordering::SeqCst) == 0 || begin.elapsed() >= TIMEOUT);
    still_served(&a, &b);
    // Once the stream is given up, messages go by POST.
    wait("the stream is given up", || {
        a.peers.send(vec![append(a.id, 0xf, 1, 1, 10)]);
        posts.load(Ordering::SeqCst) > 0
    });
    // And the connection with it: it brings what was on its way, and ends.
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest);
    let timed_out = end.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
    assert!(rest.len() > 100_000 && !timed_out);
    still_served(&a, &b);
}

#[test]
fn a_second_stream_takes_the_place_of_the_first() {
    let a = quick(0xa);
    let fake = Fake::start(|_| None);
    a.peers.add_peer(0xf, &[fake.url()]);
    let open = || {
        let mut stream = TcpStream::connect(a.address).unwrap();
        let asked = "GET /raft/stream/message/f HTTP/1.1\r\nHost: a\r\nX-Server-From: f\r\n\
            X-Server-Version: 3.7.1\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-Id: c1\r\n\
            X-Raft-To: a\r\n\r\n";
        stream.write_all(asked.as_bytes()).unwrap();
        head(&mut stream).unwrap();
        stream
    };
    let mut first = open();
    let mut second = open();
    let mut rest = Vec::new();
    first.read_to_end(&mut rest).unwrap_or_default();
    // Heartbeats, then the end of the chunks: no broken connection.
    let ends = rest.ends_with(b"0\r\n\r\n");
    assert!(ends, "{:?}", String::from_utf8_lossy(&rest));
    // The new one carries messages.
    let m = message(a.id, 0xf, MessageType::MsgHeartbeat, 7);
    a.peers.send(vec![m.clone()]);
    let want = m.encode_to_vec();
    let mut got = Vec::new();
    let mut buffer = [0; 256];
    wait("it comes", || {
        let read = second.read(&mut buffer).unwrap();
        got.extend_from_slice(&buffer[..read]);
        got.windows(want.len()).any(|window| window == want)
    });
    // And ends with the peer.
    a.peers.remove_peer(0xf);
    rest.clear();
    let _ = second.read_to_end(&mut rest);
    assert!(
        rest.ends_with(b"0\r\n\r\n"),
        "{:?}",
        String::from_utf8_lossy(&rest)
    );
}

/// A proposal whose answer is lost may have been appended; a second copy of it would undo what was
/// written after the first.
#[test]
fn a_proposal_without_an_answer_is_not_repeated() {
    const POSTS: u64 = 40;
    let received = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = received.clone();
    let fake = Fake::start(move |mut stream| {
        let seen = seen.clone();
        // Answers the first post of each connection; ends at the second, after it was read.
        std::thread::spawn(move || {
            for answered in [true, false] {
                let head = head(&mut stream)?.to_ascii_lowercase();
                if !head.starts_with("post /raft ") {
                    return None;
                }
                let (_, rest) = head.split_once("content-length: ")?;
                let len = rest.split_once("\r\n")?.0.parse().unwrap();
                let mut body = vec![0; len];
                stream.read_exact(&mut body).ok()?;
                let message = raftpb::Message::decode(&body[..]).unwrap();
                seen.lock().push((message.index(), answered));
                if answered {
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
                }
            }
            Some(())
        });
        None
    });
    let a = quick(0xa);
    a.peers.add_peer(0xf, &[fake.url()]);
    for n in 1..=POSTS {
        a.peers
            .send(vec![message(a.id, 0xf, MessageType::MsgProp, n)]);
        wait("it arrives", || {
            received.lock().iter().any(|(index, _)| *index == n)
        });
    }
    let received = received.lock();
    assert!(received.iter().any(|(_, answered)| !answered));
    let mut indexes: Vec<u64> = received.iter().map(|(index, _)| *index).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, (1..=POSTS).collect::<Vec<_>>());
}

#[test]
fn garbage() {
    let a = quick(0xa);
    let b = beside(&a);
    let oversize = (1_u64 << 60).to_be_bytes();
    let answers: Vec<Vec<u8>> = vec![
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n".to_vec(),
        b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
            .to_vec(),
        b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 5\r\n\r\nwhat\n".to_vec(),
        [OK, b"zz\r\n"].concat(),
        [OK, &*chunk(&oversize)].concat(),
        [OK, &*chunk(&[2]), &*chunk(&oversize)].concat(),
        [OK, &*chunk(&[9; 500])].concat(),
        // Messages of types that nobody knows, for others, of nobody.
        [
            OK,
            &*chunk(&[0, 0, 0, 0, 0, 0, 0, 2, 8, 99]),
            &*chunk(&[0, 0, 0, 0, 0, 0, 0, 0]),
        ]
        .concat(),
        vec![],
    ];
    let next = Arc::new(AtomicU64::new(0));
    let turn = next.clone();
    let kinds = answers.len() as u64;
    let fake = Fake::start(move |mut stream| {
        head(&mut stream);
        let n = turn.fetch_add(1, Ordering::SeqCst) / 2 % kinds;
        let _ = stream.write_all(&answers[n as usize]);
        None
    });
    a.peers.add_peer(0xf, &[fake.url()]);
    wait("all of it was said", || {
        next.load(Ordering::SeqCst) > 2 * kinds + 2
    });
    assert_eq!(a.seen.count(), 0);
    still_served(&a, &b);
}

#[test]
fn garbage_to_the_listener() {
    let a = quick(0xa);
    let b = beside(&a);
    let sender =
        "X-Server-Version: 3.7.1\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-Id: c1\r\n";
    let post =
        |path: &str, rest: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\n{sender}{rest}");
    let answers = [
        // Says that much is coming, and then nothing does.
        (
            post("/raft", "Content-Length: 400000000000\r\n\r\nxx"),
            "400 Bad Request",
        ),
        (
            post("/raft", "Transfer-Encoding: chunked\r\n\r\nfffffff\r\nxx"),
            "400 Bad Request",
        ),
        (
            post("/raft/snapshot", "Content-Length: 9999\r\n\r\nxx"),
            "400 Bad Request",
        ),
        (
            post("/raft", "Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
            "400 Bad Request",
        ),
        ("\u{0}\u{1}\r\n\r\n".to_owned(), ""),
    ];
    for (asked, answer) in answers {
        let mut stream = TcpStream::connect(a.address).unwrap();
        stream.write_all(asked.as_bytes()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT * 20)).unwrap();
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            said.extend_from_slice(&buffer[..read]);
            if said.windows(4).any(|w| w == b"\r\n\r\n") {
                break;
            }
        }
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(answer), "{asked:?}: {said}");
    }
    assert_eq!(a.seen.count(), 0);
    still_served(&a, &b);
}

#[test]
fn stopping_does_not_wait_for_anybody() {
    let (a, b) = (Site::start(0xa), Site::start(0xb));
    a.knows(&b);
    b.knows(&a);
    wait("both are active", || a.active(b.id) && b.active(a.id));
    let fake = Fake::start(Some);
    a.peers.add_peer(0xf, &[fake.url()]);
    a.peers.add_peer(0x10, &["http://192.0.2.1:9".to_owned()]);
    a.peers
        .send(vec![message(a.id, 0xf, MessageType::MsgHeartbeat, 1)]);
    let begin = tokio::time::Instant::now();
    a.peers.stop();
    assert!(begin.elapsed() < PATIENT / 2, "{:?}", begin.elapsed());
    // Nothing of it is of use any more, and nothing fails.
    a.peers.add_peer(0x11, &[b.url()]);
    a.peers
        .send(vec![message(a.id, b.id, MessageType::MsgHeartbeat, 1)]);
    assert_eq!(a.peers.active_peers(), 0);
    a.peers.stop();
    wait("b sees it", || !b.active(a.id));
}
