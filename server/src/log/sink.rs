//! Where lines go.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use super::journal::Journal;
use super::line::Line;
use super::rotate::Rotating;

pub(super) enum Sink {
    Stderr,
    Stdout,
    /// Opened for appending, so that a line is one write at the end whoever else writes.
    File(File),
    /// A file that is renamed when it is full.
    Rotating(Rotating),
    /// The systemd journal.
    Journal(Journal),
    Writer(Mutex<Box<dyn Write + Send>>),
}

impl Sink {
    pub(super) fn file(path: &str) -> io::Result<Self> {
        let path = match path.strip_prefix("file://") {
            Some(path) => path.strip_prefix("localhost").unwrap_or(path),
            None => path,
        };
        Ok(Self::File(
            OpenOptions::new().append(true).create(true).open(path)?,
        ))
    }

    pub(super) fn writer(writer: impl Write + Send + 'static) -> Self {
        Self::Writer(Mutex::new(Box::new(writer)))
    }

    /// `text` is the line as it is to be read. Errors are dropped: there is nowhere left to report them.
    pub(super) fn write(&self, line: &Line, text: &str) {
        let bytes = text.as_bytes();
        let _ = match self {
            Self::Stderr => io::stderr().write_all(bytes),
            Self::Stdout => io::stdout()
                .write_all(bytes)
                .and_then(|()| io::stdout().flush()),
            Self::File(file) => (&*file).write_all(bytes),
            Self::Rotating(file) => file.write(bytes),
            // As etcd does: what the journal does not take goes to standard error.
            Self::Journal(journal) => journal
                .send(line, text)
                .or_else(|_| io::stderr().write_all(bytes)),
            Self::Writer(writer) => writer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write_all(bytes),
        };
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stderr => "stderr",
            Self::Stdout => "stdout",
            Self::File(_) => "file",
            Self::Rotating(_) => "rotating file",
            Self::Journal(_) => "journal",
            Self::Writer(_) => "writer",
        })
    }
}
