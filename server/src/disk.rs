//! What a member finds in its backend when it starts.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use retcd_proto::raftpb::ConfState;
use retcd_storage::backend::{
    self, Backend, BoltBackend, BoltOptions, Bucket, Committed, Reader, Writer, WriterOptions,
};
use retcd_storage::fs::Fs;
use retcd_storage::mvcc::{Store, StoreOptions};
use slog::{Logger, info};

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

impl Disk {
    pub(crate) fn open(
        resolved: &Resolved,
        fs: Arc<dyn Fs>,
        metrics: &Arc<Metrics>,
        logger: &Logger,
    ) -> Result<Self, StartError> {
        let path = resolved.snap_dir.join(resolved.backend_engine.file());
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
