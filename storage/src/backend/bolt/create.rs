//! Making a new database.

use std::io;
use std::path::Path;

use bytes::Bytes;

use super::freelist::Freelist;
use super::meta::Meta;
use super::page::{BUCKET, Item, build};
use super::tree::Head;
use crate::backend::{Bucket, Error};
use crate::fs::{File, Fs, OpenMode, durable_rename};

/// Pages of a new file have this size, on every machine. bbolt takes the machine's, and reads any.
const PAGE_SIZE: usize = 4096;

/// Keeps everybody else out.
pub(super) fn lock(file: &dyn File, path: &Path) -> Result<(), Error> {
    if file.try_lock().map_err(Error::io("lock", path))? {
        Ok(())
    } else {
        Err(Error::Locked {
            path: path.to_owned(),
        })
    }
}

/// Makes a database with etcd's ten buckets, whole or not at all. `None` if somebody else was faster. The file is
/// locked before it gets its name, so two members that start at once cannot each have one.
pub(super) fn create(fs: &dyn Fs, path: &Path) -> Result<Option<Box<dyn File>>, Error> {
    // etcd removes files of this kind of name at its next start.
    let aside = path.with_file_name("db.tmp.new");
    let mut left = false;
    let opened = match fs.open(&aside, OpenMode::CreateNew) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // By a start that was cut off, or somebody else is just here. Not emptied before it is ours.
            left = true;
            match fs.open(&aside, OpenMode::Write) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened,
            }
        }
        opened => opened,
    };
    let file = opened.map_err(Error::io("create", &aside))?;
    lock(&*file, path)?;
    if fs.exists(path).map_err(Error::io("look for", path))? {
        if !left {
            fs.remove_file(&aside)
                .map_err(Error::io("remove", &aside))?;
        }
        return Ok(None);
    }
    let bytes = empty_database();
    file.set_len(0).map_err(Error::io("empty", &aside))?;
    file.write_all_at(&bytes, 0)
        .map_err(Error::io("write", &aside))?;
    file.sync_all().map_err(Error::io("sync", &aside))?;
    durable_rename(fs, &aside, path).map_err(Error::io("rename", &aside))?;
    Ok(Some(file))
}

fn empty_database() -> Vec<u8> {
    let empty = Head::empty().encode();
    let items = Bucket::ALL.map(|bucket| Item {
        flags: BUCKET,
        key: Bytes::from_static(bucket.name().as_bytes()),
        value: empty.clone(),
    });
    let mut bytes = Vec::with_capacity(4 * PAGE_SIZE);
    for txid in [0, 1] {
        let meta = Meta {
            page_size: PAGE_SIZE as u32,
            root: 3,
            root_sequence: 0,
            freelist: Some(2),
            high_water: 4,
            txid,
        };
        bytes.extend_from_slice(&meta.encode(txid));
        bytes.resize((txid as usize + 1) * PAGE_SIZE, 0);
    }
    bytes.extend_from_slice(&Freelist::encode(&[], 2, 0, PAGE_SIZE));
    bytes.extend_from_slice(&build(&items, 3, 0, PAGE_SIZE));
    bytes
}
