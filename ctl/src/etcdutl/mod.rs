//! `etcdutl`: works on the files of members that do not run.

mod snapshot;
mod version;

use std::io::Write;

use crate::cli::{Action, Command, Failure, Flag, Invocation, Kind, exit};
use crate::completion::{self, Shell};

/// The tool.
pub static ROOT: Command = Command {
    usage: "etcdutl",
    short: "Works on the files of members that do not run",
    persistent_flags: &[
        Flag {
            name: "timeout",
            short: None,
            kind: Kind::Duration,
            default: "10s",
            help: "how long to wait for a database that another process has locked, 0 for ever",
        },
        Flag {
            name: "write-out",
            short: Some('w'),
            kind: Kind::Text,
            default: "simple",
            help: "the form of the output (fields, json, protobuf, simple, table)",
        },
    ],
    flags: &[],
    commands: &[
        Command {
            usage: "defrag",
            ..later("`etcdctl defrag` does it on a running member")
        },
        snapshot::COMMAND,
        Command {
            usage: "hashkv <filename>",
            ..later("`etcdctl endpoint hashkv` asks a running member")
        },
        version::COMMAND,
        Command {
            usage: "completion <bash|zsh|fish>",
            short: "Prints a script that makes a shell complete commands and flags",
            persistent_flags: &[],
            flags: &[],
            commands: &[],
            action: Action::Run(completion),
        },
        Command {
            usage: "migrate",
            ..later("a member migrates its data when it starts")
        },
        Command {
            usage: "help [command]",
            short: "Explains a command",
            persistent_flags: &[],
            flags: &[],
            commands: &[],
            action: Action::Help,
        },
    ],
    action: Action::Group,
};

fn completion(call: &Invocation, out: &mut dyn Write) -> Result<(), Failure> {
    match call.args.as_slice() {
        [shell] => completion::write(Shell::parse(shell)?, &[&ROOT], false, out),
        _ => Err(Failure::new(
            exit::BAD_ARGS,
            "completion requires exactly one argument, a shell: bash, zsh or fish",
        )),
    }
}

/// A command of etcd's that is to come.
const fn later(instead: &'static str) -> Command {
    Command {
        usage: "",
        short: "",
        persistent_flags: &[],
        flags: &[],
        commands: &[],
        action: Action::Later(instead),
    }
}
