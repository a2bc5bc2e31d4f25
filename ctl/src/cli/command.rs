//! What a tool's commands are made of.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;

use retcd::config::{parse_bool, parse_duration, parse_uint};

use super::flag::Flag;

/// A command, the whole tool being one too.
#[derive(Debug)]
pub struct Command {
    /// Its name, and what follows it in the usage line.
    pub usage: &'static str,
    /// One line for the list of its parent.
    pub short: &'static str,
    /// What its subcommands understand too.
    pub persistent_flags: &'static [Flag],
    /// What only it understands.
    pub flags: &'static [Flag],
    /// Its subcommands.
    pub commands: &'static [Command],
    /// What it does.
    pub action: Action,
}

/// What a command does.
#[derive(Debug, Clone, Copy)]
pub enum Action {
    /// Nothing but having subcommands.
    Group,
    /// Prints the help of the command that its arguments name.
    Help,
    /// Something; results go to the writer.
    Run(fn(&Invocation, &mut dyn Write) -> Result<(), Failure>),
    /// Something that understands the flags of the `etcd` binary beside its own, and reads all of them by itself. It
    /// returns the exit code.
    WithServerFlags(fn(&[String], &mut dyn Write) -> Result<u8, Failure>),
    /// Nothing yet. The text says what to use meanwhile. It is understood but not listed.
    Later(&'static str),
}

impl Command {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.usage.split(' ').next().unwrap_or_default()
    }

    pub(super) fn is_runnable(&self) -> bool {
        !matches!(self.action, Action::Group)
    }

    /// Whether help and completion name it.
    pub(crate) fn is_listed(&self) -> bool {
        !matches!(self.action, Action::Later(_))
    }
}

/// How a command was called. All values have been found to be of their kind.
#[derive(Debug, Clone, Default)]
pub struct Invocation {
    pub(super) flags: BTreeMap<&'static str, String>,
    /// What is not a flag.
    pub args: Vec<String>,
}

impl Invocation {
    /// The value of a flag.
    pub fn text(&self, flag: &str) -> &str {
        self.flags.get(flag).map_or("", String::as_str)
    }

    /// The value of a flag of kind [`Bool`](super::Kind::Bool).
    pub fn is_set(&self, flag: &str) -> bool {
        parse_bool(self.text(flag)).unwrap_or_default()
    }

    /// The value of a flag of kind [`Uint`](super::Kind::Uint).
    pub fn uint(&self, flag: &str) -> u64 {
        parse_uint(self.text(flag)).unwrap_or_default()
    }

    /// The value of a flag of kind [`Duration`](super::Kind::Duration); below zero counts as zero.
    pub fn duration(&self, flag: &str) -> std::time::Duration {
        let nanoseconds = parse_duration(self.text(flag)).unwrap_or_default();
        std::time::Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or_default())
    }
}

/// Why a command did not do what it should, and the exit code that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// See [`exit`](super::exit).
    pub code: u8,
    /// Printed after `Error: `.
    pub message: String,
}

impl Failure {
    /// A failure with a code of [`exit`](super::exit).
    pub fn new(code: u8, message: impl fmt::Display) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }
}

impl From<std::io::Error> for Failure {
    /// Output that could not be written.
    fn from(error: std::io::Error) -> Self {
        Self::new(
            super::exit::ERROR,
            format_args!("cannot write the output: {error}"),
        )
    }
}
