//! What a systemd unit starts: flags, variables, user, limit of open files.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::env_file;

/// systemd's own limit of open files, where a unit says nothing.
const DEFAULT_FILES: u64 = 1024;

/// Names and values.
type Variables = Vec<(OsString, OsString)>;

/// A unit that starts etcd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// The flags of etcd.
    pub args: Vec<OsString>,
    /// Its environment.
    pub env: Vec<(OsString, OsString)>,
    /// Who runs it; `None`: root.
    pub user: Option<String>,
    /// How many files it may have open.
    pub open_files: u64,
    /// Directories that systemd makes for it.
    pub made: Vec<PathBuf>,
    /// Where it is started.
    pub working_dir: Option<PathBuf>,
}

impl Unit {
    /// Reads a unit's file, and the environment files that it names. Drop-ins are not looked for: `systemctl cat etcd` prints all
    /// of it, and may be given as a file.
    ///
    /// # Errors
    /// A file that cannot be read, or a unit that starts something else.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        // `systemctl cat` says first which file it is.
        let said = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# /"));
        let name = said.map_or(path, Path::new).file_stem();
        let name = name.unwrap_or_default().to_string_lossy();
        Self::parse(&text, &name, &env_file::read)
    }

    fn parse(
        text: &str,
        name: &str,
        read: &dyn Fn(&Path) -> io::Result<Variables>,
    ) -> io::Result<Self> {
        let mut unit = Self {
            open_files: DEFAULT_FILES,
            ..Self::default()
        };
        let mut variables: Vec<(String, String)> = Vec::new();
        let mut files: Vec<String> = Vec::new();
        let mut start = String::new();
        // Such a user is nowhere until the service starts.
        let mut dynamic = false;
        let settings = settings(text).into_iter();
        for (key, value) in settings.map(|(key, value)| (key, specified(&value, name))) {
            match (key.as_str(), value.as_str()) {
                ("Environment", "") => variables.clear(),
                ("Environment", value) => {
                    let pairs = words(value).into_iter();
                    variables.extend(pairs.filter_map(|pair| {
                        let (name, value) = pair.split_once('=')?;
                        Some((name.to_owned(), value.to_owned()))
                    }));
                }
                ("EnvironmentFile", "") => files.clear(),
                ("EnvironmentFile", value) => files.push(value.to_owned()),
                ("ExecStart", value) => start = value.to_owned(),
                ("DynamicUser", "yes" | "true" | "on" | "1") => dynamic = true,
                ("User", "") => unit.user = None,
                ("User", value) => unit.user = Some(value.to_owned()),
                ("StateDirectory", value) => unit.makes("/var/lib", value),
                ("RuntimeDirectory", value) => unit.makes("/run", value),
                ("LogsDirectory", value) => unit.makes("/var/log", value),
                ("WorkingDirectory", value) => {
                    let value = value.trim_start_matches('-');
                    unit.working_dir = value.starts_with('/').then(|| value.into());
                }
                ("LimitNOFILE", value) => unit.open_files = limit(value).unwrap_or(DEFAULT_FILES),
                _ => {}
            }
        }
        for file in files {
            let (optional, path) = match file.strip_prefix('-') {
                Some(path) => (true, path),
                None => (false, file.as_str()),
            };
            match read(Path::new(path)) {
                Ok(pairs) => variables.extend(pairs.into_iter().map(|(name, value)| {
                    let text = |text: OsString| text.to_string_lossy().into_owned();
                    (text(name), text(value))
                })),
                Err(error) if optional && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(io::Error::new(
                        error.kind(),
                        format!("EnvironmentFile={file}: {error}"),
                    ));
                }
            }
        }
        if dynamic {
            unit.user = None;
        }
        // The last one counts.
        variables.reverse();
        let mut seen = std::collections::BTreeSet::new();
        variables.retain(|(name, _)| seen.insert(name.clone()));
        unit.args = command(&start, &variables)?;
        let pairs = variables.into_iter();
        unit.env = pairs
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Ok(unit)
    }
}

impl Unit {
    /// A setting such as `StateDirectory=etcd etcd/wal:link`.
    fn makes(&mut self, root: &str, value: &str) {
        for word in words(value) {
            let name = word.split(':').next().unwrap_or_default();
            self.made.push(Path::new(root).join(name));
        }
    }
}

/// The settings of the section `[Service]`, lines that go on put together.
fn settings(text: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut in_service = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim().to_owned();
        if line.starts_with(['#', ';']) {
            continue;
        }
        while line.ends_with('\\') {
            line.pop();
            line.push(' ');
            match lines.next().map(str::trim) {
                // Comments within a command are passed over.
                Some(next) if next.starts_with(['#', ';']) => line.push('\\'),
                Some(next) => line.push_str(next),
                None => break,
            }
        }
        if line.starts_with('[') {
            in_service = line == "[Service]";
        } else if in_service && let Some((key, value)) = line.split_once('=') {
            settings.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    settings
}

/// With the specifiers that units of etcd use: `%n` `%N` `%p` for the unit, `%i` for what stands behind its `@`, `%H` for
/// the machine, `%%`. Others stay.
fn specified(value: &str, unit: &str) -> String {
    let (prefix, instance) = unit.split_once('@').unwrap_or((unit, ""));
    let mut text = String::new();
    let mut rest = value;
    while let Some((before, behind)) = rest.split_once('%') {
        text.push_str(before);
        let mut letters = behind.chars();
        match letters.next() {
            Some('n') => text.extend([unit, ".service"]),
            Some('N') => text.push_str(unit),
            Some('p') => text.push_str(prefix),
            Some('i' | 'I') => text.push_str(instance),
            Some('H') => text.push_str(&rustix::system::uname().nodename().to_string_lossy()),
            Some('%') => text.push('%'),
            other => {
                text.push('%');
                text.extend(other);
            }
        }
        rest = letters.as_str();
    }
    text.push_str(rest);
    text
}

/// `soft`, `soft:hard` or `infinity`.
fn limit(text: &str) -> Option<u64> {
    let soft = text.split(':').next()?;
    match soft {
        "infinity" => Some(u64::MAX),
        soft => soft.parse().ok(),
    }
}

/// The arguments behind `etcd` in a command.
fn command(start: &str, variables: &[(String, String)]) -> io::Result<Vec<OsString>> {
    let start = start.trim_start_matches(['-', '@', ':', '+', '!', '|']);
    let mut words: Vec<String> = words(start)
        .into_iter()
        .flat_map(|word| arguments(word, variables))
        .collect();
    let base = |word: &String| word.rsplit('/').next().unwrap_or_default().to_owned();
    let is_shell = words
        .first()
        .is_some_and(|word| matches!(base(word).as_str(), "sh" | "bash"));
    if is_shell && words.get(1).is_some_and(|word| word == "-c") {
        let script = words.get(2).cloned().unwrap_or_default();
        words = self::words(&script);
        // What a shell makes of `A=b exec program`.
        let assigns = |word: &String| {
            let name = word.split('=').next().unwrap_or_default();
            word.contains('=') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let skipped = words
            .iter()
            .take_while(|word| assigns(word) || *word == "exec")
            .count();
        words.drain(..skipped);
    }
    match words.first() {
        Some(program) if base(program) == "etcd" => {
            words.remove(0);
            Ok(words.into_iter().map(OsString::from).collect())
        }
        Some(program) => Err(io::Error::other(format!(
            "its ExecStart runs {program:?}, and not etcd"
        ))),
        None => Err(io::Error::other(
            "it has no ExecStart in a section [Service]",
        )),
    }
}

/// What becomes of a word: one, but for a variable that is all of it, whose words they are; so none, if it is empty.
fn arguments(word: String, variables: &[(String, String)]) -> Vec<String> {
    let name = word.strip_prefix('$').unwrap_or_default();
    let named = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let expanded = expanded(&word, variables);
    match !name.is_empty() && name.chars().all(named) {
        true => words(&expanded),
        false => vec![expanded],
    }
}

/// `${NAME}` and `$NAME`; nothing for a variable that there is not. `$$` is one of them.
fn expanded(word: &str, variables: &[(String, String)]) -> String {
    let value = |name: &str| {
        let mut found = variables.iter().filter(|(own, _)| own == name);
        found.next().map_or("", |(_, value)| value.as_str())
    };
    let mut text = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let named = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if let Some(tail) = behind.strip_prefix('$') {
            text.push('$');
            rest = tail;
        } else if let Some((name, tail)) = behind.strip_prefix('{').and_then(|b| b.split_once('}'))
        {
            text.push_str(value(name));
            rest = tail;
        } else if behind.starts_with(named) {
            let end = behind.find(|c| !named(c)).unwrap_or(behind.len());
            text.push_str(value(&behind[..end]));
            rest = &behind[end..];
        } else {
            text.push('$');
            rest = behind;
        }
    }
    text.push_str(rest);
    text
}

/// Words between blanks; quotes keep blanks, and a backslash takes the next letter as it is.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (Some(open), letter) if open == letter => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(letters.next()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> io::Result<Variables> {
        match path.to_str() {
            Some("/etc/etcd/etcd.conf") => Ok(vec![
                ("ETCD_NAME".into(), "n 1".into()),
                ("ETCD_DATA_DIR".into(), "/var/lib/etcd".into()),
            ]),
            Some("/etc/default/etcd") => Ok(vec![(
                "DAEMON_ARGS".into(),
                "--debug --listen-peer-urls 'http://127.0.0.1:2380'".into(),
            )]),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The unit of Debian's package.
    #[test]
    fn specifiers_and_flags_in_a_variable_are_seen_through() {
        let text = |file: &str| {
            format!(
                "[Service]\nEnvironment=DAEMON_ARGS=\nEnvironment=ETCD_NAME=%H\nEnvironment=ETCD_DATA_DIR=/var/lib/etcd/default\n\
                 EnvironmentFile=-/etc/{file}/%p\nUser=etcd\nExecStart=/usr/bin/etcd $DAEMON_ARGS\nLimitNOFILE=65536\n"
            )
        };
        let unit = Unit::parse(&text("default"), "etcd", &read).expect("it starts etcd");
        let expected = ["--debug", "--listen-peer-urls", "http://127.0.0.1:2380"];
        assert_eq!(unit.args, expected);
        let name = unit.env.iter().find(|(name, _)| name == "ETCD_NAME");
        assert!(name.is_some_and(|(_, name)| !name.to_string_lossy().contains('%')));
        // Nothing is no argument.
        assert!(
            Unit::parse(&text("none"), "etcd", &read)
                .expect("it starts etcd")
                .args
                .is_empty()
        );
        assert_eq!(
            specified("%n|%N|%p|%i|%%|%x|%", "etcd@a"),
            "etcd@a.service|etcd@a|etcd|a|%|%x|%"
        );
    }

    fn args(text: &str) -> Vec<OsString> {
        Unit::parse(text, "etcd", &read)
            .expect("it starts etcd")
            .args
    }

    /// The unit of a tutorial, from a package of CentOS.
    #[test]
    fn a_shell_in_between_is_seen_through() {
        let text = "[Unit]\nDescription=Etcd Server\n[Service]\nType=notify\nUser=etcd\nLimitNOFILE=65536\n\
                    EnvironmentFile=-/etc/etcd/etcd.conf\n# set GOMAXPROCS to number of processors\n\
                    ExecStart=/bin/bash -c \"GOMAXPROCS=$(nproc) /usr/bin/etcd --name=\\\"${ETCD_NAME}\\\" \
                    --data-dir=\\\"${ETCD_DATA_DIR}\\\"\"\n[Install]\nUser=nobody\n";
        let unit = Unit::parse(text, "etcd", &read).expect("it starts etcd");
        assert_eq!(unit.args, ["--name=n 1", "--data-dir=/var/lib/etcd"]);
        assert_eq!(unit.user.as_deref(), Some("etcd"));
        assert_eq!((unit.open_files, unit.env.len()), (65_536, 2));
    }

    #[test]
    fn lines_that_go_on_are_one_command() {
        let text = "[Service]\nEnvironment=A=1 \"B=x y\"\nEnvironment=A=2\nExecStart=/usr/bin/etcd \\\n  --name  ${B} \\\n  \
                    --data-dir='a b' $$x\n";
        assert_eq!(args(text), ["--name", "x y", "--data-dir=a b", "$x"]);
        let unit = Unit::parse(text, "etcd", &read).expect("it starts etcd");
        assert!(unit.env.contains(&("A".into(), "2".into())));
        assert_eq!(unit.open_files, DEFAULT_FILES);
    }

    #[test]
    fn directories_that_systemd_makes_are_known() {
        let text = "[Service]\nStateDirectory=etcd\nRuntimeDirectory=etcd a:b\nWorkingDirectory=-/srv\nExecStart=etcd\n";
        let unit = Unit::parse(text, "etcd", &read).expect("it starts etcd");
        let made: Vec<_> = unit.made.iter().filter_map(|dir| dir.to_str()).collect();
        assert_eq!(made, ["/var/lib/etcd", "/run/etcd", "/run/a"]);
        assert_eq!(unit.working_dir.as_deref(), Some(Path::new("/srv")));
    }

    #[test]
    fn other_units_are_refused() {
        let error = |text: &str| {
            Unit::parse(text, "etcd", &read)
                .expect_err("not etcd")
                .to_string()
        };
        assert!(error("[Service]\nExecStart=/usr/bin/redis\n").contains("/usr/bin/redis"));
        assert!(error("[Unit]\nExecStart=/usr/bin/etcd\n").contains("no ExecStart"));
        let missing = "[Service]\nEnvironmentFile=/none\nExecStart=etcd\n";
        assert!(error(missing).starts_with("EnvironmentFile=/none"));
        assert_eq!(
            args("[Service]\nEnvironmentFile=-/none\nExecStart=-etcd\n").len(),
            0
        );
    }
}
