//! Where a database that a leader sends is put.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use retcd_storage::clock::Clock;
use retcd_storage::fs::Fs;
use retcd_storage::snapshot;
use slog::{error, info};

use crate::member::Member;

/// Bytes that stay free when a database is received: the log, on the same disk, goes on with its next segment.
const SPARE: u64 = 128 << 20;

/// The doors to files and time, and the snapshot directory.
pub(crate) struct Files {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) snap_dir: PathBuf,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("snap_dir", &self.snap_dir)
            .finish_non_exhaustive()
    }
}

impl Files {
    /// Stores the database of the snapshot at `index`, durably; returns its length.
    pub(super) fn receive(
        &self,
        member: &Member,
        index: u64,
        body: &mut dyn Read,
    ) -> Result<u64, String> {
        let (fs, clock) = (&*self.fs, &*self.clock);
        match snapshot::receive(fs, clock, &self.snap_dir, index, None, SPARE, body) {
            Ok(received) => {
                let disk = &member.metrics.disk;
                disk.snap_db_save.observe(received.took.as_secs_f64());
                disk.snap_db_fsync.observe(received.sync.as_secs_f64());
                info!(member.logger, "saved database snapshot to disk";
                    "path" => %received.path.display(), "bytes" => received.bytes);
                Ok(received.bytes)
            }
            Err(failure) => {
                error!(member.logger, "failed to save a database that the leader sent";
                    "snapshot-index" => index, "error" => %failure);
                Err(failure.to_string())
            }
        }
    }
}
