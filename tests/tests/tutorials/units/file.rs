//! Unit files of systemd and their environment files, as far as tutorials use them.

use std::time::Duration;

/// What a unit says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnitFile {
    pub(crate) description: String,
    pub(crate) exec_start: String,
    pub(crate) environment: Vec<(String, String)>,
    /// Paths, and whether the file may be missing.
    pub(crate) environment_files: Vec<(String, bool)>,
    pub(crate) user: Option<String>,
    pub(crate) folder: Option<String>,
    /// Whether it says when it is ready.
    pub(crate) notifies: bool,
    pub(crate) restarts: bool,
    pub(crate) restart_after: Duration,
}

impl UnitFile {
    /// # Errors
    /// Which line systemd would not take.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut unit = Self { restart_after: Duration::from_millis(100), ..Self::default() };
        for line in joined(text) {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';', '[']) {
                continue;
            }
            let (key, value) = line.split_once('=').ok_or_else(|| format!("Missing '=', ignoring line: {line}"))?;
            let value = value.trim();
            match key.trim() {
                "Description" => value.clone_into(&mut unit.description),
                "ExecStart" => value.clone_into(&mut unit.exec_start),
                "Environment" => unit.environment.extend(words(value)?.iter().filter_map(|word| assignment(word))),
                "EnvironmentFile" => {
                    let optional = value.starts_with('-');
                    unit.environment_files.push((value.trim_start_matches('-').to_owned(), optional));
                }
                "User" => unit.user = Some(value.to_owned()),
                "WorkingDirectory" => unit.folder = Some(value.to_owned()),
                "Type" => unit.notifies = value == "notify",
                "Restart" => unit.restarts = matches!(value, "on-failure" | "always"),
                "RestartSec" => {
                    let seconds = value.trim_end_matches('s').parse();
                    unit.restart_after = Duration::from_secs(seconds.map_err(|e| format!("RestartSec={value}: {e}"))?);
                }
                // Order and limits make no difference here.
                _ => {}
            }
        }
        if unit.exec_start.is_empty() {
            return Err("Service has no ExecStart= setting. Refusing.".into());
        }
        Ok(unit)
    }

    /// The program and its arguments, with variables put in.
    ///
    /// # Errors
    /// If a quote has no end.
    pub(crate) fn command(&self, environment: &[(String, String)]) -> Result<Vec<String>, String> {
        let value = |name: &str| environment.iter().rev().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str());
        let mut command = Vec::new();
        for word in words(&self.exec_start)? {
            match word.strip_prefix('$') {
                // Alone, a variable may be several words, or none.
                Some(name) if !name.is_empty() && name.chars().all(named) => {
                    command.extend(value(name).split_whitespace().map(str::to_owned));
                }
                _ => command.push(expanded(&word, value)),
            }
        }
        Ok(command)
    }
}

fn named(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Puts in `${NAME}`; `$$` is a dollar sign, any other one stays.
fn expanded<'v>(word: &str, value: impl Fn(&str) -> &'v str) -> String {
    let (mut out, mut rest) = (String::new(), word);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let name = rest.strip_prefix('{').and_then(|r| r.split_once('}')).filter(|(name, _)| name.chars().all(named));
        if let Some((name, after)) = name {
            out.push_str(value(name));
            rest = after;
        } else {
            out.push('$');
            rest = rest.strip_prefix('$').unwrap_or(rest);
        }
    }
    out + rest
}

/// Lines; one that ends with a backslash goes on in the next.
fn joined(text: &str) -> Vec<String> {
    let mut lines = vec![];
    let mut open = String::new();
    for line in text.lines() {
        if let Some(part) = line.strip_suffix('\\') {
            open.push_str(part);
            open.push(' ');
        } else {
            lines.push(std::mem::take(&mut open) + line);
        }
    }
    lines.extend(Some(open).filter(|open| !open.is_empty()));
    lines
}

fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => {
                let next = chars.next().ok_or("a backslash at the end")?;
                word.get_or_insert_default().push(if next == 'n' { '\n' } else { next });
            }
            (c, Some(q)) if c == q => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(quote) = quote {
        return Err(format!("a {quote} without end: {text}"));
    }
    words.extend(word);
    Ok(words)
}

fn assignment(word: &str) -> Option<(String, String)> {
    word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// The variables of an environment file. Lines without a variable are passed over, as systemd does.
pub(crate) fn variables(text: &str) -> Vec<(String, String)> {
    let lines = joined(text);
    let lines = lines.iter().map(|line| line.trim()).filter(|line| !line.starts_with(['#', ';']));
    lines
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| !name.is_empty() && name.chars().all(named))
        .map(|(name, value)| {
            let value = value.trim();
            let bare = ['"', '\''].into_iter().find_map(|q| value.strip_prefix(q)?.strip_suffix(q));
            (name.to_owned(), bare.unwrap_or(value).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_quotes_continued_lines_and_variables() {
        let text = "[Service]\nType=notify \nExecStart=/bin/sh -c \"N=$(nproc) /etcd --name=\\\"${NAME}\\\"\" \\\n  ${NAME}:$NAME $MORE $$\n\
                    # none\nEnvironment=NAME=a \"MORE=b c\"\nEnvironmentFile=-/x\nUser=etcd\nRestart=on-failure\nRestartSec=5\n";
        let unit = UnitFile::parse(text).expect("a unit");
        let command = unit.command(&unit.environment).expect("a command");
        assert_eq!(command, ["/bin/sh", "-c", "N=$(nproc) /etcd --name=\"a\"", "a:$NAME", "b", "c", "$"]);
        assert!(unit.notifies && unit.restarts && unit.restart_after == Duration::from_secs(5), "{unit:?}");
        assert_eq!(unit.environment_files, [("/x".to_owned(), true)]);
    }

    #[test]
    fn a_file_has_variables_with_and_without_quotes() {
        let text = "A=\"b c\"      \n#C=d\nE=f # g\nno variable\n\nH='i'\nJ=\n";
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        assert_eq!(variables(text), [pair("A", "b c"), pair("E", "f # g"), pair("H", "i"), pair("J", "")]);
    }

    #[test]
    fn what_systemd_refuses_is_refused() {
        for bad in ["[Service]\nType=notify\n", "[Service]\nExecStart\n", "[Service]\nEnvironment=\"A=b\nExecStart=x\n"]
        {
            assert!(UnitFile::parse(bad).is_err(), "{bad}");
        }
    }
}
