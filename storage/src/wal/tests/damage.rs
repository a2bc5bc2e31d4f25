//! Cut files, zeroed sectors, flipped bits.

use super::*;
use crate::fs::{OpenMode, read_all};
use crate::wal::Error;
use crate::wal::segment::Segment;

/// One segment with records of many sizes, and for each length of the file the number of whole
/// records.
struct Sample {
    fs: SimFs,
    path: std::path::PathBuf,
    bytes: Vec<u8>,
    /// End of the file's head, then after each entry and state.
    ends: Vec<u64>,
}

fn sample(seed: u64, total: u64, segment_size: u64) -> Sample {
    let fs = SimFs::new();
    let mut random = Random(seed);
    let mut wal = create(&fs, segment_size);
    let path = Segment::FIRST.path(dir());
    let end = |fs: &SimFs| {
        let bytes = read_all(fs, &path).expect("read");
        let last = bytes.iter().rposition(|b| *b != 0).expect("not empty");
        (last as u64 + 1).next_multiple_of(8)
    };
    let mut ends = vec![end(&fs)];
    let mut index = 0;
    while ends[ends.len() - 1] < total {
        index += 1;
        // No zero bytes: the end of a record shows in the file.
        let len =
            [random.below(40), random.below(600), random.below(2000)][random.below(3) as usize];
        let data: Vec<u8> = random.bytes(len as usize).iter().map(|b| b | 1).collect();
        wal.append(None, &[entry(1, index, &data)]).expect("append");
        wal.flush().expect("flush");
        ends.push(end(&fs));
        if index % 4 == 0 {
            wal.append(Some(&state(1, 1, index)), &[]).expect("append");
            wal.flush().expect("flush");
            ends.push(end(&fs));
        }
    }
    drop(wal);
    let bytes = read_all(&fs, &path).expect("read");
    Sample {
        fs: fs.fork(),
        path,
        bytes,
        ends,
    }
}

impl Sample {
    /// Entries in the first `records` records behind the head.
    fn entries(records: usize) -> usize {
        // Every fifth is a state.
        records - records / 5
    }

    /// Whole records in the first `len` bytes.
    fn records(&self, len: u64) -> usize {
        self.ends
            .iter()
            .filter(|end| **end <= len)
            .count()
            .saturating_sub(1)
    }

    fn with(&self, bytes: &[u8]) -> SimFs {
        let fs = self.fs.fork();
        let file = fs.open(&self.path, OpenMode::Write).expect("open");
        file.set_len(0).expect("cut");
        file.write_all_at(bytes, 0).expect("write");
        drop(file);
        fs
    }
}

/// D7, D8 (etcd #15069, #5230): the last segment cut at every byte behind its head recovers to the
/// whole records before the cut, keeps a copy, and goes on.
#[test]
fn cut_at_every_byte() {
    let sample = sample(1, 12_000, 16_384);
    let end = sample.ends[sample.ends.len() - 1];
    for len in sample.ends[0]..=end {
        let fs = sample.with(&sample.bytes[..len as usize]);
        let (mut wal, replay) = open(&fs, 16_384).unwrap_or_else(|e| panic!("cut at {len}: {e}"));
        let records = sample.records(len);
        assert_eq!(
            replay.entries.len(),
            Sample::entries(records),
            "cut at {len}"
        );
        let torn = sample.ends[records] != len;
        assert_eq!(replay.repaired.is_some(), torn, "cut at {len}");
        if let Some(broken) = &replay.repaired {
            assert_eq!(
                read_all(&fs, broken).expect("copy"),
                sample.bytes[..len as usize]
            );
        }
        if len % 97 == 0 {
            let next = wal.last_index() + 1;
            wal.append(None, &[entry(2, next, b"goes on")])
                .expect("append");
            wal.flush().expect("flush");
            drop(wal);
            let (_, replay) = open(&fs.crash(), 16_384).expect("open");
            assert_eq!(replay.entries.len() as u64, next);
        }
    }
}

/// The same with the zeros of the preallocated segment behind the cut. Inside a sector this is more
/// than disks do; a cut that equals a flipped bit is refused instead.
#[test]
fn zeroed_from_every_byte() {
    let sample = sample(2, 12_000, 16_384);
    let end = sample.ends[sample.ends.len() - 1];
    let mut refused = 0;
    for len in sample.ends[0]..end {
        let mut bytes = sample.bytes.clone();
        bytes[len as usize..].fill(0);
        let fs = sample.with(&bytes);
        match open(&fs, 16_384) {
            Ok((_, replay)) => {
                // Bytes that were zero anyway may complete a record.
                let equal = bytes == sample.bytes;
                let records = if equal {
                    sample.ends.len() - 1
                } else {
                    sample.records(len)
                };
                let found = replay.entries.len();
                let padded = Sample::entries(sample.records(len.next_multiple_of(8)));
                assert!(
                    found == Sample::entries(records) || found == padded,
                    "zeroed from {len}: {found} entries"
                );
            }
            Err(error @ Error::Corrupt { .. }) => {
                // Of this record, only one bit was lost.
                let record = sample.ends[sample.records(len) + 1];
                let lost: u32 = sample.bytes[len as usize..record as usize]
                    .iter()
                    .map(|b| b.count_ones())
                    .sum();
                assert_eq!(lost, 1, "zeroed from {len}: {error}");
                refused += 1;
            }
            Err(error) => panic!("zeroed from {len}: {error}"),
        }
    }
    assert!(refused < 10, "{refused}");
}

/// D8: every 512-byte sector of the last write lost, alone and with all behind it.
#[test]
fn every_lost_sector() {
    let fs = SimFs::new();
    let mut wal = create(&fs, 65_536);
    wal.append(Some(&state(1, 1, 0)), &[entry(1, 1, &[9; 333])])
        .expect("append");
    wal.flush().expect("flush");
    let path = Segment::FIRST.path(dir());
    let synced = read_all(&fs, &path).expect("read");
    let mut random = Random(3);
    let entries: Vec<_> = (2..60)
        .map(|index| {
            let len = random.below(1500) as usize;
            entry(1, index, &random.bytes(len))
        })
        .collect();
    wal.append(Some(&state(1, 1, 1)), &entries).expect("append");
    wal.flush().expect("flush");
    drop(wal);
    let all = read_all(&fs, &path).expect("read");
    let end = all.iter().rposition(|b| *b != 0).expect("not empty");
    for sector in 0..=end / 512 {
        for until in [sector + 1, end / 512 + 1] {
            let range = sector * 512..until * 512;
            let mut bytes = all.clone();
            bytes[range.clone()].copy_from_slice(&synced[range.clone()]);
            let copy = fs.fork();
            let file = copy.open(&path, OpenMode::Write).expect("open");
            file.write_all_at(&bytes, 0).expect("write");
            drop(file);
            let (_, replay) = open(&copy, 65_536).unwrap_or_else(|e| panic!("lost {range:?}: {e}"));
            let found = replay.entries.len();
            assert!(found >= 1, "lost {range:?}");
            assert_eq!(replay.entries[1..], entries[..found - 1], "lost {range:?}");
            if bytes != all {
                assert!(
                    replay.repaired.is_some() || until > end / 512,
                    "lost {range:?}"
                );
            }
        }
    }
}

/// Every bit of a 64 KiB log flipped: an error that changes nothing, or the same contents.
#[test]
fn every_flipped_bit() {
    let sample = sample(4, 60_000, 65_536);
    let (_, intact) = open(&sample.fs.fork(), 65_536).expect("open");
    let whole = sample.bytes.len();
    assert_eq!(whole, 65_536);
    let (mut detected, mut harmless) = (0, 0);
    for bit in 0..whole * 8 {
        let fs = sample.fs.fork();
        let file = fs.open(&sample.path, OpenMode::Write).expect("open");
        let byte = sample.bytes[bit / 8] ^ (1 << (bit % 8));
        file.write_all_at(&[byte], bit as u64 / 8).expect("write");
        drop(file);
        let calls = fs.calls();
        match open(&fs, 65_536) {
            Ok((_, mut replay)) => {
                // In the padding or in the zeros behind the log, where nothing was acknowledged.
                replay.repaired = None;
                assert_eq!(replay, intact, "bit {bit}");
                harmless += 1;
            }
            Err(error) => {
                assert_eq!(fs.calls(), calls, "bit {bit} changed something: {error}");
                detected += 1;
            }
        }
    }
    println!("{detected} flips detected, {harmless} harmless");
    assert_eq!(detected + harmless, whole * 8);
    // Harmless are only padding and what is behind the end.
    let behind = (whole - sample.ends[sample.ends.len() - 1] as usize) * 8;
    assert!(harmless <= behind + sample.ends.len() * 56, "{harmless}");
}
