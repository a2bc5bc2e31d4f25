//! Connections come and go, servers start and stop, clients misbehave.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use h2::client::SendRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tonic::Code;

use super::fake::{Server, until};
use super::wire::{call, connect, exchange, range, receive, request};
use crate::net::{Listener, Surface};

const RANGE: &str = "/etcdserverpb.KV/Range";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// How long anything may take that nothing holds up.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a stop gives those who hold it up.
const LONG: Duration = Duration::from_secs(600);

async fn works(client: &SendRequest<Bytes>) -> bool {
    let reply = call(client, request(RANGE), range("a")).await;
    reply.is_ok_and(|reply| reply.code() == 0)
}

async fn refuses(addr: SocketAddr) -> bool {
    TcpStream::connect(addr).await.is_err()
}

#[tokio::test]
async fn two_servers_in_one_process() {
    let one = Server::start();
    let two = Server::start();
    let first = connect(one.addr).await;
    let second = connect(two.addr).await;
    assert!(works(&first).await && works(&second).await);
    one.stop(LONG).await;
    assert!(!works(&first).await);
    assert!(works(&second).await);
    assert!(refuses(one.addr).await);
    // The address is free at once.
    Listener::bind(one.addr).unwrap();
}

#[tokio::test]
async fn calls_in_flight_may_end() {
    let server = Server::start();
    let mut client = connect(server.addr).await;
    let (response, mut send) = client.send_request(request(RANGE), false).unwrap();
    send.send_data(range("wait"), true).unwrap();
    server.wait_for_waiting(1).await;
    let stopping = server.stop(LONG);
    let addr = server.addr;
    let meanwhile = async {
        let deadline = Instant::now() + PATIENCE;
        while !refuses(addr).await {
            assert!(Instant::now() < deadline, "still listens");
        }
        // Told to go away, the client starts nothing new; what it waits for arrives.
        server.fake.released.notify_waiters();
        let reply = receive(response).await.unwrap();
        assert_eq!(reply.code(), 0);
        assert!(!works(&client).await);
    };
    tokio::join!(stopping, meanwhile);
    assert_eq!(server.net.connections(), 0);
    // Again, and from several threads: nothing left to do.
    tokio::join!(server.stop(Duration::ZERO), server.stop(Duration::ZERO));
}

#[tokio::test]
async fn calls_that_do_not_end_are_dropped() {
    let server = Server::start();
    let mut client = connect(server.addr).await;
    let (response, mut send) = client.send_request(request(RANGE), false).unwrap();
    send.send_data(range("wait"), true).unwrap();
    server.wait_for_waiting(1).await;
    server.stop(Duration::from_millis(50)).await;
    assert!(receive(response).await.is_err());
    server.wait_for_waiting(0).await;
    assert_eq!(server.net.connections(), 0);
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_a_stop() {
    let server = Server::start();
    let _silent = TcpStream::connect(server.addr).await.unwrap();
    let mut http1 = TcpStream::connect(server.addr).await.unwrap();
    let ask = b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n";
    http1.write_all(ask).await.unwrap();
    http1.read_u8().await.unwrap();
    let http2 = connect(server.addr).await;
    assert!(works(&http2).await);
    until("all are served", || server.net.connections() == 3).await;
    let stop = server.stop(LONG);
    timeout(PATIENCE, stop).await.unwrap();
}

#[tokio::test]
async fn connections_are_spread_over_the_threads() {
    let server = Server::with(Surface::Client, |settings| settings.threads = 3);
    let mut clients = Vec::new();
    for _ in 0..9 {
        clients.push(connect(server.addr).await);
    }
    until("all are dealt", || server.net.connections() == 9).await;
    assert_eq!(server.net.threads.loads(), [3, 3, 3]);
    drop(clients);
    until("all are gone", || server.net.connections() == 0).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let server = Server::with(Surface::Client, |settings| settings.connection_limit = 2);
    let first = connect(server.addr).await;
    let second = connect(server.addr).await;
    assert!(works(&first).await && works(&second).await);
    let mut third = TcpStream::connect(server.addr).await.unwrap();
    let ask = b"GET /livez HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    third.write_all(ask).await.unwrap();
    let early = timeout(Duration::from_millis(100), third.read_u8()).await;
    assert!(early.is_err(), "served beyond the limit");
    drop(first);
    let mut answer = String::new();
    third.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");
    assert!(works(&second).await);
}

#[tokio::test]
async fn clients_that_keep_us_waiting_are_cut_off() {
    let server = Server::with(Surface::Client, |settings| {
        settings.header_timeout = Duration::from_secs(1);
    });
    // An HTTP/2 connection may be idle for as long as it likes.
    let http2 = connect(server.addr).await;
    let begun = [
        &b""[..],
        b"PRI * HTTP/2.0\r\n",
        b"GET /livez HTTP/1.1\r\nHost: te",
    ];
    let cut = join_all(begun.map(|bytes| exchange(server.addr, bytes)));
    timeout(PATIENCE, cut).await.unwrap();
    assert!(works(&http2).await);
    drop(http2);
    until("none are held", || server.net.connections() == 0).await;
}

/// Whatever one client sends, the others are served.
#[tokio::test]
async fn hostile_bytes_end_their_connection_only() {
    let server = Server::start();
    let witness = connect(server.addr).await;
    let headers = |length: u32, payload: &[u8]| {
        let head = [&length.to_be_bytes()[1..], &[1, 4, 0, 0, 0, 1]].concat();
        [PREFACE, SETTINGS, &head, payload].concat()
    };
    let long_line = [&b"GET /"[..], &[b'a'; 1 << 20], b" HTTP/1.1\r\n\r\n"].concat();
    let long_header = [
        &b"GET / HTTP/1.1\r\nHost: a\r\nX: "[..],
        &[b'a'; 1 << 20],
        b"\r\n\r\n",
    ]
    .concat();
    let cases: Vec<Vec<u8>> = vec![
        b"\0".to_vec(),
        b"GARBAGE\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
        long_line,
        long_header,
        // A frame that is larger than allowed.
        [PREFACE, SETTINGS, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
        // Settings that are not a multiple of six bytes.
        [PREFACE, &[0, 0, 5, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5]].concat(),
        // A header block that is not HPACK.
        headers(4, b"\xff\xff\xff\xff"),
        // DATA on a stream that was never opened.
        [PREFACE, SETTINGS, &[0, 0, 1, 0, 0, 0, 0, 0, 5, 0]].concat(),
        // A stream id that only servers use.
        [PREFACE, SETTINGS, &[0, 0, 1, 1, 5, 0, 0, 0, 2, 0x82]].concat(),
        // A window that overflows.
        [
            PREFACE,
            SETTINGS,
            &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff],
        ]
        .concat(),
    ];
    for bytes in &cases {
        let what = format!("{:?}", &bytes[..bytes.len().min(60)]);
        let closed = timeout(PATIENCE, exchange(server.addr, bytes)).await;
        closed.expect(&what);
        assert!(works(&witness).await, "{what}");
    }
    // Cut off in the middle of a frame, by a client that goes.
    for length in [10, PREFACE.len() + 3, PREFACE.len() + SETTINGS.len() + 11] {
        let begun = headers(100, b"\x82\x84");
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(&begun[..length]).await.unwrap();
        drop(stream);
    }
    until("only the witness is left", || server.net.connections() == 1).await;
    assert!(works(&witness).await);
}

#[tokio::test]
async fn oversized_metadata_costs_its_call_only() {
    let server = Server::start();
    let client = connect(server.addr).await;
    let mut fits = request(RANGE);
    let header = "x".repeat(20_000).parse().unwrap();
    fits.headers_mut().insert("foo", header);
    assert_eq!(call(&client, fits, range("a")).await.unwrap().code(), 0);
    let mut large = request(RANGE);
    let header = "x".repeat(300_000).parse().unwrap();
    large.headers_mut().insert("foo", header);
    let refused = call(&client, large, range("a")).await;
    assert!(refused.is_err() || refused.unwrap().http == 431);
    assert!(works(&client).await);
}

#[tokio::test]
async fn too_many_streams_are_refused() {
    let server = Server::with(Surface::Client, |settings| {
        settings.max_concurrent_streams = 2;
    });
    let mut client = connect(server.addr).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        client = client.ready().await.unwrap();
        let (response, mut send) = client.send_request(request(RANGE), false).unwrap();
        send.send_data(range("wait"), true).unwrap();
        open.push(receive(response));
    }
    server.wait_for_waiting(2).await;
    // Our client keeps to the setting it was told: a third call waits for room.
    let third = call(&client, request(RANGE), range("a"));
    let mut third = std::pin::pin!(third);
    let early = timeout(Duration::from_millis(50), third.as_mut()).await;
    assert!(early.is_err());
    server.fake.released.notify_waiters();
    assert_eq!(Code::from(third.await.unwrap().code()), Code::Ok);
}
