//! Lines of a server's log.

use serde_json::Value;

/// A line worth a look: above `info`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// `warn`, `error`, `fatal` and so on; `none` for one that is no record, such as the trace of a panic.
    pub level: String,
    /// Its message, with digits that vary replaced by `#`.
    pub message: String,
    /// The whole line.
    pub whole: String,
}

/// Those of a log that are above `info`.
#[must_use]
pub fn lines(log: &str) -> Vec<Line> {
    log.lines().filter(|l| !l.trim().is_empty()).filter_map(line).collect()
}

fn line(whole: &str) -> Option<Line> {
    let Ok(Value::Object(record)) = serde_json::from_str(whole) else {
        return Some(Line { level: "none".into(), message: general(whole), whole: whole.to_owned() });
    };
    let field = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
    let level = field("level");
    (!matches!(level, "info" | "debug")).then(|| Line {
        level: level.to_owned(),
        message: general(field("msg")),
        whole: whole.to_owned(),
    })
}

/// Numbers and ids differ from run to run: every word that has a digit becomes `#`.
fn general(text: &str) -> String {
    let word = |word: &str| if word.contains(|c: char| c.is_ascii_digit()) { "#".to_owned() } else { word.to_owned() };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_worth_a_look() {
        let log = concat!(
            r#"{"level":"info","msg":"fine"}"#,
            "\n\n",
            r#"{"level":"warn","msg":"lost 8e9e05c52164694d at term 3"}"#,
            "\npanic: runtime error at 17\n",
        );
        let found: Vec<_> = lines(log).into_iter().map(|l| (l.level, l.message)).collect();
        let expected = [("warn", "lost # at term #"), ("none", "panic: runtime error at #")];
        assert_eq!(found, expected.map(|(l, m)| (l.to_owned(), m.to_owned())));
    }
}
