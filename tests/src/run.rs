//! Other programs, run to their end.

use std::process::{Command, Output, Stdio};

/// Runs a command without the environment of etcd's tools and returns all of what it wrote.
///
/// # Panics
/// If it cannot be run.
#[must_use]
pub fn output(command: &mut Command) -> Output {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?} does not run: {e}"))
}

/// What a command wrote to its standard output.
///
/// # Errors
/// If it failed: what it wrote, and how it ended.
pub fn stdout(command: &mut Command) -> Result<String, String> {
    let out = output(command);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() {
        return Ok(text);
    }
    Err(format!("{command:?} ended with {}:\n{text}{}", out.status, String::from_utf8_lossy(&out.stderr)))
}
