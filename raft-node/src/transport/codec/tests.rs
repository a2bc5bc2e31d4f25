use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use retcd_proto::raftpb::{
    ConfState, Entry, EntryType, Message, MessageType, Snapshot, SnapshotMetadata,
};

use super::bounds::MAX_ENTRIES;
use super::check::Unknown;
use super::{
    AppendDecoder, AppendEncoder, DecodeError, Decoder, Encoder, Frame, MAX_MESSAGE,
    MessageDecoder, Out, Way, check,
};

const LOCAL: u64 = 0xa;
const REMOTE: u64 = 0xb;

fn bytes(out: &mut Out) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = out.pop() {
        all.extend_from_slice(&piece);
    }
    assert_eq!(out.len(), 0);
    all
}

fn decode(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Frame>, DecodeError> {
    let mut input = bytes;
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next(&mut input)? {
        frames.push(frame);
    }
    assert!(input.is_empty());
    Ok(frames)
}

fn message_decoder() -> Decoder {
    Decoder::Message(MessageDecoder::new())
}

fn append_decoder() -> Decoder {
    Decoder::Append(AppendDecoder::new(LOCAL, REMOTE))
}

fn append_encoder() -> Encoder {
    Encoder::Append(AppendEncoder::default())
}

fn entry(term: u64, index: u64, data: impl Into<Bytes>) -> Entry {
    Entry {
        r#type: None,
        term: Some(term),
        index: Some(index),
        data: Some(data.into()),
    }
}

fn append(term: u64, log_term: u64, index: u64, entries: Vec<Entry>, commit: u64) -> Message {
    Message {
        r#type: Some(MessageType::MsgApp as i32),
        to: Some(LOCAL),
        from: Some(REMOTE),
        term: Some(term),
        log_term: Some(log_term),
        index: Some(index),
        commit: Some(commit),
        entries,
        ..Message::default()
    }
}

fn of_type(kind: i32) -> Message {
    Message {
        r#type: Some(kind),
        ..Message::default()
    }
}

/// Of peer-protocol 3.4, as captured from the three releases.
#[test]
fn heartbeats_of_all_releases() {
    for hex in [
        "00000000000000020808",
        "0000000000000014080810001800200028003000400050005800 6800",
        "000000000000001e0808100018002000280030004000 4a0a12080a0228001000180050005800",
    ] {
        let sent = unhex(hex);
        let frames = decode(&mut message_decoder(), &sent).unwrap();
        assert_eq!(frames, [Frame::Heartbeat], "{hex}");
    }
    let mut out = Out::default();
    Encoder::Message.heartbeat(&mut out);
    assert_eq!(bytes(&mut out), unhex("00000000000000020808"));
    append_encoder().heartbeat(&mut out);
    assert_eq!(bytes(&mut out), [0]);
    assert_eq!(
        decode(&mut append_decoder(), &[0, 0]).unwrap(),
        [Frame::Heartbeat, Frame::Heartbeat]
    );
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(u8::is_ascii_hexdigit)
        .map(|b| (b as char).to_digit(16).unwrap() as u8)
        .collect();
    digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect()
}

/// Of peer-protocol 3.5: a commit, then one entry, after a message that came to term 2, index 7.
#[test]
fn captured_appends() {
    let state = append(2, 1, 6, vec![entry(2, 7, "x")], 6);
    let mut sent = vec![2];
    sent.extend_from_slice(&(state.encoded_len() as u64).to_be_bytes());
    state.encode(&mut sent).unwrap();
    sent.extend_from_slice(&unhex("01 0000000000000000 0000000000000007"));
    sent.extend_from_slice(&unhex(
        "01 0000000000000001 000000000000001f 0800 1002 1808 2217",
    ));
    sent.extend_from_slice(&[b'd'; 23]);
    sent.extend_from_slice(&unhex("0000000000000007"));

    let mut with_type = entry(2, 8, vec![b'd'; 23]);
    with_type.r#type = Some(0);
    let expected = [
        state,
        append(2, 2, 7, vec![], 7),
        append(2, 2, 7, vec![with_type], 7),
    ];
    let frames = decode(&mut append_decoder(), &sent).unwrap();
    assert_eq!(frames, expected.clone().map(Frame::Message));

    let (mut encoder, mut out) = (append_encoder(), Out::default());
    for m in &expected {
        encoder.encode(m, &mut out);
    }
    assert_eq!(bytes(&mut out), sent);
}

/// Field by field, as etcd 3.7 writes a vote.
#[test]
fn a_vote_is_written_as_by_go() {
    let vote = Message {
        r#type: Some(MessageType::MsgVote as i32),
        to: Some(1),
        from: Some(2),
        term: Some(3),
        log_term: Some(2),
        index: Some(300),
        ..Message::default()
    };
    let mut out = Out::default();
    Encoder::Message.encode(&vote, &mut out);
    assert_eq!(
        bytes(&mut out),
        unhex("000000000000000d 0805 1001 1802 2003 2802 30ac02")
    );
}

#[test]
fn an_append_of_another_term_is_sent_whole() {
    let (mut encoder, mut out) = (append_encoder(), Out::default());
    let mut kind = |m: &Message| {
        encoder.encode(m, &mut out);
        bytes(&mut out)[0]
    };
    assert_eq!(kind(&append(2, 1, 5, vec![entry(2, 6, "")], 5)), 2);
    assert_eq!(kind(&append(2, 2, 6, vec![entry(2, 7, "")], 6)), 1);
    // A probe goes back.
    assert_eq!(kind(&append(2, 2, 6, vec![entry(2, 7, "")], 6)), 2);
    assert_eq!(kind(&append(2, 2, 7, vec![], 7)), 1);
    // A new term of the leader, the same of the log.
    assert_eq!(kind(&append(3, 2, 7, vec![entry(3, 8, "")], 7)), 2);
    assert_eq!(kind(&append(3, 3, 8, vec![], 8)), 1);
}

#[test]
fn large_data_is_shared() {
    let data = Bytes::from(vec![7; 1 << 20]);
    let (mut encoder, mut out) = (append_encoder(), Out::default());
    encoder.encode(&append(1, 1, 0, vec![], 0), &mut out);
    let m = append(1, 1, 0, vec![entry(1, 1, data.clone())], 1);
    encoder.encode(&m, &mut out);
    let mut shared = 0;
    while let Some(piece) = out.pop() {
        shared += usize::from(piece.as_ptr() == data.as_ptr() && piece.len() == data.len());
    }
    assert_eq!(shared, 1);
}

/// An entry that stays does not keep the megabyte that it came in.
#[test]
fn entries_do_not_share_a_buffer() {
    let entries = (1..=2).map(|n| entry(1, n, vec![n as u8; 1000])).collect();
    let m = append(1, 0, 0, entries, 0);
    let mut out = Out::default();
    append_encoder().encode(&m, &mut out);
    Encoder::Message.encode(&m, &mut out);
    let sent = bytes(&mut out);
    let (append, message) = sent.split_at(sent.len() / 2 + 1);
    for (mut decoder, sent) in [(append_decoder(), append), (message_decoder(), message)] {
        let frames = decode(&mut decoder, sent).unwrap();
        let Some(Frame::Message(got)) = frames.into_iter().next() else {
            panic!("no message");
        };
        assert_eq!(got, m);
        assert!(got.entries.into_iter().all(|e| e.data.unwrap().is_unique()));
    }
}

#[test]
fn what_is_no_stream() {
    let too_long = |bytes: &[u8], decoder: &mut Decoder| {
        let error = decode(decoder, bytes).unwrap_err();
        assert!(matches!(error, DecodeError::TooLong { .. }), "{error}");
    };
    let long = (MAX_MESSAGE as u64 + 1).to_be_bytes();
    too_long(&long, &mut message_decoder());
    too_long(&u64::MAX.to_be_bytes(), &mut message_decoder());
    too_long(&[&[2][..], &long].concat(), &mut append_decoder());
    let one = 1_u64.to_be_bytes();
    too_long(&[&[1][..], &one, &long].concat(), &mut append_decoder());
    assert_eq!(
        decode(&mut append_decoder(), &[3]).unwrap_err().to_string(),
        "failed to parse type 3 in msgappv2 stream"
    );
    let garbage = [&2_u64.to_be_bytes()[..], &[0xff, 0xff]].concat();
    let error = decode(&mut message_decoder(), &garbage).unwrap_err();
    assert!(matches!(error, DecodeError::Protobuf(_)), "{error}");
    // Nowhere to go on from.
    let far = append(1, 1, u64::MAX, vec![], 1).encode_to_vec();
    let far = [
        &[2][..],
        &(far.len() as u64).to_be_bytes(),
        &far,
        &[1],
        &one,
    ]
    .concat();
    assert_eq!(decode(&mut append_decoder(), &far), Err(DecodeError::Index));
}

/// Of a few megabytes of entries without data a member would make gigabytes.
#[test]
fn empty_entries_are_not_free() {
    let mut decoder = append_decoder();
    let head = [&[1][..], &(1_u64 << 60).to_be_bytes()].concat();
    assert_eq!(
        decode(&mut decoder, &head),
        Err(DecodeError::Entries(MAX_ENTRIES))
    );
    let of = |entries: usize| {
        let head = of_type(MessageType::MsgProp as i32).encode_to_vec();
        let mut bytes = head.clone();
        bytes.extend([0x3a, 0].repeat(entries));
        bytes.extend(head);
        bytes
    };
    let framed = |bytes: Vec<u8>| [&(bytes.len() as u64).to_be_bytes()[..], &bytes].concat();
    let most = decode(&mut message_decoder(), &framed(of(MAX_ENTRIES))).unwrap();
    let [Frame::Message(most)] = &most[..] else {
        panic!("no message");
    };
    assert_eq!(most.entries.len(), MAX_ENTRIES);
    let error = decode(&mut message_decoder(), &framed(of(MAX_ENTRIES + 1))).unwrap_err();
    assert_eq!(error, DecodeError::Entries(MAX_ENTRIES));
    // Cut off somewhere, or with a group in front that nobody knows: what comes first counts.
    for mut bytes in [
        of(MAX_ENTRIES + 9),
        [&[0x7b, 0x7c][..], &of(MAX_ENTRIES + 9)].concat(),
    ] {
        bytes.truncate(bytes.len() - 3);
        let error = decode(&mut message_decoder(), &framed(bytes)).unwrap_err();
        assert_eq!(error, DecodeError::Entries(MAX_ENTRIES));
    }
}

/// The other lists of a message are as cheap to say.
#[test]
fn a_message_holds_no_messages_and_few_members() {
    let refused = |bytes: &[u8]| super::decode_message(Bytes::copy_from_slice(bytes)).unwrap_err();
    assert_eq!(refused(&[0x72, 0]), DecodeError::Nested);
    let snapshot = |voters: usize| Message {
        snapshot: Some(Snapshot {
            data: None,
            metadata: Some(SnapshotMetadata {
                conf_state: Some(ConfState {
                    voters: vec![7; voters],
                    ..ConfState::default()
                }),
                ..SnapshotMetadata::default()
            }),
        }),
        ..of_type(MessageType::MsgSnap as i32)
    };
    let few = snapshot(1000).encode_to_vec();
    assert_eq!(
        super::decode_message(few.clone().into()),
        Ok(snapshot(1000))
    );
    let error = refused(&snapshot(100_000).encode_to_vec());
    assert!(matches!(error, DecodeError::Part { .. }), "{error}");
    // In many pieces.
    let error = refused(&few.repeat(100));
    assert!(matches!(error, DecodeError::Part { .. }), "{error}");
}

#[test]
fn values_that_do_not_go_on() {
    for number in [2, 3, 4, 5, 6, 8, 9, 13, 14, 15, 16, 17, 18] {
        assert_eq!(check(&of_type(number), Way::Alone), Ok(()), "{number}");
    }
    for number in [0, 1, 10, 11, 12, 19, 20, 21, 22, 23] {
        let error = check(&of_type(number), Way::Alone).unwrap_err();
        let name = MessageType::try_from(number).unwrap().as_str_name();
        assert!(error.to_string().contains(name), "{error}");
    }
    for number in [24, -1, i32::MAX] {
        let error = check(&of_type(number), Way::Alone).unwrap_err();
        assert_eq!(error, Unknown::MessageType(number));
    }
    let mut m = append(1, 1, 1, vec![entry(1, 2, ""), entry(1, 3, "")], 1);
    m.entries[1].r#type = Some(EntryType::EntryConfChange as i32);
    assert_eq!(check(&m, Way::Alone), Ok(()));
    m.entries[1].r#type = Some(2);
    assert_eq!(check(&m, Way::Alone), Err(Unknown::ConfChangeV2(3)));
    m.entries[1].r#type = Some(9);
    let (index, number) = (3, 9);
    assert_eq!(
        check(&m, Way::Alone),
        Err(Unknown::EntryType { index, number })
    );
    let mut snapshot = of_type(MessageType::MsgSnap as i32);
    assert_eq!(check(&snapshot, Way::WithDatabase), Err(Unknown::NoIndex));
    snapshot.snapshot = Some(Snapshot {
        data: None,
        metadata: Some(SnapshotMetadata {
            index: Some(1),
            ..SnapshotMetadata::default()
        }),
    });
    assert_eq!(check(&snapshot, Way::WithDatabase), Ok(()));
    assert_eq!(check(&snapshot, Way::Alone), Err(Unknown::NoDatabase));
}

fn any_entry() -> impl Strategy<Value = (Option<i32>, Option<Bytes>)> {
    let size = prop_oneof![
        Just(0_usize),
        1..40_usize,
        Just(16_384),
        16_000..20_000_usize
    ];
    let data = size.prop_map(|size| Bytes::from(vec![size as u8; size]));
    (proptest::option::of(0..3), proptest::option::of(data))
}

/// Type and data of entries.
type Entries = Vec<(Option<i32>, Option<Bytes>)>;
/// Where an append goes on from, if not from the one before; its entries; its commit index.
type Append = (Option<(u64, u64, u64)>, Entries, u64);

fn any_append() -> impl Strategy<Value = Append> {
    (
        proptest::option::weighted(0.3, (0..4_u64, 0..4_u64, 0..9_u64)),
        vec(any_entry(), 0..4),
        any::<u64>(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256 * u32::try_from(crate::test_scale()).unwrap_or(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever the cuts between connections, and between the pieces of one.
    #[test]
    fn appends_arrive_as_they_were(
        connections in vec(vec(any_append(), 0..12), 1..4),
        step in 1..5000_usize,
    ) {
        let (mut term, mut index) = (0, 0);
        for appends in connections {
            let (mut encoder, mut decoder) = (append_encoder(), append_decoder());
            let mut out = Out::default();
            let mut sent = Vec::new();
            for (jump, entries, commit) in appends {
                let mut log_term = term;
                if let Some(jump) = jump {
                    (term, log_term, index) = jump;
                }
                let first = index;
                let entries: Vec<Entry> = entries
                    .into_iter()
                    .map(|(kind, data)| {
                        index += 1;
                        Entry { r#type: kind, term: Some(term), index: Some(index), data }
                    })
                    .collect();
                let m = append(term, log_term, first, entries, commit);
                encoder.encode(&m, &mut out);
                encoder.heartbeat(&mut out);
                sent.extend([Frame::Message(m), Frame::Heartbeat]);
            }
            let mut got = Vec::new();
            for piece in bytes(&mut out).chunks(step) {
                got.extend(decode(&mut decoder, piece).unwrap());
            }
            prop_assert_eq!(got, sent);
        }
    }

    #[test]
    fn messages_arrive_as_they_were(
        messages in vec((0..30_i32, any::<(Option<u64>, Option<u64>, Option<bool>)>(), vec(any_entry(), 0..3)), 0..8),
        step in 1..5000_usize,
    ) {
        let mut out = Out::default();
        let mut sent = Vec::new();
        for (kind, (term, index, reject), entries) in messages {
            let m = Message {
                from: Some(REMOTE),
                term,
                index,
                reject,
                entries: entries
                    .into_iter()
                    .map(|(kind, data)| Entry { r#type: kind, data, ..Entry::default() })
                    .collect(),
                context: Some("context".into()),
                ..of_type(kind)
            };
            Encoder::Message.encode(&m, &mut out);
            Encoder::Message.heartbeat(&mut out);
            sent.extend([Frame::Message(m), Frame::Heartbeat]);
        }
        let mut decoder = message_decoder();
        let mut got = Vec::new();
        for piece in bytes(&mut out).chunks(step) {
            got.extend(decode(&mut decoder, piece).unwrap());
        }
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn garbage_is_an_error_or_messages(bytes in vec(any::<u8>(), 0..400), step in 1..50_usize) {
        super::fuzz_streams(&bytes, step);
    }
}
