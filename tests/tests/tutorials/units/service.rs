//! One service.

use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use retcd_tests::process::Process;
use rustix::process::Signal;

use super::file::UnitFile;

/// How often a service that fails is started again, after it was told to start. systemd counts within ten seconds; a
/// number alone does not depend on how fast the machine is.
const STARTS_AGAIN: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Never started, or stopped on demand.
    Stopped,
    /// Not ready yet.
    Starting,
    Active,
    /// Ended by itself, and well.
    Dead,
    Failed,
}

pub(super) struct Service {
    pub(super) file: UnitFile,
    pub(super) state: State,
    process: Option<Process>,
    ready: Option<UnixDatagram>,
    failed_at: Option<Instant>,
    again: u32,
    /// What processes wrote that are gone: since the last start on demand, and before.
    written: String,
    before: String,
}

impl Service {
    pub(super) const fn new(file: UnitFile) -> Self {
        Self {
            file,
            state: State::Stopped,
            process: None,
            ready: None,
            failed_at: None,
            again: 0,
            written: String::new(),
            before: String::new(),
        }
    }

    /// It is started on demand.
    pub(super) fn begin(&mut self) {
        self.keep_log();
        self.before.push_str(&std::mem::take(&mut self.written));
        self.again = 0;
        self.failed_at = None;
    }

    pub(super) fn started(&mut self, process: Process, ready: Option<UnixDatagram>) {
        self.keep_log();
        self.state = if ready.is_some() { State::Starting } else { State::Active };
        (self.process, self.ready) = (Some(process), ready);
    }

    /// The state as it is now.
    pub(super) fn look(&mut self) -> State {
        if let Some(socket) = &self.ready {
            let mut said = [0; 4096];
            while let Ok(length) = socket.recv(&mut said) {
                if String::from_utf8_lossy(&said[..length]).lines().any(|line| line == "READY=1") {
                    self.state = State::Active;
                }
            }
        }
        let running = matches!(self.state, State::Starting | State::Active);
        if let Some(status) = self.process.as_mut().filter(|_| running).and_then(Process::exited) {
            self.keep_log();
            self.note(&format!("main process exited: {status}"));
            self.state = if status.success() { State::Dead } else { State::Failed };
            self.failed_at = Some(Instant::now()).filter(|_| !status.success());
        }
        self.state
    }

    pub(super) fn running(&mut self) -> bool {
        let stopping = self.process.as_mut().is_some_and(|p| p.exited().is_none());
        stopping || matches!(self.look(), State::Starting | State::Active)
    }

    /// Whether it has failed, long enough ago, not too often, and nobody stopped it.
    pub(super) fn may_start_again(&mut self) -> bool {
        let due = self.failed_at.is_some_and(|at| at.elapsed() >= self.file.restart_after);
        if self.state != State::Failed || !self.file.restarts || !due {
            return false;
        }
        self.failed_at = None;
        self.again += 1;
        self.again <= STARTS_AGAIN
    }

    pub(super) fn terminate(&mut self) {
        if self.running()
            && let Some(process) = &mut self.process
        {
            process.signal(Signal::TERM);
        }
        // What it says about its end does not count any more.
        (self.state, self.failed_at) = (State::Stopped, None);
    }

    pub(super) fn stop(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill();
        }
        (self.state, self.failed_at) = (State::Stopped, None);
    }

    fn keep_log(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
            self.written.push_str(&process.log().whole());
            self.written.push('\n');
        }
    }

    /// What the runner itself has to say.
    pub(super) fn note(&mut self, text: &str) {
        self.written.push_str(text);
        self.written.push('\n');
    }

    /// What it wrote since it was last told to start.
    pub(super) fn log(&self) -> String {
        let now = self.process.as_ref().map(|p| p.log().text() + "\n").unwrap_or_default();
        format!("{}{now}", self.written)
    }

    pub(super) fn journal(&self) -> String {
        format!("{}{}", self.before, self.log())
    }
}
