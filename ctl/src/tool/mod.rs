//! `retcd`: what etcd has no tool for.

mod dev;
mod doctor;

use std::io::Write;

use retcd::config::{ETCD_VERSION, SERVER_NAME};

use crate::cli::{Action, Command, Failure, Flag, Invocation, Kind, exit};
use crate::completion::{self, Shell};

/// The tool.
pub static ROOT: Command = Command {
    usage: "retcd",
    short: "Tries a member out, and looks for mistakes before or while one runs",
    persistent_flags: &[],
    flags: &[],
    commands: &[
        dev::COMMAND,
        doctor::COMMAND,
        Command {
            usage: "completion <bash|zsh|fish>",
            short: "Prints a script that makes a shell complete etcd, etcdutl and retcd",
            action: Action::Run(completion),
            ..EMPTY
        },
        Command {
            usage: "version",
            short: "Prints the versions of retcd and of the etcd that it stands in for",
            action: Action::Run(version),
            ..EMPTY
        },
        Command {
            usage: "help [command]",
            short: "Explains a command",
            action: Action::Help,
            ..EMPTY
        },
    ],
    action: Action::Group,
};

const EMPTY: Command = Command {
    usage: "",
    short: "",
    persistent_flags: &[],
    flags: &[],
    commands: &[],
    action: Action::Group,
};

/// A flag without a short name.
const fn flag(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        kind,
        default,
        help,
    }
}

fn no_arguments(call: &Invocation, command: &str) -> Result<(), Failure> {
    match call.args.first() {
        None => Ok(()),
        Some(extra) => Err(Failure::new(
            exit::BAD_ARGS,
            format_args!(
                "retcd {command} takes no argument beside its flags, and {extra:?} is one"
            ),
        )),
    }
}

fn completion(call: &Invocation, out: &mut dyn Write) -> Result<(), Failure> {
    match call.args.as_slice() {
        [shell] => {
            let roots = [&crate::etcdutl::ROOT, &ROOT];
            completion::write(Shell::parse(shell)?, &roots, true, out)
        }
        _ => Err(Failure::new(
            exit::BAD_ARGS,
            "completion requires exactly one argument, a shell: bash, zsh or fish",
        )),
    }
}

fn version(call: &Invocation, out: &mut dyn Write) -> Result<(), Failure> {
    no_arguments(call, "version")?;
    writeln!(out, "{SERVER_NAME}")?;
    writeln!(out, "etcd version: {ETCD_VERSION}")?;
    Ok(())
}
