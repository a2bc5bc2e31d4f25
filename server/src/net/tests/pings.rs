//! Clients that ping often, with and without calls under way.

use std::time::Duration;

use h2::Ping;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::fake::Server;
use super::wire::{call, range, receive, request};
use crate::net::Surface;

const RANGE: &str = "/etcdserverpb.KV/Range";
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingpong";

/// Kinds and payloads of frames.
async fn frames(stream: &mut TcpStream) -> Vec<(u8, Vec<u8>)> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let mut rest = &bytes[..];
    let mut frames = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, tail @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        frames.push((*kind, tail[..length].to_vec()));
        rest = &tail[length..];
    }
    assert!(rest.is_empty(), "{rest:?}");
    frames
}

#[tokio::test]
async fn an_idle_client_that_pings_is_sent_away() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(GREETING).await.unwrap();
    stream.write_all(&PING.repeat(4)).await.unwrap();
    let frames = frames(&mut stream).await;
    let (kind, last) = frames.last().expect("frames");
    assert_eq!(*kind, 7);
    assert_eq!(last, b"\0\0\0\0\0\0\0\x0btoo_many_pings");
    assert_eq!(frames.iter().filter(|(kind, _)| *kind == 7).count(), 1);
}

/// What h2 makes of it: an error that says why. Answers in between make good for any number of pings.
#[tokio::test]
async fn answers_make_good_for_pings() {
    let server = Server::start();
    let stream = TcpStream::connect(server.addr).await.unwrap();
    let (sender, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().expect("asked once");
    let mut ended = tokio::spawn(connection);
    for _ in 0..10 {
        for _ in 0..3 {
            pings.ping(Ping::opaque()).await.unwrap();
        }
        let reply = call(&sender, request(RANGE), range("a")).await.unwrap();
        assert_eq!(reply.code(), 0);
    }
    let error = loop {
        tokio::select! {
            ended = &mut ended => break ended.unwrap().expect_err("sent away"),
            _ = pings.ping(Ping::opaque()) => {}
        }
    };
    assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
}

/// With a call under way it is the flag that counts.
#[tokio::test]
async fn pings_during_a_call_may_be_as_frequent_as_the_flag_says() {
    for (least, fate) in [(Duration::ZERO, true), (Duration::from_secs(3600), false)] {
        let server = Server::with(Surface::Client, |settings| {
            settings.keepalive_min_time = least
        });
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let (mut sender, mut connection) = h2::client::handshake(stream).await.unwrap();
        let mut pings = connection.ping_pong().expect("asked once");
        tokio::spawn(connection);
        let (response, mut send) = sender.send_request(request(RANGE), false).unwrap();
        send.send_data(range("wait"), true).unwrap();
        server.wait_for_waiting(1).await;
        let mut all = true;
        for _ in 0..10 {
            all &= pings.ping(Ping::opaque()).await.is_ok();
        }
        assert_eq!(all, fate, "{least:?}");
        server.fake.released.notify_waiters();
        let reply = receive(response).await;
        assert_eq!(
            reply.is_ok_and(|reply| reply.code() == 0),
            fate,
            "{least:?}"
        );
    }
}
