//! The table in `docs/seeds.md`: a section for each tutorial, between comments with its name.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::{env, fs};

use crate::script::{Item, Script, Step};

/// Compares the section with what a run has shown, or writes it, with `RETCD_REWRITE=1`.
///
/// # Panics
/// If it is another one.
pub(crate) fn check(name: &str, script: &Script) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("docs/seeds.md");
    let page = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let place = page.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?)));
    let (before, (old, after)) = place.unwrap_or_else(|| panic!("{} has no place for {name}", path.display()));
    let new = section(script);
    if env::var_os("RETCD_REWRITE").is_some() {
        let page = format!("{before}{begin}{new}{end}{after}");
        fs::write(&path, page).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    } else if old != new {
        let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
        let at = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
        panic!(
            "docs/seeds.md says of {name}\n  {:?}, and the run\n  {:?}; RETCD_REWRITE=1 writes the table anew",
            old.get(at),
            new.get(at)
        );
    }
}

fn section(script: &Script) -> String {
    let mut out = format!("## {}\n\n", script.title);
    for (name, value, why) in &script.environment {
        let _ = writeln!(out, "In every shell: `{name}={value}`. {why}\n");
    }
    let count = |which: fn(&Step) -> bool| script.steps().filter(|step| which(step)).count();
    let _ = writeln!(
        out,
        "{} steps, {} of them not in the text: {} work, {} are refused, {} are left out.\n",
        count(|_| true),
        count(|step| step.mended.is_some()),
        count(|step| step.left.is_none() && step.refused.is_none()),
        count(|step| step.refused.is_some()),
        count(|step| step.left.is_some()),
    );
    let mut steps = 0;
    for item in &script.items {
        match item {
            Item::Part(title) => {
                let _ =
                    write!(out, "### {title}\n\n| Step | Where | What | Lines | Outcome |\n|---|---|---|---|---|\n");
            }
            Item::Step(step) => {
                steps += 1;
                let _ = writeln!(
                    out,
                    "| {steps} | {} | {} | {} | {} |",
                    step.machines.join(", "),
                    cell(&step.title),
                    lines(step),
                    outcome(step)
                );
            }
            Item::Interrupt(_) => {}
        }
        let last = std::ptr::eq(item, script.items.last().expect("this one"));
        let next_is_part = script.items.iter().skip_while(|i| !std::ptr::eq(*i, item)).nth(1);
        if last || matches!(next_is_part, Some(Item::Part(_))) {
            out.push('\n');
        }
    }
    out
}

/// The first command line, and how many more there are.
fn lines(step: &Step) -> String {
    if let Some(written) = &step.written {
        return code(&short(written));
    }
    let mut lines = step.body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = lines.next().unwrap_or_default().trim_end_matches('\\').trim_end();
    let first = short(first);
    match lines.count() {
        0 => code(&first),
        more => format!("{} and {more} more", code(&first)),
    }
}

/// A long line by its begin and its end, where what is asked for stands.
fn short(line: &str) -> String {
    let chars: Vec<_> = line.chars().collect();
    if chars.len() <= 100 {
        return line.to_owned();
    }
    let (begin, end): (String, String) = (chars[..45].iter().collect(), chars[chars.len() - 50..].iter().collect());
    format!("{begin} ... {end}")
}

fn outcome(step: &Step) -> String {
    let mut parts = vec![];
    if let Some(why) = &step.mended {
        parts.push(format!("not in the text: {}.", cell(why)));
    }
    match (&step.left, &step.refused) {
        (Some(why), _) => parts.push(format!("left out: {}", cell(why))),
        (None, Some(text)) => parts.push(format!("**refused**: {}", code(text))),
        (None, None) => parts.push("works".into()),
    }
    if step.refused.is_some() {
        parts.extend(step.says.iter().map(|text| code(text)));
    }
    for (machine, text) in &step.log {
        let place = match machine.as_deref() {
            Some("*") => " of the member that was asked".to_owned(),
            Some(name) => format!(" on {name}"),
            None => String::new(),
        };
        parts.push(format!("the log{place} says {}", code(text)));
    }
    parts.extend(step.notes.iter().map(|note| cell(note)));
    parts.join("; ").replace(".;", ".")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn code(text: &str) -> String {
    // A backquote in it would end it.
    format!("`{}`", cell(text).replace('`', "'"))
}
