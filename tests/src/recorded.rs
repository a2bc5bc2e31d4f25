//! The same steps with genuine etcd and with ours, and whether the same came of them.
//!
//! What came of them with etcd is recorded below `testdata/`, so that a machine without it can compare too;
//! `RETCD_REWRITE=1` records it anew.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use crate::{binary, peers};

/// A step, as it is told of.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Its name.
    pub name: &'a str,
    /// Why something else comes of it with ours. It then has to.
    pub differs: Option<&'static str>,
}

/// How outcomes stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Each is one line, below its name and indented.
    Lines,
    /// Each is lines below its name, and a blank line ends it.
    Blocks,
}

/// Has `run` do all steps with genuine etcd, if it is there, and with ours; it returns what came of each.
///
/// # Panics
/// If anything differs that should not; with a list of it. If the file cannot be read or written.
pub fn compare(file: &str, form: Form, steps: &[Step<'_>], run: impl Fn(&Path) -> Vec<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(file);
    let theirs = match peers::go_etcd() {
        Some(program) => {
            let outcomes = run(&program);
            if env::var_os("RETCD_REWRITE").is_some() {
                let written = fs::write(&path, form.write(steps, &outcomes));
                written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            }
            outcomes
        }
        None => form.read(&fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))),
    };
    assert_eq!(theirs.len(), steps.len(), "{}: record it anew", path.display());
    let ours = run(&binary::ours());
    let mut wrong = String::new();
    for ((step, theirs), ours) in steps.iter().zip(&theirs).zip(&ours) {
        let text = match (theirs == ours, step.differs) {
            (true, None) | (false, Some(_)) => continue,
            (true, Some(why)) => format!("is said to differ ({why}), but does not: {ours}"),
            (false, None) => format!("etcd: {theirs}\nours: {ours}"),
        };
        let _ = write!(wrong, "\n--- {}\n{text}", step.name);
    }
    assert!(wrong.is_empty(), "{file} differs:{wrong}");
}

impl Form {
    fn write(self, steps: &[Step<'_>], outcomes: &[String]) -> String {
        let pairs = steps.iter().zip(outcomes);
        match self {
            Self::Lines => pairs.map(|(step, outcome)| format!("{}\n    {outcome}\n", step.name)).collect(),
            Self::Blocks => {
                let blocks = pairs.map(|(step, outcome)| format!("{}\n{outcome}", step.name));
                blocks.collect::<Vec<_>>().join("\n\n") + "\n"
            }
        }
    }

    fn read(self, text: &str) -> Vec<String> {
        match self {
            Self::Lines => text.lines().filter_map(|line| line.strip_prefix("    ")).map(str::to_owned).collect(),
            Self::Blocks => {
                let blocks = text.split("\n\n");
                blocks.map(|block| block.split_once('\n').map_or("", |(_, rest)| rest).trim_end().to_owned()).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let steps = ["a put", "a get"].map(|name| Step { name, differs: None });
        for (form, outcomes) in [(Form::Lines, ["ok", "a: b"]), (Form::Blocks, ["ok\nand more", "b"])] {
            let outcomes = outcomes.map(str::to_owned);
            assert_eq!(form.read(&form.write(&steps, &outcomes)), outcomes, "{form:?}");
        }
    }
}
