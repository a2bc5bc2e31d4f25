//! What may have been meant.

use strsim::levenshtein;

use super::command::Command;

/// How many letters may be wrong.
const DISTANCE: usize = 2;

/// The end of a refusal that names similar commands, empty if there is none.
pub(super) fn suggestions(command: &Command, typed: &str) -> String {
    let typed = typed.to_lowercase();
    let mut text = String::new();
    for name in command
        .commands
        .iter()
        .filter(|c| c.name() != "help")
        .map(Command::name)
    {
        if levenshtein(&typed, name) <= DISTANCE || name.starts_with(&typed) {
            if text.is_empty() {
                text.push_str("\n\nDid you mean this?\n");
            }
            text.push_str(&format!("\t{name}\n"));
        }
    }
    text
}
