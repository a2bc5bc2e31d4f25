//! How a log is written.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};

/// Bytes at which etcd begins a new segment.
pub const SEGMENT_SIZE: u64 = 64_000_000;

/// Called with what happened, from the thread that writes the log; must not block.
pub type Observer = Arc<dyn Fn(Observed) + Send + Sync>;

/// What the log reports while it works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Observed {
    /// A sync of the current segment took so long.
    Fsync(Duration),
    /// A write of so many bytes took so long.
    Write(Duration, usize),
    /// A new segment was begun.
    Cut,
    /// There is no space for the next segment. The current one grows beyond its size meanwhile, so
    /// there is time to raise an alarm; the reservation is tried again about every second.
    NoSpace(String),
}

/// Where the next segment is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prepare {
    /// In a thread of its own, ahead.
    #[default]
    Background,
    /// In the writing thread when it is needed: the order of file operations is reproducible.
    Inline,
}

/// How a log is written.
#[derive(Clone)]
pub struct Options {
    /// Bytes at which a new segment is begun. Default: [`SEGMENT_SIZE`].
    pub segment_size: u64,
    /// Skips all syncs: a power failure may lose or destroy everything. Default: false.
    pub no_fsync: bool,
    /// Default: background.
    pub prepare: Prepare,
    /// Measures syncs and writes.
    pub clock: Arc<dyn Clock>,
    /// Told about syncs, writes and missing space.
    pub observe: Option<Observer>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_size: SEGMENT_SIZE,
            no_fsync: false,
            prepare: Prepare::default(),
            clock: Arc::new(SystemClock),
            observe: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("segment_size", &self.segment_size)
            .field("no_fsync", &self.no_fsync)
            .field("prepare", &self.prepare)
            .finish_non_exhaustive()
    }
}
