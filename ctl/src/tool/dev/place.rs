//! Where the data is.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::cli::{Failure, exit};

use super::layout::RECORD;

/// A directory, and what becomes of it.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    kept: bool,
}

impl Place {
    /// One that a user names. It may have been used before, but by nothing else.
    pub(super) fn given(dir: &Path) -> Result<Self, Failure> {
        let fail = |error: io::Error| {
            Failure::new(
                exit::ERROR,
                format_args!("--data-dir={}: {error}", dir.display()),
            )
        };
        fs::create_dir_all(dir).map_err(fail)?;
        let is_empty = fs::read_dir(dir).map_err(fail)?.next().is_none();
        if !is_empty && !dir.join(RECORD).exists() {
            return Err(Failure::new(
                exit::ERROR,
                format_args!(
                    "--data-dir={} holds something that `retcd dev` did not make: name another directory (to run a \
                     member on the data directory of a member, use etcd)",
                    dir.display()
                ),
            ));
        }
        Ok(Self {
            dir: dir.to_owned(),
            kept: true,
        })
    }

    /// A new one, that goes with the process unless it is to be kept.
    pub(super) fn temporary(keep: bool) -> Result<Self, Failure> {
        let base = std::env::temp_dir();
        let mut number = 0_u32;
        loop {
            let dir = base.join(format!("retcd-dev-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => return Ok(Self { dir, kept: keep }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => {
                    return Err(Failure::new(
                        exit::ERROR,
                        format_args!(
                            "cannot make {}: {error}; set TMPDIR to a directory that can be written, or name one with \
                             --data-dir",
                            dir.display()
                        ),
                    ));
                }
            }
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            eprintln!("{} is left behind: {error}", self.dir.display());
        }
    }
}
