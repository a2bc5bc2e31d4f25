//! A server process of any shape: in a namespace, behind a shell, on any address.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::member::{Log, PATIENCE};

/// How often a condition is looked at that nothing announces.
const LOOK: Duration = Duration::from_millis(5);

/// A process and what it wrote. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
    log: Log,
    what: String,
}

impl Process {
    /// Starts a command without etcd's environment of whoever runs the tests.
    ///
    /// # Panics
    /// If the program cannot be run.
    #[must_use]
    pub fn start(command: Command) -> Self {
        Self::start_with(command, Stdio::null())
    }

    /// The same, with what it is to have as its standard input.
    ///
    /// # Panics
    /// If the program cannot be run.
    #[must_use]
    pub fn start_with(mut command: Command, stdin: impl Into<Stdio>) -> Self {
        let given: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD") && !given.contains(&name) {
                command.env_remove(name);
            }
        }
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let what = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{what} does not start: {e}"));
        let log = Log::default();
        log.follow(child.stdout.take().expect("piped"));
        log.follow(child.stderr.take().expect("piped"));
        Self { child, ended: None, log, what }
    }

    /// What it wrote so far.
    #[must_use]
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// If the system cannot say.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended
    }

    /// Sends a signal, unless it has ended.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn signal(&mut self, signal: Signal) {
        if self.exited().is_none() {
            kill_process(Pid::from_child(&self.child), signal).expect("a child takes signals");
        }
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        if self.exited().is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// `SIGSTOP`: it stays where it is, with its connections open.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after a pause.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// `SIGTERM`, and waits for the end.
    ///
    /// # Panics
    /// If it does not end in time; with its log.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// If it does not end in time; with its log.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} does not end within {PATIENCE:?}:\n{}", self.what, self.log.text());
            thread::sleep(LOOK);
        }
    }

    /// Waits until it has written a text.
    ///
    /// # Panics
    /// If it does not in time; with its log.
    pub fn wait_for_log(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log.text().contains(text) {
            let ended = self.exited();
            assert!(
                Instant::now() < deadline && (ended.is_none() || self.log.whole().contains(text)),
                "{} has not written {text:?} ({ended:?}):\n{}",
                self.what,
                self.log.text(),
            );
            thread::sleep(LOOK);
        }
    }

    /// Whether it ended by itself with an error, neither well nor by a signal.
    ///
    /// # Panics
    /// If it does not end in time; with its log.
    pub fn fails(&mut self) -> bool {
        let status = self.wait();
        status.signal().is_none() && !status.success()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of its log, for messages.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = self.log.text();
        let lines: Vec<_> = text.lines().collect();
        // A panic: its reason stands before many lines of stacks.
        let from = lines.iter().position(|l| l.starts_with("panic:") || l.contains("panicked at"));
        let from = from.unwrap_or(usize::MAX).min(lines.len().saturating_sub(25));
        let brief = |line: &&str| line.chars().take(400).collect::<String>();
        let lines: Vec<_> = lines[from..].iter().take(25).map(brief).collect();
        format!("{}\n    {}", self.what, lines.join("\n    "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            // A test fails: what the servers said at that time is what one wants to know.
            eprintln!("{}", self.tail());
        }
        self.kill();
    }
}

/// Waits until a condition holds: until it returns something.
///
/// # Panics
/// If it does not in time, with the last reason why not.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match condition() {
            Ok(value) => return value,
            Err(why) => assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}: {why}"),
        }
        thread::sleep(10 * LOOK);
    }
}
