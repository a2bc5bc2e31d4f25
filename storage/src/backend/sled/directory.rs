//! The files around sled's.
//!
//! ```text
//! LOCK      held while the database is open
//! CURRENT   name of the sled database in use, written last and replaced by a rename
//! journal   see `journal`
//! db-<n>    a sled database; those that CURRENT does not name are left over from a defragmentation
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::store::Store;
use crate::backend::journal::Journal;
use crate::backend::{Batch, Error};
use crate::fs::{File, Fs, OpenMode, durable_rename, read_all};

const LOCK: &str = "LOCK";
const CURRENT: &str = "CURRENT";
const TEMPORARY: &str = "CURRENT.tmp";
const JOURNAL: &str = "journal";

/// An open and locked directory.
pub(super) struct Directory {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    /// Number of the sled database in use.
    current: u64,
    /// Released when dropped.
    _lock: Box<dyn File>,
}

fn name_of(number: u64) -> String {
    format!("db-{number}")
}

fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix("db-")?.parse().ok()?;
    (name_of(number) == name).then_some(number)
}

impl Directory {
    /// Opens or creates; removes what an interrupted creation or defragmentation has left.
    pub(super) fn open(fs: Arc<dyn Fs>, dir: &Path) -> Result<(Self, Store), Error> {
        fs.create_dir_all(dir).map_err(Error::io("create", dir))?;
        let lock = take_lock(&*fs, dir)?;
        let names = fs.read_dir(dir).map_err(Error::io("read", dir))?;
        if let Some(name) = names.iter().find(|name| !is_ours(name)) {
            let detail = "the file does not belong here".into();
            return Err(Error::Corrupt {
                path: dir.join(name),
                detail,
            });
        }
        let exists = names.iter().any(|name| name == CURRENT);
        let current = if exists { read_current(&*fs, dir)? } else { 1 };
        let mut directory = Directory {
            fs,
            dir: dir.to_owned(),
            current,
            _lock: lock,
        };
        directory.remove_leftovers(&names, exists)?;
        let store = if exists {
            Store::open(&directory.fs, &directory.path(name_of(current)))?
        } else {
            directory.create()?
        };
        Ok((directory, store))
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    fn create(&mut self) -> Result<Store, Error> {
        let store = Store::create(&self.fs, &self.path(name_of(self.current)))?;
        store.sync()?;
        self.create_journal(0)?;
        self.prepare_current(self.current)?;
        self.replace_current(self.current)?;
        Ok(store)
    }

    fn remove_leftovers(&self, names: &[String], exists: bool) -> Result<(), Error> {
        for name in names {
            let path = self.path(name);
            match number_of(name) {
                Some(number) if !exists || number != self.current => self.fs.remove_dir_all(&path),
                None if name == TEMPORARY => self.fs.remove_file(&path),
                _ => continue,
            }
            .map_err(Error::io("remove", &path))?;
        }
        Ok(())
    }

    /// A new and empty sled database beside the one in use.
    pub(super) fn create_next(&self) -> Result<(u64, Store), Error> {
        let number = self.current + 1;
        let path = self.path(name_of(number));
        if self
            .fs
            .exists(&path)
            .map_err(Error::io("look for", &path))?
        {
            self.fs
                .remove_dir_all(&path)
                .map_err(Error::io("remove", &path))?;
        }
        Ok((number, Store::create(&self.fs, &path)?))
    }

    /// Gets ready to make `db-<number>`, which must be durable, the database in use.
    pub(super) fn prepare_current(&self, number: u64) -> Result<(), Error> {
        // First the name of the database, then the one that points to it.
        self.fs
            .sync_dir(&self.dir)
            .map_err(Error::io("sync", &self.dir))?;
        let path = self.path(TEMPORARY);
        let file = self
            .fs
            .open(&path, OpenMode::CreateOrTruncate)
            .map_err(Error::io("create", &path))?;
        let content = format!("{}\n", name_of(number));
        file.write_all_at(content.as_bytes(), 0)
            .map_err(Error::io("write", &path))?;
        file.sync_all().map_err(Error::io("sync", &path))
    }

    /// Does what was prepared. After an error either database may be in use.
    pub(super) fn replace_current(&mut self, number: u64) -> Result<(), Error> {
        let path = self.path(CURRENT);
        durable_rename(&*self.fs, &self.path(TEMPORARY), &path)
            .map_err(Error::io("replace", &path))?;
        self.current = number;
        Ok(())
    }

    /// The batches that the journal holds after record `stored`.
    pub(super) fn read_journal(&self, stored: u64) -> Result<Vec<Batch>, Error> {
        Journal::read(&*self.fs, &self.path(JOURNAL), stored)
    }

    /// An empty journal that continues after record `number`.
    pub(super) fn create_journal(&self, number: u64) -> Result<Journal, Error> {
        let journal = Journal::create(&*self.fs, &self.path(JOURNAL), number)?;
        self.fs
            .sync_dir(&self.dir)
            .map_err(Error::io("sync", &self.dir))?;
        Ok(journal)
    }
}

fn is_ours(name: &str) -> bool {
    [LOCK, CURRENT, TEMPORARY, JOURNAL].contains(&name) || number_of(name).is_some()
}

fn take_lock(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn File>, Error> {
    let path = dir.join(LOCK);
    let exists = fs.exists(&path).map_err(Error::io("look for", &path))?;
    let mode = if exists {
        OpenMode::Write
    } else {
        OpenMode::CreateOrTruncate
    };
    let file = fs.open(&path, mode).map_err(Error::io("open", &path))?;
    match file.try_lock().map_err(Error::io("lock", &path))? {
        true => Ok(file),
        false => Err(Error::Locked {
            path: dir.to_owned(),
        }),
    }
}

fn read_current(fs: &dyn Fs, dir: &Path) -> Result<u64, Error> {
    let path = dir.join(CURRENT);
    let content = read_all(fs, &path).map_err(Error::io("read", &path))?;
    let name = std::str::from_utf8(&content)
        .ok()
        .and_then(|text| text.strip_suffix('\n'));
    name.and_then(number_of).ok_or_else(|| Error::Corrupt {
        path,
        detail: "it names no database".into(),
    })
}
