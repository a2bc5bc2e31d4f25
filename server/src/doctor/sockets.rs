//! The files of Unix sockets that the member listens on.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::access::{self, User, Wish};
use super::finding::Findings;

/// The system's own limit, less the byte that ends it.
const LONGEST: usize = 107;

/// Whether the socket can be made. `runs`: the member has it already; `made`: directories that its service manager makes.
pub(super) fn check(
    flag: &str,
    path: &Path,
    runs: bool,
    made: &[std::path::PathBuf],
    user: Option<&User>,
    findings: &mut Findings,
) {
    let what = |reason: &str| format!("{flag}: {}: {reason}", path.display());
    let length = path.as_os_str().as_bytes().len();
    if length > LONGEST {
        findings.error(
            "socket-file",
            what(&format!(
                "its name has {length} bytes, and {LONGEST} is the most"
            )),
            "take a shorter path, such as /run/etcd/client.sock",
        );
        return;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => findings.error(
            "socket-file",
            what("a file that is no socket is there"),
            "move the file away, or name another one",
        ),
        Ok(_) if !runs && UnixStream::connect(path).is_ok() => findings.error(
            "port-in-use",
            what("somebody listens on it"),
            format!(
                "stop who has it (`ss -lxp src {}` shows who), or name another file",
                path.display()
            ),
        ),
        // What a member left behind is replaced.
        _ => {}
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let Some(dir) = absolute.parent() else {
        return;
    };
    if made.iter().any(|made| dir.starts_with(made)) && !dir.exists() {
        return;
    }
    if let Err(reason) = access::check(dir, Wish::Fill, user) {
        let who = user.map_or("<user>", |user| user.name.as_str());
        findings.error(
            "socket-file",
            what(&format!("it cannot be made in {}: {reason}", dir.display())),
            format!(
                "mkdir -p {0} && chown {who}: {0}; what is below /run is gone after a restart of the machine, so there let the unit make it \
                 (RuntimeDirectory=)",
                dir.display()
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;

    #[test]
    fn sockets_that_cannot_be_had_are_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s.sock");
        let checks = |path: &Path, runs, made: &[_]| {
            let found =
                found(|findings| check("--listen-client-urls", path, runs, made, None, findings));
            found.checks()
        };
        assert!(checks(&path, false, &[]).is_empty());
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        assert_eq!(checks(&path, false, &[]), ["port-in-use"]);
        assert!(checks(&path, true, &[]).is_empty());
        drop(listener);
        assert!(
            checks(&path, false, &[]).is_empty(),
            "left behind, so replaced"
        );

        let file = dir.path().join("notes.txt");
        fs::write(&file, "mine").expect("written");
        assert_eq!(checks(&file, false, &[]), ["socket-file"]);
        let none = dir.path().join("none");
        assert_eq!(checks(&none.join("s.sock"), false, &[]), ["socket-file"]);
        assert!(checks(&none.join("s.sock"), false, &[none]).is_empty());
        let long = dir.path().join("x".repeat(108));
        assert_eq!(checks(&long, false, &[]), ["socket-file"]);
    }
}
