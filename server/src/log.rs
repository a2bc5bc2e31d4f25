//! Log lines as etcd writes them, through `slog`.
//!
//! A [`Log`] belongs to one server; nothing here is global. Lines are JSON objects (`level`, `ts`, `logger` if named,
//! `caller`, `msg`, then the fields in the order given) or tab-separated text. Unlike etcd's, error lines carry no
//! `stacktrace`, time is always UTC, and no line is ever dropped as a repetition.

mod json;
mod line;
mod sink;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slog::{Drain, Level, Logger, Never, OwnedKVList, Record};

use sink::Sink;

/// `--logger`, `--log-level`, `--log-format`, `--log-outputs` as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Only `zap`.
    pub logger: String,
    /// `debug`, `info`, `warn`, `error`, `panic` or `fatal`.
    pub level: String,
    /// `json` or `console`.
    pub format: String,
    /// `default`, `stderr`, `stdout` or paths of files.
    pub outputs: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            logger: "zap".into(),
            level: "info".into(),
            format: "json".into(),
            outputs: vec!["default".into()],
        }
    }
}

/// Settings that make no log. Texts are etcd's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// etcd panics with this text; exit code 2.
    #[error("unrecognized level: {0:?}")]
    Level(String),
    /// Neither json nor console.
    #[error("unknown log format: {0}, supported values json, console")]
    Format(String),
    /// The logger of etcd before 3.4.
    #[error("--logger=capnslog is removed in v3.5")]
    Capnslog,
    /// Any other logger.
    #[error("unknown logger option {0:?}")]
    Logger(String),
    /// `default` beside another output.
    #[error("multi logoutput for \"default\" is not supported yet")]
    Default,
    /// The journal is not written to yet.
    #[error(
        "--log-outputs={0:?} is not implemented by retcd yet: log to stderr, which systemd sends to the journal"
    )]
    Journal(String),
    /// A file that cannot be opened.
    #[error("open sink {path:?}: open {path}: {reason}")]
    Open {
        /// As given.
        path: String,
        /// From the system.
        reason: String,
    },
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Console,
    /// Console lines with whole seconds.
    Tool,
}

impl Settings {
    /// Whether [`Settings::open`] would understand them; opens nothing.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.parse().map(drop)
    }

    fn parse(&self) -> Result<(Level, Format), SettingsError> {
        match self.logger.as_str() {
            "zap" => {}
            "capnslog" => return Err(SettingsError::Capnslog),
            other => return Err(SettingsError::Logger(other.into())),
        }
        if self.outputs.len() > 1 && self.outputs.iter().any(|output| output == "default") {
            return Err(SettingsError::Default);
        }
        if let Some(journal) = self
            .outputs
            .iter()
            .find(|output| output.starts_with("systemd/journal"))
        {
            return Err(SettingsError::Journal(journal.clone()));
        }
        let format = match self.format.as_str() {
            "json" => Format::Json,
            "console" => Format::Console,
            other => return Err(SettingsError::Format(other.into())),
        };
        let level = match self.level.to_ascii_lowercase().as_str() {
            "debug" => Level::Debug,
            "info" | "" => Level::Info,
            "warn" | "warning" => Level::Warning,
            "error" => Level::Error,
            "dpanic" | "panic" | "fatal" => Level::Critical,
            _ => return Err(SettingsError::Level(self.level.clone())),
        };
        Ok((level, format))
    }

    /// Opens the outputs.
    ///
    /// # Errors
    /// A setting that is wrong, a file that cannot be opened for appending.
    pub fn open(&self) -> Result<Log, SettingsError> {
        let (level, format) = self.parse()?;
        let mut outputs: Vec<&str> = self.outputs.iter().map(String::as_str).collect();
        outputs.sort_unstable();
        outputs.dedup();
        let sinks = outputs.into_iter().map(|output| {
            Sink::open(output).map_err(|error| SettingsError::Open {
                path: output.into(),
                reason: reason(&error),
            })
        });
        Ok(Log::new(level, format, sinks.collect::<Result<_, _>>()?))
    }
}

/// A logger and the handle on its level.
#[derive(Debug, Clone)]
pub struct Log {
    logger: Logger,
    level: Arc<AtomicUsize>,
}

impl Log {
    fn new(level: Level, format: Format, sinks: Vec<Sink>) -> Self {
        let level = Arc::new(AtomicUsize::new(level.as_usize()));
        let writer = Writer {
            level: level.clone(),
            format,
            sinks,
        };
        Self {
            logger: Logger::root(writer, slog::o!()),
            level,
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

    /// Changes the least severe level written, from now on and for all children.
    pub fn set_level(&self, level: Level) {
        self.level.store(level.as_usize(), Ordering::Relaxed);
    }
}

/// Formats a line and hands it to the outputs. An output that fails is skipped: logging never stops a server.
#[derive(Debug)]
struct Writer {
    level: Arc<AtomicUsize>,
    format: Format,
    sinks: Vec<Sink>,
}

impl Writer {
    fn enabled(&self, level: Level) -> bool {
        level.as_usize() <= self.level.load(Ordering::Relaxed)
    }
}

impl Drain for Writer {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if self.enabled(record.level()) && !self.sinks.is_empty() {
            let line = match self.format {
                Format::Json => line::json(record, values, line::now()),
                Format::Console => line::console(record, values, line::now()),
                Format::Tool => line::tool(record, values, line::now()),
            };
            for sink in &self.sinks {
                sink.write(line.as_bytes());
            }
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        self.enabled(level)
    }
}

/// When something began that took so long, as the lines show times.
pub(crate) fn time_ago(took: std::time::Duration) -> String {
    line::time(line::now().saturating_sub(took))
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
