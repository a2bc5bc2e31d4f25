//! One member.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::Secrets;
use crate::member::Log;
use crate::net::Host;
use crate::ports::Port;
use crate::process::Process;
use crate::{binary, peers};

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Go's etcd 3.7.
    Go,
    /// The last release of Go's etcd 3.6.
    Go36,
    /// Ours.
    Ours,
}

impl Kind {
    /// The program. None, and says `SKIPPED`, if it is not there.
    #[must_use]
    pub fn program(self) -> Option<PathBuf> {
        match self {
            Self::Go => peers::go_etcd(),
            Self::Go36 => peers::go_etcd_of("3.6"),
            Self::Ours => Some(binary::ours()),
        }
    }

    /// A letter for each member of a cluster: `GGO`.
    ///
    /// # Panics
    /// If a letter means nothing.
    #[must_use]
    pub fn parse(letters: &str) -> Vec<Self> {
        let kind = |letter| match letter {
            'G' => Self::Go,
            '6' => Self::Go36,
            'O' => Self::Ours,
            _ => panic!("{letter:?} in {letters:?} is none of G, 6, O"),
        };
        letters.chars().map(kind).collect()
    }

    /// The letter of [`Kind::parse`].
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Go => 'G',
            Self::Go36 => '6',
            Self::Ours => 'O',
        }
    }
}

/// Where a member runs.
#[derive(Clone, Debug)]
pub enum Place {
    /// On ports of the loopback address.
    Loopback,
    /// On a machine of its own, on etcd's usual ports.
    Host(Arc<Host>),
}

/// A member, running or not.
#[derive(Debug)]
pub struct Node {
    /// Its name in the cluster.
    pub name: String,
    kind: Kind,
    dir: PathBuf,
    place: Place,
    ports: [Port; 2],
    /// Flags besides name, directory and URLs, for the next start.
    pub flags: Vec<String>,
    /// The program, if it is another build than that of the kind.
    pub program: Option<PathBuf>,
    /// Environment, for the next start.
    pub env: Vec<(String, String)>,
    /// Without, it speaks HTTP.
    secrets: Option<Arc<Secrets>>,
    /// Its current directory; its peers reach it over a file there.
    sockets: Option<PathBuf>,
    process: Option<Process>,
    paused: bool,
    logs: Vec<(Kind, Log)>,
}

impl Node {
    pub(super) fn new(name: String, kind: Kind, dir: PathBuf, place: Place, flags: Vec<String>) -> Self {
        // On a machine of its own the numbers are not used.
        let ports = [Port::take(), Port::take()];
        Self {
            name,
            kind,
            dir,
            place,
            ports,
            flags,
            program: None,
            env: Vec::new(),
            secrets: None,
            sockets: None,
            process: None,
            paused: false,
            logs: Vec::new(),
        }
    }

    /// Whose server it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Another server takes over its directory at the next start.
    pub const fn take_over(&mut self, kind: Kind) {
        self.kind = kind;
    }

    fn address(&self, which: usize, usual: u16) -> SocketAddr {
        match &self.place {
            Place::Loopback => (Ipv4Addr::LOCALHOST, self.ports[which].number()).into(),
            Place::Host(host) => (host.address(), usual).into(),
        }
    }

    /// From now on it speaks mutual TLS.
    pub(super) fn secure(&mut self, secrets: &Arc<Secrets>) {
        secrets.issue(&self.name, self.client().ip());
        self.secrets = Some(Arc::clone(secrets));
    }

    /// From now on its peers reach it over a file in this directory, in which it runs.
    pub(super) fn over_socket(&mut self, dir: &Path) {
        self.sockets = Some(dir.to_owned());
    }

    /// The file over which its peers reach it, if it is one.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        Some(self.sockets.as_ref()?.join(self.peer().to_string()))
    }

    const fn scheme(&self) -> &'static str {
        if self.secrets.is_some() { "https" } else { "http" }
    }

    /// Where clients reach it.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.address(0, 2379)
    }

    /// Where its peers reach it.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.address(1, 2380)
    }

    /// The same as a URL.
    #[must_use]
    pub fn peer_url(&self) -> String {
        let scheme = match (&self.sockets, &self.secrets) {
            (None, _) => self.scheme(),
            // etcd takes host and port for the name of a file in its current directory.
            (Some(_), None) => "unix",
            (Some(_), Some(_)) => "unixs",
        };
        format!("{scheme}://{}", self.peer())
    }

    /// Its peer port on the loopback address, if it is there.
    pub(super) fn peer_port(&self) -> Option<u16> {
        let reachable = self.sockets.is_none() && matches!(self.place, Place::Loopback);
        reachable.then(|| self.ports[1].number())
    }

    /// Its machine, if it has one.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn host(&self) -> &Host {
        match &self.place {
            Place::Host(host) => host,
            Place::Loopback => panic!("{} has no machine of its own", self.name),
        }
    }

    /// Its data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Loses its data.
    ///
    /// # Panics
    /// If it runs.
    pub fn wipe(&self) {
        assert!(self.process.is_none(), "{} runs", self.name);
        if let Err(e) = std::fs::remove_dir_all(&self.dir) {
            assert!(e.kind() == std::io::ErrorKind::NotFound, "{}: {e}", self.dir.display());
        }
    }

    /// Starts its process and waits for nothing. `cluster` is `--initial-cluster`.
    ///
    /// # Panics
    /// If there is no such program.
    pub fn spawn(&mut self, cluster: &str, state: &str) {
        assert!(self.process.is_none(), "{} runs", self.name);
        let program = self.program.clone().or_else(|| self.kind.program()).expect("looked for before");
        let mut command = match &self.place {
            Place::Loopback => Command::new(program),
            Place::Host(host) => host.command(program),
        };
        if let Some(dir) = &self.sockets {
            command.current_dir(dir);
        }
        let (client, peer) = (format!("{}://{}", self.scheme(), self.client()), self.peer_url());
        command.args([
            format!("--name={}", self.name),
            format!("--data-dir={}", self.dir.display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={cluster}"),
            format!("--initial-cluster-state={state}"),
            "--initial-cluster-token=rig".to_owned(),
        ]);
        command.args(&self.flags).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.args(self.secrets.iter().flat_map(|secrets| secrets.flags(&self.name)));
        let process = Process::start(command);
        self.logs.push((self.kind, process.log().clone()));
        self.process = Some(process);
        self.paused = false;
    }

    /// Whether its process is there, paused or not.
    #[must_use]
    pub const fn started(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it can be expected to answer.
    #[must_use]
    pub const fn serving(&self) -> bool {
        self.process.is_some() && !self.paused
    }

    /// Its process.
    ///
    /// # Panics
    /// If it has none.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap_or_else(|| panic!("{} does not run", self.name))
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Forgets a process that has ended by itself, after waiting for its end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn ended(&mut self) -> std::process::ExitStatus {
        let status = self.process().wait();
        self.process = None;
        status
    }

    /// `SIGTERM`, and waits for the end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn terminate(&mut self) {
        self.process().terminate();
        self.process = None;
    }

    /// `SIGSTOP`.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pause(&mut self) {
        self.process().pause();
        self.paused = true;
    }

    /// `SIGCONT`, if it is paused.
    pub fn resume(&mut self) {
        if self.paused {
            self.process().resume();
            self.paused = false;
        }
    }

    /// What its processes wrote, one after the other, with whose they were.
    #[must_use]
    pub fn logs(&self) -> &[(Kind, Log)] {
        &self.logs
    }
}
