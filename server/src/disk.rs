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
use slog::{Logger, info, warn};

use crate::conf_state::{self, CONF_STATE};
#[cfg(not(feature = "sled"))]
use crate::config::ConfigError;
use crate::config::{Engine, Resolved};
use crate::metrics::Metrics;
use crate::server::StartError;

/// The key of the term of the last applied entry, in the bucket `meta` (disk-format 6.3).
pub(crate) const TERM: &[u8] = b"term";

/// The opened backend and what it says about itself.
pub(crate) struct Disk {
    pub(crate) store: Store,
    pub(crate) backend: Reader,
    /// The consistent index that is on disk, as the flusher reports it.
    pub(crate) durable: Arc<AtomicU64>,
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

impl Disk {
    pub(crate) fn open(
        resolved: &Resolved,
        fs: Arc<dyn Fs>,
        metrics: &Arc<Metrics>,
        logger: &Logger,
    ) -> Result<Self, StartError> {
        let path = database(resolved);
        let engine = open_engine(resolved.backend_engine, fs, &path)?;
        info!(logger, "opened backend db"; "path" => %path.display(), "engine" => engine.name());

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
        let (writer, backend) = Writer::start(engine, options);

        let index = number(&backend, backend::CONSISTENT_INDEX)?;
        let term = number(&backend, TERM)?;
        durable.store(index, Ordering::Release);
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
            durable,
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
