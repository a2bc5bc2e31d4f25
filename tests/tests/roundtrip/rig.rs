//! The two sides, and what compares them.

use std::path::{Path, PathBuf};

use retcd_tests::random::Random;
use retcd_tests::state::State;
use retcd_tests::{binary, peers};

/// Who serves a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Go,
    Ours,
}

impl Side {
    /// What it does not serve; the comparison fails once it does, so that nothing stays left out.
    pub(crate) const fn skip(self) -> &'static str {
        match self {
            Side::Go => "",
            Side::Ours => "auth",
        }
    }
}

/// All genuine programs that the suite needs.
#[derive(Clone, Debug)]
pub(crate) struct Rig {
    go: PathBuf,
    pub(crate) etcdctl: PathBuf,
    etcdutl: PathBuf,
    bbolt: PathBuf,
    pub(crate) state: State,
}

impl Rig {
    /// All of them, or none: a half of them compares nothing.
    pub(crate) fn find() -> Option<Self> {
        Some(Self {
            go: peers::go_etcd()?,
            etcdctl: peers::go_etcdctl()?,
            etcdutl: peers::go_etcdutl()?,
            bbolt: peers::bbolt()?,
            state: State::find()?,
        })
    }

    pub(crate) fn server(&self, side: Side) -> PathBuf {
        match side {
            Side::Go => self.go.clone(),
            Side::Ours => binary::ours(),
        }
    }

    /// The tool for files that no server has open.
    pub(crate) fn tool(&self, side: Side) -> PathBuf {
        match side {
            Side::Go => self.etcdutl.clone(),
            Side::Ours => binary::our_etcdutl(),
        }
    }

    pub(crate) fn bbolt(&self) -> &Path {
        &self.bbolt
    }
}

/// How many keys the first turn puts.
pub(crate) fn keys() -> u64 {
    std::env::var("RETCD_ROUNDTRIP_KEYS").ok().and_then(|s| s.parse().ok()).unwrap_or(3000)
}

/// The suite's chance, and the line that repeats it.
pub(crate) fn chance(test: &str) -> Random {
    let seed = Random::seed("RETCD_ROUNDTRIP_SEED", 1);
    println!("{test}: RETCD_ROUNDTRIP_SEED={seed} RETCD_ROUNDTRIP_KEYS={}", keys());
    Random::new(seed)
}
