//! What reading the configuration has to say before there is a logger to say it to.

use std::fmt;

use slog::{Level, Logger};

/// A log line in waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Severity; `Critical` is etcd's `fatal`.
    pub level: Level,
    /// The `msg`.
    pub message: &'static str,
    /// Fields, in order.
    pub fields: Vec<(&'static str, Field)>,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Shown in quotes.
    Text(String),
    /// Shown as it is.
    Number(u64),
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Field {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Field {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl Notice {
    pub(super) fn new(
        level: Level,
        message: &'static str,
        fields: Vec<(&'static str, Field)>,
    ) -> Self {
        Self {
            level,
            message,
            fields,
        }
    }

    pub(super) fn warn(message: &'static str) -> Self {
        Self::new(Level::Warning, message, Vec::new())
    }

    /// What etcd says of an error class A: the flags do not add up.
    pub(super) fn unverified(error: impl ToString) -> Self {
        Self::new(
            Level::Warning,
            "failed to verify flags",
            vec![("error", error.to_string().into())],
        )
    }

    /// Said before anything else that a configuration file gives rise to.
    pub(super) fn file_loaded(path: &str) -> Self {
        Self::new(
            Level::Info,
            "loaded server configuration, other configuration command line flags and environment variables will be \
             ignored if provided",
            vec![("path", path.into())],
        )
    }

    /// What was said beside a configuration file, for nothing.
    pub(super) fn beside_the_file(flags: &[String], path: &str) -> Self {
        Self::new(
            Level::Warning,
            "flags beside a configuration file have no effect: write them into the file, without the dashes, or leave \
             --config-file out",
            vec![
                ("flags", flags.join(" ").into()),
                ("config-file", path.into()),
            ],
        )
    }

    /// Writes the line.
    pub fn log(&self, logger: &Logger) {
        let Self {
            level,
            message,
            fields,
        } = self;
        let fields = Fields(fields);
        match level {
            Level::Critical => slog::crit!(logger, "{}", message; fields),
            Level::Error => slog::error!(logger, "{}", message; fields),
            Level::Warning => slog::warn!(logger, "{}", message; fields),
            _ => slog::info!(logger, "{}", message; fields),
        }
    }
}

/// In the order slog keeps: the newest first.
struct Fields<'a>(&'a [(&'static str, Field)]);

impl slog::KV for Fields<'_> {
    fn serialize(
        &self,
        _: &slog::Record<'_>,
        serializer: &mut dyn slog::Serializer,
    ) -> slog::Result {
        self.0
            .iter()
            .rev()
            .try_for_each(|(key, value)| match value {
                Field::Text(text) => serializer.emit_str((*key).into(), text),
                Field::Number(number) => serializer.emit_u64((*key).into(), *number),
            })
    }
}
