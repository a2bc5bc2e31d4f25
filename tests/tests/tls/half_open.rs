//! Connections that say nothing, or not enough.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use retcd_tests::pki::{Issued, Spec};
use retcd_tests::{binary, secure};

use crate::rig::{Endpoint, Rig, flags};

/// How many; `RETCD_HALF_OPEN` asks for more, which needs a higher limit of open files.
fn connections() -> usize {
    std::env::var("RETCD_HALF_OPEN").ok().and_then(|text| text.parse().ok()).unwrap_or(800)
}

/// Memory that one of them may cost.
const BYTES_EACH: u64 = 16 << 10;

#[test]
fn half_open_connections_cost_little_and_end() {
    let count = connections();
    let dir = tempfile::Builder::new().prefix("retcd-tls-").tempdir().expect("a directory");
    let (cert, key) = Issued::self_signed(&Spec::new("server")).put(dir.path(), "server");
    let (cert, key) = (cert.to_str().expect("UTF-8"), key.to_str().expect("UTF-8"));
    let client = flags(Endpoint::Client, &[("cert-file", cert), ("key-file", key)]);
    let rig = Rig::start(binary::ours(), &client, &[]);
    let port = rig.port(Endpoint::Client);
    let healthy = || {
        let tried = secure::get(port, "/health", None, &secure::VERSIONS);
        assert!(tried.is_served(), "{tried:?}: {}", rig.member.describe());
    };
    for _ in 0..20 {
        healthy();
    }
    let before = resident(rig.member.pid());
    let begin = Instant::now();
    // Half of them silent, half in the middle of their first message.
    let mut open: Vec<TcpStream> = (0..count)
        .map(|number| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("accepted");
            if number % 2 == 0 {
                stream.write_all(&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3]).expect("sent");
            }
            stream
        })
        .collect();
    healthy();
    let cost = resident(rig.member.pid()).saturating_sub(before);
    assert!(cost < BYTES_EACH * count as u64 + (4 << 20), "{cost} bytes for {count} connections");
    println!("{count} half-open connections cost {} KiB, in {:?}", cost >> 10, begin.elapsed());
    healthy();
    // Nobody waits for them longer than a handshake may take.
    for stream in &mut open {
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(9), "closed after {took:?}");
    rig.refusal(Endpoint::Client, open[0].local_addr().expect("a socket"));
    let line = rig.refusal(Endpoint::Client, open[1].local_addr().expect("a socket"));
    assert_eq!(line["check"], "deadline", "{line}");
    healthy();
}

/// What a peer may say and then stop.
const HALVES: &[&str] = &[
    "",
    "GET /vers",
    "GET /version HTTP/1.1\r\nHost: m\r\n",
    "POST /leases HTTP/1.1\r\nHost: m\r\nContent-Length: 100\r\n\r\nhalf",
    "POST /leases HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "POST /leases/internal HTTP/1.1\r\nHost: m\r\nContent-Length: 100\r\n\r\n",
    "GET /members/hashkv HTTP/1.1\r\nHost: m\r\nContent-Length: 100\r\n\r\n{",
    "POST /members/promote/1 HTTP/1.1\r\nHost: m\r\nContent-Length: 100\r\n\r\n{",
    "POST /raft HTTP/1.1\r\nHost: m\r\nContent-Length: 100\r\n\r\n1",
    // All of it, and nothing after the answer.
    "GET /version HTTP/1.1\r\nHost: m\r\n\r\n",
    "PRI * HTTP/2",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// Members have one listener thread, and a few hundred descriptors may be all they have.
#[test]
fn silent_connections_to_a_peer_port_end() {
    let dir = tempfile::Builder::new().prefix("retcd-tls-").tempdir().expect("a directory");
    let (cert, key) = Issued::self_signed(&Spec::new("server")).put(dir.path(), "server");
    let (cert, key) = (cert.to_str().expect("UTF-8"), key.to_str().expect("UTF-8"));
    let pairs = [("cert-file", cert), ("key-file", key)];
    let (client, peer) = (flags(Endpoint::Client, &pairs), flags(Endpoint::Peer, &pairs));
    for peer in [Vec::new(), peer] {
        let rig = Rig::start(binary::ours(), &client, &peer);
        let port = rig.port(Endpoint::Peer);
        let connect = || -> Box<dyn Stream> {
            if !peer.is_empty() {
                return Box::new(secure::connect(port, None, &secure::VERSIONS));
            }
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("accepted");
            stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
            Box::new(stream)
        };
        let begin = Instant::now();
        let open: Vec<_> = HALVES
            .iter()
            .map(|half| {
                let mut stream = connect();
                // On a busy machine the time may be over before.
                let _ = stream.write_all(half.as_bytes()).and_then(|()| stream.flush());
                (half, stream)
            })
            .collect();
        for (half, mut stream) in open {
            let end = stream.read_to_end(&mut Vec::new());
            let kind = end.err().map(|error| error.kind());
            let waits = matches!(kind, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut));
            assert!(!waits, "still open after {:?}: {half:?}\n{}", begin.elapsed(), rig.member.describe());
        }
        assert!(begin.elapsed() >= Duration::from_secs(4), "closed after {:?}", begin.elapsed());
        let mut stream = connect();
        let request = b"GET /version HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n";
        stream.write_all(request).expect("sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", rig.member.describe());
    }
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}
