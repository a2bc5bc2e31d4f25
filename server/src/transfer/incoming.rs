//! Databases that the leader sends.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use retcd_storage::clock::Clock;
use retcd_storage::fs::Fs;
use retcd_storage::snapshot::{self, Received};
use slog::{info, warn};

use crate::config::{Engine, GoBytes, GoDuration};
use crate::member::Member;

/// Databases received at a time: one that is needed, and one of a leader that was deposed meanwhile.
const MAX_RECEIVED: usize = 2;

/// Bytes of the file system that a database may not take: the log cuts its segments of 64 MB there, one ahead.
const SPARE: u64 = 128 << 20;

/// Why a database was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error("the member stops")]
    Stopped,
    #[error(
        "this member keeps its data with the engine {0}, which cannot take the database of another member; start it with --experimental-backend-engine=bolt and an empty data directory"
    )]
    Engine(Engine),
    #[error("the database of the snapshot at index {0} is being received already")]
    Twice(u64),
    #[error("{MAX_RECEIVED} databases are being received already")]
    Busy,
    #[error("the database of the snapshot at index {index} broke off: {source}")]
    Body { index: u64, source: io::Error },
    #[error("{0}")]
    Store(#[from] snapshot::Error),
}

/// Where received databases go, and what is under way.
pub(crate) struct Incoming {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) snap_dir: PathBuf,
    pub(crate) engine: Engine,
    /// Indexes of the snapshots whose databases are being received. While one is, nobody else writes its file: the
    /// apply thread may have it open as soon as it has its name.
    pub(crate) busy: Mutex<BTreeSet<u64>>,
}

impl Incoming {
    fn begin(&self, index: u64) -> Result<Guard<'_>, ReceiveError> {
        let mut busy = self.busy.lock();
        if busy.contains(&index) {
            return Err(ReceiveError::Twice(index));
        }
        if busy.len() >= MAX_RECEIVED {
            return Err(ReceiveError::Busy);
        }
        busy.insert(index);
        Ok(Guard {
            incoming: self,
            index,
        })
    }

    /// Removes received databases that nothing needs, now that everything up to `applied` is in the member's own. They
    /// do no harm but take space: if it fails, a start does it.
    pub(crate) fn release(&self, applied: u64, logger: &slog::Logger) {
        match snapshot::release(&*self.fs, &self.snap_dir, applied.saturating_add(1)) {
            Ok(names) => {
                for name in names {
                    info!(logger, "deleted orphaned .snap.db file"; "path" => name);
                }
            }
            Err(error) => {
                warn!(logger, "failed to delete an orphaned .snap.db file"; "error" => %error);
            }
        }
    }
}

struct Guard<'a> {
    incoming: &'a Incoming,
    index: u64,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.incoming.busy.lock().remove(&self.index);
    }
}

/// A body that ends with the member.
struct UntilStopped<'a> {
    member: &'a Member,
    body: &'a mut dyn Read,
}

impl Read for UntilStopped<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.member.is_ending() {
            return Err(io::Error::other("the member stops"));
        }
        self.body.read(buffer)
    }
}

impl Member {
    /// Stores the database that comes with the snapshot at `index`, before raft hears of the snapshot; returns its
    /// length once it is durable. Blocks for as long as it comes.
    ///
    /// # Errors
    /// Nothing was kept then, and raft may not hear of the snapshot.
    pub(crate) fn database_received(
        &self,
        index: u64,
        body: &mut dyn Read,
    ) -> Result<u64, ReceiveError> {
        if self.is_ending() {
            return Err(ReceiveError::Stopped);
        }
        let incoming = &self.incoming;
        if incoming.engine != Engine::Bolt {
            return Err(ReceiveError::Engine(incoming.engine));
        }
        let _guard = incoming.begin(index)?;
        let mut body = UntilStopped { member: self, body };
        if index <= self.applied() {
            // Raft will take no notice of the snapshot either, but has to answer its sender.
            let len = io::copy(&mut body, &mut io::sink())
                .map_err(|source| ReceiveError::Body { index, source })?;
            info!(self.logger, "ignored a database snapshot that is older than this member's state";
                "snapshot-index" => index, "local-member-applied-index" => self.applied());
            return Ok(len);
        }
        info!(self.logger, "receiving database snapshot"; "incoming-snapshot-index" => index);
        let Incoming {
            fs,
            clock,
            snap_dir,
            ..
        } = incoming;
        let Received {
            path,
            bytes,
            took,
            sync,
        } = snapshot::receive(&**fs, &**clock, snap_dir, index, None, SPARE, &mut body)?;
        let snap = &self.metrics.snap;
        snap.db_fsync.observe(sync.as_secs_f64());
        snap.db_save.observe(took.as_secs_f64());
        info!(self.logger, "saved database snapshot to disk"; "path" => %path.display(),
            "bytes" => bytes, "size" => %GoBytes(bytes), "took" => %GoDuration(took));
        Ok(bytes)
    }
}
