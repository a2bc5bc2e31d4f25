use retcd_proto::etcdserverpb::PutRequest;

use super::*;

/// As etcd 3.5 encodes it: every field that is not optional, also when it is empty.
fn old(method: &str, path: &str, val: &str) -> Bytes {
    let request = Request {
        id: Some(0x2230_0000_0000_0001),
        method: Some(method.into()),
        path: Some(path.into()),
        val: Some(val.into()),
        dir: Some(false),
        prev_value: Some(String::new()),
        prev_index: Some(0),
        expiration: Some(0),
        wait: Some(false),
        since: Some(0),
        recursive: Some(false),
        sorted: Some(false),
        quorum: Some(false),
        time: Some(0),
        stream: Some(false),
        ..Request::default()
    };
    request.encode_to_vec().into()
}

/// The same in field 2 of a newer request, as some releases knew it.
fn nested(inner: &Bytes) -> Bytes {
    let mut data = vec![0x12];
    prost::encode_length_delimiter(inner.len(), &mut data).unwrap();
    data.extend_from_slice(inner);
    data.into()
}

fn request(data: Bytes) -> InternalRaftRequest {
    match decode(data) {
        Ok(Payload::Request(request)) => *request,
        other => panic!("{other:?}"),
    }
}

const ATTRIBUTES: &str = "/0/members/cbff4ef837fa9b82/attributes";

#[test]
fn what_etcd_3_5_says_about_a_member_is_what_newer_ones_say() {
    let json = r#"{"name":"n1","clientURLs":["http://127.0.0.1:17020"]}"#;
    for data in [
        old("PUT", ATTRIBUTES, json),
        nested(&old("PUT", ATTRIBUTES, json)),
    ] {
        assert!(is_old(&data));
        let request = request(data);
        assert_eq!(request.header.unwrap().id, 0x2230_0000_0000_0001);
        let set = request.cluster_member_attr_set.unwrap();
        assert_eq!(set.member_id, 0xcbff_4ef8_37fa_9b82);
        let attributes = set.member_attributes.unwrap();
        assert_eq!(attributes.name, "n1");
        assert_eq!(attributes.client_urls, ["http://127.0.0.1:17020"]);
    }
    let empty = request(old("PUT", ATTRIBUTES, r#"{"clientURLs":null}"#));
    let set = empty.cluster_member_attr_set.unwrap();
    assert_eq!(set.member_attributes.unwrap(), Attributes::default());
}

#[test]
fn what_etcd_3_5_says_about_the_clusters_version_is_what_newer_ones_say() {
    let request = request(old("PUT", "/0/version", "3.5.0"));
    assert_eq!(request.cluster_version_set.unwrap().ver, "3.5.0");
}

#[test]
fn reads_and_clean_ups_of_the_v2_api_change_nothing() {
    for (method, path) in [("SYNC", ""), ("QGET", "/1/a"), ("GET", "/1/a")] {
        let data = old(method, path, "");
        assert!(is_old(&data));
        assert_eq!(decode(data), Ok(Payload::Nothing), "{method}");
    }
}

#[test]
fn changes_by_the_v2_api_are_refused_in_etcds_words() {
    for (method, path) in [
        ("PUT", "/1/key"),
        ("POST", "/1/queue"),
        ("DELETE", "/1/key"),
        ("DELETE", ATTRIBUTES),
        ("PUT", "/0/members/xyz/attributes"),
        ("PUT", "/0/members//attributes"),
        ("PUT", "/0/members/+1/attributes"),
        ("PUT", "/0/members/11111111111111111/attributes"),
        ("PUT", "/0/members/1/raftAttributes"),
    ] {
        let error = decode(old(method, path, "{}")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("detected disallowed v2 WAL for stage --v2-deprecation=write-only"),
            "{error}"
        );
    }
    for json in ["", "[]", r#"{"name":1}"#, r#"{"clientURLs":[1]}"#] {
        let error = decode(old("PUT", ATTRIBUTES, json)).unwrap_err();
        assert_eq!(error, EntryError::Attributes(json.into()));
    }
}

#[test]
fn newer_requests_are_not_taken_for_old_ones() {
    // As seen in a log of etcd 3.6: put (4) comes before header (100).
    let data =
        b"\x22\x08\x0a\x02k1\x12\x02v1\xa2\x06\x0b\x08\x81\x80\x80\x80\x80\x80\x80\x88\xcb\x01";
    let data = Bytes::from_static(data);
    assert!(!is_old(&data));
    let put = request(data).put.unwrap();
    assert_eq!((&put.key[..], &put.value[..]), (&b"k1"[..], &b"v1"[..]));

    // Keys and values that look like methods stay keys and values.
    let put = InternalRaftRequest {
        id: 7,
        put: Some(PutRequest {
            key: "PUT".into(),
            value: old("PUT", "/1/key", ""),
            ..PutRequest::default()
        }),
        ..InternalRaftRequest::default()
    };
    let data = Bytes::from(put.encode_to_vec());
    assert!(!is_old(&data));
    assert_eq!(request(data), put);
}

#[test]
fn no_bytes_make_it_panic() {
    let mut state = 0x5eed_u64;
    let mut random = move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 33) as usize
    };
    let whole = old("PUT", ATTRIBUTES, r#"{"name":"n1"}"#);
    for _ in 0..100_000 {
        let mut data = match random() % 3 {
            0 => whole.to_vec(),
            1 => nested(&whole).to_vec(),
            _ => (0..random() % 40).map(|_| random() as u8).collect(),
        };
        for _ in 0..random() % 4 {
            let at = random() % data.len().max(1);
            if let Some(byte) = data.get_mut(at) {
                *byte = random() as u8;
            }
        }
        data.truncate(data.len().saturating_sub(random() % 5));
        let _ = decode(data.into());
    }
}

/// A put within `depth` transactions, as bytes: an encoder is as recursive as a decoder.
fn put_within(depth: usize) -> Bytes {
    let field = |tag: u32, inner: &[u8]| {
        let mut data = Vec::new();
        prost::encoding::encode_key(tag, WireType::LengthDelimited, &mut data);
        prost::encoding::encode_varint(inner.len() as u64, &mut data);
        data.extend_from_slice(inner);
        data
    };
    let put = PutRequest {
        key: "k".into(),
        value: "v".into(),
        ..PutRequest::default()
    };
    let mut op = field(2, &put.encode_to_vec());
    for level in 1..=depth {
        // Now the branch for success, now the other.
        let txn = field(if level % 2 == 0 { 2 } else { 3 }, &op);
        op = match level == depth {
            true => txn,
            false => field(4, &txn),
        };
    }
    let header = RequestHeader {
        id: 7,
        ..RequestHeader::default()
    };
    let mut data = field(100, &header.encode_to_vec());
    data.extend(field(6, &op));
    data.into()
}

fn depth_of(request: &InternalRaftRequest) -> usize {
    use retcd_proto::etcdserverpb::request_op::Request;
    let mut txn = request.txn.as_ref().expect("a transaction");
    let mut depth = 1;
    loop {
        let ops = txn.success.first().or(txn.failure.first());
        match ops
            .expect("an operation")
            .request
            .as_ref()
            .expect("a request")
        {
            Request::RequestTxn(inner) => txn = inner,
            Request::RequestPut(put) => {
                assert_eq!((&put.key[..], &put.value[..]), (&b"k"[..], &b"v"[..]));
                return depth;
            }
            other => panic!("{other:?}"),
        }
        depth += 1;
    }
}

#[test]
fn transactions_are_read_as_deep_as_etcd_writes_them() {
    for depth in [1, 2, 48, 49, 50, 51, 60, 128, PROPOSED_NESTING] {
        let request = match decode_proposed(put_within(depth)) {
            Ok(Payload::Request(request)) => request,
            other => panic!("{depth}: {other:?}"),
        };
        assert_eq!(request.header.as_ref().map(|h| h.id), Some(7));
        assert_eq!(depth_of(&request), depth);
    }
    assert_eq!(
        decode_proposed(put_within(PROPOSED_NESTING + 1)),
        Err(EntryError::Nesting)
    );
    let thread = std::thread::Builder::new().stack_size(STACK);
    let thread = thread.spawn(|| {
        let deepest = put_within(COMMITTED_NESTING);
        let depth = decode(deepest).map(|payload| match payload {
            Payload::Request(request) => depth_of(&request),
            Payload::Nothing => 0,
        });
        assert_eq!(depth, Ok(COMMITTED_NESTING));
        assert_eq!(
            decode(put_within(COMMITTED_NESTING + 1)),
            Err(EntryError::Nesting)
        );
    });
    thread
        .expect("a thread")
        .join()
        .expect("its stack suffices");
}

#[test]
fn damage_within_deep_transactions_is_no_request() {
    let whole = put_within(60);
    for end in 1..whole.len() {
        let cut = whole.slice(..end);
        let _ = decode(cut); // an end between two fields is none that could be seen
    }
    for at in 0..whole.len() {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 0x80;
        let _ = decode(damaged.into());
    }
    let mut longer = whole.to_vec();
    longer.extend([0x32, 0x7f]);
    assert_eq!(decode(longer.into()), Err(EntryError::Truncated));
}

#[test]
fn a_deep_request_reads_as_prost_reads_a_shallow_one() {
    // Both fields of one kind given twice add up; of several kinds the last counts.
    let data = [put_within(3), put_within(2)].concat();
    let whole = InternalRaftRequest::decode(&data[..]).expect("shallow");
    let mut by_hand = InternalRaftRequest::default();
    nesting::merge(&mut by_hand, data.into(), 10).expect("shallow");
    assert_eq!(by_hand, whole);
}
