//! Log lines as etcd writes them, through `slog`.
//!
//! A [`Log`] belongs to one server; nothing here is global. Lines are JSON objects (`level`, `ts`, `logger` if named,
//! `caller`, `msg`, then the fields in the order given) or tab-separated text. Unlike etcd's, error lines carry no
//! `stacktrace`, and time is always UTC. Warnings that repeat themselves become one line with a count (`fold`), where
//! etcd drops some of them; lines that users ask about have a field `explain`.

mod explain;
mod fold;
mod journal;
mod json;
mod line;
mod rotate;
mod settings;
mod sink;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use slog::{Drain, Level, Logger, Never, OwnedKVList, Record};

pub use explain::explain;
use fold::{Folds, Now};
use line::Line;
pub use settings::{Settings, SettingsError};
use sink::Sink;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Console,
    /// Console lines with whole seconds.
    Tool,
}

/// A logger and the handle on its level.
#[derive(Debug, Clone)]
pub struct Log {
    logger: Logger,
    outlet: Arc<Outlet>,
}

impl Log {
    fn new(level: Level, format: Format, sinks: Vec<Sink>) -> Self {
        let outlet = Arc::new(Outlet {
            level: AtomicUsize::new(level.as_usize()),
            format,
            sinks,
            started: Instant::now(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let writer = Writer(outlet.clone());
        Self {
            logger: Logger::root(writer, slog::o!()),
            outlet,
        }
    }

    /// JSON on standard error at level `info`: what etcd uses until the flags are read.
    pub fn stderr() -> Self {
        Self::new(Level::Info, Format::Json, vec![Sink::Stderr])
    }

    /// Text on standard error at level `info`, its times in whole seconds: what etcd's offline tools use.
    pub fn tool() -> Self {
        Self::new(Level::Info, Format::Tool, vec![Sink::Stderr])
    }

    /// Nothing at all.
    pub fn discard() -> Self {
        Self::new(Level::Critical, Format::Json, Vec::new())
    }

    /// JSON into `writer`, one call of `write_all` per line.
    pub fn to_writer(level: Level, writer: impl io::Write + Send + 'static) -> Self {
        Self::new(level, Format::Json, vec![Sink::writer(writer)])
    }

    /// The logger. A child with `"logger" => "raft"` is a named one.
    pub fn logger(&self) -> &Logger {
        &self.logger
    }

    /// The least severe level that is written.
    #[must_use]
    pub fn level(&self) -> Level {
        self.outlet.level()
    }

    /// Changes the least severe level written, from now on and for all children.
    pub fn set_level(&self, level: Level) {
        self.outlet.level.store(level.as_usize(), Ordering::Relaxed);
    }

    /// Writes what was counted and not told yet. Before a process ends that does not drop its loggers.
    pub fn flush(&self) {
        self.outlet.flush();
    }
}

/// Where the lines of one log go.
#[derive(Debug)]
struct Outlet {
    level: AtomicUsize,
    format: Format,
    sinks: Vec<Sink>,
    started: Instant,
    state: Mutex<State>,
    /// Rings when the thread that tells counts has something new to look at.
    changed: Condvar,
}

/// What repeats itself. Held for a look into a table, never while a line is written.
#[derive(Debug, Default)]
struct State {
    folds: Folds,
    /// Whether a thread waits to tell counts. There is none while nothing is counted.
    watched: bool,
    /// The last logger is gone.
    closed: bool,
}

impl Outlet {
    fn level(&self) -> Level {
        Level::from_usize(self.level.load(Ordering::Relaxed)).unwrap_or(Level::Info)
    }

    fn enabled(&self, level: Level) -> bool {
        level.as_usize() <= self.level.load(Ordering::Relaxed) && !self.sinks.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        Now {
            uptime: self.started.elapsed(),
            unix: line::now(),
        }
    }

    fn log(self: &Arc<Self>, line: Line) {
        if self.enabled(Level::Debug) {
            // Whoever looks that closely wants to see everything.
            self.flush();
            return self.write([line]);
        }
        if line.level == Level::Critical {
            // Most likely the last line.
            self.flush();
            return self.write([line]);
        }
        let mut state = self.state();
        let before = state.folds.next();
        let lines = state.folds.take(line, self.now());
        let next = state.folds.next();
        let watch = !state.watched && next.is_some();
        state.watched |= watch;
        drop(state);
        if watch {
            self.watch();
        } else if next.is_some_and(|next| before.is_none_or(|before| next < before)) {
            self.changed.notify_all();
        }
        self.write(lines);
    }

    fn write(&self, lines: impl IntoIterator<Item = Line>) {
        for mut line in lines {
            explain::add(&mut line);
            let text = line.render(self.format, line::now());
            for sink in &self.sinks {
                sink.write(&line, &text);
            }
        }
    }

    fn flush(&self) {
        let lines = self.state().folds.drain();
        self.changed.notify_all();
        self.write(lines);
    }

    /// Starts a thread that tells counts when their time has come. Where there can be none, the next line does.
    fn watch(self: &Arc<Self>) {
        let outlet = self.clone();
        let thread = thread::Builder::new().name("log".into());
        if thread.spawn(move || outlet.tell_in_time()).is_err() {
            self.state().watched = false;
        }
    }

    fn tell_in_time(&self) {
        let mut state = self.state();
        loop {
            let lines = state.folds.due(self.now());
            if !lines.is_empty() {
                drop(state);
                self.write(lines);
                state = self.state();
                continue;
            }
            let next = state.folds.next().filter(|_| !state.closed);
            let Some(next) = next else {
                state.watched = false;
                return;
            };
            let wait = next.saturating_sub(self.started.elapsed());
            state = self
                .changed
                .wait_timeout(state, wait.max(Duration::from_millis(1)))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Hands lines to the outlet. An output that fails is skipped: logging never stops a server.
#[derive(Debug)]
struct Writer(Arc<Outlet>);

impl Drain for Writer {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if self.0.enabled(record.level()) {
            self.0.log(Line::of(record, values));
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        self.0.enabled(level)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.flush();
    }
}

/// When something began that took so long, as the lines show times.
pub(crate) fn time_ago(took: std::time::Duration) -> String {
    line::Time(line::now().saturating_sub(took)).to_string()
}

/// The system's words without Rust's error number, in lower case as Go shows them.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

#[cfg(test)]
mod tests;
