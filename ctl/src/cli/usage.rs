//! The help of a command.

use std::fmt::Write as _;

use super::command::Command;
use super::flag::{Flag, Kind};
use super::parse::HELP;

/// The narrowest column of command names.
const NAMES: usize = 11;

/// The help of the last command of `path`; `with_help`: lists the flag that prints it.
pub(super) fn usage(path: &[&'static Command], with_help: bool) -> String {
    let names: Vec<&str> = path.iter().map(|command| command.name()).collect();
    let names = names.join(" ");
    let Some((command, parents)) = path.split_last() else {
        return String::new();
    };
    let help_text = format!("help for {}", command.name());
    let help = with_help.then_some((&HELP, help_text.as_str()));
    let with_text = |flag: &'static Flag| (flag, flag.help);
    let local: Vec<_> = command
        .flags
        .iter()
        .chain(command.persistent_flags)
        .map(with_text)
        .chain(help)
        .collect();
    let inherited: Vec<_> = parents
        .iter()
        .flat_map(|parent| parent.persistent_flags)
        .map(with_text)
        .collect();

    let mut text = String::from("Usage:\n");
    if command.is_runnable() {
        let parents = names.strip_suffix(command.name()).unwrap_or_default();
        let flags = if local.is_empty() && inherited.is_empty() || command.usage.contains("[flags]")
        {
            ""
        } else {
            " [flags]"
        };
        let _ = writeln!(text, "  {parents}{}{flags}", command.usage);
    }
    let listed = || command.commands.iter().filter(|c| c.is_listed());
    if listed().next().is_some() {
        let _ = writeln!(text, "  {names} [command]\n\nAvailable Commands:");
        let mut commands: Vec<&Command> = listed().collect();
        commands.sort_unstable_by_key(|c| c.name());
        for c in commands {
            let _ = writeln!(text, "  {:NAMES$} {}", c.name(), c.short);
        }
    }
    push_flags(&mut text, "Flags", local);
    push_flags(&mut text, "Global Flags", inherited);
    if listed().next().is_some() {
        let _ = writeln!(
            text,
            "\nUse \"{names} [command] --help\" for more information about a command."
        );
    }
    text
}

fn push_flags(text: &mut String, title: &str, mut flags: Vec<(&Flag, &str)>) {
    if flags.is_empty() {
        return;
    }
    flags.sort_unstable_by_key(|(flag, _)| flag.name);
    let heads: Vec<String> = flags.iter().map(|(flag, _)| head(flag)).collect();
    let width = heads.iter().map(String::len).max().unwrap_or_default() + 3;
    let _ = writeln!(text, "\n{title}:");
    for ((flag, help), head) in flags.iter().zip(&heads) {
        let default = default(flag);
        let _ = writeln!(text, "{head:width$}{help}{default}");
    }
}

fn head(flag: &Flag) -> String {
    let short = flag
        .short
        .map_or("    ".to_owned(), |short| format!("-{short}, "));
    let kind = match flag.kind {
        Kind::Bool => "",
        Kind::Text => " string",
        Kind::Uint => " uint",
        Kind::Duration => " duration",
    };
    format!("  {short}--{}{kind}", flag.name)
}

/// Defaults that are zero are not told.
fn default(flag: &Flag) -> String {
    match (flag.kind, flag.default) {
        (_, "" | "false" | "0") => String::new(),
        (Kind::Text, text) => format!(" (default {text:?})"),
        (_, value) => format!(" (default {value})"),
    }
}
