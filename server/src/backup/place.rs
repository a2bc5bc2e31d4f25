//! Where a restored member is built, and how it becomes a data directory in one step.
//!
//! Everything is built aside, as `<data-dir>/member.part` (and `<wal-dir>.part`), and is durable before it
//! is renamed; `member` comes last. So whatever happens on the way, there is no `member` directory that a
//! member could start on.

use std::path::{Path, PathBuf};

use retcd_storage::fs::{Fs, durable_rename};

use super::FileError;
use super::restore::RestoreError;

const MEMBER: &str = "member";
const BUILDING: &str = "member.part";
const SNAP: &str = "snap";
const WAL: &str = "wal";

/// The directories of a restore.
#[derive(Debug)]
pub(super) struct Place {
    data_dir: PathBuf,
    wal: Wal,
}

/// Where the log is to be.
#[derive(Debug)]
enum Wal {
    /// In the member directory, under this name.
    Inside(PathBuf),
    /// Elsewhere.
    Beside(PathBuf),
}

impl Place {
    /// `wal_dir`: where the log is to be, if not in the data directory.
    ///
    /// # Errors
    /// If something is there already, or the log would come to lie where the database is.
    pub(super) fn new(
        fs: &dyn Fs,
        data_dir: &Path,
        wal_dir: Option<&Path>,
    ) -> Result<Self, RestoreError> {
        let data_dir: PathBuf = clean(data_dir);
        if exists(fs, &data_dir) {
            let found = fs.read_dir(&data_dir);
            let found = found.map_err(|_| RestoreError::NotEmpty(data_dir.clone()))?;
            if found.iter().any(|name| name == BUILDING) {
                return Err(RestoreError::Interrupted(data_dir.join(BUILDING)));
            }
            if !found.is_empty() {
                return Err(RestoreError::NotEmpty(data_dir));
            }
        }
        let member = data_dir.join(MEMBER);
        let wal = match wal_dir.map(clean) {
            None => Wal::Inside(WAL.into()),
            Some(wal_dir) => {
                if exists(fs, &wal_dir) {
                    return Err(RestoreError::WalDirExists(wal_dir));
                }
                let snap = member.join(SNAP);
                if snap.starts_with(&wal_dir) || wal_dir.starts_with(&snap) {
                    return Err(RestoreError::WalDirPlace { wal_dir, snap });
                }
                match wal_dir.strip_prefix(&member) {
                    Ok(name) => Wal::Inside(name.to_owned()),
                    Err(_) => Wal::Beside(wal_dir),
                }
            }
        };
        Ok(Self { data_dir, wal })
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where the snapshot directory will be.
    pub(super) fn final_snap(&self) -> PathBuf {
        self.data_dir.join(MEMBER).join(SNAP)
    }

    /// Where the log will be.
    pub(super) fn final_wal(&self) -> PathBuf {
        match &self.wal {
            Wal::Inside(name) => self.data_dir.join(MEMBER).join(name),
            Wal::Beside(dir) => dir.clone(),
        }
    }

    fn building(&self) -> PathBuf {
        self.data_dir.join(BUILDING)
    }

    /// Where the snapshot directory is built.
    pub(super) fn snap(&self) -> PathBuf {
        self.building().join(SNAP)
    }

    /// Where the database is built.
    pub(super) fn database(&self) -> PathBuf {
        self.snap().join("db")
    }

    /// Where the log is built.
    pub(super) fn wal(&self) -> PathBuf {
        match &self.wal {
            Wal::Inside(name) => self.building().join(name),
            Wal::Beside(dir) => {
                let mut name = dir.clone().into_os_string();
                name.push(".part");
                name.into()
            }
        }
    }

    /// Gives everything its final name. All files are durable already.
    pub(super) fn finish(&self, fs: &dyn Fs) -> Result<(), RestoreError> {
        for dir in [self.snap(), self.building()] {
            fs.sync_dir(&dir).map_err(FileError::on("sync", &dir))?;
        }
        // The log first: a log without its database is refused by a member, a database without its log
        // would look like a new member's.
        if let Wal::Beside(dir) = &self.wal {
            let from = self.wal();
            durable_rename(fs, &from, dir).map_err(FileError::on("rename", &from))?;
        }
        let (from, to) = (self.building(), self.data_dir.join(MEMBER));
        durable_rename(fs, &from, &to).map_err(|error| {
            // It may have its name, and only the sync of the name have failed.
            if fs.exists(&to).unwrap_or(false) {
                let _ = fs.rename(&to, &from);
            }
            FileError::on("rename", &from)(error)
        })?;
        Ok(())
    }

    /// Removes what was built, and the data directory if it was not there before. What cannot be removed
    /// stays: it is no member's.
    pub(super) fn discard(&self, fs: &dyn Fs, data_dir_is_ours: bool) {
        let _ = fs.remove_dir_all(&self.building());
        if let Wal::Beside(dir) = &self.wal {
            let _ = fs.remove_dir_all(&self.wal());
            let _ = fs.remove_dir_all(dir);
        }
        if data_dir_is_ours
            && fs
                .read_dir(&self.data_dir)
                .is_ok_and(|names| names.is_empty())
        {
            let _ = fs.remove_dir_all(&self.data_dir);
        }
    }
}

/// Below a file there is nothing; what cannot be looked for may be there.
fn exists(fs: &dyn Fs, path: &Path) -> bool {
    fs.exists(path)
        .unwrap_or_else(|error| error.kind() != std::io::ErrorKind::NotADirectory)
}

/// Without `.` and doubled or trailing slashes.
fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}
