//! A database file for tools: read-only, without a lock.

use std::path::Path;

use bytes::Bytes;

use super::meta::Meta;
use super::page::BUCKET;
use super::pager::Pager;
use super::state::head_in;
use super::tree::{Root, Tree};
use super::walk;
use crate::backend::Error;
use crate::fs::{Fs, OpenMode};

/// A database file that nobody writes: a saved snapshot, with its trailing checksum or without, or the file of a member
/// that is not running.
#[derive(Debug)]
pub struct BoltFile {
    pager: Pager,
    meta: Meta,
    root: Root,
    size: u64,
}

impl BoltFile {
    /// Opens a file.
    ///
    /// # Errors
    /// `Corrupt` if it is not a database or cut off.
    pub fn open(fs: &dyn Fs, path: &Path) -> Result<BoltFile, Error> {
        let file = fs
            .open(path, OpenMode::Read)
            .map_err(Error::io("open", path))?;
        let size = file.len().map_err(Error::io("read", path))?;
        let (pager, meta) = Pager::open(file, path)?;
        Ok(BoltFile {
            pager,
            meta,
            root: Root::Page(meta.root),
            size,
        })
    }

    /// Checks that every page is reached once or free, that all pages are sound and keys in order.
    ///
    /// # Errors
    /// `Corrupt`, with the first thing that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let walked = walk::walk(&self.pager, &self.meta)?;
        match walked.leaked {
            Some(page) => Err(self.pager.corrupt(page, "unreachable unfreed")),
            None => Ok(()),
        }
    }

    fn tree<'a>(&'a self, root: &'a Root) -> Tree<'a> {
        Tree {
            pager: &self.pager,
            root,
            high_water: self.meta.high_water,
        }
    }

    /// The names of all buckets that are not in another one, in order.
    ///
    /// # Errors
    /// `Io`, `Corrupt`.
    pub fn buckets(&self) -> Result<Vec<Bytes>, Error> {
        let mut names = Vec::new();
        let mut leaves = self.tree(&self.root).leaves(b"")?;
        while let Some(page) = leaves.next()? {
            let buckets = (0..page.len()).filter(|n| page.flags(*n) & BUCKET != 0);
            names.extend(buckets.map(|n| page.shared_key(n)));
        }
        Ok(names)
    }

    /// The value of a key; none without such a bucket or key.
    ///
    /// # Errors
    /// `Io`, `Corrupt`.
    pub fn get(&self, bucket: &[u8], key: &[u8]) -> Result<Option<Bytes>, Error> {
        match head_in(&self.pager, &self.root, self.meta.high_water, bucket)? {
            Some(head) => self.tree(&head.root).get(key),
            None => Ok(None),
        }
    }

    /// Keys and values of a bucket in ascending order, from the first key that is not below `from`, at most `limit`
    /// (0: all). Buckets within it are left out.
    ///
    /// # Errors
    /// `Io`, `Corrupt`.
    pub fn scan(
        &self,
        bucket: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        match head_in(&self.pager, &self.root, self.meta.high_water, bucket)? {
            Some(head) => self.tree(&head.root).scan(from, None, limit),
            None => Ok(Vec::new()),
        }
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}
