//! One server process, ours or a genuine one, on loopback ports and a directory of its own.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::http1;
use crate::ports::Port;

/// How long anything may take that should be quick. Generous: machines that run tests are busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at that nothing announces.
const LOOK: Duration = Duration::from_millis(5);

/// What a server wrote to its standard output and error, line by line, as it comes.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    text: Vec<String>,
    /// Outputs that are not closed yet.
    open: u32,
}

impl Log {
    pub(crate) fn follow(&self, source: impl std::io::Read + Send + 'static) {
        self.lock().open += 1;
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                log.lock().text.push(String::from_utf8_lossy(&line).into_owned());
            }
            log.lock().open -= 1;
            log.0.changed.notify_all();
        });
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All lines so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.lock().text.join("\n")
    }

    /// Waits until both outputs are closed, which a process does at its end, and returns all lines.
    #[must_use]
    pub fn whole(&self) -> String {
        let lines = self.lock();
        let (lines, _) =
            self.0.changed.wait_timeout_while(lines, PATIENCE, |l| l.open > 0).unwrap_or_else(PoisonError::into_inner);
        lines.text.join("\n")
    }
}

/// What to start, and how.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The program.
    pub program: PathBuf,
    /// Its name.
    pub name: String,
    /// Flags besides name, directories and URLs.
    pub flags: Vec<String>,
    /// The data directory; without one, a temporary one that goes with the member.
    pub data_dir: Option<PathBuf>,
}

impl Setup {
    /// A member with nothing but the flags that give it its place.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), name: "m".into(), flags: Vec::new(), data_dir: None }
    }

    /// Adds flags.
    #[must_use]
    pub fn flags<S: Into<String>>(mut self, flags: impl IntoIterator<Item = S>) -> Self {
        self.flags.extend(flags.into_iter().map(Into::into));
        self
    }

    /// Sets the name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the data directory.
    #[must_use]
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }
}

/// A server and what belongs to it. Killed and cleared away when dropped.
#[derive(Debug)]
pub struct Member {
    setup: Setup,
    dir: PathBuf,
    client: Port,
    peer: Port,
    /// `--initial-cluster`; without it, this member alone.
    cluster: Option<String>,
    child: Option<Child>,
    log: Log,
    _temp: Option<TempDir>,
}

impl Member {
    /// Starts a server and waits until it serves.
    ///
    /// # Panics
    /// If it does not come up; with its log.
    #[must_use]
    pub fn start(setup: Setup) -> Self {
        for _ in 0..5 {
            let mut member = Self::prepare(setup.clone());
            match member.launch() {
                Ok(()) => return member,
                Err(Down::Clash) => {}
                Err(Down::Other(why)) => panic!("{why}"),
            }
        }
        panic!("no free ports for {}", setup.program.display());
    }

    /// Ends this member, loses its data and starts another server in its place: on its ports and under
    /// its name, so with its ids.
    ///
    /// # Panics
    /// If it does not come up; with its log.
    #[must_use]
    pub fn replaced(mut self, setup: Setup) -> Self {
        self.kill();
        let (client, peer) = (self.client.clone(), self.peer.clone());
        let mut member = Self::prepare(setup);
        (member.client, member.peer) = (client, peer);
        member.restart();
        member
    }

    /// A member that does not run yet.
    #[must_use]
    pub fn prepare(setup: Setup) -> Self {
        let temp = setup
            .data_dir
            .is_none()
            .then(|| tempfile::Builder::new().prefix("retcd-").tempdir().expect("a temporary directory"));
        let dir = setup.data_dir.clone().unwrap_or_else(|| temp.as_ref().expect("made above").path().join("data"));
        Self {
            setup,
            dir,
            client: Port::take(),
            peer: Port::take(),
            cluster: None,
            child: None,
            log: Log::default(),
            _temp: temp,
        }
    }

    /// The arguments it is started with.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        let (client, peer) = (self.url(), self.peer_url());
        let mut args = vec![
            format!("--name={}", self.setup.name),
            format!("--data-dir={}", self.dir.display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={}", self.cluster.clone().unwrap_or_else(|| self.entry())),
        ];
        args.extend(self.setup.flags.iter().cloned());
        args
    }

    /// Starts the process without waiting for anything.
    ///
    /// # Panics
    /// If the program cannot be run.
    pub fn spawn(&mut self) {
        let mut command = Command::new(&self.setup.program);
        command.args(self.args()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        let mut child =
            command.spawn().unwrap_or_else(|e| panic!("{} does not start: {e}", self.setup.program.display()));
        self.log = Log::default();
        self.log.follow(child.stdout.take().expect("piped"));
        self.log.follow(child.stderr.take().expect("piped"));
        self.child = Some(child);
    }

    fn launch(&mut self) -> Result<(), Down> {
        self.spawn();
        let deadline = Instant::now() + PATIENCE;
        while !self.serves() {
            if let Some(status) = self.exited() {
                let log = self.log.whole();
                return Err(if log.contains("address already in use") {
                    Down::Clash
                } else {
                    Down::Other(format!("{} ended with {status}:\n{log}", self.setup.program.display()))
                });
            }
            if Instant::now() > deadline {
                return Err(Down::Other(format!(
                    "{} does not serve after {PATIENCE:?}:\n{}",
                    self.setup.program.display(),
                    self.log.text(),
                )));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Whether it is healthy and the version of its cluster is also that of its storage, the last step
    /// of a start.
    fn serves(&self) -> bool {
        let get = |path| http1::get(self.port(), path).ok().filter(|a| a.status == 200);
        let settled = |a: http1::Answer| {
            let version: Value = serde_json::from_slice(&a.body).unwrap_or_default();
            // Etcd 3.5 says nothing about its storage.
            let storage = &version["storage"];
            version["etcdcluster"] != "not_decided" && (storage.is_null() || *storage == version["etcdcluster"])
        };
        get("/health?exclude=NOSPACE").is_some() && get("/version").is_some_and(settled)
    }

    /// Starts it again after its end, on the same directory and ports.
    ///
    /// # Panics
    /// If it does not come up; with its log.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs");
        for _ in 0..20 {
            match self.launch() {
                Ok(()) => return,
                Err(Down::Clash) => thread::sleep(LOOK),
                Err(Down::Other(why)) => panic!("{why}"),
            }
        }
        panic!("the ports of {} stay in use", self.dir.display());
    }

    /// Its entry in `--initial-cluster`.
    #[must_use]
    pub fn entry(&self) -> String {
        format!("{}={}", self.setup.name, self.peer_url())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.setup.name
    }

    /// Sets `--initial-cluster` of the next start.
    pub fn set_cluster(&mut self, cluster: impl Into<String>) {
        self.cluster = Some(cluster.into());
    }

    /// Loses all its data while it is down.
    ///
    /// # Panics
    /// If it runs, or the data cannot be removed.
    pub fn wipe(&mut self) {
        assert!(self.child.is_none(), "it runs");
        match std::fs::remove_dir_all(&self.dir) {
            Ok(()) => {}
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "{}: {e}", self.dir.display()),
        }
    }

    /// Replaces the flags that the next start adds.
    pub fn set_flags<S: Into<String>>(&mut self, flags: impl IntoIterator<Item = S>) {
        self.setup.flags = flags.into_iter().map(Into::into).collect();
    }

    /// Replaces the program that the next start runs: somebody else takes over the directory.
    pub fn set_program(&mut self, program: impl Into<PathBuf>) {
        self.setup.program = program.into();
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends `SIGTERM` and waits for the end.
    ///
    /// # Panics
    /// If it does not end in time; with its log.
    pub fn terminate(&mut self) -> ExitStatus {
        let child = self.child.as_ref().expect("it runs");
        let pid = Pid::from_child(child);
        kill_process(pid, Signal::TERM).expect("it runs");
        self.wait()
    }

    /// Waits for the end of the process.
    ///
    /// # Panics
    /// If it does not end in time; with its log.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} does not end within {PATIENCE:?}:\n{}",
                self.setup.program.display(),
                self.log.text(),
            );
            thread::sleep(LOOK);
        }
    }

    /// Waits until the process has ended, or serves (`None`).
    ///
    /// # Panics
    /// If it does neither in time; with its log.
    pub fn wait_or_serve(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.exited() {
                return Some(status);
            }
            if self.serves() {
                return None;
            }
            assert!(Instant::now() < deadline, "it neither ends nor serves:\n{}", self.log.text());
            thread::sleep(LOOK);
        }
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("a child can be waited for");
        if status.is_some() {
            self.child = None;
        }
        status
    }

    /// Whether the process runs.
    pub fn running(&mut self) -> bool {
        self.exited().is_none() && self.child.is_some()
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Its client port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.client.number()
    }

    /// Its client URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client.number())
    }

    /// Its peer URL.
    #[must_use]
    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer.number())
    }

    /// Its data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it wrote since its last start.
    #[must_use]
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// Waits until it has written a text since its last start.
    ///
    /// # Panics
    /// If it does not in time; with its log.
    pub fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log.text().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} after {PATIENCE:?}:\n{}", self.log.text());
            thread::sleep(LOOK);
        }
    }

    /// A few words on it for messages, with the end of its log.
    #[must_use]
    pub fn describe(&self) -> String {
        let text = self.log.text();
        let lines: Vec<_> = text.lines().collect();
        let mut out = format!("{} on {}", self.setup.program.display(), self.dir.display());
        // A panic of Go: its reason stands before many lines of stacks.
        let from = lines.iter().position(|l| l.starts_with("panic:")).unwrap_or(usize::MAX);
        for line in lines.iter().skip(from.min(lines.len().saturating_sub(20))).take(20) {
            let _ = write!(out, "\n    {line}");
        }
        out
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

enum Down {
    Clash,
    Other(String),
}
