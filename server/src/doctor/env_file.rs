//! Environment files, as systemd's `EnvironmentFile=` reads them.

use std::ffi::OsString;
use std::io;
use std::path::Path;

/// The variables of a file: `NAME=value` a line, in quotes or not; `#` and `;` begin comments.
///
/// # Errors
/// The file cannot be read, or a line is no assignment.
pub fn read(path: &Path) -> io::Result<Vec<(OsString, OsString)>> {
    let text = std::fs::read_to_string(path)?;
    parse(&text).map_err(|(line, what)| {
        io::Error::other(format!(
            "line {line} is {what}: systemd takes lines of the form NAME=value"
        ))
    })
}

fn parse(text: &str) -> Result<Vec<(OsString, OsString)>, (usize, String)> {
    let mut variables = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let mut line = line.trim().to_owned();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        // A backslash at its end continues a line.
        while line.ends_with('\\') {
            line.pop();
            line.push_str(lines.next().map_or("", |(_, next)| next.trim()));
        }
        let bad = |what: String| (number + 1, what);
        if let Some(rest) = line.strip_prefix("export ") {
            return Err(bad(format!(
                "{rest:?} with `export` before it, which only a shell understands"
            )));
        }
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| bad(format!("{line:?}, without `=`")))?;
        let name = name.trim_end();
        let named = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(named) {
            return Err(bad(format!("{name:?}, which is no name of a variable")));
        }
        variables.push((name.into(), value_of(value.trim()).into()));
    }
    Ok(variables)
}

/// Without quotes; a backslash takes the next letter as it is, except between single quotes.
fn value_of(text: &str) -> String {
    let mut value = String::new();
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), letter) if open == letter => quote = None,
            (None | Some('"'), '\\') => value.extend(letters.next()),
            _ => value.push(letter),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let pairs = parse(text).expect(text).into_iter();
        let text = |text: OsString| text.into_string().expect("UTF-8");
        pairs
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    /// The second line stands so in a tutorial.
    #[test]
    fn files_are_read_as_systemd_reads_them() {
        let text = "#[Member]\nETCD_DATA_DIR=\"/var/lib/etcd/default.etcd\"  \n\n; x\n ETCD_NAME = n\n\
                    A='a \"b\" \\'\nB=x\\\n  y\nC=\"a\\\"b\"\nD=\n";
        let expected = [
            ("ETCD_DATA_DIR", "/var/lib/etcd/default.etcd"),
            ("ETCD_NAME", "n"),
            ("A", "a \"b\" \\"),
            ("B", "xy"),
            ("C", "a\"b"),
            ("D", ""),
        ];
        let pairs = pairs(text);
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        assert_eq!(pairs, expected);
        let (line, what) = parse("A=b\nETCD NAME=n\n").expect_err("a blank in the name");
        assert_eq!(line, 2);
        assert!(what.contains("no name of a variable"), "{what}");
    }

    #[test]
    fn what_only_a_shell_understands_is_told() {
        let (line, what) = parse("\nexport ETCD_NAME=a\n").expect_err("a shell's line");
        assert_eq!(line, 2);
        assert!(what.contains("export"), "{what}");
        assert!(parse("ETCD_NAME\n").is_err());
    }
}
