//! What can be typed where.

use retcd::config;

use crate::cli::{Action, Command, Flag, Kind};

/// A program and all places in its command line where something else can be typed.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    /// The first is the program itself.
    pub(super) places: Vec<Place>,
}

/// Behind a command.
#[derive(Debug)]
pub(super) struct Place {
    /// The words that lead here, such as `etcdutl snapshot`.
    pub(super) path: String,
    pub(super) commands: Vec<Word>,
    pub(super) flags: Vec<Word>,
}

/// A command or a flag.
#[derive(Debug)]
pub(super) struct Word {
    /// Without dashes.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// Whether a value has to follow.
    pub(super) takes_value: bool,
    /// The only values there are; empty when it takes others.
    pub(super) choices: &'static [&'static str],
}

const HELP: Word = Word {
    name: "help",
    help: "Print the help",
    takes_value: false,
    choices: &[],
};

impl Program {
    /// The `etcd` binary. What it does not do yet is not offered.
    pub(super) fn server() -> Self {
        let known = config::flags().filter_map(|flag| {
            Some(Word {
                name: flag.name,
                help: flag.help?,
                takes_value: !flag.is_switch,
                choices: flag.choices,
            })
        });
        Self {
            name: "etcd",
            places: vec![Place {
                path: "etcd".to_owned(),
                commands: Vec::new(),
                flags: known.chain([HELP]).collect(),
            }],
        }
    }

    pub(super) fn tool(root: &'static Command) -> Self {
        let mut places = Vec::new();
        add(root, String::new(), &mut Vec::new(), &mut places);
        Self {
            name: root.name(),
            places,
        }
    }
}

fn add(
    command: &'static Command,
    before: String,
    inherited: &mut Vec<&'static Flag>,
    places: &mut Vec<Place>,
) {
    let path = match before.as_str() {
        "" => command.name().to_owned(),
        _ => format!("{before} {}", command.name()),
    };
    let known = inherited.len();
    inherited.extend(command.persistent_flags);
    let word = |flag: &'static Flag| Word {
        name: flag.name,
        help: flag.help,
        takes_value: flag.kind != Kind::Bool,
        choices: &[],
    };
    let mut flags: Vec<Word> = command.flags.iter().map(word).collect();
    flags.extend(inherited.iter().copied().map(word));
    if matches!(command.action, Action::WithServerFlags(_)) {
        flags.extend(
            Program::server()
                .places
                .into_iter()
                .flat_map(|place| place.flags),
        );
    } else {
        flags.push(HELP);
    }
    let listed = || {
        command
            .commands
            .iter()
            .filter(|command| command.is_listed())
    };
    places.push(Place {
        path: path.clone(),
        commands: listed()
            .map(|command| Word {
                name: command.name(),
                help: command.short,
                takes_value: false,
                choices: &[],
            })
            .collect(),
        flags,
    });
    for command in listed() {
        add(command, path.clone(), inherited, places);
    }
    inherited.truncate(known);
}
