//! The systemd journal, spoken to in its own protocol: one datagram for each line.
//!
//! Source: systemd's `JOURNAL_NATIVE_PROTOCOL`; the fields are those that etcd sends.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use slog::Level;

use super::line::Line;

/// A journal to write to.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    /// What the journal calls this process: the name of its program.
    identifier: String,
}

impl Journal {
    /// Where the journal takes lines.
    pub(super) const SOCKET: &'static str = "/run/systemd/journal/socket";

    /// Fails when nobody listens at `path`.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        UnixDatagram::unbound()?.connect(path)?;
        let program = std::env::args_os().next().unwrap_or_default();
        let name = Path::new(&program).file_name().unwrap_or_default();
        // Not connected: a journal that is started anew is found again.
        let socket = UnixDatagram::unbound()?;
        // A member must not stand still because the journal does.
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            path: path.to_owned(),
            identifier: name.to_string_lossy().into_owned(),
        })
    }

    /// Sends a line and what the journal knows it by. A line that is too large for a datagram is an error.
    pub(super) fn send(&self, line: &Line, text: &str) -> io::Result<()> {
        let mut datagram = Vec::with_capacity(text.len() + 128);
        push(&mut datagram, "PRIORITY", priority(line.level));
        push(&mut datagram, "MESSAGE", text.trim_end_matches('\n'));
        let directory = line.caller.rsplit_once('/').map_or(".", |(dir, _)| dir);
        push(&mut datagram, "PACKAGE", directory);
        push(&mut datagram, "SYSLOG_IDENTIFIER", &self.identifier);
        self.socket.send_to(&datagram, &self.path).map(drop)
    }
}

/// Adds a field; one of several lines is preceded by its length.
fn push(datagram: &mut Vec<u8>, name: &str, value: &str) {
    datagram.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        datagram.push(b'\n');
        datagram.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        datagram.push(b'=');
    }
    datagram.extend_from_slice(value.as_bytes());
    datagram.push(b'\n');
}

/// Severities of syslog.
fn priority(level: Level) -> &'static str {
    match level {
        Level::Critical => "2",
        Level::Error => "3",
        Level::Warning => "4",
        Level::Info => "6",
        Level::Debug | Level::Trace => "7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_arrive_with_priority_and_origin() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("socket");
        assert!(Journal::connect(&path).is_err());
        let server = UnixDatagram::bind(&path).expect("bind");
        let journal = Journal::connect(&path).expect("connect");
        let line = Line::plain(Level::Warning, "m", Vec::new());
        journal.send(&line, "{\"msg\":\"m\"}\n").expect("sent");
        journal.send(&line, "two\nlines\n").expect("sent");

        let mut bytes = [0; 1024];
        let mut receive = || {
            let len = server.recv(&mut bytes).expect("a datagram");
            bytes[..len].to_vec()
        };
        let text = String::from_utf8(receive()).expect("text");
        let begin = "PRIORITY=4\nMESSAGE={\"msg\":\"m\"}\nPACKAGE=a\nSYSLOG_IDENTIFIER=retcd";
        assert!(text.starts_with(begin), "{text}");
        let second = receive();
        let field = [b"MESSAGE\n\x09\0\0\0\0\0\0\0".as_slice(), b"two\nlines\n"].concat();
        assert!(second.windows(field.len()).any(|part| part == field));

        // Another journal in its place is found.
        drop(server);
        assert!(journal.send(&line, "lost\n").is_err());
        std::fs::remove_file(&path).expect("gone");
        let server = UnixDatagram::bind(&path).expect("bind");
        journal.send(&line, "again\n").expect("sent");
        assert!(server.recv(&mut bytes).is_ok());
    }
}
