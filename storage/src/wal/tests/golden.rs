//! Exact bytes, as etcd writes them.

use super::*;
use crate::fs::read_all;
use crate::wal::segment::Segment;
use crate::wal::verify;

/// Bytes of the first segment up to its zeros.
fn written(fs: &SimFs) -> Vec<u8> {
    let bytes = read_all(fs, &Segment::FIRST.path(dir())).expect("readable");
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    bytes[..end.next_multiple_of(8)].to_vec()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex"))
        .collect()
}

fn varint(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A frame as etcd would build it, with an own checksum chain.
fn frame(kind: u8, crc: &mut u32, data: Option<&[u8]>) -> Vec<u8> {
    let mut record = vec![0x08, kind, 0x10];
    if let Some(data) = data {
        *crc = crc32c::crc32c_append(*crc, data);
        record.extend(varint(*crc));
        record.push(0x1a);
        record.extend(varint(data.len() as u32));
        record.extend(data);
    } else {
        record.extend(varint(*crc));
    }
    let pad = (8 - record.len() % 8) % 8;
    let mut word = (record.len() as u64).to_le_bytes();
    if pad != 0 {
        word[7] = 0x80 | pad as u8;
    }
    let mut frame = word.to_vec();
    frame.extend(record);
    frame.extend(vec![0; pad]);
    frame
}

/// disk-format 2.4, first bytes of a fresh log with an etcdserverpb.Metadata of 21 bytes.
#[test]
fn fresh_log() {
    // Node id and cluster id, ten and nine bytes long as varints.
    let metadata = hex("08 8e9e 05ad f2a9 bbe5 9b81 01  10 cdf8 bb9f aac8 fa8e 0e".trim());
    let metadata = [metadata, vec![]].concat();
    let fs = SimFs::new();
    Wal::create(sim(&fs), dir(), &metadata, options(8192)).expect("create");

    let mut crc = 0;
    let mut expected = hex("04 00 00 00 00 00 00 84  08 04 10 00  00 00 00 00");
    expected.extend(frame(1, &mut crc, Some(&metadata)));
    expected.extend(frame(5, &mut crc, Some(&hex("08 00 10 00"))));
    assert_eq!(written(&fs), expected);
    let file = fs.open(&Segment::FIRST.path(dir()), crate::fs::OpenMode::Read);
    assert_eq!(file.expect("open").len().expect("len"), 8192);
}

/// The length words that disk-format 2.4 shows for the three records of a fresh log.
#[test]
fn length_words() {
    use crate::wal::record::length_word;
    assert_eq!(
        length_word(4).to_le_bytes().to_vec(),
        hex("04 00 00 00 00 00 00 84")
    );
    assert_eq!(
        length_word(0x1f).to_le_bytes().to_vec(),
        hex("1f 00 00 00 00 00 00 81")
    );
    assert_eq!(
        length_word(0x0e).to_le_bytes().to_vec(),
        hex("0e 00 00 00 00 00 00 82")
    );
    assert_eq!(
        length_word(0x10).to_le_bytes().to_vec(),
        hex("10 00 00 00 00 00 00 00")
    );
}

#[test]
fn entries_states_and_snapshots() {
    let fs = SimFs::new();
    let mut wal = Wal::create(sim(&fs), dir(), b"m", options(8192)).expect("create");
    let mut conf_change = entry(2, 2, &[0x18, 0x07]);
    conf_change.r#type = Some(1);
    let mut normal = entry(2, 300, b"abc");
    normal.r#type = Some(0);
    wal.append(Some(&state(2, 0, 0)), &[entry(2, 1, b""), conf_change])
        .expect("append");
    wal.append_snapshot(&walpb::Snapshot {
        index: Some(299),
        term: Some(2),
        conf_state: Some(raftpb::ConfState {
            voters: vec![7],
            auto_leave: Some(false),
            ..Default::default()
        }),
    })
    .expect("append");
    wal.append(Some(&state(2, 7, 300)), &[normal])
        .expect("append");
    wal.append(Some(&raftpb::HardState::default()), &[])
        .expect("nothing");
    wal.flush().expect("flush");

    let mut crc = 0;
    let mut expected = frame(4, &mut crc, None);
    expected.extend(frame(1, &mut crc, Some(b"m")));
    expected.extend(frame(5, &mut crc, Some(&hex("0800 1000"))));
    expected.extend(frame(2, &mut crc, Some(&hex("1002 1801"))));
    expected.extend(frame(2, &mut crc, Some(&hex("0801 1002 1802 2202 1807"))));
    expected.extend(frame(3, &mut crc, Some(&hex("0802 1000 1800"))));
    expected.extend(frame(5, &mut crc, Some(&hex("08ab02 1002 1a04 0807 2800"))));
    expected.extend(frame(2, &mut crc, Some(&hex("1002 18ac02 2203 616263"))));
    expected.extend(frame(3, &mut crc, Some(&hex("0802 1007 18ac02"))));
    assert_eq!(written(&fs), expected);
}

/// What etcd writes may differ from what we write: a type of 0, nothing for the
/// snapshot 0. We read all of it.
#[test]
fn other_encodings() {
    for snapshot in [Some(&[8, 0, 16, 0][..]), Some(&[]), None] {
        other_encoding(snapshot);
    }
}

fn other_encoding(snapshot: Option<&[u8]>) {
    let fs = SimFs::new();
    fs.create_dir_all(dir()).expect("dir");
    let mut crc = 0;
    let mut bytes = frame(4, &mut crc, None);
    bytes.extend(frame(1, &mut crc, Some(b"m")));
    bytes.extend(frame(5, &mut crc, snapshot));
    bytes.extend(frame(2, &mut crc, Some(&hex("0800 1001 1801"))));
    bytes.extend(frame(2, &mut crc, Some(&hex("0800 1001 1802 2201 61"))));
    bytes.extend(frame(3, &mut crc, Some(&hex("0801 1000 1801"))));
    let file = fs
        .open(&Segment::FIRST.path(dir()), crate::fs::OpenMode::CreateNew)
        .expect("open");
    file.write_all_at(&bytes, 0).expect("write");
    drop(file);
    let (_, replay) = open(&fs, 8192).expect("open");
    assert_eq!(replay.metadata.as_ref(), b"m");
    assert_eq!(replay.hard_state.commit(), 1);
    assert_eq!(replay.entries.len(), 2);
    assert_eq!(replay.entries[1].data.as_deref(), Some(&b"a"[..]));
    assert_eq!(replay.repaired, None);
    verify(&fs, dir(), &mark(0, 0)).expect("the snapshot 0 is found");
}

#[test]
fn names() {
    assert_eq!(
        Segment {
            sequence: 1,
            index: 0x2711
        }
        .to_string(),
        "0000000000000001-0000000000002711.wal"
    );
    assert_eq!(
        Segment::parse("0000000000000001-0000000000002711.wal"),
        Some(Segment {
            sequence: 1,
            index: 0x2711
        })
    );
    for foreign in [
        "0.tmp",
        "1-2.wal",
        "0000000000000001-0000000000002711.wal.broken",
        "000000000000000A-0000000000000000.wal",
        "+000000000000001-0000000000000000.wal",
        "0000000000000001_0000000000000000.wal",
    ] {
        assert_eq!(Segment::parse(foreign), None, "{foreign}");
    }
}
