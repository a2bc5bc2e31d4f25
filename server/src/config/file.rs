//! The configuration file, YAML or JSON, read as etcd reads it.
//!
//! Source: config-and-ops 4; texts and types observed of etcd 3.7.1. What etcd passes over in silence, a key that it
//! does not know or that is there twice, gets a warning.

mod sections;
mod yaml;

use std::fs;
use std::io::{self, Read as _};

use slog::Level;

use super::flags::{Reader, Refusal};
use super::help;
use super::notice::Notice;
use super::old;
use super::table::{self, Flag, Kind};
use super::value::ValueError;
use sections::{ROOT, Section};
use yaml::{Node, Value};

/// What a value has to be, by Go's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Bool,
    /// With the name of the type and its bounds.
    Number(&'static str, i128, i128),
    List,
}

impl Type {
    fn of(name: &str) -> Self {
        let unsigned = |name, max: u64| Self::Number(name, 0, max.into());
        let signed = |name| Self::Number(name, i64::MIN.into(), i64::MAX.into());
        match name {
            "cipher-suites"
            | "client-cert-allowed-cn"
            | "client-cert-allowed-hostname"
            | "discovery-endpoints"
            | "log-output"
            | "log-outputs"
            | "peer-cert-allowed-cn"
            | "peer-cert-allowed-hostname" => return Self::List,
            "client-skip-client-san-verification" => return Self::Bool,
            "quota-backend-bytes" => return signed("int64"),
            "snapshot-count"
            | "snapshot-catchup-entries"
            | "experimental-snapshot-catchup-entries" => return unsigned("uint64", u64::MAX),
            _ => {}
        }
        match old::find_any(name).map(|flag| flag.kind) {
            Some(Kind::Bool) => Self::Bool,
            Some(Kind::Uint) => unsigned("uint", u64::MAX),
            Some(Kind::Uint32) => unsigned("uint32", u32::MAX.into()),
            Some(Kind::Int) => signed("int"),
            Some(Kind::Duration) => signed("time.Duration"),
            Some(Kind::Text | Kind::Urls | Kind::Choice(_)) | None => Self::Text,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Bool => "bool",
            Self::Number(name, ..) => name,
            Self::List => "[]string",
        }
    }

    /// How to write a value of it.
    fn remedy(self) -> String {
        match self {
            Self::Text => "put the value in quotes".into(),
            Self::Bool => "write true or false, without quotes".into(),
            Self::Number("time.Duration", ..) => {
                "write a whole number of nanoseconds, without quotes: 5s is 5000000000".into()
            }
            Self::Number(_, min, max) => {
                format!("write a whole number from {min} to {max}, without quotes and units")
            }
            Self::List => "write a list, as in [one, two]".into(),
        }
    }
}

/// A file beyond this is no configuration.
const MAX_BYTES: u64 = 64 << 20;

/// Warnings about keys; what is said of more of them is how many there are.
const MAX_WARNINGS: usize = 100;

/// Reads what the file at `path` says in place of flags and environment.
///
/// # Errors
/// A [`Refusal`] with etcd's texts, and with the line beside them.
pub(super) fn read(path: &str) -> Result<(Reader, Vec<Notice>), Refusal> {
    let mut file = File {
        path,
        reader: Reader::new(),
        given: Vec::new(),
        notices: Vec::new(),
        warnings: 0,
    };
    let text = bytes(path).map_err(|error| {
        let remedy = "name a file that the user of the member can read, with --config-file or ETCD_CONFIG_FILE";
        file.refusal(error, None, remedy)
    })?;
    file.read(&text)?;
    file.assign_all()?;
    file.count_warnings();
    Ok((file.reader, file.notices))
}

fn bytes(path: &str) -> Result<Vec<u8>, String> {
    let reason = |error: &io::Error| crate::log::reason(error);
    let file = fs::File::open(path).map_err(|error| format!("open {path}: {}", reason(&error)))?;
    let mut text = Vec::new();
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut text);
    let read = read.map_err(|error| format!("read {path}: {}", reason(&error)))?;
    if read as u64 > MAX_BYTES {
        return Err(format!(
            "read {path}: it has more than {MAX_BYTES} bytes, which no configuration needs; name another file"
        ));
    }
    Ok(text)
}

struct File<'a> {
    path: &'a str,
    reader: Reader,
    /// What the file says of flags, and where.
    given: Vec<(&'static str, Given, usize)>,
    notices: Vec<Notice>,
    warnings: usize,
}

enum Given {
    Text(String),
    List(Vec<String>),
}

/// Flags whose values etcd looks at first, in its order; types come before all of them.
const FIRST: &[&str] = &[
    "feature-gates",
    "listen-peer-urls",
    "listen-client-urls",
    "listen-client-http-urls",
    "initial-advertise-peer-urls",
    "advertise-client-urls",
    "listen-metrics-urls",
    "cors",
];

impl File<'_> {
    fn read(&mut self, text: &[u8]) -> Result<(), Refusal> {
        let text = std::str::from_utf8(text).map_err(|error| {
            let line = text[..error.valid_up_to()]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1;
            let error = "error converting YAML to JSON: yaml: invalid UTF-8";
            self.refusal(error, line, "save the file in UTF-8")
        })?;
        let document = yaml::parse(text).map_err(|error| {
            let text = format!("error converting YAML to JSON: {error}");
            let remedy = match text.contains("cannot start any token") {
                true => "indent with spaces, since YAML takes no tabs, and put texts with special signs in quotes",
                false => {
                    "write `key: value`, with a space after the colon and texts with special signs in quotes"
                }
            };
            self.refusal(text, error.line(), remedy)
        })?;
        match &document.value {
            Value::Null => Ok(()),
            Value::Map(_) => self.section(&ROOT, &document),
            other => {
                let error = unsuited(other, "Go value", "embed.configYAML");
                Err(self.refusal(
                    error,
                    document.line,
                    "write keys with values, such as `name: m1`",
                ))
            }
        }
    }

    /// Keys in the order of the alphabet, as etcd meets them: the first error is the one it tells.
    fn section(&mut self, section: &Section, node: &Node) -> Result<(), Refusal> {
        let Value::Map(map) = &node.value else {
            return Ok(());
        };
        for (key, line) in &map.repeated {
            self.warn(
                "key is in the configuration file more than once; the last one counts",
                key,
                *line,
            );
        }
        for (key, node) in &map.entries {
            // Go's reader of JSON does not care for upper and lower case.
            let name = key.to_ascii_lowercase();
            if let Some(inner) = section.section(&name) {
                match node.value {
                    Value::Null => {}
                    Value::Map(_) => self.section(inner, node)?,
                    _ => {
                        let place =
                            format!("Go struct field {}.{}", section.of_its_fields, inner.path);
                        let error = unsuited(&node.value, &place, inner.kind);
                        let remedy = format!(
                            "write the keys of {key} in lines of their own below it, indented"
                        );
                        return Err(self.refusal(error, node.line, &remedy));
                    }
                }
            } else if let Some(flag) = section.flag(&name) {
                self.value(flag, &section.field(&name), node)?;
            } else {
                self.warn(
                    "unknown key in the configuration file is ignored",
                    key,
                    node.line,
                );
            }
        }
        Ok(())
    }

    /// Null leaves the default.
    fn value(&mut self, name: &'static str, field: &str, node: &Node) -> Result<(), Refusal> {
        let place = format!("Go struct field {field}");
        let wanted = Type::of(name);
        let text = match (wanted, &node.value) {
            (_, Value::Null) => return Ok(()),
            (Type::Text, Value::Text(text)) => text.clone(),
            (Type::Bool, Value::Bool(value)) => value.to_string(),
            // To YAML these are truth values.
            (Type::Text, Value::Bool(value)) if name == "proxy" => {
                if *value { "on" } else { "off" }.to_owned()
            }
            (Type::Number(kind, min, max), Value::Number(text)) => match text.parse::<i128>() {
                Ok(number) if (min..=max).contains(&number) && kind == "time.Duration" => {
                    format!("{number}ns")
                }
                Ok(number) if (min..=max).contains(&number) => number.to_string(),
                _ => {
                    let error = format!(
                        "{DECODING} cannot unmarshal number {text} into {place} of type {kind}"
                    );
                    return Err(self.refusal(error, node.line, &wanted.remedy()));
                }
            },
            (Type::List, Value::List(items)) => {
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    match &item.value {
                        Value::Text(text) => list.push(text.clone()),
                        Value::Null => list.push(String::new()),
                        other => {
                            let error = unsuited(other, &place, "string");
                            return Err(self.refusal(error, item.line, &Type::Text.remedy()));
                        }
                    }
                }
                self.given.push((name, Given::List(list), node.line));
                return Ok(());
            }
            (_, other) => {
                let error = unsuited(other, &place, wanted.name());
                return Err(self.refusal(error, node.line, &wanted.remedy()));
            }
        };
        self.given.push((name, Given::Text(text), node.line));
        Ok(())
    }

    fn assign_all(&mut self) -> Result<(), Refusal> {
        let mut given = std::mem::take(&mut self.given);
        let place = |name| FIRST.iter().position(|first| *first == name);
        given.sort_by_key(|(name, ..)| place(*name).unwrap_or(FIRST.len()));
        for (name, value, line) in given {
            match value {
                Given::List(list) => self.reader.assign_list(name, list),
                Given::Text(text) => self.assign(name, &text, line)?,
            }
        }
        Ok(())
    }

    fn assign(&mut self, name: &'static str, text: &str, line: usize) -> Result<(), Refusal> {
        let result = match (name, old::find_any(name)) {
            // Its value has no effect; that it is there is warned of.
            ("v2-deprecation", Some(flag)) => self.reader.assign(flag, flag.default),
            ("initial-cluster-state", Some(flag)) if !matches!(text, "new" | "existing") => {
                match text {
                    "" => self.reader.assign(flag, flag.default),
                    other => Err(ValueError::Other(format!(
                        "unexpected clusterState {other:?}"
                    ))),
                }
            }
            (
                _,
                Some(Flag {
                    kind: Kind::Urls, ..
                }),
            ) if text.is_empty() => Ok(()),
            (_, Some(flag)) => self.reader.assign(flag, text),
            (name, None) => self.reader.assign_unflagged(name, text),
        };
        let is_urls = table::find(name).is_some_and(|flag| flag.kind == Kind::Urls);
        result.map_err(|error| {
            let remedy = old::find_any(name).map_or_else(String::new, help::remedy);
            match is_urls {
                true => Refusal {
                    stderr: format!(
                        "unexpected error setting up {name}: {error} ({}, line {line})\n{remedy}\n",
                        self.path
                    ),
                    notices: Vec::new(),
                    code: 1,
                },
                false => self.refusal(error, line, &remedy),
            }
        })
    }

    fn warn(&mut self, message: &'static str, key: &str, line: usize) {
        self.warnings += 1;
        if self.warnings > MAX_WARNINGS {
            return;
        }
        let fields = vec![
            ("key", key.into()),
            ("config-file", self.path.into()),
            ("line", (line as u64).into()),
        ];
        self.notices
            .push(Notice::new(Level::Warning, message, fields));
    }

    fn count_warnings(&mut self) {
        if self.warnings > MAX_WARNINGS {
            let more = (self.warnings - MAX_WARNINGS) as u64;
            let fields = vec![("config-file", self.path.into()), ("keys", more.into())];
            self.notices.push(Notice::new(
                Level::Warning,
                "more keys in the configuration file are unknown or repeated",
                fields,
            ));
        }
    }

    /// etcd's text, where to look, and what to do.
    fn refusal(
        &self,
        error: impl ToString,
        line: impl Into<Option<usize>>,
        remedy: &str,
    ) -> Refusal {
        let mut refusal = Refusal::unverified(Vec::new(), error);
        if let Some(notice) = refusal.notices.last_mut() {
            notice.fields.push(("config-file", self.path.into()));
            if let Some(line) = line.into() {
                notice.fields.push(("line", (line as u64).into()));
            }
            if !remedy.is_empty() {
                notice.fields.push(("remedy", remedy.into()));
            }
        }
        refusal
    }
}

const DECODING: &str = "error unmarshaling JSON: while decoding JSON: json:";

/// A value of another type than `wanted`.
fn unsuited(value: &Value, place: &str, wanted: &str) -> String {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::Text(_) => "string",
        Value::List(_) => "array",
        Value::Map(_) => "object",
    };
    format!("{DECODING} cannot unmarshal {kind} into {place} of type {wanted}")
}

#[cfg(test)]
mod tests;
