//! The bolt engine on simulated disks.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::backend::conformance::{Fixture, conformance};
use crate::fs::SimFs;

const DB: &str = "/member/snap/db";

impl Fixture for Sim {
    fn engine(&self) -> Result<Arc<dyn Backend>, Error> {
        Ok(Arc::new(self.open()?))
    }

    fn break_disk(&self) {
        self.0.fail_at(1, io::ErrorKind::StorageFull, true);
    }

    fn mend_disk(&self) {
        self.0.heal();
    }
}

/// A simulated disk with a database.
struct Sim(SimFs);

impl Sim {
    fn new() -> Sim {
        let fs = SimFs::new();
        fs.create_dir_all(Path::new("/member/snap")).unwrap();
        Sim(fs)
    }

    fn open(&self) -> Result<BoltBackend, Error> {
        BoltBackend::open(
            Arc::new(self.0.clone()),
            Path::new(DB),
            BoltOptions::default(),
        )
    }
}

conformance!(Sim::new());
