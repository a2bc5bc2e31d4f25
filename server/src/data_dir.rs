//! The directories of a member, and the lock that keeps a second process out.
//!
//! Source: disk-format 1.

use std::io;
use std::path::{Path, PathBuf};

use retcd_storage::fs::{File, Fs, OpenMode};
use retcd_storage::{snapshot, wal};

use crate::config::{Engine, Resolved};

/// Bytes free below which nothing is touched: opening a database may write before it notices.
const MIN_FREE: u64 = 16 << 20;

/// Where a member keeps its files.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
    member: PathBuf,
    snap: PathBuf,
    wal: PathBuf,
    engine: Engine,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be created, listed or written.
    #[error("cannot write to {what} directory {path}: {source}; give the user that runs the member read and write permission there, on a file system with free space that is not mounted read-only, or name another directory with --data-dir or --wal-dir", path = path.display())]
    Access {
        /// Which directory: data, member, WAL or snapshot.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk is as good as full.
    #[error("no space left on device: the file system of {path} has {available} bytes free, and a member needs {MIN_FREE} to start; free some space there", path = path.display())]
    NoSpace {
        /// A directory on it.
        path: PathBuf,
        /// Bytes free.
        available: u64,
    },
    /// Its data was written by another engine than the one asked for.
    #[error("{path} is the data of the engine {found}, but this member is started with the engine {wanted}: start it with --experimental-backend-engine={found}{build}, or with another --data-dir",
        path = path.display(), build = built_with(*found))]
    OtherEngine {
        /// The data.
        path: PathBuf,
        /// The engine that wrote it.
        found: Engine,
        /// The engine asked for.
        wanted: Engine,
    },
    /// Two engines left data, and nothing says which is the newer.
    #[error("{path} holds the data of two engines, {names}: move away what belongs to the one that was not used last", path = path.display(), names = names.join(" and "))]
    TwoEngines {
        /// The snapshot directory.
        path: PathBuf,
        /// The data.
        names: Vec<&'static str>,
    },
    /// What an interrupted save left cannot be removed.
    #[error(transparent)]
    Leftovers(#[from] snapshot::Error),
    /// Another process runs on it.
    #[error("data directory {path} is in use by another process (pid {holder}); stop that process, or start this member with another --data-dir", path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process id that the other one left in the lock file.
        holder: String,
    },
}

impl DataDir {
    pub(crate) fn new(resolved: &Resolved) -> Self {
        Self {
            root: resolved.data_dir.clone(),
            member: resolved.member_dir.clone(),
            snap: resolved.snap_dir.clone(),
            wal: resolved.wal_dir.clone(),
            engine: resolved.backend_engine,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a member has lived here before: whether it left a log.
    pub(crate) fn has_log(&self, fs: &dyn Fs) -> Result<bool, DataDirError> {
        wal::exists(fs, &self.wal).map_err(|source| DataDirError::Access {
            what: "WAL",
            path: self.wal.clone(),
            source,
        })
    }

    /// Checks that what is stored here, if anything, was stored by the engine asked for.
    ///
    /// # Errors
    /// When another engine stored it. Nothing is changed.
    pub(crate) fn check_engine(&self, fs: &dyn Fs) -> Result<(), DataDirError> {
        let mut found = Vec::new();
        for engine in Engine::ALL {
            let path = self.snap.join(engine.file());
            let exists = fs.exists(&path).map_err(|source| DataDirError::Access {
                what: "snapshot",
                path,
                source,
            })?;
            if exists {
                found.push(engine);
            }
        }
        match found[..] {
            [] => Ok(()),
            [engine] if engine == self.engine => Ok(()),
            [engine] => Err(DataDirError::OtherEngine {
                path: self.snap.join(engine.file()),
                found: engine,
                wanted: self.engine,
            }),
            _ => Err(DataDirError::TwoEngines {
                path: self.snap.clone(),
                names: found.into_iter().map(Engine::file).collect(),
            }),
        }
    }

    /// Creates the directories that are missing and takes the lock.
    ///
    /// # Errors
    /// When a directory cannot be written, or another process holds the lock. Then nothing that
    /// was there before is changed.
    pub(crate) fn open(&self, fs: &dyn Fs) -> Result<DataDirLock, DataDirError> {
        for (what, path) in self.directories() {
            fs.create_dir_all(path)
                .map_err(|source| DataDirError::Access {
                    what,
                    path: path.to_owned(),
                    source,
                })?;
        }
        let lock = self.lock(fs)?;
        self.check_space(fs)?;
        let wal = fs.exists(&self.wal).unwrap_or(false);
        let wal = wal.then_some(("WAL", self.wal.as_path()));
        for (what, path) in self.directories().into_iter().chain(wal) {
            touch(fs, path).map_err(|source| DataDirError::Access {
                what,
                path: path.to_owned(),
                source,
            })?;
        }
        snapshot::remove_leftovers(fs, &self.snap)?;
        Ok(lock)
    }

    fn check_space(&self, fs: &dyn Fs) -> Result<(), DataDirError> {
        let log = [&self.wal, &self.snap];
        for path in log
            .into_iter()
            .filter(|dir| fs.exists(dir).unwrap_or(false))
        {
            let available = fs.available(path).map_err(|source| DataDirError::Access {
                what: "member",
                path: path.clone(),
                source,
            })?;
            if available < MIN_FREE {
                let path = path.clone();
                return Err(DataDirError::NoSpace { path, available });
            }
        }
        Ok(())
    }

    fn directories(&self) -> [(&'static str, &Path); 3] {
        [
            ("data", &self.root),
            ("member", &self.member),
            ("snapshot", &self.snap),
        ]
    }

    fn lock(&self, fs: &dyn Fs) -> Result<DataDirLock, DataDirError> {
        let path = self.member.join("lock");
        let denied = |source| DataDirError::Access {
            what: "member",
            path: path.clone(),
            source,
        };
        let exists = fs.exists(&path).map_err(denied)?;
        let mode = if exists {
            OpenMode::Write
        } else {
            OpenMode::CreateOrTruncate
        };
        let file = fs.open(&path, mode).map_err(denied)?;
        if !file.try_lock().map_err(denied)? {
            let mut holder = [0; 20];
            let read = file.read_at(&mut holder, 0).unwrap_or(0);
            let holder = String::from_utf8_lossy(&holder[..read]);
            let holder = match holder.trim() {
                "" => "unknown".to_owned(),
                pid => pid.to_owned(),
            };
            return Err(DataDirError::InUse {
                path: self.root.clone(),
                holder,
            });
        }
        // Always as long as the one before, so that a full disk has room for it.
        let pid = format!("{:<19}\n", std::process::id());
        file.write_all_at(pid.as_bytes(), 0).map_err(denied)?;
        Ok(DataDirLock { _file: file })
    }
}

/// What else an engine needs that this build does not have.
fn built_with(engine: Engine) -> String {
    match engine.is_built() {
        true => String::new(),
        false => format!(" in a build with the cargo feature {engine}"),
    }
}

/// Holds a data directory until it is dropped.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    _file: Box<dyn File>,
}

/// Proves that a directory can be written, and leaves no trace.
fn touch(fs: &dyn Fs, dir: &Path) -> io::Result<()> {
    let path = dir.join(".touch");
    drop(fs.open(&path, OpenMode::CreateOrTruncate)?);
    fs.remove_file(&path)
}

#[cfg(test)]
mod tests;
