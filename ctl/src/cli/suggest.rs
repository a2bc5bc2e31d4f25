//! What may have been meant.

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
        if distance(&typed, name) <= DISTANCE || name.starts_with(&typed) {
            if text.is_empty() {
                text.push_str("\n\nDid you mean this?\n");
            }
            text.push_str(&format!("\t{name}\n"));
        }
    }
    text
}

/// Letters to add, leave out or replace to make one text from the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (n, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = n + 1;
        for (m, b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[m + 1];
            row[m + 1] = replaced.min(row[m] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("snapshot", "snapshot", 0),
            ("snpashot", "snapshot", 2),
            ("retore", "restore", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
