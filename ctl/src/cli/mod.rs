//! Commands and flags as etcd's tools have them: which spellings are understood, what help and refusals
//! look like, and with which code a tool ends. (Those tools are built on Go's libraries cobra and pflag.)

mod command;
mod find;
mod flag;
mod parse;
mod suggest;
mod usage;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::process::ExitCode;

pub use command::{Action, Command, Failure, Invocation};
pub use flag::{Flag, Kind};

use find::find;
use parse::{Parsed, parse};
use usage::usage;

/// The exit codes of etcd's tools.
pub mod exit {
    /// Anything that went wrong.
    pub const ERROR: u8 = 1;
    /// A value that is understood but not supported.
    pub const BAD_FEATURE: u8 = 4;
    /// Arguments that do not go together.
    pub const BAD_ARGS: u8 = 128;
}

/// Runs a tool with the arguments of this process.
pub fn main(root: &'static Command) -> ExitCode {
    let mut args = Vec::new();
    for arg in std::env::args_os().skip(1) {
        match arg.into_string() {
            Ok(arg) => args.push(arg),
            Err(arg) => {
                eprintln!("Error: argument {arg:?} is not valid UTF-8");
                return ExitCode::from(exit::BAD_ARGS);
            }
        }
    }
    // Not locked: a command may have threads that log.
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    ExitCode::from(run(root, &args, &mut stdout, &mut stderr))
}

/// Runs a tool and returns its exit code. Only a command that logs writes anywhere else.
pub fn run(
    root: &'static Command,
    args: &[String],
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    // Who closed the output does not want to hear of it; the exit code says it.
    execute(root, args, out, err).unwrap_or(exit::ERROR)
}

fn execute(
    root: &'static Command,
    args: &[String],
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> std::io::Result<u8> {
    let (path, rest) = match find(root, args) {
        Ok(found) => found,
        Err(error) => {
            writeln!(err, "Error: {error}")?;
            writeln!(err, "Run '{} --help' for usage.", root.name())?;
            writeln!(err, "Error: {error}")?;
            return Ok(exit::ERROR);
        }
    };
    let command = path.last().copied().unwrap_or(root);
    let parsed = match command.action {
        Action::WithServerFlags(_) => Ok(Parsed::raw(rest)),
        _ => parse(&path, &rest),
    };
    let (flags, args) = match parsed {
        Ok(Parsed::Run { flags, args }) => (flags, args),
        Ok(Parsed::Help) => {
            out.write_all(usage(&path, true).as_bytes())?;
            return Ok(0);
        }
        Err(error) => {
            writeln!(err, "Error: {error}")?;
            writeln!(err, "{}", usage(&path, true))?;
            writeln!(err, "Error: {error}")?;
            return Ok(exit::ERROR);
        }
    };
    let result = match command.action {
        Action::Group => {
            out.write_all(usage(&path, true).as_bytes())?;
            Ok(0)
        }
        Action::Help => {
            match find(root, &args) {
                Ok((path, _)) => out.write_all(usage(&path, true).as_bytes())?,
                Err(_) => {
                    let topics: Vec<String> = args.iter().map(|arg| back_quoted(arg)).collect();
                    writeln!(err, "Unknown help topic [{}]", topics.join(" "))?;
                    err.write_all(usage(&[root], false).as_bytes())?;
                }
            }
            Ok(0)
        }
        Action::Run(run) => run(&Invocation { flags, args }, out).map(|()| 0),
        Action::WithServerFlags(run) => run(&args, out),
        Action::Later(instead) => Err(Failure {
            code: exit::ERROR,
            message: format!(
                "{} {} is not implemented by retcd yet; {instead}",
                root.name(),
                command.name()
            ),
        }),
    };
    out.flush()?;
    Ok(match result {
        Ok(code) => code,
        Err(failure) => {
            writeln!(err, "Error: {}", failure.message)?;
            failure.code
        }
    })
}

/// How a command is called with these arguments.
#[cfg(test)]
pub(crate) fn invocation(root: &'static Command, args: &[String]) -> Invocation {
    let (path, rest) = find(root, args).expect("a command of the tool");
    match parse(&path, &rest).expect("its flags") {
        Parsed::Run { flags, args } => Invocation { flags, args },
        Parsed::Help => panic!("{args:?} asks for help"),
    }
}

fn back_quoted(text: &str) -> String {
    if text.contains('`') || text.chars().any(char::is_control) {
        format!("{text:?}")
    } else {
        format!("`{text}`")
    }
}
