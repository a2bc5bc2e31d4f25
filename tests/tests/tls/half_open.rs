//! Connections that say nothing, or not enough.

use std::io::{Read as _, Write as _};
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

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}
