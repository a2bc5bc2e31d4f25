//! Tests of the log, on the simulated file system unless they say otherwise.

mod basic;
mod crash;
mod damage;
mod faults;
mod golden;
mod measure;

use std::path::Path;
use std::sync::Arc;

use retcd_proto::{raftpb, walpb};

use super::{Options, Prepare, Replay, Wal};
use crate::fs::{Fs, SimFs};

const DIR: &str = "/data/member/wal";

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn options(segment_size: u64) -> Options {
    Options {
        segment_size,
        prepare: Prepare::Inline,
        ..Options::default()
    }
}

fn sim(fs: &SimFs) -> Arc<dyn Fs> {
    Arc::new(fs.clone())
}

fn entry(term: u64, index: u64, data: &[u8]) -> raftpb::Entry {
    raftpb::Entry {
        r#type: None,
        term: Some(term),
        index: Some(index),
        data: (!data.is_empty()).then(|| data.to_vec().into()),
    }
}

fn state(term: u64, vote: u64, commit: u64) -> raftpb::HardState {
    raftpb::HardState {
        term: Some(term),
        vote: (vote != 0).then_some(vote),
        commit: Some(commit),
    }
}

fn mark(index: u64, term: u64) -> walpb::Snapshot {
    walpb::Snapshot {
        index: Some(index),
        term: Some(term),
        conf_state: None,
    }
}

fn create(fs: &SimFs, segment_size: u64) -> Wal {
    Wal::create(sim(fs), dir(), b"metadata", options(segment_size)).expect("create")
}

fn open(fs: &SimFs, segment_size: u64) -> Result<(Wal, Replay), super::Error> {
    Wal::open(sim(fs), dir(), &mark(0, 0), options(segment_size))
}

/// SplitMix64: the same tests on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Multiplies the sizes of the big tests.
fn scale() -> u64 {
    std::env::var("RETCD_TEST_SCALE")
        .ok()
        .and_then(|scale| scale.parse().ok())
        .unwrap_or(1)
}
