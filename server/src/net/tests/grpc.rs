//! gRPC calls: what a Go server was seen to answer, byte for byte where it matters.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, Request};
use prost::Message as _;
use retcd_proto::etcdserverpb as pb;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use super::fake::{MAX_RECEIVE, Server, until};
use super::wire::{Reply, call, connect, frame, range, raw_frame, receive, request};
use crate::net::Surface;
use crate::net::grpc::Method;

const RANGE: &str = "/etcdserverpb.KV/Range";
const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";

async fn ask(server: &Server, request: Request<()>, body: Bytes) -> Reply {
    let client = connect(server.addr).await;
    call(&client, request, body).await.unwrap()
}

fn with(mut request: Request<()>, header: &'static str, value: &'static [u8]) -> Request<()> {
    let value = HeaderValue::from_bytes(value).unwrap();
    request.headers_mut().insert(header, value);
    request
}

fn keys(reply: &pb::RangeResponse) -> Vec<&[u8]> {
    reply.kvs.iter().map(|kv| &kv.key[..]).collect()
}

#[tokio::test]
async fn a_call_is_answered() {
    let server = Server::start();
    let reply = ask(&server, request(RANGE), range("a")).await;
    assert_eq!((reply.http, reply.code(), reply.text()), (200, 0, ""));
    assert_eq!(keys(&reply.messages()[0]), [b"a"]);
    assert_eq!(reply.headers["content-type"], "application/grpc");
    assert_eq!(reply.headers.len(), 1, "{:?}", reply.headers);
}

#[tokio::test]
async fn bad_calls_get_the_codes_and_texts_of_grpc_go() {
    let server = Server::start();
    let good = range("a");
    let post = |path| request(path);
    let limit = MAX_RECEIVE as u32 + 1;
    let prefix_only = [&[0][..], &limit.to_be_bytes()].concat();
    let wire_format = "proto: cannot parse invalid wire-format data";
    let twice = [&good[..], &good[..]].concat();
    #[rustfmt::skip]
    let cases: Vec<(Request<()>, Bytes, u16, Code, String)> = vec![
        // Headers.
        (with(post(RANGE), "content-type", b"application/json"), good.clone(), 415, Code::InvalidArgument,
            "invalid gRPC request content-type \"application/json\"".into()),
        (with(post(RANGE), "content-type", b"application/grpc-web"), good.clone(), 415, Code::InvalidArgument,
            "invalid gRPC request content-type \"application/grpc-web\"".into()),
        (with(post(RANGE), "content-type", b""), good.clone(), 415, Code::InvalidArgument,
            "invalid gRPC request content-type \"\"".into()),
        (with(post(RANGE), "grpc-timeout", b"xx"), good.clone(), 400, Code::Internal,
            "malformed grpc-timeout: transport: timeout unit is not recognized: \"xx\"".into()),
        (with(post(RANGE), "x-any-bin", b"!!!"), good.clone(), 400, Code::Internal,
            "malformed binary metadata \"!!!\" in header \"x-any-bin\": illegal base64 data at input byte 0".into()),
        (with(with(post("/no/Path"), "a-bin", b"!"), "b-bin", b"AA="), good.clone(), 400, Code::Internal,
            "malformed binary metadata \"AA=\" in header \"b-bin\": illegal base64 data at input byte 2".into()),
        (with(with(post(RANGE), "a-bin", b"!"), "grpc-timeout", b"x"), good.clone(), 400, Code::Internal,
            "malformed grpc-timeout: transport: timeout string is too short: \"x\"".into()),
        (with(with(post(RANGE), "content-type", b"text"), "a-bin", b"!"), good.clone(), 415, Code::InvalidArgument,
            "invalid gRPC request content-type \"text\"".into()),
        (with(post(RANGE), "grpc-timeout", b"0n"), good.clone(), 200, Code::DeadlineExceeded,
            "context deadline exceeded".into()),
        (with(post(RANGE), "grpc-encoding", b"snappy"), good.clone(), 200, Code::Unimplemented,
            "grpc: Decompressor is not installed for grpc-encoding \"snappy\"".into()),
        (with(post(RANGE), "client-api-version", b"\xff\xfe"), good.clone(), 200, Code::InvalidArgument,
            "etcdserver: invalid client api version".into()),
        (with(post(RANGE_STREAM), "client-api-version", b"\xff\xfe"), good.clone(), 200, Code::InvalidArgument,
            "etcdserver: invalid client api version".into()),
        // Paths.
        (post("/etcdserverpb.KV/Foo"), good.clone(), 200, Code::Unimplemented,
            "unknown method Foo for service etcdserverpb.KV".into()),
        (post("/etcdserverpb.KV/"), good.clone(), 200, Code::Unimplemented,
            "unknown method  for service etcdserverpb.KV".into()),
        (post("/etcdserverpb.KV/Range?x=1"), good.clone(), 200, Code::Unimplemented,
            "unknown method Range?x=1 for service etcdserverpb.KV".into()),
        (post("/etcdserverpb.KV/F%41o"), good.clone(), 200, Code::Unimplemented,
            "unknown method F%2541o for service etcdserverpb.KV".into()),
        (post("/foo/Bar"), good.clone(), 200, Code::Unimplemented, "unknown service foo".into()),
        (post("/foo.bar/Baz/Qux"), good.clone(), 200, Code::Unimplemented, "unknown service foo.bar/Baz".into()),
        (post("//etcdserverpb.KV/Range"), good.clone(), 200, Code::Unimplemented,
            "unknown service /etcdserverpb.KV".into()),
        (post("/foo"), good.clone(), 200, Code::Unimplemented, "malformed method name: \"/foo\"".into()),
        (post("/"), good.clone(), 200, Code::Unimplemented, "malformed method name: \"/\"".into()),
        // Bodies.
        (post(RANGE), Bytes::new(), 200, Code::Unknown, "EOF".into()),
        (post(RANGE), Bytes::from_static(b"\0\0"), 200, Code::Unknown, "EOF".into()),
        (post(RANGE), Bytes::from_static(b"\0\0\0\0\x05ab"), 200, Code::Unknown, "unexpected EOF".into()),
        (post(RANGE), raw_frame(0, b"\xff\xff\xff"), 200, Code::Internal,
            format!("grpc: error unmarshalling request: {wire_format}")),
        (post(RANGE), raw_frame(0, b"\x0a\x05a"), 200, Code::Internal,
            format!("grpc: error unmarshalling request: {wire_format}")),
        (post("/grpc.health.v1.Health/Check"), raw_frame(0, b"\x0a\x01\xff"), 200, Code::Internal,
            "grpc: error unmarshalling request: string field contains invalid UTF-8".into()),
        (post(RANGE), raw_frame(1, b"\x0a\x01a"), 200, Code::Internal,
            "grpc: compressed flag set with identity or empty encoding".into()),
        (with(post(RANGE), "grpc-encoding", b"identity"), raw_frame(1, b"\x0a\x01a"), 200, Code::Internal,
            "grpc: compressed flag set with identity or empty encoding".into()),
        (post(RANGE), raw_frame(2, b"\x0a\x01a"), 200, Code::Internal,
            "grpc: received unexpected payload format 2".into()),
        (post(RANGE), prefix_only.into(), 200, Code::ResourceExhausted,
            "grpc: received message larger than max (2097153 vs. 2097152)".into()),
        (post(RANGE), Bytes::from_static(b"\0\xff\xff\xff\xff"), 200, Code::ResourceExhausted,
            "grpc: received message larger than max (4294967295 vs. 2097152)".into()),
        // Server streams insist on exactly one request.
        (post(RANGE_STREAM), twice.into(), 200, Code::Internal,
            "cardinality violation: received multiple request messages for non-client-streaming RPC".into()),
        (post(RANGE_STREAM), Bytes::new(), 200, Code::Internal,
            "cardinality violation: received no request message from non-client-streaming RPC".into()),
        (post(RANGE_STREAM), Bytes::from_static(b"\0\0\0\0\x05ab"), 200, Code::Internal, "unexpected EOF".into()),
        (post(RANGE_STREAM), raw_frame(0, b"\xff"), 200, Code::Internal,
            format!("grpc: failed to unmarshal the received message: {wire_format}")),
        (post(RANGE_STREAM), range(""), 200, Code::InvalidArgument, "etcdserver: key is not provided".into()),
        // The member's own.
        (post(RANGE), range(""), 200, Code::InvalidArgument, "etcdserver: key is not provided".into()),
        (post(RANGE), range("fail"), 200, Code::Unknown, "100%25 broken%0A".into()),
        (post("/etcdserverpb.Lease/LeaseGrant"), good.clone(), 200, Code::Unimplemented,
            concat!("retcd ", env!("CARGO_PKG_VERSION"), " does not serve etcdserverpb.Lease/LeaseGrant yet").into()),
        (post("/grpc.health.v1.Health/Check"), raw_frame(0, b"\x0a\x03foo"), 200, Code::NotFound,
            "unknown service".into()),
    ];
    // All on one connection, which no bad call may harm.
    let client = connect(server.addr).await;
    for (request, body, http, code, text) in cases {
        let what = format!("{request:?} {:?}", &body[..body.len().min(20)]);
        let reply = call(&client, request, body).await.expect(&what);
        let got = (reply.http, Code::from(reply.code()), reply.text());
        assert_eq!(got, (http, code, text.as_str()), "{what}");
        assert!(reply.data.is_empty(), "{what}");
        assert_eq!(reply.headers["content-type"], "application/grpc", "{what}");
    }
    let reply = call(&client, request(RANGE), good).await.unwrap();
    assert_eq!(reply.code(), 0);
}

#[tokio::test]
async fn other_methods_than_post_are_refused() {
    let server = Server::start();
    let mut get = request(RANGE);
    *get.method_mut() = http::Method::GET;
    let reply = ask(&server, get, Bytes::new()).await;
    assert_eq!((reply.http, reply.code()), (405, Code::Internal as i32));
    assert_eq!(
        reply.text(),
        "Received a HEADERS frame with :method \"GET\" which should be POST"
    );
}

#[tokio::test]
async fn content_subtypes_are_echoed() {
    let server = Server::start();
    for (sent, echoed) in [
        ("application/grpc+proto", "application/grpc+proto"),
        (
            "application/grpc;charset=utf8",
            "application/grpc+charset=utf8",
        ),
    ] {
        let request = with(request(RANGE), "content-type", sent.as_bytes());
        let reply = ask(&server, request, range("a")).await;
        assert_eq!(reply.headers["content-type"], echoed);
        assert_eq!(reply.code(), 0);
    }
}

#[tokio::test]
async fn neither_te_nor_the_end_of_the_stream_is_needed() {
    let server = Server::start();
    let mut client = connect(server.addr).await;
    let mut without = request(RANGE);
    without.headers_mut().remove("te");
    let (response, mut send) = client.send_request(without, false).unwrap();
    send.send_data(range("a"), false).unwrap();
    let reply = receive(response).await.unwrap();
    assert_eq!(reply.code(), 0);
}

#[tokio::test]
async fn gzip_is_answered_with_gzip() {
    use flate2::Compression;
    use flate2::read::{GzDecoder, GzEncoder};
    use std::io::Read as _;
    let server = Server::start();
    let gzipped = |message: &[u8]| {
        let mut bytes = Vec::new();
        let mut encoder = GzEncoder::new(message, Compression::default());
        encoder.read_to_end(&mut bytes).unwrap();
        raw_frame(1, &bytes)
    };
    let message = &range("a")[5..];
    for (path, body, replies) in [
        (RANGE, gzipped(message), 1),
        (RANGE, range("a"), 1),
        (RANGE_STREAM, gzipped(message), 3),
    ] {
        let reply = ask(&server, with(request(path), "grpc-encoding", b"gzip"), body).await;
        assert_eq!((reply.code(), reply.text()), (0, ""));
        assert_eq!(reply.headers["grpc-encoding"], "gzip");
        let mut rest = &reply.data[..];
        for _ in 0..replies {
            let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
            let mut message = Vec::new();
            let mut decoder = GzDecoder::new(&rest[5..5 + length]);
            decoder.read_to_end(&mut message).unwrap();
            assert_eq!(rest[0], 1);
            assert!(message.windows(3).any(|at| at == b"\x0a\x01a"));
            rest = &rest[5 + length..];
        }
        assert!(rest.is_empty());
    }
    // Counted as they were before.
    let log = server.log.0.lock().join(", ");
    assert!(
        log.starts_with("Range started, Range received 3, Range sent 7, "),
        "{log}"
    );

    let too_large = gzipped(&vec![0; MAX_RECEIVE + 1]);
    assert!(too_large.len() < 10_000);
    #[rustfmt::skip]
    let cases = [
        (RANGE, too_large, Code::ResourceExhausted,
            "grpc: received message after decompression larger than max 2097152"),
        (RANGE, raw_frame(1, message), Code::Internal,
            "grpc: failed to decompress the message: unexpected EOF"),
        (RANGE_STREAM, raw_frame(1, message), Code::Internal,
            "grpc: failed to decompress the message: unexpected EOF"),
        (RANGE, raw_frame(2, message), Code::Internal, "grpc: received unexpected payload format 2"),
        (RANGE, gzipped(b""), Code::InvalidArgument, "etcdserver: key is not provided"),
    ];
    for (path, body, code, text) in cases {
        let reply = ask(&server, with(request(path), "grpc-encoding", b"gzip"), body).await;
        assert_eq!((Code::from(reply.code()), reply.text()), (code, text));
        assert!(!reply.headers.contains_key("grpc-encoding"));
    }
}

/// What etcdctl 3.4 sends for an endpoint that is given as a URL.
#[tokio::test]
async fn an_authority_may_be_a_url() {
    let server = Server::start();
    let header = |length: usize, kind, flags, stream| {
        let [.., a, b] = (length as u32).to_be_bytes();
        [0, a, b, kind, flags, 0, 0, 0, stream]
    };
    let fields = |authority: &[u8]| {
        let path = [&[0x04, RANGE.len() as u8], RANGE.as_bytes()].concat();
        let kind = b"\x0f\x10\x10application/grpc";
        [b"\x83\x86", &path[..], authority, kind].concat()
    };
    let first = fields(b"\x41\x90\x9d\x29\xae\xe3\x0c\x04\x4e\xae\x05\xc0\xb8\x6e\x09\x90\xba\xff");
    // The table's newest entry.
    let second = fields(b"\xbe");
    let body = range("a");
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(header(0, 4, 0, 0));
    for (stream, fields) in [(1, &first), (3, &second)] {
        sent.extend(header(fields.len(), 1, 4, stream));
        sent.extend(fields);
        sent.extend(header(body.len(), 0, 1, stream));
        sent.extend(&body[..]);
    }
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(&sent).await.unwrap();
    let mut got = Vec::new();
    let answers = |got: &[u8]| got.windows(3).filter(|at| at == b"\x0a\x01a").count();
    while answers(&got) < 2 {
        let more = timeout(Duration::from_secs(60), stream.read_buf(&mut got)).await;
        assert!(more.unwrap().unwrap() > 0, "{}", got.escape_ascii());
    }
}

#[tokio::test]
async fn metadata_reaches_the_member() {
    let server = Server::start();
    let leader = with(request(RANGE), "hasleader", b"true");
    let reply = ask(&server, leader, range("leader")).await;
    assert_eq!(keys(&reply.messages()[0]), [b"true"]);
    let version = with(request(RANGE), "client-api-version", b"3.5");
    let reply = ask(&server, version, range("version")).await;
    assert_eq!(keys(&reply.messages()[0]), [b"3.5"]);
}

#[tokio::test]
async fn the_largest_message_is_taken_in_any_pieces() {
    let server = Server::start();
    // Key and value lengths such that the whole is exactly the limit.
    let value = |length| pb::RangeRequest {
        key: Bytes::from_static(b"a"),
        range_end: vec![b'z'; length].into(),
        ..pb::RangeRequest::default()
    };
    let spare = MAX_RECEIVE - value(MAX_RECEIVE - 16).encoded_len();
    let message = value(MAX_RECEIVE - 16 + spare);
    assert_eq!(message.encoded_len(), MAX_RECEIVE);
    let reply = ask(&server, request(RANGE), frame(&message)).await;
    assert_eq!(keys(&reply.messages()[0]), [b"a"]);

    // Byte by byte, the small one.
    let mut client = connect(server.addr).await;
    let (response, mut send) = client.send_request(request(RANGE), false).unwrap();
    for byte in range("bytes") {
        send.send_data(Bytes::copy_from_slice(&[byte]), false)
            .unwrap();
    }
    send.send_data(Bytes::new(), true).unwrap();
    let reply = receive(response).await.unwrap();
    assert_eq!(keys(&reply.messages()[0]), [b"bytes"]);
}

#[tokio::test]
async fn early_refusals_do_not_cost_the_connection() {
    let server = Server::start();
    let client = connect(server.addr).await;
    let mut large = vec![0; 5000];
    large[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
    let large = Bytes::from(large);
    for _ in 0..3000 {
        let reply = call(&client, request(RANGE), large.clone()).await.unwrap();
        assert_eq!(reply.code(), Code::ResourceExhausted as i32);
    }
}

/// A burst of small requests must not look like an attack (dependency trap: h2's budget of small
/// unread DATA frames).
#[tokio::test]
async fn ten_thousand_streams_at_once() {
    let server = Server::start();
    let mut client = connect(server.addr).await;
    let mut replies = Vec::new();
    for number in 0..10_000 {
        client = client.ready().await.unwrap();
        let (response, mut send) = client.send_request(request(RANGE), false).unwrap();
        send.send_data(range(&number.to_string()), false).unwrap();
        send.send_data(Bytes::new(), true).unwrap();
        replies.push(receive(response));
    }
    for (number, reply) in join_all(replies).await.into_iter().enumerate() {
        let reply = reply.unwrap();
        assert_eq!(keys(&reply.messages()[0]), [number.to_string().as_bytes()]);
    }
}

/// Many clients close their side in a frame of its own, which may come late.
#[tokio::test]
async fn late_ends_of_streams_do_not_cost_the_connection() {
    let server = Server::start();
    let mut client = connect(server.addr).await;
    for _ in 0..3 {
        let mut calls = Vec::new();
        for _ in 0..1000 {
            client = client.ready().await.unwrap();
            let (response, mut send) = client.send_request(request(RANGE), false).unwrap();
            send.send_data(range("wait"), false).unwrap();
            calls.push((response, send));
        }
        server.wait_for_waiting(1000).await;
        server.fake.released.notify_waiters();
        server.wait_for_waiting(0).await;
        let replies = calls.into_iter().map(|(response, mut send)| {
            send.send_data(Bytes::new(), true).unwrap();
            receive(response)
        });
        for reply in join_all(replies).await {
            assert_eq!(reply.unwrap().code(), 0);
        }
    }
}

#[tokio::test]
async fn streams_of_replies() {
    let server = Server::start();
    let reply = ask(&server, request(RANGE_STREAM), range("a")).await;
    assert_eq!(reply.code(), 0);
    let messages = reply.messages::<pb::RangeStreamResponse>();
    assert_eq!(messages.len(), 3);
    assert_eq!(keys(messages[2].range_response.as_ref().unwrap()), [b"a"]);

    let reply = ask(&server, request(RANGE_STREAM), range("fail")).await;
    assert_eq!(reply.messages::<pb::RangeStreamResponse>().len(), 3);
    assert_eq!(reply.code(), Code::OutOfRange as i32);
    assert_eq!(
        reply.text(),
        "etcdserver: mvcc: required revision has been compacted"
    );
}

#[tokio::test]
async fn deadlines() {
    let server = Server::start();
    for path in [RANGE, RANGE_STREAM] {
        let hurried = with(request(path), "grpc-timeout", b"30m");
        let reply = ask(&server, hurried, range("wait")).await;
        assert_eq!(reply.code(), Code::DeadlineExceeded as i32, "{path}");
        assert_eq!(reply.text(), "context deadline exceeded");
    }
    // The request itself may be what is late.
    let mut client = connect(server.addr).await;
    let hurried = with(request(RANGE), "grpc-timeout", b"30m");
    let (response, _open) = client.send_request(hurried, false).unwrap();
    let reply = receive(response).await.unwrap();
    assert_eq!(reply.code(), Code::DeadlineExceeded as i32);
    server.wait_for_waiting(0).await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_calls() {
    let server = Server::start();
    // One resets a stream, one closes its connection.
    let mut client = connect(server.addr).await;
    let (response, mut send) = client.send_request(request(RANGE), false).unwrap();
    send.send_data(range("wait"), true).unwrap();
    server.wait_for_waiting(1).await;
    send.send_reset(h2::Reason::CANCEL);
    server.wait_for_waiting(0).await;
    drop((response, send));

    let (response, mut send) = client.send_request(request(RANGE), false).unwrap();
    send.send_data(range("wait"), true).unwrap();
    server.wait_for_waiting(1).await;
    drop((response, send, client));
    server.wait_for_waiting(0).await;
    let cancelled = || {
        let log = server.log.0.lock();
        let lines = log
            .iter()
            .filter(|line| *line == "Range finished Cancelled");
        lines.count() == 2
    };
    until("both are reported", cancelled).await;
}

/// The answer waits for the client to close its side; a reset instead must not keep the only thread busy for ever.
#[tokio::test]
async fn a_client_resets_its_stream_before_it_closes_its_side() {
    let server = Server::with(Surface::Client, |settings| settings.threads = 1);
    let client = connect(server.addr).await;
    for answered in 1..=20 {
        let mut client = client.clone();
        let (_response, mut send) = client.send_request(request(RANGE), false).unwrap();
        send.send_data(range("a"), false).unwrap();
        let finished = || {
            let log = server.log.0.lock();
            log.iter()
                .filter(|line| *line == "Range finished Ok")
                .count()
                == answered
        };
        until("the call is answered", finished).await;
        send.send_reset(h2::Reason::CANCEL);
    }
    let other = async { ask(&server, request(RANGE), range("a")).await.code() };
    let code = timeout(Duration::from_secs(60), other).await;
    assert_eq!(code, Ok(Code::Ok as i32), "nobody is served any more");
}

#[tokio::test]
async fn calls_are_observed_as_etcd_counts_them() {
    let server = Server::start();
    let client = connect(server.addr).await;
    for (path, body) in [
        (RANGE, range("a")),
        (RANGE, range("")),
        (RANGE, Bytes::from_static(b"\0\xff\xff\xff\xff")),
        (RANGE_STREAM, Bytes::new()),
        (RANGE_STREAM, range("fail")),
        ("/etcdserverpb.Lease/LeaseGrant", Bytes::new()),
        ("/no/Service", Bytes::new()),
    ] {
        call(&client, request(path), body).await.unwrap();
    }
    let expected = "Range started, Range received 3, Range sent 7, Range finished Ok, \
        Range started, Range received 0, Range finished InvalidArgument, \
        RangeStream started, RangeStream finished Internal, \
        RangeStream started, RangeStream received 6, RangeStream sent 12, RangeStream sent 12, \
        RangeStream sent 12, RangeStream finished OutOfRange, \
        LeaseGrant started, LeaseGrant finished Unimplemented";
    assert_eq!(server.log.0.lock().join(", "), expected);
}

#[tokio::test]
async fn health() {
    let server = Server::start();
    let check = request("/grpc.health.v1.Health/Check");
    let reply = ask(&server, check, raw_frame(0, b"")).await;
    assert_eq!((reply.code(), &reply.data[5..]), (0, &b"\x08\x01"[..]));
    let list = request("/grpc.health.v1.Health/List");
    let reply = ask(&server, list, raw_frame(0, b"")).await;
    let listed = &b"\x0a\x04\x12\x02\x08\x01"[..];
    assert_eq!(
        (reply.code(), &reply.data[5..]),
        (0, listed),
        "one service; its name is empty and left out"
    );

    let mut client = connect(server.addr).await;
    let mut watch = |service: &[u8]| {
        let request = request("/grpc.health.v1.Health/Watch");
        let (response, mut send) = client.send_request(request, false).unwrap();
        send.send_data(raw_frame(0, service), true).unwrap();
        response
    };
    let known = watch(b"");
    let unknown = watch(b"\x0a\x03foo");
    // Let both answer before the member stops.
    let known = known.await.unwrap().into_body();
    let unknown = unknown.await.unwrap().into_body();
    server.stop(Duration::from_secs(10)).await;
    let (known, known_end) = drain(known).await;
    let (unknown, unknown_end) = drain(unknown).await;
    assert_eq!(known.first(), Some(&b"\0\0\0\0\x02\x08\x01"[..].into()));
    assert_eq!(known.last(), Some(&b"\0\0\0\0\x02\x08\x02"[..].into()));
    assert_eq!(unknown, [b"\0\0\0\0\x02\x08\x03"[..].to_vec()]);
    assert_eq!((known_end.as_str(), unknown_end.as_str()), ("1", "1"));
}

/// The messages of a stream and its status.
async fn drain(mut body: h2::RecvStream) -> (Vec<Vec<u8>>, String) {
    let mut messages = Vec::new();
    while let Some(chunk) = body.data().await {
        messages.push(chunk.unwrap().to_vec());
    }
    let trailers = body.trailers().await.unwrap().unwrap();
    let status = trailers["grpc-status"].to_str().unwrap().to_owned();
    (messages, status)
}

#[tokio::test]
async fn a_tonic_client_is_served() {
    let server = Server::start();
    let channel = Channel::from_shared(format!("http://{}", server.addr)).unwrap();
    let mut client = tonic::client::Grpc::new(channel.connect().await.unwrap());
    let asked = |key: &'static str| pb::RangeRequest {
        key: key.into(),
        ..pb::RangeRequest::default()
    };

    client.ready().await.unwrap();
    let codec = ProstCodec::<pb::RangeRequest, pb::RangeResponse>::default();
    let request = tonic::Request::new(asked("a"));
    let reply = client.unary(request, RANGE.parse().unwrap(), codec).await;
    assert_eq!(keys(reply.unwrap().get_ref()), [b"a"]);

    client.ready().await.unwrap();
    let codec = ProstCodec::<pb::RangeRequest, pb::RangeResponse>::default();
    let request = tonic::Request::new(asked("fail"));
    let reply = client.unary(request, RANGE.parse().unwrap(), codec).await;
    let status = reply.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    assert_eq!(status.message(), "100% broken\n");

    client.ready().await.unwrap();
    let codec = ProstCodec::<pb::RangeRequest, pb::RangeStreamResponse>::default();
    let request = tonic::Request::new(asked("a"));
    let path = RANGE_STREAM.parse().unwrap();
    let replies = client.server_streaming(request, path, codec).await;
    let mut replies = replies.unwrap().into_inner();
    let mut count = 0;
    while replies.message().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 3);
}

#[test]
fn every_method_is_found_by_its_path() {
    for (number, method) in Method::ALL.iter().enumerate() {
        assert_eq!(*method as usize, number);
        let path = format!("/{}/{}", method.service(), method.name());
        assert_eq!(Method::find(&path), Some(*method));
        assert!(Method::SERVICES.contains(&method.service()));
        assert!(!method.kind().label().is_empty());
    }
}
