//! What no client library sends: broken messages, broken frames, wrong metadata, sizes at each limit.

use crate::requests::*;
use crate::rpc::{HealthReply, Ids, Rpc, Show, show};
use crate::script::{Call, Script};
use crate::txn::sized_put;
use prost::Message as _;
use retcd_proto::etcdserverpb as pb;
use retcd_tests::grpc::frame;

const RANGE: &str = RangeRequest::PATH;

fn ranged(body: Vec<u8>) -> Call {
    Call::raw(RANGE, body, show::<pb::RangeResponse>)
}

const WIRE_TYPE: &str = "our decoder takes it for damage, Go's for a field it does not know";

/// The request for the key `a`, as gzip compresses it.
const GZIPPED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xe3\x62\x4c\x04\x00\x4b\x3c\x78\xd1\x03\x00\x00\x00";

/// A good request for `Range`, framed.
fn good_range() -> Vec<u8> {
    frame(&one("a").encode_to_vec())
}

pub(crate) fn garbage() -> Script {
    let mut s = Script::new("garbage");
    s.setup(put("a", "1"));
    let methods: [(&str, Show); 9] = [
        (RANGE, show::<pb::RangeResponse>),
        (PutRequest::PATH, show::<pb::PutResponse>),
        (DeleteRangeRequest::PATH, show::<pb::DeleteRangeResponse>),
        (TxnRequest::PATH, show::<pb::TxnResponse>),
        (CompactionRequest::PATH, show::<pb::CompactionResponse>),
        (AlarmRequest::PATH, show::<pb::AlarmResponse>),
        (HashKvRequest::PATH, show::<pb::HashKvResponse>),
        (MemberListRequest::PATH, show::<pb::MemberListResponse>),
        ("/grpc.health.v1.Health/Check", show::<HealthReply>),
    ];
    for (path, show) in methods {
        s.bad(format!("noise for {path}"), Call::raw(path, frame(b"\xff\xff\xff\xff\xff"), show));
        s.bad(format!("cut short for {path}"), Call::raw(path, frame(b"\x0a\x7fabc"), show));
    }
    let texts: &[(&str, &[u8])] = &[
        ("varint without end", b"\x18\x80\x80\x80"),
        ("varint of eleven bytes", b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ("varint of ten bytes beyond 64 bits", b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
        ("field number 0", b"\x02\x01a"),
        ("end of a group that never began", b"\x0c"),
        ("wire type 6", b"\x0e\x01"),
        ("wire type 7", b"\x0f\x01"),
        ("length beyond the end", b"\x0a\x05a"),
        ("length of 2^63", b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01a"),
        ("tag without content", b"\x0a"),
        ("group without end", b"\x0a\x01a\xa3\x06\x08\x01"),
        ("fixed64 cut short", b"\x0a\x01a\xa1\x06\x00\x00"),
        ("fixed32 cut short", b"\x0a\x01a\xa5\x06\x00"),
    ];
    for (name, message) in texts {
        s.bad(*name, ranged(frame(message)));
    }
    // Not errors by protobuf's rules.
    let sound: &[(&str, &[u8])] = &[
        ("unknown field", b"\x0a\x01a\xa0\x06\x05"),
        ("unknown group", b"\x0a\x01a\xa3\x06\x08\x01\xa4\x06"),
        ("unknown fixed64", b"\x0a\x01a\xa1\x06\x00\x00\x00\x00\x00\x00\x00\x00"),
        ("field twice: the last counts", b"\x0a\x01z\x0a\x01a"),
        ("fields out of order", b"\x18\x01\x0a\x01a"),
        ("varint longer than needed", b"\x0a\x01a\x18\x81\x80\x00"),
        ("bool of 2", b"\x0a\x01a\x48\x02"),
    ];
    for (name, message) in sound {
        s.good(*name, ranged(frame(message)));
    }
    s.bad("known field of another wire type", ranged(frame(b"\x08\x01"))).differs(WIRE_TYPE);
    s.bad("known number as a string", ranged(frame(b"\x0a\x01a\x1a\x01b"))).differs(WIRE_TYPE);
    s.bad(
        "text that is not UTF-8",
        Call::raw("/grpc.health.v1.Health/Check", frame(b"\x0a\x02\xc3\x28"), show::<HealthReply>),
    );
    s.bad(
        "transaction with a broken operation",
        Call::raw(TxnRequest::PATH, frame(b"\x12\x03\x12\x01\xff"), show::<pb::TxnResponse>),
    );
    s.good("still there", one("a"));
    s
}

pub(crate) fn frames() -> Script {
    let mut s = Script::new("frames");
    s.setup(put("a", "1"));
    s.bad("prefix cut short", ranged(vec![0, 0, 0]));
    s.bad("message cut short", ranged(good_range()[..6].to_vec()));
    s.bad("prefix without message", ranged(vec![0, 0, 0, 0, 3]));
    s.bad("two messages", ranged([good_range(), good_range()].concat()));
    s.bad("a message and a bit", ranged([good_range(), vec![0, 0]].concat()));
    s.bad("flag 2", ranged([&[2], &good_range()[1..]].concat()));
    s.bad("flag 255", ranged([&[255], &good_range()[1..]].concat()));
    s.bad("compressed without encoding", ranged([&[1], &good_range()[1..]].concat()));
    s.bad(
        "said to be compressed with gzip",
        ranged([&[1], &good_range()[1..]].concat()).header("grpc-encoding", "gzip"),
    );
    let gzipped = |body| Call::raw(RANGE, body, |_, _| "a message".into()).header("grpc-encoding", "gzip");
    s.good("not compressed, but says gzip", gzipped(good_range()));
    s.good("compressed with gzip", gzipped([&[1], &frame(GZIPPED)[1..]].concat()));
    s.bad("compressed with something", ranged([&[1], &good_range()[1..]].concat()).header("grpc-encoding", "snappy"));
    s.good("encoding identity", ranged(good_range()).header("grpc-encoding", "identity"));
    s.bad(
        "compressed, encoding identity",
        ranged([&[1], &good_range()[1..]].concat()).header("grpc-encoding", "identity"),
    );
    s.good("accepts gzip", ranged(good_range()).header("grpc-accept-encoding", "gzip,identity"));
    s.bad("length of 4 GiB", ranged(vec![0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]));
    s.bad(
        "noise for a stream",
        Call::raw("/etcdserverpb.KV/RangeStream", frame(b"\xff\xff"), show::<pb::RangeStreamResponse>),
    );
    for (path, body) in [
        ("/etcdserverpb.KV/Nope", good_range()),
        ("/etcdserverpb.Nope/Range", good_range()),
        ("/etcdserverpb.KV/", good_range()),
        ("/etcdserverpb.KV", good_range()),
        ("/nope", good_range()),
        ("/", good_range()),
        ("/etcdserverpb.KV/Range/more", good_range()),
        ("/etcdserverpb.kv/range", good_range()),
        ("//etcdserverpb.KV/Range", good_range()),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", vec![]),
        ("/grpc.health.v1.Health/Nope", vec![]),
    ] {
        s.bad(format!("method {path}"), Call::raw(path, body, show::<pb::RangeResponse>));
    }
    for kind in ["application/grpc+proto", "application/grpc;charset=utf-8"] {
        s.good(format!("content type {kind:?}"), ranged(good_range()).header("content-type", kind));
    }
    for kind in [
        "application/grpc+json",
        "application/grpc-web",
        "application/grpcx",
        "application/json",
        "text/plain",
        "APPLICATION/GRPC",
        "",
    ] {
        s.bad(format!("content type {kind:?}"), ranged(good_range()).header("content-type", kind));
    }
    s.bad("no trailers wanted", ranged(good_range()).header("te", ""));
    s.good("still there", one("a"));
    s
}

pub(crate) fn metadata() -> Script {
    let mut s = Script::new("metadata");
    s.setup(put("a", "1"));
    let with = |name, value: &str| ranged(good_range()).header(name, value);
    s.good("leader required", with("hasleader", "true"));
    s.good("leader required otherwise", with("hasleader", "yes"));
    s.good("client version", with("client-api-version", "3.7"));
    s.good("client version of the future", with("client-api-version", "99.nonsense"));
    s.bad("client version that is not UTF-8", with("client-api-version", "3.\u{ff}"));
    s.good("a token without authentication", with("token", "nonsense"));
    s.good("authorization without authentication", with("authorization", "Bearer nonsense"));
    s.good("other metadata", with("x-anything", "a b c"));
    s.good("binary metadata", with("x-anything-bin", "AAEC"));
    s.good("binary metadata with padding", with("x-anything-bin", "AA=="));
    s.bad("binary metadata that is not base64", with("x-anything-bin", "!!!"));
    s.bad("binary metadata cut short", with("x-anything-bin", "AAECA"));
    s.bad("binary metadata with too little padding", with("x-anything-bin", "AA="));
    s.good("a generous timeout", with("grpc-timeout", "60S"));
    s.good("timeout in hours", with("grpc-timeout", "1H"));
    s.good("the longest timeout", with("grpc-timeout", "99999999H"));
    for timeout in ["0S", "-1S", "abc", "60", "S", "60X", "999999999S", " 60S", "6 0S"] {
        s.bad(format!("timeout {timeout:?}"), with("grpc-timeout", timeout));
    }
    s.good("still there", one("a"));
    s
}

/// Each limit on sizes at -1, 0 and +1.
pub(crate) fn sizes() -> Script {
    const PROPOSAL: usize = 1_572_864;
    const RECEIVE: usize = PROPOSAL + (512 << 10);
    let mut s = Script::new("sizes");
    let kind = |s: &mut Script, bad: bool, name: String, call: Call| {
        if bad {
            s.bad(name, call)
        } else {
            s.good(name, call)
        };
    };
    for size in [PROPOSAL - 1, PROPOSAL, PROPOSAL + 1] {
        kind(&mut s, size > PROPOSAL, format!("proposal of {size}"), Call::of(move |ids: Ids| sized_put(size, ids)));
    }
    s.good("the largest value", RangeRequest { keys_only: true, ..one("k") });
    s.bad("a key beyond the proposal limit", put("k".repeat(PROPOSAL), ""));
    s.bad(
        "a transaction beyond the proposal limit",
        batch([put("x", vec![b'v'; PROPOSAL / 2]).op(), put("y", vec![b'v'; PROPOSAL / 2]).op()]),
    );
    s.good("nothing of it", RangeRequest { keys_only: true, ..all() });
    for size in [RECEIVE - 1, RECEIVE, RECEIVE + 1] {
        // The length of a value of that size takes 4 bytes.
        let message = put("k", vec![b'v'; size - 3 - 5 + 1]);
        let message = PutRequest {
            value: message.value.slice(..message.value.len() - (message.encoded_len() - size)),
            ..message
        };
        assert_eq!(message.encoded_len(), size);
        s.bad(format!("message of {size}"), message);
        let read = one(vec![b'k'; size - 4]);
        let read = RangeRequest { key: read.key.slice(..read.key.len() - (read.encoded_len() - size)), ..read };
        assert_eq!(read.encoded_len(), size);
        kind(&mut s, size > RECEIVE, format!("read of {size}"), read.into());
    }
    s.bad("message of 8 MiB", put("k", vec![b'v'; 8 << 20]));
    s.bad("stream asked with too much", Call::stream(&one(vec![b'k'; RECEIVE + 1])));
    s.good("still there", one("none"));
    s
}
