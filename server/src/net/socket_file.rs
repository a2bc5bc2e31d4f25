//! Unix sockets: the file that stands for one, from when it is bound until nobody listens on it.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf, absolute};

use socket2::{Domain, SockAddr, Socket, Type};

/// The file of a socket that is listened on. Taken away when dropped, unless it is another one by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

/// Binds a file.
///
/// What a server that was killed left behind is taken away first, as in etcd, which takes away whatever is there. Here a
/// socket on which somebody listens stays, and so does any other file: the address is in use.
///
/// # Errors
/// Those of the system.
pub(super) fn bind(path: &Path, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
    if is_left_behind(path) {
        fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    // As given: the system takes about a hundred bytes.
    socket.bind(&SockAddr::unix(path)?)?;
    let metadata = fs::symlink_metadata(path)?;
    let file = SocketFile {
        // Whatever the current directory will be.
        path: absolute(path)?,
        id: (metadata.dev(), metadata.ino()),
    };
    socket.listen(backlog)?;
    Ok((socket.into(), file))
}

fn is_left_behind(path: &Path) -> bool {
    let is_socket = |found: fs::Metadata| found.file_type().is_socket();
    if !fs::symlink_metadata(path).is_ok_and(is_socket) {
        return false;
    }
    // Not blocking: a server that is behind with accepting is alive.
    let dialed = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)
        .and_then(|socket| socket.connect(&SockAddr::unix(path)?));
    dialed.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let same = |found: fs::Metadata| (found.dev(), found.ino()) == self.id;
        if fs::symlink_metadata(&self.path).is_ok_and(same) {
            // Of no more use; whoever binds it next takes it away.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_file_is_bound_by_one_server_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s.sock");
        let (listener, file) = bind(&path, 1).expect("bound");
        UnixStream::connect(&path).expect("it listens");
        let used = bind(&path, 1).expect_err("in use");
        assert_eq!(used.kind(), io::ErrorKind::AddrInUse);

        // As after kill -9: the file is there, and nobody listens.
        std::mem::forget(file);
        drop(listener);
        let (listener, file) = bind(&path, 1).expect("bound again");
        // Somebody took it away and bound another one: that one stays.
        fs::remove_file(&path).expect("removed");
        let (other, others) = bind(&path, 1).expect("bound");
        drop((listener, file));
        UnixStream::connect(&path).expect("it listens");
        drop((other, others));
        assert!(!path.exists(), "it is gone with its server");
    }

    #[test]
    fn other_files_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notes.txt");
        fs::write(&path, "mine").expect("written");
        let used = bind(&path, 1).expect_err("in use");
        assert_eq!(used.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).expect("read"), b"mine");
        let missing = bind(&dir.path().join("no/s.sock"), 1).expect_err("no directory");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
