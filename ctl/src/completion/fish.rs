//! For fish.

use std::fmt::Write as _;

use super::place::{Place, Program};

/// One line for each command and each flag, with the condition under which it is offered.
pub(super) fn script(programs: &[Program]) -> String {
    let names: Vec<&str> = programs.iter().map(|program| program.name).collect();
    let mut text = format!(
        "# Completion of {} for fish. To use it: retcd completion fish | source\n",
        names.join(", ")
    );
    for program in programs {
        let _ = writeln!(text, "\n# {}", program.name);
        for place in &program.places {
            let when = condition(place);
            for command in &place.commands {
                let _ = writeln!(
                    text,
                    "complete -c {} -f{when} -a {} -d {}",
                    program.name,
                    command.name,
                    quoted(command.help)
                );
            }
            for flag in &place.flags {
                let value = match (flag.takes_value, flag.choices) {
                    (false, _) => String::new(),
                    (true, []) => " -r".to_owned(),
                    (true, choices) => format!(" -x -a {}", quoted(&choices.join(" "))),
                };
                let _ = writeln!(
                    text,
                    "complete -c {}{when} -l {}{value} -d {}",
                    program.name,
                    flag.name,
                    quoted(flag.help)
                );
            }
        }
    }
    text
}

/// All words of the path were typed, and no command behind them.
fn condition(place: &Place) -> String {
    let mut parts = Vec::new();
    for word in place.path.split(' ').skip(1) {
        parts.push(format!("__fish_seen_subcommand_from {word}"));
    }
    if !place.commands.is_empty() {
        let names: Vec<&str> = place.commands.iter().map(|word| word.name).collect();
        parts.push(format!(
            "not __fish_seen_subcommand_from {}",
            names.join(" ")
        ));
    }
    match parts.is_empty() {
        true => String::new(),
        false => format!(" -n {}", quoted(&parts.join("; and "))),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
