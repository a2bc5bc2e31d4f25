//! Which command is meant.

use super::command::Command;
use super::flag::{Flag, Kind};
use super::suggest::suggestions;

/// The commands from the tool down to the one that is meant, and the arguments without their names.
///
/// A name may be cut short as long as it stays clear. While names are looked for, the argument behind a flag
/// counts as its value unless the flag is known to need none; a flag of a command further down is not known.
///
/// # Errors
/// The text for a name that the tool does not have. Below the tool itself, such a name is an argument.
pub(super) fn find(
    root: &'static Command,
    args: &[String],
) -> Result<(Vec<&'static Command>, Vec<String>), String> {
    let mut path = vec![root];
    let mut rest = args.to_vec();
    loop {
        let command = path[path.len() - 1];
        let first = positions(&path, &rest).next();
        let Some(at) = first else { break };
        match named(command, &rest[at]) {
            Some(next) => {
                rest.remove(at);
                path.push(next);
            }
            None if path.len() == 1 => {
                let name = &rest[at];
                return Err(format!(
                    "unknown command {name:?} for {:?}{}",
                    root.name(),
                    suggestions(root, name)
                ));
            }
            None => break,
        }
    }
    Ok((path, rest))
}

fn named(command: &'static Command, name: &str) -> Option<&'static Command> {
    let commands = || command.commands.iter();
    if let Some(exact) = commands().find(|c| c.name() == name) {
        return Some(exact);
    }
    let mut similar = commands().filter(|c| c.name().starts_with(name));
    match (similar.next(), similar.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// Where the arguments stand that are neither flags nor, as far as is known, values of flags.
fn positions<'a>(
    path: &'a [&'static Command],
    args: &'a [String],
) -> impl Iterator<Item = usize> + 'a {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(arg) = args.get(at) {
            let here = at;
            at += 1;
            if arg == "--" {
                at = args.len();
            } else if let Some(name) = arg.strip_prefix("--") {
                at += usize::from(!name.contains('=') && takes_value(path, |f| f.name == name));
            } else if let Some(name) = arg.strip_prefix('-') {
                let mut letters = name.chars();
                if let (Some(letter), None) = (letters.next(), letters.next()) {
                    at += usize::from(
                        letter != '=' && takes_value(path, |f| f.short == Some(letter)),
                    );
                }
            } else if !arg.is_empty() {
                return Some(here);
            }
        }
        None
    })
}

/// The flags that a command understands, apart from help.
pub(super) fn flags_of<'a>(
    path: &'a [&'static Command],
) -> impl Iterator<Item = &'static Flag> + 'a {
    let own = path.last().into_iter().flat_map(|command| command.flags);
    own.chain(path.iter().flat_map(|command| command.persistent_flags))
}

fn takes_value(path: &[&'static Command], is_meant: impl Fn(&Flag) -> bool) -> bool {
    flags_of(path)
        .find(|flag| is_meant(flag))
        .is_none_or(|flag| flag.kind != Kind::Bool)
}
