//! A redo journal for an engine that can neither commit a batch as one nor prove that it is on the disk.
//!
//! A batch is durable once its record here is synced; only then is it applied to the engine. When the engine is
//! proved to hold all records ([`Journal::restart`]), the file is written from the start again, so it never
//! grows beyond its limit and one batch, and syncs seldom change its length. The engine stores, in the same proof, the
//! number of the last record it holds. After a crash all later records are applied once more, in order, which
//! gives the same state however many of their changes the engine already had.
//!
//! A record is: CRC-32C of what follows (4 bytes), number (8), length (8), changes; little endian. Numbers rise by
//! one for ever, so what remains of an earlier round behind the last record does not continue the row.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Batch, Error, Op, codec};
use crate::fs::{File, Fs, OpenMode, read_all};

const HEADER: usize = 20;

/// A buffer larger than this is given back after use.
const KEEP_BUFFER: usize = 4 << 20;

/// So is the disk space of a larger file.
const KEEP_FILE: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct Journal {
    file: Box<dyn File>,
    path: PathBuf,
    number: u64,
    end: u64,
    buffer: Vec<u8>,
}

impl Journal {
    /// An empty journal, whose records continue after `number`; whatever was at `path` is lost. The caller syncs the
    /// directory.
    pub(super) fn create(fs: &dyn Fs, path: &Path, number: u64) -> Result<Self, Error> {
        let file = fs
            .open(path, OpenMode::CreateOrTruncate)
            .map_err(Error::io("create", path))?;
        file.sync_all().map_err(Error::io("sync", path))?;
        Ok(Journal {
            file,
            path: path.to_owned(),
            number,
            end: 0,
            buffer: Vec::new(),
        })
    }

    /// The records with a number above `stored`, oldest first. A torn one at the end was never reported durable.
    ///
    /// # Errors
    /// `Corrupt` if records are missing in between: the engine lost what it had proved to hold.
    pub(super) fn read(fs: &dyn Fs, path: &Path, stored: u64) -> Result<Vec<Batch>, Error> {
        let corrupt = |detail| Error::Corrupt {
            path: path.to_owned(),
            detail,
        };
        let mut rest = Bytes::from(read_all(fs, path).map_err(Error::io("read", path))?);
        let mut batches = Vec::new();
        let mut last = None;
        while let Some((number, payload)) = next_record(&mut rest) {
            if last.is_some_and(|last| number != last + 1) {
                break;
            }
            if last.is_none() && number > stored + 1 {
                return Err(corrupt(format!(
                    "it begins at record {number}, but the engine holds only up to {stored}"
                )));
            }
            last = Some(number);
            if number > stored {
                let batch = codec::decode(payload);
                batches.push(
                    batch.ok_or_else(|| corrupt(format!("record {number} cannot be decoded")))?,
                );
            }
        }
        Ok(batches)
    }

    /// Makes a batch durable.
    pub(super) fn append(&mut self, batch: &Batch) -> Result<(), Error> {
        self.number += 1;
        let record = &mut self.buffer;
        record.clear();
        record.resize(HEADER, 0);
        encode_batch(record, batch);
        let len = (record.len() - HEADER) as u64;
        record[4..12].copy_from_slice(&self.number.to_le_bytes());
        record[12..HEADER].copy_from_slice(&len.to_le_bytes());
        let crc = crc32c::crc32c(&record[4..]);
        record[..4].copy_from_slice(&crc.to_le_bytes());
        self.file
            .write_all_at(record, self.end)
            .map_err(Error::io("write", &self.path))?;
        self.file
            .sync_data()
            .map_err(Error::io("sync", &self.path))?;
        self.end += record.len() as u64;
        if record.capacity() > KEEP_BUFFER {
            *record = Vec::new();
        }
        Ok(())
    }

    /// The number of the last record.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of the records since the last restart.
    pub(super) fn len(&self) -> u64 {
        self.end
    }

    /// Forgets all records; the engine has provably stored them.
    pub(super) fn restart(&mut self) -> Result<(), Error> {
        if self.end > KEEP_FILE {
            self.file.set_len(0).map_err(Error::io("cut", &self.path))?;
        }
        self.end = 0;
        Ok(())
    }
}

/// Appends all changes of a batch.
fn encode_batch(out: &mut Vec<u8>, batch: &Batch) {
    for op in batch.ops() {
        match op {
            Op::Put { bucket, key, value } => codec::encode(out, *bucket, key, Some(value)),
            Op::Delete { bucket, key } => codec::encode(out, *bucket, key, None),
        }
    }
}

/// Takes the record at the front; `None` if there is no whole one.
fn next_record(rest: &mut Bytes) -> Option<(u64, Bytes)> {
    let header = rest.get(..HEADER)?;
    let crc = u32::from_le_bytes(header[..4].try_into().ok()?);
    let number = u64::from_le_bytes(header[4..12].try_into().ok()?);
    let len = usize::try_from(u64::from_le_bytes(header[12..].try_into().ok()?)).ok()?;
    let record = rest.get(4..HEADER.checked_add(len)?)?;
    if crc32c::crc32c(record) != crc {
        return None;
    }
    let mut record = rest.split_to(HEADER + len);
    Some((number, record.split_off(HEADER)))
}

#[cfg(test)]
mod tests;
