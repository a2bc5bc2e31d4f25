//! The flags and arguments of a command.

use std::collections::BTreeMap;

use super::command::Command;
use super::find::flags_of;
use super::flag::{Flag, Kind};

/// Every command has it.
pub(super) const HELP: Flag = Flag {
    name: "help",
    short: Some('h'),
    kind: Kind::Bool,
    default: "false",
    help: "",
};

/// What was asked for.
#[derive(Debug)]
pub(super) enum Parsed {
    /// The help.
    Help,
    /// The command, with the values of all of its flags.
    Run {
        flags: BTreeMap<&'static str, String>,
        args: Vec<String>,
    },
}

impl Parsed {
    /// For a command that reads its arguments by itself.
    pub(super) fn raw(args: Vec<String>) -> Self {
        let help = |arg: &String| matches!(arg.as_str(), "-h" | "-help" | "--help");
        match args.iter().take_while(|arg| *arg != "--").any(help) {
            true => Self::Help,
            false => Self::Run {
                flags: BTreeMap::new(),
                args,
            },
        }
    }
}

/// Flags may stand anywhere before a `--`.
///
/// # Errors
/// The text about the first flag that is unknown or has a wrong value.
pub(super) fn parse(path: &[&'static Command], args: &[String]) -> Result<Parsed, String> {
    let known: Vec<&'static Flag> = flags_of(path).chain([&HELP]).collect();
    let mut flags: BTreeMap<&'static str, String> = known
        .iter()
        .map(|flag| (flag.name, flag.default.to_owned()))
        .collect();
    let mut set = |flag: &'static Flag, value: &str| {
        flag.check(value)?;
        flags.insert(flag.name, value.to_owned());
        Ok::<(), String>(())
    };
    let mut positional = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            positional.extend(rest.by_ref().cloned());
        } else if let Some(long) = arg.strip_prefix("--") {
            if long.starts_with(['-', '=']) {
                return Err(format!("bad flag syntax: {arg}"));
            }
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (long, None),
            };
            let flag = known
                .iter()
                .find(|flag| flag.name == name)
                .ok_or_else(|| format!("unknown flag: --{name}"))?;
            match (value, flag.kind) {
                (Some(value), _) => set(flag, value)?,
                (None, Kind::Bool) => set(flag, "true")?,
                (None, _) => match rest.next() {
                    Some(value) => set(flag, value)?,
                    None => return Err(format!("flag needs an argument: {arg}")),
                },
            }
        } else if let Some(letters) = arg.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            let mut letters = letters;
            while let Some(letter) = letters.chars().next() {
                let flag = known
                    .iter()
                    .find(|flag| flag.short == Some(letter))
                    .ok_or_else(|| format!("unknown shorthand flag: {letter:?} in -{letters}"))?;
                let behind = &letters[letter.len_utf8()..];
                match behind.strip_prefix('=').filter(|value| !value.is_empty()) {
                    Some(value) => {
                        set(flag, value)?;
                        break;
                    }
                    None if flag.kind == Kind::Bool => {
                        set(flag, "true")?;
                        letters = behind;
                    }
                    None if !behind.is_empty() => {
                        set(flag, behind)?;
                        break;
                    }
                    None => match rest.next() {
                        Some(value) => {
                            set(flag, value)?;
                            break;
                        }
                        None => {
                            return Err(format!(
                                "flag needs an argument: {letter:?} in -{letters}"
                            ));
                        }
                    },
                }
            }
        } else {
            positional.push(arg.clone());
        }
    }
    let help = retcd::config::parse_bool(&flags[HELP.name]).unwrap_or_default();
    Ok(if help {
        Parsed::Help
    } else {
        Parsed::Run {
            flags,
            args: positional,
        }
    })
}
