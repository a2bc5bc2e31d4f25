//! One machine.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::run;

/// Makes the files of a machine: all of the system's, with a layer above it that takes every change. In memory, since an
/// overlay cannot have its layer within what it covers.
const OWN_FILES: &str = r#"
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount -t sysfs sysfs "$1/root/sys"
mount --rbind /dev "$1/root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$1/root/tmp"
hostname "$2"
exec chroot "$1/root" sh -c 'echo ready; exec cat'
"#;

const COMMON_FILES: &str = "echo ready; exec cat";

/// Which files a machine sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// Those of the system, with its own changes, which end with it.
    Own,
    /// Those of the system.
    Common,
}

/// A machine. Ends when dropped; its processes are killed by whoever started them.
#[derive(Debug)]
pub struct Host {
    name: String,
    address: Ipv4Addr,
    files: Files,
    holder: Child,
    root: Option<TempDir>,
}

impl Host {
    pub(super) fn start(name: &str, address: Ipv4Addr, files: Files) -> Result<Self, String> {
        let mut command = Command::new("unshare");
        command.args(["--net", "--uts"]);
        let root = match files {
            Files::Common => {
                command.args(["sh", "-ec", COMMON_FILES]);
                None
            }
            Files::Own => {
                let root = tempfile::Builder::new().prefix("retcd-host-").tempdir().map_err(|e| e.to_string())?;
                command.args(["--mount", "sh", "-ec", OWN_FILES, "sh"]).arg(root.path()).arg(name);
                Some(root)
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().map_err(|e| format!("{command:?}: {e}"))?;
        let mut line = String::new();
        let said = BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut line);
        if said.is_err() || line != "ready\n" {
            let out = holder.wait_with_output().map_err(|e| e.to_string())?;
            return Err(format!("{command:?}: {}", String::from_utf8_lossy(&out.stderr)));
        }
        Ok(Self { name: name.to_owned(), address, files, holder, root })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    #[must_use]
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The process that holds it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A command to run on it; the process is the command itself, so that signals reach it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.pid().to_string()).args(["--net", "--uts"]);
        if self.files == Files::Own {
            // A process keeps its root and folder: these are the holder's.
            command.args(["--mount", "--root", "--wd"]);
        }
        command.arg("--").arg(program);
        command
    }

    /// A shell script to run on it.
    #[must_use]
    pub fn script(&self, text: &str) -> Command {
        let mut command = self.command("bash");
        command.arg("-ec").arg(text);
        command
    }

    /// Runs a shell script to its end and returns what it printed.
    ///
    /// # Errors
    /// If it failed: what it wrote, and how it ended.
    pub fn run(&self, text: &str) -> Result<String, String> {
        run::stdout(&mut self.script(text)).map_err(|e| format!("on {}: {e}", self.name))
    }

    /// Runs a shell script that must succeed, and returns what it printed.
    ///
    /// # Panics
    /// If it fails; with what it wrote.
    #[must_use]
    pub fn sh(&self, text: &str) -> String {
        self.run(text).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Runs a shell script that must succeed, for its effect.
    ///
    /// # Panics
    /// If it fails; with what it wrote.
    pub fn does(&self, text: &str) {
        let _ = self.sh(text);
    }

    /// Where a file of this machine is for the tests.
    ///
    /// # Panics
    /// If the path is not absolute.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        Path::new("/proc").join(self.pid().to_string()).join("root").join(path.strip_prefix('/').expect("absolute"))
    }

    /// Copies a program onto it.
    ///
    /// # Panics
    /// If that fails.
    pub fn install(&self, program: &Path, path: &str) {
        fs::copy(program, self.path(path)).unwrap_or_else(|e| panic!("{} to {path}: {e}", program.display()));
    }

    /// Shows it a folder of the system, which it cannot change. Only for machines with files of their own.
    ///
    /// # Panics
    /// If that fails.
    pub fn share(&self, folder: &Path, path: &str) {
        let place = self.path(path);
        fs::create_dir_all(&place).unwrap_or_else(|e| panic!("{}: {e}", place.display()));
        // Its namespace seen from the root of the system, where both folders are.
        let root = self.root.as_ref().expect("files of its own").path().join("root");
        let mut mount = Command::new("nsenter");
        mount.arg("--target").arg(self.pid().to_string()).args(["--mount", "--", "mount", "--bind", "-o", "ro"]);
        mount.arg(folder).arg(root.join(path.strip_prefix('/').expect("absolute")));
        run::stdout(&mut mount).unwrap_or_else(|e| panic!("{path} on {}: {e}", self.name));
    }

    /// A way for threads onto this machine.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn link(&self) -> Link {
        Link(File::open(format!("/proc/{}/ns/net", self.pid())).expect("the machine runs"))
    }

    /// From now on, nothing that comes from this address arrives.
    ///
    /// # Panics
    /// If that fails.
    pub fn deafen(&self, from: Ipv4Addr) {
        self.must(&["iptables", "-w", "-A", "INPUT", "-s", &from.to_string(), "-j", "DROP"]);
    }

    /// Everything arrives again.
    ///
    /// # Panics
    /// If that fails.
    pub fn heal(&self) {
        self.must(&["iptables", "-w", "-F", "INPUT"]);
    }

    pub(super) fn must(&self, command: &[&str]) {
        run::stdout(self.command(command[0]).args(&command[1..])).unwrap_or_else(|e| panic!("on {}: {e}", self.name));
    }
}

/// A way for a thread onto a machine.
#[derive(Debug)]
pub struct Link(File);

impl Link {
    /// Moves the calling thread: sockets it opens from now on are there.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn enter(&self) {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may do that");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
