//! What a member finds in its backend when it starts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use retcd_proto::raftpb::ConfState;
use retcd_storage::backend::{
    self, Backend, BoltBackend, BoltOptions, Bucket, Committed, Reader, Writer, WriterOptions,
};
use retcd_storage::fs::{Fs, OpenMode};
use retcd_storage::mvcc::{Store, StoreOptions};
use retcd_storage::snapshot;
use slog::{Logger, info, warn};

use crate::conf_state::{self, CONF_STATE};
#[cfg(not(feature = "sled"))]
use crate::config::ConfigError;
use crate::config::{Engine, GoBytes, GoDuration, Resolved};
use crate::metrics::Metrics;
use crate::server::StartError;

/// The key of the term of the last applied entry, in the bucket `meta` (disk-format 6.3).
pub(crate) const TERM: &[u8] = b"term";

/// Opens databases: the member's own when it starts, and later those that came from the leader.
pub(crate) struct Databases {
    fs: Arc<dyn Fs>,
    snap_dir: PathBuf,
    engine: Engine,
    options: WriterOptions,
    /// The consistent index that is on disk, as the flusher reports it.
    durable: Arc<AtomicU64>,
    logger: Logger,
}

/// The opened backend and what it says about itself.
pub(crate) struct Disk {
    pub(crate) store: Store,
    pub(crate) backend: Reader,
    /// Index and term of the last applied entry.
    pub(crate) applied: (u64, u64),
    /// The raft configuration as of that entry; `None` before there was any.
    pub(crate) conf_state: Option<ConfState>,
}

/// How often a locked database is tried again, as bbolt does.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// After so long etcd says that the lock is taking long.
const LOCK_SLOW: Duration = Duration::from_secs(10);

/// Where the database is.
pub(crate) fn database(resolved: &Resolved) -> PathBuf {
    resolved.snap_dir.join(resolved.backend_engine.file())
}

/// Waits until nobody else has the database open: as with etcd, a member may be started while the one before it
/// still stops.
pub(crate) fn wait_for_lock(
    fs: &dyn Fs,
    path: &Path,
    logger: &Logger,
) -> Result<(), backend::Error> {
    let io = |action, source: std::io::Error| backend::Error::Io {
        action,
        path: path.to_owned(),
        source: Arc::new(source),
    };
    let file = fs.open(path, OpenMode::Read).map_err(|e| io("open", e))?;
    let begin = Instant::now();
    let (mut said, mut said_slow) = (false, false);
    while !file.try_lock().map_err(|e| io("lock", e))? {
        if !said {
            said = true;
            warn!(logger, "another process has the database open; waiting until it lets go";
                "path" => %path.display());
        }
        let waited = begin.elapsed();
        if waited >= LOCK_SLOW && !said_slow {
            said_slow = true;
            info!(logger, "db file is flocked by another process, or taking too long";
                "path" => %path.display(), "took" => ?waited);
        }
        thread::sleep(LOCK_RETRY);
    }
    Ok(())
}

/// Gives the free space of the database back, if it is as much as `threshold` bytes
/// (`--bootstrap-defrag-threshold-megabytes`).
///
/// # Errors
/// The database cannot be written.
pub(crate) fn defragment_at_start(
    backend: &Reader,
    threshold: u64,
    logger: &Logger,
) -> Result<(), backend::Error> {
    let engine = backend.engine();
    let (size, in_use) = (engine.size(), engine.size_in_use());
    if size.saturating_sub(in_use) < threshold {
        info!(logger, "Skipping defragmentation";
            "current-db-size-bytes" => size,
            "current-db-size" => %GoBytes(size),
            "current-db-size-in-use-bytes" => in_use,
            "current-db-size-in-use" => %GoBytes(in_use),
            "bootstrap-defrag-threshold-bytes" => threshold,
            "bootstrap-defrag-threshold" => %GoBytes(threshold));
        return Ok(());
    }
    info!(logger, "starting defragment"; "current-db-size-bytes" => size);
    let began = Instant::now();
    backend.defragment()?;
    info!(logger, "finished defragment";
        "current-db-size-bytes-before" => size,
        "current-db-size-bytes" => engine.size(),
        "took" => %GoDuration(began.elapsed()));
    Ok(())
}

impl Databases {
    pub(crate) fn new(
        resolved: &Resolved,
        fs: Arc<dyn Fs>,
        metrics: &Arc<Metrics>,
        logger: &Logger,
    ) -> Self {
        let durable = Arc::new(AtomicU64::new(0));
        let report = durable.clone();
        let measured = metrics.clone();
        let options = WriterOptions {
            batch_interval: resolved.backend_batch_interval,
            batch_limit: resolved.backend_batch_limit,
            on_durable: Some(Arc::new(move |index| {
                report.store(index, Ordering::Release);
            })),
            observe: Some(Arc::new(move |commit: Committed| {
                let seconds = commit.took.as_secs_f64();
                measured.disk.backend_commit.observe(seconds);
            })),
            ..WriterOptions::default()
        };
        Self {
            fs,
            snap_dir: resolved.snap_dir.clone(),
            engine: resolved.backend_engine,
            options,
            durable,
            logger: logger.clone(),
        }
    }

    /// The consistent index that the flusher last saw on disk.
    pub(crate) fn durable(&self) -> &Arc<AtomicU64> {
        &self.durable
    }

    /// Opens the member's own database.
    pub(crate) fn open(&self) -> Result<Disk, StartError> {
        let path = self.snap_dir.join(self.engine.file());
        let began = Instant::now();
        let engine = open_engine(self.engine, self.fs.clone(), &path)?;
        info!(self.logger, "opened backend db"; "path" => %path.display(),
            "took" => %GoDuration(began.elapsed()), "engine" => engine.name());
        let disk = Disk::read(engine, self.options.clone(), &self.logger)?;
        self.durable.store(disk.applied.0, Ordering::Release);
        Ok(disk)
    }

    /// Opens the database that came with the snapshot at `index`, where it was received; locks it and looks at every
    /// page. It is not changed.
    ///
    /// # Errors
    /// What a start would say of it.
    pub(crate) fn open_received(&self, index: u64) -> Result<ReceivedDatabase, StartError> {
        let path = snapshot::received_path(&self.snap_dir, index);
        let fs = self.fs.clone();
        let engine = Arc::new(BoltBackend::open(fs, &path, BoltOptions::default())?);
        info!(self.logger, "opened received backend db"; "path" => %path.display());
        let disk = Disk::read(engine.clone(), self.options.clone(), &self.logger)?;
        Ok(ReceivedDatabase {
            disk,
            engine,
            index,
        })
    }

    /// Gives a received database the name of the member's own, durably. From now on a start opens it.
    ///
    /// # Errors
    /// Those of the file system. Which of the two a start opens is open then.
    pub(crate) fn place(&self, received: &ReceivedDatabase) -> Result<(), snapshot::Error> {
        snapshot::place(&*self.fs, &self.snap_dir, received.index)?;
        let path = self.snap_dir.join(self.engine.file());
        received.engine.renamed(&path);
        Ok(())
    }

    /// Whether the database that came with the snapshot at `index` is there.
    pub(crate) fn has_received(&self, index: u64) -> Result<bool, backend::Error> {
        let path = snapshot::received_path(&self.snap_dir, index);
        self.fs.exists(&path).map_err(|source| backend::Error::Io {
            action: "look for",
            path,
            source: Arc::new(source),
        })
    }

    /// Where received databases are.
    pub(crate) fn snap_dir(&self) -> &Path {
        &self.snap_dir
    }

    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }
}

/// A database that came from the leader, open under the name it was received by.
pub(crate) struct ReceivedDatabase {
    pub(crate) disk: Disk,
    engine: Arc<BoltBackend>,
    index: u64,
}

impl Disk {
    fn read(
        engine: Arc<dyn Backend>,
        options: WriterOptions,
        logger: &Logger,
    ) -> Result<Self, StartError> {
        let (writer, backend) = Writer::start(engine, options);
        let index = number(&backend, backend::CONSISTENT_INDEX)?;
        let term = number(&backend, TERM)?;
        let conf_state = match backend.get(Bucket::Meta, CONF_STATE)? {
            None => None,
            Some(text) => {
                Some(conf_state::from_json(&text).ok_or_else(|| damaged(CONF_STATE, &text))?)
            }
        };
        info!(logger, "restore consistentIndex"; "index" => index);
        let store = Store::open(writer, backend.clone(), StoreOptions::default())?;
        info!(logger, "kvstore restored"; "current-rev" => store.rev());
        Ok(Self {
            store,
            backend,
            applied: (index, term),
            conf_state,
        })
    }

    /// Lets go of the files without having changed any.
    pub(crate) fn close(self) {
        self.store.abandon();
    }
}

fn open_engine(
    engine: Engine,
    fs: Arc<dyn Fs>,
    path: &Path,
) -> Result<Arc<dyn Backend>, StartError> {
    match engine {
        Engine::Bolt => Ok(Arc::new(BoltBackend::open(
            fs,
            path,
            BoltOptions::default(),
        )?)),
        #[cfg(feature = "sled")]
        Engine::Sled => Ok(Arc::new(backend::SledBackend::open(fs, path)?)),
        // Refused when the configuration was resolved.
        #[cfg(not(feature = "sled"))]
        Engine::Sled => Err(ConfigError::EngineNotBuilt(engine).into()),
    }
}

/// A number of the bucket `meta`; 0 when it was never written.
fn number(backend: &Reader, key: &[u8]) -> Result<u64, StartError> {
    match backend.get(Bucket::Meta, key)? {
        None => Ok(0),
        Some(value) => match <[u8; 8]>::try_from(value.as_ref()) {
            Ok(bytes) => Ok(u64::from_be_bytes(bytes)),
            Err(_) => Err(damaged(key, &value)),
        },
    }
}

fn damaged(key: &[u8], value: &Bytes) -> StartError {
    StartError::DamagedMeta {
        key: key.escape_ascii().to_string(),
        value: value.escape_ascii().to_string(),
    }
}
