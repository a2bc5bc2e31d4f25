//! Scripts that make a shell complete the commands and flags of our programs.
//!
//! They are made from the tables that the programs themselves read, so they cannot fall behind.

mod bash;
mod fish;
mod place;
#[cfg(test)]
mod tests;
mod zsh;

use std::io::Write;

use crate::cli::{Command, Failure, exit};

use place::Program;

/// Shells that a script can be written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// `eval "$(retcd completion bash)"`.
    Bash,
    /// A file `_retcd` in `$fpath`.
    Zsh,
    /// A file in `~/.config/fish/completions`.
    Fish,
}

impl Shell {
    /// # Errors
    /// For another shell.
    pub fn parse(name: &str) -> Result<Self, Failure> {
        match name {
            "bash" => Ok(Self::Bash),
            "zsh" => Ok(Self::Zsh),
            "fish" => Ok(Self::Fish),
            other => Err(Failure::new(
                exit::BAD_ARGS,
                format_args!(
                    "no completion for the shell {other:?}: the shells are bash, zsh and fish"
                ),
            )),
        }
    }
}

/// Writes the script for the tools with these roots and, with `server`, for the `etcd` binary.
///
/// # Errors
/// Output that cannot be written.
pub fn write(
    shell: Shell,
    roots: &[&'static Command],
    server: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut programs: Vec<Program> = Vec::new();
    if server {
        programs.push(Program::server());
    }
    programs.extend(roots.iter().map(|root| Program::tool(root)));
    let script = match shell {
        Shell::Bash => bash::script(&programs),
        Shell::Zsh => zsh::script(&programs),
        Shell::Fish => fish::script(&programs),
    };
    out.write_all(script.as_bytes())?;
    Ok(())
}
