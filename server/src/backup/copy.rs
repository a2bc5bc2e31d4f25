//! The bytes of a saved snapshot, checked against its trailer while they are copied.

use std::path::Path;

use retcd_storage::fs::{File, Fs, OpenMode, read_full};
use sha2::{Digest as _, Sha256};

use super::FileError;
use super::restore::RestoreError;

/// SHA-256 of all that stands before it.
const TRAILER: u64 = 32;
/// A database is a multiple of this; what is left over tells a trailer.
const SECTOR: u64 = 512;
const CHUNK: usize = 1 << 20;

/// A saved snapshot, open.
#[derive(Debug)]
pub(super) struct Source<'a> {
    path: &'a Path,
    file: Box<dyn File>,
    /// Bytes of the database.
    database: u64,
    trailer: Option<[u8; TRAILER as usize]>,
}

impl<'a> Source<'a> {
    pub(super) fn open(fs: &dyn Fs, path: &'a Path) -> Result<Self, RestoreError> {
        let file = fs
            .open(path, OpenMode::Read)
            .map_err(FileError::on("open", path))?;
        let len = file.len().map_err(FileError::on("stat", path))?;
        let Some(database) = len.checked_sub(TRAILER) else {
            return Err(RestoreError::TooShort {
                path: path.to_owned(),
                len,
            });
        };
        let mut trailer = [0; TRAILER as usize];
        let read =
            read_full(&*file, &mut trailer, database).map_err(FileError::on("read", path))?;
        if read < trailer.len() {
            return Err(RestoreError::Shrunk(path.to_owned()));
        }
        let has_trailer = len % SECTOR == TRAILER;
        Ok(Self {
            path,
            file,
            database: if has_trailer { database } else { len },
            trailer: has_trailer.then_some(trailer),
        })
    }

    /// Copies the database and makes the copy durable. Unless `skip_check`, the trailer has to be there
    /// and to be right.
    pub(super) fn copy_to(
        &self,
        to: &dyn File,
        to_path: &Path,
        skip_check: bool,
    ) -> Result<(), RestoreError> {
        if self.trailer.is_none() && !skip_check {
            return Err(RestoreError::MissingHash);
        }
        let mut sha = (!skip_check).then(Sha256::new);
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < self.database {
            let want = usize::try_from(self.database - at).map_or(CHUNK, |left| left.min(CHUNK));
            let chunk = &mut buffer[..want];
            let read =
                read_full(&*self.file, chunk, at).map_err(FileError::on("read", self.path))?;
            if read < want {
                return Err(RestoreError::Shrunk(self.path.to_owned()));
            }
            if let Some(sha) = &mut sha {
                sha.update(&*chunk);
            }
            to.write_all_at(chunk, at)
                .map_err(FileError::on("write", to_path))?;
            at += want as u64;
        }
        if let (Some(expected), Some(sha)) = (self.trailer, sha) {
            let got: [u8; 32] = sha.finalize().into();
            if got != expected {
                return Err(RestoreError::HashMismatch { expected, got });
            }
        }
        to.sync_all().map_err(FileError::on("sync", to_path))?;
        Ok(())
    }
}
