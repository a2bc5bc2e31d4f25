//! Where lines go.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

pub(super) enum Sink {
    Stderr,
    Stdout,
    /// Opened for appending, so that a line is one write at the end whoever else writes.
    File(File),
    Writer(Mutex<Box<dyn Write + Send>>),
}

impl Sink {
    pub(super) fn open(output: &str) -> io::Result<Self> {
        Ok(match output {
            "default" | "stderr" => Self::Stderr,
            "stdout" => Self::Stdout,
            path => Self::File(OpenOptions::new().append(true).create(true).open(path)?),
        })
    }

    pub(super) fn writer(writer: impl Write + Send + 'static) -> Self {
        Self::Writer(Mutex::new(Box::new(writer)))
    }

    /// Errors are dropped: there is nowhere left to report them.
    pub(super) fn write(&self, line: &[u8]) {
        let _ = match self {
            Self::Stderr => io::stderr().write_all(line),
            Self::Stdout => io::stdout()
                .write_all(line)
                .and_then(|()| io::stdout().flush()),
            Self::File(file) => (&*file).write_all(line),
            Self::Writer(writer) => writer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write_all(line),
        };
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stderr => "stderr",
            Self::Stdout => "stdout",
            Self::File(_) => "file",
            Self::Writer(_) => "writer",
        })
    }
}
