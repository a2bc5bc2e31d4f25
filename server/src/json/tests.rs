//! Random messages there and back, Go's words for what does not fit, and garbage.

use prost::Message as _;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::schema::{self, Field, Kind, Message};
use retcd_proto::{mvccpb, v3lockpb};

use super::{to_json, to_wire};

/// SplitMix64: equal seeds give equal runs.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

fn input(service: &str, name: &str) -> &'static Message {
    schema::method(service, name).expect("a method").input
}

fn output(service: &str, name: &str) -> &'static Message {
    schema::method(service, name).expect("a method").output
}

fn json(message: &'static Message, wire: &[u8]) -> String {
    let mut out = Vec::new();
    to_json(message, wire, &mut out).expect("a message");
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// Every message that a method takes or returns.
fn messages() -> Vec<&'static Message> {
    schema::methods()
        .iter()
        .flat_map(|method| [method.input, method.output])
        .collect()
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A random message, encoded as protobuf encodes it: fields in order, nothing that is zero.
fn generate(message: &Message, depth: usize, random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    let mut taken: Vec<&str> = Vec::new();
    for field in message.fields {
        if let Some(oneof) = field.oneof {
            if taken.contains(&oneof) || !random.percent(40) {
                continue;
            }
            taken.push(oneof);
        }
        let count = match field.repeated {
            true => random.below(4),
            false => u64::from(random.percent(70)),
        };
        for _ in 0..count {
            one(field, depth, random, &mut out);
        }
    }
    out
}

fn one(field: &Field, depth: usize, random: &mut Random, out: &mut Vec<u8>) {
    let always = field.repeated || field.oneof.is_some();
    let number = match field.kind {
        Kind::Bool => random.below(2),
        Kind::Int32 | Kind::Uint32 => random.pick(&[0, 1, 127, 128, 0x7fff_ffff]),
        Kind::Int64 | Kind::Uint64 => random.pick(&[0, 1, 300, 1 << 53, i64::MAX as u64, u64::MAX]),
        Kind::Enum(values) => {
            values.values[random.below(values.values.len() as u64) as usize].0 as u64
        }
        Kind::String | Kind::Bytes | Kind::Message(_) => {
            let bytes = match field.kind {
                Kind::Message(_) if depth == 0 => return,
                Kind::Message(inner) => generate(inner, depth - 1, random),
                Kind::String => {
                    let words = ["", "a", "\"\\/\u{8}\u{c}\n\r\t\u{1f}", "\u{e9}\u{1f980}<&>"];
                    random.pick(&words).as_bytes().to_vec()
                }
                _ => (0..random.below(6))
                    .map(|_| random.below(256) as u8)
                    .collect(),
            };
            if bytes.is_empty() && !always && !matches!(field.kind, Kind::Message(_)) {
                return;
            }
            varint(u64::from(field.number << 3 | 2), out);
            varint(bytes.len() as u64, out);
            out.extend(bytes);
            return;
        }
    };
    if number != 0 || always {
        varint(u64::from(field.number << 3), out);
        varint(number, out);
    }
}

#[test]
fn the_table_is_sound() {
    assert_eq!(schema::methods().len(), 49);
    for message in messages() {
        assert!(message.fields.len() < 64);
        assert!(
            message.fields.is_sorted_by_key(|field| field.number),
            "{}",
            message.name
        );
    }
    let request = input("etcdserverpb.Lease", "LeaseGrant");
    let names: Vec<_> = request.fields.iter().map(|field| field.name).collect();
    assert_eq!(names, ["TTL", "ID"]);
    let compare = &input("etcdserverpb.KV", "Txn").fields[0];
    let Kind::Message(compare) = compare.kind else {
        panic!("a list of messages");
    };
    let last = compare.fields.last().expect("fields");
    assert_eq!((last.number, last.json_name), (64, "rangeEnd"));
    assert_eq!(
        compare.fields[3].oneof,
        Some("etcdserverpb.Compare.target_union")
    );
}

#[test]
fn random_messages_survive_the_way_there_and_back() {
    let scale: u64 = std::env::var("RETCD_TEST_SCALE")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1);
    for seed in 0..200 * scale {
        let mut random = Random(seed);
        for message in messages() {
            let wire = generate(message, 5, &mut random);
            let text = json(message, &wire);
            let back = to_wire(message, text.as_bytes());
            assert_eq!(
                back.as_ref(),
                Ok(&wire),
                "seed {seed}, {}: {text}",
                message.name
            );
            // Any parser of JSON understands it.
            let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let spaced = serde_json::to_string_pretty(&value).expect("JSON");
            let again = to_wire(message, spaced.as_bytes()).expect("the same message");
            assert_eq!(
                again.len(),
                wire.len(),
                "seed {seed}, {}: {spaced}",
                message.name
            );
        }
    }
}

/// Parts in any order, repeated and unknown: what protobuf makes of them is what is written.
#[test]
fn what_is_written_is_what_protobuf_decodes() {
    let name = output("etcdserverpb.KV", "Put");
    for seed in 0..2000 {
        let mut random = Random(seed);
        let mut wire = Vec::new();
        for _ in 0..random.below(6) {
            let part = generate(name, 3, &mut random);
            wire.extend(part);
            // A field that nobody knows, and a zero that did not have to be said.
            wire.extend(random.pick(&[
                &[][..],
                &[0x78, 7],
                &[0x7d, 1, 2, 3, 4],
                &[0x12, 2, 8 << 1, 0],
            ]));
        }
        let decoded = pb::PutResponse::decode(&wire[..])
            .expect("a message")
            .encode_to_vec();
        assert_eq!(json(name, &wire), json(name, &decoded), "seed {seed}");
    }
}

#[test]
fn stored_bytes_and_lists_are_written() {
    let kv = mvccpb::KeyValue {
        key: "foo".into(),
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        value: vec![0xff, 0xfe].into(),
        lease: 0,
    };
    let reply = retcd_proto::reply::RangeReply {
        header: Some(pb::ResponseHeader {
            cluster_id: u64::MAX,
            member_id: 1,
            revision: 3,
            raft_term: 2,
        }),
        kvs: vec![
            kv.encode_to_vec().into(),
            mvccpb::KeyValue::default().encode_to_vec().into(),
        ],
        more: true,
        count: 2,
    };
    let text = json(output("etcdserverpb.KV", "Range"), &reply.encode_to_vec());
    let expected = r#"{"header":{"cluster_id":"18446744073709551615","member_id":"1","revision":"3","raft_term":"2"},"#.to_owned()
        + r#""kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"3","version":"2","value":"//4="},{}],"more":true,"count":"2"}"#;
    assert_eq!(text, expected);
    let alarms = pb::AlarmResponse {
        header: None,
        alarms: vec![
            pb::AlarmMember {
                member_id: 5,
                alarm: 2,
            },
            pb::AlarmMember {
                member_id: 0,
                alarm: 9,
            },
        ],
    };
    let text = json(
        output("etcdserverpb.Maintenance", "Alarm"),
        &alarms.encode_to_vec(),
    );
    assert_eq!(
        text,
        r#"{"alarms":[{"memberID":"5","alarm":"CORRUPT"},{"alarm":9}]}"#
    );
}

#[test]
fn values_are_taken_in_all_their_forms() {
    let range = |text: &str| {
        let wire = to_wire(input("etcdserverpb.KV", "Range"), text.as_bytes()).expect(text);
        pb::RangeRequest::decode(&wire[..]).expect("a message")
    };
    let expected = pb::RangeRequest {
        key: "foo".into(),
        range_end: "fop".into(),
        limit: 5,
        sort_order: 2,
        serializable: true,
        ..Default::default()
    };
    for text in [
        r#"{"key":"Zm9v","range_end":"Zm9w","limit":"5","sort_order":"DESCEND","serializable":true}"#,
        r#"{"key":"Zm9v","rangeEnd":"Zm9w","limit":5,"sortOrder":2,"serializable":true}"#,
        r#" { "limit" : 5.0 , "key" : "\u005am9v" , "rangeEnd":"Zm9w\n", "sortOrder": 2e0, "serializable": true, "revision": null }"#,
        r#"{"key":"Zm9v","range_end":"Zm9w","limit":50e-1,"sort_order":"DESCEND","serializable":true,"x":{"y":[1,{"z":"}"}]},"sort_target":"NONSENSE","[a.b]":1}"#,
    ] {
        assert_eq!(range(text), expected, "{text}");
    }
    for (text, key) in [
        ("_-8", "\u{0}"),
        ("/+8=", ""),
        ("/+8", ""),
        ("Zg==", "f"),
        ("Zg", "f"),
        ("Zh", "f"),
    ] {
        let got = range(&format!("{{\"key\":\"{text}\"}}")).key;
        match key {
            "\u{0}" | "" => assert_eq!(got, vec![0xff, 0xef], "{text}"),
            key => assert_eq!(got, key, "{text}"),
        }
    }
    let watch =
        r#"{"createRequest":{"key":"YQ==","filters":["NODELETE",0,"NONSENSE"],"watch_id":"-7"}}"#;
    let wire = to_wire(input("etcdserverpb.Watch", "Watch"), watch.as_bytes()).expect("a watch");
    let Some(pb::watch_request::RequestUnion::CreateRequest(create)) =
        pb::WatchRequest::decode(&wire[..])
            .expect("a message")
            .request_union
    else {
        panic!("a create request");
    };
    assert_eq!((create.filters, create.watch_id), (vec![1, 0], -7));
    let lock = to_wire(
        input("v3lockpb.Lock", "Lock"),
        br#"{"name":"bQ==","lease":-1}"#,
    )
    .expect("a lock");
    let lock = v3lockpb::LockRequest::decode(&lock[..]).expect("a message");
    assert_eq!((&lock.name[..], lock.lease), (&b"m"[..], -1));
}

/// Printed by Go.
#[test]
fn what_does_not_fit_is_refused_in_gos_words() {
    let txn = input("etcdserverpb.KV", "Txn");
    let range = input("etcdserverpb.KV", "Range");
    let add = input("etcdserverpb.Cluster", "MemberAdd");
    for (message, text, words) in [
        (range, "[]", "syntax error (line 1:1): unexpected token ["),
        (range, "5", "syntax error (line 1:1): unexpected token 5"),
        (
            range,
            "null",
            "syntax error (line 1:1): unexpected token null",
        ),
        (
            range,
            r#""x""#,
            r#"syntax error (line 1:1): unexpected token "x""#,
        ),
        (
            range,
            r#"{"key":5}"#,
            "(line 1:8): invalid value for bytes field key: 5",
        ),
        (
            range,
            r#"{"key":"***"}"#,
            r#"(line 1:8): invalid value for bytes field key: "***""#,
        ),
        (
            range,
            r#"{"key":{}}"#,
            "(line 1:8): invalid value for bytes field key: {",
        ),
        (
            range,
            "{\n \"range_end\": [\"\u{e9}\"]}",
            "(line 2:15): invalid value for bytes field rangeEnd: [",
        ),
        (
            range,
            r#"{"limit":"x"}"#,
            r#"(line 1:10): invalid value for int64 field limit: "x""#,
        ),
        (
            range,
            r#"{"limit":" 5"}"#,
            r#"(line 1:10): invalid value for int64 field limit: " 5""#,
        ),
        (
            range,
            r#"{"limit":5.5}"#,
            "(line 1:10): invalid value for int64 field limit: 5.5",
        ),
        (
            range,
            r#"{"limit":true}"#,
            "(line 1:10): invalid value for int64 field limit: true",
        ),
        (
            range,
            r#"{"serializable":"true"}"#,
            r#"(line 1:17): invalid value for bool field serializable: "true""#,
        ),
        (
            range,
            r#"{"sort_order":2147483648}"#,
            "(line 1:15): invalid value for enum field sortOrder: 2147483648",
        ),
        (
            range,
            r#"{"sort_order":false}"#,
            "(line 1:15): invalid value for enum field sortOrder: false",
        ),
        (
            range,
            r#"{"key":"","key":""}"#,
            r#"(line 1:11): duplicate field "key""#,
        ),
        (
            range,
            r#"{"range_end":"","rangeEnd":""}"#,
            r#"(line 1:17): duplicate field "rangeEnd""#,
        ),
        (
            range,
            "{\"\u{e9}\":1,\"key\":1}",
            "(line 1:14): invalid value for bytes field key: 1",
        ),
        (
            add,
            r#"{"peerURLs":"x"}"#,
            r#"syntax error (line 1:13): unexpected token "x""#,
        ),
        (
            add,
            r#"{"peerURLs":[null]}"#,
            "(line 1:14): invalid value for string field peerURLs: null",
        ),
        (
            add,
            r#"{"peerURLs":["\ud800\ud800"]}"#,
            r#"syntax error (line 1:14): invalid escape code "\\ud800" in string"#,
        ),
        (
            txn,
            r#"{"success":{}}"#,
            "syntax error (line 1:12): unexpected token {",
        ),
        (
            txn,
            r#"{"success":[null]}"#,
            "syntax error (line 1:13): unexpected token null",
        ),
        (
            txn,
            r#"{"compare":[{"version":"1","value":"YQ=="}]}"#,
            r#"(line 1:28): error parsing "value", oneof etcdserverpb.Compare.target_union is already set"#,
        ),
    ] {
        assert_eq!(
            to_wire(message, text.as_bytes()),
            Err(format!("proto: {words}")),
            "{text}"
        );
    }
    let invalid = b"{\"key\":\"\xff\"}";
    let words = "proto: syntax error (line 1:8): invalid UTF-8 in string";
    assert_eq!(to_wire(range, invalid), Err(words.to_owned()));
    // Null takes no place in a oneof.
    assert!(to_wire(txn, br#"{"compare":[{"version":"1","value":null}]}"#).is_ok());
}

#[test]
fn depth_has_a_bound() {
    let txn = input("etcdserverpb.KV", "Txn");
    let nested = |levels: usize| {
        let open = r#"{"success":[{"request_txn":"#.repeat(levels);
        format!("{open}{{}}{}", "}]}".repeat(levels))
    };
    assert!(to_wire(txn, nested(49).as_bytes()).is_ok());
    let words = "proto: exceeded max recursion depth";
    assert_eq!(to_wire(txn, nested(50).as_bytes()), Err(words.to_owned()));
    // What nobody knows may be as deep as it likes.
    let unknown = format!("{{\"x\":{}{}}}", "[".repeat(9000), "]".repeat(9000));
    assert_eq!(to_wire(txn, unknown.as_bytes()), Ok(vec![]));
}

#[test]
fn garbage_harms_nobody() {
    let texts = [
        r#"{"compare":[{"version":"1","key":"YQ=="}],"success":[{"request_put":{"key":"\u0059Q==","lease":1e3}}]}"#,
        r#"{"key":"Zm9v","range_end":"Zm9w","limit":-0.5e-1,"sort_order":"DESCEND","serializable":true,"x":[{}]}"#,
    ];
    let mut random = Random(7);
    for turn in 0..20_000 {
        let mut bytes = random.pick(&texts).as_bytes().to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(3) {
                0 => bytes[at] = random.below(256) as u8,
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, random.pick(b"{}[]\",:\\u0e-.")),
            }
        }
        let message = messages()[turn % messages().len()];
        let _ = to_wire(message, &bytes);
        let mut out = Vec::new();
        let _ = to_json(message, &bytes, &mut out);
    }
}
